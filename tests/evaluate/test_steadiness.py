"""How steady a training is: cycles of two steps, the held-out curve, a grid of seeds."""

import numpy as np
import pandas as pd
import pytest
import torch

from mome.evaluate.steadiness import CYCLES, Spread, measure_cycles, measure_wobble, split_variance


def draw_gradients(n, size, seed=0):
    """Return (n, size) gradients of hard labels and of the teacher, which go together in part."""
    rng = np.random.default_rng(seed)
    shared, ce, kd = rng.normal(size=(3, n, size))
    return 1.0 + shared + 2 * ce, 1.0 + shared + 0.5 * kd


def measure(ce, kd):
    pairs = zip(*(map(torch.from_numpy, each) for each in (ce, kd)), strict=True)
    return measure_cycles(pairs).set_index("arm")


def test_a_trace_is_that_of_the_covariance_matrix():
    vectors, spread = draw_gradients(7, 3)[0], Spread()
    for vector in vectors:
        spread.add(torch.from_numpy(vector))
    assert spread.trace == pytest.approx(np.trace(np.cov(vectors.T)))
    assert np.isnan(Spread().trace)


def test_a_cycle_takes_four_half_batches_of_which_each_arm_gives_the_losses_their_own():
    ce, kd = draw_gradients(22, 3)  # the last two are no cycle
    c, k = (each[:20].reshape(5, 4, 3) for each in (ce, kd))
    means = {"alpha 0.5": (c + k).mean(axis=1) / 2,
             "alternating by step": (c[:, 0] + c[:, 1] + k[:, 2] + k[:, 3]) / 4,
             "alternating by micro-batch": (c[:, 0] + k[:, 1] + c[:, 2] + k[:, 3]) / 4}
    found, gap = measure(ce, kd), np.trace(np.cov((ce - kd)[:20].T))
    assert list(found.index) == list(CYCLES) == list(means)
    for arm, mean in means.items():
        assert found["trace"][arm] == pytest.approx(np.trace(np.cov(mean.T)))
        added = 0 if arm == "alpha 0.5" else gap / 16
        assert found.formula[arm] == pytest.approx(found["trace"]["alpha 0.5"] + added)


def test_alternating_adds_an_eighth_of_the_variance_of_the_difference_and_nothing_where_there_is_none():
    ce, kd = draw_gradients(8_000, 20)
    found = measure(ce, kd)
    half = 20 * (4 + 0.25)  # variance of g_CE - g_KD over half-batches; over whole ones it is half of it
    for arm in ("alternating by step", "alternating by micro-batch"):
        added = found["trace"][arm] - found["trace"]["alpha 0.5"]
        assert added == pytest.approx(half / 2 / 8, rel=0.06)
        assert found["trace"][arm] == pytest.approx(found.formula[arm], rel=0.03)
    assert measure(ce, ce)["trace"].nunique() == 1


@pytest.fixture
def curve():
    steps = np.arange(1, 101)
    nats = 5 - 0.4 * np.log(steps) + 0.02 * np.log(steps) ** 2
    return pd.DataFrame({"step": steps, "nats": nats}).assign(nats=lambda t: t.nats.where(t.step % 5 == 0))


def test_a_smooth_curve_does_not_wobble_whatever_its_first_half_and_its_odd_steps_do(curve):
    curve.loc[(curve.step <= 50) | (curve.step % 2 == 1), "nats"] += 1
    assert measure_wobble(curve, "nats") == pytest.approx(0, abs=1e-9)
    assert np.isnan(measure_wobble(curve[curve.step % 20 == 0], "nats"))  # 60, 80, 100


def test_a_wobble_is_the_standard_deviation_around_the_trend_in_nats(curve):
    generator, sizes = np.random.default_rng(0), []
    for _ in range(400):
        noisy = curve.assign(nats=curve.nats + 0.05 * generator.normal(size=len(curve)))
        sizes.append(measure_wobble(noisy, "nats"))
    assert np.mean(np.square(sizes)) == pytest.approx(0.05**2, rel=0.15)


def test_variance_is_shared_out_to_rows_columns_and_the_rest():
    rows, columns = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 3.0])
    parts = split_variance(pd.DataFrame(rows[:, None] + columns))
    assert parts.to_dict() == pytest.approx({"rows": 1.0, "columns": 3**0.5, "rest": 0.0}, abs=1e-9)
    crossed = split_variance(pd.DataFrame([[1.0, -1.0], [-1.0, 1.0]]))  # neither explains anything
    assert crossed.to_dict() == pytest.approx({"rows": 0.0, "columns": 0.0, "rest": 2.0})
    assert split_variance(pd.DataFrame([[1.0]])).isna().all()
