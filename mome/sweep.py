"""Notebooks in order and grids of them: parameters checked first, plans shown, progress all the way, nothing finished run twice."""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from tempfile import TemporaryFile

import psutil
import yaml

from mome.artifacts import content_hash, read_json
from mome.config import artifacts_dir, check_choice, check_range, home, resolve_scale, runs_dir
from mome.execute import describe_failure, execute_notebook, execute_run, read_failure, run_state
from mome.runs import check_parameters, declared_parameters, format_value, notebook_paths, read_runs, write_report

MOST_RUNS = 10_000
LEAST_FREE_BYTES = {"smoke": 200_000_000, "laptop": 2_000_000_000, "paper": 50_000_000_000}  # one seed of five notebooks leaves about half of that
BACKENDS = ("loky", "dask", "ray")
POOL_STARTS = 4


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
    from mome.recipes import open_bench  # torch, which takes seconds and which planning does not need

    check_disk(artifacts_dir(), parameters["scale"])
    bench = open_bench(resolve_scale(parameters["scale"], parameters.get("overrides")), parameters["corpus"], parameters["languages"])
    say(f"corpus {bench.corpus}: {bench.corpus_reason}")


def check_disk(folder: Path, scale: str) -> None:
    """Raise OSError, before anything is built, for a folder that cannot be written or has too little space for a run of that scale."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass
    free, least = shutil.disk_usage(folder).free, LEAST_FREE_BYTES.get(scale, LEAST_FREE_BYTES["laptop"])
    if free < least:
        raise OSError(f"only {free / 1e9:.2f} GB are free under {folder}; at least {least / 1e9:g} GB are needed at scale {scale}: "
                      "make room, or set MOME_HOME elsewhere")


def nearest_folder(path: Path) -> Path:
    """Return the path, or the closest of its parents that exists."""
    return next(folder for folder in [path, *path.parents] if folder.exists())


def run_notebooks(plan: list[tuple[Path, dict]], out: Path) -> Path:
    """Execute the plan into `out/<notebook>/executed.ipynb` and return the report's path.

    Raises NotebookFailed at the first cell that raises; the report then holds what was finished before it.
    """
    out.mkdir(parents=True, exist_ok=True)
    started, threads = time.perf_counter(), int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    try:
        for number, (path, given) in enumerate(plan, 1):
            folder = (out / path.stem).resolve()
            notebook_started = time.perf_counter()
            with ProgressLine(f"[{number}/{len(plan)}] {path.stem}", folder / "status.json") as line:
                execute_notebook(path, folder, given, threads, on_cell=line.cell)
            say(f"[{number}/{len(plan)}] {path.stem} done in {format_seconds(time.perf_counter() - notebook_started)}")
    finally:
        report = write_report(out)
    say(f"all done in {format_seconds(time.perf_counter() - started)}; report: {report}")
    return report


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
    """Return a folder that is not there yet, even when the clock has been set back."""
    name = f"{scale}-{time.strftime('%Y%m%d-%H%M%S')}"
    suffixes = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(path for path in (runs_dir() / f"{name}{suffix}" for suffix in suffixes) if not path.exists())


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a sweep: a notebook, what it is given beside its defaults, its folder, and the stage in which its turn comes."""

    notebook: Path
    given: dict
    folder: Path
    stage: int
    varying: tuple[str, ...]

    @property
    def title(self) -> str:
        return " ".join([self.notebook.stem, *(f"{name}={format_value(self.given[name])}" for name in self.varying)])


def read_sweep(path: Path) -> dict:
    """Return the mapping of a sweep's YAML file; ValueError names what is wrong with it."""
    try:
        spec = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"sweep={str(path)!r} does not exist; give a notebook or a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"sweep={str(path)!r} is not readable as YAML ({' '.join(str(error).split())})") from None
    check_size(str(path), spec)
    check_mapping(str(path), spec, {"notebooks": list, "parameters": dict, "out": str}, required="notebooks")
    for number, entry in enumerate(spec["notebooks"], 1):
        check_mapping(f"{path}, notebook {number}", entry, {"notebook": str, "parameters": dict, "grid": dict, "needs": list}, required="notebook")
    return spec


def check_size(what: str, value, at_most: int = 100_000) -> None:
    """Refuse YAML whose aliases stand within one another until a short file is larger than the memory, or hold themselves."""
    open_values, count = [value], 0
    while open_values:
        item, count = open_values.pop(), count + 1
        if count > at_most:
            raise ValueError(f"{what} is not allowed: with its aliases written out it holds more than {at_most:,} values")
        open_values += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []


