"""AdamW and its learning rate."""

import torch

from mome.scales import Optimizer


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of a step, from 0 on: linear warm-up to `peak`, linear decay to 0 after the last."""
    warmup = max(1, round(steps * warmup_fraction))
    return peak * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def make_optimizer(model: torch.nn.Module, values: Optimizer) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and leaves norms and biases alone; frozen weights take no part."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if p.dim() >= 2], "weight_decay": values.weight_decay},
              {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=values.betas, fused=True)
