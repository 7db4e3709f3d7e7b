"""Knowledge distillation: losses and schedules of alpha as pure functions.

Every loss returns a sum over the supervised tokens (labels other than -100); the training loop divides by their number
in the whole optimizer step. alpha weighs the hard-label cross-entropy, 1 - alpha the distillation term.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from mome.config import KD_LOSSES, MOVING_SCHEDULES, check_choice, check_range

IGNORED = -100
CACHED_LOSSES = ("teacher_ce", "forward_kl")  # those that need the teacher only where the teacher has mass
MIXTURES = {"jsd": 0.5, "skew_kl": 0.1, "skew_reverse_kl": 0.1}  # of the losses that mix both distributions
ALPHA_SCHEDULES = ("fixed", "adaptive_paper", "alternate", "alternate_micro_batch", *MOVING_SCHEDULES)
DWA_TEMPERATURE = 2.0  # as in Liu, Johns, Davison 2019
TOKENS_PER_CHUNK = 128  # of 4,096 logits each: two megabytes, which stay in a processor's cache


def shift_labels(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return (B, T) labels: the next token at each position, -100 at the last one and where the next token is padding."""
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
    if attention_mask is not None:
        labels[:, :-1].masked_fill_(attention_mask[:, 1:] == 0, IGNORED)
    return labels


