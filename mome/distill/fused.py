"""The losses of `mome.distill.losses` with their gradients by hand: less memory, often less time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mome.checks import check_range
from mome.distill import IGNORED, check_cached, check_kd_options
from mome.distill.losses import log_mixture

TOKENS_PER_CHUNK = 128  # of 4,096 logits each: two megabytes, which stay in a processor's cache


def shift_labels(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Return (B, T) labels: the next token at each position, -100 at the last and before padding."""
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
    if attention_mask is not None:
        labels[:, :-1].masked_fill_(attention_mask[:, 1:] == 0, IGNORED)
    return labels


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the hard-label cross-entropy in nats, summed over supervised tokens; (B, T, V) and (B, T)."""
    return combined_loss(logits, labels, 1.0)["loss"]


def kd_loss(name: str, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor,
            temperature: float = 1.0, mixture: float | None = None) -> Tensor:
    """Return a distillation loss, summed over supervised tokens; ValueError as in `combined_loss`."""
    return combined_loss(student_logits, labels, 0.0, name, teacher_logits=teacher_logits,
                         temperature=temperature, mixture=mixture)["loss"]


def combined_loss(logits: Tensor, labels: Tensor, alpha: float, name: str | None = None, *,
                  teacher_logits: Tensor | None = None, targets: dict[str, Tensor] | None = None,
                  temperature: float = 1.0, mixture: float | None = None) -> dict[str, Tensor]:
    """Return sums over supervised tokens; only "loss" = alpha ce_loss + (1 - alpha) kd_loss has a gradient.

    "ce_loss" and "kd_loss" are in nats; "ce_square" and "kd_square" are squared norms of each term's gradient
    in a token's logits, so sqrt(sum / tokens) is its root mean square. Logits are (B, T, V), labels (B, T).
    The KD term comes from `teacher_logits` or from cached `targets` (see `list_targets`); without either,
    "loss" is alpha ce_loss alone. ValueError as in `check_kd_options`, and for two vocabularies.
    """
    check_range("alpha", alpha, 0, 1)
    if name is not None or teacher_logits is not None:
        mixture = check_kd_options(name, temperature, mixture)
    y, add_kd = labels.flatten(), None
    if teacher_logits is not None:
        if logits.shape != teacher_logits.shape:
            raise ValueError(f"student_logits {tuple(logits.shape)} and teacher_logits "
                             f"{tuple(teacher_logits.shape)} must have one shape: one vocabulary")
        teacher = teacher_logits.detach().flatten(0, 1)

        def add_kd(part, z, lse, gradient, q_square):
            log_q = z - lse if temperature == 1 else F.log_softmax(z / temperature, dim=-1)
            log_p = F.log_softmax(teacher[part].to(z.dtype) / temperature, dim=-1)
            kd, slope = differentiate_kd(name, log_q, log_p, y[part].clamp_min(0), mixture)
            # T squared from the loss, 1 / T from the chain rule.
            gradient.mul_(alpha).add_(slope, alpha=(1 - alpha) * temperature)
            return kd * temperature**2, torch.linalg.vector_norm(slope, dim=-1) ** 2 * temperature**2
    elif targets is not None:
        check_cached(name, temperature)
        listed = {key: value.flatten(0, 1) for key, value in targets.items()}

        def add_kd(part, z, lse, gradient, q_square):
            chunk = {key: value[part] for key, value in listed.items()}
            return add_cached(name, z, lse, chunk, gradient, alpha, q_square)

    loss, sums = ChunkedLoss.apply(logits, y, alpha, add_kd)
    names = ("ce_loss", "ce_square", "kd_loss", "kd_square")[:4 if add_kd else 2]
    return {"loss": loss, **dict(zip(names, sums, strict=False))}


class ChunkedLoss(torch.autograd.Function):
    """The combined loss, and sums (4,) of CE, its squared gradient, KD, its squared gradient.

    The gradient's memory first holds q and becomes alpha (q - onehot) + (1 - alpha) (KD's gradient) in place,
    so nothing else of the logits' size is made. `add_kd(part, z, lse, gradient, q_square)` turns the q of the
    tokens `part` into alpha q + (1 - alpha) (KD's gradient); it returns KD losses and squared norms (N,).
    """

    @staticmethod
    def forward(ctx, logits, y, alpha, add_kd):
        flat, dtype = logits.detach().flatten(0, 1), torch.promote_types(logits.dtype, torch.float32)
        label, table = y.clamp_min(0).unsqueeze(-1), torch.zeros(4, len(y), dtype=dtype, device=y.device)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        ctx.gradient = torch.empty(flat.shape, dtype=dtype, device=y.device)
        for at in range(0, len(y), TOKENS_PER_CHUNK):
            part = slice(at, at + TOKENS_PER_CHUNK)
            z, gradient = flat[part].to(dtype), ctx.gradient[part]
            torch.log_softmax(z, dim=-1, out=gradient)
            log_q_label = gradient.gather(-1, label[part])
            q = gradient.exp_()
            q_square = torch.linalg.vector_norm(q, dim=-1) ** 2
            table[0, part] = -log_q_label.squeeze(-1)
            table[1, part] = q_square - 2 * log_q_label.squeeze(-1).exp() + 1
            if add_kd is not None:
                lse = z.gather(-1, label[part]) - log_q_label
                table[2, part], table[3, part] = add_kd(part, z, lse, gradient, q_square)
            elif alpha != 1:
                gradient.mul_(alpha)
            gradient.scatter_add_(-1, label[part], torch.full_like(log_q_label, -alpha))
        ctx.gradient[y == IGNORED] = 0
        sums = table.masked_fill(y == IGNORED, 0).sum(dim=1)
        ctx.mark_non_differentiable(sums)
        return alpha * sums[0] + (1 - alpha) * sums[2], sums

    @staticmethod
    def backward(ctx, scale, _):
        if ctx.gradient is None:
            raise RuntimeError("a chunked loss can be differentiated once; compute it again to do so again")
        gradient, ctx.gradient = ctx.gradient.mul_(scale), None
        return gradient.view(ctx.shape).to(ctx.dtype), None, None, None


def add_cached(name: str, z: Tensor, lse: Tensor, targets: dict[str, Tensor], gradient: Tensor,
               alpha: float, q_square: Tensor) -> tuple[Tensor, Tensor]:
    """Turn q into alpha q + (1 - alpha) (gradient of the loss against cached targets), in place.

    Returns losses and squared gradient norms (N,). teacher_ce = -sum w log q over the listed tokens, with a
    tail of mass r as one more event: -r log t, t = 1 - sum q over the listed. forward_kl is the same less the
    entropy of those events. With W = r + sum w the gradient is W q - w on listed tokens and (W - r / t) q on
    all others. Of an id listed twice only one weight may differ from 0.
    """
    ids, w, r = targets["ids"], targets["weights"].to(z.dtype), targets["tail"].to(z.dtype).unsqueeze(-1)
    log_q = z.gather(-1, ids) - lse
    q, mass = log_q.exp(), w.sum(-1, keepdim=True) + r
    losses, tail_pull = -(w * log_q).sum(-1), torch.zeros_like(r)
    if r.any():
        t = (1 - q.sum(-1, keepdim=True)).clamp_min(1e-7)
        losses, tail_pull = losses - (r * t.log()).squeeze(-1), r / t
    if name == "forward_kl":
        losses = losses - targets["entropy"].to(z.dtype)
    gradient.mul_(alpha + (1 - alpha) * (mass - tail_pull))
    gradient.scatter_add_(-1, ids, (1 - alpha) * (tail_pull * q - w))
    others = q_square - (q * q).sum(-1)
    squares = ((mass * q - w) ** 2).sum(-1) + (mass - tail_pull).squeeze(-1) ** 2 * others
    return losses, squares.clamp_min(0)


def differentiate_kd(name: str, log_q: Tensor, log_p: Tensor, labels: Tensor,
                     mixture: float | None = None) -> tuple[Tensor, Tensor]:
    """Return the KD loss of each token (N,) and its gradient in the student's logits (N, V).

    q is the student, p the teacher, both (N, V) in logs. At its ends a mixture is the KL itself. Gradients:
    q - p for teacher_ce and forward_kl; else q (u - sum q u) with u the loss's derivative in q.
    """
    if mixture in (0, 1):
        name = "reverse_kl" if mixture == 1 or name == "skew_reverse_kl" else "forward_kl"
    p, q, dot = log_p.exp(), log_q.exp(), torch.linalg.vecdot
    if name == "teacher_ce":
        return -dot(p, log_q), q.sub_(p)
    if name == "forward_kl":
        return dot(p, log_p - log_q), q.sub_(p)
    if name == "reverse_kl":
        u = log_q - log_p
        losses = dot(q, u)
    elif name == "jsd":
        log_m = log_mixture(log_p, log_q, mixture)
        u = (log_q - log_m) / mixture
        losses = dot(p, log_p - log_m) / (1 - mixture) + dot(q, u)
    elif name == "skew_kl":
        log_ratio = log_p - log_mixture(log_p, log_q, mixture)
        u, losses = -(1 - mixture) * log_ratio.exp(), dot(p, log_ratio)
    elif name == "skew_reverse_kl":
        log_ratio = log_q - log_mixture(log_q, log_p, mixture)
        u, losses = log_ratio - mixture * log_ratio.exp(), dot(q, log_ratio)
    else:
        teacher_error = (p - F.one_hot(labels, p.shape[-1])).abs().sum(-1)
        u = teacher_error.unsqueeze(-1) * (q - p).sign()
        losses = teacher_error * (q - p).abs().sum(-1)
    return losses, q.mul_(u - dot(q, u).unsqueeze(-1))
