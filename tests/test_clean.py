"""Cleaning: Unicode, boilerplate, near duplicates."""

import unicodedata
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from mome.clean import PERMUTATIONS, WORD, band_rows, clean, find_copies, jaccard, normalize, shingles
from mome.corpus import read_documents

NATURAL = ["en", "fr", "de"]
# Every character or pair that normalize treats, between letters, so that taking one away can bring others together.
MARKS = ["a", "e", "\u0301", "\u00e9", "\r", "\n", "\t", "\x85", "\u2028", "\u2029", "\0", "\x0b", "\x0c", "\x1f", "\x7f", "\x9f", "\ufeff", "\u00ad",
         "\u200b", "\u200c", "\u200d", "\ud83d", "\ude00", "😀", "\u1100", "\u1161", "\u212b", "\u0344", " "]


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> pd.DataFrame:
    return pd.DataFrame(read_documents("mini", [*NATURAL, "py"], 1, True, tmp_path_factory.mktemp("scratch")))


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "text"])


def split_table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "split", "text"])


def similarity(a: str, b: str) -> float:
    return jaccard(shingles(a), shingles(b))


# Normalize

@pytest.mark.parametrize(("text", "expected"), [
    ("e\u0301te\u0301", "\u00e9t\u00e9"), ("\u1100\u1161", "가"),
    ("a\r\nb\rc\n", "a\nb\nc\n"), ("a\r\n\r\nb", "a\n\nb"), ("a\u2028b\u2029c\x85d", "a\nb\nc\nd"),
    ("a\0b\x07c\x0bd\x0ce\x7ff\x9fg", "abcdefg"), ("\ufeffa\ufeffb", "ab"), ("soft\u00adhyphen", "softhyphen"), ("zero\u200bwidth", "zerowidth"),
    ("a\ud83db\ude00c", "abc"), ("", ""), ("e\u200b\u0301", "\u00e9")])
def test_a_text_is_composed_and_loses_what_no_reader_sees(text, expected):
    assert normalize(text) == expected


@pytest.mark.parametrize("text", ["👩\u200d💻 👨\u200d👩\u200d👧", "می\u200cخواهم", "if x:\n\treturn\n\n", "  spaces  and\u00a0one ", "Grüße, œuvre",
                                  "漢字 한국어", "x\u0301"])
def test_joined_emoji_tabs_and_all_that_is_seen_stay(text):
    assert normalize(text) == text


def test_normalizing_twice_changes_nothing_more():
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(MARKS, 30)) for _ in range(2_000)] + [chr(code) for code in range(0x20000)]
    assert all(normalize(once) == once for once in map(normalize, texts))


