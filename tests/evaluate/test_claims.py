"""Claims over seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mome.evaluate.claims import (
    ask,
    compare_arms,
    conclude,
    count_seeds_to_decide,
    describe_comparison,
    describe_part,
    make_part,
)


def arms(differences):
    seeds = range(len(differences))
    base = pd.DataFrame({"arm": "base", "seed": seeds, "nats_per_token": [5.0 + seed for seed in seeds]})
    return pd.concat([base, base.assign(arm="new", nats_per_token=base.nats_per_token + differences)])


@pytest.mark.parametrize("differences, margin, verdict", [
    ([-0.10, -0.11, -0.12], 0, "better"), ([0.10, 0.11, 0.12], 0, "worse"),
    ([-0.5, 0.4, 0.1], 0, "cannot tell"), ([-3.0], 0, "cannot tell"), ([0.0], 0.1, "cannot tell"),
    ([-0.001, -0.0011, -0.0012], 0.005, "equal"), ([-0.10, -0.11, -0.12], 0.005, "better")])
def test_a_verdict_needs_an_interval_without_zero_or_within_the_margin_and_more_than_one_seed(
        differences, margin, verdict):
    comparison = compare_arms(arms(differences), "new", "base", margin=margin)
    assert [comparison[key] for key in ("arm", "baseline", "seeds")] == ["new", "base", len(differences)]
    assert comparison["difference"] == pytest.approx(np.mean(differences))
    assert comparison["verdict"] == verdict
    assert ("cannot tell" in describe_comparison(comparison)) == (verdict == "cannot tell")


def test_a_comparison_is_described_with_its_numbers_or_the_advice_to_run_more_seeds():
    assert describe_comparison(compare_arms(arms([0.1, 0.1]), "new", "base", unit="bits")) == (
        "new is worse than base (+0.100 bits, 95 % interval +0.100 to +0.100, 2 seeds)")
    assert describe_comparison(compare_arms(arms([-0.25]), "new", "base")) == (
        "new against base: cannot tell (-0.250 nats per token with one seed; run with more seeds)")


def test_with_one_seed_the_interval_is_over_articles_and_says_so_and_nothing_is_decided():
    def texts(name, seed):
        assert seed == 0
        nats = [4.0, 6.0, 5.0] if name == "base" else [3.0, 5.0, 4.0]
        return pd.DataFrame({"article_id": list("abc"), "nats": nats, "n_tokens": 1})

    one = compare_arms(arms([-1.0]), "new", "base", texts=texts)
    assert (one["text_low"], one["text_high"], one["verdict"]) == (-1, -1, "cannot tell")
    assert "over articles -1.000 to -1.000: this text, not this training" in describe_comparison(one)
    two = compare_arms(arms([-1.0, -1.0]), "new", "base", texts=texts)
    assert np.isnan(two["text_low"])


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


@pytest.mark.parametrize("low, high, expected", [
    (-0.04, 0.04, True), (0.06, 0.09, False), (-0.3, -0.06, False), (-0.01, 0.06, None), (-0.3, 0.01, None),
    (float("nan"), float("nan"), None)])
def test_a_part_is_answered_only_when_the_whole_interval_lies_on_one_side_of_each_border(low, high, expected):
    comparison = compare_arms(arms([0.1]), "new", "base") | {"low": low, "high": high}
    assert ask("close", comparison, -0.05, 0.05)["answer"] is expected


def test_two_arms_that_are_the_same_are_neither_better_nor_worse():
    same = compare_arms(arms([0.0, 0.0]), "new", "base")
    assert ask("worse", same, low=0)["answer"] is ask("better", same, high=0)["answer"] is False


def test_the_seeds_that_would_decide_are_those_of_a_t_test_with_four_fifths_of_power():
    differences = np.array([-1.0, 2.0, 1.0])
    undecided = compare_arms(arms(differences), "new", "base")
    n = count_seeds_to_decide(undecided, 0, np.inf)
    drawn = np.random.default_rng(0).normal(differences.mean(), differences.std(ddof=1), (4000, n))
    half = stats.t.ppf(0.975, n - 1) * drawn.std(axis=1, ddof=1) / np.sqrt(n)
    assert np.mean(drawn.mean(axis=1) - half > 0) == pytest.approx(0.8, abs=0.03)
    assert f"about {n} seeds would decide" in describe_part(ask("worse", undecided, low=0))
    assert count_seeds_to_decide(compare_arms(arms([0.3]), "new", "base"), 0, np.inf) is None
    assert count_seeds_to_decide(compare_arms(arms([-1.0, 1.0]), "new", "base"), 0, np.inf) is None


@pytest.mark.parametrize("answers, verdict", [
    ([True, True], "holds"), ([True, None], "cannot tell"), ([None, False], "does not hold"),
    ([False, False], "does not hold"), ([True, False, None], "partly")])
def test_a_claim_holds_only_when_all_its_parts_do_and_partly_when_some_do_not(answers, verdict):
    assert conclude([make_part("a", answer, "") for answer in answers]) == verdict
