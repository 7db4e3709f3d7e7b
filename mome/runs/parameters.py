"""A notebook's parameters: literals in its cell tagged `parameters`, checked before anything slow."""

import ast
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mome.board import say
from mome.checks import check_seeds
from mome.languages import check_languages
from mome.recipe import to_plain
from mome.runs.defaults import fit_defaults
from mome.runs.state import find_shell
from mome.scales import resolve_scale
from mome.store import content_hash, read_json
from mome.values import Values, cast

NO_LITERALS = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
COMMON_PARAMETERS = ("scale", "corpus", "languages", "overrides", "out")


def read_cells(path: Path) -> list[dict]:
    """Return a notebook's cells as {"kind", "source", "tags"}; ValueError when it is damaged or none."""
    notebook = read_json(path)  # plain JSON: nbformat takes seconds to import, in every kernel
    try:
        return [{"kind": cell["cell_type"], "source": "".join(cell["source"]),
                 "tags": list(cell["metadata"].get("tags", []))} for cell in notebook["cells"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no notebook ({type(error).__name__}: {error})") from None


def find_cell(path: Path, tag: str) -> str:
    """Return the source of the cell with that tag."""
    for cell in read_cells(path):
        if tag in cell["tags"]:
            return cell["source"]
    raise ValueError(f"{path} has no cell tagged {tag!r}; one is tagged 'parameters', one 'needs', which "
                     "sets `needs` to the recipes that the notebook reads, or to []")


def hash_code(path: Path) -> str:
    """Return a hash of what a notebook does: its code cells, without its parameters and prose."""
    return content_hash([cell["source"] for cell in read_cells(path) if cell["kind"] == "code"
                         and not {"parameters", "injected-parameters"}.intersection(cell["tags"])])


def declared_parameters(path: Path) -> dict:
    """Return {name: default} of a notebook; ValueError when they are no literals. Nothing in it is run."""
    source = find_cell(path, "parameters")
    try:
        return literal_assignments(source)
    except NO_LITERALS as error:
        raise ValueError(f"{path}: parameters are no literals ({type(error).__name__}: {error})") from None


def literal_assignments(source: str) -> dict:
    """Return {name: value} of the plain assignments of literals in a cell."""
    values = {}
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name):
            values[target.id] = ast.literal_eval(node.value)
    return values


def read_kernel() -> tuple[dict, dict]:
    """Return what this kernel's last cell of parameters declares, and what papermill's cell set after it.

    Read from the cells as they were executed: no file tells a kernel which notebook is its own, nor what was
    edited and not saved. Both are empty where there is no kernel.
    """
    shell, declared, injected = find_shell(), {}, {}
    for cell in shell.user_ns.get("In", []) if shell else []:
        with suppress(*NO_LITERALS):
            values = literal_assignments(cell)
            if cell.startswith("# Parameters\n"):
                injected |= values
            elif values.keys() >= {*COMMON_PARAMETERS}:
                declared, injected = values, {}
    return declared, injected


def check_parameters(path: Path, given: dict, tell: Callable[[str], None] = say) -> dict:
    """Return the notebook's parameters, `given` in place of defaults and in their types; ValueError at once.

    Checked are names, types, scale, languages and seeds. What else a value may be, the setting and the
    recipes of its needs say: they are made before anything is built. Defaults that do not suit the languages
    are fitted (`fit_defaults`), each told in a line.
    """
    return fit_values(path.stem, declared_parameters(path), given, given, tell)


def fit_values(notebook: str, declared: dict, given: dict, chosen, tell: Callable[[str], None]) -> dict:
    """Return a notebook's values as `check_parameters` does; of those given a person chose the `chosen`."""
    check_known(notebook, declared, given)
    if missing := [name for name in COMMON_PARAMETERS if name not in declared]:
        raise ValueError(f"{notebook} has no parameter {missing[0]!r}; "
                         f"all have {', '.join(COMMON_PARAMETERS)}")
    values = {name: fit_type(name, given.get(name, default), default) for name, default in declared.items()}
    scale = resolve_scale(values["scale"], values["overrides"])
    values["overrides"] = plain_overrides(scale, values["overrides"])
    check_languages(values["languages"])
    for name, seeds in values.items():
        if name == "seeds" or (name.endswith("_seeds") and seeds):  # whether more may be none, the needs say
            check_seeds(seeds, name)
    return fit_defaults(notebook, values, chosen, tell)


def check_known(notebook: str, declared: dict, given) -> None:
    for name in given:
        if name not in declared:
            raise ValueError(f"parameter {name!r} is unknown to {notebook}; it has: {', '.join(declared)}")


def plain_overrides(base: Values, changes: dict) -> dict:
    """Return the changes as `base`, which has them, holds them: equal ones become the same JSON."""
    found = {}
    for name, value in changes.items():
        held = getattr(base, name)
        if isinstance(held, Values):
            found[name] = plain_overrides(held, value)
        else:
            found[name] = dict(held) if isinstance(value, dict) else to_plain(held)
    return found


def fit_type(name: str, value, default):
    """Return the value as its default is typed, 2 as 2.0 among fractions; ValueError for another type."""
    kinds = {type(item) for item in default} if isinstance(default, list) else set()
    if len(kinds) == 1 and isinstance(value, list):
        return list(cast(name, value, tuple[kinds.pop(), ...]))
    return cast(name, value, type(default))
