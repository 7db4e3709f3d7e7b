"""Products of matrices by oneDNN, which uses a processor's widest units, whoever made it.

For float32 torch calls MKL, which takes narrower ones on AMD's: on an EPYC 9005 oneDNN is 2.2 times as fast.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

FEWEST = 2**20  # multiplications, below which a call costs more than it gains
# x weight^T + bias, which torch.compile calls; None where torch is built without it.
linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def is_fast(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return whether oneDNN shall multiply: large float32 matrices on a CPU, not under autocast."""
    is_plain = x.is_cpu and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    is_large = is_plain and linear is not None and x.numel() * weight.shape[-2] >= FEWEST
    return is_large and (weight.dim() == 2 or stays_exact())


def multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return x weight^T + bias, (..., M), of x (..., N), weight (M, N) and bias (M,), with its gradients.

    Or of stacks: (E, B, M) of x (E, B, N), weight (E, M, N) and bias (E, M).
    """
    if is_fast(x, weight):
        return Product.apply(x, weight, bias)
    return F.linear(x, weight, bias) if weight.dim() == 2 else torch.baddbmm(bias[:, None], x, weight.mT)


def multiply_plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x weight^T of two matrices, or of each two of stacks, without a gradient."""
    if not is_fast(x, weight):
        return x @ weight.mT
    return linear(x, weight, None, "none", [], "") if weight.dim() == 2 else multiply_stacks(x, weight)


def multiply_stacks(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x weight^T of each two of stacks by oneDNN, which torch calls only where bfloat16 would do."""
    settings = torch.backends.mkldnn.matmul
    before, settings.fp32_precision = settings.fp32_precision, "bf16"
    try:
        return x @ weight.mT
    finally:  # attention's many small products would take four times as long so
        settings.fp32_precision = before


@cache
def stays_exact() -> bool:
    """Return whether `multiply_stacks` is in float32 here; by units for bfloat16 (AMX) it would not be."""
    x = torch.full((2, 256, 256), 1 + 2**-12, dtype=torch.float32, device="cpu")  # to bfloat16 and TF32 a 1
    return torch.allclose(multiply_stacks(x, x), 256 * x * x, rtol=1e-6)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        if weight.dim() == 3:
            return multiply_plain(x, weight).add_(bias[:, None])
        return linear(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        rows, slopes = (part.flatten(0, -weight.dim()) for part in (x, slope))
        for_x, for_weight = multiply_plain(slopes, weight.mT).view(x.shape) if of_x else None, None
        if of_weight:  # the first factor is copied where it is transposed: the smaller one
            is_wide = rows.numel() <= slopes.numel() or weight.dim() == 3
            for_weight = (multiply_plain(rows.mT, slopes.mT).mT if is_wide
                          else multiply_plain(slopes.mT, rows.mT))
        return for_x, for_weight, slopes.sum(-2) if of_bias else None
