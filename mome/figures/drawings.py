"""Drawings of what is built: the story, where routing chooses, alpha as a dial. Sizes come as plain data."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Wedge

from mome.figures import style
from mome.figures.canvas import (
    INK,
    LOOKS,
    SIZE,
    put_arrow,
    put_box,
    put_model,
    put_strip,
    put_text,
    start_page,
    tell_number,
)
from mome.languages import language_name


def plot_story(sizes: dict) -> plt.Figure:
    """From text over teacher, cached targets and students to the modular model. `sizes`: of `tell_sizes`."""
    ax = start_page(8.6, 4.55)
    languages, top, low = sizes["languages"], 2.8, 0.95  # where the upper and the lower boxes stand
    put_box(ax, 0.1, 1.95, 1.5, 1.95, "")
    for place, (name, color) in enumerate(style.language_palette(languages).items()):
        y = 3.62 - place * min(0.45, 1.75 / len(languages))
        put_text(ax, 0.85, y, language_name(name))
        put_strip(ax, 0.25, y - 0.18, 1.2, color)
    put_text(ax, 0.85, 1.58, f"up to {tell_number(sizes['tokens_per_language'])}\ntokens of each language,\n"
             f"in rows of {sizes['context']:,}")
    put_box(ax, 2.3, top, 1.55, 1.1, f"teacher\n{describe_shape(sizes['teacher'])}", "teacher")
    put_text(ax, 3.08, top - 0.3, f"learns from the text:\n{tell_number(sizes['teacher_tokens'])} tokens")
    put_box(ax, 4.55, top, 1.55, 1.1, f"cached targets\n{sizes['targets_per_token']} tokens and their\n"
            "probabilities at\neach position", "targets")
    put_box(ax, 4.55, low, 1.55, 1.1, f"students\n{describe_shape(sizes['student'])}", "trained")
    put_model(ax, 6.85, 1.85, 1.65, 1.3, dict.fromkeys(languages, "trained"), "trained")
    put_text(ax, 7.67, 3.52, f"modular model\n{sizes['expert']['n_layer']} x {sizes['expert']['n_embd']:,} "
             f"an expert,\n{tell_number(sizes['body_weights'])} weights each")
    put_box(ax, 6.85, 1.4, 1.65, 0.28, "router")
    for start, end in (((1.6, 3.35), (2.3, 3.35)), ((3.85, 3.35), (4.55, 3.35)), ((5.32, top), (5.32, 2.05)),
                       ((6.1, 3.1), (6.85, 2.75)), ((6.1, 1.9), (6.85, 2.2)), ((7.67, 1.68), (7.67, 1.85))):
        put_arrow(ax, start, end)
    draw_path(ax, (0.85, 1.22), (0.85, low + 0.12), (4.55, low + 0.12))
    draw_path(ax, (0.45, 1.22), (0.45, 0.32), (7.67, 0.32), (7.67, 1.4))
    for x, y, text in ((2.75, low + 0.28, "hard labels, weight alpha"), (5.9, 0.48, "counts of tokens"),
                       (2.75, low - 0.05, f"{tell_number(sizes['student_tokens'])} tokens of each language"),
                       (5.87, 2.42, "weight\n1 - alpha"), (6.52, 3.18, "JEET,\nMoE-CE"), (6.5, 1.75, "PLE")):
        put_text(ax, x, y, text)
    for x, y, chapter in ((0.85, 4.15, "notebook 01"), (4.2, 4.15, "notebook 03"),
                          (7.67, 4.15, "notebooks 04, 05"), (5.32, 0.75, "notebooks 03, 05"),
                          (7.1, 0.75, "notebook 02")):
        put_text(ax, x, y, chapter, weight="bold")
    return ax.figure


def draw_path(ax: plt.Axes, *points: tuple[float, float]) -> None:
    """Draw an arrow that turns at each of the points between its ends."""
    ax.plot(*zip(*points[:-1], strict=True), color=INK, lw=1.3, solid_capstyle="butt")
    put_arrow(ax, *points[-2:])


def describe_shape(shape: dict) -> str:
    """Return layers by width and weights: 2 x 96, 1.02 million weights."""
    return f"{shape['n_layer']} x {shape['n_embd']:,},\n{tell_number(shape['weights'])} weights"


def plot_token_level(sizes: dict) -> plt.Figure:
    """Where routing chooses: once a sequence, as here, or at every token of every layer, as in Mixtral."""
    ax = start_page(8.6, 5.1)
    ax.plot([4.3, 4.3], [0.1, 5.0], color="#BBBBBB", lw=1)
    draw_sequence_choice(ax, sizes["languages"], sizes["expert"]["n_layer"])
    draw_token_choice(ax, 4.55, sizes["expert"]["n_layer"])
    left = ("one choice a sequence, before the first layer", "an expert is a whole body: attention and MLPs",
            "its language is known before training", "the router is fitted apart, on counts of tokens")
    right = ("a choice at every token, in every layer", "an expert is one MLP of one layer",
             "what it is for shows in training, if at all", "the routers are trained with all the rest")
    for x, lines in ((0.25, left), (4.55, right)):
        for place, line in enumerate(lines):
            put_text(ax, x, 1.05 - 0.26 * place, line, ha="left")
    return ax.figure


def draw_sequence_choice(ax: plt.Axes, languages: list[str], n_layer: int) -> None:
    """Draw a sequence that goes through the one expert that a router has chosen for it, on the left."""
    put_text(ax, 2.15, 4.9, "here: a choice a sequence", weight="bold")
    chosen, n = min(1, len(languages) - 1), len(languages)
    width = (3.0 - 0.1 * (n - 1)) / n
    for place in range(6):
        put_box(ax, 0.95 + place * 0.42, 1.4, 0.34, 0.24, f"t{place + 1}")
        put_strip(ax, 0.95 + place * 0.42, 1.66, 0.34, style.language_palette(languages)[languages[chosen]])
    put_box(ax, 0.65, 2.0, 3.0, 0.28, "router: which language is this sequence?", "targets")
    put_arrow(ax, (2.15, 1.76), (2.15, 2.0))
    for place, language in enumerate(languages):
        x, look = 0.65 + place * (width + 0.1), "asked" if place == chosen else "resting"
        put_box(ax, x, 2.65, width, 1.55, "", look)
        for layer in range(min(3, n_layer)):
            put_box(ax, x + 0.07, 2.75 + layer * 1.37 / min(3, n_layer), width - 0.14,
                    1.2 / min(3, n_layer), f"layer {layer + 1}" if width > 0.5 else "", look, size=8)
        put_text(ax, x + width / 2, 4.38, language)
    middle = 0.65 + chosen * (width + 0.1) + width / 2
    put_arrow(ax, (2.15, 2.28), (middle, 2.65), lw=2.5, color=style.GREEN)
    put_text(ax, 2.3, 2.46, "all its tokens", ha="left")


def draw_token_choice(ax: plt.Axes, left: float, n_layer: int) -> None:
    """Draw tokens that part in each layer, two experts each, behind an attention that all share."""
    put_text(ax, left + 1.9, 4.9, "a token-level MoE, such as Mixtral", weight="bold")
    pairs = ((0, 2), (1, 3), (0, 1), (2, 3), (1, 2), (0, 3))
    places = [left + 0.8 + token * 0.42 for token in range(6)]
    for place, x in enumerate(places):
        put_box(ax, x, 1.4, 0.34, 0.24, f"t{place + 1}")
    for layer, y in enumerate((1.85, 3.25)):
        put_box(ax, left + 0.4, y, 3.0, 0.24, "attention, shared by all", "asked")
        put_box(ax, left + 0.4, y + 0.34, 3.0, 0.2, "router: which two for this token?", "targets", size=8)
        corners = [left + 0.4 + expert * 0.775 for expert in range(4)]
        for expert, corner in enumerate(corners, 1):
            put_box(ax, corner, y + 0.92, 0.675, 0.28, f"MLP {expert}", "asked", size=8)
        for x, pair in zip(places, np.roll(pairs, layer, axis=0), strict=True):
            for expert in pair:
                ax.plot([x + 0.17, corners[expert] + 0.34], [y + 0.54, y + 0.92], color=style.GREEN, lw=1)
        put_text(ax, left + 0.18, y + 0.6, f"layer {layer + 1}", rotation=90)
    put_arrow(ax, (left + 1.9, 1.64), (left + 1.9, 1.85))
    put_arrow(ax, (left + 1.9, 3.05), (left + 1.9, 3.25))


def plot_alpha_dial(alpha: float, beliefs: dict[str, float], label: str,
                    traces: pd.DataFrame | None = None) -> plt.Figure:
    """alpha as a dial between the teacher's distribution and the hard label, and what it makes the target.

    `beliefs` maps tokens to the teacher's probabilities, `label` is the token that follows. `traces` (arm,
    step, alpha) is drawn beneath, a line an arm: the dial as a schedule turns it.
    """
    heights = [1.15, 1] if traces is None else [1.15, 1, 1.25]
    figure = plt.figure(figsize=(8.6, 1.8 * sum(heights)), layout="constrained")
    rows = figure.add_gridspec(len(heights), 3, height_ratios=heights)
    draw_dial(figure.add_subplot(rows[0, :]), alpha)
    tokens = list(dict.fromkeys([*beliefs, label]))
    soft, hard = (np.array([each.get(token, 0.0) for token in tokens]) for each in (beliefs, {label: 1.0}))
    targets = {"alpha 0: the teacher": soft, f"alpha {alpha:g}: the mix": alpha * hard + (1 - alpha) * soft,
               "alpha 1: the hard label": hard}
    colors = "#E08A53", "#8A8AA8", "#4A9CCB"
    for place, ((title, values), color, hatch) in enumerate(
            zip(targets.items(), colors, ("//", "", "\\\\"), strict=True)):
        ax = figure.add_subplot(rows[1, place])
        ax.bar(range(len(tokens)), values, color=color, hatch=hatch, edgecolor="white", lw=0)
        ax.set_xticks(range(len(tokens)), [style.visible(token) for token in tokens], size=SIZE)
        ax.set(ylim=(0, 1.18), yticks=[0, 0.5, 1], yticklabels=["0", "0.5", "1"] if place == 0 else [],
               ylabel="probability" if place == 0 else "")
        ax.set_title(title, fontsize=SIZE, weight="normal")
        style.annotate_bars(ax, "{:.2f}", size=8)
        ax.grid(axis="x", visible=False)
    if traces is not None:
        draw_traces(figure.add_subplot(rows[2, :]), traces)
    return figure


def draw_dial(ax: plt.Axes, alpha: float) -> None:
    """Draw half a disc, from the teacher on the left to the hard label on the right, its needle at alpha."""
    at = 180 * (1 - alpha)
    for start, end, look, hatch in ((at, 180, "teacher", "//"), (0, at, "trained", "")):
        fill, edge, *_ = LOOKS[look]
        ax.add_patch(Wedge((0, 0), 1, start, end, width=0.22, fc=fill, ec=edge, hatch=hatch))
    for mark in (0, 0.25, 0.5, 0.75, 1):
        turn = np.pi * (1 - mark)
        put_text(ax, 1.14 * np.cos(turn), 1.12 * np.sin(turn) + 0.05, f"{mark:g}")
    turn = np.pi * (1 - alpha)
    put_arrow(ax, (0, 0), (0.92 * np.cos(turn), 0.92 * np.sin(turn)), lw=2.5)
    put_text(ax, -1.3, 0.3, "alpha = 0\nthe teacher's distribution\nalone", ha="right")
    put_text(ax, 1.3, 0.3, "alpha = 1\nhard labels\nalone", ha="left")
    ax.set(xlim=(-3.4, 3.4), ylim=(-0.08, 1.3), aspect="equal")
    ax.set_axis_off()


def draw_traces(ax: plt.Axes, traces: pd.DataFrame) -> None:
    """Draw alpha by step, a line an arm, each with a colour and a dash of its own."""
    looks = zip(traces.groupby("arm", sort=False), style.SERIES_COLORS * 9, style.DASHES * 9, strict=False)
    for (arm, part), color, dash in looks:
        mean = part.groupby("step").alpha.mean()
        alternates = mean.isin([0.0, 1.0]).all() and mean.nunique() > 1
        line = {"lw": 0, "marker": ".", "ms": 2} if alternates else {"lw": 1.6, "ls": dash}
        ax.plot(mean.index, mean, color=color, label=arm, **line)
    ax.set(xlabel="optimizer step", ylabel="alpha", ylim=(-0.05, 1.05), yticks=[0, 0.5, 1])
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=SIZE)
