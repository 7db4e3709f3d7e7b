import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from mome import evaluate
from mome.tokenizer import N_BYTE_TOKENS, token_text, train_tokenizer

MATRIX = pd.DataFrame([[2.0, 6.0, 7.0], [3.0, 1.0, 6.5], [4.0, 2.5, 1.5]], index=["en", "fr", "de"], columns=["en", "fr", "de"])


def test_forgetting_is_final_minus_best_since_learned_on_a_hand_written_matrix():
    assert evaluate.forgetting(MATRIX).to_dict() == {"en": 2.0, "fr": 1.5}


def test_forgetting_counts_a_later_improvement_as_the_best():
    improved = MATRIX.copy()
    improved.loc["fr", "en"] = 1.0
    assert evaluate.forgetting(improved)["en"] == 3.0


def test_backward_transfer_is_the_mean_change_since_learned_and_negative_when_forgotten():
    assert evaluate.backward_transfer(MATRIX) == pytest.approx(-(2.0 + 1.5) / 2)


def test_a_matrix_whose_rows_and_columns_disagree_is_refused():
    with pytest.raises(ValueError, match="same order"):
        evaluate.forgetting(MATRIX[["fr", "en", "de"]])


def scores(nats, articles, language="en"):
    return pd.DataFrame({"language": language, "article_id": articles, "nats": nats, "n_tokens": 10, "n_bytes": 40})


def test_summary_is_weighted_by_tokens_and_bytes():
    table = pd.concat([scores([10.0, 30.0], ["a", "b"]), scores([20.0], ["a"], "fr")])
    summary = evaluate.summarize(table).set_index("language")
    assert summary.nats_per_token["en"] == pytest.approx(2.0)
    assert summary.perplexity["en"] == pytest.approx(np.exp(2.0))
    assert summary.bits_per_byte["en"] == pytest.approx(40 / np.log(2) / 80)
    assert summary.nats_per_token["fr"] == pytest.approx(2.0)


def test_the_bootstrap_interval_holds_its_difference_and_widens_when_articles_disagree():
    articles = [str(number) for number in range(50)]
    base = scores(np.full(50, 20.0), articles)
    steady = evaluate.bootstrap_difference(scores(np.full(50, 21.0), articles), base)
    assert steady == pytest.approx((0.1, 0.1, 0.1))
    noise = np.random.default_rng(0).normal(1, 5, 50)
    difference, low, high = evaluate.bootstrap_difference(scores(20 + noise, articles), base)
    assert low < difference < high
    assert high - low > 0.1


def test_one_article_alone_gives_no_interval():
    difference, low, high = evaluate.bootstrap_difference(scores([30.0, 10.0], ["a", "a"]), scores([10.0, 10.0], ["a", "a"]))
    assert difference == pytest.approx(1.0)
    assert np.isnan([low, high]).all()


def test_bootstrap_of_different_sequences_is_refused():
    with pytest.raises(ValueError, match="same sequences"):
        evaluate.bootstrap_difference(scores([1.0], ["a"]), scores([1.0], ["b"]))


