"""The router: which language is a sequence of token ids? Classifiers compared, the chosen one as one affine map in torch."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.sparse import csr_matrix
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC
from torch import nn

from mome.artifacts import track
from mome.config import check_choice, check_range
from mome.data import PackedData
from mome.tokenizer import token_text

CLASSIFIERS = ("majority", "multinomial_nb", "complement_nb", "logistic_regression", "logistic_regression_l2", "sgd_modified_huber",
               "linear_svm", "k_nearest_neighbours")
N_SPECIAL = 3  # <pad>, <s> and </s> say nothing about the language


def count_tokens(rows: np.ndarray, vocab_size: int) -> csr_matrix:
    """Return (N, V) sparse counts of the token ids in rows (N, T); special tokens are not counted."""
    n_rows, length = rows.shape
    counts = csr_matrix((np.ones(rows.size), rows.ravel().astype(np.int64), np.arange(n_rows + 1) * length), shape=(n_rows, vocab_size))
    counts.sum_duplicates()
    keep = np.ones(vocab_size)
    keep[:N_SPECIAL] = 0
    counts = counts.multiply(keep).tocsr()
    counts.eliminate_zeros()
    return counts


def make_classifier(name: str, seed: int = 42) -> Pipeline:
    """Return an unfitted pipeline over token counts; ValueError for an unknown name.

    `logistic_regression` is the workbook's: TF-IDF without length normalisation, so that its logits are an affine map of
    the counts and evidence adds up token by token; as raw counts are large, it is held back more (C = 0.01).
    `logistic_regression_l2` and the others without "nb" use the unit-length TF-IDF of the paper's code; naive Bayes uses the counts themselves.
    """
    check_choice("classifier", name, CLASSIFIERS)
    if name == "majority":
        return make_pipeline(DummyClassifier(strategy="most_frequent"))
    if name == "multinomial_nb":
        return make_pipeline(MultinomialNB())
    if name == "complement_nb":
        return make_pipeline(ComplementNB())
    if name == "logistic_regression":
        return make_pipeline(TfidfTransformer(norm=None), LogisticRegression(C=0.01, max_iter=1_000, random_state=seed))
    classifier = {"logistic_regression_l2": LogisticRegression(max_iter=1_000, random_state=seed),
                  "sgd_modified_huber": SGDClassifier(loss="modified_huber", random_state=seed),
                  "linear_svm": LinearSVC(random_state=seed), "k_nearest_neighbours": KNeighborsClassifier(5)}[name]
    return make_pipeline(TfidfTransformer(), classifier)


def sample_rows(data: PackedData, split: str, rows_per_language: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (N, T) and their language indices (N,), equally many of each language where there are enough."""
    numbers = np.concatenate([data.row_numbers(split, language, rows_per_language) for language in data.languages])
    return data.rows(split)[numbers], data.language_index(split)[numbers]


