"""From documents to packed sequences: align, clean, split, drop copies, tokenize, balance by tokens, pack."""

import bisect
import hashlib
import re
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, Features, Sequence, Value, load_from_disk
from transformers import PreTrainedTokenizerFast

from mome.data import SPLITS
from mome.data.clean import clean_documents
from mome.data.copies import find_copies
from mome.data.ids import PLAIN, hash_tokenizer
from mome.data.tokenizer import bytes_per_token, encode, equal_text, train_tokenizer
from mome.languages import CODE_LANGUAGES
from mome.progress import track
from mome.store import hash_text, read_json

BALANCE_TRIES = 20


def align(documents: pd.DataFrame) -> pd.DataFrame:
    """Keep the articles that every natural language has, and all code; ValueError when nothing is common."""
    is_code = documents.language.isin(CODE_LANGUAGES)
    names = sorted(set(documents.language[~is_code]))
    n_languages = documents[~is_code].groupby("article_id").language.nunique()
    is_shared = documents.article_id.isin(n_languages.index[n_languages == len(names)])
    if names and not is_shared.any():
        raise ValueError(f"no article exists in all of: {', '.join(names)}; alignment leaves nothing. "
                         "Translations must share their article id, or set common_articles=False")
    return documents[is_code | is_shared].reset_index(drop=True)


def assign_splits(documents: pd.DataFrame, seed: int, validation_fraction: float,
                  test_fraction: float) -> list[str]:
    """Return each document's split, by a hash of its id; natural languages share a draw, code has its own."""
    pool = documents.language.where(documents.language.isin(CODE_LANGUAGES), "natural")
    keys = list(zip(pool, documents.article_id, strict=True))
    numbers = {key: hash_fraction(f"{seed}:{key[1]}") for key in keys}
    cut, end = validation_fraction, validation_fraction + test_fraction
    splits = {key: "validation" if number < cut else "test" if number < end else "train"
              for key, number in numbers.items()}
    groups = pd.Series(keys).groupby(documents.language.to_numpy())
    for (_, own), split in product(groups, ("validation", "test")):
        if split not in map(splits.get, own):
            free = sorted((numbers[key], key) for key in own if splits[key] == "train")  # the next one
            splits.update({key: split for _, key in free[:1]})
    return [splits[key] for key in keys]


def hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on the text only."""
    return int(hash_text(text)[:16], 16) / 2**64


def token_weights(available: dict[str, int], shares) -> dict[str, float]:
    """Return each language's part of the largest one's tokens, in (0, 1]: 1, as found, or as given."""
    named = {"equal": dict.fromkeys(available, 1), "imbalanced": available}
    parts = named[shares] if isinstance(shares, str) else dict(shares)
    return {language: parts[language] / max(parts.values()) for language in available}


def balance(n_tokens: pd.DataFrame, budget: int, max_diff_percent: float, seed: int,
            at_least_one: bool = False, shares="equal") -> np.ndarray:
    """Return a mask over the rows of `n_tokens` (language, article_id, n_tokens): whole documents to keep.

    Every language walks the same seeded order and takes what still fits its target (`at_least_one`: the first
    in any case), of `budget` or what all can follow, times its share. Raises ValueError when the totals over
    the shares then differ by more than `max_diff_percent` of the largest.
    """
    available = n_tokens.groupby("language", sort=False).n_tokens.sum().to_dict()
    weights, failures = token_weights(available, shares), []
    target = min(budget, *(int(available[language] / weight + 1e-6) for language, weight in weights.items()))
    order = np.argsort([hash_text(f"order:{seed}:{name}") for name in n_tokens.article_id], kind="stable")
    rows = list(zip(order, n_tokens.language.iloc[order], n_tokens.n_tokens.iloc[order], strict=True))
    while target and len(failures) < BALANCE_TRIES:
        keep, totals = np.zeros(len(n_tokens), dtype=bool), dict.fromkeys(available, 0)
        for row, language, size in rows:
            total = totals[language] + size
            if total <= target * weights[language] + 1e-6 or (at_least_one and not totals[language]):
                keep[row], totals[language] = True, total
        weighted = {language: total / weights[language] for language, total in totals.items()}
        failures.append((largest_difference(weighted), totals))
        if failures[-1][0] <= max_diff_percent:
            return keep
        target = min(weighted.values())  # what the one that came short has becomes the target of all
    difference, totals = min(failures, key=lambda failure: failure[0])
    raise ValueError(f"max_diff_percent={max_diff_percent:g} cannot be reached: the languages differ by "
                     f"{difference:.1f} % ({totals} tokens); give more text or allow more")


def largest_difference(totals: dict[str, float]) -> float:
    """Return how much the smallest total lacks of the largest, in percent of the largest."""
    return 100 * (max(totals.values()) - min(totals.values())) / max(1, *totals.values())


def pack(ids: list[np.ndarray], article_ids: list[str], context: int) -> tuple[np.ndarray, list[str]]:
    """Return rows (N, T) uint16 of the documents end to end, all full, and the article each begins in."""
    flat = np.concatenate([np.zeros(0, dtype=np.uint16), *ids]).astype(np.uint16)
    n_rows, ends = len(flat) // context, np.cumsum([len(row) for row in ids])
    begins = np.searchsorted(ends, np.arange(n_rows) * context, side="right")
    return flat[:n_rows * context].reshape(n_rows, context), [article_ids[index] for index in begins]


def select_documents(documents: pd.DataFrame, *, common_articles: bool, validation_fraction: float,
                     test_fraction: float, near_duplicates: float,
                     split_seed: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return documents to use, with `split`, and {steps, removed, copies}; ValueError for an empty split."""
    languages = list(dict.fromkeys(documents.language))
    keep_common = align if common_articles else lambda table: table.reset_index(drop=True)
    aligned = keep_common(documents)
    cleaned, removed = clean_documents(aligned)
    cleaned = keep_common(cleaned)  # one language may have lost an article of repeated lines
    cleaned["split"] = assign_splits(cleaned, split_seed, validation_fraction, test_fraction)
    copies = find_copies(cleaned, near_duplicates)
    selected = keep_common(cleaned.drop(index=copies.row))  # what one language drops goes in all, if common
    stages = {"read": documents, "aligned": aligned, "cleaned": cleaned, "copies dropped": selected}
    texts = {(step, name): stages[step].text[stages[step].language == name]
             for step, name in product(stages, languages)}
    steps = pd.DataFrame([(*key, len(part), int(part.str.len().sum())) for key, part in texts.items()],
                         columns=["step", "language", "articles", "characters"])
    for language, split in product(languages, SPLITS):
        if not ((selected.language == language) & (selected.split == split)).any():
            counts = {step: len(texts[step, language]) for step in stages}
            raise ValueError(explain_lack(language, split, counts, removed) +
                             f" ({validation_fraction=}, {test_fraction=})")
    return selected, {"steps": steps, "removed": removed, "copies": copies}


def explain_lack(language: str, split: str, counts: dict[str, int], removed: pd.DataFrame) -> str:
    """Return why a language has none in a split, from {step: its articles} and what cleaning removed."""
    story = ", ".join(f"{step} {count}" for step, count in counts.items())
    lines = removed.set_index("language").untranslated_lines.get(language, 0)
    if counts["read"] < len(SPLITS):
        hint = (f"train, validation and test need one each, and it has {counts['read']} in all; give one "
                "file an article, or one file a language in which line n is article n")
    elif lines and not counts["cleaned"]:
        hint = f"all its text, {lines} lines, stands in another language, too; give translations, not copies"
    else:
        hint = "give more text, an article of lines of its own for each split"
    return f"language {language!r} has no {split} article ({story}): {hint}"


