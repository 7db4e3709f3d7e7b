"""What all figures share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import seaborn as sns
from matplotlib.colors import same_color, to_rgb

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


@pytest.mark.parametrize("sharey", [True, False])
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


def test_a_level_is_drawn_at_its_height_with_its_name_at_its_side():
    _, ax = plt.subplots()
    style.draw_level(ax, 2.5, "bound", 0.99, "right")
    assert set(ax.lines[0].get_ydata()) == {2.5}
    assert (ax.texts[0].get_text(), ax.texts[0].get_position()) == ("bound", (0.99, 2.5))


def to_lab(colors, matrix=((1, 0, 0), (0, 1, 0), (0, 0, 1))):
    """Return CIE Lab of colours, as one sees them whose eyes a matrix of linear RGB describes."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.transpose(matrix)).clip(0, 1)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    x, y, z = np.transpose(np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856)))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("matrix", [
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]],
    ids=["protanopia", "deuteranopia", "tritanopia"])  # Machado, Oliveira, Fernandes 2009, in full
def test_colours_of_languages_differ_for_colour_blind_readers_too(matrix):
    lab = to_lab([*style.LANGUAGE_COLORS.values()], matrix)
    far = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert far.min() > 15, far


def test_lines_that_meet_differ_by_marker_or_dash_wherever_they_differ_by_colour():
    series = [style.series_look(color, 0) for color in style.SERIES_COLORS]
    languages = [tuple(style.language_look(name).values()) for name in (*style.LANGUAGE_COLORS, "xx")]
    assert len({*series}) == len(series) and len({*languages}) == len(languages)
    assert style.series_look("red", 1) == (style.MARKERS[1], style.DASHES[1])


def test_words_on_a_heat_map_and_beside_data_have_a_contrast_of_4_5():
    def contrast(*colors):
        dark, light = sorted(map(style.luminance, colors))
        return (light + 0.05) / (dark + 0.05)

    assert (contrast("black", "white"), contrast("#767676", "white")) == pytest.approx((21, 4.54), abs=0.01)
    assert contrast(style.GREY, "white") >= 4.5
    for cmap in ("flare", "crest"):
        _, ax = plt.subplots()
        sns.heatmap(np.linspace(0, 1, 60)[None], annot=True, cmap=cmap, cbar=False, ax=ax)
        style.ink_cells(ax)
        grounds = ax.collections[0].to_rgba(ax.collections[0].get_array().ravel())
        assert min(contrast(text.get_color(), ground) for text, ground in zip(
            ax.texts, grounds, strict=True)) >= 4.5


def test_spaces_and_line_ends_of_a_token_become_visible():
    assert style.visible(" a\n\t$b") == r"·a\n\t\$b"
    assert style.visible("    x  ") == "·x4x··"


def test_the_legend_stands_right_of_the_axes():
    figure, ax = plt.subplots()
    ax.plot([0, 1], label="a", color=style.BLUE)
    assert style.put_legend(ax, title="which") is figure
    figure.canvas.draw()
    legend = ax.get_legend()
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
    assert legend.get_title().get_text() == "which"
    assert same_color(legend.get_lines()[0].get_color(), style.BLUE)
