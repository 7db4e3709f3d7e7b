"""Where things lie: checkout, folder that is built into; whether a person is watching; how many cores."""

import os
from pathlib import Path

FIGURE_DPI, WORKER_THREADS = 150, 1


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


def tracker_dir() -> Path:
    return home() / "tracker"


def notebook_paths(is_numbered: bool = False) -> list[Path]:
    """Return the notebooks in the order of their names; only the numbered ones make up a run of all."""
    return sorted((repository() / "notebooks").glob(f"{'[0-9][0-9]_' if is_numbered else '[!.]'}*.ipynb"))


def is_batch() -> bool:
    """True when a command started this process: nobody watches, so there are no widgets and no bars."""
    return os.environ.get("MOME_BATCH") == "1"


def list_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def count_workers() -> int:
    """Return how many recipes are built at a time: MOME_WORKERS, else the cores that this process may use."""
    return read_count("MOME_WORKERS", len(list_cores()))


def read_count(name: str, default: int) -> int:
    """Return the number that the environment gives under a name, else the default."""
    given = os.environ.get(name, "")
    if given and not (given.isdecimal() and int(given)):
        raise ValueError(f"{name}={given!r} is not allowed; it must be a whole number of at least 1")
    return int(given) if given else default
