"""A run's state, as files in its folder tell it: running only while a living process says so."""

import os
import platform
import sys
import threading
import time
from asyncio import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from mome import store

BEAT_SECONDS, STALE_SECONDS = 5, 60


def find_shell():
    """Return the IPython shell of the kernel that this is, None elsewhere."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


class Heartbeat:
    """Says in running.json that this process has a run in hand, in failure.txt what the last cell raised.

    The file is touched every few seconds and goes at an interrupt, until the next cell; a process that dies
    leaves it, and its pid and the file's age tell. A new run of the same process ends the one before.
    """

    current: ClassVar["Heartbeat | None"] = None

    def __init__(self, folder: Path):
        if Heartbeat.current:
            Heartbeat.current.end()
        Heartbeat.current, self.folder, self.ended = self, folder, threading.Event()
        self.file, self.failure, shell = folder / "running.json", folder / "failure.txt", find_shell()
        self.callbacks = {"pre_run_cell": self.start, "post_run_cell": self.note} if shell else {}
        for event, call in self.callbacks.items():
            shell.events.register(event, call)
        self.start()
        threading.Thread(target=self.beat, daemon=True).start()

    def start(self, info=None) -> None:
        with suppress(OSError):  # somebody removed the folder, or the disk is full: no cell fails of that
            self.failure.unlink(missing_ok=True)
            store.write_json(self.file, {"pid": os.getpid(), "host": platform.node()})

    def note(self, result) -> None:
        error = result and (result.error_before_exec or result.error_in_exec)
        with suppress(OSError):
            if not result or isinstance(error, KeyboardInterrupt | CancelledError):  # of a cell that awaits
                self.file.unlink(missing_ok=True)
            elif error:
                told = " ".join(f"{type(error).__name__}: {error}".split())
                store.write_text(self.failure, f"cell [{result.execution_count}] stopped: {told}")

    def beat(self) -> None:
        while not self.ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.file)

    def end(self) -> None:
        """The run is complete, or given up for another: cells to come are none of its."""
        self.ended.set()
        for event, call in self.callbacks.items():
            find_shell().events.unregister(event, call)
        self.callbacks = {}
        self.file.unlink(missing_ok=True)


def find_owner(folder: Path) -> str:
    """Return the process that has a run in hand in words, with its heartbeat's age; empty when none has."""
    path = folder / "running.json"
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        age, owner = time.time() - path.stat().st_mtime, store.read_json(path)
        is_here = owner["host"] == platform.node()
        if age < STALE_SECONDS and not (is_here and is_dead(owner["pid"])):
            return f"process {owner['pid']} on {owner['host']}, heard {max(age, 0):.0f} s ago"
    return ""


def is_dead(pid: int) -> bool:
    """True for a process that is gone, or that nobody has taken note of since it died."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def is_complete(folder: Path) -> bool:
    """True when a run's results are there and final: not while papermill writes, nor after a failure."""
    return (folder / "metrics.json").exists() and not (
        (folder / "executing.ipynb").exists() or (folder / "failure.txt").exists())


def is_taken(folder: Path) -> bool:
    """True when a new kernel may not write there: it is finished, a command's, or another kernel's."""
    is_own = Heartbeat.current is not None and Heartbeat.current.folder == folder
    is_kept = (folder / "metrics.json").exists() or (folder / "name.txt").exists()
    return is_kept or bool(not is_own and find_owner(folder))


def lock_name(folder: Path) -> str:
    return f"run-{store.content_hash(str(folder.resolve()))}"


def run_state(folder: Path) -> str:
    """Return "complete", "failed", "running", "interrupted" or "new".

    Running is what a living process holds: a kernel by its heartbeat, `mome run` by its lock.
    """
    if is_complete(folder):
        return "complete"
    if (folder / "failure.txt").exists():
        return "failed"
    if find_owner(folder) or store.is_locked(lock_name(folder)):
        return "running"
    return "interrupted" if folder.exists() else "new"


def describe_state(folder: Path) -> str:
    """Return the state, of a failed run with its reason, of a running one with its process."""
    state, failure = run_state(folder), folder / "failure.txt"
    more = {"failed": lambda: failure.read_text(encoding="utf-8", errors="replace"),
            "running": lambda: find_owner(folder)}.get(state, str)()
    return f"{state}: {more}" if more else state
