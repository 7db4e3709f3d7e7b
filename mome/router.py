"""The router: which language is a sequence of token ids? Classifiers compared, the chosen one as one affine map in torch."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.sparse import csr_matrix, issparse
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import precision_recall_fscore_support
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from torch import nn

from mome.artifacts import track
from mome.config import CLASSIFIERS, check_choice, check_range
from mome.data import PackedData
from mome.tokenizer import PLAIN, token_text

N_SPECIAL = 3  # <pad>, <s> and </s> say nothing about the language
BOOSTED_TOKENS = 512  # gradient boosting needs a dense table: only the tokens that tell most, by a chi-squared test


def count_tokens(rows: np.ndarray, vocab_size: int) -> csr_matrix:
    """Return (N, V) sparse counts of the token ids in rows (N, T); special tokens are not counted.

    Raises ValueError for an id outside the vocabulary.
    """
    check_ids(rows, vocab_size)
    n_rows, length = rows.shape
    counts = csr_matrix((np.ones(rows.size), rows.ravel().astype(np.int64), np.arange(n_rows + 1) * length), shape=(n_rows, vocab_size))
    counts.sum_duplicates()
    keep = np.ones(vocab_size)
    keep[:N_SPECIAL] = 0
    counts = counts.multiply(keep).tocsr()
    counts.eliminate_zeros()
    return counts


def check_ids(ids, vocab_size: int) -> None:
    """Raise ValueError unless every id of an array or tensor lies in the vocabulary."""
    size = ids.numel() if isinstance(ids, torch.Tensor) else ids.size
    if size and not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
        raise ValueError(f"input_ids from {int(ids.min())} to {int(ids.max())} are not allowed; this router knows ids from 0 to {vocab_size - 1}")


def spell_rows(rows: np.ndarray) -> list[str]:
    """Return each row's ids as a string of numbers, without special tokens, as the paper's code hands them to scikit-learn."""
    return [" ".join(str(token) for token in row if token >= N_SPECIAL) for row in rows.tolist()]


def to_dense(counts: csr_matrix) -> np.ndarray:
    return counts.toarray().astype(np.float32)


def make_classifier(name: str, vocab_size: int, seed: int = 42) -> Pipeline:
    """Return an unfitted pipeline over rows of token ids (N, T); ValueError for an unknown name.

    `logistic_regression` is the workbook's: TF-IDF without length normalisation, so that its logits are an affine map of
    the counts and evidence adds up token by token; as raw counts are large, it is held back more (C = 0.01). Naive Bayes
    and the trees use the counts themselves, the others the unit-length TF-IDF of the paper's code. `paper_pipeline` is that
    code's way: ids spelled as a string, read back by a regular expression that drops those of one digit.
    """
    check_choice("classifier", name, CLASSIFIERS)
    counts = FunctionTransformer(count_tokens, kw_args={"vocab_size": vocab_size})
    if name == "paper_pipeline":
        return make_pipeline(FunctionTransformer(spell_rows), TfidfVectorizer(), SGDClassifier(loss="modified_huber", random_state=seed))
    if name == "logistic_regression":
        return make_pipeline(counts, TfidfTransformer(norm=None), LogisticRegression(C=0.01, max_iter=1_000, random_state=seed))
    if name == "gradient_boosting":
        chosen = SelectKBest(chi2, k=min(BOOSTED_TOKENS, vocab_size - N_SPECIAL))
        return make_pipeline(counts, chosen, FunctionTransformer(to_dense), HistGradientBoostingClassifier(max_iter=30, random_state=seed))
    on_counts = {"majority": DummyClassifier(strategy="prior"), "multinomial_nb": MultinomialNB(), "complement_nb": ComplementNB(),
                 "random_forest": RandomForestClassifier(100, random_state=seed)}
    if name in on_counts:
        return make_pipeline(counts, on_counts[name])
    on_tfidf = {"logistic_regression_l2": LogisticRegression(max_iter=1_000, random_state=seed),
                "sgd_modified_huber": SGDClassifier(loss="modified_huber", random_state=seed), "linear_svm": LinearSVC(random_state=seed),
                "k_nearest_neighbours": KNeighborsClassifier(5), "neural_net": MLPClassifier((32,), max_iter=100, early_stopping=True, random_state=seed)}
    return make_pipeline(counts, TfidfTransformer(), on_tfidf[name])


def describe_classifier(name: str) -> list[str]:
    """Return the settings of a classifier's scikit-learn steps as text: part of the name of what was made with it."""
    steps = [step for _, step in make_classifier(name, 2 * BOOSTED_TOKENS).steps if not isinstance(step, FunctionTransformer)]
    # A function is written with its address, which is another in every process.
    return [re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(step).split())) for step in steps]


