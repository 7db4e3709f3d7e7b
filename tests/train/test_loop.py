"""What a step is made of, and that neither micro-batches nor a model's state before it change it."""

import itertools
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from cases import each
from torch.testing import assert_close

from mome.distill.fused import ce_loss, combined_loss
from mome.distill.objective import make_objective
from mome.distill.schedules import make_alpha_schedule
from mome.train.batches import make_batch, plan_batches
from mome.train.optimizer import learning_rate_at

COLUMNS = {"step", "tokens", "learning_rate", "alpha", "combined_loss", "ce_loss", "kd_loss", "grad_norm",
           "ce_grad_norm", "kd_grad_norm", "seconds"}


@pytest.fixture
def batch(toy):
    """The first batch of a training."""
    return make_batch(toy.ROWS, plan_batches(toy.GROUPS, 1, 4, 0)[0], "cpu")


def test_training_lowers_the_loss_and_leaves_one_tidy_row_a_step(toy):
    _, history = toy.train(30, toy.distilling(), alpha_schedule=lambda history: 0.5)
    assert history.ce_loss.iloc[-5:].mean() < history.ce_loss.iloc[:5].mean() - 0.05
    assert set(history.columns) == COLUMNS
    assert history.step.tolist() == list(range(1, 31))
    assert history.tokens.tolist() == [4 * 7 * step for step in range(1, 31)]  # 7 targets in each row of 8
    assert history.learning_rate.tolist() == [learning_rate_at(step, 30, 1e-2, 0.05) for step in range(30)]
    assert (history.alpha == 0.5).all()
    assert np.isfinite(history).all(axis=None)


def test_alpha_weighs_hard_labels_and_its_complement_the_teacher_without_either_only_labels_count(toy):
    _, history = toy.train(2)
    assert set(history.columns) == COLUMNS - {"kd_loss", "kd_grad_norm"}
    assert (history.alpha == 1).all()
    assert history.combined_loss.tolist() == history.ce_loss.tolist()
    _, history = toy.train(3, toy.distilling(), alpha_schedule=lambda history: 0.25)
    mixed = 0.25 * history.ce_loss + 0.75 * history.kd_loss
    assert history.combined_loss.to_numpy() == pytest.approx(mixed.to_numpy())
    assert torch.equal(toy.weights_of(toy.train(4, toy.distilling())[0]), toy.weights_of(toy.train(4)[0]))


@each("micro_batch_size", [1, 3])
def test_micro_batches_change_neither_weights_nor_history(toy, micro_batch_size):
    options = {"loss_fn": toy.distilling("jsd"), "alpha_schedule": make_alpha_schedule("grad_norm", 6)}
    whole, whole_history = toy.train(micro_batch_size=4, **options)
    parts, parts_history = toy.train(micro_batch_size=micro_batch_size, **options)
    assert_close(toy.weights_of(parts), toy.weights_of(whole), atol=1e-4, rtol=1e-3)
    histories = (history.drop(columns="seconds") for history in (parts_history, whole_history))
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)


def test_losses_and_norms_of_a_step_are_means_over_its_supervised_tokens(toy):
    seen = []

    def forward(model, batch):
        seen.append((toy.logits_of(model, batch), batch["labels"]))
        return seen[-1][0]

    objective = make_objective("forward_kl", forward, teacher=toy.Model(9))
    _, history = toy.train(1, objective, micro_batch_size=3, alpha_schedule=lambda history: 0.25)
    logits, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    ce = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    ce_gradient = torch.autograd.grad(ce, logits, retain_graph=True)[0] * 28  # of each token's own loss
    row = history.iloc[0]
    assert row.ce_loss == pytest.approx(ce.item(), rel=1e-5)
    assert row.ce_grad_norm == pytest.approx(ce_gradient.square().sum().div(28).sqrt().item(), rel=1e-4)
    assert row.combined_loss == pytest.approx(0.25 * row.ce_loss + 0.75 * row.kd_loss, rel=1e-5)


