"""The losses of `mome.distill.losses` with their gradients and the norms of these, in less memory.

Gradients are written by hand where somebody has worked them out, else autograd finds them from the
definition, chunk by chunk.

Against autograd on the definitions (512 tokens, one thread), losses with a teacher take 0.3 to 0.6 of the
time at a vocabulary of 4,096 and 0.1 at 32,000, hard labels alone 1.3 and 0.5: so one way serves all sizes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mome.checks import check_range
from mome.distill import IGNORED, check_cached, check_kd_options
from mome.distill.losses import define, log_mixture

LOGITS_PER_CHUNK = 2**17  # half a megabyte a thread, which stays in its cache; a GPU gets 32 times that


def shift_labels(input_ids: Tensor) -> Tensor:
    """Return (B, T) labels: the next token at each position, -100 at the last."""
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
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
    "loss" is alpha ce_loss alone. ValueError as in `check_kd_options`, and for logits of different shapes.
    """
    check_range("alpha", alpha, 0, 1)
    if name is not None or teacher_logits is not None:
        mixture = check_kd_options(name, temperature, mixture)
    y, find_kd = labels.flatten(), None
    ids = y.clamp_min(0).unsqueeze(-1)
    if teacher_logits is not None:
        if logits.shape != teacher_logits.shape:
            raise ValueError(f"student_logits {tuple(logits.shape)} and teacher_logits "
                             f"{tuple(teacher_logits.shape)} must have the same shape, so one vocabulary")
        teacher = teacher_logits.detach().flatten(0, 1)
        if mixture in (0, 1):  # at its ends a mixture is the KL itself
            name = "reverse_kl" if mixture == 1 or name == "skew_reverse_kl" else "forward_kl"
        if name == "reverse_kl" and (teacher.amin(-1)[y != IGNORED] == -torch.inf).any():
            raise ValueError("teacher_logits=-inf is not allowed where it makes the loss reverse_kl infinite")

        def find_kd(part, z, q, log_q):
            t = teacher[part].to(z.dtype)
            if temperature != 1:
                z, t, q = z / temperature, t / temperature, (z / temperature).softmax(-1)
            kd, slope = differentiate_kd(name, z, q, t, ids[part, 0], mixture)
            # T squared from the loss, 1 / T from the chain rule.
            return kd * temperature**2, slope if temperature == 1 else slope.mul_(temperature)
    elif targets is not None:
        check_cached(name, temperature)
        listed = {key: value.flatten(0, 1) for key, value in targets.items()}
        ids = torch.cat([ids, listed["ids"]], dim=-1)

        def find_kd(part, z, q, log_q):
            return differentiate_cached(name, q, log_q[:, 1:], {k: v[part] for k, v in listed.items()})

    loss, sums = ChunkedLoss.apply(logits, y, ids, alpha, find_kd)
    names = ("ce_loss", "ce_square", "kd_loss", "kd_square")[:4 if find_kd else 2]
    return {"loss": loss, **dict(zip(names, sums, strict=False))}


