"""A folder of texts, one sub-folder per language: which files are read, what they hold, what names them."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow
import pyarrow.parquet

from mome.config import repository
from mome.languages import CODE_LANGUAGES
from mome.store import hash_file

log = logging.getLogger("mome")
ENDINGS = {".txt", ".md", ".jsonl", ".parquet", ".py", ".js", ".mjs", ".ts", ".c", ".h", ".cc", ".cpp",
           ".hpp", ".cs", ".java", ".kt", ".scala", ".go", ".rs", ".swift", ".rb", ".php", ".pl", ".r", ".R",
           ".jl", ".lua", ".hs", ".sh", ".sql"}
# Hidden files and folders, editors' leftovers, folders of what was compiled or fetched: none of it is text.
LEFT_OUT = (".*", "*~", "*.swp", "#*#", "__pycache__", "node_modules")
BROKEN = re.compile("[\0\ud800-\udfff]")  # zero bytes, and halves of characters, which UTF-8 cannot write


class CorpusUnavailable(ValueError):
    """The corpus is out of reach here: no network, no package manager, or no such files."""


def corpus_folder(name: str) -> Path:
    """Return the folder of the corpus `mini` or `folder:PATH`."""
    return repository() / "data/mini" if name == "mini" else Path(name.removeprefix("folder:")).expanduser()


def list_files(root: Path) -> list[Path]:
    """Return the files under a language's folder that are read as texts, in order."""
    found = [path for path in root.rglob("*") if path.suffix in ENDINGS and path.is_file()]
    return sorted(path for path in found if not any(
        fnmatchcase(name, pattern) for name in path.relative_to(root).parts for pattern in LEFT_OUT))


def hash_folder(folder: Path, languages: list[str]) -> str:
    """Return the SHA-256 over relative paths and contents of the files that are read as texts, of no others.

    Where the folder lies, how its path is written and in which order the languages stand changes nothing.
    """
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(path for language in languages for path in list_files(folder / language)):
        digest.update(hash_file(path).encode() + os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
    return digest.hexdigest()


def folder_documents(folder: Path, languages: list[str]) -> Iterator[dict]:
    """Yield the texts {language, article_id, text} of `<language>/**`: .txt, .md, .jsonl, .parquet, and code.

    The article id is the path under the language's folder: without its ending, so that a.txt and a.md can be
    translations of one another, but with it for code, where a.c and a.h are two files. A row of .jsonl or
    .parquet has `text` and, if given, `article_id`. Empty texts are left out. Raises CorpusUnavailable before
    any is read if a language has no file, ValueError that names a file that is binary, not UTF-8, or not rows
    with a text.
    """
    missing = [language for language in languages if not list_files(folder / language)]
    if missing:
        held = sorted(path.name for path in folder.glob("[A-Za-z]*") if list_files(path))
        raise CorpusUnavailable(f"languages: {', '.join(missing)} without texts in {folder}; it holds: "
                                f"{', '.join(held) or 'nothing'}")
    for language in languages:
        for path in list_files(folder / language):
            name = path.relative_to(folder / language)
            name = (name if language in CODE_LANGUAGES else name.with_suffix("")).as_posix()
            for number, row in enumerate(read_rows(path)):
                if not row["text"].strip():
                    log.warning("%s: row %d is empty and left out", path, number + 1)
                    continue
                article_id = row.get("article_id")
                if article_id is None:
                    article_id = f"{name}:{number}" if path.suffix in (".jsonl", ".parquet") else name
                if broken := BROKEN.search(f"{article_id}{row['text']}"):
                    fault = "zero bytes, so it is binary and not text" if broken[0] == "\0" else (
                        f"{broken[0]!r} in its text or id, half a character, so it is not UTF-8")
                    shown = str(path).encode(errors="replace").decode()
                    raise ValueError(f"{shown}: row {number + 1} holds {fault}; move it out of the folder")
                yield {"language": language, "article_id": str(article_id), "text": row["text"]}


def read_rows(path: Path) -> list[dict]:
    """Return a file's rows, each with a `text`; ValueError if it is damaged, not UTF-8, or without texts."""
    kind = "Parquet" if path.suffix == ".parquet" else f"UTF-8 {path.suffix[1:]}"
    try:
        if path.suffix == ".parquet":
            rows = pyarrow.parquet.read_table(path).to_pylist()
        else:
            rows = [{"text": path.read_text(encoding="utf-8-sig")}]
        if path.suffix == ".jsonl":  # not splitlines(): JSON allows some of its line ends within a string
            rows = [json.loads(line) for line in rows[0]["text"].split("\n") if line.strip()]
    except (UnicodeError, json.JSONDecodeError, RecursionError, pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f"{path}: row {number} is not allowed; every row must have a text that is a "
                             'string, such as {"text": "..."}')
    return rows
