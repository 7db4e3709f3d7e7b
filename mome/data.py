"""From documents to packed sequences: align, clean, split by article, drop copies, tokenize, balance by tokens, pack."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, Features, Sequence, Value, load_from_disk
from transformers import PreTrainedTokenizerFast

from mome.artifacts import read_json
from mome.clean import clean, find_copies
from mome.config import CODE_LANGUAGES
from mome.tokenizer import bytes_per_token, encode, equal_text, token_text, train_tokenizer

SPLITS = ("train", "validation", "test")
BALANCE_TRIES = 20


def align(documents: pd.DataFrame) -> pd.DataFrame:
    """Keep the articles that every natural language has; code has no translations and is kept whole.

    Raises ValueError when nothing is common.
    """
    is_code = documents.language.isin(CODE_LANGUAGES)
    natural = documents[~is_code]
    if natural.empty:
        return documents
    shared = natural.groupby("article_id").language.nunique().eq(natural.language.nunique())
    shared = set(shared.index[shared])
    if not shared:
        raise ValueError(f"no article exists in all of: {', '.join(sorted(natural.language.unique()))}; alignment leaves nothing. "
                         "Translations must share their article id, or set common_articles=False")
    return documents[is_code | documents.article_id.isin(shared)].reset_index(drop=True)


def assign_splits(documents: pd.DataFrame, seed: int, validation_fraction: float) -> list[str]:
    """Return the split of each document: by a hash of its article id, so that all its translations share it.

    About `validation_fraction` of the articles go to validation and as many to test. Natural languages share one draw, and
    every code language has its own; a language that got no validation or test article is given the next one by hash.
    """
    pool = documents.language.where(documents.language.isin(CODE_LANGUAGES), "natural")
    keys = list(zip(pool, documents.article_id, strict=True))
    numbers = {key: hash_fraction(f"{seed}:{key[1]}") for key in keys}
    splits = {key: "validation" if number < validation_fraction else "test" if number < 2 * validation_fraction else "train"
              for key, number in numbers.items()}
    for _, rows in documents.reset_index(drop=True).groupby("language"):
        own = sorted((keys[row] for row in rows.index), key=lambda key: (numbers[key], key))
        for split in ("validation", "test"):
            if split not in {splits[key] for key in own}:
                splits.update({key: split for key in [key for key in own if splits[key] == "train"][:1]})
    return [splits[key] for key in keys]


def hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def token_weights(available: dict[str, int], shares: str | dict) -> dict[str, float]:
    """Return each language's tokens as a part of the largest one's, in (0, 1].

    equal: 1 for all. imbalanced: as much as was found of each. A mapping: in its proportions.
    """
    parts = dict.fromkeys(available, 1) if shares == "equal" else available if shares == "imbalanced" else shares
    return {language: parts[language] / max(parts.values()) for language in available}


def balance(n_tokens: pd.DataFrame, budget: int, max_diff_percent: float, seed: int, at_least_one: bool = False, shares: str | dict = "equal") -> np.ndarray:
    """Return a boolean mask over the rows of `n_tokens` (language, article_id, n_tokens): the documents to keep, whole.

    Every language walks the same seeded order of articles and takes each that still fits its target; a language that is
    full drops nothing of another. The largest target is `budget`, or as much as every language can follow with its share.
    With `at_least_one` the first document is taken even when it is longer. Raises ValueError when the totals, each divided
    by its language's share, then differ by more than `max_diff_percent` of the largest.
    """
    available = {language: int(total) for language, total in n_tokens.groupby("language", sort=False).n_tokens.sum().items()}
    weights = token_weights(available, shares)
    target = min(budget, *(int(available[language] / weight + 1e-6) for language, weight in weights.items()))
    order = n_tokens.article_id.map(lambda name: hashlib.sha256(f"order:{seed}:{name}".encode()).hexdigest()).to_numpy().argsort(kind="stable")
    languages, sizes, failures = n_tokens.language.to_numpy(), n_tokens.n_tokens.to_numpy(), []
    for _ in range(BALANCE_TRIES):
        keep, totals = np.zeros(len(n_tokens), dtype=bool), dict.fromkeys(available, 0)
        for row in order:
            language, size = languages[row], int(sizes[row])
            if totals[language] + size <= target * weights[language] + 1e-6 or (at_least_one and not totals[language]):
                totals[language] += size
                keep[row] = True
        weighted = {language: total / weights[language] for language, total in totals.items()}
        failures.append((largest_difference(weighted), totals))
        if failures[-1][0] <= max_diff_percent:
            return keep
        # No document of some language is short enough for the rest of its target: what it has becomes the target of all.
        target = min(weighted.values())
        if target == 0:
            break
    difference, totals = min(failures, key=lambda failure: failure[0])
    raise ValueError(f"max_diff_percent={max_diff_percent:g} cannot be reached: the languages differ by {difference:.1f} % ({totals} tokens); "
                     "give more text or allow more")


def largest_difference(totals: dict[str, float]) -> float:
    """Return how much the smallest total lacks of the largest, in percent of the largest."""
    return 100 * (max(totals.values()) - min(totals.values())) / max(1, *totals.values())


def pack(ids: list[np.ndarray], article_ids: list[str], context: int) -> tuple[np.ndarray, list[str]]:
    """Return rows (N, T) uint16 of the documents laid end to end and, for each row, the article in which it begins.

    The last, unfilled row is left out.
    """
    flat = np.concatenate(ids).astype(np.uint16) if ids else np.zeros(0, dtype=np.uint16)
    n_rows = len(flat) // context
    ends = np.cumsum([len(row) for row in ids])
    begins = np.searchsorted(ends, np.arange(n_rows) * context, side="right")
    return flat[:n_rows * context].reshape(n_rows, context), [article_ids[index] for index in begins]


def select_documents(documents: pd.DataFrame, *, common_articles: bool, validation_fraction: float, near_duplicates: float,
                     seed: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the documents that training and evaluation may use, with their `split`, and tables of what happened.

    `steps`: articles and characters of each language after each step. `removed`: the counts of `clean.clean`. `copies`:
    the near duplicates of `clean.find_copies`, all dropped.
    """
    steps, languages = [], list(dict.fromkeys(documents.language))

    def note(step: str, table: pd.DataFrame) -> pd.DataFrame:
        for language in languages:
            texts = table.text[table.language == language]
            steps.append({"step": step, "language": language, "articles": len(texts), "characters": int(texts.str.len().sum())})
        return table

    keep_common = align if common_articles else lambda table: table.reset_index(drop=True)
    aligned = note("aligned", keep_common(note("read", documents)))
    cleaned, removed = clean(aligned)
    cleaned = note("cleaned", keep_common(cleaned))  # an article of repeated lines only may have vanished from one language
    cleaned["split"] = assign_splits(cleaned, seed, validation_fraction)
    copies = find_copies(cleaned, near_duplicates)
    # What is dropped of an article in one language goes in all, where the articles are to be common.
    selected = note("copies dropped", keep_common(cleaned.drop(index=copies.row)))
    return selected, {"steps": pd.DataFrame(steps), "removed": removed, "copies": copies}


