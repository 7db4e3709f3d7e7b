import numpy as np
import pandas as pd
import pytest

from mome import evaluate

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
