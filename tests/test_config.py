"""Scales, overrides and the checks that every entry point shares."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from mome import config
from mome.config import SCALES, Scale, Shape, check_corpus, check_languages, check_range, check_seeds, check_shares, resolve_scale


def says(*parts) -> str:
    """Return a pattern for a message that holds all parts, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(str(part))})" for part in parts)


@pytest.mark.parametrize("name", SCALES)
def test_every_named_scale_resolves_to_itself(name):
    assert resolve_scale(name) == SCALES[name]
    assert resolve_scale(name, {}) == SCALES[name]
    assert SCALES[name].name == name


@pytest.mark.parametrize("name", SCALES)
def test_every_named_scale_survives_json(name):
    values = json.loads(json.dumps(config.as_dict(SCALES[name])))
    shapes = {key: Shape(**values.pop(key)) for key in ("teacher", "student", "expert")}
    assert Scale(**values, **shapes) == SCALES[name]


@pytest.mark.parametrize("name", SCALES)
def test_the_token_ids_of_every_scale_fit_in_sixteen_bits(name):
    assert SCALES[name].vocab_size <= 2**16


def test_steps_are_tokens_over_tokens_per_step_rounded_down():
    scale = resolve_scale("smoke", {"batch_size": 10, "micro_batch_size": 5, "context": 30, "teacher_tokens": 3_299, "student_tokens": 900})
    assert (scale.tokens_per_step, scale.teacher_steps, scale.student_steps) == (300, 10, 3)


def test_the_smallest_budget_still_makes_two_steps():
    scale = resolve_scale("smoke", {"teacher_tokens": 1, "student_tokens": 1})
    assert (scale.teacher_steps, scale.student_steps) == (2, 2)


@pytest.mark.parametrize(("name", "value"), [
    ("tokens_per_language", 0), ("vocab_size", 299), ("vocab_size", 65_537), ("context", 0), ("context", 64.0), ("batch_size", -1),
    ("micro_batch_size", True), ("teacher_tokens", 0), ("student_tokens", None), ("teacher_lr", 0), ("student_lr", -1e-3), ("teacher_lr", "1e-4"),
    ("teacher_lr", float("nan")), ("targets_per_token", 0), ("evaluation_rows", 0), ("evaluations", 0), ("router_rows", 0), ("warmup_fraction", 1.5),
    ("weight_decay", -0.1), ("max_grad_norm", 0), ("validation_fraction", 0), ("validation_fraction", 0.5), ("max_diff_percent", 0),
    ("max_diff_percent", -1), ("max_diff_percent", 101), ("mixed_precision", "bf8"), ("tie_word_embeddings", "false"), ("common_articles", 1),
    ("common_articles", "no"), ("near_duplicates", 0), ("near_duplicates", 0.09), ("near_duplicates", 1.1), ("near_duplicates", "half"), ("shares", "balanced"),
    ("shares", {}), ("shares", None), ("shares", ["en", "fr"])])
def test_a_value_that_a_field_does_not_allow_is_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=says(f"{name}={value!r}")):
        resolve_scale("smoke", {name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("vocab_size", 300), ("vocab_size", 65_536), ("context", 1_024), ("warmup_fraction", 0), ("warmup_fraction", 1), ("weight_decay", 0),
    ("validation_fraction", 0.4), ("max_diff_percent", 100), ("mixed_precision", "bf16"), ("tie_word_embeddings", False), ("teacher_lr", 1),
    ("max_diff_percent", 0.01), ("near_duplicates", 0.1), ("near_duplicates", 1), ("common_articles", False), ("shares", "imbalanced"),
    ("shares", {"en": 2, "fr": 0.5})])
def test_a_value_on_the_limit_is_allowed(name, value):
    assert getattr(resolve_scale("smoke", {name: value}), name) == value


