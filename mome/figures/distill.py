"""Figures of distillation: alpha and both terms while training, steadiness, cache, budgets, microscope."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mome.evaluate.intervals import mean_interval
from mome.figures import style
from mome.figures.arms import draw_curves, draw_seeds, plot_matrix


def plot_alpha_traces(history: pd.DataFrame) -> plt.Figure:
    """alpha at every optimizer step, a row per arm, a line per seed; how often it is exactly 0.5.

    On the left all of the dial, from 0 to 1; on the right only what the arm uses of it.
    """
    n = history.arm.nunique()
    figure, axes = plt.subplots(n, 2, figsize=(8.4, 1.0 + 1.3 * n), sharex=True, squeeze=False)
    for (ax, near), (arm, part) in zip(axes, history.groupby("arm", sort=False), strict=True):
        alternates = part.alpha.isin([0.0, 1.0]).all()
        look = {"lw": 0, "marker": ".", "ms": 1.5} if alternates else {"lw": 1.3, "alpha": 0.8}
        for _, seed in part.groupby("seed"):
            for each in (ax, near):
                each.plot(seed.step, seed.alpha, color=style.BLUE, **look)
        near.locator_params(axis="y", nbins=4)
        ax.set(ylim=(-0.08, 1.08), yticks=[0, 0.5, 1])
        low, mean, high = part.alpha.agg(["min", "mean", "max"])
        ax.set_title(f"{arm}: exactly 0.5 at {100 * (part.alpha == 0.5).mean():.0f} % of steps", fontsize=9)
        near.set_title(f"magnified: mean {mean:.3f}, {low:.3f} to {high:.3f}", fontsize=9, weight="normal")
    figure.supxlabel("optimizer step", fontsize=9)
    figure.supylabel("alpha (weight of hard labels)", fontsize=9)
    return figure


def plot_terms(history: pd.DataFrame, window: int = 9) -> plt.Figure:
    """Both terms of the loss while training: nats per token, and the norm of their gradients at the logits.

    Columns: seed, step, ce_loss, kd_loss, ce_grad_norm, kd_grad_norm. Running medians, their mean thick.
    """
    _, axes = plt.subplots(1, 2, figsize=(9.4, 3.6))
    terms = (("ce", "hard labels (CE)", style.BLUE, "-"), ("kd", "teacher (KD)", style.ORANGE, "--"))
    panels = (("loss", "loss", f"nats per token ({style.LOWER})"),
              ("grad_norm", "gradient at the logits", "root mean square over tokens"))
    for ax, (what, title, label) in zip(axes, panels, strict=True):
        for term, name, color, dash in terms:
            curves = history.pivot(index="step", columns="seed", values=f"{term}_{what}")
            curves = curves.rolling(window, center=True, min_periods=1).median()
            ax.plot(curves, color=color, lw=0.7, alpha=0.5)
            ax.plot(curves.mean(axis=1), color=color, ls=dash, lw=2.2, label=name)
        ax.set(xlabel="optimizer step", ylabel=label, title=title)
    axes[1].set_ylim(bottom=0)
    return style.put_legend(axes[1])


def plot_cache_bias(table: pd.DataFrame) -> plt.Figure:
    """Bias and gradient error of KL from cached targets by their bytes. Columns: those of `measure_bias`."""
    _, axes = plt.subplots(1, 2, figsize=(9.4, 3.6))
    looks = (("drawn", "top half + draws", style.GREEN, "o"),
             ("lumped", "top k + lumped tail", style.BLUE, "s"),
             ("dropped", "top k alone", style.ORANGE, "D"))
    for ax, column in zip(axes, ("bias", "gradient_error"), strict=True):
        for tail, name, color, marker in looks:
            part = table[table["tail"] == tail]
            mean = part.groupby("bytes_per_token")[column].mean()
            ax.plot(mean, color=color, lw=1.8, label=name, marker=marker, ms=4)
            ax.scatter(part.bytes_per_token, part[column], s=12, color=color, alpha=0.6, lw=0, marker=marker)
        ax.set(xlabel="bytes per token in the cache (log scale)")
        style.set_log_ticks(ax, table.bytes_per_token)
    axes[0].axhline(0, color="black", lw=1)
    axes[1].set_yscale("log")
    style.label_log_axis(axes[1].yaxis)
    axes[0].set(ylabel="cached minus full KL, nats per token\n(0 is unbiased)")
    axes[1].set(ylabel=f"error of the mean gradient, relative\n(log scale, {style.LOWER})")
    return style.put_legend(axes[1])


def plot_budgets(table: pd.DataFrame, gains: pd.DataFrame, teacher: float) -> plt.Figure:
    """What students reach by the tokens they read, one arm a colour; what the teacher saves, with intervals.

    `table`: arm (two), seed, tokens, nats_per_token. `gains`: seed, tokens, gain. `teacher`: its own level.
    """
    table, gains = (each.sort_values("tokens", kind="stable") for each in (table, gains))
    _, (levels, gap) = plt.subplots(1, 2, figsize=(10.4, 3.9))
    looks = (style.BLUE, "o", "-"), (style.GREEN, "s", "--")
    for (arm, part), (color, marker, dash) in zip(table.groupby("arm", sort=False), looks, strict=True):
        draw_curves(levels, part, "tokens", "nats_per_token", color, arm, 6, marker, dash)
    style.draw_level(levels, teacher, "teacher", 0.01, "left")
    draw_curves(gap, gains, "tokens", "gain", style.GREEN, "gain", 6)
    found = {tokens / 1e3: mean_interval(part.to_numpy()) for tokens, part in gains.groupby("tokens").gain}
    means, lows, highs = np.transpose([*found.values()])
    gap.errorbar([*found], means, [means - lows, highs - means], fmt="none", color=style.GREEN, capsize=4)
    style.annotate_points(gap, map("{:+.3f}".format, means), found, highs, rise=8)
    gap.axhline(0, color="black", lw=1)
    for ax in (levels, gap):
        style.set_log_ticks(ax, (table.tokens / 1e3).round(1))
        ax.set(xlabel="thousand tokens that the student reads (log scale)", xmargin=0.1, ymargin=0.15)
    levels.set(title="what students reach", ylabel=f"held-out nats per token ({style.LOWER})")
    gap.set(title="what the teacher saves them", ylabel=f"nats per token ({style.HIGHER})")
    levels.legend(fontsize=8.5)
    return levels.figure


def plot_loss_by_position(table: pd.DataFrame, alpha: float) -> plt.Figure:
    """Hard-label and KD part of each token's loss, percent; hatched the teacher's own entropy.

    Columns: those of `loss_by_position`.
    """
    total, beta = (alpha * table.ce + (1 - alpha) * table.kd).sum() / 100, 1 - alpha
    shares = pd.DataFrame({f"hard label, alpha = {alpha:g}": alpha * table.ce / total,
                           f"teacher, 1 - alpha = {beta:g}": beta * (table.kd - table.entropy) / total,
                           "of it the teacher's own entropy": beta * table.entropy / total})
    size, colors = (max(7.0, 0.3 * len(table)), 3.8), [style.BLUE, style.ORANGE, "white"]
    ax = shares.plot.bar(stacked=True, figsize=size, width=0.8, color=colors, xlabel="token to predict",
                         ylabel="share of the sequence's loss, percent")
    for bar in ax.containers[2]:
        bar.set(hatch="////", edgecolor=style.ORANGE, linewidth=0.5)
    ax.set_xticks(range(len(table)), map(style.visible, table.token), size=8, family="monospace")
    ax.set(xlim=(-0.7, len(table) - 0.3), ylim=(0, 1.15 * shares.sum(axis=1).max()))
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right", fontsize=8.5, ncols=3)
    return ax.figure


def plot_steadiness(cycles: pd.DataFrame, wobble: pd.DataFrame, nats: pd.DataFrame, baseline: str,
                    margin: float) -> plt.Figure:
    """Each way of alternating against both losses in every step (the line): three measures, points are seeds.

    `cycles`: arm, seed, tokens, ratio, formula (traces over the baseline's): single weights stand below the
    seeds' means of their logarithms, the formula's mean is a diamond. `wobble` (arm, seed, wobble) and `nats`
    (arm, seed, nats_per_token) are drawn as paired differences from the baseline, `margin` is shaded.
    """
    def subtract(table):
        wide = table.set_index(["arm", "seed"]).iloc[:, 0].unstack("seed")
        return wide - wide.loc[baseline]

    cycles, differences = cycles[cycles.arm != baseline], [subtract(wobble), subtract(nats)]
    arms, tokens = list(cycles.arm.unique())[::-1], sorted(cycles.tokens.unique())
    colors = dict(zip(tokens, (style.GREY, *style.SERIES_COLORS[1:]), strict=False))
    _, axes = style.start_panels(3, 10.8, 1.9 + 0.7 * len(arms))
    for height, arm in enumerate(arms):
        part = cycles[cycles.arm == arm]
        seeds = np.exp(np.log(part.ratio).groupby(part.seed).mean())
        draw_seeds(axes[0], seeds.to_numpy(), height, style.BLUE, log=True)
        for number, (read, color) in enumerate(colors.items(), 1):
            ratios = part.ratio[part.tokens == read]
            below = np.full(len(ratios), height - 0.2 - 0.08 * number)
            axes[0].scatter(ratios, below, s=16, lw=0, color=color, marker=style.MARKERS[number - 1])
        axes[0].plot(part.formula.mean(), height, "D", ms=6, mfc="none", mec=style.ORANGE, zorder=5)
        for ax, table in zip(axes[1:], differences, strict=True):
            draw_seeds(ax, table.loc[arm].dropna().to_numpy(), height, style.BLUE, log=False)
    for (read, color), marker in zip(colors.items(), style.MARKERS * len(colors), strict=False):
        axes[2].plot([], [], marker, ms=4, color=color, label=f"{read / 1e3:.0f}" if read else "untrained")
    axes[2].plot([], [], "D", mfc="none", mec=style.ORANGE, label="formula")
    titles = {"gradient of a cycle": f"covariance, as a\nmultiple of {baseline}'s",
              "wobble of the held-out loss": f"nats more than\n{baseline}",
              "quality at the end": f"nats per token more\n({style.LOWER})"}
    for ax, (title, label), same in zip(axes, titles.items(), (1, 0, 0), strict=True):
        ax.axvline(same, color="black", lw=1)
        ax.set_title(title, fontsize=9)
        ax.set(xlabel=label, ylim=(-0.8, len(arms) - 0.4), xmargin=0.15)
        ax.locator_params(axis="x", nbins=5)
        if ax is not axes[0]:
            ax.axvspan(-margin, margin, color=style.GREY, alpha=0.15, lw=0)
    axes[0].set_yticks(range(len(arms)), arms)
    return style.put_legend(axes[2], title="left panel, thousand\ntokens read", title_fontsize=8.5)


def plot_seed_grid(grid: pd.DataFrame, parts: pd.Series) -> plt.Figure:
    """What a seed changes: nats by initialisation (rows) and order of text, and how much each spreads.

    `grid`: nats per token, indexed by both seeds. `parts`: standard deviations by their names.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.2))
    plot_matrix(grid, label="nats per token", row_label="seed of the weights",
                column_label="seed of the order of text", form=".3f", ax=left)
    right.barh(list(parts.index), parts, color=[style.BLUE, style.GREEN, "#7F7F7F"][:len(parts)], height=0.55)
    style.annotate_bars(right, "{:.4f}")
    right.set(xlabel="standard deviation, nats per token", xmargin=0.2)
    right.locator_params(axis="x", nbins=4)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    return left.figure
