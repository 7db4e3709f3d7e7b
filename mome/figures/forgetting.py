"""Figures of learning in stages: score matrices, curves over the stages, and where a modular model drifts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.colors import LogNorm, Normalize

from mome.figures import style
from mome.figures.arms import draw_curves, plot_matrix
from mome.languages import language_name


def plot_score_matrices(matrices: dict[str, pd.DataFrame], label: str, columns: int = 4,
                        percent: bool = False) -> plt.Figure:
    """Heat maps on one colour scale, so many side by side: row = after that stage, column = language.

    Perplexities on a log scale, dark is worse; with `percent` percentages from 0 to 100, dark is better.
    """
    values = np.concatenate([matrix.to_numpy().ravel() for matrix in matrices.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    norm = Normalize(0, 100) if percent else LogNorm(low, high)
    first, columns = next(iter(matrices.values())), min(columns, len(matrices))
    lines = -(-len(matrices) // columns)
    width, height = 0.2 + 0.62 * first.shape[1], 0.45 + 0.48 * len(first)
    figure, axes = style.start_grid(len(matrices), columns, width, height + 0.8 / lines, 2.2, sharey=True)
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        plot_matrix(matrix, label=label, row_label="", column_label="", cmap="crest" if percent else "flare",
                    form=".0f" if low >= 20 and not percent else ".1f", norm=norm, cbar=False, ax=ax)
        for cell in ax.texts:  # an untrained expert's guess may be a perplexity of a million
            cell.set_text(shorten_number(cell.get_text()))
        ax.grid(visible=False)
        ax.set_title(name, fontsize=9.5)
        ax.tick_params(axis="both", labelsize=8.5)
    figure.supxlabel("scored on", fontsize=9)
    figure.supylabel("after training on", fontsize=9)
    ticks = None if percent else ticker.LogLocator(subs=(1, 3) if high / low > 100 else (1, 1.5, 2, 3, 5, 7))
    style.add_colorbar(axes, label.replace(" (", "\n(", 1), ticks, "{x:,.0f}")
    return figure


def shorten_number(text: str) -> str:
    """Return 20395 as 20k and 1318674 as 1.3M; shorter numbers as they are."""
    value = float(text) if text else 0.0
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else text


def plot_stage_curves(history: pd.DataFrame, order: list[str], label: str) -> plt.Figure:
    """Perplexity over the stages, a panel an arm. Columns: arm, seed, total_tokens, perplexity_<language>."""
    n, palette = history.arm.nunique(), style.language_palette(order)
    figure, axes = style.start_grid(n, 1, 7.2, 0.3 + 2.6, 1.4, sharex=True, sharey=True)
    for ax, (arm, part) in zip(axes, history.groupby("arm", sort=False), strict=True):
        stage = part.total_tokens.max() / len(order) / 1e3
        for number, (language, color) in enumerate(palette.items()):
            draw_curves(ax, part, "total_tokens", f"perplexity_{language}", color, language, 4,
                        **style.language_look(language))
            ax.axvspan(number * stage, (number + 1) * stage, color=color, alpha=0.07, lw=0)
            ax.text((number + 0.5) * stage, 1.01, language_name(language), ha="center", fontsize=8.5,
                    transform=ax.get_xaxis_transform())
        ax.set(yscale="log", xlim=(0, 1.01 * stage * len(order)))
        ax.set_title(arm, pad=18)
        ax.minorticks_off()
        ax.yaxis.set(major_locator=ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), major_formatter="{x:,g}")
    axes[-1].set(xlabel="thousand training tokens seen")
    figure.supylabel(label, fontsize=9.5)
    return style.put_legend(axes[0])


def plot_drift(drift: pd.DataFrame) -> plt.Figure:
    """What was forgotten of each language, what comes back with a shared part restored, a panel a model.

    Seeds are points. Columns: variant, seed, language, part, recovered, forgotten (nats per token).
    """
    said, variants = "comes back with {} restored", list(drift.variant.unique())
    named = drift.assign(language=drift.language.map(language_name))
    lost = named.drop_duplicates(["variant", "seed", "language"])
    bars = pd.concat([lost.assign(bar="forgotten", nats=lost.forgotten),
                      named.assign(bar=named.part.map(said.format), nats=named.recovered)])
    palette = {"forgotten": "#333333", said.format("embedding and head"): style.BLUE,
               said.format("common expert"): "#E69F00", said.format("both"): style.GREEN}
    _, axes = style.start_panels(len(variants), 2.4 + 3.6 * len(variants), 3.8)
    for ax, variant in zip(axes, variants, strict=True):
        shown = {"data": bars[bars.variant == variant], "x": "language", "y": "nats", "hue": "bar", "ax": ax}
        sns.barplot(**shown, hue_order=list(palette), palette=palette, saturation=1, errorbar=None, gap=0.1,
                    legend=ax is axes[-1])
        sns.stripplot(**shown, hue_order=list(palette), palette=dict.fromkeys(palette, "black"), dodge=True,
                      jitter=False, size=3, alpha=0.6, zorder=3, legend=False)
        for bars_of_part, hatch in zip(ax.containers, ("", "//", "..", "xx"), strict=False):
            for bar in bars_of_part:
                bar.set(hatch=hatch, edgecolor="white", linewidth=0)
        ax.autoscale(axis="x")
        ax.axhline(0, color="black", lw=0.8)
        ax.set(title=variant, xlabel="")
        ax.grid(axis="x", visible=False)
    axes[0].set(ylabel="nats per token")
    return style.put_legend(axes[-1], title="")
