"""Whole commands with the engine's workers and real kernels."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from kill_campaign import Campaign, find_differences

from mome import board, store
from mome.cli.main import main
from mome.engine import build_here
from mome.runs.grid import plan_sweep
from mome.runs.state import lock_name, run_state

NEEDS = """from mome.recipes.setting import open_setting
needs = [open_setting(scale, corpus, languages, overrides).corpus]
"""
TRAINED = """from mome.recipes.scores import Scores
from mome.recipes.setting import open_setting
from mome.recipes.students import HARD_LABELS, Student
setting = open_setting(scale, corpus, languages, overrides)
needs = [Scores.of(setting, Student.of(setting, ["en"], seed, HARD_LABELS)) for seed in seeds]
"""
SMALL = {"vocab_size": 600, "context": 32, "tokens_per_language": 8_000, "student_tokens": 120_000,
         "student": {"n_layer": 1, "n_embd": 32}, "evaluation_rows": 8, "curve_rows": 8, "evaluations": 2}


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("MOME_WORKERS", "1")


def list_processes(home):
    """Return the ids of living processes whose environment has this home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_mine = process.pid != os.getpid() and process.environ().get("MOME_HOME") == str(home)
            found += [process.pid] if is_mine and process.status() != psutil.STATUS_ZOMBIE else []
    return found


def wait_for(condition, seconds):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited in vain"
        time.sleep(0.05)


def test_a_failure_is_named_with_cell_and_reason_while_the_others_go_on_and_what_is_there_is_found_again(
        make_toy, tmp_path, capsys):
    words = ["sweep", str(make_toy(needs=NEEDS)), "--out", str(tmp_path / "out"), "-p", "act=raise once,work",
             "-p", "alpha=0"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "1 of 2 runs complete" in said.out
    assert said.err.count("09_toy stopped in cell 6: ArithmeticError: only this once") == 1
    assert len(list((tmp_path / "home/data/store").glob("corpus-*/manifest.json"))) == 1
    page = (tmp_path / "out/report.html").read_text()
    assert "failed: 09_toy stopped in cell 6: ArithmeticError: only this once" in page
    assert "<h2>Runs</h2>" in page
    executed = [path.read_text() for path in (tmp_path / "out").glob("*/executed.ipynb")]
    assert sorted("Traceback" in text for text in executed) == [False, True]
    assert not list((tmp_path / "out").glob("*/executing.ipynb"))
    assert len((tmp_path / "out/needs.txt").read_text().split()) == 1
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(words in said for words in ("act=work: there", "once: failed: 09_toy stopped in cell 6",
                                           "2 there, 1 to build"))


def test_a_run_that_another_command_executes_is_waited_for(make_toy, tmp_path, monkeypatch):
    toy, out, said = str(make_toy()), tmp_path / "out", []
    run, = plan_sweep({"notebooks": [{"notebook": toy}]}, out)
    monkeypatch.setattr(board, "say", said.append)

    def hold():
        with store.hold(lock_name(run.folder)):
            wait_for(lambda: any("is being built by" in text for text in said), 60)
            time.sleep(1.5)  # one that does not wait asks again and again

    other = threading.Thread(target=hold)
    other.start()
    wait_for(lambda: store.is_locked(lock_name(run.folder)), 60)
    assert main(["sweep", toy, "--out", str(out)]) == 0
    other.join()
    assert sum("notebook 09_toy is being built by" in text for text in said) == 1 and run.is_there


def test_a_run_that_fills_the_disk_fails_with_a_sentence_and_runs_when_there_is_room(make_toy, small_disk,
                                                                                    capsys):
    toy, out = make_toy(), small_disk / "out"
    words = ["sweep", str(toy), "--out", str(out), "-p", "act=fill once", "-p", "alpha=0"]
    assert main(words) != 0
    said = capsys.readouterr()
    assert "the disk is full, make room and try again: " in said.err and "complete" not in said.out
    assert "Traceback" not in said.err and not list(out.glob("*/executed.ipynb"))
    folder, = out.glob("09_toy-*")
    (folder / "big").write_bytes(b"")
    assert main(words) == 0
    assert run_state(folder) == "complete"


def test_a_command_whose_every_process_is_killed_ends_as_if_nobody_had(make_toy, tmp_path):
    toy, rng = str(make_toy(needs=TRAINED)), random.Random(1)
    words = ["sweep", toy, "-p", f"overrides={json.dumps(SMALL)}", "--out", str(tmp_path / "out")]
    struck = Campaign(words, tmp_path / "struck", interval=0.2)
    process = struck.start()
    wait_for(lambda: list(struck.home.glob("data/store/unfinished-student-*/checkpoint.safetensors")), 60)
    assert "student" in struck.strike("worker", signal.SIGKILL, rng)
    for kind, number in (("kernel", signal.SIGKILL), ("main", signal.SIGTERM)):
        wait_for(lambda: struck.list_family()["kernel"], 60)
        assert f"{number.name} to a {kind}" in struck.strike(kind, number, rng)
    assert process.wait(timeout=20) == -signal.SIGTERM
    assert struck.run([], 1, rng)
    spec = {"notebooks": [{"notebook": toy, "parameters": {"overrides": SMALL}}]}
    build_here([run.needs for run in plan_sweep(spec)])  # into another home, by nobody disturbed
    assert not find_differences(tmp_path / "home/data", struck.home / "data")


def test_after_the_command_is_killed_no_process_is_left(toy, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "mome", "sweep", str(toy), "--out", str(tmp_path / "out"), "-p",
               f"log={log}", "-p", "act=linger"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    wait_for(log.exists, 60)
    assert len(list_processes(tmp_path / "home")) >= 3  # the command, a worker, a kernel
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not list_processes(tmp_path / "home"), 5)
    process.wait(timeout=5)
    assert not list((tmp_path / "out").glob("*/failure.txt"))
