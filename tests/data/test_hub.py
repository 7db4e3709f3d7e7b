"""Streams from the hub: interrupted, cut off, gone on with.

The hub is one of three: streams that fail where we say, a folder laid out like it, a small server here.
"""

import gzip
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import datasets
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from cases import each

from mome.data import hub
from mome.data.corpora import read_documents
from mome.data.folder import CorpusUnavailable
from mome.progress import heard_by

ALL = 10**8  # characters that no stream here has, and for which the small part of CodeParrot is enough


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Small parts, and a list of the waits instead of the waits themselves."""
    monkeypatch.setattr(datasets.config, "TORCH_AVAILABLE", False)
    monkeypatch.setenv("MOME_BATCH", "1")
    for name, value in {"PART_CHARACTERS": 2_000, "PART_ROWS": 5, "FIRST_ROWS": 10}.items():
        monkeypatch.setattr(hub, name, value)
    waited: list[float] = []
    monkeypatch.setattr(hub, "time", SimpleNamespace(sleep=waited.append))
    return waited


def make_articles(language: str, numbers) -> list[dict]:
    """Return rows of 40 characters, in the order of `numbers`; `row` is the place in the stream."""
    return [{"row": row, "wikidata_id": f"Q{number}", "text": f"{language} {number} at {row} ".ljust(40, "x")}
            for row, number in enumerate(numbers)]


def make_code(n: int) -> list[dict]:
    return [{"row": row, "repo_name": "me/tool", "path": f"a{row}.py",
             "content": f"x = '_NEWLINE_'  # {row}".ljust(39) + "\n"} for row in range(n)]


def make_streams(rows: dict[str, list[dict]], failures: dict[str, list[int]] | None = None):
    """Return (open_language, read): streams of the rows, and the (language, row) of every row that was read.

    A stream fails once for each row named in `failures`.
    """
    left, read = {language: list(numbers) for language, numbers in (failures or {}).items()}, []

    def open_language(language, characters):
        def pass_on(row):
            if left.get(language, [])[:1] == [row["row"]]:
                left[language].pop(0)
                raise ConnectionError(f"lost at row {row['row']}\nand a second line")
            read.append((language, row["row"]))
            return row

        stream = datasets.Dataset.from_list(rows[language])
        return stream.to_iterable_dataset(num_shards=min(3, len(rows[language]))).map(pass_on)

    return open_language, read


def download(folder: Path, open_language, languages=("en",), characters: int = ALL, common_articles=False):
    return list(hub.download(list(languages), characters, common_articles, folder, open_language))


def article_ids(rows: list[dict], language: str) -> list[str]:
    return [row["article_id"] for row in rows if row["language"] == language]


def named(numbers) -> list[str]:
    return [f"Q{number}" for number in numbers]


def read_disk(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


# A connection that is lost

@each("lost", [[0, 3, 3, 4, 5, 17, 40, 41, 59], [12] * 5])
def test_an_interrupted_stream_gives_the_rows_of_an_undisturbed_one(tmp_path, lost):
    rows = {"en": make_articles("en", range(60))}
    undisturbed = download(tmp_path / "undisturbed", make_streams(rows)[0])
    assert [row["text"] for row in undisturbed] == [row["text"] for row in rows["en"]]
    assert download(tmp_path / "disturbed", make_streams(rows, {"en": lost})[0]) == undisturbed
    assert read_disk(tmp_path / "disturbed") == read_disk(tmp_path / "undisturbed")


def test_a_stream_that_cannot_be_opened_is_asked_for_again_and_a_full_disk_ends_the_call_at_once(
        tmp_path, waits, monkeypatch):
    open_language, _ = make_streams({"en": make_articles("en", range(20))})
    refusals = [OSError("no route"), TimeoutError(), RuntimeError("odd")]

    def open_late(*arguments):
        if refusals:
            raise refusals.pop(0)
        return open_language(*arguments)

    assert len(download(tmp_path / "late", open_late)) == 20
    assert waits == [1, 2, 4]
    waits.clear()
    def fill(*_):
        raise OSError(hub.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub, "write_json", fill)
    with pytest.raises(OSError, match="No space left"):
        download(tmp_path, make_streams({"en": make_articles("en", range(20))})[0])
    assert waits == []


def test_a_lost_connection_costs_no_more_than_the_part_in_work(tmp_path):
    open_language, read = make_streams({"en": make_articles("en", range(60))}, {"en": [33]})
    download(tmp_path, open_language)
    assert {row: times for (_, row), times in Counter(read).items() if times > 1} == {30: 2, 31: 2, 32: 2}


def test_it_gives_up_after_so_many_failures_without_progress_and_keeps_finished_parts(
        tmp_path, waits, caplog):
    open_language, _ = make_streams({"en": make_articles("en", range(60))}, {"en": [33] * hub.ATTEMPTS})
    message = r"'wiki40b' cannot .* \(ConnectionError: lost at row 33\).*goes on.*or 'folder:PATH'"
    with pytest.raises(CorpusUnavailable, match=message):
        download(tmp_path, open_language)
    assert waits == [hub.FIRST_WAIT * 2**number for number in range(hub.ATTEMPTS - 1)]
    kept = pd.concat(map(pd.read_parquet, hub.list_parts(tmp_path / "en")))
    assert kept.article_id.tolist() == named(range(30))
    waits.clear()
    nearly = hub.ATTEMPTS - 1
    lost = {"en": [12] * nearly + [33] * nearly}
    with caplog.at_level(logging.WARNING, "mome"):
        healthy, _ = make_streams({"en": make_articles("en", range(60))}, lost)
        assert len(download(tmp_path / "other", healthy)) == 60
    assert waits == 2 * [hub.FIRST_WAIT * 2**number for number in range(nearly)]
    assert "hub failed on en (ConnectionError: lost at row 12); attempt 2 of 6 in 1 s" in caplog.text


@each("common_articles", [False, True])
def test_after_giving_up_the_next_call_goes_on_and_reads_nothing_again(tmp_path, common_articles):
    rows = {"en": make_articles("en", range(40)), "fr": make_articles("fr", reversed(range(40))),
            "py": make_code(10)}
    failing, _ = make_streams(rows, {"fr": [23] * hub.ATTEMPTS})
    with pytest.raises(CorpusUnavailable):
        download(tmp_path / "again", failing, rows, common_articles=common_articles)
    kept = read_disk(tmp_path / "again")
    healthy, read = make_streams(rows)
    resumed = download(tmp_path / "again", healthy, rows, common_articles=common_articles)
    whole = download(tmp_path / "undisturbed", make_streams(rows)[0], rows, common_articles=common_articles)
    assert resumed == whole
    assert sorted(row for language, row in read if language == "fr") == list(range(20, 40))
    assert max(Counter(read).values()) == 1
    assert {name: content for name, content in read_disk(tmp_path / "again").items() if name in kept} == kept


def test_what_is_whole_on_disk_is_given_without_the_hub_and_progress_starts_where_it_ended(
        tmp_path, monkeypatch):
    rows = {"en": make_articles("en", range(40)), "fr": make_articles("fr", range(40))}
    first = download(tmp_path / "both", make_streams(rows)[0], rows, 600, True)
    assert download(tmp_path / "both", lambda *_: pytest.fail("the hub was asked"), rows, 600, True) == first
    rows = {"en": make_articles("en", range(40))}
    download(tmp_path, make_streams(rows)[0], characters=400)
    asked, progress = [], hub.progress
    monkeypatch.setattr(hub, "progress", lambda *words: asked.append(words) or progress(*words))
    heard = []
    with heard_by(heard.append):
        download(tmp_path, make_streams(rows)[0], characters=600)
    assert asked == [("stream en", 600, 400)]
    assert heard[0] == {"text": "stream en", "done": 600, "total": 600, "note": ""}


def test_a_part_that_no_state_vouches_for_is_ignored_and_written_anew(tmp_path):
    rows = {"en": make_articles("en", range(40))}
    with pytest.raises(CorpusUnavailable):
        download(tmp_path / "cut", make_streams(rows, {"en": [17] * hub.ATTEMPTS})[0])
    stray = tmp_path / "cut/en/00003.parquet"
    stray.write_bytes(b"half a part")
    assert stray not in hub.list_parts(tmp_path / "cut/en")
    whole = download(tmp_path / "whole", make_streams(rows)[0])
    assert download(tmp_path / "cut", make_streams(rows)[0]) == whole
    assert read_disk(tmp_path / "cut") == read_disk(tmp_path / "whole")


@each("written", [0, 5])
def test_an_interruption_between_part_and_state_loses_and_repeats_nothing(tmp_path, monkeypatch, written):
    rows, states, write_json = {"en": make_articles("en", range(40))}, [], hub.write_json

    def interrupt(path, state):
        if len(states) == written:
            raise KeyboardInterrupt
        states.append(state)
        write_json(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(hub, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(tmp_path, make_streams(rows)[0])
    assert (tmp_path / f"en/{written:05d}.parquet").exists()
    assert article_ids(download(tmp_path, make_streams(rows)[0]), "en") == named(range(40))


# Which rows are read and given

def test_only_articles_that_all_natural_languages_have_are_given(tmp_path):
    numbers = {"en": range(30), "fr": range(44, 4, -1), "de": range(0, 40, 2)}
    rows = {language: make_articles(language, order) for language, order in numbers.items()}
    given = download(tmp_path, make_streams(rows)[0], rows, common_articles=True)
    for language, order in numbers.items():
        expected = named(number for number in order if number in range(6, 30, 2))
        assert article_ids(given, language) == expected
    assert list(dict.fromkeys(row["language"] for row in given)) == list(rows)


@each("articles, depth, common", [
    (10, 40, range(30, 40)), (11, 80, [*range(10), *range(30, 80)]), (61, 100, range(100))])
def test_languages_are_read_to_one_depth_and_deeper_until_common_articles_hold_enough(
        tmp_path, articles, depth, common):
    # The first common article of the two orders is row 30 of English.
    rows = {"en": make_articles("en", range(100)), "fr": make_articles("fr", [*range(30, 100), *range(30)])}
    open_language, read = make_streams(rows)
    given = download(tmp_path, open_language, rows, 40 * articles, True)
    assert sorted(article_ids(given, "en")) == sorted(article_ids(given, "fr")) == sorted(named(common))
    assert [hub.read_state(tmp_path / language)["rows"] for language in rows] == [depth, depth]
    assert max(Counter(read).values()) == 1


def test_reading_deeper_stops_where_the_streams_end_and_a_common_article_counts_once(tmp_path):
    rows = {"en": make_articles("en", range(12)), "fr": make_articles("fr", range(59, 10, -1))}
    given = download(tmp_path / "one", make_streams(rows)[0], rows, common_articles=True)
    assert article_ids(given, "fr") == ["Q11"]
    rows["fr"] = make_articles("fr", range(12, 60))
    assert download(tmp_path / "nothing in common", make_streams(rows)[0], rows, common_articles=True) == []
    rows = {language: make_articles(language, [0] * 10 + list(range(1, 50))) for language in ("en", "fr")}
    given = download(tmp_path / "twice", make_streams(rows)[0], rows, 5 * 40, True)
    assert article_ids(given, "fr") == named(range(11))


def test_code_takes_no_part_in_common_articles_and_is_read_to_its_own_cap(tmp_path):
    rows = {"en": make_articles("en", range(40)), "py": make_code(60),
            "fr": make_articles("fr", range(20, 60))}
    given = download(tmp_path, make_streams(rows)[0], rows, 500, True)
    n_read = hub.read_state(tmp_path / "py")["rows"]
    assert article_ids(given, "py") == [f"me/tool/a{number}.py" for number in range(n_read)]
    assert 500 <= sum(len(row["text"]) for row in given if row["language"] == "py") < 500 + 5 * 40
    assert set(article_ids(given, "en")) == set(article_ids(given, "fr")) == set(named(range(20, 40)))


@each("languages, common", [(["en", "fr", "py"], False), (["en", "py"], True)])
def test_without_common_articles_each_language_is_read_to_its_own_cap(tmp_path, languages, common):
    rows = {"en": make_articles("en", range(100)), "fr": make_articles("fr", range(500, 510)),
            "py": make_code(100)}
    given = download(tmp_path, make_streams(rows)[0], languages, 41 * 40, common)
    assert article_ids(given, "en") == named(range(45))
    assert article_ids(given, "fr") == (named(range(500, 510)) if "fr" in languages else [])
    assert hub.read_state(tmp_path / "en")["ended"] is False


def test_a_part_is_written_when_it_holds_enough_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PART_CHARACTERS", 100)
    download(tmp_path, make_streams({"en": make_articles("en", range(10))})[0])
    assert [len(pd.read_parquet(part)) for part in hub.list_parts(tmp_path / "en")] == [3, 3, 3, 1]


def test_of_a_repeated_id_the_first_is_kept(tmp_path):
    rows = {"en": make_articles("en", [1, 2, 1, *range(3, 12), 2])}
    given = download(tmp_path, make_streams(rows)[0])
    assert article_ids(given, "en") == named(range(1, 12))
    assert [row["text"] for row in given][:2] == [row["text"] for row in rows["en"]][:2]


def test_empty_articles_are_left_out_and_do_not_count_and_a_part_of_them_writes_no_file(tmp_path):
    rows = [{"row": row, "wikidata_id": f"Q{row}", "text": "\n_START_ARTICLE_\n" if row % 2 else "0123456789"}
            for row in range(40)]
    given = download(tmp_path, make_streams({"en": rows})[0], characters=70)
    assert article_ids(given, "en") == named(range(0, 15, 2))
    state = hub.read_state(tmp_path / "en")
    assert state == {"rows": 15, "characters": 80, "parts": 3, "stream": state["stream"], "ended": False}
    rows = [{"row": row, "wikidata_id": f"Q{row}", "text": " " if row < 12 else "text"} for row in range(14)]
    assert article_ids(download(tmp_path / "part", make_streams({"en": rows})[0]), "en") == ["Q12", "Q13"]
    assert list(read_disk(tmp_path / "part")) == ["en/00000.parquet"]


# One row

def test_an_article_keeps_its_wikidata_id_and_loses_its_marks_but_no_other_text():
    text = ("\n_START_ARTICLE_\nApfel\n_START_SECTION_\nSorten\n_START_PARAGRAPH_\n"
            "Grüne Äpfel._NEWLINE_Rote Äpfel.")
    assert hub.read_row({"wikidata_id": "Q89", "text": text, "version_id": "1"}) == {
        "article_id": "Q89", "text": "Apfel\nSorten\nGrüne Äpfel.\nRote Äpfel."}
    text = "START_ARTICLE is a word\nof _two_ lines"
    assert hub.read_row({"wikidata_id": "Q1", "text": text})["text"] == text


def test_code_is_named_by_repository_and_path_and_keeps_its_text(tmp_path):
    text = "\n\n\nx = '_NEWLINE_'\n"
    rows = {"py": [{"row": 0, "repo_name": "me/tool", "path": "src/a.py", "content": text}]}
    assert download(tmp_path, make_streams(rows)[0], rows) == [
        {"language": "py", "article_id": "me/tool/src/a.py", "text": text}]


# A folder laid out like the hub

def make_hub(folder: Path) -> dict[str, list[dict]]:
    """Write a small Wiki40B and CodeParrot as the hub has them; return the rows of each language in order."""
    draw, rows, configs = random.Random(0), {}, ""
    marks = "\n_START_ARTICLE_\n{}\n_START_PARAGRAPH_\n{}_NEWLINE_{}_NEWLINE_{}"
    for language in ("en", "fr"):
        words = ["".join(draw.choices("abcdefghijklmnoprstuvwxyz", k=draw.randint(2, 8))) for _ in range(300)]
        texts = {f"Q{number}": [" ".join(draw.choices(words, k=12)) for _ in range(4)]
                 for number in draw.sample(range(130), 120)}
        rows[language] = [{"language": language, "article_id": name, "text": "\n".join(lines)}
                          for name, lines in texts.items()]
        marked = [{"wikidata_id": name, "text": marks.format(*lines), "version_id": "1"}
                  for name, lines in texts.items()]
        (folder / hub.WIKI40B / language).mkdir(parents=True)
        for number in range(2):
            path = folder / hub.WIKI40B / language / f"train-0000{number}-of-00002.parquet"
            table = pyarrow.Table.from_pylist(marked[60 * number:60 * number + 60])
            pyarrow.parquet.write_table(table, path, row_group_size=16)
        configs += f"- config_name: {language}\n  data_files: {language}/train-*\n"
    (folder / hub.WIKI40B / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    texts = ["".join(f"def f{draw.randrange(10**6)}(x):\n    return {draw.random()} * x\n" for _ in range(6))
             for _ in range(90)]
    code = [{"repo_name": f"user{number % 7}/tool", "path": f"src/a{number}.py", "content": text}
            for number, text in enumerate(texts)]
    (folder / hub.CODE_FOR_LAPTOPS).mkdir(parents=True)
    with gzip.open(folder / hub.CODE_FOR_LAPTOPS / "file-000000000054.json.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in code)
    rows["py"] = [{"language": "py", **hub.read_row(row)} for row in code]
    return rows


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory) -> tuple[Path, dict[str, list[dict]]]:
    folder = tmp_path_factory.mktemp("hub")
    return folder, make_hub(folder)


@pytest.fixture
def hub_rows(monkeypatch, hub_folder) -> dict[str, list[dict]]:
    """Let the folder be the hub; return its rows."""
    folder, rows = hub_folder
    monkeypatch.setattr(hub, "ROOT", f"{folder}/")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    return rows


def keep_common(rows: dict[str, list[dict]]) -> list[dict]:
    """Return what a download with common articles must give of a hub that is read to its end."""
    common = set.intersection(*({row["article_id"] for row in rows[language]} for language in ("en", "fr")))
    return [row for language in rows for row in rows[language]
            if language == "py" or row["article_id"] in common]


def test_a_folder_laid_out_like_the_hub_gives_its_rows_in_their_order(tmp_path, hub_rows):
    given = download(tmp_path / "all", hub.open_stream, hub_rows)
    assert given == [row for language in hub_rows for row in hub_rows[language]]
    given = download(tmp_path / "common", hub.open_stream, hub_rows, common_articles=True)
    assert given == keep_common(hub_rows)
    assert 100 < len(article_ids(given, "en")) < 120


@each("language, parts", [("en", 13), ("py", 4)])
def test_a_killed_download_goes_on_within_a_row_group(tmp_path, hub_rows, language, parts):
    reading = hub.read_parts(tmp_path / language, ALL, hub.open_stream)
    for _ in range(parts):
        next(reading)
    del reading
    assert hub.read_state(tmp_path / language)["rows"] == 5 * parts
    assert download(tmp_path, hub.open_stream, [language]) == hub_rows[language]


def test_a_folder_like_the_hub_is_reachable_in_its_row_groups_and_what_fails_or_is_not_there_is_not(
        hub_rows, tmp_path, monkeypatch):
    assert hub.open_stream("en", ALL).num_shards == 8  # two files of four row groups
    assert hub.is_reachable()
    monkeypatch.setattr(hub, "ROOT", f"{tmp_path}/")
    assert not hub.is_reachable()
    def fail(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(dataset_info=fail))
    assert hub.is_reachable() is False


def test_code_is_taken_from_the_small_part_while_it_is_enough(monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *words, **_: asked.append(words))
    for characters in (hub.LAPTOP_CHARACTERS, hub.LAPTOP_CHARACTERS + 1):
        hub.open_stream("py", characters)
    assert asked == [(hub.CODE_FOR_LAPTOPS,), (hub.CODE,)]


def test_a_corpus_that_lost_the_hub_says_so_and_goes_on_when_read_again(tmp_path, monkeypatch, hub_rows):
    def lose(row):
        article = read_row(row)
        if is_down and article["text"] == hub_rows["fr"][70]["text"]:
            raise ConnectionError("no route")
        read.append(article["text"])
        return article

    read, is_down, read_row = [], True, hub.read_row
    monkeypatch.setattr(hub, "read_row", lose)
    words = ("wiki40b", ["en", "fr", "py"], ALL, True, tmp_path)
    with pytest.raises(CorpusUnavailable, match=r"hub \(ConnectionError: no route\); .*same command goes on"):
        list(read_documents(*words))
    assert hub.read_state(tmp_path / "fr")["rows"] == 70
    is_down = False
    read.clear()
    assert list(read_documents(*words)) == keep_common(hub_rows)
    assert not set(read) & {row["text"] for row in hub_rows["fr"][:70]}


# The real client against a server on this machine

COMMIT = "0123456789abcdef" * 2 + "01234567"
# The client's own retries wait 1, 2, 4, 8, 8 s, which no setting shortens: every sleep of the process is cut
# to a hundredth of a second. Torch, which `datasets` imports where it is, is not needed; the parquet export
# is another host's. The process reads once for each word: the server is told which fault is next, and the
# client forgets what it knows of the server's files.
FETCH = f"""
import os, sys, time, urllib.request
os.environ["USE_TORCH"] = "0"
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
from pathlib import Path
import datasets, huggingface_hub
import pandas as pd
from mome.data import hub
datasets.config.USE_PARQUET_EXPORT = False
hub.PART_ROWS, hub.FIRST_ROWS = 10, 200
for word in sys.argv[2:]:
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/fault/" + word).close()
    huggingface_hub.HfFileSystem.clear_instance_cache()
    print("reading under", word, file=sys.stderr)
    folder = Path(sys.argv[1], word)
    pd.DataFrame(hub.download(["en", "fr", "py"], {ALL}, True, folder)).to_parquet(folder / "rows.parquet")
