"""Figures of distillation."""

import numpy as np
import pandas as pd
import pytest

from mome.evaluate.intervals import mean_interval
from mome.figures import distill


def test_alpha_traces_have_a_panel_an_arm_that_says_how_often_alpha_is_one_half():
    history = pd.DataFrame([{"arm": arm, "seed": seed, "step": step, "alpha": alpha}
                            for arm, alphas in (("adaptive", [0.5, 0.5, 0.6, 0.4]), ("by step", [0.0, 1.0]))
                            for seed in (0, 1) for step, alpha in enumerate(alphas, 1)])
    upper, near, lower, _ = distill.plot_alpha_traces(history).axes
    said = [ax.get_title("center") + ax.get_title("left") for ax in (upper, near)]
    assert said == ["adaptive: exactly 0.5 at 50 % of steps", "magnified: mean 0.500, 0.400 to 0.600"]
    for ax in (upper, near):
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5, 0.5, 0.6, 0.4]] * 2
    assert np.ptp(upper.get_ylim()) == pytest.approx(1.16) and np.ptp(near.get_ylim()) < 0.25
    assert {(line.get_marker(), line.get_linewidth()) for line in lower.lines} == {(".", 0)}
    assert {line.get_marker() for line in upper.lines} == {"None"}
    assert lower.figure.get_supxlabel() == "optimizer step"
    assert lower.figure.get_size_inches() == pytest.approx((8.4, 1.0 + 2 * 1.3))


def test_both_terms_are_drawn_once_a_seed_and_once_as_their_mean(legend_of):
    history = pd.DataFrame([{"seed": seed, "step": step, "ce_loss": 3.0 + seed} for seed in (0, 1)
                            for step in range(1, 6)]).assign(kd_loss=1.0, ce_grad_norm=0.9, kd_grad_norm=0.4)
    history.loc[2, "ce_loss"] = 99.0  # a single outlier does not move a running median
    loss, gradient = distill.plot_terms(history).axes
    assert len(loss.lines) == len(gradient.lines) == 6
    assert [float(np.mean(line.get_ydata())) for line in loss.lines] == [3.0, 4.0, 3.5, 1.0, 1.0, 1.0]
    assert gradient.get_ylim()[0] == 0
    assert legend_of(gradient) == ["hard labels (CE)", "teacher (KD)"]


def test_the_cache_figure_draws_every_tail_and_every_draw(labels_of, legend_of):
    table = pd.DataFrame([{"tail": tail, "bytes_per_token": 4 * k + 4, "bias": draw / 10, "gradient_error": 1}
                          for tail in ("drawn", "lumped", "dropped") for k in (4, 8)
                          for draw in range(3 if tail == "drawn" else 1)])
    bias, error = distill.plot_cache_bias(table).axes
    assert [len(points.get_offsets()) for points in bias.collections] == [6, 2, 2]
    np.testing.assert_allclose(bias.lines[0].get_xydata(), [[20, 0.1], [36, 0.1]])
    assert labels_of(bias.xaxis) == ["20", "36"]
    assert legend_of(error) == ["top half + draws", "top k + lumped tail", "top k alone"]
    assert (bias.get_yscale(), error.get_yscale()) == ("linear", "log")


def test_budgets_are_curves_over_tokens_whatever_the_order_of_rows_and_the_gain_has_its_interval(
        labels_of, legend_of):
    table = pd.DataFrame([{"arm": arm, "seed": seed, "tokens": tokens, "nats_per_token": nats + seed / 10}
                          for arm, more in (("plain", 0.3), ("KD", 0.0)) for seed in (0, 1)
                          for tokens, nats in ((2_000, 4.0 + more), (1_040, 5.0 + more))])
    gains = pd.DataFrame({"seed": [0, 1, 0, 1], "tokens": [2_000, 2_000, 1_040, 1_040],
                          "gain": [0.2, 0.4, 0.3, 0.3]})
    levels, gap = distill.plot_budgets(table, gains, teacher=3.5).axes
    plain, kd = levels.lines[2], levels.lines[5]
    np.testing.assert_allclose(plain.get_xydata(), [[1.04, 5.35], [2, 4.35]])
    np.testing.assert_allclose(kd.get_xydata(), [[1.04, 5.05], [2, 4.05]])
    assert all(list(line.get_xdata()) == [1.04, 2] for line in levels.lines[:6])
    assert (set(levels.lines[6].get_ydata()), legend_of(levels)) == ({3.5}, ["plain", "KD"])
    assert labels_of(levels.xaxis) == labels_of(gap.xaxis) == ["1", "2"]
    (bars,) = [part for part in gap.collections if len(part.get_segments())]
    _, low, high = mean_interval(np.array([0.2, 0.4]))
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[0.3, 0.3], [low, high]])
    assert {text.get_text() for text in gap.texts} == {"+0.300"}


