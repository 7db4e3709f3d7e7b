"""How fast sequences are routed, and with how much memory."""

import time

import numpy as np
import pandas as pd

from mome.bench.data import measure_peak, run_alone
from mome.data import SPLITS
from mome.data.packing import PackedData
from mome.router.affine import Router
from mome.router.classifiers import fit_classifier, respell
from mome.router.fit import fit_affine


def bench_router(data: PackedData, rows_per_language: int, repeats: int) -> pd.DataFrame:
    """Return how fast sequences are routed, from ids to labels, the ways taken in turn within every repeat.

    Columns: way, batch, repeat, sequences_per_second, same_labels (share of labels equal to the original's;
    of the torch map, which holds another classifier, to its own pipeline's), times_original (the ratio to the
    original pipeline in the same repeat and at the same batch). Raises RuntimeError when the original
    classifier without strings gives another label.
    """
    rows = np.concatenate([data.rows(split) for split in SPLITS])[:8_192]
    original = fit_classifier(data, "paper_pipeline", rows_per_language)
    torch_map, pipeline = fit_affine(data, rows_per_language)
    counts, expected = respell(original, len(data.tokenizer)), original.predict(rows)
    if not np.array_equal(counts.predict(rows), expected):
        raise RuntimeError("the original classifier gives other labels when it reads counts")
    ways = [("original: ids as strings", original.predict, expected),
            ("the same classifier on counts", counts.predict, expected),
            ("torch map", torch_map.route, pipeline.predict(rows))]
    table = []
    for repeat in range(repeats):
        for batch in (1, 32, 1_024):
            some = rows[:min(len(rows), 256 * batch)]
            for way, predict, labels in ways:
                started = time.perf_counter()
                found = np.concatenate([predict(some[at:at + batch]) for at in range(0, len(some), batch)])
                speed = len(some) / (time.perf_counter() - started)
                table.append({"way": way, "batch": batch, "repeat": repeat, "sequences_per_second": speed,
                              "same_labels": float((found == labels[:len(some)]).mean())})
    table = pd.DataFrame(table)
    originals = table.groupby(["repeat", "batch"]).sequences_per_second.transform("first")
    return table.assign(times_original=table.sequences_per_second / originals)


def bench_router_memory(vocab_size: int, n_languages: int, context: int) -> pd.DataFrame:
    """Return by number of sequences the extra peak memory (MB) that routing takes beyond the rows."""
    sizes = (10_000, 100_000, 400_000)
    found = [run_alone(measure_routing_memory, vocab_size, n_languages, context, n_rows) for n_rows in sizes]
    return pd.DataFrame({"sequences": sizes, "extra_megabytes": found})


def measure_routing_memory(vocab_size: int, n_languages: int, context: int, n_rows: int) -> float:
    router = Router(vocab_size, [f"l{number}" for number in range(n_languages)])
    rows = np.random.default_rng(0).integers(0, vocab_size, (n_rows, context), dtype=np.uint16)
    router.route(rows[:8_192])  # what libraries take on first use is not the question
    before = measure_peak()
    router.route(rows)
    return (measure_peak() - before) / 1e6
