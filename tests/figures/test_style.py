"""What all figures share."""

import matplotlib.pyplot as plt
import pytest
from cases import each
from matplotlib.colors import same_color

from mome.config import FIGURE_DPI
from mome.figures import style


def test_a_language_has_one_colour_everywhere_and_unknown_ones_differ_until_they_begin_again():
    palette = style.language_palette(["xx", "en", "xx", "fr", "yy", "en"])
    assert list(palette) == ["xx", "en", "fr", "yy"]
    assert len(set(palette.values())) == 4
    assert style.language_palette(["fr"]) == {"fr": palette["fr"]}
    many = [f"x{n}" for n in range(len(style.OTHER_COLORS) + 1)]
    colors = list(style.language_palette(many).values())
    assert (len(set(colors)), colors[-1]) == (len(many) - 1, colors[0])


def test_the_style_sets_the_resolution_of_saved_figures_and_the_layout():
    with plt.rc_context():
        style.set_style()
        assert plt.rcParams["savefig.dpi"] == FIGURE_DPI
        assert plt.rcParams["figure.constrained_layout.use"]


@each("sharey", [True, False])
def test_panels_stand_in_a_row_and_share_their_y_axis_unless_told_not_to(sharey):
    figure, axes = style.start_panels(3, 9.0, 4.0, sharey=sharey)
    assert (axes.shape, tuple(figure.get_size_inches())) == ((3,), (9.0, 4.0))
    axes[0].set_ylim(2, 5)
    assert (axes[2].get_ylim() == (2, 5)) == sharey


def test_a_log_axis_has_ticks_where_it_was_told_or_plain_numbers_at_1_2_3_and_5(labels_of):
    _, ax = plt.subplots()
    ax.plot([1, 512], [1, 2])
    style.set_log_ticks(ax, [512, 1, 16, 16])
    assert ax.get_xscale() == "log"
    assert labels_of(ax.xaxis) == ["1", "16", "512"]
    assert len(ax.get_xticks(minor=True)) == 0
    _, ax = plt.subplots()
    ax.set(yscale="log", ylim=(0.9, 60))
    style.label_log_axis(ax.yaxis)
    ticks = [tick for tick in ax.get_yticks() if 0.9 <= tick <= 60]
    assert ticks == pytest.approx([1, 2, 3, 5, 10, 20, 30, 50])
    assert ax.yaxis.get_major_formatter()(20, 0) == "20"


def test_a_level_is_drawn_at_its_height_with_its_name_and_spaces_of_a_token_become_visible():
    assert style.visible(" a\n\t$b") == r"·a\n\t\$b"
    assert style.visible("    x  ") == "·x4x··"
    _, ax = plt.subplots()
    style.draw_level(ax, 2.5, "bound", 0.99, "right")
    assert set(ax.lines[0].get_ydata()) == {2.5}
    assert (ax.texts[0].get_text(), ax.texts[0].get_position()) == ("bound", (0.99, 2.5))


def test_the_legend_stands_right_of_the_axes():
    figure, ax = plt.subplots()
    ax.plot([0, 1], label="a", color=style.BLUE)
    assert style.put_legend(ax, title="which") is figure
    figure.canvas.draw()
    legend = ax.get_legend()
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
    assert legend.get_title().get_text() == "which"
    assert same_color(legend.get_lines()[0].get_color(), style.BLUE)
