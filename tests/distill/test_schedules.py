"""Schedules of alpha against numbers worked out by hand."""

import numpy as np
import pytest
from cases import each

from mome.distill import ALPHA_SCHEDULES
from mome.distill.schedules import adaptive_alpha, dwa_alpha, grad_norm_alpha, make_alpha_schedule

LOOKING_BACK = {"adaptive_paper": adaptive_alpha, "dwa": dwa_alpha, "grad_norm": grad_norm_alpha}


def history_of(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def losses(ce, kd):
    return history_of(ce_loss=ce, kd_loss=kd)


def norms(ce, kd):
    return history_of(ce_grad_norm=ce, kd_grad_norm=kd)


def random_history(seed, length):
    names = ("ce_loss", "kd_loss", "ce_grad_norm", "kd_grad_norm")
    values = np.random.default_rng(seed).lognormal(0, 3, (4, length))
    return history_of(**dict(zip(names, values, strict=True)))


def test_adaptive_alpha_is_one_half_before_two_steps_while_both_losses_fall_and_when_both_soar():
    assert adaptive_alpha(losses(np.linspace(9, 1, 20), np.linspace(5, 4.99, 20)), 20) == 0.5
    assert adaptive_alpha([], 20) == adaptive_alpha(losses([1.0], [2.0]), 20) == 0.5
    assert adaptive_alpha(losses([0.0, 0.0, 9.0], [0.0, 0.0, 9.0]), 3) == 0.5


def test_adaptive_alpha_follows_its_formula_over_its_window_when_a_loss_rises_even_from_zero():
    w_ce = 1 - (4.0 - 2.0) / 3.0
    assert adaptive_alpha(losses([2.0, 3.0, 4.0], [5.0, 4.0, 3.0]), 3) == pytest.approx(w_ce / (w_ce + 1))
    assert adaptive_alpha(losses([5.0, 4.0, 3.0], [2.0, 3.0, 4.0]), 3) == pytest.approx(1 / (w_ce + 1))
    assert adaptive_alpha(losses([1, 9, 8, 7], [9, 8, 7, 6]), 3) == 0.5
    assert adaptive_alpha(losses([1, 9, 8, 7], [9, 8, 7, 6]), 4) < 0.5
    with np.errstate(all="raise"):
        assert adaptive_alpha(losses([2.0, 3.0, 4.0], [0.0, 0.0, 0.0]), 3) == pytest.approx(1 / 4)


def test_dwa_alpha_equals_an_example_computed_by_hand_and_is_one_half_before_two_windows():
    # Means of windows 3 -> 1.5 and 2 -> 2, rates 1/2 and 1, over the temperature.
    history = losses([99, 4, 2, 2, 1], [99, 2, 2, 2, 2])
    assert dwa_alpha(history, 2) == pytest.approx(np.exp(0.25) / (np.exp(0.25) + np.exp(0.5)))
    assert dwa_alpha(history, 2, temperature=0.5) == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(2)))
    assert dwa_alpha(losses([9, 9, 1], [1, 1, 9]), 2) == 0.5
    assert dwa_alpha(losses([9, 9, 1, 1], [1, 1, 9, 9]), 2) != 0.5


@each("seed", range(3))
def test_dwa_alpha_favours_the_loss_that_fell_less(seed):
    ce, kd = np.random.default_rng(seed).uniform(1, 5, (2, 6))
    rates = [loss[3:].mean() / loss[:3].mean() for loss in (ce, kd)]
    assert (dwa_alpha(losses(ce, kd), 3) > 0.5) == (rates[0] > rates[1])
    assert dwa_alpha(losses(ce, kd), 3) == pytest.approx(1 - dwa_alpha(losses(kd, ce), 3))


def test_grad_norm_alpha_balances_both_pulls_as_by_hand_and_is_one_half_where_nothing_pulls():
    # Means of the last two steps: 2 and 8, so 0.8 * 2 = 0.2 * 8.
    assert grad_norm_alpha(norms([99, 1, 3], [1, 6, 10]), 2) == pytest.approx(0.8)
    ce, kd = np.random.default_rng(0).uniform(0.01, 5, (2, 7))
    alpha = grad_norm_alpha(norms(ce, kd), 4)
    assert alpha * ce[-4:].mean() == pytest.approx((1 - alpha) * kd[-4:].mean())
    assert grad_norm_alpha([], 20) == grad_norm_alpha(norms([0.0], [0.0]), 20) == 0.5


@each("name, options, expected", [
    ("fixed", {"alpha": 0.5}, [0.5] * 5), ("linear", {"alpha": 0.5}, [0.5, 0.375, 0.25, 0.125, 0.0]),
    ("linear", {"alpha": 0.2, "end": 1.0}, [0.2, 0.4, 0.6, 0.8, 1.0]),
    ("cosine", {"alpha": 0.5}, [0.5, 0.426777, 0.25, 0.073223, 0.0]),
    ("cosine", {"alpha": 0.0, "end": 1.0}, [0.0, 0.146447, 0.5, 0.853553, 1.0]),
    ("alternate", {}, [1, 0, 1, 0, 1]), ("alternate_micro_batch", {}, [(1.0, 0.0)] * 5)])
def test_schedules_give_the_values_of_their_formulas(name, options, expected):
    schedule = make_alpha_schedule(name, steps=5, **options)
    found = [schedule([{}] * step) for step in range(5)]
    assert np.ravel(found) == pytest.approx(np.ravel(expected), abs=1e-6)
    assert [type(alpha) is tuple for alpha in found] == [type(alpha) is tuple for alpha in expected]
    if "alpha" in options:  # a schedule of one step starts there, too
        assert make_alpha_schedule(name, steps=1, alpha=0.25)([]) == pytest.approx(0.25)


@each("steps, options, window", [
    (10, {}, 20), (3000, {}, 30), (10, {"window": 3}, 3)])
@each("name", LOOKING_BACK)
def test_schedules_look_back_over_a_hundredth_of_all_steps_and_at_least_their_window(
        name, steps, options, window):
    for length in (0, 1, 2 * window - 1, 2 * window, 3 * window):
        history = random_history(length, length)
        assert make_alpha_schedule(name, steps, **options)(history) == LOOKING_BACK[name](history, window)
    hotter = make_alpha_schedule("dwa", steps, dwa_temperature=0.7, **options)
    assert hotter(history) == dwa_alpha(history, window, 0.7) != dwa_alpha(history, window, 2.0)


@each("name", ALPHA_SCHEDULES)
def test_every_schedule_stays_between_zero_and_one_also_of_a_student_that_equals_its_teacher(name):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        schedule = make_alpha_schedule(name, steps=60, alpha=rng.uniform(), end=rng.uniform())
        history = random_history(seed, 60)
        perfect = [step | {"kd_loss": 0.0, "kd_grad_norm": 0.0} for step in history]  # as its teacher
        alphas = np.array([schedule(seen[:step]) for seen in (history, perfect) for step in range(60)])
        assert ((alphas >= 0) & (alphas <= 1)).all()
