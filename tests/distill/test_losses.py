"""The definitions: examples computed by hand, limits, and what a perfect student pays."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mome.distill import KD_LOSSES, MIXTURES, losses

P, Q = (3 / 4, 1 / 4), (1 / 2, 1 / 2)  # teacher and student; the label is token 0
BY_HAND = {
    ("teacher_ce", None): np.log(2),
    ("forward_kl", None): 3 / 4 * np.log(3 / 2) + 1 / 4 * np.log(1 / 2),
    ("reverse_kl", None): 1 / 2 * np.log(4 / 3),
    # Middle (5/8, 3/8); four times the Jensen-Shannon divergence.
    ("jsd", None): 4 * (3 / 8 * np.log(6 / 5) + 1 / 8 * np.log(2 / 3) + 1 / 4 * np.log(16 / 15)),
    # Middle (9/16, 7/16) = p / 4 + 3 q / 4.
    ("jsd", 0.25): 16 / 3 * (1 / 4 * (3 / 4 * np.log(4 / 3) + 1 / 4 * np.log(4 / 7))
                             + 3 / 4 * (1 / 2 * np.log(8 / 9) + 1 / 2 * np.log(8 / 7))),
    ("skew_kl", None): 3 / 4 * np.log(0.75 / 0.525) + 1 / 4 * np.log(0.25 / 0.475),
    ("skew_kl", 0.5): 3 / 4 * np.log(6 / 5) + 1 / 4 * np.log(2 / 3),
    ("skew_reverse_kl", None): 1 / 2 * np.log(0.5 / 0.725) + 1 / 2 * np.log(0.5 / 0.275),
    ("skew_reverse_kl", 0.5): 1 / 2 * np.log(4 / 5) + 1 / 2 * np.log(4 / 3),
    ("l1_weighted", None): 1 / 4,  # (1/4 + 1/4) (1/4 + 1/4)
}


def logits_of(distribution):
    return torch.tensor(distribution, dtype=torch.float64).log()[None, None]


@pytest.mark.parametrize("name, mixture", BY_HAND)
def test_a_loss_equals_a_two_token_example_computed_by_hand(name, mixture):
    options, label = {} if mixture is None else {"mixture": mixture}, torch.tensor([[0]])
    loss = losses.sum_loss(name, logits_of(Q), logits_of(P), label, **options)
    assert loss.item() == pytest.approx(BY_HAND[name, mixture])
    if name != "l1_weighted":  # temperature divides the logits, and its square multiplies the loss
        loss = losses.sum_loss(name, 2 * logits_of(Q), 2 * logits_of(P), label, temperature=2.0, **options)
        assert loss.item() == pytest.approx(4 * BY_HAND[name, mixture])


def test_every_loss_has_its_definition_and_its_example():
    assert {name for name, _ in BY_HAND} == set(KD_LOSSES)
    assert set(MIXTURES) == {name for name in KD_LOSSES if "mixture" in getattr(losses, name).__annotations__}
    assert losses.hard_label_ce(logits_of(P), torch.tensor([[1]])).item() == pytest.approx(np.log(4))


@pytest.mark.parametrize("name, mixture, limit", [
    ("jsd", 1e-4, "forward_kl"), ("jsd", 1 - 1e-4, "reverse_kl"), ("skew_kl", 1e-4, "forward_kl"),
    ("skew_reverse_kl", 1e-4, "reverse_kl")])
def test_a_mixture_near_its_end_is_near_the_kl(random_logits, labels, name, mixture, limit):
    student, teacher = random_logits(1), random_logits(2)
    expected = losses.sum_loss(limit, student, teacher, labels).item()
    near, far = (losses.sum_loss(name, student, teacher, labels, mixture=m).item() for m in (mixture, 0.5))
    assert near == pytest.approx(expected, rel=1e-3)
    assert far != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("name", KD_LOSSES)
def test_a_student_that_equals_its_teacher_pays_the_teachers_entropy_at_most(random_logits, labels, name):
    teacher, loss_of = random_logits(0), partial(losses.sum_loss, name)
    p = torch.softmax(teacher[labels != -100], -1)
    entropy = -(p * p.log()).sum().item()
    least = loss_of(teacher, teacher, labels).item()
    assert least == pytest.approx(entropy if name == "teacher_ce" else 0, abs=1e-10)
    assert loss_of(random_logits(1), teacher, labels) > least + 0.1


def test_a_wrong_teacher_weighs_the_students_distance_and_a_certain_one_does_not(random_logits):
    certain, student = torch.tensor([[[80.0, 0.0, 0.0]]], dtype=torch.float64), random_logits(1, (1, 1, 3))
    distance = (torch.softmax(student, -1) - torch.softmax(certain, -1)).abs().sum()
    assert losses.sum_loss("l1_weighted", student, certain, torch.tensor([[0]])) < 1e-12
    assert_close(losses.sum_loss("l1_weighted", student, certain, torch.tensor([[1]])), 2 * distance)


def test_temperature_keeps_the_size_of_the_gradient(random_logits, labels, derive):
    norms = [derive(lambda z, t=t: losses.sum_loss("forward_kl", z, random_logits(2), labels, t),
                               random_logits(1))[1].norm().item() for t in (4.0, 8.0)]
    assert norms[1] == pytest.approx(norms[0], rel=0.15)  # without the factor T^2 it would be a quarter


def test_a_teacher_gets_no_gradient(random_logits, labels):
    student, teacher = random_logits(1).requires_grad_(), random_logits(2).requires_grad_()
    for name in KD_LOSSES:
        losses.sum_loss(name, student, teacher, labels).backward()
    assert student.grad.abs().max() > 0.1
    assert teacher.grad is None
