"""Where things lie: checkout, workplace, what is built; whether a person is watching; how many cores."""

import os
from functools import cache
from pathlib import Path

FIGURE_DPI, WORKER_THREADS = 150, 1
WIDGET = "application/vnd.jupyter.widget-view+json"  # alive only with a kernel


def is_checkout() -> bool:
    """True when this code runs in its checkout (or an unpacked sdist), False when a wheel was installed."""
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()


def repository() -> Path:
    """Return the folder of `notebooks/`, `data/mini/`, `figures/laptop/`: the checkout, or a wheel's."""
    here = Path(__file__).resolve().parent
    return here.parent if is_checkout() else here / "workbook"


@cache
def find_workplace() -> Path:
    """Return where an installed package works: the nearest folder, from the current one upwards, that holds
    the workbook's notebooks (a kernel of JupyterLab starts beside its notebook), else the current one."""
    first = "notebooks/01_dataset_creation.ipynb"
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / first).is_file()), here)


def home() -> Path:
    """Return the folder under which everything is built: `MOME_HOME` when set, else the checkout, else, of an
    installed package, the workplace."""
    if override := os.environ.get("MOME_HOME"):
        return Path(override).expanduser().resolve()
    return repository() if is_checkout() else find_workplace()


def notebooks_dir() -> Path:
    """Return the folder of the notebooks that are run: the checkout's, else the copies under `home()`."""
    return (repository() if is_checkout() else home()) / "notebooks"


def store_dir() -> Path:
    return home() / "data" / "store"


def runs_dir() -> Path:
    return home() / "runs"


def tracker_dir() -> Path:
    return home() / "tracker"


def notebook_paths(is_numbered: bool = False) -> list[Path]:
    """Return the notebooks in the order of their names; only the numbered ones make up a run of all."""
    return sorted(notebooks_dir().glob(f"{'[0-9][0-9]_' if is_numbered else '[!.]'}*.ipynb"))


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
