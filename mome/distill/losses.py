"""The losses as their formulas read; training computes them by `mome.distill.fused`.

p is the teacher's distribution, q the student's. Each definition takes log p and log q (N, V) of N tokens and
returns nats (N,); beside them it may ask for the `mixture` of both, or for the `labels` (N,).
"""

import inspect

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mome.distill import IGNORED, MIXTURES


def hard_label_ce(student: Tensor, labels: Tensor) -> Tensor:
    """-log q(y): the cross-entropy with the text itself, in nats, summed over labels."""
    return F.cross_entropy(student.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def sum_loss(name: str, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0,
             mixture: float | None = None) -> Tensor:
    """Return a loss of logits (B, T, V), their softmax over the temperature, in nats, summed over labels.

    It is multiplied by the temperature squared (Hinton et al. 2015). The teacher gets no gradient.
    """
    is_label = labels != IGNORED
    log_p, log_q = (F.log_softmax(logits[is_label] / temperature, dim=-1)
                    for logits in (teacher.detach(), student))
    return temperature**2 * define(name, log_p, log_q, labels[is_label], mixture).sum()


def define(name: str, log_p: Tensor, log_q: Tensor, labels: Tensor, mixture: float | None = None) -> Tensor:
    """Return the loss of each token (N,), the mixture its usual one where none is given."""
    definition = globals()[name]
    given = {"labels": labels, "mixture": MIXTURES.get(name) if mixture is None else mixture}
    asked = inspect.signature(definition).parameters
    return definition(log_p, log_q, **{key: value for key, value in given.items() if key in asked})


def teacher_ce(log_p: Tensor, log_q: Tensor) -> Tensor:
    """-sum p log q = forward_kl + the teacher's entropy; what the paper's code calls inverse KL."""
    return -(log_p.exp() * log_q).sum(-1)


def forward_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p | q) = sum p (log p - log q), the paper's forward branch: q pays where it
    gives little to what p expects."""
    return kl(log_p, log_q)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q | p) = sum q (log q - log p): q pays where it expects what p does not."""
    return kl(log_q, log_p)


def jsd(log_p: Tensor, log_q: Tensor, mixture: float) -> Tensor:
    """(b KL(p | m) + (1 - b) KL(q | m)) / (b (1 - b)), m = b p + (1 - b) q, b the mixture: forward_kl in the
    limit b = 0, reverse_kl in the limit b = 1 (Agarwal et al. 2024, eq. 4, scaled)."""
    log_m, b = log_mixture(log_p, log_q, mixture), mixture
    return (b * kl(log_p, log_m) + (1 - b) * kl(log_q, log_m)) / (b * (1 - b))


def skew_kl(log_p: Tensor, log_q: Tensor, mixture: float) -> Tensor:
    """KL(p | s p + (1 - s) q), s the mixture: forward_kl in the limit s = 0 (Ko et al. 2024, eq. 3)."""
    return kl(log_p, log_mixture(log_p, log_q, mixture))


def skew_reverse_kl(log_p: Tensor, log_q: Tensor, mixture: float) -> Tensor:
    """KL(q | s q + (1 - s) p): skew_kl with p and q exchanged; reverse_kl in the limit s = 0."""
    return kl(log_q, log_mixture(log_q, log_p, mixture))


def l1_weighted(log_p: Tensor, log_q: Tensor, labels: Tensor) -> Tensor:
    """|p - onehot(y)| |q - p|, L1 norms: the teacher's error weighs it; unused in the paper's code."""
    p, onehot = log_p.exp(), F.one_hot(labels, log_p.shape[-1])
    return (p - onehot).abs().sum(-1) * (log_q.exp() - p).abs().sum(-1)


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """Return KL(a | b) = sum a (log a - log b) of each token; where a is 0 it adds 0, whatever b is."""
    return (log_a.exp() * (log_a - log_b).where(log_a > -torch.inf, 0)).sum(-1)


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """Return log(share a + (1 - share) b), `share` within (0, 1)."""
    return torch.logaddexp(log_a + np.log(share), log_b + np.log1p(-share))
