"""Cleaning: Unicode, boilerplate, words."""

import unicodedata

import numpy as np
import pandas as pd
import pytest

from mome.data.clean import WORD, clean_documents, normalize

NATURAL = ["en", "fr", "de"]
# Every character or pair that normalize treats, between letters: taking one away can bring others together.
MARKS = ["a", "e", "\u0301", "\u00e9", "\r", "\n", "\t", "\x85", "\u2028", "\u2029", "\0", "\x0b", "\x0c",
         "\x1f", "\x7f", "\x92", "\x9f", "\ufeff", "\u00ad", "\u200b", "\u200c", "\u200d", "\ud83d", "\ude00",
         "😀", "\u1100", "\u1161", "\u212b", "\u0344", " "]


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "text"])


def texts_of(cleaned: pd.DataFrame) -> dict:
    return cleaned.set_index(["language", "article_id"]).text.to_dict()


# Normalize

@pytest.mark.parametrize("text, expected", [
    ("e\u0301te\u0301", "\u00e9t\u00e9"), ("\u1100\u1161", "가"), ("a\r\nb\rc\n", "a\nb\nc\n"),
    ("a\r\n\r\nb", "a\n\nb"),
    ("a\u2028b\u2029c\x85d", "a\nb\nc\nd"), ("a\0b\x07c\x7fd\x1a", "a b c d"), ("\ufeffa\ufeffb", "ab"),
    ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"), ("a\ud83db\ude00c", "abc"), ("", ""),
    ("e\u200b\u0301", "\u00e9"),
    # a form feed or vertical tab glues no words together, and goes beside white space
    ("a\x0bb\x1cc", "a b c"), ("a\x0c\x0b\x0cb", "a b"), ("a \x0cb\x0c c", "a b c"),
    ("import os\n\x0c\nclass A:\x0c\n\x0cdef", "import os\n\nclass A:\ndef"),
    # quotes and dashes of Windows that were read as Latin-1 are what they were
    ("don\x92t \x93say\x94 \x96 \x8cuvre \x80", "don’t “say” – Œuvre €"),
    ("undefined \x81\x8d\x8f\x90\x9d ones", "undefined  ones")])
def test_a_text_is_composed_and_loses_what_no_reader_sees(text, expected):
    assert normalize(text) == expected


@pytest.mark.parametrize("text", [
    "👩\u200d💻 👨\u200d👩\u200d👧", "می\u200cخواهم", "if x:\n\treturn\n\n", "  spaces  and\u00a0one ",
    "Grüße, 漢字 x\u0301"])
def test_joined_emoji_tabs_and_all_that_is_seen_stay(text):
    assert normalize(text) == text


