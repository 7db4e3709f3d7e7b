"""Recipes of modular models: their names, what is refused, what is trained and what is read of it."""

import shutil
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from mome.config import repository, store_dir
from mome.data.ids import hash_tokenizer
from mome.data.tokenizer import N_BYTE_TOKENS, train_tokenizer
from mome.engine import build_here
from mome.evaluate.scores import summarize
from mome.evaluate.uses import choose_experts, keep_experts, list_uses, score_model, score_uses
from mome.models.assemble import load_moe
from mome.models.bodies import count_parameters
from mome.models.experts import hash_embedding, hash_tensors, read_expert
from mome.models.forwards import dense_logits, expert_forward, use_forward
from mome.recipe import collect, list_ancestors
from mome.recipes.data import Data
from mome.recipes.modular import MOE_VARIANTS, AddedExpert, Expert, MoE, RoutedMoE
from mome.recipes.routers import FittedRouter
from mome.recipes.scores import USES, Scores
from mome.recipes.setting import open_setting
from mome.recipes.students import HARD_LABELS, Objective, make_dense
from mome.recipes.switches import Changes, ExpertScores, Switches, find_added
from mome.recipes.teacher import Targets
from mome.recipes.training import Training
from mome.runs.needs import read_needs
from mome.runs.parameters import declared_parameters
from mome.scales import Optimizer

LANGUAGES = ["en", "fr", "de", "py"]
SPLIT = "validation"


@pytest.fixture(scope="module")
def setting(tiny_setting):
    """The tiny setting with teacher, targets and router built."""
    build_here([Targets.of(tiny_setting), FittedRouter.of(tiny_setting)])
    return tiny_setting


@pytest.fixture(scope="module")
def spanish(tiny_setting):
    return find_added(tiny_setting, "es")


def built(recipe):
    build_here(recipe)
    return recipe


# Names: what is in them, and what is not.

def change_fields(setting, spanish) -> dict:
    """Return {recipe: {field: another value that it allows}}, all fields of a class over its recipes."""
    ple, jeet, other = (MoE.of(setting, *of) for of in (("PLE",), ("JEET",), ("JEET", 1)))
    router, added = FittedRouter.of(setting, (spanish,)), AddedExpert.of(setting, jeet, spanish)
    moe, enlarged = RoutedMoE.of(setting, "JEET"), RoutedMoE(jeet, router, added)
    rerouted, longer = replace(moe, router=replace(moe.router, seed=1)), replace(ple.experts[0], steps=9)
    training = {"shape": setting.scale.teacher, "steps": 3, "batch_size": 4, "micro_batch_size": 2,
                "optimizer": Optimizer(1e-4), "mixed_precision": "bf16", "curve_rows": 2,
                "evaluations": 3, "seed": 5, "order_seed": 6}
    return {
        jeet: training | {"variant": "MoE-CE", "rows_per_language": 2,
                          "targets": replace(jeet.targets, k=4), "objective": Objective(alpha=0.1)},
        ple: {"experts": (longer, *ple.experts[1:])},
        moe: {"model": other, "router": rerouted.router},
        enlarged: {"added": replace(added, seed=1)},
        added: training | {"model": other, "data": replace(spanish, split_seed=1), "start_rows": 2},
        Expert(jeet, "en"): {"model": other, "language": "fr"},
        ExpertScores(jeet, 8): {
            "model": other, "rows_per_language": 9, "common_expert": "on", "split": "test"},
        Switches.of(setting, "JEET", 0, [4]): {
            "model": rerouted, "rows_per_language": 9, "prefixes": (4, 8), "split": "test"},
        Changes.of(setting, moe, spanish, "fr"): {
            "model": rerouted, "enlarged": RoutedMoE(jeet, router, replace(added, steps=3)),
            "removed": Expert(jeet, "de"), "rows_per_language": 9, "split": "test"}}


