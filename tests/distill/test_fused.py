"""The losses of training against their definitions, cached ones against differences, all under stress."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mome import distill
from mome.distill import CACHED_LOSSES, KD_LOSSES, MIXTURES, TAILS, fused, losses
from mome.distill.fused import combined_loss, kd_loss
from mome.distill.targets import list_targets

OPTIONS = [(name, {}) for name in KD_LOSSES]
OPTIONS += [(name, {"temperature": 2.0}) for name in KD_LOSSES if name != "l1_weighted"]
OPTIONS += [("jsd", {"mixture": 0.25}), ("skew_kl", {"mixture": 0.5}), ("skew_reverse_kl", {"mixture": 0.5})]
CACHED = [(name, tail) for name in CACHED_LOSSES for tail in TAILS]


@pytest.fixture(scope="module")
def random_targets(random_logits):
    return lambda tail, shape=(2, 5, 11), k=5: list_targets(random_logits(2, shape), k, tail,
                                                            torch.Generator().manual_seed(3))


def differences(loss_of, logits, step=1e-5):
    """Return the gradient of a loss by central differences, one logit at a time."""
    gradient = torch.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        shift = torch.zeros_like(logits)
        shift[index] = step
        gradient[index] = (loss_of(logits + shift) - loss_of(logits - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("name, options", OPTIONS)
def test_losses_gradients_and_their_norms_are_those_that_autograd_finds_of_the_definitions(
        random_logits, labels, derive, name, options):
    student, teacher = random_logits(1), random_logits(2)
    ce, ce_gradient = derive(lambda z: losses.hard_label_ce(z, labels), student)
    kd, kd_gradient = derive(lambda z: losses.sum_loss(name, z, teacher, labels, **options), student)
    whole = partial(combined_loss, labels=labels, alpha=0.3, name=name, teacher_logits=teacher, **options)
    assert_close(whole(student), {
        "loss": 0.3 * ce + 0.7 * kd, "ce_loss": ce, "kd_loss": kd, "ce_square": ce_gradient.square().sum(),
        "kd_square": kd_gradient.square().sum()})
    gradient = derive(lambda z: whole(z)["loss"], student)[1]
    assert_close(gradient, 0.3 * ce_gradient + 0.7 * kd_gradient)
    found = derive(lambda z: kd_loss(name, z, teacher, labels, **options), student)
    assert_close(found, (kd, kd_gradient))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_without_a_teacher_only_alpha_times_hard_labels_counts(random_logits, labels, derive, alpha):
    student = random_logits(1)
    assert set(combined_loss(student, labels, alpha)) == {"loss", "ce_loss", "ce_square"}
    found = derive(lambda z: combined_loss(z, labels, alpha)["loss"], student)
    assert_close(found, derive(lambda z: alpha * losses.hard_label_ce(z, labels), student))
    assert_close(fused.ce_loss(student, labels), losses.hard_label_ce(student, labels))


@pytest.mark.parametrize("name, mixture, limit", [
    ("jsd", 0, "forward_kl"), ("jsd", 1, "reverse_kl"),
    ("skew_kl", 0.0, "forward_kl"), ("skew_reverse_kl", 0, "reverse_kl")])
def test_a_mixture_at_its_end_is_the_kl_itself(random_logits, labels, derive, name, mixture, limit):
    student, teacher = random_logits(1), random_logits(2)
    expected = derive(lambda z: kd_loss(limit, z, teacher, labels), student)
    found = derive(lambda z: kd_loss(name, z, teacher, labels, mixture=mixture), student)
    assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name, tail", [
    (name, tail) for name in CACHED_LOSSES for tail in ("drawn", "lumped")])
def test_gradients_against_cached_targets_equal_finite_differences(
        random_logits, random_targets, derive, name, tail):
    targets, labels = random_targets(tail, (1, 3, 7), k=4), torch.tensor([[3, -100, 0]])
    for alpha in (0.0, 0.3):
        loss_of = lambda z, a=alpha: combined_loss(z, labels, a, name, targets=targets)["loss"]  # noqa: E731
        student = random_logits(1, (1, 3, 7))
        assert_close(derive(loss_of, student)[1], differences(loss_of, student), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_an_id_listed_again_without_weight_changes_nothing(random_logits, derive, name, alpha):
    student, label, zero = random_logits(1, (1, 1, 5)), torch.tensor([[0]]), torch.zeros(1, 1).double()
    once = {"ids": torch.tensor([[[4, 2]]]), "weights": torch.tensor([[[0.5, 0.4]]]).double(), "tail": zero,
            "entropy": zero}
    again = once | {"ids": torch.tensor([[[4, 2, 2, 4]]]),
                    "weights": torch.tensor([[[0.5, 0.4, 0, 0]]]).double()}
    found = [derive(lambda z, t=t: combined_loss(z, label, alpha, name, targets=t)["loss"], student)
             for t in (once, again)]
    assert_close(found[1], found[0])
    assert_close(combined_loss(student, label, alpha, name, targets=again),
                 combined_loss(student, label, alpha, name, targets=once))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_cached_losses_are_weighed_as_all_others(random_logits, random_targets, labels, derive, alpha):
    source = {"name": "forward_kl", "targets": random_targets("lumped")}
    values = combined_loss(random_logits(1), labels, alpha, **source)
    assert_close(values["loss"], alpha * values["ce_loss"] + (1 - alpha) * values["kd_loss"])
    _, gradient = derive(lambda z: combined_loss(z, labels, 0.0, **source)["loss"], random_logits(1))
    assert_close(values["kd_square"], gradient.square().sum())


def test_cached_losses_equal_an_example_computed_by_hand():
    # Listed 1/2 and 1/4, a tail of 1/4; the student's 1/8, 1/8 and 3/4 of whatever remains.
    student = torch.tensor([[[1 / 8, 1 / 2, 1 / 8, 1 / 4]]], dtype=torch.float64).log()
    targets = {"ids": torch.tensor([[[2, 0]]]), "weights": torch.tensor([[[1 / 2, 1 / 4]]]).double(),
               "tail": torch.tensor([[1 / 4]]).double(), "entropy": torch.tensor([[1.5 * np.log(2)]])}
    ce, kl = (combined_loss(student, torch.tensor([[3]]), 0.0, name, targets=targets)["loss"].item()
              for name in ("teacher_ce", "forward_kl"))
    assert ce == pytest.approx(3 / 4 * np.log(8) - 1 / 4 * np.log(3 / 4))
    assert kl == pytest.approx(1 / 2 * np.log(4) + 1 / 4 * np.log(2) + 1 / 4 * np.log(1 / 3))


@pytest.mark.parametrize("scale", [1, 150])
@pytest.mark.parametrize("name", [*KD_LOSSES, None])
def test_large_logits_leave_losses_and_gradients_as_in_double_precision(random_logits, derive, name, scale):
    zeros, shape, alpha = torch.zeros(4, 16, dtype=torch.long), (4, 16, 200), float(name is None)

    def find(dtype, mixture):  # a teacher nearby, where differences are small
        student = random_logits(1, shape, scale).float()
        teacher = (student + random_logits(2, shape, 0.05)).float().to(dtype)
        source = {} if name is None else {"name": name, "teacher_logits": teacher, "mixture": mixture}
        return derive(lambda z: combined_loss(z, zeros, alpha, **source)["loss"], student.to(dtype))

    for mixture in [None] if name not in MIXTURES else [None, 0.0, 1.0][:3 if name == "jsd" else 2]:
        (loss, gradient), (exact, exact_gradient) = find(torch.float32, mixture), find(torch.float64, mixture)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-3)
        assert (gradient - exact_gradient).norm() < 3e-5 * exact_gradient.norm()


@pytest.mark.parametrize("name", KD_LOSSES)
def test_where_teacher_and_student_are_equal_no_rounding_pulls(random_logits, labels, derive, name):
    same = random_logits(1, scale=15).float()
    gradient = derive(lambda z: kd_loss(name, z, same, labels), same)[1]
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("distance", [5, 15, 40, 80])
@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_a_lumped_tail_pulls_a_sure_student_as_in_double_precision(random_logits, derive, name, distance):
    targets = list_targets(random_logits(2, (1, 3, 50)).float(), 5, "lumped")
    student = random_logits(1, (1, 3, 50)).float() - distance
    student.scatter_add_(-1, targets["ids"], torch.full_like(targets["weights"], distance))
    zeros = torch.zeros(1, 3, dtype=torch.long)
    (loss, gradient), exact = (derive(
        lambda z: combined_loss(z, zeros, 0.0, name, targets=targets)["loss"], student.to(dtype))
        for dtype in (torch.float32, torch.float64))
    assert gradient.sum(-1).abs().max() < 1e-6
    assert_close((loss.double(), gradient.double()), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", [5, 12, 16])
def test_squares_are_those_of_the_gradient_where_little_is_left_to_learn(derive, distance):
    student, label = torch.zeros(1, 1, 100), torch.tensor([[3]])
    student[..., 3] = distance
    targets = list_targets(student, 5, "dropped")
    for alpha, key in ((1.0, "ce_square"), (0.0, "kd_square")):
        find = partial(combined_loss, labels=label, alpha=alpha, name="forward_kl", targets=targets)
        exact = derive(lambda z, find=find: find(z)["loss"], student.double())[1].square().sum().item()
        assert find(student)[key].item() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("name", [name for name in KD_LOSSES if name != "reverse_kl"])
def test_a_teachers_infinitely_small_logit_is_a_probability_of_zero(random_logits, labels, derive, name):
    small, zero = random_logits(2), random_logits(2)
    small[..., [0, 5]], zero[..., [0, 5]] = -1e4, -torch.inf
    fast, plain = partial(kd_loss, name), partial(losses.sum_loss, name)
    expected, *found = (derive(lambda z, loss_of=loss_of, p=p: loss_of(z, p, labels), random_logits(1))
                        for loss_of, p in ((fast, small), (fast, zero), (plain, zero)))
    assert_close(found, [expected, expected])


@pytest.mark.parametrize("name, mixture", [("reverse_kl", None), ("jsd", 1.0), ("skew_reverse_kl", 0.0)])
def test_a_probability_of_zero_that_makes_a_loss_infinite_is_refused(random_logits, labels, name, mixture):
    teacher = random_logits(2)
    teacher[1, 2, 5] = -torch.inf
    with pytest.raises(ValueError, match=r"teacher_logits=-inf .* reverse_kl"):
        kd_loss(name, random_logits(1), teacher, labels, mixture=mixture)


@pytest.mark.parametrize("junk", [100.0, float("nan"), -float("inf")])
def test_positions_without_label_change_nothing_whatever_they_hold(random_logits, labels, derive, junk):
    student, teacher = random_logits(1), random_logits(2)
    ignored = (labels == -100).unsqueeze(-1)
    noisy = [torch.where(ignored, logits + junk, logits) for logits in (student, teacher)]
    for name in KD_LOSSES:
        found, expected = (derive(
            lambda z, p=p, name=name: combined_loss(z, labels, 0.3, name, teacher_logits=p)["loss"], z)
            for z, p in (noisy, (student, teacher)))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert (found[1][labels == -100] == 0).all()


@pytest.mark.parametrize("name, tail", CACHED)
def test_cached_targets_of_positions_without_label_change_nothing(
        random_logits, random_targets, labels, derive, name, tail):
    targets = random_targets(tail)
    noisy = {key: value.clone() for key, value in targets.items()}
    for key in ("weights", "tail", "entropy"):
        noisy[key][labels == -100] = float("nan")
    clean, dirty = (derive(lambda z, t=t: combined_loss(z, labels, 0.3, name, targets=t)["loss"],
                                      random_logits(1)) for t in (targets, noisy))
    assert torch.equal(dirty[0], clean[0])
    assert torch.equal(dirty[1], clean[1])


def test_padding_on_the_right_changes_nothing(random_logits, labels, derive):
    plain, padded = ((random_logits(1), random_logits(2), labels),
                     (*(torch.cat([random_logits(seed), random_logits(7, (2, 3, 11))], 1) for seed in (1, 2)),
                      F.pad(labels, (0, 3), value=-100)))
    for name in KD_LOSSES:
        (loss, gradient), (padded_loss, padded_gradient) = (derive(
            lambda z, p=p, y=y, name=name: combined_loss(z, y, 0.3, name, teacher_logits=p)["loss"], z)
            for z, p, y in (plain, padded))
        assert_close(padded_loss, loss)
        assert_close(padded_gradient, F.pad(gradient, (0, 0, 0, 3)))


@pytest.mark.parametrize("source", [{}, *({"name": name} for name in KD_LOSSES),
        *({"name": name, "tail": tail} for name, tail in CACHED)])
def test_chunks_and_the_size_of_the_batch_change_nothing(
        monkeypatch, random_logits, random_targets, labels, derive, source):
    student, teacher = random_logits(1, (4, 5, 11)), random_logits(2, (4, 5, 11))
    targets, labels = random_targets(source.get("tail", "lumped"), (4, 5, 11)), torch.cat([labels, labels])

    def find(tokens_per_chunk, rows=slice(None)):
        monkeypatch.setattr(fused, "LOGITS_PER_CHUNK", 11 * tokens_per_chunk)
        given = {}
        if "tail" in source:
            given = {"name": source["name"], "targets": {key: value[rows] for key, value in targets.items()}}
        elif source:
            given = {"name": source["name"], "teacher_logits": teacher[rows]}
        values = combined_loss(student[rows], labels[rows], 0.3, **given)
        gradient = derive(lambda z: combined_loss(z, labels[rows], 0.3, **given)["loss"], student[rows])[1]
        return values, gradient

    values, gradient = find(1000)
    assert_close(find(3), (values, gradient))
    singles = [find(1000, slice(row, row + 1)) for row in range(4)]
    assert_close({name: sum(single[name] for single, _ in singles) for name in values}, values)
    assert_close(torch.cat([single for _, single in singles]), gradient)


def test_a_batch_without_labels_costs_nothing(random_logits, labels):
    ignored, teacher = torch.full_like(labels, -100), random_logits(2)
    values = combined_loss(random_logits(1), ignored, 0.3, "jsd", teacher_logits=teacher)
    assert all(value == 0 for value in values.values())


def test_only_the_loss_carries_a_gradient_and_the_teacher_gets_none(random_logits, labels):
    student, teacher = random_logits(1).requires_grad_(), random_logits(2).requires_grad_()
    values = combined_loss(student, labels, 0.3, "forward_kl", teacher_logits=teacher)
    assert {name for name, value in values.items() if value.requires_grad} == {"loss"}
    values["loss"].backward()
    assert teacher.grad is None


def test_a_gradient_follows_the_scale_of_its_loss_and_is_given_once(random_logits, labels, derive):
    student = random_logits(1).requires_grad_()
    loss = fused.ce_loss(student, labels)
    gradient = torch.autograd.grad(-2.5 * loss, student, retain_graph=True)[0]
    assert_close(gradient, -2.5 * derive(lambda z: losses.hard_label_ce(z, labels), student)[1])
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize("name", KD_LOSSES)
def test_half_precision_logits_get_half_precision_gradients_of_a_single_precision_loss(
        random_logits, labels, derive, name):
    student, teacher = random_logits(1).bfloat16(), random_logits(2).bfloat16()
    (loss, gradient), exact = (derive(
        lambda z, p=p: combined_loss(z, labels, 0.3, name, teacher_logits=p)["loss"], z)
        for z, p in ((student, teacher), (student.double(), teacher.double())))
    assert (loss.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert_close(loss.double(), exact[0], rtol=1e-5, atol=1e-5)
    assert_close(gradient.double(), exact[1], rtol=1e-2, atol=1e-4)


class LargeTensors(TorchDispatchMode):
    """Count the tensors of at least `n` elements that come into being, views and in-place results aside."""

    def __init__(self, n):
        super().__init__()
        self.n, self.count = n, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs or {}))
                 if isinstance(tensor, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        tensors = [tensor for tensor in tree_leaves(made) if isinstance(tensor, torch.Tensor)]
        self.count += sum(tensor.numel() >= self.n and tensor.untyped_storage().data_ptr() not in given
                          for tensor in tensors)
        return made


@pytest.mark.parametrize("source", ["hard labels", *KD_LOSSES, *CACHED])
def test_beyond_the_logits_a_loss_takes_one_tensor_of_their_size(
        monkeypatch, random_logits, random_targets, source):
    monkeypatch.setattr(fused, "LOGITS_PER_CHUNK", 55)
    student = random_logits(1, (4, 20, 11)).requires_grad_()
    labels = torch.randint(0, 11, (4, 20), generator=torch.Generator().manual_seed(4))
    given = {}
    if isinstance(source, tuple):
        given = {"name": source[0], "targets": random_targets(source[1], (4, 20, 11), k=4)}
    elif source != "hard labels":
        given = {"name": source, "teacher_logits": random_logits(2, (4, 20, 11))}
    with LargeTensors(student.numel() // 2) as large:
        torch.autograd.grad(combined_loss(student, labels, 0.3, **given)["loss"], student)
    assert large.count == 1
    with LargeTensors(student.numel() // 2) as large, torch.no_grad():
        combined_loss(student.detach(), labels, 0.3, **given)
    assert large.count <= 1


def test_labels_are_the_next_token_and_none_at_the_last():
    input_ids = torch.tensor([[5, 6, 7, 8]])
    assert fused.shift_labels(input_ids).tolist() == [[6, 7, 8, -100]]
    assert input_ids.tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize("name, options, words", [
    (None, {"alpha": 1.2}, ["alpha=1.2", "[0, 1]"]),
    ("inverse_kl", {"teacher": 11}, ["kd_loss='inverse_kl'", *KD_LOSSES]),
    ("inverse_kl", {}, ["kd_loss='inverse_kl'"]), (None, {"teacher": 11}, ["kd_loss=None"]),
    ("forward_kl", {"teacher": 11, "temperature": 0}, ["temperature=0", "0.001"]),
    ("l1_weighted", {"teacher": 11, "temperature": 2.0}, ["temperature=2.0", "l1_weighted", "temperature 1"]),
    ("jsd", {"teacher": 11, "mixture": 1.5}, ["mixture=1.5", "[0, 1]"]),
    ("jsd", {"teacher": 11, "mixture": -0.1}, ["mixture=-0.1", "[0, 1]"]),
    ("skew_kl", {"teacher": 11, "mixture": 1.0}, ["mixture=1.0", "[0, 0.99]"]),
    ("forward_kl", {"teacher": 11, "mixture": 0.5}, ["mixture=0.5", "forward_kl", "jsd, skew_kl"]),
    ("forward_kl", {"teacher": 12}, ["11", "12", "vocabulary"]),
    ("reverse_kl", {"tail": "lumped"}, ["kd_loss='reverse_kl'", "teacher"]),
    ("teacher_ce", {"tail": "lumped", "temperature": 2.0}, ["teacher_ce", "temperature=2"]),
    (None, {"tail": "lumped"}, ["kd_loss=None"])])
def test_bad_input_is_refused_by_name_value_and_choice(
        random_logits, random_targets, labels, name, options, words):
    options = {"alpha": 0.5, **options}
    if "teacher" in options:
        options["teacher_logits"] = random_logits(1, (2, 5, options.pop("teacher")))
    if "tail" in options:
        options["targets"] = random_targets(options.pop("tail"))
    with pytest.raises(ValueError) as error:
        combined_loss(random_logits(0), labels, name=name, **options)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_loss_whose_gradient_nobody_worked_out_gets_that_of_its_definition(
        monkeypatch, random_logits, labels, derive):
    monkeypatch.setattr(distill, "KD_LOSSES", (*KD_LOSSES, "brier"))
    monkeypatch.setattr(losses, "brier", lambda log_p, log_q: (log_p.exp() - log_q.exp()).square().sum(-1),
                        raising=False)
    student, teacher = random_logits(1), random_logits(2)
    expected = derive(lambda z: losses.sum_loss("brier", z, teacher, labels, 2.0), student)
    assert_close(derive(lambda z: kd_loss("brier", z, teacher, labels, 2.0), student), expected)
