"""Where things lie: the checkout, the folder that is built into, and whether a person is watching."""

import os
from pathlib import Path

FIGURE_DPI = 150


def repository() -> Path:
    """Return the checkout that holds `notebooks/` and `data/mini/`; FileNotFoundError without it."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "notebooks").is_dir():
        raise FileNotFoundError(
            f"no notebooks beside {root}: install the workbook from its checkout with `pip install -e .`")
    return root


def home() -> Path:
    """Return the folder under which everything is built: `MOME_HOME` when set, else the checkout."""
    override = os.environ.get("MOME_HOME")
    return Path(override).expanduser().resolve() if override else repository()


def store_dir() -> Path:
    return home() / "data" / "store"


def runs_dir() -> Path:
    return home() / "runs"


def notebook_paths() -> list[Path]:
    """Return the numbered notebooks in order."""
    return sorted((repository() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def is_batch() -> bool:
    """True when a command started this process: nobody watches, so there are no widgets and no bars."""
    return os.environ.get("MOME_BATCH") == "1"
