"""The engine: builds what is missing on dask.distributed, in parallel, and nothing else builds.

A task is a recipe as JSON; its key is the recipe's name with the store and the version of the code. Parents
are dask futures. What a worker held when it died runs again elsewhere, from its checkpoint.
"""

import functools
import hashlib
import os
import secrets
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from mome import store
from mome.board import Board, say
from mome.checks import describe_error
from mome.config import WORKER_THREADS, count_workers, home, list_cores, read_count, store_dir
from mome.plan import Plan, describe_plan, make_plan
from mome.progress import heard_by
from mome.recipe import list_ancestors, read_spec, write_spec
from mome.tracker import check_tracker, find_tracker, tell_tracker, tracked_by

TOPIC = "mome"
WORKERS_PER_GPU = 2  # unless MOME_WORKERS_PER_GPU says otherwise
SETTINGS = {
    "distributed.scheduler.worker-saturation": 1.0,  # no task waits at one worker while another is free
    "distributed.scheduler.allowed-failures": 10,  # workers that died over one task, before it is given up
    "distributed.scheduler.worker-ttl": None,  # a long step without a heartbeat is no death
    "distributed.worker.profile.enabled": False,  # it would look into the training a hundred times a second
    "distributed.scheduler.http.routes": [], "distributed.worker.http.routes": [],  # nothing is served
    "distributed.admin.system-monitor.log-length": 60}
# Set before a worker starts, or libraries would have chosen their threads already.
ENVIRONMENT = {**{f"{name}_NUM_THREADS": WORKER_THREADS for name in ("OMP", "MKL", "OPENBLAS")},
               "MOME_BATCH": 1, "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": 1,
               "HF_HUB_DISABLE_PROGRESS_BARS": 1, "TRANSFORMERS_VERBOSITY": "error",
               # A task runs in a thread, whose memory glibc would give back after every step and fetch again.
               "MALLOC_ARENA_MAX": 1, "MALLOC_TRIM_THRESHOLD_": 2**30, "MALLOC_MMAP_THRESHOLD_": 2**25}


class BuildFailed(RuntimeError):
    """Some recipes failed; what did not depend on them is built. `failures` is {title: reason}."""

    def __init__(self, failures: dict[str, str]):
        super().__init__("; ".join(f"{title}: {reason}" for title, reason in failures.items()))
        self.failures = failures


class Stopped(KeyboardInterrupt):
    """The build was interrupted. JupyterLab shows the sentence instead of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


@functools.cache
def hash_package() -> str:
    """Return a hash of mome's own code: client and workers must run the same."""
    digest, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def build(needs, workers: int = 0, scheduler: str = "", tracker: str = "") -> Plan:
    """Build what is missing of the needs and return the plan that was carried out.

    Here on a cluster of so many one-thread workers (by default one a core), or on that of a dask `scheduler`
    whose workers share this store's folder; `tracker` (default: MOME_TRACKER) follows trainings. BuildFailed
    after all is built that needs nothing failed; Stopped on an interrupt; NotBuilt in a task, which looks.
    """
    tracker = check_tracker(tracker or find_tracker())
    plan = make_plan(needs)
    if not plan.missing:
        return plan
    if in_task():
        lacking = plan.missing[0]
        raise store.NotBuilt(f"{lacking.name} ({lacking.title}) is not built, and a task only looks")
    workers = min(workers or count_workers(), len(plan.missing))
    say(describe_plan(plan, workers) + tell_tracker(tracker))
    store_dir().mkdir(parents=True, exist_ok=True)
    board = Board(plan.seconds, plan.wall(workers))
    try:
        with open_client(scheduler, workers) as client:
            failures = carry_out(client, plan, board, tracker)
    except KeyboardInterrupt:
        raise Stopped(f"stopped with {board.done} of {board.total} built; what is finished is kept, and the "
                      "same command goes on from the last checkpoints") from None
    if failures:
        raise BuildFailed(failures)
    return plan


def build_here(needs) -> None:
    """Build what is missing one by one, in this process: for tests."""
    for recipe in make_plan(needs).missing:
        recipe.keep()


def in_task() -> bool:
    """True in a thread of a dask worker that carries out a task."""
    try:
        return "distributed" in sys.modules and bool(sys.modules["distributed"].get_worker())
    except ValueError:
        return False


