"""The strip of small panels at the head of README, a panel a surprise."""

import matplotlib.pyplot as plt

from mome.figures import style


def plot_surprises(panels: list[dict]) -> plt.Figure:
    """Draw bars with values, a numbered panel for each of `panels`: title, unit, rows of label and value.

    Two panels stand in a row; the last of an odd number has a row of its own.
    """
    figure = plt.figure(figsize=(8.6, 1.75 * -(-len(panels) // 2)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    grid = figure.add_gridspec(-(-len(panels) // 2), 2)
    colors = (style.ORANGE, style.BLUE, style.GREEN, style.PINK, "#6A51A3")
    for number, panel in enumerate(panels):
        is_alone = number == len(panels) - 1 and number % 2 == 0
        ax = figure.add_subplot(grid[number // 2, :] if is_alone else grid[number // 2, number % 2])
        labels, values = zip(*panel["rows"], strict=True)
        ax.barh(labels, values, color=colors[number % len(colors)], height=0.62)
        ax.axvline(0, color="#222222", lw=1)
        low, high = min(0, *values), max(0, *values)
        for place, value in enumerate(values):
            ax.text(max(0, value) + 0.02 * (high - low), place, tell_value(value), va="center", fontsize=10)
        ax.set(xlim=(low, high + 0.22 * (high - low)), xticks=[])
        ax.set_title(f"{number + 1}  {panel['title']}", fontsize=11.5)
        ax.set_xlabel(panel["unit"], fontsize=9)
        ax.tick_params("y", labelsize=10)
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.spines[["left", "bottom"]].set_visible(False)
    return figure


def tell_value(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.005 else f"{value:.2f}"
