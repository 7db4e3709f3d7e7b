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
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from mome.config import artifacts_dir, is_batch

log = logging.getLogger("mome")
_noted: set[tuple[str, str]] = set()
_checked: set[Path] = set()
_is_building = True
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
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
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
    checkpoint. A file lock makes two processes that want the same artefact build it once. Raises ValueError for an artefact
    of which a file is gone, cut off or changed.
    """
    path = artifact_path(kind, config, parents)
    note_use(path)
    is_there = (path / "manifest.json").exists()
    if not is_there and not _is_building:
        raise NotBuilt(path.name)
    # Only what can go on from a checkpoint is a training, in which all processes take part; the rest, the first to come builds alone.
    if keep_partial and int(os.environ.get("WORLD_SIZE", "1")) > 1 and not (is_there and path in _checked):
        return build_together(path, kind, config, build, parents)
    if is_there:
        return check_files(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if (path / "manifest.json").exists():
            return path
        aside = prepare_aside(path, keep_partial)
        started = time.perf_counter()
        try:
            notes = build(aside)
        except BaseException:
            if not keep_partial:
                shutil.rmtree(aside, ignore_errors=True)
            raise
        finish(path, aside, kind, config, parents, notes, time.perf_counter() - started)
    return path


def build_together(path: Path, kind: str, config: Mapping, build: Callable, parents: Mapping[str, Path] | None) -> Path:
    """Do what `find_or_build` does for a training in processes that `accelerate launch` started: the first looks, locks and keeps the result.

    What the others write lands in a folder that goes. If every process took the lock, each would wait for the others within it.
    All must ask for the same trainings in the same order; what a process has asked for before, it finds without the others.
    """
    import torch
    from accelerate.utils import broadcast

    state, lock, started = process_state(), FileLock(f"{path}.lock"), time.perf_counter()
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    is_there = broadcast(torch.tensor(int((path / "manifest.json").exists()), device=state.device)).item()
    if is_there:
        lock.release()
        return check_files(path)
    aside = prepare_aside(path, keep_partial=True) if state.is_main_process else path.with_name(f"partial-{path.name}")
    state.wait_for_everyone()
    if state.is_main_process:
        notes = build(aside)
    else:
        with TemporaryDirectory() as folder:
            (Path(folder) / "checkpoint.safetensors").symlink_to(aside / "checkpoint.safetensors")
            build(Path(folder))
    state.wait_for_everyone()
    if state.is_main_process:
        finish(path, aside, kind, config, parents, notes, time.perf_counter() - started)
        lock.release()
    state.wait_for_everyone()
    return check_files(path)


def process_state():
    """Return accelerate's state of this process among others, as `Accelerator` makes it: made without `cpu`, it would see no others on CPUs."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def prepare_aside(path: Path, keep_partial: bool) -> Path:
    """Return the folder in which the artefact is built: empty, or with what an interrupted build left when that is to be kept."""
    if path.exists():  # a folder that lost its manifest is no artefact, and would stand in the way of the rename
        shutil.rmtree(path)
    aside = path.with_name(f"partial-{path.name}")
    if aside.exists() and not keep_partial:
        shutil.rmtree(aside)
    aside.mkdir(exist_ok=True)
    log.info("building %s", path.name)
    return aside


def finish(path: Path, aside: Path, kind: str, config: Mapping, parents: Mapping[str, Path] | None, notes: dict | None, seconds: float) -> None:
    """Write the manifest and give the folder its name."""
    write_json(aside / "manifest.json", {
        "kind": kind, "format": FORMATS[kind], "config": dict(config), "parents": {name: Path(parent).name for name, parent in (parents or {}).items()},
        "notes": notes or {}, "contents": list_contents(aside), "seconds": round(seconds, 2), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions()})
    os.replace(aside, path)


def list_contents(folder: Path) -> dict[str, dict]:
    """Return {path within the folder: its bytes, when it was modified (nanoseconds) and its SHA-256} of its files."""
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "modified": path.stat().st_mtime_ns, "sha256": hash_file(path)}
            for path in sorted(folder.rglob("*")) if path.is_file()}


def hash_file(path: Path) -> str:
    """Return a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class NotBuilt(LookupError):
    """An artefact is not there and, within `only_found`, shall not be built."""


@contextmanager
def only_found():
    """Within, `find_or_build` raises NotBuilt instead of building."""
    global _is_building
    before, _is_building = _is_building, False
    try:
        yield
    finally:
        _is_building = before


def check_files(path: Path) -> Path:
    """Return the artefact's folder; ValueError names a file that is not as its manifest says. Looked at once per process.

    As in git's index, a file with the size and the time of modification that it was written with is taken as unchanged; one with another
    time, as in a copied folder, is read and its SHA-256 compared. So an artefact of gigabytes opens at once.
    """
    if path not in _checked:
        manifest = read_manifest(path)
        try:
            faults = {name: find_fault(path / name, written) for name, written in manifest.get("contents", {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path / 'manifest.json'} is damaged (contents: {error!r}); delete {path} to build it again") from None
        for name, fault in faults.items():
            if fault:
                raise ValueError(f"{path / name} is damaged ({fault}); delete {path} to build it again")
        _checked.add(path)
    return path


def find_fault(file: Path, written: Mapping) -> str:
    """Return in words how a file differs from what was written, empty where it does not."""
    if not file.is_file():
        return f"gone instead of {written['bytes']} bytes"
    found = file.stat()
    if found.st_size != written["bytes"]:
        return f"{found.st_size} bytes instead of {written['bytes']}"
    return "its SHA-256 is another" if found.st_mtime_ns != written["modified"] and hash_file(file) != written["sha256"] else ""


def note_use(path: Path) -> None:
    """Add an artefact's name to the list of what the run in hand uses, for `mome clean`; worker processes inherit which list that is."""
    used = os.environ.get("MOME_USES")
    if used and (used, path.name) not in _noted:
        _noted.add((used, path.name))
        with suppress(OSError), open(used, "a", encoding="utf-8") as file:
            file.write(f"{path.name}\n")


def read_manifest(path: Path) -> dict:
    """Return an artefact's manifest; FileNotFoundError when the folder is not a whole artefact, ValueError when it is damaged."""
    manifest = read_json(Path(path) / "manifest.json")
    if not isinstance(manifest, dict):
        raise ValueError(f"{Path(path) / 'manifest.json'} is damaged (no mapping); delete its folder to build it again")
    return manifest


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
