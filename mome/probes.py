"""Texts that put a router to the test: two languages in one sequence, code with foreign comments, texts of any length."""

from __future__ import annotations

import ast
import textwrap

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mome.data import PackedData
from mome.evaluate import risk_coverage
from mome.tokenizer import PLAIN

COMMENT_WIDTH = 88  # characters of a comment line


def encode_texts(texts: list[str], tokenizer, context: int) -> np.ndarray:
    """Return rows (N, T) uint16 of the texts' first `context` tokens, padded with 0 on the right."""
    rows = np.zeros((len(texts), context), dtype=np.uint16)
    for row, ids in zip(rows, tokenizer(texts, **PLAIN)["input_ids"], strict=True):
        row[:len(ids)] = ids[:context]
    return rows


def cut_texts(texts: list[str], tokenizer, context: int, at_most: int) -> np.ndarray:
    """Return up to `at_most` full rows (N, T) uint16 of the texts, each of one text, evenly spread over all that there are."""
    pieces = [ids[at:at + context] for ids in tokenizer(texts, **PLAIN)["input_ids"] for at in range(0, len(ids) - context + 1, context)]
    chosen = np.linspace(0, len(pieces) - 1, min(at_most, len(pieces))).astype(int)
    return np.array([pieces[number] for number in chosen], dtype=np.uint16).reshape(len(chosen), context)


def mix_rows(data: PackedData, first: str, second: str, share: float, n_rows: int, split: str = "validation") -> np.ndarray:
    """Return rows (N, T): the beginning of a row of `first`, then that of a row of `second`, which fills `share` of the tokens."""
    rows = data.rows(split)
    a, b = (rows[data.row_numbers(split, language, n_rows)] for language in (first, second))
    n, context = min(len(a), len(b)), rows.shape[1]
    border = context - round(share * context)
    return np.concatenate([a[:n, :border], b[:n, :context - border]], axis=1)


def comment_code(code: str, prose: list[str], share: float, generator: np.random.Generator) -> str:
    """Return code with lines of prose between its statements, as comments and string constants in turn, about `share` of all characters."""
    lines, gaps = code.split("\n"), find_gaps(code)
    wanted, added, notes = share / (1 - share) * len(code), 0, []
    while added < wanted:
        for line in textwrap.wrap(prose[generator.integers(len(prose))], COMMENT_WIDTH):
            notes.append(f"# {line}" if len(notes) % 2 == 0 else f"NOTE_{len(notes)} = {line!r}")
            added += len(notes[-1])
    places = np.sort(generator.choice(gaps, len(notes)))
    for place, note in zip(places[::-1], notes[::-1], strict=True):
        following = lines[place] if place < len(lines) else ""
        lines.insert(place, following[:len(following) - len(following.lstrip())] + note)
    return "\n".join(lines)


def ask_langid(texts: list[str], languages: list[str]) -> np.ndarray:
    """Return py3langid's answer among natural `languages` for each text, as positions in that list: a baseline that never saw our tokens.

    Raises ValueError for a language that it does not know.
    """
    import py3langid

    try:
        py3langid.set_languages(languages)
    except ValueError as error:
        raise ValueError(f"languages={languages!r} is not allowed for py3langid: {error}") from None
    return np.array([languages.index(py3langid.classify(text)[0]) for text in texts])


def find_gaps(code: str) -> list[int]:
    """Return the numbers of the lines, from 0, before which a statement of the same indentation may be put; the last is the end.

    Not within a statement, before `elif`, or before an import from __future__, which has to come first. Of code that is not
    Python, all lines.
    """
    lines = code.split("\n")
    try:
        statements = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.stmt)]
    except SyntaxError:
        return list(range(len(lines) + 1))
    first = max((node.lineno for node in statements if isinstance(node, ast.ImportFrom) and node.module == "__future__"), default=0)
    gaps = {len(lines)}
    for node in statements:
        place = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]) - 1
        if place >= first and not lines[place][:node.col_offset].strip() and not lines[place].lstrip().startswith("elif"):
            gaps.add(place)
    return sorted(gaps)


def read_commented_code(models: dict, data: PackedData, documents: pd.DataFrame, code: str, shares: list[float], n_rows: int = 300,
                        seed: int = 0) -> pd.DataFrame:
    """Return how much commented code is still read as code: language of the comments, percent, classifier, as_code (percent of rows).

    `models` maps names to fitted pipelines, `documents` are held-out texts with their language, `code` is the code's.
    """
    generator, rows = np.random.default_rng(seed), []
    files = documents.text[documents.language == code]
    for language in [name for name in data.languages if name != code]:
        prose = [line for text in documents.text[documents.language == language] for line in text.split("\n") if len(line) > 40] or ["..."]
        for share in shares:
            some = cut_texts([comment_code(text, prose, share, generator) for text in files], data.tokenizer, data.rows("validation").shape[1], n_rows)
            rows += [{"language": language, "percent": 100 * share, "classifier": name,
                      "as_code": 100 * float(np.mean(model.predict(some) == data.languages.index(code)))} for name, model in models.items()]
    return pd.DataFrame(rows, columns=["language", "percent", "classifier", "as_code"])


def read_mixes(model, data: PackedData, shares: list[float], n_rows: int = 200) -> pd.DataFrame:
    """Return which language of two a classifier names: first, second, percent (tokens of the second), as_second (percent of rows)."""
    rows = []
    for place, first in enumerate(data.languages):
        for second in data.languages[place + 1:]:
            for share in shares:
                read = model.predict(mix_rows(data, first, second, share, n_rows))
                rows.append({"first": first, "second": second, "percent": 100 * share, "as_second": 100 * float(np.mean(read == data.languages.index(second)))})
    return pd.DataFrame(rows)


def read_strangers(models: dict, data: PackedData, strangers: pd.DataFrame, rows: np.ndarray, labels: np.ndarray,
                   n_rows: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return where texts of unknown languages are sent, and what abstaining buys on them and known `rows` (N, T) together.

    The first table: classifier, language, auroc (chance that a known row has a larger top probability than one of this
    language), and the percent of rows sent to each known language. The second: `evaluate.risk_coverage` by classifier, an
    answer to an unknown language being wrong. Models without probabilities are left out.
    """
    sent, coverage = [], []
    for name, model in models.items():
        if not hasattr(model, "predict_proba"):
            continue
        known = model.predict_proba(rows)
        sure, is_right = [known.max(axis=1)], [known.argmax(axis=1) == labels]
        for language, group in strangers.groupby("language", sort=False):
            odd = model.predict_proba(cut_texts(list(group.text), data.tokenizer, rows.shape[1], n_rows))
            sure.append(odd.max(axis=1))
            is_right.append(np.zeros(len(odd), dtype=bool))
            shares = 100 * np.bincount(odd.argmax(axis=1), minlength=len(data.languages)) / len(odd)
            auroc = roc_auc_score(np.r_[np.ones(len(known)), np.zeros(len(odd))], np.r_[sure[0], sure[-1]])
            sent.append({"classifier": name, "language": language, "auroc": auroc, **dict(zip(data.languages, shares, strict=True))})
        coverage.append(risk_coverage(np.concatenate(sure), np.concatenate(is_right)).assign(classifier=name))
    return pd.DataFrame(sent), pd.concat(coverage, ignore_index=True)
