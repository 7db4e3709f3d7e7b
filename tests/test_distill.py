import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mome import distill
from mome.config import Shape
from mome.models import build_gpt2


def random_logits(seed, shape=(2, 5, 11)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([[3, 0, 7, -100, 1], [2, -100, 10, 4, 9]])


def test_losses_equal_a_two_token_example_computed_by_hand():
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    labels = torch.tensor([[0]])
    losses = {name: distill.kd_loss(name, q.log()[None, None], p.log()[None, None], labels).item() for name in distill.KD_LOSSES}
    assert losses["teacher_ce"] == pytest.approx(0.6931472, abs=1e-6)  # -ln 1/2
    assert losses["forward_kl"] == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), abs=1e-6)
    assert losses["reverse_kl"] == pytest.approx(0.5 * np.log(2 / 3) + 0.5 * np.log(2), abs=1e-6)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_a_kl_is_zero_when_student_equals_teacher_and_positive_otherwise(name):
    teacher = random_logits(0)
    assert distill.kd_loss(name, teacher, teacher, LABELS).item() == pytest.approx(0, abs=1e-5)
    assert distill.kd_loss(name, random_logits(1), teacher, LABELS) > 0.1


def test_teacher_ce_is_forward_kl_plus_the_teachers_entropy():
    student, teacher = random_logits(1), random_logits(2)
    log_p = torch.log_softmax(teacher[LABELS != -100], dim=-1)
    entropy = -(log_p.exp() * log_p).sum()
    difference = distill.kd_loss("teacher_ce", student, teacher, LABELS) - distill.kd_loss("forward_kl", student, teacher, LABELS)
    assert_close(difference.double(), entropy, atol=1e-4, rtol=1e-5)


def gradient_of(loss_of):
    student = random_logits(1).requires_grad_()
    loss_of(student).backward()
    return student.grad


def test_teacher_ce_and_forward_kl_have_one_gradient_and_reverse_kl_another():
    teacher = random_logits(2)
    gradients = {name: gradient_of(lambda student, name=name: distill.kd_loss(name, student, teacher, LABELS)) for name in distill.KD_LOSSES}
    assert_close(gradients["teacher_ce"], gradients["forward_kl"], atol=1e-5, rtol=1e-5)
    assert (gradients["teacher_ce"] - gradients["reverse_kl"]).abs().max() > 0.05


@pytest.mark.parametrize("name", distill.KD_LOSSES)
def test_gradients_equal_finite_differences(name):
    student, teacher, step = random_logits(1), random_logits(2), 1e-2
    gradient = gradient_of(lambda logits: distill.kd_loss(name, logits, teacher, LABELS, temperature=2.0))
    for index in [(0, 0, 3), (1, 2, 10), (0, 4, 5)]:
        moved = [student.clone(), student.clone()]
        moved[0][index] += step
        moved[1][index] -= step
        high, low = (distill.kd_loss(name, logits, teacher, LABELS, temperature=2.0) for logits in moved)
        assert ((high - low) / (2 * step)).item() == pytest.approx(gradient[index].item(), abs=2e-3)


def test_temperature_keeps_the_size_of_the_gradient():
    teacher = random_logits(2)
    norms = [gradient_of(lambda student, t=t: distill.kd_loss("forward_kl", student, teacher, LABELS, temperature=t)).norm().item() for t in (4.0, 8.0)]
    assert norms[1] == pytest.approx(norms[0], rel=0.15)  # without the factor T^2 it would be a quarter


@pytest.mark.parametrize("name", distill.KD_LOSSES)
def test_positions_without_label_change_nothing(name):
    student, teacher = random_logits(1), random_logits(2)
    noisy = student.clone()
    noisy[LABELS == -100] += 100
    assert distill.kd_loss(name, student, teacher, LABELS) == distill.kd_loss(name, noisy, teacher, LABELS)
    assert distill.ce_loss(student, LABELS) == distill.ce_loss(noisy, LABELS)


def test_a_batch_costs_the_sum_of_its_rows():
    student, teacher = random_logits(1), random_logits(2)
    for name in distill.KD_LOSSES:
        rows = sum(distill.kd_loss(name, student[i:i + 1], teacher[i:i + 1], LABELS[i:i + 1]) for i in range(2))
        assert_close(distill.kd_loss(name, student, teacher, LABELS), rows)


def test_labels_are_the_next_token_and_never_padding():
    input_ids = torch.tensor([[5, 6, 7, 0]])
    assert distill.shift_labels(input_ids).tolist() == [[6, 7, 0, -100]]
    assert distill.shift_labels(input_ids, torch.tensor([[1, 1, 1, 0]])).tolist() == [[6, 7, -100, -100]]


