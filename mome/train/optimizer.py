"""AdamW and its learning rate."""

import torch


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of a step, from 0 on: linear warm-up to `peak`, linear decay to 0 after the last."""
    warmup = max(1, round(steps * warmup_fraction))
    return peak * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def make_optimizer(model: torch.nn.Module, weight_decay: float, betas: tuple) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and leaves norms and biases alone; frozen weights take no part."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
              {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, fused=True)