def build_dataset(documents: pd.DataFrame, folder: Path, *, vocab_size: int, context: int,
                  tokens_per_language: int, max_diff_percent: float, validation_fraction: float,
                  test_fraction: float, held_out_tokens: int, split_seed: int, common_articles: bool = True,
                  near_duplicates: float = 0.5, shares="equal",
                  tokenizer: PreTrainedTokenizerFast | None = None) -> dict:
    """Write dataset/, tokenizer/, documents.parquet, steps, removed and copies of it; return notes.

    Of a held-out article with more than `held_out_tokens` a piece is kept (`cut_pieces`): many articles tell
    more than a few long ones. A `tokenizer` is given where models of another data set are to read the text.
    Raises ValueError for a split without text of a language, a vocabulary that the text does not support, a
    balance out of reach.
    """
    languages = list(dict.fromkeys(documents.language))
    table, tables = select_documents(documents, common_articles=common_articles, split_seed=split_seed,
                                     validation_fraction=validation_fraction, test_fraction=test_fraction,
                                     near_duplicates=near_duplicates)
    if tokenizer is None:  # of equal characters of each language, or the one with most text would own it
        train = table[table.split == "train"]
        smallest = train.text.str.len().groupby(train.language).sum().min()
        tokenizer = train_tokenizer(equal_text(train, int(smallest), split_seed), vocab_size)
    table["text"] = cut_pieces(table, tokenizer, held_out_tokens, split_seed)
    ids = pd.Series(encode(table, tokenizer), index=table.index)
    table["n_tokens"], table["n_bytes"] = ids.map(len), table.text.map(lambda text: len(text.encode()))
    table["kept"], splits = False, {}
    for split in SPLITS:
        part = table[table.split == split]
        bound, parts = (max_diff_percent, shares) if split == "train" else (100, "equal")  # few are held out
        keep = balance(part, tokens_per_language, bound, split_seed, split != "train", parts)
        table.loc[part.index[keep], "kept"] = True
        splits[split] = pack_split(part[keep], ids, languages, context)
        for language in sorted(set(languages) - set(splits[split].unique("language"))):
            raise ValueError(f"language {language!r} has less than context={context} tokens in {split}; give "
                             "more text or a smaller context")
    DatasetDict(splits).save_to_disk(folder / "dataset")
    tokenizer.save_pretrained(folder / "tokenizer")
    for name, counted in {"documents": table, **tables}.items():
        counted.to_parquet(folder / f"{name}.parquet", compression="zstd")
    tokens = table[table.kept].groupby(["split", "language"]).n_tokens.sum()
    return {"languages": languages, "sha256": fingerprint(splits, tokenizer),
            "token_sha256": hash_tokenizer(tokenizer), "articles": table.article_id.nunique(),
            "copies": len(tables["copies"]), "rows": {split: len(rows) for split, rows in splits.items()},
            "tokens": {split: {name: int(tokens[split, name]) for name in languages} for split in splits}}


def cut_pieces(documents: pd.DataFrame, tokenizer: PreTrainedTokenizerFast, at_most: int,
               seed: int) -> list[str]:
    """Return each document's text, of a long held-out one the piece that `cut_piece` takes.

    Seed and article id draw the place: about the same one in all translations.
    """
    is_held_out = documents.split != "train"
    rows = list(zip(documents.text, documents.article_id, is_held_out, strict=True))
    return [cut_piece(text, hash_fraction(f"piece:{seed}:{name}"), tokenizer, at_most) if held_out else text
            for text, name, held_out in track(rows, "cut held-out articles", len(rows))]


