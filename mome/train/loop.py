"""The one training loop: a loss function in, a history out; interrupted and resumed equals uninterrupted."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate.utils import broadcast

from mome.distill import IGNORED
from mome.progress import progress
from mome.scales import Optimizer
from mome.tracker import follow, tracking_options
from mome.train import evaluation_steps
from mome.train.batches import deal_rows, make_batch
from mome.train.checkpoint import Checkpoint, get_random_state
from mome.train.device import clip_gradients, make_accelerator, sum_gradients
from mome.train.optimizer import learning_rate_at, make_optimizer


def train_model(model: torch.nn.Module, loss_fn: Callable, plan: np.ndarray, rows: np.ndarray, *,
                optimizer: Optimizer, micro_batch_size: int, mixed_precision: str = "no",
                alpha_schedule: Callable | None = None, evaluate: Callable | None = None,
                evaluations: int = 1, checkpoint: Path | None = None, checkpoint_seconds: float = 30.0,
                text: str = "train", name: str = "", values: Mapping | None = None) -> pd.DataFrame:
    """Train in place and return the history, one row an optimizer step.

    Columns: step, tokens, learning_rate, alpha, combined_loss, ce_loss, kd_loss (nats per supervised token of
    the whole step, whatever the micro-batches and processes), grad_norm (of all weights, before clipping: a
    step was clipped where it exceeds max_grad_norm, and skipped, in fp16, where it is not finite),
    ce_grad_norm and kd_grad_norm (root mean square over tokens, at the logits), seconds (of the step, without
    evaluations). `loss_fn(model, batch, alpha)` returns sums as `combined_loss` does; `alpha_schedule` is
    called with the rows so far. With `evaluate`, its dict joins the row at `evaluations` evenly spaced steps,
    the last among them, in float32. The state goes to `checkpoint` every `checkpoint_seconds`, and when a
    gradient is interrupted or not finite; the next call goes on from it. A tracker is told of each row, under
    `name` (or `text`) and its `values`. FloatingPointError at the first loss or gradient that is not finite,
    ValueError for a checkpoint of another plan, or as in `deal_rows`.
    """
    accelerator = make_accelerator(mixed_precision, **tracking_options())
    model.to(accelerator.device).train()
    stepper = accelerator.prepare_optimizer(make_optimizer(model, optimizer))
    stepper.zero_grad()
    steps, schedule = len(plan), alpha_schedule or (lambda history: 1.0)
    evaluate_at = evaluation_steps(steps, evaluations)
    kept = Checkpoint(checkpoint, checkpoint_seconds, plan, model, stepper, accelerator.scaler,
                      accelerator.is_main_process)
    history = kept.load()
    if len(accelerator.gather(torch.tensor([len(history)], device=accelerator.device)).unique()) > 1:
        raise ValueError(f"checkpoint {checkpoint} is not the same for all processes; they need one store")
    broadcast([parameter.data for parameter in model.parameters()])  # all start as the first process does
    with (progress(text, steps, len(history)) as bar,
          follow(accelerator, name or text, values or {}, history) as tell):
        for step in range(len(history), steps):
            started, random_state = time.perf_counter(), get_random_state()
            try:
                alpha = schedule(history)
                row = take_gradient(accelerator, model, loss_fn, rows, plan[step], alpha, micro_batch_size)
                norm = clip_gradients(accelerator, list(model.parameters()), optimizer.max_grad_norm)
                row["grad_norm"] = float(norm)
                check_finite(row, accelerator.scaler, f"{text}: step {step + 1} of {steps}")
            except (KeyboardInterrupt, FloatingPointError):
                kept.save(history, random_state)  # the weights are still those that the last step left
                raise
            for group in stepper.param_groups:
                group["lr"] = learning_rate_at(step, steps, group["peak"], optimizer.warmup_fraction)
            stepper.step()
            stepper.zero_grad()
            row["tokens"] += history[-1]["tokens"] if history else 0
            seconds = time.perf_counter() - started
            rate = stepper.param_groups[0]["lr"]
            history.append({"step": step + 1, "learning_rate": rate, **row, "seconds": seconds})
            if evaluate is not None and step + 1 in evaluate_at:
                history[-1].update(evaluate())
                model.train()
            tell(history[-1])
            kept.save_when_due(history)
            bar.update(f"loss {row['combined_loss']:.3f}")
    return pd.DataFrame(history)


def check_finite(row: dict, scaler, where: str) -> None:
    """Raise FloatingPointError unless all is finite; fp16's scaler steps over gradients that are not."""
    loss, norm = row["combined_loss"], row["grad_norm"]
    if not np.isfinite(loss + (norm if scaler is None else 0)):
        raise FloatingPointError(f"{where} has loss {loss} and gradient norm {norm}; lower the learning rate")


def take_gradient(accelerator, model, loss_fn, rows, row_numbers, alpha, micro_batch_size) -> dict:
    """Leave a step's gradient in `model`, summed over micro-batches, then over processes.

    Returns the step's tokens, alpha (averaged over them), losses and norms at the logits.
    """
    alphas = [float(value) for value in (alpha if isinstance(alpha, tuple) else (alpha,))]
    dealt = deal_rows(row_numbers, micro_batch_size, len(alphas), accelerator.process_index,
                      accelerator.num_processes)
    batches = [(alphas[place], make_batch(rows, part, accelerator.device)) for place, part in dealt]
    n_tokens = accelerator.reduce(sum((batch["labels"] != IGNORED).sum() for _, batch in batches)).item()
    totals: dict[str, torch.Tensor] = {}
    for alpha, batch in batches:
        with accelerator.autocast():
            sums = loss_fn(model, batch, alpha)
        accelerator.backward(sums["loss"] / n_tokens)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value.detach()
    sum_gradients([parameter for parameter in model.parameters() if parameter.requires_grad])
    means = {name: value.item() / n_tokens for name, value in accelerator.reduce(totals).items()}
    for name in [name for name in means if name.endswith("square")]:
        means[name.replace("square", "grad_norm")] = means.pop(name) ** 0.5
    return {"tokens": n_tokens, "alpha": float(np.mean(alphas)), "combined_loss": means.pop("loss"), **means}
