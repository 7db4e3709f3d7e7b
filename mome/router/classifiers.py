"""Classifiers of rows of token ids: how rows become features, and each one as a scikit-learn pipeline."""

from functools import partial
from operator import methodcaller

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from mome.data.ids import check_ids
from mome.data.packing import PackedData
from mome.router import N_SPECIAL, check_classifier_options

by_sgd = partial(SGDClassifier, loss="modified_huber")
ESTIMATORS = {
    "majority": partial(DummyClassifier, strategy="prior"), "multinomial_nb": MultinomialNB,
    "complement_nb": ComplementNB, "logistic_regression": LogisticRegression,
    "logistic_regression_l2": LogisticRegression, "sgd_modified_huber": by_sgd, "linear_svm": LinearSVC,
    "k_nearest_neighbours": KNeighborsClassifier, "random_forest": RandomForestClassifier,
    "gradient_boosting": HistGradientBoostingClassifier,
    "neural_net": partial(MLPClassifier, early_stopping=True), "paper_pipeline": by_sgd}
SKLEARN_NAMES = {"smoothing": "alpha", "l2": "alpha", "n_hidden": "hidden_layer_sizes",
                 "n_neighbours": "n_neighbors", "n_trees": "n_estimators"}


def count_tokens(rows: np.ndarray, vocab_size: int, n_special: int = N_SPECIAL) -> csr_matrix:
    """Return (N, V) sparse counts of ids from `n_special` on in rows (N, T); ValueError for unknown ids."""
    check_ids(rows, vocab_size)
    ids, starts = rows.ravel().astype(np.int64), np.arange(len(rows) + 1) * rows.shape[1]
    counts = csr_matrix((np.ones(rows.size), ids, starts), shape=(len(rows), vocab_size))
    counts.sum_duplicates()
    counts = counts.multiply(np.arange(vocab_size) >= n_special).tocsr()
    counts.eliminate_zeros()
    return counts


def spell_rows(rows: np.ndarray, n_special: int = N_SPECIAL) -> list[str]:
    """Return each row's ids as a string of numbers, without special tokens, as the paper's code does."""
    return [" ".join(str(token) for token in row if token >= n_special) for row in rows.tolist()]


def make_classifier(name: str, vocab_size: int, seed: int = 42, **options) -> Pipeline:
    """Return an unfitted pipeline over rows of ids (N, T); ValueError for an unknown name or option.

    `logistic_regression` is the workbook's: TF-IDF without length normalisation, so that its logits are an
    affine map of the counts and evidence adds up; raw counts are large, so it is held back more (small C).
    Naive Bayes and trees use counts, the others the unit-length TF-IDF of the paper's code. `paper_pipeline`
    is that code's way: ids spelled as a string, read by a regular expression that drops those of one digit.
    Options, with defaults in `CLASSIFIER_OPTIONS`: n_special (smaller ids do not count), C (inverse penalty),
    l2 (penalty), smoothing (added to each count), max_iter (passes at most; trees a language of boosting),
    n_neighbours, n_trees, n_hidden (units), n_tokens (that boosting reads: the best by a chi-squared test).
    """
    chosen = check_classifier_options(name, options)
    special, n_tokens = chosen.pop("n_special"), chosen.pop("n_tokens", vocab_size)
    model = ESTIMATORS[name](**{SKLEARN_NAMES.get(key, key): value for key, value in chosen.items()})
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    if name == "paper_pipeline":
        words = FunctionTransformer(partial(spell_rows, n_special=special))
        return make_pipeline(words, TfidfVectorizer(), model)
    count = FunctionTransformer(partial(count_tokens, n_special=special), kw_args={"vocab_size": vocab_size})
    if name == "gradient_boosting":  # it needs a dense table
        best = SelectKBest(chi2, k=min(n_tokens, vocab_size - special))
        return make_pipeline(count, best, FunctionTransformer(methodcaller("toarray")), model)
    if name in ("majority", "multinomial_nb", "complement_nb", "random_forest"):
        return make_pipeline(count, model)
    return make_pipeline(count, TfidfTransformer(norm=None if name == "logistic_regression" else "l2"), model)


def fit_classifier(data: PackedData, name: str, rows_per_language: int, seed=42, **options) -> Pipeline:
    """Return a classifier fitted on whole training rows, of each language so many if it has them."""
    rows, labels = sample_rows(data, "train", rows_per_language)
    return make_classifier(name, len(data.tokenizer), seed, **options).fit(rows, labels)


def respell(pipeline: Pipeline, vocab_size: int) -> Pipeline:
    """Return a fitted `paper_pipeline` as one over token counts: the same labels without spelling an id.

    Tokens that the original drops or never saw get weight 0: they enter neither the scores nor the length.
    """
    vectorizer, linear = pipeline[1], pipeline[-1]
    known = np.array([int(word) for word in vectorizer.get_feature_names_out()])
    faster = make_classifier("sgd_modified_huber", vocab_size)
    faster[1].idf_ = np.zeros(vocab_size)
    faster[1].idf_[known] = vectorizer.idf_
    faster[-1].coef_ = np.zeros((len(linear.coef_), vocab_size))
    faster[-1].coef_[:, known] = linear.coef_
    faster[-1].intercept_, faster[-1].classes_ = linear.intercept_, linear.classes_
    return faster


def sample_rows(data: PackedData, split: str, at_most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (N, T) and their language indices (N,): of each language all, or so many if it has them."""
    numbers = np.concatenate([data.row_numbers(split, language, at_most) for language in data.languages])
    return data.rows(split)[numbers], data.language_index(split)[numbers]
