from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch

from mome import continual, evaluate, modular, recipes
from mome.artifacts import read_manifest

ORDER = ["en", "py", "de", "fr"]


@pytest.mark.parametrize("replay", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_stage_replays_its_share_evenly_from_earlier_languages_and_costs_as_much_as_without(tiny_bench, replay):
    plan, plain = (continual.plan_stage(tiny_bench, "de", ["en", "py"], share, seed=0) for share in (replay, 0.0))
    language = tiny_bench.data.language_index("train")[plan]
    assert plan.shape == plain.shape
    assert (language != 2).sum() == round(replay * plan.size)
    assert abs((language == 0).sum() - (language == 3).sum()) <= 1
    assert (language == 1).sum() == 0
    np.testing.assert_array_equal(plan[language == 2], plain[language == 2])
    replayed = plan[language == 0]
    assert len(set(replayed)) == min(len(replayed), len(recipes.student_rows(tiny_bench, "en")))


def test_a_first_stage_has_nothing_to_replay(tiny_bench):
    np.testing.assert_array_equal(continual.plan_stage(tiny_bench, "en", [], 0.5, 0), continual.plan_stage(tiny_bench, "en", [], 0.0, 0))


def test_a_session_gives_each_language_its_share_of_shuffled_sequences(tiny_bench):
    plan = continual.plan_session(tiny_bench, {"en": 0.4, "fr": 0.3, "de": 0.2, "py": 0.1}, 40, seed=0)
    language = tiny_bench.data.language_index("train")[plan]
    np.testing.assert_allclose(np.bincount(language.ravel()) / plan.size, [0.4, 0.3, 0.2, 0.1], atol=1 / plan.size + 1e-9)
    assert all(len(np.unique(part)) == 4 for part in np.array_split(language, 4))


@pytest.mark.parametrize("remedy", [{"replay": 0.1}, {"second_teacher": True}])
def test_remedies_share_the_first_stage_with_the_plain_sequence_and_see_as_many_tokens(tiny_bench, remedy):
    plain, helped = continual.train_stages(tiny_bench, ORDER, seed=0), continual.train_stages(tiny_bench, ORDER, seed=0, **remedy)
    assert plain == recipes.train_sequence(tiny_bench, ORDER, seed=0)
    assert helped[0] == plain[0]
    assert not set(helped[1:]) & set(plain)
    tokens = [[read_manifest(path)["notes"]["tokens"] for path in stages] for stages in (plain, helped)]
    assert tokens[0] == tokens[1]


def test_orders_that_begin_alike_share_their_stages(tiny_bench):
    orders = [list(order) for order in permutations(["en", "fr", "py"])]
    found = continual.train_orders(tiny_bench, orders, seed=0)
    assert len({path for stages in found.values() for path in stages}) == 3 + 6 + 6
    for order, stages in found.items():
        assert stages == recipes.train_sequence(tiny_bench, list(order), seed=0)


def modular_logits(path, language, rows):
    with torch.no_grad():
        return modular.load_moe(path)(input_ids=rows, expert_index=torch.full((len(rows),), language)).logits


@pytest.mark.parametrize("variant", continual.MODULAR_STAGES)
def test_frozen_experts_forget_exactly_nothing_and_where_something_is_shared_it_drifts(tiny_bench, variant):
    stages = continual.train_moe_stages(tiny_bench, variant, ORDER, seed=0)
    rows = torch.from_numpy(tiny_bench.data.rows("validation")[:4].astype(np.int64))
    for number, language in enumerate(ORDER[:-1]):
        index = tiny_bench.data.languages.index(language)
        own, last = modular_logits(stages[number], index, rows), modular_logits(stages[-1], index, rows)
        assert torch.equal(own, last) == (variant == "PLE")
        first, end = (modular.load_moe(stages[place]).experts[language].state_dict() for place in (number, -1))
        assert all(torch.equal(weight, end[name]) for name, weight in first.items())


def test_each_stage_of_a_modular_model_changes_its_languages_expert_only(tiny_bench):
    stages = continual.train_moe_stages(tiny_bench, "JEET", ORDER, seed=0)
    before, after = (modular.load_moe(path) for path in stages[:2])
    pairs = {name: zip(before.experts[name].parameters(), after.experts[name].parameters(), strict=True) for name in ORDER}
    assert [name for name, weights in pairs.items() if not all(torch.equal(*pair) for pair in weights)] == ["py"]
    assert not torch.equal(before.embedding.weight, after.embedding.weight)


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_with_all_shared_parts_put_back_everything_that_was_forgotten_comes_back(tiny_bench, variant):
    stages = continual.train_moe_stages(tiny_bench, variant, ORDER, seed=0)
    drift = continual.locate_drift(tiny_bench, stages, ORDER)
    both = drift[drift.part == "both"]
    np.testing.assert_allclose(both.recovered, both.forgotten, atol=1e-6)
    common = drift[drift.part == "common expert"].recovered
    assert (common.abs().max() > 0) == (variant == "MoE-CE")


def test_a_router_fitted_on_new_data_only_forgets_and_one_that_keeps_counts_does_not(tiny_bench):
    table = continual.refit_routers(tiny_bench, ORDER)
    last = table[table.stage == ORDER[-1]].pivot(index="fit", columns="language", values="recall")
    assert last.loc["new data only", ORDER[0]] < 0.5
    assert last.loc["new data only", ORDER[-1]] > 0.9
    assert (last.loc[["all data so far", "counts of each language"]].mean(axis=1) > 0.8).all()
    assert len(table) == 3 * (1 + 2 + 3 + 4)


def test_the_second_teachers_share_mixes_the_two_losses(tiny_bench):
    model, before = (recipes.models.build_gpt2(tiny_bench.scale.student, 600, 32, seed) for seed in (0, 1))
    rows = tiny_bench.data.rows("train")
    batch = recipes.train.make_batch(rows, np.arange(4), "cpu")
    make = recipes.distill.make_objective
    alone = make(None, recipes.dense_logits)(model, batch, 1.0)["loss"]
    remembered = make("forward_kl", recipes.dense_logits, teacher=before)(model, batch, 0.0)["loss"]
    for share in (0.0, 0.3, 1.0):
        mixed = make(None, recipes.dense_logits, second_teacher=before, second_share=share)(model, batch, 1.0)
        torch.testing.assert_close(mixed["loss"], (1 - share) * alone + share * remembered)
        torch.testing.assert_close(mixed["second_kd_loss"], remembered.detach())


@pytest.mark.parametrize(("call", "words"), [
    (lambda bench: continual.train_stages(bench, ["en", "en"], seed=0), ["repeats"]),
    (lambda bench: continual.train_orders(bench, [["en", "xx"]], seed=0), ["xx"]),
    (lambda bench: continual.train_moe_stages(bench, "PLE branched", ["en"], seed=0), ["PLE branched", "JEET"]),
    (lambda bench: continual.train_session(bench, {"en": 1.0, "xx": 1.0}, seed=0), ["xx"]),
    (lambda bench: continual.train_session(bench, {"en": 0.0, "fr": 1.0}, seed=0), ["shares['en']=0.0"])])
def test_bad_input_is_refused_before_anything_is_built(tiny_bench, call, words, assert_refused):
    assert_refused(tiny_bench, call, words)


def test_measures_of_a_sequence_add_up():
    matrix = pd.DataFrame([[2.0, 6.0, 7.0], [3.0, 1.0, 6.5], [4.0, 2.5, 1.5]], index=["en", "fr", "de"], columns=["en", "fr", "de"])
    same = pd.Series(5.0, index=matrix.columns)
    found = evaluate.measure_stages(matrix, untrained=same + 3, unigram=same, reference=same - 4)
    assert found == pytest.approx({"average_score": 8 / 3, "forgetting": 1.75, "backward_transfer": -1.75, "forward_transfer": (2 + 1.5) / 2,
                                   "forward_transfer_unigram": (-1 - 1.5) / 2, "intransigence": (1 + 0 + 0.5) / 3})
