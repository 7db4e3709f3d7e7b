"""Texts that test fitted classifiers (`models`, by name): another domain, mixed and unknown languages."""

import ast
import contextlib
import itertools
import textwrap

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, roc_auc_score

from mome.data.ids import PLAIN
from mome.data.packing import PackedData
from mome.languages import CODE_LANGUAGES
from mome.router.classifiers import sample_rows

COMMENT_WIDTH = 88  # characters of a comment line


def cut_texts(texts: list[str], tokenizer, context: int, at_most: int) -> np.ndarray:
    """Return up to `at_most` full rows (N, T) uint16, evenly spread over all there are.

    Each is of one text, or, where none is long enough, of texts end to end, as training rows are.
    """
    found = tokenizer(texts, **PLAIN)["input_ids"]
    if max(map(len, found), default=0) < context:
        found = [list(itertools.chain.from_iterable(found))]
    pieces = [ids[at:at + context] for ids in found for at in range(0, len(ids) - context + 1, context)]
    chosen = np.linspace(0, len(pieces) - 1, min(at_most, len(pieces))).astype(int)
    return np.array([pieces[number] for number in chosen], dtype=np.uint16).reshape(len(chosen), context)


def cut_documents(documents: pd.DataFrame, languages: list[str], tokenizer, context: int, at_most: int,
                  cut_characters: int = 20_000, article_rows: int = 4) -> tuple[np.ndarray, ...]:
    """Return rows (N, T), language indices (N,), article ids (N,) of documents, `at_most` rows a language."""
    rows, labels, article_ids = [np.zeros((0, context), dtype=np.uint16)], [], []
    for number, language in enumerate(languages):
        group = documents[documents.language == language].sample(frac=1, random_state=0)[:2 * at_most]
        for article_id, text in zip(group.article_id, group.text, strict=True):
            cut = cut_texts([text[:cut_characters]], tokenizer, context, article_rows)  # few of a long file
            rows.append(cut[:max(0, at_most - labels.count(number))])
            labels += [number] * len(rows[-1])
            article_ids += [article_id] * len(rows[-1])
    return np.concatenate(rows), np.array(labels, dtype=int), np.array(article_ids, dtype=object)


def read_domains(models: dict, data: PackedData, domains: dict, split: str = "validation") -> pd.DataFrame:
    """Return what each classifier reads in each domain: domain, classifier, article_id, label, predicted.

    The rows of `split` are the domain `this corpus`; `domains` maps others to what `cut_documents` returns.
    """
    own = {"this corpus": (*sample_rows(data, split, None), data.article_ids(split))}
    return pd.concat([pd.DataFrame({"domain": domain, "classifier": name, "article_id": article_ids,
                                    "label": labels, "predicted": model.predict(rows)})
                      for domain, (rows, labels, article_ids) in {**own, **domains}.items() if len(rows)
                      for name, model in models.items()], ignore_index=True)


def percents_read_as(label: int, models: dict, rows: np.ndarray) -> list[tuple[str, float]]:
    """Return (classifier, percent of rows (N, T) that it reads as `label`) of each model; NaN of no rows."""
    return [(name, 100 * float(np.mean(model.predict(rows) == label)) if len(rows) else float("nan"))
            for name, model in models.items()]


def mix_rows(data: PackedData, first: str, second: str, share: float, n_rows: int,
             split: str) -> np.ndarray:
    """Return rows (N, T): the beginning of one of `first`, then of one of `second`, `share` of the tokens."""
    rows = data.rows(split)
    a, b = (rows[data.row_numbers(split, language, n_rows)] for language in (first, second))
    n, context = min(len(a), len(b)), rows.shape[1]
    border = context - round(share * context)
    return np.concatenate([a[:n, :border], b[:n, :context - border]], axis=1)


def read_mixes(models: dict, data: PackedData, shares: list[float], n_rows: int = 200,
               split: str = "validation") -> pd.DataFrame:
    """Return how often mixed rows, `percent` of their tokens of the second language, are read as that one."""
    table = []
    for first, second in itertools.combinations(data.languages, 2):
        for share in shares:
            rows = mix_rows(data, first, second, share, n_rows, split)
            table += [(first, second, 100 * share, name, percent, len(rows))
                      for name, percent in percents_read_as(data.languages.index(second), models, rows)]
    return pd.DataFrame(table, columns=["first", "second", "percent", "classifier", "as_second", "n_rows"])


