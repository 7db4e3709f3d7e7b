"""Knowledge distillation: losses and alpha schedules as pure functions, and the teacher's cached targets.

Every loss returns a sum over the supervised tokens (labels other than -100); the training loop divides by their number
in the whole optimizer step. alpha weighs the hard-label cross-entropy, 1 - alpha the distillation term.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from mome.artifacts import progress, read_json, write_json
from mome.config import check_choice, check_range

IGNORED = -100
KD_LOSSES = ("teacher_ce", "forward_kl", "reverse_kl")
CACHED_LOSSES = ("teacher_ce", "forward_kl")  # those that need the teacher only where the teacher has mass
ALPHA_SCHEDULES = ("fixed", "adaptive_paper", "linear", "cosine", "alternate")
TARGET_ROWS_PER_FILE = 4_096


def shift_labels(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return (B, T) labels: the next token at each position, -100 at the last one and where the next token is padding."""
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
    if attention_mask is not None:
        labels[:, :-1].masked_fill_(attention_mask[:, 1:] == 0, IGNORED)
    return labels


def ce_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the hard-label cross-entropy in nats, summed over supervised tokens. logits (B, T, V), labels (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def kd_loss(name: str, student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return a distillation loss, summed over supervised tokens, times temperature squared.

    With p the teacher's and q the student's distribution at `temperature`:
    `teacher_ce` is -sum p log q, what the paper's code calls inverse KL; `forward_kl` is sum p (log p - log q), the paper's
    forward branch without its batch-size normaliser (Hinton et al. 2015); `reverse_kl` is sum q (log q - log p).
    teacher_ce = forward_kl + the teacher's entropy, so their gradients are equal. Both KLs are 0 when p equals q.

    Logits are (B, T, V), labels (B, T). Raises ValueError for an unknown name, a temperature of 0 or less, or unequal vocabularies.
    """
    check_choice("kd_loss", name, KD_LOSSES)
    check_range("temperature", temperature, 1e-3)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"student_logits {tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)} must have one shape: one vocabulary")
    supervised = labels != IGNORED
    log_q = F.log_softmax(student_logits[supervised].float() / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits[supervised].float() / temperature, dim=-1)
    if name == "teacher_ce":
        loss = -(log_p.exp() * log_q).sum()
    elif name == "forward_kl":
        loss = (log_p.exp() * (log_p - log_q)).sum()
    else:
        loss = (log_q.exp() * (log_q - log_p)).sum()
    return loss * temperature**2


def cached_losses(name: str, student_logits: torch.Tensor, labels: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict:
    """Return {"ce_loss", "kd_loss"}, summed over supervised tokens, from the teacher's cached targets.

    kd_loss is an unbiased estimate of teacher_ce, -sum w log q over the listed tokens, or of forward_kl, the same minus the
    teacher's entropy, both at temperature 1. targets: "ids" and "weights" (B, T, k), "entropy" (B, T), see `cache_targets`.
    Both losses share one log-sum-exp and one gather over the vocabulary, which keeps the step near the price of a plain one.
    """
    check_choice("kd_loss", name, CACHED_LOSSES)
    supervised, logits = labels != IGNORED, student_logits.float()
    wanted = torch.cat([labels.clamp_min(0).unsqueeze(-1), targets["ids"]], dim=-1)
    log_q = logits.gather(-1, wanted) - logits.logsumexp(dim=-1, keepdim=True)
    kd = -(targets["weights"].float() * log_q[..., 1:]).sum(dim=-1)
    if name == "forward_kl":
        kd = kd - targets["entropy"].float()
    return {"ce_loss": -(log_q[..., 0] * supervised).sum(), "kd_loss": (kd * supervised).sum()}


def can_use_cache(name: str, temperature: float) -> bool:
    """True when a loss can be read off cached targets instead of running the teacher."""
    return name in CACHED_LOSSES and temperature == 1.0


def make_objective(name: str | None, forward: Callable, targets: CachedTargets | None = None, teacher=None, temperature: float = 1.0) -> Callable:
    """Return `loss_fn(model, batch, alpha)` for the training loop: {"ce_loss", "kd_loss"} as sums over supervised tokens.

    name None trains on hard labels alone. teacher_ce and forward_kl read `targets` when given; every other case runs
    `teacher` on the batch, unless alpha is 1 and its answer would weigh nothing. `forward(model, batch)` returns logits.
    """
    if name is not None:
        check_choice("kd_loss", name, KD_LOSSES)
        if targets is not None and not can_use_cache(name, temperature):
            raise ValueError(f"kd_loss={name!r} at temperature={temperature:g} cannot read cached targets; give the teacher instead")

    def loss_fn(model, batch, alpha):
        logits, labels = forward(model, batch), batch["labels"]
        if name is None:
            return {"ce_loss": ce_loss(logits, labels)}
        if targets is not None:
            found = targets.lookup(batch["row_numbers"])
            return cached_losses(name, logits, labels, {key: value.to(logits.device) for key, value in found.items()})
        losses = {"ce_loss": ce_loss(logits, labels)}
        if alpha < 1:
            with torch.no_grad():
                teacher_logits = teacher(input_ids=batch["input_ids"]).logits
            losses["kd_loss"] = kd_loss(name, logits, teacher_logits, labels, temperature)
        return losses

    return loss_fn


def make_alpha_schedule(name: str, steps: int, alpha: float = 0.5, end: float = 0.0) -> Callable[[list[dict]], float]:
    """Return a function from the history of finished steps ({ce_loss, kd_loss} each) to the alpha of the next step.

    fixed: `alpha`. linear, cosine: from `alpha` at the first step to `end` at the last. alternate: 1 at odd steps, 0 at
    even ones, counted from 1. adaptive_paper: see `adaptive_alpha`, over a window of max(20, steps // 100).
    """
    check_choice("alpha_schedule", name, ALPHA_SCHEDULES)
    check_range("alpha", alpha, 0, 1)
    check_range("end", end, 0, 1)
    if name == "adaptive_paper":
        return lambda history: adaptive_alpha(history, max(20, steps // 100))
    if name == "alternate":
        return lambda history: 1.0 if len(history) % 2 == 0 else 0.0
    if name == "linear":
        return lambda history: alpha + (end - alpha) * len(history) / max(1, steps - 1)
    if name == "cosine":
        return lambda history: end + (alpha - end) * (1 + np.cos(np.pi * len(history) / max(1, steps - 1))) / 2
    return lambda history: alpha


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


@torch.inference_mode()
def cache_targets(teacher, rows: np.ndarray, row_numbers: np.ndarray, k: int, folder: Path, micro_batch_size: int = 32) -> dict:
    """Write k of the teacher's targets per position of the given rows under `folder`; return sizes and the listed mass.

    The first half of the k are the teacher's most probable tokens with their probabilities; the rest are draws, with
    replacement, from what is left, sharing its mass. So the weights sum to 1 and sum w log q is unbiased for the
    teacher's expectation, where top-k alone would push the student's mass onto the head (arXiv:2503.16870). Per token
    2 k bytes of uint16 ids, 2 k of float16 weights and 2 of entropy in nats, in safetensors files of 4,096 rows.
    """
    device, mass, n_top = next(teacher.parameters()).device, [], (k + 1) // 2
    teacher.eval()
    with progress("cache teacher targets", len(row_numbers)) as bar:
        for part, start in enumerate(range(0, len(row_numbers), TARGET_ROWS_PER_FILE)):
            pieces, numbers = [], row_numbers[start:start + TARGET_ROWS_PER_FILE]
            generator = torch.Generator(device).manual_seed(part)
            for at in range(0, len(numbers), micro_batch_size):
                batch = torch.from_numpy(rows[numbers[at:at + micro_batch_size]].astype(np.int64)).to(device)
                pieces.append(draw_targets(teacher(input_ids=batch).logits.float(), n_top, k - n_top, generator))
                mass.append(pieces[-1]["weights"][..., :n_top].float().sum(-1).mean().item())
                bar.update(n=len(batch))
            save_file({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}, folder / f"targets-{part:05d}.safetensors")
    write_json(folder / "rows.json", [int(number) for number in row_numbers])
    return {"rows": len(row_numbers), "k": k, "bytes_per_token": 4 * k + 2, "top_probability": round(float(np.mean(mass)), 4)}


def draw_targets(logits: torch.Tensor, n_top: int, n_drawn: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return {"ids", "weights" (B, T, n_top + n_drawn), "entropy" (B, T)} of a teacher's logits (B, T, V), on the CPU."""
    log_probs = F.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(dim=-1)
    top = probs.topk(n_top, dim=-1)
    ids, weights = top.indices, top.values
    if n_drawn:
        rest = probs.scatter(-1, ids, 0.0)
        # The floor keeps a row drawable whose rest rounds to nothing; its draws then weigh nothing.
        drawn = torch.multinomial(rest.flatten(0, 1).clamp_min(1e-20), n_drawn, replacement=True, generator=generator)
        ids = torch.cat([ids, drawn.view(*ids.shape[:2], n_drawn)], dim=-1)
        weights = torch.cat([weights, (rest.sum(-1, keepdim=True) / n_drawn).expand(*rest.shape[:2], n_drawn)], dim=-1)
    return {"ids": ids.to(torch.uint16).cpu(), "weights": weights.half().cpu(), "entropy": entropy.half().cpu()}


class CachedTargets:
    """The teacher's cached targets, looked up by row number of the training split."""

    def __init__(self, folder: Path):
        self.position = {number: place for place, number in enumerate(read_json(folder / "rows.json"))}
        self.files = [safe_open(path, framework="pt") for path in sorted(folder.glob("targets-*.safetensors"))]
        self.parts: dict[int, dict] = {}

    def lookup(self, row_numbers) -> dict[str, torch.Tensor]:
        """Return {"ids" (B, T, k) int64, "weights" (B, T, k) and "entropy" (B, T) float16}; KeyError for a row not cached."""
        found = []
        for number in row_numbers:
            part, offset = divmod(self.position[int(number)], TARGET_ROWS_PER_FILE)
            if part not in self.parts:  # views of the mapped file: nothing is read before it is used
                self.parts[part] = {name: self.files[part].get_tensor(name) for name in ("ids", "weights", "entropy")}
            found.append({name: tensor[offset] for name, tensor in self.parts[part].items()})
        stacked = {name: torch.stack([row[name] for row in found]) for name in found[0]}
        return stacked | {"ids": stacked["ids"].long()}
