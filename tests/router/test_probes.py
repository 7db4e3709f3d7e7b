"""Texts that put a router to the test."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from mome.config import repository
from mome.data.tokenizer import N_BYTE_TOKENS, train_tokenizer
from mome.evaluate.routing import risk_coverage
from mome.router.classifiers import fit_classifier, sample_rows
from mome.router.probes import (
    COMMENT_WIDTH,
    ask_langid,
    comment_code,
    comment_rows,
    cut_documents,
    cut_texts,
    find_gaps,
    mix_rows,
    read_commented_code,
    read_domains,
    read_mixes,
    read_strangers,
)

PROSE = ["La Lune est le seul satellite naturel de la Terre ; elle n'a pas d'air, \"dit-on\". " * 3,
         "Der Apfel wächst\tam Baum.\nSein Kern ist klein. " * 5,
         "A back\\slash, a {brace} and '''three quotes'''."]
PATHS = sorted((repository() / "data/mini/py").rglob("*.py"))
FILES = {path.name: path.read_text(encoding="utf-8") for path in PATHS}


@pytest.fixture(scope="module")
def letters():
    """A tokenizer for which every byte is one token."""
    return train_tokenizer([], N_BYTE_TOKENS)


@pytest.fixture(scope="module")
def short(pack):
    """Data of two languages whose rows have an odd number of tokens."""
    return pack(["en", "fr"], vocab_size=500, context=33, tokens_per_language=5_000, validation_fraction=0.1,
                test_fraction=0.1, split_seed=0)


# Texts of any length

def test_texts_are_cut_into_full_rows_of_one_text_each_that_follow_one_another(letters):
    rows = cut_texts(["a" * 10, "b" * 3, "", "c" * 4, "d" * 9], letters, 4, 100)
    assert (rows.dtype, rows.shape) == (np.uint16, (5, 4))
    assert [letters.decode(row) for row in rows] == ["aaaa", "aaaa", "cccc", "dddd", "dddd"]
    assert "".join(letters.decode(row) for row in cut_texts(["abcdefghij"], letters, 3, 9)) == "abcdefghi"
    assert cut_texts(["</s>"], letters, 4, 1).min() > 2


def test_cut_rows_are_spread_evenly_from_the_first_to_the_last(letters):
    text = "".join(chr(97 + number) * 2 for number in range(10))
    for at_most in (1, 2, 5, 10):
        numbers = [ord(letters.decode(row)[0]) - 97 for row in cut_texts([text], letters, 2, at_most)]
        assert len(set(numbers)) == at_most
        assert numbers[0] == 0
        assert at_most == 1 or (numbers[-1] == 9 and np.ptp(np.diff(numbers)) <= 1)


def test_where_no_text_fills_a_row_texts_stand_end_to_end_and_short_ones_give_none(letters):
    rows = cut_texts(["abc", "", "de", "fgh", "i"], letters, 4, 100)
    assert [letters.decode(row) for row in rows] == ["abcd", "efgh"]
    for texts in (["abc"], ["", "a", "ab"], [""]):
        assert cut_texts(texts, letters, 4, 10).shape == (0, 4)
    assert cut_texts(["abcdefgh"], letters, 4, 0).shape == (0, 4)


# Another corpus

def test_documents_are_cut_into_rows_of_one_article_so_many_a_language(letters):
    documents = pd.DataFrame([{"language": language, "article_id": f"{language}{number}",
                               "text": f"{number}" * length}
                              for language in ("en", "fr")
                              for number, length in enumerate((40, 3, 9, 40, 40))])
    rows, labels, article_ids = cut_documents(documents, ["fr", "en"], letters, 4, at_most=6)
    assert rows.shape == (12, 4)
    assert labels.tolist() == [0] * 6 + [1] * 6
    assert [letters.decode(row) for row in rows] == [4 * name[-1] for name in article_ids]
    assert {name[:2] for name in article_ids[:6]} == {"fr"}
    assert pd.Series(article_ids).value_counts().max() <= 4
    again = cut_documents(documents, ["fr", "en"], letters, 4, at_most=6)
    assert all(np.array_equal(*pair) for pair in zip(again, (rows, labels, article_ids), strict=True))


def test_only_so_many_characters_and_rows_of_an_article_are_read_and_none_of_short_documents(letters):
    documents = pd.DataFrame({"language": ["en"], "article_id": ["a"], "text": ["abcdefghijklmnop"]})
    rows, _, _ = cut_documents(documents, ["en"], letters, 2, 100, cut_characters=5, article_rows=9)
    assert [letters.decode(row) for row in rows] == ["ab", "cd"]
    assert len(cut_documents(documents, ["en"], letters, 2, 100, article_rows=3)[0]) == 3
    documents = pd.DataFrame({"language": ["en"], "article_id": ["a"], "text": ["abc"]})
    for some in (documents, documents[:0]):
        rows, labels, article_ids = cut_documents(some, ["en", "fr"], letters, 4, 5)
        assert (rows.shape, labels.shape, article_ids.shape) == ((0, 4), (0,), (0,))


def test_each_classifier_reads_each_domain_that_has_rows(short, models):
    rows, labels = sample_rows(short, "test", None)
    domains = {"another": (rows[:4], labels[:4], list("abcd")), "none": (rows[:0], labels[:0], [])}
    table = read_domains(models, short, domains)
    assert list(table) == ["domain", "classifier", "article_id", "label", "predicted"]
    n_own = len(short.rows("validation"))
    assert table.groupby(["domain", "classifier"], sort=False).size().to_dict() == {
        ("this corpus", "logistic_regression"): n_own, ("this corpus", "linear_svm"): n_own,
        ("another", "logistic_regression"): 4, ("another", "linear_svm"): 4}
    own = table[(table.domain == "this corpus") & (table.classifier == "linear_svm")]
    assert own.article_id.tolist() == list(short.dataset["validation"]["article_id"])
    assert own.label.tolist() == short.language_index("validation").tolist()
    assert own.predicted.tolist() == models["linear_svm"].predict(short.rows("validation")).tolist()
    other = table[(table.domain == "another") & (table.classifier == "linear_svm")]
    assert (other.article_id.tolist(), other.label.tolist()) == (list("abcd"), labels[:4].tolist())
    assert other.predicted.tolist() == models["linear_svm"].predict(rows[:4]).tolist()
    of_test = read_domains(models, short, {}, split="test")
    assert len(of_test) == 2 * len(rows)


# Two languages in one sequence

def test_a_mixed_row_holds_exactly_its_share_of_the_second_language(short):
    rows = short.rows("validation")
    english, french = (rows[short.row_numbers("validation", language, 5)] for language in ("en", "fr"))
    n = min(5, len(english), len(french))
    for share in (0, 0.1, 0.25, 0.5, 0.9, 1):
        mixed, second = mix_rows(short, "en", "fr", share, 5, "validation"), round(share * 33)
        assert mixed.shape == (n, 33)
        assert np.array_equal(mixed[:, :33 - second], english[:n, :33 - second])
        assert np.array_equal(mixed[:, 33 - second:], french[:n, :second])


def test_at_the_ends_of_a_mix_a_classifier_reads_what_it_reads_of_pure_rows(short, models):
    table = read_mixes(models, short, [0.0, 0.5, 1.0], n_rows=10)
    assert list(table) == ["first", "second", "percent", "classifier", "as_second", "n_rows"]
    assert table[["first", "second"]].drop_duplicates().to_numpy().tolist() == [["en", "fr"]]
    for name, model in models.items():
        read = table[table.classifier == name].set_index("percent").as_second
        for percent, language in ((0, "en"), (100, "fr")):
            pure = short.rows("validation")[short.row_numbers("validation", language, 10)]
            assert read[percent] == pytest.approx(100 * np.mean(model.predict(pure) == 1))
        assert read[0] < read[100]
    assert (table.n_rows == min(10, len(pure))).all()


def test_all_pairs_of_languages_are_mixed_in_their_order(data):
    says_last = SimpleNamespace(predict=lambda rows: np.full(len(rows), 3))
    table = read_mixes({"says py": says_last}, data, [0.5], n_rows=2)
    assert table[["first", "second"]].to_numpy().tolist() == [
        ["en", "fr"], ["en", "de"], ["en", "py"], ["fr", "de"], ["fr", "py"], ["de", "py"]]
    assert table.as_second.tolist() == [0, 0, 100, 0, 100, 100]


# Code with foreign comments

def comment(code: str, share: float, seed: int) -> str:
    return comment_code(code, PROSE, share, np.random.default_rng(seed), find_gaps(code))


def added_lines(code: str, commented: str) -> list[str]:
    """Return the lines that are new; fails unless the code's own lines all stand there in their order."""
    own, added = code.split("\n"), []
    for line in commented.split("\n"):
        if own and line == own[0]:
            own.pop(0)
        else:
            added.append(line)
    assert not own
    return added


