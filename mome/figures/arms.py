"""Figures that any chapter may use: arms, their differences, curves, lines, heat maps, bars."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from mome.evaluate.intervals import mean_interval
from mome.figures import style
from mome.languages import language_name


def plot_arms(table: pd.DataFrame, value: str, label: str, *, arm: str = "arm", panel: str = "language",
              log: bool = False, bounds: dict[str, dict[str, float]] | None = None,
              label_width: float = 2.2) -> plt.Figure:
    """Every seed as a point, the mean as a bar, a 95 % t interval for two seeds or more; a panel per `panel`.

    Two panels stand in a row. A single one has its best arm on top. Panels of languages share their unit, so
    none is stretched more than four times as much as another. An arm whose seeds are all the same is hollow.
    With `log` the axis is logarithmic and mean and interval are taken of logarithms, as suits perplexity.
    `bounds` maps a name to {panel value: level}, drawn as a dashed line. `label_width`, in inches, is the
    room for the arms' names.
    """
    panels, arms = list(table[panel].unique()), list(table[arm].unique())[::-1]
    if len(panels) == 1:
        arms.sort(key=table.groupby(arm)[value].mean().get, reverse=True)
    figure, axes = style.start_grid(len(panels), 2, 2.9, 1.5 + 0.42 * len(arms), label_width, sharey=True)
    colors = style.language_palette(panels) if panel == "language" else dict.fromkeys(panels, style.BLUE)
    for ax, (name, color) in zip(axes, colors.items(), strict=True):
        part = table[table[panel] == name]
        for height, arm_name in enumerate(arms):
            if (part[arm] == arm_name).any():
                draw_seeds(ax, part[part[arm] == arm_name][value].to_numpy(), height, color, log)
        for bound, levels in (bounds or {}).items():
            if name in levels:
                ax.axvline(levels[name], color=style.GREY, ls="--", lw=1)
                ax.text(levels[name], -0.72, f" {bound}", size=7.5, color=style.GREY, ha="left", va="bottom")
        ax.set(title=language_name(name), xlabel=label, ylim=(-0.75, len(arms) - 0.25), xmargin=0.15,
               yticks=range(len(arms)), yticklabels=arms)
        if log:
            ax.set_xscale("log")
    if panel == "language":
        even_out(axes)
    for ax in axes:
        if log:
            ax.xaxis.set(major_locator=ticker.MaxNLocator(5, steps=[1, 2, 5, 10]),
                         major_formatter="{x:,.0f}", minor_locator=ticker.NullLocator())
        else:
            ax.xaxis.set_major_locator(ticker.MaxNLocator(4))
    return figure


def even_out(axes: np.ndarray) -> None:
    """Widen x axes until each spans a quarter of what the widest does, of logarithms where they are shown."""
    scales = [ax.xaxis.get_transform() for ax in axes]
    ranges = [scale.transform(np.array(ax.get_xlim())) for scale, ax in zip(scales, axes, strict=True)]
    least = max(high - low for low, high in ranges) / 4
    for ax, scale, (low, high) in zip(axes, scales, ranges, strict=True):
        more = max(0.0, least - (high - low)) / 2
        if more:
            ax.set_xlim(scale.inverted().transform(np.array([low - more, high + more])))


def draw_seeds(ax: plt.Axes, values: np.ndarray, height: float, color: str, log: bool) -> None:
    """Draw `values` as points at `height`, with their mean and its interval, of logarithms with `log`."""
    mean, low, high = np.exp(mean_interval(np.log(values))) if log else mean_interval(values)
    is_same = len(values) > 1 and np.ptp(values) == 0
    look = {"facecolors": "white", "edgecolors": color, "lw": 1.4} if is_same else {
        "color": color, "alpha": 0.55, "lw": 0}
    size, front = (36, 5) if is_same else (22, 3)
    ax.scatter(values, np.full(len(values), height), s=size, zorder=front, **look)
    ax.plot([mean, mean], [height - 0.25, height + 0.25], color=color, lw=2.4, zorder=4)
    ax.plot([low, high], [height, height], color=color, lw=1.4)
    style.annotate_points(ax, [tell_mean(mean)], [mean], [height + 0.25], rise=1)


def plot_differences(comparisons: pd.DataFrame, label: str, margin: float | None = None) -> plt.Figure:
    """Each arm minus its baseline, mean and 95 % interval, best on top; hollow where it cannot tell.

    Columns: those of `compare_arms`. One seed has no interval, only its mean. `margin` is shaded.
    """
    table = comparisons.sort_values("difference", ascending=False).reset_index(drop=True)
    _, ax = plt.subplots(figsize=(7.8, 1.2 + 0.33 * len(table)))
    looks = {"better": {"color": style.GREEN, "marker": "<"}, "worse": {"color": style.ORANGE, "marker": ">"},
             "equal": {"color": style.GREY, "marker": "s"},
             "cannot tell": {"color": style.GREY, "marker": "o", "mfc": "white"}}
    for height, row in enumerate(table.itertuples()):
        ax.plot([row.low, row.high], [height, height], color=looks[row.verdict]["color"], lw=1.6)
        ax.plot(row.difference, height, ms=6.5, **looks[row.verdict])
    style.annotate_points(ax, table.difference.map(tell_difference), table.difference, table.index)
    ax.axvline(0, color="black", lw=1)
    if margin is not None:
        ax.axvspan(-margin, margin, color=style.GREY, alpha=0.15, lw=0)
    for verdict, look in looks.items():
        ax.plot([], [], ls="", label=verdict, **look)
    ax.set(xlabel=label, ylim=(-0.7, len(table) - 0.3), xmargin=0.1)
    ax.set_yticks(table.index, table.arm)
    return style.put_legend(ax, title=f"than {table.baseline[0]}", title_fontsize=8.5)


def tell_mean(value: float) -> str:
    """Return four digits, though they be zeros; two of a number below one hundredth."""
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:#.4g}".rstrip(".")


def tell_difference(value: float) -> str:
    """Return a difference with its sign and three decimals, a fourth where these would be zeros."""
    return f"{value:+.4f}" if 0 < abs(value) < 0.0005 else f"{value:+.3f}"


def plot_learning_curves(history: pd.DataFrame, value: str, label: str, by: str, colors: dict[str, str],
                         reference: dict[str, float] | None = None) -> plt.Figure:
    """`value` against tokens seen, a colour per `by`: seeds as thin lines, their mean as a thick one."""
    _, ax = plt.subplots(figsize=(7.6, 4))
    for name, part in history.dropna(subset=[value]).groupby(by, sort=False):
        draw_curves(ax, part, "tokens", value, colors[name], name, 4, **style.language_look(name))
    for name, level in (reference or {}).items():
        style.draw_level(ax, level, name, 0.01, "left")
    ax.set(xlabel="thousand training tokens seen", ylabel=label)
    return style.put_legend(ax)


def draw_curves(ax: plt.Axes, part: pd.DataFrame, x: str, y: str, color, name: str, ms: float,
                marker: str = "o", ls="-") -> None:
    """Draw `y` against thousands of `x`: a thin line per seed, their mean as a thick one."""
    for _, seed in part.groupby("seed"):
        ax.plot(seed[x] / 1e3, seed[y], color=color, lw=0.7, alpha=0.5)
    mean = part.groupby(x)[y].mean()
    ax.plot(mean.index / 1e3, mean, color=color, lw=2.2, marker=marker, ls=ls, ms=ms,
            label=language_name(name))


def plot_rates(table: pd.DataFrame, label: str) -> plt.Figure:
    """Nats per token against the learning rate, a panel per arm, a line per optimizer, seeds as points.

    Columns: arm, optimizer, factor (of the scale's rate, which is dotted), seed, nats_per_token. A line is
    the mean, its lowest point filled. Four panels stand in a row and share its y axis.
    """
    arms, n = table.arm.unique(), min(4, table.arm.nunique())
    palette = style.BLUE, style.ORANGE, style.OTHER_COLORS[1], style.OTHER_COLORS[0]
    colors = dict(zip(table.optimizer.unique(), palette, strict=False))
    dashes = dict(zip(colors, style.DASHES * len(colors), strict=False))
    size = 2.4 + 2.3 * n, 0.7 + 2.3 * -(-len(arms) // n)
    figure, axes = plt.subplots(-(-len(arms) // n), n, figsize=size, sharey="row", squeeze=False)
    for ax, arm in zip(axes.flat, arms, strict=False):
        for name, part in table[table.arm == arm].groupby("optimizer", sort=False):
            mean, color = part.groupby("factor").nats_per_token.mean(), colors[name]
            ax.scatter(part.factor, part.nats_per_token, s=10, color=color, alpha=0.5, lw=0)
            ax.plot(mean, color=color, lw=1.7, ls=dashes[name])
            ax.plot(mean.idxmin(), mean.min(), "o", ms=7, color=color)
        ax.axvline(1, color=style.GREY, ls=":", lw=1.2, zorder=0)
        ax.set_title(arm, fontsize=9)
        style.set_log_ticks(ax, table.factor)
    for ax in axes.flat[len(arms):]:
        ax.remove()
    for name, color in colors.items():
        axes[0, -1].plot([], [], marker="o", ls=dashes[name], color=color, label=name)
    figure.supxlabel("learning rate, as a multiple of the scale's (log scale)", fontsize=9.5)
    figure.supylabel(label, fontsize=9.5)
    return style.put_legend(axes[0, -1])


def plot_lines(table: pd.DataFrame, x: str, y: str, by: str, xlabel: str, ylabel: str, *,
               panel: str | None = None, bounds: dict[str, float] | None = None,
               colors: dict[str, str] | None = None, log_x: bool = False, markers: bool = True) -> plt.Figure:
    """Mean `y` by `x`, a line per value of `by`, a panel per `panel`; `bounds` maps names to levels."""
    panels = list(table[panel].unique()) if panel else [None]
    names = list(table[by].unique())
    colors = colors or dict(zip(names, style.SERIES_COLORS * len(names), strict=False))
    _, axes = style.start_panels(len(panels), 3.0 + 3.4 * len(panels) + 1.6 * (len(panels) == 1), 3.8)
    for ax, title in zip(axes, panels, strict=True):
        part = table if panel is None else table[table[panel] == title]
        for number, name in enumerate(names):
            line = part[part[by] == name].groupby(x)[y].mean()
            marker, dash = style.series_look(colors[name], number)
            ax.plot(line, marker=marker if markers else "", ls=dash, ms=4.5, lw=1.7, color=colors[name],
                    label=language_name(name).replace("_", " "))
        for name, level in (bounds or {}).items():
            style.draw_level(ax, level, name, 0.99, "right")
        ax.set(xlabel=xlabel, title="" if title is None else language_name(title))
        if log_x:
            style.set_log_ticks(ax, table[x])
        elif table[x].nunique() <= 8 and (table[x] % 1 == 0).all():
            ax.set_xticks(np.unique(table[x]))
    axes[0].set(ylabel=ylabel)
    return style.put_legend(axes[-1])


def plot_intervals(table: pd.DataFrame, row: str, by: str, label: str) -> plt.Figure:
    """`value` with its interval `low` to `high`, a row per value of `row`, a colour per value of `by`."""
    rows, names = table[row].unique()[::-1], table[by].unique()
    _, ax = plt.subplots(figsize=(7.8, 1.2 + 0.45 * len(rows)))
    colors = (style.BLUE, style.ORANGE, style.GREEN, style.PINK)
    for number, (name, color, marker) in enumerate(zip(names, colors, style.MARKERS, strict=False)):
        part = table[table[by] == name].set_index(row).loc[rows]
        heights = np.arange(len(rows)) - (number - (len(names) - 1) / 2) * 0.22
        ax.errorbar(part.value, heights, xerr=[part.value - part.low, part.high - part.value], fmt=marker,
                    color=color, capsize=3, lw=1.4, label=name)
        style.annotate_points(ax, part.value.map("{:.4f}".format), part.value, heights, rise=4)
    ax.set(xlabel=label, ymargin=0.15)
    ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    return style.put_legend(ax)


def plot_matrix(matrix: pd.DataFrame, *, label: str, row_label: str, column_label: str, form: str = ".2f",
                cmap: str = "crest", ax: plt.Axes | None = None, **limits) -> plt.Figure:
    """A labelled heat map; rows and columns that are languages are written out. `limits` are seaborn's."""
    ax = ax or plt.subplots(figsize=(1.6 + 1.0 * matrix.shape[1], 1.3 + 0.55 * matrix.shape[0]))[1]
    style.draw_heat_map(matrix.rename(index=language_name, columns=language_name), ax, fmt=form, cmap=cmap,
                        cbar_kws={"label": label}, linewidths=1, **limits)
    ax.set(xlabel=column_label, ylabel=row_label)
    return ax.figure


def plot_language_bars(values: pd.Series, label: str, form: str = "{:.2f}", *, ax: plt.Axes | None = None,
                       width: float = 0.65) -> plt.Figure:
    """One bar per language. `values` is indexed by language; `label` holds unit and direction."""
    ax = ax or plt.subplots(figsize=(1.6 + 0.9 * max(3, len(values)), 3.8))[1]
    palette = style.language_palette(values.index)
    ax.bar([language_name(x) for x in palette], values, color=list(palette.values()), width=width)
    ax.set(ylabel=label, ymargin=0.12)
    ax.grid(axis="x", visible=False)
    style.annotate_bars(ax, form)
    return ax.figure
