"""A folder of one's own: which files are read as texts, what is refused by name, and what the hash is of."""

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from cases import each

from mome.config import repository
from mome.data import folder as folders
from mome.data.folder import corpus_folder, folder_documents, hash_folder, list_files

# Nothing of this is a text, wherever it lies; each is what some program leaves behind.
LEFTOVERS = {
    "hidden file": "en/.a.txt", "resource fork": "en/._a.txt", "lock of Emacs": "en/.#a.txt",
    "copy of Jupyter": "en/.ipynb_checkpoints/a-checkpoint.txt", "repository": "en/deep/.git/notes.md",
    "environment": "en/.venv/lib/a.py", "desktop": "en/.DS_Store", "backup": "en/a.txt~",
    "swap": "en/a.txt.swp", "auto-save": "en/#a.txt#", "compiled": "en/__pycache__/a.py",
    "dependency": "en/deep/node_modules/b/c.js", "backup of a folder": "en/deep~/a.txt",
    "photo": "en/apple.jpg", "beside the languages": "notes.txt", "another language": "it/a.txt"}


def write(root: Path, files: dict) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def read(folder: Path, *languages: str) -> list[dict]:
    return list(folder_documents(folder, list(languages)))


def texts(folder: Path) -> list[tuple[str, str]]:
    return [(row["article_id"], row["text"]) for row in read(folder, "en")]


# Which files are texts

def test_text_files_code_and_rows_of_json_are_read(tmp_path):
    write(tmp_path, {"en/a.txt": "apple", "en/deep/b.md": "bread", "en/c.py": "x = 1", "fr/a.txt": "pomme",
                     "en/e.jsonl": '{"text": "one"}\n\n{"text": "two", "article_id": 7}\n'})
    assert read(tmp_path, "en") == [
        {"language": "en", "article_id": article_id, "text": text} for article_id, text in
        [("a", "apple"), ("c", "x = 1"), ("deep/b", "bread"), ("e:0", "one"), ("7", "two")]]


def test_a_table_is_not_read_and_not_part_of_the_hash(tmp_path):
    write(tmp_path, {"en/a.txt": "apple"})
    before = hash_folder(tmp_path, ["en"])
    write(tmp_path, {"en/b.csv": "no;text", "en/c.json": "{}", "en/d.TXT": "later"})
    assert texts(tmp_path) == [("a", "apple")]
    assert hash_folder(tmp_path, ["en"]) == before


@each("name", LEFTOVERS.values())
def test_what_programs_leave_behind_is_neither_read_nor_part_of_the_hash(tmp_path, monkeypatch, name):
    # Not only because of its ending.
    monkeypatch.setattr(folders, "ENDINGS", folders.ENDINGS | {"", ".txt~", ".txt#", ".swp"})
    write(tmp_path, {"en/a.txt": "apple", "en/deep/b.md": "bread"})
    before, rows = hash_folder(tmp_path, ["en"]), read(tmp_path, "en")
    write(tmp_path, {name: "not a text"})
    assert read(tmp_path, "en") == rows
    assert hash_folder(tmp_path, ["en"]) == before


def test_marks_of_leftovers_elsewhere_in_a_path_leave_nothing_out(tmp_path):
    for name in (".cache", "node_modules", "old~"):
        write(tmp_path / name, {"en/a.txt": "apple"})
        assert texts(tmp_path / name) == [("a", "apple")]
    write(tmp_path / "deep", {"en/v1.txt/a.txt": "apple"})
    assert texts(tmp_path / "deep") == [("v1.txt/a", "apple")]
    names = ["a#b.txt", "a.swp.txt", "a~b.txt", "x.y.txt", "#1.txt"]
    write(tmp_path, {f"en/{name}": "text" for name in names})
    assert sorted(path.name for path in list_files(tmp_path / "en")) == sorted(names)


