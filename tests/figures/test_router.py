"""Figures of the router."""

import numpy as np
import pandas as pd
import pytest

from mome.figures import router, style

SCORES = pd.DataFrame([
    {"classifier": name, "prefix": prefix, "seed": seed, "whole_sequence": prefix == 64, "n_sequences": 1000,
     "f1": 1 - error / prefix + 0.001 * seed, "fit_seconds": 10 * error + seed,
     "sequences_per_second": 2_000, "stored_bytes": 5e6}
    for name, error in (("naive_bayes", 0.5), ("router", 0.9)) for prefix in (1, 64) for seed in (0, 1)])


def test_errors_by_prefix_are_means_in_percent_worst_first_with_every_seed_as_a_point(labels_of, legend_of):
    ax = router.plot_router_prefixes(SCORES).axes[0]
    assert legend_of(ax) == ["router", "naive bayes"]
    assert [line.get_color() for line in ax.lines] == [style.ORANGE, "#000000"]  # the best is black
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 89.95], [64, 100 * 0.9 / 64 - 0.05]])
    assert [len(points.get_offsets()) for points in ax.collections] == [4, 4]
    assert labels_of(ax.xaxis) == ["1", "64"]
    assert (ax.get_xscale(), ax.get_yscale(), len(ax.texts)) == ("log", "log", 0)
    assert style.LOWER in ax.get_ylabel()
    alone = router.plot_router_prefixes(SCORES[SCORES.seed == 0].drop(columns="seed")).axes[0]
    assert len(alone.collections) == 0
    perfect = router.plot_router_prefixes(SCORES.assign(f1=1.0)).axes[0]  # half a sequence, and said
    assert set(perfect.lines[0].get_ydata()) == {0.05} and "no error seen" in perfect.texts[0].get_text()


def test_costs_stand_beside_errors_best_on_top_and_say_their_direction(labels_of):
    figure = router.plot_router_cost(SCORES.assign(f1=SCORES.f1.where(SCORES.classifier == "router", 1.0)))
    assert labels_of(figure.axes[0].yaxis) == ["router", "naive bayes"]
    assert figure.get_size_inches() == pytest.approx((13, 0.9 + 2 * 0.38))
    drawn = [ax.collections[0].get_offsets()[:, 0] for ax in figure.axes]
    np.testing.assert_allclose(drawn, [[100 * 0.9 / 64 - 0.05, 0.05], [9.5, 5.5], [2_000] * 2, [5] * 2])
    assert [ax.texts[1].get_text() for ax in figure.axes] == ["0", "5.5", "2,000", "5"]
    directions = [style.LOWER, style.LOWER, style.HIGHER, style.LOWER]
    assert all(said in ax.get_xlabel() for said, ax in zip(directions, figure.axes, strict=True))


def test_router_errors_have_the_best_on_top_with_their_intervals_and_the_claim(labels_of):
    table = pd.DataFrame({"classifier": ["b_c", "a"], "error": [0.5, 2.0], "low": [0.25, 1.0],
                          "high": [1.0, 5.0]})
    ax = router.plot_router_errors(table, claimed=0.05).axes[0]
    assert labels_of(ax.yaxis) == ["a", "b c"]
    segments = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert segments == [[1.0, 5.0], [0.25, 1.0]]
    assert [text.get_text() for text in ax.texts] == ["2.00", "0.50", "claimed: 0.05"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.05]
    assert ax.get_xlim()[0] == pytest.approx(-0.15)
    assert len(router.plot_router_errors(table).axes[0].texts) == 2
    assert ax.figure.get_size_inches() == pytest.approx((7.6, 1.0 + 2 * 0.36))


def test_reliability_has_a_panel_a_classifier_and_points_sized_by_their_share():
    table = pd.DataFrame({"confidence": [0.4, 0.9], "accuracy": [0.5, 0.8], "n": [25, 75]})
    figure = router.plot_reliability({"router": table, "naive bayes": table.iloc[:1]})
    assert [ax.get_title() for ax in figure.axes] == ["router", "naive bayes"]
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[0.4, 0.5], [0.9, 0.8]])
    assert points.get_sizes().tolist() == [90, 240]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_coloured_text_has_a_span_for_every_token_markup_as_text_and_paler_what_says_nothing():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    page = router.color_text(["<b>", " a&b", "\n"], probabilities, ["en", "fr"])
    assert page.count('title="English') == 3
    assert "&lt;b&gt;" in page
    assert " a&amp;b" in page
    assert "<b>" not in page
    assert 'title="English 0.90, French 0.10"' in page
    assert "&crarr;\n" in page
    page = router.color_text(["a", "b"], np.array([[0.5, 0.5], [1.0, 0.0]]), ["en", "fr"])
    _, key, *tokens = page.split(f"background:{style.LANGUAGE_COLORS['en']}")
    assert key.startswith("aa;")
    assert [int(token[:2], 16) for token in tokens] == [20, 170]


def test_a_trace_has_a_line_a_language_from_the_first_token_on_and_the_change_between_two(legend_of):
    probabilities = pd.DataFrame({"en": [0.9, 0.6, 0.2], "fr": [0.1, 0.4, 0.8]})
    ax = router.plot_router_trace(probabilities, 2).axes[0]
    assert ax.lines[1].get_xydata().tolist() == [[1, 0.1], [2, 0.4], [3, 0.8]]
    assert set(ax.lines[2].get_xdata()) == {2.5}
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 3.5), (-0.04, 1.05))
    assert ax.texts[0].get_position()[0] == 2.5
    assert legend_of(ax) == ["English", "French"]


def test_the_strongest_tokens_stand_on_top_so_many_a_language(labels_of):
    tokens = pd.DataFrame({"language": ["en"] * 3 + ["py"] * 2, "token": [" the", "of", "x", "    ", "\n"],
                           "weight": [3.0, 2.0, 1.0, 5.0, 4.0]})
    figure = router.plot_strongest_tokens(tokens, n=2)
    assert [ax.get_title() for ax in figure.axes] == ["English", "Python"]
    assert [labels_of(ax.yaxis) for ax in figure.axes] == [["of", "·the"], ["\\n", "·x4"]]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [2.0, 3.0]
    assert len(router.plot_strongest_tokens(tokens[:3]).axes) == 1
