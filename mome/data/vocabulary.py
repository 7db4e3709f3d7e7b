"""What a packed data set is made of: the unigram bound, and which tokens the languages share."""

from collections import Counter

import numpy as np
import pandas as pd

from mome.data.packing import PackedData
from mome.data.tokenizer import token_text


def unigram_nats(data: PackedData, split: str = "validation") -> dict[str, float]:
    """Return, per language, nats per token of its own add-one unigram model, a bound for any model."""
    result = {}
    for language, counts in zip(data.languages, token_counts(data) + 1, strict=True):
        targets = data.rows(split)[data.row_numbers(split, language)][:, 1:]  # the first token is never one
        result[language] = float(-np.log(counts / counts.sum())[targets].mean())
    return result


def token_counts(data: PackedData) -> np.ndarray:
    """Return (E, V) how often each language's training rows hold each token."""
    rows = (data.rows("train")[data.row_numbers("train", language)].ravel() for language in data.languages)
    return np.stack([np.bincount(tokens, minlength=len(data.tokenizer)) for tokens in rows])


def vocabulary_overlap(data: PackedData, smallest_share: float = 1e-5) -> pd.DataFrame:
    """Return (E, E) Jaccard overlap of the tokens that are at least `smallest_share` of a language's text."""
    used = [set(np.flatnonzero(counts / counts.sum() >= smallest_share)) for counts in token_counts(data)]
    values = [[len(a & b) / len(a | b) for b in used] for a in used]
    return pd.DataFrame(values, index=data.languages, columns=data.languages)


def vocabulary_use(data: PackedData, smallest_share: float = 1e-5) -> pd.DataFrame:
    """Return, per language, how much of its vocabulary is its own.

    Columns: language, used (tokens of at least `smallest_share` of its text), own_types and common_types
    (what part of those no other language uses, and all use), own_tokens and common_tokens (weighed by use).
    """
    counts = token_counts(data)
    is_used = counts >= smallest_share * counts.sum(axis=1, keepdims=True)
    own, common = (is_used & (is_used.sum(axis=0) == users) for users in (1, len(counts)))
    used, total = is_used.sum(axis=1), counts.sum(axis=1)
    return pd.DataFrame({
        "language": data.languages, "used": used, "own_types": own.sum(axis=1) / used,
        "common_types": common.sum(axis=1) / used, "own_tokens": (counts * own).sum(axis=1) / total,
        "common_tokens": (counts * common).sum(axis=1) / total})


def most_common_tokens(data: PackedData, language: str, n: int) -> list[str]:
    counts = Counter(data.rows("train")[data.row_numbers("train", language)].ravel().tolist())
    return [token_text(data.tokenizer, token) for token, _ in counts.most_common(n)]
