"""Timings of our own code as ratios within one run; `python -m mome bench` prints them. Never part of the tests."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from mome import corpus as corpora
from mome import data as packing
from mome.config import CODE_LANGUAGES, Scale

PARTS = (0.25, 0.5, 1.0)


def bench_data(scale: Scale, languages: list[str], repeats: int) -> pd.DataFrame:
    """Return what the data set creator costs on a quarter, half and all of the help corpus.

    Columns: part, repeat, characters, seconds (parse, clean, drop copies, train the tokenizer, tokenize, balance, pack, save;
    not the download), seconds_per_million_characters, peak_gigabytes (of the whole process, libraries included). Every
    measurement has a process of its own.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="mome-bench-") as scratch:
        natural = [language for language in languages if language not in CODE_LANGUAGES]
        roots = corpora.fetch_help_packages(natural, Path(scratch))
        for repeat in range(repeats):
            for part in PARTS:
                # A task a process, or a later one would inherit the peak of an earlier one.
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    rows.append({"part": part, "repeat": repeat, **pool.submit(time_data, roots, "py" in languages, part, scale).result()})
    return pd.DataFrame(rows)


def time_data(roots: dict[str, Path], with_code: bool, part: float, scale: Scale) -> dict:
    """Return characters, seconds and peak memory of making a data set of a part of the help pages and Python files."""
    started = time.perf_counter()
    documents = pd.DataFrame([*corpora.parse_help_pages(roots, part), *(corpora.python_documents(part) if with_code else ())])
    with tempfile.TemporaryDirectory(prefix="mome-bench-") as folder:
        packing.build_dataset(
            documents, Path(folder), vocab_size=scale.vocab_size, context=scale.context, tokens_per_language=scale.tokens_per_language,
            max_diff_percent=scale.max_diff_percent, validation_fraction=scale.validation_fraction, seed=0, near_duplicates=scale.near_duplicates)
    seconds, characters = time.perf_counter() - started, int(documents.text.str.len().sum())
    return {"characters": characters, "seconds": seconds, "seconds_per_million_characters": 1e6 * seconds / characters,
            "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