def test_the_shares_of_a_sequences_loss_add_up_to_a_hundred_percent_stacked(labels_of, legend_of):
    table = pd.DataFrame({"token": ["x", " y"], "ce": [2.0, 1.0], "kd": [0.5, 0.1], "entropy": [0.2, 0.1]})
    ax = distill.plot_loss_by_position(table, alpha=0.3).axes[0]
    hard, soft, unavoidable = ax.containers
    total = 0.3 * 3 + 0.7 * 0.6
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)
    assert [bar.get_height() for bar in hard] == pytest.approx([100 * 0.6 / total, 100 * 0.3 / total])
    assert [bar.get_height() for bar in soft] == pytest.approx([100 * 0.7 * 0.3 / total, 0])
    assert [bar.get_height() for bar in unavoidable] == pytest.approx([14 / total, 7 / total])
    assert soft[0].get_y() == pytest.approx(hard[0].get_height())
    assert {bar.get_hatch() for bar in unavoidable} == {"////"}
    assert [bar.get_x() + 0.4 for bar in hard] == pytest.approx([0, 1])
    assert labels_of(ax.xaxis) == ["x", "·y"]
    assert legend_of(ax) == ["hard label, alpha = 0.3", "teacher, 1 - alpha = 0.7",
                             "of it the teacher's own entropy"]
    assert ax.get_xlim() == pytest.approx((-0.7, 1.7))
    long = distill.plot_loss_by_position(pd.concat([table] * 20, ignore_index=True), alpha=0.3)
    assert (ax.figure.get_size_inches()[0], long.get_size_inches()[0]) == pytest.approx((7.0, 0.3 * 40))


def test_ways_of_alternating_stand_beside_both_losses_in_three_measures(labels_of, legend_of):
    arms, seeds = ["both", "by step", "by micro-batch"], [0, 1]
    cycles = pd.DataFrame([{"arm": arm, "seed": seed, "tokens": tokens, "ratio": 2.0 * 4**power, "formula": 3}
                           for arm in arms for seed in seeds for tokens, power in ((0, 0), (64_000, 1))])
    wobble = pd.DataFrame([{"arm": arm, "seed": seed, "wobble": 5 * seed + 0.1 * seed * (arm != "both")}
                           for arm in arms for seed in seeds])
    nats = wobble.set_axis(["arm", "seed", "nats_per_token"], axis=1)
    gradient, wobble, quality = distill.plot_steadiness(cycles, wobble, nats, "both", margin=0.01).axes
    assert labels_of(gradient.yaxis) == ["by micro-batch", "by step"]
    assert [text.get_text() for text in gradient.texts] == ["4.000", "4.000"]  # the mean of logarithms
    assert [text.get_text() for text in wobble.texts + quality.texts] == ["0.05000"] * 4
    lines = [line.get_xdata()[0] for ax in (gradient, wobble, quality) for line in ax.lines
             if line.get_color() == "black"]
    assert lines == [1, 0, 0]
    assert legend_of(quality) == ["untrained", "64", "formula"]
    diamonds = [float(line.get_xdata()[0]) for line in gradient.lines if line.get_marker() == "D"]
    assert diamonds == [3, 3]


def test_a_grid_of_seeds_is_a_table_beside_its_standard_deviations(labels_of):
    grid = pd.DataFrame([[4.5, 4.6], [4.7, 4.8]], index=pd.Index([0, 1], name="weights"))
    parts = pd.Series({"initial weights": 0.2, "order of text": 0.1})
    left, right = distill.plot_seed_grid(grid, parts).axes[:2]
    assert [text.get_text() for text in left.texts] == ["4.500", "4.600", "4.700", "4.800"]
    assert (left.get_ylabel(), left.get_xlabel()) == ("seed of the weights", "seed of the order of text")
    assert [bar.get_width() for bar in right.patches] == [0.2, 0.1]
    assert labels_of(right.yaxis) == ["initial weights", "order of text"]
