"""Build once, name by content: every expensive thing is a folder named after what it was made from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from mome.config import artifacts_dir, is_batch

log = logging.getLogger("mome")
# Raised by one when the code that builds a kind changes what it builds; old folders then stay but are no longer found.
FORMATS = {"corpus": 3, "data": 3, "router": 2, "router_comparison": 2, "expert_scores": 1, "teacher": 2, "targets": 2, "student": 2, "moe": 2,
           "expert": 1, "switches": 1, "changes": 1, "stage": 1, "drift": 1, "precision": 1, "kd_price": 1, "moe_price": 1}
PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "scikit-learn", "accelerate", "numpy")


def content_hash(value) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of `value` as canonical JSON; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(path: Path, value) -> None:
    """Write JSON aside and rename it, so that a reader never sees half a file."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n", encoding="utf-8")
    os.replace(aside, path)


def read_json(path: Path):
    """Return the parsed file; ValueError names the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder to build it again") from None


def artifact_path(kind: str, config: Mapping, parents: Mapping[str, Path] | None = None) -> Path:
    """Return where the artefact lies or would lie; parents enter the name by their own folder names."""
    named = {name: Path(path).name for name, path in (parents or {}).items()}
    return artifacts_dir() / f"{kind}-{content_hash([kind, FORMATS[kind], dict(config), named])}"


def find_or_build(kind: str, config: Mapping, build: Callable[[Path], dict | None], parents: Mapping[str, Path] | None = None,
                  keep_partial: bool = False) -> Path:
    """Return the artefact's folder, building it first when it is not there.

    `build(folder)` fills an empty folder beside the final one and may return a dict of notes for the manifest. The
    folder is renamed when whole; an interrupted build leaves nothing under the final name. With `keep_partial` the
    unfinished folder of an earlier, interrupted build is handed over again, for builders that can go on from their
    checkpoint. A file lock makes two processes that want the same artefact build it once.
    """
    path = artifact_path(kind, config, parents)
    if (path / "manifest.json").exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if (path / "manifest.json").exists():
            return path
        if path.exists():  # a folder that lost its manifest is no artefact, and would stand in the way of the rename
            shutil.rmtree(path)
        aside = path.with_name(f"partial-{path.name}")
        if aside.exists() and not keep_partial:
            shutil.rmtree(aside)
        aside.mkdir(exist_ok=True)
        log.info("building %s", path.name)
        started = time.perf_counter()
        try:
            notes = build(aside)
        except BaseException:
            if not keep_partial:
                shutil.rmtree(aside, ignore_errors=True)
            raise
        write_json(aside / "manifest.json", {
            "kind": kind, "format": FORMATS[kind], "config": dict(config),
            "parents": {name: Path(parent).name for name, parent in (parents or {}).items()},
            "notes": notes or {}, "seconds": round(time.perf_counter() - started, 2),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": versions(),
        })
        os.replace(aside, path)
    return path


def read_manifest(path: Path) -> dict:
    """Return an artefact's manifest; FileNotFoundError when the folder is not a whole artefact."""
    return read_json(Path(path) / "manifest.json")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


class Progress:
    """A bar where a person watches; in a batch run, the status line that the runner shows instead."""

    def __init__(self, description: str, total: int, resumed: int = 0):
        self.description, self.total, self.done, self.resumed, self.note = description, total, resumed, resumed, ""
        self.started, self.written = time.monotonic(), 0.0
        self.status = os.environ.get("MOME_STATUS") if is_batch() else None
        self.bar = None
        if not is_batch():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=resumed, desc=description, leave=False)

    def update(self, note: str = "", n: int = 1) -> None:
        self.done, self.note = self.done + n, note or self.note
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(n)
        elif self.status and time.monotonic() - self.written > 1:
            self.written = time.monotonic()
            left = (self.written - self.started) / max(1, self.done - self.resumed) * (self.total - self.done)
            text = f"{self.description} {self.done}/{self.total} {self.note}".strip()
            write_json(Path(self.status), {"text": text, "seconds_left": round(left) if self.done > self.resumed else None})

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.status:
            Path(self.status).unlink(missing_ok=True)


@contextmanager
def progress(description: str, total: int, resumed: int = 0):
    """Yield a `Progress` that starts at `resumed`, and close it whatever happens."""
    shown = Progress(description, total, resumed)
    try:
        yield shown
    finally:
        shown.close()


def track(items: Iterable, description: str, total: int):
    """Yield the items, moving a bar by one for each."""
    with progress(description, total) as bar:
        for item in items:
            yield item
            bar.update()
