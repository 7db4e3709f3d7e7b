"""Fitting the workbook's router, and what it learned."""

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mome.data.ids import hash_tokenizer
from mome.data.packing import PackedData
from mome.data.tokenizer import token_text
from mome.router.affine import Router
from mome.router.classifiers import make_classifier, sample_rows


def fit_affine(data: PackedData, rows_per_language: int, seed: int = 42, added: tuple[PackedData, ...] = (),
               **options) -> tuple[Router, Pipeline]:
    """Return the workbook's router as a torch module, and the scikit-learn pipeline that it equals.

    The languages of `added` data sets follow those of `data`; `options` are those of logistic_regression.
    Raises ValueError for a data set of another tokenizer or with a language that is there already.
    """
    parts, languages, sha256 = [], [], hash_tokenizer(data.tokenizer)
    for part in (data, *added):
        found = hash_tokenizer(part.tokenizer)
        if found != sha256:
            raise ValueError(f"added data of tokenizer {found[:12]} is not allowed; cut it by {sha256[:12]}")
        if set(part.languages) & set(languages):
            raise ValueError(f"added languages={part.languages!r} repeat some of {', '.join(languages)}")
        rows, labels = sample_rows(part, "train", rows_per_language)
        parts.append((rows, labels + len(languages)))
        languages += part.languages
    rows, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    pipeline = make_classifier("logistic_regression", len(data.tokenizer), seed, **options).fit(rows, labels)
    return Router.from_pipeline(pipeline, languages, sha256), pipeline


def strongest_tokens(router: Router, tokenizer, n: int = 20) -> pd.DataFrame:
    """Return the n tokens that speak most for each language, by their weight over the mean language's."""
    weights, tokens = (router.weight - router.weight.mean(dim=1, keepdim=True)).topk(n, dim=0)
    table = [(language, rank + 1, token_text(tokenizer, int(tokens[rank, at])), float(weights[rank, at]))
             for at, language in enumerate(router.languages) for rank in range(n)]
    return pd.DataFrame(table, columns=["language", "rank", "token", "weight"])
