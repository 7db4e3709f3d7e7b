"""What a file of a folder holds: decompressed, decoded, as rows with a text, or refused in a sentence."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import math
import os
import re
import unicodedata
import zlib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path, PurePath

import pyarrow
import pyarrow.parquet

from mome.data.pages import page_text
from mome.languages import usual_name

TEXT = frozenset((".txt", ".text", ".md", ".markdown", ".mdown", ".mkd", ".rst", ".adoc", ".asciidoc", ".org",
                  ".tex", ".textile", ".wiki", ".mediawiki"))
HTML = frozenset((".html", ".htm", ".xhtml"))
ROWS = frozenset((".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv"))
OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": None, ".zstd": None}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # in this order: 32's begins as 16's
BROKEN = re.compile("[\0\ud800-\udfff]")  # zero bytes, and halves of characters, which UTF-8 cannot write
WRITTEN_AS_FLOAT = re.compile(r"(-?\d+)\.0+")  # whole numbers of a table in which one was missing
READ_COLUMNS = ("text", "article_id", "id", "language")
FAULTS = (pyarrow.ArrowException, OSError, ValueError, OverflowError, NotImplementedError)  # of Parquet


class NoRows(ValueError):
    """A file that holds something else than rows with a text."""


def printable(path: Path | str) -> str:
    """Return a path as it can be printed anywhere: what is not UTF-8, and controls, as escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def bare_name(name: str) -> str:
    """Return a file's name without what says that it is compressed."""
    return name[:-len(PurePath(name).suffix)] if PurePath(name).suffix.lower() in OPENERS else name


def ending_of(path: Path) -> str:
    """Return the ending in small letters, without .gz and the like: `.txt` of A.TXT.gz."""
    return PurePath(bare_name(path.name)).suffix.lower()


def read_rows(path: Path, is_lines: bool = False) -> list[tuple[str, dict]]:
    """Return (place in the file, row) of all rows, each with a `text`; of plain text one, or one a line.

    Raises ValueError that names file and line, row or column of what is damaged, not UTF-8 or has no text;
    of those NoRows for JSON without a list of rows and a table without a column `text`.
    """
    ending, where, data = ending_of(path), printable(path), load(path)
    if ending == ".parquet":
        rows = list(read_parquet(data, where))
    elif ending in HTML:
        rows = [("", {"text": page_text(decode_page(data, where))})]
    else:
        text = decode(data, where)
        if ending in (".jsonl", ".ndjson"):
            rows = list(read_json_lines(text, where))
        elif ending == ".json":
            rows = list(read_json_list(text, where))
        elif ending in (".csv", ".tsv"):
            rows = list(read_csv(text, where, ending))
        elif is_lines:
            rows = [(f"line {number}", {"text": line, "article_id": number})
                    for number, line in enumerate(split_lines(text), 1)]
        else:
            rows = [("", {"text": text})]
    for place, row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f"{where}: {place} is not allowed; every row must have a text that is a string, "
                             'such as {"text": "..."}')
        check_characters(row["text"], where, place)
    return rows


def load(path: Path) -> bytes:
    """Return a file's bytes, decompressed."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".zst", ".zstd"):
            packed = pyarrow.BufferReader(path.read_bytes())
            return pyarrow.CompressedInputStream(packed, "zstd").read()
        with OPENERS.get(suffix, open)(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException) as error:
        raise ValueError(f"{printable(path)} cannot be read: {error}") from None


def decode(data: bytes, where: str) -> str:
    """Return the text of UTF-8, or of UTF-16 and 32 that begin with their mark; ValueError names the line."""
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[:error.start].decode(encoding, "replace").count("\n") + 1
        hint = "; it looks like UTF-16 without a mark" if b"\0" in data else ""
        raise ValueError(f"{where}: line {line} cannot be read as {encoding.upper()} ({error.reason}){hint}; "
                         "save the file as UTF-8") from None


def check_characters(text: str, where: str, place: str = "") -> None:
    """Raise ValueError for zero bytes and halves of characters, at `place` or in the text's line."""
    if broken := BROKEN.search(text):
        place = place or f"line {text.count(chr(10), 0, broken.start()) + 1}"
        fault = ("zero bytes, so it is binary, or UTF-16 without a mark" if broken[0] == "\0" else
                 f"{broken[0]!r}, half a character, so it is not UTF-8")
        raise ValueError(f"{where}: {place} holds {fault}; move it out of the folder, or save it as UTF-8")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, at line ends only and not at what Python takes for some."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    return lines if text else []


def read_json_lines(text: str, where: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): strings may hold some line ends
        if line.strip():
            yield f"line {number}", parse_json(line, f"{where}: line {number}")


