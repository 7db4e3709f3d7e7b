"""A data set for others: the folder, its card, and the command that makes it."""

import json
import re
import shutil

import datasets
import pandas as pd
import pytest
import yaml
from transformers import AutoTokenizer

from mome import export, recipes
from mome.__main__ import main
from mome.artifacts import read_manifest
from mome.config import CORPORA, LANGUAGE_NAMES, repository, resolve_scale
from mome.data import SPLITS, build_dataset, largest_difference

LANGUAGES = ["en", "fr", "de", "py"]
SIZES = {"vocab_size": 400, "context": 16, "tokens_per_language": 8_000, "max_diff_percent": 9.5}
COMMAND = ["data", "--scale", "smoke", *(word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value)))]


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    """A data artefact of mini with a planted near duplicate of a validation text in train."""
    folder = tmp_path_factory.mktemp("mini")
    for language in LANGUAGES:
        shutil.copytree(repository() / "data" / "mini" / language, folder / language)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_HOME", str(tmp_path_factory.mktemp("home")))
        scale = resolve_scale("smoke", {**SIZES, "shares": {"en": 2, "fr": 1, "de": 1, "py": 2}})
        bench = recipes.open_bench(scale, f"folder:{folder}", LANGUAGES, seed=3)
        first = pd.read_parquet(bench.data_path / "documents.parquet").query("language == 'py'").groupby("split").article_id.first()
        text = (folder / "py" / first["validation"]).read_text(encoding="utf-8")
        (folder / "py" / first["train"]).write_text(text.replace("def ", "async def ", 1), encoding="utf-8")
        return recipes.open_bench(scale, f"folder:{folder}", LANGUAGES, seed=3).data_path


@pytest.fixture(scope="module")
def out(data_path, tmp_path_factory):
    return export.export_dataset(data_path, tmp_path_factory.mktemp("exported") / "some" / "new folder")


@pytest.fixture(scope="module")
def documents(data_path):
    return pd.read_parquet(data_path / "documents.parquet")


