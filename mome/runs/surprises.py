"""What surprised us, for the head of README: sentences and small panels, computed from the reference."""

import json
import re
from contextlib import suppress

import pandas as pd

from mome.runs.drawing import from_json
from mome.runs.reference import reference_dir


def find_surprises(entries: list[dict]) -> list[dict]:
    """Return a dict of title, unit, rows [[label, value]] and text for each surprise that there is data of.

    Titles ask; only the computed `text` answers, so that they hold for any reference.
    """
    found = []
    for make in (ask_alpha, ask_teacher, ask_router, ask_experts, ask_forgetting):
        with suppress(FileNotFoundError, KeyError, StopIteration):  # a part that this reference lacks
            found.append(make(entries))
    return found


def find_table(figure: str, *columns: str) -> pd.DataFrame:
    """Return the first table with these columns among what a figure of the reference was drawn from."""
    call = json.loads((reference_dir() / f"{figure}.json").read_text(encoding="utf-8"))
    tables = map(from_json, [*call["arguments"], *call["options"].values()])
    return next(table for table in tables if isinstance(table, pd.DataFrame) and {*columns} <= {*table})


def find_claim_text(entries: list[dict], claim: str) -> str:
    return next(finding["text"] for entry in entries for finding in entry["findings"]
                if finding["claim"] == claim)


def tell_tokens(number: float) -> str:
    word = " thousand" if number >= 1_000 else ""
    return f"{number / 1_000 if word else number:,.0f}{word} token{'s' * (number != 1)}"


def make_surprise(title: str, unit: str, rows: list, text: str) -> dict:
    return {"title": title, "unit": unit, "rows": rows, "text": text}


def ask_alpha(entries: list[dict]) -> dict:
    """C1: what moves a student, and what an alpha that adapts does."""
    loss = find_table("03_kd_differences", "arm", "difference").set_index("arm").difference
    arms = {"no teacher": "hard labels", "losses take turns": "alternating by step",
            "adaptive alpha": "adaptive (paper)"}
    rows = [[label, float(loss[arm])] for label, arm in arms.items()]
    return make_surprise(
        "Does it help when alpha adapts?", "nats per token more than with alpha fixed at 0.5", rows,
        "Alpha weighs the text's own labels against a teacher's. Adapting it changes a student's loss by "
        f"{rows[2][1]:+.4f} nats per token; having no teacher at all changes it by {rows[0][1]:+.2f}.")


def ask_teacher(entries: list[dict]) -> dict:
    """What a teacher is worth by the text that a student reads."""
    gain = find_table("03_kd_budgets", "tokens", "gain").groupby("tokens").gain.mean()
    rows = [[tell_tokens(tokens), float(value)] for tokens, value in gain.items()]
    (least, first), (most, last) = rows[0], rows[-1]
    return make_surprise(
        "How long does a teacher help?", "nats per token that the teacher saves", rows,
        f"A teacher saves a student that reads {least} {first:.2f} nats per token, and one that reads {most} "
        f"{last:.2f}.")


def ask_router(entries: list[dict]) -> dict:
    """C3: what a router's errors cost, by the tokens it reads."""
    text = find_claim_text(entries, "C3")
    name, wrong, read = re.match(r"(\S+) misreads ([\d,]+) of ([\d,]+) sequences", text).groups()
    table = find_table("02_routing_price", "classifier", "prefix", "price")
    price = table[table.classifier == name].set_index("prefix").price
    chosen = price.iloc[[0, len(price) // 2, -1]]
    rows = [[tell_tokens(tokens), float(value)] for tokens, value in chosen.items()]
    return make_surprise(
        "What do the router's errors cost?", "bits per byte that wrong routes cost", rows,
        f"The router puts {wrong} of {read} sequences under a wrong language, which costs {rows[-1][1]:.4f} "
        f"bits per byte. Where it reads {rows[0][0]} only, its errors cost {rows[0][1]:.2f}.")


def ask_experts(entries: list[dict]) -> dict:
    """C4: experts trained apart, together, and no experts at all."""
    loss = find_table("04_moe_differences", "arm", "difference").set_index("arm").difference
    arms = {"apart (PLE)": "PLE", "plus shared (MoE-CE)": "MoE-CE", "one dense model": "dense, same total"}
    rows = [[label, float(loss[arm])] for label, arm in arms.items()]
    apart, dense = (f"{abs(rows[at][1]):.2f} {'ahead of' if rows[at][1] < 0 else 'behind'}" for at in (0, 2))
    return make_surprise(
        "Do experts beat one model?", "nats per token more than experts trained together (JEET)", rows,
        f"In nats per token, experts trained apart (PLE) end {apart} those trained together (JEET); one "
        f"dense model with as many weights ends {dense} them.")


def ask_forgetting(entries: list[dict]) -> dict:
    """C5: what each arm loses, and where it ends."""
    lost = find_table("05_forgetting", "arm", "unit", "value")
    lost = lost[lost.unit.str.startswith("bits")].groupby("arm").value.mean()
    ends = find_table("05_forgetting_arms", "arm", "bits_per_byte").groupby("arm").bits_per_byte.mean()
    replay = next(arm for arm in lost.index if arm.startswith("replay"))
    arms = {"one by one": "sequential", "PLE in stages": "PLE in stages", replay: replay,
            "all at once": "balanced session"}
    rows = [[label, float(ends[arm])] for label, arm in arms.items()]
    return make_surprise(
        "Is it enough to forget nothing?", "bits per byte at the end, mean over languages", rows,
        f"PLE in stages freezes what it has learned: it loses {lost['PLE in stages']:.2f} bits per byte and "
        f"ends at {rows[1][1]:.2f}. One student that reads old text again ({replay}) loses "
        f"{lost[replay]:.2f} and ends at {rows[2][1]:.2f}; all at once ends at {rows[3][1]:.2f}.")


def write_surprises(surprises: list[dict]) -> list[str]:
    """Return README's part: a numbered line for each panel of the strip."""
    return [f"{number}. **{each['title']}** {each['text']}" for number, each in enumerate(surprises, 1)]