def test_every_field_of_a_modular_recipe_is_in_its_name(setting, spanish):
    changed = {}
    for recipe, changes in change_fields(setting, spanish).items():
        names = [recipe.name, *(replace(recipe, **{field: value}).name for field, value in changes.items())]
        assert len(set(names)) == len(names), recipe.title
        changed.setdefault(type(recipe), set()).update(changes)
    changed[MoE].add("data")  # that of its targets, which are another's with other data: see below
    for kind, found in changed.items():
        assert found == {field.name for field in fields(kind)}


def list_trained(needs) -> set[str]:
    asked = list_ancestors(collect(needs))
    return {recipe.name for recipe in asked if isinstance(recipe, Training | Targets)}


def read_chapter(**given):
    path = repository() / "notebooks/04_moe_variants.ipynb"
    small = {"scale": "smoke", "corpus": "mini", "seeds": [0]}
    return read_needs(path, declared_parameters(path) | small | given)


def test_rows_of_routers_and_scores_and_the_other_variants_rename_nothing_that_is_trained(tiny_home):
    whole = read_chapter()
    trained = list_trained(whole)
    assert len(trained) == 2 + 2 + (4 + 1) + (4 + 1 + 1) + 2 + 1  # an added expert is the last
    for overrides in ({"router_rows": 50}, {"evaluation_rows": 20}):
        other = read_chapter(overrides=overrides)
        assert list_trained(other) == trained
        assert {recipe.name for recipe in collect(other)} != {recipe.name for recipe in collect(whole)}
    assert list_trained(read_chapter(variants=["JEET"], controls=[], prefixes=[4])) < trained
    assert list_trained(read_chapter(overrides={"curve_rows": 3})).isdisjoint(trained)


@pytest.mark.parametrize("added_language", ["", "py"])
def test_a_chapter_that_adds_no_language_needs_nothing_of_one(tiny_home, added_language):
    asked = list(list_ancestors(collect(read_chapter(added_language=added_language))))
    assert not [recipe for recipe in asked if isinstance(recipe, AddedExpert | Changes)]
    assert {recipe.languages for recipe in asked if isinstance(recipe, Data)} == {tuple(LANGUAGES)}


# What cannot be is refused before anything is built.

@pytest.mark.parametrize("call, words", [
    (lambda s: MoE.of(s, "MOE"), ["variant='MOE'", "PLE branched, JEET"]),
    (lambda s: MoE.of(s, "JEET", kd_loss="jsd"), ["kd_loss='jsd'", "teacher_ce"]),
    (lambda s: MoE.of(open_setting(s.scale, "mini", ["en"]), "JEET"), ["languages=['en'] is too few"]),
    (lambda s: read_chapter(variants=[]), ["cell 'needs'", "variants=[]", "JEET"]),
    (lambda s: MoE.of(s, "PLE", embedding_share=0), ["embedding_share=0", "[0.001, 0.9]"]),
    (lambda s: MoE.of(s, "PLE branched", ancestor_share=0.9), ["token_share=-0.0"]),
    (lambda s: MoE.of(s, "JEET", alpha=1.5), ["alpha=1.5"]),
    (lambda s: replace(MoE.of(s, "JEET"), objective=HARD_LABELS), ["kd_loss=None"]),
    (lambda s: replace(MoE.of(s, "JEET"), objective=Objective("forward_kl", temperature=2.0)),
     ["temperature=2.0"]),
    (lambda s: replace(MoE.of(s, "JEET"), batch_size=6), ["4 languages", "batches of 6", "'batch_size': 4"]),
    (lambda s: replace(MoE.of(s, "JEET"), rows_per_language=999), ["targets='targets-", "rows"]),
    (lambda s: replace(MoE.of(s, "JEET"), data=Data.of(s, 1)), ["targets='targets-", "rows"]),
    (lambda s: replace(MoE.of(s, "JEET"), targets=Targets.of(s, languages=["en"])), ["targets='targets-"]),
    (lambda s: replace(MoE.of(s, "PLE"), experts=()), ["experts of []", "PLE takes", "('py',)"]),
    (lambda s: replace(MoE.of(s, "PLE"), experts=MoE.of(
        replace(s, scale=replace(s.scale, near_duplicates=0.6)), "PLE").experts), ["experts of []"]),
    (lambda s: replace(MoE.of(s, "PLE"), variant="JEET"), ["('en',)", "JEET takes []"]),
    (lambda s: replace(MoE.of(s, "PLE"), experts=MoE.of(s, "PLE").experts[::-1]), ["[('py',), ('de',)"]),
    (lambda s: replace(RoutedMoE.of(s, "JEET"), router=FittedRouter.of(
        s, data=replace(Data.of(s), languages=LANGUAGES[::-1]))),
     ["router of py, de, fr, en", "en, fr, de, py, in that order"]),
    (lambda s: Expert(MoE.of(s, "JEET"), "es"), ["language='es'", "en, fr, de, py"]),
    (lambda s: ExpertScores(MoE.of(s, "JEET"), 0), ["rows_per_language=0"]),
    (lambda s: ExpertScores(MoE.of(s, "JEET"), 8, "alone"), ["common_expert='alone'", "off, on"]),
    (lambda s: Switches.of(s, "JEET", 0, [4, 0]), ["prefixes=0"]),
    (lambda s: make_dense(s, "same"), ["controls='same'", "same total"]),
    (lambda s: find_added(s, "fr"), ["added_language='fr'", "already"]),
    (lambda s: find_added(s, "xx"), ["added_language='xx'", "mini"]),
    (lambda s: find_added(s, "es", "none"), ["corpus='none'", "mini"]),
    (lambda s: find_added(s, "es", "folder:/nowhere"), ["there is no folder /nowhere"])])