def test_fewer_targets_per_token_are_kept_than_the_vocabulary_has():
    assert resolve_scale("smoke", {"vocab_size": 400, "targets_per_token": 399}).targets_per_token == 399
    with pytest.raises(ValueError, match=says("targets_per_token=400", "399")):
        resolve_scale("smoke", {"vocab_size": 400, "targets_per_token": 400})


def test_a_micro_batch_is_no_larger_than_the_batch():
    with pytest.raises(ValueError, match=says("micro_batch_size=8", "batch_size=4")):
        resolve_scale("smoke", {"batch_size": 4, "micro_batch_size": 8})


def test_a_scale_built_by_hand_validates_itself_too():
    values = {field.name: getattr(SCALES["smoke"], field.name) for field in fields(Scale)}
    with pytest.raises(ValueError, match=says("context=-5")):
        Scale(**{**values, "context": -5})


@pytest.mark.parametrize("values", [(0, 2, 48), (2, 0, 48), (2, 2, 0), (2, 2, 48.0), (2, "2", 48)])
def test_a_shape_takes_positive_whole_numbers_only(values):
    with pytest.raises(ValueError, match=says("whole number")):
        Shape(*values)


def test_the_width_of_a_shape_is_a_multiple_of_its_heads():
    with pytest.raises(ValueError, match=says("n_embd=50", "n_head=4")):
        Shape(2, 4, 50)


def test_an_override_changes_its_field_and_nothing_else():
    base, changed = config.as_dict(SCALES["smoke"]), config.as_dict(resolve_scale("smoke", {"context": 32}))
    assert changed == {**base, "context": 32}


def test_a_shape_is_overridden_in_part():
    scale = resolve_scale("smoke", {"student": {"n_layer": 6}})
    base = SCALES["smoke"]
    assert scale.student == Shape(6, base.student.n_head, base.student.n_embd)
    assert (scale.teacher, scale.expert) == (base.teacher, base.expert)


def test_overriding_leaves_the_overrides_and_the_named_scale_as_they_were():
    overrides, before = {"student": {"n_layer": 6}, "context": 32}, SCALES["smoke"]
    resolve_scale("smoke", overrides)
    assert overrides == {"student": {"n_layer": 6}, "context": 32}
    assert SCALES["smoke"] is before and before.student.n_layer != 6


@pytest.mark.parametrize("name", ["contxt", "name", "tokens_per_step"])
def test_an_unknown_override_is_refused_with_the_known_fields(name):
    with pytest.raises(ValueError, match=says("overrides", repr(name), "context", "student")):
        resolve_scale("smoke", {name: 3})


def test_an_unknown_part_of_a_shape_is_refused_with_the_known_parts():
    with pytest.raises(ValueError, match=says("student", "'layers'", "n_layer, n_head, n_embd")):
        resolve_scale("smoke", {"student": {"layers": 3}})


@pytest.mark.parametrize("value", [4, "small", [2, 2, 48], None])
def test_a_shape_is_overridden_by_a_mapping_only(value):
    with pytest.raises(ValueError, match=says("student", repr(value), "mapping")):
        resolve_scale("smoke", {"student": value})


def test_an_overridden_shape_is_checked():
    with pytest.raises(ValueError, match=says("n_head=5")):
        resolve_scale("smoke", {"student": {"n_head": 5}})
    with pytest.raises(ValueError, match=says("n_layer='2'")):
        resolve_scale("smoke", {"student": {"n_layer": "2"}})


def test_an_unknown_scale_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=says("scale='huge'", *SCALES)):
        resolve_scale("huge")


def test_check_choice_names_parameter_value_and_choices():
    config.check_choice("colour", "red", ("red", "blue"))
    with pytest.raises(ValueError, match=says("colour='green'", "red, blue")):
        config.check_choice("colour", "green", ("red", "blue"))


@pytest.mark.parametrize("value", [1, 2, 1.5])
def test_check_range_takes_its_own_limits(value):
    check_range("dose", value, 1, 2)