def test_a_normal_text_can_be_written_and_has_no_control_character_but_tab_and_line_feed():
    generator = np.random.default_rng(1)
    for _ in range(2_000):
        text = normalize("".join(generator.choice(MARKS, 30)))
        assert text.encode().decode() == text
        assert {character for character in text if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")} <= {"\t", "\n"}


# Clean

def test_a_line_that_stood_before_or_was_never_translated_is_dropped():
    cleaned, counts = clean(table(("en", "b", "menu\nbread\nbread"), ("en", "a", "menu\napple\n\n"), ("en", "c", "menu\napple"), ("fr", "a", "menu\npomme")))
    assert cleaned.set_index(["language", "article_id"]).text.to_dict() == {("en", "a"): "apple", ("en", "b"): "bread", ("fr", "a"): "pomme"}
    # en: menu and the second bread of b, both lines of c are repeated, the first menu stands in French too; line ends count as characters
    assert counts.set_index("language").loc["en"].to_dict() == {
        "articles_before": 3, "articles_after": 2, "characters_before": 38, "characters_after": 10, "normalized_articles": 0, "repeated_lines": 4,
        "untranslated_lines": 1, "equal_articles": 0}
    assert counts.set_index("language").loc["fr", ["repeated_lines", "untranslated_lines"]].tolist() == [0, 1]


def test_lines_are_compared_in_their_normal_form():
    cleaned, counts = clean(table(("en", "a", "caf\u00e9\r\ntea\r\n"), ("en", "b", "cafe\u0301\nmilk"), ("en", "c", "bread"),
                                  ("fr", "a", "the\u0301\nbread\u200b")))
    assert cleaned.set_index(["language", "article_id"]).text.to_dict() == {("en", "a"): "café\ntea", ("en", "b"): "milk", ("fr", "a"): "thé"}
    # en: a has line ends and b an accent apart; characters before are those that were read: 4 + 2 + 3 + 2, 5 + 1 + 4, 5
    assert counts.set_index("language").loc["en"].to_dict() == {
        "articles_before": 3, "articles_after": 2, "characters_before": 26, "characters_after": 12, "normalized_articles": 2, "repeated_lines": 1,
        "untranslated_lines": 1, "equal_articles": 0}
    assert counts.set_index("language").loc["fr", "normalized_articles"] == 1


def test_code_keeps_its_lines_and_loses_equal_files():
    code = "import os\n\nimport os\n"
    cleaned, counts = clean(table(("py", "b", code.replace("\n", "\r\n")), ("py", "a", code), ("py", "c", "import os\n"), ("py", "d", code),
                                  ("en", "a", "import os")))
    assert cleaned[cleaned.language == "py"].set_index("article_id").text.to_dict() == {"a": code, "c": "import os\n"}
    assert counts.set_index("language").loc["py"].to_dict() == {
        "articles_before": 4, "articles_after": 2, "characters_before": 24 + 21 + 10 + 21, "characters_after": 31, "normalized_articles": 1,
        "repeated_lines": 0, "untranslated_lines": 0, "equal_articles": 2}


def test_equal_files_of_two_code_languages_stay():
    cleaned, counts = clean(table(("py", "a", "x = 1"), ("ruby", "a", "x = 1")))
    assert (len(cleaned), counts.equal_articles.tolist()) == (2, [0, 0])


def test_cleaning_leaves_what_it_was_given_alone():
    given = table(("en", "a", "x\r\nx"), ("py", "a", "y\r\n"))
    before = given.copy()
    clean(given)
    pd.testing.assert_frame_equal(given, before)


def test_cleaning_twice_removes_nothing_more(documents):
    once, _ = clean(documents)
    twice, counts = clean(once)
    pd.testing.assert_frame_equal(once, twice)
    assert (counts.characters_before == counts.characters_after).all()
    assert (counts.normalized_articles == 0).all()


def test_after_cleaning_no_natural_line_stands_twice(documents):
    cleaned, _ = clean(documents)
    for language in NATURAL:
        lines = [line for text in cleaned.text[cleaned.language == language] for line in text.split("\n")]
        assert len(lines) == len(set(lines)) > 64


# Words and shingles

@pytest.mark.parametrize(("text", "words"), [
    ("Don't stop, x_1!", ["Don", "t", "stop", "x_1"]), ("été, œuvre", ["été", "œuvre"]), ("한국어 문장", ["한국어", "문장"]),
    ("हिन्दी में पाठ।", ["हिन्दी", "में", "पाठ"]),
    ("我们2020年用iPhone。", ["我", "们", "2020", "年", "用", "iPhone"]), ("ไทยabc", ["ไ", "ท", "ย", "abc"]), ("かな", ["か", "な"]), ("... — !", [])])
def test_a_word_is_a_run_of_letters_with_their_marks_or_a_character_of_a_script_without_spaces(text, words):
    assert WORD.findall(text) == words


def test_the_similarity_of_two_texts_is_shared_over_all_runs_of_five_words():
    ten = "one two three four five six seven eight nine ten"
    assert len(shingles(ten)) == 6
    # the last word stands in one of the six runs: 5 are shared, 7 are there in all
    assert similarity(ten, ten.replace("ten", "zehn")) == 5 / 7
    # the sixth stands in five of them: 1 is shared, 11 are there
    assert similarity(ten, ten.replace("six", "sechs")) == 1 / 11
    # the first five words are one run of the six
    assert similarity(ten, "one two three four five") == 1 / 6
    assert similarity(ten, ten[::-1]) == 0


def test_a_run_that_stands_twice_counts_once_and_order_counts():
    assert len(shingles("a b c d e a b c d e")) == 5
    assert similarity("a b c d e", "e d c b a") == 0
    assert similarity("a a a a b", "a a a b a") == 0


def test_case_white_space_and_punctuation_do_not_count():
    assert similarity("Die große Straße führt\nnach  Köln, heute.", "die GROSSE strasse FÜHRT nach köln (heute)") == 1


def test_shingles_are_sorted_distinct_and_fit_in_32_bits(documents):
    for text in documents.text:
        values = shingles(text)
        assert all(a < b for a, b in pairwise(values.tolist()))
        assert values.dtype == np.uint64 and values[-1] < 2**32
        words = WORD.findall(text.casefold())
        assert len(values) == len({tuple(words[start:start + 5]) for start in range(len(words) - 4)})


def test_a_text_of_fewer_than_five_words_is_compared_as_a_whole():
    assert len(shingles("two words")) == 1
    assert similarity("two words", "Two  words!") == 1
    for other in ("words two", "two words more", "two", "two words and a fifth", "words", ""):
        assert similarity("two words", other) == 0


def test_chinese_without_spaces_is_compared_by_runs_of_five_characters():
    text = "苹果树属于蔷薇科它的野生祖先至今仍生长在哈萨克斯坦的山林之中商人沿着古老的商路把果实带到西方"
    assert len(shingles(text)) == len(text) - 4
    shared, changed = len(text) - 4 - 5, text[:20] + "新" + text[21:]
    assert similarity(text, changed) == shared / (shared + 10) > 0.7
    assert find_copies(split_table(("zh-cn", "a", "validation", text), ("zh-cn", "b", "train", changed)), 0.5).article_id.tolist() == ["b"]


@pytest.mark.parametrize(("a", "b", "expected"), [([1, 2, 3], [2, 3, 4], 0.5), ([1], [1], 1), ([1], [2], 0), ([1, 2, 3, 4], [4], 0.25)])
def test_jaccard_is_shared_over_all(a, b, expected):
    assert jaccard(np.array(a), np.array(b)) == jaccard(np.array(b), np.array(a)) == expected


# Bands

@pytest.mark.parametrize("threshold", np.linspace(0.1, 1, 91))
def test_the_longest_bands_are_taken_that_find_a_pair_at_the_threshold(threshold):
    found = [1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) for rows in range(1, PERMUTATIONS // 2 + 1)]
    rows = band_rows(threshold)
    assert found[rows - 1] >= 0.999
    assert all(probability < 0.999 for probability in found[rows:])


RUNS = 36  # of five words, in 40


def beginnings(generator, n_shared_runs: int) -> tuple[str, str]:
    """Return two texts of `RUNS` runs each that share the first so many: n of 2 RUNS - n in all."""
    words = [f"w{number}" for number in generator.choice(10**9, 2 * RUNS + 8, replace=False)]
    first, other = words[:RUNS + 4], words[RUNS + 4:]
    return " ".join(first), " ".join(first[:n_shared_runs + 4] + other[n_shared_runs + 4:]) if n_shared_runs else " ".join(other)


@pytest.mark.parametrize(("threshold", "n_shared"), [(0.5, 24), (0.8, 32), (0.2, 12)])
def test_random_pairs_at_the_threshold_are_found_and_those_just_below_are_not(threshold, n_shared):
    generator, rows = np.random.default_rng(0), []
    for number in range(200):
        for name, shared in (("at", n_shared), ("below", n_shared - 1)):
            first, other = beginnings(generator, shared)
            assert (similarity(first, other) >= threshold) == (name == "at")
            rows += [("en", f"{name} {number}", "validation", first), ("en", f"{name} {number} copy", "train", other)]
    found = find_copies(split_table(*rows), threshold)
    assert found.jaccard.tolist() == [threshold] * len(found)
    assert len(found) >= 0.99 * 200
    assert set(found.article_id) <= {f"at {number} copy" for number in range(200)}


# Copies

@pytest.mark.parametrize(("protected", "dropped"), [("validation", "train"), ("test", "train"), ("validation", "test")])
@pytest.mark.parametrize(("language", "other"), [("en", "en"), ("en", "fr"), ("py", "py"), ("py", "en")])
def test_planted_copies_above_the_threshold_are_found_and_none_below(protected, dropped, language, other):
    generator, rows = np.random.default_rng(3), []
    planted = {"exact": RUNS, "near": 30, "at": 24, "below": 23, "far": 5, "apart": 0}
    for name, n_shared in planted.items():
        for number in range(5):
            first, second = beginnings(generator, n_shared)
            rows += [(language, f"{name}{number}", protected, first), (other, f"{name}{number} copy", dropped, second.upper().replace(" ", "\n"))]
    documents = split_table(*rows).sample(frac=1, random_state=0).reset_index(drop=True)
    found = find_copies(documents, 0.5)
    assert sorted(found.article_id) == sorted(f"{name}{number} copy" for name in ("exact", "near", "at") for number in range(5))
    assert found.copy_of.tolist() == [name.removesuffix(" copy") for name in found.article_id]
    assert (set(found.language), set(found.split), set(found.copy_of_language), set(found.copy_of_split)) == ({other}, {dropped}, {language}, {protected})
    assert found.jaccard.to_numpy() == pytest.approx([n / (2 * RUNS - n) for n in (planted[name[:-6]] for name in found.article_id)])
    assert documents.article_id[found.row].tolist() == found.article_id.tolist()


def test_real_code_that_was_reindented_and_renamed_once_is_a_copy(documents):
    first, second = documents.text[documents.language == "py"][:2]
    copy = first.replace("    ", "\t").replace(WORD.findall(first)[40], "renamed", 1)
    found = find_copies(split_table(("py", "a", "test", first), ("py", "b", "train", copy), ("py", "c", "train", second)), 0.5)
    assert found.article_id.tolist() == ["b"]


def test_texts_of_the_same_split_are_not_compared():
    text = beginnings(np.random.default_rng(0), 0)[0]
    for split in ("train", "validation", "test"):
        assert find_copies(split_table(("en", "a", split, text), ("en", "b", split, text), ("fr", "a", split, text)), 0.5).empty


def test_validation_is_kept_before_test_and_test_before_train_in_whatever_order_they_stand():
    text = beginnings(np.random.default_rng(0), 0)[0]
    found = find_copies(split_table(("en", "a", "train", text), ("en", "b", "test", text), ("en", "c", "validation", text)), 0.5)
    assert found.set_index("article_id").copy_of.to_dict() == {"a": "c", "b": "c"}
    assert find_copies(split_table(("en", "a", "train", text), ("en", "b", "test", text)), 0.5).set_index("article_id").copy_of.to_dict() == {"a": "b"}


def test_a_copy_names_the_closest_of_several_texts():
    words = [f"w{number}" for number in range(40)]
    near, nearer, text = (" ".join(words[start:start + 30]) for start in (0, 6, 8))
    found = find_copies(split_table(("en", "near", "validation", near), ("fr", "nearer", "test", nearer), ("en", "text", "train", text)), 0.5)
    # windows of 30 words have 26 runs; nearer and near share 20 of 32 and nearer is dropped, so near, which shares 18 of 34, is the only one left
    assert found.set_index("article_id").copy_of.to_dict() == {"nearer": "near", "text": "near"}
    found = find_copies(split_table(("en", "near", "validation", near), ("fr", "nearer", "validation", nearer), ("en", "text", "train", text)), 0.5)
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
    """Texts cut at random from a few streams of words, so that many are alike to any degree, in chains."""
    generator, rows = np.random.default_rng(5), []
    for number in range(240):
        stream, start, length = generator.integers(6), generator.integers(300), generator.integers(3, 60)
        text = " ".join(f"s{stream}w{place}" for place in range(start, start + length))
        rows.append((str(generator.choice(["en", "fr", "py"])), f"a{number}", str(generator.choice(["train", "validation", "test"], p=[0.6, 0.2, 0.2])), text))
    return split_table(*rows)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
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
    left = windows.drop(index=found.row)
    assert find_copies(left, threshold).empty


def test_copies_are_the_same_twice_and_whatever_the_order_and_index_of_the_rows(windows):
    first = find_copies(windows, 0.5)
    pd.testing.assert_frame_equal(first, find_copies(windows, 0.5))
    shuffled = windows.sample(frac=1, random_state=1)
    again, keys = find_copies(shuffled, 0.5), ["language", "article_id", "split", "jaccard"]
    assert shuffled.article_id.iloc[again.row].tolist() == again.article_id.tolist()
    assert set(again[keys].itertuples(index=False)) == set(first[keys].itertuples(index=False))


def test_without_copies_the_table_is_empty_and_has_its_columns(documents):
    found = find_copies(documents.assign(split="train"), 0.5)
    assert found.empty
    assert list(found.columns) == ["row", "language", "article_id", "split", "copy_of", "copy_of_language", "copy_of_split", "jaccard"]
