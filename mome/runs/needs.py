"""What a notebook needs: its cell tagged `needs`, executed alone, with the parameters and nothing else."""

import copy
import traceback
from pathlib import Path

from mome.checks import is_sentence
from mome.recipe import collect
from mome.runs.parameters import find_cell


def read_needs(path: Path, values: dict):
    """Return `needs`, any nesting of recipes, as a notebook declares them for these values; builds nothing.

    Raises ValueError, which names notebook and cause, when it has no such cell or when the cell fails.
    """
    source, place = find_cell(path, "needs"), f"<needs of {path.stem}>"
    namespace = {"__name__": path.stem, **copy.deepcopy(values)}
    try:
        exec(compile(source, place, "exec"), namespace)
        collect(namespace["needs"])
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == place]
        where = f", line {lines[-1]}" if lines else ""
        told = f"{error}" if is_sentence(error) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path.stem}, cell 'needs'{where}: {told}") from error
    return namespace["needs"]