def check_mapping(what: str, value, allowed: dict[str, type], required: str) -> None:
    form = f"{what} must be a mapping with {required!r} and nothing beside {', '.join(allowed)}"
    if not isinstance(value, dict) or required not in value:
        raise ValueError(f"{form}; it is {str(value)[:80]!r}")
    for name, given in value.items():
        if name not in allowed:
            raise ValueError(f"{form}; it has {name!r}")
        if not isinstance(given, allowed[name]) or (name == required and not given):
            raise ValueError(f"{what}: {name}={given!r} is not allowed; it must be a {allowed[name].__name__}, and not empty")


def read_grid(pairs: list[str]) -> dict[str, list]:
    """Return {name: values} of NAME=V1,V2 pairs; each value is read as YAML, so that a list stands in brackets."""
    grid = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier() or not text.strip():
            raise ValueError(f"parameter {pair!r} is not allowed; write NAME=VALUE or NAME=VALUE,VALUE, for example alpha=0,0.5,1")
        if name in grid:
            raise ValueError(f"parameter {name!r} is given twice; write its values in one, {name}=...,...")
        try:
            grid[name] = yaml.safe_load(f"[{text}]")
        except yaml.YAMLError:
            raise ValueError(f"parameter {name}={text!r} is not readable as YAML values with commas between") from None
    return grid


def find_notebook(name: str) -> Path:
    """Return the path of a notebook given by its path, its name or the beginning of its name."""
    if Path(name).suffix == ".ipynb":
        if not Path(name).is_file():
            raise ValueError(f"notebook={name!r} does not exist; the workbook has: {', '.join(path.stem for path in notebook_paths())}")
        return Path(name).resolve()
    found = [path for path in notebook_paths() if path.stem.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"notebook={name!r} is not one of: {', '.join(path.stem for path in notebook_paths())}")
    return found[0]


def fit_name(name: str, value, declared: dict) -> tuple[str, object]:
    """Return a parameter as the notebook declares it: `alpha` 0.5 is `alphas` [0.5] where there is only the plural."""
    plural = f"{name}s"
    if name not in declared and isinstance(declared.get(plural), list):
        return plural, [value]
    return name, value


def plan_sweep(spec: dict, out: Path | None = None) -> tuple[Path, list[PlannedRun]]:
    """Return the sweep's folder and its runs, every value checked: the product of each notebook's grid, in the order of `needs`.

    `spec` is the mapping of a sweep's YAML file: notebooks (each: notebook, parameters, grid, needs), parameters, out. A run's
    folder is named by notebook, code and parameters, so that the same run is found again whatever sweep asks for it. Raises
    ValueError for what any notebook does not allow, for two equal runs, and for needs that are unknown or in a circle.
    """
    entries = [{"parameters": {}, "grid": {}, "needs": [], **entry, "path": find_notebook(entry["notebook"])} for entry in spec["notebooks"]]
    stages = order_stages(entries)
    shared, used, runs = spec.get("parameters", {}), set(), []
    for entry in entries:
        path = entry["path"]
        declared = declared_parameters(path)
        for name in {*entry["parameters"]} & {*entry["grid"]}:
            raise ValueError(f"parameter {name!r} of {path.stem} is given a value and a grid; keep one")
        for name, values in entry["grid"].items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid {name}={values!r} is not allowed; give a list of values")
        if (count := math.prod(len(values) for values in entry["grid"].values())) > MOST_RUNS:
            raise ValueError(f"grid of {path.stem} makes {count:,} runs; at most {MOST_RUNS:,} are allowed")
        known = {name: value for name, value in shared.items() if fit_name(name, value, declared)[0] in declared}
        used |= known.keys()
        given = {**known, **entry["parameters"]}
        for values in itertools.product(*entry["grid"].values()):
            named = [fit_name(name, value, declared) for name, value in {**given, **dict(zip(entry["grid"], values, strict=True))}.items()]
            counts = Counter(name for name, _ in named)
            doubled = [name for name, count in counts.items() if count > 1]
            if doubled or "out" in counts:
                raise ValueError(f"parameter {[*doubled, 'out'][0]!r} of {path.stem} " + ("is given twice, alone and as a list; keep one" if doubled else
                                                                                           "is set by the sweep; give --out instead"))
            parameters = dict(named)
            resolved = check_parameters(path, parameters)
            varying = tuple(fit_name(name, None, declared)[0] for name, options in entry["grid"].items() if len(options) > 1)
            key = content_hash({"code": notebook_code(path), "parameters": {name: value for name, value in resolved.items() if name != "out"}})
            runs.append((path, parameters, f"{path.stem}-{key}", stages[path.stem], varying))
    for name in shared.keys() - used:
        raise ValueError(f"parameter {name!r} is unknown to the sweep's notebooks: {', '.join(entry['path'].stem for entry in entries)}")
    names = [name for _, _, name, _, _ in runs]
    for name, count in Counter(names).items():
        if count > 1:
            path, parameters = next((path, parameters) for path, parameters, other, _, _ in runs if other == name)
            raise ValueError(f"the sweep holds {count} equal runs of {path.stem} with {parameters!r}; keep one")
    folder = (out or (Path(spec["out"]).expanduser() if spec.get("out") else runs_dir() / f"sweep-{content_hash(sorted(names))}")).resolve()
    return folder, [PlannedRun(path, parameters, folder / name, stage, varying)
                    for path, parameters, name, stage, varying in sorted(runs, key=lambda run: run[3])]


