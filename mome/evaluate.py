"""What a model is worth: nats per token, perplexity, bits per byte, forgetting, and intervals around all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from mome.data import PackedData
from mome.tokenizer import token_text
from mome.train import make_batch


@torch.inference_mode()
def score_rows(forward: Callable[[dict], torch.Tensor], data: PackedData, *, split: str = "validation", rows_per_language: int | None = None,
               languages: list[str] | None = None, batch_size: int = 32, device="cpu") -> pd.DataFrame:
    """Return one line per sequence: language, article_id, nats (summed), n_tokens, n_bytes of its target tokens.

    `forward(batch)` returns logits (B, T, V); a batch holds `input_ids`, `labels` and `row_numbers` of one language each.
    """
    rows, article_ids, tables = data.rows(split), data.dataset[split]["article_id"], []
    for language in languages or data.languages:
        numbers = data.row_numbers(split, language, rows_per_language)
        for at in range(0, len(numbers), batch_size):
            batch = make_batch(rows, numbers[at:at + batch_size], device)
            logits, labels = forward(batch), batch["labels"]
            nats = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none").view(labels.shape)
            targets = rows[batch["row_numbers"]][:, 1:]
            tables.append(pd.DataFrame({"language": language, "article_id": [article_ids[int(n)] for n in batch["row_numbers"]],
                                        "nats": nats.sum(1).double().cpu().numpy(), "n_tokens": (labels >= 0).sum(1).cpu().numpy(),
                                        "n_bytes": data.token_bytes[targets].sum(1)}))
    return pd.concat(tables, ignore_index=True)


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one line per language: nats_per_token, perplexity = exp(nats_per_token), bits_per_byte. Means are token- and byte-weighted."""
    sums = scores.groupby("language", sort=False)[["nats", "n_tokens", "n_bytes"]].sum()
    return pd.DataFrame({"nats_per_token": sums.nats / sums.n_tokens, "perplexity": np.exp(sums.nats / sums.n_tokens),
                         "bits_per_byte": sums.nats / np.log(2) / sums.n_bytes}).reset_index()


def bootstrap_difference(scores_a: pd.DataFrame, scores_b: pd.DataFrame, draws: int = 2_000, seed: int = 0) -> tuple[float, float, float]:
    """Return (difference, low, high) of nats per token, a minus b, with a 95 % bootstrap interval over articles.

    Both tables must hold the same sequences in the same order. Articles are drawn whole, as their sequences are not
    independent; low and high are NaN when there is one only. The interval speaks of the text, not of training: that takes
    several seeds.
    """
    if not scores_a.article_id.equals(scores_b.article_id):
        raise ValueError("scores_a and scores_b must hold the same sequences in the same order")
    pairs = pd.DataFrame({"article": scores_a.article_id, "difference": scores_a.nats - scores_b.nats, "n_tokens": scores_a.n_tokens})
    sums = pairs.groupby("article")[["difference", "n_tokens"]].sum().to_numpy()
    draw = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    resampled = sums[draw].sum(axis=1)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], [0.025, 0.975]) if len(sums) > 1 else (np.nan, np.nan)
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def loss_by_position(student_logits: torch.Tensor, teacher_logits: torch.Tensor, input_ids: torch.Tensor, tokenizer, alpha: float = 0.5,
                     n_top: int = 3) -> pd.DataFrame:
    """Return where a sequence's loss comes from: one line per predicted token of `input_ids` (T,), logits (T, V).

    Columns: position, context (the token read), token (the one to predict), ce (its nats), kd (forward KL to the teacher,
    nats), share (alpha * ce + (1 - alpha) * kd over its sum: the shares add up to 1), teacher_probability and
    student_probability of the token, teacher_top and student_top: the most probable tokens with their probabilities.
    """
    log_q, log_p, ids = F.log_softmax(student_logits[:-1].float(), -1), F.log_softmax(teacher_logits[:-1].float(), -1), input_ids[1:]
    ce, kd = -log_q.gather(-1, ids.unsqueeze(-1)).squeeze(-1), (log_p.exp() * (log_p - log_q)).sum(-1)
    combined = alpha * ce + (1 - alpha) * kd
    texts = [token_text(tokenizer, int(token)) for token in input_ids]
    table = pd.DataFrame({"position": range(1, len(input_ids)), "context": texts[:-1], "token": texts[1:], "ce": ce.cpu(), "kd": kd.cpu(),
                          "share": (combined / combined.sum()).cpu(), "teacher_probability": log_p.gather(-1, ids.unsqueeze(-1)).exp().squeeze(-1).cpu(),
                          "student_probability": (-ce).exp().cpu()})
    for name, log_probs in (("teacher_top", log_p), ("student_top", log_q)):
        probs, tokens = log_probs.exp().topk(n_top, dim=-1)
        table[name] = [", ".join(f"{token_text(tokenizer, int(t))!r} {p:.2f}" for t, p in zip(*row, strict=True)) for row in zip(tokens, probs, strict=True)]
    return table


