"""Drawings of how models are trained: the modular variants side by side, and the stages of forgetting."""

import matplotlib.pyplot as plt

from mome.figures import style
from mome.figures.canvas import (
    SIZE,
    put_arrow,
    put_box,
    put_key,
    put_model,
    put_strip,
    put_text,
    start_page,
    tell_number,
)
from mome.languages import language_name

TRAINED, FROZEN, LATER = "trained", "frozen", "not yet trained"


def plot_variants(sizes: dict) -> plt.Figure:
    """PLE, PLE branched, JEET and MoE-CE: what is trained, frozen and shared, by share of the tokens.

    Time goes down; a block is as high as its share of each language's tokens. `sizes`: of `tell_sizes`.
    """
    ax, languages = start_page(8.6, 9.0), sizes["languages"]
    embedding, ancestor = sizes["embedding_share"], sizes["ancestor_share"]
    session = ("embedding and head learn on", embedding, "session")
    apart = "experts apart, each with an\nembedding and a head"
    columns = {"PLE": [(apart, 1 - embedding, "apart"), session],
               "PLE branched": [("one ancestor of\nall languages", ancestor, "ancestor"),
                                (f"{apart},\nfrom the ancestor's weights", 1 - embedding - ancestor, "apart"),
                                session],
               "JEET": [("embedding, head and experts\ntogether; each row through\nits language's expert",
                         1, "joint")],
               "MoE-CE": [("JEET with a common expert\nthat every row passes, too", 1, "common")]}
    top, height, step, width = 8.55, 6.1, 2.0, 1.85
    for place, (variant, blocks) in enumerate(columns.items()):
        x, y = 0.62 + place * step, top
        put_text(ax, x + width / 2, top + 0.2, variant, weight="bold", size=SIZE + 1)
        for text, share, kind in blocks:
            y -= share * height
            put_box(ax, x, y + 0.03, width, share * height - 0.06, "", "plain")
            draw_block(ax, x, y, width, share * height, languages, kind, text)
        put_use(ax, x, 0.72, width, languages, variant == "MoE-CE")
    for part in (0, 0.2, 0.4, 0.6, 0.8, 1):
        put_text(ax, 0.52, top - part * height, f"{100 * part:.0f} %", ha="right")
    put_text(ax, 0.1, top - height / 2, f"{tell_number(sizes['student_tokens'])} tokens of each language",
             rotation=90)
    put_text(ax, 0.1, 1.45, "in use", rotation=90)
    put_key(ax, 0.65, 0.25, {TRAINED: "trained", FROZEN: "frozen", "asked": "used",
                             "resting": "not used"}, 1.2)
    put_text(ax, 5.45, 0.25, "a wide bar is shared, a narrow one an expert's own", ha="left", size=SIZE - 0.5)
    return ax.figure


def draw_block(ax: plt.Axes, x: float, y: float, width: float, height: float, languages: list[str],
               kind: str, text: str) -> None:
    """Draw, in the middle of a block, the model that a part of a training has, and what that part does."""
    lines = 0.17 * (text.count("\n") + 1)
    tall = min(1.5, height - lines - 0.2)
    bottom = y + (height - tall - lines) / 2 + lines
    inner, all_trained = (x + 0.12, bottom, width - 0.24, tall), dict.fromkeys(languages, TRAINED)
    if kind == "ancestor":
        put_model(ax, *inner, {"all": TRAINED}, TRAINED)
    elif kind == "apart":
        put_model(ax, *inner, all_trained)
    elif kind == "session":
        put_model(ax, *inner, dict.fromkeys(languages, FROZEN), TRAINED)
    else:
        put_model(ax, *inner, all_trained, TRAINED, TRAINED if kind == "common" else "")
    put_text(ax, x + width / 2, bottom - lines / 2 - 0.04, text, size=8)


