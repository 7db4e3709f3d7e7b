"""A bundle's things into the store: each checked as a stranger's, none placed before all are whole."""

import hashlib
import json
import lzma
import os
import re
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from mome import store
from mome.config import store_dir
from mome.runs.bundle import FORMAT, INDEX, check_corpora

MEMBER = re.compile(r"store/([a-z_]+-[0-9a-f]{12})/(.+)")
SUFFIXES = {".json", ".safetensors", ".parquet", ".arrow", ".npz", ".md"}  # data, of which none is executed
SMALL = 16_000_000  # bytes that a list or a manifest has at most
SPARE = 100_000_000
RATIO, MEMORY = 50, 2**28  # most that a bundle grows by when it is unpacked, and bytes that this may take
DAMAGES = (tarfile.TarError, lzma.LZMAError, EOFError, RecursionError, KeyError, TypeError, AttributeError,
           OverflowError, FileExistsError, NotADirectoryError, IsADirectoryError)


def load_bundle(path: Path) -> dict:
    """Put what a bundle holds into the store; return its list with "loaded", "kept" (names) and "bytes".

    Nothing is placed before every file was found as its manifest says, and every manifest and name as the
    list says. What the store has already stays. Raises ValueError for a file that is damaged, cut off or of
    another format, and for one that holds anything that a bundle does not: paths that leave it, links, code.
    """
    if not path.is_file():
        raise ValueError(f"bundle={str(path)!r} does not exist; give a file that `mome bundle` wrote")
    store_dir().mkdir(parents=True, exist_ok=True)
    aside = store_dir() / f".loading-{os.getpid()}"
    try:
        with tarfile.open(expand(path, aside), "r:") as tar:
            index = read_index(tar)
            names = unpack(tar, index["manifests"], aside)
        kept = [name for name in index["manifests"] if name not in names]
        loaded = [name for name in names if place_loaded(aside / name)]
        return index | {"loaded": loaded, "kept": kept + [name for name in names if name not in loaded],
                        "bytes": sum(store.measure_size(store.folder_of(name)) for name in loaded)}
    except ValueError as error:
        told = str(error) if type(error) is ValueError else f"is damaged ({error!r})"
        raise ValueError(f"bundle={str(path)!r} {told}; nothing was loaded") from None
    except DAMAGES as error:
        raise ValueError(f"bundle={str(path)!r} is damaged, cut off or none ({error!r:.200}); nothing was "
                         "loaded") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def expand(path: Path, aside: Path) -> Path:
    """Write the bundle's tar archive under `aside`, within bounds, and return its path."""
    aside.mkdir()
    archive, most = aside / "bundle.tar", RATIO * path.stat().st_size + SMALL
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    with open(path, "rb") as source, open(archive, "xb") as out:
        while not unpacker.eof:
            piece = source.read(2**16) if unpacker.needs_input else b""
            if unpacker.needs_input and not piece:
                raise EOFError("it ends too early")
            out.write(unpacker.decompress(piece, 2**20))
            if out.tell() > most:
                raise ValueError(f"unpacks to more than {RATIO} times its size")
    check_space({archive.name: {"bytes": archive.stat().st_size}})
    return archive


def read_index(tar: tarfile.TarFile) -> dict:
    """Return the list that a bundle begins with."""
    index = json.loads(read_small(tar, tar.next(), INDEX))
    if index["format"] != FORMAT:
        raise ValueError(f"has format {index['format']!r}, this version of mome reads {FORMAT}; load it with "
                         f"the version that made it, {str(index.get('version'))[:40]!r}, or make it anew")
    if not all(MEMBER.fullmatch(f"store/{name}/x") for name in index["manifests"]):
        raise ValueError("lists names that no store has")
    check_corpora(index["parameters"])
    return {key: index[key] for key in ("format", "version", "commit", "made", "parameters", "notebooks",
                                        "manifests")}


def read_small(tar: tarfile.TarFile, member: tarfile.TarInfo | None, name: str) -> bytes:
    """Return the bytes of the member, which must be that file."""
    if member is None or member.name != name or not is_plain(member) or member.size > SMALL:
        raise ValueError(f"holds {getattr(member, 'name', 'nothing')[:200]!r} where its {name} belongs")
    found = tar.extractfile(member).read()
    if len(found) != member.size:
        raise EOFError(f"{name} is cut off")
    return found


