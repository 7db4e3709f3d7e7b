"""One loop: what a step is made of, and that neither micro-batches, devices nor interruptions change it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import mome
from mome import distill, train
from mome.config import Shape
from mome.models import build_gpt2

ROWS = np.random.default_rng(0).integers(3, 40, (24, 8)).astype(np.uint16)
GROUPS = [np.arange(0, 12), np.arange(12, 24)]
COLUMNS = {"step", "tokens", "learning_rate", "alpha", "combined_loss", "ce_loss", "kd_loss", "grad_norm", "ce_grad_norm", "kd_grad_norm", "seconds"}


@contextmanager
def handled(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.fixture(autouse=True)
def batch_run(monkeypatch):
    """Draw no bars, and let SIGINT interrupt even where a shell started the tests in the background, which ignores it."""
    monkeypatch.setenv("MOME_BATCH", "1")
    with handled(signal.SIGINT, signal.default_int_handler):
        yield


def logits_of(model, batch):
    return model(input_ids=batch["input_ids"]).logits


def small_model(seed=0, dropout=0.0):
    model = build_gpt2(Shape(1, 2, 16), vocab_size=40, context=8, seed=seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return model


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def hard_labels():
    return distill.make_objective(None, logits_of)


def distilling(name="forward_kl", **options):
    return distill.make_objective(name, logits_of, teacher=small_model(seed=9), **options)


def run_training(steps=6, loss_fn=None, dropout=0.0, seed=0, **options):
    """Return a trained model and its history; dropout draws from `seed`."""
    torch.manual_seed(seed)
    model, plan = small_model(dropout=dropout), train.plan_batches(GROUPS, steps, 4, 0)
    return model, train.train(model, loss_fn or hard_labels(), plan, ROWS, **{"learning_rate": 1e-2, "micro_batch_size": 4} | options)


def assert_same_training(one, other):
    """Assert that two trainings end in the same weights and histories, bit for bit, seconds aside."""
    assert torch.equal(weights_of(one[0]), weights_of(other[0]))
    pd.testing.assert_frame_equal(one[1].drop(columns="seconds"), other[1].drop(columns="seconds"), check_exact=True)


def at_call(number, do, loss_fn):
    """Return `loss_fn` that calls `do(sums)` after its call of that number, counted from 1, and returns what it returns if anything."""
    calls = []

    def wrapped(model, batch, alpha):
        sums = loss_fn(model, batch, alpha)
        calls.append(1)
        return (do(sums) or sums) if len(calls) == number else sums

    return wrapped


def send(*numbers):
    def do(sums):
        for number in numbers:
            os.kill(os.getpid(), number)

    return do


def to_nan(sums):
    return sums | {"loss": sums["loss"] * float("nan")}


def test_every_batch_is_balanced_over_its_groups_and_every_row_is_seen_before_any_repeats():
    plan = train.plan_batches(GROUPS, steps=9, batch_size=4, seed=1)
    assert (np.isin(plan, GROUPS[0]).sum(axis=1) == 2).all()
    assert sorted(plan[:6].ravel()) == list(range(24))
    assert sorted(plan[:3].ravel()) != sorted(plan[6:].ravel())


def test_the_plan_is_the_seeds_and_only_the_seeds():
    assert (train.plan_batches(GROUPS, 5, 4, 3) == train.plan_batches(GROUPS, 5, 4, 3)).all()
    assert (train.plan_batches(GROUPS, 5, 4, 3) != train.plan_batches(GROUPS, 5, 4, 4)).any()


def test_the_learning_rate_warms_up_to_its_peak_and_decays_towards_zero():
    rates = np.array([train.learning_rate_at(step, 100, 2.0, 0.1) for step in range(101)])
    assert rates[:10] == pytest.approx(0.2 * np.arange(1, 11))
    assert rates[10:] == pytest.approx(2.0 * np.arange(90, -1, -1) / 90)


@pytest.mark.parametrize(("steps", "warmup_fraction"), [(1, 0.05), (3, 0.0), (4, 1.0)])
def test_short_trainings_reach_their_peak_and_never_exceed_it(steps, warmup_fraction):
    rates = [train.learning_rate_at(step, steps, 1.0, warmup_fraction) for step in range(steps)]
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0


def test_weight_decay_spares_norms_and_biases_and_frozen_weights_take_no_part():
    model = small_model()
    model.transformer.wpe.requires_grad_(False)
    decayed, spared = train.make_optimizer(model, 0.05).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters())) - 1


def test_training_lowers_the_loss_and_leaves_one_tidy_row_a_step():
    _, history = run_training(30, distilling(), alpha_schedule=lambda history: 0.5)
    assert history.ce_loss.iloc[-5:].mean() < history.ce_loss.iloc[:5].mean() - 0.05
    assert set(history.columns) == COLUMNS
    assert history.step.tolist() == list(range(1, 31))
    assert history.tokens.tolist() == [4 * 7 * step for step in range(1, 31)]  # 7 targets in each row of 8
    assert history.learning_rate.tolist() == [train.learning_rate_at(step, 30, 1e-2, 0.05) for step in range(30)]
    assert (history.alpha == 0.5).all()
    assert np.isfinite(history).all(axis=None)


def test_without_a_schedule_or_a_teacher_only_hard_labels_count():
    _, history = run_training(2)
    assert set(history.columns) == COLUMNS - {"kd_loss", "kd_grad_norm"}
    assert (history.alpha == 1).all()
    assert history.combined_loss.tolist() == history.ce_loss.tolist()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_micro_batches_change_neither_weights_nor_history(micro_batch_size):
    options = {"loss_fn": distilling("jsd"), "alpha_schedule": distill.make_alpha_schedule("grad_norm", 6)}
    whole, whole_history = run_training(micro_batch_size=4, **options)
    parts, parts_history = run_training(micro_batch_size=micro_batch_size, **options)
    assert_close(weights_of(parts), weights_of(whole), atol=1e-4, rtol=1e-3)
    pd.testing.assert_frame_equal(parts_history.drop(columns="seconds"), whole_history.drop(columns="seconds"), rtol=1e-4)


def test_losses_and_norms_of_a_step_are_means_over_its_supervised_tokens():
    seen = []

    def forward(model, batch):
        seen.append((logits_of(model, batch), batch["labels"]))
        return seen[-1][0]

    _, history = run_training(1, distill.make_objective("forward_kl", forward, teacher=small_model(seed=9)), micro_batch_size=3,
                              alpha_schedule=lambda history: 0.25)
    logits, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    ce = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    ce_gradient = torch.autograd.grad(ce, logits, retain_graph=True)[0] * 28  # of each token's own loss
    row = history.iloc[0]
    assert row.ce_loss == pytest.approx(ce.item(), rel=1e-5)
    assert row.ce_grad_norm == pytest.approx(ce_gradient.square().sum(-1).sum().div(28).sqrt().item(), rel=1e-4)
    assert row.combined_loss == pytest.approx(0.25 * row.ce_loss + 0.75 * row.kd_loss, rel=1e-5)


def test_the_gradient_norm_is_of_all_weights_and_told_before_clipping():
    def norm_of(max_grad_norm):
        model, history = run_training(1, max_grad_norm=max_grad_norm)
        return weights_of(model), history.grad_norm[0]

    model, batch = small_model(), train.make_batch(ROWS, train.plan_batches(GROUPS, 1, 4, 0)[0], "cpu")
    (distill.ce_loss(logits_of(model, batch), batch["labels"]) / 28).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    assert norm_of(1e9)[1] == pytest.approx(expected, rel=1e-4)
    assert norm_of(1e-3)[1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("warmup_fraction", "expected"), [(0.0, 1e-2), (1.0, 1e-2 / 4)])
def test_a_step_is_taken_at_its_own_rate(warmup_fraction, expected):
    # Adam's first step moves a weight by the rate, whatever its gradient.
    model, seen = small_model(), []
    before = weights_of(model)
    train.train(model, hard_labels(), train.plan_batches(GROUPS, 4, 4, 0), ROWS, learning_rate=1e-2, warmup_fraction=warmup_fraction, weight_decay=0.0,
                evaluate=lambda: seen.append(weights_of(model).clone()) or {}, evaluations=4)
    assert (seen[0] - before).abs().max().item() == pytest.approx(expected, rel=1e-3)


def test_a_clipped_gradient_moves_the_weights_less():
    # Adam hides the size of a gradient beyond its epsilon of 1e-8.
    start = weights_of(small_model())
    moved = [(weights_of(run_training(1, max_grad_norm=norm, weight_decay=0.0)[0]) - start).norm() for norm in (1.0, 1e-8)]
    assert moved[1] < moved[0] / 2


def test_the_loss_is_the_mean_over_supervised_tokens_whatever_the_rows_lengths():
    rows = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    labels = torch.tensor([[6, 7, 8, -100], [10, -100, -100, -100]])
    with torch.no_grad():
        logits = small_model()(input_ids=torch.from_numpy(rows)).logits
        token_losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    assert_close(distill.ce_loss(logits, labels) / 4, token_losses[labels.flatten() >= 0].mean())


def test_a_batch_holds_its_rows_and_their_next_tokens():
    batch = train.make_batch(ROWS, np.array([3, 1]), torch.device("cpu"))
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == ROWS[[3, 1]].tolist()
    assert batch["labels"][:, :-1].tolist() == ROWS[[3, 1], 1:].tolist()
    assert (batch["labels"][:, -1] == -100).all()
    assert list(batch["row_numbers"]) == [3, 1]


def test_alpha_weighs_hard_labels_and_its_complement_the_teacher():
    _, history = run_training(3, distilling(), alpha_schedule=lambda history: 0.25)
    assert history.combined_loss.to_numpy() == pytest.approx((0.25 * history.ce_loss + 0.75 * history.kd_loss).to_numpy())
    assert (history.alpha == 0.25).all()


def test_alpha_one_trains_as_hard_labels_alone():
    distilled, _ = run_training(4, distilling())
    plain, _ = run_training(4)
    assert torch.equal(weights_of(distilled), weights_of(plain))


def test_the_schedule_sees_the_history_of_finished_steps():
    seen = []

    def schedule(history):
        seen.append([row["step"] for row in history])
        return 0.1 * len(history)

    _, history = run_training(3, distilling(), alpha_schedule=schedule)
    assert seen == [[], [1], [1, 2]]
    assert history.alpha.tolist() == pytest.approx([0.0, 0.1, 0.2])


def test_a_tuple_of_alphas_is_dealt_to_the_micro_batches_in_turn():
    dealt = []

    def recorded(model, batch, alpha):
        dealt.append((len(batch["input_ids"]), alpha))
        return distilling()(model, batch, alpha)

    alternating, history = run_training(1, recorded, micro_batch_size=1, alpha_schedule=lambda history: (1.0, 0.0))
    assert dealt == [(1, 1.0), (1, 0.0), (1, 1.0), (1, 0.0)]
    batch = train.make_batch(ROWS, train.plan_batches(GROUPS, 1, 4, 0)[0], "cpu")
    with torch.no_grad():
        rows = [distill.combined_loss(logits, labels, 1.0, "forward_kl", teacher_logits=teacher_logits) for logits, teacher_logits, labels in zip(
            *(logits_of(model, batch).split(1) for model in (small_model(), small_model(seed=9))), batch["labels"].split(1), strict=True)]
    by_hand = sum(row["ce_loss" if number % 2 == 0 else "kd_loss"] for number, row in enumerate(rows)).item() / 28
    assert history.combined_loss[0] == pytest.approx(by_hand, rel=1e-5)
    assert history.ce_loss[0] == pytest.approx(sum(row["ce_loss"] for row in rows).item() / 28, rel=1e-5)
    assert history.alpha[0] == 0.5
    whole, _ = run_training(1, distilling(), alpha_schedule=lambda history: 0.5)
    assert not torch.allclose(weights_of(alternating), weights_of(whole), atol=1e-6)


def test_more_alphas_than_micro_batches_are_refused():
    with pytest.raises(ValueError, match=r"micro_batch_size=4 .* 4 sequences a step make 1 micro-batch.* needs 2"):
        run_training(1, distilling(), alpha_schedule=distill.make_alpha_schedule("alternate_micro_batch", 1))


def test_frozen_weights_stay_bit_identical():
    model = small_model()
    model.transformer.h.requires_grad_(False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train.train(model, hard_labels(), train.plan_batches(GROUPS, 3, 4, 0), ROWS, learning_rate=1e-2)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == ("transformer.h." in name), name


@pytest.mark.parametrize(("steps", "evaluations", "expected"), [(9, 3, [3, 6, 9]), (7, 2, [4, 7]), (5, 1, [5]), (2, 4, [0, 1, 2])])
def test_evaluations_join_evenly_spaced_rows_the_last_among_them(steps, evaluations, expected):
    modes = []
    model = small_model()

    def evaluate():
        modes.append(model.training)
        model.eval()
        return {"nats": float(len(modes))}

    plan = train.plan_batches(GROUPS, steps, 4, 0)
    history = train.train(model, hard_labels(), plan, ROWS, learning_rate=1e-2, evaluate=evaluate, evaluations=evaluations)
    expected = [step for step in expected if step]
    assert history.step[history.nats.notna()].tolist() == expected
    assert modes == [True] * len(expected)
    assert model.training


SCHEDULES = {"adaptive_paper": distill.make_alpha_schedule("adaptive_paper", 7), "grad_norm": distill.make_alpha_schedule("grad_norm", 7)}
STOPS = [(int(stop), name, number) for stop, name, number in zip(np.random.default_rng(7).permutation(7)[:4] + 1, [*SCHEDULES] * 2,
                                                                 [signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGTERM], strict=True)]


@pytest.mark.parametrize(("stop", "schedule", "number"), STOPS)
def test_interrupted_at_any_step_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, stop, schedule, number):
    options = {"steps": 7, "dropout": 0.3, "micro_batch_size": 3, "alpha_schedule": SCHEDULES[schedule]}
    whole = run_training(loss_fn=distilling("jsd"), **options)
    assert len(set(whole[1].alpha)) > 3
    checkpoint = tmp_path / "checkpoint.safetensors"
    with handled(number, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        run_training(loss_fn=at_call(2 * stop - 1, send(number), distilling("jsd")), checkpoint=checkpoint, **options)
    assert history_in(checkpoint).step.tolist() == list(range(1, stop + 1))
    assert_same_training(run_training(loss_fn=distilling("jsd"), seed=99, checkpoint=checkpoint, **options), whole)


def history_in(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        return pd.DataFrame(json.loads(file.metadata()["history"]))


def test_dropout_makes_the_random_state_matter():
    assert not torch.equal(weights_of(run_training(2, dropout=0.3)[0]), weights_of(run_training(2, dropout=0.3, seed=99)[0]))


def test_stopped_in_an_evaluation_training_goes_on_from_the_one_before(tmp_path):
    options = {"steps": 9, "dropout": 0.3, "evaluations": 3}
    whole = run_training(evaluate=lambda: {"nats": 1.0}, **options)
    calls = []

    def stop_at_second_evaluation():
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError
        return {"nats": 1.0}

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(InterruptedError):
        run_training(evaluate=stop_at_second_evaluation, checkpoint=checkpoint, **options)
    assert len(history_in(checkpoint)) == 3
    assert_same_training(run_training(evaluate=lambda: {"nats": 1.0}, seed=99, checkpoint=checkpoint, **options), whole)


def test_a_finished_training_is_read_from_its_checkpoint(tmp_path):
    options = {"steps": 3, "evaluate": lambda: {"nats": 1.0}, "checkpoint": tmp_path / "checkpoint.safetensors"}
    whole = run_training(**options)
    assert_same_training(run_training(loss_fn=lambda *arguments: pytest.fail("a step was taken"), **options), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_signal_waits_for_the_step_under_way_and_its_handlers_come_back(tmp_path):
    checkpoint, before = tmp_path / "checkpoint.safetensors", [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        run_training(loss_fn=at_call(2, send(signal.SIGINT), hard_labels()), checkpoint=checkpoint)
    assert len(history_in(checkpoint)) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_does_not_wait(tmp_path):
    checkpoint, calls = tmp_path / "checkpoint.safetensors", []
    interrupted = at_call(2, send(signal.SIGINT, signal.SIGINT), hard_labels())

    def recorded(model, batch, alpha):
        sums = interrupted(model, batch, alpha)
        calls.append(1)
        return sums

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_training(loss_fn=recorded, checkpoint=checkpoint)
    assert len(calls) == 1
    assert not checkpoint.exists()
    assert signal.getsignal(signal.SIGINT) == before


def test_training_in_half_precision_goes_on_where_it_was_interrupted(tmp_path):
    checkpoint, options = tmp_path / "checkpoint.safetensors", {"dropout": 0.3, "mixed_precision": "bf16"}
    with pytest.raises(KeyboardInterrupt):
        run_training(loss_fn=at_call(2, send(signal.SIGINT), hard_labels()), checkpoint=checkpoint, **options)
    assert_same_training(run_training(seed=99, checkpoint=checkpoint, **options), run_training(**options))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_of_the_callers_own_is_reached_after_the_checkpoint_is_written(tmp_path, number):
    checkpoint, reached = tmp_path / "checkpoint.safetensors", []
    message = rf"my model stopped by a signal after step 2 of 6; checkpoint: {checkpoint}"
    with handled(number, lambda number, frame: reached.append((number, len(history_in(checkpoint))))), pytest.raises(KeyboardInterrupt, match=message):
        run_training(loss_fn=at_call(2, send(number), hard_labels()), checkpoint=checkpoint, description="my model")
    assert reached == [(number, 2)]


def test_a_signal_in_the_last_step_leaves_a_whole_training(tmp_path):
    checkpoint, reached = tmp_path / "checkpoint.safetensors", []
    with handled(signal.SIGTERM, lambda number, frame: reached.append(number)):
        model, history = run_training(3, at_call(3, send(signal.SIGTERM), hard_labels()), checkpoint=checkpoint)
    assert reached == [signal.SIGTERM]
    assert_same_training((model, history), run_training(3))
    assert len(history_in(checkpoint)) == 3


def test_a_second_sigterm_waits_like_the_first(tmp_path):
    checkpoint, reached = tmp_path / "checkpoint.safetensors", []
    with handled(signal.SIGTERM, lambda number, frame: reached.append(number)), pytest.raises(KeyboardInterrupt):
        run_training(loss_fn=at_call(2, send(signal.SIGTERM, signal.SIGTERM), hard_labels()), checkpoint=checkpoint)
    assert len(history_in(checkpoint)) == 2
    assert reached == [signal.SIGTERM]


def test_a_signal_that_arrives_before_a_failure_is_not_lost():
    reached = []

    def interrupted_and_failing(sums):
        os.kill(os.getpid(), signal.SIGTERM)
        return to_nan(sums)

    with handled(signal.SIGTERM, lambda number, frame: reached.append(number)), pytest.raises(FloatingPointError):
        run_training(loss_fn=at_call(2, interrupted_and_failing, hard_labels()))
    assert reached == [signal.SIGTERM]


def test_an_ignored_signal_stays_ignored():
    with handled(signal.SIGINT, signal.SIG_IGN):
        interrupted = run_training(3, at_call(2, send(signal.SIGINT), hard_labels()))
    assert_same_training(interrupted, run_training(3))


def test_training_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(run_training(2)))
    thread.start()
    thread.join()
    assert_same_training(found[0], run_training(2))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_loss_that_is_not_finite_stops_before_its_step_and_leaves_the_state_before_it(tmp_path, dropout):
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(FloatingPointError, match=rf"my model: .* step 3 of 6; lower learning_rate=0\.01.*{checkpoint}"):
        run_training(loss_fn=at_call(3, to_nan, hard_labels()), checkpoint=checkpoint, description="my model", dropout=dropout)
    assert history_in(checkpoint).step.tolist() == [1, 2]
    assert_same_training(run_training(checkpoint=checkpoint, dropout=dropout), run_training(dropout=dropout))


def test_a_gradient_that_is_not_finite_stops_too():
    def overflowing(sums):
        sums["loss"].register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(FloatingPointError, match=r"step 2 of 6.*checkpoint: none"):
        run_training(loss_fn=at_call(2, overflowing, hard_labels()))


def finished_checkpoint(folder):
    run_training(2, checkpoint=folder / "checkpoint.safetensors", evaluate=lambda: {})
    return folder / "checkpoint.safetensors"


@pytest.mark.parametrize("length", [-10, 300, 4, 0])
def test_a_checkpoint_cut_short_is_refused_by_name(tmp_path, length):
    checkpoint = finished_checkpoint(tmp_path)
    checkpoint.write_bytes(checkpoint.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{checkpoint} is damaged.*delete"):
        run_training(2, checkpoint=checkpoint)


@pytest.mark.parametrize("lost", ["metadata", "weights"])
def test_a_checkpoint_that_lacks_something_is_refused_by_name(tmp_path, lost):
    checkpoint = finished_checkpoint(tmp_path)
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(checkpoint)
    if lost == "weights":
        del tensors["model.transformer.wte.weight"]
    save_file(tensors, checkpoint, metadata=None if lost == "metadata" else metadata)
    with pytest.raises(ValueError, match=rf"{checkpoint}"):
        run_training(2, checkpoint=checkpoint)


def test_a_checkpoint_of_another_plan_is_refused_by_name(tmp_path):
    checkpoint = finished_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=rf"{checkpoint} was written under another plan"):
        run_training(3, checkpoint=checkpoint)


def test_gradients_left_in_the_model_do_not_count():
    model = small_model()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    history = train.train(model, hard_labels(), train.plan_batches(GROUPS, 2, 4, 0), ROWS, learning_rate=1e-2)
    assert_same_training((model, history), run_training(2))


def test_a_model_handed_over_in_evaluation_mode_is_trained_in_training_mode():
    torch.manual_seed(0)
    model = small_model(dropout=0.3).eval()
    history = train.train(model, hard_labels(), train.plan_batches(GROUPS, 2, 4, 0), ROWS, learning_rate=1e-2)
    assert_same_training((model, history), run_training(2, dropout=0.3))


def test_trainings_of_different_precision_follow_one_another_and_leave_the_model_as_it_was():
    full, _ = run_training(3, mixed_precision="no")
    half, history = run_training(3, mixed_precision="bf16")
    plain, batch = small_model(), train.make_batch(ROWS, np.arange(4), torch.device("cpu"))
    plain.load_state_dict(half.state_dict())
    assert_close(weights_of(half), weights_of(full), atol=5e-2, rtol=5e-2)
    assert np.isfinite(history).all(axis=None)
    assert torch.equal(logits_of(half.eval(), batch), logits_of(plain.eval(), batch))


def test_a_training_stopped_in_half_precision_leaves_the_model_as_it_was():
    def stop():
        raise InterruptedError

    model, batch = small_model(), train.make_batch(ROWS, np.arange(4), torch.device("cpu"))
    expected = logits_of(model, batch)
    with pytest.raises(InterruptedError):
        train.train(model, hard_labels(), train.plan_batches(GROUPS, 1, 4, 0), ROWS, learning_rate=0.0, mixed_precision="bf16", evaluate=stop)
    assert torch.equal(logits_of(model, batch), expected)


def test_a_batch_that_cannot_be_shared_or_an_empty_group_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=3.*2 languages"):
        train.plan_batches(GROUPS, 2, 3, 0)
    with pytest.raises(ValueError, match="no rows"):
        train.plan_batches([GROUPS[0], np.array([], dtype=int)], 2, 4, 0)


def test_timed_steps_train():
    model = small_model()
    step = train.make_step(model, distilling(), ROWS, iter(train.plan_batches(GROUPS, 3, 4, 0)), micro_batch_size=2)
    before = weights_of(model)
    step()
    step()
    assert torch.isfinite(weights_of(model)).all()
    assert all(parameter.grad is None for parameter in model.parameters())
    step()
    with pytest.raises(StopIteration):
        step()
    assert weights_of(model).shape == before.shape


def test_ways_are_timed_in_turn_after_their_warm_up(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])

    def take(way, seconds):
        def run():
            order.append(way)
            clock[0] += seconds * len(order)

        return run

    table = train.time_in_turn({"slow": take("slow", 3.0), "fast": take("fast", 0.5)}, rounds=2, warm_up=1)
    assert order == ["slow", "fast"] * 3
    assert table.to_dict("list") == {"way": ["slow", "fast"] * 2, "round": [0, 0, 1, 1], "seconds": pytest.approx([9.0, 2.0, 15.0, 3.0])}


def test_ratios_are_quartiles_of_what_each_round_cost_beside_its_baseline():
    seconds = {"baseline": [1.0, 2.0, 4.0, 8.0, 10.0], "way": [2.0, 2.0, 12.0, 32.0, 50.0]}
    table = pd.DataFrame([{"way": way, "round": number, "seconds": seconds[way][number]} for number in range(5) for way in ("way", "baseline")])
    assert train.ratios_to(table, "baseline").to_dict("records") == [{"way": "way", "median": 3.0, "low": 2.0, "high": 4.0},
                                                                     {"way": "baseline", "median": 1.0, "low": 1.0, "high": 1.0}]


def probe(monkeypatch, speedup, difference):
    """Return what the probe says of a model whose bf16 pass is so much faster and its loss off by so much."""
    model = torch.nn.Linear(1, 1)

    def loss_fn(model, batch, alpha):
        loss = model(batch["input_ids"]).float().sum() * 0 + 4.0
        return {"loss": loss * (1 + difference) if torch.is_autocast_enabled("cpu") else loss}

    def timed(ways, rounds):
        for run in ways.values():
            run()
        return pd.DataFrame([{"way": way, "round": 0, "seconds": 1.0 if way == "bf16" else speedup} for way in ways])

    monkeypatch.setattr(train, "time_in_turn", timed)
    found = train.probe_precision(model, loss_fn, {"input_ids": torch.ones(2, 1)})
    assert all(parameter.grad is None for parameter in model.parameters())
    return found


@pytest.mark.parametrize(("speedup", "difference", "choice"), [
    (2.0, 0.0, "bf16"), (1.11, 0.009, "bf16"), (1.11, -0.009, "bf16"), (2.0, 0.011, "no"), (2.0, -0.011, "no"), (2.0, 0.5, "no"), (2.0, float("nan"), "no"),
    (1.09, 0.0, "no"), (0.5, 0.0, "no")])
def test_bf16_is_chosen_where_it_is_faster_and_its_loss_within_one_percent(monkeypatch, speedup, difference, choice):
    found = probe(monkeypatch, speedup, difference)
    assert found["choice"] == choice
    assert found["speedup"] == pytest.approx(speedup, abs=1e-3)
    assert found["loss_difference"] == pytest.approx(abs(difference), abs=1e-6, nan_ok=True)


def test_the_probe_compares_real_passes_of_a_model():
    found = train.probe_precision(small_model(), hard_labels(), train.make_batch(ROWS, np.arange(4), torch.device("cpu")), rounds=1)
    assert found["choice"] in ("no", "bf16")
    assert found["speedup"] > 0
    assert 0 < found["loss_difference"] < 0.01


SCRIPT = '''
import json, os, signal, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

from mome import distill, train


class Model(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.wte, self.head = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(torch.tanh(self.wte(input_ids))))


def main(folder, interrupted_rank=None):
    save_checkpoint = train.save_checkpoint
    train.save_checkpoint = lambda *arguments: (Path(folder, f"{rank}.saved").touch(), save_checkpoint(*arguments))
    rank, rows, model = os.environ.get("RANK", "0"), np.random.default_rng(0).integers(0, 30, (20, 6)), Model(0)
    objective, calls = distill.make_objective("forward_kl", lambda model, batch: model(batch["input_ids"]).logits, teacher=Model(1)), []

    def interrupting(model, batch, alpha):
        calls.append(1)
        if rank == interrupted_rank and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return objective(model, batch, alpha)

    def run(model, loss_fn):
        return train.train(model, loss_fn, train.plan_batches([np.arange(20)], 4, 5, 0), rows, learning_rate=1e-2, micro_batch_size=2,
                           alpha_schedule=distill.make_alpha_schedule("grad_norm", 4), checkpoint=Path(folder, "checkpoint.safetensors"))

    if interrupted_rank is not None:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        try:
            run(model, interrupting)
        except KeyboardInterrupt as stop:
            assert "after step 3 of 4" in str(stop)
        torch.distributed.barrier()
        model = Model(0)
    history = run(model, objective)
    Path(folder, f"{rank}.json").write_text(json.dumps(history.to_dict("list")))
    save_file(model.state_dict(), Path(folder, f"{rank}.safetensors"))
    train.save_checkpoint = save_checkpoint


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch_two_processes(*words):
    # `accelerate launch --cpu --num_processes 2` starts one process only; its launcher for several GPUs serves CPUs when told to use them.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
               "--dynamo_backend", "no", "--main_process_port", str(free_port()), *words]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(mome.__file__).parents[1])}
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = launcher.communicate(timeout=300)
    finally:
        launcher.terminate()  # and it ends its processes, which a kill would leave behind
        launcher.wait()
    assert launcher.returncode == 0, output


def read_result(folder, rank):
    return pd.DataFrame(json.loads((folder / f"{rank}.json").read_text())).drop(columns="seconds"), load_file(folder / f"{rank}.safetensors")


def test_two_processes_of_which_one_is_interrupted_train_as_one(tmp_path):
    # Five sequences a step: three for one process in two micro-batches, two for the other in one.
    script, one, two = tmp_path / "script.py", tmp_path / "one", tmp_path / "two"
    script.write_text(SCRIPT)
    one.mkdir()
    two.mkdir()
    spec = importlib.util.spec_from_file_location("script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(one)
    launch_two_processes(str(script), str(two), "1")
    (history, weights), found = read_result(one, 0), [read_result(two, rank) for rank in (0, 1)]
    assert [path.name for path in two.glob("*.saved")] == ["0.saved"]
    pd.testing.assert_frame_equal(found[0][0], found[1][0], check_exact=True)
    assert_close(found[0][1], found[1][1], rtol=0, atol=0)
    pd.testing.assert_frame_equal(found[0][0], history, rtol=1e-5, atol=1e-5)
    assert_close(found[0][1], weights, rtol=1e-5, atol=1e-5)


def test_processes_that_accelerate_starts_on_cpus_know_of_each_other_before_the_first_training(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom pathlib import Path\nfrom mome.artifacts import process_state\nstate = process_state()\n"
                      "Path(sys.argv[1], str(state.process_index)).write_text(f'{state.num_processes} {state.is_main_process}')\n")
    launch_two_processes(str(script), str(tmp_path))
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2 True", "2 False"]


def test_two_processes_that_accelerate_starts_build_the_same_artefacts_as_one(tmp_path, monkeypatch):
    words = ["-m", "mome", "train", "student", "--scale", "smoke", "--corpus", "mini", "--languages", "en,py", "--overrides",
             "{vocab_size: 600, context: 32, tokens_per_language: 8000, teacher: {n_layer: 1, n_embd: 32}, student: {n_layer: 1, n_embd: 16}, "
             "teacher_tokens: 8000, student_tokens: 2048, evaluation_rows: 12, evaluations: 2, targets_per_token: 8}"]
    weights = {}
    for name in ("one", "two"):
        monkeypatch.setenv("MOME_HOME", str(tmp_path / name))
        if name == "one":
            subprocess.run([sys.executable, *words], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
        else:
            launch_two_processes(*words)
            launch_two_processes(*words)  # and find them again
        folder = tmp_path / name / "data/artifacts"
        assert not list(folder.glob("partial-*"))
        weights[name] = {path.parent.name: load_file(path) for path in folder.glob("*/model.safetensors")}
    assert sorted(name.partition("-")[0] for name in weights["one"]) == ["student", "teacher"]
    assert_close(weights["two"], weights["one"], rtol=1e-4, atol=1e-4)
