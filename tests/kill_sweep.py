"""kill -9 at random moments of a smoke sweep, then the same command: everything must be complete and equal to an undisturbed sweep.

    python tests/kill_sweep.py --kills 20 --seed 0

Victims by lot: the sweep's own process, a kernel, a process of training that a kernel started (or, where there is none for a while, a
worker). Takes 10 to 20 minutes; exit code 0 when all holds. `tests/test_sweep.py` does the same once each in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from safetensors.torch import load_file

from mome import artifacts

TINY = ("{vocab_size: 600, context: 32, tokens_per_language: 8000, teacher: {n_layer: 1, n_embd: 32}, student: {n_layer: 1, n_embd: 16}, "
        "expert: {n_layer: 1, n_embd: 16}, teacher_tokens: 64000, student_tokens: 8192, evaluation_rows: 12, evaluations: 2, router_rows: 100, "
        "targets_per_token: 8}")
SWEEP = f"""
parameters: {{scale: smoke, corpus: mini, overrides: {TINY}}}
notebooks:
- {{notebook: 03_kd_alpha, parameters: {{schedules: [], losses: []}}, grid: {{alpha: [0.25, 0.75], seed: [0, 1]}}}}
- {{notebook: 05_catastrophic_forgetting, parameters: {{jobs: 2, variants: [JEET]}}, grid: {{seed: [0, 1]}}}}
"""


def start(folder: Path) -> subprocess.Popen:
    """Start the sweep with everything that it makes under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(SWEEP)
    with open(folder / "log.txt", "ab") as log:
        command = [sys.executable, "-m", "mome", "sweep", str(folder / "sweep.yaml"), "--out", str(folder / "sweep"), "--jobs", "2", "--keep-going"]
        return subprocess.Popen(command, env={**os.environ, "MOME_HOME": str(folder / "home")}, stdout=log, stderr=log)


def list_victims(process: psutil.Process) -> dict[str, list[psutil.Process]]:
    found = {"sweep": [process], "kernel": [], "training": [], "worker": []}
    for child in process.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if "ipykernel" in line:
            found["kernel"].append(child)
        elif "spawn_main" in line:
            found["training"].append(child)
        elif "loky" in line and "resource_tracker" not in line:
            found["worker"].append(child)
    return found


def await_victims(process: psutil.Process, kind: str, seconds: float) -> dict[str, list[psutil.Process]]:
    """Return the sweep's processes, of training ones as soon as there is one: they are there for a part of the time only."""
    until = time.monotonic() + seconds
    while True:
        victims = list_victims(process)
        if kind != "training" or victims[kind] or time.monotonic() > until:
            return victims
        time.sleep(0.5)


def disturb(folder: Path, kills: int, seconds: float, draw: random.Random, expected: dict) -> list[str]:
    """Kill so many processes of the sweep at random moments, starting it again whenever it has gone; return who was killed.

    A sweep that completes between is checked, and what is left of the kills falls on a new one.
    """
    killed, process = [], start(folder)
    while len(killed) < kills:
        time.sleep(draw.uniform(0.05, 1) * seconds)
        if process.poll() is not None:
            assert not list((folder / "sweep").glob("*/failure.json")), "a run counts as failed, although it was only killed"
            if process.returncode == 0:
                print(check_results(folder, expected), flush=True)
                shutil.rmtree(folder / "sweep")
                shutil.rmtree(folder / "home")
            process = start(folder)
            continue
        kind = draw.choice(["sweep", "kernel", "training"])
        try:
            victims = await_victims(psutil.Process(process.pid), kind, seconds)
            kind = kind if victims[kind] else "worker" if victims["worker"] else "sweep"
            draw.choice(victims[kind]).kill()
        except psutil.NoSuchProcess:
            continue
        killed.append(kind)
        print(f"{len(killed)}: {kind} killed", flush=True)
        if kind == "sweep":
            process.wait()
            process = start(folder)
    process.wait()
    return killed


def check_results(folder: Path, expected: dict) -> str:
    """Return in words how many runs and artefacts are whole; AssertionError for a run that is missing or another, for an artefact that is not whole."""
    found = read_results(folder)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for run in expected:
        assert found[run] == expected[run], f"{run} differs: {found[run]} instead of {expected[run]}"
    return f"{len(found)} runs complete and equal; {check_artifacts(folder)} artefacts whole"


def read_results(folder: Path) -> dict[str, str]:
    """Return {run: its metrics as JSON, in which NaN equals itself}, without those that no two sweeps share: measured times, and what was trained for them."""
    results = {}
    for path in sorted((folder / "sweep").glob("*/metrics.json")):
        metrics = json.loads(path.read_text())["metrics"]
        if path.parent.name.startswith("03"):
            del metrics["price"]
            metrics["perplexity"] = {arm: value for arm, value in metrics["perplexity"].items() if not arm.endswith("time")}
            metrics["comparisons"] = [row for row in metrics["comparisons"] if not row["arm"].endswith("time")]
        results[path.parent.name] = json.dumps(metrics)
    return results


def check_artifacts(folder: Path) -> int:
    """Return how many artefacts are whole; AssertionError for one under its final name that is not."""
    whole = 0
    for path in (folder / "home/data/artifacts").iterdir():
        if path.is_dir() and not path.name.startswith("partial-"):
            for name, written in artifacts.read_manifest(path)["contents"].items():
                assert artifacts.hash_file(path / name) == written["sha256"], path / name
                if name.endswith(".safetensors"):
                    load_file(path / name)
            whole += 1
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "mome-kills"))
    arguments = parser.parse_args()
    base = Path(arguments.folder)
    shutil.rmtree(base, ignore_errors=True)
    started = time.perf_counter()
    calm = start(base / "calm")
    assert calm.wait() == 0, (base / "calm/log.txt").read_text()[-3000:]
    seconds = time.perf_counter() - started
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    expected = read_results(base / "calm")
    killed = disturb(base / "killed", arguments.kills, seconds / 8, random.Random(arguments.seed), expected)
    code = start(base / "killed").wait()
    assert code == 0, (base / "killed/log.txt").read_text()[-3000:]
    print(f"{len(killed)} killed ({', '.join(f'{killed.count(kind)} {kind}' for kind in dict.fromkeys(killed))}); "
          f"{check_results(base / 'killed', expected)}; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
