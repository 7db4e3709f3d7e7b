"""What an objective runs and reads, and that it computes what `combined_loss` does."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import each
from torch.testing import assert_close

from mome.distill import ALPHA_SCHEDULES, CACHED_LOSSES, KD_LOSSES, can_use_cache, losses
from mome.distill.fused import combined_loss
from mome.distill.objective import make_objective, original_objective
from mome.distill.schedules import make_alpha_schedule
from mome.distill.targets import list_targets


def forward(model, batch):
    return model(input_ids=batch["input_ids"]).logits


@pytest.fixture
def batch(labels):
    input_ids = torch.tensor([[5, 3, 0, 7, 6], [1, 2, 8, 10, 4]])
    return {"input_ids": input_ids, "labels": labels, "row_numbers": np.array([1, 0])}


@pytest.fixture
def table_gradient(make_table, batch):
    """A call that returns an objective's values for a student, and the gradient of its weights."""
    def find(objective, alpha):
        student = make_table(1)
        values = objective(student, batch, alpha)
        values["loss"].backward()
        return {name: value.detach() for name, value in values.items()}, student.table.grad

    return find


@each("alpha", [0.0, 0.3, 1.0])
@each("name, options", [
    ("teacher_ce", {}), ("reverse_kl", {"temperature": 2.0}), ("jsd", {"mixture": 0.25})])
def test_an_objective_runs_model_and_teacher_on_the_batch_at_every_alpha(
        make_table, batch, table_gradient, name, options, alpha):
    teacher = make_table(2)
    values, gradient = table_gradient(make_objective(name, forward, teacher=teacher, **options), alpha)
    logits, teacher_logits = (forward(model, batch).detach() for model in (make_table(1), teacher))
    expected = combined_loss(logits, batch["labels"], alpha, name, teacher_logits=teacher_logits, **options)
    assert_close(values, expected)
    assert values["kd_loss"] > 0.1
    assert gradient.abs().max() > 0.1
    assert teacher.table.grad is None


def test_an_objective_without_a_name_trains_on_hard_labels_alone(make_table, batch, table_gradient):
    values, _ = table_gradient(make_objective(None, forward), 1.0)
    logits = forward(make_table(1), batch).detach()
    assert_close(values["loss"], losses.hard_label_ce(logits, batch["labels"]))
    assert "kd_loss" not in values


@each("name", CACHED_LOSSES)
def test_an_objective_reads_the_targets_of_its_rows_and_leaves_the_teacher_alone(
        random_logits, make_table, batch, table_gradient, name):
    targets, asked = list_targets(random_logits(2), 5, "lumped"), []

    def lookup(row_numbers, vocab_size):
        asked.append((list(row_numbers), vocab_size))
        return targets

    objective = make_objective(name, forward, targets=SimpleNamespace(lookup=lookup),
                               teacher=lambda **inputs: pytest.fail("the teacher ran"))
    values, _ = table_gradient(objective, 0.3)
    logits = forward(make_table(1), batch).detach()
    assert_close(values, combined_loss(logits, batch["labels"], 0.3, name, targets=targets))
    assert asked == [([1, 0], 11)]


@each("share", [0.0, 0.4, 1.0])
def test_a_second_teacher_takes_its_share_of_derive(make_table, table_gradient, share):
    one, other = make_table(2), make_table(3)
    found = [table_gradient(make_objective("jsd", forward, teacher=one), 0.3),
             table_gradient(make_objective("forward_kl", forward, teacher=other), 0.0)]
    values, gradient = table_gradient(
        make_objective("jsd", forward, teacher=one, second_teacher=other, second_share=share), 0.3)
    assert_close(values["loss"], (1 - share) * found[0][0]["loss"] + share * found[1][0]["loss"])
    assert_close(gradient, (1 - share) * found[0][1] + share * found[1][1])
    assert_close({name: values[name] for name in ("ce_loss", "kd_loss", "second_kd_loss")},
                 {name: found[0][0][name] for name in ("ce_loss", "kd_loss")}
                 | {"second_kd_loss": found[1][0]["kd_loss"]})


@each("alpha", [0.0, 0.3, 1.0])
def test_the_originals_way_gives_the_losses_and_the_gradient_of_teacher_ce(make_table, table_gradient, alpha):
    teacher = make_table(2)
    original, original_gradient = table_gradient(original_objective(forward, teacher), alpha)
    ours, gradient = table_gradient(make_objective("teacher_ce", forward, teacher=teacher), alpha)
    for name in ("loss", "ce_loss", "kd_loss"):
        assert original[name].item() == pytest.approx(ours[name].item(), rel=1e-5)
    assert_close(original_gradient, gradient, rtol=1e-4, atol=1e-5)


@each("make", [
    lambda teacher: make_objective("teacher_ce", forward, teacher=teacher),
    lambda teacher: original_objective(forward, teacher),
    lambda teacher: make_objective(None, forward, second_teacher=teacher)])
def test_a_teacher_runs_without_keeping_a_graph(make_table, table_gradient, make):
    teacher, seen = make_table(2), []
    teacher.register_forward_hook(lambda *arguments: seen.append(torch.is_grad_enabled()))
    table_gradient(make(teacher), 0.3)
    assert seen == [False]


@each("make, words", [
    (lambda: make_objective("inverse_kl", forward, teacher=0), ["kd_loss='inverse_kl'", *KD_LOSSES]),
    (lambda: make_objective("jsd", forward, teacher=0, mixture=1.5), ["mixture=1.5"]),
    (lambda: make_objective("teacher_ce", forward, targets=0, temperature=2.0), ["temperature=2"]),
    (lambda: make_objective("reverse_kl", forward, targets=0), ["kd_loss='reverse_kl'", "teacher"]),
    (lambda: make_objective("jsd", forward, teacher=0, second_teacher=0, second_share=2), ["second_share=2"]),
    (lambda: make_alpha_schedule("fixed", 10, alpha=1.2), ["alpha=1.2", "[0, 1]"]),
    (lambda: make_alpha_schedule("linear", 10, end=-0.1), ["alpha_end=-0.1", "[0, 1]"]),
    (lambda: make_alpha_schedule("clever", 10), ["alpha_schedule='clever'", *ALPHA_SCHEDULES])])
def test_bad_choices_are_refused_when_an_objective_or_schedule_is_made(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert [word for word in words if word not in str(error.value)] == []


@each("name, temperature, is_cached", [
    ("teacher_ce", 1.0, True), ("forward_kl", 1.0, True), ("forward_kl", 2.0, False),
    ("reverse_kl", 1.0, False), (None, 1.0, False)])
def test_a_cache_serves_the_losses_that_need_the_teacher_only_where_it_has_mass(name, temperature, is_cached):
    assert can_use_cache(name, temperature) is is_cached