def test_the_paired_interval_is_students_t():
    mean, low, high = evaluate.paired_interval([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (mean, high - mean) == pytest.approx((2.0, 4.302653 / np.sqrt(3)))
    assert low == pytest.approx(2 * mean - high)


def arms(differences):
    rows = [{"arm": "base", "seed": seed, "nats_per_token": 5.0 + seed} for seed in range(len(differences))]
    return pd.DataFrame(rows + [{"arm": "new", "seed": seed, "nats_per_token": 5.0 + seed + d} for seed, d in enumerate(differences)])


@pytest.mark.parametrize(("differences", "verdict"), [([-0.10, -0.11, -0.12], "better"), ([0.10, 0.11, 0.12], "worse"),
                                                      ([-0.5, 0.4, 0.1], "cannot tell"), ([-3.0], "cannot tell")])
def test_a_verdict_needs_an_interval_without_zero_and_more_than_one_seed(differences, verdict):
    comparison = evaluate.compare_arms(arms(differences), "new", "base")
    assert comparison["verdict"] == verdict
    assert ("cannot tell" in evaluate.describe(comparison)) == (verdict == "cannot tell")


def test_an_arm_that_is_not_in_the_table_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"'old'.*base, new"):
        evaluate.compare_arms(arms([0.1]), "old", "base")


def test_scoring_a_uniform_model_gives_the_logarithm_of_the_vocabulary(tiny_bench):
    import torch

    size = len(tiny_bench.data.tokenizer)
    table = evaluate.score_rows(lambda batch: torch.zeros(*batch["input_ids"].shape, size), tiny_bench.data, rows_per_language=3)
    summary = evaluate.summarize(table)
    assert summary.language.tolist() == tiny_bench.data.languages
    assert summary.nats_per_token.tolist() == pytest.approx([np.log(size)] * 4)
    first = tiny_bench.data.rows("validation")[tiny_bench.data.row_numbers("validation", "en", 3)[0]]
    assert table.n_bytes.iloc[0] == len(tiny_bench.data.tokenizer.decode(first[1:]).encode())


@pytest.mark.parametrize(("low", "high", "expected"), [(-0.01, 0.02, True), (0.06, 0.09, False), (-0.3, -0.06, False), (-0.01, 0.06, None),
                                                       (float("nan"), float("nan"), None)])
def test_arms_are_alike_only_when_the_whole_interval_is_within_the_margin(low, high, expected):
    assert evaluate.is_close({"low": low, "high": high}, margin=0.05) is expected


@pytest.mark.parametrize(("answers", "verdict"), [((True, True), "holds"), ((True, None), "cannot tell"), ((False, None), "does not hold")])
def test_a_claim_holds_only_when_all_its_parts_do(answers, verdict):
    assert evaluate.conclude(dict(zip("ab", answers, strict=True)))[0] == verdict


# A classifier's scores

@pytest.mark.parametrize("never_predicted", [[], [1], [0, 2], [0, 1, 2, 3]])
def test_scores_of_confusions_are_those_of_scikit_learn(never_predicted):
    generator = np.random.default_rng(len(never_predicted))
    label, predicted = generator.integers(0, 4, 60), generator.choice([k for k in range(5) if k not in never_predicted], 60)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (label, predicted), 1)  # the fifth language is true of no sequence
    found = evaluate.score_confusions(np.stack([confusion, 3 * confusion, np.eye(5)]))
    assert found.shape == (3, 3, 6)
    for average, columns in ((None, slice(0, 5)), ("weighted", 5)):
        expected = precision_recall_fscore_support(label, predicted, labels=range(5), average=average, zero_division=0)[:3]
        np.testing.assert_allclose(found[0][:, columns], expected)
    np.testing.assert_allclose(found[1], found[0])
    np.testing.assert_allclose(found[2], 1)


def predictions_of(n_articles: int, per_article: int, accuracy: float, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_articles) % 3, per_article)
    wrong = generator.random(n_articles).repeat(per_article) >= accuracy  # an article is wrong as a whole
    return pd.DataFrame({"article_id": np.repeat([f"a{n}" for n in range(n_articles)], per_article), "label": label,
                         "predicted": np.where(wrong, (label + 1) % 3, label)})


def test_bootstrapped_scores_are_scikit_learns_within_their_intervals():
    predictions, languages = predictions_of(60, 4, 0.8), ["en", "fr", "de"]
    table = evaluate.bootstrap_scores(predictions, languages)
    assert list(table) == ["language", "metric", "value", "low", "high"]
    assert len(table) == 12
    values = table.pivot(index="language", columns="metric", values="value")[["precision", "recall", "f1"]]
    expected = precision_recall_fscore_support(predictions.label, predictions.predicted)[:3]
    np.testing.assert_allclose(values.loc[languages].T, expected)
    np.testing.assert_allclose(values.loc["all"], precision_recall_fscore_support(predictions.label, predictions.predicted, average="weighted")[:3])
    assert ((table.low < table.value) & (table.value < table.high)).all()
    assert table.low.min() >= 0
    assert table.high.max() <= 1


def test_without_errors_the_interval_has_no_width():
    table = evaluate.bootstrap_scores(predictions_of(60, 2, 1.1), ["en", "fr", "de"])
    assert (table[["value", "low", "high"]] == 1).all(axis=None)


