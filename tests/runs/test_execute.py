import json
import os
import shutil

import pytest
from cases import each
from papermill.exceptions import PapermillExecutionError

from mome import store
from mome.progress import heard_by
from mome.recipe import read_spec, write_spec
from mome.runs import execute
from mome.runs.compare import read_runs
from mome.runs.execute import KernelLost, NotebookFailed
from mome.runs.grid import plan_sweep
from mome.runs.state import describe_state, lock_name, run_state


@pytest.fixture
def plan_toy(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(execute.random, "uniform", lambda *_: 0.0)

    def plan(**grid):
        grid = {"log": [str(tmp_path / "log")], **grid}
        return plan_sweep({"notebooks": [{"notebook": str(toy), "grid": grid}]}, tmp_path / "out")

    return plan


def test_a_kernel_that_dies_is_replaced_and_a_run_that_is_there_is_not_executed_again(plan_toy, tmp_path):
    run, heard = plan_toy(x=[3], act=["die once"])[0], []
    assert run_state(run.folder) == "new" and not run.is_there
    with heard_by(heard.append):
        assert run.keep() == run.folder == run.keep()
    assert run.is_there and run_state(run.folder) == "complete"
    assert json.loads((run.folder / "metrics.json").read_text())["metrics"] == {"square": 9}
    folder, threads, is_batch, *_ = (tmp_path / "log").read_text().split()
    assert (folder, threads, is_batch) == (run.folder.name, "1", "1")
    assert len((tmp_path / "log").read_text().splitlines()) == 2  # the kernel that died, and the other
    assert heard and heard[-1]["total"] == 7 and 1 <= heard[-1]["done"] <= 7
    assert not (tmp_path / "home/data/store" / run.name).exists()


def test_a_kernel_that_always_dies_is_given_up(plan_toy, monkeypatch):
    starts = []

    def die(*_):
        starts.append(len(starts))
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(execute, "run_kernel", die)
    run = plan_toy()[0]
    with pytest.raises(KernelLost, match=r"last of 3 tries; memory may have run out"):
        run.keep()
    assert len(starts) == 3 and run_state(run.folder) == "interrupted"


def test_a_run_that_failed_is_kept_for_looking_at_and_the_same_call_tries_again(plan_toy, monkeypatch):
    def fail(path, executing, *_):
        executing.write_text("what was seen")
        raise PapermillExecutionError(5, 1, "", "ArithmeticError", "only this once", [])

    def work(path, executing, *_):
        for path in (executing, executing.with_name("metrics.json")):
            path.write_text("{}")

    run = plan_toy()[0]
    monkeypatch.setattr(execute, "run_kernel", fail)
    words = "09_toy stopped in cell 6: ArithmeticError: only this once"
    with pytest.raises(NotebookFailed, match=words):
        run.keep()
    assert describe_state(run.folder).startswith(f"failed: {words}") and not run.is_there
    assert (run.folder / "executed.ipynb").read_text() == "what was seen"
    listed, = read_runs([run.folder]).to_dict("records")  # although the notebook itself wrote nothing
    assert (listed["notebook"], listed["state"], listed["scale"]) == ("09_toy", "failed", "smoke")
    monkeypatch.setattr(execute, "run_kernel", work)
    run.keep()
    assert run.is_there and not (run.folder / "failure.txt").exists()


@each("name, value, is_lost", [
    ("CellExecutionError", "", True), ("DeadKernelError", "Kernel died", True),
    ("CellExecutionError", "cell says", False)])
def test_a_cell_that_ends_without_a_word_lost_its_kernel(name, value, is_lost, plan_toy, monkeypatch):
    def end(path, executing, *_):
        executing.touch()
        raise PapermillExecutionError(2, 1, "", name, value, [])

    monkeypatch.setattr(execute, "run_kernel", end)
    with pytest.raises(KernelLost if is_lost else NotebookFailed):
        plan_toy()[0].keep()


def test_a_full_disk_fails_the_run_and_leaves_it_to_be_tried_again(plan_toy, monkeypatch):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execute, "run_kernel", fill)
    run = plan_toy()[0]
    with pytest.raises(OSError, match="No space left"):
        run.keep()
    assert "No space left" in describe_state(run.folder)


def test_a_run_travels_to_a_worker_as_json_with_its_places_unless_its_notebook_changed_since(plan_toy, toy):
    run = plan_toy(x=[2, 3])[1]
    again = read_spec(write_spec(run))
    assert again == run
    assert (again.folder, again.path, again.title) == (run.folder, run.path, "notebook 09_toy x=3")
    toy.write_text(toy.read_text().replace("x * x", "x + x"))
    with pytest.raises(ValueError, match="has changed since"):
        again.keep()
    assert not run.folder.exists()


def test_what_another_process_executes_is_left_to_it_and_said_to_be_running(plan_toy):
    run = plan_toy()[0]
    run.folder.mkdir(parents=True)
    assert run_state(run.folder) == "interrupted"
    with store.lock_of(lock_name(run.folder)):
        assert run_state(run.folder) == "running"
        with pytest.raises(store.BuiltElsewhere):
            run.keep()


def finish_by_hand(run):
    run.folder.mkdir(parents=True)
    for name in ("metrics.json", "executed.ipynb"):
        (run.folder / name).write_text("{}")
    (run.folder / "name.txt").write_text(run.name)


def test_a_run_is_there_when_its_folder_holds_this_very_run_and_nothing_says_that_it_is_not_over(plan_toy,
                                                                                                 toy):
    run = plan_toy()[0]
    finish_by_hand(run)
    os.utime(run.folder / "metrics.json", (4e9, 4e9))
    assert run.is_there
    for name in ("executing.ipynb", "failure.txt"):
        (run.folder / name).touch()
        assert not run.is_there
        (run.folder / name).unlink()
    (run.folder / "executed.ipynb").unlink()
    assert not run.is_there and run_state(run.folder) == "complete"  # as a run from JupyterLab
    (run.folder / "executed.ipynb").touch()
    toy.write_text(toy.read_text().replace("x * x", "x + x"))
    other = plan_toy()[0]
    shutil.move(run.folder, other.folder)
    assert not other.is_there