def test_what_cannot_be_is_refused_by_name_and_value_before_anything_is_built(tiny_setting, call, words):
    before = set(store_dir().iterdir())
    with pytest.raises(ValueError) as error:
        call(tiny_setting)
    assert [word for word in words if word not in str(error.value)] == []
    assert set(store_dir().iterdir()) == before


def test_an_expert_made_for_another_model_is_refused(tiny_setting, spanish):
    moe, router = RoutedMoE.of(tiny_setting, "JEET"), FittedRouter.of(tiny_setting, (spanish,))
    foreign = AddedExpert.of(tiny_setting, MoE.of(tiny_setting, "MoE-CE"), spanish)
    with pytest.raises(ValueError, match=r"added='added expert es of MoE-CE seed 0' .* for JEET seed 0"):
        RoutedMoE(moe.model, router, foreign)
    with pytest.raises(ValueError, match=r"router of en, fr, de, py .*en, fr, de, py, es, in that order"):
        replace(moe, added=replace(foreign, model=moe.model))
    changes = Changes.of(tiny_setting, moe, spanish, "fr")
    for change in ({"enlarged": moe}, {"enlarged": RoutedMoE(foreign.model, router, foreign)},
                   {"removed": Expert(foreign.model, "fr")}):
        with pytest.raises(ValueError, match=r"must add an expert to JEET seed 0, and take one from it"):
            replace(changes, **change)


def test_a_router_of_another_tokenizer_is_refused(setting):
    other = replace(Data.of(setting), split_seed=1, vocab_size=500)
    recipe = RoutedMoE(MoE.of(setting, "JEET"), FittedRouter.of(setting, data=other))
    with pytest.raises(ValueError, match="is not the one that this router was fitted with"):
        build_here(recipe)
    assert not recipe.is_there


# What is trained.

@pytest.mark.parametrize("variant", MOE_VARIANTS)
def test_every_variant_sees_the_tokens_of_the_dense_student(setting, variant):
    dense, moe = built(make_dense(setting)).notes, built(MoE.of(setting, variant)).notes
    assert moe["tokens"] == pytest.approx(dense["tokens"], rel=0.12)  # whole steps, and they are few here
    if not variant.startswith("PLE"):
        assert moe["tokens"] == dense["tokens"]
    assert dense["parameters"] <= moe["active_parameters"] < moe["parameters"]
    if variant == "JEET":  # but for the router's, and the bias of its head
        assert dense["parameters"] == moe["active_parameters"] - (600 + 1) * len(LANGUAGES) - 600