def notebook_code(path: Path) -> str:
    """Return the source of a notebook's code cells: what a run does, apart from prose."""
    return "\n".join("".join(cell["source"]) for cell in read_json(path)["cells"] if cell["cell_type"] == "code")


def order_stages(entries: list[dict]) -> dict[str, int]:
    """Return {notebook: stage}: a stage begins when all runs of the one before are complete."""
    graph = {}
    for entry in entries:
        needs = {find_notebook(str(name)).stem for name in entry["needs"]}
        missing = needs - {other["path"].stem for other in entries}
        if missing:
            raise ValueError(f"needs={sorted(missing)!r} of {entry['path'].stem} are no notebooks of this sweep")
        graph.setdefault(entry["path"].stem, set()).update(needs)
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"needs go in a circle: {' needs '.join(error.args[1])}") from None
    stages = {}
    for stage in itertools.count():
        ready = sorter.get_ready()
        if not ready:
            return stages
        stages |= dict.fromkeys(ready, stage)
        sorter.done(*ready)


def describe_plan(runs: list[PlannedRun], jobs: int, retry_failed: bool) -> str:
    """Return what a sweep would do: a line per notebook, minutes from earlier runs of the same notebook and scale, disk, earlier failures."""
    earlier = read_runs([runs_dir(), *{run.folder.parent for run in runs}])
    earlier = earlier[earlier.state == "complete"] if len(earlier) else earlier
    states = {run.folder: run_state(run.folder) for run in runs}
    lines, minutes, unknown = [], 0.0, 0
    for notebook in dict.fromkeys(run.notebook.stem for run in runs):
        mine = [run for run in runs if run.notebook.stem == notebook]
        counts = Counter(states[run.folder] for run in mine)
        left = [run for run in mine if is_wanted(states[run.folder], retry_failed)]
        scales = Counter({**declared_parameters(mine[0].notebook), **run.given}["scale"] for run in left)
        known = {scale: earlier[(earlier.notebook == notebook) & (earlier.scale == scale)].minutes for scale in scales} if len(earlier) else {}
        minutes += sum(known[scale].median() * count for scale, count in scales.items() if len(known.get(scale, ())))
        unknown += sum(count for scale, count in scales.items() if not len(known.get(scale, ())))
        about = "; ".join(f"{scale}: {known[scale].median():.1f} min each, from {len(known[scale])} earlier" if len(known.get(scale, ())) else
                          f"{scale}: no earlier run to go by" for scale in scales)
        lines.append(f"{notebook}: {len(mine)} runs" + "".join(f", {counts[state]} {state}" for state in ("complete", "interrupted", "failed") if counts[state])
                     + f", {len(left)} to run" + (f" ({about})" if about else ""))
    lines += [f"  {run.title}" for run in runs if is_wanted(states[run.folder], retry_failed)]
    for run in runs:
        if states[run.folder] == "failed":
            lines.append(f"failed before: {run.title}: {describe_failure(run.folder)}"
                         + ("" if retry_failed else " (--retry-failed runs it again)"))
    free = shutil.disk_usage(nearest_folder(runs[0].folder)).free
    used = earlier[earlier.notebook.isin([run.notebook.stem for run in runs])].gigabytes.max() if len(earlier) else float("nan")
    there = psutil.virtual_memory().available / 1e9
    if used * jobs > there:
        lines.append(f"careful: earlier runs held up to {used:.1f} GB of memory each, and {there:.1f} GB are there for {jobs} at a time; take fewer --jobs")
    time_text = f"about {minutes / jobs:.0f} min with {jobs} at a time" if minutes else "time unknown"
    lines.append(f"{time_text}{f', {unknown} runs without an estimate' if minutes and unknown else ''}; {free / 1e9:.1f} GB free under {runs[0].folder.parent}")
    return "\n".join(lines)


