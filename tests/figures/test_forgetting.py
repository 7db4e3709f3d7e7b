"""Figures of learning in stages."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mome.figures import forgetting

MATRIX = pd.DataFrame([[100.0, 400.0], [200.0, 100.0]], index=["en", "fr"], columns=["en", "fr"])


def test_score_matrices_have_a_panel_each_on_one_scale_and_empty_places_stay_empty(labels_of):
    matrices = {"one": MATRIX, "two": 2 * MATRIX, "three": MATRIX}
    figure = forgetting.plot_score_matrices(matrices, "perplexity (lower is better)", columns=2)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["one", "two", "three", ""]
    assert [text.get_text() for text in figure.axes[1].texts] == ["200", "800", "400", "200"]
    assert {ax.collections[0].get_clim() for ax in figure.axes[:3]} == {(100.0, 800.0)}
    assert [ax.axison for ax in figure.axes[:4]] == [True, True, True, False]
    assert labels_of(figure.axes[0].yaxis) == ["English", "French"]
    assert (len(figure.axes), figure.axes[4].get_ylabel()) == (5, "perplexity\n(lower is better)")
    assert figure.get_size_inches() == pytest.approx((2.2 + 2 * (0.2 + 2 * 0.62), 2 * (0.85 + 2 * 0.48)))
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("scored on", "after training on")


def test_small_perplexities_keep_a_decimal_and_numbers_too_long_for_a_cell_are_shortened():
    matrix = MATRIX.replace({400.0: 1318674.0, 200.0: 5.25})
    (ax, _) = forgetting.plot_score_matrices({"one": matrix}, "").axes
    assert [text.get_text() for text in ax.texts] == ["100.0", "1.3M", "5.2", "100.0"]
    texts = ("", "0.5", "9999", "20395", "1318674")
    assert [forgetting.shorten_number(text) for text in texts] == ["", "0.5", "9999", "20k", "1.3M"]


def test_percentages_of_what_was_not_asked_stay_blank():
    asked = pd.DataFrame([[100.0, np.nan], [50.0, 25.0]], index=["en", "fr"], columns=["en", "fr"])
    (ax, _) = forgetting.plot_score_matrices({"fit": asked}, "percent", percent=True).axes
    assert [text.get_text() for text in ax.texts] == ["100.0", "50.0", "25.0"]
    assert ax.collections[0].get_clim() == (0, 100)


@pytest.mark.parametrize("highest, said", [
    (900, ["100", "150", "200", "300", "500", "700"]), (20_000, ["100", "300", "1,000", "3,000", "10,000"])])
def test_the_colour_bar_has_fewer_ticks_for_a_wide_scale(highest, said):
    bar = forgetting.plot_score_matrices({"one": MATRIX.replace(400.0, highest)}, "").axes[1].yaxis
    ticks = [tick for tick in bar.get_majorticklocs() if 100 <= tick <= highest]
    assert bar.get_major_formatter().format_ticks(ticks) == said


def test_stage_curves_have_a_panel_an_arm_and_a_line_a_language_and_seed_over_marked_stages(legend_of):
    rows = [{"arm": arm, "seed": seed, "total_tokens": tokens, "perplexity_en": value + seed,
             "perplexity_fr": value + 10 + seed}
            for arm, value in (("plain", 10), ("replay", 50)) for seed in (0, 1) for tokens in (1_000, 2_000)]
    figure = forgetting.plot_stage_curves(pd.DataFrame(rows), ["en", "fr"], "perplexity")
    assert [ax.get_title() for ax in figure.axes] == ["plain", "replay"]
    for ax, value in zip(figure.axes, (10, 50), strict=True):
        drawn = [line.get_ydata()[0] - value for line in ax.lines]
        assert drawn == [0, 1, 0.5, 10, 11, 10.5]
        assert [(band.get_x(), band.get_width()) for band in ax.patches] == [(0, 1), (1, 1)]
        places = {text.get_text(): text.get_position()[0] for text in ax.texts}
        assert places == {"English": 0.5, "French": 1.5}
        thick = [(line.get_marker(), line.get_linestyle()) for line in ax.lines[2::3]]
        assert thick == [("o", "-"), ("s", "--")]
    assert figure.axes[0].get_xlim() == pytest.approx((0, 2.02))
    assert figure.get_supylabel() == "perplexity"
    assert legend_of(figure.axes[0]) == ["English", "French"]


def test_drift_has_a_bar_of_the_mean_and_a_point_a_seed_for_every_part(labels_of, legend_of):
    recovered = {"embedding and head": 0.5, "common expert": 0.0, "both": 0.6}
    drift = pd.DataFrame([{"variant": variant, "seed": seed, "language": language, "part": part,
                           "forgotten": 0.5 + seed, "recovered": value + seed / 2}
                          for variant, seed, language, (part, value) in itertools.product(
                              ("JEET", "PLE"), (0, 1), ("en", "fr"), recovered.items())])
    figure = forgetting.plot_drift(drift)
    assert [ax.get_title() for ax in figure.axes] == ["JEET", "PLE"]
    bars = figure.axes[1].containers
    assert [[bar.get_height() for bar in part] for part in bars] == [
        pytest.approx([value] * 2) for value in (1.0, 0.75, 0.25, 0.85)]
    points = np.concatenate([strip.get_offsets() for strip in figure.axes[1].collections])
    expected = [(bar.get_x() + bar.get_width() / 2, value) for part, values in zip(bars, (
        (0.5, 1.5), (0.5, 1.0), (0.0, 0.5), (0.6, 1.1)), strict=True) for bar in part for value in values]
    np.testing.assert_allclose(sorted(map(tuple, points)), sorted(expected), atol=1e-9)
    assert labels_of(figure.axes[0].xaxis) == ["English", "French"]
    said = ["forgotten", *(f"comes back with {part} restored" for part in recovered)]
    assert legend_of(figure.axes[1]) == said
    assert figure.axes[0].get_legend() is None
    assert figure.axes[0].get_ylabel() == "nats per token"
