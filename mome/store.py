"""The store: every built thing is a folder, named by content, written aside and renamed when it is whole."""

import getpass
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mome.config import store_dir
from mome.provenance import count_threads, describe_machine, own_commit, versions

checked: set[Path] = set()  # folders that this process has found
CHECKPOINT = "checkpoint.safetensors"


class NotBuilt(LookupError):
    """Something is asked for that the store does not hold."""


class BuiltElsewhere(RuntimeError):
    """Another process, `holder`, holds the lock of that name: it builds the thing now."""

    def __init__(self, name: str, holder: str):
        super().__init__(f"{name} is being built by {holder}")
        self.name, self.holder = name, holder


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(value) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of `value` as canonical JSON, keys in any order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hash_text(text)[:12]


def hash_file(path: Path) -> str:
    """Return a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write aside and rename, so that a reader never sees half a file, and a full disk leaves none."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        error.filename = str(path)  # which the one of a full disk lacks
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write JSON that every language reads: NaN and infinities as null, numpy's numbers as numbers."""
    def plain(number):
        return number.item() if hasattr(number, "item") else json.JSONEncoder().default(number)

    value = json.loads(json.dumps(value, default=plain), parse_constant=lambda _: None)
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path):
    """Return the parsed file; ValueError names the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder to build it again") from None


def folder_of(name: str) -> Path:
    """Return where the thing of that name lies or would lie."""
    return store_dir() / name


def unfinished_of(name: str) -> Path:
    """Return where it lies while it is built."""
    return store_dir() / f"unfinished-{name}"


def is_there(name: str) -> bool:
    return (folder_of(name) / "manifest.json").exists()


def list_left_out(folder: Path) -> dict[str, dict]:
    """Return {file: its bytes and SHA-256} of what a bundle left out of a folder."""
    return read_manifest(folder).get("left_out", {}) if (folder / "manifest.json").exists() else {}


def is_whole(name: str) -> bool:
    return is_there(name) and not list_left_out(folder_of(name))


def find(name: str) -> Path:
    """Return a built thing's folder, its files held against the manifest once per process.

    Raises NotBuilt when it is not there, ValueError when a file is gone, cut off or changed.
    """
    if not is_there(name):
        raise NotBuilt(f"{name} is not built; what is read must be among a notebook's needs")
    return check_files(folder_of(name))


def lock_of(name: str) -> FileLock:
    path = store_dir() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def try_lock(lock: FileLock, seconds: float = 0.0) -> bool:
    """Return whether the lock could be taken within so many seconds; whoever dies gives it back."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def is_locked(name: str) -> bool:
    """True while a process builds the thing of that name."""
    if not (store_dir() / "locks" / f"{name}.lock").exists():
        return False
    lock = lock_of(name)
    is_free = try_lock(lock)
    lock.release()
    return not is_free


@contextmanager
def hold(name: str):
    """Hold the lock of that name, and note beside it who does. BuiltElsewhere says who has it already."""
    lock = lock_of(name)
    holder = Path(lock.lock_file).with_suffix(".holder")
    if not try_lock(lock):
        raise BuiltElsewhere(name, holder.read_text("utf-8") if holder.exists() else "another process")
    try:
        with suppress(OSError):  # a full disk: only words are lost
            write_text(holder, describe_me())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def describe_me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container that has no names of users
        user = "somebody"
    return f"{user} on {platform.node()} (process {os.getpid()})"


@contextmanager
def take_place(places: list, wait: Callable[[], None]):
    """Hold one of this machine's places, which all commands on this store share; `wait` while none is free.

    One waits at the door and takes the next place that is free, so that a long command lets others in.
    """
    door, *locks = (lock_of(f"place-{platform.node()}-{place}") for place in ("door", *places))
    while not try_lock(door, 0.2):
        wait()
    try:
        while not (taken := next(filter(try_lock, locks), None)):
            wait()
            time.sleep(0.2)
    finally:
        door.release()
    try:
        yield
    finally:
        taken.release()


