"""A run's figures, claims and chosen values, copied to where a reader of the repository meets them."""

import re
import shutil
from pathlib import Path

import pandas as pd

from mome.config import repository
from mome.runs.compare import read_metrics, short_name
from mome.store import write_text


def publish(out: Path) -> list[Path]:
    """Copy a run's figures to `figures/`, its claims between README.md's marks; return what was written.

    Figures and claims of notebooks that the run does not hold stay, each claim names its run. Figures of a
    notebook that it does hold and that are no longer made go. A notebook without a number chooses values of
    the scale: its tables go along as CSV.
    """
    entries, readme, figures = read_metrics(out), repository() / "README.md", repository() / "figures"
    if not entries:
        raise ValueError(f"run={str(out)!r} holds no complete notebook; give a finished run's folder")
    text, written = readme.read_text(encoding="utf-8"), [readme]
    marked = re.search(r"<!-- claims -->.*<!-- /claims -->", text, flags=re.DOTALL)
    if not marked:
        raise ValueError(f"{readme} has no marks <!-- claims --> and <!-- /claims --> to write between")
    figures.mkdir(exist_ok=True)
    rows = {line[2:4]: line for line in marked[0].splitlines() if re.match(r"\| C\d ", line)}
    for entry in entries:
        short = short_name(entry["notebook"])
        for old in figures.glob(f"{short}_*"):
            old.unlink()
        for name in (f"{figure['name']}.png" for figure in entry["figures"]):
            written.append(shutil.copyfile(entry["folder"] / "figures" / name, figures / f"{short}_{name}"))
        for name in entry["tables"] if short == entry["notebook"] else []:
            written.append(figures / f"{short}_{name}.csv")
            table = pd.read_parquet(entry["folder"] / "tables" / f"{name}.parquet")
            table.to_csv(written[-1], index=False, float_format="%.6g")
        for finding in filter(lambda finding: finding["claim"], entry["findings"]):
            measured = " ".join(finding["text"].split()).replace("|", "/")
            row = f"| {finding['claim']} | **{finding['verdict']}** | {measured} | `{entry['run']}` |"
            rows[finding["claim"]] = row
    table = ["<!-- claims -->", "| claim | verdict | measured | run |", "| --- | --- | --- | --- |",
             *(rows[claim] for claim in sorted(rows)), "<!-- /claims -->"]
    write_text(readme, text.replace(marked[0], "\n".join(table)))
    return written