def build_dataset(documents: pd.DataFrame, folder: Path, *, vocab_size: int, context: int, tokens_per_language: int, max_diff_percent: float,
                  validation_fraction: float, seed: int, common_articles: bool = True, near_duplicates: float = 0.5, shares: str | dict = "equal",
                  tokenizer: PreTrainedTokenizerFast | None = None) -> dict:
    """Write `dataset/`, `tokenizer/`, `documents.parquet` and the tables of what was done under `folder`; return notes for the manifest.

    A `tokenizer` that is given is kept as it is, for text that models of another data set are to read. Raises ValueError when
    a language is left without text in a split, when the text does not support the vocabulary, or when the balance cannot be
    reached.
    """
    languages = list(dict.fromkeys(documents.language))
    table, tables = select_documents(documents, common_articles=common_articles, validation_fraction=validation_fraction,
                                     near_duplicates=near_duplicates, seed=seed)
    for language in languages:
        for split in SPLITS:
            if not ((table.language == language) & (table.split == split)).any():
                raise ValueError(f"language {language!r} has no {split} article; give more text (validation_fraction={validation_fraction})")
    tokenizer = tokenizer or train_tokenizer(vocabulary_text(table, seed), vocab_size)
    ids = pd.Series(encode(table, tokenizer), index=table.index)
    table["n_tokens"], table["n_bytes"], table["kept"] = ids.map(len), table.text.map(lambda text: len(text.encode())), False
    splits = {}
    for split in SPLITS:
        part = table[table.split == split]
        # Held-out articles are few and differ in length: they are capped alike, but only train must meet bound and shares.
        is_train = split == "train"
        keep = balance(part, tokens_per_language, max_diff_percent if is_train else 100, seed, not is_train, shares if is_train else "equal")
        table.loc[part.index[keep], "kept"] = True
        splits[split] = pack_split(part[keep], ids, languages, context)
        for language in languages:
            if language not in splits[split]["language"]:
                raise ValueError(f"language {language!r} has less than context={context} tokens in {split}; give more text or a smaller context")
    DatasetDict(splits).save_to_disk(folder / "dataset")
    tokenizer.save_pretrained(folder / "tokenizer")
    table.to_parquet(folder / "documents.parquet", compression="zstd")
    for name, counted in tables.items():
        counted.to_parquet(folder / f"{name}.parquet")
    tokens = table[table.kept].groupby(["split", "language"]).n_tokens.sum()
    return {"languages": languages, "sha256": fingerprint(splits, tokenizer), "articles": int(table.article_id.nunique()), "copies": len(tables["copies"]),
            "tokens": {split: {language: int(tokens[split, language]) for language in languages} for split in splits},
            "rows": {split: len(dataset) for split, dataset in splits.items()}}


