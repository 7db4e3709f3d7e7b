"""Pictures of the playground's panels: beliefs, readings, written pages, losses, alpha, the board, stages."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm
from matplotlib.patches import Rectangle

from mome.figures import style
from mome.figures.canvas import put_text, start_page
from mome.languages import language_name

LINE = 78  # characters of a written page's line
LONGEST = 14  # characters of a token's label


def start_quick(n: int, width: float, height: float, margins: tuple, ratios=None, gap: float = 0.0,
                **shared) -> tuple[plt.Figure, np.ndarray]:
    """Return a figure of `n` panels in a row and their axes (n,), `margins` (left, right, top, bottom) and
    `gap` in inches: a person waits for it, and a layout that looks for room takes half of the time."""
    figure, (left, right, top, bottom) = style.start_bare(width, height), margins
    panel = (width - left - right - gap * (n - 1)) / n
    axes = figure.subplots(1, n, squeeze=False, **shared, gridspec_kw={
        "left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height,
        "wspace": gap / panel, "width_ratios": ratios})
    return figure, axes[0]


def cut_tokens(tokens) -> tuple[list[str], float]:
    """Return tokens as labels, long ones cut, and the height of the longest when it is upright, in inches."""
    cut = [token if len(token) <= LONGEST else f"{token[:LONGEST - 2]}.."
           for token in map(style.visible, tokens)]
    return cut, 0.15 + 0.07 * max(map(len, cut), default=0)


def stand_tokens(ax: plt.Axes, places, named: list[str]) -> None:
    """Write labels beneath the x axis, upright."""
    ax.set_xticks(places, named, rotation=90, size=8, family="monospace")


def plot_belief(beliefs: pd.DataFrame, tokens: list[str]) -> plt.Figure:
    """The router's probability of each language (columns) after each token (rows), as lines."""
    named, tall = cut_tokens(tokens)
    figure, (ax,) = start_quick(1, 9.2, 2.9 + tall, (0.7, 1.2, 0.15, tall + 0.4))
    places = range(1, len(beliefs) + 1)
    for language, color in style.language_palette(beliefs.columns).items():
        look = style.language_look(language)
        ax.plot(places, beliefs[language], color=color, lw=2, ms=4, label=language_name(language), **look)
    stand_tokens(ax, places, named)
    ax.set(xlabel="tokens in the order in which they are read", ylabel="router's probability",
           ylim=(-0.03, 1.05), xlim=(0.5, len(beliefs) + 0.5))
    ax.grid(axis="x", visible=False)
    style.put_legend(ax)
    return figure


def plot_reading(nats: pd.DataFrame, tokens: list[str], bits: pd.Series, routed: str) -> plt.Figure:
    """Each expert's bits per byte of a text, the routed one's bar outlined, beside its nats token by token.

    `nats`: a row an expert, a column a token; `bits` by expert.
    """
    named, tall = cut_tokens(tokens)
    low = max(tall + 0.1, 0.6)
    margins = (1.3, 0.9, 0.1, low)
    figure, (left, right) = start_quick(2, 10.2, 0.2 + low + 0.36 * len(nats), margins, (1, 2.4), 0.15)
    places, palette = range(len(nats)), style.language_palette(nats.index)
    bars = left.barh(places, bits, color=palette.values(), height=0.7)
    bars[list(nats.index).index(routed)].set(edgecolor="black", linewidth=2)
    left.bar_label(bars, [f"{value:.2f}{' (routed)' * (name == routed)}" for name, value in bits.items()],
                   padding=3, fontsize=8.5)
    left.set(xlabel=f"bits per byte ({style.LOWER})", xlim=(0, 1.75 * bits.max()))
    left.set_yticks(places, [f"{language_name(name)} expert" for name in nats.index])
    mesh = right.imshow(nats, cmap="Oranges", aspect="auto", vmin=0)
    stand_tokens(right, range(len(tokens)), named)
    right.set_yticks([])
    left.set_ylim(len(nats) - 0.5, -0.5)
    for ax in (left, right):
        ax.grid(visible=False)
    box = right.get_position()
    bar = figure.add_axes((1 - 0.75 / 10.2, box.y0, 0.12 / 10.2, box.height))
    figure.colorbar(mesh, cax=bar, label="nats").outline.set_visible(False)
    return figure


