"""The command line: `python -m mome run --scale laptop`."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

import yaml

from mome import __version__
from mome.config import CORPORA, DATA_OPTIONS, SCALES, check_languages, check_range, check_seeds, corpus_languages, resolve_scale


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
    publish = commands.add_parser("publish", help="copy a run's figures to figures/ and its claims table into README.md")
    publish.add_argument("run", help="the folder of a finished run")
    return parser


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
    sweep.prepare(parameters)
    report = sweep.run_notebooks(plan, out)
    if arguments.open:
        webbrowser.open(report.resolve().as_uri())


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


def main(words: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 a notebook failed, 2 bad input, 130 interrupted."""
    arguments = make_parser().parse_args(words)
    try:
        if arguments.command == "run":
            run_command(arguments)
        elif arguments.command == "data":
            data_command(arguments)
        elif arguments.command == "bench":
            bench_command(arguments)
        else:
            from mome import runs

            for path in runs.publish(Path(arguments.run)):
                print(path)
    except (ValueError, OSError) as error:
        print(f"mome: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"mome: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mome: interrupted; finished artefacts are kept, the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