def test_frozen_experts_of_ple_are_bit_identical_to_the_experts_trained_apart(setting):
    recipe = built(MoE.of(setting, "PLE"))
    model = recipe.open()
    for expert in recipe.experts:
        weights = expert.open().transformer.state_dict()
        for name, weight in model.experts[expert.languages[0]].state_dict().items():
            assert torch.equal(weight, weights[name]), name


def test_branched_experts_part_from_one_ancestor_of_all_languages(setting):
    recipe = MoE.of(setting, "PLE branched", embedding_share=0.25, ancestor_share=0.5)
    ancestor = recipe.experts[0].start_from
    assert list(ancestor.languages) == LANGUAGES
    assert {expert.start_from for expert in recipe.experts} == {ancestor}
    steps, each = setting.scale.student_steps, recipe.experts[0].steps
    assert (ancestor.steps, each, recipe.steps) == (4 * steps * 0.5, steps * 0.25, 4 * steps * 0.25)
    assert {expert.start_from for expert in MoE.of(setting, "PLE").experts} == {None}


def test_a_modular_model_without_a_router_is_the_routed_one_but_for_the_router(setting):
    recipe = built(RoutedMoE.of(setting, "JEET"))
    bare, routed, router = recipe.model.open().state_dict(), recipe.open().state_dict(), recipe.router.open()
    assert set(bare) == set(routed)
    for name, weight in routed.items():
        part = name.removeprefix("router.")
        assert torch.equal(weight, bare[name] if part == name else router.state_dict()[part]), name
    assert (bare["router.weight"] == 0).all()


def test_a_routed_model_keeps_its_tokenizers_hash_and_refuses_another_tokenizer(setting, tmp_path):
    model, tokenizer = built(RoutedMoE.of(setting, "JEET")).open(), Data.of(setting).open().tokenizer
    model.save_pretrained(tmp_path)
    for again in (model, load_moe(tmp_path)):
        assert again.config.tokenizer_sha256 == again.router.tokenizer_sha256 == hash_tokenizer(tokenizer)
        assert again.router.classify(["Der Mond ist kleiner als die Erde."], tokenizer).shape == (1, 4)
        with pytest.raises(ValueError, match="is not the one that this router was fitted with"):
            again.router.classify(["text"], train_tokenizer([], N_BYTE_TOKENS))


# What is read of a model.

def open_scored(setting, variant: str, common_expert: str = "off"):
    """Return a routed model, its data set and its rows' nats under every expert, built."""
    moe = RoutedMoE.of(setting, variant)
    scores = ExpertScores(moe.model, setting.scale.evaluation_rows, common_expert)
    build_here([moe, scores])
    return moe.open(), moe.data.open(), scores.open()


def own_scores(table) -> np.ndarray:
    return np.array([row[row["language"]] for row in table.to_dict("records")])


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_every_expert_scores_every_row_and_a_rows_own_expert_as_the_model_told_its_language(setting, variant):
    model, data, table = open_scored(setting, variant)
    assert list(table) == ["row", "language", "article_id", *LANGUAGES, "n_tokens", "n_bytes"]
    rows = data.dataset[SPLIT][table.row.to_numpy()]
    for column in ("language", "article_id"):
        assert list(table[column]) == list(rows[column])
    n = setting.scale.evaluation_rows
    assert table.row.tolist() == [row for name in LANGUAGES for row in data.row_numbers(SPLIT, name, n)]
    told = torch.from_numpy(data.language_index(SPLIT))

    def forward(model, batch):
        index = told[batch["row_numbers"]].to(model.device)
        return model(input_ids=batch["input_ids"], expert_index=index, common_expert="off").logits

    expected = score_model(model, forward, data, SPLIT, n)
    np.testing.assert_allclose(own_scores(table), expected.nats, rtol=1e-6)
    assert (table[["n_tokens", "n_bytes"]] == expected[["n_tokens", "n_bytes"]]).all(axis=None)
    assert np.ptp(table[LANGUAGES].to_numpy(), axis=1).min() > 1e-4  # every expert is another


