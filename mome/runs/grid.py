"""Which notebooks run with which values: each once, or over a grid. Every combination is checked first."""

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mome.board import say
from mome.config import notebook_paths, runs_dir
from mome.recipe import collect
from mome.recipes.setting import open_setting
from mome.runs.execute import NotebookRun
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters, declared_parameters, hash_code
from mome.runs.record import check_same_run
from mome.store import content_hash


def find_notebook(name: str) -> Path:
    """Return the path of a notebook by its path, its number, its name or the beginning of its name."""
    if Path(name).suffix == ".ipynb" and Path(name).expanduser().is_file():
        return Path(name).expanduser().resolve()
    start = f"{int(name):02d}_" if name.isdecimal() else name
    found = [path for path in notebook_paths() if name and path.stem.startswith(start)]
    if len(found) != 1:
        raise ValueError(f"notebook={name!r} {'is several' if found else 'does not exist'}; there are: "
                         f"{', '.join(path.stem for path in notebook_paths())}")
    return found[0]


def plan_run(only: list[str], parameters: dict, out: Path) -> list[NotebookRun]:
    """Return a run of each chosen notebook, or of all with a number, into `out/<notebook>`, needs declared.

    A parameter goes to the notebooks that declare it; ValueError when none of them does.
    """
    paths = list(dict.fromkeys(map(find_notebook, only))) or notebook_paths(is_numbered=True)
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError(f"only={only!r} holds two notebooks of one name; run them into folders of their own")
    spec = {"notebooks": [{"notebook": str(path)} for path in paths], "parameters": parameters}
    runs = [make_run(path, values, Path(out).expanduser().resolve() / path.stem)
            for path, values, _ in list(list_points(spec))]
    for run in runs:
        check_same_run(run.folder, json.loads(run.parameters))
    return runs


def plan_sweep(spec: dict, out: Path | str = "") -> list[NotebookRun]:
    """Return the runs of a sweep, each once: the product of each notebook's grid, every value checked first.

    `spec` is the mapping of a sweep's file: notebooks (each: notebook, parameters, grid), parameters, out. A
    run's folder is named by notebook, code and parameters, so that the same command finds it again.
    """
    found = {}
    for path, values, label in list_points(spec):
        found[f"{path.stem}-{content_hash([hash_code(path), write_values(values)])}"] = path, values, label
    root = Path(out or spec.get("out") or runs_dir() / f"sweep-{content_hash(sorted(found))}")
    root = root.expanduser().resolve()
    return [make_run(path, values, root / name, label) for name, (path, values, label) in found.items()]


def make_run(path: Path, values: dict, folder: Path, label: str = "") -> NotebookRun:
    needs = tuple(collect(read_needs(path, values)))
    return NotebookRun(path.stem, hash_code(path), write_values(values), needs, str(path), str(folder), label)


def write_values(values: dict) -> str:
    """Return a run's values without `out` as JSON, the same text for equal values."""
    given = {name: value for name, value in values.items() if name != "out"}
    return json.dumps(given, sort_keys=True, ensure_ascii=False)


def list_points(spec: dict) -> Iterator[tuple[Path, dict, str]]:
    """Yield (notebook, checked values, what varies in words) of each point of a sweep's grids.

    ValueError for a name that no notebook knows, that is given twice, or that holds no list in a grid.
    """
    entries = [(find_notebook(str(entry["notebook"])), entry) for entry in spec["notebooks"]]
    declared, shared = {path: declared_parameters(path) for path, _ in entries}, spec.get("parameters", {})
    for name, value in shared.items():
        if not any(fit_names(path, {name: [value]}).keys() <= declared[path].keys() for path in declared):
            known = sorted({known for names in declared.values() for known in names} - {"out"})
            raise ValueError(f"parameter {name!r} is unknown to the notebooks chosen; they have: "
                             f"{', '.join(known)}")
    corpora, tell = {}, cache(say)  # what all points share is found, and told, once
    for path, entry in entries:
        single, swept = entry.get("parameters", {}), entry.get("grid", {})
        for name, values in swept.items():
            if not isinstance(values, list) or not values or name in single:
                raise ValueError(f"grid {name}={values!r} of {path.stem} is not allowed; give a list of "
                                 "values and no single value beside it")
        common = fit_names(path, {name: [value] for name, value in shared.items()})
        grid = {name: values for name, values in common.items() if name in declared[path]}
        grid |= fit_names(path, {name: [value] for name, value in single.items()} | swept)
        for point in itertools.product(*grid.values()):
            values = check_parameters(path, dict(zip(grid, point, strict=True)), tell)
            label = " ".join(f"{name}={format_value(values[name])}" for name in grid if len(grid[name]) > 1)
            yield path, values | {"corpus": resolve_corpus(values, corpora)}, label


def fit_names(path: Path, grid: dict[str, list]) -> dict[str, list]:
    """Return a grid as the notebook declares it: `alpha` 0.5 is `alphas` [0.5] where that is all."""
    declared, found = declared_parameters(path), {}
    for name, values in grid.items():
        if name not in declared and isinstance(declared.get(f"{name}s"), list):
            name, values = f"{name}s", [[value] for value in values]
        if name in found or name == "out":
            raise ValueError(f"parameter {name!r} of {path.stem} is given twice, alone and as a list, or set "
                             "by the command itself; keep one, and give --out for its folder")
        found[name] = values
    return found


def resolve_corpus(values: dict, corpora: dict[tuple, str]) -> str:
    """Return the corpus by its full name, found once a command: `corpora` keeps it."""
    key = (values["corpus"], *values["languages"])
    if key not in corpora:
        setting = open_setting(values["scale"], values["corpus"], values["languages"], values["overrides"])
        corpora[key] = setting.corpus_name
        if values["corpus"] == "auto":
            say(f"corpus {setting.corpus_name}: {setting.reason}")
    return corpora[key]


def format_value(value) -> str:
    """Return a parameter's value as short text, for tables and titles."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else text
    return text if len(text) <= 60 else f"{text[:57]}..."
