"""Recipes that take a moment: what the engine's tests build in place of trainings."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from mome.progress import progress
from mome.recipe import Recipe, location


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
                file.write(f"{self.value:g} {os.environ.get('OMP_NUM_THREADS')} {os.getpid()}\n")
        died = Path(f"{self.log or folder}.died")
        if self.act == "raise":
            raise ArithmeticError("nine does not go into four")
        if self.act == "refuse":
            raise ValueError("value=9 is not allowed here")
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
