"""A run is a run: real kernels under nbclient, papermill and `mome run`, and what their folders tell."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import papermill
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from mome.cli.main import main
from mome.runs.compare import compare_runs, read_metrics, read_runs
from mome.runs.report import write_report
from mome.runs.state import STALE_SECONDS, describe_state, run_state

PARAMETERS = """scale: str = "smoke"  # sizes
corpus: str = "mini"  # text
languages: list = ["en", "fr"]  # languages
overrides: dict = {}  # values of the scale
x: int = 3  # a number
out: str = ""  # folder
"""
START = """import pandas as pd
from mome.evaluate.claims import make_part
from mome.figures.arms import plot_language_bars
from mome.runs.record import start_run
run = start_run("09_toy", scale=scale, corpus=corpus, languages=languages, overrides=overrides, x=x, out=out)
"""
WORK = """run.build(needs)
run.table(pd.DataFrame({"square": [x * x]}), "squares")
run.figure("bars", "Bars.", plot_language_bars, pd.Series({"en": x, "fr": x * x}), "squares")
run.claim("C1", f"The square is {x * x}.", [make_part("is a number", True, "")])
"""
END = "run.complete({'square': x * x})"
FAIL, STOP, MEND, FAIL_AGAIN = "1 / 0", "raise KeyboardInterrupt", "x + 1", "2 / 0"
STOP_AWAITING = "import asyncio; raise asyncio.CancelledError  # as ipykernel interrupts a cell that awaits"


def execute(path, look=lambda number: None, **options):
    """Execute a notebook as nbclient does by itself; `look` is called after each code cell, from 1."""
    done = []

    def count(**_):
        done.append(look(len(done) + 1))

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3", timeout=120, on_cell_executed=count, **options).execute()
    return notebook, done


def list_folders(home):
    return sorted((home / "runs").glob("09_toy-*"))


def read_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_plainly(folder):
    """Return a run's report without its id, its seconds, its command, and the pictures that show the id."""
    (folder / "command.json").unlink(missing_ok=True)
    page = write_report(folder).read_text().replace(folder.name, "ID")
    return re.sub(r'base64,[^"]+', "", re.sub(r">\d+ s<", "> s<", page))


@pytest.fixture
def write(make_toy):
    return lambda *cells: make_toy(parameters=PARAMETERS, cells=(START, WORK, *cells))


@pytest.fixture(scope="module")
def three(tmp_path_factory, write_notebook):
    """One notebook executed by nbclient, papermill and `mome run`: the home, and the folders of its runs."""
    root, patch = tmp_path_factory.mktemp("three"), pytest.MonkeyPatch()
    path = write_notebook(root, parameters=PARAMETERS, cells=(START, WORK, END))
    with patch.context() as patch:
        patch.setenv("MOME_HOME", str(root / "home"))
        patch.setenv("MOME_WORKERS", "1")
        execute(path)
        papermill.execute_notebook(str(path), str(root / "copy.ipynb"), {"x": 3}, progress_bar=False)
        assert main(["run", "--only", str(path), "--out", str(root / "night")]) == 0
    return root / "home", [*list_folders(root / "home"), root / "night"]


def test_a_notebook_is_one_run_whoever_executes_it(three):
    folders = three[1]
    table = read_runs(folders)
    assert list(table.state) == 3 * ["complete"]
    assert list(compare_runs(table)) == ["run", "state", "square"]  # and no parameter that differs
    pages = [write_plainly(folder) for folder in folders]
    assert pages[0] == pages[1] == pages[2] and "The square is 9." in pages[0]
    assert [len(read_metrics(folder)) for folder in folders] == [1, 1, 1]  # what `publish` takes


def test_a_finished_run_opened_again_stays_as_it_is_and_another_starts_with_the_work(three, monkeypatch):
    home, (*_, night) = three
    monkeypatch.setenv("MOME_HOME", str(home))
    copy, before = night / "09_toy/executed.ipynb", len(list_folders(home))
    copy.write_text(copy.read_text().replace("x: int = 3", "x: int = 4"))
    finished = read_files(night)
    notebook, seen = execute(copy, lambda number: len(list_folders(home)) - before)
    assert seen == [0, 0, 0, 0, 1, 1]  # parameters twice, needs, start, work, end
    assert read_files(night) == finished
    assert {run_state(folder) for folder in list_folders(home)} == {"complete"}
    said = "".join(output.text for output in notebook.cells[4].outputs)
    assert "'# Parameters' sets x=3" in said and f"{night / '09_toy'} holds another run" in said


def test_a_run_is_running_failed_or_interrupted_as_its_last_cell_ended_until_it_is_complete(write, tmp_path):
    def look(number):
        return [describe_state(folder) for folder in list_folders(tmp_path / "home")]

    cells = FAIL, MEND, STOP, "pass", STOP_AWAITING, END, FAIL_AGAIN
    _, seen = execute(write(*cells), look, allow_errors=True)
    assert seen[:3] == [[], [], []]
    running = rf"running: process \d+ on {platform.node()}, heard \d+ s ago"
    assert all(re.fullmatch(running, seen[place][0]) for place in (3, 5, 7)), seen
    assert seen[4] == ["failed: cell [5] stopped: ZeroDivisionError: division by zero"]
    assert [seen[place] for place in (6, 8)] == 2 * [["interrupted"]]
    assert seen[9:] == 2 * [["complete"]]


def test_a_kernel_that_is_killed_leaves_no_running_run(write, tmp_path):
    states = []

    def kill(number):
        if number == 4:
            folder, = list_folders(tmp_path / "home")
            process = psutil.Process(json.loads((folder / "running.json").read_text())["pid"])
            states.append(run_state(folder))
            process.send_signal(signal.SIGKILL)
            with suppress(psutil.Error):
                while process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
            states.append(run_state(folder))

    with pytest.raises(DeadKernelError):
        execute(write(END), kill)
    assert states == ["running", "interrupted"]


@pytest.mark.parametrize("host, age, state", [
    ("here", 0, "interrupted"), ("elsewhere", 0, "running"), ("elsewhere", STALE_SECONDS + 1, "interrupted")])
def test_a_heartbeat_is_believed_of_another_machine_while_it_is_fresh_and_here_of_living_processes_only(
        host, age, state, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(timeout=60)
    file = tmp_path / "running.json"
    file.write_text(json.dumps({"pid": dead.pid, "host": platform.node() if host == "here" else host}))
    os.utime(file, (time.time() - age, time.time() - age))
    assert run_state(tmp_path) == state
    here = json.dumps(platform.node())
    for damaged in ("[]", "{}", '{"pid": "x", "host": HERE}', '{"pid": 1e99, "host": HERE}',
                    f'{{"pid": {10**30}, "host": HERE}}', '{"pid": 1, "host": HERE'):
        file.write_text(damaged.replace("HERE", here))
        assert run_state(tmp_path) == "interrupted"
