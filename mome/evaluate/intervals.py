"""Intervals: Student's t over seeds, and the bootstrap over articles."""

import numpy as np
import pandas as pd


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, low, high) with Student's interval; for one value all three are that value."""
    from scipy import stats  # most of a second, which commands can do without

    mean, n = float(values.mean()), len(values)
    # What `stats.ttest_1samp` and `ttest_rel` give, which warn of values that are all the same.
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)) if n > 1 else 0.0
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
    from scipy import stats

    if not scores_a.article_id.equals(scores_b.article_id):
        raise ValueError("scores_a and scores_b must hold the same sequences in the same order")
    pairs = pd.DataFrame({"nats": scores_a.nats - scores_b.nats, "n_tokens": scores_a.n_tokens})
    sums = pairs.groupby(scores_a.article_id).sum().to_numpy()

    def ratio(nats, n_tokens, axis=0):
        return nats.sum(axis) / n_tokens.sum(axis)

    low, high = (np.nan, np.nan) if len(sums) < 2 else stats.bootstrap(
        sums.T, ratio, paired=True, n_resamples=draws, method="percentile",
        rng=np.random.default_rng(seed)).confidence_interval
    return float(ratio(*sums.T)), float(low), float(high)


def error_interval(wrong: np.ndarray, article_ids: np.ndarray,
                   rival: np.ndarray | None = None) -> tuple[float, float, float]:
    """Return (percent misread, low, high), less what a `rival` misreads of the same sequences where given.

    `wrong` and `rival` (N,) are booleans. The wider of two 95 % intervals at each end: the bootstrap over
    articles, and Wilson's, which has a width where nothing is misread; of a difference, Newcombe's (1998)
    square-and-add of Wilson's for the sequences that one of the two alone misreads.
    """
    from scipy import stats

    both = [np.asarray(wrong, dtype=float), np.zeros(len(wrong))]
    if rival is not None:
        both[1] += rival
    value, low, high = bootstrap_difference(*(
        pd.DataFrame({"article_id": article_ids, "nats": part, "n_tokens": 1}) for part in both))
    alone = [(both[0] > both[1]).sum(), (both[1] > both[0]).sum()]
    limits = [stats.binomtest(int(n), len(wrong)).proportion_ci(method="wilson") for n in alone]
    (own, its), (own_limits, its_limits) = np.array(alone) / len(wrong), limits
    below, above = own - own_limits.low, own_limits.high - own
    if rival is not None:
        below, above = np.hypot(below, its_limits.high - its), np.hypot(above, its - its_limits.low)
    return 100 * value, 100 * float(np.fmin(low, value - below)), 100 * float(np.fmax(high, value + above))


def bootstrap_scores(predictions: pd.DataFrame, languages: list[str], draws: int = 1_000,
                     seed: int = 0) -> pd.DataFrame:
    """Return precision, recall and f1 of a classifier with 95 % bootstrap intervals over articles.

    `predictions` has a line per sequence: article_id, label, predicted (positions in `languages`). Returned:
    language ("all": the mean weighted by true sequences), metric, value, low, high. Articles are drawn whole;
    where no draw holds an error the interval has no width and says too little.
    """
    n = len(languages)
    # Not scipy's bootstrap, which takes no weights: here a draw is a product with the articles' confusions.
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