def test_the_gradient_norm_is_of_all_weights_before_clipping_and_says_where_clipping_acts(toy, batch):
    model = toy.Model()
    (ce_loss(toy.logits_of(model, batch), batch["labels"]) / 28).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    trained = [toy.train(1, max_grad_norm=factor * expected) for factor in (0, 1e9, 1.01, 0.99)]
    assert [history.grad_norm[0] for _, history in trained] == [pytest.approx(expected, rel=1e-4)] * 4
    *free, below = (toy.weights_of(model) for model, _ in trained)
    assert all(torch.equal(free[0], weights) for weights in free) and not torch.equal(free[0], below)


@each("warmup_fraction, expected", [(0.0, 1e-2), (1.0, 1e-2 / 4)])
def test_a_step_is_taken_at_its_own_rate(toy, warmup_fraction, expected):
    # Adam's first step moves a weight by the rate, whatever its gradient.
    model, seen = toy.Model(), []
    before = toy.weights_of(model)
    toy.train(4, model=model, warmup_fraction=warmup_fraction, weight_decay=0.0,
              evaluate=lambda: seen.append(toy.weights_of(model).clone()) or {}, evaluations=4)
    assert (seen[0] - before).abs().max().item() == pytest.approx(expected, rel=1e-3)


def test_a_clipped_gradient_and_weight_decay_move_the_weights_as_they_should(toy):
    start = toy.weights_of(toy.Model())
    # Adam hides the size of a gradient beyond its epsilon of 1e-8.
    moved = [(toy.weights_of(toy.train(1, max_grad_norm=norm, weight_decay=0.0)[0]) - start).norm()
             for norm in (1.0, 1e-8)]
    assert moved[1] < moved[0] / 2
    norms = [toy.weights_of(toy.train(3, weight_decay=decay)[0]).norm() for decay in (0.0, 5.0)]
    assert norms[1] < norms[0]


def test_the_schedule_sees_the_history_of_finished_steps(toy):
    seen = []

    def schedule(history):
        seen.append([row["step"] for row in history])
        return 0.1 * len(history)

    _, history = toy.train(3, toy.distilling(), alpha_schedule=schedule)
    assert seen == [[], [1], [1, 2]]
    assert history.alpha.tolist() == pytest.approx([0.0, 0.1, 0.2])


def test_a_tuple_of_alphas_is_dealt_to_the_micro_batches_in_turn(toy, batch):
    dealt = []

    def recorded(model, batch, alpha):
        dealt.append((len(batch["input_ids"]), alpha))
        return toy.distilling()(model, batch, alpha)

    schedule = make_alpha_schedule("alternate_micro_batch", 1)
    alternating, history = toy.train(1, recorded, micro_batch_size=1, alpha_schedule=schedule)
    assert dealt == [(1, 1.0), (1, 0.0), (1, 1.0), (1, 0.0)]
    with torch.no_grad():
        logits, taught = (toy.logits_of(toy.Model(seed), batch).split(1) for seed in (0, 9))
        rows = [combined_loss(z, labels, 1.0, "forward_kl", teacher_logits=p)
                for z, p, labels in zip(logits, taught, batch["labels"].split(1), strict=True)]
    counted = rows[0]["ce_loss"] + rows[1]["kd_loss"] + rows[2]["ce_loss"] + rows[3]["kd_loss"]
    by_hand = counted.item() / 28
    assert history.combined_loss[0] == pytest.approx(by_hand, rel=1e-5)
    assert history.ce_loss[0] == pytest.approx(sum(row["ce_loss"] for row in rows).item() / 28, rel=1e-5)
    assert history.alpha[0] == 0.5
    whole, _ = toy.train(1, toy.distilling(), alpha_schedule=lambda history: 0.5)
    assert not torch.allclose(toy.weights_of(alternating), toy.weights_of(whole), atol=1e-6)
    with pytest.raises(ValueError, match=r"micro_batch_size=3 .* equal shares of 4"):
        toy.train(1, toy.distilling(), micro_batch_size=3, alpha_schedule=schedule)


