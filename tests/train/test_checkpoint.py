"""When checkpoints are written, that a kill loses only what came after, and which files are refused."""

import json
import logging
import resource
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from cases import each
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mome.distill.schedules import make_alpha_schedule
from mome.scales import Optimizer
from mome.train import checkpoint as module
from mome.train.checkpoint import Checkpoint, get_random_state
from mome.train.optimizer import make_optimizer


def history_in(path):
    with safe_open(path, framework="pt") as file:
        return pd.DataFrame(json.loads(file.metadata()["history"]))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


@pytest.fixture
def clock(monkeypatch):
    """A clock for checkpoints that only the test moves: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def tick(clock, seconds, loss_fn):
    """Return `loss_fn` that takes so many seconds a call."""
    def timed(*arguments):
        clock[0] += seconds
        return loss_fn(*arguments)

    return timed


@each("schedule, number, kind, kept, optimizer", [
    ("adaptive_paper", 1, KeyboardInterrupt, 0, "muon"), ("grad_norm", 13, KeyboardInterrupt, 6, "muon"),
    ("adaptive_paper", 8, SystemExit, 3, "adamw"), ("grad_norm", 14, InterruptedError, 6, "adamw")])
def test_interrupted_at_any_step_and_resumed_equals_uninterrupted_bit_for_bit(
        toy, path, clock, schedule, number, kind, kept, optimizer):
    # Two calls a step of 5 seconds each, a checkpoint every 30: after steps 3 and 6, and when interrupted.
    options = {"steps": 7, "dropout": 0.3, "micro_batch_size": 3, "evaluate": lambda: {"nats": 1.0},
               "evaluations": 3, "alpha_schedule": make_alpha_schedule(schedule, 7),
               "optimizer_kind": optimizer}
    whole = toy.train(loss_fn=toy.distilling("jsd"), **options)
    assert len(set(whole[1].alpha)) > 2
    with pytest.raises(kind):
        toy.train(loss_fn=tick(clock, 5, toy.at_call(number, toy.stop(kind), toy.distilling("jsd"))),
                  checkpoint=path, **options)
    assert history_in(path).get("step", pd.Series()).tolist() == list(range(1, kept + 1))
    resumed = toy.train(loss_fn=toy.distilling("jsd"), seed=99, checkpoint=path, **options)
    toy.assert_same(resumed, whole)
    other, _ = toy.train(loss_fn=toy.distilling("jsd"), seed=99, **options)
    assert not torch.equal(toy.weights_of(other), toy.weights_of(whole[0]))


def test_training_in_half_precision_goes_on_where_it_was_interrupted(toy, path):
    options = {"dropout": 0.3, "mixed_precision": "bf16"}
    with pytest.raises(KeyboardInterrupt):
        toy.train(loss_fn=toy.at_call(3, toy.stop()), checkpoint=path, **options)
    assert len(history_in(path)) == 2
    toy.assert_same(toy.train(seed=99, checkpoint=path, **options), toy.train(**options))


@each("number", [2, 8])
def test_the_scaler_of_half_precision_goes_on_where_it_was(toy, path, half, number):
    options = {"steps": 8, "mixed_precision": "fp16"}
    whole = toy.train(**options)
    with pytest.raises(KeyboardInterrupt):
        toy.train(loss_fn=toy.at_call(number, toy.stop()), checkpoint=path, **options)
    toy.assert_same(toy.train(checkpoint=path, **options), whole)


def test_nothing_is_written_from_the_middle_of_an_optimizer_step_or_an_evaluation(toy, path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        toy.train(evaluate=toy.stop(), checkpoint=path)
    monkeypatch.setattr(torch.optim.AdamW, "step", toy.stop())
    with pytest.raises(KeyboardInterrupt):
        toy.train(checkpoint=path)
    assert not list(path.parent.iterdir())


def test_a_loss_that_is_not_finite_stops_before_its_step_and_leaves_the_state_before_it(toy, path):
    to_nan = toy.at_call(3, lambda sums: sums | {"loss": sums["loss"] * float("nan")})
    with pytest.raises(FloatingPointError, match=r"my model: step 3 of 6 has loss nan .*lower the learning"):
        toy.train(loss_fn=to_nan, checkpoint=path, text="my model", dropout=0.3)
    assert history_in(path).step.tolist() == [1, 2]
    toy.assert_same(toy.train(checkpoint=path, dropout=0.3), toy.train(dropout=0.3))


@pytest.fixture
def saved(monkeypatch, clock):
    """The times at which checkpoints are written, each of which takes `saved.takes` seconds."""
    class Times(list):
        takes = 0.0

    times, write = Times(), Checkpoint.write

    def timed(self, *arguments):
        times.append(clock[0])
        clock[0] += times.takes
        write(self, *arguments)

    monkeypatch.setattr(Checkpoint, "write", timed)
    return times


@each("takes, seconds, expected", [
    (0.0, 30.0, [30, 60, 90, 120]),  # steps of 10 seconds
    (0.0, 25.0, [30, 60, 90, 120]),  # after a whole step only
    (0.0, 1000.0, []),
    (2.0, 20.0, [20, 62, 104]),  # at least 38 seconds after the end of the last one
    (0.0, 0.0, [10 * step for step in range(1, 13)])])
def test_checkpoints_are_written_by_the_clock_and_take_five_percent_at_most(
        toy, path, clock, saved, caplog, takes, seconds, expected):
    saved.takes, clock[0] = takes, 0.0
    saved.clear()
    hard_labels = toy.at_call(0, None)
    toy.train(12, tick(clock, 10, hard_labels), checkpoint=path, checkpoint_seconds=seconds,
              evaluate=lambda: {"nats": 1.0}, evaluations=12)
    assert saved == expected
    assert not caplog.text
    assert [found.name for found in path.parent.iterdir()] == ([path.name] if expected else [])


def test_a_finished_training_is_read_from_its_last_checkpoint(toy, path, clock):
    options = {"steps": 3, "evaluate": lambda: {"nats": 1.0}, "checkpoint": path, "checkpoint_seconds": 0.0}
    whole = toy.train(**options)
    toy.assert_same(toy.train(loss_fn=lambda *arguments: pytest.fail("a step was taken"), **options), whole)


@contextmanager
def full_disk(n_bytes=3_000):
    """Within, no file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@each("is_first", [True, False])
