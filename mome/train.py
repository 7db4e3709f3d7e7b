"""The one training loop: a loss function in, a tidy history out; interrupted and resumed equals uninterrupted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
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
          alpha_schedule: Callable[[list[dict]], float | tuple] | None = None, evaluate: Callable[[], dict] | None = None, evaluations: int = 1,
          checkpoint: Path | None = None, description: str = "train") -> pd.DataFrame:
    """Train in place and return the history, one row an optimizer step.

    Columns: step, tokens, learning_rate, alpha, combined_loss, ce_loss, kd_loss (nats per supervised token of the whole step,
    whatever the micro-batches and devices), grad_norm (of all weights, before clipping), ce_grad_norm and kd_grad_norm (root
    mean square over tokens, at the logits), seconds (of the step, without evaluations). `loss_fn(model, batch, alpha)` returns
    sums over tokens as `distill.combined_loss` does. With `evaluate`, its dict joins the row at `evaluations` evenly spaced
    steps, the last among them. The state goes to `checkpoint` there, on SIGINT and SIGTERM after the step under way, and
    before a step that fails; the next call goes on from it. Raises FloatingPointError at the first loss or gradient that is
    not finite, ValueError for a checkpoint of another plan or a schedule that deals alpha to more micro-batches than there are.
    """
    # A process may train in one precision after another; accelerate would hold on to the first.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    optimizer = make_optimizer(model, weight_decay)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    optimizer.zero_grad()
    steps, history, plan_sha256 = len(plan), [], hashlib.sha256(np.ascontiguousarray(plan, dtype=np.int64).tobytes()).hexdigest()
    evaluate_at = {round((number + 1) * steps / evaluations) for number in range(evaluations)}
    if checkpoint is not None and checkpoint.exists():
        history = load_checkpoint(checkpoint, model, optimizer, plan_sha256)
    schedule = alpha_schedule or (lambda history: 1.0)

    def save(random_state: dict | None = None) -> None:
        if checkpoint is not None and accelerator.is_main_process:
            save_checkpoint(checkpoint, model, optimizer, history, plan_sha256, random_state or get_random_state())

    with progress(description, steps, len(history)) as bar, deferred_signals() as arrived, unwrapped_after(accelerator, wrapped):
        for step in range(len(history), steps):
            alpha = schedule(history)
            rate = learning_rate_at(step, steps, learning_rate, warmup_fraction)
            mine = plan[step][accelerator.process_index::accelerator.num_processes]
            started, random_state = time.perf_counter(), get_random_state()
            row = take_gradient(accelerator, wrapped, loss_fn, rows, mine, alpha, micro_batch_size)
            row["grad_norm"] = float(accelerator.clip_grad_norm_(wrapped.parameters(), max_grad_norm))
            # fp16's scaler steps over gradients that overflow; elsewhere they are the end.
            if not np.isfinite(row["combined_loss"] + (row["grad_norm"] if mixed_precision != "fp16" else 0)):
                save(random_state)
                raise FloatingPointError(f"{description}: loss {row['combined_loss']} and gradient norm {row['grad_norm']} at step {step + 1} of {steps}; "
                                         f"lower learning_rate={learning_rate:g}. Last good checkpoint: {checkpoint or 'none'}")
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            row["tokens"] += history[-1]["tokens"] if history else 0
            history.append({"step": step + 1, "learning_rate": rate, **row, "seconds": time.perf_counter() - started})
            if evaluate is not None and step + 1 in evaluate_at:
                history[-1].update(evaluate())
                model.train()
                save()
            bar.update(f"loss {row['combined_loss']:.3f}")
            if accelerator.reduce(torch.tensor(float(len(arrived)), device=accelerator.device), "sum").item():
                save()
                break
    if len(history) < steps:
        raise KeyboardInterrupt(f"{description} stopped by a signal after step {len(history)} of {steps}; checkpoint: {checkpoint or 'none'}")
    return pd.DataFrame(history)


@contextmanager
def unwrapped_after(accelerator, wrapped):
    """Give the model its own forward back when the block ends, however it ends: accelerate put the training's autocast round it."""
    try:
        yield
    finally:
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)


