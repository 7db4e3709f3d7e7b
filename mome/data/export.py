"""A data set for others: a folder with data card, documents, one JSON a split, packed rows and tokenizer."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from mome.checks import check_writable
from mome.data.card import data_card
from mome.store import share


def export_dataset(data_path: Path, corpus_manifest: dict, out: Path) -> Path:
    """Write a built data set as a folder for others and return it; it appears when it is whole.

    README.md: the card. train.json, ...: kept documents, for `datasets.load_dataset`. documents.parquet: all
    aligned, clean ones. dataset/: the packed rows, for `load_from_disk`. tokenizer/: for `from_pretrained`.
    """
    with new_folder(out) as aside:
        for name in ("dataset", "tokenizer"):
            shutil.copytree(data_path / name, aside / name)
        shutil.copyfile(data_path / "documents.parquet", aside / "documents.parquet")
        documents = pd.read_parquet(data_path / "documents.parquet")
        for split, part in documents[documents.kept].groupby("split"):
            rows = part[["language", "article_id", "text"]].to_dict("records")
            lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            (aside / f"{split}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        (aside / "README.md").write_text(data_card(data_path, corpus_manifest), encoding="utf-8")
    return out.resolve()


@contextmanager
def new_folder(out: Path):
    """Give a folder beside `out` to write into, which takes its place once all is written, else goes."""
    check_out(out)
    out = out.resolve()  # "new/.." has no name that a folder beside it could be called after
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        yield aside
        share(aside)
        try:
            os.replace(aside, out)  # an empty folder gives way
        except PermissionError:  # but not on Windows
            out.rmdir()
            os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_out(out: Path, name: str = "out") -> None:
    """Raise ValueError, beginning with `name`, for a file, a folder that holds something, or the working one.
    """
    if out.resolve() == Path.cwd():
        raise ValueError(f"{name}={str(out)!r} is the working folder; give a new folder")
    if out.is_file():
        raise ValueError(f"{name}={str(out)!r} is a file; give a new folder, nothing is overwritten")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{name}={str(out)!r} is not empty; give a new folder, nothing is overwritten")
    check_writable(name, out)
