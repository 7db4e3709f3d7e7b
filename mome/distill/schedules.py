"""Schedules of alpha, the weight of the hard-label cross-entropy, as functions of the history so far."""

from collections.abc import Callable

import numpy as np

from mome.checks import check_choice, check_range
from mome.distill import ALPHA_SCHEDULES, ALPHA_WINDOW, DWA_TEMPERATURE


def make_alpha_schedule(name: str, steps: int, alpha: float = 0.5, end: float = 0.0, *,
                        window: int = ALPHA_WINDOW, dwa_temperature: float = DWA_TEMPERATURE) -> Callable:
    """Return a function from the history of finished steps to the alpha of the next step.

    fixed: `alpha`. linear, cosine: from `alpha` at the first step to `end` at the last. alternate: 1 at odd
    steps, 0 at even ones, counted from 1. alternate_micro_batch: the tuple (1, 0), for micro-batches in turn,
    as in the paper's code. The rest look back over max(`window`, steps // 100) steps. ValueError for an
    unknown name or weights outside [0, 1].
    """
    check_choice("alpha_schedule", name, ALPHA_SCHEDULES)
    check_range("alpha", alpha, 0, 1)
    check_range("alpha_end", end, 0, 1)
    window, last = max(window, steps // 100), max(1, steps - 1)
    return {
        "fixed": lambda history: alpha,
        "linear": lambda history: alpha + (end - alpha) * len(history) / last,
        "cosine": lambda history: end + (alpha - end) * (1 + np.cos(np.pi * len(history) / last)) / 2,
        "adaptive_paper": lambda history: adaptive_alpha(history, window),
        "dwa": lambda history: dwa_alpha(history, window, dwa_temperature),
        "grad_norm": lambda history: grad_norm_alpha(history, window),
        "alternate": lambda history: 1.0 if len(history) % 2 == 0 else 0.0,
        "alternate_micro_batch": lambda history: (1.0, 0.0),
    }[name]


def adaptive_alpha(history: list[dict], window: int) -> float:
    """Return the paper's alpha: w_CE / (w_CE + w_KD), w = 1 - clamp((last - first) / mean, 0, 1).

    Means over the window. A falling loss has w = 1 exactly, so alpha is exactly 0.5 whenever both losses
    fall, however fast; one that stays at 0 has w = 1 too. 0.5 before two steps and when both weights are 0.
    """
    recent = history[-window:]
    if len(recent) < 2:
        return 0.5
    losses = [np.array([step[name] for step in recent]) for name in ("ce_loss", "kd_loss")]
    ce, kd = (1 - float(np.clip((loss[-1] - loss[0]) / max(loss.mean(), 1e-30), 0, 1)) for loss in losses)
    return ce / (ce + kd) if ce + kd > 0 else 0.5


def dwa_alpha(history: list[dict], window: int, temperature: float = DWA_TEMPERATURE) -> float:
    """Return alpha by dynamic weight averaging: the loss that fell less over two windows weighs more.

    softmax over CE and KD of r / temperature, r = mean of the last window / mean of the one before (Liu,
    Johns, Davison 2019, eq. 7, windows of steps in place of epochs). 0.5 before there are two windows.
    """
    if len(history) < 2 * window:
        return 0.5
    halves = history[-window:], history[-2 * window:-window]
    means = [[np.mean([step[name] for step in steps]) for steps in halves] for name in ("ce_loss", "kd_loss")]
    rates = [now / before if before else 1.0 for now, before in means]  # a loss of 0 stays 0
    return float(1 / (1 + np.exp((rates[1] - rates[0]) / temperature)))


def grad_norm_alpha(history: list[dict], window: int) -> float:
    """Return the alpha at which both terms pull equally: alpha |grad CE| = (1 - alpha) |grad KD|.

    Means over the window: what GradNorm (Chen et al. 2018) seeks by descent, without its training rates, in
    closed form and at the logits. 0.5 before the first step and where both gradients vanish.
    """
    recent = history[-window:]
    ce, kd = (sum(step[name] for step in recent) for name in ("ce_grad_norm", "kd_grad_norm"))
    return kd / (ce + kd) if ce + kd > 0 else 0.5
