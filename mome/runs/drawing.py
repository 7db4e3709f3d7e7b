"""A figure as data: the plot's name and what it was drawn from, as JSON, from which it is drawn again."""

import html
import importlib
import json
import math
import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd

from mome.config import FIGURE_DPI

DIGITS = 6  # of numbers: more than an eye sees


def describe_plot(plot, arguments: tuple, options: dict) -> str:
    """Return the call of a `plot_*` function of `mome.figures` as JSON."""
    name = f"{plot.__module__.removeprefix('mome.figures.')}.{plot.__name__}"
    check_plot(name)
    call = {"plot": name, "arguments": [*map(to_json, arguments)],
            "options": {key: to_json(value) for key, value in options.items()}}
    return json.dumps(call, allow_nan=False, ensure_ascii=False)


def draw_plot(text: str):
    """Return the figure that a call describes; ValueError for one of another form."""
    call = json.loads(text)
    if set(call) != {"plot", "arguments", "options"}:
        raise ValueError(f"a figure's data needs plot, arguments, options; it has {', '.join(sorted(call))}")
    module, name = check_plot(call["plot"]).split(".")
    plot = getattr(importlib.import_module(f"mome.figures.{module}"), name)
    return plot(*map(from_json, call["arguments"]),
                **{key: from_json(value) for key, value in call["options"].items()})


def check_plot(name) -> str:
    """Return the name; ValueError for what is no plot: figures' data goes from hand to hand."""
    if not re.fullmatch(r"[a-z]+\.plot_[a-z_]+", str(name)):
        raise ValueError(f"plot={name!r} is not allowed; give a plot_* function of a file of mome.figures")
    return name


def to_json(value):
    """Return tables, series, mappings, lists, texts and numbers as plain JSON; numbers to six digits."""
    if isinstance(value, pd.DataFrame):
        return {"columns": to_json(list(value.columns)), "index": index_to_json(value.index),
                "rows": [[to_json(cell) for cell in row] for row in value.itertuples(index=False)]}
    if isinstance(value, pd.Series):
        return {"name": value.name, "index": index_to_json(value.index), "values": to_json(value.tolist())}
    if isinstance(value, dict):  # whose keys need not be texts
        return {"pairs": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | np.ndarray | pd.Index):
        return [to_json(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else {"float": str(value)}
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"{type(value).__name__} is not allowed in a figure's data; give tables, lists, numbers")


def index_to_json(index: pd.Index) -> dict | None:
    """Return None for the row numbers that every table has."""
    return None if index.equals(pd.RangeIndex(len(index))) and index.name is None else {
        "name": index.name, "labels": to_json(list(index))}


def from_json(value):
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float(value["float"])
    if "pairs" in value:
        return {from_json(key): from_json(item) for key, item in value["pairs"]}
    index = value["index"] and pd.Index(from_json(value["index"]["labels"]), name=value["index"]["name"])
    if "rows" in value:
        return pd.DataFrame(from_json(value["rows"]), columns=from_json(value["columns"]), index=index)
    return pd.Series(from_json(value["values"]), index=index, name=value["name"])


def save_figure(text: str, run: str, path: Path) -> None:
    """Draw a call and save it as PNG with the run's id in its corner."""
    import matplotlib.pyplot as plt

    from mome.figures.style import GREY

    figure = draw_plot(text)
    figure.text(1.0, -0.01, f"run {run}", ha="right", va="top", fontsize=6.5, color=GREY)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)  # or a notebook would show it again, without its caption


def frame_figure(path: Path, caption: str) -> str:
    """Return a PNG as HTML that holds all of it, with its caption beneath and as the text for who sees none.

    Its letters are as large as the page's. A wide figure keeps 0.6 of its width on a narrow page.
    """
    content, said = path.read_bytes(), html.escape(caption)
    inches = round(int.from_bytes(content[16:20], "big") / FIGURE_DPI, 2)
    look = f"width:{inches}in;max-width:max(100%,{0.6 * inches:.2f}in)"
    image = f'<img alt="{said}" style="{look}" width="{96 * inches:.0f}" src="data:image/png;base64,'
    return (f'<figure data-name="{html.escape(path.stem)}" style="margin:1rem 0;overflow-x:auto">'
            f'{image}{b64encode(content).decode()}">'
            f"<figcaption>{said}</figcaption></figure>")
