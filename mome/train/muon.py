"""Muon: hidden matrices move by the orthogonal factor of their momentum, all other weights by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the steps to the factor after Amsel et al. 2025,
arXiv:2505.16932. In float32: a CPU has no fast bfloat16, in which torch's own Muon works.
"""

from collections import defaultdict

import torch
from torch.optim.adamw import adamw

from mome.train.products import multiply_plain

# p(x) = a x + b x^3 + c x^5, three in turn: each takes what the last has left nearest to 1 in the worst case,
# from singular values of 0.01 to 1 on (a linear program over a grid). They end within 1 +- WORST.
STEPS = ((8.0934, -23.6205, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
LEAST, WORST = 0.01, 0.27


def orthogonalize(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return about U V^T of each matrix U S V^T, of one short side N, whatever its scale; zeros stay zeros.

    Singular values of at least LEAST times the largest end within 1 +- WORST, smaller ones below, 0 at 0.
    All steps are polynomials of the small product X X^T: the long side is passed twice, not six times.
    """
    tiny, step, product = torch.finfo(matrices[0].dtype).tiny, None, None
    scaled = [matrix / matrix.abs().amax().clamp_min(tiny) for matrix in matrices]  # or squares could be 0
    wide = [x if x.shape[0] <= x.shape[1] else x.T for x in scaled]
    gram = torch.stack([multiply_plain(x, x) for x in wide])
    square = multiply_plain(gram, gram)
    # Its root bounds the largest eigenvalue, far closer than the trace does.
    bound = torch.linalg.matrix_norm(square, keepdim=True).sqrt().clamp_min(tiny**0.25)
    gram, square = gram / bound, square / bound**2
    for a, b, c in STEPS:
        if product is not None:  # all are symmetric: none is transposed
            gram = multiply_plain(multiply_plain(step, gram), step)
            square = multiply_plain(gram, gram)
        step = gram.mul(b).add_(square, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else multiply_plain(step, product)
    parts = zip(product / bound.sqrt(), scaled, wide, strict=True)
    return [multiply_plain(part, x.T) if x is short else multiply_plain(x, part) for part, x, short in parts]


class Muon(torch.optim.Optimizer):
    """Groups with `is_hidden` hold matrices (in, out) that take steps of `lr` sqrt(max(1, out / in)) U V^T.

    The others take AdamW's. Hidden matrices of one short side, of all layers and experts, are taken together.
    """

    def __init__(self, groups: list[dict], momentum: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            with_gradient = [weight for weight in group["params"] if weight.grad is not None]
            if group["is_hidden"]:
                self.step_hidden(group, with_gradient)
            elif with_gradient:
                self.step_others(group, with_gradient)

    def step_hidden(self, group: dict, weights: list[torch.Tensor]) -> None:
        alike = defaultdict(list)
        for weight in weights:
            alike[min(weight.shape)].append(weight)
        for part in alike.values():
            factors = orthogonalize([self.look_ahead(weight, group["momentum"]) for weight in part])
            for weight, factor in zip(part, factors, strict=True):
                rate = group["lr"] * max(1.0, weight.shape[1] / weight.shape[0]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(factor, alpha=-rate)

    def look_ahead(self, weight: torch.Tensor, momentum: float) -> torch.Tensor:
        """Return Nesterov's gradient, and take the weight's own into its momentum."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(state["momentum"], momentum)

    def step_others(self, group: dict, weights: list[torch.Tensor]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] |= {"step": torch.zeros((), device=weight.device),
                                       "exp_avg": torch.zeros_like(weight),
                                       "exp_avg_sq": torch.zeros_like(weight)}
        means, squares, steps = ([self.state[weight][name] for weight in weights]
                                 for name in ("exp_avg", "exp_avg_sq", "step"))
        adamw(weights, [weight.grad for weight in weights], means, squares, [], steps, fused=True,
              amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"], eps=1e-8,
              weight_decay=group["weight_decay"], maximize=False)
