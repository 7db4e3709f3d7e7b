"""Tidy tables in, figures out. One colour per language everywhere; every axis says its unit and which direction is better."""

from __future__ import annotations

import html
import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from mome.config import FIGURE_DPI, LANGUAGE_NAMES

# Okabe and Ito's palette, which most colour-blind readers can tell apart.
LANGUAGE_COLORS = {"en": "#0072B2", "fr": "#D55E00", "de": "#009E73", "py": "#CC79A7"}
OTHER_COLORS = ("#E69F00", "#56B4E9", "#7F7F7F", "#A0522D", "#6A51A3", "#2F4F4F")
CLASSIFIER_COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A51A3", "#A0522D", "#7F7F7F", "#66A61E", "#BBBBBB")
LOWER, HIGHER = "lower is better", "higher is better"


def language_color(language: str, languages: list[str]) -> str:
    others = [name for name in languages if name not in LANGUAGE_COLORS]
    return LANGUAGE_COLORS.get(language) or OTHER_COLORS[others.index(language) % len(OTHER_COLORS)]


def language_name(language: str) -> str:
    return LANGUAGE_NAMES.get(language, language)


def set_style() -> None:
    """Set the workbook's look for all later figures."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc={
        "figure.dpi": 110, "savefig.dpi": FIGURE_DPI, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": "medium",
        "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False, "grid.alpha": 0.5})


def annotate_bars(ax, form: str = "{:,.0f}") -> None:
    for container in ax.containers:
        ax.bar_label(container, fmt=lambda value: form.format(value), padding=2, fontsize=8)
    ax.margins(y=0.12)


def plot_switches(table: pd.DataFrame, value: str, label: str) -> Figure:
    """Every way of using a modular model as a row, one heat map a variant, languages as columns, one colour scale for all.

    Columns: variant, group (a line between groups), use, language and `value`; seeds are averaged.
    """
    uses, variants = list(dict.fromkeys(table.use)), list(dict.fromkeys(table.variant))
    groups = table.drop_duplicates("use").set_index("use").group
    norm = plt.matplotlib.colors.LogNorm(table[value].min(), table[value].max())
    languages = list(dict.fromkeys(table.language))
    figure, axes = plt.subplots(1, len(variants), figsize=(2.6 + 0.55 * len(languages) * len(variants), 1.4 + 0.27 * len(uses)), sharey=True, squeeze=False)
    for ax, variant in zip(axes[0], variants, strict=True):
        matrix = table[table.variant == variant].pivot_table(index="use", columns="language", values=value).reindex(index=uses, columns=languages)
        sns.heatmap(matrix, annot=True, fmt=".2f", annot_kws={"size": 6.5}, cmap="flare", norm=norm, cbar=False, ax=ax, linewidths=0.5)
        for place in range(1, len(uses)):
            if groups[uses[place]] != groups[uses[place - 1]]:
                ax.axhline(place, color="black", lw=1.2)
        ax.grid(visible=False)
        ax.set(xlabel="", ylabel="")
        ax.set_title(variant, fontsize=9)
        ax.tick_params(axis="both", rotation=0, labelsize=8)
    figure.supxlabel("scored on", fontsize=9)
    bar = figure.colorbar(axes[0, -1].collections[0], ax=axes[0], label=label, ticks=plt.matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)),
                          format=plt.matplotlib.ticker.StrMethodFormatter("{x:,g}"), fraction=0.03, pad=0.01)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    return figure


def plot_token_balance(stages: pd.DataFrame) -> Figure:
    """Bars per language of `tokens` (thousands), one panel per `stage` in order. Columns: stage, language, tokens."""
    names = list(dict.fromkeys(stages.stage))
    languages = list(dict.fromkeys(stages.language))
    figure, axes = plt.subplots(1, len(names), figsize=(3.3 * len(names), 3.2), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        part = stages[stages.stage == name].set_index("language").tokens[languages] / 1e3
        ax.bar([language_name(x) for x in languages], part, color=[language_color(x, languages) for x in languages])
        ax.set(title=name, ylabel="thousand tokens")
        ax.grid(axis="x", visible=False)
        annotate_bars(ax, "{:,.0f}" if part.min() >= 10 else "{:,.2f}")
    return figure


def plot_steps(steps: pd.DataFrame) -> Figure:
    """Bars of million `characters` left after each `step`, one colour per language. Columns: step, language, characters."""
    names, languages = list(dict.fromkeys(steps.step)), list(dict.fromkeys(steps.language))
    figure, ax = plt.subplots(figsize=(2.2 + 1.5 * len(names), 3.8))
    width = 0.82 / len(languages)
    for number, language in enumerate(languages):
        part = steps[steps.language == language].set_index("step").characters.reindex(names) / 1e6
        bars = ax.bar(np.arange(len(names)) + (number - (len(languages) - 1) / 2) * width, part, width * 0.94,
                      color=language_color(language, languages), label=language_name(language))
        ax.bar_label(bars, fmt="%.2g", padding=1.5, fontsize=6.5)
    ax.set(ylabel="million characters")
    ax.set_xticks(range(len(names)), names)
    ax.grid(axis="x", visible=False)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_planted_copies(planted: pd.DataFrame, threshold: float) -> Figure:
    """Planted texts: similarity against percent of words exchanged, filled when `found`. Columns: language, percent, similarity, found."""
    languages = list(dict.fromkeys(planted.language))
    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    steps = sorted(planted.percent.unique())
    for number, language in enumerate(languages):
        part, color = planted[planted.language == language], language_color(language, languages)
        x = part.percent.map(steps.index) + (number - (len(languages) - 1) / 2) * 0.19
        for found, face in ((True, color), (False, "none")):
            chosen = part.found == found
            ax.scatter(x[chosen], part.similarity[chosen], s=13, facecolors=face, edgecolors=color, lw=0.8, alpha=0.75)
        ax.scatter([], [], s=16, color=color, label=language_name(language))
    ax.axhline(threshold, color="black", ls="--", lw=1)
    ax.text(len(steps) - 0.4, threshold + 0.015, f"threshold {threshold:g}", ha="right", fontsize=8.5)
    ax.scatter([], [], s=16, facecolors="grey", edgecolors="grey", label="found")
    ax.scatter([], [], s=16, facecolors="none", edgecolors="grey", label="not found")
    ax.set(xlabel="words exchanged, percent", ylabel="Jaccard similarity with the original", ylim=(-0.03, 1.03))
    ax.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_fertility(fertility: pd.DataFrame) -> Figure:
    """Tokens per word (log scale), a row per tokenizer, a point per language. Columns: tokenizer, language, tokens_per_word."""
    names, languages = list(dict.fromkeys(fertility.tokenizer))[::-1], list(dict.fromkeys(fertility.language))
    figure, ax = plt.subplots(figsize=(7.6, 1.2 + 0.45 * len(names)))
    for number, language in enumerate(languages):
        values = fertility[fertility.language == language].set_index("tokenizer").tokens_per_word[names]
        heights = np.arange(len(names)) - (number - (len(languages) - 1) / 2) * 0.13
        ax.plot(values, heights, "o", ms=6, color=language_color(language, languages), label=language_name(language))
    for height in range(len(names) - 1):
        ax.axhline(height + 0.5, color="lightgrey", lw=0.7)
    ax.set(xscale="log", xlabel=f"tokens per word (log scale, {LOWER})", ylim=(-0.6, len(names) - 0.4))
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", visible=False)
    label_log_axis(ax.xaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_article_lengths(articles: pd.DataFrame) -> Figure:
    """Distribution of article lengths in tokens per language, log scale, medians marked. Columns: language, n_tokens."""
    languages = list(dict.fromkeys(articles.language))
    palette = {x: language_color(x, languages) for x in languages}
    figure, ax = plt.subplots(figsize=(7.2, 3.6))
    sns.kdeplot(articles, x="n_tokens", hue="language", hue_order=languages, palette=palette, log_scale=True, common_norm=False, ax=ax, lw=2, legend=False)
    top = ax.get_ylim()[1]
    for number, language in enumerate(languages):
        median = articles[articles.language == language].n_tokens.median()
        ax.axvline(median, color=palette[language], ls=":", lw=1.2)
        ax.text(0.985, 0.93 - 0.08 * number, f"{language_name(language)}: median {median:,.0f}", color=palette[language], ha="right", transform=ax.transAxes)
    ax.set(xlabel="tokens per article (log scale)", ylabel="density per language", ylim=(0, top))
    low, high = ax.get_xlim()
    if high < 100 * low:
        label_log_axis(ax.xaxis)
    return figure


def plot_language_bars(values: pd.Series, label: str, form: str = "{:.2f}") -> Figure:
    """One bar per language. `values` is indexed by language; `label` holds unit and direction."""
    languages = list(values.index)
    figure, ax = plt.subplots(figsize=(1.6 + 0.9 * max(3, len(languages)), 3.8))
    ax.bar([language_name(x) for x in languages], values, color=[language_color(x, languages) for x in languages], width=0.65)
    ax.set(ylabel=label)
    ax.grid(axis="x", visible=False)
    annotate_bars(ax, form)
    return figure


def plot_matrix(matrix: pd.DataFrame, *, label: str, row_label: str, column_label: str, form: str = ".2f", cmap: str = "crest", ax=None, **limits) -> Figure:
    """A labelled heat map; rows and columns that are languages are written out."""
    named = matrix.rename(index=language_name, columns=language_name)
    figure, ax = (ax.figure, ax) if ax is not None else plt.subplots(figsize=(1.6 + 1.0 * matrix.shape[1], 1.3 + 0.55 * matrix.shape[0]))
    sns.heatmap(named, annot=True, fmt=form, cmap=cmap, cbar_kws={"label": label}, linewidths=1, ax=ax, **limits)
    ax.set(xlabel=column_label, ylabel=row_label)
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=0)
    return figure


def plot_router_prefixes(scores: pd.DataFrame) -> Figure:
    """Error (1 - weighted F1, percent, log) against the number of tokens read, one line per classifier; several seeds as their mean with points."""
    figure, ax = plt.subplots(figsize=(8.4, 4.6))
    order = scores[scores.whole_sequence].groupby("classifier").f1.mean().sort_values().index
    colors = dict(zip(order[::-1], CLASSIFIER_COLORS * len(order), strict=False))
    # An error of 0 cannot stand on a log axis: half of one sequence is drawn instead, and said.
    floor = 50 / scores.n_sequences.iloc[0]
    error = (100 * (1 - scores.f1)).clip(lower=floor)
    for name, marker in zip(order, "osDv^<>PXpd*" * len(order), strict=False):
        part = error[scores.classifier == name].groupby(scores.prefix)
        ax.plot(part.mean(), marker=marker, ms=4.5, lw=1.6, color=colors[name], label=name.replace("_", " "))
        if "seed" in scores and scores.seed.nunique() > 1:
            ax.scatter(scores.prefix[scores.classifier == name], error[scores.classifier == name], s=8, color=colors[name], alpha=0.5, lw=0)
    if error.min() < 2 * floor:
        ax.axhline(floor, color="grey", ls=":", lw=1)
        ax.text(0.01, floor * 1.08, "no error seen (drawn at half a sequence)", fontsize=8, color="grey", transform=ax.get_yaxis_transform())
    ticks = sorted(scores.prefix.unique())
    ax.set(xscale="log", yscale="log", xlabel="tokens read of the sequence (log scale)", ylabel=f"1 - weighted F1, percent (log scale, {LOWER})")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.xaxis.minorticks_off()
    label_log_axis(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, title="worst to best on whole sequences", title_fontsize=8.5)
    return figure


def label_log_axis(axis) -> None:
    """Write the ticks 1, 2, 3 and 5 of every decade as plain numbers."""
    axis.set_major_locator(plt.matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(plt.matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(plt.matplotlib.ticker.NullFormatter())


def plot_router_cost(scores: pd.DataFrame) -> Figure:
    """Error on whole sequences beside what it costs, on log axes: seconds to fit, sequences per second, megabytes; several seeds as their mean."""
    means = scores[scores.whole_sequence].groupby("classifier")[["f1", "fit_seconds", "sequences_per_second", "stored_bytes"]].mean().sort_values("f1")
    means["stored_megabytes"] = means.stored_bytes / 1e6
    means["error"] = 100 * (1 - means.f1)
    floor = 50 / scores.n_sequences.iloc[0]  # where an error of 0 is drawn on the log axis; its label says 0
    names = means.index.str.replace("_", " ")
    figure, axes = plt.subplots(1, 4, figsize=(13, 0.9 + 0.38 * len(means)), sharey=True)
    panels = (("error", f"1 - weighted F1, percent\n({LOWER})", "{:.2g}"), ("fit_seconds", f"seconds to fit\n({LOWER})", "{:.2g}"),
              ("sequences_per_second", f"sequences per second\n({HIGHER})", "{:,.0f}"), ("stored_megabytes", f"megabytes stored\n({LOWER})", "{:.2g}"))
    for ax, (column, label, form) in zip(axes, panels, strict=True):
        drawn = means[column].clip(lower=floor) if column == "error" else means[column]
        ax.scatter(drawn, names, color="#0072B2", zorder=3)
        for at, value, name in zip(drawn, means[column], names, strict=True):
            ax.annotate(form.format(value), (at, name), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7.5)
        ax.set(xlabel=label, xscale="log")
        ax.xaxis.minorticks_off()
        ax.margins(x=0.18, y=0.12)
    return figure


def plot_router_errors(intervals: pd.DataFrame, claimed: float | None = None) -> Figure:
    """Error rate on whole sequences in percent with its 95 % interval, best at the top. Columns: classifier, error, low, high (percent)."""
    table = intervals.sort_values("error", ascending=False)
    figure, ax = plt.subplots(figsize=(7.6, 1.0 + 0.36 * len(table)))
    names = table.classifier.str.replace("_", " ")
    ax.errorbar(table.error, names, xerr=[table.error - table.low, table.high - table.error], fmt="o", color="#0072B2", capsize=3, lw=1.4)
    for error, name in zip(table.error, names, strict=True):
        ax.annotate(f"{error:.2f}", (error, name), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8)
    if claimed is not None:
        ax.axvline(claimed, color="grey", ls="--", lw=1)
        ax.text(claimed, 1.01, f"claimed: {claimed:g}", fontsize=8, color="grey", ha="center", va="bottom", transform=ax.get_xaxis_transform())
    ax.set(xlabel=f"sequences misread, percent ({LOWER})", xlim=(-0.03 * table.high.max(), None))
    ax.margins(y=0.12)
    return figure


def plot_intervals(table: pd.DataFrame, row: str, by: str, label: str) -> Figure:
    """`value` with its interval `low` to `high`, a row per value of `row`, a colour per value of `by`."""
    rows, names = list(dict.fromkeys(table[row]))[::-1], list(dict.fromkeys(table[by]))
    figure, ax = plt.subplots(figsize=(7.8, 1.2 + 0.45 * len(rows)))
    for number, (name, color) in enumerate(zip(names, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False)):
        part = table[table[by] == name].set_index(row).loc[rows]
        heights = np.arange(len(rows)) - (number - (len(names) - 1) / 2) * 0.22
        ax.errorbar(part.value, heights, xerr=[part.value - part.low, part.high - part.value], fmt="o", color=color, capsize=3, lw=1.4, label=name)
        for value, height in zip(part.value, heights, strict=True):
            ax.annotate(f"{value:.4f}", (value, height), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=7.5)
    ax.set(xlabel=label)
    ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    ax.margins(y=0.15)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_lines(table: pd.DataFrame, x: str, y: str, by: str, xlabel: str, ylabel: str, *, panel: str | None = None, bounds: dict[str, float] | None = None,
               colors: dict[str, str] | None = None, log_x: bool = False, markers: bool = True) -> Figure:
    """`y` against `x`, one line per value of `by`, one panel per value of `panel`; `bounds` maps names to dashed levels."""
    panels = list(dict.fromkeys(table[panel])) if panel else [None]
    names = list(dict.fromkeys(table[by]))
    colors = colors or dict(zip(names, CLASSIFIER_COLORS * len(names), strict=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.0 + 3.4 * len(panels) + (1.6 if len(panels) == 1 else 0), 3.8), sharey=True, squeeze=False)
    for ax, title in zip(axes[0], panels, strict=True):
        part = table if panel is None else table[table[panel] == title]
        for name, marker in zip(names, "osDv^<>PXpd*" * len(names), strict=False):
            line = part[part[by] == name].groupby(x)[y].mean()
            ax.plot(line, marker=marker if markers else "", ms=4.5, lw=1.7, color=colors[name], label=language_name(name).replace("_", " "))
        for name, level in (bounds or {}).items():
            ax.axhline(level, color="grey", ls="--", lw=1)
            ax.text(0.99, level, name, fontsize=8, color="grey", ha="right", va="bottom", transform=ax.get_yaxis_transform())
        ax.set(xlabel=xlabel, title="" if title is None else language_name(title))
        if not log_x and table[x].nunique() <= 8 and (table[x] % 1 == 0).all():
            ax.set_xticks(sorted(table[x].unique()))
        if log_x:
            ax.set_xscale("log")
            ax.set_xticks(sorted(table[x].unique()), [f"{tick:g}" for tick in sorted(table[x].unique())])
            ax.xaxis.minorticks_off()
    axes[0, 0].set(ylabel=ylabel)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, a panel per classifier, points sized by their share. Each table: confidence, accuracy, n."""
    figure, axes = plt.subplots(1, len(tables), figsize=(1.0 + 3.0 * len(tables), 3.5), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="grey", ls="--", lw=1)
        ax.plot(table.confidence, table.accuracy, color="#0072B2", lw=1)
        ax.scatter(table.confidence, table.accuracy, s=15 + 300 * table.n / table.n.sum(), color="#0072B2", alpha=0.8, lw=0)
        ax.set(title=name, xlabel="confidence (largest probability)", xlim=(0, 1.03), ylim=(0, 1.03))
    axes[0, 0].set(ylabel="accuracy")
    return figure


