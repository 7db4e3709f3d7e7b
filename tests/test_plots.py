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


def test_an_arm_is_filled_only_where_its_interval_leaves_out_zero_and_the_best_stands_on_top():
    table = pd.DataFrame({"arm": ["a", "b", "c"], "baseline": "fixed", "difference": [0.1, -0.2, 0.0], "low": [0.05, -0.3, np.nan],
                          "high": [0.15, -0.1, np.nan], "seeds": [3, 3, 1], "verdict": ["worse", "better", "cannot tell"]})
    ax = plots.plot_differences(table, "nats", margin=0.02).axes[0]
    points = {line.get_xdata()[0]: line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1}
    assert {x: line.get_markerfacecolor() == "white" for x, line in points.items()} == {0.1: False, -0.2: False, 0.0: True}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "c", "b"]


def test_the_shares_of_a_sequences_loss_add_up_to_a_hundred_percent():
    table = pd.DataFrame({"token": ["x", " y"], "ce": [2.0, 1.0], "kd": [0.5, 0.1]})
    bars = plots.plot_loss_by_position(table, alpha=0.3).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(100)
    assert bars[0].get_height() == pytest.approx(100 * 0.3 * 2.0 / (0.3 * 3 + 0.7 * 0.6))


def test_both_terms_are_drawn_once_a_seed_and_once_as_their_mean():
    history = pd.DataFrame([{"seed": seed, "step": step, "ce_loss": 3.0 + seed, "kd_loss": 1.0, "ce_grad_norm": 0.9, "kd_grad_norm": 0.4}
                            for seed in (0, 1) for step in range(1, 6)])
    loss, gradient = plots.plot_terms(history).axes
    assert len(loss.lines) == len(gradient.lines) == 6
    assert {float(np.mean(line.get_ydata())) for line in loss.lines} == {3.0, 4.0, 3.5, 1.0}


def test_the_cache_figure_draws_every_tail_and_every_draw():
    table = pd.DataFrame([{"tail": tail, "k": k, "draw": draw, "bytes_per_token": 4 * k + 4, "bias": 0.1, "gradient_error": 0.2}
                          for tail in ("drawn", "lumped", "dropped") for k in (4, 8) for draw in range(3 if tail == "drawn" else 1)])
    bias, error = plots.plot_cache_bias(table).axes
    assert [len(points.get_offsets()) for points in bias.collections] == [6, 2, 2]
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["top half + draws", "top k + lumped tail", "top k alone"]


def test_quality_against_time_labels_every_arm_at_its_mean():
    table = pd.DataFrame({"arm": ["plain", "plain", "taught"], "seed": [0, 1, 0], "time": [1.0, 1.0, 1.5], "kind": ["alone", "alone", "teacher"],
                          "perplexity": [100.0, 110.0, 90.0]})
    ax = plots.plot_quality_for_time(table, "perplexity", "perplexity").axes[0]
    assert {text.get_text(): text.xy for text in ax.texts} == {"plain": (1.0, 105.0), "taught": (1.5, 90.0)}


def test_the_switches_have_a_panel_a_variant_and_a_number_for_every_use_and_language():
    table = pd.DataFrame([{"variant": variant, "group": use[:1], "use": use, "language": language, "bits_per_byte": 1 + number}
                          for number, (variant, use, language) in enumerate((v, u, n) for v in ("PLE", "JEET") for u in ("routed", "random", "mean")
                                                                            for n in ("en", "py") if (v, u) != ("JEET", "mean"))])
    figure = plots.plot_switches(table, "bits_per_byte", "bits per byte")
    assert [ax.get_title() for ax in figure.axes[:2]] == ["PLE", "JEET"]
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes[:2]] == [[f"{1 + n:.2f}" for n in range(6)], [f"{1 + n:.2f}" for n in range(6, 10)]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["routed", "random", "mean"]


def test_score_matrices_have_a_panel_each_on_one_scale_and_empty_places_stay_empty():
    matrix = pd.DataFrame([[100.0, 400.0], [200.0, 100.0]], index=["en", "fr"], columns=["en", "fr"])
    figure = plots.plot_score_matrices({"one": matrix, "two": 2 * matrix, "three": matrix}, "perplexity", columns=2)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["one", "two", "three", ""]
    assert [text.get_text() for text in figure.axes[1].texts] == ["200", "800", "400", "200"]
    assert {ax.collections[0].norm.vmax for ax in figure.axes[:3]} == {800.0}


def test_percentages_of_what_was_not_asked_stay_blank():
    matrix = pd.DataFrame([[100.0, np.nan], [50.0, 25.0]], index=["en", "fr"], columns=["en", "fr"])
    figure = plots.plot_score_matrices({"fit": matrix}, "percent", percent=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["100.0", "50.0", "25.0"]


def test_stage_curves_have_a_panel_an_arm_and_a_line_a_language_and_seed():
    rows = [{"arm": arm, "seed": seed, "total_tokens": tokens, "perplexity_en": 10 + seed, "perplexity_fr": 20 + seed}
            for arm in ("plain", "replay") for seed in (0, 1) for tokens in (1_000, 2_000)]
    figure = plots.plot_stage_curves(pd.DataFrame(rows), ["en", "fr"], "perplexity")
    assert [ax.get_title() for ax in figure.axes] == ["plain", "replay"]
    for ax in figure.axes:
        assert sorted(line.get_ydata()[0] for line in ax.lines) == [10, 10.5, 11, 20, 20.5, 21]


def test_drift_is_drawn_for_every_part_with_its_seeds():
    drift = pd.DataFrame([{"variant": "JEET", "seed": seed, "language": "en", "part": part, "forgotten": 0.5 + seed, "recovered": value}
                          for seed in (0, 1) for part, value in (("embedding and head", 0.5), ("common expert", 0.0), ("both", 0.5))])
    (ax,) = plots.plot_drift(drift).axes
    assert [bar.get_height() for bar in ax.patches] == [1.0, 0.5, 0.0, 0.5]


def test_numbers_too_long_for_a_cell_are_shortened():
    assert [plots.shorten_number(text) for text in ("", "0.5", "9999", "20395", "1318674")] == ["", "0.5", "9999", "20k", "1.3M"]