def test_normalizing_twice_changes_nothing_more_and_leaves_no_control_character_but_tab_and_line_feed():
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(MARKS, 30)) for _ in range(2_000)]
    texts += [chr(code) for code in range(0x20000)]
    assert all(normalize(once) == once for once in map(normalize, texts))
    generator = np.random.default_rng(1)
    for _ in range(2_000):
        text = normalize("".join(generator.choice(MARKS, 30)))
        assert text.encode().decode() == text
        assert {character for character in text
                if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")} <= {"\t", "\n"}


# Clean

def test_a_line_that_stood_before_or_was_never_translated_is_dropped():
    cleaned, counts = clean_documents(table(
        ("en", "b", "menu\nbread\nbread"), ("en", "a", "menu\napple\n\n"), ("en", "c", "menu\napple"),
        ("fr", "a", "menu\npomme")))
    assert texts_of(cleaned) == {("en", "a"): "apple", ("en", "b"): "bread", ("fr", "a"): "pomme"}
    # en: menu and the second bread of b, both lines of c are repeated, the first menu is in French, too; line
    # ends count as characters
    assert counts.set_index("language").loc["en"].to_dict() == {
        "articles_before": 3, "articles_after": 2, "characters_before": 38, "characters_after": 10,
        "normalized_articles": 0, "repeated_lines": 4, "untranslated_lines": 1, "equal_articles": 0}
    assert counts.set_index("language").loc["fr", ["repeated_lines", "untranslated_lines"]].tolist() == [0, 1]


def test_lines_are_compared_in_their_normal_form():
    cleaned, counts = clean_documents(table(
        ("en", "a", "caf\u00e9\r\ntea\r\n"), ("en", "b", "cafe\u0301\nmilk"), ("en", "c", "bread"),
        ("fr", "a", "the\u0301\nbread\u200b")))
    assert texts_of(cleaned) == {("en", "a"): "café\ntea", ("en", "b"): "milk", ("fr", "a"): "thé"}
    # en: a has line ends and b an accent apart; characters before are those that were read: 4 + 2 + 3 + 2
    # of a, 5 + 1 + 4 of b, 5 of c
    assert counts.set_index("language").loc["en"].to_dict() == {
        "articles_before": 3, "articles_after": 2, "characters_before": 26, "characters_after": 12,
        "normalized_articles": 2, "repeated_lines": 1, "untranslated_lines": 1, "equal_articles": 0}
    assert counts.set_index("language").loc["fr", "normalized_articles"] == 1


def test_code_keeps_its_lines_and_loses_equal_files():
    code = "import os\n\nimport os\n"
    cleaned, counts = clean_documents(table(
        ("py", "b", code.replace("\n", "\r\n")), ("py", "a", code), ("py", "c", "import os\n"),
        ("py", "d", code), ("py", "e", " \n"), ("en", "a", "import os")))
    assert texts_of(cleaned[cleaned.language == "py"]) == {("py", "a"): code, ("py", "c"): "import os\n"}
    assert counts.set_index("language").loc["py"].to_dict() == {
        "articles_before": 5, "articles_after": 2, "characters_before": 24 + 21 + 10 + 21 + 2,
        "characters_after": 31, "normalized_articles": 1, "repeated_lines": 0,
        "untranslated_lines": 0, "equal_articles": 3}


def test_equal_files_of_two_code_languages_stay():
    cleaned, counts = clean_documents(table(("py", "a", "x = 1"), ("ruby", "a", "x = 1")))
    assert (len(cleaned), counts.equal_articles.tolist()) == (2, [0, 0])


def test_cleaning_leaves_what_it_was_given_alone():
    given = table(("en", "a", "x\r\nx"), ("py", "a", "y\r\n"))
    before = given.copy()
    clean_documents(given)
    pd.testing.assert_frame_equal(given, before)


def test_cleaning_keeps_the_order_of_languages_and_sorts_their_articles():
    cleaned, _ = clean_documents(table(("fr", "b", "x"), ("en", "b", "y"), ("fr", "a", "z")))
    assert list(texts_of(cleaned)) == [("fr", "a"), ("fr", "b"), ("en", "b")]


def test_cleaning_twice_removes_nothing_more_and_leaves_no_natural_line_twice(documents):
    once, _ = clean_documents(documents)
    twice, counts = clean_documents(once)
    pd.testing.assert_frame_equal(once, twice)
    assert (counts.characters_before == counts.characters_after).all()
    assert (counts.normalized_articles == 0).all()
    for language in NATURAL:
        lines = [line for text in once.text[once.language == language] for line in text.split("\n")]
        assert len(lines) == len(set(lines)) > 64


# Words

@pytest.mark.parametrize("text, words", [
    ("Don't stop, x_1!", ["Don", "t", "stop", "x_1"]), ("été, œuvre", ["été", "œuvre"]),
    ("한국어 문장", ["한국어", "문장"]), ("हिन्दी में पाठ।", ["हिन्दी", "में", "पाठ"]),
    ("我们2020年用iPhone。", ["我", "们", "2020", "年", "用", "iPhone"]), ("ไทยabc", ["ไ", "ท", "ย", "abc"]),
    ("かな", ["か", "な"]), ("... — !", [])])
def test_a_word_is_a_run_of_letters_with_their_marks_or_a_character_of_a_script_without_spaces(text, words):
    assert WORD.findall(text) == words