def benchmark(data: PackedData, names: list[str], rows_per_language: int, prefixes: list[int], seed: int = 42) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit every classifier on whole training sequences and score it on validation.

    Returns (scores, confusion). scores: one line per classifier and prefix length: precision, recall, f1 (weighted over
    languages), fit_seconds, sequences_per_second of prediction. confusion: one line per classifier, true and predicted
    language, with `share` of the true language's sequences, whole sequences only.
    """
    for name in names:
        check_choice("classifier", name, CLASSIFIERS)
    for prefix in prefixes:
        check_range("prefixes", prefix, 1, whole=True)
    vocab_size, scores, confusion = len(data.tokenizer), [], []
    train_rows, train_labels = sample_rows(data, "train", rows_per_language)
    rows, labels = sample_rows(data, "validation", None)
    train_counts = count_tokens(train_rows, vocab_size)
    lengths = sorted({min(length, rows.shape[1]) for length in [*prefixes, rows.shape[1]]})
    for name in track(names, "compare routers", len(names)):
        classifier = make_classifier(name, seed)
        started = time.perf_counter()
        classifier.fit(train_counts, train_labels)
        fit_seconds = time.perf_counter() - started
        for length in lengths:
            counts = count_tokens(rows[:, :length], vocab_size)
            started = time.perf_counter()
            predicted = classifier.predict(counts)
            seconds = time.perf_counter() - started
            average = {"average": "weighted", "zero_division": 0}
            scores.append({"classifier": name, "prefix": length, "whole_sequence": length == rows.shape[1], "n_sequences": len(rows),
                           "precision": precision_score(labels, predicted, **average), "recall": recall_score(labels, predicted, **average),
                           "f1": f1_score(labels, predicted, **average), "fit_seconds": fit_seconds, "sequences_per_second": len(rows) / seconds})
        shares = confusion_matrix(labels, predicted, labels=range(len(data.languages)), normalize="true")
        confusion += [{"classifier": name, "true": true, "predicted": guess, "share": shares[i, j]}
                      for i, true in enumerate(data.languages) for j, guess in enumerate(data.languages)]
    return pd.DataFrame(scores), pd.DataFrame(confusion)


def fit_router(data: PackedData, rows_per_language: int, seed: int = 42) -> tuple[Router, Pipeline]:
    """Return the workbook's router as a torch module, and the scikit-learn pipeline that it equals."""
    rows, labels = sample_rows(data, "train", rows_per_language)
    pipeline = make_classifier("logistic_regression", seed).fit(count_tokens(rows, len(data.tokenizer)), labels)
    return Router.from_pipeline(pipeline, data.languages), pipeline


class Router(nn.Module):
    """TF-IDF and logistic regression as one affine map of token counts: a sum over an embedding bag, plus a bias.

    Its probabilities equal scikit-learn's to 1e-5 (tested). Padding and special tokens weigh nothing.
    """

    def __init__(self, vocab_size: int, languages: list[str]):
        super().__init__()
        self.languages = list(languages)
        self.weight = nn.Parameter(torch.zeros(vocab_size, len(languages)), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(len(languages)), requires_grad=False)

    @classmethod
    def from_pipeline(cls, pipeline: Pipeline, languages: list[str]) -> Router:
        """Return the router equal to a fitted `make_classifier("logistic_regression")`."""
        idf, linear = pipeline[0].idf_, pipeline[-1]
        coefficients, intercept = linear.coef_, linear.intercept_
        if len(languages) == 2:  # scikit-learn keeps one row for two classes: the second's logit over the first's
            coefficients, intercept = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercept)
        router = cls(len(idf), languages)
        router.weight.copy_(torch.from_numpy((coefficients * idf).T))
        router.weight[:N_SPECIAL] = 0
        router.bias.copy_(torch.from_numpy(intercept))
        return router

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return router_probs (B, E) of input_ids (B, T)."""
        mask = None if attention_mask is None else attention_mask.to(self.weight.dtype)
        logits = nn.functional.embedding_bag(input_ids, self.weight, mode="sum", per_sample_weights=mask)
        return torch.softmax(logits + self.bias, dim=-1)

    def save(self, path: Path) -> None:
        save_file(self.state_dict(), path, metadata={"languages": ",".join(self.languages)})

    @classmethod
    def load(cls, path: Path) -> Router:
        """Return a saved router; ValueError when the file is damaged or not a router."""
        try:
            with safe_open(path, framework="pt") as file:
                languages = (file.metadata() or {})["languages"].split(",")
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            router = cls(tensors["weight"].shape[0], languages)
            router.load_state_dict(tensors)
        except (SafetensorError, KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"{path} is not a router that this workbook wrote: {error}") from None
        return router


def strongest_tokens(router: Router, tokenizer, n: int = 20) -> pd.DataFrame:
    """Return the n tokens that speak most for each language: language, rank, token (its text), weight over the mean language's."""
    centred = router.weight - router.weight.mean(dim=1, keepdim=True)
    top = centred.topk(n, dim=0)
    return pd.DataFrame([{"language": language, "rank": rank + 1, "token": token_text(tokenizer, int(top.indices[rank, column])),
                          "weight": float(top.values[rank, column])}
                         for column, language in enumerate(router.languages) for rank in range(n)])
