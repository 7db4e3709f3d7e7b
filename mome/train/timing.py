"""What ways of taking a step cost, measured in turn."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch

from mome.scales import Optimizer, Scale
from mome.train.device import clip_gradients, make_accelerator
from mome.train.loop import take_gradient
from mome.train.optimizer import make_optimizer


def random_rows(scale: Scale, n_rows: int) -> np.ndarray:
    """Return rows of random ids (N, T) uint16 of a scale's vocabulary and context, without special tokens."""
    shape = n_rows, scale.context
    return np.random.default_rng(0).integers(3, scale.vocab_size, shape, dtype=np.uint16)


def make_step(model: torch.nn.Module, loss_fn: Callable, rows: np.ndarray, batches: Iterator[np.ndarray],
              micro_batch_size: int, optimizer: Optimizer, is_updated: bool = True) -> Callable[[], None]:
    """Return a function that takes a step at rate 0 (or only its gradient) on the next of `batches`."""
    accelerator = make_accelerator()
    stepper = accelerator.prepare_optimizer(make_optimizer(model, optimizer))

    def step() -> None:
        take_gradient(accelerator, model, loss_fn, rows, next(batches), 0.5, micro_batch_size)
        if is_updated:
            clip_gradients(accelerator, list(model.parameters()), optimizer.max_grad_norm)
            stepper.step()
        stepper.zero_grad()

    return step


def time_in_turn(ways: dict[str, Callable[[], None]], rounds: int, warm_up: int = 2) -> pd.DataFrame:
    """Return what each way costs, in turn so that noise meets all: columns way, round, seconds."""
    table = []
    for number in range(-warm_up, rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            table.append({"way": way, "round": number, "seconds": time.perf_counter() - started})
    return pd.DataFrame(table[warm_up * len(ways):])


def ratios_to(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return by way median, low, high (quartiles) of its time over its round's baseline; seconds (median)."""
    seconds = table.pivot(index="round", columns="way", values="seconds")[list(dict.fromkeys(table.way))]
    ratios = seconds.div(seconds[baseline], axis=0).quantile([0.5, 0.25, 0.75]).T
    return ratios.set_axis(["median", "low", "high"], axis=1).assign(seconds=seconds.median())


def probe_precision(model: torch.nn.Module, loss_fn: Callable, batch: dict, rounds: int = 5) -> dict:
    """Return which precision to train in on this device, and why: {"choice", "speedup", "loss_difference"}.

    Forward and backward passes in float32 and under bfloat16 autocast, in turn. bf16 is chosen where it is at
    least 1.1 times as fast (median over rounds) and its loss within 1 % of float32's. No gradient is left.
    """
    losses = {}

    def pass_in(dtype):
        with torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=dtype == "bf16"):
            loss = loss_fn(model, batch, 1.0)["loss"]
        loss.backward()
        losses[dtype] = loss.item()
        model.zero_grad()

    table = time_in_turn({dtype: partial(pass_in, dtype) for dtype in ("bf16", "no")}, rounds)
    speedup = 1 / float(ratios_to(table, "no")["median"]["bf16"])
    difference = abs(losses["bf16"] - losses["no"]) / abs(losses["no"])
    return {"choice": "bf16" if speedup >= 1.1 and difference <= 0.01 else "no",
            "speedup": round(speedup, 3), "loss_difference": round(difference, 6)}
