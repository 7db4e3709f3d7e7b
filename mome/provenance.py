"""Where something was made: commit, lock, machine, cores. No name of a person or a computer is among it."""

import functools
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from mome.config import WORKER_THREADS, count_workers, list_cores, repository

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "scikit-learn", "accelerate", "numpy",
            "matplotlib", "seaborn")
GIT_SECONDS = 5.0  # on a slow disk the commit stays unknown
MOST_NAMED = 5  # packages that a line names


def tell_provenance() -> dict:
    """Return what a record keeps of where it was made; quick, and what cannot be found is None or empty.

    Keys: commit (with "changed"), lock (SHA-256 of the locked versions), unlocked (packages installed in
    another version), machine, workers (things built at a time), threads (of each worker).
    """
    return {**describe_code(), "machine": describe_machine(), "workers": count_workers(),
            "threads": WORKER_THREADS}


@functools.cache
def describe_code() -> dict:
    """Return commit, lock and unlocked, found once a process."""
    lock = read_lock()
    return {"commit": own_commit(), "lock": sha256(lock).hexdigest() if lock else None,
            "unlocked": list_unlocked(lock.decode(errors="replace"))}


@functools.cache
def own_commit() -> str | None:
    """Return the commit of this code, asked once a process: that of what it has loaded."""
    return find_commit()


@functools.cache
def describe_machine() -> dict:
    """Return processor, cores (given to this process), cores_of_machine, memory_gb, gpu, system, python."""
    return {"processor": find_processor(), "cores": len(list_cores()), "cores_of_machine": os.cpu_count(),
            "memory_gb": find_memory(), "gpu": find_gpus(),
            "system": " ".join([platform.system(), platform.release(), platform.machine()]),
            "python": platform.python_version()}


@functools.cache
def versions() -> dict[str, str]:
    """Return {package: its version}; looked up once: it takes as long as all else beside a build."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def find_commit(file: Path = Path(__file__)) -> str | None:
    """Return the commit of the checkout that holds a file, with "changed" where files differ from it.

    None outside of git, and where git does not know the file: an installed package within another checkout.
    """
    asked = (["ls-files", "--error-unmatch", file.name], ["rev-parse", "--short", "HEAD"],
             ["status", "--porcelain", "--untracked-files=no"])
    with suppress(OSError, subprocess.SubprocessError):
        _, commit, changes = (subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True,
                                             check=True, timeout=GIT_SECONDS).stdout for words in asked)
        return commit.strip() + (", changed" if changes.strip() else "")
    return None


def read_lock() -> bytes:
    """Return the file of the locked versions; nothing where there is none."""
    with suppress(OSError):
        return (repository() / "requirements.txt").read_bytes()
    return b""


def list_unlocked(lock: str) -> list[str]:
    """Return "torch 2.9.0, not 2.13.0" of each package that is installed in another version than locked."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for line in re.sub(r"\\\n", " ", lock).splitlines():
        with suppress(InvalidRequirement, PackageNotFoundError):  # a comment or an option; left out
            locked = Requirement(re.split(r"\s#|\s--|^#", line)[0].strip())
            installed = version(locked.name)
            is_meant = locked.marker is None or locked.marker.evaluate()
            if is_meant and not locked.specifier.contains(installed, prereleases=True):
                found.append(f"{locked.name} {installed}, not {str(locked.specifier).removeprefix('==')}")
    return found


def find_processor() -> str:
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def find_memory() -> float | None:
    """Return the machine's memory in GB."""
    with suppress(OSError, RuntimeError):  # as psutil raises where /proc is not as usual
        return round(psutil.virtual_memory().total / 1e9, 1)
    return None


def find_gpus() -> str:
    """Return the models of NVIDIA's GPUs, as the driver's files tell at once; empty for none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    with suppress(OSError):
        files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        told = [re.search(r"^Model:\s*(.+)$", file.read_text(), re.MULTILINE) for file in files]
        names = [model[1].strip() for model in told if model]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return ""


def count_threads() -> int:
    """Return how many threads this process computes with."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() else len(list_cores())


def spread_provenance(entry: dict) -> dict[str, str]:
    """Return what a record tells of where it was made as short texts; nothing of a record from before."""
    unlocked = entry.get("unlocked") or []
    others = f" and {len(unlocked) - MOST_NAMED} others" if len(unlocked) > MOST_NAMED else ""
    told = {"commit": entry.get("commit"), "lock": (entry.get("lock") or "")[:12],
            "unlocked": "; ".join(unlocked[:MOST_NAMED]) + others, **(entry.get("machine") or {}),
            "workers": entry.get("workers"), "threads": entry.get("threads")}
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def describe_provenance(entry: dict) -> str:
    """Return as a sentence on which machine and versions something was made; empty where it is not told."""
    told = spread_provenance(entry)
    if "processor" not in told:
        return ""
    parts = [told["processor"], "{cores} of {cores_of_machine} cores".format_map(told)]
    for name, form in (("memory_gb", "{} GB of memory"), ("gpu", "{}"), ("system", "{}"),
                       ("python", "Python {}"), ("threads", "threads of a worker: {}")):
        parts += [form.format(told[name])] if name in told else []
    lock = f"Versions are those of the lock {told['lock']}" if "lock" in told else "No lock of versions"
    but = f", but {told['unlocked']}" if "unlocked" in told else ""
    return f"Made on {', '.join(parts)}. {lock}{but}."
