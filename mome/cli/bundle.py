"""`mome bundle`, `mome load`: what notebooks read, in one file, and back into a store."""

import json
from pathlib import Path

from mome import engine
from mome.cli.lab import bring_notebooks
from mome.cli.run import carry_out_runs
from mome.cli.values import add_command, add_only, add_parameters, add_workers, read_parameters
from mome.config import notebook_paths, runs_dir, store_dir
from mome.plan import describe_plan, make_plan
from mome.runs.grid import plan_run
from mome.store import content_hash, read_json


def add_bundle(commands) -> None:
    parser = add_command(
        commands, "bundle", bundle_command, "write what notebooks read into one file, for a class",
        "What is missing is built and the notebooks are run first, which shows what they read; large weights "
        "that none of them reads are left out. The file holds data only, its licences in a README.md, and "
        "opens the notebooks at once where `mome load` was given it, without network.")
    parser.add_argument("out", help="the new file to write, such as class.tar")
    add_only(parser)
    parser.add_argument("--whole", action="store_true",
                        help="leave nothing out: new models train at once, the file is many times as large")
    add_parameters(parser)
    add_workers(parser)
    load = add_command(
        commands, "load", load_command, "put what a bundle holds into the store",
        "Every file is checked first. What is there already stays, and a damaged bundle leaves nothing.")
    load.add_argument("bundle", help="a file that `mome bundle` wrote")


def bundle_command(out: str, only: list[str], whole: bool, workers: int, scheduler: str, **given) -> int:
    from mome.runs.bundle import check_bundle, choose_parts, write_bundle

    bring_notebooks()
    path, parameters = Path(out).expanduser(), read_parameters(**given)
    check_bundle(path, parameters)
    folder = runs_dir() / f"bundle-{content_hash([only, parameters])}"
    planned = plan_run(only, parameters, folder)
    if code := carry_out_runs(planned, False, workers, scheduler, ""):
        return code
    needs = [recipe for run in planned for recipe in run.needs]
    engine.build(needs, workers, scheduler)  # where runs were there, and what they had read was not
    values = [json.loads(run.parameters) for run in planned]
    parameters |= {"corpus": next(value["corpus"] for value in values)}
    found = write_bundle(
        choose_parts(needs, [read_json(run.folder / "read.json") for run in planned]),
        {"parameters": parameters, "notebooks": [run.notebook for run in planned]}, path, whole)
    print(f"{path}: {found['bytes'] / 1e6:.1f} MB, {len(found['names'])} things of the store; "
          f"{found['left_out'] / 1e6:.1f} MB that no notebook reads were left out\n"
          f"for others: python -m mome load {path.name}")
    return 0


def load_command(bundle: str) -> None:
    from mome.runs.load import load_bundle

    bring_notebooks()
    found = load_bundle(Path(bundle).expanduser())
    print(f"{len(found['loaded'])} things loaded into {store_dir()}, {found['bytes'] / 1e6:.1f} MB; "
          f"{len(found['kept'])} were there already")
    given = found["parameters"]
    print(f"for {', '.join(found['notebooks'])} with "
          f"{', '.join(f'{name} = {value!r}' for name, value in given.items())}")
    there = {path.stem for path in notebook_paths()}
    names = [name for name in found["notebooks"] if name in there]
    planned = plan_run(names, given, runs_dir() / "planned") if names else []
    print(describe_plan(make_plan([run.needs for run in planned]), engine.count_workers()))
    print("open them: python -m mome lab")
