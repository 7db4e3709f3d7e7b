"""Panels without a model: what KD losses make of two distributions, and alpha's schedules of two curves."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator

from mome.distill import ALPHA_SCHEDULES, KD_LOSSES
from mome.distill.losses import define, hard_label_ce
from mome.distill.schedules import make_alpha_schedule
from mome.figures import playground as figures
from mome.playground.answers import Answer
from mome.playground.fields import Field

STEPS, HARD = 200, "hard labels"
LOOKING = "adaptive_paper", "dwa", "grad_norm"  # at what training does; the others know its steps alone
SHOWN_SCHEDULES = tuple(name for name in ALPHA_SCHEDULES if name != "alternate_micro_batch")


def loss_fields(words: list[str], teacher: list[float], student: list[float], label: str) -> dict[str, Field]:
    """Return sliders for two distributions over `words`, as weights that need not add up, and the label."""
    sliders = {f"{who}_{place}": Field(word, float(weight), low=0.1, high=10.0, step=0.1, upright=True,
                                       group=f"the {who} expects")
               for who, weights in (("teacher", teacher), ("student", student))
               for place, (word, weight) in enumerate(zip(words, weights, strict=True))}
    return {"label": Field("What really comes", label, tuple(words)), **sliders}


def answer_losses(words: list[str]) -> Callable:
    """Return a panel: weights of two distributions and the label -> every loss, and where it pulls."""
    def ask(label: str, **weights) -> Answer:
        p, q = (torch.tensor([weights[f"{who}_{place}"] for place in range(len(words))]).double()
                for who in ("teacher", "student"))
        losses, pulls = measure_pulls(p / p.sum(), q / q.sum(), words.index(label))
        beliefs = pd.DataFrame({"teacher": p / p.sum(), "student": q / q.sum()}, words)
        pulls = pulls.set_axis(words, axis=1)
        of_kd, drawn = pulls.drop(HARD), (figures.plot_pulls, (beliefs, pulls, losses))
        if of_kd.abs().max(axis=None) < 1e-9:
            return Answer("Both expect the same, so no KD loss pulls; hard labels still do.", *drawn)
        loss, word = of_kd.abs().stack().idxmax()
        way = "up" if of_kd.loc[loss, word] > 0 else "down"
        said = (f"Of the KD losses {loss.replace('_', ' ')} pulls most: the student's {word!r} goes {way}. "
                f"Forward KL is {losses['forward_kl']:.2f} nats, reverse KL {losses['reverse_kl']:.2f}: ")
        more = losses["forward_kl"] - losses["reverse_kl"]
        said += ("both cost the same." if abs(more) < 0.005 else
                 "what the teacher expects and the student does not costs more than the reverse." if more > 0
                 else "what the student expects and the teacher does not costs more than the reverse.")
        return Answer(said, *drawn)

    return ask


def measure_pulls(p: torch.Tensor, q: torch.Tensor, label: int) -> tuple[dict[str, float], pd.DataFrame]:
    """Return each loss of distributions p, q (V,), in nats, and minus its gradient in q's logits (losses, V).

    Hard labels, which know no teacher, come first. A positive number raises the word's logit.
    """
    losses, pulls = {}, {}
    labels, log_p = torch.tensor([label]), p.log()[None]
    for name in (HARD, *KD_LOSSES):
        logits = q.log().clone().requires_grad_()
        log_q = logits.log_softmax(-1)[None]
        # What is equal up to rounding is equal: an absolute value has a slope on either side of 0.
        same = torch.where((log_q - log_p).abs() < 1e-12, log_q.detach(), log_p)
        loss = (hard_label_ce(logits[None, None], labels[None]) if name == HARD else
                define(name, same, log_q, labels).sum())
        loss.backward()
        losses[name], pulls[name] = loss.item(), (-logits.grad).tolist()
    return losses, pd.DataFrame(pulls).T


def alpha_fields() -> dict[str, Field]:
    """Return sliders that bend two losses: at the start, in the middle, at the end, and how they wobble."""
    curves = {"ce": (HARD, (8.0, 5.0, 4.0)), "kd": ("teacher", (6.0, 5.0, 4.8))}
    return {**{f"{term}_{when}": Field(when, value, low=0.0, high=10.0, step=0.1, group=f"loss, {name}")
               for term, (name, values) in curves.items()
               for when, value in zip(("start", "middle", "end"), values, strict=True)},
            "noise": Field("wobble", 0.0, low=0.0, high=1.0, step=0.05, group="both"),
            "pull": Field("pull of CE over KD", 2.0, low=0.2, high=5.0, step=0.1, group="both")}


def answer_alpha() -> Callable:
    """Return a panel: two loss curves, their wobble and pulls -> what every schedule makes alpha."""
    def ask(noise: float, pull: float, **bends) -> Answer:
        history = bend_history({term: [bends[f"{term}_{when}"] for when in ("start", "middle", "end")]
                                for term in ("ce", "kd")}, noise, pull)
        alphas = pd.DataFrame({name: follow_schedule(name, history) for name in SHOWN_SCHEDULES})
        paper, (low, high) = alphas["adaptive_paper"], (alphas.min(), alphas.max())
        share = (paper == 0.5).mean()
        span = (high - low)[[*LOOKING]]
        moving = span.idxmax()
        words = (f"The paper's adaptive alpha is exactly 0.5 in {100 * share:.0f} % of {STEPS} steps, and "
                 f"from {low['adaptive_paper']:.2f} to {high['adaptive_paper']:.2f} in all. ")
        words += (f"Of those that look at losses or pulls {moving.replace('_', ' ')} moves most, between "
                  f"{low[moving]:.2f} and {high[moving]:.2f}." if span.max() >= 0.005 else
                  "None of those that look at losses or pulls moves.")
        return Answer(words, figures.plot_alpha_lab, (pd.DataFrame(history)[["ce_loss", "kd_loss"]], alphas))

    return ask


def bend_history(bends: dict[str, list[float]], noise: float, pull: float) -> list[dict[str, float]]:
    """Return the steps of a training that never was: smooth curves through start, middle and end, and wobble.

    The gradient of CE at the logits is `pull` times that of KD, all through.
    """
    rng, at = np.random.default_rng(0), np.linspace(0, 1, STEPS)
    curves = {term: PchipInterpolator([0, 0.5, 1], values)(at) for term, values in bends.items()}
    bent = {term: np.maximum(curve + noise * rng.standard_normal(STEPS), 0)
            for term, curve in curves.items()}
    return [{"ce_loss": ce, "kd_loss": kd, "ce_grad_norm": pull, "kd_grad_norm": 1.0}
            for ce, kd in zip(bent["ce"].tolist(), bent["kd"].tolist(), strict=True)]


def follow_schedule(name: str, history: list[dict[str, float]]) -> list[float]:
    """Return the alpha of every step, each from the steps before it."""
    schedule = make_alpha_schedule(name, len(history), alpha=0.8, end=0.2)
    return [float(schedule(history[:step])) for step in range(len(history))]
