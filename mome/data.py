"""From documents to packed sequences: align, clean, split by article, balance by tokens, tokenize, pack."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, Features, Sequence, Value, load_from_disk
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mome.artifacts import track
from mome.config import CODE_LANGUAGES

# A text that spells out "</s>" holds four characters, not the end of a document.
PLAIN = {"add_special_tokens": False, "return_attention_mask": False, "split_special_tokens": True}
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}  # ids 0, 1, 2: pad is not eos


def align(documents: pd.DataFrame) -> pd.DataFrame:
    """Keep the articles that every natural language has; code has no translations and is kept whole.

    Raises ValueError when two documents share a language and an article id, or when nothing is common.
    """
    repeated = documents[documents.duplicated(["language", "article_id"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise ValueError(f"article_id={row.article_id!r} stands more than once in language {row.language!r}; ids must be unique")
    is_code = documents.language.isin(CODE_LANGUAGES)
    natural = documents[~is_code]
    if natural.empty:
        return documents
    shared = natural.groupby("article_id").language.nunique().eq(natural.language.nunique())
    shared = set(shared.index[shared])
    if not shared:
        raise ValueError(f"no article exists in all of: {', '.join(sorted(natural.language.unique()))}; alignment leaves nothing")
    return documents[is_code | documents.article_id.isin(shared)].reset_index(drop=True)


def clean(documents: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (cleaned documents, counts per language of what was removed).

    In natural languages a line that stood before, in any article, is dropped: menus, notes and transcluded paragraphs
    would otherwise stand in train and validation alike. So is a line that stands in several languages word for word: it
    was never translated, and its language is not that of its article. In code, where equal lines are syntax, whole equal
    files go.
    """
    untranslated = shared_lines(documents)
    kept, counts = [], []
    for language, group in documents.groupby("language", sort=False):
        group = group.sort_values("article_id")
        row = {"language": language, "articles_before": len(group), "characters_before": int(group.text.str.len().sum()),
               "repeated_lines": 0, "untranslated_lines": 0}
        if language in CODE_LANGUAGES:
            cleaned = group.drop_duplicates("text")
        else:
            cleaned, row["repeated_lines"], row["untranslated_lines"] = drop_lines(group, untranslated)
        kept.append(cleaned)
        counts.append(row | {"articles_after": len(cleaned), "characters_after": int(cleaned.text.str.len().sum())})
    return pd.concat(kept, ignore_index=True), pd.DataFrame(counts)


def shared_lines(documents: pd.DataFrame) -> set[str]:
    """Return the lines that stand in two natural languages or more."""
    natural = documents[~documents.language.isin(CODE_LANGUAGES)]
    distinct = [{line for text in group.text for line in text.split("\n")} for _, group in natural.groupby("language")]
    return {line for line, count in Counter(line for lines in distinct for line in lines).items() if count > 1}


def drop_lines(group: pd.DataFrame, untranslated: set[str]) -> tuple[pd.DataFrame, int, int]:
    """Return one language's documents without repeated and untranslated lines, and how many of each went."""
    seen, texts, repeated, foreign = set(), [], 0, 0
    for text in group.text:
        lines = [line for line in text.split("\n") if line.strip()]
        fresh = [line for line in dict.fromkeys(lines) if line not in seen]
        seen.update(fresh)
        own = [line for line in fresh if line not in untranslated]
        repeated, foreign = repeated + len(lines) - len(fresh), foreign + len(fresh) - len(own)
        texts.append("\n".join(own))
    group = group.assign(text=texts)
    return group[group.text.str.strip() != ""], repeated, foreign


def assign_splits(documents: pd.DataFrame, seed: int, validation_fraction: float) -> list[str]:
    """Return the split of each document: by a hash of its article id, so that all its translations share it.

    About `validation_fraction` of the articles go to validation and as many to test, at least one each, of the natural
    languages together and of every code language apart.
    """
    pool = documents.language.where(documents.language.isin(CODE_LANGUAGES), "natural")
    splits: dict[tuple[str, str], str] = {}
    for name, article_ids in documents.article_id.groupby(pool):
        numbers = sorted((hash_fraction(f"{seed}:{article_id}"), article_id) for article_id in set(article_ids))
        n_validation = max(1, sum(number < validation_fraction for number, _ in numbers))
        n_test = max(1, sum(validation_fraction <= number < 2 * validation_fraction for number, _ in numbers))
        for place, (_, article_id) in enumerate(numbers):
            splits[name, article_id] = "validation" if place < n_validation else "test" if place < n_validation + n_test else "train"
    return [splits[key] for key in zip(pool, documents.article_id, strict=True)]


def hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def train_tokenizer(texts, vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`; every text round-trips, no unknown token is needed.

    Raises ValueError when the texts support fewer than `vocab_size` entries.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()),
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise ValueError(f"vocab_size={vocab_size} is larger than the text supports; at most {tokenizer.get_vocab_size()} here")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def bytes_per_token(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return (V,) int64: how many bytes of text each token stands for; 0 for special tokens."""
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # In byte-level BPE one character of a piece is one byte of text.
    return np.array([0 if piece in tokenizer.all_special_tokens else len(piece) for piece in pieces])


def encode(documents: pd.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Return the ids of every document as `<s> text </s>`."""
    bos, eos, texts, ids = tokenizer.bos_token_id, tokenizer.eos_token_id, list(documents.text), []
    for start in track(range(0, len(texts), 256), "tokenize", len(range(0, len(texts), 256))):
        ids += [[bos, *row, eos] for row in tokenizer(texts[start:start + 256], **PLAIN)["input_ids"]]
    return ids


def balance(n_tokens: pd.DataFrame, budget: int, max_diff_percent: float, seed: int, at_least_one: bool = False) -> np.ndarray:
    """Return a boolean mask over the rows of `n_tokens` (language, article_id, n_tokens): the documents to keep, whole.

    Every language walks the same seeded order of articles and takes each that still fits its budget, which is `budget` or
    what the poorest language has; a language that is full drops nothing of another. With `at_least_one` the first document
    is taken even when it is longer. Raises ValueError when the totals then differ by more than `max_diff_percent` of the
    largest.
    """
    target = min(budget, int(n_tokens.groupby("language").n_tokens.sum().min()))
    order = n_tokens.article_id.map(lambda name: hashlib.sha256(f"order:{seed}:{name}".encode()).hexdigest()).to_numpy().argsort(kind="stable")
    keep, totals = np.zeros(len(n_tokens), dtype=bool), dict.fromkeys(n_tokens.language, 0)
    for row, language, size in zip(order, n_tokens.language.to_numpy()[order], n_tokens.n_tokens.to_numpy()[order], strict=True):
        if totals[language] + size <= target or (at_least_one and not totals[language]):
            totals[language] += int(size)
            keep[row] = True
    largest = max(totals.values())
    difference = 100 * (largest - min(totals.values())) / max(1, largest)
    if difference > max_diff_percent:
        raise ValueError(f"max_diff_percent={max_diff_percent:g} cannot be reached: the languages differ by {difference:.1f} % ({totals} tokens); "
                         "give more text or allow more")
    return keep


def pack(ids: list[list[int]], article_ids: list[str], context: int) -> tuple[np.ndarray, list[str]]:
    """Return rows (N, T) of the documents laid end to end and, for each row, the article in which it begins.

    The last, unfilled row is left out.
    """
    flat = np.fromiter((token for row in ids for token in row), dtype=np.uint16)
    n_rows = len(flat) // context
    ends = np.cumsum([len(row) for row in ids])
    begins = np.searchsorted(ends, np.arange(n_rows) * context, side="right")
    return flat[:n_rows * context].reshape(n_rows, context), [article_ids[index] for index in begins]


def build_dataset(documents: pd.DataFrame, folder: Path, *, vocab_size: int, context: int, tokens_per_language: int, max_diff_percent: float,
                  validation_fraction: float, seed: int) -> dict:
    """Write `dataset/`, `tokenizer/` and the tables of what was done under `folder`; return the counts for the manifest."""
    aligned = align(documents)
    cleaned, removed = clean(aligned)
    cleaned = align(cleaned)  # an article of repeated lines only may have vanished from one language
    cleaned["split"] = assign_splits(cleaned, seed, validation_fraction)
    train = cleaned[cleaned.split == "train"]
    languages = list(dict.fromkeys(documents.language))
    for language in languages:
        for split in ("train", "validation", "test"):
            if not ((cleaned.language == language) & (cleaned.split == split)).any():
                raise ValueError(f"language {language!r} has no {split} article; give more text or raise validation_fraction={validation_fraction}")

    # Equal characters of each language, or the one with most text would own the vocabulary.
    share = int(train.groupby("language").text.apply(lambda texts: texts.str.len().sum()).min())
    tokenizer = train_tokenizer(equal_text(train, share, seed), vocab_size)
    cleaned["ids"] = encode(cleaned, tokenizer)
    cleaned["n_tokens"] = cleaned.ids.str.len()
    splits, kept = {}, []
    for split in ("train", "validation", "test"):
        part = cleaned[cleaned.split == split]
        # Held-out articles are few and differ in length: they are capped alike, but only train must meet the bound.
        bound, at_least_one = (max_diff_percent, False) if split == "train" else (100, True)
        part = part[balance(part, tokens_per_language, bound, seed, at_least_one)]
        kept.append(part)
        splits[split] = pack_split(part, languages, context)
        for language in languages:
            if language not in splits[split]["language"]:
                raise ValueError(f"language {language!r} has less than context={context} tokens in {split}; give more text or a smaller context")
    DatasetDict(splits).save_to_disk(folder / "dataset")
    tokenizer.save_pretrained(folder / "tokenizer")
    lengths = cleaned.assign(n_bytes=cleaned.text.map(lambda text: len(text.encode())), kept=cleaned.index.isin(pd.concat(kept).index))
    lengths[["language", "article_id", "split", "n_tokens", "n_bytes", "kept"]].to_parquet(folder / "articles.parquet")
    removed.to_parquet(folder / "removed.parquet")
    tokens = lengths[lengths.kept].groupby(["split", "language"]).n_tokens.sum()
    return {"languages": languages, "articles_common": int(aligned[~aligned.language.isin(CODE_LANGUAGES)].article_id.nunique()),
            "tokens": {split: {language: int(tokens[split, language]) for language in languages} for split in splits},
            "rows": {split: len(dataset) for split, dataset in splits.items()}}


def equal_text(documents: pd.DataFrame, characters: int, seed: int):
    """Yield texts, about `characters` of each language, articles in seeded order."""
    for _, group in documents.groupby("language", sort=False):
        taken = 0
        for text in group.sample(frac=1, random_state=seed).text:
            if taken >= characters:
                break
            yield text[:characters - taken]
            taken += len(text)


def pack_split(part: pd.DataFrame, languages: list[str], context: int) -> Dataset:
    """Return a Dataset with `language`, `article_id`, `input_ids` (T,), languages in order."""
    columns = {"language": [], "article_id": [], "input_ids": []}
    for language in languages:
        group = part[part.language == language]
        rows, article_ids = pack(list(group.ids), list(group.article_id), context)
        columns["language"] += [language] * len(rows)
        columns["article_id"] += article_ids
        columns["input_ids"] += list(rows)
    features = Features({"language": Value("string"), "article_id": Value("string"), "input_ids": Sequence(Value("uint16"), length=context)})
    return Dataset.from_dict(columns, features=features)


class PackedData:
    """A data artefact opened for training: token rows per split, the tokenizer, and which row is of which language."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.dataset = load_from_disk(self.path / "dataset")
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.path / "tokenizer")
        self.token_bytes = bytes_per_token(self.tokenizer)
        self.languages = list(dict.fromkeys(self.dataset["train"]["language"]))
        self._rows: dict[str, np.ndarray] = {}
        self._language_index = {split: np.array([self.languages.index(name) for name in self.dataset[split]["language"]]) for split in self.dataset}

    def rows(self, split: str) -> np.ndarray:
        """Return (N, T) uint16 token ids of a split, read once."""
        if split not in self._rows:
            table = self.dataset[split].data.column("input_ids").combine_chunks()
            self._rows[split] = table.flatten().to_numpy().reshape(len(self.dataset[split]), -1)
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


def most_common_tokens(data: PackedData, language: str, n: int) -> list[str]:
    counts = Counter(data.rows("train")[data.row_numbers("train", language)].ravel().tolist())
    return [token_text(data.tokenizer, token) for token, _ in counts.most_common(n)]


def token_text(tokenizer: PreTrainedTokenizerFast, token: int) -> str:
    """Return a token's text; one that is only part of a character is written as its bytes, for example `<e280>`."""
    text = tokenizer.decode([token])
    if "\ufffd" not in text:
        return text
    # Byte-level BPE writes a byte as the character of that number where it is visible, the other 68 as those from 256 on.
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = visible + [byte for byte in range(256) if byte not in visible]
    characters = [chr(byte) for byte in visible] + [chr(256 + number) for number in range(256 - len(visible))]
    byte_of = dict(zip(characters, order, strict=True))
    return f"<{''.join(f'{byte_of[character]:02x}' for character in tokenizer.convert_ids_to_tokens(token))}>"
