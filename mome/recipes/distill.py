"""Recipes of chapter 3 alone: its arms, what a seed changes, how much the gradient of a cycle varies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mome.checks import check_choice, check_range
from mome.distill import KD_LOSSES
from mome.evaluate import WOBBLE_POINTS, is_wobble_point
from mome.recipe import Table
from mome.recipes.students import SHARES, Objective, Student
from mome.recipes.training import STEP_WORK
from mome.scales import OPTIMIZERS
from mome.train import evaluation_steps

LUMPED, AS_CODED = EXTRAS = ("lumped tail", "forward KL, as its code divides")
CROSSED_SEEDS = 3  # of a grid of seeds, which is built whole


def vary_objective(alphas, schedules, losses, temperature: float, extras, scale) -> dict:
    """Return {arm: objective}: fixed weights, schedules, losses, and what `EXTRAS` names."""
    arms = {f"alpha {alpha:g}": Objective(alpha=alpha) for alpha in sorted(alphas)}
    arms |= {name.replace("_", " "): Objective(schedule=name, alpha=1) for name in schedules}
    for name in losses:
        check_choice("losses", name, KD_LOSSES)
        kd_temperature, told = (temperature, f", T = {temperature:g}") if name == "forward_kl" else (1, "")
        arms[name.replace("_", " ") + told] = Objective(name, temperature=kd_temperature)
    for name in extras:
        check_choice("extras", name, EXTRAS)
        divided = Objective("forward_kl", alpha=1 / scale.context, temperature=temperature)
        arms[name] = divided if name == AS_CODED else Objective()
    return arms


def make_students(setting, language: str, arms: dict[str, Objective], asked, seeds) -> dict:
    """Return {(arm, optimizer, share, seed): student} of a language, for each of `asked` and each seed."""
    check_choice("language", language, setting.languages)
    for _, kind, share in asked:
        check_choice("optimizers", kind, OPTIMIZERS)
        check_range("budgets", share, *SHARES)
    return {(arm, kind, share, seed): Student.of(
        setting, [language], seed, arms[arm], tail="lumped" if arm == LUMPED else "drawn",
        optimizer=setting.scale.make_optimizer(kind=kind), token_share=share)
        for arm, kind, share in asked for seed in seeds}


def watch_arms(setting, language: str, arms: dict, evaluations: int, seeds: dict) -> dict:
    """Return the students of {arm: seeds} at the whole budget, keys as `make_students`, scored more often.

    ValueError where a curve has too few points for `evaluate.steadiness.measure_wobble`.
    """
    found, kind, steps = {}, setting.scale.optimizer, setting.scale.student_steps
    n_points = sum(is_wobble_point(step, steps) for step in evaluation_steps(steps, evaluations))
    if n_points < WOBBLE_POINTS:
        raise ValueError(f"evaluations={evaluations} is not allowed; of {steps} steps they give {n_points} "
                         "points after whole cycles in the second half, and a wobble needs "
                         f"{WOBBLE_POINTS}: give more evaluations, or more student_tokens")
    for arm, own in seeds.items():
        found |= make_students(setting, language, arms, [(arm, kind, 1)], own)
    return {key: replace(student, evaluations=evaluations) for key, student in found.items()}


def cross_seeds(students: dict[int, Student]) -> dict[tuple[int, int], Student]:
    """Return {(seed of the weights, seed of the order of text): student} of the first three seeds."""
    seeds = list(students)[:CROSSED_SEEDS]
    return {(one, other): replace(students[one], order_seed=other) for one in seeds for other in seeds}


@dataclass(frozen=True)
class CycleSpread(Table):
    """How much the gradient of two steps varies for each way of mixing both losses, at fixed weights:
    untrained ones, and those of each student.

    Rows, losses and targets are the first student's, so that only the weights differ.
    """

    device = "gpu"
    format = 2

    students: tuple[Student, ...]
    half_batches: int = 64

    def check(self) -> None:
        check_range("half_batches", self.half_batches, 8, whole=True)
        if not self.students or self.students[0].objective.kd_loss is None:
            raise ValueError(f"students={[student.title for student in self.students]!r} are not allowed; "
                             "the first must have a teacher's loss")
        if len({(student.data, student.shape) for student in self.students}) > 1:
            raise ValueError("students of several data sets or shapes are not allowed; give students of one")

    @property
    def title(self) -> str:
        return f"cycle spread of {self.students[0].title}"

    def tabulate(self):
        """Return tokens (that the student has read), and what `measure_cycles` does."""
        import pandas as pd

        from mome.evaluate.steadiness import measure_cycles

        first, tables = self.students[0], []
        for student in (None, *self.students):
            model = first.make_model() if student is None else student.open()
            tokens = student.steps * student.batch_size * student.data.context if student else 0
            table = measure_cycles(self.take_gradients(model))
            tables.append(table.assign(tokens=tokens)[["tokens", *table.columns]])
        return pd.concat(tables, ignore_index=True)

    def take_gradients(self, model):
        """Yield the gradients (N,) of half-batches under hard labels and under the teacher's loss."""
        import numpy as np
        import torch

        from mome.train.batches import make_batch
        from mome.train.device import find_device

        first, device = self.students[0], find_device()
        data, model = first.data.open(), model.to(device)
        loss_fn, weights = first.make_loss(first.make_forward("train")), list(model.parameters())
        rows, rng = np.concatenate(first.list_groups(data)), np.random.default_rng([first.text_seed, 3])
        size = max(1, first.batch_size // 2)
        walks = [rng.permutation(rows) for _ in range(-(-self.half_batches * size // len(rows)))]
        for part in np.concatenate(walks)[:self.half_batches * size].reshape(-1, size):
            batch = make_batch(data.rows("train"), part, device)
            n_tokens, found = (batch["labels"] >= 0).sum(), []
            for alpha in (1.0, 0.0):
                gradient = torch.autograd.grad(loss_fn(model, batch, alpha)["loss"] / n_tokens, weights)
                found.append(torch.cat([each.flatten() for each in gradient]))
            yield tuple(found)

    def work(self) -> float:
        first = self.students[0]
        per_pass = 3 * first.flops_to_score(max(1, first.batch_size // 2)) + STEP_WORK / 2
        return (1 + len(self.students)) * 2 * self.half_batches * per_pass
