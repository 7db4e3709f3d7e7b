"""Rows of token ids as features, and the classifiers that read them."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from mome.data.packing import SPLITS
from mome.router import N_SPECIAL
from mome.router.affine import Router
from mome.router.classifiers import (
    count_tokens,
    fit_classifier,
    make_classifier,
    respell,
    sample_rows,
    spell_rows,
)
from mome.router.fit import fit_affine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_tokens_are_counted_and_spelled_and_special_tokens_as_many_as_said_are_not():
    counts = count_tokens(np.array([[1, 5, 5, 2], [0, 0, 4, 3], [1, 2, 0, 0]], dtype=np.uint16), 6)
    assert counts.toarray().tolist() == [[0, 0, 0, 0, 0, 2], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    assert counts.nnz == 3
    rows = np.array([[0, 1, 4, 5]])
    assert count_tokens(rows, 6, n_special=5).toarray().tolist() == [[0, 0, 0, 0, 0, 1]]
    assert count_tokens(rows, 6, n_special=0).toarray().tolist() == [[1, 1, 0, 0, 1, 1]]
    assert spell_rows(rows, n_special=5) == ["5"]
    rows = np.array([[1, 5, 12, 345, 2, 0], [0, 0, 0, 0, 0, 0]], dtype=np.uint16)
    assert spell_rows(rows) == ["5 12 345", ""]


def test_counts_have_a_column_for_every_token_and_see_the_prefix_only_if_any(data):
    rows = data.rows("validation")[:, :10]
    counts = count_tokens(rows, 700)
    assert counts.shape == (len(rows), 700)
    expected = np.stack([np.bincount(row, minlength=700) for row in rows])
    expected[:, :N_SPECIAL] = 0
    assert (counts.toarray() == expected).all()
    for shape in ((3, 0), (0, 5), (0, 0)):
        counts = count_tokens(np.zeros(shape, dtype=np.uint16), 6)
        assert (counts.shape, counts.nnz) == ((shape[0], 6), 0)


@pytest.mark.parametrize("token", [-1, 700, 65_535])
def test_ids_outside_the_vocabulary_are_refused_with_its_limits_and_the_last_is_not(router, ids, token):
    rows = np.array([[5, 6], [7, token]])
    limits = rf"input_ids from {min(5, token)} to {max(7, token)} are not allowed; .* from 0 to 699"
    for read in (lambda: count_tokens(rows, 700), lambda: router(ids(rows)),
                 lambda: router.running_probs(ids(rows)), lambda: router.route(rows)):
        with pytest.raises(ValueError, match=limits):
            read()
    assert count_tokens(np.array([[0, 699]]), 700).toarray()[0, 699] == 1
    assert router(ids(np.array([[0, 699]]))).isfinite().all()


def test_as_many_rows_are_sampled_of_each_language(data):
    rows, labels = sample_rows(data, "train", 30)
    assert np.bincount(labels).tolist() == [30] * 4
    assert rows.shape == (120, 64)
    everything, labels = sample_rows(data, "train", None)
    assert len(everything) == len(data.rows("train")) == len(labels)


def test_special_tokens_weigh_nothing_even_when_a_pipeline_was_fitted_on_them(pack, two):
    counts = csr_matrix([[3.0, 1, 0, 4, 0], [2, 2, 0, 5, 1], [0, 1, 3, 0, 4], [0, 1, 4, 1, 5]])
    pipeline = make_classifier("logistic_regression", 5)
    pipeline[1:].fit(counts, [0, 0, 1, 1])
    assert abs(pipeline[-1].coef_[:, 0]).min() > 0
    weight = Router.from_pipeline(pipeline, ["en", "fr"]).weight
    assert (weight[:N_SPECIAL] == 0).all()
    assert (weight[N_SPECIAL:, 1] != 0).all()
    assert (fit_affine(two[0], 20, n_special=300)[0].weight[:300] == 0).all()


# The paper's pipeline

def test_the_papers_pipeline_drops_special_tokens_and_ids_of_one_digit(assert_near):
    rows = np.array([[1, 5, 12, 33, 2, 0], [1, 9, 40, 40, 3, 2]], dtype=np.uint16)
    pipeline = make_classifier("paper_pipeline", 50).fit(rows, [0, 1])
    assert sorted(pipeline[1].vocabulary_) == ["12", "33", "40"]
    read = pipeline.decision_function
    assert_near(read(np.array([[12, 12, 40, 5, 7, 1]])), read(np.array([[12, 12, 40, 2, 0, 9]])), atol=1e-12)


@pytest.mark.parametrize("n_languages, rows_per_language", [(2, 2), (4, 60)])
def test_respelled_it_gives_identical_labels(data, two, n_languages, rows_per_language, assert_near):
    data = two[0] if n_languages == 2 else data
    train_rows, labels = sample_rows(data, "train", rows_per_language)
    original = make_classifier("paper_pipeline", 700).fit(train_rows, labels)
    counts = respell(original, 700)
    padded = data.rows("validation") * (np.arange(64) < 20).astype(np.uint16)
    never_seen = np.setdiff1d(np.arange(700), train_rows)
    strange = np.random.default_rng(0).choice(never_seen, (20, 64))
    strange[:10, ::2] = train_rows[np.arange(10) % len(train_rows), ::2]
    empty = np.zeros((3, 64), dtype=np.uint16)
    assert len(never_seen) > 20
    for rows in (*(data.rows(split) for split in SPLITS), data.rows("test")[:, :1], padded, strange, empty,
                 empty[:, :0]):
        assert np.array_equal(counts.predict(rows), original.predict(rows))
        assert_near(counts.decision_function(rows), original.decision_function(rows), atol=1e-9)
        assert_near(counts.predict_proba(rows), original.predict_proba(rows), atol=1e-9)


def test_respelled_it_still_leaves_out_as_many_special_tokens(two):
    original = fit_classifier(two[0], "paper_pipeline", 40, n_special=200)
    rows = two[0].rows("validation")
    assert np.array_equal(respell(original, 700).predict(rows), original.predict(rows))
    assert min(int(word) for word in original[1].vocabulary_) >= 200