def test_fewer_articles_give_a_wider_interval_though_the_sequences_are_as_many():
    widths = []
    for n_articles, per_article in ((30, 40), (300, 4)):
        table = evaluate.bootstrap_scores(predictions_of(n_articles, per_article, 0.8), ["en", "fr", "de"]).query("language == 'all'")
        widths.append((table.high - table.low).mean())
    assert widths[0] > 2 * widths[1]


def test_the_bootstrap_of_scores_depends_on_its_seed_only():
    predictions = predictions_of(60, 2, 0.8)
    first, again, other = (evaluate.bootstrap_scores(predictions, ["en", "fr", "de"], seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first.low.equals(other.low)
    assert first.value.equals(other.value)


# Confidence

def test_reliability_by_hand():
    confidence, is_right = np.array([0.05, 0.62, 0.68, 0.95, 1.0, 1.0]), np.array([False, True, False, True, True, False])
    table = evaluate.reliability(confidence, is_right)
    assert table.n.tolist() == [1, 2, 3]
    assert table.confidence.tolist() == pytest.approx([0.05, 0.65, 2.95 / 3])
    assert table.accuracy.tolist() == pytest.approx([0, 0.5, 2 / 3])
    assert evaluate.calibration_error(confidence, is_right) == pytest.approx((0.05 + 2 * 0.15 + 3 * (2.95 / 3 - 2 / 3)) / 6)


def test_a_perfectly_calibrated_classifier_has_no_error_and_one_always_sure_and_wrong_has_one():
    confidence = np.repeat([0.25, 0.5, 0.75, 1.0], 4)
    is_right = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert evaluate.calibration_error(confidence, is_right) == pytest.approx(0)
    assert evaluate.calibration_error(np.ones(5), np.zeros(5, dtype=bool)) == 1
    assert evaluate.calibration_error(np.ones(5), np.ones(5, dtype=bool)) == 0


@pytest.mark.parametrize("n_bins", [1, 2, 7, 100])
def test_bins_hold_every_sequence_once(n_bins):
    generator = np.random.default_rng(0)
    confidence = np.append(generator.random(200), [0.0, 1.0])
    is_right = generator.random(202) < confidence
    table = evaluate.reliability(confidence, is_right, n_bins)
    assert table.n.sum() == 202
    assert len(table) <= n_bins
    assert (table.confidence * table.n).sum() == pytest.approx(confidence.sum())
    assert (table.accuracy * table.n).sum() == pytest.approx(is_right.sum())
    assert table.confidence.is_monotonic_increasing


def test_risk_and_coverage_by_hand_with_ties_answered_together():
    confidence, is_right = np.array([0.9, 0.5, 0.9, 0.7, 0.5]), np.array([True, False, False, True, True])
    table = evaluate.risk_coverage(confidence, is_right)
    assert table.threshold.tolist() == [0.9, 0.7, 0.5]
    assert table.coverage.tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert table.risk.tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 5])


def test_answering_everything_has_the_risk_of_the_overall_error():
    generator = np.random.default_rng(0)
    confidence, is_right = generator.random(100).round(1), generator.random(100) < 0.7
    table = evaluate.risk_coverage(confidence, is_right)
    assert (table.coverage.iloc[-1], table.risk.iloc[-1]) == pytest.approx((1, 1 - is_right.mean()))
    assert table.coverage.is_monotonic_increasing
    assert (evaluate.risk_coverage(confidence, np.ones(100, dtype=bool)).risk == 0).all()


# What routing costs

NATS, LABELS, BYTES = np.array([[10.0, 14.0, 12.0], [9.0, 6.0, 9.0], [20.0, 20.0, 5.0]]), np.array([0, 1, 2]), np.array([8, 4, 4])


def test_the_price_of_one_wrong_choice_is_its_extra_bits_over_all_bytes():
    oracle = np.eye(3)[LABELS]
    assert evaluate.routing_price(NATS, LABELS, oracle, BYTES) == 0
    wrong = np.eye(3)[[1, 1, 2]]
    assert evaluate.routing_price(NATS, LABELS, wrong, BYTES) == pytest.approx(4 / np.log(2) / 16)


def test_the_price_is_negative_where_another_expert_predicts_better():
    assert evaluate.routing_price(NATS, np.array([1, 1, 2]), np.eye(3)[[0, 1, 2]], BYTES) == pytest.approx(-4 / np.log(2) / 16)


