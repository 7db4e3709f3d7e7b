from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mome.evaluate.uses import list_uses, score_model
from mome.languages import language_name
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
    fields = board.board_fields({"MoE-CE": SimpleNamespace(common_expert=None)}, "MoE-CE", data.languages)
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


def test_what_a_change_costs_is_told_of_the_language_that_loses_most(answer, model, data):
    trained = bits_of(model, data, use_forward(common_expert="on"))
    assert "Nothing is changed yet" in answer(**settings(data, common="on")).words
    for changes in ({"common": "off"}, {"common": "alone"}, {"common": "on", "expert_en": False}):
        found = answer(**settings(data, **changes))
        here, whole, *_ = found.arguments
        np.testing.assert_allclose(whole, trained, rtol=1e-5)
        more = here - whole
        told = f"Most is lost on {language_name(more.idxmax())}, {more.max():.2f} more"
        assert (told if more.max() >= 0.005 else "No language loses by it") in found.words
    more = pd.Series({"en": -1.0, "de": 0.5, "py": 0.1})
    assert "Most is lost on German, 0.50 more" in board.tell_loss(more)
    assert board.tell_loss(pd.Series({"en": -1.0, "de": 0.0})) == "No language loses by it. "


def test_the_common_expert_alone_answers_whoever_else_is_there(answer, model, data):
    nobody = {f"expert_{name}": False for name in data.languages}
    found = answer(**settings(data, common="alone", **nobody))
    assert "the common expert alone" in found.words
    np.testing.assert_allclose(found.arguments[0], bits_of(model, data, use_forward(common_expert="alone")),
                               rtol=1e-5)


def test_who_reads_the_texts_of_an_expert_that_has_left_is_told(answer, model, data):
    found = answer(**settings(data, expert_fr=False))
    rows = data.rows("validation")[data.row_numbers("validation", "fr", board.ROWS)].astype(np.int64)
    chosen = model.route(torch.from_numpy(rows), None, [name for name in data.languages if name != "fr"])
    counts = torch.bincount(chosen, minlength=len(data.languages)).tolist()
    told = sorted(((-n, number) for number, n in enumerate(counts) if n))
    by = ", ".join(f"{-n} by the {language_name(data.languages[number])} expert" for n, number in told)
    assert f"Of {board.ROWS} texts in French are now read {by}. " in found.words
    assert "texts in English" not in found.words


def test_a_pair_of_the_grid_is_found_in_whatever_order_languages_are(grid):
    assert board.find_use(grid, board.ROUTER, "off", ["py", "en"]) == "en + py routed"
    assert board.find_use(grid, board.WAYS[2], "on", ["py", "en"]) == "en + py averaged + common"


def test_a_mean_of_one_expert_is_that_expert_in_the_grid(grid):
    for way in (board.ROUTER, *board.AVERAGED):
        assert board.find_use(grid, way, "on", ["py"]) == "py alone + common"
