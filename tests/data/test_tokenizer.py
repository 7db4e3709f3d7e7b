"""The shared tokenizer and how it compares with others."""

import re

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedTokenizerFast

from mome.data.ids import PLAIN, hash_tokenizer
from mome.data.tokenizer import (
    N_BYTE_TOKENS,
    bytes_per_token,
    compare_tokenizers,
    comparison_tokenizers,
    cut_runs,
    encode,
    equal_text,
    token_text,
    train_tokenizer,
)
from mome.progress import heard_by, progress

LANGUAGES = ["en", "fr", "de", "py"]
TEXTS = ["", "a", "plain words", "  two  spaces, and a trailing one ", "Don't you 've 're , . ! ?",
         "été, œuvre, Grüße, ¿qué?", "e\u0301 is not \u00e9", "emoji 😀👩‍💻 and 漢字",
         "tabs\tand\r\nlines\n\n\n", "if x:\n\treturn {'a': [1, 2]}  # ok\n",
         "\x00\x01\x7f\ufeff", "0123456789" * 20, "漢" * 5_000]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents.text, 700)


@pytest.fixture(scope="module")
def byte_tokenizer():
    return train_tokenizer([], N_BYTE_TOKENS)


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "text"])


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, **PLAIN)["input_ids"]


# Round trips

def test_every_text_round_trips_and_the_bytes_of_its_tokens_sum_to_its_own(tokenizer, byte_tokenizer):
    for text in TEXTS:
        assert tokenizer.decode(ids_of(tokenizer, text)) == text
        assert byte_tokenizer.decode(ids_of(byte_tokenizer, text)) == text
        assert bytes_per_token(tokenizer)[ids_of(tokenizer, text)].sum() == len(text.encode())


def test_documents_of_one_and_more_batches_round_trip_in_order_between_begin_and_end(tokenizer, documents):
    sizes, encoded = bytes_per_token(tokenizer), encode(documents, tokenizer)
    assert len(encoded) == len(documents) == 256  # one batch; encode(documents[:10]) below is less than one
    for text, ids in zip(documents.text, encoded, strict=True):
        assert (ids[0], ids[-1], ids.dtype) == (1, 2, np.uint16)
        assert tokenizer.decode(ids[1:-1]) == text
        assert int(sizes[ids].sum()) == len(text.encode())
    many = pd.concat([documents[:10], documents, documents[:7]])
    for ids, alone in zip(encode(many, tokenizer)[-7:], encode(documents[:10], tokenizer), strict=False):
        assert ids.tolist() == alone.tolist()
    assert len(encode(many, tokenizer)) == len(many)


# The vocabulary

