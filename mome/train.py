"""The one training loop: a loss function in, a tidy history out; interrupted and resumed equals uninterrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file

from mome.artifacts import progress
from mome.distill import IGNORED, shift_labels


def plan_batches(groups: list[np.ndarray], steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Return (steps, B) row numbers. Every batch holds equally many rows of each group (a language, as a rule).

    Each group is walked in a fresh seeded order per epoch, so every row is seen once before any is seen twice.
    Raises ValueError when the batch cannot be shared out equally or a group is empty.
    """
    share, rest = divmod(batch_size, len(groups))
    if rest or not share:
        raise ValueError(f"batch_size={batch_size} cannot be shared equally by {len(groups)} languages; give a multiple of {len(groups)}")
    columns = []
    for number, group in enumerate(groups):
        if not len(group):
            raise ValueError(f"group {number} of the batch plan has no rows")
        rng = np.random.default_rng([seed, number])
        epochs = -(-steps * share // len(group))
        walk = np.concatenate([rng.permutation(group) for _ in range(epochs)])[:steps * share]
        columns.append(walk.reshape(steps, share))
    return np.concatenate(columns, axis=1)


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of a step counted from 0: linear warm-up to `peak`, then linear decay to 0 after the last step."""
    warmup = max(1, round(steps * warmup_fraction))
    return peak * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def make_optimizer(model: torch.nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and leaves norms and biases alone; frozen weights take no part."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
              {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=(0.9, 0.95), fused=True)


def train(model: torch.nn.Module, loss_fn: Callable, plan: np.ndarray, rows: np.ndarray, *, learning_rate: float, warmup_fraction: float = 0.05,
          weight_decay: float = 0.05, max_grad_norm: float = 1.0, micro_batch_size: int = 32, mixed_precision: str = "no",
          alpha_schedule: Callable[[list[dict]], float] | None = None, evaluate: Callable[[], dict] | None = None, evaluations: int = 1,
          checkpoint: Path | None = None, description: str = "train") -> pd.DataFrame:
    """Train in place and return the history, one row an optimizer step: step, tokens, learning_rate, alpha, losses, grad_norm.

    `loss_fn(model, batch, alpha)` returns {"ce_loss": sum, "kd_loss": sum}; the loss is (alpha * ce_loss + (1 - alpha) *
    kd_loss) / supervised tokens of the whole step, whatever the micro-batches and devices; a missing loss counts 0. With
    `evaluate`, its dict joins the row at `evaluations` evenly spaced steps, the last step among them; the state is written
    to `checkpoint` there, and found again by the next call. Raises FloatingPointError at the first loss that is not finite.
    """
    accelerator = Accelerator(mixed_precision=mixed_precision)
    optimizer = make_optimizer(model, weight_decay)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    steps, history = len(plan), []
    evaluate_at = {round((number + 1) * steps / evaluations) for number in range(evaluations)}
    if checkpoint is not None and checkpoint.exists():
        history = load_checkpoint(checkpoint, model, optimizer)
    schedule = alpha_schedule or (lambda history: 1.0)
    with progress(description, steps, len(history)) as bar:
        for step in range(len(history), steps):
            alpha = float(schedule(history))
            rate = learning_rate_at(step, steps, learning_rate, warmup_fraction)
            for group in optimizer.param_groups:
                group["lr"] = rate
            mine = plan[step][accelerator.process_index::accelerator.num_processes]
            losses, n_tokens = accumulate_gradient(accelerator, wrapped, loss_fn, rows, mine, alpha, micro_batch_size)
            grad_norm = float(accelerator.clip_grad_norm_(wrapped.parameters(), max_grad_norm))
            combined = alpha * losses.get("ce_loss", 0.0) + (1 - alpha) * losses.get("kd_loss", 0.0)
            if not np.isfinite(combined):
                raise FloatingPointError(f"{description}: loss {combined} at step {step + 1} of {steps}; lower learning_rate={learning_rate:g}. "
                                         f"Last good checkpoint: {checkpoint if checkpoint and checkpoint.exists() else 'none'}")
            optimizer.step()
            optimizer.zero_grad()
            seen = history[-1]["tokens"] if history else 0
            history.append({"step": step + 1, "tokens": seen + n_tokens, "learning_rate": rate, "alpha": alpha,
                            "combined_loss": combined, "grad_norm": grad_norm, **losses})
            if evaluate is not None and step + 1 in evaluate_at:
                history[-1].update(evaluate())
                model.train()
                if checkpoint is not None and accelerator.is_main_process:
                    save_checkpoint(checkpoint, model, optimizer, history)
            bar.update(f"loss {combined:.3f}")
    return pd.DataFrame(history)


def accumulate_gradient(accelerator, model, loss_fn, rows, row_numbers, alpha, micro_batch_size) -> tuple[dict, int]:
    """Leave the gradient of one optimizer step in `model`; return its losses in nats per supervised token, and their number."""
    batches = [make_batch(rows, row_numbers[at:at + micro_batch_size], accelerator.device) for at in range(0, len(row_numbers), micro_batch_size)]
    n_tokens = accelerator.reduce(sum((batch["labels"] != IGNORED).sum() for batch in batches), "sum").item()
    totals: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(batches):
        with accelerator.no_sync(model) if number < len(batches) - 1 else accelerator.autocast():
            with accelerator.autocast():
                sums = loss_fn(model, batch, alpha)
            loss = alpha * sums.get("ce_loss", 0.0) + (1 - alpha) * sums.get("kd_loss", 0.0)
            # Devices average their gradients, so each scales its part back up to a sum.
            accelerator.backward(loss * accelerator.num_processes / n_tokens)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value.detach()
    return {name: accelerator.reduce(value, "sum").item() / n_tokens for name, value in totals.items()}, n_tokens


def make_batch(rows: np.ndarray, row_numbers: np.ndarray, device) -> dict:
    """Return {"input_ids", "labels"} (B, T) int64 on `device`, and the "row_numbers" they came from."""
    input_ids = torch.from_numpy(rows[row_numbers].astype(np.int64)).to(device)
    return {"input_ids": input_ids, "labels": shift_labels(input_ids), "row_numbers": row_numbers}


def save_checkpoint(path: Path, model, optimizer, history: list[dict]) -> None:
    """Write weights, optimizer moments, random state and history as one safetensors file, renamed when whole."""
    tensors = {"random_state": torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    aside = path.with_suffix(".aside")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside, metadata={"history": json.dumps(history)})
    os.replace(aside, path)


def load_checkpoint(path: Path, model, optimizer) -> list[dict]:
    """Restore what `save_checkpoint` wrote; return the history so far."""
    with safe_open(path, framework="pt") as file:
        history = json.loads(file.metadata()["history"])
        names = set(file.keys())
        torch.set_rng_state(file.get_tensor("random_state"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
                keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{name}.{key}" in names]
                if keys:
                    # `step` stays where the optimizer keeps it: beside the weights when fused.
                    optimizer.state[parameter] = {key: file.get_tensor(f"optimizer.{name}.{key}").to(parameter.device) for key in keys}
    return history
