"""Each classifier scored on held-out rows, and what it stores."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import precision_recall_fscore_support
from sklearn.naive_bayes import MultinomialNB
from sklearn.tree import DecisionTreeClassifier

from mome.router import CLASSIFIERS
from mome.router.classifiers import fit_classifier
from mome.router.compare import compare_classifier, count_bytes
from mome.router.fit import fit_affine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def compared(data):
    parts = [compare_classifier(data, name, 60, [8, 1_000]) for name in CLASSIFIERS]
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))


@pytest.fixture(scope="module")
def fitted_classifiers(data):
    return {name: fit_classifier(data, name, 60) for name in CLASSIFIERS}


def test_every_classifier_is_scored_on_every_prefix_and_on_whole_sequences(data, compared):
    scores, _ = compared
    lines = list(zip(scores.classifier, scores.prefix, strict=True))
    assert lines == [(name, length) for name in CLASSIFIERS for length in (8, 64)]
    assert (scores.whole_sequence == (scores.prefix == 64)).all()
    assert (scores.n_sequences == len(data.rows("validation"))).all()
    assert (scores[["fit_seconds", "sequences_per_second", "stored_bytes"]] > 0).all(axis=None)


def test_every_classifier_beats_the_majority_baseline_whose_f1_is_that_of_one_constant_answer(compared, data):
    scores = compared[0].pivot(index="prefix", columns="classifier", values="f1")
    assert scores.drop(columns="majority").gt(scores.majority, axis=0).all(axis=None)
    # equally many training rows of each language: the first wins; its F1 is 2p / (1 + p), all others have 0
    share = (data.language_index("validation") == 0).mean()
    scores = compared[0].query("classifier == 'majority'")
    assert scores.f1.tolist() == pytest.approx([share * 2 * share / (1 + share)] * 2)
    assert scores.recall.tolist() == pytest.approx([share] * 2)


def test_predictions_have_a_line_for_every_classifier_prefix_and_sequence(data, compared):
    _, predictions = compared
    columns = ["classifier", "prefix", "article_id", "row", "label", "predicted", "confidence"]
    assert list(predictions) == columns
    assert predictions.groupby(["classifier", "prefix"], sort=False).ngroups == 2 * len(CLASSIFIERS)
    for _, group in predictions.groupby(["classifier", "prefix"]):
        assert group.row.tolist() == list(range(len(data.rows("validation"))))
        assert group.article_id.tolist() == list(data.dataset["validation"]["article_id"])
        assert group.label.tolist() == data.language_index("validation").tolist()


def test_scores_are_those_of_the_predictions(compared):
    scores, predictions = compared
    for (name, prefix), group in predictions.groupby(["classifier", "prefix"]):
        expected = precision_recall_fscore_support(group.label, group.predicted, average="weighted",
                                                   zero_division=0)[:3]
        line = scores[(scores.classifier == name) & (scores.prefix == prefix)].iloc[0]
        assert (line.precision, line.recall, line.f1) == pytest.approx(expected), (name, prefix)


def test_every_classifier_reads_empty_and_padded_rows(fitted_classifiers):
    rows = np.zeros((3, 64), dtype=np.uint16)
    rows[1, :4] = [1, 50, 60, 2]
    for name, classifier in fitted_classifiers.items():
        assert np.isin(classifier.predict(rows), range(4)).all(), name


def test_predictions_and_confidences_are_the_classifiers_own(data, compared, fitted_classifiers, assert_near):
    scores, predictions = compared
    rows = data.rows("validation")
    for (name, prefix), group in predictions.groupby(["classifier", "prefix"]):
        classifier = fitted_classifiers[name]
        assert np.array_equal(group.predicted, classifier.predict(rows[:, :prefix])), name
        if name == "linear_svm":
            assert group.confidence.isna().all()
        else:
            probs = classifier.predict_proba(rows[:, :prefix])
            assert_near(group.confidence.tolist(), probs.max(axis=1), 1e-9)
            assert group.confidence.between(0.25 - 1e-9, 1).all()
    stored = scores.groupby("classifier").stored_bytes.first()
    assert stored.to_dict() == {name: count_bytes(fitted) for name, fitted in fitted_classifiers.items()}
    assert stored.idxmin() == "majority"


def test_the_workbooks_classifier_in_the_table_is_the_router_itself(data, ids, router, assert_near):
    _, predictions = compare_classifier(data, "logistic_regression", 100, [])
    assert predictions.predicted.tolist() == router.route(data.rows("validation")).tolist()
    probs = router(ids(data.rows("validation")))
    assert_near(predictions.confidence.tolist(), probs.max(dim=1).values, atol=1e-5)


def test_split_seed_and_options_reach_the_classifier(two):
    data, rows = two[0], two[0].rows("validation")
    _, of_test = compare_classifier(data, "logistic_regression", 100, [], split="test")
    assert of_test.article_id.tolist() == list(data.dataset["test"]["article_id"])
    assert of_test.predicted.tolist() == two[1].route(data.rows("test")).tolist()
    _, first = compare_classifier(data, "random_forest", 20, [], seed=1, n_trees=3)
    forest = fit_classifier(data, "random_forest", 20, seed=1, n_trees=3)
    assert len(forest[-1].estimators_) == 3
    assert first.confidence.tolist() == forest.predict_proba(rows).max(axis=1).tolist()
    _, other = compare_classifier(data, "random_forest", 20, [], seed=2, n_trees=3)
    assert first.confidence.tolist() != other.confidence.tolist()
    weak, strong = (fit_affine(data, 20, C=value)[0].weight.abs().sum() for value in (0.001, 1.0))
    assert weak < strong


@pytest.mark.parametrize("name, prefix, options, words", [
    ("forest", 8, {}, r"classifier='forest'.*majority.*logistic_regression"),
    ("majority", 8, {"depth": 3}, r"option of majority='depth'.*n_special"),
    ("majority", 0, {}, "prefixes=0"), ("majority", -5, {}, "prefixes=-5")])
def test_wrong_arguments_are_refused_before_any_row_is_read(name, prefix, options, words):
    class Unread:
        tokenizer = range(700)

    with pytest.raises(ValueError, match=words):
        compare_classifier(Unread(), name, 10, [prefix], **options)


# What a classifier stores

def learned_bytes(estimator, *training) -> int:
    before = count_bytes(estimator)
    return count_bytes(estimator.fit(*training)) - before


def test_dense_and_sparse_arrays_texts_and_containers_are_counted_by_hand():
    dense, sparse = np.zeros((3, 4)), csr_matrix(np.eye(3))
    assert count_bytes(dense) == 96
    assert count_bytes(sparse) == 3 * 8 + sparse.indices.nbytes + sparse.indptr.nbytes
    assert count_bytes({"ab": 1, "é": 2}) == 4
    assert count_bytes([dense, (dense, np.zeros(2, dtype=np.float32))]) == 96 + 8
    assert count_bytes(np.array(["abc", "de"], dtype=object)) == 5


def test_naive_bayes_stores_its_tables_a_vectorizer_its_words_a_tree_its_nodes_a_forest_its_trees():
    # two classes, three tokens: counts and log probabilities of both, and the labels
    counts = csr_matrix([[1, 0, 2], [0, 3, 1]])
    assert learned_bytes(MultinomialNB(), counts, [0, 1]) == 2 * (2 * 3 * 8) + 3 * 2 * 8
    assert learned_bytes(TfidfVectorizer(), ["12 345", "12 6789"]) == len("12" "345" "6789") + 3 * 8
    features, labels = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 2
    tree = DecisionTreeClassifier(random_state=0)
    nodes, empty = tree.fit(features, labels).tree_.__getstate__(), DecisionTreeClassifier(random_state=0)
    assert count_bytes(tree) - count_bytes(empty) == nodes["nodes"].nbytes + nodes["values"].nbytes + 2 * 8
    few, many = (learned_bytes(RandomForestClassifier(n, random_state=0), features, labels) for n in (5, 20))
    assert 3 * few < many < 5 * few