def find_gaps(code: str) -> list[int]:
    """Return the lines, from 0, before which a statement of their indentation may be put; last, the end.

    Not within a statement, before `elif` or an import from __future__, nor after the last line of a piece up
    to which it is Python. Where that is not half of the lines, all of them.
    """
    lines, tree = code.split("\n"), None
    for end in range(len(lines), len(lines) // 2, -1):
        with contextlib.suppress(SyntaxError):
            tree = ast.parse("\n".join(lines[:end]))
            break
    if tree is None:
        return list(range(len(lines) + 1))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    futures = [node.lineno for node in statements if getattr(node, "module", None) == "__future__"]
    first, gaps = max(futures, default=0), {end}
    for node in statements:
        place = min(part.lineno for part in [node, *getattr(node, "decorator_list", [])]) - 1
        is_first_of_line = not lines[place][:node.col_offset].strip()
        if place >= first and is_first_of_line and not lines[place].lstrip().startswith("elif"):
            gaps.add(place)
    return sorted(gaps)


def comment_code(code: str, prose: list[str], share: float, generator: np.random.Generator,
                 gaps: list[int]) -> str:
    """Return code with prose in its `find_gaps`: comments, strings in turn, `share` of all characters."""
    lines = code.split("\n")
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


def comment_rows(data: PackedData, documents: pd.DataFrame, code: str, shares: list[float],
                 n_rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return rows of commented code, a line per language of comments and share of characters.

    Columns: language, percent, rows (at most `n_rows` lists of T ids). `documents` are held-out texts.
    """
    generator, table, context = np.random.default_rng(seed), [], data.rows("validation").shape[1]
    texts = {language: documents.text[documents.language == language] for language in data.languages}
    gaps = {text: find_gaps(text) for text in texts[code]}
    for language in [name for name in data.languages if name != code]:
        prose = [line for text in texts[language] for line in text.split("\n") if len(line) > 40] or ["..."]
        for share in shares:
            commented = [comment_code(text, prose, share, generator, gaps[text]) for text in texts[code]]
            rows = cut_texts(commented, data.tokenizer, context, n_rows)
            table.append((language, 100 * share, rows.tolist()))
    return pd.DataFrame(table, columns=["language", "percent", "rows"])


def read_commented_code(models: dict, data: PackedData, commented: pd.DataFrame, code: str) -> pd.DataFrame:
    """Return how much of `comment_rows`' table is still read as `code`.

    Columns: language (of comments), percent (of characters), classifier, as_code (percent of rows), n_rows.
    """
    table, label = [], data.languages.index(code)
    for language, percent, ids in commented.itertuples(index=False):
        rows = np.array(list(ids), dtype=np.uint16)
        table += [(language, percent, name, as_code, len(rows))
                  for name, as_code in percents_read_as(label, models, rows)]
    return pd.DataFrame(table, columns=["language", "percent", "classifier", "as_code", "n_rows"])


def read_strangers(models: dict, data: PackedData, strangers: pd.DataFrame,
                   n_rows: int = 200, split: str = "validation") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return where texts of unknown languages are sent, and every answer to them and to rows of `split`.

    The first table: classifier, language, n_rows, auroc (chance that a known row has a larger top probability
    than one of these), percent of rows sent to each known language; NaN if no text fills a row. The second,
    for `risk_coverage`: classifier, confidence, is_right. Classifiers without probabilities are left out.
    """
    (rows, labels), sent, answers = sample_rows(data, split, None), [], []
    strange = {language: cut_texts(list(group.text), data.tokenizer, rows.shape[1], n_rows)
               for language, group in strangers.groupby("language", sort=False)}
    for name in [name for name, model in models.items() if hasattr(model, "predict_proba")]:
        known = models[name].predict_proba(rows)
        sure, is_right = known.max(axis=1), known.argmax(axis=1) == labels
        answers += zip([name] * len(sure), sure, is_right, strict=True)
        for language, some in strange.items():
            sent.append({"classifier": name, "language": language, "n_rows": len(some)})
            if len(some):
                odd = models[name].predict_proba(some)
                answers += [(name, confidence, False) for confidence in odd.max(axis=1)]
                shares = 100 * np.bincount(odd.argmax(axis=1), minlength=len(data.languages)) / len(odd)
                is_known = np.repeat([1, 0], [len(known), len(odd)])
                auroc = roc_auc_score(is_known, np.concatenate([sure, odd.max(axis=1)]))
                sent[-1] |= {"auroc": auroc, **dict(zip(data.languages, shares, strict=True))}
    return (pd.DataFrame(sent, columns=["classifier", "language", "n_rows", "auroc", *data.languages]),
            pd.DataFrame(answers, columns=["classifier", "confidence", "is_right"]))


def ask_langid(data: PackedData, split: str = "validation") -> pd.DataFrame:
    """Return how well py3langid, which never saw our tokens, reads decoded rows of `split`: language, f1.

    It chooses among the natural languages that it knows; f1 is NaN for all others.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    outsider = LanguageIdentifier.from_model_file(MODEL_FILE)
    f1 = pd.Series(np.nan, data.languages, name="f1")
    asked = [name for name in data.languages if name in outsider.labels and name not in CODE_LANGUAGES]
    outsider.set_languages(asked)
    rows, labels = sample_rows(data, split, None)
    truth = np.array(data.languages)[labels]
    is_asked = np.isin(truth, asked)
    if is_asked.any():
        texts = data.tokenizer.batch_decode(rows[is_asked], skip_special_tokens=True)
        answers = [outsider.classify(text)[0] for text in texts]
        f1[asked] = f1_score(truth[is_asked], answers, average=None, labels=asked, zero_division=0)
    return f1.rename_axis("language").reset_index()
