"""A data set for others: the folder and its card, whole or not at all."""

import json
import os
import re
import shutil
from pathlib import Path

import datasets
import pandas as pd
import pytest
import yaml
from transformers import AutoTokenizer

from mome.data import export
from mome.data.card import SOURCES, data_card
from mome.data.packing import build_dataset, largest_difference, select_documents
from mome.languages import CORPUS_LANGUAGES, LANGUAGE_NAMES

LANGUAGES = ["en", "fr", "de", "py"]
SPLITS = ["train", "validation", "test"]
SIZES = {"vocab_size": 400, "context": 16, "tokens_per_language": 8_000, "max_diff_percent": 9.5,
         "validation_fraction": 0.06, "test_fraction": 0.12, "held_out_tokens": 100, "near_duplicates": 0.5,
         "common_articles": True, "split_seed": 3}
SHARES = [["de", 1.0], ["en", 2.0], ["fr", 1.0], ["py", 2.0]]


def write_data(folder, documents: pd.DataFrame, shares=SHARES):
    """Build a data set as the recipe does, with its manifest."""
    folder.mkdir(parents=True)
    languages = list(dict.fromkeys(documents.language))
    notes = build_dataset(documents, folder, **SIZES, shares=shares)
    manifest = {"kind": "data", "format": 1, "fields": {**SIZES, "languages": languages, "shares": shares},
                "parents": {"corpus": "corpus-0123456789ab"}, "notes": notes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def corpus_of(source: str = "folder", languages=LANGUAGES, **fields) -> dict:
    about = {"source": source, "snapshot": "2026-11-25", "languages": list(languages),
             "versions": [["python", "3.11"]]}
    return {"kind": "corpus", "fields": {**about, **fields}}


@pytest.fixture(scope="module")
def data_path(documents, tmp_path_factory):
    """A data set of mini with a planted near duplicate of a validation text in train."""
    documents = documents.copy()
    names = ("validation_fraction", "test_fraction", "near_duplicates", "common_articles", "split_seed")
    selected, _ = select_documents(documents, **{name: SIZES[name] for name in names})
    first = selected.query("language == 'py'").groupby("split").article_id.first()
    is_code = documents.language == "py"
    text = documents.text[is_code & (documents.article_id == first["validation"])].item()
    copy = is_code & (documents.article_id == first["train"])
    documents.loc[copy, "text"] = text.replace("def ", "async def ", 1)
    return write_data(tmp_path_factory.mktemp("store") / "data", documents)


@pytest.fixture(scope="module")
def out(data_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "some" / "new folder"
    return export.export_dataset(data_path, corpus_of(), folder)


@pytest.fixture(scope="module")
def texts(data_path):
    return pd.read_parquet(data_path / "documents.parquet")


@pytest.fixture(scope="module")
def card(out):
    return (out / "README.md").read_text(encoding="utf-8")


def table_of(card: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head, thousands not grouped."""
    section = card.partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    return [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def front_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def recipe_of(card: str) -> dict:
    return json.loads(card.partition("```json")[2].partition("```")[0])


# The folder

def test_the_folder_holds_card_documents_rows_and_tokenizer_and_names_no_place_on_this_machine(
        out, data_path):
    names = {"README.md", "dataset", "documents.parquet", "tokenizer", *(f"{split}.json" for split in SPLITS)}
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    for path in out.rglob("*"):
        if path.is_file():
            assert str(data_path.parent).encode() not in path.read_bytes(), path


def test_the_folder_loads_as_a_data_set_of_the_kept_documents_one_a_line_of_a_splits_json(
        out, texts, tmp_path):
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path))
    assert set(loaded) == set(SPLITS)
    for split in SPLITS:
        expected = texts[texts.kept & (texts.split == split)][["language", "article_id", "text"]]
        assert loaded[split].to_pandas().to_dict("records") == expected.to_dict("records")
    for split in SPLITS:
        text = (out / f"{split}.json").read_text(encoding="utf-8")
        rows = json.loads(text)
        assert text.count("\n") == len(rows) + 2 == (texts.kept & (texts.split == split)).sum() + 2
        assert all(set(row) == {"language", "article_id", "text"} for row in rows)
        assert "\\u" not in text  # letters are written as they are


def test_packed_rows_and_documents_are_those_of_the_data_set_and_the_tokenizer_turns_one_into_the_other(
        out, data_path, texts):
    rows, expected = (datasets.load_from_disk(str(folder / "dataset")) for folder in (out, data_path))
    for split in SPLITS:
        assert rows[split].to_dict() == expected[split].to_dict()
        assert {len(ids) for ids in rows[split]["input_ids"]} == {SIZES["context"]}
    pd.testing.assert_frame_equal(pd.read_parquet(out / "documents.parquet"), texts)
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    assert len(tokenizer) == SIZES["vocab_size"]
    rows = datasets.load_from_disk(str(out / "dataset"))["train"].to_pandas()
    french = [row["text"] for row in json.loads((out / "train.json").read_text(encoding="utf-8"))
              if row["language"] == "fr"]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in french]
    flat = [token for row in ids for token in [1, *row, 2]]
    packed = [token for ids in rows.input_ids[rows.language == "fr"] for token in ids]
    assert packed == flat[:len(packed)]
    assert len(flat) - len(packed) < SIZES["context"]


# The card

def test_the_front_of_the_card_names_languages_and_files(card):
    front = front_of(card)
    assert front["language"] == ["en", "fr", "de"]
    assert front["pretty_name"] == "MoME data set (en, fr, de, py)"
    assert front["task_categories"] == ["text-generation"]
    files = [{"split": split, "path": f"{split}.json"} for split in SPLITS]
    assert front["configs"] == [{"config_name": "default", "data_files": files}]


def test_sizes_and_balance_of_the_card_are_those_of_the_documents_by_their_shares(card, texts):
    parts = {(language, split): texts[texts.kept & (texts.language == language) & (texts.split == split)]
             for language in LANGUAGES for split in SPLITS}
    assert table_of(card, "Sizes") == [
        [LANGUAGE_NAMES[language], split, str(len(part)), str(part.n_tokens.sum()), str(part.n_bytes.sum())]
        for (language, split), part in parts.items()]
    assert re.search(r"\| \d,\d{3} \|", card)  # thousands are grouped
    totals = texts[texts.kept & (texts.split == "train")].groupby("language").n_tokens.sum()
    difference = largest_difference((totals / pd.Series(dict(SHARES))).to_dict())
    assert f"differ by {difference:.2f} % of the largest" in card
    said = card.replace("\n", " ")
    assert f"over their shares ({json.dumps(SHARES)}) differ by" in said and "(allowed: 9.5 %)" in said
    assert "An article must exist in all natural languages." in said
    assert "(400 entries)" in said and "rows of 16." in said and "6% of the articles are validation" in said
    assert "12% are test" in said and "one with more than 100 tokens is held out as a piece" in said


def test_what_was_removed_is_as_the_tables_count_it(card, data_path):
    removed, copies = (pd.read_parquet(data_path / f"{name}.parquet") for name in ("removed", "copies"))
    assert copies.language.tolist() == ["py"]
    head = re.search(r"## What was removed\n+(.*)\n", card).group(1)
    columns = [name.strip().replace(" ", "_") for name in head.strip("|").split("|")][1:-1]
    assert set(columns) == set(removed.columns) - {"language"}
    assert table_of(card, "What was removed") == [
        [LANGUAGE_NAMES[row["language"]], *(str(row[name]) for name in columns),
         str(int(row["language"] == "py"))]
        for row in removed.to_dict("records")]


def test_the_card_says_how_to_make_the_data_again_and_that_gives_its_hash(card, data_path, texts, tmp_path):
    recipe, manifest = recipe_of(card), json.loads((data_path / "manifest.json").read_text())
    assert recipe == {"corpus": corpus_of()["fields"], "data": manifest["fields"]}
    sha256 = re.search(r"SHA-256 of all rows and the vocabulary: `([0-9a-f]{64})`", card).group(1)
    options = {name: value for name, value in recipe["data"].items() if name != "languages"}
    assert build_dataset(texts[["language", "article_id", "text"]], tmp_path, **options)["sha256"] == sha256


def test_the_card_names_source_and_licence_of_text_and_code_and_no_path(data_path):
    paths = {"path": "/home/someone/texts", "files": ["/home/someone/a.txt"], "files_sha256": "0" * 64}
    card = data_card(data_path, corpus_of("folder", **paths))
    assert "someone" not in card
    assert recipe_of(card)["corpus"] == {**corpus_of()["fields"], "files_sha256": "0" * 64}
    assert set(SOURCES) == {*CORPUS_LANGUAGES, "folder"}
    for source in SOURCES:
        card = data_card(data_path, corpus_of(source))
        section = card.partition("## Sources")[2].partition("## Sizes")[0]
        lines = [line for line in section.split("\n") if line.startswith("-")]
        assert [line.split(":")[0] for line in lines] == ["- Natural language", "- Code"]
        assert all(re.fullmatch(r"- [\w ]+: .{5,}\. Licence: .{3,}\.", line) for line in lines), lines


def test_the_card_says_what_was_read_and_left_out_of_a_folder_and_nothing_so_of_another_corpus(data_path):
    left_out = {"hidden": {"count": 1_203, "first": ["fr/.a", "fr/.b"]},
                "empty": {"count": 1, "first": ["fr/c"]}}
    said = "all.txt, its one file, has 3 lines: line n is article n"
    notes = {"en": {"files": 1, "said": said, "left_out": {}},
             "fr": {"files": 12, "said": "", "left_out": left_out}, "it": {"files": 7}}
    removed = data_card(data_path, {**corpus_of(), "notes": notes}).partition("## What was removed")[2]
    assert [line for line in removed.split("\n") if line.startswith("-")] == [
        "- English: 1 file read", f"- English: {said}",
        "- French: 12 files read", "- French: 1,203 left out, hidden: fr/.a, fr/.b, ...",
        "- French: 1 left out, empty: fr/c"]
    assert " read\n" not in data_card(data_path, corpus_of())


@pytest.mark.parametrize("languages, sources", [(["en", "no"], ["Natural"]), (["py"], ["Code"])])
def test_a_card_of_text_alone_or_code_alone_names_no_other_and_loads(documents, tmp_path, languages, sources):
    documents = documents.replace({"language": {"de": "no"}})  # Norwegian, which YAML would take for false
    some = documents[documents.language.isin(languages)].reset_index(drop=True)
    data = write_data(tmp_path / "data", some, "equal")
    folder = export.export_dataset(data, corpus_of(languages=languages), tmp_path / "out")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert front_of(card).get("language", []) == [language for language in languages if language != "py"]
    assert re.findall(r"^- (\w+)(?: language)?: a folder", card, re.MULTILINE) == sources
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded["train"]["language"]) == set(languages)


def test_a_card_says_that_articles_need_not_be_common(data_path, tmp_path):
    copy = shutil.copytree(data_path, tmp_path / "data")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["fields"]["common_articles"] = False
    (copy / "manifest.json").write_text(json.dumps(manifest))
    card = data_card(copy, corpus_of()).replace("\n", " ")
    assert "An article need not exist in all natural languages." in card and "must" not in card


# Whole or not at all

def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(data_path, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out='.*out' is not empty"):
        export.export_dataset(data_path, corpus_of(), tmp_path / "out")
    with pytest.raises(ValueError, match=r"out='.*mine\.txt' is a file"):
        export.export_dataset(data_path, corpus_of(), tmp_path / "out" / "mine.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("gives_way", [True, False])
def test_an_empty_folder_is_filled(data_path, tmp_path, monkeypatch, gives_way):
    def replace(source, target, rename=os.replace):
        if Path(target).exists() and not gives_way:
            raise PermissionError("[WinError 5] Access is denied")
        rename(source, target)

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "replace", replace)
    assert export.export_dataset(data_path, corpus_of(), tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "README.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_working_folder_is_refused_and_a_path_may_lead_back(data_path, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "../here"):
        with pytest.raises(ValueError, match=f"out='{re.escape(out)}' is the working folder"):
            export.export_dataset(data_path, corpus_of(), type(tmp_path)(out))
    back = type(tmp_path)("../there/absent/..")
    assert export.export_dataset(data_path, corpus_of(), back) == tmp_path / "there"
    assert (tmp_path / "there" / "README.md").exists()


@pytest.mark.parametrize("error, is_there", [(OSError("disk full"), False), (KeyboardInterrupt(), True)])
def test_a_failure_on_the_way_leaves_no_half_folder(data_path, tmp_path, monkeypatch, error, is_there):
    def fail(*_, **__):
        raise error

    if is_there:
        (tmp_path / "out").mkdir()
    for module, name in ((shutil, "copyfile"), (json, "dumps"), (export, "data_card"), (os, "replace")):
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(module, name, fail)
            export.export_dataset(data_path, corpus_of(), tmp_path / "out")
        assert [path for path in tmp_path.rglob("*") if path != tmp_path / "out"] == []
        assert (tmp_path / "out").exists() is is_there
    export.export_dataset(data_path, corpus_of(), tmp_path / "out")
    assert (tmp_path / "out" / "README.md").exists()
