"""Near duplicates: runs of words, their similarity, the index that finds them, and which text goes."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from cases import each

from mome.data.clean import WORD
from mome.data.copies import PERMUTATIONS, band_rows, find_copies, jaccard, shingles

RUNS = 36  # of five words, in 40


def split_table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "split", "text"])


def similarity(a: str, b: str) -> float:
    return jaccard(shingles(a), shingles(b))


def beginnings(generator, n_shared_runs: int) -> tuple[str, str]:
    """Return two texts of `RUNS` runs each that share the first so many: n of 2 RUNS - n in all."""
    words = [f"w{number}" for number in generator.choice(10**9, 2 * RUNS + 8, replace=False)]
    n_shared = n_shared_runs + 4 if n_shared_runs else 0
    first, other = words[:RUNS + 4], words[RUNS + 4:]
    return " ".join(first), " ".join(first[:n_shared] + other[n_shared:])


# Runs of words

def test_the_similarity_of_two_texts_is_shared_over_all_runs_of_five_words():
    ten = "one two three four five six seven eight nine ten"
    assert len(shingles(ten)) == 6
    # the last word is in one of the six runs: 5 are shared, 7 are there in all
    assert similarity(ten, ten.replace("ten", "zehn")) == 5 / 7
    # the sixth is in five of them: 1 is shared, 11 are there
    assert similarity(ten, ten.replace("six", "sechs")) == 1 / 11
    # the first five words are one run of the six
    assert similarity(ten, "one two three four five") == 1 / 6
    assert similarity(ten, ten[::-1]) == 0
    one, four = np.array([4]), np.array([1, 2, 3, 4])
    assert jaccard(one, four) == jaccard(four, one) == 1 / 4


def test_repeats_case_and_punctuation_do_not_count_order_does_and_fewer_than_five_words_are_one_run():
    assert len(shingles("a b c d e a b c d e")) == 5
    assert similarity("a b c d e", "e d c b a") == 0
    assert similarity("a a a a b", "a a a b a") == 0
    text = "Die große Straße führt\nnach  Köln, heute."
    assert similarity(text, "die GROSSE strasse FÜHRT nach köln (heute)") == 1
    assert len(shingles("two words")) == 1
    assert similarity("two words", "Two  words!") == 1
    for other in ("words two", "two words more", "two", "two words and a fifth", "words", ""):
        assert similarity("two words", other) == 0


def test_shingles_are_sorted_distinct_and_fit_in_32_bits(documents):
    for text in documents.text[::4]:
        values = shingles(text)
        assert all(a < b for a, b in pairwise(values.tolist()))
        assert values.dtype == np.uint64 and values[-1] < 2**32
        words = WORD.findall(text.casefold())
        assert len(values) == len({tuple(words[start:start + 5]) for start in range(len(words) - 4)})


def test_chinese_without_spaces_is_compared_by_runs_of_five_characters():
    text = "苹果树属于蔷薇科它的野生祖先至今仍生长在哈萨克斯坦的山林之中商人沿着古老的商路把果实带到西方"
    assert len(shingles(text)) == len(text) - 4
    shared, changed = len(text) - 4 - 5, text[:20] + "新" + text[21:]
    assert similarity(text, changed) == shared / (shared + 10) > 0.7
    rows = ("zh-cn", "a", "validation", text), ("zh-cn", "b", "train", changed)
    assert find_copies(split_table(*rows), 0.5).article_id.tolist() == ["b"]


# Bands

def test_the_longest_bands_are_taken_that_find_a_pair_at_the_threshold_or_bands_of_one():
    for threshold in np.linspace(0.1, 1, 91):
        found = [1 - (1 - threshold**n) ** (PERMUTATIONS // n) for n in range(1, PERMUTATIONS // 2 + 1)]
        rows = band_rows(threshold)
        assert found[rows - 1] >= 0.999
        assert all(probability < 0.999 for probability in found[rows:])
    assert band_rows(0.01) == 1


@each("threshold, n_shared", [(0.5, 24), (0.8, 32), (0.2, 12)])
def test_random_pairs_at_the_threshold_are_found_and_those_just_below_are_not(threshold, n_shared):
    generator, rows = np.random.default_rng(0), []
    for number in range(100):
        for name, shared in (("at", n_shared), ("below", n_shared - 1)):
            first, other = beginnings(generator, shared)
            assert (similarity(first, other) >= threshold) == (name == "at")
            rows += [("en", f"{name} {number}", "validation", first),
                     ("en", f"{name} {number} copy", "train", other)]
    found = find_copies(split_table(*rows), threshold)
    assert found.jaccard.tolist() == [threshold] * len(found)
    assert len(found) >= 99
    assert set(found.article_id) <= {f"at {number} copy" for number in range(100)}


# Copies

@each("protected, dropped, language, other", [
    ("validation", "train", "en", "en"), ("test", "train", "py", "en"), ("validation", "test", "en", "fr")])
def test_planted_copies_above_the_threshold_are_found_and_none_below(protected, dropped, language, other):
    generator, rows = np.random.default_rng(3), []
    planted = {"exact": RUNS, "near": 30, "at": 24, "below": 23, "far": 5, "apart": 0}
    for name, n_shared in planted.items():
        for number in range(5):
            first, second = beginnings(generator, n_shared)
            rows += [(language, f"{name}{number}", protected, first),
                     (other, f"{name}{number} copy", dropped, second.upper().replace(" ", "\n"))]
    documents = split_table(*rows).sample(frac=1, random_state=0).reset_index(drop=True)
    found = find_copies(documents, 0.5)
    names = [f"{name}{number} copy" for name in ("exact", "near", "at") for number in range(5)]
    assert sorted(found.article_id) == sorted(names)
    assert found.copy_of.tolist() == [name.removesuffix(" copy") for name in found.article_id]
    for column, value in {"language": other, "split": dropped, "copy_of_language": language,
                          "copy_of_split": protected}.items():
        assert set(found[column]) == {value}
    shared = [planted[name[:-6]] for name in found.article_id]
    assert found.jaccard.to_numpy() == pytest.approx([n / (2 * RUNS - n) for n in shared])
    assert documents.article_id[found.row].tolist() == found.article_id.tolist()


def test_real_code_that_was_reindented_and_renamed_once_is_a_copy(documents):
    first, second = documents.text[documents.language == "py"][:2]
    copy = first.replace("    ", "\t").replace(WORD.findall(first)[40], "renamed", 1)
    rows = ("py", "a", "test", first), ("py", "b", "train", copy), ("py", "c", "train", second)
    assert find_copies(split_table(*rows), 0.5).article_id.tolist() == ["b"]


def test_texts_of_the_same_split_are_not_compared_and_a_table_without_copies_has_its_columns():
    text = beginnings(np.random.default_rng(0), 0)[0]
    for split in ("train", "validation", "test"):
        rows = ("en", "a", split, text), ("en", "b", split, text), ("fr", "a", split, text)
        found = find_copies(split_table(*rows), 0.5)
        assert found.empty
        assert list(found.columns) == ["row", "language", "article_id", "split", "copy_of",
                                       "copy_of_language", "copy_of_split", "jaccard"]


def test_validation_is_kept_before_test_and_test_before_train_in_whatever_order_they_stand():
    text = beginnings(np.random.default_rng(0), 0)[0]
    rows = ("en", "a", "train", text), ("en", "b", "test", text), ("en", "c", "validation", text)
    found = find_copies(split_table(*rows), 0.5)
    assert dict(zip(found.article_id, found.copy_of, strict=True)) == {"a": "c", "b": "c"}
    found = find_copies(split_table(*rows[:2]), 0.5)
    assert dict(zip(found.article_id, found.copy_of, strict=True)) == {"a": "b"}


def test_a_copy_names_the_closest_of_several_texts():
    words = [f"w{number}" for number in range(40)]
    near, nearer, text = (" ".join(words[start:start + 30]) for start in (0, 6, 8))
    rows = ("en", "near", "validation", near), ("fr", "nearer", "test", nearer), ("en", "text", "train", text)
    # windows of 30 words have 26 runs; nearer and near share 20 of 32 and nearer is dropped, so near, which
    # shares 18 of 34, is the only one left
    found = find_copies(split_table(*rows), 0.5)
    assert found.set_index("article_id").copy_of.to_dict() == {"nearer": "near", "text": "near"}
    found = find_copies(split_table(*rows).replace("test", "validation"), 0.5)
    assert found[["copy_of", "copy_of_language", "jaccard"]].values.tolist() == [["nearer", "fr", 24 / 28]]


def test_a_text_that_is_itself_a_copy_protects_nothing():
    words = [f"w{number}" for number in range(60)]
    held, between, far = (" ".join(words[start:start + 40]) for start in (0, 10, 20))
    assert similarity(held, between) == similarity(between, far) == 26 / 46  # of 36 runs each, 26 are shared
    assert similarity(held, far) == 16 / 56
    # the text between goes, so the far one, which is like it but not like the held one, need not
    rows = ("en", "held", "validation", held), ("en", "between", "test", between), ("en", "far", "train", far)
    assert find_copies(split_table(*rows), 0.5).article_id.tolist() == ["between"]
    # where the text between stays, the far one goes
    assert find_copies(split_table(*rows[1:]), 0.5).article_id.tolist() == ["far"]


@pytest.fixture(scope="module")
def windows() -> pd.DataFrame:
    """Texts cut at random from a few streams of words: pairs of any similarity, in chains."""
    generator, rows = np.random.default_rng(5), []
    for number in range(240):
        stream, start, length = generator.integers(6), generator.integers(300), generator.integers(3, 60)
        text = " ".join(f"s{stream}w{place}" for place in range(start, start + length))
        language = str(generator.choice(["en", "fr", "py"]))
        split = str(generator.choice(["train", "validation", "test"], p=[0.6, 0.2, 0.2]))
        rows.append((language, f"a{number}", split, text))
    return split_table(*rows)


@each("threshold", [0.2, 0.5, 0.8])
def test_copies_are_those_that_comparing_all_pairs_finds(windows, threshold):
    values = [shingles(text) for text in windows.text]
    protected, expected = [], {}
    for split in ("validation", "test", "train"):
        fresh = []
        for row in windows.index[windows.split == split]:
            closest = max((jaccard(values[row], values[other]) for other in protected), default=0)
            if closest >= threshold:
                expected[row] = closest
            else:
                fresh.append(row)
        protected += fresh
    found = find_copies(windows, threshold)
    assert dict(zip(found.row, found.jaccard, strict=True)) == expected
    assert {"test", "train"} == set(found.split)
    assert find_copies(windows.drop(index=found.row), threshold).empty


def test_copies_are_the_same_whatever_the_order_and_index_of_the_rows(windows):
    first = find_copies(windows, 0.5)
    shuffled = windows.sample(frac=1, random_state=1)
    again, keys = find_copies(shuffled, 0.5), ["language", "article_id", "split", "jaccard"]
    assert shuffled.article_id.iloc[again.row].tolist() == again.article_id.tolist()
    assert set(again[keys].itertuples(index=False)) == set(first[keys].itertuples(index=False))
