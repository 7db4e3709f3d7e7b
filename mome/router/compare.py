"""One classifier against held-out rows: how right, from how many tokens, how fast, how large."""

import time

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.metrics import precision_recall_fscore_support

from mome.checks import check_range
from mome.data.packing import PackedData
from mome.progress import track
from mome.router.classifiers import make_classifier, sample_rows


def compare_classifier(data: PackedData, name: str, rows_per_language: int, prefixes: list[int],
                       seed: int = 42, split: str = "validation", **options) -> tuple[pd.DataFrame, ...]:
    """Fit a classifier on whole training rows and let it read those of `split`, whole and cut to prefixes.

    Returns (scores, predictions). scores, a line per prefix: precision, recall, f1 (weighted over languages),
    fit_seconds, sequences_per_second (ids to label), stored_bytes. predictions, a line per prefix and row:
    article_id, row, label, predicted (positions in `data.languages`), confidence (top probability; NaN of a
    classifier without). Raises ValueError for an unknown name or option and for a prefix below 1.
    """
    classifier, scores, predictions = make_classifier(name, len(data.tokenizer), seed, **options), [], []
    for prefix in prefixes:
        check_range("prefixes", prefix, 1, whole=True)
    train_rows, train_labels = sample_rows(data, "train", rows_per_language)
    rows, labels = sample_rows(data, split, None)
    article_ids = data.article_ids(split)  # in the same order: a split lies language by language
    started = time.perf_counter()
    classifier.fit(train_rows, train_labels)
    fit_seconds, stored_bytes = time.perf_counter() - started, count_bytes(classifier)
    lengths = sorted({min(length, rows.shape[1]) for length in [*prefixes, rows.shape[1]]})
    for length in track(lengths, f"read by {name}", len(lengths)):
        about = {"classifier": name, "prefix": length}
        started = time.perf_counter()
        predicted = classifier.predict(rows[:, :length])
        seconds = time.perf_counter() - started
        has_probs = hasattr(classifier, "predict_proba")
        confidence = classifier.predict_proba(rows[:, :length]).max(axis=1) if has_probs else np.nan
        quality = precision_recall_fscore_support(labels, predicted, average="weighted", zero_division=0)[:3]
        scores.append({**about, "whole_sequence": length == rows.shape[1], "n_sequences": len(rows),
                       **dict(zip(("precision", "recall", "f1"), quality, strict=True)),
                       "fit_seconds": fit_seconds, "sequences_per_second": len(rows) / seconds,
                       "stored_bytes": stored_bytes})
        predictions.append(pd.DataFrame({**about, "article_id": article_ids, "row": np.arange(len(rows)),
                                         "label": labels, "predicted": predicted, "confidence": confidence}))
    return pd.DataFrame(scores), pd.concat(predictions, ignore_index=True)


def count_bytes(fitted) -> int:
    """Return the bytes of all that a fitted estimator has learned: its arrays, vocabularies and trees."""
    seen: dict[int, object] = {}  # holds what it names, or an id could be given out again

    def walk(value) -> int:
        if id(value) in seen:
            return 0
        seen[id(value)] = value
        if isinstance(value, str):
            return len(value.encode())
        if issparse(value):
            return value.data.nbytes + value.indices.nbytes + value.indptr.nbytes
        if isinstance(value, np.ndarray):
            return value.nbytes if value.dtype != object else sum(map(walk, value.ravel()))
        if isinstance(value, dict | list | tuple):
            return sum(map(walk, value.items() if isinstance(value, dict) else value))
        if type(value).__module__ == "sklearn.tree._tree":
            return sum(map(walk, value.__getstate__().values()))
        return 0 if callable(value) else sum(map(walk, getattr(value, "__dict__", {}).values()))

    return walk(fitted)