def paired_interval(a, b, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, low, high) of a - b over paired seeds, with Student's t interval; low and high are NaN for one seed."""
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    mean = float(differences.mean())
    if len(differences) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences)))
    return mean, mean - half, mean + half


def compare_arms(table: pd.DataFrame, arm: str, baseline: str, value: str = "nats_per_token", column: str = "arm") -> dict:
    """Return the paired comparison of two arms over seeds, lower `value` being better.

    Keys: arm, baseline, difference (arm - baseline), low, high (95 %), seeds, verdict: "better", "worse" or "cannot tell"
    (the interval holds 0, or there is one seed only). `value` is averaged over the other columns within a seed first.
    """
    per_seed = table.groupby([column, "seed"])[value].mean().unstack("seed")
    for name in (arm, baseline):
        if name not in per_seed.index:
            raise ValueError(f"arm {name!r} is not in the table; it holds: {', '.join(map(str, per_seed.index))}")
    pairs = per_seed.loc[[arm, baseline]].dropna(axis=1)
    mean, low, high = paired_interval(pairs.loc[arm], pairs.loc[baseline])
    verdict = "better" if high < 0 else "worse" if low > 0 else "cannot tell"
    return {"arm": arm, "baseline": baseline, "difference": mean, "low": low, "high": high, "seeds": pairs.shape[1], "verdict": verdict}


def is_close(comparison: dict, margin: float) -> bool | None:
    """Return whether two arms are alike: True when the interval lies within +-margin, False when outside, None when neither."""
    low, high = comparison["low"], comparison["high"]
    if np.isnan(low):
        return None
    if -margin <= low and high <= margin:
        return True
    return False if low > margin or high < -margin else None


def is_worse(comparison: dict) -> bool | None:
    """Return whether the arm is worse than its baseline; None when the seeds cannot tell."""
    return {"worse": True, "better": False}.get(comparison["verdict"])


def conclude(parts: dict[str, bool | None]) -> tuple[str, str]:
    """Return (verdict, sentence) of a claim with several parts, each True, False or None for "cannot tell"."""
    answers = {True: "yes", False: "no", None: "cannot tell"}
    verdict = "does not hold" if False in parts.values() else "cannot tell" if None in parts.values() else "holds"
    return verdict, "; ".join(f"{part}: {answers[answer]}" for part, answer in parts.items())


def describe(comparison: dict, unit: str = "nats per token") -> str:
    """Return the comparison as a sentence."""
    numbers = f"{comparison['difference']:+.3f} {unit}"
    if comparison["seeds"] < 2:
        reason = f"{numbers} with one seed; run with more seeds"
    else:
        reason = f"{numbers}, 95 % interval {comparison['low']:+.3f} to {comparison['high']:+.3f}, {comparison['seeds']} seeds"
    said = {"better": "is better than", "worse": "is worse than", "cannot tell": "against"}[comparison["verdict"]]
    ending = ": cannot tell" if comparison["verdict"] == "cannot tell" else ""
    return f"{comparison['arm']} {said} {comparison['baseline']}{ending} ({reason})"


def forgetting(score_matrix: pd.DataFrame) -> pd.Series:
    """Return, per language but the last stage's, final minus best earlier nats per token: positive means forgotten.

    `score_matrix[i, j]` is nats per token on language j after stage i, stages and languages in the same order.
    Chaudhry et al. 2018, eq. 2, with the sign turned because lower is better here.
    """
    values = check_score_matrix(score_matrix)
    # Only stages from the one that taught the language on: before that there was nothing to forget.
    return pd.Series({name: values[-1, j] - values[j:-1, j].min() for j, name in enumerate(score_matrix.columns[:-1])}, name="forgetting")


