"""Cleaning: one Unicode form, no control characters, no boilerplate, no copy of a held-out text in training."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from mome.artifacts import track
from mome.config import CODE_LANGUAGES

LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
# Control characters but tab and line feed; halves of surrogate pairs, which no encoding allows alone; and marks that no
# reader sees: byte-order mark, soft hyphen, zero-width space.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u00ad\u200b]")
# A word is a run of letters, digits, underscores and marks such as the vowel signs of Hindi, which \w leaves out; where a
# script has no spaces between words, a character is one.
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
MARKS = "".join(mark for mark in map(chr, range(0x300, 0x1000)) if unicodedata.category(mark).startswith("M"))
WORD = re.compile(f"[{SPACELESS}]|(?:[^\\W{SPACELESS}]+[{MARKS}]*)+")
SHINGLE_WORDS = 5
PERMUTATIONS = 128
RECALL = 0.999  # share of pairs at the threshold that the index must find
MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63], dtype=np.uint64)


def normalize(text: str) -> str:
    """Return the text in Unicode's composed form (NFC), with line feeds as line ends and without invisible characters."""
    return unicodedata.normalize("NFC", INVISIBLE.sub("", LINE_ENDS.sub("\n", text)))


def clean(documents: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (cleaned documents, counts per language of what was removed).

    Every text is normalized. In natural languages a line that stood before, in any article, is dropped: menus, notes and
    transcluded paragraphs would otherwise stand in train and validation alike. So is a line that stands in several
    languages word for word: it was never translated, and its language is not that of its article. In code, where equal
    lines are syntax, whole equal files go.
    """
    normal = documents.assign(text=[normalize(text) for text in documents.text])
    untranslated = shared_lines(normal)
    kept, counts = [], []
    for language, group in normal.groupby("language", sort=False):
        group = group.sort_values("article_id")
        before = documents.text[group.index]
        row = {"language": language, "articles_before": len(group), "characters_before": int(before.str.len().sum()),
               "normalized_articles": int((before != group.text).sum()), "repeated_lines": 0, "untranslated_lines": 0, "equal_articles": 0}
        if language in CODE_LANGUAGES:
            cleaned = group[group.text.str.strip() != ""].drop_duplicates("text")
            row["equal_articles"] = len(group) - len(cleaned)
        else:
            cleaned, row["repeated_lines"], row["untranslated_lines"] = drop_lines(group, untranslated)
        kept.append(cleaned)
        counts.append(row | {"articles_after": len(cleaned), "characters_after": int(cleaned.text.str.len().sum())})
    return pd.concat(kept, ignore_index=True), pd.DataFrame(counts)


def shared_lines(documents: pd.DataFrame) -> set[str]:
    """Return the lines that stand in two natural languages or more."""
    natural = documents[~documents.language.isin(CODE_LANGUAGES)]
    distinct = [{line for text in group.text for line in text.split("\n")} for _, group in natural.groupby("language")]
    return {line for line, count in Counter(line for lines in distinct for line in lines).items() if count > 1}


def drop_lines(group: pd.DataFrame, untranslated: set[str]) -> tuple[pd.DataFrame, int, int]:
    """Return one language's documents without repeated and untranslated lines, and how many of each went."""
    seen, texts, repeated, foreign = set(), [], 0, 0
    for text in group.text:
        lines = [line for line in text.split("\n") if line.strip()]
        fresh = [line for line in dict.fromkeys(lines) if line not in seen]
        seen.update(fresh)
        own = [line for line in fresh if line not in untranslated]
        repeated, foreign = repeated + len(lines) - len(fresh), foreign + len(fresh) - len(own)
        texts.append("\n".join(own))
    group = group.assign(text=texts)
    return group[group.text.str.strip() != ""], repeated, foreign


def shingles(text: str) -> np.ndarray:
    """Return the sorted, distinct 32-bit hashes of the text's runs of five words, case aside; of all its words when it has fewer."""
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
    """Return the rows of a band with which the index finds a pair of similarity `threshold` with probability `RECALL` or more.

    With b bands of r rows a pair of similarity s shares a band with probability 1 - (1 - s^r)^b; more rows mean fewer
    candidates to check.
    """
    return max(r for r in range(1, PERMUTATIONS // 2 + 1) if r == 1 or 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL)


def find_copies(documents: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return the texts that are near duplicates of a more protected split's text, each with the closest one.

    Columns: row (its position in `documents`), language, article_id, split, copy_of (article id), copy_of_language,
    copy_of_split, jaccard. Validation is protected from test and train, test from train. MinHash proposes pairs
    (Broder 1997; Leskovec, Rajaraman, Ullman, chapter 3), their similarity is then counted exactly over five-word
    shingles, so none below `threshold` is named and one above is missed with probability under 1 - `RECALL`.
    """
    rows = band_rows(threshold)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(PERMUTATIONS // rows, rows))
    empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    protected, copies = {}, []
    table = documents[["language", "article_id", "split", "text"]].reset_index(drop=True)
    order = table.assign(rank=table.split.map({"validation": 0, "test": 1, "train": 2})).sort_values("rank", kind="stable")
    for row in track(order.itertuples(), "compare with held-out texts", len(order)):
        values = shingles(row.text)
        signature = empty.copy()
        signature.update_batch(values.tolist())
        near = [(jaccard(values, protected[key]), key) for key in index.query(signature) if table.split[key] != row.split]
        similarity, key = max(near, default=(0.0, -1))
        if similarity >= threshold:
            copies.append({"row": row.Index, "language": row.language, "article_id": row.article_id, "split": row.split, "copy_of": table.article_id[key],
                           "copy_of_language": table.language[key], "copy_of_split": table.split[key], "jaccard": similarity})
        elif row.split != "train":
            protected[row.Index] = values
            index.insert(row.Index, signature)
    return pd.DataFrame(copies, columns=["row", "language", "article_id", "split", "copy_of", "copy_of_language", "copy_of_split", "jaccard"])
