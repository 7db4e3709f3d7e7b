"""Recipes that take a moment: what the engine's tests build in place of trainings."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mome.checks import check_range
from mome.progress import progress
from mome.recipe import Recipe, location
from mome.tracker import find_tracker


@dataclass(frozen=True)
class Number(Recipe):
    """A number: its own value and the sum of its parts."""

    value: float
    parts: tuple[Recipe, ...] = ()
    act: str = "work"
    seconds: float = 0.0
    log: str = location()

    def build(self, folder):
        if self.log:
            with open(self.log, "a") as file:
                threads = os.environ.get("OMP_NUM_THREADS")
                print(f"{self.value:g}", threads, os.getpid(), time.time(), find_tracker(), file=file)
        died = Path(f"{self.log or folder}.died")
        if self.act == "raise":
            raise ArithmeticError("nine does not go into four")
        if self.act == "refuse":
            check_range("value", 9, 0, 8)
        if self.act == "misread":
            json.loads("{")
        if self.act == "fill":
            (folder / "big").write_bytes(bytes(8_000_000))
        if self.act == "die" or (self.act == "die once" and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.act == "build":
            from mome.engine import build

            build(Number(self.value + 100))
        time.sleep(self.seconds)
        total = self.value + sum(part.open() for part in self.parts)
        (folder / "number").write_text(f"{total:g}")
        return {"total": total}

    def open(self):
        return float((self.folder / "number").read_text())


@dataclass(frozen=True)
class Wish(Number):
    """A number that others can do without."""

    is_optional = True


@dataclass(frozen=True)
class Counter(Recipe):
    """Counts to `steps`, keeping its place in a checkpoint: a training in small."""

    goes_on = True

    steps: int
    seconds: float = 0.02
    log: str = location()

    def build(self, folder):
        path = folder / "checkpoint.safetensors"
        done = int(path.read_text()) if path.exists() else 0
        with open(self.log, "a") as file:
            file.write(f"from {done} {os.getpid()}\n")
        with progress("count", self.steps, done) as shown:
            for step in range(done, self.steps):
                time.sleep(self.seconds)
                path.with_suffix(".aside").write_text(str(step + 1))
                os.replace(path.with_suffix(".aside"), path)
                shown.update()
        (folder / "number").write_text(str(self.steps))

    def open(self):
        return int((self.folder / "number").read_text())


def wait_until(is_so, seconds=30):
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.05)


def start_main(code, **options):
    """Return a process that runs the code; it hears Ctrl-C though a shell runs the tests in background."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"env": environment, "stderr": subprocess.PIPE, "text": True, **options}
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored signals are inherited
    return subprocess.Popen([sys.executable, "-c", code], preexec_fn=hears, **options)