def backward_transfer(score_matrix: pd.DataFrame) -> float:
    """Return the mean over earlier languages of (nats right after their stage - nats at the end): negative means forgotten.

    Lopez-Paz and Ranzato 2017, eq. 3, with the sign turned because lower is better here.
    """
    values = check_score_matrix(score_matrix)
    return float(np.mean([values[j, j] - values[-1, j] for j in range(len(values) - 1)]))


def forward_transfer(score_matrix: pd.DataFrame, baseline: pd.Series) -> float:
    """Return the mean over all languages but the first of (baseline - nats right before their stage): positive means that earlier stages helped.

    `baseline` is nats per token of a model that has learned nothing, by language: an untrained one, or a unigram model, which
    asks for more. Lopez-Paz and Ranzato 2017, eq. 4, with the sign turned because lower is better here.
    """
    values = check_score_matrix(score_matrix)
    return float(np.mean([baseline[name] - values[j - 1, j] for j, name in enumerate(score_matrix.columns) if j]))


def intransigence(score_matrix: pd.DataFrame, reference: pd.Series) -> pd.Series:
    """Return, per language, nats right after its stage minus those of `reference`: positive means that the sequence could not learn it as well.

    `reference` is a model trained on all languages together, or on that language alone. Chaudhry et al. 2018, eq. 3, with
    the sign turned because lower is better here: positive is worse in theirs, too.
    """
    values = check_score_matrix(score_matrix)
    return pd.Series({name: values[j, j] - reference[name] for j, name in enumerate(score_matrix.columns)}, name="intransigence")


def measure_stages(score_matrix: pd.DataFrame, untrained: pd.Series, unigram: pd.Series, reference: pd.Series) -> dict[str, float]:
    """Return what a score matrix comes to, in its own unit: average_score (of the last stage), forgetting and intransigence
    (means over languages), backward_transfer, forward_transfer and forward_transfer_unigram (against either baseline).
    """
    return {"average_score": float(score_matrix.iloc[-1].mean()), "forgetting": float(forgetting(score_matrix).mean()),
            "backward_transfer": backward_transfer(score_matrix), "forward_transfer": forward_transfer(score_matrix, untrained),
            "forward_transfer_unigram": forward_transfer(score_matrix, unigram), "intransigence": float(intransigence(score_matrix, reference).mean())}


def check_score_matrix(score_matrix: pd.DataFrame) -> np.ndarray:
    if list(score_matrix.index) != list(score_matrix.columns) or len(score_matrix) < 2:
        raise ValueError(f"score_matrix needs one row and one column per language in the same order, at least two; "
                         f"got rows {list(score_matrix.index)} and columns {list(score_matrix.columns)}")
    return score_matrix.to_numpy(dtype=float)


def bootstrap_scores(predictions: pd.DataFrame, languages: list[str], draws: int = 1_000, seed: int = 0) -> pd.DataFrame:
    """Return precision, recall and f1 of a classifier with 95 % bootstrap intervals over articles.

    `predictions` has one line per sequence: article_id, label, predicted (positions in `languages`). Returned columns:
    language ("all" is the mean weighted by true sequences), metric, value, low, high. Articles are drawn whole, as their
    sequences are not independent; where no draw holds an error the interval has no width and says too little.
    """
    n = len(languages)
    codes, articles = pd.factorize(predictions.article_id)
    cells = np.zeros((len(articles), n * n))
    np.add.at(cells, (codes, (predictions.label * n + predictions.predicted).to_numpy()), 1)
    weights = np.random.default_rng(seed).multinomial(len(articles), np.full(len(articles), 1 / len(articles)), size=draws)
    observed, drawn = score_confusions(cells.sum(axis=0).reshape(1, n, n)), score_confusions((weights @ cells).reshape(draws, n, n))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return pd.DataFrame([{"language": language, "metric": metric, "value": observed[0, m, k], "low": low[m, k], "high": high[m, k]}
                         for k, language in enumerate([*languages, "all"]) for m, metric in enumerate(("precision", "recall", "f1"))])


def score_confusions(confusions: np.ndarray) -> np.ndarray:
    """Return (B, 3, E + 1): precision, recall and f1 of confusions (B, E true, E predicted) per class and, last, weighted by true counts.

    As in scikit-learn with zero_division=0: a class that is never predicted has precision 0.
    """
    right, true, read = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.nan_to_num(np.stack([right / read, right / true, 2 * right / (true + read)], axis=1))
    weighted = (parts * true[:, None]).sum(axis=2, keepdims=True) / true.sum(axis=1)[:, None, None]
    return np.concatenate([parts, weighted], axis=2)


