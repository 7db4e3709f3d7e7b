"""Near duplicates: what training may read holds no copy of a text that is held out."""

import zlib

import numpy as np
import pandas as pd

from mome.data.clean import WORD
from mome.progress import track

SHINGLE_WORDS, PERMUTATIONS, RECALL = 5, 128, 0.999  # the index finds that share of pairs at the threshold
MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5,
                        0x85EBCA77C2B2AE63], dtype=np.uint64)


def shingles(text: str) -> np.ndarray:
    """Return the sorted, distinct 32-bit hashes of its runs of five words, case aside, or of all if fewer."""
    words = WORD.findall(text.casefold()) or [text.strip()]
    codes = np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint64, count=len(words))
    codes = np.pad(codes, (0, max(0, SHINGLE_WORDS - len(codes))))
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE_WORDS)
    return np.unique(((windows + 1) * MULTIPLIERS).sum(axis=1, dtype=np.uint64) >> np.uint64(32))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return the shared over all elements of two sorted sets, in [0, 1]."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def band_rows(threshold: float) -> int:
    """Return the most rows a band may have to find a pair of that similarity with probability `RECALL`."""
    # With b bands of r rows they share a band with probability 1 - (1 - s^r)^b; more rows, fewer candidates.
    found = {r: 1 - (1 - threshold**r) ** (PERMUTATIONS // r) for r in range(1, PERMUTATIONS // 2 + 1)}
    return max((r for r, probability in found.items() if probability >= RECALL), default=1)


def find_copies(documents: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return the texts that are near duplicates of a more protected split's text, each with the closest one.

    Columns: row (position in `documents`), language, article_id, split, copy_of (article id),
    copy_of_language, copy_of_split, jaccard. Validation is protected from test and train, test from train.
    MinHash proposes pairs (Broder 1997; Leskovec, Rajaraman, Ullman, chapter 3), then runs are compared:
    none below `threshold` is named, one above is missed with probability under 1 - `RECALL`.
    """
    from datasketch import MinHash, MinHashLSH  # for who builds data; every kernel loads this module

    rows, empty = band_rows(threshold), MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    index, protected, copies = MinHashLSH(num_perm=PERMUTATIONS, params=(PERMUTATIONS // rows, rows)), {}, []
    table = documents[["language", "article_id", "split", "text"]].reset_index(drop=True)
    order = table.split.map({"validation": 0, "test": 1, "train": 2}).sort_values(kind="stable").index
    for row in track(table.loc[order].itertuples(), "compare with held-out texts", len(table)):
        values, signature = shingles(row.text), empty.copy()
        signature.update_batch(values.tolist())
        near = [key for key in index.query(signature) if table.split[key] != row.split]
        similarity, key = max(((jaccard(values, protected[key]), key) for key in near), default=(0.0, -1))
        if similarity >= threshold:
            copies.append((*row[:4], *table.loc[key, ["article_id", "language", "split"]], similarity))
        elif row.split != "train":
            protected[row.Index] = values
            index.insert(row.Index, signature)
    return pd.DataFrame(copies, columns=["row", "language", "article_id", "split", "copy_of",
                                         "copy_of_language", "copy_of_split", "jaccard"])
