"""Figures of the router: errors by length of text, costs, calibration, and what it reads token by token."""

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mome.figures import style
from mome.languages import language_name


def plot_router_prefixes(scores: pd.DataFrame) -> plt.Figure:
    """1 - weighted F1 by number of tokens read, log axes, a line per classifier, seeds as points."""
    _, ax = plt.subplots(figsize=(8.4, 5.4))
    order = scores[scores.whole_sequence].groupby("classifier").f1.mean().sort_values().index
    colors = dict(zip(order[::-1], style.SERIES_COLORS * len(order), strict=False))
    floor = 50 / scores.n_sequences.iloc[0]  # an error of 0 is drawn as half of one sequence, which is said
    drawn = scores.assign(error=(100 * (1 - scores.f1)).clip(lower=floor))
    for number, name in enumerate(order):
        part = drawn[drawn.classifier == name]
        marker, dash = style.series_look(colors[name], number)
        ax.plot(part.groupby("prefix").error.mean(), marker=marker, ls=dash, ms=4.5, lw=1.6,
                color=colors[name], label=name.replace("_", " "))
        if "seed" in scores and scores.seed.nunique() > 1:
            ax.scatter(part.prefix, part.error, s=8, color=colors[name], alpha=0.5, lw=0)
    if drawn.error.min() < 2 * floor:
        ax.axhline(floor, color=style.GREY, ls=":", lw=1)
        ax.text(0.01, floor * 1.08, "no error seen (drawn at half a sequence)", fontsize=8, color=style.GREY,
                transform=ax.get_yaxis_transform())
    ax.set(yscale="log", xlabel="tokens read of the sequence (log scale)",
           ylabel=f"1 - weighted F1, percent (log scale, {style.LOWER})")
    ax.set_ylim(top=max(ax.get_ylim()[1], 10 * floor))  # where nobody errs, the line still needs an axis
    style.set_log_ticks(ax, scores.prefix)
    style.label_log_axis(ax.yaxis)
    return style.put_legend(ax, title="worst to best on whole sequences", title_fontsize=8.5)


def plot_router_cost(scores: pd.DataFrame) -> plt.Figure:
    """Error on whole sequences beside time to fit, speed and megabytes; log axes, means over seeds."""
    means = scores[scores.whole_sequence].groupby("classifier").mean(numeric_only=True).sort_values("f1")
    floor = 50 / scores.n_sequences.iloc[0]  # where an error of 0 is drawn on the log axis; its label says 0
    panels = ((100 * (1 - means.f1), f"1 - weighted F1, percent\n({style.LOWER})", "{:.2g}"),
              (means.fit_seconds, f"seconds to fit\n({style.LOWER})", "{:.2g}"),
              (means.sequences_per_second, f"sequences per second\n({style.HIGHER})", "{:,.0f}"),
              (means.stored_bytes / 1e6, f"megabytes stored\n({style.LOWER})", "{:.2g}"))
    names = means.index.str.replace("_", " ")
    figure, axes = style.start_panels(4, 13, 0.9 + 0.38 * len(means))
    for ax, (values, label, form) in zip(axes, panels, strict=True):
        drawn = values.clip(lower=floor) if ax is axes[0] else values
        ax.scatter(drawn, names, color=style.BLUE, zorder=3)
        style.annotate_points(ax, values.map(form.format), drawn, names, rise=6)
        ax.set(xlabel=label, xscale="log", xmargin=0.18, ymargin=0.12)
        ax.xaxis.minorticks_off()
    return figure


def plot_router_errors(intervals: pd.DataFrame, claimed: float | None = None) -> plt.Figure:
    """Percent misread with its 95 % interval, best on top. Columns: classifier, error, low, high."""
    table = intervals.sort_values("error", ascending=False)
    figure, ax = plt.subplots(figsize=(7.6, 1.0 + 0.36 * len(table)))
    names = table.classifier.str.replace("_", " ")
    ax.errorbar(table.error, names, xerr=[table.error - table.low, table.high - table.error], fmt="o",
                color=style.BLUE, capsize=3, lw=1.4)
    style.annotate_points(ax, table.error.map("{:.2f}".format), table.error, names, size=8)
    if claimed is not None:
        ax.axvline(claimed, color=style.GREY, ls="--", lw=1)
        ax.text(claimed, 1.01, f"claimed: {claimed:g}", size=8, color=style.GREY, ha="center", va="bottom",
                transform=ax.get_xaxis_transform())
    ax.set(xlabel=f"sequences misread, percent ({style.LOWER})", xlim=(-0.03 * table.high.max(), None),
           ymargin=0.12)
    return figure


