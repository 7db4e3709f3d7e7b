"""One self-contained page on a run or a sweep: claims, findings, figures, tables, configuration, versions."""

import json
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mome.config import notebook_paths
from mome.evaluate.claims import describe_part
from mome.provenance import describe_provenance
from mome.runs import CLAIMS
from mome.runs.compare import compare_runs, find_differences, read_metrics, read_runs, short_name
from mome.runs.drawing import frame_figure
from mome.runs.meter import read_command
from mome.runs.parameters import read_cells
from mome.runs.state import describe_state
from mome.store import write_text

MOST_LINES = 200  # of a table that are shown


def write_report(out: Path) -> Path:
    """Write `report.html` on the runs in a folder, and return its path."""
    out = Path(out).resolve()
    entries, runs, command = read_metrics(out), read_runs([out]), read_command(out)
    is_sweep = len(runs) > len({entry["notebook"] for entry in entries})
    sections = [make_section(entry, entries, page_of(entry["folder"], out)) for entry in entries]
    write_text(out / "report.html", load_page("report.html").render(
        run=out.name, sections=sections,
        table=write_table(compare_runs(runs)) if is_sweep else "", remarks=list_remarks(runs),
        claims=list_claims(entries), head=describe_command(command, entries),
        machine=describe_provenance(command or dict(*entries[:1])),
        config=json.dumps([[entry["notebook"], entry["parameters"], entry.get("versions")]
                           for entry in entries], indent=1)))
    return out / "report.html"


def list_claims(entries: list[dict]) -> list[dict]:
    """Return claims in order, each with the paper's sentence, its parts in words, and its run."""
    found = [{**finding, "paper": CLAIMS[finding["claim"]], "run": entry["run"],
              "parts": [describe_part(part) for part in finding["parts"]]}
             for entry in entries for finding in entry["findings"] if finding["claim"]]
    return sorted(found, key=lambda finding: finding["claim"])


def describe_command(command: dict, entries: list[dict]) -> str:
    """Return a run's scale, corpus, seeds, day, commit, cores, minutes and memory, as far as they are known.
    """
    values = {name: value for entry in reversed(entries) for name, value in entry["parameters"].items()}
    seeds = ", ".join(map(str, values.get("seeds", values.get("split_seeds", []))))
    corpus = command.get("corpus") or values.get("corpus", "")
    told = [f"Scale {values.get('scale', 'unknown')}, corpus {corpus}"] + [f"seeds {seeds}"] * bool(seeds)
    for name, form in {"date": "{}", "commit": "commit {}", "workers": "{} workers",
                       "minutes": "{:.0f} minutes", "cpu_minutes": "{:.0f} core minutes",
                       "peak_gb": "{:.1f} GB of memory in all"}.items():
        if command.get(name) is not None:
            told.append(form.format(command[name]))
    return (f"{', '.join(told)}. Intervals are 95 %, over seeds that share one teacher and one data set, "
            "where a part says no other.")


def list_remarks(runs: pd.DataFrame) -> list[str]:
    """Return a sentence on each run that failed or is under way: why, and where."""
    there = runs[runs.state.isin(["failed", "running"])]
    return [f"{run.run} {describe_state(run.folder)}" for run in there.itertuples()]


def load_page(name: str):
    """Return one of this folder's templates, which escapes what it is given."""
    return Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent)).get_template(name)


def page_of(folder: Path, out: Path) -> Path:
    """Return where the page of a notebook lies that was executed in a folder of a run or a sweep."""
    name = "-".join(folder.resolve().relative_to(out.resolve()).parts) or folder.resolve().name
    return out / "html" / f"{name}.html"


def make_section(entry: dict, entries: list[dict], page: Path) -> dict:
    """Return what the page tells of one run; of several of one notebook the title says what differs.

    A notebook's page is linked when it is there.
    """
    folder, equals = entry["folder"], [other for other in entries if other["notebook"] == entry["notebook"]]
    differing = find_differences(other["parameters"] for other in equals).iloc[equals.index(entry)].dropna()
    title = " · ".join([short_name(entry["notebook"]), find_title(entry["notebook"]),
                        *(f"{name} {value}" for name, value in differing.items())])
    return {**entry, "title": title, "link": title if len(equals) > 1 else entry["notebook"],
            "page": f"html/{page.name}" if page.exists() else "",
            "figures": [Markup(frame_figure(folder / "figures" / f"{figure['name']}.png", figure["caption"]))
                        for figure in entry["figures"]],
            "tables": [read_table(folder / "tables" / f"{name}.parquet") for name in entry["tables"]]}


def find_title(notebook: str) -> str:
    """Return the heading of a notebook of the workbook; of another its name."""
    return next((find_heading(path) for path in notebook_paths() if path.stem == notebook), notebook)


def find_heading(path: Path) -> str:
    """Return the first line of a notebook's prose, else its name; ValueError when it is damaged or none."""
    texts = (cell["source"].strip() for cell in read_cells(path) if cell["kind"] == "markdown")
    return next((text.splitlines()[0].lstrip("# ") for text in texts if text), path.stem)


def read_table(path: Path) -> dict:
    table = pd.read_parquet(path)
    note = f", the first {MOST_LINES}" if len(table) > MOST_LINES else ""
    return {"title": f"{path.stem}: {len(table)} lines{note}", "body": write_table(table.head(MOST_LINES))}


def write_table(table: pd.DataFrame) -> Markup:
    """Return a table as HTML, its texts escaped by pandas."""
    return Markup(table.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0))