def color_text(pieces: list[str], probabilities: np.ndarray, languages: list[str]) -> str:
    """Return HTML of the tokens' texts, each on the colour of the language that is most probable after it, stronger the surer.

    `probabilities` is (tokens, languages). Hovering over a token shows its numbers.
    """
    spans = []
    for piece, probs in zip(pieces, probabilities, strict=True):
        best = int(probs.argmax())
        # From one over the number of languages, where nothing is known, to 1.
        strength = (probs[best] - 1 / len(languages)) / (1 - 1 / len(languages))
        color = f"{language_color(languages[best], languages)}{round(20 + 150 * max(0.0, float(strength))):02x}"
        numbers = ", ".join(f"{language_name(name)} {value:.2f}" for name, value in zip(languages, probs, strict=True))
        text = html.escape(piece).replace("\n", "&crarr;\n")
        spans.append(f'<span style="background:{color};color:#000" title="{html.escape(numbers)}">{text}</span>')
    key = " ".join(f'<span style="background:{language_color(name, languages)}aa;color:#000">&nbsp;{html.escape(language_name(name))}&nbsp;</span>'
                   for name in languages)
    return f'<div style="font-family:monospace;line-height:1.6;background:#fff;padding:6px;white-space:pre-wrap">{key}<br><br>{"".join(spans)}</div>'