def test_a_full_disk_is_warned_of_and_leaves_the_last_whole_checkpoint_and_no_half_file(
        toy, path, clock, caplog, is_first):
    if not is_first:
        with pytest.raises(KeyboardInterrupt):
            toy.train(loss_fn=toy.at_call(3, toy.stop()), checkpoint=path)
    before = path.read_bytes() if path.exists() else None
    with caplog.at_level(logging.WARNING, logger="mome"), full_disk():
        trained = toy.train(checkpoint=path, checkpoint_seconds=0.0)
    assert "cannot be written" in caplog.text
    assert str(path) in caplog.text
    assert [found.name for found in path.parent.iterdir()] == ([] if is_first else [path.name])
    assert is_first or path.read_bytes() == before
    toy.assert_same(trained, toy.train())


def test_a_folder_that_refuses_files_is_warned_of(toy, path, clock, caplog):
    path.with_suffix(".aside").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, logger="mome"):
        toy.train(2, checkpoint=path, checkpoint_seconds=0.0)
    assert caplog.text.count("cannot be written") == 2


def test_what_a_kill_left_in_the_middle_of_writing_is_cleared(toy, path):
    aside = path.with_suffix(".aside")
    aside.mkdir()
    (aside / ".tmp1234").write_bytes(b"half")
    toy.train(2, checkpoint=path)
    assert not list(path.parent.iterdir())


@pytest.fixture
def keeper(toy, path):
    """A call that returns a model and its checkpoint."""
    def make(is_writer=True, seed=0):
        model = toy.Model(seed)
        optimizer = make_optimizer(model, Optimizer(1e-2))
        return model, Checkpoint(path, 30.0, np.arange(4), model, optimizer, None, is_writer)

    return make


def test_only_the_writer_among_processes_writes_and_all_read(toy, keeper, path):
    model, kept = keeper(is_writer=False)
    kept.save([{"step": 1}], get_random_state())
    assert not path.exists()
    model, kept = keeper()
    kept.save([{"step": 2}], get_random_state())
    other, kept = keeper(is_writer=False, seed=1)
    assert kept.load() == [{"step": 2}]
    assert torch.equal(toy.weights_of(other), toy.weights_of(model))


@pytest.fixture
def finished(toy, path, clock):
    toy.train(2, checkpoint=path, checkpoint_seconds=0.0)
    return path


def test_a_checkpoint_of_another_plan_or_cut_short_is_refused_by_name(toy, finished):
    with pytest.raises(ValueError, match=rf"{finished} .* another plan"):
        toy.train(3, checkpoint=finished)
    content = finished.read_bytes()
    for length in (-10, 300, 4, 0):
        finished.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{finished} .*delete it to start again.* damaged"):
            toy.train(2, checkpoint=finished)


def test_a_checkpoint_that_lacks_something_is_refused_by_name(toy, finished):
    with safe_open(finished, framework="pt") as file:
        metadata = file.metadata()
    whole = load_file(finished)
    for lost in ("history", "model.wte.weight", "random_state"):
        tensors = {name: value for name, value in whole.items() if name != lost}
        save_file(tensors, finished, metadata=None if lost == "history" else metadata)
        with pytest.raises(ValueError, match=rf"{finished} .* lacks {lost}"):
            toy.train(2, checkpoint=finished)
