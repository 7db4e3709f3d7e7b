"""Guesses are kept and compared; the table of costs builds nothing; surprises are the reference's numbers."""

import re
import subprocess
import sys

import nbformat
import pytest

from mome.config import notebook_paths, repository, runs_dir, store_dir
from mome.runs import CLAIMS, guesses
from mome.runs.guesses import QUESTIONS, compare_guesses, guesses_path, keep_guesses
from mome.runs.reference import read_reference
from mome.runs.surprises import find_surprises

COST = """
import sys
from mome.runs import costs
from mome.runs.costs import tell_costs
paths = costs.notebook_paths(is_numbered=True)
costs.notebook_paths = lambda is_numbered: [paths[0], paths[-1]]  # two are enough, and faster
given = {"scale": "smoke", "corpus": "mini", "languages": ["en", "fr", "de", "py"], "overrides": {}}
lines = tell_costs(given | {"seeds": [0], "out": "", "english": "x"})
loaded = {"torch", "transformers", "datasets", "sklearn"} & set(sys.modules)
assert not loaded, loaded
print([[line["notebook"], line["costs here"]] for line in lines])
print(tell_costs(given | {"corpus": "folder:/nowhere"})[-1]["costs here"])
"""


def test_a_guess_is_kept_until_another_is_given_and_none_changes_nothing(own_home):
    assert keep_guesses(dict.fromkeys(QUESTIONS)) == {} and not guesses_path().exists()
    assert keep_guesses({"C3": 0.5, "C1": None}) == {"C3": 0.5}
    assert keep_guesses({"C3": None, "C1": -1}) == {"C1": -1, "C3": 0.5}
    assert keep_guesses({"C3": 2}) == {"C1": -1, "C3": 2}
    for wrong in ({"C9": 1}, {"C1": "much"}, {"C1": True}, {"C1": float("nan")}):
        with pytest.raises(ValueError, match="not allowed"):
            keep_guesses(wrong)
    assert keep_guesses({}) == {"C1": -1, "C3": 2}


def test_a_guess_is_compared_with_your_own_newest_run_and_with_the_reference(own_home, monkeypatch):
    def finish(claim, **part):
        findings = [{"claim": claim, "verdict": "partly", "parts": [part]}]
        folder = runs_dir() / claim
        folder.mkdir(parents=True)
        (folder / "metrics.json").touch()
        return {"findings": findings, "folder": folder}

    own = [finish("C2", asks=QUESTIONS["C2"].part, said="", difference=0.0)]
    monkeypatch.setattr(guesses, "read_metrics", lambda folder: own)
    keep_guesses({"C2": 3})
    lines = {line["claim"]: line for line in compare_guesses()}
    assert lines["C2"]["you guessed"] == "3 times" and lines["C2"]["measured here"].startswith("1 times; ")
    assert lines["C4"] == {"claim": "C4", "you guessed": "not yet", "measured here": "", "reference": ""}


def test_the_reference_answers_every_question():
    measured = guesses.measure_claims(read_reference()[1])
    assert list(QUESTIONS) == list(CLAIMS) == sorted(measured)
    assert all(number == number for number, _ in measured.values())  # no NaN


def test_a_table_of_costs_builds_nothing_loads_no_torch_and_says_what_is_out_of_reach(own_home):
    told = subprocess.run([sys.executable, "-c", COST], check=True, capture_output=True, text=True).stdout
    first, *_, last = [path.stem for path in notebook_paths(is_numbered=True)]
    lines = eval(told.splitlines()[0])
    assert [name for name, _ in lines] == [first, last, "all"] and not store_dir().exists()
    assert all(re.fullmatch(r"about (a minute|\d+ minutes): (\d+) of \2 things to build", cost)
               for _, cost in lines)
    assert "cannot tell: " in told.splitlines()[1]


def test_surprises_are_five_and_their_numbers_are_those_of_the_reference():
    _, entries = read_reference()
    surprises = find_surprises(entries)
    assert len(surprises) == 5 and len({each["title"] for each in surprises}) == 5
    parts = {part["asks"]: part for entry in entries for finding in entry["findings"]
             for part in finding["parts"]}
    alpha, experts = surprises[0]["text"], surprises[3]["text"]
    assert f"{parts['alike within 0.02 nats']['difference']:+.4f}" in alpha
    assert f"(PLE) end {parts['PLE close to JEET']['difference']:.2f} behind" in experts
    for each in surprises:
        assert len(each["text"].split()) <= 45 and len(each["rows"]) >= 3


def test_links_of_the_glossary_lead_to_notebooks_that_are_there_or_to_papers():
    cells = nbformat.read(repository() / "notebooks/00_start_here.ipynb", 4).cells
    glossary = next(cell.source for cell in cells if cell.source.startswith("## Glossary"))
    rows = [line for line in glossary.splitlines() if "](" in line]
    assert 20 <= len(rows) <= 35
    for row in rows:
        link = re.search(r"\]\(([^)]+)\) \|$", row)[1]
        assert link.startswith("https://arxiv.org/abs/") or (repository() / "notebooks" / link).exists(), row
