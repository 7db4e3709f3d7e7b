"""A notebook as a recipe: its needs are its parents, and papermill executes it in a kernel."""

import json
import os
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mome import store
from mome.config import home
from mome.engine import ENVIRONMENT
from mome.progress import progress
from mome.recipe import Recipe, location
from mome.runs.parameters import check_parameters, hash_code, read_cells
from mome.runs.state import is_complete, lock_name

KERNEL_STARTS = 3
# How papermill names a kernel that went away: by these errors, or by one of its own without a message.
LOST_KERNEL = ("DeadKernelError", "KeyboardInterrupt")


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; the message names it (from 1, in the executed notebook) and the error."""


class KernelLost(RuntimeError):
    """The kernel died again and again. That says nothing of the notebook: the same command tries again."""


@dataclass(frozen=True)
class NotebookRun(Recipe):
    """One execution of the notebook at `path` into the folder `out`, which is no part of the store."""

    only_reads = True

    notebook: str
    code: str  # the hash of its code cells
    parameters: str  # its values without `out`, as JSON
    needs: tuple[Recipe, ...]
    path: str = location()
    out: str = location()
    label: str = location()  # tells the runs of a notebook apart

    @property
    def title(self) -> str:
        return f"notebook {self.notebook} {self.label}".strip()

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def is_there(self) -> bool:
        """True when what lies in the folder is this very run: of this code, these values and needs."""
        executed, name = self.folder / "executed.ipynb", self.folder / "name.txt"
        return (is_complete(self.folder) and executed.exists() and name.exists()
                and name.read_text(encoding="utf-8", errors="replace") == self.name)

    def keep(self) -> Path:
        """Execute the notebook, unless its run is there; BuiltElsewhere while another process executes it."""
        with store.hold(lock_name(self.folder)):
            if not self.is_there:
                self.build(self.folder)
        return self.folder

    def build(self, folder: Path) -> None:
        """Execute into the run's folder. What fails there is noted in failure.txt and raised."""
        path = Path(self.path)
        values = check_parameters(path, json.loads(self.parameters))
        if hash_code(path) != self.code:
            raise ValueError(f"{path} has changed since this was planned; give the same command again")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.json", "failure.txt", "executed.ipynb", "executing.ipynb"):
            (folder / name).unlink(missing_ok=True)
        try:
            store.write_json(folder / "config.json", {"notebook": self.notebook, "parameters": values})
            store.write_text(folder / "name.txt", self.name)
            execute_notebook(path, folder, values | {"out": self.out})
        except (NotebookFailed, OSError) as error:  # an OSError is of the folder: full, or not to be written
            with suppress(OSError):
                store.write_text(folder / "failure.txt", str(error))
            raise

    def work(self) -> float:
        return 2e12  # a kernel that imports its libraries, then cells that read: about 18 seconds


def execute_notebook(path: Path, folder: Path, values: dict) -> None:
    """Execute into `folder/executed.ipynb`; NotebookFailed for a cell, KernelLost when KERNEL_STARTS died."""
    from papermill.exceptions import PapermillExecutionError  # seconds, which plans can do without

    executing, executed = folder / "executing.ipynb", folder / "executed.ipynb"
    for start in range(KERNEL_STARTS):
        if start:
            (folder / "metrics.json").unlink(missing_ok=True)
            time.sleep(random.uniform(0, 2))  # kernels that took each other's port do not do so again
        try:
            run_kernel(path, executing, values)
            os.replace(executing, executed)
            return
        except PapermillExecutionError as error:
            message = (str(error.evalue).strip().splitlines() or [""])[-1]
            lost = f"the kernel died in cell {error.cell_index + 1}"
            if error.ename not in LOST_KERNEL and (error.ename, message) != ("CellExecutionError", ""):
                os.replace(executing, executed)
                raise NotebookFailed(f"{path.stem} stopped in cell {error.cell_index + 1}: {error.ename}: "
                                     f"{message}; see {executed}") from None
        except RuntimeError as error:  # nbclient's DeadKernelError, and a kernel that did not start
            lost = f"the kernel died ({error})"
    raise KernelLost(f"{path.stem}: {lost}, the last of {KERNEL_STARTS} tries; memory may have run out. "
                     "The same command tries again")


def run_kernel(path: Path, executing: Path, values: dict) -> None:
    """Run papermill with a kernel of this Python with one thread, and tell `mome.progress` of each cell."""
    import papermill
    from jupyter_client.manager import AsyncKernelManager

    environment = {**os.environ, **{name: str(value) for name, value in ENVIRONMENT.items()},
                   "MOME_HOME": str(home()), "MOME_NOTEBOOK": str(path)}

    class Kernel(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments=None):  # whatever is called python3 on this machine
            return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file, *extra_arguments]

        async def _async_pre_start_kernel(self, **options):
            return await super()._async_pre_start_kernel(**{**options, "env": environment})

    with progress("cells", len(read_cells(path)) + 1) as shown:  # papermill adds the cell of parameters
        papermill.execute_notebook(
            str(path), str(executing), values, kernel_name="python3", progress_bar=False, start_timeout=180,
            shutdown_kernel="immediate",  # all is on disk, and libraries take a second and more to go
            kernel_manager_class=Kernel, extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            on_cell_start=lambda cell, cell_index: shown.update("cells", cell_index + 1 - shown.done))
