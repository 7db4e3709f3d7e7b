"""The one training loop: a loss function in, a history out; interrupted and resumed equals uninterrupted."""

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mome.distill import IGNORED
from mome.progress import progress
from mome.scales import Optimizer
from mome.train.batches import make_batch
from mome.train.checkpoint import Checkpoint, get_random_state
from mome.train.optimizer import learning_rate_at, make_optimizer


def train_model(model: torch.nn.Module, loss_fn: Callable, plan: np.ndarray, rows: np.ndarray, *,
                optimizer: Optimizer, micro_batch_size: int, mixed_precision: str = "no",
                alpha_schedule: Callable | None = None, evaluate: Callable | None = None,
                evaluations: int = 1, checkpoint: Path | None = None, checkpoint_seconds: float = 30.0,
                text: str = "train") -> pd.DataFrame:
    """Train in place and return the history, one row an optimizer step.

    Columns: step, tokens, learning_rate, alpha, combined_loss, ce_loss, kd_loss (nats per supervised token of
    the whole step, whatever the micro-batches and devices), grad_norm (of all weights, before clipping),
    ce_grad_norm and kd_grad_norm (root mean square over tokens, at the logits), seconds (of the step, without
    evaluations). `loss_fn(model, batch, alpha)` returns sums as `combined_loss` does; `alpha_schedule` is
    called with the rows so far. With `evaluate`, its dict joins the row at `evaluations` evenly spaced steps,
    the last among them. The state goes to `checkpoint` every `checkpoint_seconds`, and when a gradient is
    interrupted or not finite; the next call goes on from it. FloatingPointError at the first loss or
    gradient that is not finite, ValueError for a checkpoint of another plan or too few micro-batches.
    """
    # A process may train in one precision after another; accelerate would hold on to the first.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    adamw = make_optimizer(model, optimizer.weight_decay, optimizer.betas)
    wrapped, adamw = accelerator.prepare(model, adamw)
    model.train()
    adamw.zero_grad()
    steps, schedule = len(plan), alpha_schedule or (lambda history: 1.0)
    evaluate_at = {round((number + 1) * steps / evaluations) for number in range(evaluations)}
    kept = Checkpoint(checkpoint, checkpoint_seconds, plan, model, adamw, accelerator.scaler,
                      accelerator.is_main_process)
    history = kept.load()
    with progress(text, steps, len(history)) as bar, ExitStack() as afterwards:
        afterwards.callback(accelerator.unwrap_model, wrapped, keep_fp32_wrapper=False)
        for step in range(len(history), steps):
            started, random_state = time.perf_counter(), get_random_state()
            mine = plan[step][accelerator.process_index::accelerator.num_processes]
            try:
                alpha = schedule(history)
                row = take_gradient(accelerator, wrapped, loss_fn, rows, mine, alpha, micro_batch_size)
                norm = accelerator.clip_grad_norm_(wrapped.parameters(), optimizer.max_grad_norm)
                row["grad_norm"] = float(norm)
                check_finite(row, mixed_precision, f"{text}: step {step + 1} of {steps}")
            except (KeyboardInterrupt, FloatingPointError):
                kept.save(history, random_state)  # the weights are still those that the last step left
                raise
            rate = learning_rate_at(step, steps, optimizer.learning_rate, optimizer.warmup_fraction)
            for group in adamw.param_groups:
                group["lr"] = rate
            adamw.step()
            adamw.zero_grad()
            row["tokens"] += history[-1]["tokens"] if history else 0
            seconds = time.perf_counter() - started
            history.append({"step": step + 1, "learning_rate": rate, **row, "seconds": seconds})
            if evaluate is not None and step + 1 in evaluate_at:
                history[-1].update(evaluate())
                model.train()
            kept.save_when_due(history)
            bar.update(f"loss {row['combined_loss']:.3f}")
    return pd.DataFrame(history)


def check_finite(row: dict, mixed_precision: str, where: str) -> None:
    """Raise FloatingPointError unless all is finite; fp16's scaler steps over gradients that are not."""
    loss, norm = row["combined_loss"], row["grad_norm"]
    if not np.isfinite(loss + (norm if mixed_precision != "fp16" else 0)):
        raise FloatingPointError(f"{where} has loss {loss} and gradient norm {norm}; lower the learning rate")


def take_gradient(accelerator, model, loss_fn, rows, row_numbers, alpha, micro_batch_size) -> dict:
    """Leave one step's gradient in `model`; return its tokens, alpha, losses and norms at the logits."""
    batches = [make_batch(rows, row_numbers[at:at + micro_batch_size], accelerator.device)
               for at in range(0, len(row_numbers), micro_batch_size)]
    alphas = [float(value) for value in (alpha if isinstance(alpha, tuple) else (alpha,))]
    if len(batches) < len(alphas):
        raise ValueError(f"micro_batch_size={micro_batch_size} is not allowed; {len(row_numbers)} sequences "
                         f"make {len(batches)} micro-batch, the alpha schedule needs {len(alphas)}")
    n_tokens = sum((batch["labels"] != IGNORED).sum() for batch in batches)
    n_tokens = accelerator.reduce(n_tokens, "sum").item()
    totals: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(batches):
        with accelerator.no_sync(model) if number < len(batches) - 1 else nullcontext():
            with accelerator.autocast():
                sums = loss_fn(model, batch, alphas[number % len(alphas)])
            # Devices average their gradients, so each scales its part back up to a sum.
            accelerator.backward(sums["loss"] * accelerator.num_processes / n_tokens)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value.detach()
    means = {name: accelerator.reduce(value, "sum").item() / n_tokens for name, value in totals.items()}
    for name in [name for name in means if name.endswith("square")]:
        means[name.replace("square", "grad_norm")] = means.pop(name) ** 0.5
    return {"tokens": n_tokens, "alpha": float(np.mean(alphas)), "combined_loss": means.pop("loss"), **means}
