"""What a command took: minutes, core minutes, the peak of memory."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from mome.provenance import tell_provenance
from mome.store import read_json, write_json

SAMPLE_SECONDS, COMMAND = 3.0, "command.json"


class Meter:
    """Measures this process and all below it from now on; its peak of memory is that of the samples.

    Memory is PSS where the system tells it, where pages that several processes share count once, else RSS,
    where they count in each.
    """

    def __init__(self, seconds: float = SAMPLE_SECONDS):
        self.started, self.cpu_before, self.seconds = time.perf_counter(), count_cpu_seconds(), seconds
        self.peak, self.kind, self.ended = 0, "PSS", threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.ended.is_set():
            self.peak = max(self.peak, self.measure())
            self.ended.wait(self.seconds)

    def measure(self) -> int:
        """Return the bytes that this process and its descendants take now."""
        total = 0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            with suppress(psutil.Error):  # it ended meanwhile, or is another user's
                memory = process.memory_full_info()
                if not hasattr(memory, "pss"):
                    self.kind = "RSS"
                total += getattr(memory, "pss", memory.rss)
        return total

    def stop(self, folder: Path, **told) -> dict:
        """Write to a run's folder, and return, what was measured and what else is told; earlier counts in.

        Keys: date, minutes, cpu_minutes (of this process and those that have ended below it), peak_gb, memory
        (PSS or RSS), those of `tell_provenance`.
        """
        self.ended.set()
        self.thread.join()
        before = {"minutes": 0.0, "cpu_minutes": 0.0, "peak_gb": 0.0} | read_command(folder)
        cpu_minutes = (count_cpu_seconds() - self.cpu_before) / 60
        entry = {"date": time.strftime("%Y-%m-%d"), **tell_provenance(), **told,
                 "minutes": round(before["minutes"] + (time.perf_counter() - self.started) / 60, 2),
                 "cpu_minutes": round(before["cpu_minutes"] + cpu_minutes, 2),
                 "peak_gb": round(max(before["peak_gb"], self.peak / 1e9), 2), "memory": self.kind}
        write_json(folder / COMMAND, entry)
        return entry


def read_command(folder: Path) -> dict:
    """Return what the command of a run told of itself, nothing where it told nothing."""
    path = Path(folder) / COMMAND
    return read_json(path) if path.exists() else {}


def count_cpu_seconds() -> float:
    """Return the seconds of all cores that this process and its ended descendants have taken."""
    return sum(os.times()[:4])


def describe_meter(entry: dict) -> str:
    """Return what a command took as a line."""
    minutes = entry["minutes"]
    busy = 100 * entry["cpu_minutes"] / max(1e-9, minutes * entry["workers"])
    return (f"{minutes:.1f} minutes with {entry['workers']} workers, {entry['cpu_minutes']:.1f} core minutes "
            f"({busy:.0f} % of theirs), peak of memory {entry['peak_gb']:.1f} GB ({entry['memory']})")