def test_cached_losses_are_exact_when_every_token_is_listed():
    student, teacher = random_logits(1), random_logits(2)
    targets = distill.draw_targets(teacher, n_top=11, n_drawn=0, generator=torch.Generator())
    targets = targets | {"ids": targets["ids"].long(), "weights": torch.softmax(teacher, -1).gather(-1, targets["ids"].long())}
    for name in distill.CACHED_LOSSES:
        losses = distill.cached_losses(name, student, LABELS, targets)
        assert losses["kd_loss"].item() == pytest.approx(distill.kd_loss(name, student, teacher, LABELS).item(), abs=5e-3)  # float16 entropy
        assert losses["ce_loss"].item() == pytest.approx(distill.ce_loss(student, LABELS).item(), abs=1e-4)


def test_cached_teacher_ce_is_unbiased_where_top_k_alone_is_not():
    student, teacher, generator = random_logits(1, (1, 1, 60)), 2 * random_logits(2, (1, 1, 60)), torch.Generator().manual_seed(0)
    labels = torch.tensor([[3]])
    exact = distill.kd_loss("teacher_ce", student, teacher, labels).item()
    drawn = [distill.draw_targets(teacher, 4, 4, generator) for _ in range(600)]
    estimates = [distill.cached_losses("teacher_ce", student, labels, d | {"ids": d["ids"].long()})["kd_loss"].item() for d in drawn]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - exact) < 4 * error
    assert all(d["weights"].float().sum() == pytest.approx(1, abs=5e-3) for d in drawn[:20])


def test_targets_read_from_disk_are_those_of_the_teacher(tmp_path):
    teacher = build_gpt2(Shape(1, 2, 16), vocab_size=50, context=8, seed=0)
    rows = np.random.default_rng(0).integers(3, 50, (6, 8)).astype(np.uint16)
    distill.cache_targets(teacher, rows, np.array([4, 1, 5]), 6, tmp_path, micro_batch_size=2)
    found = distill.CachedTargets(tmp_path).lookup([1, 4])
    with torch.no_grad():
        probs = torch.softmax(teacher.eval()(input_ids=torch.from_numpy(rows[[1, 4]].astype(np.int64))).logits, dim=-1)
    assert found["ids"].shape == (2, 8, 6)
    assert found["ids"][..., :3].tolist() == probs.topk(3).indices.tolist()
    assert_close(found["weights"][..., :3].float(), probs.topk(3).values, atol=1e-4, rtol=1e-3)
    with pytest.raises(KeyError):
        distill.CachedTargets(tmp_path).lookup([0])


def history(ce, kd):
    return [{"ce_loss": a, "kd_loss": b} for a, b in zip(ce, kd, strict=True)]


def test_adaptive_alpha_is_exactly_one_half_while_both_losses_fall():
    assert distill.adaptive_alpha(history(np.linspace(9, 1, 20), np.linspace(5, 4.99, 20)), 20) == 0.5


def test_adaptive_alpha_follows_its_formula_when_a_loss_rises():
    ce, kd = [2.0, 3.0, 4.0], [5.0, 4.0, 3.0]
    w_ce = 1 - (4.0 - 2.0) / 3.0
    assert distill.adaptive_alpha(history(ce, kd), 3) == pytest.approx(w_ce / (w_ce + 1))


def test_adaptive_alpha_looks_at_its_window_only():
    assert distill.adaptive_alpha(history([1, 9, 8, 7], [9, 8, 7, 6]), 3) == 0.5


@pytest.mark.parametrize(("name", "expected"), [("fixed", [0.5, 0.5, 0.5, 0.5, 0.5]), ("linear", [0.5, 0.375, 0.25, 0.125, 0.0]),
                                                ("alternate", [1, 0, 1, 0, 1]), ("cosine", [0.5, 0.426777, 0.25, 0.073223, 0.0])])
def test_schedules_give_the_values_of_their_formulas(name, expected):
    schedule = distill.make_alpha_schedule(name, steps=5, alpha=0.5)
    assert [schedule([{}] * step) for step in range(5)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: distill.kd_loss("inverse_kl", random_logits(0), random_logits(1), LABELS), ["inverse_kl", "reverse_kl"]),
    (lambda: distill.kd_loss("forward_kl", random_logits(0), random_logits(1), LABELS, temperature=0), ["temperature=0"]),
    (lambda: distill.kd_loss("forward_kl", random_logits(0), random_logits(1, (2, 5, 12)), LABELS), ["11", "12"]),
    (lambda: distill.make_alpha_schedule("fixed", 10, alpha=1.2), ["alpha=1.2", "[0, 1]"]),
    (lambda: distill.make_alpha_schedule("clever", 10), ["clever", "adaptive_paper"]),
    (lambda: distill.make_objective("reverse_kl", None, targets=object()), ["reverse_kl", "teacher"])])
def test_bad_input_is_refused_by_name_value_and_choice(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words)
