"""`mome bench`: what our own code costs, as ratios within one run."""

import os
from unittest.mock import patch

from mome import engine
from mome.checks import check_range
from mome.cli.values import add_command, add_setting, whole_number
from mome.languages import check_languages, corpus_languages
from mome.recipes.data import Data
from mome.recipes.setting import open_setting
from mome.scales import resolve_scale

WHAT = ("data: the data set creator on a quarter, half and all of the help corpus; router: sequences a "
        "second against the paper's pipeline; kd: a training step of each way to distil; moe: what routing "
        "adds to training and writing; step: where the time of a training step goes, in a task's process; "
        "precision: what a lower one gains here")


def add_bench(commands) -> None:
    parser = add_command(commands, "bench", bench_command, "time our own code, as ratios within one run")
    parser.add_argument("what", choices=["data", "router", "kd", "moe", "step", "precision"], help=WHAT)
    add_setting(parser)
    parser.add_argument("--repeats", type=whole_number, default=3,
                        help="of each, five times for kd, moe, step")
    parser.set_defaults(languages="en,fr,de")


def bench_command(what: str, scale: str, corpus: str, languages: str, repeats: int) -> None:
    check_range("repeats", repeats, 1, whole=True)
    names, sizes = check_languages(languages, corpus_languages(corpus)), resolve_scale(scale)
    if what == "router" and len(names) < 2:
        raise ValueError(f"languages={names!r} is not enough; a router tells at least two apart")
    from mome.bench import data, kd, modular, router, step  # which load torch

    if what == "data":
        print_table(data.bench_data(sizes, names, repeats), "part")
    elif what == "router":
        recipe = Data.of(open_setting(sizes, corpus, names))
        engine.build(recipe)
        rows = recipe.open()
        print_table(router.bench_router(rows, sizes.router_rows, repeats), "way", "batch")
        print_table(router.bench_router_memory(len(rows.tokenizer), len(names), sizes.context))
    elif what == "kd":
        print_table(kd.bench_kd(sizes, 5 * repeats))
    elif what == "moe":
        print_table(modular.bench_modular(sizes, names, 5 * repeats))
    elif what == "step":
        with patch.dict(os.environ, {name: str(value) for name, value in engine.ENVIRONMENT.items()}):
            print_table(data.run_alone(step.bench_step, sizes, names, 5 * repeats))
    else:
        print("\n".join(f"{name}: {value}" for name, value in kd.bench_precision(sizes).items()))


def print_table(table, *by: str) -> None:
    """Print a table, and by some of its columns the spread of its repeats."""
    print(table.round(3).to_string(index=False))
    if by:
        measured = table.drop(columns="repeat").groupby(list(by), sort=False)
        print(measured.agg(["min", "median", "max"]).round(3).to_string())
