"""What a step costs, and which precision pays."""

import numpy as np
import pandas as pd
import pytest
import torch
from cases import each

from mome.distill.objective import make_objective
from mome.scales import Optimizer
from mome.train import timing
from mome.train.batches import make_batch, plan_batches
from mome.train.timing import make_step, probe_precision, ratios_to, time_in_turn


@each("is_updated", [True, False])
def test_timed_steps_walk_through_their_batches_and_leave_the_model_alone(toy, monkeypatch, is_updated):
    model, calls, updates, update = toy.Model(), [], [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *arguments: updates.append(1) or update(*arguments))

    def counted(*arguments):
        calls.append(arguments)
        return toy.distilling()(*arguments)

    batches = iter(plan_batches(toy.GROUPS, 2, 4, 0))
    step = make_step(model, counted, toy.ROWS, batches, 2, Optimizer(1.0), is_updated)
    before = toy.weights_of(model)
    step()
    step()
    assert (len(calls), len(updates)) == (4, 2 if is_updated else 0)
    assert torch.equal(toy.weights_of(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(StopIteration):
        step()


def test_ways_are_timed_in_turn_after_their_warm_up(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def take(way, seconds):
        def run():
            order.append(way)
            clock[0] += seconds * len(order)

        return run

    table = time_in_turn({"slow": take("slow", 3.0), "fast": take("fast", 0.5)}, rounds=2, warm_up=1)
    assert order == ["slow", "fast"] * 3
    assert table.to_dict("list") == {"way": ["slow", "fast"] * 2, "round": [0, 0, 1, 1],
                                     "seconds": pytest.approx([9.0, 2.0, 15.0, 3.0])}


def test_ratios_are_quartiles_of_what_each_round_cost_beside_its_baseline():
    seconds = {"baseline": [1.0, 2.0, 4.0, 8.0, 10.0], "way": [2.0, 2.0, 12.0, 32.0, 50.0]}
    table = pd.DataFrame([{"way": way, "round": number, "seconds": seconds[way][number]}
                          for number in range(5) for way in ("way", "baseline")])
    assert list(ratios_to(table, "baseline").itertuples(name=None)) == [
        ("way", 3.0, 2.0, 4.0, 12.0), ("baseline", 1.0, 1.0, 1.0, 4.0)]


@each("speedup, difference, choice", [
    (1.11, 0.009, "bf16"), (1.11, -0.009, "bf16"), (2.0, 0.011, "no"), (2.0, -0.011, "no"),
    (2.0, float("nan"), "no"), (1.09, 0.0, "no")])
def test_bf16_is_chosen_where_it_is_faster_and_its_loss_within_one_percent(
        monkeypatch, speedup, difference, choice):
    model = torch.nn.Linear(1, 1)

    def loss_fn(model, batch, alpha):
        loss = model(batch["input_ids"]).float().sum() * 0 + 4.0
        return {"loss": loss * (1 + difference) if torch.is_autocast_enabled("cpu") else loss}

    def timed(ways, rounds):
        for run in ways.values():
            run()
        seconds = {"bf16": 1.0, "no": speedup}
        return pd.DataFrame([{"way": way, "round": 0, "seconds": seconds[way]} for way in ways])

    monkeypatch.setattr(timing, "time_in_turn", timed)
    found = probe_precision(model, loss_fn, {"input_ids": torch.ones(2, 1)})
    assert all(parameter.grad is None for parameter in model.parameters())
    assert found == {"choice": choice, "speedup": pytest.approx(speedup, abs=1e-3),
                     "loss_difference": pytest.approx(abs(difference), abs=1e-6, nan_ok=True)}


def test_the_probe_compares_real_passes_of_a_model(toy):
    batch = make_batch(toy.ROWS, np.arange(4), torch.device("cpu"))
    found = probe_precision(toy.Model(), make_objective(None, toy.logits_of), batch, rounds=1)
    assert found["choice"] in ("no", "bf16")
    assert found["speedup"] > 0
    assert 0 < found["loss_difference"] < 0.01
