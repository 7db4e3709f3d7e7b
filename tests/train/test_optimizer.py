"""The learning rate over a training, and what AdamW decays."""

import numpy as np
import pytest

from mome.scales import Optimizer
from mome.train.optimizer import learning_rate_at, make_optimizer


def test_the_learning_rate_warms_up_to_its_peak_and_decays_towards_zero():
    rates = np.array([learning_rate_at(step, 100, 2.0, 0.1) for step in range(101)])
    assert rates[:10] == pytest.approx(0.2 * np.arange(1, 11))
    assert rates[10:] == pytest.approx(2.0 * np.arange(90, -1, -1) / 90)


@pytest.mark.parametrize(("steps", "warmup_fraction"), [(1, 0.05), (3, 0.0), (4, 1.0)])
def test_short_trainings_reach_their_peak_and_never_exceed_it(steps, warmup_fraction):
    rates = [learning_rate_at(step, steps, 1.0, warmup_fraction) for step in range(steps)]
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0


def test_weight_decay_spares_norms_and_biases_and_frozen_weights_take_no_part(toy):
    model = toy.Model()
    model.wte.requires_grad_(False)
    optimizer = make_optimizer(model, Optimizer(1e-2, betas=(0.8, 0.9)))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert decayed["betas"] == spared["betas"] == (0.8, 0.9)
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters())) - 1