def plot_router_trace(probabilities: pd.DataFrame, switch: int) -> Figure:
    """router_probs after each token read, one line per language (columns), with the token at which the language changes."""
    languages = list(probabilities.columns)
    figure, ax = plt.subplots(figsize=(8.4, 3.4))
    for language in languages:
        ax.plot(np.arange(1, len(probabilities) + 1), probabilities[language], color=language_color(language, languages), lw=2, label=language_name(language))
    ax.axvline(switch + 0.5, color="grey", ls="--", lw=1)
    ax.text(switch + 0.5, 1.06, "the language changes", fontsize=8.5, color="grey", ha="center", va="bottom")
    ax.set(xlabel="tokens read", ylabel="router probability", ylim=(-0.04, 1.05), xlim=(0.5, len(probabilities) + 0.5))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_strongest_tokens(tokens: pd.DataFrame, n: int = 15) -> Figure:
    """The tokens that speak most for each language, one panel a language, weight as bar length; a dot stands for a space."""
    languages = list(dict.fromkeys(tokens.language))
    figure, axes = plt.subplots(1, len(languages), figsize=(2.7 * len(languages), 0.8 + 0.25 * n))
    for ax, language in zip(np.atleast_1d(axes), languages, strict=True):
        part = tokens[tokens.language == language].head(n).iloc[::-1]
        ax.barh(range(len(part)), part.weight, color=language_color(language, languages), alpha=0.85)
        ax.set_yticks(range(len(part)), [visible(token) for token in part.token], fontsize=8)
        ax.set(title=language_name(language), xlabel="weight (logit per token)")
        ax.grid(axis="y", visible=False)
    return figure