def list_benches(runs: list[PlannedRun]) -> list[dict]:
    """Return the different benches (scale, overrides, corpus, languages) that runs start from: what is prepared once, before they run side by side."""
    benches = []
    for run in runs:
        values = {**declared_parameters(run.notebook), **run.given}
        bench = {name: values[name] for name in ("scale", "overrides", "corpus", "languages")}
        if bench not in benches:
            benches.append(bench)
    return benches


def is_wanted(state: str, retry_failed: bool) -> bool:
    return state != "complete" and (retry_failed or state != "failed")


def threads_each(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def run_sweep(folder: Path, runs: list[PlannedRun], *, jobs: int = 1, backend: str = "loky", address: str = "", retry_failed: bool = False,
              keep_going: bool = False) -> dict[str, int]:
    """Execute a sweep's runs that are not complete, `jobs` at a time, and return how many are in which state at the end.

    States: "complete", "failed", "interrupted", "new". A failed run is left as it is unless `retry_failed`; the first new
    failure keeps further runs from starting unless `keep_going`. Backends: loky (processes here), dask and ray (their workers
    share this folder). Raises KeyboardInterrupt when stopped, after every training under way has written its checkpoint.
    """
    check_range("jobs", jobs, 1, 256, whole=True)
    check_choice("backend", backend, BACKENDS)
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    stop, halt = folder / f".stop-{token}", folder / f".halt-{token}"
    ledger = Ledger(folder / "ledger.jsonl")
    wanted = [run for run in runs if is_wanted(run_state(run.folder), retry_failed)]
    ledger.write("sweep", runs=len(runs), wanted=len(wanted), backend=backend, jobs=jobs)
    environment = {"MOME_HOME": str(home())}
    started, threads = time.perf_counter(), threads_each(jobs) if backend == "loky" else 1
    try:
        with stopped_by_signals(stop), open_backend(backend, address, jobs), Watch(wanted, ledger):
            for stage in sorted({run.stage for run in wanted}):
                if stop.exists() or halt.exists() or (not keep_going and any(run_state(run.folder) != "complete" for run in runs if run.stage < stage)):
                    break
                pending = [run for run in wanted if run.stage == stage]
                options = {"threads": threads, "environment": environment, "stop": str(stop), "halt": str(halt), "keep_going": keep_going,
                           "parent": os.getpid() if backend == "loky" else None}
                # What another sweep has in hand is left for the end, and then waited for.
                for is_patient in (False, True):
                    pending = run_jobs(pending, {**options, "is_patient": is_patient}, backend, jobs, ledger)
        was_stopped = stop.exists()
    finally:
        stop.unlink(missing_ok=True)
        halt.unlink(missing_ok=True)
    states = Counter(run_state(run.folder) for run in runs)
    ledger.write("end", states=dict(states), seconds=round(time.perf_counter() - started, 1))
    if was_stopped:
        raise KeyboardInterrupt(f"sweep stopped with {states['complete']} of {len(runs)} runs complete")
    return dict(states)


def run_jobs(pending: list[PlannedRun], options: dict, backend: str, jobs: int, ledger: Ledger) -> list[PlannedRun]:
    """Execute runs through joblib and return those that another sweep has in hand. A pool that lost a process is opened again."""
    from joblib import Parallel, delayed

    before = {run: last_failure(run) for run in pending}
    for start in range(1, POOL_STARTS + 1):
        if not pending:
            return []
        try:
            work = (delayed(execute_run)({"notebook": str(run.notebook), "folder": str(run.folder), "parameters": run.given, **options}) for run in pending)
            results = Parallel(n_jobs=jobs if backend == "loky" else -1, batch_size=1)(work)
            for lost in [result for result in results if result["state"] == "lost"]:
                say(f"LOST {lost['message']}")
                ledger.write("lost", run=lost["run"], message=lost["message"])
            busy = {result["run"] for result in results if result["state"] == "busy"}
            return [run for run in pending if run.folder.name in busy]
        except Exception as error:  # each backend has its own name for a worker that died
            if start == POOL_STARTS or type(error).__name__ not in ("TerminatedWorkerError", "KilledWorker", "WorkerCrashedError"):
                raise RuntimeError(f"the {backend} workers were lost {start} times ({type(error).__name__}: {error}); "
                                   "the same command goes on from here") from error
            ledger.write("workers lost", error=type(error).__name__)
            say(f"a worker was lost ({type(error).__name__}); what it had in hand starts again")
            pending = [run for run in pending if not has_ended(run, before[run])]
    return pending


def last_failure(run: PlannedRun) -> int | None:
    """Return what tells a failure of this sweep from one of an earlier sweep: when the file was written."""
    with suppress(OSError):
        return (run.folder / "failure.json").stat().st_mtime_ns
    return None


def has_ended(run: PlannedRun, failure_before: int | None) -> bool:
    state = run_state(run.folder)
    return state == "complete" or (state == "failed" and last_failure(run) != failure_before)


@contextmanager
def open_backend(backend: str, address: str, jobs: int):
    """Open joblib's backend; dask and ray are imported only here, and without an address start workers on this machine."""
    from joblib import parallel_config

    if backend == "loky":
        with parallel_config("loky", inner_max_num_threads=threads_each(jobs)):
            yield
        return
    try:
        if backend == "dask":
            from distributed import Client
        else:
            import ray
            from ray.util.joblib import register_ray
    except ImportError as error:
        package = "distributed" if backend == "dask" else "ray[default]"
        raise ValueError(f"backend={backend!r} needs a package that is not installed ({error.name}): pip install '{package}'") from None
    if backend == "ray":
        ray.init(address=address or None, num_cpus=None if address else jobs)
        register_ray()
        with parallel_config("ray"):
            yield
        ray.shutdown()
        return
    try:
        # A kernel's environment is its process's: one run at a time in each worker.
        client = Client(address, timeout=20) if address else Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    except OSError as error:
        raise ValueError(f"address={address!r} answers to no dask scheduler ({error})") from None
    with client, parallel_config("dask", wait_for_workers_timeout=60):
        yield


@contextmanager
def stopped_by_signals(stop: Path):
    """Within, the first Ctrl-C or SIGTERM leaves the file `stop`; a second one ends at once."""
    def ask(*_):
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()
        say("\nstopping: trainings under way write their checkpoints; Ctrl-C again ends at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ledger:
    """What a sweep did, a JSON object a line, for people to read: what is complete is decided by the runs' own folders.

    Each line is written at once and begins with a line break, so that one cut off by a crash spoils no other.
    """

    def __init__(self, path: Path):
        self.path, self.is_silent = path, False

    def write(self, event: str, **more) -> None:
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, "host": socket.gethostname(), "pid": os.getpid(), **more})
        try:
            with open(self.path, "ab", buffering=0) as file:
                file.write(f"\n{line}\n".encode())
        except OSError as error:
            if not self.is_silent:
                say(f"the ledger cannot be written ({error}); the sweep goes on without")
            self.is_silent = True

    def read(self) -> list[dict]:
        """Return the lines that can be read, in the order in which they were written."""
        lines = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    lines.append(entry)
        return lines


class Watch:
    """Says and notes each run that ends, whichever process or machine ran it, from what appears in its folder."""

    def __init__(self, runs: list[PlannedRun], ledger: Ledger):
        self.left, self.total, self.ledger = list(runs), len(runs), ledger
        self.before = {run: last_failure(run) for run in runs}
        self.started, self.over = time.perf_counter(), threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.look()

    def follow(self):
        while not self.over.wait(1):
            self.look()

    def look(self):
        for run in list(self.left):
            if not has_ended(run, self.before[run]):
                continue
            self.left.remove(run)
            state = run_state(run.folder)
            done, spent = self.total - len(self.left), time.perf_counter() - self.started
            if state == "complete":
                text = f"done after {format_seconds(spent)}"
                more = {}
            else:
                more = {name: read_failure(run.folder).get(name) for name in ("cell", "error", "message")}
                text = f"FAILED in {describe_failure(run.folder)}"
            left = f", about {format_seconds(spent / done * len(self.left))} left" if self.left else ""
            say(f"[{done}/{self.total}] {run.title} {text}{left}")
            self.ledger.write(state, run=run.folder.name, notebook=run.notebook.stem, parameters=run.given, **more)
