"""Recipes of training in stages: their names, what they replay, what they freeze, where they drift."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from mome.engine import build_here
from mome.recipes.data import Data
from mome.recipes.forgetting import (
    MODULAR_STAGES,
    SECOND_SHARE,
    Drift,
    ModularStage,
    RefittedRouters,
    Session,
    Stage,
    check_order,
    list_orders,
    make_moe_stages,
    make_session,
    make_stages,
    plan_replay,
    read_score_matrix,
    read_stages,
    score_stages,
    score_untrained,
)
from mome.recipes.modular import MoE
from mome.recipes.setting import open_setting
from mome.recipes.students import HARD_LABELS, Objective, Student, make_dense
from mome.recipes.teacher import Targets
from mome.scales import Optimizer, Shape

ORDER = ["en", "py", "de", "fr"]
SHARES = {"en": 4, "fr": 3, "de": 2, "py": 1}


@pytest.fixture(scope="module")
def setting(tiny_setting):
    """The tiny setting with teacher and targets built."""
    build_here(Targets.of(tiny_setting))
    return tiny_setting


@pytest.fixture(scope="module")
def modular(setting):
    """{variant: the built stages of a modular model}, in ORDER."""
    stages = {variant: make_moe_stages(setting, variant, ORDER) for variant in MODULAR_STAGES}
    build_here(stages)
    return stages


def changed_names(recipe, changes):
    """Return the name of the recipe and of each copy with one field changed."""
    return [recipe.name, *(replace(recipe, **{field: value}).name for field, value in changes.items())]


# Names.

def training_changes(recipe):
    """Return another value for each field that all trainings have, and those that Stage and Session share."""
    other = replace(recipe.data, split_seed=1)
    targets = replace(recipe.targets, teacher=replace(recipe.targets.teacher, seed=1))
    return {"shape": Shape(1, 1, 8), "steps": 3, "batch_size": 4, "micro_batch_size": 4, "seed": 1,
            "order_seed": 5, "optimizer": Optimizer(0.1), "mixed_precision": "bf16", "curve_rows": 3,
            "evaluations": 3, "rows_per_language": 8, "targets": targets,
            "objective": Objective(alpha=0.1)}, other


def test_every_field_of_a_stage_changes_its_name(tiny_setting):
    first, second, third = make_stages(tiny_setting, ["en", "fr", "de"], replay=0.1, second_share=0.3)
    assert type(first) is Student and type(third) is Stage
    shared, other = training_changes(third)
    own = {"languages": ["py"], "start_from": first, "earlier": ["fr"], "replay": 0.2, "second_share": 0.2}
    names = changed_names(third, shared | own)
    moved = replace(third, data=other, targets=replace(
        third.targets, teacher=replace(third.targets.teacher, data=other)))
    taught = replace(third, objective=Objective("jsd"), teacher=third.targets.teacher)
    alone = replace(third, objective=HARD_LABELS)
    names += [moved.name, taught.name, alone.name]
    assert len(set(names)) == len(names)
    fields = {*shared, *own, "data", "teacher"}
    assert fields == set(third.plain_fields())
    assert second.name != make_stages(tiny_setting, ["en", "fr"])[1].name


def test_every_field_of_a_session_changes_its_name(tiny_setting):
    session = make_session(tiny_setting, SHARES)
    assert type(session) is Session
    shared, other = training_changes(session)
    own = {"shares": SHARES | {"en": 5}, "start_from": Student.of(tiny_setting, ["en"]),
           "languages": ["fr", "en", "de", "py"]}
    names = changed_names(session, shared | own)
    moved = replace(session, data=other, targets=replace(
        session.targets, teacher=replace(session.targets.teacher, data=other)))
    names += [moved.name, replace(session, objective=Objective("jsd"), teacher=session.targets.teacher).name]
    assert len(set(names)) == len(names)
    assert {*shared, *own, "data", "teacher"} == set(session.plain_fields())


def test_every_field_of_a_modular_stage_changes_its_name(tiny_setting):
    second = make_moe_stages(tiny_setting, "PLE", ["en", "fr"])[1]
    shared, _ = training_changes(second)
    own = {"language": "de", "start_from": None}
    jeet = make_moe_stages(tiny_setting, "JEET", ["en", "fr"])[1]
    names = [*changed_names(second, shared | own), jeet.name]
    assert len(set(names)) == len(names)
    assert {*shared, *own, "variant", "data"} == set(second.plain_fields())  # the targets fix the data


def test_every_field_of_drift_and_of_refitted_routers_changes_the_name(tiny_setting):
    stages = make_moe_stages(tiny_setting, "JEET", ["en", "fr", "de"])
    drifts = changed_names(Drift(stages, 12), {
        "stages": stages[:2], "rows_per_language": 8, "split": "test"})
    data = Data.of(tiny_setting)
    routers = changed_names(RefittedRouters(data, ORDER, 100), {
        "data": replace(data, split_seed=1), "order": ORDER[::-1], "rows_per_language": 50})
    assert (len(set(drifts)), len(set(routers))) == (4, 4)


def test_in_no_name_is_the_order_of_shares_nor_without_replay_what_came_before(tiny_setting):
    session = make_session(tiny_setting, SHARES)
    assert make_session(tiny_setting, dict(reversed(SHARES.items()))).name == session.name
    for pairs in permutations(SHARES.items()):
        assert replace(session, shares=pairs).name == session.name
    stage = make_stages(tiny_setting, ["en", "fr"], second_share=0.5)[1]
    assert replace(stage, earlier=["en", "de"]).name == stage.name
    assert stage.earlier == ()


def test_no_replay_and_no_second_teacher_is_the_plain_sequence(tiny_setting):
    plain = make_stages(tiny_setting, ORDER)
    assert [type(stage) for stage in plain] == [Student] * 4
    assert make_stages(tiny_setting, ORDER, 0, replay=0.0, second_share=0.0) == plain
    assert [stage.start_from for stage in plain] == [None, *plain[:3]]
    assert plain[0] == Student.of(tiny_setting, ["en"])  # as other chapters have it


def test_orders_that_begin_with_the_same_languages_share_their_stages(tiny_setting):
    found = [make_stages(tiny_setting, list(order)) for order in permutations(["en", "fr", "py"])]
    assert len({stage.name for stages in found for stage in stages}) == 3 + 6 + 6
    assert len({stage.name for stages in found for stage in stages[:1]}) == 3


@pytest.mark.parametrize("remedy", [{"replay": 0.1}, {"second_share": SECOND_SHARE}])
def test_remedies_share_the_first_stage_with_the_plain_sequence_and_see_as_many_tokens(tiny_setting, remedy):
    plain, helped = make_stages(tiny_setting, ORDER), make_stages(tiny_setting, ORDER, **remedy)
    assert helped[0] == plain[0]
    assert not {stage.name for stage in helped[1:]} & {stage.name for stage in plain}
    sizes = [[(stage.steps, stage.batch_size, stage.rows_per_language) for stage in stages]
             for stages in (plain, helped)]
    assert sizes[0] == sizes[1]
    assert [stage.start_from for stage in helped] == [None, *helped[:3]]


def test_titles_tell_the_stages_of_a_chapter_apart(tiny_setting):
    arms = [make_stages(tiny_setting, ORDER, **remedy)[1:] for remedy in ({}, {"replay": 0.1},
            {"replay": 0.2}, {"second_share": 0.5})]
    arms += [make_moe_stages(tiny_setting, variant, ORDER) for variant in MODULAR_STAGES]
    arms += [[make_session(tiny_setting, SHARES)], [make_session(tiny_setting, SHARES | {"en": 1})],
             *([Drift(make_moe_stages(tiny_setting, variant, ORDER), 12)] for variant in MODULAR_STAGES)]
    recipes = {stage.name: stage for stages in arms for stage in stages}
    assert len({stage.title for stage in recipes.values()}) == len(recipes)


def test_what_is_the_same_training_in_two_arms_is_one(tiny_setting):
    ple, jeet, common = (make_moe_stages(tiny_setting, variant, ORDER) for variant in MODULAR_STAGES)
    assert ple[0] == jeet[0] != common[0]
    assert not {stage.name for stage in ple[1:]} & {stage.name for stage in jeet}
    assert [stage.start_from for stage in ple] == [None, *ple[:3]]


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_a_balanced_session_is_the_dense_model_beside_the_experts(scale, own_home):
    found = open_setting(scale, "mini", sorted(SHARES))
    assert Student.of(found, found.languages).name == make_dense(found, "same active").name


def test_orders_are_one_each_first_and_last_once_or_all_and_an_empty_one_is_the_languages_own():
    assert list_orders(("a", "b", "c"), "one") == [["a", "b", "c"]]
    assert list_orders("abc", "rotations") == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert {tuple(order) for order in list_orders("abc", "all")} == set(permutations("abc"))
    assert check_order([], ("en", "fr")) == ["en", "fr"]
    assert check_order(["fr", "en"], ("en", "fr")) == ["fr", "en"]


@pytest.mark.parametrize("make, words", [
    (lambda s: make_stages(s, ["en", "en"]), ["repeats"]),
    (lambda s: make_stages(s, ["en", "xx"]), ["languages='xx'", "en, fr, de, py"]),
    (lambda s: make_stages(s, ["en", "fr"], replay=1.5), ["replay=1.5", "[0, 1]"]),
    (lambda s: make_stages(s, ["en", "fr"], second_share=-0.5), ["second_share=-0.5", "1]"]),
    (lambda s: make_stages(s, ["en", "fr"], replay=True), ["replay=True"]),
    (lambda s: Stage.of(s, ["fr"], second_share=0.5), ["start_from=None", "student before"]),
    (lambda s: Stage.of(s, ["fr"], start_from=Student.of(s, ["en"])), ["second_share=0.0"]),
    (lambda s: Stage.of(s, ["fr"], start_from=Student.of(s, ["en"]), replay=0.1), ["languages=[]"]),
    (lambda s: Stage.of(s, ["fr"], start_from=Student.of(s, ["en"]), replay=0.1, earlier=["xx"]), ["'xx'"]),
    (lambda s: make_moe_stages(s, "PLE branched", ["en"]), ["variant='PLE branched'", "JEET"]),
    (lambda s: make_moe_stages(s, "PLE", ["xx"]), ["'xx'"]),
    (lambda s: replace(make_moe_stages(s, "PLE", ["en"])[0], language="xx"), ["language='xx'"]),
    (lambda s: replace(make_moe_stages(s, "PLE", ["en", "fr"])[1], variant="MoE-CE"), ["JEET en", "MoE-CE"]),
    (lambda s: replace(make_moe_stages(s, "PLE", ["en", "fr", "de"])[2], variant="JEET"), ["PLE fr", "JEET"]),
    (lambda s: replace(make_moe_stages(s, "JEET", ["en", "fr", "de"])[2], variant="PLE"), ["JEET fr", "PLE"]),
    (lambda s: make_session(s, {"en": 1.0, "xx": 1.0}), ["languages='xx'"]),
    (lambda s: make_session(s, {"en": 0.0, "fr": 1.0}), ["shares['en']=0.0"]),
    (lambda s: replace(make_session(s, SHARES), shares={"en": 1}), ["shares=", "en, fr, de, py"]),
    (lambda s: list_orders(["en"], "each"), ["orders='each'", "one, rotations, all"]),
    (lambda s: check_order(["en"], ["en"]), ["order=['en']", "two or more"]),
    (lambda s: check_order(["en", "fr"], ["en", "fr", "de"]), ["order=['en', 'fr']", "en, fr, de"]),
    (lambda s: Drift(make_moe_stages(s, "PLE", ["en"]), 12), ["JEET en", "two or more"]),
    (lambda s: Drift(make_moe_stages(s, "PLE", ["en", "fr"])[::-1], 12), ["the one before it"]),
    (lambda s: RefittedRouters(Data.of(s), ["en", "fr"], 12), ["order=['en', 'fr']"])])
def test_what_cannot_be_is_refused_by_name_and_value(tiny_setting, make, words):
    with pytest.raises(ValueError) as error:
        make(tiny_setting)
    assert [word for word in words if word not in str(error.value)] == []


# Rows.

@pytest.mark.parametrize("replay", [0.01, 0.5, 1.0])
def test_a_stage_replays_its_share_evenly_from_earlier_languages_and_costs_as_much_as_without(
        tiny_setting, replay):
    data = Data.of(tiny_setting).open()
    stage = make_stages(tiny_setting, ["en", "py", "de"], replay=replay)[2]
    plan = stage.plan_rows(data)
    plain = make_stages(tiny_setting, ["en", "py", "de"])[2].plan_rows(data)
    language, is_own = data.language_index("train")[plan], plan == plain
    counts = np.bincount(language.ravel(), minlength=4)  # en, fr, de, py
    assert plan.shape == plain.shape == (stage.steps, stage.batch_size)
    assert plan.size - counts[2] == round(replay * plan.size)
    assert abs(counts[0] - counts[3]) <= 1
    assert counts[1] == 0
    np.testing.assert_array_equal(is_own, language == 2)
    for name, number in (("en", 0), ("py", 3)):
        rows, replayed = set(stage.list_rows(data, name)), plan[language == number]
        assert set(replayed) <= rows
        assert len(set(replayed)) == min(len(replayed), len(rows))


def test_replayed_rows_are_all_drawn_before_any_comes_again_in_places_of_the_seed_or_not_at_all():
    plan = plan_replay(np.full((10, 6), -1), [np.arange(8), np.arange(100, 140)], 0.5, 0)
    few, many = plan[(plan >= 0) & (plan < 100)], plan[plan >= 100]
    assert (len(few), len(many), len(set(many))) == (15, 15, 15)
    assert sorted(np.bincount(few)) == [1] + [2] * 7
    plan = np.arange(12).reshape(3, 4)
    for pools, replay in (([], 0.5), ([np.arange(20, 30)], 0.0)):
        np.testing.assert_array_equal(plan_replay(plan.copy(), pools, replay, 0), plan)
    plans = [plan_replay(np.full((10, 6), -1), [np.arange(50)], 0.3, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0] >= 0, plans[2] >= 0)


def test_a_session_gives_each_language_its_share_of_shuffled_rows_and_languages_need_not_fill_a_batch(
        tiny_setting):
    session, data = make_session(tiny_setting, SHARES), Data.of(tiny_setting).open()
    plan = session.plan_rows(data)
    assert plan.shape == (4 * tiny_setting.scale.student_steps, session.batch_size)
    language = data.language_index("train")[plan]
    shares = np.bincount(language.ravel()) / plan.size
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.2, 0.1], atol=1 / plan.size + 1e-9)
    assert all(len(np.unique(part)) == 4 for part in np.array_split(language, 4))
    times = np.bincount(plan[language == 0])  # more than its even share: seen again, all before any thrice
    assert set(times[session.list_rows(data, "en")]) == {1, 2}
    session = make_session(tiny_setting, {"en": 1, "fr": 1e-6, "de": 1})
    data = Data.of(tiny_setting).open()
    language = data.language_index("train")[session.plan_rows(data)]
    assert set(language.ravel()) == {0, 2}  # a share of less than half a row has none
    assert session.languages == ("en", "fr", "de")


# What is built.

def test_a_stage_with_a_second_teacher_goes_on_from_it_and_keeps_both_losses(setting):
    first, stage = make_stages(setting, ["en", "fr"], replay=0.25, second_share=SECOND_SHARE)
    build_here(stage)
    history = stage.history()
    assert abs(history.second_kd_loss[0]) < 1e-6  # at the first step it is still its own second teacher
    assert history.second_kd_loss.iloc[-1] > 1e-4
    mixed = history.alpha * history.ce_loss + (1 - history.alpha) * history.kd_loss
    expected = (1 - SECOND_SHARE) * mixed + SECOND_SHARE * history.second_kd_loss
    np.testing.assert_allclose(history.combined_loss, expected, rtol=1e-5)
    begun, before = stage.make_model().state_dict(), first.open().state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in begun.items())
    assert stage.notes["tokens"] == first.notes["tokens"]


def test_stages_are_read_in_one_table_and_one_matrix(setting):
    stages = make_stages(setting, ["en", "fr"])
    scores = score_stages(setting, stages)
    build_here([stages, scores])
    table = read_stages(stages, ["en", "fr"], arm="plain", seed=0)
    assert list(table)[:3] == ["stage", "arm", "seed"]
    assert table.stage.tolist() == ["en"] * 2 + ["fr"] * 2
    assert table.total_tokens.is_monotonic_increasing
    assert table.total_tokens.iloc[-1] == sum(stage.notes["tokens"] for stage in stages)
    np.testing.assert_allclose(table.perplexity_fr, np.exp(table.nats_fr))
    matrix = read_score_matrix(scores, ["en", "fr"])
    assert (list(matrix.index), list(matrix.columns)) == (["en", "fr"], ["en", "fr"])
    assert matrix.loc["fr", "en"] == scores[1].summary().set_index("language").nats_per_token["en"]
    assert (read_score_matrix(scores, ["en", "fr"], "bits_per_byte") < matrix).all(axis=None)


def test_an_untrained_student_knows_nothing_of_any_language(setting):
    second = make_stages(setting, ["en", "fr"])[1]
    nats = score_untrained(second)
    assert list(nats.index) == list(setting.languages)
    np.testing.assert_allclose(nats, np.log(600), atol=0.1)
    assert nats.equals(score_untrained(second.start_from))
    assert not nats.equals(score_untrained(second, "test"))


def logits_of(model, number, data):
    rows = torch.from_numpy(data.rows("validation")[:4].astype(np.int64))
    with torch.no_grad():
        return model(input_ids=rows, expert_index=torch.full((len(rows),), number)).logits


def is_equal(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("variant", MODULAR_STAGES)
def test_an_expert_that_is_done_stays_bit_for_bit_and_only_shared_parts_drift(setting, modular, variant):
    models, data = [stage.open() for stage in modular[variant]], Data.of(setting).open()
    for before, after, language in zip(models, models[1:], ORDER[1:], strict=False):
        changed = [name for name in data.languages if not is_equal(before.experts[name], after.experts[name])]
        assert changed == [language]
        assert is_equal(before.embedding, after.embedding) == (variant == "PLE")
        assert is_equal(before.lm_head, after.lm_head) == (variant == "PLE")
        if variant == "MoE-CE":
            assert not is_equal(before.common_expert, after.common_expert)
    for own, language in zip(models[:-1], ORDER, strict=False):
        number = data.languages.index(language)
        kept = torch.equal(logits_of(own, number, data), logits_of(models[-1], number, data))
        assert kept == (variant == "PLE")


@pytest.mark.parametrize("variant", MODULAR_STAGES)
def test_what_a_stage_does_not_teach_takes_no_gradients(setting, variant):
    first, second = (replace(stage, shape=replace(stage.shape, tie_word_embeddings=False), start_from=None)
                     for stage in make_moe_stages(setting, variant, ["en", "py"]))
    build_here(first)  # the head has weights of its own here
    shared = {"embedding.weight", "lm_head.weight", "lm_head.bias"}
    shared |= {"common_expert.ln_f.weight"} if variant == "MoE-CE" else set()
    for stage, language in ((first, "en"), (replace(second, variant=variant, start_from=first), "py")):
        learning = {name for name, weight in stage.make_model().named_parameters() if weight.requires_grad}
        assert learning & shared == (shared if stage is first or variant != "PLE" else set())
        assert {name.split(".")[1] for name in learning if name.startswith("experts.")} == {language}


def test_the_first_stage_of_every_variant_trains_what_is_shared(setting, modular):
    for variant, stages in modular.items():
        before, after = stages[0].make_model(), stages[0].open()
        assert not is_equal(before.embedding, after.embedding)
        assert (after.common_expert is not None) == (variant == "MoE-CE")
        assert is_equal(before.experts["fr"], after.experts["fr"])


@pytest.mark.parametrize("variant", MODULAR_STAGES)
def test_with_all_shared_parts_put_back_everything_that_was_forgotten_comes_back(setting, modular, variant):
    drift = Drift(modular[variant], setting.scale.evaluation_rows, "test")
    scores = score_stages(setting, modular[variant], "test")
    build_here([drift, scores])
    table = drift.open()
    assert table.language.tolist() == [name for name in ORDER[:-1] for _ in range(3)]
    assert (table.forgotten != 0).all() == (table.recovered != 0).any() == (variant != "PLE")
    parts = {part: rows.set_index("language") for part, rows in table.groupby("part")}
    np.testing.assert_allclose(parts["both"].recovered, parts["both"].forgotten, atol=1e-9)
    assert (parts["common expert"].recovered != 0).any() == (variant == "MoE-CE")
    if variant == "JEET":
        assert parts["embedding and head"].recovered.equals(parts["both"].recovered)
    matrix = read_score_matrix(scores, ORDER).to_numpy()
    lost = (matrix[-1] - np.diag(matrix))[:-1]
    np.testing.assert_allclose(parts["both"].forgotten[ORDER[:-1]], lost, atol=1e-6)  # as the scores say


def test_a_router_fitted_on_new_data_only_forgets_and_one_that_keeps_counts_does_not(tiny_setting):
    routers = RefittedRouters(Data.of(tiny_setting), ORDER, tiny_setting.scale.router_rows)
    build_here(routers)
    table = routers.open()
    last = table[table.stage == ORDER[-1]].pivot(index="fit", columns="language", values="recall")
    assert last.loc["new data only", ORDER[0]] < 0.5
    assert last.loc["new data only", ORDER[-1]] > 0.9
    assert (last.loc[["all data so far", "counts of each language"]].mean(axis=1) > 0.8).all()
    assert len(table) == 3 * (1 + 2 + 3 + 4)


def test_a_modular_stage_sees_the_tokens_of_a_student_s_stage(setting, modular):
    student = Student.of(setting, ["en"])
    for stage in (stages[1] for stages in modular.values()):
        assert isinstance(stage, ModularStage) and not isinstance(stage, MoE)
        rows = stage.plan_rows(Data.of(setting).open())
        np.testing.assert_array_equal(rows, replace(student, languages=["py"]).plan_rows(stage.data.open()))
        assert stage.notes["tokens"] == rows.size * (setting.scale.context - 1)
