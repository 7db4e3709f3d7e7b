"""Which classifier misreads least, what its confidence is worth, and what its errors cost."""

import numpy as np
import pandas as pd

from mome.evaluate.claims import make_part
from mome.evaluate.intervals import error_interval

Z = 1.96  # of a 95 % interval


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


def race_classifiers(wrong: pd.DataFrame, article_ids: np.ndarray, claimed: str, rivals: list[str],
                     margin: float) -> pd.DataFrame:
    """Return how many percentage points more `claimed` misreads than each rival, on the same sequences.

    `wrong` has a boolean column per classifier. Columns: rival, difference, low, high (`error_interval`),
    apart (percent of sequences that one of the two alone misreads), says: "tied" where the interval lies
    within +-`margin`, else "better", "worse" (`claimed` than the rival) or "cannot tell", where it holds 0.
    """
    races = pd.DataFrame([(name, *error_interval(wrong[claimed], article_ids, wrong[name]),
                           100 * (wrong[claimed] != wrong[name]).mean()) for name in rivals],
                         columns=["rival", "difference", "low", "high", "apart"])
    is_tied = (races.low >= -margin) & (races.high <= margin)
    says = np.select([is_tied, races.high < 0, races.low > 0], ["tied", "better", "worse"], "cannot tell")
    return races.assign(says=says)


def ask_level(error: float, low: float, high: float, claimed_f1: float, n_sequences: int) -> dict:
    """Return the part of a claim: does a classifier reach a weighted F1 with its whole interval?

    `error`, `low`, `high` are percent misread; of languages with equally many sequences weighted F1 is what
    they leave, nearly. The number of sequences that would decide is Wilson's.
    """
    allowed = 100 * (1 - claimed_f1)
    answer = True if high <= allowed else False if low > allowed else None
    said = (f"{error:.3f} % of {n_sequences:,} sequences are misread, 95 % interval {low:.3f} to {high:.3f}; "
            f"{allowed:.3g} % are allowed")
    if answer is None:
        needed = Z**2 * 100 * allowed / max(abs(error - allowed), 1e-9) ** 2
        said += f"; at this rate {count_sequences(needed)} would decide"
    return make_part(f"F1 of at least {claimed_f1}", answer, said)


def ask_best(claimed: str, races: pd.DataFrame, margin: float) -> dict:
    """Return the part of a claim: does `claimed` misread fewer sequences than each rival of the races?

    No where a rival misreads fewer, or is shown to be tied; yes where each misreads more; else None, with the
    number of sequences that would put one open race on a side, at its share of sequences apart.
    """
    words = {"worse": "misread fewer", "tied": f"tied within {margin:g} percentage points",
             "cannot tell": "tied so far, the interval holds 0", "better": "misread more"}
    groups = {says: list(races.rival[races.says == says]) for says in words}
    is_open = races.says == "cannot tell"
    answer = False if groups["worse"] or groups["tied"] else None if is_open.any() or races.empty else True
    said = "; ".join(f"{words[says]}: {', '.join(names)}" for says, names in groups.items() if names)
    if answer is None and is_open.any():
        gap = races.difference[is_open].abs()
        gap = np.maximum(gap, margin - gap)  # to what is nearer to be shown: a difference, or a tie
        needed = 100 * Z**2 * (races.apart[is_open] / gap**2 + 1 / gap)
        said += f"; {count_sequences(needed.min())} would decide beside {races.rival[needed.idxmin()]}"
    return make_part(f"{claimed} is the best", answer, said or "no rival was compared")


def count_sequences(needed: float) -> str:
    """Return in words, to two digits, how many sequences of articles of their own that is."""
    return f"about {float(f'{needed:.2g}'):,.0f} independent sequences"