def plot_reliability(tables: dict[str, pd.DataFrame]) -> plt.Figure:
    """Accuracy by confidence, a panel per classifier, points by their share. Tables: of `reliability`."""
    figure, axes = style.start_grid(len(tables), 3, 2.6, 2.8, 0.8, sharey=True)
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], color=style.GREY, ls="--", lw=1)
        ax.plot(table.confidence, table.accuracy, color=style.BLUE, lw=1)
        sizes = 15 + 300 * table.n / table.n.sum()
        ax.scatter(table.confidence, table.accuracy, s=sizes, color=style.BLUE, alpha=0.8, lw=0)
        ax.set(title=name, xlim=(0, 1.03), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.supxlabel("confidence (largest probability)", fontsize=9.5)
    figure.supylabel("accuracy", fontsize=9.5)
    return figure


def color_text(pieces: list[str], probabilities: np.ndarray, languages: list[str]) -> str:
    """Return HTML of the tokens' texts, each on the colour of the language that is most probable after it.

    `probabilities` is (tokens, languages). The surer, the stronger the colour; a token's title says its
    numbers.
    """
    palette, colors, titles = style.language_palette(languages), [], []
    names = [*map(language_name, palette)]
    for probs in probabilities:
        best = int(probs.argmax())
        # From one over the number of languages, where nothing is known, to 1.
        strength = (probs[best] - 1 / len(languages)) / (1 - 1 / len(languages))
        colors.append(f"{palette[languages[best]]}{round(20 + 150 * max(0.0, float(strength))):02x}")
        titles.append(", ".join(f"{name} {value:.2f}" for name, value in zip(names, probs, strict=True)))
    key = {name: f"{color}aa" for name, color in zip(names, palette.values(), strict=True)}
    return mark_text(pieces, colors, titles, key)


def shade_text(pieces: list[str], values, unit: str) -> str:
    """Return HTML of the tokens' texts, the darker the larger their values (tokens,), which titles say."""
    top = max(float(np.max(values)), 1e-9)
    colors = [f"{style.ORANGE}{round(200 * max(0.0, float(value)) / top):02x}" for value in values]
    key = {f"0 {unit}": f"{style.ORANGE}00", f"{top:.1f}": f"{style.ORANGE}c8"}
    return mark_text(pieces, colors, [f"{value:.2f} {unit}" for value in values], key)


def mark_text(pieces: list[str], colors: list[str], titles: list[str], key: dict[str, str] | None = None
              ) -> str:
    """Return HTML of texts on their colours, with titles, under a key {name: colour}; all of it escaped.

    Each text keeps its own direction, and characters that cannot be seen are written out.
    """
    look = "font-family:monospace;line-height:1.6;background:#fff;color:#000;padding:6px;"
    look += "white-space:pre-wrap;overflow-wrap:anywhere;max-height:20em;overflow:auto"
    marked = "".join(f'<bdi style="background:{color};color:#000" title="{html.escape(title)}">'
                     f"{html.escape(style.show_controls(piece)).replace(chr(10), '&crarr;' + chr(10))}</bdi>"
                     for piece, color, title in zip(pieces, colors, titles, strict=True))
    named = " ".join(f'<span style="background:{color};color:#000">&nbsp;{html.escape(name)}&nbsp;</span>'
                     for name, color in (key or {}).items())
    return f'<div style="{look}">{named}{"<br><br>" if named else ""}{marked}</div>'


def plot_router_trace(probabilities: pd.DataFrame, switch: int) -> plt.Figure:
    """router_probs after each token, a line per language (column); `switch` tokens precede the change."""
    _, ax = plt.subplots(figsize=(8.4, 3.4))
    read = np.arange(1, len(probabilities) + 1)
    for language, color in style.language_palette(probabilities.columns).items():
        ax.plot(read, probabilities[language], color=color, lw=2, label=language_name(language),
                ls=style.language_look(language)["ls"])
    ax.axvline(switch + 0.5, color=style.GREY, ls="--", lw=1)
    ax.text(switch + 0.5, 1.06, "the language changes", size=8.5, color=style.GREY, ha="center", va="bottom")
    ax.set(xlabel="tokens read", ylabel="router probability", ylim=(-0.04, 1.05), xlim=(0.5, len(read) + 0.5))
    return style.put_legend(ax)


def plot_strongest_tokens(tokens: pd.DataFrame, n: int = 15) -> plt.Figure:
    """The tokens that speak most for each language, a panel each, weight as bar length; a dot is a space."""
    palette = style.language_palette(tokens.language)
    figure, axes = style.start_panels(len(palette), 2.7 * len(palette), 0.8 + 0.25 * n, sharey=False)
    for ax, (language, color) in zip(axes, palette.items(), strict=True):
        part = tokens[tokens.language == language].head(n).iloc[::-1]
        ax.barh(range(len(part)), part.weight, color=color, alpha=0.85)
        ax.set_yticks(range(len(part)), [style.visible(token) for token in part.token], fontsize=8)
        ax.set(title=language_name(language), xlabel="weight (logit per token)")
        ax.grid(axis="y", visible=False)
    return figure