def visible(token: str) -> str:
    """Return a token with its spaces and line ends written out, long runs of spaces counted: four or more become `·x4`."""
    text = re.sub(" {4,}", lambda run: f"·x{len(run[0])}", token)
    return text.replace(" ", "·").replace("\n", "\\n").replace("\t", "\\t").replace("$", r"\$")


def plot_learning_curves(history: pd.DataFrame, value: str, label: str, by: str = "arm", reference: dict[str, float] | None = None,
                         colors: dict | None = None) -> Figure:
    """`value` against tokens seen, one line per `by`, seeds as thin lines and their mean as a thick one, names at the right end."""
    curves = history.dropna(subset=[value])
    names = list(dict.fromkeys(curves[by]))
    colors = colors or dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    figure, ax = plt.subplots(figsize=(7.6, 4))
    for name in names:
        part = curves[curves[by] == name]
        for _, seed in part.groupby("seed"):
            ax.plot(seed.tokens / 1e3, seed[value], color=colors[name], lw=0.7, alpha=0.5)
        mean = part.groupby("tokens")[value].mean()
        ax.plot(mean.index / 1e3, mean, color=colors[name], lw=2.2, marker="o", ms=3.5, label=language_name(name))
    for name, level in (reference or {}).items():
        ax.axhline(level, color="grey", ls="--", lw=1)
        ax.text(0.01, level, f"{name} ", fontsize=8, color="grey", va="bottom", transform=ax.get_yaxis_transform())
    ax.set(xlabel="thousand training tokens seen", ylabel=label)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_alpha_traces(history: pd.DataFrame) -> Figure:
    """alpha at every optimizer step, one panel per arm, one line per seed, with the share of steps at exactly 0.5."""
    arms = list(dict.fromkeys(history.arm))
    figure, axes = plt.subplots(len(arms), 1, figsize=(7.6, 1.0 + 1.15 * len(arms)), sharex=True, squeeze=False)
    for ax, arm in zip(axes[:, 0], arms, strict=True):
        part = history[history.arm == arm]
        alternates = part.alpha.isin([0.0, 1.0]).all()
        for _, seed in part.groupby("seed"):
            ax.plot(seed.step, seed.alpha, color="#0072B2", lw=0, marker="." if alternates else "", ms=1.5)
            ax.plot(seed.step, seed.alpha, color="#0072B2", lw=0 if alternates else 1.3, alpha=0.8)
        ax.set(ylim=(-0.08, 1.08), yticks=[0, 0.5, 1])
        ax.set_title(f"{arm}: exactly 0.5 at {100 * (part.alpha == 0.5).mean():.0f} % of steps, mean {part.alpha.mean():.3f}, "
                     f"{part.alpha.min():.3f} to {part.alpha.max():.3f}", fontsize=9)
    axes[-1, 0].set(xlabel="optimizer step")
    figure.supylabel("alpha (weight of hard labels)", fontsize=9)
    return figure