def test_a_random_router_pays_the_mean_over_the_experts():
    prices = [evaluate.routing_price(NATS, LABELS, np.eye(3)[np.full(3, expert)], BYTES) for expert in range(3)]
    assert evaluate.routing_price(NATS, LABELS, np.full((3, 3), 1 / 3), BYTES) == pytest.approx(np.mean(prices))


def test_weighted_with_a_confusion_matrix_the_price_is_its_expectation():
    confusion = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.25, 0.25, 0.5]])
    expected = 0.15 * 4 + 0.05 * 2 + 0.1 * 3 + 0.5 * 15  # nats beyond each row's own expert
    assert evaluate.routing_price(NATS, LABELS, confusion[LABELS], BYTES) == pytest.approx(expected / np.log(2) / 16)
    generator = np.random.default_rng(0)
    drawn = [evaluate.routing_price(NATS, LABELS, np.eye(3)[[generator.choice(3, p=confusion[label]) for label in LABELS]], BYTES) for _ in range(2_000)]
    assert np.mean(drawn) == pytest.approx(expected / np.log(2) / 16, rel=0.1)


def test_prices_of_classifiers_are_those_of_their_choices_and_of_their_confusions():
    scores = pd.DataFrame({"row": [5, 6, 9], "language": ["a", "b", "c"], "n_bytes": BYTES, **dict(zip("abc", NATS.T, strict=True))})
    rows = pd.DataFrame({"row": [5, 6, 9, 7], "label": [0, 1, 2, 0], "predicted": [1, 1, 2, 0]})
    predictions = pd.concat([rows.assign(classifier="some", prefix=4), rows.assign(classifier="oracle", prefix=4, predicted=rows.label)])
    prices, random_price = evaluate.price_routes(scores, predictions, ["a", "b", "c"])
    assert prices.classifier.tolist() == ["some", "oracle"]
    assert prices.price.tolist() == pytest.approx([4 / np.log(2) / 16, 0])
    assert prices.confusion_weighted.tolist() == pytest.approx([0.5 * 4 / np.log(2) / 16, 0])  # of two sequences of a one is misread
    assert random_price == pytest.approx(evaluate.routing_price(NATS, LABELS, np.full((3, 3), 1 / 3), BYTES))


def test_calibration_is_reported_for_classifiers_that_give_a_confidence():
    part = pd.DataFrame({"prefix": [1, 1, 2, 2], "label": [0, 0, 1, 1], "predicted": [0, 1, 1, 1], "confidence": [0.55, 0.55, 1.0, 1.0]})
    table, bins = evaluate.calibrate(pd.concat([part.assign(classifier="sure"), part.assign(classifier="mute", confidence=np.nan)]))
    assert table.set_index(["classifier", "prefix"]).calibration_error.to_dict() == pytest.approx({("sure", 1): 0.05, ("sure", 2): 0.0})
    assert bins["sure"].n.tolist() == [2, 2]
    assert set(bins) == {"sure"}


def test_the_loss_of_every_position_is_its_own_and_the_shares_add_up_to_one():
    tokenizer = train_tokenizer([], N_BYTE_TOKENS)
    input_ids = torch.tensor(tokenizer.encode("a bc"))
    student, teacher = (torch.randn(len(input_ids), len(tokenizer), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    table = evaluate.loss_by_position(student, teacher, input_ids, tokenizer, alpha=0.3, n_top=2)
    log_q, log_p = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    assert "".join(table.token) == "a bc"[1:]
    for row in table.itertuples():
        read, token = row.position - 1, int(input_ids[row.position])
        assert row.ce == pytest.approx(-log_q[read, token].item(), abs=1e-5)
        assert row.kd == pytest.approx((log_p[read].exp() * (log_p[read] - log_q[read])).sum().item(), abs=1e-5)
        assert row.teacher_probability == pytest.approx(log_p[read, token].exp().item(), rel=1e-4)
        assert row.student_top.startswith(repr(token_text(tokenizer, int(student[read].argmax()))))
        assert len(row.student_top.split(", ")) == 2
    assert table.share.sum() == pytest.approx(1, abs=1e-5)
    assert table.share[0] == pytest.approx((0.3 * table.ce[0] + 0.7 * table.kd[0]) / (0.3 * table.ce + 0.7 * table.kd).sum(), abs=1e-5)
