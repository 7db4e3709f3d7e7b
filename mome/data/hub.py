"""Rows from the data hub, streamed: retried with back-off, kept in parts on disk, resumed where it stood."""

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pandas as pd

from mome.data.folder import CorpusUnavailable
from mome.languages import CODE_LANGUAGES
from mome.progress import progress
from mome.store import read_json, write_json

log = logging.getLogger("mome")
ROOT = ""  # put before a data set's name; with the path of a folder laid out like the hub, that is read
WIKI40B = "google/wiki40b"
CODE, CODE_FOR_LAPTOPS = "codeparrot/codeparrot-clean", "codeparrot/codeparrot-clean-valid"
LAPTOP_CHARACTERS = 200_000_000  # up to here CodeParrot's validation part is enough, a fiftieth of the whole
ATTEMPTS, FIRST_WAIT = 6, 1.0  # failures in a row before giving up; seconds after the first, then doubled
PART_CHARACTERS, PART_ROWS = 200_000, 20_000  # a part is written when so much was read for it, by either
FIRST_ROWS = 10_000  # rows of each language that are read before common articles are looked for
WIKI_MARKS = {"_START_ARTICLE_": "", "_START_SECTION_": "", "_START_PARAGRAPH_": "", "_NEWLINE_": "\n"}
# The library would wait minutes for one read; giving up early costs nothing: we go on from the last part.
PATIENCE = {"READ_MAX_RETRIES": 2, "READ_RETRY_INTERVAL": 1, "READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 2,
            "READ_RATE_LIMIT_RETRY_INTERVAL": 10, "OPEN_MAX_RETRIES": 2, "OPEN_RETRY_INTERVAL": 1}


def open_stream(language: str, characters: int):
    """Return the stream of a language's rows: Wiki40B articles, or CodeParrot files for py."""
    import datasets

    for name, value in PATIENCE.items():
        setattr(datasets.config, f"STREAMING_{name}", value)
    if language in CODE_LANGUAGES:
        name = CODE_FOR_LAPTOPS if characters <= LAPTOP_CHARACTERS else CODE
        return datasets.load_dataset(ROOT + name, split="train", streaming=True)
    # One shard a row group instead of one a file, or going on would read the file's beginning again.
    return datasets.load_dataset(ROOT + WIKI40B, language, split="train", streaming=True).reshard()


def read_row(row: dict) -> dict:
    """Return {article_id, text}: of code, named by repository and path; of Wiki40B, by id, without marks."""
    if "repo_name" in row:
        return {"article_id": f"{row['repo_name']}/{row['path']}", "text": row["content"]}
    text = row["text"]
    for mark, replacement in WIKI_MARKS.items():
        text = text.replace(mark, replacement)
    return {"article_id": str(row["wikidata_id"]), "text": re.sub(r"\n{2,}", "\n", text).strip()}


def download(languages: list[str], characters: int, common_articles: bool, folder: Path,
             open_language: Callable = open_stream) -> Iterator[dict]:
    """Yield rows {language, article_id, text}, at least `characters` of each language where the hub has them.

    With `common_articles` the natural languages are read to one depth, further and further, until the
    articles that all of them have hold enough, and only those are yielded: the languages' orders have nothing
    to do with each other, so equal depth finds most common articles for the rows read. Of a repeated id the
    first is kept. What was read stays under `folder`, and after an interruption the next call goes on there.
    """
    natural = [language for language in languages if language not in CODE_LANGUAGES]
    is_shared = common_articles and len(natural) > 1
    shared = read_until_shared(natural, characters, folder, open_language) if is_shared else None
    for language in languages:
        wanted, seen = shared if language in natural else None, set()
        if wanted is None:
            read_until(folder / language, characters, open_language)
        for part in list_parts(folder / language):
            for row in pd.read_parquet(part).itertuples():
                if row.article_id not in seen and (wanted is None or row.article_id in wanted):
                    seen.add(row.article_id)
                    yield {"language": language, "article_id": row.article_id, "text": row.text}


