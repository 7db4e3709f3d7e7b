"""A data set for others: a folder with data card, documents, one JSON a split, packed rows and tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd

from mome.artifacts import read_manifest
from mome.config import CODE_LANGUAGES, LANGUAGE_NAMES
from mome.data import SPLITS, largest_difference, token_weights

HELP, WIKI = "LibreOffice's help, from Debian's packages libreoffice-help-*", "Wiki40B (Guo et al. 2020), google/wiki40b on the hub"
# corpus: (natural text, its licence, code, its licence)
SOURCES = {
    "help": (HELP, "MPL 2.0, some parts Apache 2.0", "the installed CPython library, without its tests", "PSF licence 2.0"),
    "wiki40b": (WIKI, "CC BY-SA 3.0", "CodeParrot-clean on the hub", "each file under its repository's licence"),
    "reference": ("the Debian Reference, from Debian's packages debian-reference-*", "GPL 2 or later",
                  "the source of installed packages (matplotlib, pandas, seaborn, scikit-learn)", "each package's own, BSD-like"),
    "mini": ("short articles written for the MoME workbook", "MIT", "small Python files written for the MoME workbook", "MIT"),
    "folder": ("a folder of the user's own", "the user's to state", "a folder of the user's own", "the user's to state")}


def export_dataset(data_path: Path, out: Path) -> Path:
    """Write a data artefact as a folder for others and return it.

    README.md: the data card. train.json, validation.json, test.json: the kept documents as {language, article_id, text};
    `datasets.load_dataset(out)` reads them. documents.parquet: every aligned and clean document with split, tokens, bytes
    and whether it was kept. dataset/: the packed rows, for `datasets.load_from_disk`. tokenizer/: for `from_pretrained`.

    The folder appears when it is whole. Raises ValueError when `out` exists and is not empty.
    """
    check_out(out)
    out = out.resolve()  # "new/.." has no name that a folder beside it could be called after
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        for name in ("dataset", "tokenizer"):
            shutil.copytree(data_path / name, aside / name)
        shutil.copyfile(data_path / "documents.parquet", aside / "documents.parquet")
        documents = pd.read_parquet(data_path / "documents.parquet")
        for split in SPLITS:
            write_json_rows(aside / f"{split}.json", documents[documents.kept & (documents.split == split)])
        (aside / "README.md").write_text(data_card(data_path), encoding="utf-8")
        if out.exists():
            out.rmdir()
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def check_out(out: Path) -> None:
    """Raise ValueError when `out` is a file, a folder that holds something, or the working folder, which cannot be replaced."""
    if out.resolve() == Path.cwd():
        raise ValueError(f"out={str(out)!r} is the working folder; give a new folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={str(out)!r} is not empty; give a new folder, nothing is overwritten")


def write_json_rows(path: Path, documents: pd.DataFrame) -> None:
    """Write the documents as one JSON array of {language, article_id, text}, an object a line."""
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(documents[["language", "article_id", "text"]].to_dict("records")):
            file.write(("[\n" if number == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def data_card(data_path: Path) -> str:
    """Return the data card of an artefact as Markdown: sources, licences, sizes, balance, what was removed, seed and hash."""
    manifest = read_manifest(data_path)
    config, notes = manifest["config"], manifest["notes"]
    corpus_config = read_manifest(data_path.parent / manifest["parents"]["corpus"])["config"]
    corpus = corpus_config["corpus"]
    documents = pd.read_parquet(data_path / "documents.parquet", columns=["language", "article_id", "split", "n_tokens", "n_bytes", "kept"])
    removed, copies = pd.read_parquet(data_path / "removed.parquet"), pd.read_parquet(data_path / "copies.parquet")
    languages, kept = notes["languages"], documents[documents.kept]
    is_code = [language in CODE_LANGUAGES for language in languages]
    text, text_licence, code, code_licence = SOURCES[corpus.partition(":")[0]]
    sizes = kept.groupby(["language", "split"])[["article_id", "n_tokens", "n_bytes"]].agg({"article_id": "count", "n_tokens": "sum", "n_bytes": "sum"})
    table = ["| language | split | documents | tokens | bytes |", "| --- | --- | ---: | ---: | ---: |"]
    for language in languages:
        for split in SPLITS:
            row = sizes.loc[(language, split)]
            table.append(f"| {LANGUAGE_NAMES.get(language, language)} | {split} | {row.article_id:,} | {row.n_tokens:,} | {row.n_bytes:,} |")
    cleaning = ["| language | characters before | after | repeated lines | untranslated lines | equal files | texts normalized | copies of held-out texts |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in removed.itertuples():
        cleaning.append(f"| {LANGUAGE_NAMES.get(row.language, row.language)} | {row.characters_before:,} | {row.characters_after:,} | {row.repeated_lines:,} | "
                        f"{row.untranslated_lines:,} | {row.equal_articles:,} | {row.normalized_articles:,} | {(copies.language == row.language).sum():,} |")
    weights = token_weights({language: int(documents[(documents.language == language) & (documents.split == "train")].n_tokens.sum())
                             for language in languages}, config["shares"])
    difference = largest_difference({language: total / weights[language] for language, total in notes["tokens"]["train"].items()})
    # Quoted, since YAML reads the code of Norwegian, no, as false.
    natural = [f'- "{language}"' for language, code_language in zip(languages, is_code, strict=True) if not code_language]
    front = ["---", f"pretty_name: MoME data set ({', '.join(languages)})", *["language:"] * bool(natural), *natural, "task_categories:", "- text-generation",
             "configs:", "- config_name: default", "  data_files:", *(f"  - split: {split}\n    path: {split}.json" for split in SPLITS), "---"]
    sources = [f"- Natural language: {text}. Licence: {text_licence}."] * (not all(is_code)) + [f"- Code: {code}. Licence: {code_licence}."] * any(is_code)
    alignment = "every article exists in all natural languages" if config["common_articles"] else "articles need not exist in every language"
    return "\n".join([
        *front, "", f"# MoME data set: {', '.join(LANGUAGE_NAMES.get(language, language) for language in languages)}", "",
        "Made by the MoME workbook (`python -m mome data`), which implements arXiv:2407.19610.", "", "## Sources and licences", "", *sources, "",
        "## Sizes", "", *table, "",
        f"Training tokens differ by {difference:.2f} % of the largest after division by the shares asked for (`shares`: {json.dumps(config['shares'])}; "
        f"allowed: {config['max_diff_percent']:g} %). Alignment: {alignment}. Tokens are those of the tokenizer in `tokenizer/` "
        f"({config['vocab_size']:,} entries), `<s>` and `</s>` of every document among them; `dataset/` holds rows of {config['context']}.", "",
        "## What was removed", "", *cleaning, "",
        f"A text counts as a copy when it shares a fraction of {config['near_duplicates']:g} or more of its five-word shingles (Jaccard) with a text of a "
        "more protected split: validation before test before train. With an article that is common to several languages all of them go.", "",
        "## Splits", "",
        f"A hash of seed and article id decides, the same for all translations; about {config['validation_fraction']:.0%} of the articles are validation and "
        "as many test.", "",
        "## How to make it again", "", "```json", json.dumps({"corpus": corpus_config, "data": config}, indent=1, ensure_ascii=False), "```", "",
        f"SHA-256 of all rows and the vocabulary: `{notes['sha256']}`", ""])