def vocabulary_text(table: pd.DataFrame, seed: int):
    """Return the training texts that the vocabulary is learned from: equal characters of each language, or the one with most text would own it."""
    train = table[table.split == "train"]
    return equal_text(train, int(train.groupby("language").text.apply(lambda texts: texts.str.len().sum()).min()), seed)


def fingerprint(splits: dict[str, Dataset], tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the SHA-256 of all rows (split, language, article, tokens) and of the vocabulary: equal hashes are equal data sets."""
    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
    for name, dataset in splits.items():
        for column in (dataset["language"], dataset["article_id"]):
            digest.update("\0".join([name, *column]).encode())
        digest.update(token_rows(dataset).tobytes())
    return digest.hexdigest()


def token_rows(dataset: Dataset) -> np.ndarray:
    """Return the (N, T) uint16 token ids of a split."""
    return dataset.data.column("input_ids").combine_chunks().flatten().to_numpy().reshape(len(dataset), -1)


def pack_split(part: pd.DataFrame, ids: pd.Series, languages: list[str], context: int) -> Dataset:
    """Return a Dataset with `language`, `article_id`, `input_ids` (T,), languages in order."""
    columns = {"language": [], "article_id": [], "input_ids": []}
    for language in languages:
        group = part[part.language == language]
        rows, article_ids = pack(list(ids[group.index]), list(group.article_id), context)
        columns["language"] += [language] * len(rows)
        columns["article_id"] += article_ids
        columns["input_ids"] += list(rows)
    features = Features({"language": Value("string"), "article_id": Value("string"), "input_ids": Sequence(Value("uint16"), length=context)})
    return Dataset.from_dict(columns, features=features)


def check_dataset_folder(folder: Path) -> None:
    """Raise ValueError when a saved data set names files outside its own folder."""
    for state in folder.glob("*/state.json"):
        try:
            names = [file["filename"] for file in read_json(state)["_data_files"]]
        except (KeyError, TypeError):
            raise ValueError(f"{state} is damaged; delete its artefact to build it again") from None
        for name in names:
            if Path(name).name != name:
                raise ValueError(f"{state} names the file {name!r}, which is not beside it; delete its artefact to build it again")


class PackedData:
    """A data artefact opened for training: token rows per split, the tokenizer, and which row is of which language."""

    def __init__(self, path: Path):
        self.path = Path(path)
        check_dataset_folder(self.path / "dataset")
        self.dataset = load_from_disk(self.path / "dataset")
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.path / "tokenizer")
        self.token_bytes = bytes_per_token(self.tokenizer)
        names = {split: self.dataset[split].data.column("language").to_pandas() for split in self.dataset}  # by column: row by row takes a second
        self.languages = list(names["train"].unique())
        self._rows: dict[str, np.ndarray] = {}
        self._language_index = {split: pd.Index(self.languages).get_indexer(column) for split, column in names.items()}

    def rows(self, split: str) -> np.ndarray:
        """Return (N, T) uint16 token ids of a split, read once."""
        if split not in self._rows:
            self._rows[split] = token_rows(self.dataset[split])
        return self._rows[split]

    def language_index(self, split: str) -> np.ndarray:
        """Return (N,) the position in `languages` of each row's language."""
        return self._language_index[split]

    def row_numbers(self, split: str, language: str, at_most: int | None = None) -> np.ndarray:
        """Return the numbers of a language's rows, at most so many, evenly spread over the split."""
        numbers = np.flatnonzero(self.language_index(split) == self.languages.index(language))
        if at_most is None or len(numbers) <= at_most:
            return numbers
        return numbers[np.linspace(0, len(numbers) - 1, at_most).astype(int)]


def unigram_nats(data: PackedData, split: str = "validation") -> dict[str, float]:
    """Return, per language, nats per token of that language's own add-one unigram model: the bound any model must beat."""
    result = {}
    for language in data.languages:
        counts = np.bincount(data.rows("train")[data.row_numbers("train", language)].ravel(), minlength=len(data.tokenizer)) + 1
        log_probs = np.log(counts / counts.sum())
        # The first token of a row is never a target.
        targets = data.rows(split)[data.row_numbers(split, language)][:, 1:]
        result[language] = float(-log_probs[targets].mean())
    return result


def token_counts(data: PackedData) -> np.ndarray:
    """Return (E, V) how often each language's training rows hold each token."""
    return np.stack([np.bincount(data.rows("train")[data.row_numbers("train", language)].ravel(), minlength=len(data.tokenizer))
                     for language in data.languages])


def vocabulary_overlap(data: PackedData, smallest_share: float = 1e-5) -> pd.DataFrame:
    """Return (E, E) Jaccard overlap of the tokens that make up at least `smallest_share` of each language's text."""
    used = [set(np.flatnonzero(counts / counts.sum() >= smallest_share)) for counts in token_counts(data)]
    values = [[len(a & b) / len(a | b) for b in used] for a in used]
    return pd.DataFrame(values, index=data.languages, columns=data.languages)


def vocabulary_use(data: PackedData, smallest_share: float = 1e-5) -> pd.DataFrame:
    """Return, per language, how much of its vocabulary is its own.

    Columns: language, used (tokens that make up at least `smallest_share` of its text), own_types and common_types (the
    shares of those that no other language uses, and that all use), own_tokens and common_tokens (the same, weighed by use).
    """
    counts = token_counts(data)
    is_used = counts >= smallest_share * counts.sum(axis=1, keepdims=True)
    n_users, rows = is_used.sum(axis=0), []
    for language, used, count in zip(data.languages, is_used, counts, strict=True):
        own, common = used & (n_users == 1), used & (n_users == len(counts))
        rows.append({"language": language, "used": int(used.sum()), "own_types": own.sum() / used.sum(), "common_types": common.sum() / used.sum(),
                     "own_tokens": count[own].sum() / count.sum(), "common_tokens": count[common].sum() / count.sum()})
    return pd.DataFrame(rows)


def most_common_tokens(data: PackedData, language: str, n: int) -> list[str]:
    counts = Counter(data.rows("train")[data.row_numbers("train", language)].ravel().tolist())
    return [token_text(data.tokenizer, token) for token, _ in counts.most_common(n)]
