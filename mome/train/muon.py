"""Muon: hidden matrices move by the orthogonal factor of their momentum, all other weights by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the steps to the factor after Amsel et al. 2025,
arXiv:2505.16932. In float32: a CPU has no fast bfloat16, in which torch's own Muon works.
"""

from collections import defaultdict

import torch
from torch.optim.adamw import adamw

# p(x) = a x + b x^3 + c x^5, three in turn: each takes what the last has left nearest to 1 in the worst case,
# from singular values of 0.01 to 1 on (a linear program over a grid). They end within 1 +- WORST.
STEPS = ((8.0934, -23.6205, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
LEAST, WORST = 0.01, 0.27


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Return about U V^T of each matrix U S V^T, (B, N, M), whatever its scale; zeros stay zeros.

    Singular values of at least LEAST times the largest end within 1 +- WORST, smaller ones below, 0 at 0.
    All steps are polynomials of the small product X X^T: the long side is passed twice, not six times.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)  # or squares of small numbers would be 0
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny)
    gram, step, product = x @ x.mT, None, None
    for a, b, c in STEPS:
        if product is not None:
            gram = step @ gram @ step
        square = gram @ gram
        if product is None:  # the root bounds the largest singular value, far closer than the norm does
            bound = torch.linalg.matrix_norm(square, keepdim=True).sqrt().sqrt().clamp_min(tiny**0.25)
            x, gram, square = x / bound, gram / bound**2, square / bound**4
        step = gram.mul(b).add_(square, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else step @ product
    x = product @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Groups with `is_hidden` hold matrices (in, out) that take steps of `lr` sqrt(max(1, out / in)) U V^T.

    The others take AdamW's. Hidden matrices of one shape, of all layers and experts, are stacked: a few large
    products cost less than many small ones.
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
        shapes = defaultdict(list)
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
            self.state[weight]["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            shapes[tuple(weight.shape)].append(weight)
        for (n_in, n_out), alike in shapes.items():
            ahead = torch.stack([weight.grad.lerp(self.state[weight]["momentum"], group["momentum"])
                                 for weight in alike])  # Nesterov's
            rate = group["lr"] * max(1.0, n_out / n_in) ** 0.5
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(alike, list(orthogonalize(ahead)), alpha=-rate)

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