@contextmanager
def deferred_signals(signals=(signal.SIGINT, signal.SIGTERM)):
    """Yield a list that fills with the signals that arrive; they take their usual effect when the block ends.

    A second SIGINT does not wait. Outside the main thread, where Python hands out no signals, the list stays empty.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def note(number, frame):
        if number == signal.SIGINT and number in arrived:
            arrived.clear()
            signal.default_int_handler(number, frame)
        arrived.append(number)

    usual = {number: signal.signal(number, note) for number in signals if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield arrived
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(arrived):
            signal.raise_signal(number)


def take_gradient(accelerator, model, loss_fn, rows, row_numbers, alpha, micro_batch_size) -> dict:
    """Leave the gradient of one optimizer step in `model`; return its alpha, losses and gradient norms at the logits, and its tokens."""
    batches = [make_batch(rows, row_numbers[at:at + micro_batch_size], accelerator.device) for at in range(0, len(row_numbers), micro_batch_size)]
    alphas = [float(value) for value in (alpha if isinstance(alpha, tuple) else (alpha,))]
    if len(batches) < len(alphas):
        raise ValueError(f"micro_batch_size={micro_batch_size} is not allowed; {len(row_numbers)} sequences a step make {len(batches)} micro-batch, "
                         f"the alpha schedule needs {len(alphas)}")
    n_tokens = accelerator.reduce(sum((batch["labels"] != IGNORED).sum() for batch in batches), "sum").item()
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
    norms = {name.replace("square", "grad_norm"): means.pop(name) ** 0.5 for name in list(means) if name.endswith("square")}
    return {"tokens": n_tokens, "alpha": float(np.mean(alphas)), "combined_loss": means.pop("loss"), **means, **norms}


def make_batch(rows: np.ndarray, row_numbers: np.ndarray, device) -> dict:
    """Return {"input_ids", "labels"} (B, T) int64 on `device`, and the "row_numbers" they came from."""
    input_ids = torch.from_numpy(rows[row_numbers].astype(np.int64)).to(device)
    return {"input_ids": input_ids, "labels": shift_labels(input_ids), "row_numbers": row_numbers}


def get_random_state() -> dict[str, torch.Tensor]:
    state = {"random_state": torch.get_rng_state()}
    return state | ({"cuda_random_state": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def save_checkpoint(path: Path, model, optimizer, history: list[dict], plan_sha256: str, random_state: dict[str, torch.Tensor]) -> None:
    """Write weights, optimizer moments, random state and history as one safetensors file, renamed when whole."""
    tensors = dict(random_state)
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    aside = path.with_suffix(".aside")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside,
              metadata={"history": json.dumps(history), "plan": plan_sha256})
    os.replace(aside, path)


def load_checkpoint(path: Path, model, optimizer, plan_sha256: str) -> list[dict]:
    """Restore what `save_checkpoint` wrote; return the history so far. Raises ValueError for a damaged file or another batch plan."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); delete it to start again") from None
    parameters = dict(model.named_parameters())
    missing = sorted({"random_state", *(f"model.{name}" for name in parameters)} - set(tensors)) + sorted({"plan", "history"} - set(metadata))
    if missing:
        raise ValueError(f"checkpoint {path} is damaged: it lacks {missing[0]}; delete it to start again")
    if metadata["plan"] != plan_sha256:
        raise ValueError(f"checkpoint {path} was written under another plan of batches; delete it to start again")
    torch.set_rng_state(tensors["random_state"])
    if "cuda_random_state" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda_random_state"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model.{name}"])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{name}.{key}" in tensors]
            if keys:
                # `step` stays where the optimizer keeps it: beside the weights when fused.
                optimizer.state[parameter] = {key: tensors[f"optimizer.{name}.{key}"].to(parameter.device) for key in keys}
    return json.loads(metadata["history"])


def make_step(model: torch.nn.Module, loss_fn: Callable, rows: np.ndarray, batches: Iterator[np.ndarray], micro_batch_size: int,
              is_updated: bool = True) -> Callable[[], None]:
    """Return a function that takes one optimizer step on the next of `batches` (row numbers), for timing; without updates only its gradient."""
    accelerator = Accelerator()
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, weight_decay=0.05))

    def step() -> None:
        take_gradient(accelerator, wrapped, loss_fn, rows, next(batches), 0.5, micro_batch_size)
        if is_updated:
            accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
            optimizer.step()
        optimizer.zero_grad()

    return step


def time_in_turn(ways: dict[str, Callable[[], None]], rounds: int, warm_up: int = 2) -> pd.DataFrame:
    """Return what each way costs, the ways taken in turn so that a noisy machine is noisy to all: columns way, round, seconds."""
    table = []
    for number in range(-warm_up, rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            table.append({"way": way, "round": number, "seconds": time.perf_counter() - started})
    table = pd.DataFrame(table)
    return table[table["round"] >= 0].reset_index(drop=True)


def ratios_to(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return each way's seconds over those of `baseline` in the same round: columns way, median, low, high (quartiles)."""
    seconds = table.pivot(index="round", columns="way", values="seconds")
    ratios = seconds.div(seconds[baseline], axis=0)
    found = ratios.quantile([0.5, 0.25, 0.75]).T.loc[list(dict.fromkeys(table.way))]
    return found.set_axis(["median", "low", "high"], axis=1).rename_axis("way").reset_index()


def probe_precision(model: torch.nn.Module, loss_fn: Callable, batch: dict, rounds: int = 5) -> dict:
    """Return which precision to train in on this device, and why: {"choice", "speedup", "loss_difference"}.

    Forward and backward passes in float32 and under bfloat16 autocast, in turn. bf16 is chosen where it is at least 1.1
    times as fast (median over rounds) and its loss within 1 % of float32's. The model's gradients are left empty.
    """
    losses = {}

    def pass_in(dtype):
        def run():
            with torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=dtype == "bf16"):
                loss = loss_fn(model, batch, 1.0)["loss"]
            loss.backward()
            losses[dtype] = loss.item()
            model.zero_grad()
        return run

    table = time_in_turn({dtype: pass_in(dtype) for dtype in ("bf16", "no")}, rounds)
    speedup = 1 / float(ratios_to(table, "no").set_index("way")["median"]["bf16"])
    difference = abs(losses["bf16"] - losses["no"]) / abs(losses["no"])
    return {"choice": "bf16" if speedup >= 1.1 and difference <= 0.01 else "no", "speedup": round(speedup, 3), "loss_difference": round(difference, 6)}
