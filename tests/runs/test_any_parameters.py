"""Whatever is given for whichever parameter: a plan, or a sentence that names the parameter."""

import json
import os

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mome.checks import is_sentence
from mome.config import notebook_paths
from mome.recipe import collect, to_plain
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters, declared_parameters
from mome.runs.spelling import read_yaml
from mome.scales import SCALES

EXAMPLES = int(os.environ.get("MOME_EXAMPLES", "100"))
DECLARED = {path: declared_parameters(path) for path in notebook_paths()}
SCALE = to_plain(SCALES["smoke"])
WORDS = st.sampled_from([
    "", "no", "on", "y", "en", "fr", "de", "py", "es", "xx", "smoke", "mini", "auto", "JEET", "PLE branched",
    "jsd", "forward_kl", "linear", "muon", "logistic_regression", "same total", "rotations", "all", "train",
    "test", "equal", "imbalanced", "bf16", "lumped tail", "folder:/nowhere", "folder:\x00", "help@2020-01-01",
    "teacher", "student"])
WHOLE = st.one_of(st.sampled_from([0, 1, 2, 3, 6, 8, 64, 10**400, True]), st.integers(-3, 5_000))
REAL = st.one_of(st.sampled_from([0, 0.0, 0.5, 1, 1e-9, 1e30, 10**400, float("nan")]), st.floats(0, 4),
                 st.floats())
ANY = st.recursive(st.one_of(WHOLE, REAL, WORDS, st.text(max_size=5), st.none()), lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.sampled_from([*SCALE, "en"]), inner, max_size=3)),
    max_leaves=6)
SPELLED = st.sampled_from([
    "2e-3", "1e1", ".5", "1_000", "+3", "-0", "0x10", "010", "1e999", "no", "[no, on, y]", "[1, 1.0, 1e0]",
    "{", "~", "[en, fr]", "[py]", "{no: 1}", "!!bool x", "!!timestamp x", "!!int ''", "&a [*a]", "'3'",
    "2026-11-25", "1:30", "{batch_size: 1e1}", "{student: {n_layer: 1_0}}", "{student: {n_embd: 7}}",
    "\x00", "- 1\n- 2", "a: b: c"])


def like(usual):
    """Return a strategy of values of a default's type, allowed or not; of any type now and then."""
    if isinstance(usual, dict):
        fields = {name: like(value) for name, value in (usual or SCALE).items()}
        one = st.sampled_from([*fields]).flatmap(lambda name: st.fixed_dictionaries({name: fields[name]}))
        return one | ANY
    if isinstance(usual, list):
        items = like(usual[0]) if usual else WORDS
        return st.lists(items, max_size=4) | st.lists(items, min_size=1, max_size=5, unique_by=str) | ANY
    kinds = {bool: st.booleans(), int: WHOLE, float: REAL, str: WORDS}
    return st.one_of(*[kinds[type(usual)]] * 4, ANY) if type(usual) in kinds else ANY


@st.composite
def given_parameters(draw):
    """Draw a notebook and one to three of its parameters, as values or as people spell them."""
    path, chosen = draw(st.sampled_from(sorted(DECLARED))), {}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*DECLARED[path], "alpah"]))
        chosen[name] = draw(like(DECLARED[path].get(name)) | SPELLED.map(lambda text: ("spelled", text)))
    return path, chosen


def list_names(value):
    """Yield the names of the fields in a value."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield str(name)
        yield from list_names(inner)


# Without shrinking: a failure's example is small already.
@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 100, phases=[Phase.generate])
@given(given_parameters())
def test_any_value_of_any_parameter_ends_in_a_plan_or_in_a_sentence_that_names_one_given(case):
    (path, chosen), found = case, {}
    try:
        found = {name: read_yaml(f"parameter {name}={value[1]!r}", value[1]) if isinstance(value, tuple)
                 else value for name, value in chosen.items()}
        values = check_parameters(path, {"scale": "smoke", "corpus": "mini", **found})
        assert len(collect(read_needs(path, values))) > 1
        json.dumps(values, allow_nan=False)
    except ValueError as error:
        assert is_sentence(error), error
        names = [name.removesuffix("s") for name in (*chosen, *list_names(found))]  # of a list: an item
        assert any(name in str(error) for name in names), error
