"""A run beside the committed reference: who agrees with whom."""

import json
import math

import pandas as pd
import pytest

from mome.evaluate.claims import ask, compare_arms, make_part
from mome.runs.reference import compare_with_reference, describe_differences


def part(differences):
    base = pd.DataFrame({"arm": "b", "seed": range(len(differences)), "nats_per_token": 0.0})
    table = pd.concat([base, base.assign(arm="a", nats_per_token=differences)])
    return ask("worse", compare_arms(table, "a", "b"), low=0)


def entry(part, **parameters):
    parameters = {"scale": "laptop", "seeds": [0], **parameters}
    return {"notebook": "03_toy", "run": "night", "parameters": parameters,
            "findings": [{"claim": "C1", "verdict": "", "text": "", "parts": [part]},
                         {"claim": "", "verdict": "", "text": "aside", "parts": []}]}


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """A function that makes an entry the reference."""
    def call(entry):
        folder = tmp_path / "figures/laptop"
        folder.mkdir(parents=True)
        text = json.dumps(entry)
        plain = json.loads(text, parse_constant=lambda _: None)  # as a run writes it
        (folder / "entry_03_toy.json").write_text(json.dumps(plain))

    monkeypatch.setattr("mome.runs.reference.repository", lambda: tmp_path)
    return call


@pytest.mark.parametrize("here, there, says", [
    ([1.0, 1.1, 1.2], [1.1, 1.2, 1.3], "agrees"), ([1.0, 1.01, 1.02], [2.0, 2.01, 2.02], "disagrees"),
    ([1.0, 1.01, 1.02], [0.0, 1.0, 4.0], "agrees"),  # a wide interval there
    ([1.5], [1.0, 1.2, 1.4], "agrees"), ([2.0], [1.0, 1.01, 1.02], "disagrees"),
    ([1.0, 1.1], [1.0], "other answer")])
def test_numbers_agree_where_they_are_no_further_apart_than_their_intervals_allow(keep, here, there, says):
    keep(entry(part(there)))
    line = compare_with_reference(entry(part(here))).iloc[0]
    assert (line.claim, line.asks, line.says) == ("C1", "worse", says)
    assert line.reference.startswith("yes" if len(there) > 1 and there[0] else "cannot tell")


def test_a_seed_agrees_as_often_as_one_more_of_the_references_would(keep):
    keep(entry(part([0.0, 1.0, 2.0])))
    half = 4.302653 / math.sqrt(3)  # Student's, of three seeds with a spread of 1
    for difference, says in ((half * 2 - 0.01, "agrees"), (half * 2 + 0.01, "disagrees")):
        assert compare_with_reference(entry(part([1 + difference]))).says[0] == says


def test_of_a_notebook_without_a_claim_each_finding_stands_beside_the_same_words(keep):
    def found(*texts):
        findings = [{"claim": "", "verdict": "", "text": text, "parts": []} for text in texts]
        return entry(part([1.0])) | {"findings": findings}

    keep(found("Costs: German 1.3, French 1.24.", "3 of 1,234 are right.", "Nothing here."))
    now = found("Costs: French 1.24, German 1.5.", "3 of 1,234 are right.", "New: 4.")
    table = compare_with_reference(now)
    assert table.says.tolist() == ["other numbers", "the same"]
    assert table.reference[0] == "Costs: German 1.3, French 1.24."


def test_what_the_reference_lacks_and_parts_without_numbers_are_told_apart(keep):
    assert compare_with_reference(entry(part([1.0]))).says.tolist() == ["nothing to compare"]
    assert "no committed reference" in describe_differences(entry(part([1.0])))
    keep(entry(make_part("worse", True, "")))
    for answer, says in ((True, "same answer"), (None, "other answer")):
        assert compare_with_reference(entry(make_part("worse", answer, ""))).says[0] == says
    told = describe_differences(entry(part([1.0]), seeds=[0, 1]))
    assert told == "Reference night: seeds [0, 1] here, [0] there."
    assert "the same question" in describe_differences(entry(part([1.0])))
