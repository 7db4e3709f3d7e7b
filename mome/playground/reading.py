"""Panels of reading: the router's belief, every expert's loss, and where a student's loss comes from."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from mome.data.ids import PLAIN
from mome.data.tokenizer import bytes_per_token, token_text
from mome.evaluate.positions import loss_by_position
from mome.evaluate.scores import LOGITS
from mome.figures import playground as figures
from mome.figures.distill import plot_loss_by_position
from mome.figures.router import color_text, shade_text
from mome.figures.style import visible
from mome.languages import language_name
from mome.models.forwards import dense_logits, expert_forward
from mome.playground.answers import Answer
from mome.playground.fields import clean_text

DRAWN = 48  # tokens that a picture shows
EMPTY = Answer("There is nothing to read yet: type a text.")


def read_ids(tokenizer, text: str, limit: int, with_start: bool = False) -> tuple[list[int], str]:
    """Return the first `limit` ids of a typed text, after a start of text on request, and what was left out.

    That is a sentence, or nothing where all is read. A text of white space alone has no ids.
    """
    read = clean_text(text)
    ids = tokenizer(read, **PLAIN)["input_ids"] if read.strip() else []
    ids = [tokenizer.bos_token_id, *ids] if with_start and ids else ids
    left_out = len(ids) > limit or len(read) < len(text)
    n_read = len(ids[:limit]) - with_start
    return ids[:limit], f" Only the first {n_read} tokens are read." if left_out and n_read > 0 else ""


def tell_drawn(pieces: list[str]) -> str:
    """Return a sentence on tokens that are read and not drawn; nothing where there are none."""
    return f" The picture shows the first {DRAWN} tokens." if len(pieces) > DRAWN else ""


def answer_router(router, tokenizer, limit: int = 256) -> Callable:
    """Return a panel: a typed text -> the router's belief after each of its tokens."""
    def ask(text: str) -> Answer:
        ids, left_out = read_ids(tokenizer, text, limit)
        if not ids:
            return EMPTY
        names, device = router.languages, router.weight.device
        probs = router.running_probs(torch.tensor([ids], device=device))[0].float().cpu().numpy()
        pieces, best = [token_text(tokenizer, token) for token in ids], probs.argmax(axis=1)
        turns = np.flatnonzero(best[1:] != best[:-1]) + 1
        words = (f"After {len(ids)} token{'s' * (len(ids) != 1)} the router takes the text for "
                 f"{language_name(names[best[-1]])}, with a probability of {probs[-1, best[-1]]:.2f}. ")
        often = "once" if len(turns) == 1 else f"{len(turns)} times, the last one"
        words += (f"It changed its mind {often} at token {turns[-1] + 1}, {pieces[turns[-1]]!r}."
                  if len(turns) else "It never changed its mind.")
        beliefs = pd.DataFrame(probs, columns=names)[:DRAWN]
        return Answer(words + left_out + tell_drawn(pieces), figures.plot_belief, (beliefs, pieces[:DRAWN]),
                      page=color_text(pieces, probs, names))

    return ask


@torch.inference_mode()
def read_with_experts(model, rows: torch.Tensor, common_expert: str) -> np.ndarray:
    """Return nats (E, B, T - 1) of every token but the first of rows (B, T), under each expert."""
    found = []
    for number in range(len(model.experts)):
        forward, losses = expert_forward(number, common_expert=common_expert), []
        for part in rows.split(max(1, LOGITS // (rows.shape[1] * model.config.vocab_size))):
            logits = forward(model, {"input_ids": part})[:, :-1].float()
            losses.append(cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none"))
        found.append(torch.cat(losses).cpu().numpy())
    return np.stack(found)


def answer_reading(model, tokenizer) -> Callable:
    """Return a panel: a typed text, the expert whose losses colour it, the common expert -> all that read."""
    names, n_bytes = model.config.languages, bytes_per_token(tokenizer)

    def ask(text: str, expert: str, common: bool = False) -> Answer:
        ids, left_out = read_ids(tokenizer, text, model.config.max_position_embeddings, with_start=True)
        if not ids:
            return EMPTY
        rows = torch.tensor([ids], device=model.device)
        nats = read_with_experts(model, rows, "on" if common else "off")[:, 0]
        bits = pd.Series(nats.sum(axis=1) / np.log(2) / n_bytes[ids[1:]].sum(), names)
        routed = names[int(model.route(rows[:, 1:]))]
        best, costs = bits.idxmin(), bits[routed] - bits.min()
        words = (f"The {language_name(best)} expert reads it best, with {bits.min():.2f} bits per byte; the "
                 f"worst needs {bits.max():.2f}. The router takes {language_name(routed)}, which costs ")
        words += "nothing." if routed == best else f"{costs:.2f} bits per byte more."
        pieces, chosen = [token_text(tokenizer, token) for token in ids[1:]], names.index(expert)
        table = pd.DataFrame(nats[:, :DRAWN], names)
        page = shade_text(pieces, nats[chosen], f"nats under the {language_name(expert)} expert")
        drawn = table, pieces[:DRAWN], bits, routed
        return Answer(words + left_out + tell_drawn(pieces), figures.plot_reading, drawn, page=page)

    return ask


def answer_microscope(student, teacher, tokenizer) -> Callable:
    """Return a panel: a typed text and alpha -> where the student's combined loss on it comes from."""
    limit = min(model.config.max_position_embeddings for model in (student, teacher))

    @torch.inference_mode()
    def ask(text: str, alpha: float) -> Answer:
        ids, left_out = read_ids(tokenizer, text, min(limit, DRAWN), with_start=True)
        if not ids:
            return EMPTY
        rows = torch.tensor([ids], device=student.device)
        seen_by = [dense_logits(model, {"input_ids": rows})[0] for model in (student, teacher)]
        table = loss_by_position(*seen_by, rows[0], tokenizer, alpha)
        top = table.nlargest(3, "share")
        n, doubt = len(table), table.entropy.sum() / table.kd.sum()
        words = (f"{100 * top.share.sum():.0f} % of the loss of {n} token{'s' * (n != 1)} comes from "
                 f"{', '.join(map(repr, top.token))} ({100 * len(top) / n:.0f} % of the tokens).")
        if alpha < 1:
            words += (f" {100 * doubt:.0f} % of the teacher's part is the teacher's own entropy, which no "
                      "student can go below.")
        columns = ["context", "token", "ce", "kd", "teacher_top", "student_top"]
        said = top[columns].assign(**{name: top[name].map(visible) for name in columns[:2]}).rename(columns={
            "ce": "hard label (nats)", "kd": "teacher CE (nats)", "context": "after", "token": "comes",
            "teacher_top": "teacher expected", "student_top": "student expected"})
        left = {"text-align": "left", "white-space": "pre-wrap"}
        page = said.style.hide().format(precision=2, escape="html").set_properties(**left).to_html()
        return Answer(words + left_out, plot_loss_by_position, (
            table[["token", "ce", "kd", "entropy"]], alpha), page=page)

    return ask


