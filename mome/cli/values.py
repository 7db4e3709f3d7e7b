"""NAME=VALUE pairs and sweeps' files, read as YAML 1.2. Options that commands share."""

import os
import re
from argparse import ArgumentTypeError
from pathlib import Path

from mome.checks import check_seeds
from mome.languages import CORPORA, check_languages
from mome.runs.spelling import read_yaml
from mome.scales import SCALES
from mome.values import cast


def whole_number(text: str) -> int:
    """Return the number, which argparse asks for; ValueError for none, or for one with a fraction."""
    return cast("number", read_yaml("number", text), int)


def read_pairs(pairs: list[str], is_grid: bool = False) -> dict:
    """Return {name: value} of NAME=VALUE, or {name: values} of NAME=VALUE,VALUE, lists in brackets."""
    found = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not re.fullmatch(r"[\w-]+=.*", pair, flags=re.DOTALL) or name in found:
            raise ValueError(f"parameter {pair!r} is not allowed; write NAME=VALUE, each name once, such as "
                             f"{'alpha=0,0.5,1' if is_grid else 'temperature=3.0'}")
        value = f"[{text}]" if is_grid else text.strip() or '""'
        found[name] = read_yaml(f"parameter {name}={text!r}", value)
    return found


def read_sweep(path: Path) -> dict:
    """Return the mapping of a sweep's YAML file; ValueError names what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"sweep={str(path)!r} does not exist; give a notebook or a YAML file")
    spec = read_yaml(f"sweep={str(path)!r}", path.read_text(encoding="utf-8", errors="replace"))
    check_mapping(str(path), spec, {"notebooks": list, "parameters": dict, "out": str})
    for number, entry in enumerate(spec["notebooks"], 1):
        check_mapping(f"{path}, notebook {number}", entry,
                      {"notebook": str | int, "parameters": dict, "grid": dict})
    return spec


def check_mapping(what: str, value, allowed: dict) -> None:
    """Raise ValueError unless `value` maps allowed names, at least the first, to values of their types."""
    names = ", ".join(allowed)
    if not isinstance(value, dict) or next(iter(allowed)) not in value:
        raise ValueError(f"{what} is {str(value)[:80]!r}; it must be a mapping of {names}, the first always")
    for name, given in value.items():
        if name not in allowed or not isinstance(given, allowed[name]) or given in ("", []):
            raise ValueError(f"{what}: {name}={given!r} is not allowed; it may hold {names}, none empty")


def add_command(commands, name: str, call, about: str, more: str = ""):
    """Return the new parser of a command; its options become the arguments of `call`."""
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    parser.set_defaults(call=call)
    return parser


def add_setting(parser, is_notebook: bool = False) -> None:
    """Add --scale, --corpus and --languages, which for notebooks have the notebooks' own defaults."""
    for name, value, text in (
            ("scale", "laptop", f"sizes of data and models: {', '.join(SCALES)}"),
            ("corpus", "auto", f"where text comes from: {', '.join(CORPORA)}, or help@2026-11-25"),
            ("languages", "en,fr,de,py", "comma-separated, natural and programming languages")):
        default, origin = ("", "as in the notebook") if is_notebook else (value, value)
        parser.add_argument(f"--{name}", default=default, help=f"{text} (default: {origin})")


def add_only(parser) -> None:
    parser.add_argument("--only", type=split_names, action="extend", default=[], metavar="NAMES",
                        help="comma-separated numbers, names or paths, such as 3,04 (default: all)")


def split_names(text: str) -> list[str]:
    """Return the names, for argparse, whose own error it raises where there is none."""
    if names := [part.strip() for part in text.split(",") if part.strip()]:
        return names
    raise ArgumentTypeError(f"{text!r} names no notebook; give numbers, names or paths, such as 3,04")


def add_parameters(parser) -> None:
    add_setting(parser, is_notebook=True)
    parser.add_argument("--seeds", default="", help="comma-separated (default: as in the notebook)")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", dest="pairs",
                        help="any other, as YAML: -p temperature=3.0 -p 'overrides={vocab_size: 2048}'")


def read_parameters(scale: str, corpus: str, languages: str, seeds: str, pairs: list[str]) -> dict:
    """Return {parameter: value} of what was given."""
    given = {"scale": scale, "corpus": corpus, "languages": languages and check_languages(languages),
             "seeds": seeds and check_seeds(seeds)}
    return {**{name: value for name, value in given.items() if value}, **read_pairs(pairs)}


def add_tracker(parser) -> None:
    parser.add_argument("--tracker", default=os.environ.get("MOME_TRACKER", ""), metavar="NAME",
                        help="follows trainings, files in MOME_HOME/tracker: tensorboard, or what else "
                             "accelerate knows and is installed (default: MOME_TRACKER, else none)")


def add_workers(parser, has_scheduler: bool = True) -> None:
    parser.add_argument("--workers", type=whole_number, default=0,
                        help="things built at a time (default: one a core)")
    if has_scheduler:
        parser.add_argument("--scheduler", default="", metavar="ADDRESS",
                            help="a dask scheduler whose workers share this folder: tcp://10.0.0.1:8786")
