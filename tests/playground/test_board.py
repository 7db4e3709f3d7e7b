import numpy as np
import pandas as pd
import pytest
import torch

from mome.evaluate.uses import list_uses, score_model
from mome.models.assemble import build_moe
from mome.models.forwards import use_forward
from mome.playground import board


@pytest.fixture(scope="module")
def grid(data):
    uses = list_uses(data.languages, True, [8])
    uses = uses.assign(allowed=[",".join(names) for names in uses.allowed])
    return pd.concat([uses.assign(language=name, bits_per_byte=1.0 + number)
                      for number, name in enumerate(data.languages)], ignore_index=True)


@pytest.fixture(scope="module")
def answer(model, data, grid):
    return board.answer_board({"MoE-CE": model}, {"MoE-CE": grid}, data, "validation")


def settings(data, **changes):
    fields = board.board_fields({"MoE-CE": None}, data.languages)
    return {name: field.value for name, field in fields.items()} | changes


def bits_of(model, data, forward):
    scores = score_model(model, forward, data, "validation", board.ROWS)
    sums = scores.groupby("language", sort=False)[["nats", "n_bytes"]].sum()
    return sums.nats / sums.n_bytes / np.log(2)


@pytest.mark.parametrize("common", ["off", "on"])
@pytest.mark.parametrize("way", [way for way in board.WAYS if way != board.TOLD])
def test_the_board_scores_what_the_model_itself_gives_under_its_switches(answer, model, data, way, common):
    here, *_ = answer(**settings(data, way=way, common=common, expert_fr=False)).arguments
    there = [name for name in data.languages if name != "fr"]
    forward = use_forward(allowed_experts=there, common_expert=common,
                          average_experts=board.AVERAGED.get(way))
    np.testing.assert_allclose(here, bits_of(model, data, forward), rtol=1e-5)


def test_told_its_language_a_text_is_read_by_its_own_expert(answer, model, data):
    here, *_ = answer(**settings(data, way=board.TOLD)).arguments
    told = torch.from_numpy(data.language_index("validation"))

    def forward(model, batch):
        index = told[batch["row_numbers"]]
        return model(batch["input_ids"], expert_index=index, common_expert="off").logits

    np.testing.assert_allclose(here, bits_of(model, data, forward), rtol=1e-5)


def test_every_line_of_the_grid_that_the_board_can_set_is_found_by_its_setting(grid, data):
    lines, found = grid.drop_duplicates("use"), 0
    for line in lines.itertuples():
        ways = {"hidden": board.WAYS[2], "logits": board.WAYS[3], "posterior": board.WAYS[4]}
        way = ways.get(line.average_experts) or {"whole": board.ROUTER, "told": board.TOLD}.get(line.router)
        if way:
            found += 1
            assert board.find_use(grid, way, line.common_expert, line.allowed.split(",")) == line.use
    assert found > 20
    assert board.find_use(grid, board.ROUTER, "off", ["fr", "de"]) == ""


def test_what_a_board_cannot_mean_is_answered_in_words(answer, data):
    nobody = {f"expert_{name}": False for name in data.languages}
    assert answer(**settings(data, **nobody)).words == "No expert is there: switch one on."
    told = answer(**settings(data, way=board.TOLD, expert_en=False))
    assert "only while all experts are there" in told.words
    assert told.plot is None


def test_a_model_without_a_common_expert_says_so(model, data, grid):
    plain = build_moe(data.languages, model.config.body_config(), has_common_expert=False, seed=0)
    plain.router = model.router
    ask = board.answer_board({"JEET": plain}, {"JEET": grid}, data, "validation")
    assert "JEET has no common expert" in ask(**settings(data, variant="JEET", common="on")).words


def test_what_a_change_costs_is_told_of_the_language_that_loses_most(answer, data):
    assert "Nothing is lost by it" in answer(**settings(data)).words
    here, whole, *_ = answer(**settings(data, expert_en=False, expert_fr=False)).arguments
    words = answer(**settings(data, expert_en=False, expert_fr=False)).words
    more = (here - whole).max()
    assert f"{more:.2f} more than" in words if more > 0.005 else "Nothing is lost" in words
