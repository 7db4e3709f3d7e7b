"""The optimizer of a training and its learning rate."""

import torch

from mome.scales import Optimizer
from mome.train.muon import Muon


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of a step, from 0 on: linear warm-up to `peak`, linear decay to 0 after the last."""
    warmup = max(1, round(steps * warmup_fraction))
    return peak * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def make_optimizer(model: torch.nn.Module, values: Optimizer) -> torch.optim.Optimizer:
    """Return Muon or AdamW; each group has the `peak` of its rate, and frozen weights take no part.

    Muon's hidden matrices are all but tables and the head. Norms and biases do not decay.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    ends = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    if hasattr(model, "get_output_embeddings"):
        ends.append(model.get_output_embeddings())
    end_ids = {id(module.weight) for module in ends}
    hidden = [weight for weight in trained if weight.dim() == 2 and id(weight) not in end_ids]
    tables = [weight for weight in trained if weight.dim() > 2 or id(weight) in end_ids]
    vectors = [weight for weight in trained if weight.dim() < 2]
    groups = [{"params": hidden, "is_hidden": True, "peak": values.learning_rate},
              {"params": tables, "is_hidden": False, "peak": values.other_rate},
              {"params": vectors, "is_hidden": False, "peak": values.other_rate, "weight_decay": 0.0}]
    groups = [{"weight_decay": values.weight_decay, **group} for group in groups if group["params"]]
    if values.kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=values.betas, fused=True)
    return Muon(groups, values.momentum, values.betas)
