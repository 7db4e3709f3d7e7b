"""Claims over seeds."""

import numpy as np
import pandas as pd
import pytest
from cases import each

from mome.evaluate.claims import compare_arms, conclude, describe_comparison, is_close, is_worse


def arms(differences):
    seeds = range(len(differences))
    base = pd.DataFrame({"arm": "base", "seed": seeds, "nats_per_token": [5.0 + seed for seed in seeds]})
    return pd.concat([base, base.assign(arm="new", nats_per_token=base.nats_per_token + differences)])


@each("differences, verdict, worse", [
    ([-0.10, -0.11, -0.12], "better", False), ([0.10, 0.11, 0.12], "worse", True),
    ([-0.5, 0.4, 0.1], "cannot tell", None), ([-3.0], "cannot tell", None)])
def test_a_verdict_needs_an_interval_without_zero_and_more_than_one_seed(differences, verdict, worse):
    comparison = compare_arms(arms(differences), "new", "base")
    assert [comparison[key] for key in ("arm", "baseline", "seeds")] == ["new", "base", len(differences)]
    assert comparison["difference"] == pytest.approx(np.mean(differences))
    assert comparison["verdict"] == verdict
    assert is_worse(comparison) is worse
    assert ("cannot tell" in describe_comparison(comparison)) == (verdict == "cannot tell")


def test_a_comparison_is_described_with_its_numbers_or_the_advice_to_run_more_seeds():
    assert describe_comparison(compare_arms(arms([0.1, 0.1]), "new", "base"), "bits") == (
        "new is worse than base (+0.100 bits, 95 % interval +0.100 to +0.100, 2 seeds)")
    assert describe_comparison(compare_arms(arms([-0.25]), "new", "base")) == (
        "new against base: cannot tell (-0.250 nats per token with one seed; run with more seeds)")


def test_other_columns_are_averaged_within_a_seed_and_only_common_seeds_count():
    table = pd.DataFrame({"use": list("aabbb"), "seed": [0, 0, 0, 1, 0], "language": list("efefg"),
                          "bits": [1.0, 3.0, 0.5, 99.0, 1.5]})
    comparison = compare_arms(table, "a", "b", "bits", "use")
    assert (comparison["difference"], comparison["seeds"]) == (1.0, 1)


def test_an_arm_that_is_not_there_or_shares_no_seed_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"'old'.*base, new"):
        compare_arms(arms([0.1]), "old", "base")
    with pytest.raises(ValueError, match=r"'old'.*base, new"):
        compare_arms(arms([0.1]), "new", "old")
    table = pd.DataFrame({"arm": ["a", "a", "b", "c"], "seed": [0, 1, 2, 0],
                          "nats_per_token": [1.0, 1.0, 1.0, np.nan]})
    with pytest.raises(ValueError, match=r"'a' has \[0, 1\], 'b' has \[2\]"):
        compare_arms(table, "a", "b")
    with pytest.raises(ValueError, match=r"nats_per_token.*'c' has \[\], 'a' has \[0, 1\]"):
        compare_arms(table, "c", "a")


@each("low, high, expected", [
    (-0.05, 0.05, True), (0.06, 0.09, False), (-0.3, -0.06, False), (-0.01, 0.06, None), (-0.3, 0.01, None),
    (float("nan"), float("nan"), None)])
def test_arms_are_close_only_when_the_whole_interval_is_within_the_margin(low, high, expected):
    assert is_close({"low": low, "high": high}, margin=0.05) is expected


def test_a_claim_holds_only_when_all_its_parts_do_and_names_the_answer_to_each():
    assert conclude({"a": True, "b": True}) == ("holds", "a: yes; b: yes")
    assert conclude({"a": True, "b": None}) == ("cannot tell", "a: yes; b: cannot tell")
    assert conclude({"a": None, "b": False}) == ("does not hold", "a: cannot tell; b: no")