def respell(pipeline: Pipeline, vocab_size: int) -> Pipeline:
    """Return a fitted `paper_pipeline` as one over token counts: the same labels without spelling a single id.

    Tokens that the original drops or never saw get weight 0, so that they enter neither the scores nor the length.
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


def sample_rows(data: PackedData, split: str, rows_per_language: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (N, T) and their language indices (N,), equally many of each language where there are enough."""
    numbers = np.concatenate([data.row_numbers(split, language, rows_per_language) for language in data.languages])
    return data.rows(split)[numbers], data.language_index(split)[numbers]


def benchmark(data: PackedData, names: list[str], rows_per_language: int, prefixes: list[int], seed: int = 42) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit every classifier on whole training sequences and let it read held-out ones, cut to every prefix.

    Returns (scores, predictions). scores: one line per classifier and prefix: precision, recall, f1 (weighted over
    languages), n_sequences, fit_seconds, sequences_per_second (from ids to label, features included), stored_bytes.
    predictions: one line per classifier, prefix and validation sequence: article_id, row, label, predicted (both positions
    in `data.languages`), confidence (the largest probability; NaN where a classifier gives none).
    """
    for name in names:
        check_choice("classifier", name, CLASSIFIERS)
    for prefix in prefixes:
        check_range("prefixes", prefix, 1, whole=True)
    scores, predictions = [], []
    train_rows, train_labels = sample_rows(data, "train", rows_per_language)
    rows, labels = sample_rows(data, "validation", None)
    article_ids = np.array(data.dataset["validation"]["article_id"], dtype=object)  # a split's rows lie language by language already
    lengths = sorted({min(length, rows.shape[1]) for length in [*prefixes, rows.shape[1]]})
    for name in track(names, "compare routers", len(names)):
        classifier = make_classifier(name, len(data.tokenizer), seed)
        started = time.perf_counter()
        classifier.fit(train_rows, train_labels)
        fit_seconds = time.perf_counter() - started
        for length in lengths:
            started = time.perf_counter()
            predicted = classifier.predict(rows[:, :length])
            seconds = time.perf_counter() - started
            confidence = classifier.predict_proba(rows[:, :length]).max(axis=1) if hasattr(classifier, "predict_proba") else np.nan
            precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="weighted", zero_division=0)
            scores.append({"classifier": name, "prefix": length, "whole_sequence": length == rows.shape[1], "n_sequences": len(rows),
                           "precision": precision, "recall": recall, "f1": f1, "fit_seconds": fit_seconds,
                           "sequences_per_second": len(rows) / seconds, "stored_bytes": count_bytes(classifier)})
            predictions.append(pd.DataFrame({"classifier": name, "prefix": length, "article_id": article_ids, "row": np.arange(len(rows)), "label": labels,
                                             "predicted": predicted, "confidence": confidence}))
    return pd.DataFrame(scores), pd.concat(predictions, ignore_index=True)


def count_bytes(fitted) -> int:
    """Return the bytes of all that a fitted estimator has learned: its arrays, vocabularies and trees."""
    seen: dict[int, object] = {}  # holds what it names, or an id could be given out again

    def walk(value) -> int:
        if id(value) in seen:
            return 0
        seen[id(value)] = value
        if isinstance(value, np.ndarray):
            return value.nbytes if value.dtype != object else sum(walk(item) for item in value.ravel())
        if issparse(value):
            return value.data.nbytes + value.indices.nbytes + value.indptr.nbytes
        if isinstance(value, str):
            return len(value.encode())
        if isinstance(value, dict):
            return sum(walk(item) for pair in value.items() for item in pair)
        if isinstance(value, list | tuple):
            return sum(walk(item) for item in value)
        if type(value).__module__ == "sklearn.tree._tree":
            return sum(walk(item) for item in value.__getstate__().values())
        return sum(walk(item) for item in vars(value).values()) if hasattr(value, "__dict__") and not callable(value) else 0

    return walk(fitted)


def fit_router(data: PackedData, rows_per_language: int, seed: int = 42, added: tuple[PackedData, ...] = ()) -> tuple[Router, Pipeline]:
    """Return the workbook's router as a torch module, and the scikit-learn pipeline that it equals.

    The languages of `added` data sets follow those of `data`. Raises ValueError for one of another tokenizer or with a
    language that is there already.
    """
    parts, languages, sha256 = [], [], hash_tokenizer(data.tokenizer)
    for part in (data, *added):
        if hash_tokenizer(part.tokenizer) != sha256:
            raise ValueError(f"added data of tokenizer {hash_tokenizer(part.tokenizer)[:12]} is not allowed; it must be cut by {sha256[:12]}")
        if set(part.languages) & set(languages):
            raise ValueError(f"added languages={part.languages!r} is not allowed; {', '.join(languages)} are there already")
        rows, labels = sample_rows(part, "train", rows_per_language)
        parts.append((rows, labels + len(languages)))
        languages += part.languages
    rows, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    pipeline = make_classifier("logistic_regression", len(data.tokenizer), seed).fit(rows, labels)
    return Router.from_pipeline(pipeline, languages, sha256), pipeline


def hash_tokenizer(tokenizer) -> str:
    """Return the SHA-256 of a fast tokenizer's vocabulary and rules: equal hashes give equal ids.

    The padding and truncation of its last call, which it remembers, are left out.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(rules, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


class Router(nn.Module):
    """TF-IDF and logistic regression as one affine map of token counts: a sum over an embedding bag, plus a bias.

    Its probabilities equal scikit-learn's to 1e-5 (tested). Padding and special tokens weigh nothing. `tokenizer_sha256`
    names the tokenizer whose ids it reads; empty when it was not fitted on any.
    """

    def __init__(self, vocab_size: int, languages: list[str], tokenizer_sha256: str = ""):
        super().__init__()
        self.languages, self.tokenizer_sha256 = list(languages), tokenizer_sha256
        self.weight = nn.Parameter(torch.zeros(vocab_size, len(languages)), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(len(languages)), requires_grad=False)

    @classmethod
    def from_pipeline(cls, pipeline: Pipeline, languages: list[str], tokenizer_sha256: str = "") -> Router:
        """Return the router equal to a fitted `make_classifier("logistic_regression")`."""
        idf, linear = pipeline[1].idf_, pipeline[-1]
        coefficients, intercept = linear.coef_, linear.intercept_
        if len(languages) == 2:  # scikit-learn keeps one row for two classes: the second's logit over the first's
            coefficients, intercept = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercept)
        router = cls(len(idf), languages, tokenizer_sha256)
        router.weight.copy_(torch.from_numpy((coefficients * idf).T))
        router.weight[:N_SPECIAL] = 0
        router.bias.copy_(torch.from_numpy(intercept))
        return router

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return router_probs (B, E) of input_ids (B, T); of no tokens at all, the prior.

        Raises ValueError for ids outside the vocabulary (on a GPU the kernel does, as looking would wait for it).
        """
        if input_ids.device.type != "cuda":
            check_ids(input_ids, len(self.weight))
        if input_ids.shape[1] == 0:
            return torch.softmax(self.bias, dim=-1).expand(len(input_ids), -1)
        mask = None if attention_mask is None else attention_mask.to(self.weight.dtype)
        logits = nn.functional.embedding_bag(input_ids, self.weight, mode="sum", per_sample_weights=mask)
        return torch.softmax(logits + self.bias, dim=-1)

    def running_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (B, T, E): the router_probs after every token of input_ids (B, T), in one pass of running sums."""
        check_ids(input_ids, len(self.weight))
        return torch.softmax(self.weight[input_ids].cumsum(dim=1) + self.bias, dim=-1)

    @torch.inference_mode()
    def route(self, rows: np.ndarray, chunk: int = 8_192, threshold: float = 0.0) -> np.ndarray:
        """Return the language index (N,) of rows of token ids (N, T), or -1 where the largest probability is below `threshold`.

        A chunk of rows at a time, so that memory stays flat.
        """
        check_range("threshold", threshold, 0, 1)
        parts = []
        for at in range(0, len(rows), chunk):
            probs, index = self(torch.from_numpy(rows[at:at + chunk].astype(np.int64)).to(self.weight.device)).max(dim=1)
            parts.append(torch.where(probs >= threshold, index, -1).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @torch.inference_mode()
    def classify(self, texts: list[str], tokenizer) -> torch.Tensor:
        """Return router_probs (N, E) of texts of any length; of an empty one, the prior. Raises ValueError for another tokenizer."""
        self.check_tokenizer(tokenizer)
        if not texts:
            return torch.zeros(0, len(self.languages))
        ids = [torch.tensor(row, dtype=torch.int64) for row in tokenizer(texts, **PLAIN)["input_ids"]]
        check_ids(torch.cat(ids), len(self.weight))
        offsets = torch.tensor([0, *(len(row) for row in ids)]).cumsum(0)[:-1]
        # In float64, as the rounding of a million sums of float32 can move a probability by some hundredths.
        logits = nn.functional.embedding_bag(torch.cat(ids), self.weight.cpu().double(), offsets, mode="sum")
        return torch.softmax(logits + self.bias.cpu(), dim=-1).float()

    def keep(self, languages: list[str]) -> Router:
        """Return the router among some of its languages: their probabilities keep their proportions. Raises ValueError for an unknown or no language."""
        if not languages:
            raise ValueError(f"languages={languages!r} leaves none; choose from: {', '.join(self.languages)}")
        for language in languages:
            check_choice("languages", language, self.languages)
        kept, columns = Router(len(self.weight), languages, self.tokenizer_sha256), [self.languages.index(language) for language in languages]
        kept.load_state_dict({"weight": self.weight[:, columns], "bias": self.bias[columns]})
        return kept.to(self.weight.device)

    def check_tokenizer(self, tokenizer) -> None:
        """Raise ValueError unless `tokenizer` is the one that this router was fitted with."""
        found = hash_tokenizer(tokenizer)
        if self.tokenizer_sha256 and found != self.tokenizer_sha256:
            raise ValueError(f"tokenizer {found[:12]} is not the one that this router was fitted with ({self.tokenizer_sha256[:12]}): "
                             "the same ids mean other texts; fit the router again on data of this tokenizer")

    def save(self, path: Path) -> None:
        """Write weights as safetensors, with languages and tokenizer hash as JSON in its header."""
        about = {"kind": "mome-router", "languages": self.languages, "tokenizer_sha256": self.tokenizer_sha256}
        save_file(self.state_dict(), path, metadata={"router": json.dumps(about)})

    @classmethod
    def load(cls, path: Path, tokenizer=None) -> Router:
        """Return a saved router; ValueError when the file is damaged, not a router, or of another tokenizer than the one given.

        Nothing in the file can run: it holds numbers and JSON, and both are checked.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["router"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            languages, sha256, weight = about["languages"], about["tokenizer_sha256"], tensors["weight"]
            if about["kind"] != "mome-router" or not isinstance(sha256, str) or not isinstance(languages, list):
                raise ValueError("its header is not a router's")
            if not languages or not all(isinstance(name, str) for name in languages) or len(set(languages)) != len(languages):
                raise ValueError("its languages are not different names")
            is_finite = all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in tensors.values())
            if not is_finite or weight.ndim != 2 or weight.shape[1] != len(languages):
                raise ValueError("its weights are not a finite float32 table with a column for each language")
            router = cls(len(weight), languages, sha256)
            router.load_state_dict(tensors)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is not a router that this workbook wrote: {error}") from None
        if tokenizer is not None:
            router.check_tokenizer(tokenizer)
        return router


def save_skops(pipeline: Pipeline, path: Path) -> None:
    """Write a fitted pipeline's scikit-learn steps, from token counts on, in skops' format, which holds no pickle.

    Raises ImportError when skops, an optional package, is not installed.
    """
    try:
        from skops.io import dump
    except ImportError:
        raise ImportError("exporting a scikit-learn router needs the optional package skops; install it with `pip install skops`") from None
    dump(make_pipeline(*[step for _, step in pipeline.steps if not isinstance(step, FunctionTransformer)]), path)


def strongest_tokens(router: Router, tokenizer, n: int = 20) -> pd.DataFrame:
    """Return the n tokens that speak most for each language: language, rank, token (its text), weight over the mean language's."""
    centred = router.weight - router.weight.mean(dim=1, keepdim=True)
    top = centred.topk(n, dim=0)
    return pd.DataFrame([{"language": language, "rank": rank + 1, "token": token_text(tokenizer, int(top.indices[rank, column])),
                          "weight": float(top.values[rank, column])}
                         for column, language in enumerate(router.languages) for rank in range(n)])