def plot_pages(prompt: str, texts: dict[str, str]) -> plt.Figure:
    """A prompt, and beneath it what each language's expert wrote, each beside a strip of its colour."""
    pages = {name: set_lines(text, 4) for name, text in texts.items()}
    asked = set_lines(prompt, 3)
    height = 0.5 + 0.19 * (len(asked) + sum(len(lines) + 1.6 for lines in pages.values()))
    ax, palette = start_page(8.4, height), style.language_palette(texts)
    y = put_page(ax, height - 0.2, "the prompt", asked, style.GREY)
    for name, lines in pages.items():
        y = put_page(ax, y, f"the {language_name(name)} expert", lines, palette[name])
    return ax.figure


def set_lines(text: str, most: int) -> list[str]:
    """Return a text as lines of one width, at most so many."""
    said = " ".join(style.show_controls(text).split())
    return textwrap.wrap(said, LINE, max_lines=most, placeholder=" ...") or ["(nothing)"]


def put_page(ax: plt.Axes, y: float, title: str, lines: list[str], color: str) -> float:
    """Draw a titled text from the height `y` down, and return the height beneath it."""
    put_text(ax, 0.35, y, title, ha="left", weight="bold", parse_math=False)
    for number, line in enumerate(lines):
        put_text(ax, 0.35, y - 0.19 * (number + 1), line, ha="left", family="monospace", parse_math=False)
    ax.add_patch(Rectangle((0.15, y - 0.19 * len(lines) - 0.08), 0.07, 0.19 * len(lines) + 0.18, color=color,
                           lw=0))
    return y - 0.19 * (len(lines) + 1.6)


def plot_pulls(beliefs: pd.DataFrame, pulls: pd.DataFrame, losses: dict[str, float]) -> plt.Figure:
    """Two distributions over words, and how each loss moves the student's logits of them, with its value.

    `beliefs`: a row a word, columns teacher and student; `pulls`: a row a loss, a column a word.
    """
    figure, (left, right) = start_quick(2, 10.2, 3.6, (0.65, 0.1, 0.4, 0.35), (1, 1.4), 2.0)
    places = np.arange(len(beliefs))
    for shift, (name, color, hatch) in zip((-0.2, 0.2), (("teacher", style.ORANGE, ""),
                                                         ("student", style.BLUE, "//")), strict=True):
        left.bar(places + shift, beliefs[name], 0.38, color=color, hatch=hatch, edgecolor="white", lw=0,
                 label=name)
    left.set_xticks(places, [*map(style.visible, beliefs.index)])
    left.set(ylabel="probability", ylim=(0, 1.15 * beliefs.to_numpy().max()))
    left.legend(fontsize=8.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    right.imshow(pulls, cmap="PuOr_r", norm=CenteredNorm(halfrange=1), aspect="auto")
    for (row, column), value in np.ndenumerate(pulls.to_numpy()):
        right.text(column, row, f"{value:+z.2f}", ha="center", va="center", size=8.5,
                   color="white" if abs(value) > 0.62 else "black")
    right.set_xticks(range(pulls.shape[1]), [*map(style.visible, pulls.columns)])
    right.set_yticks(range(len(pulls)), [f"{name.replace('_', ' ')}  {losses[name]:.2f}"
                                         for name in pulls.index])
    right.set_title("loss in nats, and how it moves each of the student's logits", fontsize=9)
    for ax in (left, right):
        ax.grid(axis="x", visible=False)
    right.grid(visible=False)
    return figure


def plot_alpha_lab(curves: pd.DataFrame, alphas: pd.DataFrame) -> plt.Figure:
    """Two bent loss curves by step, and beneath them alpha under every schedule (columns)."""
    figure, (top, low) = start_quick(2, 10.6, 3.6, (0.6, 1.75, 0.4, 0.55), gap=0.7)
    for column, name, color, dash in (("ce_loss", "hard labels (CE)", style.BLUE, "-"),
                                      ("kd_loss", "teacher (KD)", style.ORANGE, "--")):
        top.plot(curves[column], color=color, ls=dash, lw=1.6, label=name)
    top.set(ylabel="loss, nats", xlabel="optimizer step", ylim=(0, None), xlim=(0, len(alphas) - 1))
    top.legend(fontsize=8.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.14))
    for number, (name, color) in enumerate(zip(alphas, style.SERIES_COLORS, strict=False)):
        _, dash = style.series_look(color, number)
        is_switch = name == "alternate"
        low.plot(alphas[name], color=color, lw=0 if is_switch else 1.8, ls="none" if is_switch else dash,
                 marker="." if is_switch else "", ms=2.5, label=name.replace("_", " "))
    low.set(ylabel="alpha, weight of hard labels", xlabel="optimizer step", ylim=(-0.04, 1.04),
            xlim=(0, len(alphas) - 1))
    style.put_legend(low)
    return figure


