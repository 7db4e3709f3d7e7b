"""How steady a training is: its gradient over a cycle of two steps, its held-out loss, its seeds."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mome.evaluate import WOBBLE_POINTS, is_wobble_point

# alpha of the four half-batches of two steps: both losses in each, or one at a time.
CYCLES = {"alpha 0.5": (0.5, 0.5, 0.5, 0.5), "alternating by step": (1.0, 1.0, 0.0, 0.0),
          "alternating by micro-batch": (1.0, 0.0, 1.0, 0.0)}


class Spread:
    """The trace of the covariance of vectors that come one at a time (Welford 1962)."""

    def __init__(self):
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, vector: Tensor) -> None:
        self.n += 1
        difference = vector - self.mean
        self.mean = self.mean + difference / self.n
        self.squares += torch.dot(difference, vector - self.mean).item()

    @property
    def trace(self) -> float:
        return self.squares / (self.n - 1) if self.n > 1 else float("nan")


def measure_cycles(gradients: Iterable[tuple[Tensor, Tensor]]) -> pd.DataFrame:
    """Return arm, trace, ratio, formula: the covariance of a cycle's mean gradient for each of `CYCLES`.

    `gradients` are those of half-batches at the same weights, of hard labels and of the teacher's loss, each
    (N,); every four are a cycle, a rest is left out. `ratio` is the trace over that of alpha 0.5. All arms
    have one mean, and where half-batches are independent alternating adds to the trace an eighth of that of
    g_CE - g_KD over whole batches, which is half of that over half-batches: `formula`, as a ratio.
    """
    spreads, gap, pairs = {arm: Spread() for arm in CYCLES}, Spread(), iter(gradients)
    for cycle in zip(*[pairs] * 4, strict=False):
        for arm, alphas in CYCLES.items():
            mixed = (torch.lerp(kd, ce, alpha) for (ce, kd), alpha in zip(cycle, alphas, strict=True))
            spreads[arm].add(sum(mixed) / 4)
        for ce, kd in cycle:
            gap.add(ce - kd)
    table = pd.DataFrame({"arm": [*spreads], "trace": [spread.trace for spread in spreads.values()]})
    base, is_base = spreads["alpha 0.5"].trace, table.arm == "alpha 0.5"
    return table.assign(ratio=table["trace"] / base, formula=np.where(is_base, 1, 1 + gap.trace / 16 / base))


def measure_wobble(history: pd.DataFrame, column: str) -> float:
    """Return the standard deviation of a curve, a column of the history, around its trend, in its own unit.

    The trend is a quadratic in the logarithm of the step, over the second half of training. Odd steps are
    left out, where a cycle of two steps is not complete. NaN for fewer than `WOBBLE_POINTS`.
    """
    curve = history.dropna(subset=[column])
    curve = curve[is_wobble_point(curve.step, history.step.max())]
    if len(curve) < WOBBLE_POINTS:
        return float("nan")
    powers = np.vander(np.log(curve.step / curve.step.max()), 3)
    trend, *_ = np.linalg.lstsq(powers, curve[column].to_numpy(), rcond=None)
    return float(np.sqrt(((curve[column] - powers @ trend) ** 2).sum() / (len(curve) - 3)))


def split_variance(grid: pd.DataFrame) -> pd.Series:
    """Return the standard deviations of a grid's (n, n) values by rows, by columns and by the rest.

    Components of variance of the two-way table without repetition: a row's and a column's mean, less what
    the rest puts into it, 0 where that is more. NaN for a single row.
    """
    values, n = grid.to_numpy(), len(grid)
    if n < 2:
        return pd.Series(float("nan"), index=["rows", "columns", "rest"])
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = ((values - rows[:, None] - columns + values.mean()) ** 2).sum() / (n - 1) ** 2
    found = {"rows": rows.var(ddof=1) - rest / n, "columns": columns.var(ddof=1) - rest / n, "rest": rest}
    return pd.Series(found).clip(lower=0) ** 0.5