def cut_piece(text: str, place: float, tokenizer: PreTrainedTokenizerFast, at_most: int) -> str:
    """Return a text, or of one with more than `at_most` tokens, `<s>` and `</s>` among them, whole lines.

    It begins at the last line without indentation, as a statement does, before a `place` in [0, 1] between
    the text's beginning and its last `at_most` tokens. Where no line fits, it is cut within one.
    """
    starts = [start for start, _ in tokenizer(text, return_offsets_mapping=True, **PLAIN)["offset_mapping"]]
    room = at_most - 2
    if len(starts) <= room:
        return text
    drawn = starts[int(place * (len(starts) - room))]
    begin = max(found.end() for found in re.finditer(r"^|\n(?=\S)", text[:drawn + 1]))
    piece = text[begin:[*starts, len(text)][bisect.bisect_left(starts, begin) + room]]
    return piece[:piece.rfind("\n")] if "\n" in piece else piece


def fingerprint(splits: dict[str, Dataset], tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the SHA-256 of all rows (split, language, article, tokens) and of the vocabulary."""
    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
    for name, rows in splits.items():
        texts = ("\0".join([name, *rows[column][:]]) for column in ("language", "article_id"))
        digest.update("".join(texts).encode() + token_rows(rows).tobytes())
    return digest.hexdigest()


def token_rows(dataset: Dataset) -> np.ndarray:
    """Return the (N, T) uint16 token ids of a split."""
    return dataset.data.column("input_ids").combine_chunks().flatten().to_numpy().reshape(len(dataset), -1)


def pack_split(part: pd.DataFrame, ids: pd.Series, languages: list[str], context: int) -> Dataset:
    """Return a Dataset with `language`, `article_id`, `input_ids` (T,), languages in order."""
    groups = [part[part.language == language] for language in languages]
    packed = [pack(list(ids[group.index]), list(group.article_id), context) for group in groups]
    columns = {"language": np.repeat(languages, [len(rows) for rows, _ in packed]).tolist(),
               "article_id": [name for _, names in packed for name in names],
               "input_ids": [row for rows, _ in packed for row in rows]}
    text, tokens = Value("string"), Sequence(Value("uint16"), length=context)
    return Dataset.from_dict(columns, Features(language=text, article_id=text, input_ids=tokens))


class PackedData:
    """A built data set opened: rows of tokens per split, the tokenizer, each row's language and article."""

    def __init__(self, path: Path):
        self.path = Path(path)
        for state in self.path.glob("dataset/*/state.json"):
            names = [str(file["filename"]) for file in read_json(state)["_data_files"]]
            if any(Path(name).name != name for name in names):
                raise ValueError(f"{state} names {names}, not files beside it; delete {path} to rebuild it")
        self.dataset = load_from_disk(self.path / "dataset")
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.path / "tokenizer")
        self.token_bytes = bytes_per_token(self.tokenizer)
        names = {split: rows["language"][:] for split, rows in self.dataset.items()}  # row by row is slow
        self.languages = list(dict.fromkeys(names["train"]))
        self._language_index = {split: pd.Index(self.languages).get_indexer(names[split]) for split in names}
        self._rows = cache(lambda split: token_rows(self.dataset[split]))
        self._article_ids = cache(lambda split: np.array(self.dataset[split]["article_id"][:], dtype=object))

    def rows(self, split: str) -> np.ndarray:
        """Return (N, T) uint16 token ids of a split, read once."""
        return self._rows(split)

    def article_ids(self, split: str) -> np.ndarray:
        """Return (N,) texts, dtype object: the article in which each row begins, read once."""
        return self._article_ids(split)

    def language_index(self, split: str) -> np.ndarray:
        """Return (N,) the position in `languages` of each row's language."""
        return self._language_index[split]

    def row_numbers(self, split: str, language: str, at_most: int | None = None) -> np.ndarray:
        """Return the numbers of a language's rows, at most so many, evenly spread over the split."""
        numbers = np.flatnonzero(self.language_index(split) == self.languages.index(language))
        if at_most is None or len(numbers) <= at_most:
            return numbers
        return numbers[np.linspace(0, len(numbers) - 1, at_most).astype(int)]