def read_until_shared(natural: list[str], characters: int, folder: Path, open_language: Callable) -> set[str]:
    """Read all natural languages to one depth until their common articles hold enough; return their ids."""
    depth = FIRST_ROWS
    while True:
        states = [read_until(folder / language, characters, open_language, depth) for language in natural]
        lengths = {language: measure_articles(folder / language) for language in natural}
        shared = pd.DataFrame(lengths).dropna()  # a row an article, a column a language
        if shared.sum().min() >= characters or all(state["ended"] for state in states):
            return set(shared.index)
        log.info("%d articles in common after %d rows of each language: %d of %d characters",
                 len(shared), depth, shared.sum().min(), characters)
        depth *= 2


def measure_articles(folder: Path) -> pd.Series:
    """Return the characters of every article that was read of a language, by article id; each id once."""
    parts = [pd.read_parquet(part).set_index("article_id").text.str.len() for part in list_parts(folder)]
    lengths = pd.concat(parts or [pd.Series(dtype="int64")])
    return lengths[~lengths.index.duplicated()]


def read_until(folder: Path, characters: int, open_language: Callable, rows: int | None = None) -> dict:
    """Read on in the language that `folder` is called, to so many characters or rows; return the state."""
    state, parts = read_state(folder), read_parts(folder, characters, open_language)
    name, enough = ("characters", characters) if rows is None else ("rows", rows)
    with progress(f"stream {folder.name}", characters, min(state["characters"], characters)) as shown:
        while not state["ended"] and state[name] < enough:
            before, state = state["characters"], next(parts)
            shown.update(n=state["characters"] - before)
    return state


def read_parts(folder: Path, characters: int, open_language: Callable) -> Iterator[dict]:
    """Write part after part and yield the state after each.

    A failure costs the part in work: after a wait that doubles, the stream is opened anew where the last part
    ended. Raises CorpusUnavailable after `ATTEMPTS` failures without a new part between them.
    """
    failures = 0
    while not (place := read_state(folder))["ended"]:
        try:
            stream = open_language(folder.name, characters)
            if place["stream"] is not None:
                stream.load_state_dict(place["stream"])
            for state in write_parts(stream, folder, place):
                failures = 0
                yield state
        except Exception as error:  # the layers below agree on no class for a lost connection
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise  # waiting does not help against a disk that is full or not ours
            failures += 1
            reason = f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
            if failures == ATTEMPTS:
                raise CorpusUnavailable(
                    f"corpus='wiki40b' cannot be read from the hub ({reason}); what was read is kept and the "
                    "same command goes on from there; or choose corpus='help', 'mini' or 'folder:PATH'"
                ) from error
            wait = FIRST_WAIT * 2 ** (failures - 1)
            log.warning("hub failed on %s (%s); attempt %d of %d in %.0f s",
                        folder.name, reason, failures + 1, ATTEMPTS, wait)
            time.sleep(wait)


def write_parts(stream, folder: Path, state: dict) -> Iterator[dict]:
    """Write the stream's rows as Parquet, part after part, then the state that vouches for it; yield that."""
    folder.mkdir(parents=True, exist_ok=True)
    documents, n_rows, size = [], 0, 0
    for row in chain(stream, [None]):  # None: the stream has ended
        if row is not None:
            document, n_rows = read_row(row), n_rows + 1
            if document["text"].strip():
                documents.append(document)
                size += len(document["text"])
        if row is None or size >= PART_CHARACTERS or n_rows >= PART_ROWS:
            if documents:
                pd.DataFrame(documents).to_parquet(folder / f"{state['parts']:05d}.parquet")
            state = {"rows": state["rows"] + n_rows, "characters": state["characters"] + size,
                     "parts": state["parts"] + bool(documents), "stream": stream.state_dict(),
                     "ended": row is None}
            write_json(folder / "state.json", state)
            yield state
            documents, n_rows, size = [], 0, 0


def read_state(folder: Path) -> dict:
    """Return where a stream is: rows, characters and parts read, the library's state, whether it ended."""
    start = {"rows": 0, "characters": 0, "parts": 0, "stream": None, "ended": False}
    return read_json(folder / "state.json") if (folder / "state.json").exists() else start


def list_parts(folder: Path) -> list[Path]:
    """Return the parts that the state vouches for: not one written just before an interruption."""
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
