"""A reader's guesses, kept before the notebooks answer: what was guessed beside what was measured."""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

from mome.config import runs_dir
from mome.runs.compare import read_metrics
from mome.runs.reference import read_reference
from mome.store import read_json, write_json


@dataclass(frozen=True)
class Question:
    """A number to guess: its words, its unit, and the part of a claim, by how it begins, that holds it."""

    words: str
    unit: str
    part: str


QUESTIONS = {
    "C1": Question("By how much does an alpha that adapts change a student's loss, against alpha 0.5? "
                   "Negative is better.", "nats per token", "alike within"),
    "C2": Question("How many times as much does the gradient of two steps vary when the losses take turns?",
                   "times", "by step, a cycle's gradient"),
    "C3": Question("How many percent of the sequences does the router put under a wrong language?",
                   "percent", "F1 of at least"),
    "C4": Question("How much worse are experts trained apart (PLE) than together (JEET)?",
                   "nats per token", "PLE close to JEET"),
    "C5": Question("How much worse on the earlier languages is a student that learned one language after "
                   "another than one that learned all at once?", "nats per token", "sequence worse")}


def guesses_path() -> Path:
    return runs_dir() / "guesses.json"


def keep_guesses(guesses: dict[str, float | None]) -> dict[str, float]:
    """Keep the guesses that are numbers, by claim, and return all that are kept; None leaves one as it is.

    ValueError for a claim that there is not, and for what is no number.
    """
    kept = read_json(guesses_path()) if guesses_path().exists() else {}
    for claim, guess in guesses.items():
        if claim not in QUESTIONS:
            raise ValueError(f"guess of {claim!r} is not allowed; claims are {', '.join(QUESTIONS)}")
        if guess is None:
            continue
        if isinstance(guess, bool) or not isinstance(guess, int | float) or not math.isfinite(guess):
            raise ValueError(f"{claim}={guess!r} is not allowed; give a number, in {QUESTIONS[claim].unit}")
        if kept.get(claim, {}).get("guess") != guess:
            kept[claim] = {"guess": guess, "date": time.strftime("%Y-%m-%d")}
    if kept:
        runs_dir().mkdir(parents=True, exist_ok=True)
        write_json(guesses_path(), kept)
    return {claim: kept[claim]["guess"] for claim in QUESTIONS if claim in kept}


def compare_guesses() -> list[dict]:
    """Return a line for each claim: the guess, what your own newest run measured, what the reference did.

    Of a claim without a guess nothing is told, so that there is still something to guess.
    """
    kept, lines = keep_guesses({}), []
    finished = sorted(read_metrics(runs_dir()),  # the newest last, so that it stays
                      key=lambda entry: (entry["folder"] / "metrics.json").stat().st_mtime)
    own, theirs = measure_claims(finished), measure_claims(read_reference()[1])
    for claim, question in QUESTIONS.items():
        line = {"claim": claim, "you guessed": "not yet", "measured here": "", "reference": ""}
        if claim in kept:
            line |= {"you guessed": f"{kept[claim]:g} {question.unit}",
                     "measured here": tell_measured(own.get(claim), question.unit),
                     "reference": tell_measured(theirs.get(claim), question.unit)}
        lines.append(line)
    return lines


def measure_claims(entries: list[dict]) -> dict[str, tuple[float, str]]:
    """Return {claim: the number asked for and the verdict} as far as these runs hold it."""
    found = {}
    for finding in (finding for entry in entries for finding in entry["findings"] if finding["claim"]):
        claim = finding["claim"]
        for part in finding["parts"]:
            if part["asks"].startswith(QUESTIONS[claim].part):
                found[claim] = read_number(claim, part), finding["verdict"]
    return found


def read_number(claim: str, part: dict) -> float:
    """Return a part's number in its question's unit; NaN where it has none."""
    if claim == "C3":
        percent = re.match(r"([\d.]+) %", part["said"])
        return float(percent[1]) if percent else math.nan
    difference = part.get("difference", math.nan)
    return math.exp(difference) if claim == "C2" else difference


def tell_measured(measured: tuple[float, str] | None, unit: str) -> str:
    """Return a number and the claim's verdict in words."""
    return f"{measured[0]:.3g} {unit}; the claim: {measured[1]}" if measured else "not measured yet"