def test_the_special_tokens_are_pad_0_begin_1_end_2_hold_no_bytes_and_are_in_no_text(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    sizes = bytes_per_token(tokenizer)
    assert sizes.shape == (700,)
    assert (sizes == 0).nonzero()[0].tolist() == [0, 1, 2]
    for text in ("a</s>b", "<s>struck</s>", "<pad>"):  # which spell them out
        ids, = encode(table(("py", "a", text)), tokenizer)
        assert set(ids[1:-1]).isdisjoint({0, 1, 2})
        assert sizes[ids].sum() == len(text.encode())


def test_the_hash_of_a_tokenizer_changes_with_its_merges_and_neither_when_saved_nor_by_its_last_call(
        tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ids_of(again, text) == ids_of(tokenizer, text)
        assert again.decode(ids_of(tokenizer, text)) == text
    assert (bytes_per_token(again) == bytes_per_token(tokenizer)).all()
    assert hash_tokenizer(again) == hash_tokenizer(tokenizer)
    first, again, other = (train_tokenizer([text], 260) for text in ("ab", "ab", "ac"))
    assert hash_tokenizer(first) == hash_tokenizer(again) != hash_tokenizer(other)
    before = hash_tokenizer(first)
    first(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert hash_tokenizer(first) == before and len(before) == 64


def test_a_tokenizer_has_exactly_the_size_asked_for_or_it_is_refused_or_as_large_as_it_can_be(
        tokenizer, documents):
    assert len(tokenizer) == 700
    again = train_tokenizer(documents.text, 700)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    # 3 special tokens, 256 bytes, and the merges ab, abc
    with pytest.raises(ValueError, match=r"vocab_size=300 .* at most 261"):
        train_tokenizer(["abc"] * 3, 300)
    assert len(train_tokenizer(["abc"] * 3, 300, exact=False)) == 261
    assert len(train_tokenizer(["abc"] * 3, 260, exact=False)) == 260


def test_the_smallest_vocabulary_is_one_token_a_byte_whatever_the_text(byte_tokenizer, documents):
    assert len(byte_tokenizer) == N_BYTE_TOKENS == 259
    assert bytes_per_token(byte_tokenizer).tolist() == [0] * 3 + [1] * 256
    for text in [*TEXTS, *documents.text[::20]]:
        assert len(ids_of(byte_tokenizer, text)) == len(text.encode())
    of_text = train_tokenizer(documents.text[:5], N_BYTE_TOKENS)
    assert of_text.backend_tokenizer.to_str() == byte_tokenizer.backend_tokenizer.to_str()


def test_a_run_without_a_break_is_cut_where_the_time_to_learn_it_would_explode():
    for letter in (" ", "x", "."):
        # pairs of pairs: 2, 4, ... characters, at most a piece of 1,000; uncut, the longest would have 4,096
        learned = train_tokenizer([letter * 8_000], 300, exact=False)
        assert 500 <= bytes_per_token(learned).max() <= 1_000
    # what has no such run is learned as it is
    assert bytes_per_token(train_tokenizer(["x" * 512], 300, exact=False)).max() == 512


def test_nothing_of_a_run_is_lost_or_glued_where_it_is_cut_and_a_bar_moves_by_texts():
    chinese = "".join(chr(0x4e00 + number % 3_000) for number in range(60_000))
    texts = [chinese, "a " * 3_000, "", f"x{' ' * 5_000}y", chinese[:999]]
    reports = []
    with heard_by(reports.append), progress("", len(texts)) as shown:
        parts = [list(cut_runs([text], shown)) for text in texts]
    assert ["".join(part) for part in parts] == texts and shown.done == len(texts)
    assert max(len(run) for part in parts for piece in part for run in re.findall(r"\S+|\s+", piece)) == 1_000
    with heard_by(reports.append):
        train_tokenizer(texts, 300, exact=False)
    assert [(report["text"], report["total"]) for report in reports[-1:]] == [("train the tokenizer", 5)]


def test_the_vocabulary_is_learned_from_equal_parts_of_each_language():
    documents = table(("en", "a", "x" * 50), ("en", "b", "x" * 50), ("en", "c", "x" * 300),
                      ("fr", "a", "y" * 30), ("fr", "b", "y" * 200))
    for seed in range(8):
        texts = "".join(equal_text(documents, 80, seed))
        assert (texts.count("x"), texts.count("y")) == (80, 80)
    assert list(equal_text(documents, 80, 0)) == list(equal_text(documents, 80, 0))
    assert len({tuple(equal_text(documents, 80, seed)) for seed in range(8)}) > 1


def test_a_token_is_shown_as_its_text_or_where_it_is_part_of_a_character_as_its_bytes(byte_tokenizer):
    shown = [token_text(byte_tokenizer, token) for token in ids_of(byte_tokenizer, "a é\n")]
    assert shown == ["a", " ", "<c3>", "<a9>", "\n"]
    expected = {chr(byte) if byte < 128 else f"<{byte:02x}>" for byte in range(256)}
    assert {token_text(byte_tokenizer, token) for token in range(3, 259)} == expected
    assert token_text(train_tokenizer(["é"] * 3, 260), 259) == "é"


# Comparison

def test_tokens_per_word_bytes_per_token_and_coverage_are_those_of_a_hand_count(byte_tokenizer):
    # the two bytes of é stand together four times, those of n and é once: the one merge is é
    merged = train_tokenizer(["é"] * 3 + ["né"], N_BYTE_TOKENS + 1)
    compared = compare_tokenizers({"bytes": byte_tokenizer, "merged": merged},
                                  table(("fr", "a", "né né"), ("fr", "b", "a"), ("en", "a", "an 漢")))
    columns = ["tokenizer", "vocab_size", "language", "tokens_per_word", "bytes_per_token",
               "character_coverage"]
    assert compared[columns].values.tolist() == [
        # fr: né né is 5 characters of 7 bytes, a one more: 8 bytes, 3 words; of n é n é a three are one byte
        ["bytes", 259, "fr", 8 / 3, 1.0, 3 / 5],
        # en: an, a space and three bytes of 漢, 6 bytes, 2 words; a and n are whole, 漢 is not
        ["bytes", 259, "en", 6 / 2, 1.0, 2 / 3],
        # n é, space, n é, a: 6 tokens of 8 bytes; é is now whole
        ["merged", 260, "fr", 6 / 3, 8 / 6, 5 / 5],
        ["merged", 260, "en", 6 / 2, 1.0, 2 / 3]]
    assert (compared.megabytes_per_second > 0).all()


def test_tokenizers_to_compare_with_are_bytes_and_one_a_language_which_cuts_it_best(documents):
    few = pd.concat([documents, table(("xx", "a", "abc abc"))])
    tokenizers = comparison_tokenizers(few, 700)
    # of abc and its space only ab, abc and a merge with the space can be learned
    expected = {"bytes": 259, "en": 700, "fr": 700, "de": 700, "py": 700, "xx": 262}
    assert {name: len(tokenizer) for name, tokenizer in tokenizers.items()} == expected
    assert list(tokenizers) == ["bytes", *LANGUAGES, "xx"]
    tokenizers.pop("xx")
    compared = compare_tokenizers(tokenizers, documents)
    assert compared.language[:4].tolist() == LANGUAGES
    compared = compared.pivot(index="tokenizer", columns="language", values="bytes_per_token")
    assert (compared.idxmax() == compared.columns).all()
    assert (compared.idxmin() == "bytes").all() and (compared.loc["bytes"] == 1).all()
    for language, group in documents.groupby("language"):  # as the documents are encoded
        n_tokens = sum(len(ids) - 2 for ids in encode(group, tokenizers["en"]))  # without begin and end
        n_bytes = sum(len(text.encode()) for text in group.text)
        assert compared.loc["en", language] == pytest.approx(n_bytes / n_tokens)
