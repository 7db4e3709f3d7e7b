"""A run's folder: resolved configuration, figures with the run's id, tables, findings; metrics written last means complete."""

from __future__ import annotations

import ast
import base64
import html
import json
import os
import re
import resource
import shutil
import sys
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from string import Template

import pandas as pd
from filelock import FileLock, Timeout

from mome.artifacts import FORMATS, read_json, read_manifest, versions, write_json
from mome.config import (
    CLASSIFIERS,
    DENSE_SIZES,
    FIGURE_DPI,
    KD_LOSSES,
    MODULAR_STAGES,
    MOE_VARIANTS,
    MOVING_SCHEDULES,
    ORDERS,
    Scale,
    artifacts_dir,
    as_dict,
    check_choice,
    check_corpus,
    check_languages,
    check_range,
    check_seeds,
    check_shares,
    corpus_languages,
    repository,
    resolve_scale,
    runs_dir,
)
from mome.execute import describe_failure, is_complete, run_state

CLAIMS = ("C1", "C2", "C3", "C4", "C5")
FINDING_VERDICTS = ("holds", "does not hold", "cannot tell")


def notebook_paths() -> list[Path]:
    """Return the numbered notebooks in order."""
    return sorted((repository() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def declared_parameters(path: Path) -> dict:
    """Return {name: default} of a notebook's cell tagged `parameters`; ValueError when it has none or is no notebook. Nothing in it is run."""
    notebook = read_json(path)  # plain JSON: nbformat takes seconds to import, in every kernel
    try:
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                return literal_assignments("".join(cell["source"]))
    except (KeyError, TypeError, AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged or its parameters are no literals ({type(error).__name__}: {error})") from None
    raise ValueError(f"{path} has no cell tagged 'parameters'")


def literal_assignments(source: str) -> dict:
    """Return {name: value} of the plain assignments of literals in a cell."""
    values = {}
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name):
            values[target.id] = ast.literal_eval(node.value)
    return values


def check_parameters(notebook: Path, given: dict) -> dict:
    """Return the notebook's parameters with `given` in place of defaults, all checked; ValueError before anything slow.

    An unknown name, a value of another type than the default's, or one outside its allowed set is refused.
    """
    declared = declared_parameters(notebook)
    for name, value in given.items():
        if name not in declared:
            raise ValueError(f"parameter {name!r} is unknown to {notebook.stem}; it has: {', '.join(declared)}")
        default = declared[name]
        number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        if type(value) is not type(default) and not number:
            raise ValueError(f"{name}={value!r} is not allowed; it must be of type {type(default).__name__}, for example {default!r}")
    values = declared | given
    scale = resolve_scale(values["scale"], values["overrides"])
    batch_size = scale.batch_size
    check_corpus(values["corpus"])
    languages = check_languages(values["languages"], corpus_languages(values["corpus"]))
    check_shares(scale.shares, languages)
    check_seeds(values.get("seeds", [0]))
    if {"classifiers", "variants"} & set(declared) and len(languages) < 2:
        raise ValueError(f"languages={languages!r} is not enough for {notebook.stem}; give at least two")
    if "variants" in declared and batch_size % len(languages):
        raise ValueError(f"languages={languages!r}: {len(languages)} languages cannot share batches of {batch_size} sequences equally; "
                         f"give overrides={{'batch_size': {len(languages) * max(1, batch_size // len(languages))}, ...}} and a micro_batch_size within it")
    if values.get("experts"):
        check_choice("experts", values["experts"], MOE_VARIANTS)
    if values.get("second_corpus", "auto") not in ("", "auto"):
        check_corpus(values["second_corpus"])
        check_languages(languages, corpus_languages(values["second_corpus"]))
    # The default gives way where the models learn that language anyway; the notebook then adds none.
    if values.get("added_language") and (values["added_language"] not in languages or values["added_language"] != declared["added_language"]):
        check_added(values["added_language"], values["added_corpus"], values["corpus"], languages)
    lists = (("classifiers", CLASSIFIERS), ("variants", MOE_VARIANTS), ("controls", DENSE_SIZES), ("order", languages), ("schedules", MOVING_SCHEDULES),
             ("losses", [loss for loss in KD_LOSSES if loss != "teacher_ce"]))
    for name, allowed in lists:
        for value in values.get(name, []):
            check_choice(name, value, allowed)
    if values.get("order") and sorted(values["order"]) != sorted(languages):
        raise ValueError(f"order={values['order']!r} is not allowed; it must hold each of {', '.join(languages)} once, or be empty")
    if "alphas" in declared and batch_size < 2:
        raise ValueError(f"overrides={values['overrides']!r} is not allowed; {notebook.stem} alternates within a step and needs a batch_size of at least 2")
    if "language" in values:
        check_choice("language", values["language"], languages)
    for alpha in values.get("alphas", []):
        check_range("alphas", alpha, 0, 1)
    for prefix in values.get("prefixes", []):
        check_range("prefixes", prefix, 1, whole=True)
    if "orders" in values:
        check_stages(values, languages)
    if "temperature" in values:
        check_range("temperature", values["temperature"], 1e-3)
    if "jobs" in values:
        check_range("jobs", values["jobs"], 1, 256, whole=True)
    return values


def check_stages(values: dict, languages: list[str]) -> None:
    """Raise ValueError for parameters that training in stages does not allow."""
    if len(languages) < 2:
        raise ValueError(f"languages={languages!r} is not enough; forgetting needs at least two")
    check_choice("orders", values["orders"], ORDERS)
    for share in values["replay"]:
        check_range("replay", share, 1e-6, 1)
    for variant in values["variants"]:
        check_choice("variants", variant, MODULAR_STAGES)
    if values["imbalance"] and len(values["imbalance"]) != len(languages):
        raise ValueError(f"imbalance={values['imbalance']!r} is not allowed; give a share for each of {', '.join(languages)}, or an empty list")
    for share in values["imbalance"]:
        check_range("imbalance", share, 1e-6)


def check_added(language: str, added_corpus: str, corpus: str, languages: list[str]) -> None:
    """Raise ValueError for an added language that is there already or that none of its corpora has."""
    if language in languages:
        raise ValueError(f"added_language={language!r} is not allowed; the models learn {', '.join(languages)} already")
    if added_corpus != "auto":
        check_corpus(added_corpus)
    known = [corpus_languages(name) for name in ((corpus, "mini") if added_corpus == "auto" else (added_corpus,))]
    if None not in known:
        check_choice("added_language", language, sorted(set().union(*known)))


class Run:
    """One execution of one notebook. `figure`, `table`, `finding` keep results; `complete` writes metrics.json, last."""

    def __init__(self, notebook: str, values: dict, folder: Path):
        self.notebook, self.values, self.folder = notebook, values, folder
        self.id = folder.parent.name if folder.name == notebook else folder.name
        self.scale: Scale = resolve_scale(values["scale"], values["overrides"])
        self.figures: list[dict] = []
        self.findings: list[dict] = []
        self.tables: list[str] = []
        self.started = time.perf_counter()
        check_same_run(folder, values)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        (folder / "tables").mkdir(exist_ok=True)
        (folder / "metrics.json").unlink(missing_ok=True)
        os.environ["MOME_USES"] = str((folder / "artifacts.txt").resolve())
        write_json(folder / "config.json", {"notebook": notebook, "parameters": values, "scale": as_dict(self.scale), "versions": versions()})

    def figure(self, figure, name: str, caption: str) -> None:
        """Save the figure as PNG with the run's id in its corner; the notebook shows it as usual."""
        figure.text(1.0, -0.01, f"run {self.id}", ha="right", va="top", fontsize=6.5, color="grey")
        figure.savefig(self.folder / "figures" / f"{name}.png", bbox_inches="tight")
        self.figures.append({"name": name, "caption": caption})

    def table(self, table: pd.DataFrame, name: str) -> None:
        table.to_parquet(self.folder / "tables" / f"{name}.parquet")
        self.tables.append(name)

    def finding(self, text: str, verdict: str = "", claim: str = "") -> str:
        """Keep a computed sentence; with `claim` (C1 to C5) and a verdict it becomes a row of the claims table. Returns it."""
        if verdict:
            check_choice("verdict", verdict, FINDING_VERDICTS)
        self.findings.append({"text": text, "verdict": verdict, "claim": claim})
        return f"{claim} {verdict}: {text}".strip() if claim else text

    def complete(self, metrics: dict) -> None:
        """Write metrics.json: what marks the run as complete."""
        write_json(self.folder / "metrics.json", {
            "notebook": self.notebook, "run": self.id, "parameters": self.values, "metrics": metrics, "findings": self.findings,
            "figures": self.figures, "tables": self.tables, "seconds": round(time.perf_counter() - self.started, 1), "peak_gigabytes": peak_gigabytes(),
            "versions": versions()})


def peak_gigabytes() -> float:
    """Return the most memory that this process has held, with that of its largest child process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit / 1e9, 2)


def check_same_run(folder: Path, values: dict) -> None:
    """Raise ValueError when the folder holds a run of other parameters, with the difference: going on would mix the two."""
    if not (folder / "config.json").exists():
        return
    before = read_json(folder / "config.json")["parameters"]
    changed = [f"{name} was {before.get(name)!r} and is {values.get(name)!r} now" for name in sorted({*before, *values} - {"out"})
               if before.get(name) != values.get(name)]
    if changed:
        raise ValueError(f"out={str(folder)!r} holds a run of other parameters: {'; '.join(changed)}. Give another folder, or remove this one")


def start_run(notebook: str, namespace: dict) -> Run:
    """Return the run of the notebook that calls it, with `globals()` as namespace: parameters checked, folder made, style set.

    What papermill injected is held against the declared names, as papermill itself only warns of a misspelt one.
    """
    path = repository() / "notebooks" / f"{notebook}.ipynb"
    declared = declared_parameters(path)
    given = {name: namespace[name] for name in declared if name in namespace}
    for source in namespace.get("In", []):
        if source.startswith("# Parameters\n"):
            given |= literal_assignments(source)
    values = check_parameters(path, given)
    folder = Path(values["out"]) if values["out"] else runs_dir() / f"{notebook}-{time.strftime('%Y%m%d-%H%M%S')}"
    from mome import plots  # matplotlib, which planning and listing runs can do without

    plots.set_style()
    return Run(notebook, values, folder)


def read_metrics(out: Path) -> list[dict]:
    """Return the metrics of the complete notebooks under a run's folder, in the order of the notebooks."""
    return [check_entry(path, read_json(path)) | {"folder": path.parent} for path in sorted(Path(out).glob("*/metrics.json")) if is_complete(path.parent)]


def check_entry(path: Path, entry) -> dict:
    """Return a run's metrics if they have the form that `Run.complete` gives them; ValueError names the file else.

    Runs are handed from one person to another: a name in them becomes part of a path, a claim part of a page.
    """
    def fits(name, pattern) -> bool:
        return isinstance(name, str) and re.fullmatch(pattern, name) is not None

    try:
        is_sound = (fits(entry["notebook"], r"\d\d_\w+") and isinstance(entry["metrics"], dict) and isinstance(entry["parameters"], dict)
                    and isinstance(entry["seconds"], int | float)
                    and all(fits(figure["name"], r"[\w-]+") and isinstance(figure["caption"], str) for figure in entry["figures"])
                    and all(fits(name, r"[\w-]+") for name in entry["tables"])
                    and all(finding["claim"] in ("", *CLAIMS) and finding["verdict"] in ("", *FINDING_VERDICTS) and isinstance(finding["text"], str)
                            for finding in entry["findings"]))
    except (KeyError, TypeError):
        is_sound = False
    if not is_sound:
        raise ValueError(f"{path} is not what a run writes; remove its folder, or run it again")
    return entry


def find_in_runs(folders: list[Path], name: str) -> set[Path]:
    """Return the files of that name in run folders, which lie at most two levels below those given."""
    return {path for folder in folders for depth in ("", "*/", "*/*/") for path in Path(folder).glob(f"{depth}{name}")}


def read_runs(folders: list[Path]) -> pd.DataFrame:
    """Return every run under the folders, at most two levels down: columns run, notebook, state, scale, minutes, gigabytes (peak), finished, folder,
    and `parameters`, `metrics` as mappings. A run whose files are damaged is listed as such and breaks nothing.
    """
    found = {}
    for path in sorted(find_in_runs(folders, "config.json")):
        folder = path.parent.resolve()
        row = {"run": folder.name, "notebook": "", "state": run_state(folder), "scale": "", "minutes": float("nan"), "gigabytes": float("nan"),
               "finished": "", "folder": folder, "parameters": {}, "metrics": {}}
        try:
            config = read_json(path)
            row |= {"notebook": config["notebook"], "scale": config["parameters"]["scale"], "parameters": config["parameters"]}
            if row["state"] == "complete":
                entry = read_json(folder / "metrics.json")
                row |= {"minutes": entry["seconds"] / 60, "gigabytes": entry.get("peak_gigabytes", float("nan")), "metrics": entry["metrics"],
                        "finished": time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "metrics.json").stat().st_mtime))}
        except (ValueError, KeyError, TypeError):
            row["state"] = "damaged"
        if folder.name == row["notebook"]:  # a notebook's folder within a run of several
            row["run"] = f"{folder.parent.name}/{folder.name}"
        found[folder] = row
    columns = ["run", "notebook", "state", "scale", "minutes", "gigabytes", "finished", "folder", "parameters", "metrics"]
    return pd.DataFrame(list(found.values()), columns=columns)


