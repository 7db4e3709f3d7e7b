"""Rows from the data hub, streamed: retried with back-off, kept in parts on disk, resumed where the stream stood."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from mome.artifacts import progress, read_json, write_json
from mome.config import CODE_LANGUAGES

log = logging.getLogger("mome")
ROOT = ""  # put before a data set's name; a folder laid out like the hub may stand in for it
WIKI40B, CODE, CODE_FOR_LAPTOPS = "google/wiki40b", "codeparrot/codeparrot-clean", "codeparrot/codeparrot-clean-valid"
LAPTOP_CHARACTERS = 200_000_000  # up to here CodeParrot's validation part is enough, a fiftieth of the whole
ATTEMPTS = 6  # failures in a row without a new part before giving up
FIRST_WAIT = 1.0  # seconds before the second attempt; doubled for every further one
PART_CHARACTERS = 200_000  # a part is written when it holds so many characters ...
PART_ROWS = 20_000  # ... or when so many rows were read for it
FIRST_ROWS = 10_000  # rows of each language that are read before common articles are looked for
WIKI_MARKS = {"_START_ARTICLE_": "", "_START_SECTION_": "", "_START_PARAGRAPH_": "", "_NEWLINE_": "\n"}


class HubUnavailable(ConnectionError):
    """The hub failed too often in a row; what was read is kept and the next call goes on from there."""


def open_stream(language: str, characters: int):
    """Return the stream of a language's rows: Wiki40B articles, or CodeParrot files for py."""
    import datasets

    # The library would wait minutes for one read; giving up early costs nothing here, as we go on from the last part.
    patience = {"READ_MAX_RETRIES": 2, "READ_RETRY_INTERVAL": 1, "READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 2, "READ_RATE_LIMIT_RETRY_INTERVAL": 10,
                "OPEN_MAX_RETRIES": 2, "OPEN_RETRY_INTERVAL": 1}
    for name, value in patience.items():
        setattr(datasets.config, f"STREAMING_{name}", value)
    if language in CODE_LANGUAGES:
        return datasets.load_dataset(ROOT + (CODE_FOR_LAPTOPS if characters <= LAPTOP_CHARACTERS else CODE), split="train", streaming=True)
    # One shard a row group instead of one a file, or going on would read the file's beginning again.
    return datasets.load_dataset(ROOT + WIKI40B, language, split="train", streaming=True).reshard()


def read_article(row: dict) -> dict:
    """Return {article_id, text} of a Wiki40B row, its marks stripped, with its wikidata id."""
    return {"article_id": str(row["wikidata_id"]), "text": strip_wiki_marks(row["text"])}


def read_code(row: dict) -> dict:
    """Return {article_id, text} of a CodeParrot row, named by repository and path."""
    return {"article_id": f"{row['repo_name']}/{row['path']}", "text": row["content"]}


def strip_wiki_marks(text: str) -> str:
    for mark, replacement in WIKI_MARKS.items():
        text = text.replace(mark, replacement)
    return re.sub(r"\n{2,}", "\n", text).strip()


def download(languages: list[str], characters: int, common_articles: bool, folder: Path, open_language: Callable = open_stream) -> Iterator[dict]:
    """Yield rows {language, article_id, text}, at least `characters` of each language where the hub has them.

    With `common_articles` the natural languages are read to one depth, further and further, until the articles that all
    of them have hold enough, and only those are yielded: the languages' orders have nothing to do with each other, so
    equal depth finds most common articles for the rows read. Of a repeated id the first is kept. What was read stays under
    `folder`; after HubUnavailable or an interruption the next call goes on from there.
    """
    natural = [language for language in languages if language not in CODE_LANGUAGES]
    shared = None
    if common_articles and len(natural) > 1:
        shared = read_until_shared(natural, characters, folder, open_language)
    for language in languages:
        wanted = shared if language in natural else None
        if wanted is None:
            read_until(folder / language, language, characters, open_language, lambda state: state["characters"] >= characters)
        seen: set[str] = set()
        for part in list_parts(folder / language):
            for row in pd.read_parquet(part).itertuples():
                if row.article_id not in seen and (wanted is None or row.article_id in wanted):
                    seen.add(row.article_id)
                    yield {"language": language, "article_id": row.article_id, "text": row.text}


