"""What the data set creator costs."""

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import psutil

from mome.data import DATA_OPTIONS
from mome.data.corpora import fetch_help_packages, parse_help_pages, python_documents
from mome.data.packing import build_dataset
from mome.languages import CODE_LANGUAGES
from mome.scales import Scale

PARTS = (0.25, 0.5, 1.0)


def bench_data(scale: Scale, languages: list[str], repeats: int) -> pd.DataFrame:
    """Return what the data set creator costs on a quarter, half and all of the help corpus.

    Columns: part, repeat, characters, seconds (parse, clean, drop copies, train the tokenizer, tokenize,
    balance, pack, save; not the download), seconds_per_million_characters, peak_gigabytes (of the whole
    process, libraries included). Every measurement has a process of its own.
    """
    with tempfile.TemporaryDirectory(prefix="mome-bench-") as scratch:
        roots = fetch_help_packages([name for name in languages if name not in CODE_LANGUAGES], Path(scratch))
        return pd.DataFrame([{"part": part, "repeat": repeat,
                              **run_alone(time_data, roots, "py" in languages, part, scale)}
                             for repeat in range(repeats) for part in PARTS])


def run_alone(function, *arguments):
    """Return what a function gives in a process of its own: another's peak memory is not its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def time_data(roots: dict[str, Path], with_code: bool, part: float, scale: Scale) -> dict:
    """Return what a data set of a part of the pages and Python files costs, as in `bench_data`."""
    started = time.perf_counter()
    documents = pd.DataFrame([*parse_help_pages(roots, part), *(python_documents(part) if with_code else ())])
    with tempfile.TemporaryDirectory(prefix="mome-bench-") as folder:
        options = {name: getattr(scale, name) for name in DATA_OPTIONS}
        build_dataset(documents, Path(folder), split_seed=0, **options)
    seconds, characters = time.perf_counter() - started, int(documents.text.str.len().sum())
    return {"characters": characters, "seconds": seconds,
            "seconds_per_million_characters": 1e6 * seconds / characters,
            "peak_gigabytes": measure_peak() / 1e9}


def measure_peak() -> int:
    """Return the most bytes of memory that this process has held so far."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