def put_use(ax: plt.Axes, x: float, y: float, width: float, languages: list[str], has_common: bool) -> None:
    """Draw a sequence of one language on its way through the finished model, chosen for by the router."""
    chosen = languages[min(1, len(languages) - 1)]
    bodies = {name: "asked" if name == chosen else "resting" for name in languages}
    put_box(ax, x + 0.12, y, width - 0.24, 0.22, f"router: {chosen}", "targets", size=SIZE - 0.5)
    put_arrow(ax, (x + width / 2, y + 0.22), (x + width / 2, y + 0.4))
    put_model(ax, x + 0.12, y + 0.4, width - 0.24, 0.85, bodies, "asked", "asked" if has_common else "")


def plot_stages(sizes: dict, order: list[str], replay: float = 0.05) -> plt.Figure:
    """Who learns which language when, and what is frozen: a row an arm, a column a stage, time to the right.

    `replay` is the share of earlier text in the arm that has some.
    """
    n, palette, tokens = len(order), style.language_palette(order), tell_number(sizes["student_tokens"])
    step = max(1.2, 6.9 / n)
    ax = start_page(1.7 + step * n, 7.75)
    for place, (language, color) in enumerate(palette.items()):
        x = 1.6 + place * step
        title = f"stage {place + 1}{': ' if n < 5 else chr(10)}{language_name(language)}"
        put_text(ax, x + step / 2, 7.48, title, weight="bold")
        put_strip(ax, x + 0.06, 7.25, step - 0.12, color)
    put_text(ax, 0.75, 7.37, f"{tokens}\ntokens a stage")
    rows = (("sequential", "one student,\nall of it trained\nin every stage", 0.75),
            (f"replay {100 * replay:g} %", "the same, with a\nlittle earlier text", 0.75),
            ("PLE in stages", "the first stage is\nJEET's; then only\nthe new expert learns", 1.25),
            ("JEET in stages", "embedding and head\nlearn on, experts\nonly in their stage", 1.25),
            ("MoE-CE in stages", "JEET's, and a\ncommon expert\nlearns on", 1.25))
    y = 7.15
    for name, text, height in rows:
        y -= height + 0.1
        put_text(ax, 0.75, y + height / 2 + 0.3, name, weight="bold")
        put_text(ax, 0.75, y + height / 2 - 0.07, text, size=8)
        for stage in range(n):
            draw_stage(ax, 1.68 + stage * step, y + 0.08, step - 0.16, height - 0.12, name, order, stage,
                       replay)
    y -= 0.85
    put_text(ax, 0.75, y + 0.55, "balanced session", weight="bold")
    put_text(ax, 0.75, y + 0.25, "all languages in\nevery batch", size=8)
    put_box(ax, 1.68, y + 0.08, step * n - 0.16, 0.62,
            f"one student, {tokens} tokens of each language, mixed", TRAINED)
    for part in range(4 * n):
        part_step = (step * n - 0.2) / (4 * n)
        put_strip(ax, 1.7 + part * part_step, y + 0.1, part_step - 0.02, palette[order[part % n]])
    put_key(ax, 1.68, 0.22, {TRAINED: "trained in this stage", FROZEN: "frozen", LATER: LATER}, 2.1)
    return ax.figure


def draw_stage(ax: plt.Axes, x: float, y: float, width: float, height: float, arm: str, order: list[str],
               stage: int, replay: float) -> None:
    """Draw what an arm trains in one stage: a student, or a modular model part by part."""
    now, variant, palette = order[stage], arm.split()[0], style.language_palette(order)
    if variant in ("sequential", "replay"):
        earlier = replay if stage and variant == "replay" else 0.0
        put_box(ax, x, y, width, height, "student", TRAINED)
        put_strip(ax, x + 0.02, y + 0.02, (width - 0.04) * (1 - earlier), palette[now])
        left, part = x + 0.02 + (width - 0.04) * (1 - earlier), (width - 0.04) * earlier / max(1, stage)
        for place, name in enumerate(order[:stage] if earlier else ()):
            put_strip(ax, left + place * part, y + 0.02, part, palette[name])
    else:
        bodies = {name: FROZEN if name in order[:stage] else LATER for name in order} | {now: TRAINED}
        shared = FROZEN if variant == "PLE" and stage else TRAINED
        put_model(ax, x, y, width, height, bodies, shared, TRAINED if variant == "MoE-CE" else "")
    if stage:
        put_arrow(ax, (x - 0.16, y + height / 2), (x, y + height / 2))
