"""A tiny model, its data, and a call that trains it, for the tests of this folder."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mome.distill.objective import make_objective
from mome.scales import Optimizer
from mome.train import loop
from mome.train.batches import plan_batches
from mome.train.device import make_accelerator
from mome.train.loop import train_model

ROWS = np.random.default_rng(0).integers(3, 40, (24, 8)).astype(np.uint16)
GROUPS = [np.arange(0, 12), np.arange(12, 24)]


class Model(torch.nn.Module):
    """Next tokens from the present one and the one before it."""

    def __init__(self, seed: int = 0, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.wte, self.norm = torch.nn.Embedding(40, 16), torch.nn.LayerNorm(16)
        self.drop = torch.nn.Dropout(dropout)
        self.body, self.head = torch.nn.Linear(16, 16), torch.nn.Linear(16, 40, bias=False)

    def forward(self, input_ids):
        x = self.wte(input_ids)
        x = x + torch.tanh(self.body(self.norm(self.drop(x)).cumsum(1) / 8))
        return SimpleNamespace(logits=self.head(x))


def logits_of(model, batch):
    return model(input_ids=batch["input_ids"]).logits


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def distilling(name="forward_kl", **options):
    return make_objective(name, logits_of, teacher=Model(seed=9), **options)


def run_training(steps=6, loss_fn=None, dropout=0.0, seed=0, model=None, micro_batch_size=4,
                 weight_decay=0.05, max_grad_norm=1.0, warmup_fraction=0.05, optimizer_kind="adamw",
                 **options):
    """Return a trained model and its history; dropout draws from `seed`."""
    model = model or Model(dropout=dropout)
    torch.manual_seed(seed)
    optimizer = Optimizer(1e-2, kind=optimizer_kind, warmup_fraction=warmup_fraction,
                          weight_decay=weight_decay, max_grad_norm=max_grad_norm)
    loss_fn, plan = loss_fn or make_objective(None, logits_of), plan_batches(GROUPS, steps, 4, 0)
    history = train_model(model, loss_fn, plan, ROWS, optimizer=optimizer, micro_batch_size=micro_batch_size,
                          **options)
    return model, history


def same_training(one, other):
    """Assert that two trainings end in the same weights and histories, bit for bit, seconds aside."""
    assert torch.equal(weights_of(one[0]), weights_of(other[0]))
    histories = (history.drop(columns="seconds") for _, history in (one, other))
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def at_call(number, do, loss_fn=None):
    """Return `loss_fn` that calls `do(sums)` after its call of that number, counted from 1."""
    calls, loss_fn = [], loss_fn or make_objective(None, logits_of)

    def wrapped(model, batch, alpha):
        sums = loss_fn(model, batch, alpha)
        calls.append(1)
        return (do(sums) or sums) if len(calls) == number else sums

    return wrapped


def stop(kind=KeyboardInterrupt):
    """Return what raises at its call."""
    def do(*_):
        raise kind

    return do


@pytest.fixture(autouse=True)
def batch_run(monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture
def half(monkeypatch):
    """fp16 on the CPU, with a scaler as on a GPU: it begins two steps too high and is too high again soon."""
    def make(mixed_precision, **options):
        accelerator = make_accelerator(mixed_precision, **options)
        if mixed_precision == "fp16":
            accelerator.native_amp = True
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=4)
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", make)


@pytest.fixture(scope="session")
def toy():
    """All of the above by name."""
    return SimpleNamespace(ROWS=ROWS, GROUPS=GROUPS, Model=Model, logits_of=logits_of, weights_of=weights_of,
                           distilling=distilling, train=run_training, assert_same=same_training,
                           at_call=at_call, stop=stop)
