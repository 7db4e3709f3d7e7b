"""What is counted on a packed data set: the unigram bound, and whose tokens are whose."""

import math

import numpy as np
import pytest
from cases import each

from mome.data.vocabulary import (
    most_common_tokens,
    token_counts,
    unigram_nats,
    vocabulary_overlap,
    vocabulary_use,
)

LANGUAGES = ["en", "fr", "de", "py"]


class TinyData:
    """Two languages over five tokens, small enough for a hand computation."""

    languages = ("en", "fr")
    tokenizer = type("Tokenizer", (), {"__len__": lambda self: 5, "decode": lambda self, ids: f"t{ids[0]}"})()

    def __init__(self):
        self._rows = {"train": np.array([[1, 3, 3, 4], [1, 3, 3, 3], [2, 2, 4, 4]]),
                      "validation": np.array([[4, 3, 0], [2, 2, 4]])}
        self._index = {"train": np.array([0, 0, 1]), "validation": np.array([0, 1])}

    def rows(self, split):
        return self._rows[split]

    def row_numbers(self, split, language):
        return np.flatnonzero(self._index[split] == self.languages.index(language))


def test_the_unigram_bound_is_the_add_one_model_of_each_language_and_below_the_uniform_one(packed):
    bound = unigram_nats(TinyData())
    # en has counts 0 2 0 5 1, plus one: 1 3 1 6 2 of 13; its targets are 3 and 0, the first token is none
    assert bound["en"] == pytest.approx(-(math.log(6 / 13) + math.log(1 / 13)) / 2)
    # fr has counts 0 0 2 0 2, plus one: 1 1 3 1 3 of 9; its targets are 2 and 4
    assert bound["fr"] == pytest.approx(-math.log(3 / 9))
    for split in ("validation", "test"):
        assert all(0 < nats < math.log(600) for nats in unigram_nats(packed, split).values())
    assert unigram_nats(packed, "test") != unigram_nats(packed)


def test_counts_overlap_and_the_most_common_tokens_are_those_of_the_training_rows():
    assert token_counts(TinyData()).tolist() == [[0, 2, 0, 5, 1], [0, 0, 2, 0, 2]]
    # en uses 1 3 4, fr uses 2 4: one of four is common; from a share of 0.2 on, en uses 1 and 3 only
    assert vocabulary_overlap(TinyData()).to_numpy().tolist() == [[1, 0.25], [0.25, 1]]
    assert vocabulary_overlap(TinyData(), 0.2).to_numpy().tolist() == [[1, 0], [0, 1]]
    assert most_common_tokens(TinyData(), "en", 2) == ["t3", "t1"]


@each("smallest_share, en, fr", [
    # en uses 1 3 4 (2, 5 and 1 of 8 tokens), fr uses 2 4 (2 and 2 of 4); 4 is of both
    (1e-5, [3, 2 / 3, 1 / 3, 7 / 8, 1 / 8], [2, 1 / 2, 1 / 2, 1 / 2, 1 / 2]),
    # from a share of a quarter on en uses 1 3 only, so 4 is fr's own
    (0.25, [2, 1, 0, 7 / 8, 0], [2, 1, 0, 1, 0])])
def test_vocabulary_use_counts_the_types_and_tokens_of_one_language_and_of_all(smallest_share, en, fr):
    use = vocabulary_use(TinyData(), smallest_share)
    assert list(use.columns) == [
        "language", "used", "own_types", "common_types", "own_tokens", "common_tokens"]
    assert use.values.tolist() == [["en", *en], ["fr", *fr]]


def test_a_token_of_two_languages_out_of_three_is_neither_own_nor_common():
    data = TinyData()
    data.languages = ("en", "fr", "de")
    data._rows = {"train": np.array([[0, 3, 4, 4], [0, 2, 2, 4], [0, 2, 1, 1]])}
    data._index = {"train": np.array([0, 1, 2])}
    use = vocabulary_use(data).set_index("language")
    # 0 is of all; 4 of en and fr, 2 of fr and de; en has 3 and de has 1 alone
    assert use.common_types.tolist() == [1 / 3] * 3
    assert use.own_types.tolist() == [1 / 3, 0, 1 / 3]
    assert use.own_tokens.tolist() == [1 / 4, 0, 2 / 4]


def test_what_a_language_uses_is_its_own_common_or_used_by_some(packed):
    use = vocabulary_use(packed).set_index("language")
    assert list(use.index) == LANGUAGES
    assert ((use.own_types + use.common_types <= 1) & (use.own_tokens + use.common_tokens <= 1)).all()
    assert ((use.used > 100) & (use.used <= 600)).all()
    assert use.own_tokens["py"] == use.own_tokens.max()  # line ends and indents are code's own
