"""Figures of the data set."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_hex

from mome.figures import data, style


def test_every_stage_has_a_panel_with_a_bar_a_language_in_thousands(labels_of):
    parts = itertools.product((("before", 50_000), ("test", 500)), ("en", "py"))
    stages = pd.DataFrame([{"stage": stage, "language": language, "tokens": tokens}
                           for (stage, tokens), language in parts])
    figure = data.plot_token_balance(stages)
    assert [ax.get_title() for ax in figure.axes] == ["before", "test"]
    assert [[bar.get_height() for bar in ax.patches] for ax in figure.axes] == [[50, 50], [0.5, 0.5]]
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["50", "50"], ["0.50", "0.50"]]
    assert labels_of(figure.axes[1].xaxis) == ["English", "Python"]
    assert figure.axes[0].get_ylabel() == "thousand tokens"


def test_every_step_of_every_language_has_a_bar_of_its_height(labels_of, legend_of):
    parts = enumerate(itertools.product(("read", "clean"), ("fr", "en")), 1)
    steps = pd.DataFrame([{"step": step, "language": language, "characters": 1e6 * n}
                          for n, (step, language) in parts])
    ax = data.plot_steps(steps).axes[0]
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[1, 3], [2, 4]]
    places = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(places, [[-0.205, 0.795], [0.205, 1.205]])
    assert same_color(ax.containers[0][0].get_facecolor(), style.LANGUAGE_COLORS["fr"])
    assert [text.get_text() for text in ax.texts] == ["1", "3", "2", "4"]
    assert labels_of(ax.xaxis) == ["read", "clean"]
    assert ax.figure.get_size_inches() == pytest.approx((2.2 + 2 * 1.5, 3.8))
    assert legend_of(ax) == ["French", "English"]


def test_planted_copies_are_filled_where_found_and_hollow_where_not(labels_of, legend_of):
    planted = pd.DataFrame({"language": ["en", "en", "fr"], "percent": [0, 2.5, 20],
                            "similarity": [1.0, 0.6, 0.2], "found": [True, True, False]})
    ax = data.plot_planted_copies(planted, 0.5).axes[0]
    points = [collection for collection in ax.collections if len(collection.get_offsets())]
    assert [len(collection.get_facecolors()) for collection in points] == [1, 0]
    np.testing.assert_allclose(points[0].get_offsets(), [[-0.095, 1.0], [0.905, 0.6]])
    np.testing.assert_allclose(points[1].get_offsets(), [[2.095, 0.2]])
    assert labels_of(ax.xaxis) == ["0", "2.5", "20"]
    assert set(ax.lines[0].get_ydata()) == {0.5}
    assert legend_of(ax) == ["English", "French", "found", "not found"]


def test_fertility_has_the_first_tokenizer_on_top_and_a_point_a_language(labels_of, legend_of):
    table = pd.DataFrame({"tokenizer": ["shared", "shared", "bytes", "bytes"], "language": ["en", "fr"] * 2,
                          "tokens_per_word": [1.5, 2.0, 6.0, 7.0]})
    ax = data.plot_fertility(table).axes[0]
    assert labels_of(ax.yaxis) == ["shared", "bytes"]
    assert [line.get_ydata()[0] for line in ax.lines if len(line.get_ydata())] == [0.5]
    assert ax.get_ylim() == (1.5, -0.5)
    assert ax.figure.get_size_inches() == pytest.approx((7.6, 1.2 + 2 * 0.45))
    points = {to_hex(part.get_facecolors()[0]): part.get_offsets()[0].tolist() for part in ax.collections[:2]}
    assert points == {to_hex(style.LANGUAGE_COLORS["en"]): pytest.approx([1.5, -0.2]),
                      to_hex(style.LANGUAGE_COLORS["fr"]): pytest.approx([2.0, 0.2])}
    np.testing.assert_allclose([part.get_offsets()[0] for part in ax.collections[2:]], [[6, 0.8], [7, 1.2]])
    assert ax.get_xscale() == "log"
    assert style.LOWER in ax.get_xlabel()
    assert legend_of(ax) == ["English", "French"]


def test_article_lengths_have_a_curve_and_a_marked_median_a_language():
    articles = pd.DataFrame({"language": ["en"] * 5 + ["py"] * 5,
                             "n_tokens": [10, 20, 30, 40, 50, 1_000, 1_500, 2_000, 2_500, 3_000]})
    ax = data.plot_article_lengths(articles).axes[0]
    assert [text.get_text() for text in ax.texts] == ["English: median 30", "Python: median 2,000"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [30, 2_000]
    curves = {to_hex(line.get_color()): line.get_xydata() for line in ax.lines if line.get_linestyle() == "-"}
    peaks = {color: xy[xy[:, 1].argmax(), 0] for color, xy in curves.items()}
    assert peaks == {to_hex(style.LANGUAGE_COLORS["en"]): pytest.approx(30, rel=0.3),
                     to_hex(style.LANGUAGE_COLORS["py"]): pytest.approx(2_000, rel=0.3)}
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[0] == 0
