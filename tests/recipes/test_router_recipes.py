"""Recipes of routers: the workbook's own, the classifiers beside it, and what they make of odd texts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

from mome.engine import build_here
from mome.recipe import list_ancestors
from mome.recipes.data import Corpus, Data, OtherRows
from mome.recipes.routers import (
    CommentedRows,
    ComparedClassifier,
    FittedRouter,
    OtherReadings,
    ProbedClassifier,
)
from mome.recipes.setting import find_corpus, open_setting
from mome.router import CLASSIFIERS
from mome.router.classifiers import fit_classifier
from mome.router.compare import compare_classifier

OWN = "logistic_regression"
DATA = Data.of(open_setting("smoke", "mini", ["en", "py"]))
OTHER, ENGLISH = dataclasses.replace(DATA, split_seed=1), dataclasses.replace(DATA, languages=["en"])
MINI = find_corpus("mini", ["es"], open_setting("smoke", "mini", ["es"]).scale)[0]
ROWS = OtherRows(DATA, Corpus("reference", ["en", "py"], "2026-11-25"), 5)
FITTED = {"data": OTHER, "rows_per_language": 11, "options": {"C": 2}, "seed": 7}
READ = {**FITTED, "classifier": "logistic_regression_l2"}  # its options are called the same
FRENCH = Data.of(open_setting("smoke", "mini", ["fr"]), read_by=DATA)
CHANGES = {
    FittedRouter(DATA, 10): {**FITTED, "added": (FRENCH,)},
    ComparedClassifier(DATA, OWN, 10, [1, 2]): {**READ, "prefixes": [2, 1], "split": "test"},
    CommentedRows(DATA): {"data": OTHER, "shares": [0.5], "n_rows": 1, "seed": 1, "split": "test"},
    ProbedClassifier(DATA, OWN, 10, None, None): {
        **READ, "strangers": MINI, "commented": CommentedRows(DATA), "mixes": [0.5], "mix_rows": 1,
        "stranger_rows": 1, "split": "test"},
    OtherReadings(DATA, OWN, 10, ROWS): {**READ, "other": dataclasses.replace(ROWS, rows_per_language=6)}}


@pytest.fixture(scope="module")
def strangers(tiny_setting):
    return find_corpus("mini", ["es", "sql"], tiny_setting.scale)[0]


@pytest.fixture(scope="module")
def compared(tiny_setting):
    recipe = ComparedClassifier.of(tiny_setting, OWN, [1, 4], "validation")
    build_here(recipe)
    return recipe


@pytest.fixture(scope="module")
def probed(tiny_setting, strangers):
    data = Data.of(tiny_setting)
    recipe = ProbedClassifier(data, OWN, TINY["router_rows"], strangers, CommentedRows(data))
    build_here(recipe)
    return recipe.open()


# Names

@pytest.mark.parametrize("recipe", CHANGES)
def test_each_field_changes_the_name(recipe):
    assert set(CHANGES[recipe]) == {field.name for field in dataclasses.fields(recipe)}
    others = {dataclasses.replace(recipe, **{name: value}).name for name, value in CHANGES[recipe].items()}
    assert len({recipe.name, *others}) == 1 + len(CHANGES[recipe])


def test_router_rows_rename_routers_not_data_what_is_not_used_neither_and_a_split_seed_both():
    def names(**overrides):
        setting = open_setting("smoke", "mini", ["en", "py"], overrides)
        data = Data.of(setting)
        return data.name, FittedRouter.of(setting).name, ComparedClassifier.of(setting, OWN, [1], "test").name

    usual, more_rows, other_data = names(), names(router_rows=401), names(tokens_per_language=50_000)
    assert usual[0] == more_rows[0] != other_data[0]
    assert len({*usual[1:], *more_rows[1:], *other_data[1:]}) == 6
    usual, other = (open_setting("smoke", "mini", ["en", "py"], overrides)
                    for overrides in ({}, {"muon_lr": 0.5, "teacher_tokens": 9_999, "evaluation_rows": 3}))
    assert FittedRouter.of(usual).name == FittedRouter.of(other).name
    setting = open_setting("smoke", "mini", ["en", "py"])
    first, second = (ComparedClassifier.of(setting, OWN, [1], "test", seed) for seed in (0, 1))
    assert first.data == Data.of(setting) != second.data == Data.of(setting, 1)
    assert first.data.corpus == second.data.corpus


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_an_option_said_as_it_is_by_default_is_one_value_with_the_default_unsaid(classifier):
    usual = ComparedClassifier(DATA, classifier, 10, [1])
    for form in (dict(usual.options), usual.options, usual.options[:1]):
        assert ComparedClassifier(DATA, classifier, 10, [1], options=form) == usual


@pytest.mark.parametrize("make, words", [
    (lambda: ComparedClassifier(DATA, "bayes", 10, [1]), "classifier='bayes'"),
    (lambda: ComparedClassifier(DATA, OWN, 10, [0]), "prefixes=0"),
    (lambda: ComparedClassifier(ENGLISH, OWN, 10, [1]), r"languages=\['en'\] is not allowed"),
    (lambda: ComparedClassifier(DATA, OWN, 10, [1], options={"n_trees": 5}), "option of .*='n_trees'"),
    (lambda: ComparedClassifier(DATA, OWN, 10, [1], "dev"), "split='dev'"),
    (lambda: CommentedRows(DATA, split="dev"), "split='dev'"),
    (lambda: ProbedClassifier(DATA, OWN, 10, None, None, split="dev"), "split='dev'"),
    (lambda: CommentedRows(ENGLISH), r"languages=\['en'\] is not allowed"),
    (lambda: FittedRouter(DATA, 0), "rows_per_language=0"),
    (lambda: FittedRouter(DATA, 10, options={"C": -1}), "C=-1"),
    (lambda: ProbedClassifier(DATA, "bayes", 10, None, None), "classifier='bayes'"),
    (lambda: OtherReadings(DATA, "bayes", 10, ROWS), "classifier='bayes'")])
def test_what_is_not_allowed_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_languages_of_a_router_are_those_of_its_data_in_order():
    router = FittedRouter(DATA, 10, (FRENCH,))
    assert router.languages == ("en", "py", "fr")
    assert [recipe.kind() for recipe in list_ancestors([router])].count("data") == 2


# What is built

def test_a_comparison_is_that_of_the_classifier_with_a_line_per_prefix_and_sequence(tiny_setting, compared):
    found = compared.open()
    scores, predictions = compare_classifier(Data.of(tiny_setting).open(), OWN, TINY["router_rows"], [1, 4])
    timed = ["fit_seconds", "sequences_per_second"]
    pd.testing.assert_frame_equal(found["scores"].drop(columns=timed), scores.drop(columns=timed))
    pd.testing.assert_frame_equal(found["predictions"], predictions)
    scores, predictions = (compared.open()[name] for name in ("scores", "predictions"))
    n_rows = len(Data.of(tiny_setting).open().rows("validation"))
    assert scores.prefix.tolist() == [1, 4, TINY["context"]] and len(predictions) == 3 * n_rows
    is_right = predictions.label == predictions.predicted
    assert is_right.groupby(predictions.prefix).mean().tolist() == pytest.approx(scores.recall.tolist())


def test_another_split_and_options_reach_the_classifier(tiny_setting):
    options, data = {"n_trees": 3}, Data.of(tiny_setting)
    recipe = ComparedClassifier(data, "random_forest", 20, [1], options=options, split="test")
    build_here(recipe)
    assert recipe.open()["scores"].n_sequences[0] == len(Data.of(tiny_setting).open().rows("test"))
    usual = dataclasses.replace(recipe, options=())
    build_here(usual)
    assert usual.open()["scores"].stored_bytes[0] > 10 * recipe.open()["scores"].stored_bytes[0]  # 100 trees


def test_the_fitted_router_reads_as_the_compared_logistic_regression(tiny_setting, compared):
    recipe = FittedRouter.of(tiny_setting)
    build_here(recipe)
    router, data = recipe.open(), Data.of(tiny_setting).open()
    with torch.inference_mode():
        probs = router(torch.from_numpy(data.rows("validation").astype(np.int64))).numpy()
    whole = compared.open()["predictions"].query(f"prefix == {TINY['context']}")
    assert router.languages == data.languages
    assert (probs.argmax(axis=1) == whole.predicted).all()
    np.testing.assert_allclose(probs.max(axis=1), whole.confidence, atol=1e-5)


def test_a_router_on_another_tokenizer_s_ids_is_refused(tiny_setting, monkeypatch):
    recipe, other = FittedRouter.of(tiny_setting), Data.of(tiny_setting, vocab_size=590)
    build_here([recipe, other])
    found = other.open()
    monkeypatch.setattr(Data, "open", lambda self: found)
    with pytest.raises(ValueError, match="not the one that this router was fitted with"):
        recipe.open()


def test_a_router_knows_the_languages_of_added_data(tiny_setting):
    host, corpus = Data.of(tiny_setting), find_corpus("mini", ["it"], tiny_setting.scale)[0]
    added = Data.of(tiny_setting, corpus=corpus, languages=["it"], validation_fraction=0.2,
                    test_fraction=0.2, read_by=host)
    recipe = FittedRouter.of(tiny_setting, (added,))
    build_here(recipe)
    router, rows = recipe.open(), added.open().rows("validation")
    assert router.languages == ["en", "fr", "de", "py", "it"] == list(recipe.languages)
    assert (router.route(rows) == 4).mean() > 0.5


@pytest.mark.parametrize("classifier, options, seed, split", [
    (OWN, (), 42, "validation"), ("random_forest", {"n_trees": 2}, 5, "test")])
def test_a_probed_classifier_is_the_compared_one(tiny_setting, classifier, options, seed, split):
    data = Data.of(tiny_setting)
    asked = {"data": data, "classifier": classifier, "rows_per_language": 50, "seed": seed}
    asked["options"] = options
    compared = ComparedClassifier(**asked, prefixes=[1], split=split)
    probed = ProbedClassifier(**asked, strangers=None, commented=None, mixes=[0.5], split=split)
    other = OtherReadings(**asked, other=OtherRows(data, tiny_setting.corpus, 6))
    build_here([compared, probed, other])
    whole = compared.open()["predictions"].query(f"prefix == {TINY['context']}").reset_index(drop=True)
    domains = probed.open()["domains"]
    assert domains.domain.unique().tolist() == ["this corpus"]
    for column in ("article_id", "label", "predicted"):
        assert domains[column].tolist() == whole[column].tolist()
    fitted = fit_classifier(data.open(), classifier, 50, seed, **dict(options))
    assert other.open().predicted.tolist() == fitted.predict(other.other.open()[0]).tolist()


def test_a_probed_classifier_keeps_a_table_for_every_kind_of_odd_text_that_applies(
        tiny_setting, probed, strangers):
    assert set(probed) == {"domains", "mixes", "strangers", "answers", "comments"}
    assert sorted(probed["mixes"].percent.unique()) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert len(probed["mixes"]) == 6 * 11
    assert probed["strangers"].language.tolist() == ["es", "sql"]
    assert probed["comments"].language.unique().tolist() == ["en", "fr", "de"]
    assert probed["comments"].percent.unique().tolist() == [0, 25, 50, 75, 90]
    n_known = len(Data.of(tiny_setting).open().rows("validation"))
    assert len(probed["answers"]) == n_known + probed["strangers"].n_rows.sum()
    of_test = ProbedClassifier.of(Data.of(tiny_setting), OWN, 100, strangers, "test")
    build_here(of_test)
    plain, usual = (np.array(list(recipe.open().rows[0])).tolist()  # code without a comment
                    for recipe in (of_test.commented, CommentedRows(Data.of(tiny_setting))))
    assert plain != usual
    n_known = len(Data.of(tiny_setting).open().rows("test"))
    assert len(of_test.open()["answers"]) == n_known + probed["strangers"].n_rows.sum()
    assert of_test.open()["mixes"].n_rows.sum() > probed["mixes"].n_rows.sum()
    without = ProbedClassifier(Data.of(tiny_setting, languages=["en", "fr"]), OWN, 20, None, None, [0.5])
    build_here(without)
    assert set(without.open()) == {"domains", "mixes"}


def test_other_readings_are_of_another_corpus_alone_and_may_be_missing(tiny_setting):
    rows = OtherRows(Data.of(tiny_setting), tiny_setting.corpus, 6)
    recipe = OtherReadings(Data.of(tiny_setting), OWN, TINY["router_rows"], rows)
    build_here(recipe)
    table = recipe.open()
    assert table.domain.unique().tolist() == ["another"] and len(table) == 24
    assert table.label.tolist() == rows.open()[1].tolist()
    assert (table.label == table.predicted).mean() > 0.5  # it is its own corpus here
    assert recipe.is_optional
    assert not any(kind.is_optional for kind in (ComparedClassifier, ProbedClassifier, FittedRouter))
