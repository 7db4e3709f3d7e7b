"""The command line: `python -m mome run --scale laptop`."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from pathlib import Path

import yaml

from mome import __version__
from mome.config import (
    CORPORA,
    DATA_OPTIONS,
    MOE_VARIANTS,
    SCALES,
    artifacts_dir,
    check_choice,
    check_languages,
    check_range,
    check_seeds,
    corpus_languages,
    resolve_scale,
    runs_dir,
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mome", description="MoME workbook: modular language models distilled from a multilingual teacher.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the numbered notebooks in order and write one HTML report",
                              description="Run the numbered notebooks in order. Everything expensive is kept under data/artifacts and found "
                                          "again by the next run; executed notebooks, metrics, figures and report.html land in --out.")
    run.add_argument("--scale", default="laptop", help=f"sizes of data and models: {', '.join(SCALES)} (default: %(default)s)")
    run.add_argument("--corpus", default="auto", help=f"where text comes from: {', '.join(CORPORA)} (default: %(default)s, the first that works)")
    run.add_argument("--languages", default="en,fr,de,py", help="comma-separated, in the order of sequential training (default: %(default)s)")
    run.add_argument("--seeds", default="0", help="comma-separated; two or more give intervals (default: %(default)s)")
    run.add_argument("--only", default="", help="comma-separated beginnings of notebook names, for example 03 or 03,04")
    run.add_argument("--out", default="", help="the run's folder (default: runs/<scale>-<time>)")
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE",
                     help="any other notebook parameter, as YAML, for example -p temperature=3.0 or -p 'overrides={vocab_size: 2048}'; may be repeated")
    run.add_argument("--open", action="store_true", help="open the report in a browser at the end")
    add_data_command(commands)
    bench = commands.add_parser("bench", help="time our own code, as ratios within one run")
    bench.add_argument("what", choices=["data", "router", "kd", "moe"], help="data: the data set creator on a quarter, half and all of the help corpus; "
                                                                        "router: sequences per second against the paper's pipeline; "
                                                                        "kd: a training step of each way to distil; "
                                                                        "moe: what routing adds to training and writing")
    bench.add_argument("--scale", default="laptop", help=f"sizes: {', '.join(SCALES)} (default: %(default)s)")
    bench.add_argument("--languages", default="en,fr,de", help="comma-separated (default: %(default)s)")
    bench.add_argument("--repeats", type=int, default=3, help="measurements of each, for kd and moe five times as many (default: %(default)s)")
    add_sweep_command(commands)
    train = commands.add_parser("train", help="train one model, alone or on several devices through `accelerate launch -m mome train ...`",
                                description="Train the teacher, a student or a modular model; the notebooks then find it. On several devices or machines: "
                                            "accelerate launch --num_processes 4 -m mome train teacher --scale paper. Data and cached targets are best "
                                            "built before, by the same command without accelerate or by `mome data`.")
    train.add_argument("what", help=f"teacher, student, or one of: {', '.join(MOE_VARIANTS)}")
    train.add_argument("--scale", default="laptop", help=f"sizes: {', '.join(SCALES)} (default: %(default)s)")
    train.add_argument("--overrides", type=yaml.safe_load, default={}, help="single values of the scale, for example {teacher_tokens: 1000000000}")
    train.add_argument("--corpus", default="auto", help=f"where text comes from: {', '.join(CORPORA)} (default: %(default)s)")
    train.add_argument("--languages", default="en,fr,de,py", help="comma-separated (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="of the weights and batches; the teacher has but one (default: %(default)s)")
    listed = commands.add_parser("runs", help="list, filter and compare runs",
                                 description="List the runs under MOME_HOME/runs, or under the folders given; with --compare side by side, parameters that "
                                             "differ first, then their numbers.")
    listed.add_argument("folders", nargs="*", help="folders of runs or sweeps (default: all runs)")
    listed.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help="only runs with this parameter, notebook or state; may be repeated")
    listed.add_argument("--compare", action="store_true", help="a line a run: the parameters in which they differ, and their metrics")
    report = commands.add_parser("report", help="write one HTML file on a run or a sweep, which opens without network")
    report.add_argument("folder", help="the folder of a run or a sweep")
    report.add_argument("--open", action="store_true", help="open it in a browser")
    clean = commands.add_parser("clean", help="show the artefacts' sizes and remove what no run refers to, after asking",
                                description="Artefacts that a run asked for, and what those were made from, stay. Unfinished ones, from which an interrupted "
                                            "training would go on, stay unless --unfinished.")
    clean.add_argument("--runs", action="append", default=[], metavar="FOLDER", help="further folders of runs whose artefacts stay; may be repeated")
    clean.add_argument("--unfinished", action="store_true", help="remove unfinished artefacts as well")
    clean.add_argument("--yes", action="store_true", help="remove without asking")
    publish = commands.add_parser("publish", help="copy a run's figures to figures/ and its claims table into README.md")
    publish.add_argument("run", help="the folder of a finished run")
    return parser


def add_sweep_command(commands) -> None:
    sweep = commands.add_parser("sweep", help="run a notebook, or several, over a grid of parameters",
                                description="Run every combination of the values given. Runs that are complete are found, not repeated; whatever stops a "
                                            "sweep, the same command goes on from there. The plan is checked and shown first.",
                                epilog="example: mome sweep notebooks/03_kd_alpha.ipynb -p scale=smoke -p alpha=0,0.5,1 -p seed=0,1,2 --jobs 2")
    sweep.add_argument("what", help="a notebook (path, name or number), or a YAML file with several: {notebooks: [{notebook: 03, parameters: {...}, "
                                    "grid: {alpha: [0, 1]}, needs: [02]}], parameters: {scale: smoke}}")
    sweep.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=V1,V2",
                       help="values of a parameter, as YAML with commas between; a list parameter such as seeds is swept by its singular, seed=0,1,2, or in "
                            "brackets, seeds=[0,1],[2]; may be repeated")
    sweep.add_argument("--out", default="", help="the sweep's folder (default: runs/sweep-<hash of the plan>, so that the same command finds it again)")
    sweep.add_argument("--jobs", type=int, default=1, help="runs at a time; each has its share of the cores (default: %(default)s)")
    sweep.add_argument("--backend", default="loky", help="loky (processes here), dask or ray (machines that share the folder) (default: %(default)s)")
    sweep.add_argument("--address", default="", help="scheduler of dask or ray, for example tcp://10.0.0.1:8786 (default: workers on this machine)")
    sweep.add_argument("--dry-run", action="store_true", help="check and show the plan, and stop")
    sweep.add_argument("--retry-failed", action="store_true", help="run again what failed before")
    sweep.add_argument("--keep-going", action="store_true", help="start further runs after one has failed")


def add_data_command(commands) -> None:
    data = commands.add_parser("data", help="make a data set: aligned, cleaned, balanced, tokenized, with a data card",
                               description="Make a data set of any languages and write it to --out: data card, one JSON a split, documents as Parquet, packed "
                                           "rows as a DatasetDict, tokenizer. What is not said is taken from --scale.")
    data.add_argument("--out", required=True, help="the new folder to write; it appears when it is whole")
    data.add_argument("--corpus", default="auto", help=f"where text comes from: {', '.join(CORPORA)} (default: %(default)s, the first that works)")
    data.add_argument("--languages", default="en,fr,de,py", help="comma-separated, natural and programming languages (default: %(default)s)")
    data.add_argument("--scale", default="laptop", help=f"the sizes of all that is not said: {', '.join(SCALES)} (default: %(default)s)")
    data.add_argument("--seed", type=int, default=0, help="draws splits and the sample of articles (default: %(default)s)")
    data.add_argument("--tokens-per-language", type=int, help="most training tokens of each language")
    data.add_argument("--max-diff-percent", type=float, help="most that the languages' training tokens may differ, in percent of the largest")
    data.add_argument("--common-articles", action=argparse.BooleanOptionalAction, help="keep an article only when every natural language has it")
    data.add_argument("--shares", type=read_shares, help="equal, imbalanced (as found), or for example en=2,fr=1,de=1,py=4")
    data.add_argument("--near-duplicates", type=float, help="Jaccard similarity from which a training text counts as a copy of a held-out one")
    data.add_argument("--validation-fraction", type=float, help="share of the articles for validation, and as many for test")
    data.add_argument("--vocab-size", type=int, help="entries of the tokenizer")
    data.add_argument("--context", type=int, help="tokens a row")


def read_shares(text: str) -> str | dict:
    """Return "equal", "imbalanced", or {language: share} of en=2,fr=1."""
    if "=" not in text:
        return text
    parts = [part.partition("=") for part in text.split(",")]
    try:
        shares = {name.strip(): float(share) for name, _, share in parts}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; write equal, imbalanced or for example en=2,fr=1") from None
    if len(shares) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} repeats a language; every language may stand once")
    return shares


def read_parameters(pairs: list[str]) -> dict:
    """Return {name: value} of NAME=VALUE pairs, values read as YAML."""
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"parameter {pair!r} is not allowed; write NAME=VALUE, for example temperature=3.0")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"parameter {name}={text!r} is not readable as YAML") from None
    return values


def run_command(arguments: argparse.Namespace) -> None:
    from mome import sweep  # heavy, and not needed for --help

    parameters = {"scale": arguments.scale, "corpus": arguments.corpus, "languages": check_languages(arguments.languages),
                  "seeds": check_seeds(arguments.seeds), **read_parameters(arguments.parameter)}
    plan = sweep.plan_run([part.strip() for part in arguments.only.split(",") if part.strip()], parameters)
    out = Path(arguments.out).expanduser() if arguments.out else sweep.default_out(arguments.scale)
    sweep.check_disk(out.parent, arguments.scale)
    sweep.prepare(parameters)
    report = sweep.run_notebooks(plan, out)
    if arguments.open:
        webbrowser.open(report.resolve().as_uri())


def sweep_command(arguments: argparse.Namespace) -> int:
    from mome import runs, sweep

    check_range("jobs", arguments.jobs, 1, 256, whole=True)
    check_choice("backend", arguments.backend, sweep.BACKENDS)
    grid = sweep.read_grid(arguments.parameter)
    if Path(arguments.what).suffix in (".yaml", ".yml"):
        if grid:
            raise ValueError(f"parameter {next(iter(grid))!r} is not allowed beside a YAML file; write it there, under parameters or a notebook's grid")
        spec = sweep.read_sweep(Path(arguments.what))
    else:
        spec = {"notebooks": [{"notebook": arguments.what, "grid": grid}]}
    folder, planned = sweep.plan_sweep(spec, Path(arguments.out).expanduser() if arguments.out else None)
    print(sweep.describe_plan(planned, arguments.jobs, arguments.retry_failed), flush=True)
    if arguments.dry_run:
        return 0
    wanted = [run for run in planned if sweep.is_wanted(sweep.run_state(run.folder), arguments.retry_failed)]
    for parameters in sweep.list_benches(wanted):
        sweep.check_disk(folder, parameters["scale"])
        sweep.prepare(parameters)
    states = sweep.run_sweep(folder, planned, jobs=arguments.jobs, backend=arguments.backend, address=arguments.address,
                             retry_failed=arguments.retry_failed, keep_going=arguments.keep_going)
    print(", ".join(f"{number} {state}" for state, number in states.items()), flush=True)
    print(f"report: {runs.write_report(folder)}")
    return 0 if set(states) == {"complete"} else 1


def train_command(arguments: argparse.Namespace) -> None:
    check_choice("what", arguments.what, ["teacher", "student", *MOE_VARIANTS])
    check_range("seed", arguments.seed, 0, 2**31 - 1, whole=True)
    scale, languages = resolve_scale(arguments.scale, arguments.overrides), check_languages(arguments.languages)
    from mome import modular, recipes

    bench = recipes.open_bench(scale, arguments.corpus, languages)
    if arguments.what == "teacher":
        path = recipes.train_teacher(bench)
    elif arguments.what == "student":
        path = recipes.train_student(bench, languages, seed=arguments.seed)
    else:
        path = modular.train_moe(bench, arguments.what, seed=arguments.seed)
    if int(os.environ.get("RANK", "0")) == 0:
        print(path)


def runs_command(arguments: argparse.Namespace) -> None:
    from mome import runs

    for folder in arguments.folders:
        if not Path(folder).is_dir():
            raise ValueError(f"folder={folder!r} does not exist")
    table = runs.read_runs([Path(folder) for folder in arguments.folders] or [runs_dir()])
    table = runs.select_runs(table, read_parameters(arguments.where))
    if table.empty:
        print("no runs")
    elif arguments.compare:
        print(runs.compare_runs(table).to_string(index=False, na_rep="", float_format="{:.4g}".format))
    else:
        print(table[["run", "notebook", "state", "scale", "minutes", "gigabytes", "finished"]].to_string(index=False, na_rep="", float_format="{:.1f}".format))
        for text in runs.list_failures(table):
            print(text)


def clean_command(arguments: argparse.Namespace) -> None:
    from mome import runs

    for folder in arguments.runs:
        if not Path(folder).is_dir():
            raise ValueError(f"runs={folder!r} does not exist")
    table = runs.find_unused([runs_dir(), *map(Path, arguments.runs)])
    if table.empty:
        print(f"no artefacts under {artifacts_dir()}")
        return
    print(table.groupby(["kind", "state"]).megabytes.agg(["count", "sum"]).rename(columns={"sum": "megabytes"}).round(1).to_string())
    going = table[table.state.eq("unused") | (table.state.eq("unfinished") & arguments.unfinished)]
    if going.empty:
        print("nothing to remove: runs refer to all of it")
        return
    print(going[["name", "megabytes", "state"]].round(1).to_string(index=False))
    if arguments.yes or input(f"remove these {len(going)} ({going.megabytes.sum():.1f} MB)? [y/N] ").strip().lower() in ("y", "yes"):
        runs.remove_artifacts(going)
        print(f"removed {len(going)}")
    else:
        print("nothing removed")


def data_command(arguments: argparse.Namespace) -> None:
    from mome import export, recipes

    scale = resolve_scale(arguments.scale, {name: getattr(arguments, name) for name in DATA_OPTIONS if getattr(arguments, name) is not None})
    check_range("seed", arguments.seed, 0, 2**31 - 1, whole=True)
    out = Path(arguments.out).expanduser()
    export.check_out(out)
    bench = recipes.open_bench(scale, arguments.corpus, check_languages(arguments.languages), arguments.seed)
    print(f"corpus {bench.corpus}: {bench.corpus_reason}")
    print(export.data_card(bench.data_path).partition("## Sizes")[2].partition("## How")[0].strip())
    print(f"written to {export.export_dataset(bench.data_path, out)}")


def bench_command(arguments: argparse.Namespace) -> None:
    from mome import bench

    check_range("repeats", arguments.repeats, 1, whole=True)
    scale, languages = resolve_scale(arguments.scale), check_languages(arguments.languages, corpus_languages("help"))
    if arguments.what == "router":
        from mome import recipes

        data = recipes.open_bench(scale, "auto", languages).data
        table = bench.bench_router(data, scale.router_rows, arguments.repeats)
        print(table.groupby(["way", "batch"], sort=False)[["sequences_per_second", "times_original", "same_labels"]].agg(["min", "median", "max"])
              .round(2).to_string())
        print(bench.bench_router_memory(len(data.tokenizer), len(languages), scale.context).round(1).to_string(index=False))
        return
    if arguments.what == "moe":
        from mome import modular

        for what, table in modular.time_moe(scale, languages, 5 * arguments.repeats).groupby("what", sort=False):
            print(f"{what}: time beside that of the dense student of an expert's shape\n{table.drop(columns='what').round(2).to_string(index=False)}")
        return
    if arguments.what == "kd":
        table = bench.bench_kd(scale, 5 * arguments.repeats)
        for (vocab_size, context), part in table.groupby(["vocab_size", "context"], sort=False):
            print(f"vocabulary {vocab_size}, {context} tokens a sequence; cache: {part.bytes_per_token.iloc[0]:.0f} bytes per token")
            print(part.drop(columns=["vocab_size", "context", "bytes_per_token"]).round(2).to_string(index=False))
        return
    table = bench.bench_data(scale, languages, arguments.repeats)
    print(table.round(3).to_string(index=False))
    spread = table.groupby("part")[["seconds", "seconds_per_million_characters", "peak_gigabytes"]].agg(["min", "median", "max"])
    print(spread.round(3).to_string())


def report_command(arguments: argparse.Namespace) -> None:
    from mome import runs

    if not runs.read_metrics(Path(arguments.folder)) and runs.read_runs([Path(arguments.folder)]).empty:
        raise ValueError(f"folder={arguments.folder!r} holds no runs; give the folder of `mome run` or `mome sweep`")
    path = runs.write_report(Path(arguments.folder))
    print(path)
    if arguments.open:
        webbrowser.open(path.resolve().as_uri())


def publish_command(arguments: argparse.Namespace) -> None:
    from mome import runs

    for path in runs.publish(Path(arguments.run)):
        print(path)


def main(words: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 a notebook failed, 2 bad input, 130 interrupted."""
    arguments = make_parser().parse_args(words)
    try:
        if arguments.command == "sweep":
            return sweep_command(arguments)
        commands = {"run": run_command, "train": train_command, "data": data_command, "bench": bench_command, "runs": runs_command,
                    "report": report_command, "clean": clean_command, "publish": publish_command}
        commands[arguments.command](arguments)
    except (ValueError, OSError) as error:
        print(f"mome: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"mome: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mome: interrupted; what is finished is kept, the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
