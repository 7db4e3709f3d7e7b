"""Intervals over seeds and over articles."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from mome.evaluate.intervals import (
    bootstrap_difference,
    bootstrap_scores,
    error_interval,
    mean_interval,
    paired_interval,
    score_confusions,
)

LANGUAGES = ["en", "fr", "de"]


def scores(nats, articles):
    return pd.DataFrame({"article_id": articles, "nats": nats, "n_tokens": 10})


def predictions_of(n_articles: int, per_article: int, accuracy: float) -> pd.DataFrame:
    label = np.repeat(np.arange(n_articles) % 3, per_article)
    wrong = np.random.default_rng(0).random(n_articles).repeat(per_article) >= accuracy  # whole articles
    return pd.DataFrame({"article_id": np.repeat([f"a{n}" for n in range(n_articles)], per_article),
                         "label": label, "predicted": np.where(wrong, (label + 1) % 3, label)})


def test_intervals_over_seeds_are_students_t():
    values = np.array([1.0, 2.0, 4.0])
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), *expected))
    assert paired_interval(values + 5, [5.0, 5.0, 5.0]) == pytest.approx(mean_interval(values))
    narrow, wide = mean_interval(values, 0.5), mean_interval(values, 0.99)
    assert wide[1] < narrow[1] < values.mean() < narrow[2] < wide[2]


def test_the_bootstrap_interval_holds_its_difference_and_widens_when_articles_disagree():
    articles = [str(number) for number in range(50)]
    base = scores(np.full(50, 20.0), articles)
    assert bootstrap_difference(scores(np.full(50, 21.0), articles), base) == pytest.approx((0.1, 0.1, 0.1))
    noise = np.random.default_rng(0).normal(1, 5, 50)
    difference, low, high = bootstrap_difference(scores(20 + noise, articles), base)
    assert difference == pytest.approx(noise.sum() / 500)
    assert low < difference < high
    assert high - low == pytest.approx(4 * noise.std() / 10 / np.sqrt(50), rel=0.2)


def test_sequences_of_one_article_are_drawn_together():
    noise = np.random.default_rng(0).normal(0, 5, 20)
    base = scores(np.full(80, 20.0), np.repeat(np.arange(20), 4))
    together = bootstrap_difference(base.assign(nats=20 + np.repeat(noise, 4)), base)
    once = bootstrap_difference(scores(20 + noise, np.arange(20)), scores(np.full(20, 20.0), np.arange(20)))
    assert together == pytest.approx(once)


def test_the_interval_of_an_error_is_the_wider_of_articles_and_wilson_and_never_without_width():
    wrong, articles = np.zeros(400, dtype=bool), np.arange(400).astype(str)
    wilson = 100 * stats.binomtest(0, 400).proportion_ci(method="wilson").high
    assert error_interval(wrong, articles) == pytest.approx((0, 0, wilson))
    assert error_interval(wrong, articles, wrong) == pytest.approx((0, -wilson, wilson))
    wrong[::40] = True
    alone, (error, low, high) = stats.binomtest(10, 400).proportion_ci(method="wilson"), error_interval(
        wrong, articles)
    assert error == 2.5 and low <= 100 * alone.low and high >= 100 * alone.high
    together = np.arange(400) < 10  # as many errors, all in one of twenty articles
    clustered = error_interval(together, np.repeat(np.arange(20), 20).astype(str))
    assert clustered[0] == 2.5 and clustered[2] > 1.3 * high


def test_the_interval_of_a_difference_of_errors_is_paired_and_changes_its_sign_with_the_order():
    generator, articles = np.random.default_rng(0), np.arange(2_000).astype(str)
    hard = generator.random(2_000) < 0.2  # both misread these, which says nothing of who is better
    more = hard | (generator.random(2_000) < 0.02)
    value, low, high = error_interval(more, articles, hard)
    assert value == pytest.approx(100 * (more.mean() - hard.mean())) and 0 < low < value < high < 3
    assert error_interval(hard, articles, more) == pytest.approx((-value, -high, -low), abs=0.1)
    assert error_interval(more, articles)[1] < error_interval(hard, articles)[2]  # unpaired they overlap


def test_one_seed_or_article_alone_gives_no_interval():
    assert mean_interval(np.array([3.0])) == (3.0, 3.0, 3.0)
    mean, low, high = paired_interval([3.0], [1.0])
    assert mean == 2.0
    assert np.isnan([low, high]).all()
    one, other = scores([30.0, 10.0], ["a", "a"]), scores([10.0, 10.0], ["a", "a"])
    difference, low, high = bootstrap_difference(one, other)
    assert difference == pytest.approx(1.0)
    assert np.isnan([low, high]).all()


def test_a_bootstrap_of_different_sequences_is_refused():
    with pytest.raises(ValueError, match="same sequences"):
        bootstrap_difference(scores([1.0], ["a"]), scores([1.0], ["b"]))


@pytest.mark.parametrize("never_predicted", [[], [0, 2]])
def test_scores_of_confusions_are_those_of_scikit_learn(never_predicted):
    generator = np.random.default_rng(len(never_predicted))
    label = generator.integers(0, 4, 60)
    predicted = generator.choice([k for k in range(5) if k not in never_predicted], 60)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (label, predicted), 1)  # the fifth language is true of no sequence
    found = score_confusions(np.stack([confusion, 3 * confusion, np.eye(5)]))
    assert found.shape == (3, 3, 6)
    for average, columns in ((None, slice(0, 5)), ("weighted", 5)):
        expected = precision_recall_fscore_support(label, predicted, labels=range(5), average=average,
                                                   zero_division=0)
        np.testing.assert_allclose(found[0][:, columns], expected[:3])
    np.testing.assert_allclose(found[1], found[0])
    np.testing.assert_allclose(found[2], 1)


def test_bootstrapped_scores_are_scikit_learns_within_their_intervals():
    predictions = predictions_of(60, 4, 0.8)
    table = bootstrap_scores(predictions, LANGUAGES)
    assert list(table) == ["language", "metric", "value", "low", "high"]
    assert list(table.index) == list(range(12))
    values = table.pivot(index="language", columns="metric", values="value")[["precision", "recall", "f1"]]
    assert values.shape == (4, 3)
    true, predicted = predictions.label, predictions.predicted
    np.testing.assert_allclose(values.loc[LANGUAGES].T, precision_recall_fscore_support(true, predicted)[:3])
    weighted = precision_recall_fscore_support(true, predicted, average="weighted")[:3]
    np.testing.assert_allclose(values.loc["all"], weighted)
    assert ((table.low < table.value) & (table.value < table.high)).all()
    assert (table.low.min(), table.high.max()) == pytest.approx((0.5, 0.5), abs=0.5)
    without_errors = bootstrap_scores(predictions_of(60, 2, 1.1), LANGUAGES)
    assert (without_errors[["value", "low", "high"]] == 1).all(axis=None)


def test_fewer_articles_give_a_wider_interval_though_the_sequences_are_as_many():
    few, many = (bootstrap_scores(predictions_of(*sizes, 0.8), LANGUAGES).query("language == 'all'")
                 for sizes in ((30, 40), (300, 4)))
    assert (few.high - few.low).mean() > 2 * (many.high - many.low).mean()


def test_the_bootstrap_of_scores_depends_on_its_seed_only():
    predictions = predictions_of(60, 2, 0.8)
    first, again, other = (bootstrap_scores(predictions, LANGUAGES, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first.low.equals(other.low)
    assert first.value.equals(other.value)
