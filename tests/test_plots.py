"""Tidy tables in, figures out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mome import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_coloured_text_has_a_span_for_every_token_and_shows_markup_as_text():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    page = plots.color_text(["<b>", " a&b", "\n"], probabilities, ["en", "fr"])
    assert page.count('title="English') == 3
    assert "&lt;b&gt;" in page
    assert " a&amp;b" in page
    assert "<b>" not in page
    assert 'title="English 0.90, French 0.10"' in page


def test_a_token_that_says_nothing_is_paler_than_one_that_is_sure():
    page = plots.color_text(["a", "b"], np.array([[0.5, 0.5], [1.0, 0.0]]), ["en", "fr"])
    color = plots.language_color("en", ["en", "fr"])
    strengths = [int(page.split(f"background:{color}")[place][:2], 16) for place in (2, 3)]  # the first is the key's
    assert strengths == [20, 170]


def test_a_language_has_one_colour_everywhere_and_unknown_ones_differ():
    languages = ["en", "xx", "fr", "yy"]
    colors = [plots.language_color(language, languages) for language in languages]
    assert len(set(colors)) == 4
    assert plots.language_color("fr", ["fr"]) == colors[2]


def test_lines_are_drawn_for_every_name_in_every_panel_with_their_values():
    table = pd.DataFrame({"x": [1, 2, 1, 2], "y": [1.0, 2.0, 3.0, 4.0], "by": ["a", "a", "b", "b"], "panel": ["p", "p", "q", "q"]})
    figure = plots.plot_lines(table, "x", "y", "by", "x", "y", panel="panel", bounds={"bound": 2.5})
    assert len(figure.axes) == 2
    drawn = [[line.get_ydata().tolist() for line in ax.lines if line.get_label() in ("a", "b")] for ax in figure.axes]
    assert drawn == [[[1.0, 2.0], []], [[], [3.0, 4.0]]]


def test_planted_copies_are_filled_where_found_and_hollow_where_not():
    planted = pd.DataFrame({"language": ["en", "en"], "percent": [0, 10], "similarity": [1.0, 0.2], "found": [True, False]})
    figure = plots.plot_planted_copies(planted, 0.5)
    points = [collection for collection in figure.axes[0].collections if len(collection.get_offsets())]
    assert [len(collection.get_facecolors()) for collection in points] == [1, 0]
    assert points[0].get_offsets()[0][1] == 1.0


def test_every_step_of_every_language_has_a_bar_of_its_height():
    steps = pd.DataFrame([{"step": step, "language": language, "characters": 1e6 * n}
                          for n, (step, language) in enumerate([(s, x) for s in ("read", "clean") for x in ("en", "py")], 1)])
    heights = sorted(bar.get_height() for bar in plots.plot_steps(steps).axes[0].patches)
    assert heights == [1, 2, 3, 4]
