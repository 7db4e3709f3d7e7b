"""The orthogonal factor and the optimizer that steps along it."""

import pytest
import torch

from mome.train import muon
from mome.train.muon import LEAST, STEPS, WORST, Muon, orthogonalize


def random_matrices(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_values(values, n_rows, n_columns):
    """A matrix of these singular values and its polar factor, in float64."""
    n = len(values)
    left, _ = torch.linalg.qr(random_matrices(n_rows, n, seed=1).double())
    right, _ = torch.linalg.qr(random_matrices(n_columns, n, seed=2).double())
    return (left * torch.tensor(values).double()) @ right.mT, left @ right.mT


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (64, 64), (128, 384), (512, 128), (1, 40), (40, 1)])
def test_large_singular_values_end_near_one_and_none_above(shape):
    matrix = random_matrices(1, *shape)
    before = torch.linalg.svdvals(matrix[0])
    after = torch.linalg.svdvals(orthogonalize(matrix)[0])
    is_large = before >= LEAST * 3 * before[0]  # the bound on the largest is not exact
    assert (after[:int(is_large.sum())] >= 1 - WORST - 0.01).all()
    assert after[0] <= 1 + WORST + 0.01


def test_it_is_the_svds_factor_to_the_stated_error():
    matrix, factor = with_values([1, 0.7, 0.3, 0.1, 0.03], 12, 20)
    found = orthogonalize(matrix.float()[None])[0].double()
    assert torch.linalg.matrix_norm(found - factor, 2) <= WORST + 0.01
    # the same singular vectors: each is only stretched
    assert torch.allclose(found @ factor.mT, (found @ factor.mT).mT, atol=1e-4)


def test_a_direction_without_gradient_takes_no_step():
    matrix, _ = with_values([1, 0.5], 6, 6)
    found = orthogonalize(matrix.float()[None])[0].double()
    values = torch.linalg.svdvals(found)
    assert (values[2:] < 1e-3).all() and (values[:2] > 1 - WORST - 0.01).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_does_not_matter(scale):
    matrix = random_matrices(2, 8, 5)
    for scaled, plain in zip(orthogonalize(matrix * scale), orthogonalize(matrix), strict=True):
        assert torch.allclose(scaled, plain, atol=1e-4)


def test_zeros_stay_zeros_and_do_not_touch_their_neighbours():
    matrices = random_matrices(3, 4, 6)
    matrices[1] = 0
    found = orthogonalize(matrices)
    assert (found[1] == 0).all() and torch.stack(found).isfinite().all()
    assert torch.allclose(found[2], orthogonalize(matrices[2:])[0], atol=1e-6)


def test_wide_tall_and_square_matrices_of_one_short_side_are_taken_together(monkeypatch):
    seen, shapes = [], [(128, 384), (6, 4), (512, 128), (4, 6), (4, 4), (128, 128)]
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = random_matrices(*weight.shape)
    monkeypatch.setattr(muon, "orthogonalize", lambda part: seen.append(len(part)) or orthogonalize(part))
    make_muon(weights).step()
    assert seen == [3, 3]
    for weight in weights:
        rate = 0.1 * max(1, weight.shape[1] / weight.shape[0]) ** 0.5
        assert torch.allclose(weight.data, -rate * orthogonalize([weight.grad])[0], atol=1e-5)


def test_the_steps_are_those_of_the_linear_program():
    x = torch.logspace(-2, 0, 5_000, dtype=torch.float64)
    for a, b, c in STEPS:
        x = a * x + b * x**3 + c * x**5
    assert x.min() == pytest.approx(1 - WORST, abs=0.01) and x.max() == pytest.approx(1 + WORST, abs=0.01)


def make_muon(weights, is_hidden=True, **options):
    groups = [{"params": weights, "is_hidden": is_hidden, "lr": 0.1, **options}]
    return Muon(groups, momentum=0.9, betas=(0.9, 0.95))


def test_a_first_step_moves_along_the_gradients_factor_wider_outputs_further():
    for shape, factor in (((4, 9), 1.5), ((9, 4), 1.0)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = random_matrices(*shape)
        make_muon([weight]).step()
        assert torch.allclose(weight.data, -0.1 * factor * orthogonalize(weight.grad[None])[0], atol=1e-6)


def test_a_weight_without_gradient_stays_and_keeps_no_state():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    stepper = make_muon([weight])
    stepper.step()
    assert (weight == 1).all() and not stepper.state[weight]


def test_a_second_step_looks_ahead_along_the_momentum_as_nesterov_does():
    first, second = (random_matrices(4, 9, seed=seed) for seed in (1, 2))
    weight = torch.nn.Parameter(torch.zeros(4, 9))
    stepper = make_muon([weight])
    for weight.grad in (first, second):
        before = weight.detach().clone()
        stepper.step()
    ahead = 0.1 * second + 0.9 * (0.1 * second + 0.09 * first)
    assert torch.allclose(weight - before, -0.15 * orthogonalize(ahead[None])[0], atol=1e-6)


def test_weights_decay_by_the_rate_and_matrices_of_one_shape_do_not_mix():
    alone, first, second = (torch.nn.Parameter(torch.ones(3, 3)) for _ in range(3))
    for weight, seed in ((alone, 1), (first, 1), (second, 2)):
        weight.grad = random_matrices(3, 3, seed=seed)
    make_muon([alone], weight_decay=0.5).step()
    make_muon([first, second], weight_decay=0.5).step()
    assert torch.allclose(alone, first, atol=1e-6) and not torch.allclose(first, second)
    expected = 0.95 - 0.1 * orthogonalize(alone.grad[None])[0]
    assert torch.allclose(alone.data, expected, atol=1e-6)


def test_what_is_not_hidden_takes_the_steps_of_adamw():
    mine, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    stepper = make_muon([mine], is_hidden=False, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)
    for seed in range(4):
        mine.grad = theirs.grad = random_matrices(5, seed=seed)
        stepper.step()
        adamw.step()
    assert torch.allclose(mine, theirs, atol=1e-6)
