"""The losses as their formulas read, for autograd; `mome.distill.fused` computes the same in training.

q is the student's distribution, p the teacher's: softmaxes of logits (B, T, V) over a temperature. y is the
label (B, T). Each is a sum in nats over labels, times the temperature squared (Hinton et al. 2015).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mome.distill import IGNORED, MIXTURES


def hard_label_ce(student: Tensor, labels: Tensor) -> Tensor:
    """-log q(y): the cross-entropy with the text itself."""
    return F.cross_entropy(student.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def teacher_ce(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """-sum p log q = forward_kl + the teacher's entropy; what the paper's code calls inverse KL."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    return -temperature**2 * (log_p.exp() * log_q).sum()


def forward_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p | q) = sum p (log p - log q), the paper's forward branch: q pays for missing mass of p."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    return temperature**2 * kl(log_p, log_q).sum()


def reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(q | p) = sum q (log q - log p): q pays for mass where p has little."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    return temperature**2 * kl(log_q, log_p).sum()


def jsd(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0,
        mixture: float = MIXTURES["jsd"]) -> Tensor:
    """(b KL(p | m) + (1 - b) KL(q | m)) / (b (1 - b)), m = b p + (1 - b) q, b the mixture: forward_kl in the
    limit b = 0, reverse_kl in the limit b = 1 (Agarwal et al. 2024, eq. 4, scaled)."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    log_m, b = log_mixture(log_p, log_q, mixture), mixture
    return temperature**2 * (b * kl(log_p, log_m) + (1 - b) * kl(log_q, log_m)).sum() / (b * (1 - b))


def skew_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0,
            mixture: float = MIXTURES["skew_kl"]) -> Tensor:
    """KL(p | s p + (1 - s) q), s the mixture: forward_kl in the limit s = 0 (Ko et al. 2024, eq. 3)."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    return temperature**2 * kl(log_p, log_mixture(log_p, log_q, mixture)).sum()


def skew_reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0,
                    mixture: float = MIXTURES["skew_reverse_kl"]) -> Tensor:
    """KL(q | s q + (1 - s) p): skew_kl with p and q exchanged; reverse_kl in the limit s = 0."""
    log_q, log_p = log_probs_of(student, teacher, labels, temperature)
    return temperature**2 * kl(log_q, log_mixture(log_q, log_p, mixture)).sum()


def l1_weighted(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """|p - onehot(y)| |q - p|, L1 norms: the teacher's error weighs it; unused in the paper's code."""
    log_q, log_p = log_probs_of(student, teacher, labels, 1.0)
    p, onehot = log_p.exp(), F.one_hot(labels[labels != IGNORED], log_p.shape[-1])
    return ((p - onehot).abs().sum(-1) * (log_q.exp() - p).abs().sum(-1)).sum()


def log_probs_of(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> list[Tensor]:
    """Return log q and log p (N, V) of the N supervised tokens; the teacher gets no gradient."""
    both = (student, teacher.detach())
    return [F.log_softmax(logits[labels != IGNORED] / temperature, dim=-1) for logits in both]


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """Return KL(a | b) = sum a (log a - log b) of each token; where a is 0 it adds 0, whatever b is."""
    return (log_a.exp() * (log_a - log_b).where(log_a > -torch.inf, 0)).sum(-1)


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """Return log(share a + (1 - share) b), `share` within (0, 1)."""
    return torch.logaddexp(log_a + np.log(share), log_b + np.log1p(-share))
