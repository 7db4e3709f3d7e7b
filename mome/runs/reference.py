"""The committed reference: one run at laptop scale, its claims and the data of its figures."""

import math
import re
from pathlib import Path

import pandas as pd

from mome.config import repository
from mome.evaluate.claims import ANSWERS
from mome.runs.meter import read_command
from mome.store import read_json

SCALE = "laptop"
SAME = ("scale", "corpus", "languages", "seeds", "split_seeds", "split", "overrides")  # what is compared


def reference_dir() -> Path:
    return repository() / "figures" / SCALE


def read_reference() -> tuple[dict, list[dict]]:
    """Return what is told of the reference's command, and its notebooks' entries in the order of their names.
    """
    entries = [read_json(path) for path in sorted(reference_dir().glob("entry_*.json"))]
    return read_command(reference_dir()), entries


def find_reference(notebook: str) -> dict | None:
    """Return the reference's entry of a notebook; None where it has none."""
    path = reference_dir() / f"entry_{notebook}.json"
    return read_json(path) if path.exists() else None


def compare_with_reference(entry: dict) -> pd.DataFrame:
    """Return a line for each part of an entry's claims: the answer and numbers here, there, and agreement.

    Two numbers agree where they are no further apart than their intervals together allow (root of the sum of
    squares); of a single seed that is what the reference's seeds differ by. Of a notebook without a claim a
    line for each finding that both have: the same words with the same numbers, or with other ones.
    """
    findings = (find_reference(entry["notebook"]) or {"findings": []})["findings"]
    if not any(finding["claim"] for finding in entry["findings"]):
        theirs, here = ({blank(finding["text"]): finding["text"] for finding in each}
                        for each in (findings, entry["findings"]))
        return pd.DataFrame([{"here": text, "reference": theirs[key],
                              "says": "the same" if text == theirs[key] else "other numbers"}
                             for key, text in here.items() if key in theirs],
                            columns=["here", "reference", "says"])
    there = {(finding["claim"], part["asks"]): part for finding in findings for part in finding["parts"]}
    pairs = [(finding["claim"], part, there.get((finding["claim"], part["asks"])))
             for finding in entry["findings"] for part in finding["parts"]]
    rows = [{"claim": claim, "asks": part["asks"], "here": tell_part(part), "reference": tell_part(other),
             "says": agree(part, other)} for claim, part, other in pairs]
    return pd.DataFrame(rows, columns=["claim", "asks", "here", "reference", "says"])


def blank(text: str) -> str:
    """Return a sentence without its numbers and the languages' order: what it tells of."""
    return " ".join(sorted(set(re.sub(r"[-+]?[\d.,]*\d", "", text).split())))


def tell_part(part: dict | None) -> str:
    """Return a part's answer with its difference and interval."""
    if part is None:
        return "not there"
    answer = ANSWERS[part["answer"]]
    if "difference" not in part:
        return answer
    low, high = part["low"], part["high"]
    interval = "" if low is None or math.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
    return f"{answer}: {part['difference']:+.3f}{interval}"


def agree(here: dict, there: dict | None) -> str:
    """Return agrees, disagrees or, where there is no interval there, whether the answers are the same."""
    if there is None:
        return "nothing to compare"
    if "difference" in here and there.get("high") is not None:
        half, is_one = there["high"] - there["difference"], here["seeds"] < 2
        own = half * math.sqrt(there["seeds"]) if is_one else here["high"] - here["difference"]
        room = math.hypot(half, own)  # a single seed is as far off as those there are from each other
        return "agrees" if abs(here["difference"] - there["difference"]) <= room else "disagrees"
    return "same answer" if here["answer"] == there["answer"] else "other answer"


def describe_differences(entry: dict) -> str:
    """Return in what this run differs from the reference, apart from its numbers."""
    other = find_reference(entry["notebook"])
    if other is None:
        return "There is no committed reference of this notebook yet."
    mine, theirs = entry["parameters"], other["parameters"]
    told = [f"{name} {mine.get(name)!r} here, {theirs.get(name)!r} there" for name in SAME
            if mine.get(name) != theirs.get(name)]
    return f"Reference {other['run']}: {'; '.join(told) or 'the same question on the same text'}."
