"""The shared tokenizer: byte-level BPE, trained on equal text of each language, and how it compares with others."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pandas as pd
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mome.artifacts import track
from mome.clean import WORD

# A text that spells out "</s>" holds four characters, not the end of a document.
PLAIN = {"add_special_tokens": False, "return_attention_mask": False, "split_special_tokens": True}
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}  # ids 0, 1, 2: pad is not eos
N_BYTE_TOKENS = 256 + len(SPECIAL_TOKENS)  # the smallest vocabulary: every byte a token, no merge


def train_tokenizer(texts, vocab_size: int, exact: bool = True) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`; every text round-trips, no unknown token is needed.

    With `N_BYTE_TOKENS` entries it has no merge and every byte is a token. Raises ValueError when the texts support fewer
    than `vocab_size` entries, unless `exact` is False.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()),
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if exact and tokenizer.get_vocab_size() < vocab_size:
        raise ValueError(f"vocab_size={vocab_size} is larger than the text supports; at most {tokenizer.get_vocab_size()} here")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def bytes_per_token(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return (V,) int64: how many bytes of text each token stands for; 0 for special tokens."""
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # In byte-level BPE one character of a piece is one byte of text.
    return np.array([0 if piece in tokenizer.all_special_tokens else len(piece) for piece in pieces])


def encode(documents: pd.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Return the ids of every document as `<s> text </s>`, uint16, each (tokens + 2,)."""
    bos, eos, texts, ids = tokenizer.bos_token_id, tokenizer.eos_token_id, list(documents.text), []
    for start in track(range(0, len(texts), 256), "tokenize", len(range(0, len(texts), 256))):
        ids += [np.array([bos, *row, eos], dtype=np.uint16) for row in tokenizer(texts[start:start + 256], **PLAIN)["input_ids"]]
    return ids


def equal_text(documents: pd.DataFrame, characters: int, seed: int):
    """Yield texts, about `characters` of each language, articles in seeded order."""
    for _, group in documents.groupby("language", sort=False):
        taken = 0
        for text in group.sample(frac=1, random_state=seed).text:
            if taken >= characters:
                break
            yield text[:characters - taken]
            taken += len(text)


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


def comparison_tokenizers(documents: pd.DataFrame, vocab_size: int) -> dict[str, PreTrainedTokenizerFast]:
    """Return tokenizers to hold the shared one against: `bytes`, and one of its size trained on each language alone, by language.

    Where a language's text supports fewer entries, its tokenizer is as large as it can be.
    """
    alone = {language: train_tokenizer(group.text, vocab_size, exact=False) for language, group in documents.groupby("language", sort=False)}
    return {"bytes": train_tokenizer([], N_BYTE_TOKENS), **alone}


def compare_tokenizers(tokenizers: dict[str, PreTrainedTokenizerFast], documents: pd.DataFrame) -> pd.DataFrame:
    """Return how each tokenizer cuts each language's texts.

    Columns: tokenizer, vocab_size, language, tokens_per_word (fertility; words as in `clean.WORD`), bytes_per_token,
    character_coverage (share of the text's characters, white space aside, that the vocabulary holds as one token; the others
    are spelled in bytes) and megabytes_per_second.
    """
    rows = []
    for name, tokenizer in tokenizers.items():
        for language, group in documents.groupby("language", sort=False):
            started = time.perf_counter()
            n_tokens = sum(len(ids) for ids in tokenizer(list(group.text), **PLAIN)["input_ids"])
            seconds = time.perf_counter() - started
            n_bytes = sum(len(text.encode()) for text in group.text)
            characters = Counter(character for text in group.text for character in text if not character.isspace())
            whole = sum(count for character, count in characters.items() if len(tokenizer(character, **PLAIN)["input_ids"]) == 1)
            rows.append({"tokenizer": name, "vocab_size": len(tokenizer), "language": language,
                         "tokens_per_word": n_tokens / sum(len(WORD.findall(text)) for text in group.text), "bytes_per_token": n_bytes / n_tokens,
                         "character_coverage": whole / characters.total(), "megabytes_per_second": n_bytes / 1e6 / seconds})
    return pd.DataFrame(rows)