def reliability(confidence: np.ndarray, is_right: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Return one line per bin of confidence that holds anything: confidence (its mean), accuracy, n. Bins are of equal width."""
    table = pd.DataFrame({"confidence": confidence, "accuracy": is_right.astype(float)})
    bins = np.clip((table.confidence * n_bins).astype(int), 0, n_bins - 1)
    return table.groupby(bins).agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), n=("accuracy", "size")).reset_index(drop=True)


def calibration_error(confidence: np.ndarray, is_right: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected calibration error in [0, 1]: the mean gap between confidence and accuracy over bins, weighted by their size.

    Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, eq. 3.
    """
    table = reliability(confidence, is_right, n_bins)
    return float(((table.accuracy - table.confidence).abs() * table.n).sum() / table.n.sum())


def risk_coverage(confidence: np.ndarray, is_right: np.ndarray) -> pd.DataFrame:
    """Return what abstaining buys: at every threshold the coverage (share answered) and the risk (share of the answers that are wrong).

    Sequences of equal confidence are answered together. El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
    """
    table = pd.DataFrame({"threshold": confidence, "wrong": 1 - is_right.astype(float)}).groupby("threshold").wrong.agg(["sum", "size"])
    table = table.sort_index(ascending=False).cumsum()
    return pd.DataFrame({"threshold": table.index, "coverage": table["size"].to_numpy() / len(confidence), "risk": (table["sum"] / table["size"]).to_numpy()})


def routing_price(expert_nats: np.ndarray, labels: np.ndarray, shares: np.ndarray, n_bytes: np.ndarray) -> float:
    """Return the price of routing in bits per byte: what the experts that were chosen need beyond each sequence's own expert.

    expert_nats (N, E) are nats of each sequence under each expert, `labels` (N,) its own, `shares` (N, E) how often each
    expert is chosen for it (one-hot for a router, 1 / E for a random one). Negative where other experts predict better.
    """
    own = expert_nats[np.arange(len(labels)), labels]
    return float(((expert_nats * shares).sum(axis=1) - own).sum() / np.log(2) / n_bytes.sum())


def price_routes(expert_scores: pd.DataFrame, predictions: pd.DataFrame, languages: list[str]) -> tuple[pd.DataFrame, float]:
    """Return the `routing_price` of every classifier and prefix, and that of a random router.

    `expert_scores` has a column of nats for each language's expert, with row, language and n_bytes; `predictions` has
    classifier, prefix, row, label, predicted. Columns: classifier, prefix, price, and confusion_weighted: the price if the
    misread sequences of a language were like any other of it.
    """
    table = expert_scores.set_index("row")
    own, nats, n_bytes = table.language.map(languages.index).to_numpy(), table[languages].to_numpy(), table.n_bytes.to_numpy()
    rows = []
    for (name, prefix), part in predictions.groupby(["classifier", "prefix"], sort=False):
        confusion = pd.crosstab(part.label, part.predicted, normalize="index").reindex(columns=range(len(languages)), fill_value=0.0).to_numpy()
        taken = np.eye(len(languages))[part.set_index("row").predicted.loc[table.index]]
        rows.append({"classifier": name, "prefix": prefix, "price": routing_price(nats, own, taken, n_bytes),
                     "confusion_weighted": routing_price(nats, own, confusion[own], n_bytes)})
    return pd.DataFrame(rows), routing_price(nats, own, np.full_like(nats, 1 / len(languages)), n_bytes)


def calibrate(predictions: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return calibration_error by classifier and prefix, and each classifier's `reliability` over all prefixes.

    `predictions` has classifier, prefix, label, predicted, confidence; classifiers without confidence are left out.
    """
    sure = predictions[predictions.confidence.notna()].assign(is_right=lambda table: table.predicted == table.label)
    errors = [{"classifier": name, "prefix": prefix, "calibration_error": calibration_error(part.confidence.to_numpy(), part.is_right.to_numpy())}
              for (name, prefix), part in sure.groupby(["classifier", "prefix"], sort=False)]
    return pd.DataFrame(errors), {name: reliability(part.confidence.to_numpy(), part.is_right.to_numpy())
                                  for name, part in sure.groupby("classifier", sort=False)}