def test_a_folder_is_named_after_its_prefix_and_mini_lies_in_the_checkout(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert corpus_folder("folder:~/texts") == Path("/home/me/texts")
    assert corpus_folder("folder:texts/") == Path("texts")
    assert corpus_folder("mini") == repository() / "data" / "mini"


# Article ids

def test_translations_share_their_article_id_whatever_their_endings_and_code_does_not(tmp_path):
    write(tmp_path, {"en/fruit/a.txt": "apple", "fr/fruit/a.md": "pomme"})
    for language, text in {"en": "bread", "fr": "pain"}.items():
        pd.DataFrame({"text": [text]}).to_parquet(tmp_path / language / "b.parquet")
    rows = read(tmp_path, "en", "fr")
    assert [(row["language"], row["article_id"]) for row in rows] == [
        ("en", "b:0"), ("en", "fruit/a"), ("fr", "b:0"), ("fr", "fruit/a")]
    write(tmp_path, {"c/a.c": "int x;", "c/a.h": "extern int x;", "en/a.txt": "apple"})
    assert [row["article_id"] for row in read(tmp_path, "c", "en")] == ["a.c", "a.h", "a", "b:0", "fruit/a"]


def test_rows_have_their_own_ids_or_where_that_is_null_their_file_and_number(tmp_path):
    write(tmp_path, {"en/deep/z.txt": "last"})
    for name, columns in {
            "a": {"text": ["one", "two"]}, "deep/c": {"article_id": [7], "text": ["five"]},
            "deep/b": {"article_id": ["Q1", None], "text": ["three", "four"], "source": ["x", "y"]}}.items():
        pd.DataFrame(columns).to_parquet(tmp_path / f"en/{name}.parquet")
    assert texts(tmp_path) == [("a:0", "one"), ("a:1", "two"), ("Q1", "three"), ("deep/b:1", "four"),
                               ("7", "five"), ("deep/z", "last")]
    ids = [("one", None), ("two", "x"), ("three", 0)]
    lines = [json.dumps({"text": text, "article_id": article_id}) for text, article_id in ids]
    write(tmp_path / "json", {"en/a.jsonl": "\n".join(lines)})
    assert texts(tmp_path / "json") == [("a:0", "one"), ("x", "two"), ("0", "three")]


# Letters

@each("name, content, text", [
    ("a.txt", "apple".encode("utf-8-sig"), "apple"), ("a.jsonl", '{"text": "a"}'.encode("utf-8-sig"), "a"),
    ("a.jsonl", '{"text": "one\u2028two"}', "one\u2028two"),
    ("a.jsonl", '{"text": "one\x85two"}', "one\x85two"),
    ("a.jsonl", '{"text": "\\ud83c\\udf4e"}', "\U0001f34e")])
def test_a_byte_order_mark_is_no_part_of_a_text_and_a_line_mark_or_rare_character_in_json_is(
        tmp_path, name, content, text):
    write(tmp_path, {f"en/{name}": content})
    assert [found for _, found in texts(tmp_path)] == [text]


def test_an_empty_document_is_left_out_and_named(tmp_path, caplog):
    write(tmp_path, {"en/a.txt": " \n", "en/b.txt": "bread", "en/c.jsonl": '{"text": ""}\n{"text": "two"}',
                     "en/d.txt": b""})
    assert texts(tmp_path) == [("b", "bread"), ("c:1", "two")]
    for name in ("a.txt", "c.jsonl", "d.txt"):
        assert f"{tmp_path}/en/{name}: row 1 is empty" in caplog.text


# What is refused, by name

UNREADABLE, BINARY = "cannot be read as UTF-8", "row {} holds zero bytes, so it is binary"
HALF = r"row 2 holds '\\ud.*half a character, so it is not"
NO_TEXT = r"row \d is not allowed; every row must have a text"


@each("name, content, said", [
    ("a.txt", "été".encode("latin-1"), f"{UNREADABLE} txt"),
    ("a.md", "été".encode("utf-16"), f"{UNREADABLE} md"),
    ("a.jsonl", '{"text": "été"}'.encode("latin-1"), f"{UNREADABLE} jsonl"),
    *(("a.jsonl", '{"text": "good"}\n' + line, f"{UNREADABLE} jsonl") for line in (
        '{"text": "half', "text", "{'text': 'single quotes'}", 100_000 * "[")),
    ("a.txt", b"\x7fELF\0\0\0", BINARY.format(1)), ("a.py", b"text\0", BINARY.format(1)),
    ("a.jsonl", b'{"text": "good"}\n{"text": "zero \\u0000 byte"}', BINARY.format(2)),
    *(("a.jsonl", '{"text": "good"}\n' + line, HALF) for line in (
        '{"text": "half \\ud83c"}', '{"text": "a", "article_id": "\\udf4e"}')),
    *(("a.jsonl", line, NO_TEXT) for line in (
        '{"txt": "a"}', '"a"', "[1]", '{"text": null}', '{"text": 3}'))])
def test_what_is_no_text_is_refused_with_its_file_its_row_and_the_reason(tmp_path, name, content, said):
    write(tmp_path, {"en/good.txt": "good", f"en/{name}": content})
    with pytest.raises(ValueError, match=rf"en/{re.escape(name)}:? {said}"):
        read(tmp_path, "en")


def test_a_file_name_that_is_not_utf8_is_refused_in_words_that_can_be_printed(tmp_path):
    write(tmp_path, {"en/good.txt": "good"})
    try:
        (tmp_path / "en" / os.fsdecode(b"\xe9t\xe9.txt")).write_text("summer")
    except OSError:
        pytest.skip("this file system refuses such names")
    with pytest.raises(ValueError, match=r"en/\?t\?\.txt: row 1 holds .* half a character") as error:
        read(tmp_path, "en")
    str(error.value).encode()
    assert len(hash_folder(tmp_path, ["en"])) == 64


@each("kept", [0, 100, -1])
def test_a_parquet_file_that_is_damaged_or_has_a_row_without_text_is_named(tmp_path, kept):
    write(tmp_path, {"en/good.txt": "good"})
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "en/a.parquet")
    write(tmp_path, {"en/a.parquet": (tmp_path / "en/a.parquet").read_bytes()[:kept]})
    with pytest.raises(ValueError, match=r"en/a\.parquet cannot be read as Parquet"):
        read(tmp_path, "en")
    for columns in ({"body": ["one"]}, {"text": [1]}, {"text": ["one", None]}):
        pd.DataFrame(columns).to_parquet(tmp_path / "en/a.parquet")
        with pytest.raises(ValueError, match=rf"en/a\.parquet: {NO_TEXT}"):
            read(tmp_path, "en")