def test_a_rows_own_score_is_that_of_the_model_told_its_language_and_every_use_of_a_common_expert_told(
        setting):
    told = built(Scores.of(setting, MoE.of(setting, "JEET"), "told")).open()
    np.testing.assert_allclose(own_scores(open_scored(setting, "JEET")[2]), told.nats, rtol=1e-6)
    moe = RoutedMoE.of(setting, "MoE-CE")
    scores = {use: Scores.of(setting, moe, use) for use in USES}
    build_here(scores)
    nats = {use: recipe.open().nats for use, recipe in scores.items()}
    apart = [abs(nats[one] - nats[other]).max() for one, other in (
        ("told", "common alone"), ("routed", "routed, common off"), ("routed", "common alone"))]
    assert min(apart) > 1e-3
    summary = scores["told"].summary(arm="MoE-CE")
    assert (summary.language.tolist(), set(summary.arm)) == (LANGUAGES, {"MoE-CE"})
    *_, own = open_scored(setting, "MoE-CE", "on")
    np.testing.assert_allclose(own_scores(own), nats["told"], rtol=1e-6)


@pytest.mark.parametrize("has_common_expert", [False, True])
def test_the_grid_of_switches_holds_every_row_of_the_papers(has_common_expert):
    uses = set(list_uses(LANGUAGES, has_common_expert, [8]).use)
    wanted = {"all routed", "all averaged", "mean of logits", "posterior mixture", "told the language",
              "random expert", "routed by 8 tokens", *(f"{name} alone" for name in LANGUAGES)}
    wanted |= {f"{name} + py {how}" for name in ("en", "fr", "de") for how in ("routed", "averaged")}
    if has_common_expert:
        wanted |= {f"{use} + common" for use in wanted} | {"common alone"}
    assert uses == wanted


def test_switches_scored_off_the_experts_own_scores_equal_the_model_with_these_switches(setting):
    recipe = built(Switches.of(setting, "MoE-CE", 0, [4]))
    model, data, table = recipe.model.open(), recipe.model.data.open(), recipe.open()
    asked = table[table.router == "whole"].drop_duplicates("use")
    assert len(asked) == 2 * 14 - 1 + 2
    for row in asked.itertuples():
        forward = use_forward(common_expert=row.common_expert, average_experts=row.average_experts or None,
                              allowed_experts=row.allowed.split(","))
        wanted = summarize(score_model(model, forward, data, SPLIT, recipe.rows_per_language)).nats_per_token
        found = table[table.use == row.use].nats_per_token
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=row.use)
    assert set(table.parameters) == {count_parameters(model)}


def test_all_switches_are_scored_with_one_pass_of_a_batch_through_each_body(setting):
    recipe = built(Switches.of(setting, "MoE-CE", 0, [4]))
    model, data = recipe.model.open(), recipe.model.data.open()
    bodies, passes = [*model.experts.values(), model.common_expert], []
    for body in bodies:
        body.register_forward_pre_hook(lambda body, inputs: passes.append(body))
    score_uses(model, data, SPLIT, 2, [4])
    assert [passes.count(body) for body in bodies] == [len(LANGUAGES)] * len(bodies)  # a batch a language


def test_a_random_expert_costs_the_mean_over_experts_and_a_prefix_of_all_routes_as_the_whole(setting):
    table = built(Switches.of(setting, "JEET", 0, [4, 32])).open()
    nats = table.pivot(index="language", columns="use", values="nats_per_token")
    alone = nats[[f"{name} alone" for name in LANGUAGES]].mean(axis=1)
    np.testing.assert_allclose(nats["random expert"], alone, rtol=1e-6)
    np.testing.assert_array_equal(nats["routed by 32 tokens"], nats["all routed"])
    np.testing.assert_allclose(nats["mean of logits"], nats["all averaged"], rtol=1e-5)  # the head is linear
    assert "mean of parameters" not in nats