@pytest.fixture(scope="module")
def card(out):
    return (out / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


def table_of(card: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of the card, without its head, thousands not grouped."""
    lines = [line for line in card.partition(f"## {heading}")[2].partition("\n## ")[0].split("\n") if line.startswith("|")]
    return [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


# The folder

def test_the_folder_holds_card_documents_rows_and_tokenizer_and_nothing_else(out):
    assert {path.name for path in out.iterdir()} == {"README.md", "dataset", "documents.parquet", "tokenizer", *(f"{split}.json" for split in SPLITS)}
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_folder_loads_as_a_data_set_of_the_kept_documents(out, documents, tmp_path):
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path))
    assert set(loaded) == set(SPLITS)
    for split in SPLITS:
        expected = documents[documents.kept & (documents.split == split)][["language", "article_id", "text"]].reset_index(drop=True)
        assert loaded[split].to_pandas().to_dict("records") == expected.to_dict("records")


def test_the_json_of_a_split_is_one_array_with_an_object_a_line(out, documents):
    for split in SPLITS:
        text = (out / f"{split}.json").read_text(encoding="utf-8")
        rows = json.loads(text)
        assert len(text.splitlines()) == len(rows) + 2 == (documents.kept & (documents.split == split)).sum() + 2
        assert all(set(row) == {"language", "article_id", "text"} for row in rows)


def test_the_packed_rows_load_and_are_those_of_the_artefact(out, data_path):
    rows, expected = datasets.load_from_disk(str(out / "dataset")), datasets.load_from_disk(str(data_path / "dataset"))
    for split in SPLITS:
        assert rows[split].to_dict() == expected[split].to_dict()
        assert {len(ids) for ids in rows[split]["input_ids"]} == {SIZES["context"]}


def test_the_tokenizer_loads_and_turns_the_documents_into_the_rows(out, documents):
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    assert len(tokenizer) == SIZES["vocab_size"]
    rows = datasets.load_from_disk(str(out / "dataset"))["train"].to_pandas()
    texts = [row["text"] for row in json.loads((out / "train.json").read_text(encoding="utf-8")) if row["language"] == "fr"]
    flat = [token for text in texts for token in [1, *tokenizer(text, add_special_tokens=False)["input_ids"], 2]]
    packed = [token for ids in rows.input_ids[rows.language == "fr"] for token in ids]
    assert packed == flat[:len(packed)]
    assert len(flat) - len(packed) < SIZES["context"]


def test_the_documents_are_those_of_the_artefact(out, documents):
    pd.testing.assert_frame_equal(pd.read_parquet(out / "documents.parquet"), documents)


# The card

def test_the_front_of_the_card_names_languages_and_files(card):
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["language"] == ["en", "fr", "de"]
    assert front["task_categories"] == ["text-generation"]
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": split, "path": f"{split}.json"} for split in SPLITS]}]


def test_the_sizes_of_the_card_are_those_of_the_documents(card, documents):
    kept = documents[documents.kept]
    expected = [[LANGUAGE_NAMES[language], split, str(len(part)), str(part.n_tokens.sum()), str(part.n_bytes.sum())]
                for language in LANGUAGES for split in SPLITS for part in [kept[(kept.language == language) & (kept.split == split)]]]
    assert table_of(card, "Sizes") == expected


def test_the_balance_of_the_card_is_that_of_the_documents_by_their_shares(card, documents):
    totals = documents[documents.kept & (documents.split == "train")].groupby("language").n_tokens.sum().to_dict()
    difference = largest_difference({"en": totals["en"] / 2, "fr": totals["fr"], "de": totals["de"], "py": totals["py"] / 2})
    assert f"differ by {difference:.2f} % of the largest" in card
    assert '(`shares`: {"en": 2, "fr": 1, "de": 1, "py": 2}; allowed: 9.5 %)' in card
    assert "every article exists in all natural languages" in card


def test_what_was_removed_is_as_the_tables_count_it(card, data_path):
    removed, copies = pd.read_parquet(data_path / "removed.parquet"), pd.read_parquet(data_path / "copies.parquet")
    assert copies.language.tolist() == ["py"]
    columns = ["characters_before", "characters_after", "repeated_lines", "untranslated_lines", "equal_articles", "normalized_articles"]
    assert table_of(card, "What was removed") == [
        [LANGUAGE_NAMES[row["language"]], *(str(row[name]) for name in columns), str(int(row["language"] == "py"))] for row in removed.to_dict("records")]


def test_the_card_says_how_to_make_the_data_again_and_that_gives_its_hash(card, data_path, tmp_path):
    config = json.loads(card.partition("```json")[2].partition("```")[0])
    assert config["data"] == read_manifest(data_path)["config"]
    assert (config["data"]["seed"], config["corpus"]["languages"]) == (3, LANGUAGES)
    documents = pd.DataFrame(recipes.corpora.read_documents(config["corpus"]["corpus"], LANGUAGES, 1, True, tmp_path))
    sha256 = re.search(r"SHA-256 of all rows and the vocabulary: `([0-9a-f]{64})`", card).group(1)
    assert build_dataset(documents, tmp_path, **config["data"])["sha256"] == sha256


def test_the_card_names_source_and_licence_of_text_and_code(data_path, monkeypatch):
    manifests = {path: read_manifest(path) for path in (data_path, data_path.parent / read_manifest(data_path)["parents"]["corpus"])}
    for name in CORPORA[1:]:
        monkeypatch.setattr(export, "read_manifest", lambda path, name=name: manifests[path] | (
            {} if path == data_path else {"config": {"corpus": name.replace("PATH", "/a:b"), "languages": LANGUAGES}}))
        sources = export.data_card(data_path).partition("## Sources")[2].partition("## Sizes")[0]
        text, text_licence, code, code_licence = export.SOURCES[name.partition(":")[0]]
        assert f"- Natural language: {text}. Licence: {text_licence}.\n" in sources
        assert f"- Code: {code}. Licence: {code_licence}.\n" in sources
        assert all((text, text_licence, code, code_licence))


@pytest.mark.parametrize(("languages", "front", "sources"), [(["en", "no"], ["en", "no"], ["Natural"]), (["py"], "none", ["Code"])])
def test_a_card_of_text_alone_or_code_alone_names_no_other_and_loads(tmp_path, languages, front, sources):
    for language in languages:  # Norwegian, which YAML would take for false
        shutil.copytree(repository() / "data" / "mini" / {"no": "de"}.get(language, language), tmp_path / "texts" / language)
    bench = recipes.open_bench(resolve_scale("smoke", SIZES), f"folder:{tmp_path / 'texts'}", languages)
    card = (export.export_dataset(bench.data_path, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1]).get("language", "none") == front
    assert re.findall(r"^- (\w+)(?: language)?: a folder", card, re.MULTILINE) == sources
    assert set(datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]["language"]) == set(languages)


# Whole or not at all

def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(data_path, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out='.*out' is not empty"):
        export.export_dataset(data_path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"out='.*mine\.txt' is not empty"):
        export.export_dataset(data_path, tmp_path / "out" / "mine.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(data_path, tmp_path):
    (tmp_path / "out").mkdir()
    assert export.export_dataset(data_path, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "README.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_working_folder_is_refused_and_a_path_may_lead_back(data_path, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "../here"):
        with pytest.raises(ValueError, match=f"out='{re.escape(out)}' is the working folder"):
            export.export_dataset(data_path, type(tmp_path)(out))
    assert export.export_dataset(data_path, type(tmp_path)("../there/absent/..")) == tmp_path / "there"
    assert (tmp_path / "there" / "README.md").exists()


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(("module", "name"), [(export, "write_json_rows"), (export, "data_card"), (export.shutil, "copyfile"), (export.os, "replace")])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_on_the_way_leaves_no_half_folder(data_path, tmp_path, monkeypatch, error, module, name, is_there):
    def fail(*_, **__):
        raise error

    if is_there:
        (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(module, name, fail)
        export.export_dataset(data_path, tmp_path / "out")
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "out"] == []
    assert not list((tmp_path / "out").glob("*"))
    export.export_dataset(data_path, tmp_path / "out")


# The command

def test_the_command_writes_the_folder_and_says_what_is_in_it(tmp_path, capsys):
    assert main([*COMMAND, "--corpus", "mini", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert said.startswith("corpus mini: chosen by name\n")
    assert said.endswith(f"written to {tmp_path / 'out'}\n")
    assert table_of(card, "Sizes")[0][2:] == [cell.strip().replace(",", "") for cell in said.partition("| English | train |")[2].split("\n")[0].split("|")[:3]]
    assert "MIT" in card
    assert "What was removed" in said


def test_what_the_command_is_told_reaches_the_data(tmp_path):
    words = ["--languages", "en,py", "--seed", "5", "--no-common-articles", "--shares", "en=1, py=2", "--near-duplicates", "0.8"]
    assert main([*COMMAND, "--corpus", "mini", *words, "--validation-fraction", "0.1", "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    config = json.loads(card.partition("```json")[2].partition("```")[0])
    assert config["corpus"]["languages"] == ["en", "py"]
    assert config["data"] == {**SIZES, "seed": 5, "common_articles": False, "shares": {"en": 1, "py": 2}, "near_duplicates": 0.8, "validation_fraction": 0.1}
    assert "articles need not exist in every language" in card


@pytest.mark.parametrize(("words", "said"), [
    (["--max-diff-percent", "0"], ["max_diff_percent=0.0", "[0.01, 100]"]), (["--max-diff-percent", "-3"], ["max_diff_percent=-3.0", "[0.01, 100]"]),
    (["--max-diff-percent", "0.01"], ["max_diff_percent=0.01", "differ by"]), (["--vocab-size", "10"], ["vocab_size=10", "[300, 65536]"]),
    (["--vocab-size", "60000"], ["vocab_size=60000", "at most"]), (["--context", "5000"], ["context=5000", "has less than"]),
    (["--shares", "en=0"], ["shares['en']=0.0", "at least 1e-06"]), (["--shares", "en=1"], ["shares={'en': 1.0}", "en, fr, de, py"]),
    (["--shares", "alike"], ["shares='alike'", "equal, imbalanced"]), (["--near-duplicates", "2"], ["near_duplicates=2.0", "[0.1, 1]"]),
    (["--validation-fraction", "0.9"], ["validation_fraction=0.9", "[0.001, 0.4]"]), (["--seed", "-1"], ["seed=-1"]),
    (["--languages", "en,xx"], ["languages='xx'", "en, fr, de, py"]), (["--languages", "en,en"], ["repeats"]),
    (["--corpus", "wikipedia"], ["corpus='wikipedia'", "folder:PATH"]), (["--corpus", "folder:/nowhere/at/all"], ["/nowhere/at/all"]),
    (["--corpus", "folder:PATH"], ["folder"]), (["--scale", "huge"], ["scale='huge'", "smoke, laptop, paper"])])
def test_bad_input_exits_with_code_2_and_one_line_and_writes_no_folder(words, said, tmp_path, capsys):
    assert main([*COMMAND, "--corpus", "mini", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("mome: ")
    assert all(word in error for word in said), error
    assert_nothing_half_written(tmp_path)


def assert_nothing_half_written(tmp_path):
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "texts"}
    whole = [path for path in (tmp_path / "home" / "data" / "artifacts").glob("*") if path.is_dir() and not path.name.startswith("partial-")]
    assert {path.name.partition("-")[0] for path in whole} <= {"corpus"}  # of what failed; the corpus that it was to be made from is whole
    assert all((path / "manifest.json").exists() for path in whole)


def test_a_language_of_a_folder_without_text_exits_with_code_2(tmp_path, capsys):
    (tmp_path / "texts" / "en").mkdir(parents=True)
    (tmp_path / "texts" / "en" / "apple.txt").write_text("apple")
    (tmp_path / "texts" / "fr").mkdir()
    (tmp_path / "texts" / "fr" / "apple.txt").write_text(" \n")
    assert main([*COMMAND, "--corpus", f"folder:{tmp_path / 'texts'}", "--languages", "en,fr", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("mome: languages: 'fr' has no text in") and "en, fr" in error
    assert_nothing_half_written(tmp_path)


def test_a_full_folder_is_refused_before_anything_is_built(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "mine.txt").write_text("mine")
    assert main([*COMMAND, "--corpus", "mini", "--out", str(tmp_path / "texts")]) == 2
    assert capsys.readouterr().err.startswith(f"mome: out='{tmp_path / 'texts'}' is not empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["texts", "mine.txt"]


@pytest.mark.parametrize("words", [["--shares", "en=one"], ["--shares", "en=1,en=2"], ["--vocab-size", "many"], []])
def test_words_that_cannot_be_read_exit_with_code_2(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", *words, *(["--out", str(tmp_path / "out")] if words else [])])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in (words or ["--out"]))
    assert not (tmp_path / "out").exists()
