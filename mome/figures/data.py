"""Figures of the data set: what was read and kept, its languages, its vocabulary."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from mome.figures import style
from mome.figures.arms import plot_language_bars
from mome.languages import language_name


def plot_token_balance(stages: pd.DataFrame) -> plt.Figure:
    """Bars per language of thousand `tokens`, a panel per `stage`. Columns: stage, language, tokens."""
    names, languages = stages.stage.unique(), list(stages.language.unique())
    figure, axes = style.start_panels(len(names), 3.3 * len(names), 3.2, sharey=False)
    for ax, name in zip(axes, names, strict=True):
        tokens = stages[stages.stage == name].set_index("language").tokens[languages] / 1e3
        form = "{:,.0f}" if tokens.min() >= 10 else "{:,.2f}"
        plot_language_bars(tokens, "thousand tokens", form, ax=ax, width=0.8)
        ax.set(title=name)
    return figure


def plot_steps(steps: pd.DataFrame) -> plt.Figure:
    """Bars of million `characters` left after each step. Columns: step, language, characters."""
    palette = {language_name(x): color for x, color in style.language_palette(steps.language).items()}
    named = steps.assign(language=steps.language.map(language_name), characters=steps.characters / 1e6)
    _, ax = plt.subplots(figsize=(2.2 + 1.5 * steps.step.nunique(), 3.8))
    sns.barplot(named, x="step", y="characters", hue="language", palette=palette, saturation=1, errorbar=None,
                width=0.82, gap=0.06, ax=ax)
    style.annotate_bars(ax, "%.2g", padding=1.5, size=6.5)
    ax.autoscale(axis="x")  # seaborn leaves half a bar too much at either end
    ax.set(xlabel="", ylabel="million characters")
    ax.grid(axis="x", visible=False)
    return style.put_legend(ax)


def plot_planted_copies(planted: pd.DataFrame, threshold: float) -> plt.Figure:
    """Similarity by words exchanged, filled where found. Columns: language, percent, similarity, found."""
    palette, steps = style.language_palette(planted.language), sorted(planted.percent.unique())
    _, ax = plt.subplots(figsize=(7.2, 3.8))
    for number, (language, color) in enumerate(palette.items()):
        part = planted[planted.language == language]
        x = part.percent.map(steps.index) + (number - (len(palette) - 1) / 2) * 0.19
        marker = style.language_look(language)["marker"]
        for chosen, face in ((part.found, color), (~part.found, "none")):
            ax.scatter(x[chosen], part.similarity[chosen], s=13, facecolors=face, edgecolors=color, lw=0.8,
                       alpha=0.75, marker=marker)
        ax.scatter([], [], s=16, color=color, marker=marker, label=language_name(language))
    ax.axhline(threshold, color="black", ls="--", lw=1)
    ax.text(len(steps) - 0.4, threshold + 0.015, f"threshold {threshold:g}", ha="right", fontsize=8.5)
    for name, face in (("found", style.GREY), ("not found", "none")):
        ax.scatter([], [], s=16, facecolors=face, edgecolors=style.GREY, label=name)
    ax.set(xlabel="words exchanged, percent", ylabel="Jaccard similarity with the original",
           ylim=(-0.03, 1.03), xticks=range(len(steps)), xticklabels=[f"{step:g}" for step in steps])
    return style.put_legend(ax)


def plot_fertility(fertility: pd.DataFrame) -> plt.Figure:
    """Tokens per word, log scale, a row per tokenizer. Columns: tokenizer, language, tokens_per_word."""
    palette = {language_name(x): color for x, color in style.language_palette(fertility.language).items()}
    named = fertility.assign(language=fertility.language.map(language_name))
    _, ax = plt.subplots(figsize=(7.6, 1.2 + 0.45 * fertility.tokenizer.nunique()))
    sns.stripplot(named, x="tokens_per_word", y="tokenizer", hue="language", palette=palette, dodge=True,
                  jitter=False, size=6, log_scale=True, ax=ax)
    for height in range(fertility.tokenizer.nunique() - 1):
        ax.axhline(height + 0.5, color="lightgrey", lw=0.7)
    ax.set(xlabel=f"tokens per word (log scale, {style.LOWER})", ylabel="")
    style.label_log_axis(ax.xaxis)
    return style.put_legend(ax)


def plot_article_lengths(articles: pd.DataFrame) -> plt.Figure:
    """Distribution of article lengths (log scale), medians marked. Columns: language, n_tokens."""
    palette = style.language_palette(articles.language)
    figure, ax = plt.subplots(figsize=(7.2, 3.6))
    sns.kdeplot(articles, x="n_tokens", hue="language", palette=palette, log_scale=True, common_norm=False,
                ax=ax, lw=2, legend=False)
    top = ax.get_ylim()[1]
    for number, (language, color) in enumerate(palette.items()):
        median = articles[articles.language == language].n_tokens.median()
        ax.axvline(median, color=color, ls=":", lw=1.2)
        ax.text(0.965, 0.93 - 0.08 * number, f"{language_name(language)}: median {median:,.0f}", ha="right",
                transform=ax.transAxes)
        ax.plot(0.985, 0.95 - 0.08 * number, "s", color=color, ms=7, transform=ax.transAxes)
    ax.set(xlabel="tokens per article (log scale)", ylabel="density per language", ylim=(0, top))
    low, high = ax.get_xlim()
    if high < 100 * low:
        style.label_log_axis(ax.xaxis)
    return figure