def plot_arms(table: pd.DataFrame, value: str, label: str, *, arm: str = "arm", panel: str = "language", log: bool = False,
              bounds: dict[str, dict[str, float]] | None = None) -> Figure:
    """Every seed as a point, the mean as a bar, a 95 % t interval where there are two seeds or more; one panel per `panel` value.

    With `log` the axis is logarithmic and mean and interval are taken of logarithms, as suits perplexity. `bounds` maps a
    name to {panel value: level}, drawn as a dashed line.
    """
    panels, arms = list(dict.fromkeys(table[panel])), list(dict.fromkeys(table[arm]))[::-1]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.2 + 2.9 * len(panels), 1.5 + 0.42 * len(arms)), sharey=True, squeeze=False)
    forward, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    for ax, name in zip(axes[0], panels, strict=True):
        color = language_color(name, panels) if panel == "language" else "#0072B2"
        for height, arm_name in enumerate(arms):
            values = table[(table[panel] == name) & (table[arm] == arm_name)][value].to_numpy()
            if not len(values):
                continue
            mean, low, high = mean_interval(forward(values))
            ax.scatter(values, np.full(len(values), height), s=22, color=color, alpha=0.55, zorder=3, lw=0)
            ax.plot([back(mean)] * 2, [height - 0.25, height + 0.25], color=color, lw=2.4, zorder=4)
            ax.plot([back(low), back(high)], [height, height], color=color, lw=1.4)
            ax.annotate(f"{back(mean):.4g}", (back(mean), height + 0.25), xytext=(0, 1), textcoords="offset points", ha="center", fontsize=7.5)
        for bound, levels in (bounds or {}).items():
            if name in levels:
                ax.axvline(levels[name], color="grey", ls="--", lw=1)
                ax.text(levels[name], -0.72, f" {bound}", fontsize=7.5, color="grey", ha="left", va="bottom")
        ax.set(title=language_name(name), xlabel=label, ylim=(-0.75, len(arms) - 0.25))
        if log:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(plt.matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
            ax.xaxis.set_major_formatter(plt.matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
            ax.xaxis.set_minor_locator(plt.matplotlib.ticker.NullLocator())
        ax.set_yticks(range(len(arms)), arms)
        ax.margins(x=0.15)
    return figure


def plot_differences(comparisons: pd.DataFrame, label: str, margin: float | None = None) -> Figure:
    """Each arm minus its baseline, mean and 95 % interval, best on top; filled where the interval leaves out 0, `margin` shaded.

    Columns: those of `evaluate.compare_arms`. Without an interval (one seed) the mean stands alone.
    """
    table = comparisons.sort_values("difference", ascending=False).reset_index(drop=True)
    figure, ax = plt.subplots(figsize=(7.8, 1.2 + 0.33 * len(table)))
    colors = {"better": "#009E73", "worse": "#D55E00", "cannot tell": "#7F7F7F"}
    for height, row in enumerate(table.itertuples()):
        color = colors[row.verdict]
        ax.plot([row.low, row.high], [height, height], color=color, lw=1.6)
        ax.plot(row.difference, height, "o", ms=6.5, color=color, mfc=color if row.verdict != "cannot tell" else "white")
        ax.annotate(f"{row.difference:+.3f}", (row.difference, height), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7.5)
    ax.axvline(0, color="black", lw=1)
    if margin is not None:
        ax.axvspan(-margin, margin, color="grey", alpha=0.15, lw=0)
    for name, color in colors.items():
        ax.plot([], [], "o", color=color, mfc=color if name != "cannot tell" else "white", label=name)
    ax.set(xlabel=label, ylim=(-0.7, len(table) - 0.3))
    ax.set_yticks(range(len(table)), table.arm)
    ax.margins(x=0.1)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, title=f"than {table.baseline[0]}", title_fontsize=8.5)
    return figure


def plot_terms(history: pd.DataFrame, window: int = 9) -> Figure:
    """Both terms of the loss while training: nats per token, and the norm of each one's gradient at the logits; running medians.

    Columns: seed, step, ce_loss, kd_loss, ce_grad_norm, kd_grad_norm. Seeds are thin lines, their mean a thick one.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.6))
    panels = (("loss", f"nats per token ({LOWER})"), ("grad_norm", "root mean square over tokens"))
    for ax, (what, label) in zip(axes, panels, strict=True):
        for term, name, color in (("ce", "hard labels (CE)", "#0072B2"), ("kd", "teacher (KD)", "#D55E00")):
            curves = history.pivot(index="step", columns="seed", values=f"{term}_{what}").rolling(window, center=True, min_periods=1).median()
            ax.plot(curves, color=color, lw=0.7, alpha=0.5)
            ax.plot(curves.mean(axis=1), color=color, lw=2.2, label=name)
        ax.set(xlabel="optimizer step", ylabel=label, title={"loss": "loss", "grad_norm": "gradient at the logits"}[what])
    axes[1].set_ylim(bottom=0)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_cache_bias(table: pd.DataFrame) -> Figure:
    """Bias of the KL read off cached targets, and error of its mean gradient, against bytes a token; draws as points. Columns: `targets.measure_bias`."""
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.6))
    names = {"drawn": "top half + draws", "lumped": "top k + lumped tail", "dropped": "top k alone"}
    for ax, column in zip(axes, ("bias", "gradient_error"), strict=True):
        for (tail, name), color in zip(names.items(), ("#009E73", "#0072B2", "#D55E00"), strict=True):
            part = table[table["tail"] == tail]
            ax.plot(part.groupby("bytes_per_token")[column].mean(), color=color, lw=1.8, label=name)
            ax.scatter(part.bytes_per_token, part[column], s=12, color=color, alpha=0.6, lw=0)
        ticks = sorted(table.bytes_per_token.unique())
        ax.set(xscale="log", xlabel="bytes per token in the cache (log scale)")
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.xaxis.minorticks_off()
    axes[0].axhline(0, color="black", lw=1)
    axes[0].set(ylabel="cached minus full KL, nats per token\n(0 is unbiased)")
    axes[1].set(yscale="log", ylabel=f"error of the mean gradient, relative\n(log scale, {LOWER})")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_quality_for_time(table: pd.DataFrame, value: str, label: str) -> Figure:
    """`value` of each arm against what its training takes, seeds as points, means labelled. Columns: arm, seed, time, kind (a colour each)."""
    figure, ax = plt.subplots(figsize=(8.2, 4.2))
    for kind, color in zip(dict.fromkeys(table.kind), ("#0072B2", "#009E73", "#D55E00", "#CC79A7"), strict=False):
        part = table[table.kind == kind]
        ax.scatter(part.time, part[value], s=16, color=color, alpha=0.5, lw=0)
        means = part.groupby("arm")[["time", value]].mean().sort_values(["time", value])
        ax.plot(means.time, means[value], "o", ls="-" if means.time.nunique() == len(means) else "", color=color, ms=7, lw=1.2, label=kind)
        for number, (arm, mean) in enumerate(means.iterrows()):
            ax.annotate(arm, (mean.time, mean[value]), xytext=(8, (-9, 3)[number % 2]), textcoords="offset points", fontsize=8, color=color)
    ax.set(xlabel="training time, as a multiple of the first hard-label arm's", ylabel=label)
    ax.margins(x=0.22, y=0.12)
    ax.set_xlim(left=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_loss_by_position(table: pd.DataFrame, alpha: float) -> Figure:
    """Each token's part of a sequence's loss, in percent, its hard-label and its KD part stacked. Columns: `evaluate.loss_by_position`."""
    total = (alpha * table.ce + (1 - alpha) * table.kd).sum() / 100
    hard, soft, places = alpha * table.ce / total, (1 - alpha) * table.kd / total, np.arange(len(table))
    figure, ax = plt.subplots(figsize=(max(7.0, 0.3 * len(table)), 3.8))
    ax.bar(places, hard, color="#0072B2", width=0.8, label=f"hard label, alpha = {alpha:g}")
    ax.bar(places, soft, bottom=hard, color="#D55E00", width=0.8, label=f"teacher, 1 - alpha = {1 - alpha:g}")
    ax.set_xticks(places, [visible(token) for token in table.token], rotation=90, fontsize=8, family="monospace")
    ax.set(xlabel="token to predict", ylabel="share of the sequence's loss, percent", xlim=(-0.7, len(table) - 0.3))
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right", fontsize=8.5, ncols=2)
    return figure


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high) with Student's 95 % interval; for one value all three are that value."""
    mean = values.mean()
    if len(values) < 2:
        return mean, mean, mean
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def plot_score_matrices(matrices: dict[str, pd.DataFrame], label: str, columns: int = 4, percent: bool = False) -> Figure:
    """Heat maps on one colour scale, so many side by side: row = after that stage, column = language.

    Perplexities on a logarithmic scale, dark is worse; with `percent` percentages from 0 to 100, dark is better.
    """
    low, high = min(m.min(axis=None) for m in matrices.values()), max(m.max(axis=None) for m in matrices.values())
    norm = plt.matplotlib.colors.Normalize(0, 100) if percent else plt.matplotlib.colors.LogNorm(low, high)
    first, columns = next(iter(matrices.values())), min(columns, len(matrices))
    lines = -(-len(matrices) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.2 + (0.9 + 0.62 * first.shape[1]) * columns, (1.0 + 0.48 * len(first)) * lines), squeeze=False)
    for ax, (name, matrix) in itertools.zip_longest(axes.flat, matrices.items(), fillvalue=(None, None)):
        if name is None:
            ax.set_axis_off()
            continue
        plot_matrix(matrix, label=label, row_label="", column_label="", cmap="crest" if percent else "flare", ax=ax,
                    form=".0f" if low >= 20 and not percent else ".1f", norm=norm, cbar=False)
        for cell in ax.texts:  # an untrained expert's guess may be a perplexity of a million
            cell.set_text(shorten_number(cell.get_text()))
        ax.grid(visible=False)
        ax.set_title(name, fontsize=9.5)
        ax.tick_params(axis="both", labelsize=8)
    figure.supxlabel("scored on", fontsize=9)
    figure.supylabel("after training on", fontsize=9)
    ticks = None if percent else plt.matplotlib.ticker.LogLocator(subs=(1, 3) if high / low > 100 else (1, 1.5, 2, 3, 5, 7))
    bar = figure.colorbar(axes[0, 0].collections[0], ax=axes, label=label, ticks=ticks, format=plt.matplotlib.ticker.StrMethodFormatter("{x:,.0f}"),
                          fraction=0.03, pad=0.01)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    return figure


