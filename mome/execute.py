"""One notebook in one kernel: papermill with pinned threads, a kernel that died started again, a stop that leaves checkpoints."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from mome.artifacts import read_json, write_json

KERNEL_STARTS = 3
IDLE_LOOKS = 3  # so many times 5 seconds in which a kernel to be stopped does nothing
# A process that the system or a person killed says nothing about the run: it is tried again.
LOST_PROCESS = ("BrokenProcessPool", "DeadKernelError")


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; what was finished stays. Attributes: cell (from 1), error (name of its class), message."""

    def __init__(self, notebook: str, cell: int, error: str, message: str, executed: Path):
        super().__init__(f"{notebook} stopped in cell {cell}: {error}: {message}; see {executed}. Finished artefacts are kept: the same command goes on "
                         "from here")
        self.cell, self.error, self.message = cell, error, message


class KernelLost(RuntimeError):
    """The kernel, or a process of training, died again and again. That says nothing of the notebook: the same command tries again."""


def is_complete(folder: Path) -> bool:
    """True when a run's results and its executed notebook are both there: each is renamed into place when whole."""
    return (folder / "metrics.json").exists() and (folder / "executed.ipynb").exists()


def execute_notebook(path: Path, folder: Path, given: dict, threads: int, *, on_cell: Callable[[int, int], None] | None = None,
                     is_stopped: Callable[[], bool] | None = None) -> None:
    """Execute a notebook into `folder/executed.ipynb` in a kernel of this Python that uses so many threads.

    `on_cell(number, total)` is told of each cell. When `is_stopped()` turns true the kernel is interrupted as by Ctrl-C, so
    that a training writes its checkpoint; one that then neither ends nor works is killed. A kernel or training process that
    dies is replaced, up to `KERNEL_STARTS` kernels in all. Raises NotebookFailed for a cell that raised, KernelLost after the
    last of them and KeyboardInterrupt when stopped.
    """
    from papermill.exceptions import PapermillExecutionError  # seconds, which planning and listing runs can do without

    environment = {"MOME_BATCH": "1", "MOME_STATUS": str(folder / "status.json"), "TOKENIZERS_PARALLELISM": "true",
                   "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error",
                   "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "failure.json", "executed.ipynb"):
        (folder / name).unlink(missing_ok=True)
    executing, executed = folder / "executing.ipynb", folder / "executed.ipynb"
    with environment_variables(environment):
        for start in range(1, KERNEL_STARTS + 1):
            try:
                run_kernel(path, executing, {**given, "out": str(folder)}, on_cell, is_stopped)
                break
            except PapermillExecutionError as error:
                # Interrupted within a compiled part, a cell may end without saying of what.
                if error.ename == "KeyboardInterrupt" or (is_stopped and is_stopped()):
                    raise KeyboardInterrupt(f"{path.stem} stopped in cell {error.cell_index + 1}") from None
                if error.ename not in LOST_PROCESS and (error.ename, error.evalue) != ("CellExecutionError", ""):  # the kernel went without a word
                    message = (str(error.evalue).strip().splitlines() or [""])[-1]
                    os.replace(executing, executed)
                    raise NotebookFailed(path.stem, error.cell_index + 1, error.ename, message, executed) from None
                lost = f"a process of training died in cell {error.cell_index + 1}"
            except RuntimeError as error:  # nbclient's DeadKernelError, and a kernel that did not start
                if is_stopped and is_stopped():
                    raise KeyboardInterrupt(f"{path.stem} stopped with its kernel") from None
                lost = f"the kernel died ({error})"
            if start == KERNEL_STARTS:
                raise KernelLost(f"{path.stem}: {lost}, the last of {start} tries; memory may have run out. The same command goes on from here")
            (folder / "metrics.json").unlink(missing_ok=True)
    os.replace(executing, executed)


def run_kernel(path: Path, executing: Path, parameters: dict, on_cell, is_stopped) -> None:
    """Run papermill's own engine with three things added: cells are announced, the kernel's number is known, its log is quiet."""
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from papermill.engines import NBClientEngine, papermill_engines

    kernels, over = [], threading.Event()

    class Kernel(AsyncKernelManager):
        async def _async_post_start_kernel(self, **options):
            await super()._async_post_start_kernel(**options)
            kernels.append(self.provisioner.pid)

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            cell_start = nb_man.cell_start

            def report_and_start(cell, cell_index=None, **rest):
                if on_cell:
                    on_cell(cell_index + 1, len(nb_man.nb.cells))
                cell_start(cell, cell_index, **rest)

            nb_man.cell_start = report_and_start
            options["extra_arguments"] = ["--IPKernelApp.log_level=ERROR"]  # or each kernel warns of plain TCP on this machine
            options["kernel_manager_class"] = Kernel
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    def interrupt_when_stopped():
        idle = 0
        while not over.wait(0.3):
            if is_stopped() and kernels:
                before = cpu_seconds(kernels[-1])
                with suppress(ProcessLookupError):
                    # Interrupted between two cells, a kernel may forget what it was asked; both sides would then wait for ever.
                    os.kill(kernels[-1], signal.SIGKILL if idle == IDLE_LOOKS else signal.SIGINT)
                over.wait(5)  # the training loop finishes its step first
                idle = idle + 1 if cpu_seconds(kernels[-1]) - before < 0.2 else 0

    papermill_engines.register("mome", Engine)
    if is_stopped:
        threading.Thread(target=interrupt_when_stopped, daemon=True).start()
    try:
        papermill.execute_notebook(str(path), str(executing), parameters=parameters, engine_name="mome", kernel_name="python3", progress_bar=False,
                                   start_timeout=180)
    finally:
        over.set()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have used so far; 0 for one that is gone."""
    total = 0.0
    with suppress(psutil.Error):
        kernel = psutil.Process(pid)
        for process in [kernel, *kernel.children(recursive=True)]:
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
    return total


@contextmanager
def environment_variables(values: Mapping[str, str]):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def execute_run(job: dict) -> dict:
    """Execute one run of a sweep where the sweep has put it, on this machine or another; return {"run", "state", "seconds", ...}.

    `job` holds notebook, folder, parameters, threads, environment, stop (a file that, once there, stops all), halt (one that
    only keeps new runs from starting), parent (the process with which to stop, or None), is_patient (wait for another sweep
    that has this run in hand) and keep_going (else a failure leaves `halt`). State is "complete", "failed" (with cell, error,
    message), "lost" (killed again and again), "busy" or "stopped".
    """
    folder, stop, halt, started = Path(job["folder"]), Path(job["stop"]), Path(job["halt"]), time.perf_counter()
    if job["parent"] != os.getpid() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the sweep decides, through the file

    def is_stopped() -> bool:
        return stop.exists() or (job["parent"] is not None and job["parent"] not in (os.getpid(), os.getppid()))

    def result(state: str, **more) -> dict:
        return {"run": folder.name, "state": state, "seconds": round(time.perf_counter() - started, 1), **more}

    def hold_back() -> None:
        if not job["keep_going"]:
            with suppress(OSError):
                halt.touch()

    lock = FileLock(f"{folder}.lock")
    while True:
        if is_stopped() or halt.exists():
            return result("stopped")
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            if not job["is_patient"]:
                return result("busy")
    try:
        if is_complete(folder):
            return result("complete", is_found=True)
        with environment_variables(job["environment"]):
            execute_notebook(Path(job["notebook"]), folder, job["parameters"], job["threads"], is_stopped=is_stopped)
        return result("complete")
    except KeyboardInterrupt:
        return result("stopped")
    except KernelLost as error:
        hold_back()
        return result("lost", message=str(error))
    except (NotebookFailed, OSError) as error:  # an OSError is of the folder itself: full, or not to be written
        hold_back()
        cell, name, message = (error.cell, error.error, error.message) if isinstance(error, NotebookFailed) else (0, type(error).__name__, str(error))
        return note_failure(folder, result("failed", cell=cell, error=name, message=message))
    finally:
        (folder / "status.json").unlink(missing_ok=True)
        lock.release()


def note_failure(folder: Path, result: dict) -> dict:
    """Leave `failure.json` in the run's folder, if it can be written, and return the result."""
    try:
        write_json(folder / "failure.json", result)
    except OSError as error:
        result["message"] += f"; nor could failure.json be written ({error})"
    return result


def run_state(folder: Path) -> str:
    """Return "complete", "failed", "interrupted" or "new". What lies in the folder decides, so that no lost process and no clock can mislead."""
    if is_complete(folder):
        return "complete"
    if (folder / "failure.json").exists():
        return "failed"
    return "interrupted" if folder.exists() else "new"


def read_failure(folder: Path) -> dict:
    """Return what `note_failure` left; a damaged file says so of itself."""
    try:
        return {"cell": 0, "error": "", "message": "", **read_json(folder / "failure.json")}
    except (OSError, TypeError, ValueError) as error:  # gone: another sweep tries the run again
        return {"cell": 0, "error": type(error).__name__, "message": str(error)}


def describe_failure(folder: Path) -> str:
    """Return where and of what a run failed, in words."""
    failure = read_failure(folder)
    return f"cell {failure['cell']}: {failure['error']}: {failure['message']}"
