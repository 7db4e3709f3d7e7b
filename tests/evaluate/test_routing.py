"""Confidence, abstaining, and what routing costs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mome.evaluate.routing import (
    ask_best,
    ask_level,
    calibrate,
    calibration_error,
    price_routes,
    race_classifiers,
    reliability,
    risk_coverage,
    routing_price,
)

NATS = np.array([[10.0, 14.0, 12.0], [9.0, 6.0, 9.0], [20.0, 20.0, 5.0]])
LABELS, BYTES = np.array([0, 1, 2]), np.array([8, 4, 4])


def test_reliability_and_calibration_error_are_those_by_hand_and_none_of_a_calibrated_classifier():
    confidence = np.array([0.05, 0.62, 0.68, 0.95, 1.0, 1.0])
    is_right = np.array([False, True, False, True, True, False])
    table = reliability(confidence, is_right)
    assert table.n.tolist() == [1, 2, 3]
    assert table.confidence.tolist() == pytest.approx([0.05, 0.65, 2.95 / 3])
    assert table.accuracy.tolist() == pytest.approx([0, 0.5, 2 / 3])
    expected = (0.05 + 2 * 0.15 + 3 * (2.95 / 3 - 2 / 3)) / 6
    assert calibration_error(confidence, is_right) == pytest.approx(expected)
    confidence = np.repeat([0.25, 0.5, 0.75, 1.0], 4)
    is_right = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert calibration_error(confidence, is_right) == pytest.approx(0)
    assert calibration_error(np.ones(5), np.zeros(5, dtype=bool)) == 1
    assert calibration_error(np.ones(5), np.ones(5, dtype=bool)) == 0


@pytest.mark.parametrize("n_bins", [1, 100])
def test_bins_hold_every_sequence_once(n_bins):
    generator = np.random.default_rng(0)
    confidence = np.append(generator.random(200), [0.0, 1.0])
    is_right = generator.random(202) < confidence
    table = reliability(confidence, is_right, n_bins)
    assert table.n.sum() == 202
    assert len(table) <= n_bins
    assert (table.confidence * table.n).sum() == pytest.approx(confidence.sum())
    assert (table.accuracy * table.n).sum() == pytest.approx(is_right.sum())
    assert table.confidence.is_monotonic_increasing


def test_risk_and_coverage_are_those_by_hand_ties_together_and_of_all_the_overall_error():
    table = risk_coverage(np.array([0.9, 0.5, 0.9, 0.7, 0.5]), np.array([True, False, False, True, True]))
    assert table.threshold.tolist() == [0.9, 0.7, 0.5]
    assert table.coverage.tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert table.risk.tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 5])
    generator = np.random.default_rng(0)
    confidence, is_right = generator.random(100).round(1), generator.random(100) < 0.7
    table = risk_coverage(confidence, is_right)
    assert (table.coverage.iloc[-1], table.risk.iloc[-1]) == pytest.approx((1, 1 - is_right.mean()))
    assert table.coverage.is_monotonic_increasing
    assert (risk_coverage(confidence, np.ones(100, dtype=bool)).risk == 0).all()


def test_the_price_is_the_extra_bits_over_all_bytes_of_another_expert_and_their_mean_at_random():
    assert routing_price(NATS, LABELS, np.eye(3)[LABELS], BYTES) == 0
    assert routing_price(NATS, LABELS, np.eye(3)[[1, 1, 2]], BYTES) == pytest.approx(4 / np.log(2) / 16)
    price = routing_price(NATS, np.array([1, 1, 2]), np.eye(3)[[0, 1, 2]], BYTES)
    assert price == pytest.approx(-4 / np.log(2) / 16)
    prices = [routing_price(NATS, LABELS, np.eye(3)[np.full(3, expert)], BYTES) for expert in range(3)]
    assert routing_price(NATS, LABELS, np.full((3, 3), 1 / 3), BYTES) == pytest.approx(np.mean(prices))


def test_weighted_with_a_confusion_matrix_the_price_is_its_expectation():
    confusion = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.25, 0.25, 0.5]])
    expected = (0.15 * 4 + 0.05 * 2 + 0.1 * 3 + 0.5 * 15) / np.log(2) / 16  # beyond each row's own expert
    assert routing_price(NATS, LABELS, confusion[LABELS], BYTES) == pytest.approx(expected)
    draws = np.random.default_rng(0).random((2_000, 3, 1)) > confusion.cumsum(axis=1)[LABELS]
    drawn = [routing_price(NATS, LABELS, np.eye(3)[choice], BYTES) for choice in draws.sum(axis=2)]
    assert np.mean(drawn) == pytest.approx(expected, rel=0.1)


def test_prices_of_classifiers_are_those_of_their_choices_and_of_their_confusions():
    languages = ["a", "b", "c"]
    scores = pd.DataFrame({"row": [5, 6, 9], "language": languages, "n_bytes": BYTES,
                           **dict(zip(languages, NATS.T, strict=True))})
    rows = pd.DataFrame({"row": [5, 6, 9, 7], "label": [0, 1, 2, 0], "predicted": [1, 1, 2, 0], "prefix": 4})
    predictions = pd.concat([rows.assign(classifier="some"),
                             rows.assign(classifier="oracle", predicted=rows.label)])
    prices, random_price = price_routes(scores, predictions, languages)
    assert prices.classifier.tolist() == ["some", "oracle"]
    assert prices.prefix.tolist() == [4, 4]
    assert prices.price.tolist() == pytest.approx([4 / np.log(2) / 16, 0])
    half = 0.5 * 4 / np.log(2) / 16  # of two sequences of a one is misread
    assert prices.confusion_weighted.tolist() == pytest.approx([half, 0])
    assert random_price == pytest.approx(routing_price(NATS, LABELS, np.full((3, 3), 1 / 3), BYTES))


def test_calibration_is_reported_for_classifiers_that_give_a_confidence():
    part = pd.DataFrame({"prefix": [1, 1, 2, 2], "label": [0, 0, 1, 1], "predicted": [0, 1, 1, 1],
                         "confidence": [0.55, 0.55, 1.0, 1.0]})
    mute = part.assign(classifier="mute", confidence=np.nan)
    table, bins = calibrate(pd.concat([part.assign(classifier="sure"), mute]))
    errors = table.set_index(["classifier", "prefix"]).calibration_error.to_dict()
    assert errors == pytest.approx({("sure", 1): 0.05, ("sure", 2): 0.0})
    assert bins["sure"].n.tolist() == [2, 2]
    assert set(bins) == {"sure"}
    assert calibrate(mute)[0].empty


# A claim on classifiers

def errors_of(n: int, **places) -> pd.DataFrame:
    """Return a column for each classifier, true at the first so many of `n` sequences after its start."""
    at = np.arange(n)
    return pd.DataFrame({name: (at >= start) & (at < start + count)
                         for name, (start, count) in places.items()})


def race(wrong, margin=0.05):
    return race_classifiers(wrong, np.arange(len(wrong)).astype(str), "ours", [*wrong.columns[1:]], margin)


@pytest.mark.parametrize("n, ours, rival, says, answer", [
    (2_000, 0, 100, "better", True), (2_000, 100, 0, "worse", False), (2_000, 0, 0, "cannot tell", None),
    (2_000, 1, 2, "cannot tell", None), (20_000, 0, 0, "tied", False), (20_000, 0, 1, "tied", False)])
def test_a_race_is_won_lost_tied_or_open_and_a_tie_that_is_shown_is_a_no(n, ours, rival, says, answer):
    races = race(errors_of(n, ours=(0, ours), rival=(n // 2, rival)))
    assert races.says.tolist() == [says]
    assert races.difference[0] == pytest.approx(100 * (ours - rival) / n)
    assert races.apart[0] == pytest.approx(100 * (ours + rival) / n)
    part = ask_best("ours", races, 0.05)
    assert part["answer"] is answer and "rival" in part["said"]


def test_the_best_is_better_than_every_rival_and_each_is_named_with_its_kind():
    wrong = errors_of(20_000, ours=(0, 100), first=(0, 400), second=(0, 101), third=(0, 120))
    races = race(wrong)
    assert races.says.tolist() == ["better", "tied", "better"]
    part = ask_best("ours", races, 0.05)
    assert part["said"] == "tied within 0.05 percentage points: second; misread more: first, third"
    assert part["answer"] is False and ask_best("ours", races[::2], 0.05)["answer"] is True
    assert ask_best("ours", races[:0], 0.05)["answer"] is None
    worse = race(errors_of(20_000, ours=(0, 100), rival=(0, 20)))
    assert "misread fewer: rival" in ask_best("ours", worse, 0.05)["said"]


def test_the_sequences_that_an_open_race_asks_for_decide_it():
    part = ask_best("ours", race(errors_of(1_000, ours=(0, 0), rival=(0, 0))), 0.05)
    assert "about 7,700 independent sequences would decide beside rival" in part["said"]
    assert race(errors_of(7_000, ours=(0, 0), rival=(0, 0))).says[0] == "cannot tell"
    assert race(errors_of(7_700, ours=(0, 0), rival=(0, 0))).says[0] == "tied"


@pytest.mark.parametrize("error, low, high, answer", [
    (0.0, 0.0, 0.049, True), (0.2, 0.06, 0.4, False), (0.2, 0.049, 0.4, None), (0.0, 0.0, 0.07, None),
    (0.05, 0.01, 0.1, None)])
def test_a_level_is_reached_or_missed_by_the_whole_interval_only(error, low, high, answer):
    part = ask_level(error, low, high, 0.9995, 5_000)
    assert part["answer"] is answer
    assert ("would decide" in part["said"]) == (answer is None)


def test_the_sequences_that_a_level_asks_for_without_an_error_are_wilsons():
    assert "about 7,700 independent" in ask_level(0.0, 0.0, 0.2, 0.9995, 1_611)["said"]
    assert stats.binomtest(0, 7_700).proportion_ci(method="wilson").high < 0.0005
    assert stats.binomtest(0, 7_600).proportion_ci(method="wilson").high > 0.0005