def is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def unpack(tar: tarfile.TarFile, listed: dict[str, str], aside: Path) -> list[str]:
    """Write what the store lacks under `aside`; return its names. All that is listed must be there."""
    due = {name: None for name in listed}  # {name: {file: what its manifest says}} of what is still to come
    wanted, lacks = [], {}
    while member := tar.next():
        if member.name == "README.md" and is_plain(member) and not lacks:
            continue
        name, file = split_member(member)
        if name not in due:
            raise ValueError(f"holds {member.name[:200]!r}, which is not in its list or stands twice")
        if file == "manifest.json" and due[name] is None:
            manifest = read_manifest_of(tar, member, name, listed[name])
            lacks[name] = is_lacking(name, manifest)
            wanted += [name] if lacks[name] else []
            due[name] = dict(manifest["contents"])
            write_small(aside / name / file, manifest) if lacks[name] else None
            check_space(due[name])
        else:
            written = (due[name] or {}).pop(file, None)
            if written is None or written["bytes"] != member.size:
                raise ValueError(f"holds {member.name[:200]!r}, which is not in its manifest, not of that "
                                 "size, or stands twice")
            copy_file(tar, member, written, aside / name / file if lacks[name] else None)
        if due[name] == {}:
            del due[name]
    if due:
        raise EOFError(f"{next(iter(due))} is not whole")
    return wanted


def split_member(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return the name and the file in it; ValueError for what is no plain file of data within a folder."""
    found = MEMBER.fullmatch(member.name)
    path = PurePosixPath(found[2]) if found else PurePosixPath("")
    is_inside = found and ".." not in path.parts and str(path) == found[2] and re.fullmatch(
        r"[\w .=/-]{1,150}", found[2], re.ASCII) and not found[2].startswith("/")
    if not is_plain(member) or not is_inside or path.suffix not in SUFFIXES:
        raise ValueError(f"holds {member.name[:200]!r}: a link, a path that leaves its folder, or no data")
    return found[1], found[2]


def read_manifest_of(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, sha256: str) -> dict:
    """Return a thing's manifest, which must be that of the list, and of a thing of that name."""
    text = read_small(tar, member, f"store/{name}/manifest.json")
    manifest = json.loads(text)
    own = [manifest["kind"], manifest["format"], manifest["fields"]]
    if hashlib.sha256(text).hexdigest() != sha256 or name != f"{own[0]}-{store.content_hash(own)}":
        raise ValueError(f"holds a manifest of {name} that is another's or was changed")
    if not {"notes", "parents", "contents", "created"} <= manifest.keys() or (
            "manifest.json" in manifest["contents"]):
        raise KeyError(f"manifest of {name}")
    return manifest


def is_lacking(name: str, manifest: dict) -> bool:
    """True when the store lacks a thing, or has it with more left out than here."""
    if not store.is_there(name):
        return True
    return manifest.get("left_out", {}).keys() < store.list_left_out(store.folder_of(name)).keys()


def check_space(contents: dict[str, dict]) -> None:
    needed, free = sum(file["bytes"] for file in contents.values()), shutil.disk_usage(store_dir()).free
    if any(file["bytes"] < 0 for file in contents.values()) or needed + SPARE > free:
        raise ValueError(f"needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free under {store_dir()}")


def write_small(path: Path, manifest: dict) -> None:
    path.parent.mkdir(parents=True)
    store.write_json(path, manifest)


def copy_file(tar: tarfile.TarFile, member: tarfile.TarInfo, written: dict, out: Path | None) -> None:
    """Write a member, or only read it, and hold its SHA-256 against what its manifest says."""
    digest, source = hashlib.sha256(), tar.extractfile(member)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with open(out or os.devnull, "xb" if out else "wb") as file:
        while piece := source.read(2**20):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != written["sha256"]:
        raise ValueError(f"holds {member.name[:200]!r} damaged (its SHA-256 is another)")
    if out:
        os.utime(out, ns=(written["modified"], written["modified"]))  # as written: no reader hashes it again


def place_loaded(folder: Path) -> bool:
    """Return whether the folder was placed in the store; not where another process has placed it since."""
    name = folder.name
    with store.hold(name):
        if not is_lacking(name, store.read_manifest(folder)):
            return False
        store.share(folder)
        store.place(folder, name)
    return True
