"""The learning rate over a training, and what AdamW decays."""

import numpy as np
import pytest
from cases import each

from mome.models.assemble import build_moe
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.scales import OPTIMIZERS, Optimizer, Shape
from mome.train.optimizer import learning_rate_at, make_optimizer


def test_the_learning_rate_warms_up_to_its_peak_and_decays_towards_zero():
    rates = np.array([learning_rate_at(step, 100, 2.0, 0.1) for step in range(101)])
    assert rates[:10] == pytest.approx(0.2 * np.arange(1, 11))
    assert rates[10:] == pytest.approx(2.0 * np.arange(90, -1, -1) / 90)


@each("steps, warmup_fraction", [(1, 0.05), (3, 0.0), (4, 1.0)])
def test_short_trainings_reach_their_peak_and_never_exceed_it(steps, warmup_fraction):
    rates = [learning_rate_at(step, steps, 1.0, warmup_fraction) for step in range(steps)]
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0


@each("kind", OPTIMIZERS)
def test_weight_decay_spares_norms_and_biases_and_frozen_weights_take_no_part(toy, kind):
    model = toy.Model()
    model.wte.requires_grad_(False)
    optimizer = make_optimizer(model, Optimizer(1e-2, 0.5, kind, betas=(0.8, 0.9)))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert decayed["betas"] == spared["betas"] == (0.8, 0.9)
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters())) - 1
    groups = make_optimizer(build_gpt2(Shape(1, 2, 16), 60, 24, 0), Optimizer(1e-2, 0.5, kind)).param_groups
    assert [group["peak"] for group in groups] == [1e-2, 0.5, 0.5]  # tables and vectors have their own


@each("tie", [True, False])
@each("is_modular", [True, False])
def test_muon_takes_the_bodies_matrices_and_leaves_tables_and_head_to_adamw(tie, is_modular):
    shape, values = Shape(1, 2, 16, tie), Optimizer(1e-2, 0.5, "muon")
    model = build_gpt2(shape, 60, 24, 0)
    if is_modular:
        model = build_moe(["en", "fr"], gpt2_config(shape, 60, 24), has_common_expert=True, seed=0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    peaks = {names[id(weight)]: group["peak"] for group in make_optimizer(model, values).param_groups
             for weight in group["params"]}
    hidden = {name for name, peak in peaks.items() if peak == 1e-2}
    assert hidden == {name for name, weight in model.named_parameters()
                      if name.endswith((".c_attn.weight", ".c_fc.weight", ".c_proj.weight"))}
    assert len(hidden) == 4 * (3 if is_modular else 1)
    assert set(peaks) == {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_what_an_optimizer_does_not_use_does_not_rename_it():
    assert Optimizer(1e-2, momentum=0.5) == Optimizer(1e-2, other_rate=1e-2)
    assert Optimizer(1e-2, kind="muon", momentum=0.5) != Optimizer(1e-2, kind="muon")
