"""What drawings are made of: a page measured in inches, boxes, arrows, a modular model's parts, a key."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

from mome.figures import style

INK, SIZE = "#222222", 9.0
# How a part looks by what happens to it: fill, edge, line, hatch. Said in words wherever there is room.
LOOKS = {"trained": ("#BFDDF2", style.BLUE, "-", ""), "frozen": ("#F2F2F2", "#808080", "-", "////"),
         "not yet trained": ("white", "#808080", ":", ""), "plain": ("white", INK, "-", ""),
         "teacher": ("#FBE3D3", style.ORANGE, "-", ""), "targets": ("#FBE3D3", style.ORANGE, "--", ""),
         "asked": ("#BFE6D9", style.GREEN, "-", ""), "resting": ("white", "#808080", ":", "")}


def start_page(width: float, height: float) -> plt.Axes:
    """Return axes that fill a figure and whose units are inches, from the lower left corner."""
    ax = style.start_bare(width, height).add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.set_axis_off()
    return ax


def put_text(ax: plt.Axes, x: float, y: float, text: str, **options) -> None:
    usual = {"size": SIZE, "color": INK, "ha": "center", "va": "center", "linespacing": 1.25}
    if "\n" not in text:  # words with and without a tail stand on one line
        usual["va"] = "center_baseline"
    ax.text(x, y, text, **{**usual, **options})


def put_box(ax: plt.Axes, x: float, y: float, width: float, height: float, text: str = "",
            look: str = "plain", rise: float = 0.0, **options) -> None:
    """Draw a box by its lower left corner, its text `rise` above the middle, on a hatch with a ground."""
    fill, edge, line, hatch = LOOKS[look]
    shape = "round,pad=0,rounding_size=0.06" if min(width, height) > 0.3 else "square,pad=0"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=fill, ec=edge, ls=line, lw=1.3,
                                hatch=hatch, hatch_linewidth=0.4))
    ground = {"bbox": {"fc": fill, "ec": "none", "pad": 0.8}} if hatch else {}
    if text:
        put_text(ax, x + width / 2, y + height / 2 + rise, text, **ground, **options)


def put_arrow(ax: plt.Axes, start: tuple, end: tuple, bend: float = 0.0, color: str = INK,
              lw: float = 1.3) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": lw, "shrinkA": 0,
                                            "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}"})


def put_strip(ax: plt.Axes, x: float, y: float, width: float, color: str) -> None:
    """Draw a strip, in a language's colour."""
    ax.add_patch(Rectangle((x, y), width, 0.07, color=color, lw=0))


def put_model(ax: plt.Axes, x: float, y: float, width: float, height: float, bodies: dict[str, str],
              shared: str = "", common: str = "") -> None:
    """Draw a modular model from below: embedding, bodies {language: look}, at their right a common one, head.

    `shared` is the look of embedding and head; without one each body has a small pair of its own, which
    looks as the body does. `common` is the look of the common expert; it, and a body
    called all, have no language.
    """
    n, gap, bar, palette = len(bodies) + bool(common), 0.06, 0.2, style.language_palette(bodies)
    wide, middle = (width - gap * (n - 1)) / n, (y + bar + 0.05, height - 2 * bar - 0.1)
    for place, (language, look) in enumerate([*bodies.items(), *([("all", common)] if common else [])]):
        left = x + place * (wide + gap)
        said = language if wide > 0.17 else ""  # where there is no room its colour tells it
        put_box(ax, left, middle[0], wide, middle[1], said, look, size=SIZE - 0.5, rise=0.04)
        if language != "all":
            put_strip(ax, left + 0.02, middle[0] + 0.02, wide - 0.04, palette[language])
        for bottom in () if shared else (y, y + height - bar):
            put_box(ax, left, bottom, wide, bar, "", look)
    if shared:
        for bottom, word in ((y, "embedding"), (y + height - bar, "head")):
            put_box(ax, x, bottom, width, bar, word, shared, size=SIZE - 0.5)


def put_key(ax: plt.Axes, x: float, y: float, looks: dict[str, str], step: float) -> None:
    """Draw {look: what it means} in a row, `step` inches apart."""
    for place, (look, meaning) in enumerate(looks.items()):
        put_box(ax, x + place * step, y - 0.09, 0.3, 0.18, "", look)
        put_text(ax, x + place * step + 0.38, y, meaning, ha="left")


def tell_number(value: float) -> str:
    """Return 1200000 as 1.2 million and 128000 as 128 thousand: three digits at most from ten thousand on."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= max(9_999.5, 0.9995 * size):
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"
