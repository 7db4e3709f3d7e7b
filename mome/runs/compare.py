"""Runs as a table: listed, filtered, side by side; and what in the store no run refers to."""

import math
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from mome import store
from mome.checks import check_choice
from mome.config import store_dir
from mome.evaluate.claims import describe_part
from mome.provenance import spread_provenance
from mome.runs import CLAIMS, FINDING_VERDICTS
from mome.runs.grid import format_value
from mome.runs.state import is_complete, run_state

COLUMNS = {"run": "", "notebook": "", "state": "", "scale": "", "minutes": math.nan, "finished": "",
           "folder": None, "parameters": {}, "metrics": {}, "provenance": {}}
BY_NAME = {"data", "export", "train"}  # commands, in whose folders stands what a user asked for by name
BUILT = re.compile(r"(unfinished-)?(([a-z0-9_]+)-[0-9a-f]{12})")


def find_in_runs(folders, name: str) -> list[Path]:
    """Return the files of that name in run folders, which lie at most two levels below those given."""
    return sorted({path for folder in folders for below in ("", "*/", "*/*/")
                   for path in Path(folder).glob(below + name)})


def read_metrics(out: Path) -> list[dict]:
    """Return the metrics of the complete runs in a folder, in the order of their names, with their folders.

    Runs are handed from one person to another, and a name in them becomes part of a path, a claim part of a
    page: ValueError names a file that is not as `Run.complete` writes it.
    """
    return [check_entry(path) | {"folder": path.parent} for path in find_in_runs([out], "metrics.json")
            if is_complete(path.parent)]


def check_entry(path: Path) -> dict:
    entry = store.read_json(path)
    with suppress(KeyError, TypeError):
        figures, findings = entry["figures"], entry["findings"]
        texts = [item["caption"] for item in figures] + [item["text"] for item in findings]
        if (re.fullmatch(r"[\w-]+", entry["notebook"]) and re.fullmatch(r"[^|/\\<>`]+", entry["run"])
                and all(re.fullmatch(r"[\w-]+", name)
                        for name in [*entry["tables"], *(item["name"] for item in figures)])
                and all(item["claim"] in ("", *CLAIMS) and item["verdict"] in ("", *FINDING_VERDICTS)
                        for item in findings)
                and all(describe_part(part) and isinstance(part["asks"] + part["said"], str)
                        for item in findings for part in item["parts"])
                and isinstance(entry["metrics"], dict) and isinstance(entry["parameters"], dict)
                and isinstance(entry["seconds"], int | float)
                and all(isinstance(text, str) for text in texts)):
            return entry
    raise ValueError(f"{path} is not what a run writes; remove its folder, or run it again")


def short_name(notebook: str) -> str:
    """Return what stands for a notebook in titles and file names: its number, else its name."""
    return re.match(r"\d\d(?=_)|.*", notebook)[0]


def read_runs(folders) -> pd.DataFrame:
    """Return every run under the folders; damaged ones are listed as such."""
    found = dict.fromkeys(path.parent.resolve() for path in find_in_runs(folders, "config.json"))
    return pd.DataFrame(map(read_run, found), columns=list(COLUMNS))


