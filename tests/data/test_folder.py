"""A folder of one's own: which files are read as texts, what is refused by name, and what the hash is of."""

import bz2
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pyarrow
import pytest

from mome.config import repository
from mome.data import files as places
from mome.data.folder import CorpusUnavailable, corpus_folder, folder_documents, hash_folder

# Nothing of this is a text, wherever it lies; each is what some program leaves behind.
LEFTOVERS = {
    "hidden file": "en/.a.txt", "resource fork": "en/._a.txt", "lock of Emacs": "en/.#a.txt",
    "copy of Jupyter": "en/.ipynb_checkpoints/a-checkpoint.txt", "repository": "en/deep/.git/notes.md",
    "environment": "en/.venv/lib/a.py", "desktop": "en/.DS_Store", "backup": "en/a.txt~",
    "swap": "en/a.txt.swp", "auto-save": "en/#a.txt#", "compiled": "en/__pycache__/a.py",
    "dependency": "en/deep/node_modules/b/c.js", "backup of a folder": "en/deep~/a.txt",
    "photo": "en/apple.jpg", "Windows": "en/Thumbs.db", "settings of a folder": "en/deep/Desktop.INI",
    "resource forks of a zip": "en/__MACOSX/a.txt", "environment in sight": "en/venv/a.txt",
    "what was built": "en/_build/a.txt", "installed": "en/lib/site-packages/a.txt", "CVS": "en/CVS/a.txt",
    "beside the languages": "notes.txt", "another language": "it/a.txt"}


def write(root: Path, contents: dict) -> None:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def read(folder: Path, *languages: str) -> list[dict]:
    return list(folder_documents(folder, list(languages)))


def texts(folder: Path) -> list[tuple[str, str]]:
    return [(row["article_id"], row["text"]) for row in read(folder, "en")]


# Which files are texts

def test_texts_of_any_usual_ending_in_any_case_and_rows_are_read_and_code_is_not(tmp_path):
    write(tmp_path, {"en/a.TXT": "apple", "en/deep/b.Md": "bread", "en/c.py": "x = 1", "en/d.rst": "dates",
                     "en/e.jsonl": '{"text": "one"}\n\n{"text": "two", "article_id": 7}\n',
                     "en/f.HTML": "<title>no</title><h1>figs</h1><p>are\nripe</p><script>no</script>",
                     "en/g.json": '[{"id": "g", "text": "grape"}]', "en/h.csv": 'text,id\n"h, and",8.0\n',
                     "en/i.ndjson": '{"text": "iris"}', "en/j.tsv": "id\ttext\n9\tjam\n"})
    assert texts(tmp_path) == [
        ("a", "apple"), ("d", "dates"), ("deep/b", "bread"), ("e:0", "one"), ("7", "two"),
        ("f", "figs\nare ripe"), ("g", "grape"), ("8", "h, and"), ("i:0", "iris"), ("9", "jam")]


