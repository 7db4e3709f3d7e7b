"""Products of matrices by oneDNN, which uses a processor's widest units, whoever made it.

For float32 torch calls MKL, which takes narrower ones on AMD's: on an EPYC 9005 oneDNN is 2.2 times as fast.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

FEWEST = 2**20  # multiplications, below which a call costs more than it gains
# x weight^T + bias, which torch.compile calls; None where torch is built without it.
linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def is_fast(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return whether oneDNN shall multiply: large float32 matrices on a CPU, not under autocast."""
    is_plain = x.is_cpu and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return linear is not None and is_plain and x.shape[:-1].numel() * weight.numel() >= FEWEST


def multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return x weight^T + bias, (..., M), of x (..., N), weight (M, N) and bias (M,), with its gradients."""
    return Product.apply(x, weight, bias) if is_fast(x, weight) else F.linear(x, weight, bias)


def multiply_plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x weight^T of two matrices, or of each two of stacks, without a gradient."""
    if x.dim() == 3 and is_fast(x[0], weight[0]):
        return torch.stack(list(map(multiply_plain, x, weight)))
    return linear(x, weight, None, "none", [], "") if x.dim() == 2 and is_fast(x, weight) else x @ weight.mT


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        rows, slopes, for_weight = x.reshape(-1, x.shape[-1]), slope.reshape(-1, slope.shape[-1]), None
        if of_weight:  # the first factor is copied where it is transposed: the smaller one
            is_wide = rows.numel() <= slopes.numel()
            for_weight = multiply_plain(rows.T, slopes.T).T if is_wide else multiply_plain(slopes.T, rows.T)
        return (multiply_plain(slopes, weight.T).view(x.shape) if of_x else None, for_weight,
                slopes.sum(0) if of_bias else None)
