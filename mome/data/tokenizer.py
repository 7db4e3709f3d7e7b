"""The shared tokenizer: byte-level BPE, trained on equal text of each language, beside others."""

import re
import time
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mome.data.clean import WORD
from mome.data.ids import PLAIN
from mome.progress import Progress, progress, track

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}  # ids 0, 1, 2
N_BYTE_TOKENS = 256 + len(SPECIAL_TOKENS)  # the smallest vocabulary: every byte a token, no merge
LONG_RUN = re.compile(r"(\S{1000}|\s{1000})")  # is cut: the time to learn grows with a run's square


def train_tokenizer(texts, vocab_size: int, exact: bool = True) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer; ValueError if `texts` support fewer entries, unless not `exact`."""
    tokenizer, pieces = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()),
                                  initial_alphabet=pieces.alphabet(), show_progress=False)
    texts = list(texts)
    with progress("train the tokenizer", len(texts)) as shown:  # here: it is read in a thread of its own
        tokenizer.train_from_iterator(cut_runs(texts, shown), trainer)
    found = tokenizer.get_vocab_size()
    if exact and found < vocab_size:
        raise ValueError(f"vocab_size={vocab_size} is larger than the text supports; at most {found} here")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **SPECIAL_TOKENS)


def cut_runs(texts: list[str], shown: Progress):
    """Yield all of the texts, runs without a break in pieces, and move on by one for each text."""
    for text in texts:
        yield from LONG_RUN.split(text)
        shown.update()


def bytes_per_token(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return (V,) int64: how many bytes of text each token stands for; 0 for special tokens."""
    pieces, special = tokenizer.convert_ids_to_tokens(range(len(tokenizer))), tokenizer.all_special_tokens
    return np.array([0 if piece in special else len(piece) for piece in pieces])  # one character is one byte


def encode(documents: pd.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Return the ids of every document as `<s> text </s>`, uint16, each (tokens + 2,)."""
    bos, eos, texts = tokenizer.bos_token_id, tokenizer.eos_token_id, list(documents.text)
    starts = track(range(0, len(texts), 256), "tokenize", -(-len(texts) // 256))
    batches = (tokenizer(texts[start:start + 256], **PLAIN)["input_ids"] for start in starts)
    return [np.array([bos, *ids, eos], dtype=np.uint16) for batch in batches for ids in batch]


def equal_text(documents: pd.DataFrame, characters: int, seed: int):
    """Yield texts, about `characters` of each language, articles in seeded order."""
    for _, group in documents.groupby("language", sort=False):
        texts = group.sample(frac=1, random_state=seed).text
        taken = texts.str.len().cumsum().shift(fill_value=0)  # before each
        yield from (text[:characters - n] for text, n in zip(texts, taken, strict=True) if n < characters)


def token_text(tokenizer: PreTrainedTokenizerFast, token: int) -> str:
    """Return a token's text; one that is only part of a character as its bytes, for example `<e280>`."""
    text = tokenizer.decode([token])
    if "\ufffd" not in text:
        return text
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    return f"<{bytes(byte_of[character] for character in tokenizer.convert_ids_to_tokens(token)).hex()}>"


def comparison_tokenizers(documents: pd.DataFrame, vocab_size: int) -> dict[str, PreTrainedTokenizerFast]:
    """Return `bytes` and one per language, trained on it alone; smaller where its text has too little."""
    groups = documents.groupby("language", sort=False).text
    return {"bytes": train_tokenizer([], N_BYTE_TOKENS),
            **{language: train_tokenizer(texts, vocab_size, exact=False) for language, texts in groups}}


def compare_tokenizers(tokenizers: dict, documents: pd.DataFrame) -> pd.DataFrame:
    """Return how each of the named tokenizers cuts each language's texts.

    Columns: tokenizer, vocab_size, language, tokens_per_word (fertility; `clean.WORD`), bytes_per_token,
    character_coverage (share of characters, white space aside, that are one token), megabytes_per_second.
    """
    pairs = list(product(tokenizers.items(), documents.groupby("language", sort=False).text))
    rows = []
    for (name, tokenizer), (language, texts) in track(pairs, "compare tokenizers", len(pairs)):
        started = time.perf_counter()
        n_tokens = sum(len(ids) for ids in tokenizer(list(texts), **PLAIN)["input_ids"])
        seconds = time.perf_counter() - started
        n_words, n_bytes = len(WORD.findall("\n".join(texts))), len("".join(texts).encode())
        counts = Counter("".join("".join(texts).split()))
        whole = sum(n for text, n in counts.items() if len(tokenizer(text, **PLAIN)["input_ids"]) == 1)
        rows.append({"tokenizer": name, "vocab_size": len(tokenizer), "language": language,
                     "tokens_per_word": n_tokens / n_words, "bytes_per_token": n_bytes / n_tokens,
                     "character_coverage": whole / counts.total(),
                     "megabytes_per_second": n_bytes / 1e6 / seconds})
    return pd.DataFrame(rows)