def test_frozen_weights_stay_bit_identical(toy):
    model = toy.Model()
    model.body.requires_grad_(False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    toy.train(3, model=model)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("body."), name


@each("steps, evaluations, expected", [
    (7, 2, [4, 7]), (5, 1, [5]), (2, 4, [1, 2])])
def test_evaluations_join_evenly_spaced_rows_the_last_among_them(toy, steps, evaluations, expected):
    model, modes = toy.Model(), []

    def evaluate():
        modes.append(model.training)
        model.eval()
        return {"nats": float(len(modes))}

    _, history = toy.train(steps, model=model, evaluate=evaluate, evaluations=evaluations)
    assert history.step[history.nats.notna()].tolist() == expected
    assert modes == [True] * len(expected)
    assert model.training


def test_gradients_left_in_the_model_its_mode_and_the_thread_of_a_training_do_not_count(toy):
    model, found = toy.Model(dropout=0.3).eval(), []
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    thread = threading.Thread(target=lambda: found.append(toy.train(2, model=model)))
    thread.start()
    thread.join()
    toy.assert_same(found[0], toy.train(2, dropout=0.3))


def test_trainings_of_different_precision_follow_one_another_and_leave_the_model_as_it_was(toy, batch):
    full, _ = toy.train(3, mixed_precision="no")
    half, history = toy.train(3, mixed_precision="bf16")
    plain = toy.Model()
    plain.load_state_dict(half.state_dict())
    assert not torch.equal(toy.weights_of(half), toy.weights_of(full))
    assert_close(toy.weights_of(half), toy.weights_of(full), atol=5e-2, rtol=5e-2)
    assert np.isfinite(history).all(axis=None)
    assert torch.equal(toy.logits_of(half.eval(), batch), toy.logits_of(plain.eval(), batch))


def test_curves_are_scored_in_float32_as_final_scores_are(toy, batch):
    model, plain, pairs = toy.Model(), toy.Model(), []

    def evaluate():
        plain.load_state_dict(model.state_dict())
        pairs.append([toy.logits_of(each, batch) for each in (model, plain)])
        return {}

    toy.train(2, model=model, mixed_precision="bf16", evaluate=evaluate)
    assert all(torch.equal(*pair) for pair in pairs) and pairs[0][0].dtype == torch.float32


def test_what_accelerate_finds_in_its_environment_changes_no_training(toy, monkeypatch):
    expected = toy.train(2, micro_batch_size=2)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    toy.assert_same(toy.train(2, micro_batch_size=2), expected)


def test_half_precision_skips_steps_whose_gradient_overflows_and_says_so(toy, half):
    model, seen = toy.Model(), [toy.weights_of(toy.Model())]
    _, history = toy.train(8, model=model, mixed_precision="fp16", evaluations=8,
                           evaluate=lambda: seen.append(toy.weights_of(model)) or {})
    skipped = [torch.equal(*pair) for pair in itertools.pairwise(seen)]
    assert skipped == (~np.isfinite(history.grad_norm)).tolist()
    assert skipped[:2] == [True, True] and 3 <= sum(skipped) < 6  # the scale grows again and is too high
    full = toy.train(8)[1]
    assert history.learning_rate.tolist() == full.learning_rate.tolist()
    taken = history.grad_norm[np.isfinite(history.grad_norm)]
    assert taken.mean() == pytest.approx(full.grad_norm.mean(), rel=0.3)  # unscaled, before clipping


def test_a_gradient_that_is_not_finite_stops_the_training(toy):
    def overflow(sums):
        sums["loss"].register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(FloatingPointError, match=r"my model: step 2 of 6 has loss \d.* norm (inf|nan); low"):
        toy.train(loss_fn=toy.at_call(2, overflow), text="my model")