class ChunkedLoss(torch.autograd.Function):
    """The combined loss, and sums (4,) of CE, its squared gradient, KD, its squared gradient.

    The gradient is the only tensor of the logits' size that is made. `find_kd(part, z, q, log_q)` returns KD
    losses (N,), their gradient (N, V) in the logits z, and leaves q as it is; log_q is at `ids`, label first.
    """

    @staticmethod
    def forward(ctx, logits, y, ids, alpha, find_kd):
        flat, dtype = logits.detach().flatten(0, 1), torch.promote_types(logits.dtype, torch.float32)
        table, ctx.gradient = flat.new_zeros(4, len(y), dtype=dtype), flat.new_empty(flat.shape, dtype=dtype)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        step = max(1, LOGITS_PER_CHUNK * (torch.get_num_threads() if y.is_cpu else 32) // flat.shape[-1])
        for at in range(0, len(y), step):
            part = slice(at, at + step)
            z, gradient = flat[part].to(dtype), ctx.gradient[part]
            q = torch.softmax(z, dim=-1, out=gradient)
            # Starts from the largest logit, as log_softmax does: large logits cancel against log sum exp z.
            log_q = z.gather(-1, ids[part]) - z.amax(-1, keepdim=True) + q.amax(-1, keepdim=True).log()
            if find_kd is not None:
                table[2, part], slope = find_kd(part, z, q, log_q)
                table[3, part] = torch.linalg.vector_norm(slope, dim=-1) ** 2
            gradient.scatter_(-1, ids[part, :1], log_q[:, :1].expm1())  # q - onehot
            table[0, part] = -log_q[:, 0]
            table[1, part] = torch.linalg.vector_norm(gradient, dim=-1) ** 2
            if find_kd is not None:
                gradient.lerp_(slope, 1 - alpha)
            elif alpha != 1:
                gradient.mul_(alpha)
        ctx.gradient[(y == IGNORED).nonzero(as_tuple=True)] = 0  # touches these rows only; a mask, all
        sums = table.masked_fill(y == IGNORED, 0).sum(dim=1)
        ctx.mark_non_differentiable(sums)
        return alpha * sums[0] + (1 - alpha) * sums[2], sums

    @staticmethod
    def backward(ctx, scale, _):
        if ctx.gradient is None:
            raise RuntimeError("a chunked loss can be differentiated only once; compute the loss again first")
        gradient, ctx.gradient = ctx.gradient.mul_(scale), None
        return gradient.view(ctx.shape).to(ctx.dtype), None, None, None, None


def differentiate_cached(name: str, q: Tensor, log_q: Tensor, targets: dict) -> tuple[Tensor, Tensor]:
    """Return the KD loss of each token (N,) against cached targets and its gradient in the logits (N, V).

    teacher_ce = -sum w log q over the listed tokens, log_q (N, k), with a tail of mass r as one more event:
    -r log t, t the sum of all other q (1 - sum q would be rounding error), 1e-38 or more. forward_kl is
    the same less the entropy of those events. With W = r + sum w the gradient is W q - w on listed tokens and
    (W - r / t) q on all others. Of an id listed twice only one weight may differ from 0.
    """
    ids, w, r = targets["ids"], targets["weights"].to(q.dtype), targets["tail"].to(q.dtype).unsqueeze(-1)
    losses, slope = -(w * log_q).sum(-1), q * (w.sum(-1, keepdim=True) + r)
    slope.scatter_add_(-1, ids, -w)
    if r.any():
        others = q.scatter(-1, ids, 0.0)
        t = others.sum(-1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)
        losses, slope = losses - (r * t.log()).squeeze(-1), slope.addcmul_(others, r / t, value=-1)
    return losses - targets["entropy"].to(q.dtype) if name == "forward_kl" else losses, slope


def differentiate_kd(name: str, z: Tensor, q: Tensor, t: Tensor, labels: Tensor,
                     mixture: float | None) -> tuple[Tensor, Tensor]:
    """Return the KD loss of each token (N,) and its gradient in the student's logits z (N, V).

    q is z's softmax, p that of the teacher's logits t, 0 where they are -inf. Gradients: q - p for teacher_ce
    and forward_kl; else q (u - sum q u) with u the loss's derivative in q. A loss without lines here is
    differentiated by autograd, from its definition.
    """
    log_q, p, dot = z.log_softmax(-1), t.softmax(-1), torch.linalg.vecdot
    log_p = t.log_softmax(-1).clamp_min_(torch.finfo(t.dtype).min)  # where p is 0, so is p log p
    if name == "teacher_ce":
        return -dot(p, log_q), q - p
    if name == "forward_kl":
        return dot(p, log_p - log_q), q - p
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
    elif name == "l1_weighted":
        teacher_error = (p - F.one_hot(labels, p.shape[-1])).abs().sum(-1)
        u = teacher_error.unsqueeze(-1) * (q - p).sign()
        losses = teacher_error * (q - p).abs().sum(-1)
    else:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            losses = define(name, t.log_softmax(-1), z.log_softmax(-1), labels, mixture)
            return losses.detach(), *torch.autograd.grad(losses.sum(), z)
    return losses, u.sub_(dot(q, u).unsqueeze(-1)).mul_(q)