def read_json_list(text: str, where: str) -> Iterator[tuple[str, object]]:
    """Yield the rows of [{...}, ...], {"data": [...]}, {"rows": [...]}, or the one row {"text": ...}."""
    if not text.strip():
        return
    value = parse_json(text, where)
    if isinstance(value, dict):
        lists = [value[name] for name in ("data", "rows") if isinstance(value.get(name), list)]
        value = [value] if "text" in value else next(iter(lists), [])
    if not isinstance(value, list) or not any(isinstance(row, dict) for row in value):
        raise NoRows(f'{where} holds no list of rows, such as [{{"text": "..."}}]')
    yield from ((f"row {number}", row) for number, row in enumerate(value, 1))


def parse_json(text: str, where: str):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # the former of numbers without end, too
        raise ValueError(f"{where} cannot be read as JSON: {error}") from None


def read_csv(text: str, where: str, ending: str) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a table with a head, separated by tabs, commas, or, where its head is, semicolons."""
    csv.field_size_limit(2**31 - 1)
    head = text.partition("\n")[0]
    separator = "\t" if ending == ".tsv" else max(",;\t", key=head.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = [name.strip() for name in next(lines, [])]
        if names:
            check_columns(names, where)
        for fields in filter(None, lines):
            if len(fields) != len(names):
                raise ValueError(f"{where}: line {lines.line_num} has {len(fields)} fields, but its head "
                                 f"{len(names)}")
            row = dict(zip(names, fields, strict=True))
            for name in {"article_id", "id"} & row.keys():
                row[name] = WRITTEN_AS_FLOAT.sub(r"\1", row[name])
            yield f"line {lines.line_num}", row
    except csv.Error as error:
        raise ValueError(f"{where}: line {lines.line_num} cannot be read as a table: {error}") from None


def check_columns(names: list[str], where: str) -> None:
    """Raise ValueError unless a table has one column `text`, and no other that is read twice."""
    if "text" not in names:
        shown = printable(", ".join(names)[:200]) or "none"
        raise NoRows(f"{where} has no column text; its columns are: {shown}")
    for name in READ_COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"{where}: column {name} stands {names.count(name)} times; give it once")


def read_parquet(data: bytes, where: str) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a Parquet file, of its columns only those that are read."""
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        names = file.schema_arrow.names
    except FAULTS as error:
        raise ValueError(f"{where} cannot be read as Parquet: {error}") from None
    check_columns(names, where)
    columns = {name: read_column(file, name, where) for name in READ_COLUMNS if name in names}
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield f"row {number}", dict(zip(columns, values, strict=True))


def read_column(file, name: str, where: str) -> list:
    """Return a column of a Parquet file; ValueError for a `text` that is not of strings, or a damaged one."""
    kind = file.schema_arrow.field(name).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if name == "text" and str(kind).removeprefix("large_") not in ("string", "string_view"):
        raise ValueError(f"{where}: column text is of {kind}; it must be of strings")
    try:
        batches = file.iter_batches(columns=[name])
        return [value for batch in batches for value in batch.column(0).to_pylist()]
    except FAULTS as error:
        raise ValueError(f"{where}: column {name} cannot be read as Parquet: {error}") from None


def decode_page(data: bytes, where: str) -> str:
    """Return an HTML page decoded: UTF-8 where it can be, else as it declares."""
    declared = re.search(rb"charset=[\"' ]*([\w-]+)", data[:2048])
    try:
        text = decode(data, where)
    except ValueError:
        if not declared:
            raise
        try:
            text = data.decode(declared[1].decode())
        except (LookupError, UnicodeError):
            text = decode(data, where)
    check_characters(text, where)
    return text


def read_id(row: dict, where: str, place: str) -> str | None:
    """Return a row's `article_id`, else `id`, as text: equal numbers and letters are equal in any form.

    None where it has none. ValueError for a list, a mapping, true and false.
    """
    name = "id" if row.get("article_id") is None else "article_id"
    value = row.get(name)
    if isinstance(value, str):
        check_characters(value, where, f"{place}, {name}")
        return unicodedata.normalize("NFC", value).strip() or None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if not math.isfinite(value):
            return None
        return str(int(value) if value == int(value) else value)
    if value is None or isinstance(value, date):
        return None if value is None else str(value)
    raise ValueError(f"{where}: {place}, {name}={value!r} is not allowed; it must be a text or a number")


def row_languages(path: Path) -> frozenset[str]:
    """Return the languages that a file's rows name in a column `language`; empty where it has no rows."""
    about = path.stat()
    return _row_languages(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _row_languages(path: Path, modified: int, size: int) -> frozenset[str]:
    try:
        return languages_of(read_rows(path))
    except NoRows:
        return frozenset()


def languages_of(rows: list[tuple[str, dict]]) -> frozenset[str]:
    names = {row.get("language") for _, row in rows}
    return frozenset(usual_name(name) for name in names if isinstance(name, str))
