"""A run's folder: resolved configuration, figures, tables; metrics.json, written last, means complete."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

from mome import engine
from mome.checks import check_choice
from mome.config import repository, runs_dir
from mome.plan import make_plan
from mome.recipe import collect, list_ancestors, to_plain
from mome.runs import CLAIMS, FINDING_VERDICTS
from mome.runs.parameters import check_names, check_parameters, declared_parameters, literal_assignments
from mome.scales import resolve_scale
from mome.store import NotBuilt, read_json, versions, write_json


class Run:
    """One execution of one notebook. Its folder appears at the first build, table or figure."""

    def __init__(self, notebook: str, values: dict, folder: Path):
        self.notebook, self.values, self.folder = notebook, values, folder
        self.id = folder.parent.name if folder.name == notebook else folder.name
        self.scale = resolve_scale(values["scale"], values["overrides"])
        self.figures, self.findings, self.tables, self.started = [], [], [], time.perf_counter()
        check_same_run(folder, values)

    def open_folder(self, part: str = "") -> Path:
        """Return the run's folder or a part of it, made and with its config.json."""
        (self.folder / part).mkdir(parents=True, exist_ok=True)
        if not (self.folder / "config.json").exists():
            write_json(self.folder / "config.json", {
                "notebook": self.notebook, "parameters": self.values, "scale": to_plain(self.scale),
                "versions": versions()})
        return self.folder / part

    def build(self, needs) -> None:
        """Build what is missing of the needs, within a command nothing: there all was built before.

        The names of the needs stay with the run, and `mome clean` leaves them.
        """
        note_needs(self.open_folder(), needs)
        if not os.environ.get("MOME_NOTEBOOK"):
            engine.build(needs)
            return
        plan = make_plan(needs)
        excused = engine.find_excused(plan)
        for recipe in plan.missing:
            if recipe.name not in excused:
                raise NotBuilt(f"{recipe.name} ({recipe.title}) was not planned: let the cell 'needs' use "
                               "the parameters and nothing else")

    def figure(self, figure, name: str, caption: str) -> None:
        """Save the figure as PNG with the run's id in its corner; the notebook shows it as usual."""
        figure.text(1.0, -0.01, f"run {self.id}", ha="right", va="top", fontsize=6.5, color="grey")
        figure.savefig(self.open_folder("figures") / f"{name}.png", bbox_inches="tight")
        self.figures.append({"name": name, "caption": caption})

    def table(self, table, name: str) -> None:
        table.to_parquet(self.open_folder("tables") / f"{name}.parquet")
        self.tables.append(name)

    def finding(self, text: str, verdict: str = "", claim: str = "") -> str:
        """Keep a computed sentence and return it; a `claim` (C1 to C5) with a verdict is a row of claims."""
        check_choice("verdict", verdict, ("", *FINDING_VERDICTS))
        check_choice("claim", claim, ("", *CLAIMS))
        self.findings.append({"text": text, "verdict": verdict, "claim": claim})
        return f"{claim} {verdict}: {text}".strip() if claim else text

    def complete(self, metrics: dict) -> None:
        """Write metrics.json, which marks the run as complete: plain JSON, NaN and infinities as null."""
        entry = {"notebook": self.notebook, "run": self.id, "parameters": self.values, "metrics": metrics,
                 "findings": self.findings, "figures": self.figures, "tables": self.tables,
                 "seconds": round(time.perf_counter() - self.started, 1), "versions": versions()}
        text = json.dumps(entry, default=lambda number: number.item())  # numpy's numbers
        write_json(self.open_folder() / "metrics.json", json.loads(text, parse_constant=lambda _: None))
        (self.folder / "failure.txt").unlink(missing_ok=True)


def note_needs(folder: Path, needs) -> None:
    """Keep the names of what is built and of its ancestors: used, even when the build is interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "needs.txt", "a", encoding="utf-8") as file:
        file.writelines(f"{recipe.name}\n" for recipe in list_ancestors(collect(needs)))


def check_same_run(folder: Path, values: dict) -> None:
    """Raise ValueError when the folder holds a run of other parameters: going on would mix the two."""
    try:
        before = dict(read_json(folder / "config.json")["parameters"])
    except FileNotFoundError:
        return
    except (KeyError, TypeError):  # damaged: nothing is as it was
        before = {}
    changed = [f"{name} was {before.get(name)!r} and is {values.get(name)!r} now"
               for name in sorted({*before, *values} - {"out"}) if before.get(name) != values.get(name)]
    if changed:
        raise ValueError(f"out={str(folder)!r} holds a run of other parameters: {'; '.join(changed)}. "
                         "Give another folder, or remove this one")


def fresh_folder(name: str) -> Path:
    """Return a folder for a run that is not there yet, even when the clock has been set back."""
    path = runs_dir() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([path], others) if not folder.exists())


def start_run(notebook: str, **values) -> Run:
    """Return the run of the notebook that calls it with each of its parameters by name; writes nothing yet.

    Raises ValueError for a parameter that is left out or not allowed, and for a misspelt one that papermill
    has put in, as papermill itself only warns of it.
    """
    path = find_own_notebook(notebook)
    declared = declared_parameters(path)
    check_names(path, [*injected_names(), *values], declared)
    if missing := [name for name in declared if name not in values]:
        raise ValueError(f"start_run lacks {', '.join(missing)}; give every parameter, as name=name")
    values = check_parameters(path, values)
    folder = Path(values["out"]).expanduser().resolve() if values["out"] else fresh_folder(notebook)
    from mome.figures.style import set_style  # matplotlib, which plans can do without

    set_style()
    return Run(notebook, values, folder)


def find_own_notebook(notebook: str) -> Path:
    """Return the file that is executed, as the command or JupyterLab tells, else the workbook's by name."""
    for name in ("MOME_NOTEBOOK", "JPY_SESSION_NAME"):
        path = Path(os.environ.get(name, ""))
        if path.suffix == ".ipynb" and path.is_file():
            return path
    return repository() / "notebooks" / f"{notebook}.ipynb"


def injected_names() -> list[str]:
    """Return the names of the parameters that papermill has put into this notebook's cells, if it did."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cells = shell.user_ns.get("In", []) if shell else []
    return [name for cell in cells if cell.startswith("# Parameters\n") for name in literal_assignments(cell)]
