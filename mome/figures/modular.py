"""Figures of modular models: every way of using them, and their sizes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.colors import LogNorm

from mome.figures import style


def plot_switches(table: pd.DataFrame, value: str, label: str) -> plt.Figure:
    """Every way of using a modular model as a row, languages as columns, a heat map a variant, one scale.

    Columns: variant, group (a line between groups), use, language and `value`; seeds are averaged.
    """
    uses, variants, languages = (list(table[name].unique()) for name in ("use", "variant", "language"))
    groups = table.drop_duplicates("use").group.to_numpy()
    norm = LogNorm(table[value].min(), table[value].max())
    width, height = 0.2 + 0.52 * len(languages), 0.5 + 0.27 * len(uses)
    figure, axes = style.start_grid(len(variants), 3, width, height, 2.9, sharey=True)
    for ax, variant in zip(axes, variants, strict=True):
        means = table[table.variant == variant].pivot_table(index="use", columns="language", values=value)
        style.draw_heat_map(means.reindex(index=uses, columns=languages), ax, fmt=".2f", norm=norm,
                            annot_kws={"size": 8}, cmap="flare", cbar=False, linewidths=0.5)
        for place in np.flatnonzero(groups[1:] != groups[:-1]) + 1:
            ax.axhline(place, color="black", lw=1.2)
        ax.grid(visible=False)
        ax.set(xlabel="", ylabel="")
        ax.set_title(variant, fontsize=9)
        ax.tick_params(axis="both", labelsize=8.5)
    figure.supxlabel("scored on", fontsize=9)
    style.add_colorbar(axes, label, ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), "{x:,g}")
    return figure


def plot_sizes(sizes: pd.DataFrame) -> plt.Figure:
    """All and active parameters per model (the index). Columns: parameters, active_parameters."""
    named = {"parameters": "total", "active_parameters": "active per sequence"}
    millions = sizes[list(named)].rename(columns=named) / 1e6
    size = (7.2, 0.8 + 0.55 * len(sizes))
    ax = millions.plot.barh(figsize=size, width=0.76, color=["#9FB8C8", style.BLUE])
    ax.set(xlabel="million parameters", ylabel="", xmargin=0.12)
    ax.autoscale(axis="y")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    style.annotate_bars(ax, "{:.2f}")
    return style.put_legend(ax)