# The hash

def test_the_hash_changes_with_a_letter_and_with_a_name_and_comes_back(tmp_path):
    languages = ["en", "fr"]
    for language in languages:
        shutil.copytree(repository() / "data/mini" / language, tmp_path / language)
    mini = hash_folder(corpus_folder("mini"), languages)
    assert hash_folder(tmp_path, languages) == mini
    apple = tmp_path / "fr/apple.txt"
    text = apple.read_text(encoding="utf-8")
    apple.write_text(text + " ", encoding="utf-8")
    assert hash_folder(tmp_path, languages) != mini
    apple.write_text(text, encoding="utf-8")
    assert hash_folder(tmp_path, languages) == mini
    apple.rename(tmp_path / "fr/pomme.txt")
    assert hash_folder(tmp_path, languages) != mini


def test_the_same_folder_has_one_hash_however_its_path_is_written(tmp_path, monkeypatch):
    write(tmp_path, {"h/en/a.txt": "apple"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = ["h", "h/", "./h", "~/h", f"{tmp_path}/h", f"{tmp_path}/h/"]
    assert len({hash_folder(corpus_folder(f"folder:{path}"), ["en"]) for path in paths}) == 1
    assert hash_folder("h/", ["en"]) == hash_folder(Path("h"), ["en"])


def test_what_moves_between_files_or_into_a_name_is_another_state_of_the_languages_asked_for(tmp_path):
    states = [{"en/a.txt": "xy", "en/b.txt": ""}, {"en/a.txt": "x", "en/b.txt": "y"}, {"en/ab.txt": "xy"},
              {"en/a.txt": "", "en/b.txt": "xy"}, {"en/a/b.txt": "xy"}, {"fr/ab.txt": "xy"}]
    for number, files in enumerate(states):
        write(tmp_path / str(number), files)
    hashes = {hash_folder(tmp_path / str(number), ["en", "fr"]) for number in range(len(states))}
    assert len(hashes) == len(states)
    both, one = hash_folder(tmp_path / "0", ["en", "fr"]), hash_folder(tmp_path / "0", ["en"])
    write(tmp_path / "0", {"fr/a.txt": "poire"})  # which is not asked for in one of them
    assert hash_folder(tmp_path / "0", ["en"]) == one
    assert hash_folder(tmp_path / "0", ["fr", "en"]) == hash_folder(tmp_path / "0", ["en", "fr"]) != both
