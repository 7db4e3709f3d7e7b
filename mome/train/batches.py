"""Which rows each optimizer step sees, and the tensors made of them."""

import numpy as np
import torch

from mome.distill.fused import shift_labels


def plan_batches(groups: list[np.ndarray], steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Return (steps, B) row numbers. Every batch holds equally many rows of each group, mostly a language.

    Each group is walked in a fresh seeded order per epoch, so every row is seen once before any is seen
    twice. Raises ValueError when the batch cannot be shared out equally or a group is empty.
    """
    share, rest = divmod(batch_size, len(groups))
    if rest or not share:
        raise ValueError(f"batch_size={batch_size} cannot be shared equally by {len(groups)} languages; "
                         f"give a multiple of {len(groups)}")
    columns, needed = [], steps * share
    for number, group in enumerate(groups):
        if not len(group):
            raise ValueError(f"group {number} of the batch plan has no rows")
        rng = np.random.default_rng([seed, number])
        epochs = [rng.permutation(group) for _ in range(-(-needed // len(group)))]
        columns.append(np.concatenate(epochs)[:needed].reshape(steps, share))
    return np.concatenate(columns, axis=1)


def make_batch(rows: np.ndarray, row_numbers: np.ndarray, device) -> dict:
    """Return {"input_ids", "labels"} (B, T) int64 on `device`, and the "row_numbers" they came from."""
    input_ids = torch.from_numpy(rows[row_numbers].astype(np.int64)).to(device)
    return {"input_ids": input_ids, "labels": shift_labels(input_ids), "row_numbers": row_numbers}
