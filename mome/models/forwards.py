"""Ways to ask a model for logits (B, T, V) of a batch: input_ids (B, T), row_numbers (B,) in the split."""

from collections.abc import Callable

import numpy as np
import torch


def dense_logits(model, batch: dict) -> torch.Tensor:
    return model(input_ids=batch["input_ids"]).logits


def use_forward(**use) -> Callable:
    """Return a forward with the modular model's switches as given."""
    return lambda model, batch: model(input_ids=batch["input_ids"], **use).logits


def told_forward(language_index: np.ndarray) -> Callable:
    """Return a forward that tells the model each row's language, as training does; language_index (rows,)."""
    def forward(model, batch):
        ids, expert_index = batch["input_ids"], torch.from_numpy(language_index[batch["row_numbers"]])
        return model(input_ids=ids, expert_index=expert_index.to(ids.device)).logits

    return forward


def expert_forward(number: int, **use) -> Callable:
    """Return a forward that sends every row through one expert, with other switches as given."""
    def forward(model, batch):
        ids = batch["input_ids"]
        return model(input_ids=ids, expert_index=torch.full_like(ids[:, 0], number), **use).logits

    return forward
