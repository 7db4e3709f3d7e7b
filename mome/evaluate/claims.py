"""Claims over seeds: two arms compared, what may be said of it, and how many seeds would say more."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from mome.checks import check_choice
from mome.evaluate.intervals import bootstrap_difference, paired_interval

MOST_SEEDS = 1_000
ANSWERS = {True: "yes", False: "no", None: "cannot tell"}


def compare_arms(table: pd.DataFrame, arm: str, baseline: str, value: str = "nats_per_token",
                 column: str = "arm", *, unit: str = "nats per token", margin: float = 0.0,
                 texts: Callable | None = None) -> dict:
    """Return the paired comparison of two arms over the seeds that both have, lower `value` being better.

    Keys: arm, baseline, unit, difference (arm - baseline), low, high (95 %), seeds, verdict: "equal" (the
    interval lies within +-`margin`), else "better", "worse" or "cannot tell" (it holds 0, or there is one
    seed). `value` is averaged over the other columns within a seed first. With one seed `texts(arm, seed)`
    gives the held-out sequences' scores, and text_low, text_high are the interval over their articles, which
    tells of this text, not of training. ValueError for an arm that is not in the table, and for no seed in
    common.
    """
    per_seed = table.groupby([column, "seed"])[value].mean().unstack("seed")
    for name in (arm, baseline):
        check_choice(column, name, list(per_seed.index))
    pairs = per_seed.loc[[arm, baseline]].dropna(axis=1)
    if pairs.empty:
        held = [f"{name!r} has {per_seed.loc[name].dropna().index.tolist()}" for name in (arm, baseline)]
        raise ValueError(f"two arms with no seed in common cannot be compared on {value}: {', '.join(held)}")
    mean, low, high = paired_interval(pairs.loc[arm], pairs.loc[baseline])
    verdict = ("equal" if -margin < low <= high < margin else "better" if high < 0 else
               "worse" if low > 0 else "cannot tell")
    text_low = text_high = math.nan
    if texts is not None and pairs.shape[1] == 1:
        seed = pairs.columns[0]
        _, text_low, text_high = bootstrap_difference(texts(arm, seed), texts(baseline, seed))
    return {"arm": arm, "baseline": baseline, "unit": unit, "difference": mean, "low": low, "high": high,
            "seeds": pairs.shape[1], "verdict": verdict, "text_low": text_low, "text_high": text_high}


def ask(asks: str, comparison: dict, low: float = -math.inf, high: float = math.inf) -> dict:
    """Return a part of a claim: does the difference lie between `low` and `high`?

    Yes where all of its interval does, no where nothing of it does, else None: cannot tell.
    """
    inside = low < comparison["low"] and comparison["high"] < high
    outside = comparison["high"] <= low or comparison["low"] >= high
    answer = True if inside else False if outside else None
    part = make_part(asks, answer, describe_comparison(comparison))
    part |= {name: comparison[name] for name in ("difference", "low", "high", "seeds", "unit")}
    if answer is None:
        part["seeds_to_decide"] = seeds = count_seeds_to_decide(comparison, low, high)
        part["said"] += f"; about {seeds:,} seeds would decide" if seeds else ""
    return part


def make_part(asks: str, answer: bool | None, said: str) -> dict:
    """Return a part of a claim that was answered otherwise; `said` are its numbers."""
    return {"asks": asks, "answer": answer, "said": said, "seeds_to_decide": None}


def count_seeds_to_decide(comparison: dict, low: float, high: float) -> int | None:
    """Return how many seeds would put the interval on one side of each border, four times in five.

    The power estimate of a t test, from the spread of the seeds that there are: the least n with
    (t_0.975 + t_0.8) spread / sqrt(n) <= the mean's distance to the nearest border. None with one seed, for
    more than a thousand, and on a border.
    """
    from scipy import stats  # most of a second, which commands can do without

    n, mean = comparison["seeds"], comparison["difference"]
    if n < 2:
        return None
    spread = (comparison["high"] - mean) * np.sqrt(n) / stats.t.ppf(0.975, n - 1)
    more = np.arange(n, MOST_SEEDS + 1)
    half = (stats.t.ppf(0.975, more - 1) + stats.t.ppf(0.8, more - 1)) * spread / np.sqrt(more)
    enough = more[half <= min(abs(mean - low), abs(mean - high))]
    return int(enough[0]) if len(enough) else None


def conclude(parts: list[dict]) -> str:
    """Return the verdict on a claim by its parts; "partly" where one holds and another does not."""
    answers = [part["answer"] for part in parts]
    if False in answers:
        return "partly" if True in answers else "does not hold"
    return "cannot tell" if None in answers else "holds"


def describe_part(part: dict) -> str:
    """Return the question, its answer and the numbers."""
    return f"{part['asks']}: {ANSWERS[part['answer']]}. {part['said']}"


def describe_difference(comparison: dict) -> str:
    """Return the difference with its interval, over seeds or, where there is one, over articles."""
    told = "{difference:+.3f} {unit}"
    if comparison["seeds"] > 1:
        told += ", 95 % interval {low:+.3f} to {high:+.3f}, {seeds} seeds"
    elif not math.isnan(comparison["text_low"]):
        told += (" with one seed; 95 % over articles {text_low:+.3f} to {text_high:+.3f}: this text, not "
                 "this training")
    else:
        told += " with one seed; run with more seeds"
    return told.format(**comparison)


def describe_comparison(comparison: dict) -> str:
    """Return the comparison as a sentence."""
    said = {"better": "{arm} is better than {baseline}", "worse": "{arm} is worse than {baseline}",
            "equal": "{arm} equals {baseline}",
            "cannot tell": "{arm} against {baseline}: cannot tell"}[comparison["verdict"]]
    return f"{said.format(**comparison)} ({describe_difference(comparison)})"
