"""Plans of batches, and batches."""

import numpy as np
import pytest
import torch
from cases import each

from mome.train.batches import deal_rows, make_batch, plan_batches


def test_batches_are_balanced_over_groups_rows_seen_before_any_repeats_in_an_order_of_the_seed_alone(toy):
    plan = plan_batches(toy.GROUPS, steps=9, batch_size=4, seed=1)
    assert (np.isin(plan, toy.GROUPS[0]).sum(axis=1) == 2).all()
    assert sorted(plan[:6].ravel()) == list(range(24))
    assert sorted(plan[:3].ravel()) != sorted(plan[6:].ravel())
    assert (plan_batches(toy.GROUPS, 5, 4, 3) == plan_batches(toy.GROUPS, 5, 4, 3)).all()
    assert (plan_batches(toy.GROUPS, 5, 4, 3) != plan_batches(toy.GROUPS, 5, 4, 4)).any()


def test_a_batch_or_step_that_cannot_be_shared_or_an_empty_group_is_refused(toy):
    # Three micro-batches of 3, 3 and 2 rows would give cross-entropy 5 rows of 8.
    for rows, size in ((8, 3), (8, 8), (12, 4), (5, 2)):
        with pytest.raises(ValueError, match=rf"micro_batch_size={size} .* equal shares of {rows}"):
            deal_rows(np.arange(rows), size, n_alphas=2)
    with pytest.raises(ValueError, match=r"batch_size=2 .* 3 processes"):
        deal_rows(np.arange(2), 1, 1, 0, 3)
    with pytest.raises(ValueError, match=r"batch_size=3.*2 languages"):
        plan_batches(toy.GROUPS, 2, 3, 0)
    with pytest.raises(ValueError, match="no rows"):
        plan_batches([toy.GROUPS[0], np.array([], dtype=int)], 2, 4, 0)


def test_a_step_is_cut_into_micro_batches_to_which_alphas_go_in_turn():
    dealt = [(place, part.tolist()) for place, part in deal_rows(np.arange(10, 18), 2, n_alphas=2)]
    assert dealt == [(0, [10, 11]), (1, [12, 13]), (0, [14, 15]), (1, [16, 17])]
    assert [part.tolist() for _, part in deal_rows(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


@each("rows, size, n_alphas", [(5, 2, 1), (8, 3, 1), (12, 3, 2)])
@each("processes", [2, 3])
def test_several_processes_share_a_step_row_by_row_with_the_alphas_of_one(rows, size, n_alphas, processes):
    def alphas_of(dealt):
        return {row: place for place, part in dealt for row in part.tolist()}

    shares = [deal_rows(np.arange(rows), size, n_alphas, process, processes) for process in range(processes)]
    counts = [sum(len(part) for _, part in share) for share in shares]
    assert max(counts) - min(counts) <= 1 and sum(counts) == rows
    assert all(1 <= len(part) <= size for share in shares for _, part in share)
    together = {row: place for share in shares for row, place in alphas_of(share).items()}
    assert together == alphas_of(deal_rows(np.arange(rows), size, n_alphas))


def test_a_batch_holds_its_rows_and_their_next_tokens(toy):
    batch = make_batch(toy.ROWS, np.array([3, 1]), torch.device("cpu"))
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == toy.ROWS[[3, 1]].tolist()
    assert batch["labels"][:, :-1].tolist() == toy.ROWS[[3, 1], 1:].tolist()
    assert (batch["labels"][:, -1] == -100).all()
    assert list(batch["row_numbers"]) == [3, 1]