def read_run(folder: Path) -> dict:
    row = {**COLUMNS, "run": folder.name, "state": run_state(folder), "folder": folder}
    try:
        config = store.read_json(folder / "config.json")
        row |= {"notebook": str(config["notebook"]), "scale": config["parameters"]["scale"],
                "parameters": dict(config["parameters"]), "provenance": spread_provenance(config)}
        if row["state"] == "complete":
            path = folder / "metrics.json"
            entry, finished = store.read_json(path), time.localtime(path.stat().st_mtime)
            row |= {"minutes": entry["seconds"] / 60, "metrics": dict(entry["metrics"]),
                    "finished": time.strftime("%Y-%m-%d %H:%M", finished)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        row["state"] = "damaged"
    if folder.name == row["notebook"]:  # a notebook's folder within a run of several
        row["run"] = f"{folder.parent.name}/{folder.name}"
    return row


def select_runs(table: pd.DataFrame, where: dict) -> pd.DataFrame:
    """Return the runs that fit; ValueError for what is no parameter, notebook or state.

    A notebook is given by number or the beginning of its name, a list of one by its item, or in the singular.
    """
    known = sorted({"notebook", "state"}.union(*table.parameters))
    for name, value in where.items():
        name = f"{name}s" if name not in known and f"{name}s" in known else name
        check_choice("where", name, known)
        start = f"{value:02d}" if isinstance(value, int) else str(value)
        fits = [run.notebook.startswith(start) if name == "notebook" else run.state == value
                if name == "state" else run.parameters.get(name) in (value, [value])
                for run in table.itertuples()]
        table = table[np.array(fits, dtype=bool)]  # of no run, too
    return table


def compare_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Return a line a run: what differs of the parameters and of where it ran, the metrics' numbers.

    {"loss": {"en": 9}} is shown as "loss en".
    """
    numbers = pd.json_normalize(list(table.metrics), sep=" ").select_dtypes("number")
    differing = map(find_differences, (table.parameters, table.provenance))
    return pd.concat([table[["run", "state"]].reset_index(drop=True), *differing,
                      numbers.dropna(axis="columns", how="all")], axis="columns")


def find_differences(parameters) -> pd.DataFrame:
    """Return the parameters (but `out`) that are not the same in all runs, as short text, a line a run."""
    texts = pd.DataFrame([{name: format_value(value) for name, value in run.items() if name != "out"}
                          for run in parameters])
    return texts.loc[:, texts.nunique(dropna=False) > 1]


def find_unused(folders) -> pd.DataFrame:
    """Return what the store holds: folder, kind, megabytes, days since it was written, state, users.

    Used ("used", else "unused") is what a run or a command asked for (needs.txt), and what that was made
    from. From what is "unfinished" an interrupted build goes on; what a user asked for by name is used even
    so. What is being built is left out.
    """
    users, rows = find_users(folders), []
    for path in sorted(store_dir().iterdir()) if store_dir().is_dir() else []:
        found = BUILT.fullmatch(path.name)
        if found and path.is_dir() and not path.is_symlink() and not store.is_locked(found[2]):
            is_whole, by = not found[1] and (path / "manifest.json").exists(), users.get(found[2], set())
            state = "unused" if is_whole and not by else "used" if is_whole or by & BY_NAME else "unfinished"
            days = (time.time() - path.stat().st_mtime) / 86400
            rows.append([path.name, found[3], store.measure_size(path) / 1e6, days, state,
                         ", ".join(sorted(by))])
    return pd.DataFrame(rows, columns=["folder", "kind", "megabytes", "days", "state", "users"])


def find_users(folders) -> dict[str, set[str]]:
    """Return {name of a built thing: the runs and commands that need it, or what was made from it}.

    Runs of one command are named by its folder.
    """
    users: dict[str, set[str]] = {}
    for path in find_in_runs(folders, "needs.txt"):
        command, user = path.parent.parent, path.parent.name
        user = command.name if (command / "needs.txt").exists() else user
        names = path.read_text(encoding="utf-8", errors="replace").split()
        while names:
            name = names.pop()
            if isinstance(name, str) and user not in users.get(name, ()) and BUILT.fullmatch(name):
                users.setdefault(name, set()).add(user)
                with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                    names += store.read_manifest(store.folder_of(name))["parents"].values()
    return users


def remove_unused(table: pd.DataFrame) -> None:
    """Remove the folders of `find_unused`'s lines, each under its lock."""
    for name in table.folder:
        with store.lock_of(name.removeprefix("unfinished-")).acquire(timeout=0):
            shutil.rmtree(store_dir() / name)
