"""Texts that put a router to the test."""

import numpy as np
import pandas as pd
import pytest

from mome import router
from mome.config import repository
from mome.corpus import read_documents
from mome.data import PackedData, build_dataset
from mome.probes import (
    COMMENT_WIDTH,
    ask_langid,
    comment_code,
    cut_texts,
    encode_texts,
    find_gaps,
    mix_rows,
    read_commented_code,
    read_mixes,
    read_strangers,
)
from mome.tokenizer import N_BYTE_TOKENS, PLAIN, train_tokenizer

PROSE = ["La Lune est le seul satellite naturel de la Terre ; elle n'a pas d'air, \"dit-on\". " * 3, "Der Apfel wächst\tam Baum.\nSein Kern ist klein. " * 5,
         "A back\\slash, a {brace} and '''three quotes'''."]
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted((repository() / "data/mini/py").rglob("*.py"))}


@pytest.fixture(scope="module")
def letters():
    """A tokenizer for which every byte is one token."""
    return train_tokenizer([], N_BYTE_TOKENS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PackedData:
    folder = tmp_path_factory.mktemp("data")
    documents = pd.DataFrame(read_documents("mini", ["en", "fr"], 1, True, folder))
    build_dataset(documents, folder, vocab_size=500, context=33, tokens_per_language=5_000, max_diff_percent=5.0, validation_fraction=0.1, seed=0)
    return PackedData(folder)


def spell(tokenizer, text: str) -> list[int]:
    return tokenizer([text], **PLAIN)["input_ids"][0]


# Texts of any length

def test_texts_are_padded_on_the_right_and_cut_to_the_context(letters):
    rows = encode_texts(["abc", "", "abcdef", "abcdefgh"], letters, 6)
    assert (rows.dtype, rows.shape) == (np.uint16, (4, 6))
    abc = spell(letters, "abcdefgh")
    assert rows.tolist() == [[*abc[:3], 0, 0, 0], [0] * 6, abc[:6], abc[:6]]


def test_special_tokens_that_a_text_spells_out_are_text(letters):
    assert encode_texts(["</s>"], letters, 6)[0, :4].min() > 2


def test_texts_are_cut_into_full_rows_of_one_text_each(letters):
    texts = ["a" * 10, "b" * 3, "", "c" * 4, "d" * 9]
    rows = cut_texts(texts, letters, 4, 100)
    assert (rows.dtype, rows.shape) == (np.uint16, (5, 4))
    assert [letters.decode(row) for row in rows] == ["aaaa", "aaaa", "cccc", "dddd", "dddd"]


def test_cut_rows_follow_one_another_within_their_text(letters):
    assert "".join(letters.decode(row) for row in cut_texts(["abcdefghij"], letters, 3, 9)) == "abcdefghi"


@pytest.mark.parametrize("at_most", [1, 2, 5, 10])
def test_cut_rows_are_spread_evenly_from_the_first_to_the_last(letters, at_most):
    text = "".join(chr(97 + number) * 2 for number in range(10))
    numbers = [ord(letters.decode(row)[0]) - 97 for row in cut_texts([text], letters, 2, at_most)]
    assert len(set(numbers)) == at_most
    assert numbers[0] == 0
    if at_most > 1:
        assert numbers[-1] == 9
        assert np.ptp(np.diff(numbers)) <= 1


def test_short_texts_give_no_row(letters):
    for texts in (["abc"], ["", "a", "ab"], [""]):
        assert cut_texts(texts, letters, 4, 10).shape == (0, 4)
    assert cut_texts(["abcdefgh"], letters, 4, 0).shape == (0, 4)


# Two languages in one sequence

@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_a_mixed_row_holds_exactly_its_share_of_the_second_language(data, share):
    rows, mixed = data.rows("validation"), mix_rows(data, "en", "fr", share, 5)
    second = round(share * 33)
    n = min(5, *(len(data.row_numbers("validation", language)) for language in ("en", "fr")))
    assert mixed.shape == (n, 33)
    english, french = (rows[data.row_numbers("validation", language, 5)][:n] for language in ("en", "fr"))
    assert np.array_equal(mixed[:, :33 - second], english[:, :33 - second])
    assert np.array_equal(mixed[:, 33 - second:], french[:, :second])


def test_mixed_rows_are_of_the_split_asked_for_and_the_order_matters(data):
    train = data.rows("train")[data.row_numbers("train", "fr", 3)]
    assert np.array_equal(mix_rows(data, "en", "fr", 1, 3, "train"), train)
    assert np.array_equal(mix_rows(data, "fr", "en", 0, 3, "train"), train)


# Code with foreign comments

def added_lines(code: str, commented: str) -> list[str]:
    """Return the lines that are new; fails unless the code's own lines all stand there in their order."""
    lines, own, added = commented.split("\n"), code.split("\n"), []
    for line in lines:
        if own and line == own[0]:
            own.pop(0)
        else:
            added.append(line)
    assert not own
    return added


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_commented_code_keeps_its_lines_in_order_and_compiles(share):
    assert len(FILES) == 64
    for number, (name, code) in enumerate(FILES.items()):
        commented = comment_code(code, PROSE, share, np.random.default_rng(number))
        compile(commented, name, "exec")
        added = added_lines(code, commented)
        assert all(line.lstrip().startswith(("# ", "NOTE_")) for line in added)
        kinds = [line.lstrip().startswith("# ") for line in added]
        assert sum(kinds) - len(kinds) / 2 in (0, 0.5)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_the_share_of_comments_is_about_what_was_asked(share):
    for code in FILES.values():
        commented = comment_code(code, PROSE, share, np.random.default_rng(0))
        notes = sum(len(line.lstrip()) for line in added_lines(code, commented))
        assert notes / (notes + len(code)) >= share
        assert notes - share / (1 - share) * len(code) < max(map(len, PROSE)) + 20 * 6  # less than one paragraph and its marks too much


def test_no_share_leaves_the_code_as_it_is():
    for code in ("", "x = 1", "x = 1\n"):
        assert comment_code(code, PROSE, 0, np.random.default_rng(0)) == code


def test_comments_depend_on_the_generators_seed_only():
    code = FILES[min(FILES)]
    first, again, other = (comment_code(code, PROSE, 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_comments_are_indented_as_the_line_that_follows_and_not_wide():
    commented = comment_code("def f():\n    if True:\n        return 1\n", PROSE, 0.95, np.random.default_rng(0)).split("\n")
    depths = [len(line) - len(line.lstrip()) for line in commented]
    is_note = [line.lstrip().startswith(("# ", "NOTE_")) for line in commented]
    for place in range(len(commented) - 1):
        if is_note[place]:
            assert depths[place] == depths[place + 1]
    assert {depth for depth, note in zip(depths, is_note, strict=True) if note} == {0, 4, 8}
    assert max(len(line.strip()) for line in commented) < COMMENT_WIDTH + 20


AWKWARD = '''"""About this
file."""
from __future__ import annotations
import sys

@property
@staticmethod
def f(a,
      b):
    if a: return 1
    elif b:
        x = """many

lines"""
    else: x = 2
    try:
        pass
    except ValueError:
        pass
    finally:
        y = 1; z = 2
    match x:
        case 1:
            pass
    return (x,
            y)
'''


def test_statements_are_put_only_where_they_break_nothing():
    lines, gaps = AWKWARD.split("\n"), find_gaps(AWKWARD)
    assert gaps[-1] == len(lines)
    assert [lines[place].strip() for place in gaps[:-1]] == ["import sys", "@property", "if a: return 1", 'x = """many', "try:", "pass", "pass",
                                                             "y = 1; z = 2", "match x:", "pass", "return (x,"]
    for seed in range(5):
        compile(comment_code(AWKWARD, PROSE, 0.9, np.random.default_rng(seed)), "awkward.py", "exec")


def test_code_of_another_language_is_commented_between_any_lines():
    code = "SELECT name\nFROM people\nWHERE age > 3;"
    assert find_gaps(code) == [0, 1, 2, 3]
    assert added_lines(code, comment_code(code, PROSE, 0.5, np.random.default_rng(0)))


# Experiments with fitted classifiers

@pytest.fixture(scope="module")
def models(data):
    rows, labels = router.sample_rows(data, "train", 100)
    return {name: router.make_classifier(name, len(data.tokenizer)).fit(rows, labels) for name in ("logistic_regression", "linear_svm")}


def test_at_the_ends_of_a_mix_a_classifier_reads_what_it_reads_of_pure_rows(data, models):
    table = read_mixes(models["logistic_regression"], data, [0.0, 0.5, 1.0], n_rows=10)
    assert table[["first", "second"]].drop_duplicates().to_numpy().tolist() == [["en", "fr"]]
    for percent, language in ((0, "en"), (100, "fr")):
        pure = data.rows("validation")[data.row_numbers("validation", language, 10)]
        as_second = 100 * np.mean(models["logistic_regression"].predict(pure) == 1)
        assert table.set_index("percent").as_second[percent] == pytest.approx(as_second)
    assert table.as_second.iloc[0] < table.as_second.iloc[-1]


def test_strangers_are_sent_somewhere_and_abstaining_counts_them_as_wrong(data, models):
    strangers = pd.DataFrame([{"language": "es", "text": "El manzano da manzanas rojas y verdes en otoño. " * 20},
                              {"language": "sql", "text": "SELECT a FROM b;\n" * 60}])
    rows, labels = router.sample_rows(data, "validation", None)
    sent, coverage = read_strangers(models, data, strangers, rows, labels)
    assert set(sent.classifier) == {"logistic_regression"}  # a linear SVM has no probabilities
    assert sent[data.languages].sum(axis=1).to_numpy() == pytest.approx([100, 100])
    assert sent.auroc.between(0, 1).all()
    n_odd = sum(len(cut_texts([text], data.tokenizer, rows.shape[1], 200)) for text in strangers.text)
    n_wrong = n_odd + (models["logistic_regression"].predict(rows) != labels).sum()
    assert coverage.risk.iloc[-1] == pytest.approx(n_wrong / (n_odd + len(rows)))


def test_code_without_comments_is_read_as_often_as_code_alone():
    class SaysCode:
        def predict(self, rows):
            return np.full(len(rows), 1)

    documents = pd.DataFrame([("en", "A line of prose that is longer than forty characters, certainly."), ("py", "\n".join(FILES.values()))],
                             columns=["language", "text"])
    letters = train_tokenizer([], N_BYTE_TOKENS)
    table = read_commented_code({"yes": SaysCode()}, Stub(letters), documents, "py", [0, 0.5], n_rows=5)
    assert table.to_dict("list") == {"language": ["en", "en"], "percent": [0, 50], "classifier": ["yes", "yes"], "as_code": [100, 100]}


class Stub:
    languages = ("en", "py")

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def rows(self, split):
        return np.zeros((1, 16), dtype=np.uint16)


def test_an_outsider_tells_natural_languages_apart_and_refuses_what_it_does_not_know():
    texts = ["Der Hund schläft auf dem alten Sofa.", "The dog sleeps on the old sofa.", "Le chien dort sur le vieux canapé."]
    assert ask_langid(texts, ["en", "fr", "de"]).tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match=r"py3langid.*xx"):
        ask_langid(texts, ["en", "xx"])
