"""One look for all figures: a colour per language everywhere, and the labels that several figures share."""

import itertools
import re
import unicodedata
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import ticker
from matplotlib.colors import to_rgb

from mome.config import FIGURE_DPI

# Okabe and Ito's palette, which most colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#666666"  # of words and lines beside the data: 5.7 to 1 on white
LANGUAGE_COLORS = {"en": BLUE, "fr": ORANGE, "de": GREEN, "py": PINK}
OTHER_COLORS = ("#E69F00", "#56B4E9", "#7F7F7F", "#A0522D", "#6A51A3", "#2F4F4F")
SERIES_COLORS = ("#000000", ORANGE, BLUE, GREEN, PINK, "#E69F00", "#56B4E9", "#6A51A3", "#A0522D", "#7F7F7F",
                 "#66A61E", "#BBBBBB")
MARKERS = "osDv^<>PXpd*"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
LOWER, HIGHER = "lower is better", "higher is better"


def language_palette(languages) -> dict[str, str]:
    """Return {language: its own colour, or the next of the others} in the order of first appearance."""
    others = itertools.cycle(OTHER_COLORS)
    return {name: LANGUAGE_COLORS.get(name) or next(others) for name in dict.fromkeys(languages)}


def set_style() -> None:
    """Set the workbook's look for all later figures."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc={
        "figure.dpi": 110, "savefig.dpi": FIGURE_DPI, "figure.constrained_layout.use": True,
        "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": "medium",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "grid.alpha": 0.5})


def language_look(language: str) -> dict:
    """Return how a language's lines look beside their colour: a marker and a dash of its own."""
    place = [*LANGUAGE_COLORS].index(language) if language in LANGUAGE_COLORS else len(LANGUAGE_COLORS)
    return {"marker": MARKERS[place], "ls": DASHES[place]}


def series_look(color: str, number: int) -> tuple:
    """Return the marker and dash that a colour of the series has in every figure, else those of a number."""
    place = SERIES_COLORS.index(color) if color in SERIES_COLORS else number
    return MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)]


def start_grid(n: int, columns: int, width: float, height: float, margin: float,
               **shared) -> tuple[plt.Figure, np.ndarray]:
    """Return a figure of `n` panels, so many in a row, `margin` inches beside them, and their axes (n,)."""
    columns = min(n, columns)
    lines = -(-n // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(margin + width * columns, height * lines),
                                squeeze=False, **shared)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, axes.flat[:n]


def start_bare(width: float, height: float) -> plt.Figure:
    """Return a figure that looks for no room: whoever draws on it places everything."""
    figure = plt.figure(figsize=(width, height), layout="none")
    figure.set_layout_engine("none")  # a second time: without an engine, saving would take up the style's
    return figure


def start_panels(n: int, width: float, height: float, sharey: bool = True) -> tuple[plt.Figure, np.ndarray]:
    """Return a figure of `n` panels in a row, with one y axis for all by `sharey`, and its axes (n,)."""
    figure, axes = plt.subplots(1, n, figsize=(width, height), sharey=sharey, squeeze=False)
    return figure, axes[0]


def draw_heat_map(table, ax: plt.Axes, **options) -> None:
    """Draw seaborn's heat map with the numbers in it and labels that lie flat."""
    with patch.object(ax.figure.canvas, "draw"):  # of the whole figure, to see which labels it should turn
        sns.heatmap(table, annot=True, ax=ax, **options)
    ink_cells(ax)
    ax.tick_params(axis="both", rotation=0)


def annotate_bars(ax: plt.Axes, form: str, padding: float = 2, size: float = 8) -> None:
    """Write its value at the end of every bar."""
    for container in ax.containers:
        ax.bar_label(container, fmt=form, padding=padding, fontsize=size)


def annotate_points(ax: plt.Axes, texts, x, y, rise: float = 5, size: float = 7.5) -> None:
    """Write each of `texts` above its point, `rise` printer's points higher."""
    ground = {"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8}  # where a line or a mark stands beneath
    for text, *point in zip(texts, x, y, strict=True):
        ax.annotate(text, point, xytext=(0, rise), textcoords="offset points", ha="center", fontsize=size,
                    bbox=ground)


def draw_level(ax: plt.Axes, level: float, name: str, place: float, side: str) -> None:
    """Draw a dashed line at the height `level`, its name above it at `place` (0 to 1) along the x axis."""
    ax.axhline(level, color=GREY, ls="--", lw=1)
    ax.text(place, level, name, size=8, c=GREY, ha=side, va="bottom", transform=ax.get_yaxis_transform())


def put_legend(ax: plt.Axes, **options) -> plt.Figure:
    """Put the legend to the right of the axes, where it hides nothing; return the figure."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, **options)
    return ax.figure


def label_log_axis(axis) -> None:
    """Write the ticks 1, 2, 3 and 5 of every decade as plain numbers."""
    axis.set(major_locator=ticker.LogLocator(subs=(1, 2, 3, 5)), minor_formatter=ticker.NullFormatter(),
             major_formatter=lambda value, _: f"{value:g}")


def set_log_ticks(ax: plt.Axes, values) -> None:
    """Make the x axis logarithmic, with a tick at each of `values` and nowhere else."""
    ax.set_xscale("log")
    ax.set_xticks(np.unique(values), [f"{tick:g}" for tick in np.unique(values)])
    ax.xaxis.minorticks_off()


def add_colorbar(axes: np.ndarray, label: str, ticks, form: str) -> None:
    """Add one colour bar for heat maps that share their scale, right of all `axes`."""
    bar = axes[0].figure.colorbar(axes[0].collections[0], ax=axes[0].figure.axes, label=label, ticks=ticks,
                                       format=ticker.StrMethodFormatter(form), fraction=0.03, pad=0.01)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def luminance(color) -> float:
    """Return how light a colour is, 0 to 1, as the web's rules of contrast (WCAG 2) measure it."""
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def ink_cells(ax: plt.Axes) -> None:
    """Write a heat map's numbers in black or white, whichever the cell's colour sets off more: 4.5 to 1."""
    mesh = ax.collections[0]
    for text in ax.texts:
        column, row = map(int, text.get_position())
        is_light = luminance(mesh.to_rgba(mesh.get_array()[row, column])) > 0.179  # where both are equal
        text.set_color("black" if is_light else "white")


def show_controls(text: str) -> str:
    """Return a text in which characters without a look, such as NUL or a change of direction, are codes."""
    def show(char: str) -> str:
        is_seen = char in "\n\t" or unicodedata.category(char)[0] != "C"
        return char if is_seen else f"<{ord(char):04x}>"

    return "".join(map(show, text))


def visible(token: str) -> str:
    """Return a token with its spaces and line ends written out; four spaces or more become `·x4`."""
    text = re.sub(" {4,}", lambda run: f"·x{len(run[0])}", show_controls(token))
    return text.replace(" ", "·").replace("\n", "\\n").replace("\t", "\\t").replace("$", r"\$")
