"""Learning in stages, read off a score matrix: [i, j] is nats per token, or bits per byte, on language j
after stage i. Stages and languages are the same in the same order, anything else is a ValueError. Lower is
better here, so the papers' signs are turned.
"""

import numpy as np
import pandas as pd


def forgetting(score_matrix: pd.DataFrame) -> pd.Series:
    """Return, per language but the last's, the final minus the best of its scores from its own stage up to
    the last but one: positive means forgotten.

    Chaudhry et al. 2018, eq. 2, look at all stages but the last. Those before the language's own are left
    out here: what other languages' text taught was not learned yet, so it is no loss of this language's.
    """
    values = check_score_matrix(score_matrix)
    return pd.Series({name: values[-1, j] - values[j:-1, j].min()
                      for j, name in enumerate(score_matrix.columns[:-1])}, name="forgetting")


def backward_transfer(score_matrix: pd.DataFrame) -> float:
    """Return the mean over earlier languages of (score right after their stage - at the end): negative means
    forgotten. Lopez-Paz and Ranzato 2017, eq. 3.
    """
    values = check_score_matrix(score_matrix)
    return float((np.diag(values) - values[-1])[:-1].mean())


def forward_transfer(score_matrix: pd.DataFrame, baseline: pd.Series) -> float:
    """Return the mean over all languages but the first of (baseline - score right before their stage):
    positive means that earlier stages helped. `baseline` is the score, by language, of an untrained model or,
    which asks for more, of a unigram model. Lopez-Paz and Ranzato 2017, eq. 4.
    """
    values = check_score_matrix(score_matrix)
    return float((baseline[score_matrix.columns[1:]] - np.diag(values, 1)).to_numpy().mean())


def intransigence(score_matrix: pd.DataFrame, reference: pd.Series) -> pd.Series:
    """Return, per language, the score right after its stage minus that of `reference`: positive is worse.

    `reference` is a model of all languages together, or of that language alone. Chaudhry et al. 2018, eq. 3.
    """
    own = np.diag(check_score_matrix(score_matrix))
    return (own - reference[score_matrix.columns]).rename("intransigence")


def measure_stages(score_matrix: pd.DataFrame, untrained: pd.Series, unigram: pd.Series,
                   reference: pd.Series) -> dict[str, float]:
    """Return what a score matrix comes to, in its own unit: average_score (of the last stage), forgetting and
    intransigence (means over languages), backward_transfer, forward_transfer and forward_transfer_unigram
    (against either baseline).
    """
    return {"average_score": float(score_matrix.iloc[-1].mean()),
            "forgetting": float(forgetting(score_matrix).mean()),
            "backward_transfer": backward_transfer(score_matrix),
            "forward_transfer": forward_transfer(score_matrix, untrained),
            "forward_transfer_unigram": forward_transfer(score_matrix, unigram),
            "intransigence": float(intransigence(score_matrix, reference).mean())}


def measure_lost(nats: pd.DataFrame, bits: pd.DataFrame, **columns) -> pd.DataFrame:
    """Return what became of each language but the last, from a sequence's score matrices in either unit:
    the columns given, language, perplexity_ratio (end over just taught), nats_lost and bits_per_byte_lost
    (end minus just taught), forgetting (nats).
    """
    lost, lost_bits = ((part[-1] - np.diag(part))[:-1] for part in map(check_score_matrix, (nats, bits)))
    return pd.DataFrame({**columns, "language": nats.columns[:-1], "perplexity_ratio": np.exp(lost),
                         "nats_lost": lost, "bits_per_byte_lost": lost_bits,
                         "forgetting": forgetting(nats).to_numpy()})


def check_score_matrix(score_matrix: pd.DataFrame) -> np.ndarray:
    """Return the values (S, S) of a score matrix, two stages or more."""
    rows, columns = list(score_matrix.index), list(score_matrix.columns)
    if rows != columns or len(rows) < 2:
        raise ValueError("score_matrix needs one row and one column per language in the same order, at least "
                         f"two; got rows {rows} and columns {columns}")
    return score_matrix.to_numpy(dtype=float)
