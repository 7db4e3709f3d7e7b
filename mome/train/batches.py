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


def deal_rows(row_numbers: np.ndarray, micro_batch_size: int, n_alphas: int = 1, process: int = 0,
              processes: int = 1) -> list[tuple[int, np.ndarray]]:
    """Return one process's micro-batches of a step, each with the number of its alpha.

    Alphas go to the step's micro-batches in turn, so a row has the same one in any number of processes.
    Raises ValueError unless every alpha has equally many rows, and every process a row.
    """
    if n_alphas > 1 and len(row_numbers) % (n_alphas * micro_batch_size):
        raise ValueError(f"micro_batch_size={micro_batch_size} is not allowed; {n_alphas} alphas in turn "
                         f"need equal shares of {len(row_numbers)} sequences")
    if len(row_numbers) < processes:
        raise ValueError(f"batch_size={len(row_numbers)} is not allowed; {processes} processes need as many")
    places = np.arange(len(row_numbers)) // micro_batch_size % n_alphas
    mine = np.argsort(places, kind="stable")[process::processes]
    shares = [row_numbers[mine[places[mine] == place]] for place in range(n_alphas)]
    return [(place, share[at:at + micro_batch_size]) for at in range(0, len(mine), micro_batch_size)
            for place, share in enumerate(shares) if at < len(share)]


def make_batch(rows: np.ndarray, row_numbers: np.ndarray, device) -> dict:
    """Return {"input_ids", "labels"} (B, T) int64 on `device`, and the "row_numbers" they came from."""
    input_ids = torch.from_numpy(rows[row_numbers].astype(np.int64)).to(device)
    return {"input_ids": input_ids, "labels": shift_labels(input_ids), "row_numbers": row_numbers}
