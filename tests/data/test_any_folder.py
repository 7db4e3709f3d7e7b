"""Any folder at all: it ends in documents and counts that add up to its files, or in a sentence.

MOME_EXAMPLES=1000 tries more of them.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mome.checks import is_sentence
from mome.data.corpora import read_documents
from mome.data.folder import hash_folder

OF_ROWS = {"rows of other languages", "rows or lines without a text"}  # counted by row, all else by file
LETTERS = st.text(st.sampled_from("aàe\u0301漢 .\n\x0b\x92\0\ud83d\u200b\",;<>&{}[]'"), max_size=12)
PLAIN = st.text(st.sampled_from("aàe\u0301漢 .\n\",;<&"), max_size=12)
IDS = st.one_of(st.none(), st.integers(-2, 2), st.floats(-2, 2), st.booleans(), st.sampled_from(
    ["", "1", "1.0", "é", "e\u0301", "\ud83d", [1], {"a": 1}, 10**400, float("nan"), float("inf")]))
TEXTS = st.one_of(PLAIN, LETTERS, st.sampled_from([None, 3, ["a"], True]))
ROW = st.one_of(st.fixed_dictionaries({"text": PLAIN}, optional={"article_id": IDS, "id": IDS}),
                st.fixed_dictionaries({}, optional={"text": TEXTS, "article_id": IDS, "id": IDS, "language":
                                      st.sampled_from(["en", "FR", "python", None, 1])}),
                st.sampled_from([1, None, "a", [1]]))


def bad(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def tables(draw) -> bytes:
    names = draw(st.lists(st.sampled_from(["text", "article_id", "id", "Text", "n"]), max_size=4))
    rows = draw(st.lists(st.lists(PLAIN, min_size=len(names), max_size=len(names) + draw(st.integers(0, 1))),
                         max_size=4))
    written = io.StringIO()
    csv.writer(written, delimiter=draw(st.sampled_from(",;\t"))).writerows([names, *rows])
    return bad(written.getvalue())


@st.composite
def parquets(draw) -> bytes:
    size = draw(st.integers(0, 3))
    columns = [pyarrow.array(["a", "b", "c"][:size]), pyarrow.array(["a", None, ""][:size]),
               pyarrow.nulls(size), pyarrow.array([1, 1, 2][:size]), pyarrow.array([0.5, 1, None][:size]),
               pyarrow.array([b"a", b"\xff", b""][:size]), pyarrow.array([["a"], [], None][:size]),
               pyarrow.array([{"a": 1}, None, {"a": 2}][:size], pyarrow.struct({"a": "int8"})),
               pyarrow.array([Decimal("1.00"), Decimal(2), None][:size], pyarrow.decimal128(5, 2)),
               pyarrow.array([date(2026, 1, 1), None, date(1, 1, 1)][:size]),
               pyarrow.array([2**40, 0, None][:size], pyarrow.timestamp("s")),
               pyarrow.array(["a", "b", "a"][:size]).dictionary_encode(),
               pyarrow.array(["a", "b", "c"][:size], pyarrow.large_string())]
    names = draw(st.lists(st.sampled_from(["text", "article_id", "id", "language", "n"]), max_size=4))
    arrays = [columns[draw(st.integers(0, 1 if name == "text" and draw(st.booleans()) else len(columns) - 1))]
              for name in names]
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names), sink)
    return sink.getvalue()


def encoded(pair: tuple) -> bytes:
    text, encoding = pair
    return text.encode(encoding, "replace")


MARKUP = st.sampled_from(["<p>", "<pre>", "a ", "é\n", "</p>", "<script>", "<!-- b -->", "<!--", "<?", "&#0;",
                          "<![CDATA[", "<meta charset=x>", "&#xd83d;", "<svg xmlns='b'>", "<a:b>"])
LINES = st.one_of(ROW.map(json.dumps), st.sampled_from(["", "{", '{"text": "a\\ud83d"}']))
CONTENTS = st.one_of(
    PLAIN.map(bad), LETTERS.map(bad), st.binary(max_size=12), st.just(b""), parquets(), tables(),
    st.tuples(PLAIN, st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252"])).map(encoded),
    st.lists(ROW, max_size=4).map(lambda rows: json.dumps(rows).encode()),
    st.lists(LINES, max_size=4).map(lambda lines: "\n".join(lines).encode()),
    st.lists(MARKUP).map(lambda parts: "".join(parts).encode()))
STEMS = [b"a", b"b", b"c", b"1", b"1.0", "é".encode(), "e\u0301".encode(), b"LICENSE", b"x y", b"a\nb"]
UNREAD_STEMS = [b".a", b"~$a", b"a~", b"Thumbs", b"venv", b"pyvenv"]
ENDINGS = [b".txt", b".TXT", b".md", b".rst", b".html", b".py", b".PY", b".pyi", b".jpg", b".js", b".c",
           b".swp", b".1", b""]
ROW_ENDINGS = [b".json", b".jsonl", b".ndjson", b".parquet", b".csv", b".tsv", b".cfg", b".db", b".tar"]
FOLDERS = [b"en", b"fr", b"FR", b"py", b"Python", b"", b"en", b"py", b"de", b"en/deep", b"fr/.git",
           b"py/node_modules/a", b"en/build", b"fr/__MACOSX", b"py/src", b"fr/f"]
PACKS = [(b"", bytes), (b".gz", gzip.compress), (b".BZ2", bz2.compress), (b".xz", lzma.compress)]
SOUND = st.tuples(
    st.sampled_from(FOLDERS), st.sampled_from(STEMS + UNREAD_STEMS), st.sampled_from(ENDINGS),
    st.sampled_from(PACKS), st.tuples(PLAIN, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])).map(encoded))
SOUND_ROWS = st.lists(st.fixed_dictionaries({"text": PLAIN, "id": st.floats(-9, 9)}), max_size=3).map(
    lambda rows: (b"fr", b"rows", b".jsonl", (b"", bytes), "\n".join(map(json.dumps, rows)).encode()))
ANY = st.tuples(st.sampled_from(FOLDERS), st.sampled_from([*STEMS, *UNREAD_STEMS, b"\xe9"]),
                st.sampled_from(ENDINGS + ROW_ENDINGS + ROW_ENDINGS),
                st.sampled_from([*PACKS, *PACKS[:1] * 9, (b".zst", bytes), (b".gz", bytes)]), CONTENTS)
BASE = [(folder, b"base", ending, (b"", bytes), b"text")
        for folder, ending in ((b"en", b".txt"), (b"fr", b".md"), (b"py", b".py"))]
FILES = st.tuples(
    st.sampled_from([BASE, BASE, BASE, BASE[:1], []]), st.lists(st.one_of(SOUND, SOUND_ROWS), max_size=6),
    st.lists(ANY, max_size=3)).map(lambda parts: [file for part in parts for file in part])
LINKS = st.lists(st.tuples(
    st.sampled_from(["en/l.txt", "fr/l", "py/l.py", "en/m.md", "fr/k"]),
    st.sampled_from([".", "base.txt", "nowhere", "l.txt", "a.py", "../en/a.txt", "/dev/null"])), max_size=3)
LANGUAGES = st.sampled_from([["en"], ["en", "fr"], ["fr"], ["py"], ["en", "fr", "py"], ["fr", "de"]])
EXAMPLES = int(os.environ.get("MOME_EXAMPLES", "100"))
outcomes = Counter()


def write_folder(root: Path, files: list, links: list) -> None:
    for folder, name, ending, (suffix, pack), content in files:
        path = os.path.join(os.fsencode(root), folder, name + ending + suffix)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(pack(content))
        except OSError:  # a file where a folder is to be, a name that this file system refuses
            continue
    for name, target in links:
        if (root / name).parent.is_dir() and not os.path.lexists(root / name):
            (root / name).symlink_to(target)


def count_entries(root: Path) -> int:
    """Return how many files and links lie under a folder, whatever they are."""
    return sum(len(names) + sum(os.path.islink(os.path.join(place, name)) for name in folders)
               for place, folders, names in os.walk(root))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(FILES, LINKS, LANGUAGES)
@example([(b"en", b"a", b".txt", (b"", bytes), b"a")], [("en/l.txt", "."), ("en/m.md", "a.txt")], ["en"])
def test_any_folder_ends_in_documents_and_counts_that_add_up_or_in_a_sentence(files, links, languages):
    with TemporaryDirectory() as scratch:
        root, report = Path(scratch), {}
        write_folder(root, files, links)
        try:
            name = hash_folder(root, languages)
            documents = list(read_documents("folder", languages, 1, True, root, root, report))
        except ValueError as error:
            said = str(error)
            outcomes[re.sub(r"'.*?'|/[^ ]*|[0-9]+", "*", said)[:70]] += 1
            assert is_sentence(error), f"{error!r} is not ours"
            assert str(root) in said and said.encode() and "\n" not in said, said
            return
        outcomes["read"] += 1
        assert name == hash_folder(root, list(reversed(languages)))
        keys = [(row["language"], row["article_id"]) for row in documents]
        assert len(set(keys)) == len(keys) and {language for language, _ in keys} == set(languages)
        for row in documents:
            assert row["text"].strip() and row["text"].encode() and row["article_id"].encode()
        for language, about in report.items():
            places = [path for path in root.iterdir() if path.is_dir()
                      and path.name.lower() in {language, {"py": "python"}.get(language)}]
            left_out = sum(entry["count"] for reason, entry in about["left_out"].items()
                           if reason not in OF_ROWS)
            if places:
                assert about["files"] + left_out == count_entries(places[0]), (about, places)
            assert all(entry["first"] for entry in about["left_out"].values())


@pytest.fixture(scope="module", autouse=True)
def tell_outcomes():
    yield
    if EXAMPLES > 100:
        print(*(f"{count:5d} {said}" for said, count in outcomes.most_common()), sep="\n")