def plot_board(here: pd.Series, whole: pd.Series, grid: pd.DataFrame, use: str, common: str) -> plt.Figure:
    """Bits per byte by language, as the board is set and of the model as it was trained; beside, the grid.

    `grid`: the table of `Switches`, of which the lines with that use of the common expert are shown, and, for
    "alone", those with it "on"; its line `use`, where named, is outlined.
    """
    is_near = grid.common_expert.isin(["on", "alone"] if common == "alone" else [common])
    table = grid[is_near].pivot_table(index="use", columns="language", values="bits_per_byte", sort=False)
    height = max(3.2, 0.9 + 0.22 * len(table))
    figure, (left, right) = start_quick(2, 10.2, height, (0.85, 0.15, 0.4, 0.55), (1.1, 1), 2.2)
    places, palette = range(len(here)), style.language_palette(here.index)
    left.barh(places, here, color=palette.values(), height=0.62, label="as the board is set")
    left.scatter(whole, places, marker="D", s=42, color="black", zorder=3, label="as it was trained")
    left.set_yticks(places, [*map(language_name, here.index)])
    left.invert_yaxis()
    left.set(xlabel=f"bits per byte of a few held-out rows ({style.LOWER})", ylim=(len(here) - 0.4, -1.0))
    left.legend(fontsize=8.5, ncols=2, loc="upper left")
    left.grid(axis="y", visible=False)
    right.imshow(np.log(table), cmap="flare", aspect="auto")
    right.set_xticks(range(table.shape[1]), [*map(language_name, table.columns)], size=8.5)
    name_rows(right, table.index)
    right.set_title("grid of notebook 04, bits per byte (darker: worse)", fontsize=9,
                    loc="right")
    right.grid(visible=False)
    if use:
        row = list(table.index).index(use)
        outline(right, 0, row, table.shape[1])
        write_row(right, row, table.loc[use])
    return figure


def name_rows(ax: plt.Axes, names) -> None:
    """Write names beside a heat map's rows, as text: ticks, of which each has lines of its own, take longer.
    """
    ax.set_yticks([])
    for row, name in enumerate(names):
        ax.text(-0.02, row, name, transform=ax.get_yaxis_transform(), ha="right", va="center", size=8.5)


def outline(ax: plt.Axes, column: int, row: int, width: int) -> None:
    """Outline so many cells of a heat map's row, from a column on."""
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), width, 1, fill=False, edgecolor="black", lw=2.5,
                           clip_on=False, zorder=4))


def write_row(ax: plt.Axes, row: int, values: pd.Series) -> None:
    """Write the numbers of a heat map's row."""
    ground = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}
    for column, value in enumerate(values):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", size=8.5, color="black", bbox=ground)


def plot_stage_text(matrix: pd.DataFrame, number: int, language: str, prompt: str, text: str) -> plt.Figure:
    """An arm's bits per byte, a row a stage, a column a language, one outlined; beneath, what it writes."""
    asked, lines = set_lines(prompt, 3), set_lines(text, 4)
    tall, words = 0.9 + 0.3 * len(matrix), 0.45 + 0.19 * (len(asked) + len(lines) + 3.2)
    page = start_page(8.4, tall + words)
    ax = page.figure.add_axes((0.22, (words + 0.1) / (tall + words), 0.5, (tall - 0.5) / (tall + words)))
    ax.imshow(np.log(matrix), cmap="flare", aspect="auto")
    ax.set_xticks(range(matrix.shape[1]), [*map(language_name, matrix.columns)], size=8.5)
    ax.set_yticks(range(len(matrix)), [f"after {name}" for name in matrix.index], size=8.5)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    for row in range(len(matrix)):
        write_row(ax, row, matrix.iloc[row])
    outline(ax, list(matrix.columns).index(language), number, 1)
    put_text(page, 6.35, words + (tall - 0.5) / 2 + 0.1, "bits per byte\n(darker: worse)", ha="left")
    y = put_page(page, words - 0.2, "the prompt, held-out text", asked, style.GREY)
    put_page(page, y, "what follows, by this model", lines, style.language_palette([language])[language])
    return page.figure
