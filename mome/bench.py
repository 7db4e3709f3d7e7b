"""Timings of our own code as ratios within one run; `python -m mome bench` prints them. Never part of the tests."""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import GPT2Config, GPT2LMHeadModel

from mome import corpus as corpora
from mome import data as packing
from mome import distill, models, recipes, router, targets, train
from mome.config import CODE_LANGUAGES, DATA_OPTIONS, Scale, Shape

PARTS = (0.25, 0.5, 1.0)
VOCABULARIES = (2_048, 8_192, 32_768)
CONTEXTS = (64, 128, 256, 512)


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
        packing.build_dataset(documents, Path(folder), seed=0, **{name: getattr(scale, name) for name in DATA_OPTIONS})
    seconds, characters = time.perf_counter() - started, int(documents.text.str.len().sum())
    return {"characters": characters, "seconds": seconds, "seconds_per_million_characters": 1e6 * seconds / characters,
            "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def bench_router(data: packing.PackedData, rows_per_language: int, repeats: int) -> pd.DataFrame:
    """Return how fast sequences are routed, from rows of ids to labels, the ways taken in turn within every repeat.

    Columns: way, batch, repeat, sequences_per_second, times_original (the ratio to the original pipeline in the same repeat
    and at the same batch), same_labels (share of labels equal to the original's; of the torch map, which holds another classifier, to its own
    pipeline's). Raises RuntimeError when the original classifier without strings gives another label.
    """
    train_rows, train_labels = router.sample_rows(data, "train", rows_per_language)
    rows = np.concatenate([data.rows(split) for split in packing.SPLITS])[:8_192]
    original = router.make_classifier("paper_pipeline", len(data.tokenizer)).fit(train_rows, train_labels)
    counts = router.respell(original, len(data.tokenizer))
    torch_map, pipeline = router.fit_router(data, rows_per_language)
    expected, expected_map = original.predict(rows), pipeline.predict(rows)
    if not np.array_equal(counts.predict(rows), expected):
        raise RuntimeError("the original classifier gives other labels when it reads counts")
    ways = [("original: ids as strings", original.predict, expected), ("the same classifier on counts", counts.predict, expected),
            ("torch map", torch_map.route, expected_map)]
    table = []
    for repeat in range(repeats):
        for batch in (1, 32, 1_024):
            some = rows[:min(len(rows), 256 * batch)]
            for way, predict, labels in ways:
                started = time.perf_counter()
                found = np.concatenate([predict(some[at:at + batch]) for at in range(0, len(some), batch)])
                table.append({"way": way, "batch": batch, "repeat": repeat, "sequences_per_second": len(some) / (time.perf_counter() - started),
                              "same_labels": float((found == labels[:len(some)]).mean())})
    table = pd.DataFrame(table)
    baseline = table[table.way == ways[0][0]].set_index(["repeat", "batch"]).sequences_per_second
    return table.assign(times_original=table.sequences_per_second / baseline.loc[zip(table.repeat, table.batch, strict=True)].to_numpy())


def bench_router_memory(vocab_size: int, n_languages: int, context: int) -> pd.DataFrame:
    """Return the extra peak memory in megabytes that routing takes beyond the rows themselves, by number of sequences."""
    table = []
    for n_rows in (10_000, 100_000, 400_000):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            table.append({"sequences": n_rows, "extra_megabytes": pool.submit(measure_routing_memory, vocab_size, n_languages, context, n_rows).result()})
    return pd.DataFrame(table)


def measure_routing_memory(vocab_size: int, n_languages: int, context: int, n_rows: int) -> float:
    random_router = router.Router(vocab_size, [f"l{number}" for number in range(n_languages)])
    rows = np.random.default_rng(0).integers(0, vocab_size, (n_rows, context), dtype=np.uint16)
    random_router.route(rows[:8_192])  # what libraries take on first use is not the question
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random_router.route(rows)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3


def bench_kd(scale: Scale, repeats: int) -> pd.DataFrame:
    """Return what a step of each way to distil costs at the scale's sizes, then by vocabulary, then by sequence length.

    Columns: vocab_size, context, way, then ratios within the same round (median, low, high: quartiles) to a step on hard
    labels alone (`times_ce`, ...) and to the cached step (`times_cached`, ...), milliseconds (median), and bytes_per_token of
    the cache on disk. Random weights and ids: what is computed does not depend on them. Batches hold equally many tokens.
    """
    settings = dict.fromkeys([(scale.vocab_size, scale.context), *((vocab_size, scale.context) for vocab_size in VOCABULARIES),
                              *((scale.vocab_size, context) for context in CONTEXTS)])
    return pd.concat([time_kd(replace(scale, vocab_size=vocab_size, context=context), scale.tokens_per_step, repeats) for vocab_size, context in settings],
                     ignore_index=True)


def plain_config(shape: Shape, scale: Scale) -> GPT2Config:
    """Return a shape with GPT-2's defaults, as the original trains it: dropout of 0.1 and an activation of seven kernels."""
    return GPT2Config(vocab_size=scale.vocab_size, n_positions=scale.context, n_layer=shape.n_layer, n_head=shape.n_head, n_embd=shape.n_embd, use_cache=False,
                      bos_token_id=1, eos_token_id=2)


def time_kd(scale: Scale, tokens_per_step: int, repeats: int) -> pd.DataFrame:
    batch_size = max(1, tokens_per_step // scale.context)
    rows = np.random.default_rng(0).integers(3, scale.vocab_size, (8 * batch_size, scale.context)).astype(np.uint16)
    student, teacher = (models.build_gpt2(shape, scale.vocab_size, scale.context, seed=0) for shape in (scale.student, scale.teacher))
    with tempfile.TemporaryDirectory(prefix="mome-bench-") as scratch:
        folder = Path(scratch)
        targets.cache_targets(teacher, rows, np.arange(len(rows)), scale.targets_per_token, folder, micro_batch_size=batch_size)
        n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        ways = recipes.time_ways(student, teacher, targets.CachedTargets(folder), rows, np.arange(len(rows)), batch_size, "cpu")
        plain_student, plain_teacher = (GPT2LMHeadModel(plain_config(shape, scale)) for shape in (scale.student, scale.teacher))
        ways["KD, the original's way, GPT-2's defaults"] = train.make_step(
            plain_student, distill.original_objective(recipes.dense_logits, plain_teacher.eval()), rows, itertools.repeat(np.arange(batch_size)), batch_size)
        timed = train.time_in_turn(ways, repeats)
    table = train.ratios_to(timed, recipes.HARD_LABELS).rename(columns={"median": "times_ce", "low": "ce_low", "high": "ce_high"})
    cached = train.ratios_to(timed, "KD, cached").rename(columns={"median": "times_cached", "low": "cached_low", "high": "cached_high"})
    table = table.merge(cached, on="way").assign(milliseconds=1e3 * timed.groupby("way").seconds.median()[table.way].to_numpy())
    return table.assign(vocab_size=scale.vocab_size, context=scale.context, bytes_per_token=n_bytes / rows.size)[
        ["vocab_size", "context", *table.columns, "bytes_per_token"]]
