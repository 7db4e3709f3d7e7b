"""papermill over notebooks: parameters checked first, one kernel after another, progress all the way."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import papermill
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from mome.artifacts import read_json
from mome.config import artifacts_dir, resolve_scale, runs_dir
from mome.recipes import open_bench
from mome.runs import check_parameters, declared_parameters, notebook_paths, write_report

LEAST_FREE_BYTES = 2_000_000_000  # laptop scale with one seed leaves about half of that


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; what was finished stays."""


def select_notebooks(only: list[str]) -> list[Path]:
    """Return the numbered notebooks whose name starts with one of `only` (all for an empty list); ValueError for no match."""
    paths = notebook_paths()
    for prefix in only:
        if not any(path.stem.startswith(prefix) for path in paths):
            raise ValueError(f"only={prefix!r} matches no notebook; choose from: {', '.join(path.stem for path in paths)}")
    return [path for path in paths if not only or any(path.stem.startswith(prefix) for prefix in only)]


def plan_run(only: list[str], parameters: dict) -> list[tuple[Path, dict]]:
    """Return (notebook, its parameters) in order, every value checked before a kernel starts.

    A parameter goes to the notebooks that declare it; ValueError when none of the chosen ones does.
    """
    paths = select_notebooks(only)
    declared = {path: declared_parameters(path) for path in paths}
    for name in parameters:
        if not any(name in names for names in declared.values()):
            known = sorted({name for names in declared.values() for name in names} - {"out"})
            raise ValueError(f"parameter {name!r} is unknown to the chosen notebooks; they have: {', '.join(known)}")
    plan = [(path, {name: value for name, value in parameters.items() if name in declared[path]}) for path in paths]
    for path, given in plan:
        check_parameters(path, given)
    return plan


def prepare(parameters: dict) -> None:
    """Build or find corpus and data before the first kernel: what is wrong with them is then said at once, as bad input."""
    free = shutil.disk_usage(nearest_folder(artifacts_dir())).free
    if free < LEAST_FREE_BYTES:
        raise OSError(f"only {free / 1e9:.1f} GB are free under {artifacts_dir()}; at least {LEAST_FREE_BYTES / 1e9:g} GB are needed, "
                      "or set MOME_HOME elsewhere")
    bench = open_bench(resolve_scale(parameters["scale"], parameters.get("overrides")), parameters["corpus"], parameters["languages"])
    say(f"corpus {bench.corpus}: {bench.corpus_reason}")


def nearest_folder(path: Path) -> Path:
    """Return the path, or the closest of its parents that exists."""
    return next(folder for folder in [path, *path.parents] if folder.exists())


def run_notebooks(plan: list[tuple[Path, dict]], out: Path) -> Path:
    """Execute the plan into `out/<notebook>/executed.ipynb` and return the report's path.

    Raises NotebookFailed at the first cell that raises; the report then holds what was finished before it.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        for number, (path, given) in enumerate(plan, 1):
            folder = (out / path.stem).resolve()
            folder.mkdir(exist_ok=True)
            (folder / "metrics.json").unlink(missing_ok=True)
            notebook_started = time.perf_counter()
            with ProgressLine(f"[{number}/{len(plan)}] {path.stem}", folder / "status.json") as line:
                execute_notebook(path, folder, given, line)
            say(f"[{number}/{len(plan)}] {path.stem} done in {format_seconds(time.perf_counter() - notebook_started)}")
    finally:
        report = write_report(out)
    say(f"all done in {format_seconds(time.perf_counter() - started)}; report: {report}")
    return report


def execute_notebook(path: Path, folder: Path, given: dict, line: ProgressLine) -> None:
    """Execute one notebook in a kernel of this Python, its threads pinned to the machine's cores."""
    environment = {"MOME_BATCH": "1", "MOME_STATUS": str(folder / "status.json"), "TOKENIZERS_PARALLELISM": "true",
                   "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error",
                   "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            cell_start = nb_man.cell_start

            def report_and_start(cell, cell_index=None, **rest):
                line.cell(cell_index + 1, len(nb_man.nb.cells))
                cell_start(cell, cell_index, **rest)

            nb_man.cell_start = report_and_start
            options["extra_arguments"] = ["--IPKernelApp.log_level=ERROR"]  # or each kernel warns of plain TCP on this machine
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("mome", Engine)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        papermill.execute_notebook(str(path), str(folder / "executed.ipynb"), parameters={**given, "out": str(folder)}, engine_name="mome",
                                   kernel_name="python3", progress_bar=False, start_timeout=180)
    except PapermillExecutionError as error:
        message = str(error.evalue).strip().splitlines()
        raise NotebookFailed(f"{path.stem} stopped in cell {error.cell_index + 1}: {error.ename}: {message[-1] if message else ''}; "
                             f"see {folder / 'executed.ipynb'}. Finished artefacts are kept: the same command goes on from here") from None
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class ProgressLine:
    """One line on the terminal, rewritten every second; without a terminal a line every 20 seconds."""

    def __init__(self, title: str, status: Path):
        self.title, self.status, self.cells = title, status, ""
        self.started, self.stopped = time.perf_counter(), threading.Event()
        self.thread = threading.Thread(target=self.show, daemon=True)

    def __enter__(self):
        say(self.title)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self.status.unlink(missing_ok=True)

    def cell(self, number: int, total: int) -> None:
        self.cells = f"cell {number}/{total}"

    def show(self) -> None:
        watched = sys.stderr.isatty()
        while not self.stopped.wait(1 if watched else 20):
            text = f"{self.title} · {format_seconds(time.perf_counter() - self.started)} · {self.cells}{self.work()}"
            print(f"\r\033[K{text[:150]}" if watched else text, end="" if watched else "\n", file=sys.stderr, flush=True)
        if watched:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def work(self) -> str:
        """Return what the training loop says of itself."""
        try:
            status = read_json(self.status)
        except (OSError, ValueError):
            return ""
        left = status["seconds_left"]
        return f" · {status['text']}" + (f" · {format_seconds(left)} left" if left is not None else "")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def default_out(scale: str) -> Path:
    return runs_dir() / f"{scale}-{time.strftime('%Y%m%d-%H%M%S')}"
