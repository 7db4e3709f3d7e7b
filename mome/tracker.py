"""Trackers: what accelerate's `log_with` knows follows a training while it runs; no result depends on one."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from mome.config import tracker_dir

log = logging.getLogger("mome")
_tracker: ContextVar[str | None] = ContextVar("tracker", default=None)
PROJECT = "mome"  # of services that hold the runs of many projects


def check_tracker(name: str) -> str:
    """Return the name, empty for none; ValueError unless accelerate knows it and it is installed."""
    if name:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers  # torch, in seconds

        installed = sorted(map(str, get_available_trackers()))
        if name not in installed:
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise ValueError(f"tracker={name!r} is not allowed; installed here: "
                             f"{', '.join(installed) or 'none'}; accelerate knows: {known}")
    return name


def tell_tracker(name: str) -> str:
    """Return a line on where to look, empty without a tracker."""
    return f"\n{name} follows trainings, its files lie under {tracker_dir()}" if name else ""


def find_tracker() -> str:
    """Return the tracker that trainings here are told to: the build's, else MOME_TRACKER."""
    return os.environ.get("MOME_TRACKER", "") if _tracker.get() is None else _tracker.get()


@contextmanager
def tracked_by(name: str):
    """Within, trainings are told to that tracker, to none where the name is empty."""
    token = _tracker.set(name)
    try:
        yield
    finally:
        _tracker.reset(token)


def tracking_options() -> dict:
    """Return what an Accelerator is made with to track."""
    name = find_tracker()
    return {"log_with": name, "project_dir": str(tracker_dir())} if name else {}


@contextmanager
def follow(accelerator, name: str, values: Mapping, history: list[dict]):
    """Yield a function that tells the tracker of a row of a training's history; it does nothing without one.

    The run is called `name`, `values` are its hyperparameters; a training that goes on after `history` stays
    in the same run. Only the first of several processes tells. A tracker that fails is left, with a warning.
    """
    wanted = find_tracker() if accelerator.is_main_process else ""
    tracking = {"is_on": bool(wanted), "tokens": history[-1]["tokens"] if history else 0}

    def attempt(call: Callable, *arguments) -> None:
        try:
            if tracking["is_on"]:
                call(*arguments)
        except Exception as error:  # whatever it is, a training is worth more than its log
            tracking["is_on"] = False
            log.warning("tracker %s fails (%s); %s goes on without it", wanted, repr(error), name)

    def start() -> None:
        if not accelerator.log_with:
            raise LookupError("it is not installed here")
        options = name_run(wanted, name, len(history) + 1)
        project = name if set(options) <= {"purge_step"} else PROJECT
        accelerator.init_trackers(project, None if history else flatten(values), {wanted: options})

    def tell(row: dict) -> None:
        tokens, tracking["tokens"] = row["tokens"] - tracking["tokens"], row["tokens"]
        numbers = {key: float(value) for key, value in row.items() if key not in ("step", "seconds")}
        numbers["tokens_per_second"] = tokens / max(row["seconds"], 1e-9)
        attempt(lambda: accelerator.log(numbers, step=row["step"]))

    attempt(start)
    try:
        yield tell
    finally:
        for tracker in accelerator.trackers:  # `end_training` would part the processes, too
            attempt(tracker.finish)


def name_run(tracker: str, name: str, step: int) -> dict:
    """Return how a tracker is told the name of a run, and to go on in it from `step`."""
    again = {"name": name, "resume": "allow"}
    return {"tensorboard": {"purge_step": step}, "mlflow": {"run_name": name}, "trackio": again,
            "wandb": {**again, "id": name, "dir": str(tracker_dir())}}.get(tracker, {})


def flatten(values: Mapping, before: str = "") -> dict:
    """Return nested values as {"optimizer.rate": number or text}, which every tracker takes."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = json.dumps(value) if value is None or isinstance(value, list) else value
    return flat
