"""The parser and the exit codes: 0 done, 1 something failed, 2 bad input, 130 interrupted."""

import argparse
import os
import re
import signal
import sys

import mome
from mome.checks import check_range, is_sentence
from mome.cli import bench, build, bundle, demo, export, lab, run, runs
from mome.tracker import check_tracker


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="mome", description="MoME workbook: modular language models from a multilingual teacher.")
    parser.add_argument("--version", action="version", version=mome.__version__)
    commands = parser.add_subparsers(required=True)
    for add in (run.add_run, lab.add_lab, demo.add_demo, build.add_data, build.add_train, bench.add_bench,
                runs.add_runs, export.add_export, bundle.add_bundle):
        add(commands)
    return parser


def main(words: list[str] | None = None) -> int:
    """Return the exit code. What mome's own code refuses is one line; another error is a traceback."""
    values = vars(make_parser().parse_args(words))
    if hasattr(sys.stdout, "reconfigure"):  # a card and a path have letters that the C locale lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_range("workers", values.get("workers", 0), 0, 256, whole=True)
        if not re.fullmatch(r"((tcp://)?[^\s/:]+:\d+)?", values.get("scheduler", "")):
            raise ValueError(f"scheduler={values['scheduler']!r} is not allowed; write tcp://10.0.0.1:8786")
        check_tracker(values.get("tracker", ""))
        signal.signal(signal.SIGINT, interrupt_once)
        code = values.pop("call")(**values) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, LookupError, RuntimeError, OSError) as error:
        if not is_sentence(error) and not (isinstance(error, OSError) and error.filename):
            raise  # a library's; an OSError that names a file is of what the person gave
        print(f"mome: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | OSError) else 1
    except KeyboardInterrupt as error:
        words = str(error) or "interrupted; what is finished is kept, the same command goes on from here"
        print(f"mome: {words}", file=sys.stderr)
        return 130


def interrupt_once(number: int, _) -> None:
    """Stop with a sentence at the first Ctrl-C, at once at the second; workers follow their command."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