def test_a_router_that_may_read_some_tokens_only_is_asked_with_those(setting, monkeypatch):
    (model, data, experts), asked = open_scored(setting, "JEET"), []
    route = model.route
    monkeypatch.setattr(model, "route", lambda ids, mask, allowed, prefix: asked.append((prefix, allowed))
                        or route(ids, mask, allowed, prefix))
    for router, allowed in (("whole", LANGUAGES), ("4", ["en", "py"])):
        choose_experts(model, data, SPLIT, experts, router, allowed)
    assert asked == [(None, LANGUAGES), (4, ["en", "py"])]
    told = choose_experts(model, data, SPLIT, experts, "told", LANGUAGES)
    assert told.tolist() == [LANGUAGES.index(name) for name in experts.language]


def test_the_mean_of_parameters_is_that_of_the_experts_as_they_were_trained_apart(setting):
    recipe = built(Switches.of(setting, "PLE", 0, [4]))
    experts = [expert.open() for expert in recipe.model.model.experts]
    merged = recipe.model.model.experts[0].open()
    with torch.no_grad():
        for name, weight in merged.named_parameters():
            apart = [expert.get_parameter(name) for expert in experts]
            weight.copy_(torch.stack(apart).mean(dim=0))
    scores = score_model(merged, dense_logits, recipe.model.data.open(), SPLIT, recipe.rows_per_language)
    table = recipe.open()
    found = table[table.use == "mean of parameters"]
    np.testing.assert_allclose(found.nats_per_token, summarize(scores).nats_per_token, rtol=1e-5)
    assert set(found.active_parameters) == {count_parameters(merged)}


def test_keeping_all_experts_is_the_routed_model_and_keeping_one_sends_everything_through_it(setting):
    model, data, experts = open_scored(setting, "JEET")
    kept = keep_experts(model, data, SPLIT, experts)
    assert kept.kept.nunique() == 15
    routed = built(Scores.of(setting, RoutedMoE.of(setting, "JEET"), "routed")).summary()
    np.testing.assert_allclose(kept[kept.n_kept == 4].nats_per_token, routed.nats_per_token, rtol=1e-6)
    for language in LANGUAGES:
        alone = kept[kept.kept == language].set_index("language")
        sums = experts.groupby("language")[[language, "n_tokens"]].sum().loc[LANGUAGES]
        np.testing.assert_allclose(alone.nats_per_token[LANGUAGES], sums[language] / sums.n_tokens, rtol=1e-6)
        assert alone.is_kept.to_dict() == {name: name == language for name in LANGUAGES}


# Experts that come and go.

def test_an_expert_taken_out_says_where_it_comes_from_and_fits_back(setting):
    recipe = built(Expert(MoE.of(setting, "JEET"), "de"))
    model, data = built(RoutedMoE.of(setting, "JEET")).open(), recipe.model.data
    body, header = read_expert(recipe.folder / "expert.safetensors", model)
    assert recipe.notes == {
        "language": "de", "parent": recipe.model.name, "data_sha256": data.notes["sha256"], "seed": 0,
        "tokenizer_sha256": hash_tokenizer(data.open().tokenizer), "parameters": count_parameters(body)}
    about = {"kind": "mome-expert", "shape": header["shape"], "embedding_sha256": hash_embedding(model)}
    assert recipe.notes | header == recipe.notes | about | {"sha256": hash_tensors(body.state_dict())}
    for found in (body, recipe.open()):
        for name, weight in model.experts["de"].state_dict().items():
            assert torch.equal(weight, found.state_dict()[name])


def test_an_added_language_is_cut_by_the_same_tokenizer_wherever_it_is_from(tiny_setting, spanish, tmp_path):
    shutil.copytree(repository() / "data/mini/it", tmp_path / "xx")
    added = {"es": spanish, "sql": find_added(tiny_setting, "sql", "mini"),
             "xx": find_added(tiny_setting, "xx", f"folder:{tmp_path}")}
    build_here(added)
    wanted = hash_tokenizer(Data.of(tiny_setting).open().tokenizer)
    for language, recipe in added.items():
        assert (recipe.languages, recipe.open().languages) == ((language,), [language])
        assert hash_tokenizer(recipe.open().tokenizer) == recipe.notes["token_sha256"] == wanted
        assert recipe.notes["rows"][SPLIT] >= 1