def select_runs(table: pd.DataFrame, where: dict) -> pd.DataFrame:
    """Return the runs that fit: `where` maps a parameter, or notebook, state or scale, to its value; ValueError for a name that no run has."""
    for name, value in where.items():
        known = sorted({key for parameters in table.parameters for key in parameters} | {"notebook", "state"})
        check_choice("where", name, known)
        values = table[name] if name in ("notebook", "state") else [parameters.get(name) for parameters in table.parameters]
        wanted = [str(given).startswith(str(value)) if name == "notebook" else given == value or given == [value] for given in values]
        table = table[wanted]
    return table


def compare_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Return runs side by side, a line a run: the parameters in which they differ, then their metrics, {"perplexity": {"en": 9}} as "perplexity en"."""
    rows = []
    for run in table.itertuples():
        numbers = dict(list_numbers(run.metrics))
        rows.append({"run": run.run, "state": run.state, **{name: format_value(value) for name, value in run.parameters.items() if name != "out"}, **numbers})
    compared = pd.DataFrame(rows)
    named = [name for name in compared if name in {key for parameters in table.parameters for key in parameters}]
    return compared.drop(columns=[name for name in named if compared[name].nunique(dropna=False) == 1])


def list_numbers(value, name: str = "") -> list[tuple[str, float]]:
    """Return (name, number) of every number within mappings, the keys on the way joined by spaces."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in list_numbers(inner, f"{name} {key}".strip())]
    return [(name, value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def format_value(value) -> str:
    """Return a parameter's value as short text, for tables and titles."""
    text = f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def find_unused(folders: list[Path]) -> pd.DataFrame:
    """Return every artefact and what refers to it: columns name, kind, megabytes, state ("used", "unused", "unfinished"), path.

    Used is what a run under the folders has asked for (its `artifacts.txt`), and what that was made from. An unfinished one is
    what an interrupted training goes on from. One that a process holds by its lock is left out.
    """
    open_names = [name for path in find_in_runs(folders, "artifacts.txt") for name in path.read_text(encoding="utf-8", errors="replace").split()]
    used = set()
    while open_names:
        name = open_names.pop()
        if name not in used:
            used.add(name)
            with suppress(OSError, ValueError, KeyError, AttributeError):
                open_names += read_manifest(artifacts_dir() / name)["parents"].values()
    rows = []
    for path in sorted(artifacts_dir().iterdir()) if artifacts_dir().is_dir() else []:
        name = path.name.removeprefix("partial-")
        if not path.is_dir() or path.is_symlink() or name.rpartition("-")[0] not in FORMATS or is_locked(artifacts_dir() / f"{name}.lock"):
            continue
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        state = "unfinished" if path.name != name else "used" if name in used else "unused"
        rows.append({"name": path.name, "kind": name.rpartition("-")[0], "megabytes": size / 1e6, "state": state, "path": path})
    return pd.DataFrame(rows, columns=["name", "kind", "megabytes", "state", "path"])


def is_locked(path: Path) -> bool:
    lock = FileLock(path)
    if not path.exists():
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def remove_artifacts(table: pd.DataFrame) -> None:
    """Remove the artefacts of `find_unused`'s lines, each under its lock."""
    for path in table.path:
        with FileLock(artifacts_dir() / f"{path.name.removeprefix('partial-')}.lock", timeout=0):
            shutil.rmtree(path)


def write_report(out: Path) -> Path:
    """Write `report.html`, one self-contained page on a run or a sweep: findings, claims, figures, tables, configuration, versions. Returns its path."""
    notebooks = read_metrics(out)
    sections, claims, contents = [], [], []
    runs = read_runs([out])
    titles = name_sections(notebooks)
    for entry, title in zip(notebooks, titles, strict=True):
        anchor, folder = html.escape(entry["folder"].name, quote=True), entry["folder"]
        findings = "".join(f"<li>{format_finding(finding)}</li>" for finding in entry["findings"])
        figures = "".join(figure_html(folder / "figures" / f"{figure['name']}.png", figure["caption"]) for figure in entry["figures"])
        tables = "".join(table_html(folder / "tables" / f"{name}.parquet") for name in entry["tables"])
        sections.append(f'<section id="{anchor}"><h2>{html.escape(title)}</h2><ul>{findings}</ul>{figures}{tables}<p class=small>{entry["seconds"]:.0f} s · '
                        f"<a href='{anchor}/executed.ipynb'>executed notebook</a></p></section>")
        contents.append(f'<a href="#{anchor}">{html.escape(entry["notebook"] if len(set(titles)) == len({e["notebook"] for e in notebooks}) else title)}</a>')
        claims += [finding for finding in entry["findings"] if finding["claim"]]
    rows = "".join(f"<tr><td>{claim['claim']}</td><td class='{claim['verdict'].replace(' ', '-')}'>{claim['verdict']}</td>"
                   f"<td>{html.escape(claim['text'])}</td></tr>" for claim in claims)
    if len(runs) > len({entry["notebook"] for entry in notebooks}):  # a sweep: its runs side by side, with those that did not end
        sections.insert(0, f"<section><h2>Runs</h2>{compare_runs(runs).to_html(index=False, na_rep='', float_format='{:.4g}'.format, border=0)}"
                           f"{''.join(f'<p>{html.escape(text)}</p>' for text in list_failures(runs))}</section>")
    config = {entry["folder"].name: {"parameters": entry["parameters"], "versions": entry["versions"]} for entry in notebooks}
    page = Template(files("mome").joinpath("report.html").read_text(encoding="utf-8")).substitute(
        run=html.escape(Path(out).name), claims=rows, sections="".join(sections), contents="".join(contents),
        config=html.escape(json.dumps(config, indent=1)))
    path = Path(out) / "report.html"
    aside = path.with_name(f".report.{os.getpid()}")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, path)
    return path


def name_sections(notebooks: list[dict]) -> list[str]:
    """Return a heading for each: the notebook's own title and, where a notebook ran more than once, the parameters that differ."""
    titles = []
    for entry in notebooks:
        first = next(cell for cell in read_json(entry["folder"] / "executed.ipynb")["cells"] if cell["cell_type"] == "markdown")
        others = [other["parameters"] for other in notebooks if other["notebook"] == entry["notebook"]]
        differing = [name for name in entry["parameters"] if name != "out" and any(other.get(name) != entry["parameters"][name] for other in others)]
        titles.append(" · ".join([entry["notebook"][:2], "".join(first["source"]).splitlines()[0].removeprefix("# "),
                                  *(f"{name} {format_value(entry['parameters'][name])}" for name in differing)]))
    return titles


def list_failures(runs: pd.DataFrame) -> list[str]:
    return [f"{run.run} failed in {describe_failure(run.folder)}" for run in runs[runs.state == "failed"].itertuples()]


def table_html(path: Path, at_most: int = 200) -> str:
    """Return a table as a folded part of the page, its first lines when it is long."""
    table = pd.read_parquet(path)
    note = f", the first {at_most}" if len(table) > at_most else ""
    body = table.head(at_most).to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0)
    return f"<details><summary>{html.escape(path.stem)}: {len(table)} lines{note}</summary>{body}</details>"


