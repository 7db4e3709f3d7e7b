"""A dask scheduler and workers that people start by hand."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Client
from toys import Counter, Number, start_main, wait_until

from mome import engine, store
from mome.recipe import write_spec


class ByHand:
    """A dask scheduler and its workers, each started with a command, as the README tells."""

    def __init__(self, folder):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_until(lambda: self.file.exists() and self.file.read_text().endswith("}"), 60)  # written in parts
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, what, *words, path=(), **environment):
        environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([*path, *sys.path])}
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file), *words]
        self.processes.append(subprocess.Popen(command, env=environment, cwd=self.folder,
                                               stderr=subprocess.DEVNULL))

    def add_worker(self, name, *words, home="", **environment):
        home = str(home or self.folder / "home")
        self.start("worker", "--name", name, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard",
                   "--local-directory", str(self.folder), *words, MOME_HOME=home, **environment)

    def stop(self, since=0):
        for process in reversed(self.processes[since:]):
            process.kill()
            process.wait()
        del self.processes[since:]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    started = ByHand(tmp_path_factory.mktemp("by-hand"))
    started.add_worker("fit")
    yield started
    started.stop()


@pytest.fixture
def far_away(by_hand, monkeypatch):
    """The address of a scheduler with one fit worker; this process has the worker's store."""
    monkeypatch.setenv("MOME_HOME", str(by_hand.folder / "home"))
    with Client(by_hand.address, set_as_default=False) as client:
        wait_until(lambda: list_names(client) == {"fit"}, 60)
    return by_hand.address


def list_names(client):
    return {worker["name"] for worker in client.scheduler_info()["workers"].values()}


def write_other_code(folder):
    """Copy the package with one more comment, and return the folder that holds it."""
    shutil.copytree(Path(engine.__file__).parent, folder / "mome")
    with open(folder / "mome/board.py", "a") as file:
        file.write("# another version\n")
    return str(folder)


@pytest.mark.parametrize("words, change, said", [
    ((), lambda tmp_path: {"home": tmp_path}, "with the store .* does not see .*; workers must share MOME"),
    ((), lambda tmp_path: {"path": [write_other_code(tmp_path)]}, "runs other code of mome: [0-9a-f]{12}, "),
    (("--nthreads", "2"), lambda _: {}, "has several threads; give it --nthreads 1")])
def test_a_worker_that_does_not_fit_is_refused_by_address(by_hand, far_away, tmp_path, words, change, said):
    count = len(by_hand.processes)
    by_hand.add_worker("unfit", *words, **change(tmp_path))
    try:
        with Client(far_away, set_as_default=False) as client:
            wait_until(lambda: list_names(client) == {"fit", "unfit"}, 60)
            places = client.scheduler_info()["workers"].items()
            unfit, = (address for address, worker in places if worker["name"] == "unfit")
        with pytest.raises(ValueError, match=f"worker {unfit} {said}"):
            engine.build(Number(2), scheduler=far_away)
    finally:
        by_hand.stop(count)
    assert not Number(2).is_there


def test_a_scheduler_builds_into_its_workers_store_and_no_other(far_away, own_home):
    with pytest.raises(ValueError, match=r"worker tcp://.* does not see .*store; workers must"):
        engine.build(Number(1), scheduler=far_away)
    assert [path.name for path in store.store_dir().iterdir()] == []


@pytest.mark.parametrize("place, version, said", [("elsewhere/.token", "", "does not see elsewhere"),
        ("", "0" * 12, "runs other code")])
def test_a_worker_that_comes_later_and_does_not_fit_says_so_in_its_task(far_away, place, version, said):
    place, version = place or str(store.store_dir() / ".token"), version or engine.hash_package()
    with Client(far_away, set_as_default=False) as client:
        result = client.submit(engine.run_task, write_spec(Number(3)), place, version, []).result()
    assert re.match(f"worker tcp://.* {said}", result["error"]) and not Number(3).is_there


FAR = """
from toys import Counter, Number
from mome import engine
if __name__ == "__main__":
    counters = [Counter(steps, log={log!r}) for steps in {steps}]
    engine.build([*counters, Number(1, parts=tuple(counters))], scheduler={address!r})
"""


def test_when_a_command_dies_its_scheduler_goes_on_and_the_next_command_waits_and_says_so(far_away, tmp_path,
                                                                                          capfd):
    log = tmp_path / "log"
    counters = [Counter(steps, log=str(log)) for steps in (70, 71, 72)]
    main = start_main(FAR.format(log=str(log), address=far_away, steps=(70, 71, 72)))
    wait_until(lambda: log.exists() and log.read_text())
    main.kill()
    main.communicate()
    running, = (counter for counter in counters if store.is_locked(counter.name))
    engine.build(running, scheduler=far_away)
    assert "counter is under way on this scheduler" in capfd.readouterr().err and running.is_there
    assert not any(counter.is_there for counter in counters if counter != running)
    wait_until(lambda: Number(1, parts=tuple(counters)).is_there)  # what had only been queued
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["0"] * 3


def test_an_interrupt_takes_its_tasks_back_from_the_scheduler(far_away, tmp_path):
    log = tmp_path / "log"
    main = start_main(FAR.format(log=str(log), address=far_away, steps=(970, 971, 972)))
    wait_until(lambda: log.exists() and log.read_text())
    main.send_signal(signal.SIGINT)
    assert "stopped with 0 of 4 built" in main.communicate(timeout=20)[1]
    counters = [Counter(steps) for steps in (970, 971, 972)]
    wait_until(lambda: not any(store.is_locked(counter.name) for counter in counters), 5)
    engine.build(Number(5), scheduler=far_away)  # the worker is free again
    assert len(log.read_text().splitlines()) == 1 and not any(counter.is_there for counter in counters)


def test_a_scheduler_that_ends_is_said_and_no_worker_is_blamed(own_home, tmp_path):
    started, log = ByHand(tmp_path), tmp_path / "log"
    try:
        started.add_worker("fit", home=own_home)
        with Client(started.address, set_as_default=False) as client:
            wait_until(lambda: list_names(client), 60)
        main = start_main(FAR.format(log=str(log), address=started.address, steps=(970, 971, 972)))
        wait_until(lambda: log.exists() and log.read_text())
    finally:
        started.stop()
    assert "the scheduler that had it ended" in main.communicate(timeout=60)[1]
