"""Kill a command at random moments, give it again each time, and compare with a run that nobody disturbed.

    python tests/kill_campaign.py --kills 20 --terms 10 --seed 1
    python tests/kill_campaign.py --corpus help --corpora data/store   # corpora are copied from there
    python tests/kill_campaign.py --laptop   # SIGTERM 75 s after a teacher's first checkpoint
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

import pandas as pd
import psutil
from safetensors import safe_open

INTERVAL = 1.0  # seconds between checkpoints
MEASURED = re.compile("seconds?$|created|is_resumed|contents")  # a manifest's contents are read themselves


class Campaign:
    """A command, the home that it builds into, and what was lost at each strike."""

    def __init__(self, words: list[str], home: Path, interval: float = INTERVAL):
        self.words, self.home = [sys.executable, "-m", "mome", *words], home.resolve()
        self.interval = interval
        self.lost, self.begun = [], []  # (folder, seconds) since a checkpoint; since the build began
        self.steps: dict[str, list] = {}  # of the last checkpoint seen

    def start(self) -> subprocess.Popen:
        given = {"MOME_HOME": str(self.home), "MOME_CHECKPOINT_SECONDS": str(self.interval)}
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "said.txt", "a") as said:
            return subprocess.Popen(self.words, env={**os.environ, **given}, start_new_session=True,
                                    stdout=said, stderr=said)

    def list_family(self) -> dict[str, list[psutil.Process]]:
        """Return the living processes that have this home: main, workers, kernels, others."""
        found = {"main": [], "worker": [], "kernel": [], "other": []}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words, home = " ".join(process.cmdline()), process.environ().get("MOME_HOME")
                if home == str(self.home) and not is_gone(process):
                    signs = {"-m mome": "main", "ipykernel": "kernel", "spawn_main": "worker", "": "other"}
                    found[next(signs[sign] for sign in signs if sign in words)].append(process)
        return found

    def list_building(self, pids: set[int]) -> dict[str, float]:
        """Return {name: when its build began} of what these processes build."""
        found = {}
        for holder in self.home.glob("data/store/locks/*.holder"):
            with suppress(OSError, IndexError):  # it was given back just now
                if int(re.findall(r"process (\d+)", holder.read_text())[0]) in pids:
                    found[holder.stem] = holder.stat().st_mtime
        return found

    def strike(self, kind: str, number: signal.Signals, rng: random.Random) -> str:
        """Send the signal to a process of that kind; return in words what it was and what was lost."""
        family = self.list_family()
        if not family[kind]:
            return ""
        target = rng.choice(family[kind])
        pids = {process.pid for process in family["worker"]} if kind == "main" else {target.pid}
        building = self.list_building(pids)
        target.send_signal(number)
        struck, told = time.time(), []
        wait_until(lambda: is_gone(target), 20, f"the {kind} goes on after {number.name}")
        for name, begun in building.items():
            folder = self.home / "data/store" / f"unfinished-{name}"
            if folder.exists() or name.startswith("run-"):
                told.append(f"{name} {self.measure(folder, begun, struck)}")
        if kind == "main":
            wait_until(lambda: not any(self.list_family().values()), 10, "processes are left")
        return f"{number.name} to a {kind}: {', '.join(told) or 'it built nothing'}"

    def measure(self, folder: Path, begun: float, struck: float) -> str:
        """Note what a build lost, and which steps it has kept; return the former in words."""
        checkpoint = folder / "checkpoint.safetensors"
        kept = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
        if kept:
            self.steps[folder.name.removeprefix("unfinished-")] = read_steps(checkpoint)
        (self.lost if kept > begun else self.begun).append((folder.name, struck - max(kept, begun)))
        return f"{struck - max(kept, begun):.2f} s after its {'checkpoint' if kept > begun else 'beginning'}"

    def run(self, signals: list, longest: float, rng: random.Random, tell=print) -> bool:
        """Give the command until it is through; return whether all signals were sent by then."""
        while True:
            process = self.start()
            while process.poll() is None and signals:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0.3, longest))
                    break
                told = self.strike(rng.choice(["main", "worker", "kernel"]), signals[-1], rng)
                if told:
                    signals.pop()
                    tell(told, flush=True)
            code = process.wait()
            said = (self.home / "said.txt").read_text()
            assert code <= 0 or "The same command tries again" in said, said[-3000:]
            if code == 0:
                self.check_kept()
                return not signals

    def check_kept(self) -> None:
        """Assert that no step before a checkpoint was taken again, and that nothing half is left."""
        for name, steps in self.steps.items():
            history = pd.read_parquet(self.home / "data/store" / name / "history.parquet")
            assert [*history.seconds[:len(steps)]] == steps, f"{name} took steps again"
        wait_until(lambda: not any(self.list_family().values()), 10, "processes are left")
        patterns = ("data/store/unfinished-*", "data/store/locks/*.holder", "**/executing.ipynb",
                    "data/store/dask-scratch-space/*/", "**/*.aside", "**/failure.txt", "**/.*")
        left = [path for pattern in patterns for path in self.home.glob(pattern)]
        assert not left, f"left: {left}"


def wait_until(is_so, seconds: float, what: str) -> None:
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, what
        time.sleep(0.05)


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # its parent has not asked for it yet
    except psutil.NoSuchProcess:
        return True


def read_steps(checkpoint: Path) -> list[float]:
    """Return the seconds of the steps that a checkpoint holds: no two steps take exactly as long."""
    with safe_open(checkpoint, framework="pt") as file:
        return [row["seconds"] for row in json.loads(file.metadata()["history"])]


def find_differences(one: Path, other: Path) -> list[str]:
    """Return which files of two homes differ in more than what is measured: tables, weights, all data."""
    files, others = list_files(one), list_files(other)
    return [name for name in sorted({*files, *others}) if name not in files or name not in others
            or read_plain(files[name]) != read_plain(others[name])]


def list_files(home: Path) -> dict[str, Path]:
    kinds = (".parquet", ".safetensors", ".json", ".npz", ".arrow")
    return {str(path.relative_to(home)): path for path in home.rglob("*") if path.suffix in kinds}


def read_plain(path: Path):
    """Return what a file holds, without what is measured."""
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        return table.loc[:, [not MEASURED.search(str(name)) for name in table]].to_csv()
    if path.suffix != ".json":
        return path.read_bytes()
    return json.loads(path.read_text().replace(str(path.parents[2]), ""), object_hook=lambda entry: {
        name: value for name, value in entry.items() if not MEASURED.search(name)})


def strike_laptop(folder: Path, corpora: list[Path], corpus: str) -> None:
    """SIGTERM 75 s after a teacher's first checkpoint: at most 35 s are lost, no step before is repeated."""
    words = ["train", "teacher", "--scale", "laptop", "--corpus", corpus]
    campaign, rng = Campaign(words, folder / "home", 30), random.Random(0)
    copy_corpora(corpora, campaign.home)
    process, store = campaign.start(), campaign.home / "data/store"
    wait_until(lambda: any(store.glob("unfinished-teacher-*/checkpoint.safetensors")), 900, "no checkpoint")
    time.sleep(75)
    print(campaign.strike("main", signal.SIGTERM, rng), flush=True)
    assert process.wait() == -signal.SIGTERM and 0 < campaign.lost[0][1] <= 35
    assert campaign.run([], 1, rng)
    print("the same command went on: no step before the checkpoint was taken again")


