"""The reference: a run's record and figure data, committed; figures and README's findings, made from them."""

import json
import shutil
from pathlib import Path

import pandas as pd

from mome.config import is_checkout, repository
from mome.runs.compare import read_metrics, short_name
from mome.runs.drawing import save_figure, to_json
from mome.runs.meter import COMMAND, read_command
from mome.runs.reference import SCALE, read_reference, reference_dir
from mome.runs.report import describe_command, list_claims
from mome.runs.surprises import find_surprises, write_surprises
from mome.store import write_json, write_text

PARTS = "claims", "surprises"  # of README, between marks
HEAD = "| | the paper says | verdict | measured |\n| --- | --- | --- | --- |"


def publish(out: Path | None = None) -> list[Path]:
    """Make figures, README's claims and surprises from the reference, once a finished run took its place;
    return what was written.

    Notebooks that the run does not hold stay as they are. Raises ValueError outside of a checkout, for a
    run of another scale, for a folder without finished notebooks and for a README without its marks, before
    anything is written.
    """
    if not is_checkout():
        raise ValueError(f"package={str(repository().parent)!r} is installed; publish writes figures and "
                         "README of a checkout, so run it in one, installed with `pip install -e .`")
    readme = repository() / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name in PARTS:
        fill_part(text, name, [])
    if out is not None:
        keep_reference(out)
    command, entries = read_reference()
    surprises = find_surprises(entries)
    for name, lines in zip(PARTS, (write_claims(command, entries), write_surprises(surprises)), strict=True):
        text = fill_part(text, name, lines)
    write_text(readme, text)
    return [readme, *draw_figures(entries), *draw_strip(surprises, entries)]


def fill_part(text: str, name: str, lines: list[str]) -> str:
    """Return README's text with other lines in one of its parts; ValueError where its marks are missing."""
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, begins, rest = text.partition(first)
    _, ends, after = rest.partition(last)
    if not (begins and ends):
        raise ValueError(f"README.md has no marks {first.strip()} and {last} to write between")
    return "".join([before, first, *(f"{line}\n" for line in lines), last, after])


def keep_reference(out: Path) -> None:
    """Copy the entries of a run, what its command told, and the data of its figures to the reference."""
    entries, folder = read_metrics(out), reference_dir()
    if not entries:
        raise ValueError(f"run={str(out)!r} holds no complete notebook; give a finished run's folder")
    for entry in entries:
        if (scale := entry["parameters"].get("scale")) != SCALE:
            raise ValueError(f"run={str(out)!r} is of scale {scale!r}; the reference is one of {SCALE}")
    folder.mkdir(parents=True, exist_ok=True)
    claiming = {entry["notebook"] for entry in read_reference()[1] if list_claims([entry])}
    if (command := read_command(out)) and claiming <= {entry["notebook"] for entry in entries}:
        write_json(folder / COMMAND, command)  # of a part of the claims it would tell what they did not cost
    for entry in entries:
        short = short_name(entry["notebook"])
        for old in folder.glob(f"{short}_*"):
            old.unlink()
        told = {name: value for name, value in entry.items() if name not in ("folder", "metrics")}
        write_json(folder / f"entry_{entry['notebook']}.json", told)
        for figure in entry["figures"]:
            name = f"{figure['name']}.json"
            shutil.copyfile(entry["folder"] / "figures" / name, folder / f"{short}_{name}")
        for name in entry["tables"] if short == entry["notebook"] else []:  # values that a scale takes over
            table = pd.read_parquet(entry["folder"] / "tables" / f"{name}.parquet")
            table.to_csv(folder / f"{short}_{name}.csv", index=False, float_format="%.6g")


def draw_figures(entries: list[dict]) -> list[Path]:
    """Draw the reference's figures from their data, remove those of its notebooks that are no more."""
    import matplotlib.pyplot as plt

    from mome.figures.style import set_style

    plt.switch_backend("Agg")
    set_style()
    written = []
    for entry in entries:
        short = short_name(entry["notebook"])
        for old in (repository() / "figures").glob(f"{short}_*"):
            old.unlink()
        for name in (f"{short}_{figure['name']}" for figure in entry["figures"]):
            data = (reference_dir() / f"{name}.json").read_text(encoding="utf-8")
            written.append(repository() / "figures" / f"{name}.png")
            save_figure(data, entry["run"], written[-1])
            plt.close("all")
    return written


def draw_strip(surprises: list[dict], entries: list[dict]) -> list[Path]:
    """Draw the surprises' panels into one strip, where there are any."""
    if not surprises:
        return []
    panels = [{name: each[name] for name in ("title", "unit", "rows")} for each in surprises]
    data = {"plot": "surprises.plot_surprises", "arguments": [to_json(panels)], "options": {}}
    path = repository() / "figures/surprises.png"
    save_figure(json.dumps(data), list_claims(entries)[0]["run"], path)
    return [path]


def write_claims(command: dict, entries: list[dict]) -> list[str]:
    """Return README's part on the claims: what ran, a table of sentences, the numbers behind a fold."""
    claims = list_claims(entries)
    rows = [f"| **{claim['claim']}** | {claim['paper']} | **{claim['verdict']}** | {plain(claim['text'])} |"
            for claim in claims]
    numbers = [f"- **{claim['claim']}** (run `{claim['run']}`)\n"
               + "\n".join(f"  - {plain(part)}" for part in claim["parts"]) for claim in claims]
    return [describe_command(command, entries), "", HEAD, *rows, "",
            "<details><summary>The numbers behind the words</summary>", "", *numbers, "", "</details>"]


def plain(text: str) -> str:
    """Return a text on one line, fit for a cell of a table."""
    return " ".join(text.split()).replace("|", "/")
