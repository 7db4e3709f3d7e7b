"""Streams from the hub: interrupted, cut off, resumed. The hub is a stand-in, a folder laid out like it, or a small server on this machine."""

import gzip
import json
import logging
import os
import random
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

from mome import hub

SIZES = {"PART_CHARACTERS": 2_000, "PART_ROWS": 5, "FIRST_ROWS": 10}
ALL = 10**8  # characters that no stream here has, and for which the small part of CodeParrot is enough


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Small parts, and a list of the waits instead of the waits themselves."""
    monkeypatch.setenv("MOME_BATCH", "1")
    for name, value in SIZES.items():
        monkeypatch.setattr(hub, name, value)
    waited: list[float] = []
    monkeypatch.setattr(hub, "time", SimpleNamespace(sleep=waited.append))
    return waited


def make_articles(language: str, numbers) -> list[dict]:
    """Return rows of 40 characters, in the order of `numbers`; `row` is the place in the stream."""
    return [{"row": row, "wikidata_id": f"Q{number}", "text": f"{language} {number} at {row} ".ljust(40, "x")} for row, number in enumerate(numbers)]


def stand_in(rows: dict[str, list[dict]], failures: dict[str, list[int]] | None = None):
    """Return (open_language, read): streams that fail once for each row named in `failures`, and the (language, row) of every row read."""
    left, read = {language: list(numbers) for language, numbers in (failures or {}).items()}, []

    def open_language(language, characters):
        def pass_on(row):
            if left.get(language, [])[:1] == [row["row"]]:
                left[language].pop(0)
                raise ConnectionError(f"lost at row {row['row']}\nand a second line")
            read.append((language, row["row"]))
            return row

        return datasets.Dataset.from_list(rows[language]).to_iterable_dataset(num_shards=min(3, len(rows[language]))).map(pass_on)

    return open_language, read


def download(folder: Path, open_language, languages=("en",), characters: int = ALL, common_articles: bool = False) -> list[dict]:
    return list(hub.download(list(languages), characters, common_articles, folder, open_language))


def article_ids(rows: list[dict], language: str) -> list[str]:
    return [row["article_id"] for row in rows if row["language"] == language]


def named(numbers) -> list[str]:
    return [f"Q{number}" for number in numbers]


def read_disk(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


# A connection that is lost

@pytest.mark.parametrize("lost", [[0], [1], [4], [5], [6], [59], [3, 3, 17, 40, 41], [12] * 5, list(range(60))])
def test_an_interrupted_stream_gives_the_rows_of_an_undisturbed_one(tmp_path, lost):
    rows = {"en": make_articles("en", range(60))}
    undisturbed = download(tmp_path / "undisturbed", stand_in(rows)[0])
    assert [row["text"] for row in undisturbed] == [row["text"] for row in rows["en"]]
    assert download(tmp_path / "disturbed", stand_in(rows, {"en": lost})[0]) == undisturbed
    assert read_disk(tmp_path / "disturbed") == read_disk(tmp_path / "undisturbed")


def test_a_stream_that_cannot_be_opened_is_asked_for_again(tmp_path, waits):
    open_language, _ = stand_in({"en": make_articles("en", range(20))})
    refusals = [OSError("no route"), TimeoutError(), RuntimeError("odd")]

    def open_late(*arguments):
        if refusals:
            raise refusals.pop(0)
        return open_language(*arguments)

    assert len(download(tmp_path, open_late)) == 20
    assert waits == [1, 2, 4]


def test_a_lost_connection_costs_no_more_than_the_part_in_work(tmp_path):
    open_language, read = stand_in({"en": make_articles("en", range(60))}, {"en": [33]})
    download(tmp_path, open_language)
    assert {row: times for (_, row), times in Counter(read).items() if times > 1} == {30: 2, 31: 2, 32: 2}


def test_it_gives_up_after_so_many_failures_in_a_row_and_keeps_finished_parts(tmp_path, waits):
    open_language, _ = stand_in({"en": make_articles("en", range(60))}, {"en": [33] * hub.ATTEMPTS})
    with pytest.raises(hub.HubUnavailable, match=r"^ConnectionError: lost at row 33$"):
        download(tmp_path, open_language)
    assert waits == [hub.FIRST_WAIT * 2**number for number in range(hub.ATTEMPTS - 1)]
    assert pd.concat(map(pd.read_parquet, hub.list_parts(tmp_path / "en"))).article_id.tolist() == named(range(30))


def test_failures_with_progress_between_them_do_not_count_together(tmp_path, waits, caplog):
    nearly = hub.ATTEMPTS - 1
    open_language, _ = stand_in({"en": make_articles("en", range(60))}, {"en": [12] * nearly + [33] * nearly})
    with caplog.at_level(logging.WARNING, "mome"):
        assert len(download(tmp_path, open_language)) == 60
    assert waits == 2 * [hub.FIRST_WAIT * 2**number for number in range(nearly)]
    assert "hub failed on en (ConnectionError: lost at row 12); attempt 2 of 6 in 1 s" in caplog.text


@pytest.mark.parametrize("common_articles", [False, True])
def test_after_giving_up_the_next_call_goes_on_and_reads_nothing_again(tmp_path, common_articles):
    rows = {"en": make_articles("en", range(40)), "fr": make_articles("fr", reversed(range(40))), "py": make_code(10)}
    failing, _ = stand_in(rows, {"fr": [23] * hub.ATTEMPTS})
    with pytest.raises(hub.HubUnavailable):
        download(tmp_path / "again", failing, rows, common_articles=common_articles)
    kept = read_disk(tmp_path / "again")
    healthy, read = stand_in(rows)
    resumed = download(tmp_path / "again", healthy, rows, common_articles=common_articles)
    assert resumed == download(tmp_path / "undisturbed", stand_in(rows)[0], rows, common_articles=common_articles)
    assert sorted(row for language, row in read if language == "fr") == list(range(20, 40))
    assert max(Counter(read).values()) == 1
    assert {name: content for name, content in read_disk(tmp_path / "again").items() if name in kept} == kept


def test_what_is_whole_on_disk_is_given_without_the_hub(tmp_path):
    rows = {"en": make_articles("en", range(40)), "fr": make_articles("fr", range(40))}
    first = download(tmp_path, stand_in(rows)[0], rows, 600, True)
    assert download(tmp_path, lambda *_: pytest.fail("the hub was asked"), rows, 600, True) == first


def test_a_part_that_no_state_vouches_for_is_ignored_and_written_anew(tmp_path):
    rows = {"en": make_articles("en", range(40))}
    with pytest.raises(hub.HubUnavailable):
        download(tmp_path / "en-cut", stand_in(rows, {"en": [17] * hub.ATTEMPTS})[0])
    stray = tmp_path / "en-cut/en/00003.parquet"
    stray.write_bytes(b"half a part")
    assert stray not in hub.list_parts(tmp_path / "en-cut/en")
    assert download(tmp_path / "en-cut", stand_in(rows)[0]) == download(tmp_path / "whole", stand_in(rows)[0])
    assert read_disk(tmp_path / "en-cut") == read_disk(tmp_path / "whole")


@pytest.mark.parametrize("written", [0, 1, 5])
def test_an_interruption_between_a_part_and_its_state_loses_and_repeats_nothing(tmp_path, monkeypatch, written):
    rows, states, write_json = {"en": make_articles("en", range(40))}, [], hub.write_json

    def interrupt(path, state):
        if len(states) == written:
            raise KeyboardInterrupt
        states.append(state)
        write_json(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(hub, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(tmp_path, stand_in(rows)[0])
    assert (tmp_path / f"en/{written:05d}.parquet").exists()
    assert article_ids(download(tmp_path, stand_in(rows)[0]), "en") == named(range(40))


# Which rows are read and given

def test_only_articles_that_all_natural_languages_have_are_given(tmp_path):
    numbers = {"en": range(30), "fr": range(44, 4, -1), "de": range(0, 40, 2)}
    rows = {language: make_articles(language, order) for language, order in numbers.items()}
    given = download(tmp_path, stand_in(rows)[0], rows, common_articles=True)
    for language, order in numbers.items():
        assert article_ids(given, language) == named(number for number in order if number in range(6, 30, 2))
    assert [row["language"] for row in given] == sorted((row["language"] for row in given), key=list(rows).index)


def test_languages_are_read_to_one_depth_and_deeper_until_common_articles_hold_enough(tmp_path):
    # The first common article of the two orders stands in row 30 of English.
    rows = {"en": make_articles("en", range(100)), "fr": make_articles("fr", [*range(30, 100), *range(30)])}
    for articles, depth, common in [(1, 40, range(30, 40)), (10, 40, range(30, 40)), (11, 80, [*range(10), *range(30, 80)]), (61, 100, range(100))]:
        folder = tmp_path / str(articles)
        open_language, read = stand_in(rows)
        given = download(folder, open_language, rows, 40 * articles, True)
        assert sorted(article_ids(given, "en")) == sorted(article_ids(given, "fr")) == sorted(named(common))
        assert {language: hub.read_state(folder / language)["rows"] for language in rows} == {"en": depth, "fr": depth}
        assert max(Counter(read).values()) == 1


def test_reading_deeper_stops_where_the_streams_end(tmp_path):
    rows = {"en": make_articles("en", range(12)), "fr": make_articles("fr", range(59, 10, -1))}
    assert article_ids(download(tmp_path, stand_in(rows)[0], rows, common_articles=True), "fr") == ["Q11"]
    rows["fr"] = make_articles("fr", range(12, 60))
    assert download(tmp_path / "nothing in common", stand_in(rows)[0], rows, common_articles=True) == []


def test_a_common_article_that_stands_twice_counts_once(tmp_path):
    rows = {language: make_articles(language, [0] * 10 + list(range(1, 50))) for language in ("en", "fr")}
    assert article_ids(download(tmp_path, stand_in(rows)[0], rows, 5 * 40, True), "fr") == named(range(11))


def test_code_takes_no_part_in_common_articles_and_is_read_to_its_own_cap(tmp_path):
    rows = {"en": make_articles("en", range(40)), "py": make_code(60), "fr": make_articles("fr", range(20, 60))}
    given = download(tmp_path, stand_in(rows)[0], rows, 500, True)
    assert article_ids(given, "py") == [f"me/tool/a{number}.py" for number in range(hub.read_state(tmp_path / "py")["rows"])]
    assert 500 <= sum(len(row["text"]) for row in given if row["language"] == "py") < 500 + 5 * 40
    assert set(article_ids(given, "en")) == set(article_ids(given, "fr"))


@pytest.mark.parametrize(("languages", "common_articles"), [(["en", "fr", "py"], False), (["en", "py"], True)])
def test_without_common_articles_each_language_is_read_to_its_own_cap(tmp_path, languages, common_articles):
    rows = {"en": make_articles("en", range(100)), "fr": make_articles("fr", range(500, 510)), "py": make_code(100)}
    given = download(tmp_path, stand_in(rows)[0], languages, 41 * 40, common_articles)
    assert article_ids(given, "en") == named(range(45))
    assert article_ids(given, "fr") == (named(range(500, 510)) if "fr" in languages else [])
    assert hub.read_state(tmp_path / "en")["ended"] is False


def test_a_part_is_written_when_it_holds_enough_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PART_CHARACTERS", 100)
    download(tmp_path, stand_in({"en": make_articles("en", range(10))})[0])
    assert [len(pd.read_parquet(part)) for part in hub.list_parts(tmp_path / "en")] == [3, 3, 3, 1]


def test_of_a_repeated_id_the_first_is_kept(tmp_path):
    rows = {"en": make_articles("en", [1, 2, 1, *range(3, 12), 2])}
    given = download(tmp_path, stand_in(rows)[0])
    assert article_ids(given, "en") == named(range(1, 12))
    assert [row["text"] for row in given][:2] == [row["text"] for row in rows["en"]][:2]


def test_empty_articles_are_left_out_and_do_not_count(tmp_path):
    rows = [{"row": row, "wikidata_id": f"Q{row}", "text": "\n_START_ARTICLE_\n" if row % 2 else "0123456789"} for row in range(40)]
    given = download(tmp_path, stand_in({"en": rows})[0], characters=70)
    assert article_ids(given, "en") == named(range(0, 15, 2))
    assert hub.read_state(tmp_path / "en") | {"stream": None} == {"rows": 15, "characters": 80, "parts": 3, "stream": None, "ended": False}


def test_a_part_of_empty_articles_only_writes_no_file(tmp_path):
    rows = [{"row": row, "wikidata_id": f"Q{row}", "text": " " if row < 12 else "text"} for row in range(14)]
    assert article_ids(download(tmp_path, stand_in({"en": rows})[0]), "en") == ["Q12", "Q13"]
    assert list(read_disk(tmp_path)) == ["en/00000.parquet"]


# One row

WIKI = "\n_START_ARTICLE_\nApfel\n_START_SECTION_\nSorten\n_START_PARAGRAPH_\nGrüne Äpfel._NEWLINE_Rote Äpfel."


def make_code(n: int) -> list[dict]:
    return [{"row": row, "repo_name": "me/tool", "path": f"a{row}.py", "content": f"x = '_NEWLINE_'  # {row}".ljust(39) + "\n"} for row in range(n)]


def test_an_article_keeps_its_wikidata_id_and_loses_its_marks(tmp_path):
    rows = {"de": [{"row": 0, "wikidata_id": "Q89", "text": WIKI, "version_id": "1"}]}
    assert download(tmp_path, stand_in(rows)[0], rows) == [{"language": "de", "article_id": "Q89", "text": "Apfel\nSorten\nGrüne Äpfel.\nRote Äpfel."}]


def test_text_without_wiki_marks_stays_as_it_is():
    assert hub.strip_wiki_marks("START_ARTICLE is a word\nof _two_ lines") == "START_ARTICLE is a word\nof _two_ lines"


def test_code_is_named_by_repository_and_path_and_keeps_its_text(tmp_path):
    rows = {"py": [{"row": 0, "repo_name": "me/tool", "path": "src/a.py", "content": "\n\n\nx = '_NEWLINE_'\n"}]}
    assert download(tmp_path, stand_in(rows)[0], rows) == [{"language": "py", "article_id": "me/tool/src/a.py", "text": "\n\n\nx = '_NEWLINE_'\n"}]


# A folder laid out like the hub

def make_hub(folder: Path) -> dict[str, list[dict]]:
    """Write a small Wiki40B and CodeParrot as the hub has them; return the rows {language, article_id, text} of each language in their order."""
    draw, rows = random.Random(0), {}
    for language in ("en", "fr"):
        words = ["".join(draw.choices("abcdefghijklmnoprstuvwxyz", k=draw.randint(2, 8))) for _ in range(300)]
        texts = {f"Q{number}": [" ".join(draw.choices(words, k=12)) for _ in range(4)] for number in draw.sample(range(130), 120)}
        rows[language] = [{"language": language, "article_id": name, "text": "\n".join(lines)} for name, lines in texts.items()]
        marked = [{"wikidata_id": name, "text": "\n_START_ARTICLE_\n{}\n_START_PARAGRAPH_\n{}_NEWLINE_{}_NEWLINE_{}".format(*lines), "version_id": "1"}
                  for name, lines in texts.items()]
        (folder / hub.WIKI40B / language).mkdir(parents=True)
        for number in range(2):
            table = pyarrow.Table.from_pylist(marked[60 * number:60 * number + 60])
            pyarrow.parquet.write_table(table, folder / hub.WIKI40B / language / f"train-0000{number}-of-00002.parquet", row_group_size=16)
    configs = "".join(f"- config_name: {language}\n  data_files:\n  - split: train\n    path: {language}/train-*\n" for language in rows)
    (folder / hub.WIKI40B / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    code = [(f"user{number % 7}/tool", f"src/a{number}.py", "".join(f"def f{draw.randrange(10**6)}(x):\n    return {draw.random()} * x\n" for _ in range(6)))
            for number in range(90)]
    rows["py"] = [{"language": "py", "article_id": f"{repository}/{path}", "text": text} for repository, path, text in code]
    (folder / hub.CODE_FOR_LAPTOPS).mkdir(parents=True)
    with gzip.open(folder / hub.CODE_FOR_LAPTOPS / "file-000000000054.json.gz", "wt") as file:
        file.writelines(json.dumps({"repo_name": repository, "path": path, "content": text, "license": "mit"}) + "\n" for repository, path, text in code)
    return rows


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory) -> tuple[Path, dict[str, list[dict]]]:
    folder = tmp_path_factory.mktemp("hub")
    return folder, make_hub(folder)


@pytest.fixture
def hub_rows(monkeypatch, hub_folder) -> dict[str, list[dict]]:
    """Let the folder stand in for the hub; return its rows."""
    folder, rows = hub_folder
    monkeypatch.setattr(hub, "ROOT", f"{folder}/")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    return rows


def keep_common(rows: dict[str, list[dict]]) -> list[dict]:
    """Return what a download with common articles must give of a hub that is read to its end."""
    common = set.intersection(*({row["article_id"] for row in rows[language]} for language in ("en", "fr")))
    return [row for language in rows for row in rows[language] if language == "py" or row["article_id"] in common]


def test_a_folder_laid_out_like_the_hub_gives_its_rows_in_their_order(tmp_path, hub_rows):
    assert download(tmp_path / "all", hub.open_stream, hub_rows) == [row for language in hub_rows for row in hub_rows[language]]
    given = download(tmp_path / "common", hub.open_stream, hub_rows, common_articles=True)
    assert given == keep_common(hub_rows)
    assert 100 < len(article_ids(given, "en")) < 120


@pytest.mark.parametrize("parts", [1, 4, 13])
@pytest.mark.parametrize("language", ["en", "py"])
def test_a_killed_download_goes_on_within_a_row_group(tmp_path, hub_rows, language, parts):
    reading = hub.read_parts(tmp_path / language, language, ALL, hub.open_stream)
    for _ in range(parts):
        next(reading)
    del reading
    assert hub.read_state(tmp_path / language)["rows"] == 5 * parts
    assert download(tmp_path, hub.open_stream, [language]) == hub_rows[language]


def test_going_on_need_not_read_a_file_from_its_beginning(hub_rows):
    assert hub.open_stream("en", ALL).num_shards == 8  # two files of four row groups


@pytest.mark.parametrize(("characters", "name"), [(hub.LAPTOP_CHARACTERS, hub.CODE_FOR_LAPTOPS), (hub.LAPTOP_CHARACTERS + 1, hub.CODE)])
def test_code_is_taken_from_the_small_part_while_it_is_enough(monkeypatch, characters, name):
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **_: asked.append(arguments))
    hub.open_stream("py", characters)
    assert asked == [(name,)]


def test_a_folder_is_reachable_when_it_is_there(tmp_path, monkeypatch, hub_rows):
    assert hub.is_reachable()
    monkeypatch.setattr(hub, "ROOT", f"{tmp_path}/")
    assert not hub.is_reachable()


def test_a_hub_that_fails_in_any_way_is_not_reachable(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(dataset_info=fail))
    assert hub.is_reachable() is False


def test_the_command_that_lost_the_hub_leaves_nothing_half_done_and_goes_on_when_repeated(tmp_path, monkeypatch, capsys, hub_rows):
    from mome.__main__ import main

    def lose(row):
        article = read_article(row)
        if is_down and article["text"] == hub_rows["fr"][70]["text"]:
            raise ConnectionError("no route")
        read.append(article["text"])
        return article

    read, is_down, read_article, artifacts = [], True, hub.read_article, tmp_path / "home/data/artifacts"
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub, "read_article", lose)
    words = ["data", "--corpus", "wiki40b", "--languages", "en,fr,py", "--scale", "smoke", "--vocab-size", "400", "--context", "16",
             "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error, = capsys.readouterr().err.splitlines()
    assert error.startswith("mome: corpus='wiki40b' cannot be read from the hub (ConnectionError: no route)")
    assert "the same command goes on from there" in error
    assert not (tmp_path / "out").exists()
    assert [path.name.split("-")[0] for path in artifacts.iterdir() if path.is_dir()] == ["partial"]
    assert hub.read_state(next(artifacts.glob("partial-*/stream/fr")))["rows"] == 70
    is_down = False
    read.clear()
    assert main(words) == 0
    assert not set(read) & {row["text"] for row in hub_rows["fr"][:70]}
    corpus, = artifacts.glob("corpus-*/documents.parquet")
    assert pd.read_parquet(corpus).to_dict("records") == keep_common(hub_rows)
    assert (tmp_path / "out/train.json").exists()
    assert not any(path.name.startswith("partial") or path.name == "stream" for path in artifacts.rglob("*"))


# The real client against a server on this machine

COMMIT = "0123456789abcdef" * 2 + "01234567"
# The client's own retries wait 1, 2, 4, 8, 8 s, which no setting shortens: every sleep of the process is cut to a hundredth
# of a second. Torch, which `datasets` imports where it is, is not needed; the parquet export is another host's.
FETCH = f"""
import os, sys, time
os.environ["USE_TORCH"] = "0"
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
from pathlib import Path
import datasets
import pandas as pd
from mome import hub
datasets.config.USE_PARQUET_EXPORT = False
hub.PART_ROWS, hub.FIRST_ROWS = 5, 200
pd.DataFrame(hub.download(["en", "fr", "py"], {ALL}, True, Path(sys.argv[1]))).to_parquet(sys.argv[2])
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as `load_dataset(..., streaming=True)` asks for; `server.fault(number, path)` says how to fail a request."""

    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet, or each answer waits for an acknowledgement

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        with self.server.lock:
            self.server.paths.append(self.path)
            fault = self.server.fault(len(self.server.paths), self.path)
            self.server.faults += bool(fault)
        if fault == "stall":
            time.sleep(1.5)
        if fault in ("drop", "stall"):
            self.close_connection = True
        elif fault == "busy":
            self.answer(503)
        elif parts[:2] == ["api", "datasets"]:
            self.answer_api("/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision", "/".join(parts[6:]))
        else:
            self.answer_file(self.server.folder.joinpath(*parts[1:3], *parts[5:]), is_cut=fault == "cut")

    def answer_api(self, repository: str, kind: str, path: str):
        root = self.server.folder / repository
        if kind == "revision":
            return self.answer(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode())
        if not (root / path).is_dir():
            return self.answer(404, X_Error_Code="EntryNotFound")
        entries = [{"type": "directory" if entry.is_dir() else "file", "path": entry.relative_to(root).as_posix(), "oid": "0" * 40,
                    "size": entry.stat().st_size} for entry in sorted((root / path).iterdir())]
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
        return self.answer(206, part, is_cut, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}", **headers)

    def answer(self, code: int, body: bytes = b"", is_cut: bool = False, **headers):
        self.send_response(code)
        for name, value in (headers | {"Content_Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:len(body) // 2] if is_cut else body)
            self.close_connection = is_cut


@contextmanager
def serve(folder: Path, fault):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.fault, server.faults, server.paths, server.lock = folder, fault, 0, [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_client(server, folder: Path, *words) -> subprocess.CompletedProcess:
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1",
                "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "*", "MOME_BATCH": "1"}
    return subprocess.run([sys.executable, "-c", FETCH, *map(str, words)], env=os.environ | settings, capture_output=True, text=True, timeout=120)


def rows_read(folder: Path) -> dict[str, int]:
    return {state.parent.name: hub.read_state(state.parent)["rows"] for state in folder.glob("*/state.json")}


def is_data(path: str) -> bool:
    return path.endswith((".parquet", ".json.gz"))


FAULTS = {
    "answers 503 now and then": lambda number, path: "busy" if random.Random(number).random() < 0.2 else "",
    "answers 503 for longer than the client tries": lambda number, path: "busy" if 30 <= number < 50 else "",
    "cuts every second file short": lambda number, path: "cut" if number % 2 and is_data(path) else "",
    "stalls now and then": lambda number, path: "stall" if number in (3, 14) else "",
    "drops connections for longer than the client tries": lambda number, path: "drop" if 25 <= number < 40 else ""}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_rows_of_a_hub_that_fails_are_those_of_a_healthy_one(tmp_path, hub_folder, fault):
    folder, rows = hub_folder
    with serve(folder, FAULTS[fault]) as server:
        result = run_client(server, tmp_path, tmp_path / "stream", tmp_path / "rows.parquet")
    assert result.returncode == 0, result.stderr
    assert server.faults >= 2
    assert pd.read_parquet(tmp_path / "rows.parquet").to_dict("records") == keep_common(rows)
    assert rows_read(tmp_path / "stream") == {language: len(rows[language]) for language in rows}
    assert "hub failed on" in result.stderr or "longer" not in fault


def test_a_hub_that_goes_down_for_good_ends_the_call_and_the_next_one_goes_on(tmp_path, hub_folder):
    folder, rows = hub_folder
    words = (tmp_path / "stream", tmp_path / "rows.parquet")
    with serve(folder, lambda number, path: "drop" if sum("/fr/train-00001" in earlier for earlier in server.paths) > 2 else "") as server:
        result = run_client(server, tmp_path, *words)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("mome.hub.HubUnavailable: ")
    assert not words[1].exists()
    kept = read_disk(tmp_path / "stream")
    assert 60 < rows_read(tmp_path / "stream")["fr"] < 120
    with serve(folder, lambda number, path: "") as server:
        result = run_client(server, tmp_path, *words)
    assert result.returncode == 0, result.stderr
    assert rows_read(tmp_path / "stream") == {language: len(rows[language]) for language in rows}
    assert not any("/en/train" in path for path in server.paths)
    assert pd.read_parquet(words[1]).to_dict("records") == keep_common(rows)
    assert {name: content for name, content in read_disk(tmp_path / "stream").items() if name in kept} == kept