@pytest.mark.parametrize("value", [0.99, 2.01, "1", None, True, float("nan"), [1]])
def test_check_range_names_parameter_value_and_limits(value):
    with pytest.raises(ValueError, match=says(f"dose={value!r}", "a number", "[1, 2]")):
        check_range("dose", value, 1, 2)


def test_check_range_without_an_upper_limit_says_at_least():
    with pytest.raises(ValueError, match=says("dose=-1", "at least 0")):
        check_range("dose", -1, 0)


def test_check_range_on_whole_numbers_refuses_a_float():
    with pytest.raises(ValueError, match=says("dose=1.0", "whole number")):
        check_range("dose", 1.0, 0, 2, whole=True)


@pytest.mark.parametrize(("given", "seeds"), [("0", [0]), ("0,1,2", [0, 1, 2]), (" 3 , 1 ", [3, 1]), ([5, 4], [5, 4]), ([2**31 - 1], [2**31 - 1])])
def test_seeds_are_a_list_or_a_comma_separated_text(given, seeds):
    assert check_seeds(given) == seeds


@pytest.mark.parametrize("seeds", ["", ",", "1,,2", "1,", "a", "1,b", "-1", "1.5", "²", [], None, 3, {}, [-1], [1.0], ["1"], [True], [None], [2**31]])
def test_seeds_that_are_negative_empty_or_no_whole_numbers_are_refused(seeds):
    with pytest.raises(ValueError, match=says("seeds=", "whole number")):
        check_seeds(seeds)


@pytest.mark.parametrize("seeds", ["1,1", "1,01", [0, 3, 0]])
def test_a_seed_stands_once(seeds):
    with pytest.raises(ValueError, match=says("seeds=", "repeats")):
        check_seeds(seeds)


@pytest.mark.parametrize("given", ["en, fr", ["en", "fr"]])
def test_languages_are_a_list_or_a_comma_separated_text(given):
    assert check_languages(given, ["de", "en", "fr"]) == ["en", "fr"]


def test_languages_keep_the_order_in_which_they_were_given():
    assert check_languages(["py", "de", "en"]) == ["py", "de", "en"]


@pytest.mark.parametrize("languages", [[], "", "en,", [""], [1], None, ("en",)])
def test_languages_that_are_empty_or_no_names_are_refused(languages):
    with pytest.raises(ValueError, match=says("languages=", "such as")):
        check_languages(languages)


def test_a_language_stands_once():
    with pytest.raises(ValueError, match=says("languages=", "repeats")):
        check_languages("en,fr,en")


def test_a_language_that_is_not_available_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=says("languages='es'", "en, fr")):
        check_languages(["en", "es"], ["en", "fr"])


@pytest.mark.parametrize("shares", ["equal", "imbalanced", {"en": 1, "fr": 1}, {"fr": 30, "en": 0.001}])
def test_shares_are_equal_as_found_or_a_number_for_every_language(shares):
    check_shares(shares)
    check_shares(shares, ["en", "fr"])


@pytest.mark.parametrize("share", [0, -1, "2", None, True, float("nan"), float("inf")])
def test_a_share_that_is_no_positive_number_is_refused_by_language_and_value(share):
    with pytest.raises(ValueError, match=says(f"shares['fr']={share!r}", "a number", "at least 1e-06")):
        check_shares({"en": 1, "fr": share})


@pytest.mark.parametrize("shares", [{"en": 1}, {"en": 1, "de": 1}, {"en": 1, "fr": 1, "de": 1}])
def test_shares_that_leave_out_a_language_or_name_another_are_refused_with_the_languages(shares):
    check_shares(shares)
    with pytest.raises(ValueError, match=says(f"shares={shares!r}", "en, fr")):
        check_shares(shares, ["en", "fr"])


@pytest.mark.parametrize("shares", ["", "as found", {}, [], None, 1, [1, 2]])
def test_shares_of_another_kind_are_refused_with_those_that_are_allowed(shares):
    with pytest.raises(ValueError, match=says(f"shares={shares!r}", "equal, imbalanced")):
        check_shares(shares, ["en", "fr"])


