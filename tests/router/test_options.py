"""The names of the classifiers and of their options."""

import subprocess
import sys

import pytest
from cases import each

from mome.router import CLASSIFIER_OPTIONS, CLASSIFIERS, check_classifier_options
from mome.router.classifiers import make_classifier


def test_the_names_load_no_library():
    code = "import sys, mome.router; assert not {'torch', 'sklearn', 'pandas', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@each("name", CLASSIFIERS)
def test_unsaid_options_are_the_defaults_and_each_option_changes_the_classifier(name):
    defaults = CLASSIFIER_OPTIONS[name]
    assert check_classifier_options(name) == defaults
    plain = str(make_classifier(name, 700).get_params())
    assert str(make_classifier(name, 700, **defaults).get_params()) == plain
    for option, value in defaults.items():
        assert check_classifier_options(name, {option: 2 * value}) == {**defaults, option: 2 * value}
        smaller = {option: value - 1} if isinstance(value, int) else {option: value / 2}
        assert str(make_classifier(name, 700, **smaller).get_params()) != plain


def test_options_come_as_a_mapping_or_as_pairs_and_whole_numbers_become_fractions():
    for options in ({"C": 2}, (("C", 2),), [["C", 2.0]]):
        chosen = check_classifier_options("logistic_regression", options)
        assert (chosen["C"], type(chosen["C"])) == (2.0, float)
    for n in (3, 3.0):  # as recipes hold it
        assert type(check_classifier_options("random_forest", {"n_trees": n})["n_trees"]) is int
    assert CLASSIFIER_OPTIONS["logistic_regression"]["C"] == 0.01  # no default has moved


def test_an_unknown_classifier_is_refused_with_the_known_ones_and_an_option_of_another_with_its_own():
    for refuse in (lambda: check_classifier_options("forest"), lambda: make_classifier("forest", 700)):
        with pytest.raises(ValueError, match=r"classifier='forest'.*majority.*logistic_regression"):
            refuse()
    for refuse in (check_classifier_options, lambda name, options: make_classifier(name, 700, **options)):
        with pytest.raises(ValueError, match=r"option of random_forest='C' .*n_special, n_trees"):
            refuse("random_forest", {"C": 1.0})


@each("name, option, value", [
    ("logistic_regression", "C", 0), ("logistic_regression", "C", "1"), ("linear_svm", "C", float("nan")),
    ("multinomial_nb", "smoothing", True), ("random_forest", "n_trees", 2.5), ("majority", "n_special", -1)])
def test_a_value_of_the_wrong_kind_or_size_is_refused_by_name(name, option, value):
    with pytest.raises(ValueError, match=f"{option}={value!r} is not allowed"):
        check_classifier_options(name, {option: value})
    assert check_classifier_options("majority", {"n_special": 0}) == {"n_special": 0}