def read_until_shared(natural: list[str], characters: int, folder: Path, open_language: Callable) -> set[str]:
    """Read all natural languages to one depth until their common articles hold enough; return the ids of those."""
    depth = FIRST_ROWS
    while True:
        is_deep = lambda state, depth=depth: state["rows"] >= depth  # noqa: E731
        states = [read_until(folder / language, language, characters, open_language, is_deep) for language in natural]
        lengths = [pd.concat([pd.read_parquet(part).set_index("article_id").text.str.len() for part in list_parts(folder / language)] or
                             [pd.Series(dtype="int64")]) for language in natural]
        shared = set.intersection(*(set(table.index) for table in lengths))
        poorest = min(int(table[table.index.isin(shared) & ~table.index.duplicated()].sum()) for table in lengths)
        if poorest >= characters or all(state["ended"] for state in states):
            return shared
        log.info("%d articles in common after %d rows of each language: %d of %d characters", len(shared), depth, poorest, characters)
        depth *= 2


def read_until(folder: Path, language: str, characters: int, open_language: Callable, is_enough: Callable[[dict], bool]) -> dict:
    """Read on in a language's stream, part by part, until `is_enough(state)` or its end; return the state."""
    state = read_state(folder)
    with progress(f"stream {language}", characters, min(state["characters"], characters)) as bar:
        parts = read_parts(folder, language, characters, open_language)
        while not (state["ended"] or is_enough(state)):
            before, state = state["characters"], next(parts)
            bar.update(n=state["characters"] - before)
    return state


def read_parts(folder: Path, language: str, characters: int, open_language: Callable) -> Iterator[dict]:
    """Write part after part and yield the state after each.

    A failure costs the part in work: after a wait that doubles, the stream is opened anew where the last part ended.
    Raises HubUnavailable after `ATTEMPTS` failures without a new part between them.
    """
    failures = 0
    while not read_state(folder)["ended"]:
        try:
            place, stream = read_state(folder), open_language(language, characters)
            if place["stream"] is not None:
                stream.load_state_dict(place["stream"])
            for state in write_parts(stream, folder, place, read_code if language in CODE_LANGUAGES else read_article):
                failures = 0
                yield state
        except Exception as error:  # the layers below agree on no class for a lost connection
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise  # waiting does not help against a disk that is full or not ours
            failures += 1
            reason = f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
            if failures == ATTEMPTS:
                raise HubUnavailable(reason) from error
            wait = FIRST_WAIT * 2 ** (failures - 1)
            log.warning("hub failed on %s (%s); attempt %d of %d in %.0f s", language, reason, failures + 1, ATTEMPTS, wait)
            time.sleep(wait)


def write_parts(stream, folder: Path, state: dict, read_row: Callable[[dict], dict]) -> Iterator[dict]:
    """Write the stream's rows as Parquet, a part whenever it is large enough, and yield the state after each."""
    folder.mkdir(parents=True, exist_ok=True)
    documents, rows, size = [], 0, 0
    for row in stream:
        document, rows = read_row(row), rows + 1
        if document["text"].strip():
            documents.append(document)
            size += len(document["text"])
        if size >= PART_CHARACTERS or rows >= PART_ROWS:
            state = save_part(folder, state, documents, rows, size, stream.state_dict(), ended=False)
            yield state
            documents, rows, size = [], 0, 0
    yield save_part(folder, state, documents, rows, size, stream.state_dict(), ended=True)


def save_part(folder: Path, state: dict, documents: list[dict], rows: int, size: int, place: dict, ended: bool) -> dict:
    """Write a part, then the state that vouches for it; return that state."""
    if documents:
        pd.DataFrame(documents).to_parquet(folder / f"{state['parts']:05d}.parquet")
    state = {"rows": state["rows"] + rows, "characters": state["characters"] + size, "parts": state["parts"] + bool(documents),
             "stream": place, "ended": ended}
    write_json(folder / "state.json", state)
    return state


def read_state(folder: Path) -> dict:
    """Return where the stream stands: rows and characters read, parts written, the library's own state, and whether it ended."""
    path = folder / "state.json"
    return read_json(path) if path.exists() else {"rows": 0, "characters": 0, "parts": 0, "stream": None, "ended": False}


def list_parts(folder: Path) -> list[Path]:
    """Return the parts that the state vouches for; one written just before an interruption is not among them."""
    return [folder / f"{number:05d}.parquet" for number in range(read_state(folder)["parts"])]


def is_reachable(seconds: float = 5.0) -> bool:
    """True when the hub answers; asked before streaming, whose own retries take minutes."""
    if ROOT:
        return Path(ROOT, WIKI40B).is_dir()
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(WIKI40B, timeout=seconds)
        return True
    except Exception as error:  # any failure means the same here: not available
        log.info("hub not reachable: %s", type(error).__name__)
        return False