"""


def is_data(path: str) -> bool:
    return path.endswith((".parquet", ".json.gz"))


# How the request of that number, for that path, fails.
FAULTS = {
    "healthy": lambda number, path, earlier: "",
    "503": lambda number, path, earlier: "busy" if random.Random(number).random() < 0.2 else "",
    "503-for-long": lambda number, path, earlier: "busy" if 30 <= number < 50 else "",
    "cut": lambda number, path, earlier: "cut" if number % 2 and is_data(path) else "",
    "stall": lambda number, path, earlier: "stall" if number == 14 else "",
    "drop-for-long": lambda number, path, earlier: "drop" if 25 <= number < 40 else "",
    "down": lambda number, path, earlier: "drop" * (sum("/fr/train-00001" in old for old in earlier) > 2)}
PASSING = [name for name in FAULTS if name not in ("healthy", "down")]


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a stream of `load_dataset` asks for, failing as the last `/fault/<name>` said."""

    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet, or each answer waits for an acknowledgement

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "fault":
            self.server.fault, self.server.paths = parts[1], []
            return self.answer(200)
        with self.server.lock:
            fault = FAULTS[self.server.fault](len(self.server.paths) + 1, self.path, self.server.paths)
            self.server.paths.append(self.path)
            self.server.failed[self.server.fault] += bool(fault)
        if fault == "stall":
            time.sleep(1.2)
        if fault in ("drop", "stall"):
            self.close_connection = True
        elif fault == "busy":
            self.answer(503)
        elif parts[:2] == ["api", "datasets"]:
            kind = parts[4] if len(parts) > 4 else "revision"
            self.answer_api("/".join(parts[2:4]), kind, "/".join(parts[6:]))
        else:
            self.answer_file(self.server.folder.joinpath(*parts[1:3], *parts[5:]), is_cut=fault == "cut")

    def answer_api(self, repository: str, kind: str, path: str):
        root = self.server.folder / repository
        if kind == "revision":
            return self.answer(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode())
        if not (root / path).is_dir():
            return self.answer(404, X_Error_Code="EntryNotFound")
        entries = [{"path": entry.relative_to(root).as_posix(), "size": entry.stat().st_size, "oid": "0" * 40,
                    "type": "directory" if entry.is_dir() else "file"}
                   for entry in sorted((root / path).iterdir())]
        return self.answer(200, json.dumps(entries).encode())

    def answer_file(self, path: Path, is_cut: bool):
        if not path.is_file():
            return self.answer(404, X_Error_Code="EntryNotFound")
        body = path.read_bytes()
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{len(body)}"', "Accept_Ranges": "bytes"}
        if "Range" not in self.headers:
            return self.answer(200, body, is_cut, **headers)
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = body[int(first):int(last or len(body)) + 1]
        headers["Content_Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        return self.answer(206, part, is_cut, **headers)

    def answer(self, code: int, body: bytes = b"", is_cut: bool = False, **headers):
        self.send_response(code)
        for name, value in (headers | {"Content_Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:len(body) // 2] if is_cut else body)
            self.close_connection = is_cut


@contextmanager
def serve(folder: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.lock, server.fault = folder, threading.Lock(), "healthy"
    server.paths, server.failed = [], Counter()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_client(server, folder: Path, words: list[str]) -> subprocess.CompletedProcess:
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DOWNLOAD_TIMEOUT": "1",
                "HF_HUB_ETAG_TIMEOUT": "1", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_OFFLINE": "0", "NO_PROXY": "*", "MOME_BATCH": "1"}
    return subprocess.run([sys.executable, "-c", FETCH, str(folder), *words], env=os.environ | settings,
                          capture_output=True, text=True, timeout=120)


def rows_read(folder: Path) -> dict[str, int]:
    return {path.parent.name: hub.read_state(path.parent)["rows"] for path in folder.glob("*/state.json")}


@pytest.fixture(scope="module")
def failing_reads(hub_folder, tmp_path_factory):
    """Return (folder, faults met, process) of a client that reads under each fault, then loses the hub."""
    folder = tmp_path_factory.mktemp("failing")
    with serve(hub_folder[0]) as server:
        return folder, server.failed, run_client(server, folder, [*PASSING, "down"])


@each("fault", PASSING)
def test_the_rows_of_a_hub_that_fails_are_those_of_a_healthy_one(failing_reads, hub_folder, fault):
    (folder, failed, client), (_, rows) = failing_reads, hub_folder
    assert (folder / fault / "rows.parquet").exists(), client.stderr
    assert pd.read_parquet(folder / fault / "rows.parquet").to_dict("records") == keep_common(rows)
    assert failed[fault] >= (1 if fault == "stall" else 2)
    assert rows_read(folder / fault) == {language: len(rows[language]) for language in rows}
    said = client.stderr.partition(f"reading under {fault}\n")[2].partition("reading under")[0]
    assert "hub failed on" in said or "for-long" not in fault


def test_a_hub_that_goes_down_ends_the_call_and_the_next_one_goes_on(failing_reads, hub_folder, tmp_path):
    (folder, _, client), (root, rows) = failing_reads, hub_folder
    assert client.returncode == 1
    assert client.stderr.splitlines()[-1].startswith("mome.data.folder.CorpusUnavailable: ")
    assert not (folder / "down/rows.parquet").exists()
    kept = read_disk(folder / "down")
    assert 60 < rows_read(folder / "down")["fr"] < 120
    shutil.copytree(folder / "down", tmp_path / "healthy")
    with serve(root) as server:
        result = run_client(server, tmp_path, ["healthy"])
    assert result.returncode == 0, result.stderr
    assert rows_read(tmp_path / "healthy") == {language: len(rows[language]) for language in rows}
    assert not any("/en/train" in path for path in server.paths)
    assert pd.read_parquet(tmp_path / "healthy/rows.parquet").to_dict("records") == keep_common(rows)
    after = read_disk(tmp_path / "healthy")
    assert {name: after[name] for name in kept} == kept