def ce_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the hard-label cross-entropy in nats, summed over supervised tokens. logits (B, T, V), labels (B, T)."""
    return combined_loss(logits, labels, 1.0)["loss"]


def kd_loss(name: str, student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0,
            mixture: float | None = None) -> torch.Tensor:
    """Return a distillation loss, summed over supervised tokens, times temperature squared. See `differentiate_kd` for the formulas.

    Logits are (B, T, V), labels (B, T). Raises ValueError for an unknown name, a temperature of 0 or less or for l1_weighted
    other than 1, a mixture out of range, or unequal vocabularies.
    """
    return combined_loss(student_logits, labels, 0.0, name, teacher_logits=teacher_logits, temperature=temperature, mixture=mixture)["loss"]


def combined_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: float, name: str | None = None, *, teacher_logits: torch.Tensor | None = None,
                  targets: dict[str, torch.Tensor] | None = None, temperature: float = 1.0, mixture: float | None = None) -> dict[str, torch.Tensor]:
    """Return sums over supervised tokens; only "loss" = alpha * ce_loss + (1 - alpha) * kd_loss carries a gradient.

    "ce_loss" and "kd_loss" are in nats; "ce_square" and "kd_square" are squared Euclidean norms of each term's gradient with
    respect to a token's logits, so sqrt(sum / tokens) is its root mean square. The KD term comes from `teacher_logits`
    (B, T, V) or from cached `targets` (see `mome.targets`); without either, "loss" is alpha * ce_loss alone. Beyond the
    logits this takes one (tokens, V) tensor, the gradient: all else is done a chunk of tokens at a time. Raises ValueError
    as `kd_loss` does, and for alpha outside [0, 1] or a loss that cannot read cached targets.
    """
    check_range("alpha", alpha, 0, 1)
    if name is not None or teacher_logits is not None:
        mixture = check_kd_options(name, temperature, mixture)
    y, add_kd = labels.flatten(), None
    if teacher_logits is not None:
        if logits.shape != teacher_logits.shape:
            raise ValueError(f"student_logits {tuple(logits.shape)} and teacher_logits {tuple(teacher_logits.shape)} must have one shape: one vocabulary")
        teacher = teacher_logits.detach().flatten(0, 1)

        def add_kd(part, z, lse, gradient, q_square):
            log_q = z - lse if temperature == 1 else F.log_softmax(z / temperature, dim=-1)
            log_p = F.log_softmax(teacher[part].to(z.dtype) / temperature, dim=-1)
            return add_full(name, log_q, log_p, y[part].clamp_min(0), gradient, alpha, temperature, mixture)
    elif targets is not None:
        check_cached(name, temperature)
        listed = {key: value.flatten(0, 1) for key, value in targets.items()}

        def add_kd(part, z, lse, gradient, q_square):
            return add_cached(name, z, lse, {key: value[part] for key, value in listed.items()}, gradient, alpha, q_square)

    loss, sums = ChunkedLoss.apply(logits, y, alpha, add_kd)
    names = ("ce_loss", "ce_square", "kd_loss", "kd_square")[:4 if add_kd else 2]
    return {"loss": loss, **dict(zip(names, sums, strict=False))}


class ChunkedLoss(torch.autograd.Function):
    """Hard-label and KD loss of logits together with their gradient, a chunk of tokens at a time.

    The gradient's memory first holds q, the softmax, and becomes alpha (q - onehot) + (1 - alpha) (KD's gradient) in place, so
    nothing else of the logits' size is made. `add_kd(part, z, lse, gradient, q_square)` turns the q of the tokens `part` into
    alpha q + (1 - alpha) (KD's gradient) and returns the KD losses and squared gradient norms, both (N,). Applied, it returns
    the combined loss and a table (4,): sums of CE, its squared gradient, KD, its squared gradient.
    """

    @staticmethod
    def forward(ctx, logits, y, alpha, add_kd):
        flat, dtype = logits.detach().flatten(0, 1), torch.promote_types(logits.dtype, torch.float32)
        label, table = y.clamp_min(0).unsqueeze(-1), torch.zeros(4, len(y), dtype=dtype, device=y.device)
        ctx.shape, ctx.dtype, ctx.gradient = logits.shape, logits.dtype, torch.empty(flat.shape, dtype=dtype, device=y.device)
        for at in range(0, len(y), TOKENS_PER_CHUNK):
            part = slice(at, at + TOKENS_PER_CHUNK)
            z, gradient = flat[part].to(dtype), ctx.gradient[part]
            torch.log_softmax(z, dim=-1, out=gradient)
            log_q_label = gradient.gather(-1, label[part])
            q = gradient.exp_()
            q_square = torch.linalg.vector_norm(q, dim=-1) ** 2
            table[0, part], table[1, part] = -log_q_label.squeeze(-1), q_square - 2 * log_q_label.squeeze(-1).exp() + 1
            if add_kd is not None:
                table[2, part], table[3, part] = add_kd(part, z, z.gather(-1, label[part]) - log_q_label, gradient, q_square)
            elif alpha != 1:
                gradient.mul_(alpha)
            gradient.scatter_add_(-1, label[part], torch.full((len(z), 1), -alpha, dtype=dtype, device=y.device))
        ctx.gradient[y == IGNORED] = 0
        sums = table.masked_fill(y == IGNORED, 0).sum(dim=1)
        ctx.mark_non_differentiable(sums)
        return alpha * sums[0] + (1 - alpha) * sums[2], sums

    @staticmethod
    def backward(ctx, scale, _):
        if ctx.gradient is None:
            raise RuntimeError("a chunked loss can be differentiated once; compute it again for another backward pass")
        gradient, ctx.gradient = ctx.gradient.mul_(scale), None
        return gradient.view(ctx.shape).to(ctx.dtype), None, None, None


def add_cached(name: str, z: torch.Tensor, lse: torch.Tensor, targets: dict[str, torch.Tensor], gradient: torch.Tensor, alpha: float,
               q_square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn q into alpha q + (1 - alpha) (gradient of the loss against cached targets); return losses and squared gradient norms (N,).

    teacher_ce = -sum w log q over the listed tokens, with a tail of mass r as one more event: -r log t, t = 1 - sum q over the
    listed. forward_kl is the same less the entropy of those events. With W = r + sum w the gradient is W q - w on listed tokens
    and (W - r / t) q on all others. Of an id listed twice only one weight may differ from 0.
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
    gradient.mul_(alpha + (1 - alpha) * (mass - tail_pull)).scatter_add_(-1, ids, (1 - alpha) * (tail_pull * q - w))
    others = q_square - (q * q).sum(-1)
    return losses, (((mass * q - w) ** 2).sum(-1) + (mass - tail_pull).squeeze(-1) ** 2 * others).clamp_min(0)


def add_full(name: str, log_q: torch.Tensor, log_p: torch.Tensor, y: torch.Tensor, gradient: torch.Tensor, alpha: float, temperature: float,
             mixture: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn q into alpha q + (1 - alpha) (gradient of a KD loss against the whole teacher); return losses and squared gradient norms (N,)."""
    losses, kd_gradient = differentiate_kd(name, log_q, log_p, y, mixture)
    # T squared from the loss, 1 / T from the chain rule.
    gradient.mul_(alpha).add_(kd_gradient, alpha=(1 - alpha) * temperature)
    return losses * temperature**2, torch.linalg.vector_norm(kd_gradient, dim=-1) ** 2 * temperature**2


def differentiate_kd(name: str, log_q: torch.Tensor, log_p: torch.Tensor, labels: torch.Tensor,
                     mixture: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the KD loss of each token (N,) and its gradient in the student's logits (N, V), q being student, p teacher, both (N, V) in logs.

    forward_kl: sum p (log p - log q), the paper's forward branch (Hinton et al. 2015). reverse_kl: sum q (log q - log p).
    teacher_ce: -sum p log q = forward_kl + the teacher's entropy, what the paper's code calls inverse KL.
    jsd: (b KL(p|m) + (1 - b) KL(q|m)) / (b (1 - b)), m = b p + (1 - b) q: forward_kl at b = 0, reverse_kl at b = 1
    (Agarwal et al. 2024, eq. 4, scaled). skew_kl: KL(p|m), m = s p + (1 - s) q: forward_kl at s = 0; skew_reverse_kl the
    same with p and q exchanged (Ko et al. 2024, eq. 3). `mixture` is b or s. l1_weighted: |p - onehot(y)| |q - p|, L1 norms
    over the vocabulary: the teacher's error weighs the student's distance (left unused in the paper's code).
    Gradients: q - p for teacher_ce and forward_kl; else q (u - sum q u) with u the loss's derivative in q.
    """
    if mixture == 0:
        name = "reverse_kl" if name == "skew_reverse_kl" else "forward_kl"
    elif mixture == 1:
        name = "reverse_kl"
    p, q, dot = log_p.exp(), log_q.exp(), torch.linalg.vecdot
    if name == "teacher_ce":
        return -dot(p, log_q), q.sub_(p)
    if name == "forward_kl":
        return dot(p, log_p - log_q), q.sub_(p)
    if name == "reverse_kl":
        u = log_q - log_p
        losses = dot(q, u)
    elif name == "jsd":
        log_m = mix(log_p, log_q, mixture)
        u = (log_q - log_m) / mixture
        losses = dot(p, log_p - log_m) / (1 - mixture) + dot(q, u)
    elif name == "skew_kl":
        log_ratio = log_p - mix(log_p, log_q, mixture)
        u, losses = -(1 - mixture) * log_ratio.exp(), dot(p, log_ratio)
    elif name == "skew_reverse_kl":
        log_ratio = log_q - mix(log_q, log_p, mixture)
        u, losses = log_ratio - mixture * log_ratio.exp(), dot(q, log_ratio)
    else:
        teacher_error = (p - F.one_hot(labels, p.shape[-1])).abs().sum(-1)
        u = teacher_error.unsqueeze(-1) * (q - p).sign()
        losses = teacher_error * (q - p).abs().sum(-1)
    return losses, q.mul_(u - dot(q, u).unsqueeze(-1))


def mix(log_a: torch.Tensor, log_b: torch.Tensor, share: float) -> torch.Tensor:
    """Return log(share a + (1 - share) b), `share` strictly between 0 and 1."""
    return torch.logaddexp(log_a + np.log(share), log_b + np.log1p(-share))


def check_kd_options(name: str, temperature: float, mixture: float | None) -> float | None:
    """Return the mixture to use; ValueError for an unknown loss, or a temperature or mixture that it does not allow."""
    check_choice("kd_loss", name, KD_LOSSES)
    check_range("temperature", temperature, 1e-3)
    if name == "l1_weighted" and temperature != 1:
        raise ValueError(f"temperature={temperature!r} is not allowed; kd_loss='l1_weighted' is defined at temperature 1 only")
    if name not in MIXTURES:
        if mixture is not None:
            raise ValueError(f"mixture={mixture!r} is not allowed; kd_loss={name!r} mixes nothing, {', '.join(MIXTURES)} do")
        return None
    mixture = MIXTURES[name] if mixture is None else mixture
    check_range("mixture", mixture, 0, 1 if name == "jsd" else 0.99)
    return mixture


def can_use_cache(name: str | None, temperature: float) -> bool:
    """True when a loss can be read off cached targets instead of running the teacher."""
    return name in CACHED_LOSSES and temperature == 1.0


def check_cached(name: str | None, temperature: float) -> None:
    if not can_use_cache(name, temperature):
        raise ValueError(f"kd_loss={name!r} at temperature={temperature:g} cannot read cached targets; give the teacher instead")


def make_objective(name: str | None, forward: Callable, targets=None, teacher=None, temperature: float = 1.0, mixture: float | None = None,
                   second_teacher=None, second_share: float = 0.5) -> Callable:
    """Return `loss_fn(model, batch, alpha)` for the training loop: what `combined_loss` returns for a batch.

    name None trains on hard labels alone. teacher_ce and forward_kl read `targets` (a `mome.targets.CachedTargets`) when
    given; every other case runs `teacher` on the batch, at alpha 1 too, so that the trace of both losses has no gaps.
    `forward(model, batch)` returns logits. With a `second_teacher`, `second_share` of the loss is forward KL to it, run on the
    batch, reported as second_kd_loss. Raises ValueError for a loss that cannot read targets, or another vocabulary.
    """
    if second_teacher is not None:
        check_range("second_share", second_share, 0, 1)
        first = make_objective(name, lambda model, batch: batch["logits"], targets, teacher, temperature, mixture)
        return add_second_teacher(first, forward, second_teacher, second_share)
    if name is not None:
        check_kd_options(name, temperature, mixture)
        if targets is not None:
            check_cached(name, temperature)
    options = {"temperature": temperature, "mixture": mixture}

    def loss_fn(model, batch, alpha):
        logits, labels = forward(model, batch), batch["labels"]
        if name is None:
            return combined_loss(logits, labels, alpha)
        if targets is not None:
            found = targets.lookup(batch["row_numbers"], logits.shape[-1])
            return combined_loss(logits, labels, alpha, name, targets={key: value.to(logits.device) for key, value in found.items()})
        with torch.no_grad():
            teacher_logits = teacher(input_ids=batch["input_ids"]).logits
        return combined_loss(logits, labels, alpha, name, teacher_logits=teacher_logits, **options)

    return loss_fn


def add_second_teacher(first: Callable, forward: Callable, teacher, share: float) -> Callable:
    """Return the objective (1 - share) * first + share * forward KL to `teacher`; `first` reads the student's logits from its batch."""
    def loss_fn(model, batch, alpha):
        logits = forward(model, batch)
        with torch.no_grad():
            teacher_logits = teacher(input_ids=batch["input_ids"]).logits
        sums = first(model, batch | {"logits": logits}, alpha)
        second = combined_loss(logits, batch["labels"], 0.0, "forward_kl", teacher_logits=teacher_logits)
        return sums | {"loss": (1 - share) * sums["loss"] + share * second["loss"], "second_kd_loss": second["kd_loss"]}

    return loss_fn


def original_objective(forward: Callable, teacher) -> Callable:
    """Return a `loss_fn` that distils as the paper's code does, for timing: the teacher runs in every step, both distributions whole in float32.

    The loss is that of `make_objective("teacher_ce", ...)`; only its price differs.
    """
    def loss_fn(model, batch, alpha):
        logits, labels = forward(model, batch).float(), batch["labels"]
        with torch.no_grad():
            teacher_probs = F.softmax(teacher(input_ids=batch["input_ids"]).logits.float(), dim=-1)
        ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        kd = (-(teacher_probs * F.log_softmax(logits, dim=-1)).sum(-1) * (labels != IGNORED)).sum()
        return {"loss": alpha * ce + (1 - alpha) * kd, "ce_loss": ce, "kd_loss": kd}

    return loss_fn


def make_alpha_schedule(name: str, steps: int, alpha: float = 0.5, end: float = 0.0) -> Callable[[list[dict]], float | tuple[float, float]]:
    """Return a function from the history of finished steps to the alpha of the next step; a tuple is dealt to its micro-batches in turn.

    fixed: `alpha`. linear, cosine: from `alpha` at the first step to `end` at the last. alternate: 1 at odd steps, 0 at
    even ones, counted from 1. alternate_micro_batch: 1 and 0 by turns within every step, as in the paper's code. The rest
    look back over max(20, steps // 100) steps: adaptive_paper see `adaptive_alpha`, dwa see `dwa_alpha`, grad_norm see
    `grad_norm_alpha`. Raises ValueError for an unknown name or weights outside [0, 1].
    """
    check_choice("alpha_schedule", name, ALPHA_SCHEDULES)
    check_range("alpha", alpha, 0, 1)
    check_range("alpha_end", end, 0, 1)
    window, last = max(20, steps // 100), max(1, steps - 1)
    return {
        "fixed": lambda history: alpha,
        "linear": lambda history: alpha + (end - alpha) * len(history) / last,
        "cosine": lambda history: end + (alpha - end) * (1 + np.cos(np.pi * len(history) / last)) / 2,
        "adaptive_paper": lambda history: adaptive_alpha(history, window),
        "dwa": lambda history: dwa_alpha(history, window),
        "grad_norm": lambda history: grad_norm_alpha(history, window),
        "alternate": lambda history: 1.0 if len(history) % 2 == 0 else 0.0,
        "alternate_micro_batch": lambda history: (1.0, 0.0),
    }[name]


def adaptive_alpha(history: list[dict], window: int) -> float:
    """Return the paper's adaptive alpha: w_CE / (w_CE + w_KD), w = 1 - clamp((last - first) / mean, 0, 1) over the window.

    A falling loss has w = 1 exactly, so alpha is exactly 0.5 whenever both losses fall, however fast. 0.5 too before
    there are two steps, and when both weights are 0 (where the formula divides by 0).
    """
    recent = history[-window:]
    if len(recent) < 2:
        return 0.5
    weights = []
    for name in ("ce_loss", "kd_loss"):
        losses = np.array([step[name] for step in recent])
        weights.append(1 - float(np.clip((losses[-1] - losses[0]) / losses.mean(), 0, 1)))
    return weights[0] / sum(weights) if sum(weights) > 0 else 0.5


def dwa_alpha(history: list[dict], window: int) -> float:
    """Return alpha by dynamic weight averaging: the loss that fell less over the last two windows gets more weight.

    softmax over CE and KD of r / 2, r = mean of the last window / mean of the one before (Liu, Johns, Davison 2019, eq. 7,
    windows of steps in place of epochs). 0.5 before there are two windows.
    """
    if len(history) < 2 * window:
        return 0.5
    earlier, recent = history[-2 * window:-window], history[-window:]
    means = [[np.mean([step[name] for step in steps]) for steps in (recent, earlier)] for name in ("ce_loss", "kd_loss")]
    rates = [now / before if before else 1.0 for now, before in means]  # a loss that is gone stays where it is
    return float(1 / (1 + np.exp((rates[1] - rates[0]) / DWA_TEMPERATURE)))


def grad_norm_alpha(history: list[dict], window: int) -> float:
    """Return the alpha at which both terms pull equally hard: alpha |grad CE| = (1 - alpha) |grad KD|, means over the window.

    The balance that GradNorm (Chen et al. 2018) seeks by descent, without its training rates, in closed form and at the
    logits. 0.5 before the first step and where both gradients vanish.
    """
    recent = history[-window:]
    ce, kd = (sum(step[name] for step in recent) for name in ("ce_grad_norm", "kd_grad_norm"))
    return kd / (ce + kd) if ce + kd > 0 else 0.5