def copy_corpora(corpora: list[Path], home: Path) -> None:
    for path in corpora:
        shutil.copytree(path, home / "data/store" / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 20), ("terms", 10), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("scale", "smoke"), ("corpus", "mini"), ("only", ""), ("corpora", ""),
                          ("folder", "")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--laptop", action="store_true")
    given = parser.parse_args()
    folder, rng = Path(given.folder or mkdtemp(prefix="mome-kills-")), random.Random(given.seed)
    corpora = sorted(Path(given.corpora).glob("corpus-*")) if given.corpora else []
    if given.laptop:
        return strike_laptop(folder, corpora, given.corpus)
    signals = [signal.SIGKILL] * given.kills + [signal.SIGTERM] * given.terms
    rng.shuffle(signals)
    words = ["run", "--scale", given.scale, "--corpus", given.corpus, "--seeds", "0", "--only", given.only]
    strike_runs(words, folder, corpora, signals, rng)


def strike_runs(words: list[str], folder: Path, corpora: list[Path], signals: list, rng: random.Random,
                tell=print) -> None:
    """Run undisturbed once, then under the signals, in new homes until all are sent; compare each time."""
    def run(name: str, signals: list, longest: float) -> tuple[Campaign, bool]:
        campaign = Campaign([*words, "--out", str(folder / name / "out")], folder / name)
        copy_corpora(corpora, campaign.home)
        return campaign, campaign.run(signals, longest, rng, tell)

    started, rounds, is_over = time.monotonic(), [], False
    calm, _ = run("calm", [], 1)
    seconds = time.monotonic() - started
    tell(f"undisturbed: {seconds:.0f} s", flush=True)
    while not is_over:
        campaign, is_over = run(f"struck-{len(rounds)}", signals, seconds / 8)
        rounds.append(campaign)
        different = find_differences(calm.home, campaign.home)
        assert not different, different
        tell(f"{time.monotonic() - started:.0f} s: through, and equal to the undisturbed run", flush=True)
    trainings = {f"unfinished-{path.parent.name}" for path in calm.home.glob("data/store/*/history.parquet")}
    lost = [entry for each in rounds for entry in each.lost]
    begun = [entry for each in rounds for entry in each.begun]
    for what, slack, found in (
            ("of training since a checkpoint", 2, lost),  # a step that scores, on cores that others use, too
            ("since a training began, its libraries' loading included", 15,
             [entry for entry in begun if entry[0] in trainings]),
            ("of what has no checkpoints", 1e9, [entry for entry in begun if entry[0] not in trainings])):
        seconds = [spent for _, spent in found] or [0.0]
        tell(f"{len(found)} times lost {median(seconds):.2f} s, at most {max(seconds):.2f} s {what}")
        assert max(seconds) <= INTERVAL + slack


if __name__ == "__main__":
    main()
