"""A folder of one's own: which files are read as texts, what is refused by name, and what the hash is of."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

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


@pytest.mark.parametrize("name", LEFTOVERS.values(), ids=LEFTOVERS)
def test_what_programs_leave_behind_is_neither_read_nor_part_of_the_hash(tmp_path, monkeypatch, name):
    # Not only because of its ending.
    monkeypatch.setattr(folders, "ENDINGS", folders.ENDINGS | {"", ".txt~", ".txt#", ".swp"})
    write(tmp_path, {"en/a.txt": "apple", "en/deep/b.md": "bread"})
    before, rows = hash_folder(tmp_path, ["en"]), read(tmp_path, "en")
    write(tmp_path, {name: "not a text"})
    assert read(tmp_path, "en") == rows
    assert hash_folder(tmp_path, ["en"]) == before


def test_only_names_below_the_language_decide_what_is_left_out(tmp_path):
    for name in (".cache", "node_modules", "old~"):
        write(tmp_path / name, {"en/a.txt": "apple"})
        assert texts(tmp_path / name) == [("a", "apple")]


def test_a_folder_that_ends_like_a_file_is_walked_through(tmp_path):
    write(tmp_path, {"en/v1.txt/a.txt": "apple"})
    assert texts(tmp_path) == [("v1.txt/a", "apple")]


def test_names_with_marks_of_leftovers_within_them_are_texts(tmp_path):
    names = ["a#b.txt", "a.swp.txt", "a~b.txt", "x.y.txt", "#1.txt"]
    write(tmp_path, {f"en/{name}": "text" for name in names})
    assert sorted(path.name for path in list_files(tmp_path / "en")) == sorted(names)


def test_a_folder_is_named_after_its_prefix_and_mini_lies_in_the_checkout(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert corpus_folder("folder:~/texts") == Path("/home/me/texts")
    assert corpus_folder("folder:texts/") == Path("texts")
    assert corpus_folder("mini") == repository() / "data" / "mini"


# Article ids

def test_translations_share_their_article_id_whatever_their_endings(tmp_path):
    write(tmp_path, {"en/fruit/a.txt": "apple", "fr/fruit/a.md": "pomme"})
    for language, text in {"en": "bread", "fr": "pain"}.items():
        pd.DataFrame({"text": [text]}).to_parquet(tmp_path / language / "b.parquet")
    rows = read(tmp_path, "en", "fr")
    assert [(row["language"], row["article_id"]) for row in rows] == [
        ("en", "b:0"), ("en", "fruit/a"), ("fr", "b:0"), ("fr", "fruit/a")]


def test_code_files_that_differ_in_their_ending_are_two_articles(tmp_path):
    write(tmp_path, {"c/a.c": "int x;", "c/a.h": "extern int x;", "en/a.txt": "apple"})
    assert [row["article_id"] for row in read(tmp_path, "c", "en")] == ["a.c", "a.h", "a"]


def test_rows_of_parquet_have_their_own_ids_or_their_file_and_number(tmp_path):
    write(tmp_path, {"en/deep/z.txt": "last"})
    for name, columns in {
            "a": {"text": ["one", "two"]}, "deep/c": {"article_id": [7], "text": ["five"]},
            "deep/b": {"article_id": ["Q1", None], "text": ["three", "four"], "source": ["x", "y"]}}.items():
        pd.DataFrame(columns).to_parquet(tmp_path / f"en/{name}.parquet")
    assert texts(tmp_path) == [("a:0", "one"), ("a:1", "two"), ("Q1", "three"), ("deep/b:1", "four"),
                               ("7", "five"), ("deep/z", "last")]


def test_an_article_id_of_null_is_not_given_and_one_of_zero_is(tmp_path):
    ids = [("one", None), ("two", "x"), ("three", 0)]
    lines = [json.dumps({"text": text, "article_id": article_id}) for text, article_id in ids]
    write(tmp_path, {"en/a.jsonl": "\n".join(lines)})
    assert texts(tmp_path) == [("a:0", "one"), ("x", "two"), ("0", "three")]


# Letters

@pytest.mark.parametrize(("name", "content"), [("a.txt", "apple"), ("a.jsonl", '{"text": "apple"}')])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, name, content):
    write(tmp_path, {f"en/{name}": content.encode("utf-8-sig")})
    assert [text for _, text in texts(tmp_path)] == ["apple"]


@pytest.mark.parametrize("mark", ["\u2028", "\x85"])
def test_a_unicode_line_mark_within_a_json_string_stays(tmp_path, mark):
    write(tmp_path, {"en/a.jsonl": json.dumps({"text": f"one{mark}two"}, ensure_ascii=False)})
    assert texts(tmp_path) == [("a:0", f"one{mark}two")]


def test_a_character_beyond_the_first_plane_is_whole_in_json(tmp_path):
    write(tmp_path, {"en/a.jsonl": '{"text": "\\ud83c\\udf4e"}'})
    assert texts(tmp_path) == [("a:0", "\U0001f34e")]


def test_an_empty_document_is_left_out_and_named(tmp_path, caplog):
    write(tmp_path, {"en/a.txt": " \n", "en/b.txt": "bread", "en/c.jsonl": '{"text": ""}\n{"text": "two"}',
                     "en/d.txt": b""})
    assert texts(tmp_path) == [("b", "bread"), ("c:1", "two")]
    for name in ("a.txt", "c.jsonl", "d.txt"):
        assert f"{tmp_path}/en/{name}: row 1 is empty" in caplog.text


# What is refused, by name

@pytest.mark.parametrize(("encoding", "ending"), [("latin-1", "txt"), ("utf-16", "jsonl"), ("cp1252", "c"),
                                                  ("latin-1", "jsonl"), ("utf-16", "md")])
def test_a_file_that_is_not_utf8_is_named(tmp_path, encoding, ending):
    write(tmp_path, {"fr/good.txt": "bon", f"fr/a.{ending}": '{"text": "été"}'.encode(encoding)})
    with pytest.raises(ValueError, match=rf"fr/a\.{ending} cannot be read as UTF-8 {ending}"):
        read(tmp_path, "fr")


@pytest.mark.parametrize(("name", "content", "row"), [
    ("a.txt", b"\x7fELF\0\0\0", 1), ("a.txt", "plain".encode("utf-16-le"), 1), ("a.py", b"text\0", 1),
    ("a.jsonl", b'{"text": "good"}\n{"text": "zero \\u0000 byte"}', 2)])
def test_a_binary_file_and_its_row_are_named(tmp_path, name, content, row):
    write(tmp_path, {"en/good.txt": "good", f"en/{name}": content})
    with pytest.raises(ValueError, match=rf"en/{name}: row {row} holds zero bytes, so it is binary"):
        read(tmp_path, "en")


@pytest.mark.parametrize("line", ['{"text": "half \\ud83c"}', '{"text": "a", "article_id": "\\udf4e"}'])
def test_half_a_character_in_a_text_or_an_id_names_the_file_and_the_row(tmp_path, line):
    write(tmp_path, {"en/a.jsonl": '{"text": "good"}\n' + line})
    with pytest.raises(ValueError, match=r"en/a\.jsonl: row 2 holds '\\ud.*half a character, so it is not"):
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


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_parquet_file_is_named(tmp_path, kept):
    write(tmp_path, {"en/good.txt": "good"})
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "en/a.parquet")
    write(tmp_path, {"en/a.parquet": (tmp_path / "en/a.parquet").read_bytes()[:kept]})
    with pytest.raises(ValueError, match=r"en/a\.parquet cannot be read as Parquet"):
        read(tmp_path, "en")


@pytest.mark.parametrize("columns", [{"body": ["one"]}, {"text": [1]}, {"text": ["one", None]}])
def test_a_parquet_row_without_text_names_its_file(tmp_path, columns):
    (tmp_path / "en").mkdir()
    pd.DataFrame(columns).to_parquet(tmp_path / "en/a.parquet")
    with pytest.raises(ValueError, match=r"en/a\.parquet: row \d is not allowed; every row must have a text"):
        read(tmp_path, "en")


@pytest.mark.parametrize("line", ['{"txt": "a"}', '"a"', "[1]", '{"text": null}', '{"text": 3}'])
def test_a_json_line_without_text_names_its_file(tmp_path, line):
    write(tmp_path, {"en/a.jsonl": line})
    with pytest.raises(ValueError, match=r"en/a\.jsonl: row 1 is not allowed; every row must have a text"):
        read(tmp_path, "en")


@pytest.mark.parametrize("line", ['{"text": "half', "text", "{'text': 'single quotes'}",
                                  pytest.param(100_000 * "[", id="deep")])
def test_a_line_that_is_not_json_names_its_file(tmp_path, line):
    write(tmp_path, {"en/a.jsonl": '{"text": "good"}\n' + line})
    with pytest.raises(ValueError, match=r"en/a\.jsonl cannot be read as UTF-8 jsonl"):
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


def test_the_hash_is_of_the_chosen_languages_in_any_order(tmp_path):
    write(tmp_path, {"en/a.txt": "apple", "fr/a.txt": "pomme"})
    both, one = hash_folder(tmp_path, ["en", "fr"]), hash_folder(tmp_path, ["en"])
    assert hash_folder(tmp_path, ["fr", "en"]) == both != one
    write(tmp_path, {"fr/a.txt": "poire"})
    assert hash_folder(tmp_path, ["en"]) == one
    assert hash_folder(tmp_path, ["en", "fr"]) != both


def test_the_same_folder_has_one_hash_however_its_path_is_written(tmp_path, monkeypatch):
    write(tmp_path, {"h/en/a.txt": "apple"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = ["h", "h/", "./h", "~/h", f"{tmp_path}/h", f"{tmp_path}/h/"]
    assert len({hash_folder(corpus_folder(f"folder:{path}"), ["en"]) for path in paths}) == 1
    assert hash_folder("h/", ["en"]) == hash_folder(Path("h"), ["en"])


def test_what_moves_between_files_or_into_a_name_is_another_state(tmp_path):
    states = [{"en/a.txt": "xy", "en/b.txt": ""}, {"en/a.txt": "x", "en/b.txt": "y"}, {"en/ab.txt": "xy"},
              {"en/a.txt": "", "en/b.txt": "xy"}, {"en/a/b.txt": "xy"}, {"fr/ab.txt": "xy"}]
    for number, files in enumerate(states):
        write(tmp_path / str(number), files)
    hashes = {hash_folder(tmp_path / str(number), ["en", "fr"]) for number in range(len(states))}
    assert len(hashes) == len(states)