def keep(name: str, about: Mapping, fill: Callable[[Path], dict | None], goes_on: bool = False) -> Path:
    """Return the folder of that name after `fill(folder)` filled an empty one beside it; found if there.

    `about` (kind, format, fields, parents, ...) and what `fill` returns (notes) go into the manifest. With
    `goes_on` the unfinished folder of an interrupted build is handed over again; else nothing is left of one
    that fails. Raises BuiltElsewhere at once when another process has it in hand.
    """
    if is_whole(name):
        return find(name)
    with hold(name):
        if is_whole(name):
            return find(name)
        aside, started = prepare_aside(name, goes_on), time.perf_counter()
        is_resumed = any(aside.iterdir())  # its seconds are those of the last part only
        try:
            notes = fill(aside)
        except BaseException:
            if not goes_on:
                shutil.rmtree(aside, ignore_errors=True)
            raise
        (aside / CHECKPOINT).unlink(missing_ok=True)
        share(aside)
        seconds = round(time.perf_counter() - started, 2)
        write_json(aside / "manifest.json", {
            **about, "notes": notes or {}, "contents": list_contents(aside), "is_resumed": is_resumed,
            "seconds": seconds, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": versions(),
            "commit": own_commit(), "machine": describe_machine(), "threads": count_threads()})
        place(aside, name)
        return folder_of(name)


def prepare_aside(name: str, goes_on: bool) -> Path:
    """Return the folder in which a thing is built; what an interrupted build left only with `goes_on`."""
    aside = unfinished_of(name)
    if aside.exists() and not goes_on:
        shutil.rmtree(aside)
    aside.mkdir(parents=True, exist_ok=True)
    return aside


def place(aside: Path, name: str) -> None:
    """Give a whole folder its name, instead of one that lacks its manifest or what a bundle left out."""
    if folder_of(name).exists():
        shutil.rmtree(folder_of(name))
        checked.discard(folder_of(name))
    os.replace(aside, folder_of(name))


def share(folder: Path) -> None:
    """Let others read and write a folder's files as the folder: safetensors writes files for one user."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(folder.stat().st_mode & 0o666)


def list_contents(folder: Path) -> dict[str, dict]:
    """Return {path within the folder: its bytes, time of modification (ns) and SHA-256}."""
    return {path.relative_to(folder).as_posix():
            {"bytes": path.stat().st_size, "modified": path.stat().st_mtime_ns, "sha256": hash_file(path)}
            for path in sorted(folder.rglob("*")) if path.is_file()}


def check_files(path: Path) -> Path:
    """Return the folder; ValueError names a file that is not as its manifest says. Done once per process.

    As in git's index, a file with the size and time of modification that it was written with is taken as
    unchanged; one with another time, as in a copied folder, is read and its SHA-256 compared.
    """
    if path not in checked:
        manifest, again = read_manifest(path), f"delete {path} to build it again"
        try:
            contents = manifest.get("contents", {}).items()
            faults = {name: find_fault(path / name, written) for name, written in contents}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path / 'manifest.json'} is damaged (contents: {error!r}); {again}") from None
        for name, fault in faults.items():
            if fault:
                raise ValueError(f"{path / name} is damaged ({fault}); {again}")
        checked.add(path)
    return path


def find_fault(file: Path, written: Mapping) -> str:
    """Return in words how a file differs from what was written, empty where it does not."""
    if not file.is_file():
        return f"gone instead of {written['bytes']} bytes"
    found = file.stat()
    if found.st_size != written["bytes"]:
        return f"{found.st_size} bytes instead of {written['bytes']}"
    is_other = found.st_mtime_ns != written["modified"] and hash_file(file) != written["sha256"]
    return "its SHA-256 is another" if is_other else ""


def read_manifest(path: Path) -> dict:
    """Return a built thing's manifest; FileNotFoundError where there is none, ValueError when damaged."""
    manifest = read_json(Path(path) / "manifest.json")
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}/manifest.json is damaged (no mapping); delete its folder to build it again")
    return manifest


def list_manifests(kind: str = "") -> Iterator[tuple[Path, dict]]:
    """Yield (folder, manifest) of what the store holds of a kind, or of all; damaged ones are left out."""
    for path in sorted(store_dir().glob(f"{kind or '*'}-*/manifest.json")):
        try:
            manifest = read_manifest(path.parent)
        except (OSError, ValueError):
            continue
        if not kind or manifest.get("kind") == kind:
            yield path.parent, manifest


def measure_size(folder: Path) -> int:
    """Return the bytes of the files under a folder, links not followed."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
