"""Chapter 3's recipes: its arms, seeds apart, gradients at fixed weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mome.engine import build_here
from mome.evaluate.steadiness import CYCLES
from mome.models.forwards import dense_logits
from mome.recipes.distill import (
    AS_CODED,
    EXTRAS,
    LUMPED,
    CycleSpread,
    cross_seeds,
    make_students,
    vary_objective,
    watch_arms,
)
from mome.recipes.forgetting import make_session, make_stages
from mome.recipes.students import HARD_LABELS, Objective, Student
from mome.recipes.teacher import Targets, Teacher
from mome.train.batches import make_batch


@pytest.fixture(scope="module")
def setting(tiny_setting):
    """The tiny setting with teacher and targets built."""
    build_here(Targets.of(tiny_setting))
    return tiny_setting


# What a seed changes.

@pytest.mark.parametrize("make", [
    Teacher.of, lambda setting: Student.of(setting, ["en"]),
    lambda setting: make_stages(setting, ["en", "fr"], replay=0.3)[1],
    lambda setting: make_session(setting, {"en": 2, "fr": 1})])
def test_the_order_of_text_has_a_seed_of_its_own_the_seed_s_unless_it_is_given(tiny_setting, make):
    recipe, data = make(tiny_setting), make(tiny_setting).data.open()
    assert replace(recipe, order_seed=recipe.seed) == recipe
    assert replace(recipe, seed=4, order_seed=4).name == replace(recipe, seed=4).name
    plain, moved = (replace(recipe, seed=4).plan_rows(data), replace(recipe, order_seed=4).plan_rows(data))
    assert np.array_equal(plain, moved) and not np.array_equal(plain, recipe.plan_rows(data))
    with pytest.raises(ValueError, match="order_seed=-1"):
        replace(recipe, order_seed=-1)


def test_the_seed_alone_draws_the_weights(tiny_setting):
    student = Student.of(tiny_setting, ["en"])
    drawn = [replace(student, **seeds).make_model().transformer.wte.weight
             for seeds in ({}, {"order_seed": 4}, {"seed": 4}, {"seed": 4, "order_seed": 0})]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[2], drawn[3])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_grid_of_seeds_holds_the_students_that_are_there_already_and_takes_three_at_most(tiny_setting):
    students = {seed: Student.of(tiny_setting, ["en"], seed) for seed in (3, 1, 4, 2)}
    grid = cross_seeds(students)
    assert len(grid) == len({student.name for student in grid.values()}) == 9
    assert [grid[seed, seed] for seed in (3, 1, 4)] == [students[seed] for seed in (3, 1, 4)]
    assert (grid[3, 1].seed, grid[3, 1].text_seed) == (3, 1)
    assert grid[3, 1].title == f"{students[3].title} order 1"


# Arms.

def test_arms_are_named_after_what_varies_and_extras_are_two(tiny_setting):
    arms = vary_objective([0.25, 0], ["grad_norm"], ["forward_kl", "jsd"], 2.0, EXTRAS, tiny_setting.scale)
    assert arms == {"alpha 0": Objective(alpha=0), "alpha 0.25": Objective(alpha=0.25),
                    "grad norm": Objective(schedule="grad_norm"),
                    "forward kl, T = 2": Objective("forward_kl", temperature=2), "jsd": Objective("jsd"),
                    LUMPED: Objective(), AS_CODED: Objective("forward_kl", alpha=1 / 32, temperature=2)}
    with pytest.raises(ValueError, match=r"extras='lumped'.*lumped tail"):
        vary_objective([], [], [], 1.0, ["lumped"], tiny_setting.scale)
    asked = [("jsd", "muon", 1), (LUMPED, "adamw", 0.5)]
    students = make_students(tiny_setting, "fr", arms, asked, [0, 2])
    assert list(students) == [(*key, seed) for key in asked for seed in (0, 2)]
    other = students[(*asked[1], 2)]
    assert (other.targets.tail, other.optimizer.kind, other.seed, other.languages) == (
        "lumped", "adamw", 2, ("fr",))
    with pytest.raises(ValueError, match="language='xx'"):
        make_students(tiny_setting, "xx", arms, asked, [0])


def test_watched_students_are_scored_more_often_and_else_the_same(tiny_setting):
    arms, kind = {"both": Objective(), "hard": HARD_LABELS}, tiny_setting.scale.optimizer
    size = tiny_setting.scale
    longer = replace(size, student_tokens=14 * size.tokens_per_step)  # 8, 10, 12, 14 are points
    tiny_setting = replace(tiny_setting, scale=longer)
    watched = watch_arms(tiny_setting, "en", arms, 25, {"both": [0, 5], "hard": [5]})
    plain = make_students(tiny_setting, "en", arms, [("both", kind, 1), ("hard", kind, 1)], [0, 5])
    plain.pop(("hard", kind, 1, 0))
    assert list(watched) == list(plain)
    evaluations = tiny_setting.scale.evaluations
    assert {key: replace(part, evaluations=evaluations) for key, part in watched.items()} == plain
    assert {part.evaluations for part in watched.values()} == {25}
    shorter = replace(tiny_setting, scale=replace(size, student_tokens=13 * size.tokens_per_step))
    for setting, evaluations in ((shorter, 25), (tiny_setting, 2)):
        with pytest.raises(ValueError, match=f"evaluations={evaluations} is not allowed; of 1[34] steps"):
            watch_arms(setting, "en", arms, evaluations, {"both": [0]})


# Cycles at fixed weights.

def test_every_field_of_a_cycle_spread_changes_its_name_and_what_cannot_be_is_refused(tiny_setting):
    student = Student.of(tiny_setting, ["en"])
    spread = CycleSpread([student])
    others = [replace(spread, half_batches=8), CycleSpread([student, replace(student, steps=3)])]
    assert len({spread.name, *(other.name for other in others)}) == 3
    wide = replace(student, shape=replace(student.shape, n_embd=32))
    for students, words in ((), "must have a teacher"), ([student, wide], "several"), (
            [Student.of(tiny_setting, ["en"], 0, HARD_LABELS)], "must have a teacher"):
        with pytest.raises(ValueError, match=words):
            CycleSpread(students)
    with pytest.raises(ValueError, match="half_batches=4"):
        replace(spread, half_batches=4)


def test_gradients_are_of_half_batches_of_the_training_s_rows_under_each_of_its_losses(setting):
    student, found = Student.of(setting, ["en"]), []
    model, loss_fn = student.make_model(), student.make_loss(dense_logits)
    for ce, kd in CycleSpread([student]).take_gradients(model):
        found.append((ce + kd) / 2)
    data, half = student.data.open(), setting.scale.batch_size // 2
    rows = student.list_rows(data, "en")
    assert len(found) == 64 == 4 * len(rows) // half  # each row four times
    batch = make_batch(data.rows("train"), rows, "cpu")
    loss = loss_fn(model, batch, 0.5)["loss"] / (batch["labels"] >= 0).sum()
    whole = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(torch.stack(found).mean(0), whole, rtol=1e-3, atol=1e-6)


def test_a_cycle_spread_is_told_for_untrained_weights_and_those_of_each_student(setting):
    students = [Student.of(setting, ["en"], steps=steps) for steps in (4, 2)]
    spread = CycleSpread(students, 16)
    build_here(spread)
    table, per_step = spread.open(), setting.scale.tokens_per_step
    assert table.arm.tolist() == 3 * list(CYCLES)
    assert table.tokens.tolist() == [0] * 3 + [4 * per_step] * 3 + [2 * per_step] * 3
    assert (table[["trace", "formula"]] > 0).all(axis=None)
    assert table["trace"].nunique() == 9
