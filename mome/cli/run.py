"""`mome run`, `mome plan`, `mome sweep`: notebooks, once each or over a grid, and a report."""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryFile

from mome import engine
from mome.checks import check_writable
from mome.cli.lab import bring_notebooks
from mome.cli.values import (
    add_command,
    add_only,
    add_parameters,
    add_tracker,
    add_workers,
    read_pairs,
    read_parameters,
    read_sweep,
)
from mome.config import runs_dir, store_dir
from mome.plan import describe_plan, make_plan
from mome.runs.grid import plan_run, plan_sweep
from mome.runs.meter import Meter, describe_meter
from mome.runs.record import fresh_folder, note_needs
from mome.runs.state import describe_state

SPARE_BYTES = 100_000_000  # for checkpoints and scratch files, beside what is built


def add_run(commands) -> None:
    run = add_command(
        commands, "run", run_command, "run the numbered notebooks and write one HTML report",
        "What they need is built first, in parallel, kept under data/store and found again by the next run; "
        "executed notebooks, metrics, figures and report.html land in --out.")
    add_only(run)
    run.add_argument("--out", default="", help="the run's folder (default: runs/<scale>-<time>)")
    plan = add_command(commands, "plan", plan_command, "show what notebooks need and lack; builds nothing")
    plan.add_argument("notebooks", nargs="*", help="numbers, names or paths of notebooks (default: all)")
    sweep = add_command(
        commands, "sweep", sweep_command, "run a notebook, or several, over a grid of parameters",
        "Runs that are complete are found, failed ones are tried again; whatever stops a sweep, the same "
        "command goes on from there. Example: mome sweep 03 -p scale=smoke -p alpha=0,0.5,1 -p seed=0,1,2")
    sweep.add_argument("what", help=(
        "a notebook (number, name or path), or a YAML file: {notebooks: [{notebook: 03, parameters: {...}, "
        "grid: {alpha: [0, 1]}}], parameters: {scale: smoke}}"))
    sweep.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=V1,V2", dest="pairs",
                       help="values, as YAML with commas between; a list such as seeds is swept by its "
                            "singular, seed=0,1,2, or in brackets, seeds=[0,1],[2]; may be repeated")
    sweep.add_argument("--out", default="", help="(default: runs/sweep-<hash of the plan>, found again)")
    for parser in (run, plan):
        add_parameters(parser)
    for parser in (run, sweep):
        parser.add_argument("--dry-run", action="store_true", help="check and show the plan, and stop")
        add_workers(parser)
        add_tracker(parser)
    add_workers(plan, has_scheduler=False)


def run_command(only: list[str], out: str, dry_run: bool, workers: int, scheduler: str, tracker: str,
                **given) -> int:
    bring_notebooks()
    parameters = read_parameters(**given)
    folder = Path(out) if out else fresh_folder(parameters.get("scale", "laptop"))
    check_writable("out", folder)
    return carry_out_runs(plan_run(only, parameters, folder), dry_run, workers, scheduler, tracker)


def plan_command(notebooks: list[str], workers: int, **given) -> None:
    bring_notebooks()
    planned = plan_run(notebooks, read_parameters(**given), runs_dir() / "planned")
    print(describe_plan(make_plan(planned), workers or engine.count_workers()))


def sweep_command(what: str, pairs: list[str], out: str, **options) -> int:
    bring_notebooks()
    spec = {"notebooks": [{"notebook": what, "grid": read_pairs(pairs, is_grid=True)}]}
    if Path(what).suffix in (".yaml", ".yml"):
        if pairs:
            raise ValueError(f"parameter {pairs[0]!r} is not allowed beside a YAML file; write it there")
        spec = read_sweep(Path(what))
    if out := out or spec.get("out", ""):
        check_writable("out", Path(out))
    return carry_out_runs(plan_sweep(spec, out), **options)


def carry_out_runs(planned: list, dry_run: bool, workers: int, scheduler: str, tracker: str) -> int:
    """Show or execute the runs, all under one folder; write the report and return the exit code."""
    from mome.runs.report import write_report

    folder, plan = planned[0].folder.parent, make_plan(planned)
    if dry_run:
        print(f"{len(planned)} runs into {folder}")
        for run in planned:
            print(f"  {run.title}: {'there' if run.is_there else describe_state(run.folder)}")
        print(describe_plan(plan, workers or engine.count_workers()))
        return 0
    check_room(folder, sum(recipe.size() for recipe in plan.missing))
    note_needs(folder, [run.needs for run in planned])
    meter, code = Meter(), 0
    try:
        engine.build(planned, workers, scheduler, tracker)
    except engine.BuildFailed as error:
        code = 1
        for title, reason in error.failures.items():
            print(f"failed: {title}: {reason}", file=sys.stderr)
    finally:
        took = meter.stop(folder, workers=workers or engine.count_workers(),
                          **find_shared([json.loads(run.parameters) for run in planned]))
        report = write_report(folder)
    done = sum(run.is_there for run in planned)
    print(f"{done} of {len(planned)} runs complete; report: {report}\n{describe_meter(took)}", flush=True)
    return code if done == len(planned) else 1


def find_shared(parameters: list[dict]) -> dict:
    """Return scale, corpus and seeds as far as all runs that have them have the same."""
    shared = {}
    for name in ("scale", "corpus", "seeds"):
        values = [values[name] for values in parameters if name in values]
        if values and all(value == values[0] for value in values):
            shared[name] = values[0]
    return shared


def check_room(folder: Path, size: float) -> None:
    """Raise OSError, before anything is built, if a folder cannot be written or the store lacks room."""
    for path in (folder, store_dir()):
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            free, least = shutil.disk_usage(path).free, size + SPARE_BYTES
    if free < least:
        raise OSError(f"only {free / 1e9:.2f} GB are free under {path}, {least / 1e9:.2f} GB are needed; "
                      "make room, or set MOME_HOME elsewhere")
