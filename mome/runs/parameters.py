"""A notebook's parameters: literals in its cell tagged `parameters`, checked before anything slow."""

import ast
from pathlib import Path

from mome.checks import check_seeds
from mome.scales import resolve_scale
from mome.store import content_hash, read_json
from mome.values import cast

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
    return content_hash([cell["source"] for cell in read_cells(path)
                         if cell["kind"] == "code" and "parameters" not in cell["tags"]])


def declared_parameters(path: Path) -> dict:
    """Return {name: default} of a notebook; ValueError when they are no literals. Nothing in it is run."""
    source = find_cell(path, "parameters")
    try:
        return literal_assignments(source)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: parameters are no literals ({type(error).__name__}: {error})") from None


def literal_assignments(source: str) -> dict:
    """Return {name: value} of the plain assignments of literals in a cell."""
    values = {}
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name):
            values[target.id] = ast.literal_eval(node.value)
    return values


def check_names(path: Path, names, declared) -> None:
    for name in names:
        if name not in declared:
            raise ValueError(f"parameter {name!r} is unknown to {path.stem}; it has: {', '.join(declared)}")


def check_parameters(path: Path, given: dict) -> dict:
    """Return the notebook's parameters, `given` in place of defaults and in their types; ValueError at once.

    Checked are names, types, scale and seeds. What else a value may be, the setting and the recipes of its
    needs say: they are made before anything is built.
    """
    declared = declared_parameters(path)
    check_names(path, given, declared)
    if missing := [name for name in COMMON_PARAMETERS if name not in declared]:
        raise ValueError(f"{path} has no parameter {missing[0]!r}; all have {', '.join(COMMON_PARAMETERS)}")
    values = {name: fit_type(name, given.get(name, default), default) for name, default in declared.items()}
    resolve_scale(values["scale"], values["overrides"])
    check_seeds(values.get("seeds", [0]))
    return values


def fit_type(name: str, value, default):
    """Return the value as its default is typed, 2 as 2.0 among fractions; ValueError for another type."""
    kinds = {type(item) for item in default} if isinstance(default, list) else set()
    if len(kinds) == 1 and isinstance(value, list):
        return list(cast(name, value, tuple[kinds.pop(), ...]))
    return cast(name, value, type(default))