def format_finding(finding: dict) -> str:
    lead = f"<b class='{finding['verdict'].replace(' ', '-')}'>{finding['claim']} {finding['verdict']}.</b> " if finding["claim"] else ""
    return lead + html.escape(finding["text"])


def figure_html(path: Path, caption: str) -> str:
    content = path.read_bytes()
    image, points = base64.b64encode(content).decode(), int.from_bytes(content[16:20], "big")  # a PNG's width: letters as in the text
    return (f'<figure><img alt="{html.escape(caption)}" style="width:{points / FIGURE_DPI:.2f}in" src="data:image/png;base64,{image}">'
            f'<figcaption>{html.escape(caption)}</figcaption></figure>')


def publish(out: Path) -> list[Path]:
    """Copy a run's figures to `figures/` and its claims into README.md between the marks; return what was written.

    Figures and claims of notebooks that the run does not hold stay; every claim names the run that it is from. Figures of
    a notebook that it does hold and that are no longer made go.
    """
    notebooks = read_metrics(out)
    if not notebooks:
        raise ValueError(f"run={str(out)!r} holds no complete notebook; give the folder of a finished `mome run`")
    written, folder = [], repository() / "figures"
    folder.mkdir(exist_ok=True)
    for entry in notebooks:
        for old in folder.glob(f"{entry['notebook'][:2]}_*.png"):
            old.unlink()
        for figure in entry["figures"]:
            target = folder / f"{entry['notebook'][:2]}_{figure['name']}.png"
            shutil.copyfile(entry["folder"] / "figures" / f"{figure['name']}.png", target)
            written.append(target)
    readme = repository() / "README.md"
    text = readme.read_text(encoding="utf-8")
    block = re.search(r"<!-- claims -->.*<!-- /claims -->", text, flags=re.DOTALL).group()
    rows = {line.split("|")[1].strip(): line for line in block.splitlines() if re.match(r"\| C\d", line)}
    for entry in notebooks:
        rows |= {f["claim"]: f"| {f['claim']} | **{f['verdict']}** | {f['text']} | `{entry['run']}` |" for f in entry["findings"] if f["claim"]}
    table = ["| claim | verdict | measured | run |", "| --- | --- | --- | --- |", *(rows[claim] for claim in sorted(rows))]
    readme.write_text(text.replace(block, "\n".join(["<!-- claims -->", *table, "<!-- /claims -->"])), encoding="utf-8")
    return [*written, readme]