@contextmanager
def open_client(scheduler: str, workers: int):
    """Yield a client of a new local cluster, or of the scheduler at that address, its workers checked."""
    import dask
    from distributed import Client

    environment = {**ENVIRONMENT, "MOME_HOME": str(home()), "MOME_WORKERS": workers}
    with (patch.dict(os.environ),  # into which dask writes what its workers get
          dask.config.set({**SETTINGS, "distributed.nanny.pre-spawn-environ": environment}),
          nullcontext(scheduler) if scheduler else open_cluster(workers) as place,
          Client(place, timeout=20 if scheduler else 30, set_as_default=False) as client):
        if scheduler:
            check_workers(client)
        yield client


def open_cluster(workers: int):
    """Return a local cluster: TLS on loopback, no dashboard, no spilling; the first workers hold any GPUs."""
    from distributed import Nanny, Scheduler, Security, SpecCluster

    shared = {"protocol": "tls://", "security": Security.temporary(), "host": "127.0.0.1", "dashboard": False}
    own = {**shared, "nthreads": 1, "memory_limit": 0, "local_directory": str(store_dir()),
           "silence_logs": 50}  # of each connection; the board says what matters
    gpus, per_gpu, specs = list_gpus(), read_count("MOME_WORKERS_PER_GPU", WORKERS_PER_GPU), {}
    for number in range(workers):
        options = {**own, "env": {"CUDA_VISIBLE_DEVICES": ""}} if gpus else own
        if number < len(gpus) * per_gpu:
            seen = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
            options = {**own, "resources": {"GPU": 1}, "env": seen}
        specs[number] = {"cls": Nanny, "options": options}
    scheduler = {"cls": Scheduler, "options": {**shared, "dashboard_address": "127.0.0.1:0", "port": 0}}
    return SpecCluster(specs, scheduler=scheduler, security=shared["security"], silence_logs=50, name="mome")


def list_gpus() -> list[str]:
    """Return the GPUs that may be used, by number or name: CUDA_VISIBLE_DEVICES' where that is set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]


def check_workers(client) -> None:
    """Raise ValueError, which names the worker, unless every one may build for this command."""
    path, token = store_dir() / f".token-{os.getpid()}", secrets.token_hex(8)
    store.write_text(path, token)
    try:
        faults = client.run(find_unfit, str(path), token, hash_package(), on_error="return")
    finally:
        path.unlink(missing_ok=True)
    if not faults:
        raise ValueError(f"scheduler={client.scheduler.address!r} has no workers that share {store_dir()}")
    for address, fault in faults.items():
        if fault:  # an error where it does not know what it is asked
            told = fault if isinstance(fault, str) else f"has no mome, or another version of it ({fault!r})"
            raise ValueError(f"worker {address} {told}")


def find_unfit(path: str, token: str, version: str, dask_worker) -> str:
    """Return why a worker must not build for a command whose store has the token; empty when it may."""
    file, threads = Path(path), (dask_worker.state.nthreads, os.environ.get("OMP_NUM_THREADS"))
    if file.parent != store_dir() or (token and not (file.is_file() and file.read_text() == token)):
        return f"with the store {store_dir()} does not see {file.parent}; workers must share MOME_HOME"
    if version != hash_package():
        return f"runs other code of mome: {hash_package()}, not {version}"
    return "" if threads == (1, "1") else "has several threads; give it --nthreads 1 and OMP_NUM_THREADS=1"


def carry_out(client, plan: Plan, board: Board, tracker: str) -> dict[str, str]:
    """Build the plan's missing recipes; return {title: reason} of those that failed and are not excused."""
    from distributed import as_completed

    client.subscribe_topic(TOPIC, lambda event: board.note(event[1]))
    futures, failures, excused = submit_tasks(client, plan, tracker), {}, find_excused(plan)
    ended = as_completed(list(futures.values()), loop=client.loop, raise_errors=False)
    waiting = {futures[recipe.name].key: recipe for recipe in plan.missing}
    try:
        while waiting:
            for future in wait_briefly(ended):
                recipe, reason = waiting.pop(future.key), read_result(future)
                if reason and recipe.name in excused:
                    say(f"without {recipe.title}: {reason}")
                elif reason:
                    failures[f"{recipe.title} ({recipe.name})"] = reason
                board.note({"name": recipe.name, "state": "failed" if reason else "built"})
            board.draw()
    except KeyboardInterrupt:
        pin_tasks(client, futures, is_pinned=False)
        client.cancel(list(futures.values()))  # what no other command waits for
        raise
    finally:
        board.draw(is_last=True)
    return failures