@pytest.mark.parametrize("ending, pack", [
    (".gz", gzip.compress), (".BZ2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)])
def test_a_compressed_file_reads_as_the_file_itself_and_one_cut_short_is_refused(tmp_path, ending, pack):
    pd.DataFrame({"text": ["two"]}).to_parquet(tmp_path / "b")
    table = (tmp_path / "b").read_bytes()
    write(tmp_path, {f"en/a.txt{ending}": pack(b"one"), f"en/b.parquet{ending}": pack(table),
                     f"py/c.py{ending}": pack(b"x = 1")})
    assert texts(tmp_path) == [("a", "one"), ("b:0", "two")]
    assert read(tmp_path, "py")[0]["article_id"] == "c.py"
    write(tmp_path, {f"en/a.txt{ending}": pack(b"one" * 99)[:-9]})
    with pytest.raises(ValueError, match=rf"en/a\.txt{ending} cannot be read: "):
        read(tmp_path, "en")


@pytest.mark.parametrize("name", LEFTOVERS.values())
def test_what_programs_leave_behind_is_neither_read_nor_part_of_the_hash_and_is_counted(
        tmp_path, monkeypatch, name):
    # Not only because of its ending.
    monkeypatch.setattr(places, "TEXT", places.TEXT | {"", ".txt~", ".txt#", ".swp", ".py", ".db", ".ini"})
    write(tmp_path, {"en/a.txt": "apple", "en/deep/b.md": "bread"})
    before, rows = hash_folder(tmp_path, ["en"]), read(tmp_path, "en")
    write(tmp_path, {name: "not a text"})
    report = {}
    assert list(folder_documents(tmp_path, ["en"], report)) == rows
    assert hash_folder(tmp_path, ["en"]) == before
    (about,) = report.values()
    assert about["files"] == 2
    told = [entry for entry in about["left_out"].values() if name.startswith(entry["first"][0])]
    assert [entry["count"] for entry in told] == [1] * name.startswith("en/") == [1] * len(about["left_out"])


def test_marks_of_leftovers_elsewhere_in_a_path_leave_nothing_out(tmp_path):
    for name in (".cache", "node_modules", "old~"):
        write(tmp_path / name, {"en/a.txt": "apple"})
        assert texts(tmp_path / name) == [("a", "apple")]
    write(tmp_path / "deep", {"en/v1.txt/a.txt": "apple"})
    assert texts(tmp_path / "deep") == [("v1.txt/a", "apple")]
    names = ["a#b.txt", "a.swp.txt", "a~b.txt", "x.y.txt", "#1.txt"]
    write(tmp_path, {f"en/{name}": "text" for name in names})
    assert sorted(name for name, _ in texts(tmp_path)) == sorted(name.removesuffix(".txt") for name in names)


def test_a_folder_is_named_after_its_prefix_and_mini_lies_in_the_checkout(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert corpus_folder("folder:~/texts") == Path("/home/me/texts")
    assert corpus_folder("folder:texts/") == Path("texts")
    assert corpus_folder("mini") == repository() / "data" / "mini"


# Article ids

def test_translations_share_their_article_id_whatever_their_endings_and_code_does_not(tmp_path):
    write(tmp_path, {"en/fruit/a.txt": "apple", "fr/fruit/a.md.gz": gzip.compress(b"pomme")})
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


def test_ids_meet_across_number_types_and_forms_of_unicode_and_one_that_stands_twice_is_refused(tmp_path):
    write(tmp_path, {f"en/{unicodedata.normalize('NFD', 'été')}.txt": "summer", "en/1.txt": "one"})
    write(tmp_path, {"fr/été.txt": "été", "fr/a.jsonl": '{"article_id": 1, "text": "un"}\n'})
    write(tmp_path, {"de/a.csv": "text;article_id\neins;1.0\nSommer;e\u0301te\u0301\n"})
    pd.DataFrame({"text": ["zero", "uno"], "id": [None, 1.0]}).to_parquet(tmp_path / "it.parquet")
    found = [{row["article_id"] for row in read(tmp_path, language)} for language in ("en", "fr", "de", "it")]
    assert found == [{"1", "été"}] * 3 + [{"0", "1"}]
    write(tmp_path, {"fr/1.txt": "encore"})
    said = r"article_id='1' stands more than once in language 'fr' .*/fr/1\.txt and .*/fr/a\.jsonl: line 1;"
    with pytest.raises(ValueError, match=said):
        read(tmp_path, "fr")


# Letters

@pytest.mark.parametrize("name, content, text", [
    *(("a.txt", "àpple".encode(encoding), "àpple") for encoding in ("utf-8-sig", "utf-16", "utf-32")),
    ("a.html", '<meta charset="latin-1"><p>été'.encode("latin-1"), "été"),
    ("a.jsonl", '{"text": "a"}'.encode("utf-8-sig"), "a"),
    ("a.jsonl", '{"text": "one\u2028two"}', "one\u2028two"),
    ("a.jsonl", '{"text": "one\x85two"}', "one\x85two"),
    ("a.jsonl", '{"text": "\\ud83c\\udf4e"}', "\U0001f34e")])
def test_a_byte_order_mark_is_no_part_of_a_text_and_a_line_mark_or_rare_character_in_json_is(
        tmp_path, name, content, text):
    write(tmp_path, {f"en/{name}": content})
    assert [found for _, found in texts(tmp_path)] == [text]


def test_an_empty_document_is_left_out_counted_and_named(tmp_path, caplog):
    write(tmp_path, {"en/a.txt": " \n", "en/b.txt": "bread", "en/c.jsonl": '{"text": ""}\n{"text": "two"}',
                     "en/d.txt": b"", "en/e.json": "[]",
                     "en/f.json": '{"name": "settings"}',
                     "en/g.csv": "text"})
    report = {}
    rows = list(folder_documents(tmp_path, ["en"], report))
    assert [(row["article_id"], row["text"]) for row in rows] == [("b", "bread"), ("c:1", "two")]
    assert report == {"en": {"files": 2, "said": "", "left_out": {
        "empty": {"count": 3, "first": ["en/a.txt", "en/d.txt", "en/g.csv"]},
        "rows or lines without a text": {"count": 1, "first": ["c.jsonl: line 1"]},
        "JSON without a list of rows": {"count": 2, "first": ["en/e.json", "en/f.json"]}}}}
    assert caplog.messages == []
    read(tmp_path, "en")
    assert caplog.messages == [
        "English: 3 left out, empty: en/a.txt, en/d.txt, en/g.csv",
        "English: 1 left out, rows or lines without a text: c.jsonl: line 1",
        "English: 2 left out, JSON without a list of rows: en/e.json, en/f.json"]


# What is refused, by name

NOT_UTF8, BINARY = "cannot be read as UTF-8", "holds zero bytes, so it is binary"
NO_TEXT = "is not allowed; every row must have a text"
HALF = r"holds '\\ud.*half a character, so it is not"


@pytest.mark.parametrize("name, content, said", [
    ("a.txt", "one\nétés".encode("latin-1"), f": line 2 {NOT_UTF8}"),
    ("a.md", "été".encode("utf-16-le"), f": line 1 {NOT_UTF8} .*UTF-16 without a mark"),
    ("a.rst", "ete".encode("utf-16-le"), f": line 1 {BINARY}"),
    ("a.jsonl", '{"text": "a"}\n{"text": "été"}'.encode("latin-1"), f": line 2 {NOT_UTF8}"),
    ("a.html", "<p>été".encode("latin-1"), f": line 1 {NOT_UTF8}"),
    *(("a.jsonl", '{"text": "good"}\n' + line, ": line 2 cannot be read as JSON") for line in (
        '{"text": "half', "text", "{'text': 'single quotes'}", 100_000 * "[", 5_000 * "1")),
    ("a.json", '[{"text": "good"}', " cannot be read as JSON"),
    ("a.txt", b"\x7fELF\0\0\0", f": line 1 {BINARY}"), ("a.txt", b"a\ntext\0", f": line 2 {BINARY}"),
    ("a.jsonl", b'{"text": "good"}\n{"text": "zero \\u0000 byte"}', f": line 2 {BINARY}"),
    ("a.jsonl", '{"text": "good"}\n\n{"text": "half \\ud83c"}', f": line 3 {HALF}"),
    ("a.jsonl", '{"text": "a", "article_id": "\\udf4e"}', f": line 1, article_id {HALF}"),
    *(("a.jsonl", line, f": line 1 {NO_TEXT}") for line in (
        '{"txt": "a"}', '"a"', "[1]", '{"text": null}', '{"text": 3}')),
    ("a.json", '[{"text": "a"}, {"text": 3}]', f": row 2 {NO_TEXT}"),
    ("a.jsonl", '{"text": "a", "id": [1]}', r": line 1, id=\[1\] is not allowed"),
    ("a.csv", "title,body\na,b\n", " has no column text; its columns are: title, body"),
    ("a.csv", "text,id,text\na,1,b\n", ": column text stands 2 times"),
    ("a.csv", "id,text\n1,one, two\n", ": line 2 has 3 fields, but its head 2"),
    ("a.csv", 'id,text\n1,"one\n', ": line 2 cannot be read as a table")])
def test_what_is_no_text_is_refused_with_its_file_its_line_and_the_reason(tmp_path, name, content, said):
    write(tmp_path, {"en/good.txt": "good", f"en/{name}": content})
    with pytest.raises(ValueError, match=rf"en/{re.escape(name)}{said}"):
        read(tmp_path, "en")


def test_a_file_name_that_is_not_utf8_is_refused_before_reading_in_words_that_can_be_printed(tmp_path):
    write(tmp_path, {"en/good.txt": "good"})
    try:
        (tmp_path / "en" / os.fsdecode(b"\xe9t\xe9.txt")).write_text("summer")
    except OSError:
        pytest.skip("this file system refuses such names")
    with pytest.raises(ValueError, match=r"en/\\xe9t\\xe9\.txt: its name is not UTF-8; rename it") as error:
        hash_folder(tmp_path, ["en"])
    str(error.value).encode()


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_parquet_file_that_is_damaged_or_has_a_row_without_text_is_named(tmp_path, kept):
    write(tmp_path, {"en/good.txt": "good"})
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "en/a.parquet")
    write(tmp_path, {"en/a.parquet": (tmp_path / "en/a.parquet").read_bytes()[:kept]})
    with pytest.raises(ValueError, match=r"en/a\.parquet cannot be read as Parquet"):
        read(tmp_path, "en")
    for columns, said in (
            ({"body": ["one"]}, " has no column text; its columns are: body"),
            ({"text": [1]}, ": column text is of int64"), ({"text": [["a"]]}, ": column text is of list"),
            ({"text": ["one", None]}, f": row 2 {NO_TEXT}"),
            ({"text": ["one"], "id": [{"a": 1}]}, ": row 1, id={'a': 1} is not allowed")):
        pd.DataFrame(columns).to_parquet(tmp_path / "en/a.parquet")
        with pytest.raises(ValueError, match=rf"en/a\.parquet{said}"):
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
    for number in range(len(states)):
        write(tmp_path / str(number), {"en/z.txt": "z", "fr/z.txt": "z"})
    hashes = {hash_folder(tmp_path / str(number), ["en", "fr"]) for number in range(len(states))}
    assert len(hashes) == len(states)
    both, one = hash_folder(tmp_path / "0", ["en", "fr"]), hash_folder(tmp_path / "0", ["en"])
    write(tmp_path / "0", {"fr/a.txt": "poire"})  # which is not asked for in one of them
    assert hash_folder(tmp_path / "0", ["en"]) == one
    assert hash_folder(tmp_path / "0", ["fr", "en"]) == hash_folder(tmp_path / "0", ["en", "fr"]) != both


# Languages and their folders

def test_code_lies_in_a_folder_of_any_usual_name_holds_its_own_endings_only_and_has_one_folder(tmp_path):
    write(tmp_path, {"Python/a.PY": "x = 1", "Python/LICENSE.txt": "MIT", "Python/guide.md": "read",
                     "Python/package.json": "{}", "Python/vendor/b.py": "x = 2", "Python/rows.jsonl": "{",
                     "sh/a.sh": "ls", "C++/a.hpp": "int x;"})
    before, report = hash_folder(tmp_path, ["py"]), {}
    rows = list(folder_documents(tmp_path, ["py", "bash", "cpp"], report))
    assert [(row["language"], row["article_id"]) for row in rows] == [
        ("py", "a.PY"), ("bash", "a.sh"), ("cpp", "a.hpp")]
    counts = {reason: entry["count"] for reason, entry in report["py"]["left_out"].items()}
    assert counts == {"not of this programming language": 3, "built, fetched or versioned": 1,
                      "rows beside code": 1}
    (tmp_path / "Python").rename(tmp_path / "py")
    assert hash_folder(tmp_path, ["py"]) == before
    write(tmp_path, {"python3/a.py": "x = 1"})
    with pytest.raises(ValueError, match=r"languages='py': .*/py and .*/python3 are both of this language"):
        hash_folder(tmp_path, ["py"])
    write(tmp_path, {"js/rows.jsonl": '{"text": "let x;"}'})
    assert [row["text"] for row in read(tmp_path, "js")] == ["let x;"]


def test_links_are_followed_once_and_each_real_file_is_read_once_a_language(tmp_path):
    write(tmp_path, {"en/a.txt": "apple", "far/b.txt": "bread", "far/deep/c.txt": "corn"})
    for name, target in {"en/deep": "../far", "en/loop": ".", "en/up": "..", "en/again.txt": "a.txt",
                         "en/self.txt": "self.txt", "far/deep/back": "..", "fr": "far"}.items():
        (tmp_path / name).symlink_to(target)
    report = {}
    rows = list(folder_documents(tmp_path, ["en", "fr"], report))
    assert [(row["language"], row["article_id"]) for row in rows] == [
        ("en", "a"), ("en", "deep/b"), ("en", "deep/deep/c"), ("fr", "b"), ("fr", "deep/c")]
    assert report["en"]["left_out"]["broken links"]["first"] == ["en/self.txt"]
    again = report["en"]["left_out"]["links to what is read already"]["first"]
    assert {"en/again.txt", "en/loop", "en/deep/deep/back"} <= set(again)


def test_one_file_a_language_of_as_many_lines_is_an_article_a_line(tmp_path, caplog):
    english, french = "one\n\nthree\n", "un\r\ndeux\r\ntrois"
    write(tmp_path / "a", {"en.txt": english, "FR.txt.gz": gzip.compress(french.encode())})
    write(tmp_path / "b", {"Talks.en-fr.en": english, "Talks.en-fr.fr": french, "README": "of OPUS"})
    write(tmp_path / "c", {"en/all.txt": english, "fr/tout.txt": french + "\n", "py/a.py": "x"})
    for name in "abc":
        found = [tuple(row.values()) for row in read(tmp_path / name, "en", "fr")]
        assert found == [("en", "1", "one"), ("en", "3", "three"),
                         ("fr", "1", "un"), ("fr", "2", "deux"), ("fr", "3", "trois")]
    assert caplog.messages[-3:] == ["English: all.txt, its one file, has 3 lines: line n is article n",
                                    "English: 1 left out, rows or lines without a text: all.txt: line 2",
                                    "French: tout.txt, its one file, has 3 lines: line n is article n"]
    write(tmp_path / "c", {"fr/tout.txt": "un"})
    assert len(read(tmp_path / "c", "en", "fr")) == 2
    assert caplog.messages[-1] == ("French: tout.txt, its one file, has 1 lines: read as one article, as "
                                   "the languages' files have 3, 1")
    write(tmp_path / "a", {"b.en": "two"})
    with pytest.raises(ValueError, match=r"'en': .*/b\.en and .*/en\.txt are both of this language"):
        read(tmp_path / "a", "en", "fr")


def test_the_rows_that_mome_data_writes_are_read_back_each_by_its_language(tmp_path):
    rows = [{"language": language, "article_id": article_id, "text": f"{language} {article_id}"}
            for language, article_id in (("en", "a"), ("fr", "a"), ("en", "b"), ("fr", "b"), ("py", "c.py"))]
    write(tmp_path, {"train.json": json.dumps(rows[:3]), "test.json": json.dumps(rows[3:]),
                     "README.md": "card", "tokenizer/tokenizer.json": "{}"})
    pd.DataFrame(rows).to_parquet(tmp_path / "documents.parquet")
    report = {}
    found = list(folder_documents(tmp_path, ["en", "fr", "py"], report))
    assert sorted(map(str, found)) == sorted(map(str, rows))
    assert report["en"]["left_out"] == {
        "rows beside those of train.json": {"count": 1, "first": ["documents.parquet"]}}
    with pytest.raises(CorpusUnavailable, match="de without texts"):
        read(tmp_path, "de")
    write(tmp_path, {"de/train.json": json.dumps([*rows, {"language": "de", "text": "eins"}])})
    assert [row["text"] for row in read(tmp_path, "de")] == ["eins"]


def test_a_language_without_texts_says_what_was_left_out_of_its_folder(tmp_path):
    write(tmp_path, {"en/a.txt": "a", "fr/ls.1.gz": b"", "fr/cp.1.gz": b"", "de/a.py": "x"})
    said = "fr without .*; it holds: en; French: 2 left out, of an ending that is not read: fr/cp.1.gz, fr/ls"
    with pytest.raises(CorpusUnavailable, match=said):
        read(tmp_path, "en", "fr")


def test_a_folder_of_letters_beyond_ascii_is_read_in_the_c_locale(tmp_path):
    write(tmp_path, {"été/en/œuf.txt": "egg"})
    code = ("from mome.data.folder import *; from mome.languages import check_corpus; import sys\n"
            "check_corpus(sys.argv[1])\n"
            "print(ascii([*folder_documents(corpus_folder(sys.argv[1]), ['en'])]))")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, f"folder:{tmp_path}/été"], env=os.environ | plain,
                          capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ascii([{"language": "en", "article_id": "œuf", "text": "egg"}]), done.stderr
