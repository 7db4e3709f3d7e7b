"""What a classifier's confidence is worth, and what its errors cost."""

import numpy as np
import pandas as pd


def reliability(confidence: np.ndarray, is_right: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Return one line per bin of equal width that holds anything: confidence (its mean), accuracy, n."""
    table = pd.DataFrame({"confidence": confidence, "accuracy": is_right.astype(float)})
    bins = table.groupby(np.clip((table.confidence * n_bins).astype(int), 0, n_bins - 1))
    return bins.mean().assign(n=bins.size()).reset_index(drop=True)


def calibration_error(confidence: np.ndarray, is_right: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected calibration error in [0, 1]: the gap between confidence and accuracy over bins.

    The mean is weighted by the bins' sizes. Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, eq. 3.
    """
    table = reliability(confidence, is_right, n_bins)
    return float(((table.accuracy - table.confidence).abs() * table.n).sum() / table.n.sum())


def risk_coverage(confidence: np.ndarray, is_right: np.ndarray) -> pd.DataFrame:
    """Return what abstaining buys: threshold, coverage (share answered), risk (share of answers wrong).

    Sequences of equal confidence are answered together. El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
    """
    wrong = pd.Series(1.0 - is_right).groupby(confidence).agg(["sum", "size"])[::-1].cumsum()
    return pd.DataFrame({"threshold": wrong.index, "coverage": wrong["size"].to_numpy() / len(confidence),
                         "risk": (wrong["sum"] / wrong["size"]).to_numpy()})


def routing_price(expert_nats: np.ndarray, labels: np.ndarray, shares: np.ndarray,
                  n_bytes: np.ndarray) -> float:
    """Return the price of routing: bits per byte that the chosen experts need beyond each sequence's own.

    expert_nats (N, E) are nats of each sequence under each expert, `labels` (N,) its own, `shares` (N, E) how
    often each expert is chosen for it (one-hot for a router, 1 / E for a random one). Negative where other
    experts predict better.
    """
    own = expert_nats[np.arange(len(labels)), labels]
    return float(((expert_nats * shares).sum(axis=1) - own).sum() / np.log(2) / n_bytes.sum())


def price_routes(expert_scores: pd.DataFrame, predictions: pd.DataFrame,
                 languages: list[str]) -> tuple[pd.DataFrame, float]:
    """Return the `routing_price` of every classifier and prefix, and that of a random router.

    `expert_scores` has a column of nats for each language's expert, with row, language and n_bytes;
    `predictions` has classifier, prefix, row, label, predicted. Columns: classifier, prefix, price, and
    confusion_weighted: the price if the misread sequences of a language were like any other of it.
    """
    table, n, rows = expert_scores.set_index("row"), len(languages), []
    own, n_bytes = table.language.map(languages.index).to_numpy(), table.n_bytes.to_numpy()
    nats = table[languages].to_numpy()
    for (name, prefix), part in predictions.groupby(["classifier", "prefix"], sort=False):
        confusion = pd.crosstab(part.label, part.predicted, normalize="index")
        confusion = confusion.reindex(columns=range(n), fill_value=0.0).to_numpy()
        taken = np.eye(n)[part.set_index("row").predicted.loc[table.index]]
        rows.append({"classifier": name, "prefix": prefix, "price": routing_price(nats, own, taken, n_bytes),
                     "confusion_weighted": routing_price(nats, own, confusion[own], n_bytes)})
    return pd.DataFrame(rows), routing_price(nats, own, np.full_like(nats, 1 / n), n_bytes)


def calibrate(predictions: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return calibration_error by classifier and prefix, and each classifier's `reliability` over prefixes.

    `predictions` has classifier, prefix, label, predicted, confidence; those without confidence are left out.
    """
    sure = predictions.dropna(subset="confidence").assign(is_right=lambda part: part.predicted == part.label)
    errors = [(*key, calibration_error(part.confidence, part.is_right))
              for key, part in sure.groupby(["classifier", "prefix"], sort=False)]
    bins = sure.groupby("classifier", sort=False)
    return pd.DataFrame(errors, columns=["classifier", "prefix", "calibration_error"]), {
        name: reliability(part.confidence, part.is_right) for name, part in bins}