def test_a_language_that_ones_own_folder_lacks_comes_from_the_mini_corpus(tiny_setting, tmp_path):
    for language in LANGUAGES:
        shutil.copytree(repository() / "data/mini" / language, tmp_path / language)
    own = open_setting(tiny_setting.scale, f"folder:{tmp_path}", LANGUAGES)
    assert find_added(own, "es").corpus.source == "mini"
    with pytest.raises(ValueError, match=r"added_language='es' .*folder:.* lack it"):
        find_added(own, "es", f"folder:{tmp_path}")
    shutil.copytree(repository() / "data/mini/es", tmp_path / "es")
    assert find_added(own, "es").corpus.label == f"folder:{tmp_path}"


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_an_added_expert_learns_its_language_while_nothing_else_moves(setting, spanish, variant):
    recipe = built(Changes.of(setting, RoutedMoE.of(setting, variant), spanish, "fr")).enlarged
    model, enlarged = recipe.model.open(), recipe.open()
    before, after = model.state_dict(), enlarged.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items() if "router" not in name)
    assert enlarged.config.languages == [*LANGUAGES, "es"]
    assert recipe.open().router.languages == list(recipe.router.languages)
    nats = [score_model(enlarged, expert_forward(number), spanish.open(), "train", 64).nats.sum()
            for number in range(5)]
    assert np.argmin(nats) == 4
    notes = recipe.added.notes
    assert notes["started_as"] == LANGUAGES[int(np.argmin(nats[:4]))]
    assert notes["data_sha256"] == spanish.notes["sha256"] != recipe.data.notes["sha256"]


def test_an_added_expert_starts_as_the_one_that_predicts_its_language_best_and_learns_alone(setting, spanish):
    recipe = AddedExpert.of(setting, built(MoE.of(setting, "JEET")), built(spanish))
    model = recipe.make_model()
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning == {f"experts.es.{name}" for name, _ in model.experts["es"].named_parameters()}
    nearest = model.experts[recipe.nearest].state_dict()
    for name, weight in model.experts["es"].state_dict().items():
        assert torch.equal(weight, nearest[name])


def test_removing_an_expert_leaves_the_others_bit_identical_and_putting_it_back_restores_every_score(
        setting, spanish):
    table = built(Changes.of(setting, RoutedMoE.of(setting, "JEET"), spanish, "fr")).open()
    assert list(dict.fromkeys(table.stage)) == ["as trained", "added", "removed", "put back"]
    assert table.is_identical.all()
    nats = table.pivot(index="stage", columns="language", values="nats_per_token")
    assert nats.loc["put back"].tolist() == nats.loc["added"].tolist()
    assert nats["fr"]["removed"] != nats["fr"]["added"]
    shares = table.pivot(index="stage", columns="language", values="to_added")
    assert (shares.loc["as trained"] == 0).all()
    assert shares["es"]["added"] > 0.5


def test_a_score_that_moved_is_told(setting, spanish, monkeypatch):
    recipe = built(Changes.of(setting, RoutedMoE.of(setting, "JEET"), spanish, "fr"))
    model = recipe.model.open()
    with torch.no_grad():
        model.experts["de"].ln_f.bias += 1e-3
    monkeypatch.setattr(type(recipe.enlarged), "open", lambda _: model)
    scored = pd.concat(recipe.score_stage(model, "added", dict.fromkeys(LANGUAGES, np.zeros(8))))
    assert not scored.is_identical.any()


def test_nothing_that_was_built_is_a_pickle(setting):
    recipes = [RoutedMoE.of(setting, "PLE"), Expert(MoE.of(setting, "JEET"), "fr")]
    build_here(recipes)
    folders = [recipe.folder for recipe in list_ancestors(recipes)]
    endings = {path.suffix for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert endings <= {".safetensors", ".json", ".parquet", ".arrow", ".jinja", ".md", ".lock"}
