import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from mome import distill, train
from mome.config import Shape
from mome.models import build_gpt2

ROWS = np.random.default_rng(0).integers(3, 40, (24, 8)).astype(np.uint16)
GROUPS = [np.arange(0, 12), np.arange(12, 24)]


def logits_of(model, batch):
    return model(input_ids=batch["input_ids"]).logits


def small_model(seed=0):
    return build_gpt2(Shape(1, 2, 16), vocab_size=40, context=8, seed=seed)


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def run_training(steps=6, plan_seed=0, **options):
    model = small_model()
    plan = train.plan_batches(GROUPS, steps, 4, plan_seed)
    options = {"learning_rate": 1e-2, "micro_batch_size": 4} | options
    return model, train.train(model, distill.make_objective(None, logits_of), plan, ROWS, **options)


def test_every_batch_is_balanced_over_its_groups_and_every_row_is_seen_before_any_repeats():
    plan = train.plan_batches(GROUPS, steps=9, batch_size=4, seed=1)
    assert (np.isin(plan, GROUPS[0]).sum(axis=1) == 2).all()
    first_epoch = plan[:6].ravel()
    assert sorted(first_epoch) == list(range(24))


def test_the_plan_is_the_seeds_and_only_the_seeds():
    assert (train.plan_batches(GROUPS, 5, 4, 3) == train.plan_batches(GROUPS, 5, 4, 3)).all()
    assert (train.plan_batches(GROUPS, 5, 4, 3) != train.plan_batches(GROUPS, 5, 4, 4)).any()


def test_the_learning_rate_warms_up_to_its_peak_and_decays_towards_zero():
    rates = [train.learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] == pytest.approx(1 / 90)


def test_training_lowers_the_loss_and_leaves_one_tidy_row_a_step():
    _, history = run_training(steps=30)
    assert history.ce_loss.iloc[-5:].mean() < history.ce_loss.iloc[:5].mean() - 0.1
    assert history.step.tolist() == list(range(1, 31))
    assert history.tokens.tolist() == [4 * 7 * step for step in range(1, 31)]  # 7 targets in each row of 8
    assert (history.alpha == 1).all()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_micro_batches_do_not_change_the_gradient(micro_batch_size):
    whole, _ = run_training(micro_batch_size=4)
    parts, _ = run_training(micro_batch_size=micro_batch_size)
    assert_close(weights_of(parts), weights_of(whole), atol=1e-4, rtol=1e-3)


def test_the_loss_is_the_mean_over_supervised_tokens_whatever_the_rows_lengths():
    model = small_model()
    rows = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    labels = torch.tensor([[6, 7, 8, -100], [10, -100, -100, -100]])
    inputs = torch.from_numpy(rows)
    with torch.no_grad():
        logits = model(input_ids=inputs).logits
        token_losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    expected = token_losses[labels.flatten() >= 0].mean()
    assert_close(distill.ce_loss(logits, labels) / 4, expected)


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    options = {"evaluate": lambda: {"nats": 1.0}, "evaluations": 3}
    whole, whole_history = run_training(steps=9, **options)

    class Interrupted(Exception):
        pass

    calls = []

    def stop_at_second_evaluation():
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted
        return {"nats": 1.0}

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Interrupted):
        run_training(steps=9, checkpoint=checkpoint, evaluate=stop_at_second_evaluation, evaluations=3)
    assert checkpoint.exists()
    resumed, resumed_history = run_training(steps=9, checkpoint=checkpoint, **options)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    pd.testing.assert_frame_equal(resumed_history, whole_history)


def test_alpha_weighs_hard_labels_and_its_complement_the_teacher():
    teacher = small_model(seed=9)
    plan = train.plan_batches(GROUPS, 1, 4, 0)
    objective = distill.make_objective("forward_kl", logits_of, teacher=teacher)
    history = train.train(small_model(), objective, plan, ROWS, learning_rate=1e-3, alpha_schedule=lambda h: 0.25)
    row = history.iloc[0]
    assert row.combined_loss == pytest.approx(0.25 * row.ce_loss + 0.75 * row.kd_loss)


def test_alpha_one_trains_as_hard_labels_alone():
    teacher, plan = small_model(seed=9), train.plan_batches(GROUPS, 4, 4, 0)
    distilled, plain = small_model(), small_model()
    train.train(distilled, distill.make_objective("forward_kl", logits_of, teacher=teacher), plan, ROWS, learning_rate=1e-2)
    train.train(plain, distill.make_objective(None, logits_of), plan, ROWS, learning_rate=1e-2)
    assert torch.equal(weights_of(distilled), weights_of(plain))


def test_frozen_weights_stay_bit_identical():
    model = small_model()
    model.transformer.h.requires_grad_(False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train.train(model, distill.make_objective(None, logits_of), train.plan_batches(GROUPS, 3, 4, 0), ROWS, learning_rate=1e-2)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == ("transformer.h." in name), name


def test_a_loss_that_is_not_finite_stops_with_the_step():
    def broken(model, batch, alpha):
        return {"ce_loss": logits_of(model, batch).sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="step 1 of 2"):
        train.train(small_model(), broken, train.plan_batches(GROUPS, 2, 4, 0), ROWS, learning_rate=1e-2)


def test_a_batch_that_cannot_be_shared_or_an_empty_group_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=3.*2 languages"):
        train.plan_batches(GROUPS, 2, 3, 0)
    with pytest.raises(ValueError, match="no rows"):
        train.plan_batches([GROUPS[0], np.array([], dtype=int)], 2, 4, 0)
