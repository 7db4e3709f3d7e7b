"""What a student is trained on: from a loss's name and a teacher to a function for the training loop."""

from collections.abc import Callable

import torch

from mome.checks import check_range
from mome.distill import IGNORED, check_cached, check_kd_options
from mome.distill.fused import combined_loss
from mome.distill.losses import hard_label_ce


def make_objective(name: str | None, forward: Callable, targets=None, teacher=None, temperature: float = 1.0,
                   mixture: float | None = None, second_teacher=None, second_share: float = 0.5) -> Callable:
    """Return `loss_fn(model, batch, alpha)` for the training loop: what `combined_loss` returns for a batch.

    `forward(model, batch)` returns logits. name None: hard labels alone. teacher_ce and forward_kl read
    `targets` (a `CachedTargets`) when given; all else runs `teacher` on the batch, at alpha 1 too, so that
    the traces have no gaps. With a `second_teacher`, `second_share` of the loss is forward KL to it, returned
    as second_kd_loss. ValueError for a loss that cannot be computed from targets, or another vocabulary.
    """
    if second_teacher is not None:
        check_range("second_share", second_share, 0, 1)
        first = make_objective(name, lambda _, batch: batch["logits"], targets, teacher, temperature, mixture)
        return add_second_teacher(first, forward, second_teacher, second_share)
    if name is not None:
        check_kd_options(name, temperature, mixture)
        if targets is not None:
            check_cached(name, temperature)

    def loss_fn(model, batch, alpha):
        logits, labels = forward(model, batch), batch["labels"]
        if name is None:
            return combined_loss(logits, labels, alpha)
        if targets is not None:
            found = targets.lookup(batch["row_numbers"], logits.shape[-1])
            found = {key: value.to(logits.device) for key, value in found.items()}
            return combined_loss(logits, labels, alpha, name, targets=found)
        return combined_loss(logits, labels, alpha, name, teacher_logits=run_teacher(teacher, batch),
                             temperature=temperature, mixture=mixture)

    return loss_fn


@torch.no_grad()
def run_teacher(teacher, batch: dict) -> torch.Tensor:
    return teacher(input_ids=batch["input_ids"]).logits


def add_second_teacher(first: Callable, forward: Callable, teacher, share: float) -> Callable:
    """Return the objective (1 - share) first + share forward_kl; `first` finds "logits" in its batch."""
    def loss_fn(model, batch, alpha):
        logits, taught = forward(model, batch), run_teacher(teacher, batch)
        sums = first(model, batch | {"logits": logits}, alpha)
        second = combined_loss(logits, batch["labels"], 0.0, "forward_kl", teacher_logits=taught)
        loss = (1 - share) * sums["loss"] + share * second["loss"]
        return sums | {"loss": loss, "second_kd_loss": second["kd_loss"]}

    return loss_fn


def original_objective(forward: Callable, teacher) -> Callable:
    """Return a `loss_fn` that distils as the paper's code does, for timing: teacher_ce, all in float32."""
    def loss_fn(model, batch, alpha):
        logits, is_label = forward(model, batch).float(), batch["labels"] != IGNORED
        teacher_probs = run_teacher(teacher, batch).float().softmax(dim=-1)
        ce = hard_label_ce(logits, batch["labels"])
        kd = (-(teacher_probs * logits.log_softmax(dim=-1)).sum(-1) * is_label).sum()
        return {"loss": alpha * ce + (1 - alpha) * kd, "ce_loss": ce, "kd_loss": kd}

    return loss_fn