def submit_tasks(client, plan: Plan, tracker: str = "") -> dict:
    """Return {name: future} of what is missing: it waits for its parents, the longest way on first."""
    gpu = any("GPU" in worker["resources"] for worker in client.scheduler_info()["workers"].values())
    here, version, priority, futures = str(store_dir() / ".token"), hash_package(), plan.priority(), {}
    under_way = {key for keys in client.processing().values() for key in keys}
    for recipe in plan.missing:
        waits = [futures[parent.name] for parent in recipe.parents().values() if parent.name in futures]
        spec = write_spec(recipe)  # with where things lie: a run of equal name may go to another folder
        key = f"{recipe.name}-{store.hash_text(spec)[:8]}-{store.hash_text(here)[:8]}-{version}"
        if key in under_way:
            say(f"{recipe.title} is under way on this scheduler, for another command or one that died")
        futures[recipe.name] = client.submit(
            run_task, spec, here, version, waits, tracker, key=key, priority=round(priority[recipe.name]),
            resources={"GPU": 1} if gpu and recipe.device == "gpu" else None)
    pin_tasks(client, futures)
    return futures


def pin_tasks(client, futures: dict, is_pinned: bool = True) -> None:
    """Let a scheduler carry tasks out though their command dies, as `fire_and_forget` does, or no longer."""
    if client.cluster is None:
        client._send_to_scheduler({
            "op": "client-desires-keys" if is_pinned else "client-releases-keys",
            "keys": [future.key for future in futures.values()], "client": "fire-and-forget"})


def find_excused(plan: Plan) -> set[str]:
    """Return the names of what may be missing in the end: optional recipes, and what only they need."""
    missing = {recipe.name for recipe in plan.missing}
    found = list_ancestors(plan.wanted, lambda recipe: recipe.is_optional or recipe.name not in missing)
    return missing - {recipe.name for recipe in found if not recipe.is_optional}


def wait_briefly(ended, seconds: float = 1.0) -> list:
    """Return the futures that have ended, after waiting up to a second for the first."""
    started = time.monotonic()
    while not ended.has_ready() and time.monotonic() - started < seconds:
        time.sleep(0.02)
    return ended.next_batch(block=False)


def read_result(future) -> str:
    """Return why a task failed, empty when it did not."""
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return future.result()["error"]
    if future.status == "cancelled":
        return "the scheduler that had it ended; the same command goes on from what is finished"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return (f"its process died {error.allowed_failures + 1} times; memory may have run out: take fewer "
                "workers (MOME_WORKERS), or smaller sizes")
    return f"{type(error).__name__}: {error}"


def run_task(spec: str, path: str, version: str, parents: list[dict], tracker: str = "") -> dict:
    """Build a recipe in a worker; return {"name", "error", "is_optional"}, the error empty when it is there.

    Gives its places back while another command builds the same; ends early when nobody wants it any more.
    """
    from distributed import Reschedule, get_worker, secede

    worker, cores = get_worker(), list_cores()
    key = worker.get_current_task()
    if unfit := find_unfit(path, "", version, worker):  # it came after the command had looked at its workers
        return {"name": key, "is_optional": False, "error": f"worker {worker.address} {unfit}"}
    recipe = read_spec(spec)
    result = {"name": recipe.name, "is_optional": recipe.is_optional}
    for parent in parents:
        if parent["error"] and (recipe.is_optional or not parent["is_optional"]):
            return result | {"error": f"not tried, since {parent['name']} failed"}

    def tell(**event) -> None:
        if key not in worker.state.tasks or worker.state.tasks[key].state == "cancelled":
            raise Reschedule  # which is nothing where nobody wants it, and right where somebody does again
        worker.log_event(TOPIC, {"name": recipe.name, "title": recipe.title, **event})

    places = [*cores, *(f"more-{number}" for number in range(len(cores), count_workers()))]
    try:
        with (store.take_place(places, lambda: tell(note="waits for a core")), tracked_by(tracker),
              heard_by(lambda report: tell(done=report["done"], total=report["total"], note=report["note"]))):
            tell(state="running", note="")
            recipe.keep()
    except store.BuiltElsewhere as error:
        tell(said=f"{recipe.title} is being built by {error.holder}; this command waits for it")
        secede()  # its place goes to another recipe until the lock is free
        while store.is_locked(error.name) and not recipe.is_whole:
            tell(note=f"waits for {error.holder}")
            time.sleep(1)
        raise Reschedule from None
    except Exception as error:
        if isinstance(error, Reschedule):
            raise
        return result | {"error": describe_error(error)}
    return result | {"error": ""}