@pytest.mark.parametrize("corpus", ["auto", "help", "wiki40b", "mini"])
def test_the_named_corpora_are_known(corpus):
    check_corpus(corpus)


@pytest.mark.parametrize("name", ["help", "wiki40b", "mini"])
def test_a_corpus_gives_its_languages_and_auto_those_of_any(name):
    assert {"en", "fr", "de", "py"} <= set(config.corpus_languages(name)) <= set(config.corpus_languages("auto"))
    assert len(set(config.corpus_languages("auto"))) == len(config.corpus_languages("auto"))


def test_a_folder_gives_what_it_holds():
    assert config.corpus_languages("folder:/anywhere") is None


def test_the_languages_of_an_unknown_corpus_are_refused_with_the_known_corpora():
    with pytest.raises(ValueError, match=says("corpus='wikipedia'", *config.CORPORA)):
        config.corpus_languages("wikipedia")


@pytest.mark.parametrize("corpus", ["wikipedia", "", "folder", None, 3])
def test_an_unknown_corpus_is_refused_with_the_known_ones(corpus):
    with pytest.raises(ValueError, match=says(f"corpus={corpus!r}", *config.CORPORA)):
        check_corpus(corpus)


def test_a_folder_corpus_is_a_folder_that_holds_files(tmp_path):
    with pytest.raises(ValueError, match=says("corpus=", "there is no folder", tmp_path / "absent")):
        check_corpus(f"folder:{tmp_path / 'absent'}")
    (tmp_path / "en").mkdir()
    with pytest.raises(ValueError, match=says("corpus=", tmp_path, "no files")):
        check_corpus(f"folder:{tmp_path}")
    (tmp_path / "en" / "apple.txt").write_text("apple")
    check_corpus(f"folder:{tmp_path}")


def test_everything_is_built_under_mome_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "elsewhere"))
    assert config.home() == (tmp_path / "elsewhere").resolve()
    assert config.artifacts_dir() == config.home() / "data" / "artifacts"
    assert config.runs_dir() == config.home() / "runs"


def test_a_relative_or_tilde_mome_home_becomes_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MOME_HOME", "~/work")
    assert config.home() == tmp_path.resolve() / "work"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOME_HOME", "here")
    assert config.home() == tmp_path.resolve() / "here"


@pytest.mark.parametrize("value", [None, ""])
def test_without_mome_home_the_checkout_is_home_from_any_folder(monkeypatch, tmp_path, value):
    monkeypatch.delenv("MOME_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("MOME_HOME", value)
    monkeypatch.chdir(tmp_path)
    assert config.home() == config.repository() == Path(config.__file__).resolve().parents[1]


def test_the_repository_is_the_checkout_even_with_another_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    assert (config.repository() / "data" / "mini" / "en").is_dir()


@pytest.mark.parametrize(("value", "batch"), [("1", True), ("0", False), ("", False)])
def test_a_process_is_batch_when_the_runner_says_so(monkeypatch, value, batch):
    monkeypatch.setenv("MOME_BATCH", value)
    assert config.is_batch() is batch


def test_an_infinite_value_is_refused():
    with pytest.raises(ValueError, match=says("teacher_lr=inf")):
        resolve_scale("smoke", {"teacher_lr": float("inf")})


def test_a_scale_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match=says("scale=", *SCALES)):
        resolve_scale(["smoke"])


@pytest.mark.parametrize("overrides", ["context=32", ["context"], 3])
def test_overrides_that_are_no_mapping_are_refused_by_name(overrides):
    with pytest.raises(ValueError, match=says("overrides", repr(overrides))):
        resolve_scale("smoke", overrides)


def test_a_folder_corpus_names_its_folder(monkeypatch, tmp_path):
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "apple.txt").write_text("apple")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says("corpus='folder:'")):
        check_corpus("folder:")
