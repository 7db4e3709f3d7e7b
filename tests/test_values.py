from dataclasses import dataclass, field, replace

import pytest

from mome.scales import SCALES, Shape, resolve_scale
from mome.values import Values


@dataclass(frozen=True)
class Thing(Values):
    number: float = 1.0
    whole: int = 1
    name: str = "x"
    flag: bool = False
    names: tuple[str, ...] = ()
    pairs: str | tuple[tuple[str, float], ...] = "equal"
    maybe: float | None = None
    shape: Shape = field(default_factory=lambda: Shape(1, 1, 8))


def test_equal_values_become_equal_in_whatever_form_they_are_written():
    assert Thing(whole=1e3) == Thing(whole=1000) and isinstance(Thing(whole=1e3).whole, int)
    plain = Thing(2.0, names=("a", "b"), pairs=(("a", 1.0), ("b", 2.0)), maybe=3.0, shape=Shape(2, 1, 8))
    shape = {"n_layer": 2, "n_head": 1, "n_embd": 8}
    other = Thing(2, names=["a", "b"], pairs={"b": 2, "a": 1}, maybe=3, shape=shape)
    assert plain == other and hash(plain) == hash(other)
    assert isinstance(other.number, float) and str(Thing(-0.0).number) == "0.0"


@pytest.mark.parametrize("values, words", [
    ({"number": True}, ["number=True", "a finite number"]),
    ({"number": "2"}, ["number='2'", "a finite number"]),
    ({"number": float("nan")}, ["number=nan", "a finite number"]),
    ({"whole": 2.5}, ["whole=2.5", "a whole number"]),
    ({"flag": 1}, ["flag=1", "True or False"]), ({"name": 3}, ["name=3", "a text"]),
    ({"names": "ab"}, ["names='ab'", "a list, each a text"]), ({"names": [1]}, ["names=1", "a text"]),
    ({"pairs": [["a"]]}, ["pairs=[['a']]", "a text or a list", "2 values"]),
    ({"maybe": "x"}, ["maybe='x'", "a finite number or None"]),
    ({"shape": (1, 1, 8)}, ["shape=(1, 1, 8)", "a Shape"])])
def test_a_value_of_another_type_is_refused_with_its_field_its_value_and_what_is_allowed(values, words):
    with pytest.raises(ValueError, match="is not allowed; it must be") as error:
        Thing(**values)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_shape_counts_the_weights_of_the_model_that_it_makes_and_refuses_what_heads_cannot_share():
    with pytest.raises(ValueError, match=r"n_embd=9 .* multiple of n_head=2"):
        Shape(1, 2, 9)
    from mome.models.bodies import count_parameters
    from mome.models.gpt2 import build_gpt2

    assert Shape(2, 2, 16).weights(300, 32) == count_parameters(build_gpt2(Shape(2, 2, 16), 300, 32, seed=0))


def test_single_values_of_a_scale_are_overridden_and_shapes_in_part():
    scale = resolve_scale("smoke", {"student": {"n_layer": 5}, "shares": {"fr": 1, "en": 2}})
    assert scale.student == replace(SCALES["smoke"].student, n_layer=5)
    assert scale.shares == (("en", 2.0), ("fr", 1.0))
    assert replace(scale, student=SCALES["smoke"].student, shares="equal") == SCALES["smoke"]


def test_the_steps_of_a_scale_are_its_tokens_over_those_of_a_step():
    sizes = {"student_tokens": 5_120, "teacher_tokens": 51_200, "context": 64, "batch_size": 8}
    scale = resolve_scale("smoke", sizes)
    assert (scale.tokens_per_step, scale.student_steps, scale.teacher_steps) == (512, 10, 100)
    assert resolve_scale("smoke", {"student_tokens": 1}).student_steps == 2


@pytest.mark.parametrize("overrides, words", [
    ({"nope": 1}, ["overrides='nope'", "vocab_size"]), ({"vocab_size": 10}, ["vocab_size=10", "300"]),
    ({"context": 1}, ["context=1"]), ({"student": 3}, ["overrides['student']=3", "mapping", "n_layer"]),
    ({"student": {"depth": 1}}, ["overrides['student']='depth'", "n_layer"]),
    ([1], ["overrides=[1]", "mapping"]), ({"micro_batch_size": 99}, ["micro_batch_size=99", "batch_size=8"]),
    ({"mixed_precision": "auto"}, ["auto", "bf16"]), ({"shares": {"en": -1}}, ["shares['en']=-1"]),
    ({"targets_per_token": 0}, ["targets_per_token=0", "[2, 1023]"]), ({"name": "x"}, ["overrides='name'"]),
    ({"muon_lr": 0}, ["muon_lr=0"]),
    ({"optimizer": "sgd"}, ["optimizer='sgd'", "adamw"]), ({"batch_size": True}, ["batch_size=True"])])
def test_an_override_that_is_not_allowed_is_refused_by_name(overrides, words):
    with pytest.raises(ValueError) as error:
        resolve_scale("smoke", overrides)
    assert all(word in str(error.value) for word in words)
