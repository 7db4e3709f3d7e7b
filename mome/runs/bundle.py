"""A bundle: what notebooks read of the store, in one file that opens them at once on another machine."""

import io
import json
import lzma
import os
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import mome
from mome import store
from mome.checks import check_writable
from mome.distill.targets import copy_targets
from mome.provenance import find_commit
from mome.recipe import Recipe, list_ancestors
from mome.runs.model_card import list_licences
from mome.runs.origin import read_made

# Fast, with a window that is wider than an expert: equal ones, as untrained ones are, are kept once.
PACKING = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**23}
FORMAT, INDEX = 1, "bundle.json"
LARGE = 1_000_000  # bytes: a file of weights that is larger is left out where nobody reads it
README = """# What notebooks of the MoME workbook read

Made by `mome bundle`, version {version}, on {day}. It opens {notebooks} with {parameters}.

`python -m mome load FILE` puts it into the store of your workplace, or of `MOME_HOME`; then
`python -m mome lab` opens the notebooks. Nothing in it is code, and nothing is unpickled.

{left_out}

## Licences

{licences}

## Sizes

| | count | megabytes |
| --- | ---: | ---: |
{sizes}
"""
LEFT_OUT = ("Weights that no notebook reads were left out, and of the teacher's targets all rows but those "
            "that one shows. Where a new model is made from them, they are built again first.")


def check_bundle(out: Path, parameters: dict) -> None:
    """Raise ValueError, before anything is built, for a file that is there or a corpus that is here alone."""
    if out.exists():
        raise ValueError(f"out={str(out)!r} is there already; give a new file, nothing is overwritten")
    check_corpora(parameters)
    check_writable("out", out.absolute().parent)


def check_corpora(parameters: dict) -> None:
    for name, value in parameters.items():
        if str(value).startswith("folder:"):
            raise ValueError(f"{name}={value!r} is not allowed in a bundle: who loads it lacks that folder; "
                             "choose help, wiki40b or mini")


def choose_parts(needs: list[Recipe], read: list[dict]) -> dict[str, dict[str, list[int]]]:
    """Return {name: {name of weights that are read: rows of targets}} of what belongs into a bundle.

    That is what the notebooks need, what they `read` beside it (`weights.list_read`), and each corpus, by
    which a corpus' name is understood.
    """
    weights: dict[str, set[int]] = {}
    for part in read:
        for name, rows in part["weights"].items():
            weights.setdefault(name, set()).update(rows)
    names = [recipe.name for recipe in needs]
    names += [recipe.name for recipe in list_ancestors(needs) if recipe.kind() == "corpus"]
    names += [name for part in read for name in part["found"]]
    return {name: {name: sorted(weights[name])} if name in weights else {}
            for name in dict.fromkeys(names) if store.is_there(name)}


def write_bundle(parts: dict[str, dict], about: dict, out: Path, is_whole: bool = False) -> dict:
    """Write the named things of the store as one file; return {"names", "bytes", "left_out": bytes}.

    `about` has the parameters and notebooks that it is for. Without `is_whole` large weights that are not
    among the `parts`' own are left out. The file appears when it is whole.
    """
    aside, left_out = out.with_name(f".{out.name}.{os.getpid()}"), 0
    with TemporaryDirectory(prefix="mome-bundle-") as scratch:
        packed = {}
        for name, weights in parts.items():
            packed[name] = pack_thing(name, weights, Path(scratch, name), is_whole)
            left_out += sum(file["bytes"] for file in packed[name][0].get("left_out", {}).values())
        sizes = {name: sum(file["bytes"] for file in manifest["contents"].values())
                 for name, (manifest, _) in packed.items()}
        texts = {name: json.dumps(manifest, indent=1, ensure_ascii=False).encode()
                 for name, (manifest, _) in packed.items()}
        index = {"format": FORMAT, "version": mome.__version__, "commit": find_commit() or "", **about,
                 "made": time.strftime("%Y-%m-%d"),
                 "manifests": {name: store.hash_text(text.decode()) for name, text in texts.items()}}
        try:
            with lzma.open(aside, "wb", filters=[PACKING]) as packing, tarfile.open(
                    fileobj=packing, mode="w") as tar:
                add_text(tar, INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode())
                add_text(tar, "README.md", write_readme(index, packed, sizes, left_out).encode())
                for name, (manifest, files) in packed.items():
                    add_text(tar, f"store/{name}/manifest.json", texts[name])
                    for file in manifest["contents"]:
                        add_file(tar, f"store/{name}/{file}", files[file])
            os.replace(aside, out)
        finally:
            aside.unlink(missing_ok=True)
    return {"names": list(packed), "bytes": out.stat().st_size, "left_out": left_out}


def pack_thing(name: str, weights: dict, scratch: Path, is_whole: bool) -> tuple[dict, dict[str, Path]]:
    """Return a thing's manifest, as the bundle has it, and {file in it: where it lies now}."""
    folder = store.find(name)
    manifest = store.read_manifest(folder)
    contents, out = dict(manifest["contents"]), dict(manifest.get("left_out", {}))
    files = {file: folder / file for file in contents}
    rows = weights.get(name)
    if not is_whole and rows != []:  # an empty list: weights that are read as they are
        large = [file for file, about in contents.items()
                 if file.endswith(".safetensors") and about["bytes"] > LARGE]
        out |= {file: contents.pop(file) for file in large}
        if rows and large:
            scratch.mkdir(parents=True)
            copy_targets(folder, rows, scratch)
            contents |= store.list_contents(scratch)
            files |= {file: scratch / file for file in store.list_contents(scratch)}
    return manifest | {"contents": contents} | ({"left_out": out} if out else {}), files


def add_text(tar: tarfile.TarFile, name: str, text: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(text), 0o644
    tar.addfile(member, io.BytesIO(text))


def add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = path.stat().st_size, 0o644
    with open(path, "rb") as file:
        tar.addfile(member, file)


def write_readme(index: dict, packed: dict, sizes: dict[str, int], left_out: int) -> str:
    """Return the bundle's card: what it is for, what was left out, licences, sizes by kind."""
    made, kinds = {}, {}
    for name in packed:
        made |= read_made(name)
        kind = name.rpartition("-")[0]
        count, size = kinds.get(kind, (0, 0))
        kinds[kind] = count + 1, size + sizes[name]
    given = ", ".join(f"`{name}={value!r}`" for name, value in index["parameters"].items())
    return README.format(
        version=index["version"], day=index["made"], licences=list_licences(made),
        notebooks=", ".join(f"`{name}`" for name in index["notebooks"]),
        parameters=given, left_out=LEFT_OUT if left_out else "It is whole: nothing was left out.",
        sizes="\n".join(f"| {kind.replace('_', ' ')} | {count} | {size / 1e6:.1f} |"
                        for kind, (count, size) in sorted(kinds.items())))
