"""Recipes of text, and how a setting finds its corpus. Nothing here reaches the network."""

import dataclasses
import json
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from conftest import TINY

from mome.config import repository
from mome.data.corpora import CorpusUnavailable
from mome.engine import build_here
from mome.recipes.data import Corpus, Data, Fertility, OtherRows
from mome.recipes.setting import find_corpus, find_second_corpus, make_corpus, open_setting
from mome.scales import SCALES

LANGUAGES, SMOKE = ["en", "fr", "de", "py"], SCALES["smoke"]


def write(root, files: dict) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode() if isinstance(text, str) else text)


def find(corpus, languages=("en",), **options) -> Corpus:
    return find_corpus(str(corpus), list(languages), SMOKE, **options)[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two texts under the working directory."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"h/en/a.txt": "apple", "h/en/deep/b.md": "bread"})
    return tmp_path / "h"


@pytest.fixture
def stored(own_home):
    """Return a function that puts the manifest of a fetched corpus into an empty store."""
    def put(source: str, snapshot: str, languages=LANGUAGES, **changes) -> None:
        corpus = dataclasses.replace(make_corpus(source, languages, SMOKE, snapshot), **changes)
        manifest = {"kind": "corpus", "fields": corpus.plain_fields(), "created": "2026-01-01T00:00:00"}
        write(own_home / "data/store" / corpus.name, {"manifest.json": json.dumps(manifest)})

    return put


@pytest.fixture
def reached(monkeypatch):
    """Return a function that decides which sources answer, in order."""
    def set_sources(*sources: str) -> None:
        monkeypatch.setattr("mome.data.corpora.corpus_candidates",
                            lambda corpus, languages: iter([(name, f"{name} answers") for name in sources]))

    return set_sources


# What a folder is called

def test_what_is_not_read_does_not_rename_a_folder_nor_does_a_copy_elsewhere(folder):
    before = find("folder:h")
    write(folder, dict.fromkeys(("en/.DS_Store", "en/photo.jpg", "notes.txt", "fr/a.txt"), b"\x00\x01"))
    assert find("folder:h").name == before.name
    shutil.copytree(folder, folder.parent / "copy")
    assert find("folder:copy").name == before.name


def test_the_way_its_path_is_written_does_not_rename_a_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    corpora = [find(f"folder:{path}") for path in ("h", "h/", "./h", "h/../h", folder, "~/h")]
    assert len({corpus.name for corpus in corpora}) == 1
    assert {corpus.path for corpus in corpora} == {str(folder)}  # a worker may have another working directory
    assert corpora[0].label == f"folder:{folder}"


def test_a_changed_added_or_renamed_text_or_another_language_renames_a_folder(folder):
    names = [find("folder:h").name]
    for change in ({"en/a.txt": "apples"}, {"en/c.txt": "apple"}, {"en/deep/a.md": "bread"}):
        write(folder, change)
        names.append(find("folder:h").name)
    (folder / "en/a.txt").rename(folder / "en/z.txt")
    write(folder, {"fr/a.txt": "pomme"})
    names += [find("folder:h").name, find("folder:h", ["en", "fr"]).name]
    assert len(set(names)) == len(names)


def test_mini_is_named_by_its_texts_and_lies_in_the_checkout(monkeypatch, tmp_path):
    mini = find("mini", ["es"])
    assert (mini.label, mini.path) == ("mini", str(repository() / "data" / "mini"))
    shutil.copytree(repository() / "data/mini/es", tmp_path / "es")
    assert find(f"folder:{tmp_path}", ["es"]).files_sha256 == mini.files_sha256
    assert find(f"folder:{tmp_path}", ["es"]).name != mini.name  # a source of its own


def test_a_folder_that_changed_between_planning_and_building_is_refused(folder, own_home):
    corpus = find("folder:h")
    write(folder, {"en/a.txt": "apples"})
    with pytest.raises(ValueError, match=r"folder:.*h' has changed since this was planned"):
        build_here(corpus)
    assert not corpus.is_there
    write(folder, {"en/a.txt": "apple", "en/.a.txt.swp": "no text"})
    build_here(corpus)
    assert corpus.open().text.tolist() == ["apple", "bread"]
    assert corpus.notes == {"en": {"articles": 2, "characters": 10, "files": 2, "said": "", "left_out": {
        "hidden": {"count": 1, "first": ["en/.a.txt.swp"]}}}}


# Which state of a fetched corpus is taken

def test_without_a_date_help_is_its_newest_snapshot_that_has_these_languages_or_more_uncut(stored):
    for snapshot in ("2026-03-01", "2026-10-02", "2026-09-30"):
        stored("help", snapshot)
    stored("help", "2026-11-11", ["en", "fr"])  # without two of the languages
    stored("reference", "2026-12-01")
    assert find("help", LANGUAGES).label == "help@2026-10-02"
    assert find("help@2026-03-01", LANGUAGES).snapshot == "2026-03-01"
    stored("wiki40b", "2026-10-02")
    assert find("help", ["de", "es"]).languages == ("de", "es")
    assert find("help", ["de", "py"]).languages == tuple(LANGUAGES)
    assert find("wiki40b", ["de", "en"]).languages == ("de", "en")


def test_what_would_be_fetched_otherwise_today_is_not_taken_and_a_day_that_is_over_is_refused(stored):
    stored("help", "2026-10-02", versions=(("python", "2.7.18"),))
    stored("wiki40b", "2026-10-02", characters=7)
    for source in ("help", "wiki40b"):
        assert find(source, LANGUAGES).snapshot == time.strftime("%Y-%m-%d")
    with pytest.raises(ValueError, match=r"corpus='help@2020-01-01' is not in the store.*its day is over"):
        find("help@2020-01-01", LANGUAGES)
    today = time.strftime("%Y-%m-%d")
    assert find(f"help@{today}", LANGUAGES).snapshot == today


def test_a_day_by_its_name_and_auto_take_what_the_store_holds_though_its_code_be_of_another_python(stored):
    stored("help", "2026-10-02", versions=(("python", "2.7.18"),))
    stored("reference", "2026-10-03", versions=(("pandas", "0.1"),))
    for corpus in ("help@2026-10-02", "auto"):
        setting = open_setting(SMOKE, corpus, LANGUAGES)
        assert setting.corpus.versions == (("python", "2.7.18"),) and setting.corpus.is_there
        assert find_second_corpus(setting, "auto").snapshot == "2026-10-03"
    stored("help", "2026-09-01")
    assert find("auto", LANGUAGES).snapshot == "2026-09-01"  # it prefers one as it would be fetched now


def test_with_refresh_or_with_none_in_the_store_help_is_todays(stored, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "2030-02-03" if form == "%Y-%m-%d" else form)
    assert find("help", LANGUAGES).label == "help@2030-02-03"
    stored("help", "2026-10-02")
    assert find("help", LANGUAGES, refresh=True).label == "help@2030-02-03"


def test_auto_is_the_newest_fetched_corpus_with_these_languages_and_an_undamaged_manifest(
        stored, reached, own_home):
    reached("mini")
    stored("help", "2026-10-02")
    stored("wiki40b", "2026-10-01")
    stored("reference", "2026-12-01")  # never the first corpus
    setting = open_setting("smoke", "auto", LANGUAGES)
    assert setting.corpus_name == "help@2026-10-02" and setting.reason.startswith("the newest in the store")
    stored("wiki40b", "2026-10-03")
    assert open_setting("smoke", "auto", LANGUAGES).corpus_name == "wiki40b@2026-10-03"
    assert open_setting("smoke", "auto", ["fr", "en"]).corpus_name == "help@2026-10-02"
    assert open_setting("smoke", "auto", ["fr", "es"]).corpus_name == "mini"
    for manifest in own_home.rglob("manifest.json"):
        manifest.write_text("{")
    assert open_setting("smoke", "auto", LANGUAGES).corpus_name == "mini"


def test_auto_is_the_first_source_that_answers_with_none_in_the_store_or_with_refresh(stored, reached):
    reached("wiki40b", "mini")
    today = time.strftime("%Y-%m-%d")
    setting = open_setting("smoke", "auto", LANGUAGES)
    assert (setting.corpus_name, setting.reason) == (f"wiki40b@{today}", "wiki40b answers")
    stored("help", "2026-10-02")
    assert open_setting("smoke", "auto", LANGUAGES, refresh=True).corpus_name == f"wiki40b@{today}"


def test_a_corpus_out_of_reach_is_an_error_by_name_and_nothing_else_is_built(own_home, monkeypatch):
    def unreachable(*_):
        raise CorpusUnavailable("no network today")

    monkeypatch.setattr("mome.data.corpora.read_documents", unreachable)
    corpus = open_setting("smoke", "help", LANGUAGES).corpus
    with pytest.raises(CorpusUnavailable, match="no network today"):
        build_here(Data.of(open_setting("smoke", "help", LANGUAGES)))
    assert not corpus.is_there and not list((own_home / "data/store").glob("*/manifest.json"))


def test_only_a_stream_is_cut_by_the_scale_and_code_carries_the_version_that_is_read(own_home):
    small, large = SCALES["smoke"], SCALES["laptop"]
    for source, differs in (("wiki40b", True), ("help", False), ("reference", False)):
        names = {find_corpus(source, LANGUAGES, scale)[0].name for scale in (small, large)}
        assert len(names) == 1 + differs
    assert [name for name, _ in find("help", ["en", "py"]).versions] == ["python"]
    assert find("help", ["en"]).versions == ()


# What a setting refuses

@pytest.mark.parametrize("arguments, words", [
    (("smoke", "help", ["en", "tlh"]), "languages='tlh'"),
    (("smoke", "mini", ["en", "en"]), "languages=.*repeats"), (("smoke", "mini", []), r"languages=\[\]"),
    (("smoke", "wikipedia", ["en"]), "corpus='wikipedia'"), (("tiny", "mini", ["en"]), "scale='tiny'"),
    (("smoke", "folder:/no/such", ["en"]), "corpus='folder:/no/such'"),
    (("smoke", "mini@2026-01-01", ["en"]), "corpus='mini@2026-01-01'"),
    (("smoke", "mini", ["en", "fr"], {"shares": {"en": 1}}), "shares=.*en, fr"),
    (("smoke", "mini", ["en"], {"contexts": 8}), "overrides='contexts'")])
def test_a_setting_and_data_refuse_by_name_what_is_not_allowed_and_write_nothing(own_home, arguments, words):
    with pytest.raises(ValueError, match=words):
        open_setting(*arguments)
    for change, words in (({"languages": ["en", "de"]}, "languages='de'"), ({"vocab_size": 1.5}, "size=1.5"),
                          ({"shares": {"en": 1}}, "each of: en, fr"), ({"split_seed": -1}, "split_seed=-1")):
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(DATA, **change)
    assert open_setting("smoke", "mini", LANGUAGES).reason == "chosen by name"
    assert not own_home.exists()  # nothing was built, nor written


def test_the_second_corpus_of_auto_is_the_reference_beside_help_only(own_home):
    def second(corpus, languages, name="auto"):
        found = find_second_corpus(open_setting("smoke", corpus, languages), name)
        return found and found.source

    assert second("help", LANGUAGES) == "reference"
    assert second("help", ["en", "ko"]) is None  # the reference has no Korean
    assert second("mini", LANGUAGES) is None
    assert second("help", LANGUAGES, "") is None
    assert second("mini", ["en", "py"], "mini") == "mini"
    with pytest.raises(ValueError, match="languages='ko'"):
        second("help", ["en", "ko"], "reference")
    with pytest.raises(ValueError, match="corpus='atlas'"):
        second("help", LANGUAGES, "atlas")


# Names

CORPUS = Corpus("help", ["en", "fr"], "2026-11-25")
DATA = Data.of(open_setting("smoke", "mini", ["en", "fr"]))
CHANGES = {
    CORPUS: {"source": "reference", "languages": ["fr", "en"], "snapshot": "2026-11-26", "files_sha256": "0",
             "versions": {"python": "3.12.1"}, "characters": 1, "common_articles": True},
    DATA: {"corpus": CORPUS, "languages": ["fr", "en"], "vocab_size": 1_025, "context": 65,
           "tokens_per_language": 60_001, "max_diff_percent": 5.5, "validation_fraction": 0.07,
           "test_fraction": 0.07, "held_out_tokens": 70,
           "common_articles": False, "near_duplicates": 0.6, "shares": {"en": 2, "fr": 1}, "split_seed": 1,
           "read_by": dataclasses.replace(DATA, split_seed=2)},
    Fertility(DATA): {"data": dataclasses.replace(DATA, split_seed=1), "split": "test"},
    OtherRows(DATA, CORPUS, 5): {"data": dataclasses.replace(DATA, split_seed=1), "rows_per_language": 6,
                                 "corpus": dataclasses.replace(CORPUS, snapshot=""), "cut_characters": 1,
                                 "article_rows": 1}}


@pytest.mark.parametrize("recipe", CHANGES)
def test_each_field_changes_the_name(recipe):
    names = {field.name for field in dataclasses.fields(recipe) if not field.metadata.get("is_location")}
    assert set(CHANGES[recipe]) == names
    others = {dataclasses.replace(recipe, **{name: value}).name for name, value in CHANGES[recipe].items()}
    assert len({recipe.name, *others}) == 1 + len(names)


def test_where_a_corpus_lies_is_no_part_of_its_name_and_shares_are_one_value_in_any_order_and_form():
    assert dataclasses.replace(CORPUS, path="/elsewhere").name == CORPUS.name
    forms = [{"en": 2, "fr": 1}, {"fr": 1.0, "en": 2.0}, (("en", 2), ("fr", 1))]
    assert len({dataclasses.replace(DATA, shares=shares).name for shares in forms}) == 1


# What is built

def test_data_holds_the_setting_s_languages_in_its_order_and_says_what_it_holds(tiny_setting):
    recipe = Data.of(tiny_setting)
    data = recipe.open()
    assert data.languages == LANGUAGES and recipe.open() is data
    assert recipe.notes["rows"] == {split: len(data.rows(split)) for split in ("train", "validation", "test")}
    assert data.rows("train").shape[1] == TINY["context"] and len(data.tokenizer) == TINY["vocab_size"]
    texts = pd.read_parquet(recipe.folder / "documents.parquet")
    assert {"language", "article_id", "text", "split", "kept", "n_tokens", "n_bytes"} <= set(texts)
    assert all((recipe.folder / f"{name}.parquet").is_file() for name in ("steps", "removed", "copies"))


def test_data_of_some_languages_of_a_corpus_reads_those_in_its_own_order(tiny_setting):
    some = Data.of(tiny_setting, languages=["py", "fr"], split_seed=5)
    build_here(some)
    assert some.open().languages == ["py", "fr"]
    assert set(pd.read_parquet(some.folder / "documents.parquet").language) == {"py", "fr"}


def test_data_read_by_another_is_cut_by_its_tokenizer(tiny_setting):
    host, corpus = Data.of(tiny_setting), find_corpus("mini", ["es"], tiny_setting.scale)[0]
    added = Data.of(tiny_setting, corpus=corpus, languages=["es"], validation_fraction=0.2,
                    test_fraction=0.2, read_by=host)
    build_here(added)
    assert added.notes["token_sha256"] == host.notes["token_sha256"]
    assert added.open().languages == ["es"]


def test_other_rows_are_full_and_evenly_many_a_few_of_an_article(tiny_setting):
    recipe = OtherRows(Data.of(tiny_setting), tiny_setting.corpus, 6)
    build_here(recipe)
    rows, labels, article_ids = recipe.open()
    assert (rows.dtype, rows.shape) == (np.uint16, (24, TINY["context"]))
    assert labels.tolist() == sorted([0, 1, 2, 3] * 6) and recipe.notes == {"rows": 24}
    assert pd.Series(list(zip(labels, article_ids, strict=True))).value_counts().max() <= 4


def test_other_rows_of_a_corpus_that_fills_no_row_or_is_out_of_reach_are_missing(tiny_setting, monkeypatch):
    recipe = OtherRows(Data.of(tiny_setting), tiny_setting.corpus, 6, cut_characters=10)
    with pytest.raises(ValueError, match="has no text of en, fr, de, py that fills a row of 32 tokens"):
        build_here(recipe)
    assert not recipe.is_there
    def unreachable(*_):
        raise CorpusUnavailable("no network today")

    monkeypatch.setattr("mome.data.corpora.read_documents", unreachable)
    recipe = OtherRows(Data.of(tiny_setting), Corpus("reference", LANGUAGES, "1999-12-31"), 6)
    with pytest.raises(CorpusUnavailable, match="no network today"):
        build_here(recipe)
    assert recipe.is_optional and not recipe.is_there and not recipe.corpus.is_optional


def test_fertility_holds_the_shared_tokenizer_against_bytes_and_each_language_alone(tiny_setting):
    recipe = Fertility(Data.of(tiny_setting))
    build_here(recipe)
    table = recipe.open()
    assert table.tokenizer.unique().tolist() == ["shared", "bytes", *LANGUAGES]
    dear = table.pivot(index="language", columns="tokenizer", values="tokens_per_word")
    assert (dear.idxmax(axis=1) == "bytes").all()
    assert (dear.idxmin(axis=1) == dear.index).all()  # each language's own cuts it least


def test_the_mini_corpus_in_the_checkout_is_untouched_by_what_is_built(tiny_setting):
    assert str(tiny_setting.corpus.folder).startswith(os.environ["MOME_HOME"])
    assert find("mini", LANGUAGES).name == tiny_setting.corpus.name


@pytest.mark.parametrize("texts, words", [
    ({"en/a.txt": 400 * "a b ", "fr/a.txt": 400 * "a b "},
     ["'en' has 1 articles that all of en, fr have", "3 articles"]),
    ({f"{name}/{n}.txt": "short" for name in ("en", "fr") for n in range(9)},
     ["'en'", "45 bytes", "192 bytes"]),
    ({f"{name}/{name}{n}.txt": 400 * "a b " for name in ("en", "fr") for n in range(9)},
     ["'en' has 0 articles that"]),
    ({"en/a.jsonl": "{", "fr/a.jsonl": "{}"}, ["en/a.jsonl"])])
def test_a_text_that_is_too_short_is_said_by_language_and_numbers_before_anything_is_built(
        texts, words, tmp_path, own_home):
    for name, text in texts.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(text)
    with pytest.raises(ValueError) as error:
        open_setting("smoke", f"folder:{tmp_path}/texts", ["en", "fr"])
    assert all(word in str(error.value) for word in words), error.value