def test_commented_code_keeps_its_lines_in_order_and_compiles():
    assert len(FILES) == 64
    for number, (name, code) in enumerate(FILES.items()):
        commented = comment(code, 0.7 if number % 4 else 0.1, number)
        compile(commented, name, "exec")
        added = added_lines(code, commented)
        assert all(line.lstrip().startswith(("# ", "NOTE_")) for line in added)
        kinds = [line.lstrip().startswith("# ") for line in added]
        assert sum(kinds) - len(kinds) / 2 in (0, 0.5)


@pytest.mark.parametrize("share", [0.05, 0.8])
def test_the_share_of_comments_is_about_what_was_asked(share):
    for code in FILES.values():
        commented = comment(code, share, 0)
        notes = sum(len(line.lstrip()) for line in added_lines(code, commented))
        assert notes / (notes + len(code)) >= share
        # less than one paragraph and its marks too much
        assert notes - share / (1 - share) * len(code) < max(map(len, PROSE)) + 20 * 6


def test_comments_depend_on_the_generators_seed_only_and_no_share_leaves_the_code_as_it_is():
    for code in ("", "x = 1", "x = 1\n"):
        assert comment(code, 0, 0) == code
    code = FILES[min(FILES)]
    first, again, other = (comment(code, 0.5, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_comments_are_indented_as_the_line_that_follows_and_not_wide():
    code = "def f():\n    if True:\n        return 1\n"
    commented = comment(code, 0.95, 0).split("\n")
    depths = [len(line) - len(line.lstrip()) for line in commented]
    is_note = [line.lstrip().startswith(("# ", "NOTE_")) for line in commented]
    assert all(depths[place] == depths[place + 1] for place in range(len(commented) - 1) if is_note[place])
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


def test_statements_are_put_only_where_they_break_nothing_and_in_other_languages_between_any_lines():
    lines, gaps = AWKWARD.split("\n"), find_gaps(AWKWARD)
    assert gaps[-1] == len(lines)
    assert [lines[place].strip() for place in gaps[:-1]] == [
        "import sys", "@property", "if a: return 1", 'x = """many', "try:", "pass", "pass", "y = 1; z = 2",
        "match x:", "pass", "return (x,"]
    for seed in range(5):
        compile(comment(AWKWARD, 0.9, seed), "awkward.py", "exec")
    piece = "def f(x):\n    y = 1\n    return y\n\n\ndef g():\n    return (x,"
    assert find_gaps(piece) == [0, 1, 2, 5]  # before its last statement, which was cut, not within it
    assert comment(piece, 0.9, 0).endswith("def g():\n    return (x,")
    code = "SELECT name\nFROM people\nWHERE age > 3;"
    assert find_gaps(code) == [0, 1, 2, 3]
    assert added_lines(code, comment(code, 0.5, 0))


def toy_data(tokenizer, context: int) -> SimpleNamespace:
    rows = np.zeros((1, context), dtype=np.uint16)
    return SimpleNamespace(languages=["en", "py"], tokenizer=tokenizer, rows=lambda split: rows)


def test_code_without_comments_is_read_as_often_as_code_alone_by_each_classifier(letters):
    prose = "A line of prose that is longer than forty characters, certainly."
    documents = pd.DataFrame({"language": ["en", "py"], "text": [prose, "\n".join(FILES.values())]})
    # one says code always, one says so where the first token is that of the files' first letter
    first = cut_texts(["\n".join(FILES.values())], letters, 16, 1)[0, 0]
    models = {"yes": SimpleNamespace(predict=lambda rows: np.full(len(rows), 1)),
              "first": SimpleNamespace(predict=lambda rows: (rows[:, 0] == first).astype(int))}
    data = toy_data(letters, 16)
    table = read_commented_code(models, data, comment_rows(data, documents, "py", [0, 0.5], n_rows=5), "py")
    rows = cut_texts(["\n".join(FILES.values())], letters, 16, 5)
    assert table.drop(columns="as_code").to_dict("list") == {
        "language": ["en"] * 4, "percent": [0, 0, 50, 50], "classifier": ["yes", "first"] * 2,
        "n_rows": [5] * 4}
    assert table.as_code[:3].tolist() == [100, 100 * np.mean(rows[:, 0] == first), 100]


def test_where_no_text_fills_a_row_nothing_is_measured_and_nothing_fails(letters):
    documents = pd.DataFrame({"language": ["en", "py"], "text": ["Some prose.", "x = 1\n"]})
    model = SimpleNamespace(predict=lambda rows: pytest.fail("no row is there to be read"))
    data = toy_data(letters, 1_024)
    table = read_commented_code({"any": model}, data, comment_rows(data, documents, "py", [0, 0.5]), "py")
    assert table.as_code.isna().all()
    assert (table.n_rows == 0).all()


# Unknown languages, and an outsider

@pytest.fixture(scope="module")
def models(short):
    return {name: fit_classifier(short, name, 100) for name in ("logistic_regression", "linear_svm")}


@pytest.fixture
def strangers():
    return pd.DataFrame({"language": ["es", "sql", "it"], "text": [
        "El manzano da manzanas rojas y verdes en otoño. " * 20, "SELECT a FROM b;\n" * 60, "Ciao."]})


def test_strangers_are_sent_somewhere_and_abstaining_counts_them_as_wrong(short, models, strangers):
    sent, answers = read_strangers(models, short, strangers)
    assert list(sent) == ["classifier", "language", "n_rows", "auroc", "en", "fr"]
    assert set(sent.classifier) == {"logistic_regression"}  # a linear SVM has no probabilities
    n_odd = [len(cut_texts([text], short.tokenizer, 33, 200)) for text in strangers.text]
    assert sent.n_rows.tolist() == n_odd
    assert n_odd[2] == 0 < min(n_odd[:2])
    assert sent[["en", "fr"]][:2].sum(axis=1).to_numpy() == pytest.approx([100, 100])
    assert sent.auroc[:2].between(0, 1).all()
    assert sent.loc[2, ["auroc", "en", "fr"]].isna().all()  # no text in Italian fills a row
    rows, labels = sample_rows(short, "validation", None)
    probs = models["logistic_regression"].predict_proba(rows)
    assert answers.confidence[:len(rows)].tolist() == probs.max(axis=1).tolist()
    assert answers.is_right[:len(rows)].tolist() == (probs.argmax(axis=1) == labels).tolist()
    assert len(answers) == len(rows) + sum(n_odd)
    assert not answers.is_right[len(rows):].any()
    n_wrong = sum(n_odd) + (probs.argmax(axis=1) != labels).sum()
    coverage = risk_coverage(answers.confidence.to_numpy(), answers.is_right.to_numpy())
    assert coverage.risk.iloc[-1] == pytest.approx(n_wrong / len(answers))


def test_auroc_is_the_chance_that_a_known_row_is_surer_than_a_strange_one_if_there_are_probabilities(
        short, strangers, models):
    model = models["logistic_regression"]
    sent, _ = read_strangers({"any": model}, short, strangers[:1])
    odd = model.predict_proba(cut_texts(list(strangers.text[:1]), short.tokenizer, 33, 200)).max(axis=1)
    known = model.predict_proba(short.rows("validation")).max(axis=1)
    chance = np.mean((known[:, None] > odd) + 0.5 * (known[:, None] == odd))
    assert sent.auroc[0] == pytest.approx(chance)
    sent, answers = read_strangers({"linear_svm": models["linear_svm"]}, short, strangers)
    assert (len(sent), len(answers)) == (0, 0)
    assert list(answers) == ["classifier", "confidence", "is_right"]


def test_an_outsider_tells_natural_languages_apart_and_is_not_asked_of_code(data, monkeypatch):
    from py3langid.langid import LanguageIdentifier

    known = ["en", "fr", "de", "py"]  # were Python's name also that of a language
    monkeypatch.setattr(LanguageIdentifier, "labels", property(lambda self: known))
    table = ask_langid(data).set_index("language").f1
    assert list(table.index) == ["en", "fr", "de", "py"]
    assert (table[:3] > 0.9).all()
    assert np.isnan(table["py"])


@pytest.mark.parametrize("languages", [["de", "xx", "en"], ["py", "sql"]])
def test_of_languages_that_the_outsider_does_not_know_nothing_is_said(letters, languages):
    texts = ["Der Hund schläft auf dem alten Sofa.  ", "The dog sleeps on the old green sofa.  "]
    rows = cut_texts([texts[0], texts[1], texts[1], texts[1]], letters, 38, 9)
    labels = np.array([0, 0, 1, 1] if "py" in languages else [0, 1, 2, 2])
    numbers = {language: np.flatnonzero(labels == number) for number, language in enumerate(languages)}
    data = SimpleNamespace(languages=languages, tokenizer=letters, rows=lambda split: rows,
                           language_index=lambda split: labels,
                           row_numbers=lambda split, language, at_most: numbers[language])
    table = ask_langid(data).set_index("language").f1
    if "py" in languages:
        assert table.isna().all()
    else:
        assert table.to_dict() == pytest.approx({"de": 1, "xx": np.nan, "en": 1}, nan_ok=True)


def test_f1_of_the_outsider_is_that_of_its_answers_per_language(two, monkeypatch):
    from py3langid.langid import LanguageIdentifier

    data = two[0]
    monkeypatch.setattr(LanguageIdentifier, "classify", lambda self, text: (["fr", "en"][len(text) % 2], 0.0))
    texts = data.tokenizer.batch_decode(data.rows("validation"), skip_special_tokens=True)
    answers = ["en" if len(text) % 2 else "fr" for text in texts]
    truth = [data.languages[label] for label in data.language_index("validation")]
    expected = f1_score(truth, answers, average=None, labels=["en", "fr"])
    assert ask_langid(data).f1.tolist() == pytest.approx(expected.tolist())
