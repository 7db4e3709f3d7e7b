"""Intervals: Student's t over seeds, and the bootstrap over articles."""

import numpy as np
import pandas as pd
from scipy import stats


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, low, high) with Student's interval; for one value all three are that value."""
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return mean, mean - half, mean + half


def paired_interval(a, b, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, low, high) of a - b over paired seeds, Student's; low and high are NaN for one seed."""
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    mean, low, high = mean_interval(differences, confidence)
    return (mean, low, high) if len(differences) > 1 else (mean, float("nan"), float("nan"))


def bootstrap_difference(scores_a: pd.DataFrame, scores_b: pd.DataFrame, draws: int = 2_000,
                         seed: int = 0) -> tuple[float, float, float]:
    """Return (difference, low, high) of nats per token, a minus b, with a 95 % bootstrap over articles.

    Both tables hold the same sequences in the same order. Articles are drawn whole, their sequences are not
    independent (one alone: NaN). The interval speaks of the text; that of training takes several seeds.
    """
    if not scores_a.article_id.equals(scores_b.article_id):
        raise ValueError("scores_a and scores_b must hold the same sequences in the same order")
    pairs = pd.DataFrame({"nats": scores_a.nats - scores_b.nats, "n_tokens": scores_a.n_tokens})
    sums = pairs.groupby(scores_a.article_id).sum().to_numpy()
    low = high = np.nan
    if len(sums) > 1:
        drawn = sums[np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))].sum(axis=1)
        low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def bootstrap_scores(predictions: pd.DataFrame, languages: list[str], draws: int = 1_000,
                     seed: int = 0) -> pd.DataFrame:
    """Return precision, recall and f1 of a classifier with 95 % bootstrap intervals over articles.

    `predictions` has a line per sequence: article_id, label, predicted (positions in `languages`). Returned:
    language ("all": the mean weighted by true sequences), metric, value, low, high. Articles are drawn whole;
    where no draw holds an error the interval has no width and says too little.
    """
    n = len(languages)
    codes, articles = pd.factorize(predictions.article_id)
    cells, even = np.zeros((len(articles), n * n)), np.full(len(articles), 1 / len(articles))
    np.add.at(cells, (codes, (predictions.label * n + predictions.predicted).to_numpy()), 1)
    weights = np.random.default_rng(seed).multinomial(len(articles), even, size=draws)
    scores = score_confusions(np.vstack([cells.sum(axis=0), weights @ cells]).reshape(-1, n, n))
    found = [scores[0], *np.quantile(scores[1:], [0.025, 0.975], axis=0)]
    lines = pd.MultiIndex.from_product([[*languages, "all"], ["precision", "recall", "f1"]])
    table = lines.to_frame(index=False, name=["language", "metric"])
    table["value"], table["low"], table["high"] = (part.T.ravel() for part in found)
    return table


def score_confusions(confusions: np.ndarray) -> np.ndarray:
    """Return (B, 3, E + 1): precision, recall and f1 of confusions (B, E true, E predicted).

    Per class and, last, weighted by true counts. A class that is never predicted has precision 0.
    """
    true, read, right = confusions.sum(axis=2), confusions.sum(axis=1), np.diagonal(confusions, 0, 1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.nan_to_num(np.stack([right / read, right / true, 2 * right / (true + read)], axis=1))
    weighted = (parts * true[:, None]).sum(axis=2, keepdims=True) / true.sum(axis=1)[:, None, None]
    return np.concatenate([parts, weighted], axis=2)