def shorten_number(text: str) -> str:
    """Return 20395 as 20k and 1318674 as 1.3M; shorter numbers as they are."""
    value = float(text) if text else 0.0
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else text


def plot_stage_curves(history: pd.DataFrame, order: list[str], label: str) -> Figure:
    """Perplexity of every language over sequential training, a panel an arm, stage borders marked. Columns: arm, seed, total_tokens, perplexity_<language>."""
    arms = list(dict.fromkeys(history.arm))
    figure, axes = plt.subplots(1, len(arms), figsize=(2.2 + 4.4 * len(arms), 4.2), sharey=True, squeeze=False)
    for ax, arm in zip(axes[0], arms, strict=True):
        part = history[history.arm == arm]
        for language in order:
            color = language_color(language, order)
            for _, seed in part.groupby("seed"):
                ax.plot(seed.total_tokens / 1e3, seed[f"perplexity_{language}"], color=color, lw=0.7, alpha=0.5)
            mean = part.groupby("total_tokens")[f"perplexity_{language}"].mean()
            ax.plot(mean.index / 1e3, mean, color=color, lw=2.2, marker="o", ms=3, label=language_name(language))
        stage = part.total_tokens.max() / len(order) / 1e3
        for number, language in enumerate(order):
            ax.axvspan(number * stage, (number + 1) * stage, color=language_color(language, order), alpha=0.07, lw=0)
            ax.text((number + 0.5) * stage, 1.01, language_name(language), ha="center", fontsize=8.5, transform=ax.get_xaxis_transform())
        ax.set(yscale="log", xlabel="thousand training tokens seen", xlim=(0, 1.01 * stage * len(order)))
        ax.set_title(arm, pad=18)
        ax.minorticks_off()
        ax.yaxis.set_major_locator(plt.matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter("{x:,g}")
    axes[0, 0].set(ylabel=label)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_drift(drift: pd.DataFrame) -> Figure:
    """What was forgotten of each language and what comes back with each shared part restored, a panel a model, seeds as points.

    Columns: variant, seed, language, part, recovered, forgotten (`continual.locate_drift`).
    """
    variants, languages = list(dict.fromkeys(drift.variant)), list(dict.fromkeys(drift.language))
    figure, axes = plt.subplots(1, len(variants), figsize=(2.4 + 3.6 * len(variants), 3.8), sharey=True, squeeze=False)
    bars = {"forgotten": "#333333", "embedding and head": "#0072B2", "common expert": "#E69F00", "both": "#009E73"}
    names = {"forgotten": "forgotten", **{part: f"comes back with {part} restored" for part in list(bars)[1:]}}
    for ax, variant in zip(axes[0], variants, strict=True):
        part = drift[drift.variant == variant]
        values = part.pivot_table(index=["language", "seed"], columns="part", values="recovered", sort=False)
        values.insert(0, "forgotten", part.groupby(["language", "seed"], sort=False).forgotten.first())
        for number, (name, color) in enumerate(bars.items()):
            places = np.arange(len(languages)) + (number - 1.5) * 0.2
            ax.bar(places, values[name].groupby("language", sort=False).mean()[languages], 0.18, color=color, label=names[name])
            for place, language in zip(places, languages, strict=True):
                ax.scatter([place] * len(values.loc[language]), values.loc[language, name], s=9, color="black", alpha=0.6, zorder=3, lw=0)
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xticks(range(len(languages)), [language_name(language) for language in languages])
        ax.set(title=variant)
        ax.grid(axis="x", visible=False)
    axes[0, 0].set(ylabel="nats per token")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def plot_sizes(sizes: pd.DataFrame) -> Figure:
    """Total and active parameters (millions) per model as paired bars. Indexed by model; columns: parameters, active_parameters."""
    figure, ax = plt.subplots(figsize=(7.2, 0.8 + 0.55 * len(sizes)))
    places, height = np.arange(len(sizes)), 0.38
    ax.barh(places - height / 2, sizes.parameters / 1e6, height, label="total", color="#9FB8C8")
    ax.barh(places + height / 2, sizes.active_parameters / 1e6, height, label="active per sequence", color="#0072B2")
    ax.set_yticks(places, sizes.index)
    ax.set(xlabel="million parameters")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    for container in ax.containers:
        ax.bar_label(container, fmt="{:.2f}", padding=2, fontsize=8)
    ax.margins(x=0.12)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure
