"""A folder of texts: its articles, what is said of all that is left out, and the hash that names it."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from mome.config import repository
from mome.data.files import (
    EMPTY,
    NO_ROWS,
    LanguageFiles,
    describe_reading,
    find_language,
    list_entries,
    walk_files,
)
from mome.data.readers import HTML, ROWS, NoRows, ending_of, languages_of, printable, read_id, read_rows
from mome.languages import CODE_LANGUAGES, folder_path, usual_name
from mome.progress import track
from mome.store import hash_file

log = logging.getLogger("mome")
LEAST_LINES = 3  # of a lone file whose lines are articles: one for each split
OTHER_ROWS, EMPTY_ROWS = "rows of other languages", "rows or lines without a text"


class CorpusUnavailable(ValueError):
    """The corpus is out of reach here: no network, no package manager, or no such files."""


def corpus_folder(name: str) -> Path:
    """Return the folder of the corpus `mini` or `folder:PATH`."""
    return repository() / "data/mini" if name == "mini" else folder_path(name)


def find_files(folder: Path, languages: list[str]) -> list[LanguageFiles]:
    """Return the files of each language in a folder.

    CorpusUnavailable names a language without any, and why those there are left out; ValueError names two
    folders for one language.
    """
    found = [find_language(Path(folder), language) for language in languages]
    if missing := [files for files in found if not files.files]:
        held = [path.name for path in list_entries(folder)
                if path.is_dir() and walk_files(Path(folder), path, usual_name(path.name)).files]
        lines = [line for files in missing for line in describe_reading(files.language, files.describe())]
        raise CorpusUnavailable(
            f"languages: {', '.join(files.language for files in missing)} without texts in "
            f"{printable(folder)}; it holds: " + "; ".join([printable(", ".join(held)) or "nothing", *lines]))
    natural = [files for files in found if files.language not in CODE_LANGUAGES]
    if all(len(files.files) == 1 and ending_of(files.files[0]) not in ROWS | HTML for files in natural):
        counts = [len(read_rows(files.files[0], is_lines=True)) for files in natural]
        for files, count in zip(natural, counts, strict=True):
            files.is_lines = len(set(counts)) == 1 and count >= LEAST_LINES
            if files.is_lines or len(set(counts)) > 1:
                way = "line n is article n" if files.is_lines else (
                    f"read as one article, as the languages' files have {', '.join(map(str, counts))}")
                files.said = f"{printable(files.files[0].name)}, its one file, has {count:,} lines: {way}"
    return found


def hash_folder(folder: Path, languages: list[str]) -> str:
    """Return the SHA-256 over relative paths and contents of the files that are read as texts, of no others.

    Where the folder lies, how its path is written, what a language's folder is called (py, Python) and in
    which order the languages stand changes nothing.
    """
    found = find_files(Path(folder), languages)
    paths = {files.name_of(path): path for files in found for path in files.files}
    digest = hashlib.sha256()
    for name in track(sorted(paths, key=lambda name: name.split("/")), "hash the folder", len(paths)):
        digest.update(hash_file(paths[name]).encode() + name.encode() + b"\0")
    return digest.hexdigest()


def folder_documents(folder: Path, languages: list[str], report: dict | None = None) -> Iterator[dict]:
    """Yield the texts {language, article_id, text} of a folder's languages; what it may hold: data/README.md.

    The article id is the path under the language's folder: without its ending, so that a.txt and a.md can be
    translations of one another, but with it for code, where a.c and a.h are two files. A row has its own id,
    or file and number. What is left out goes into `report` as {language: `LanguageFiles.describe`}, without
    one into the log. Raises CorpusUnavailable before any is read if a language has no file, ValueError that
    names file and place of what is damaged, or of two articles with one id.
    """
    for files in find_files(Path(folder), languages):
        places: dict[str, str] = {}
        for path in track(files.files, f"read {files.language}", len(files.files)):
            for place, article_id, text in file_articles(files, path):
                if article_id in places:
                    raise ValueError(
                        f"article_id={article_id!r} stands more than once in language {files.language!r} of "
                        f"corpus 'folder:{printable(folder)}': {places[article_id]} and {place}; ids must be "
                        "unique")
                places[article_id] = place
                yield {"language": files.language, "article_id": article_id, "text": text}
        about = files.describe()
        if report is None:
            log_reading({files.language: about})
        else:
            report[files.language] = about


def log_reading(report: dict[str, dict]) -> None:
    """Say in the log how lone files are read and what was left out, a line a reason and language."""
    for language, about in report.items():
        for line in describe_reading(language, about):
            log.warning("%s", line)


def file_articles(files: LanguageFiles, path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, article id, text) of a file's rows in the language; notes what is empty or of others."""
    where, name, is_rows = printable(path), files.article_of(path), ending_of(path) in ROWS
    try:
        rows = read_rows(path, files.is_lines)
    except NoRows:
        if ending_of(path) != ".json":
            raise
        rows = None  # some program's settings
    spoken, language, is_shared = languages_of(rows or []), usual_name(files.language), files.is_shared
    for number, (place, row) in enumerate(rows or []):
        if language in spoken and usual_name(str(row.get("language"))) != language:
            if not is_shared:
                files.leave_out(OTHER_ROWS, f"{printable(path.name)}: {place}")
        elif row["text"].strip():
            default = ":".join(filter(None, (name, str(number)))) if is_rows else name or "all"
            article_id = read_id(row, where, place) or default
            yield f"{where}: {place}" if place else where, article_id, row["text"]
        elif place:
            files.leave_out(EMPTY_ROWS, f"{printable(path.name)}: {place}")
    if not rows or not any(place or row["text"].strip() for place, row in rows):
        files.leave_out(NO_ROWS if rows is None else EMPTY, path)
