"""The command line: `python -m mome run --scale laptop`."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

import yaml

from mome import __version__
from mome.config import CORPORA, SCALES, check_languages, check_seeds


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
    publish = commands.add_parser("publish", help="copy a run's figures to figures/ and its claims table into README.md")
    publish.add_argument("run", help="the folder of a finished run")
    return parser


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


def main(words: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 a notebook failed, 2 bad input, 130 interrupted."""
    arguments = make_parser().parse_args(words)
    try:
        if arguments.command == "run":
            run_command(arguments)
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
