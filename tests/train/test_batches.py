"""Plans of batches, and batches."""

import numpy as np
import pytest
import torch

from mome.train.batches import make_batch, plan_batches


def test_every_batch_is_balanced_over_its_groups_and_every_row_is_seen_before_any_repeats(toy):
    plan = plan_batches(toy.GROUPS, steps=9, batch_size=4, seed=1)
    assert (np.isin(plan, toy.GROUPS[0]).sum(axis=1) == 2).all()
    assert sorted(plan[:6].ravel()) == list(range(24))
    assert sorted(plan[:3].ravel()) != sorted(plan[6:].ravel())


def test_the_plan_is_the_seeds_and_only_the_seeds(toy):
    assert (plan_batches(toy.GROUPS, 5, 4, 3) == plan_batches(toy.GROUPS, 5, 4, 3)).all()
    assert (plan_batches(toy.GROUPS, 5, 4, 3) != plan_batches(toy.GROUPS, 5, 4, 4)).any()


def test_a_batch_that_cannot_be_shared_or_an_empty_group_is_refused(toy):
    with pytest.raises(ValueError, match=r"batch_size=3.*2 languages"):
        plan_batches(toy.GROUPS, 2, 3, 0)
    with pytest.raises(ValueError, match="no rows"):
        plan_batches([toy.GROUPS[0], np.array([], dtype=int)], 2, 4, 0)


def test_a_batch_holds_its_rows_and_their_next_tokens(toy):
    batch = make_batch(toy.ROWS, np.array([3, 1]), torch.device("cpu"))
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == toy.ROWS[[3, 1]].tolist()
    assert batch["labels"][:, :-1].tolist() == toy.ROWS[[3, 1], 1:].tolist()
    assert (batch["labels"][:, -1] == -100).all()
    assert list(batch["row_numbers"]) == [3, 1]
