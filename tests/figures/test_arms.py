"""Figures that any chapter may use."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from mome.evaluate.intervals import mean_interval
from mome.figures import arms, style

RESULTS = pd.DataFrame([{"arm": arm, "seed": seed, "language": language, "perplexity": value * 1.1**seed}
                        for arm, value in (("hard", 100.0), ("KD", 80.0)) for seed in range(3)
                        for language in ("en", "py") if (arm, language) != ("KD", "py")])


@pytest.mark.parametrize("log", [False, True])
def test_every_arm_has_its_seeds_as_points_with_mean_and_interval_first_arm_on_top(log, labels_of):
    figure = arms.plot_arms(RESULTS, "perplexity", "perplexity (log)", log=log)
    assert [ax.get_title() for ax in figure.axes] == ["English", "Python"]
    ax = figure.axes[0]
    assert labels_of(ax.yaxis) == ["KD", "hard"]
    points = [collection.get_offsets() for collection in ax.collections]
    np.testing.assert_allclose(points[0], [[80, 0], [88, 0], [96.8, 0]])
    forward, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    mean, low, high = back(mean_interval(forward([80.0, 88.0, 96.8])))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [mean, mean])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [low, high])
    assert ax.texts[0].get_text() == f"{mean:.2f}"
    assert (ax.get_xlabel(), ax.get_xscale()) == ("perplexity (log)", "log" if log else "linear")
    assert ax.get_ylim() == figure.axes[1].get_ylim() == (-0.75, 1.75)
    assert figure.get_size_inches() == pytest.approx((2.2 + 2 * 2.9, 1.5 + 2 * 0.42))
    assert points[1].tolist() == [[100, 1], [pytest.approx(110), 1], [pytest.approx(121), 1]]
    wide = arms.plot_arms(RESULTS, "perplexity", "", log=log, label_width=5.2).get_size_inches()
    assert wide[0] == pytest.approx(figure.get_size_inches()[0] + 3)


@pytest.mark.parametrize("value, said", [(3.0, "3.000"), (0.0, "0.000"), (1234.4, "1234"), (88.27, "88.27"),
                                         (0.00066, "0.00066")])
def test_a_mean_has_four_digits_though_they_be_zeros(value, said):
    table = pd.DataFrame({"arm": ["a"], "seed": [0], "language": ["en"], "nats": [value]})
    assert arms.plot_arms(table, "nats", "").axes[0].texts[0].get_text() == said


def test_an_arm_without_values_in_a_panel_leaves_its_row_empty():
    ax = arms.plot_arms(RESULTS, "perplexity", "").axes[1]
    assert [set(collection.get_offsets()[:, 1]) for collection in ax.collections] == [{1.0}]
    assert same_color(ax.collections[0].get_facecolor()[0][:3], style.LANGUAGE_COLORS["py"])


def test_a_single_panel_is_sorted_and_an_arm_whose_seeds_are_the_same_is_hollow(labels_of):
    table = pd.DataFrame({"arm": ["a", "a", "b", "b", "c", "c"], "seed": [0, 1] * 3, "language": "en",
                          "bits": [2.0, 2.0, 1.0, 1.1, 3.0, 3.1]})
    ax = arms.plot_arms(table, "bits", "").axes[0]
    assert labels_of(ax.yaxis) == ["c", "a", "b"]
    hollow = [same_color(points.get_facecolor()[0], "white") for points in ax.collections]
    assert hollow == [False, True, False]


@pytest.mark.parametrize("log", [False, True])
def test_panels_of_languages_stand_two_in_a_row_and_none_is_magnified_more_than_four_times(log):
    table = pd.DataFrame([{"arm": arm, "seed": 0, "language": language, "bits": 1 + arm * step}
                          for arm in (0, 1) for language, step in (("en", 0.001), ("fr", 2.0), ("de", 1.0))])
    figure = arms.plot_arms(table, "bits", "", log=log)
    assert figure.get_size_inches() == pytest.approx((2.2 + 2 * 2.9, 2 * (1.5 + 2 * 0.42)))
    narrow, widest, _ = (np.ptp(np.log(ax.get_xlim()) if log else ax.get_xlim()) for ax in figure.axes[:3])
    assert narrow == pytest.approx(widest / 4)
    free = arms.plot_arms(table.rename(columns={"language": "unit"}), "bits", "", log=log, panel="unit")
    assert np.ptp(free.axes[0].get_xlim()) < 0.01


def test_bounds_are_drawn_in_the_panels_that_have_them_and_other_panels_are_blue():
    table = RESULTS.rename(columns={"language": "unit"})
    figure = arms.plot_arms(table, "perplexity", "", panel="unit", bounds={"teacher": {"en": 60.0}})
    drawn = [[line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] for ax in figure.axes]
    assert drawn == [[60.0], []]
    assert figure.axes[0].texts[-1].get_text().strip() == "teacher"
    assert same_color(figure.axes[1].collections[0].get_facecolor()[0][:3], style.BLUE)


def test_an_arm_is_hollow_where_nothing_can_be_told_and_the_best_is_on_top(labels_of, legend_of):
    table = pd.DataFrame({"arm": ["a", "b", "c", "d"], "baseline": "fixed",
                          "difference": [0.1, -0.2, 0.0, 0.2], "low": [0.05, -0.3, np.nan, 0.19],
                          "high": [0.15, -0.1, np.nan, 0.21],
                          "verdict": ["worse", "better", "cannot tell", "equal"]})
    ax = arms.plot_differences(table, "nats", margin=0.02).axes[0]
    points = {line.get_xdata()[0]: line for line in ax.lines
              if line.get_marker() in "<>so" and len(line.get_xdata())}
    assert "".join(points[x].get_marker() for x in (-0.2, 0.1, 0.2, 0.0)) == "<>so"
    assert {x: line.get_markerfacecolor() == "white" for x, line in points.items()} == {
        0.1: False, -0.2: False, 0.0: True, 0.2: False}
    assert (labels_of(ax.yaxis), ax.get_ylim()) == (["d", "a", "c", "b"], (-0.7, 3.7))
    assert [points[x].get_ydata()[0] for x in (0.2, 0.1, 0.0, -0.2)] == [0, 1, 2, 3]
    intervals = [line.get_xdata() for line in ax.lines if line.get_marker() == "None"]
    np.testing.assert_equal(intervals[1:4], [[0.05, 0.15], [np.nan, np.nan], [-0.3, -0.1]])
    assert {text.get_text() for text in ax.texts} == {"+0.100", "-0.200", "+0.000", "+0.200"}
    assert [*map(arms.tell_difference, (-0.0003, 0.0005, 2))] == ["-0.0003", "+0.001", "+2.000"]
    assert (ax.patches[0].get_x(), ax.patches[0].get_width()) == pytest.approx((-0.02, 0.04))
    assert legend_of(ax) == ["better", "worse", "equal", "cannot tell"]
    assert ax.get_legend().get_title().get_text() == "than fixed"


def test_learning_curves_have_a_thin_line_a_seed_and_a_thick_mean_over_thousands_of_tokens(legend_of):
    history = pd.DataFrame([{"arm": arm, "seed": seed, "tokens": tokens, "nats": value + seed + more}
                            for arm, more in (("plain", 0), ("en", 9)) for seed in (0, 1)
                            for tokens, value in ((1_000, 5.0), (2_000, np.nan), (3_000, 4.0))])
    look = {"colors": {"plain": "red", "en": "blue", "unused": "green"}, "reference": {"unigram": 5.9}}
    ax = arms.plot_learning_curves(history, "nats", "nats per token", "arm", **look).axes[0]
    curves = [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines[:3]]
    assert curves == [([1, 3], [5, 4]), ([1, 3], [6, 5]), ([1, 3], [5.5, 4.5])]
    assert list(ax.lines[5].get_ydata()) == [14.5, 13.5]
    assert ax.lines[2].get_linewidth() > ax.lines[1].get_linewidth()
    assert [line.get_color() for line in ax.lines[:6]] == ["red"] * 3 + ["blue"] * 3
    assert legend_of(ax) == ["plain", "English"]
    assert set(ax.lines[-1].get_ydata()) == {5.9}
    assert ax.texts[0].get_text() == "unigram"


def test_lines_are_drawn_for_every_name_in_every_panel_in_given_colours_on_a_log_axis(legend_of, labels_of):
    table = pd.DataFrame({"x": [1, 2, 2, 1, 2], "y": [1.0, 2.0, 4.0, 3.0, 4.0],
                          "by": ["a_b"] * 3 + ["fr"] * 2, "panel": list("pppqq")})
    figure = arms.plot_lines(table, "x", "y", "by", "tokens", "risk", panel="panel", bounds={"bound": 2.5})
    assert [ax.get_title() for ax in figure.axes] == ["p", "q"]
    assert legend_of(figure.axes[1]) == ["a b", "French"]
    drawn = [[list(line.get_ydata()) for line in ax.lines] for ax in figure.axes]
    assert drawn == [[[1.0, 3.0], [], [2.5, 2.5]], [[], [3.0, 4.0], [2.5, 2.5]]]
    assert list(figure.axes[0].get_xticks()) == [1, 2]
    assert [ax.get_ylabel() for ax in figure.axes] == ["risk", ""]
    table = pd.DataFrame({"x": [1, 16, 512], "y": [3.0, 2.0, 1.0], "by": "a"})
    look = {"colors": {"a": "red"}, "log_x": True, "markers": False}
    ax = arms.plot_lines(table, "x", "y", "by", "", "", **look).axes[0]
    assert (ax.lines[0].get_color(), ax.lines[0].get_marker(), ax.get_xscale()) == ("red", "", "log")
    assert labels_of(ax.xaxis) == ["1", "16", "512"]


def test_intervals_stand_in_rows_in_order_with_a_colour_for_each(labels_of, legend_of):
    table = pd.DataFrame([{"classifier": name, "domain": domain, "value": value, "low": 0.5, "high": 1.0}
                          for name, base in (("naive_bayes", 0.8), ("router", 0.9))
                          for domain, value in (("help", base), ("reference", base - 0.2))])
    ax = arms.plot_intervals(table, "classifier", "domain", "F1").axes[0]
    assert labels_of(ax.yaxis) == ["router", "naive bayes"]
    assert ax.figure.get_size_inches() == pytest.approx((7.8, 1.2 + 2 * 0.45))
    assert legend_of(ax) == ["help", "reference"]
    assert [text.get_text() for text in ax.texts] == ["0.9000", "0.8000", "0.7000", "0.6000"]
    segments = ax.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in segments], [[0.5, 1.0], [0.5, 1.0]])
    np.testing.assert_allclose([text.xy[1] for text in ax.texts], [0.11, 1.11, -0.11, 0.89])


def test_a_matrix_has_its_languages_written_out_and_is_drawn_into_axes_that_are_given(labels_of):
    matrix = pd.DataFrame([[0.5, 1.0], [0.25, 2.0]], index=["en", "xx"], columns=["train", "fr"])
    figure = arms.plot_matrix(matrix, label="share", row_label="true", column_label="read", vmin=0, vmax=4)
    ax, bar = figure.axes
    assert (labels_of(ax.yaxis), labels_of(ax.xaxis)) == (["English", "xx"], ["train", "French"])
    assert [text.get_text() for text in ax.texts] == ["0.50", "1.00", "0.25", "2.00"]
    assert (ax.get_ylabel(), ax.get_xlabel(), bar.get_ylabel()) == ("true", "read", "share")
    assert figure.get_size_inches() == pytest.approx((1.6 + 2 * 1.0, 1.3 + 2 * 0.55))
    assert ax.collections[0].get_clim() == (0, 4)
    _, axes = plt.subplots(1, 2)
    matrix = pd.DataFrame([[1.0]])
    figure = arms.plot_matrix(matrix, label="", row_label="", column_label="", ax=axes[1], cbar=False)
    assert figure is axes[1].figure
    assert [len(ax.texts) for ax in figure.axes] == [0, 1]


def test_every_language_has_a_bar_of_its_value_and_colour_with_room_above(labels_of):
    ax = arms.plot_language_bars(pd.Series({"py": 120.4, "xx": 80.0}), "perplexity", "{:.0f}").axes[0]
    assert [bar.get_height() for bar in ax.patches] == [120.4, 80.0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.65, 0.65])
    assert labels_of(ax.xaxis) == ["Python", "xx"]
    assert same_color(ax.patches[0].get_facecolor(), style.LANGUAGE_COLORS["py"])
    assert [text.get_text() for text in ax.texts] == ["120", "80"]
    assert (ax.get_ylabel(), ax.get_ylim()[1]) == ("perplexity", pytest.approx(1.12 * 120.4))


def test_an_arms_panel_shows_seeds_their_mean_its_best_and_the_scales_rate(labels_of, legend_of):
    table = pd.DataFrame([{"arm": f"arm {arm}", "optimizer": optimizer, "factor": factor, "seed": seed,
                           "nats_per_token": nats + seed} for arm in range(5) for seed in (0, 1)
                          for factor, nats in ((0.5, 5.0), (1.0, 4.0), (2.0, 3.0))
                          for optimizer in ("Muon", "AdamW")])
    is_left_out = (table.arm == "arm 4") & ((table.optimizer == "Muon") | (table.factor == 2))
    figure = arms.plot_rates(table[~is_left_out], "nats")
    assert [ax.get_title() for ax in figure.axes] == [f"arm {arm}" for arm in range(5)]
    mean, best, _, _, scales = figure.axes[0].lines
    np.testing.assert_allclose(mean.get_xydata(), [[0.5, 5.5], [1, 4.5], [2, 3.5]])
    assert (best.get_xydata().tolist(), scales.get_xdata()) == ([[2, 3.5]], [1, 1])
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [6, 6]
    last = figure.axes[4]
    assert last.lines[1].get_xydata().tolist() == [[1, 4.5]]  # the best of those that were tried
    assert same_color(last.lines[0].get_color(), figure.axes[0].lines[2].get_color())  # AdamW's everywhere
    assert (last.get_xscale(), labels_of(last.xaxis)) == ("log", ["0.5", "1", "2"])
    assert legend_of(figure.axes[3]) == ["Muon", "AdamW"]
