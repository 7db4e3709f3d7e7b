"""Claims over seeds: two arms compared, and what may be said of it."""

import pandas as pd

from mome.checks import check_choice
from mome.evaluate.intervals import paired_interval


def compare_arms(table: pd.DataFrame, arm: str, baseline: str, value: str = "nats_per_token",
                 column: str = "arm") -> dict:
    """Return the paired comparison of two arms over the seeds that both have, lower `value` being better.

    Keys: arm, baseline, difference (arm - baseline), low, high (95 %), seeds, verdict: "better", "worse" or
    "cannot tell" (the interval holds 0, or there is one seed only). `value` is averaged over the other
    columns within a seed first. ValueError for an arm that is not in the table, and for no seed in common.
    """
    per_seed = table.groupby([column, "seed"])[value].mean().unstack("seed")
    for name in (arm, baseline):
        check_choice(column, name, list(per_seed.index))
    pairs = per_seed.loc[[arm, baseline]].dropna(axis=1)
    if pairs.empty:
        held = [f"{name!r} has {per_seed.loc[name].dropna().index.tolist()}" for name in (arm, baseline)]
        raise ValueError(f"two arms with no seed in common cannot be compared on {value}: {', '.join(held)}")
    mean, low, high = paired_interval(pairs.loc[arm], pairs.loc[baseline])
    verdict = "better" if high < 0 else "worse" if low > 0 else "cannot tell"
    return {"arm": arm, "baseline": baseline, "difference": mean, "low": low, "high": high,
            "seeds": pairs.shape[1], "verdict": verdict}


def is_close(comparison: dict, margin: float) -> bool | None:
    """Return True when the interval lies within +-margin, False when it lies outside, None when neither."""
    low, high = comparison["low"], comparison["high"]
    return True if -margin <= low <= high <= margin else False if low > margin or high < -margin else None


def is_worse(comparison: dict) -> bool | None:
    """Return whether the arm is worse than its baseline; None when the seeds cannot tell."""
    return {"worse": True, "better": False}.get(comparison["verdict"])


def conclude(parts: dict[str, bool | None]) -> tuple[str, str]:
    """Return (verdict, sentence) of a claim with several parts, each True, False or None (cannot tell)."""
    answers, given = {True: "yes", False: "no", None: "cannot tell"}, parts.values()
    verdict = "does not hold" if False in given else "cannot tell" if None in given else "holds"
    return verdict, "; ".join(f"{part}: {answers[answer]}" for part, answer in parts.items())


def describe_difference(comparison: dict, unit: str = "nats per token") -> str:
    """Return the difference with its interval, or that there is one seed only."""
    told = {True: ", 95 % interval {low:+.3f} to {high:+.3f}, {seeds} seeds",
            False: " with one seed; run with more seeds"}[comparison["seeds"] > 1]
    return f"{{difference:+.3f}} {unit}{told}".format(**comparison)


def describe_comparison(comparison: dict, unit: str = "nats per token") -> str:
    """Return the comparison as a sentence."""
    said = {"better": "{arm} is better than {baseline}", "worse": "{arm} is worse than {baseline}",
            "cannot tell": "{arm} against {baseline}: cannot tell"}[comparison["verdict"]]
    return f"{said.format(**comparison)} ({describe_difference(comparison, unit)})"
