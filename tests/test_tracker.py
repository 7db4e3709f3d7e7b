"""A tracker is told what the history holds, goes on where a training does, and changes nothing."""

import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from mome import engine, store
from mome.cli.main import main
from mome.config import tracker_dir
from mome.recipes.students import Objective, Student
from mome.tracker import check_tracker, find_tracker, tracked_by
from mome.train import loop


@pytest.fixture
def student(tiny_setting):
    return Student.of(tiny_setting, ["en"], seed=11, objective=Objective(kd_loss=None))


def train_anew(student, tracker=""):
    """Return (bytes of the weights, history) of a training that nobody has done before."""
    folder = store.folder_of(student.name)
    shutil.rmtree(folder, ignore_errors=True)
    with tracked_by(tracker):
        student.keep()
    return (folder / "model.safetensors").read_bytes(), pd.read_parquet(folder / "history.parquet")


def stop_after(student, steps, monkeypatch):
    """Build up to so many further steps, where it is interrupted; return the checkpoint's path."""
    taken, take = [], loop.take_gradient

    def stop(*arguments):
        taken.append(1)
        if len(taken) > steps:
            raise KeyboardInterrupt
        return take(*arguments)

    with monkeypatch.context() as patch, tracked_by("tensorboard"), pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_gradient", stop)
        student.keep()
    return store.unfinished_of(student.name) / store.CHECKPOINT


def read_scalars(name):
    """Return {tag: [(step, value)]} of a run as tensorboard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(tracker_dir() / name), size_guidance={SCALARS: 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]}


def assert_told(name, history):
    """Assert that each number of the history was told once, at its step."""
    scalars = read_scalars(name)
    assert len(scalars.pop("tokens_per_second")) == len(history)
    assert set(scalars) == {*history.columns} - {"step", "seconds"} >= {"alpha", "learning_rate", "nats_en"}
    for tag, told in scalars.items():
        kept = history.dropna(subset=[tag])
        assert [step for step, _ in told] == kept.step.tolist()
        np.testing.assert_allclose([value for _, value in told], kept[tag], rtol=1e-6)


def test_tensorboard_shows_the_stored_curve_and_leaves_weights_as_they_are_without_it(student):
    weights, history = train_anew(student)
    assert not (tracker_dir() / student.name).exists()
    tracked, told = train_anew(student, "tensorboard")
    assert tracked == weights
    pd.testing.assert_frame_equal(told.drop(columns="seconds"), history.drop(columns="seconds"))
    assert_told(student.name, told)
    values, = (tracker_dir() / student.name).glob("*/hparams.yml")
    assert f"data: {student.data.name}" in values.read_text() and "optimizer.kind:" in values.read_text()


def test_a_training_that_goes_on_from_before_what_was_told_tells_no_step_twice(tiny_setting, monkeypatch):
    student = Student.of(tiny_setting, ["en"], seed=12, objective=Objective(kd_loss=None))
    checkpoint = stop_after(student, 3, monkeypatch)
    early = checkpoint.read_bytes()
    stop_after(student, 4, monkeypatch)
    checkpoint.write_bytes(early)  # as after a kill: seven steps were told, three are in the checkpoint
    with tracked_by("tensorboard"):
        student.keep()
    assert_told(student.name, student.history())


@pytest.mark.filterwarnings("ignore:.*no supported trackers")
def test_a_tracker_that_fails_is_left_with_one_warning_and_the_training_ends(student, monkeypatch, caplog):
    weights, _ = train_anew(student)

    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr("accelerate.Accelerator.log", fail)
    with caplog.at_level(logging.WARNING, "mome"):
        assert train_anew(student, "tensorboard")[0] == weights
        assert train_anew(student, "wandb")[0] == weights  # where a worker lacks what the command has
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "tracker tensorboard fails", "tracker wandb fails"]


def test_what_is_not_installed_or_unknown_is_refused_before_anything_starts(student, monkeypatch, capsys):
    assert check_tracker("") == "" and check_tracker("tensorboard") == "tensorboard"
    for words in (["run"], ["sweep", "03", "-p", "alpha=0.5"], ["train", "teacher"]):
        assert main([*words, "--tracker", "tensorbored"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mome: tracker='tensorbored' is not allowed;") and error.count("\n") == 1
        assert "wandb" in error and "installed here: tensorboard" in error
    monkeypatch.setenv("MOME_TRACKER", "wandb")
    with pytest.raises(ValueError, match="tracker='wandb' is not allowed"):
        engine.build(student)
    with tracked_by(""):
        assert find_tracker() == ""
    assert find_tracker() == "wandb"
