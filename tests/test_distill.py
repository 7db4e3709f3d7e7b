"""Losses against formulas written a second time, gradients against differences, schedules against numbers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mome import distill
from mome.distill import ALPHA_SCHEDULES, CACHED_LOSSES, KD_LOSSES, combined_loss, kd_loss, make_alpha_schedule
from mome.targets import TAILS, list_targets

LABELS = torch.tensor([[3, 0, 7, -100, 1], [2, -100, 10, 4, 9]])
CASES = [(name, temperature) for name in KD_LOSSES for temperature in (1.0, 2.0) if (name, temperature) != ("l1_weighted", 2.0)]
CACHED_CASES = [(name, tail) for name in CACHED_LOSSES for tail in TAILS]
P, Q = (3 / 4, 1 / 4), (1 / 2, 1 / 2)  # teacher and student of the examples worked out by hand; the label is token 0
BY_HAND = {
    ("teacher_ce", None): np.log(2),
    ("forward_kl", None): 3 / 4 * np.log(3 / 2) + 1 / 4 * np.log(1 / 2),
    ("reverse_kl", None): 1 / 2 * np.log(4 / 3),
    # Middle (5/8, 3/8); four times the Jensen-Shannon divergence.
    ("jsd", None): 4 * (3 / 8 * np.log(6 / 5) + 1 / 8 * np.log(2 / 3) + 1 / 4 * np.log(4 / 5) + 1 / 4 * np.log(4 / 3)),
    # Middle (9/16, 7/16) = p / 4 + 3 q / 4.
    ("jsd", 0.25): 16 / 3 * (1 / 4 * (3 / 4 * np.log(4 / 3) + 1 / 4 * np.log(4 / 7)) + 3 / 4 * (1 / 2 * np.log(8 / 9) + 1 / 2 * np.log(8 / 7))),
    ("skew_kl", None): 3 / 4 * np.log(0.75 / 0.525) + 1 / 4 * np.log(0.25 / 0.475),
    ("skew_kl", 0.5): 3 / 4 * np.log(6 / 5) + 1 / 4 * np.log(2 / 3),
    ("skew_reverse_kl", None): 1 / 2 * np.log(0.5 / 0.725) + 1 / 2 * np.log(0.5 / 0.275),
    ("skew_reverse_kl", 0.5): 1 / 2 * np.log(4 / 5) + 1 / 2 * np.log(4 / 3),
    ("l1_weighted", None): 1 / 4,  # (1/4 + 1/4) (1/4 + 1/4)
}


def random_logits(seed, shape=(2, 5, 11)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_targets(tail, shape=(2, 5, 11), k=5):
    return list_targets(random_logits(2, shape), k, tail, torch.Generator().manual_seed(3))


def logits_of(distribution):
    return torch.tensor(distribution, dtype=torch.float64).log()[None, None]


def loss_and_gradient(loss_of, logits):
    logits = logits.detach().clone().requires_grad_()
    loss = loss_of(logits)
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def differences(loss_of, logits, step=1e-5):
    """Return the gradient of a loss by central differences, one logit at a time."""
    gradient = torch.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        shift = torch.zeros_like(logits)
        shift[index] = step
        gradient[index] = (loss_of(logits + shift) - loss_of(logits - shift)) / (2 * step)
    return gradient


def plain_ce(student, labels):
    return F.cross_entropy(student.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")


def plain_kd(name, student, teacher, labels, temperature=1.0):
    """Return a KD loss as its formula reads, of all supervised tokens at once."""
    rows = labels != -100
    q, p = torch.softmax(student[rows] / temperature, -1), torch.softmax(teacher[rows] / temperature, -1)
    onehot = torch.eye(p.shape[-1], dtype=p.dtype)[labels[rows]]

    def kl(a, b):
        return (a * (a / b).log()).sum()

    return temperature**2 * {
        "teacher_ce": -(p * q.log()).sum(), "forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": 2 * kl(p, (p + q) / 2) + 2 * kl(q, (p + q) / 2),
        "skew_kl": kl(p, 0.1 * p + 0.9 * q), "skew_reverse_kl": kl(q, 0.1 * q + 0.9 * p),
        "l1_weighted": ((p - onehot).abs().sum(-1) * (q - p).abs().sum(-1)).sum()}[name]


@pytest.mark.parametrize(("name", "mixture"), BY_HAND)
def test_a_loss_equals_a_two_token_example_computed_by_hand(name, mixture):
    loss = kd_loss(name, logits_of(Q), logits_of(P), torch.tensor([[0]]), mixture=mixture)
    assert loss.item() == pytest.approx(BY_HAND[name, mixture], abs=1e-12)


def test_every_loss_has_its_example():
    assert {name for name, _ in BY_HAND} == set(KD_LOSSES)


@pytest.mark.parametrize("name", [name for name in KD_LOSSES if name != "l1_weighted"])
def test_temperature_divides_the_logits_and_its_square_multiplies_the_loss(name):
    loss = kd_loss(name, 2 * logits_of(Q), 2 * logits_of(P), torch.tensor([[0]]), temperature=2.0)
    assert loss.item() == pytest.approx(4 * BY_HAND[name, None], abs=1e-12)


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_a_loss_of_random_logits_equals_its_formula(name, temperature):
    student, teacher = random_logits(1), random_logits(2)
    assert_close(kd_loss(name, student, teacher, LABELS, temperature), plain_kd(name, student, teacher, LABELS, temperature))


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_a_student_that_equals_its_teacher_costs_nothing_but_the_teachers_entropy_in_teacher_ce(name, temperature):
    teacher = random_logits(0)
    p = torch.softmax(teacher[LABELS != -100] / temperature, -1)
    entropy = -temperature**2 * (p * p.log()).sum().item()
    assert kd_loss(name, teacher, teacher, LABELS, temperature).item() == pytest.approx(entropy if name == "teacher_ce" else 0, abs=1e-10)
    assert kd_loss(name, random_logits(1), teacher, LABELS, temperature) > 0.1


def test_a_wrong_teacher_weighs_the_students_distance_and_a_certain_one_does_not():
    certain = torch.tensor([[[80.0, 0.0, 0.0]]], dtype=torch.float64)
    student = random_logits(1, (1, 1, 3))
    distance = (torch.softmax(student, -1) - torch.softmax(certain, -1)).abs().sum()
    assert kd_loss("l1_weighted", student, certain, torch.tensor([[0]])) < 1e-12
    assert_close(kd_loss("l1_weighted", student, certain, torch.tensor([[1]])), 2 * distance)


def test_hard_labels_cost_their_cross_entropy():
    assert_close(distill.ce_loss(random_logits(1), LABELS), plain_ce(random_logits(1), LABELS))
    assert distill.ce_loss(logits_of(P), torch.tensor([[1]])).item() == pytest.approx(np.log(4))


@pytest.mark.parametrize(("name", "mixture", "limit"), [("jsd", 0, "forward_kl"), ("jsd", 1, "reverse_kl"), ("jsd", 0.0, "forward_kl"),
                                                        ("jsd", 1.0, "reverse_kl"), ("skew_kl", 0, "forward_kl"), ("skew_reverse_kl", 0, "reverse_kl")])
def test_a_mixture_at_its_end_is_the_kl_itself_and_near_it_close(name, mixture, limit):
    student, teacher = random_logits(1), random_logits(2)
    near = abs(mixture - 1e-4)
    expected, expected_gradient = loss_and_gradient(lambda logits: kd_loss(limit, logits, teacher, LABELS), student)
    loss, gradient = loss_and_gradient(lambda logits: kd_loss(name, logits, teacher, LABELS, mixture=mixture), student)
    assert_close(loss, expected, rtol=1e-12, atol=0)
    assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-15)
    assert kd_loss(name, student, teacher, LABELS, mixture=near).item() == pytest.approx(expected.item(), rel=1e-3)
    assert kd_loss(name, student, teacher, LABELS, mixture=0.5).item() != pytest.approx(expected.item(), rel=1e-2)


def test_teacher_ce_and_forward_kl_have_one_gradient_and_reverse_kl_another():
    student, teacher = random_logits(1), random_logits(2)
    gradients = {name: loss_and_gradient(lambda logits, name=name: kd_loss(name, logits, teacher, LABELS), student)[1] for name in KD_LOSSES}
    assert_close(gradients["teacher_ce"], gradients["forward_kl"])
    assert (gradients["teacher_ce"] - gradients["reverse_kl"]).abs().max() > 0.05


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_gradients_equal_finite_differences(name, temperature):
    student, teacher, labels = random_logits(1, (1, 3, 5)), random_logits(2, (1, 3, 5)), torch.tensor([[3, -100, 0]])
    for alpha in (0.0, 0.3):
        def loss_of(logits, alpha=alpha):
            return combined_loss(logits, labels, alpha, name, teacher_logits=teacher, temperature=temperature)["loss"]

        assert_close(loss_and_gradient(loss_of, student)[1], differences(loss_of, student), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("name", "tail"), CACHED_CASES)
def test_gradients_against_cached_targets_equal_finite_differences(name, tail):
    student, targets, labels = random_logits(1, (1, 3, 7)), random_targets(tail, (1, 3, 7), k=4), torch.tensor([[3, -100, 0]])
    for alpha in (0.0, 0.3):
        def loss_of(logits, alpha=alpha):
            return combined_loss(logits, labels, alpha, name, targets=targets)["loss"]

        assert_close(loss_and_gradient(loss_of, student)[1], differences(loss_of, student), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_an_id_listed_again_without_weight_changes_nothing(name, alpha):
    student, labels, nothing = random_logits(1, (1, 1, 5)), torch.tensor([[0]]), torch.zeros(1, 1, dtype=torch.float64)
    once = {"ids": torch.tensor([[[4, 2]]]), "weights": torch.tensor([[[0.5, 0.4]]]).double(), "tail": nothing, "entropy": nothing}
    again = once | {"ids": torch.tensor([[[4, 2, 2, 4]]]), "weights": torch.tensor([[[0.5, 0.4, 0.0, 0.0]]]).double()}
    found = [loss_and_gradient(lambda logits, t=t: combined_loss(logits, labels, alpha, name, targets=t)["loss"], student) for t in (once, again)]
    assert_close(found[1], found[0])
    assert_close(combined_loss(student, labels, alpha, name, targets=again), combined_loss(student, labels, alpha, name, targets=once))


@pytest.mark.parametrize(("name", "mixture"), [*((name, None) for name in KD_LOSSES), ("jsd", 0.0), ("jsd", 1.0),
                                               ("skew_kl", 0.0), ("skew_reverse_kl", 0.0)])
def test_logits_of_hundreds_leave_losses_and_gradients_as_they_are_in_double_precision(name, mixture):
    student, teacher = (150 * random_logits(seed) for seed in (1, 2))

    def found(dtype):
        return loss_and_gradient(
            lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=teacher.to(dtype), mixture=mixture)["loss"], student.to(dtype))

    (loss, gradient), (exact, exact_gradient) = found(torch.float32), found(torch.float64)
    assert_close(loss.double(), exact, rtol=1e-4, atol=1e-4)
    assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-3)


def test_temperature_keeps_the_size_of_the_gradient():
    teacher = random_logits(2)
    norms = [loss_and_gradient(lambda student, t=t: kd_loss("forward_kl", student, teacher, LABELS, t), random_logits(1))[1].norm() for t in (4.0, 8.0)]
    assert norms[1].item() == pytest.approx(norms[0].item(), rel=0.15)  # without the factor T^2 it would be a quarter


@pytest.mark.parametrize("junk", [100.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", KD_LOSSES)
def test_positions_without_label_change_nothing_whatever_they_hold(name, junk):
    student, teacher = random_logits(1), random_logits(2)
    noisy_student, noisy_teacher = student.clone(), teacher.clone()
    noisy_student[LABELS == -100] += junk
    noisy_teacher[LABELS == -100] += junk
    loss, gradient = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=teacher)["loss"], student)
    noisy_loss, noisy_gradient = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=noisy_teacher)["loss"], noisy_student)
    assert torch.equal(noisy_loss, loss)
    assert torch.equal(noisy_gradient, gradient)
    assert (gradient[LABELS == -100] == 0).all()


@pytest.mark.parametrize(("name", "tail"), CACHED_CASES)
def test_cached_targets_of_positions_without_label_change_nothing(name, tail):
    student, targets = random_logits(1), random_targets(tail)
    noisy = {key: value.clone() for key, value in targets.items()}
    for key in ("weights", "tail", "entropy"):
        noisy[key][LABELS == -100] = float("nan")
    clean, dirty = (loss_and_gradient(lambda logits, t=t: combined_loss(logits, LABELS, 0.3, name, targets=t)["loss"], student) for t in (targets, noisy))
    assert torch.equal(dirty[0], clean[0])
    assert torch.equal(dirty[1], clean[1])


@pytest.mark.parametrize("name", KD_LOSSES)
def test_padding_on_the_right_changes_nothing(name):
    student, teacher = random_logits(1), random_logits(2)
    loss, gradient = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=teacher)["loss"], student)
    padded_student, padded_teacher = (torch.cat([logits, random_logits(7, (2, 3, 11))], 1) for logits in (student, teacher))
    padded_labels = F.pad(LABELS, (0, 3), value=-100)
    padded_loss, padded_gradient = loss_and_gradient(
        lambda logits: combined_loss(logits, padded_labels, 0.3, name, teacher_logits=padded_teacher)["loss"], padded_student)
    assert_close(padded_loss, loss)
    assert_close(padded_gradient, F.pad(gradient, (0, 0, 0, 3)))


@pytest.mark.parametrize("name", KD_LOSSES)
def test_a_batch_of_sixteen_equals_sixteen_batches_of_one(name):
    student, teacher = random_logits(1, (16, 5, 11)), random_logits(2, (16, 5, 11))
    labels = torch.cat([LABELS] * 8)

    def found(rows):
        return loss_and_gradient(lambda logits: combined_loss(logits, labels[rows], 0.3, name, teacher_logits=teacher[rows])["loss"], student[rows])

    loss, gradient = found(slice(None))
    singles = [found(slice(row, row + 1)) for row in range(16)]
    assert_close(sum(single for single, _ in singles), loss)
    assert_close(torch.cat([single for _, single in singles]), gradient)


def values_and_gradient(tokens_per_chunk, monkeypatch, **source):
    monkeypatch.setattr(distill, "TOKENS_PER_CHUNK", tokens_per_chunk)
    logits = random_logits(1).requires_grad_()
    values = combined_loss(logits, LABELS, 0.3, **source)
    return {name: value.item() for name, value in values.items()}, torch.autograd.grad(values["loss"], logits)[0]


@pytest.mark.parametrize("source", [*({"name": name, "teacher_logits": random_logits(2), "temperature": t} for name, t in CASES),
                                    *({"name": name, "targets": random_targets(tail)} for name, tail in CACHED_CASES)], ids=lambda source: source["name"])
def test_chunks_change_nothing(monkeypatch, source):
    values, gradient = values_and_gradient(3, monkeypatch, **source)
    whole_values, whole_gradient = values_and_gradient(1000, monkeypatch, **source)
    assert values == pytest.approx(whole_values, rel=1e-12)
    assert_close(gradient, whole_gradient)


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_squares_are_the_squared_norms_of_the_gradients_that_autograd_finds(name, temperature):
    student, teacher = random_logits(1), random_logits(2)
    values = combined_loss(student, LABELS, 0.3, name, teacher_logits=teacher, temperature=temperature)
    ce, ce_gradient = loss_and_gradient(lambda logits: plain_ce(logits, LABELS), student)
    kd, kd_gradient = loss_and_gradient(lambda logits: plain_kd(name, logits, teacher, LABELS, temperature), student)
    expected = {"loss": 0.3 * ce + 0.7 * kd, "ce_loss": ce, "kd_loss": kd, "ce_square": ce_gradient.square().sum(), "kd_square": kd_gradient.square().sum()}
    assert_close(values, expected)
    _, gradient = loss_and_gradient(lambda z: combined_loss(z, LABELS, 0.3, name, teacher_logits=teacher, temperature=temperature)["loss"], student)
    assert_close(gradient, 0.3 * ce_gradient + 0.7 * kd_gradient)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tail", TAILS)
def test_cached_losses_are_weighed_as_all_others(tail, alpha):
    source = {"name": "forward_kl", "targets": random_targets(tail)}
    values = combined_loss(random_logits(1), LABELS, alpha, **source)
    assert_close(values["loss"], alpha * values["ce_loss"] + (1 - alpha) * values["kd_loss"])
    _, kd_gradient = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.0, **source)["loss"], random_logits(1))
    assert_close(values["kd_square"], kd_gradient.square().sum())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_without_a_teacher_only_alpha_times_hard_labels_counts(alpha):
    student = random_logits(1)
    assert set(combined_loss(student, LABELS, alpha)) == {"loss", "ce_loss", "ce_square"}
    found = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, alpha)["loss"], student)
    assert_close(found, loss_and_gradient(lambda logits: alpha * plain_ce(logits, LABELS), student))


def test_cached_losses_equal_an_example_computed_by_hand():
    # Listed 1/2 and 1/4, a tail of 1/4; the student's 1/8, 1/8 and 3/4 of whatever remains.
    student = logits_of((1 / 8, 1 / 2, 1 / 8, 1 / 4))
    targets = {"ids": torch.tensor([[[2, 0]]]), "weights": torch.tensor([[[1 / 2, 1 / 4]]]).double(), "tail": torch.tensor([[1 / 4]]).double(),
               "entropy": torch.tensor([[1.5 * np.log(2)]])}
    ce, kl = (combined_loss(student, torch.tensor([[3]]), 0.0, name, targets=targets)["loss"].item() for name in ("teacher_ce", "forward_kl"))
    assert ce == pytest.approx(3 / 4 * np.log(8) - 1 / 4 * np.log(3 / 4))
    assert kl == pytest.approx(1 / 2 * np.log(4) + 1 / 4 * np.log(2) + 1 / 4 * np.log(1 / 3))


def test_squares_are_never_negative_where_nothing_is_left_to_learn():
    for seed in range(50):
        teacher = random_logits(seed, (1, 3, 11)).float()
        targets = list_targets(teacher, 5, "dropped")
        student = torch.full_like(teacher, -60.0).scatter(-1, targets["ids"], targets["weights"].log())
        certain = torch.zeros_like(teacher)
        certain[..., 4] = 10 + seed / 5
        assert combined_loss(student, torch.zeros(1, 3, dtype=torch.long), 0.3, "forward_kl", targets=targets)["kd_square"] >= 0
        assert combined_loss(certain, torch.full((1, 3), 4), 0.3)["ce_square"] >= 0


def test_a_batch_without_labels_costs_nothing():
    values = combined_loss(random_logits(1), torch.full_like(LABELS, -100), 0.3, "jsd", teacher_logits=random_logits(2))
    assert all(value == 0 for value in values.values())


def test_only_the_loss_carries_a_gradient_and_the_teacher_gets_none():
    student, teacher = random_logits(1).requires_grad_(), random_logits(2).requires_grad_()
    values = combined_loss(student, LABELS, 0.3, "forward_kl", teacher_logits=teacher)
    assert {name for name, value in values.items() if value.requires_grad} == {"loss"}
    values["loss"].backward()
    assert teacher.grad is None


def test_a_gradient_follows_the_scale_of_its_loss_and_is_given_once():
    student = random_logits(1).requires_grad_()
    loss = distill.ce_loss(student, LABELS)
    gradient = torch.autograd.grad(-2.5 * loss, student, retain_graph=True)[0]
    assert_close(gradient, -2.5 * loss_and_gradient(lambda logits: plain_ce(logits, LABELS), student)[1])
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize("name", KD_LOSSES)
def test_half_precision_logits_get_half_precision_gradients_of_a_single_precision_loss(name):
    student, teacher = random_logits(1).bfloat16(), random_logits(2).bfloat16()
    loss, gradient = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=teacher)["loss"], student)
    exact = loss_and_gradient(lambda logits: combined_loss(logits, LABELS, 0.3, name, teacher_logits=teacher.double())["loss"], student.double())
    assert (loss.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert_close(loss.double(), exact[0], rtol=1e-5, atol=1e-5)
    assert_close(gradient.double(), exact[1], rtol=1e-2, atol=1e-4)


class LargeTensors(TorchDispatchMode):
    """Count the tensors of at least `n` elements that come into being, views and in-place results aside."""

    def __init__(self, n):
        super().__init__()
        self.n, self.count = n, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs or {})) if isinstance(tensor, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        self.count += sum(isinstance(tensor, torch.Tensor) and tensor.numel() >= self.n and tensor.untyped_storage().data_ptr() not in given
                          for tensor in tree_leaves(made))
        return made


@pytest.mark.parametrize("source", [{}, *({"name": name, "teacher_logits": random_logits(2, (4, 20, 11))} for name in KD_LOSSES),
                                    *({"name": name, "targets": random_targets(tail, (4, 20, 11))} for name, tail in CACHED_CASES)],
                         ids=lambda source: source.get("name", "hard labels"))
def test_beyond_the_logits_a_loss_takes_one_tensor_of_their_size(monkeypatch, source):
    monkeypatch.setattr(distill, "TOKENS_PER_CHUNK", 5)
    student, labels = random_logits(1, (4, 20, 11)).requires_grad_(), torch.randint(0, 11, (4, 20), generator=torch.Generator().manual_seed(4))
    with LargeTensors(student.numel() // 2) as large:
        torch.autograd.grad(combined_loss(student, labels, 0.3, **source)["loss"], student)
    assert large.count == 1
    with LargeTensors(student.numel() // 2) as large, torch.no_grad():
        combined_loss(student.detach(), labels, 0.3, **source)
    assert large.count <= 1


def test_labels_are_the_next_token_and_never_padding():
    input_ids = torch.tensor([[5, 6, 7, 0]])
    assert distill.shift_labels(input_ids).tolist() == [[6, 7, 0, -100]]
    assert distill.shift_labels(input_ids, torch.tensor([[1, 1, 1, 0]])).tolist() == [[6, 7, -100, -100]]
    assert input_ids.tolist() == [[5, 6, 7, 0]]


class Table(torch.nn.Module):
    """The smallest language model: the logits of the next token are a row of a table."""

    def __init__(self, seed, vocab_size=11):
        super().__init__()
        self.table = torch.nn.Parameter(random_logits(seed, (vocab_size, vocab_size)))

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.table[input_ids])


def forward(model, batch):
    return model(input_ids=batch["input_ids"]).logits


def make_batch():
    return {"input_ids": torch.tensor([[5, 3, 0, 7, 6], [1, 2, 8, 10, 4]]), "labels": LABELS, "row_numbers": np.array([1, 0])}


def table_gradient(objective, alpha):
    student = Table(1)
    values = objective(student, make_batch(), alpha)
    values["loss"].backward()
    return {name: value.detach() for name, value in values.items()}, student.table.grad


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("name", "options"), [("teacher_ce", {}), ("reverse_kl", {"temperature": 2.0}), ("jsd", {"mixture": 0.25})])
def test_an_objective_runs_model_and_teacher_on_the_batch_at_every_alpha(name, options, alpha):
    teacher = Table(2)
    values, gradient = table_gradient(distill.make_objective(name, forward, teacher=teacher, **options), alpha)
    logits, teacher_logits = (forward(model, make_batch()).detach() for model in (Table(1), teacher))
    assert_close(values, combined_loss(logits, LABELS, alpha, name, teacher_logits=teacher_logits, **options))
    assert values["kd_loss"] > 0.1
    assert gradient.abs().max() > 0.1
    assert teacher.table.grad is None


def test_an_objective_without_a_name_trains_on_hard_labels_alone():
    values, _ = table_gradient(distill.make_objective(None, forward), 1.0)
    assert_close(values["loss"], plain_ce(forward(Table(1), make_batch()), LABELS).detach())
    assert "kd_loss" not in values


@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_an_objective_reads_the_targets_of_its_rows_and_leaves_the_teacher_alone(name):
    targets, asked = random_targets("lumped"), []

    def lookup(row_numbers, vocab_size):
        asked.append((list(row_numbers), vocab_size))
        return targets

    objective = distill.make_objective(name, forward, targets=SimpleNamespace(lookup=lookup), teacher=lambda **inputs: pytest.fail("the teacher ran"))
    values, _ = table_gradient(objective, 0.3)
    assert_close(values, combined_loss(forward(Table(1), make_batch()).detach(), LABELS, 0.3, name, targets=targets))
    assert asked == [([1, 0], 11)]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_originals_way_gives_the_losses_and_the_gradient_of_teacher_ce(alpha):
    teacher = Table(2)
    original, original_gradient = table_gradient(distill.original_objective(forward, teacher), alpha)
    ours, gradient = table_gradient(distill.make_objective("teacher_ce", forward, teacher=teacher), alpha)
    for name in ("loss", "ce_loss", "kd_loss"):
        assert original[name].item() == pytest.approx(ours[name].item(), rel=1e-5)
    assert_close(original_gradient, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda teacher: distill.make_objective("teacher_ce", forward, teacher=teacher),
                                  lambda teacher: distill.original_objective(forward, teacher)], ids=["make_objective", "original_objective"])
def test_the_teacher_runs_without_keeping_a_graph(make):
    teacher, seen = Table(2), []
    teacher.register_forward_hook(lambda *arguments: seen.append(torch.is_grad_enabled()))
    table_gradient(make(teacher), 0.3)
    assert seen == [False]


def history_of(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def losses(ce, kd):
    return history_of(ce_loss=ce, kd_loss=kd)


def norms(ce, kd):
    return history_of(ce_grad_norm=ce, kd_grad_norm=kd)


def test_adaptive_alpha_is_exactly_one_half_while_both_losses_fall():
    assert distill.adaptive_alpha(losses(np.linspace(9, 1, 20), np.linspace(5, 4.99, 20)), 20) == 0.5


def test_adaptive_alpha_follows_its_formula_when_a_loss_rises():
    w_ce = 1 - (4.0 - 2.0) / 3.0
    assert distill.adaptive_alpha(losses([2.0, 3.0, 4.0], [5.0, 4.0, 3.0]), 3) == pytest.approx(w_ce / (w_ce + 1))
    assert distill.adaptive_alpha(losses([5.0, 4.0, 3.0], [2.0, 3.0, 4.0]), 3) == pytest.approx(1 / (w_ce + 1))


def test_adaptive_alpha_looks_at_its_window_only():
    assert distill.adaptive_alpha(losses([1, 9, 8, 7], [9, 8, 7, 6]), 3) == 0.5
    assert distill.adaptive_alpha(losses([1, 9, 8, 7], [9, 8, 7, 6]), 4) < 0.5


def test_adaptive_alpha_is_one_half_before_two_steps_and_when_both_losses_soar():
    assert distill.adaptive_alpha([], 20) == distill.adaptive_alpha(losses([1.0], [2.0]), 20) == 0.5
    assert distill.adaptive_alpha(losses([0.0, 0.0, 9.0], [0.0, 0.0, 9.0]), 3) == 0.5


def test_dwa_alpha_equals_an_example_computed_by_hand():
    # Means of windows 3 -> 1.5 and 2 -> 2, rates 1/2 and 1, over the temperature of 2.
    assert distill.dwa_alpha(losses([99, 4, 2, 2, 1], [99, 2, 2, 2, 2]), 2) == pytest.approx(np.exp(0.25) / (np.exp(0.25) + np.exp(0.5)))


def test_dwa_alpha_is_one_half_before_two_windows():
    assert distill.dwa_alpha(losses([9, 9, 1], [1, 1, 9]), 2) == 0.5
    assert distill.dwa_alpha(losses([9, 9, 1, 1], [1, 1, 9, 9]), 2) != 0.5


@pytest.mark.parametrize("seed", range(5))
def test_dwa_alpha_favours_the_loss_that_fell_less(seed):
    ce, kd = np.random.default_rng(seed).uniform(1, 5, (2, 6))
    rates = [loss[3:].mean() / loss[:3].mean() for loss in (ce, kd)]
    assert (distill.dwa_alpha(losses(ce, kd), 3) > 0.5) == (rates[0] > rates[1])
    assert distill.dwa_alpha(losses(ce, kd), 3) == pytest.approx(1 - distill.dwa_alpha(losses(kd, ce), 3))


def test_grad_norm_alpha_equals_an_example_computed_by_hand():
    # Means of the last two steps: 2 and 8, so 0.8 * 2 = 0.2 * 8.
    assert distill.grad_norm_alpha(norms([99, 1, 3], [1, 6, 10]), 2) == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(5))
def test_grad_norm_alpha_balances_both_pulls(seed):
    ce, kd = np.random.default_rng(seed).uniform(0.01, 5, (2, 7))
    alpha = distill.grad_norm_alpha(norms(ce, kd), 4)
    assert alpha * ce[-4:].mean() == pytest.approx((1 - alpha) * kd[-4:].mean())


def test_grad_norm_alpha_is_one_half_where_nothing_pulls():
    assert distill.grad_norm_alpha([], 20) == distill.grad_norm_alpha(norms([0.0], [0.0]), 20) == 0.5


@pytest.mark.parametrize(("name", "options", "expected"), [
    ("fixed", {"alpha": 0.5}, [0.5] * 5), ("linear", {"alpha": 0.5}, [0.5, 0.375, 0.25, 0.125, 0.0]),
    ("linear", {"alpha": 0.2, "end": 1.0}, [0.2, 0.4, 0.6, 0.8, 1.0]), ("cosine", {"alpha": 0.5}, [0.5, 0.426777, 0.25, 0.073223, 0.0]),
    ("cosine", {"alpha": 0.0, "end": 1.0}, [0.0, 0.146447, 0.5, 0.853553, 1.0]), ("alternate", {}, [1, 0, 1, 0, 1]),
    ("alternate_micro_batch", {}, [(1.0, 0.0)] * 5)])
def test_schedules_give_the_values_of_their_formulas(name, options, expected):
    schedule = make_alpha_schedule(name, steps=5, **options)
    found = [schedule([{}] * step) for step in range(5)]
    assert np.ravel(found) == pytest.approx(np.ravel(expected), abs=1e-6)
    assert [type(alpha) is tuple for alpha in found] == [type(alpha) is tuple for alpha in expected]


@pytest.mark.parametrize("name", ["fixed", "linear", "cosine"])
def test_a_schedule_of_one_step_starts_at_alpha(name):
    assert make_alpha_schedule(name, steps=1, alpha=0.25)([]) == pytest.approx(0.25)


def random_history(seed, length):
    names = ("ce_loss", "kd_loss", "ce_grad_norm", "kd_grad_norm")
    return history_of(**dict(zip(names, np.random.default_rng(seed).lognormal(0, 3, (4, length)), strict=True)))


@pytest.mark.parametrize(("steps", "window"), [(10, 20), (2000, 20), (3000, 30)])
@pytest.mark.parametrize(("name", "weigh"), [("adaptive_paper", distill.adaptive_alpha), ("dwa", distill.dwa_alpha), ("grad_norm", distill.grad_norm_alpha)])
def test_schedules_look_back_over_a_hundredth_of_all_steps_and_at_least_twenty(name, weigh, steps, window):
    for length in (0, 1, 2 * window - 1, 2 * window, 3 * window):
        history = random_history(length, length)
        assert make_alpha_schedule(name, steps)(history) == weigh(history, window)


@pytest.mark.parametrize("name", ALPHA_SCHEDULES)
def test_every_schedule_stays_between_zero_and_one(name):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        schedule = make_alpha_schedule(name, steps=60, alpha=rng.uniform(), end=rng.uniform())
        history = random_history(seed, 60)
        alphas = np.array([schedule(history[:step]) for step in range(60)])
        assert ((alphas >= 0) & (alphas <= 1)).all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", ["adaptive_paper", "dwa", "grad_norm"])
def test_a_schedule_survives_a_student_that_equals_its_teacher(name):
    history = [step | {"kd_loss": 0.0, "kd_grad_norm": 0.0} for step in random_history(0, 40)]
    assert 0 <= make_alpha_schedule(name, steps=60)(history) <= 1


@pytest.mark.parametrize(("call", "words"), [
    (lambda: combined_loss(random_logits(0), LABELS, 1.2), ["alpha=1.2", "[0, 1]"]),
    (lambda: kd_loss("inverse_kl", random_logits(0), random_logits(1), LABELS), ["kd_loss='inverse_kl'", *KD_LOSSES]),
    (lambda: kd_loss("forward_kl", random_logits(0), random_logits(1), LABELS, temperature=0), ["temperature=0", "0.001"]),
    (lambda: kd_loss("l1_weighted", random_logits(0), random_logits(1), LABELS, temperature=2.0), ["temperature=2.0", "l1_weighted", "temperature 1"]),
    (lambda: kd_loss("jsd", random_logits(0), random_logits(1), LABELS, mixture=1.5), ["mixture=1.5", "[0, 1]"]),
    (lambda: kd_loss("jsd", random_logits(0), random_logits(1), LABELS, mixture=-0.1), ["mixture=-0.1", "[0, 1]"]),
    (lambda: kd_loss("skew_kl", random_logits(0), random_logits(1), LABELS, mixture=1.0), ["mixture=1.0", "[0, 0.99]"]),
    (lambda: kd_loss("forward_kl", random_logits(0), random_logits(1), LABELS, mixture=0.5), ["mixture=0.5", "forward_kl", "jsd, skew_kl"]),
    (lambda: kd_loss("forward_kl", random_logits(0), random_logits(1, (2, 5, 12)), LABELS), ["11", "12", "vocabulary"]),
    (lambda: combined_loss(random_logits(0), LABELS, 0.5, "reverse_kl", targets=random_targets("lumped")), ["kd_loss='reverse_kl'", "teacher"]),
    (lambda: combined_loss(random_logits(0), LABELS, 0.5, "teacher_ce", targets=random_targets("lumped"), temperature=2.0), ["teacher_ce", "temperature=2"]),
    (lambda: combined_loss(random_logits(0), LABELS, 0.5, targets=random_targets("lumped")), ["kd_loss=None"]),
    (lambda: combined_loss(random_logits(0), LABELS, 0.5, "inverse_kl"), ["kd_loss='inverse_kl'", *KD_LOSSES]),
    (lambda: combined_loss(random_logits(0), LABELS, 1.2), ["alpha=1.2", "[0, 1]"]),
    (lambda: make_alpha_schedule("fixed", 10, alpha=1.2), ["alpha=1.2", "[0, 1]"]),
    (lambda: make_alpha_schedule("linear", 10, end=-0.1), ["alpha_end=-0.1", "[0, 1]"]),
    (lambda: make_alpha_schedule("clever", 10), ["alpha_schedule='clever'", *ALPHA_SCHEDULES]),
    (lambda: distill.make_objective("inverse_kl", forward, teacher=Table(2)), ["kd_loss='inverse_kl'", *KD_LOSSES]),
    (lambda: distill.make_objective("jsd", forward, teacher=Table(2), mixture=1.5), ["mixture=1.5"]),
    (lambda: distill.make_objective("teacher_ce", forward, targets=object(), temperature=2.0), ["teacher_ce", "temperature=2"]),
    (lambda: distill.make_objective("reverse_kl", forward, targets=object()), ["kd_loss='reverse_kl'", "teacher"])])
def test_bad_input_is_refused_by_name_value_and_choice(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert [word for word in words if word not in str(error.value)] == []


def test_a_teacher_without_the_name_of_a_loss_is_refused():
    with pytest.raises(ValueError, match="kd_loss"):
        combined_loss(random_logits(0), LABELS, 0.5, teacher_logits=random_logits(1))


@pytest.mark.parametrize(("name", "temperature", "is_cached"), [("teacher_ce", 1.0, True), ("forward_kl", 1.0, True), ("forward_kl", 2.0, False),
                                                                ("reverse_kl", 1.0, False), (None, 1.0, False)])
def test_a_cache_serves_the_losses_that_need_the_teacher_only_where_it_has_mass(name, temperature, is_cached):
    assert distill.can_use_cache(name, temperature) is is_cached
