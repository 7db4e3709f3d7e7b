import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from mome.figures import playground, style


def words_of(ax):
    return [text.get_text() for text in ax.texts]


def outlines_of(ax):
    return [patch.get_bbox().bounds for patch in ax.patches
            if isinstance(patch, Rectangle) and not patch.get_fill() and patch.get_linewidth() > 2]


def test_a_belief_has_a_line_a_language_a_token_a_step_and_long_tokens_cut():
    beliefs = pd.DataFrame({"en": [0.9, 0.2], "fr": [0.1, 0.8]})
    ax = playground.plot_belief(beliefs, [" the", "x" * 40]).axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [[0.9, 0.2], [0.1, 0.8]]
    assert [line.get_color() for line in ax.lines[:2]] == [style.BLUE, style.ORANGE]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names[0] == "·the"
    assert names[1] == "x" * (playground.LONGEST - 2) + ".."


def test_a_reading_outlines_the_expert_that_the_router_takes():
    nats = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], ["en", "fr"])
    left, right, _ = playground.plot_reading(nats, ["a", "b"], pd.Series({"en": 1.5, "fr": 2.5}), "fr").axes
    assert [bar.get_width() for bar in left.patches] == [1.5, 2.5]
    assert [bar.get_linewidth() > 1 for bar in left.patches] == [False, True]
    assert words_of(left) == ["1.50", "2.50 (routed)"]
    np.testing.assert_array_equal(right.images[0].get_array(), nats)


def test_written_pages_hold_every_word_and_no_formula():
    texts = {"en": "costs $5 or $6 and more", "py": ""}
    words = words_of(playground.plot_pages("a prompt", texts).axes[0])
    assert words == ["the prompt", "a prompt", "the English expert", texts["en"], "the Python expert",
                     "(nothing)"]


def test_pulls_say_every_loss_and_how_each_word_moves():
    beliefs = pd.DataFrame({"teacher": [0.75, 0.25], "student": [0.5, 0.5]}, ["mat", "sofa"])
    pulls = pd.DataFrame([[0.25, -0.25]], ["forward_kl"], ["mat", "sofa"])
    left, right = playground.plot_pulls(beliefs, pulls, {"forward_kl": 0.13}).axes
    assert words_of(right) == ["+0.25", "-0.25"]
    assert right.get_yticklabels()[0].get_text() == "forward kl  0.13"
    assert [bar.get_height() for bar in left.patches] == [0.75, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(("use", "rows"), [("all averaged", [1]), ("", [])])
def test_the_board_outlines_its_line_of_the_grid_where_it_has_one(use, rows):
    grid = pd.DataFrame([{"use": name, "common_expert": common, "language": language, "bits_per_byte": value}
                         for name, value in (("all routed", 1.0), ("all averaged", 2.0))
                         for common in ("on", "off") for language in ("en", "fr")])
    grid.loc[grid.common_expert == "off", "use"] += " off"
    here, whole = pd.Series({"en": 2.0, "fr": 3.0}), pd.Series({"en": 1.0, "fr": 1.5})
    left, right = playground.plot_board(here, whole, grid, use, "on").axes
    assert [bar.get_width() for bar in left.patches] == [2.0, 3.0]
    assert left.collections[0].get_offsets()[:, 0].tolist() == [1.0, 1.5]
    assert [bounds[1] + 0.5 for bounds in outlines_of(right)] == rows
    assert words_of(right) == ["all routed", "all averaged", *["2.00", "2.00"] * bool(rows)]
    assert [text.get_position()[1] for text in right.texts[:2]] == [0, 1]


def test_the_time_machine_outlines_where_it_is_and_says_what_was_written():
    matrix = pd.DataFrame([[1.0, 5.0], [2.0, 1.5]], ["en", "fr"], ["en", "fr"])
    page, ax = playground.plot_stage_text(matrix, 1, "en", "a prompt", "a text").axes
    assert outlines_of(ax) == [(-0.5, 0.5, 1.0, 1.0)]
    assert words_of(ax) == ["1.00", "5.00", "2.00", "1.50"]
    assert words_of(page)[-1] == "a text"


def test_alpha_has_a_curve_for_each_schedule_beside_the_two_losses():
    curves = pd.DataFrame({"ce_loss": [8.0, 4.0], "kd_loss": [6.0, 5.0]})
    alphas = pd.DataFrame({"fixed": [0.8, 0.8], "alternate": [1.0, 0.0]})
    top, low = playground.plot_alpha_lab(curves, alphas).axes
    assert [line.get_ydata().tolist() for line in top.lines] == [[8.0, 4.0], [6.0, 5.0]]
    assert [line.get_ydata().tolist() for line in low.lines] == [[0.8, 0.8], [1.0, 0.0]]
    assert low.lines[1].get_marker() == "."
