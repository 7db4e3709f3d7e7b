"""Random logits, and the smallest language model, for the tests of this folder."""

from types import SimpleNamespace

import pytest
import torch

LABELS = torch.tensor([[3, 0, 7, -100, 1], [2, -100, 10, 4, 9]])


class Table(torch.nn.Module):
    """The logits of the next token are a row of a table."""

    def __init__(self, seed: int, vocab_size: int = 11):
        super().__init__()
        self.table = torch.nn.Parameter(draw_logits(seed, (vocab_size, vocab_size)))

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.table[input_ids])


def draw_logits(seed: int, shape=(2, 5, 11), scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def differentiate(loss_of, logits):
    """Return a loss and its gradient in the logits."""
    logits = logits.detach().clone().requires_grad_()
    loss = loss_of(logits)
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.fixture(autouse=True)
def batch_run(monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="session")
def random_logits():
    return draw_logits


@pytest.fixture(scope="session")
def derive():
    return differentiate


@pytest.fixture(scope="session")
def make_table():
    return Table
