"""`mome data`, `mome train`: a data set for others, one model; built without a notebook."""

import argparse
import os
from pathlib import Path

from mome import engine
from mome.board import say
from mome.checks import check_choice
from mome.cli.values import add_command, add_setting, add_tracker, add_workers, read_pairs, whole_number
from mome.config import runs_dir
from mome.languages import check_languages
from mome.recipes.data import Data
from mome.recipes.modular import MOE_VARIANTS, MoE
from mome.recipes.setting import open_setting
from mome.recipes.students import Student
from mome.recipes.teacher import Teacher
from mome.recipes.training import count_processes, train_together
from mome.runs.defaults import share_batches
from mome.runs.record import note_needs
from mome.runs.spelling import read_yaml
from mome.tracker import tracked_by

OPTIONS = (
    ("tokens-per-language", whole_number, "most training tokens of each language"),
    ("max-diff-percent", float, "most that languages' training tokens may differ, in percent of the largest"),
    ("near-duplicates", float, "Jaccard similarity from which a training text is a copy of a held-out one"),
    ("validation-fraction", float, "share of the articles for validation"),
    ("test-fraction", float, "share of the articles for test"),
    ("held-out-tokens", whole_number, "most tokens of a held-out article; of a longer one a piece is kept"),
    ("vocab-size", whole_number, "entries of the tokenizer"), ("context", whole_number, "tokens a row"),
    ("shares", str, "equal, imbalanced (as found), or like en=2,fr=1"))


def add_data(commands) -> None:
    parser = add_command(
        commands, "data", data_command, "make a data set of any languages, with a data card",
        "Aligned, cleaned, balanced and tokenized text goes to --out: one JSON a split, documents as "
        "Parquet, packed rows as a DatasetDict, tokenizer. What is not said is taken from --scale.")
    parser.add_argument("--out", default="", help="the new folder to write; it appears when it is whole")
    add_setting(parser)
    parser.add_argument("--seed", type=whole_number, default=0, help="draws splits and articles (default: 0)")
    parser.add_argument("--refresh", action="store_true", help="fetch the corpus again: a snapshot of today")
    for name, kind, text in OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--common-articles", action=argparse.BooleanOptionalAction,
                        help="keep an article only when every natural language has it")
    add_workers(parser)


def data_command(out: str, scale: str, corpus: str, languages: str, seed: int, refresh: bool, workers: int,
                 scheduler: str, **values) -> None:
    from mome.data.card import data_card
    from mome.data.export import check_out, export_dataset

    if not out and not refresh:
        raise ValueError("--out is missing; give a new folder, or --refresh to fetch the corpus only")
    if out:
        check_out(Path(out).expanduser())
    given = {name: value for name, value in values.items() if value is not None}
    if "=" in given.get("shares", ""):
        given["shares"] = read_pairs(given["shares"].split(","))
    setting = open_setting(scale, corpus, languages, given, refresh=refresh)
    recipe = Data.of(setting, split_seed=seed)
    print(f"corpus {setting.corpus_name}: {setting.reason}", flush=True)
    note_needs(runs_dir() / "data", recipe)
    engine.build(recipe, workers, scheduler)
    card = data_card(recipe.folder, setting.corpus.manifest)
    print(card.partition("## Sizes")[2].partition("## How")[0].strip())
    if out:
        folder = export_dataset(recipe.folder, setting.corpus.manifest, Path(out).expanduser())
        print(f"written to {folder}")


def add_train(commands) -> None:
    parser = add_command(
        commands, "train", train_command, "train one model, alone or through accelerate launch",
        "The notebooks then find it. On several devices: accelerate launch --num_processes 4 -m mome train "
        "teacher --scale paper; on CPUs: torchrun --standalone --nproc-per-node 2 -m mome train teacher. "
        "What it is made from is best built before, by the same command alone.")
    parser.add_argument("what", help=f"teacher, student, or one of: {', '.join(MOE_VARIANTS)}")
    add_setting(parser)
    parser.add_argument("--overrides", default="{}", help="values of the scale: {teacher_tokens: 1000000}")
    parser.add_argument("--seed", type=whole_number, default=0,
                        help="of weights and batches (default: %(default)s)")
    add_workers(parser)
    add_tracker(parser)


def train_command(what: str, scale: str, corpus: str, languages: str, overrides: str, seed: int, **options):
    check_choice("what", what, ("teacher", "student", *MOE_VARIANTS))
    changes = read_yaml(f"overrides={overrides!r}", overrides) or {}
    changes = share_batches(scale, changes, check_languages(languages), say)
    processes = count_processes()
    if processes > 1 and corpus == "auto":
        raise ValueError("corpus='auto' is not allowed in several processes: each would choose; name one")
    setting = open_setting(scale, corpus, languages, changes)
    if what in MOE_VARIANTS:
        recipe = MoE.of(setting, what, seed=seed)
    elif what == "teacher":
        recipe = Teacher.of(setting, seed=seed)
    else:
        recipe = Student.of(setting, setting.languages, seed=seed)
    is_first = os.environ.get("RANK", "0") == "0"
    if is_first:
        note_needs(runs_dir() / "train", recipe)
    if processes == 1:
        engine.build(recipe, **options)
    else:
        with tracked_by(options["tracker"]):
            train_together(recipe)
    if is_first:
        print(recipe.folder)
