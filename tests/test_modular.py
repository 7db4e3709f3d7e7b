import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from mome import modular, recipes
from mome.artifacts import read_manifest
from mome.config import repository, resolve_scale
from mome.router import hash_tokenizer
from mome.tokenizer import N_BYTE_TOKENS, train_tokenizer

LANGUAGES = ["en", "fr", "de", "py"]


@pytest.mark.parametrize("variant", modular.MOE_VARIANTS)
def test_every_variant_sees_the_same_tokens_as_the_dense_student(tiny_bench, variant):
    dense = read_manifest(recipes.train_student(tiny_bench, LANGUAGES, seed=0))["notes"]["tokens"]
    notes = read_manifest(modular.train_moe(tiny_bench, variant, seed=0))["notes"]
    assert notes["tokens"] == pytest.approx(dense, rel=0.12)  # whole steps only, and steps are few here
    assert notes["active_parameters"] < notes["parameters"]


def test_frozen_experts_of_ple_are_bit_identical_to_the_experts_trained_apart(tiny_bench):
    moe = modular.load_moe(modular.train_moe(tiny_bench, "PLE", seed=0))
    for language in LANGUAGES:
        expert = recipes.load_gpt2(modular.train_expert(tiny_bench, language, 0, "teacher_ce", 0.5)).transformer.state_dict()
        for name, weight in moe.experts[language].state_dict().items():
            assert torch.equal(weight, expert[name]), name


def test_scores_tell_every_way_of_using_the_common_expert(tiny_bench):
    table = recipes.read_scores(modular.train_moe(tiny_bench, "MoE-CE", seed=0), seed=0)
    assert set(table.use) == {"told", "routed", "routed, common off", "common alone"}
    assert table.groupby("use").language.nunique().eq(4).all()
    values = table.pivot(index="language", columns="use", values="nats_per_token")
    assert (values["told"] - values["common alone"]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_every_expert_scores_every_row_and_a_rows_own_expert_as_the_model_told_its_language(tiny_bench, variant):
    table, data = modular.score_experts(tiny_bench, variant, seed=0), tiny_bench.data
    assert list(table) == ["row", "language", "article_id", "n_tokens", "n_bytes", *LANGUAGES]
    validation = data.dataset["validation"][table.row.to_numpy()]
    assert (list(table.language), list(table.article_id)) == (list(validation["language"]), list(validation["article_id"]))
    assert table.row.tolist() == [number for language in LANGUAGES for number in data.row_numbers("validation", language, tiny_bench.scale.evaluation_rows)]
    own = np.array([row[row["language"]] for row in table.to_dict("records")])
    model = modular.load_moe(modular.train_moe(tiny_bench, variant, seed=0)).to(tiny_bench.device)

    def told(model, batch):
        expert_index = torch.from_numpy(data.language_index("validation")[batch["row_numbers"]]).to(tiny_bench.device)
        return model(input_ids=batch["input_ids"], expert_index=expert_index, common_expert="off").logits

    expected = recipes.score(tiny_bench, told, model)
    np.testing.assert_allclose(own, expected.nats, rtol=1e-6)
    assert (table[["n_tokens", "n_bytes"]] == expected[["n_tokens", "n_bytes"]]).all(axis=None)
    assert np.ptp(table[LANGUAGES].to_numpy(), axis=1).min() > 1e-4  # every expert is another


def test_without_a_common_expert_a_rows_own_score_is_the_saved_one_of_the_told_model(tiny_bench):
    table = modular.score_experts(tiny_bench, "JEET", seed=0)
    saved = pd.read_parquet(modular.train_moe(tiny_bench, "JEET", seed=0) / "scores.parquet").query("use == 'told'")
    np.testing.assert_allclose([row[row["language"]] for row in table.to_dict("records")], saved.nats, rtol=1e-6)


def test_experts_scores_are_found_again(tiny_bench, monkeypatch):
    first = modular.score_experts(tiny_bench, "JEET", seed=0)
    monkeypatch.setattr(modular, "load_moe", lambda _: pytest.fail("the experts were scored again"))
    pd.testing.assert_frame_equal(modular.score_experts(tiny_bench, "JEET", seed=0), first)


def test_a_modular_model_keeps_its_tokenizers_hash_and_refuses_another_tokenizer(tiny_bench, tmp_path):
    model = modular.load_moe(modular.train_moe(tiny_bench, "JEET", seed=0))
    model.save_pretrained(tmp_path)
    for again in (model, modular.load_moe(tmp_path)):
        assert again.config.tokenizer_sha256 == again.router.tokenizer_sha256 == hash_tokenizer(tiny_bench.data.tokenizer)
        assert again.router.classify(["Der Mond ist kleiner als die Erde."], tiny_bench.data.tokenizer).shape == (1, 4)
        with pytest.raises(ValueError, match="is not the one that this router was fitted with"):
            again.router.classify(["text"], train_tokenizer([], N_BYTE_TOKENS))


def test_no_artefact_holds_a_pickle(tiny_bench):
    modular.train_moe(tiny_bench, "JEET", seed=0)
    modular.cut_expert(tiny_bench, "JEET", "fr", seed=0)
    endings = {path.suffix for path in tiny_bench.data_path.parent.rglob("*") if path.is_file()}
    assert endings <= {".safetensors", ".json", ".parquet", ".arrow", ".lock", ".jinja", ".md"}


def test_branched_experts_part_from_one_ancestor_of_all_languages(tiny_bench):
    model = read_manifest(modular.train_moe(tiny_bench, "PLE branched", seed=0))
    ancestor = modular.train_ancestor(tiny_bench, 0, "teacher_ce", 0.5)
    assert read_manifest(ancestor)["config"]["languages"] == LANGUAGES
    for language in LANGUAGES:
        expert = modular.train_expert(tiny_bench, language, 0, is_branched=True)
        assert (model["parents"][f"expert_{language}"], read_manifest(expert)["parents"]["start_from"]) == (expert.name, ancestor.name)


def test_the_dense_controls_have_the_active_and_the_total_size_of_the_modular_model(tiny_bench):
    active, total, deep = (read_manifest(modular.train_dense(tiny_bench, size, seed=0)) for size in modular.DENSE_SIZES)
    routed = read_manifest(modular.train_moe(tiny_bench, "JEET", seed=0))["notes"]
    router_weights = 600 * 4 + 4
    assert active["notes"]["parameters"] == routed["active_parameters"] - router_weights
    # Each body has a position table and a final norm of its own, the deep student one of both.
    assert deep["notes"]["parameters"] == routed["parameters"] - router_weights - 3 * (32 * 16 + 2 * 16)
    assert total["notes"]["parameters"] == pytest.approx(routed["parameters"] - router_weights, rel=0.1)
    assert active["notes"]["tokens"] == total["notes"]["tokens"] == deep["notes"]["tokens"] == routed["tokens"]


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_a_wider_student_of_the_same_total_size_is_found_at_every_scale(name):
    scale = resolve_scale(name)
    shape = modular.shape_dense(scale, "same total", 4)
    untied = 0 if scale.tie_word_embeddings else scale.vocab_size * (scale.expert.n_embd + 1)
    body = modular.models.size_gpt2(scale.expert, 0, scale.context)
    total = scale.vocab_size * scale.expert.n_embd + untied + 4 * body
    assert modular.models.size_gpt2(shape, scale.vocab_size, scale.context) == pytest.approx(total, rel=0.02)
    assert (shape.n_layer, shape.n_embd % (2 * shape.n_head)) == (scale.expert.n_layer, 0)


@pytest.mark.parametrize("has_common_expert", [False, True])
def test_the_grid_of_switches_holds_every_row_of_the_papers(has_common_expert):
    uses = set(modular.list_uses(LANGUAGES, has_common_expert, [8]).use)
    wanted = {"all routed", "all averaged", "mean of logits", "posterior mixture", "told the language", "random expert", "routed by 8 tokens"}
    wanted |= {f"{name} alone" for name in LANGUAGES} | {f"{name} + py {how}" for name in ("en", "fr", "de") for how in ("routed", "averaged")}
    if has_common_expert:
        wanted |= {f"{use} + common" for use in wanted} | {"common alone"}
    assert uses == wanted


def test_switches_scored_off_the_experts_own_scores_equal_the_model_with_these_switches(tiny_bench):
    table = modular.score_switches(tiny_bench, "MoE-CE", seed=0, prefixes=[4])
    model = modular.load_moe(modular.train_moe(tiny_bench, "MoE-CE", seed=0)).to(tiny_bench.device)
    checked = 0
    for use, part in table.groupby("use"):
        if part.router.iloc[0] != "whole":
            continue
        row = part.iloc[0]
        forward = modular.use_forward(common_expert=row.common_expert, average_experts=row.average_experts or None, allowed_experts=row.allowed.split(","))
        expected = recipes.evaluate.summarize(recipes.score(tiny_bench, forward, model, 8)).set_index("language").nats_per_token
        np.testing.assert_allclose(part.set_index("language").nats_per_token[expected.index], expected, rtol=1e-5, err_msg=use)
        checked += 1
    assert checked == 2 * 14 - 1 + 2


def test_a_random_expert_costs_the_mean_over_experts_and_a_prefix_of_all_tokens_routes_as_the_whole(tiny_bench):
    scores = modular.score_switches(tiny_bench, "JEET", seed=0, prefixes=[4, tiny_bench.scale.context])
    table = scores.pivot(index="language", columns="use", values="nats_per_token")
    np.testing.assert_allclose(table["random expert"], table[[f"{name} alone" for name in LANGUAGES]].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(table["routed by 32 tokens"], table["all routed"])
    np.testing.assert_allclose(table["mean of logits"], table["all averaged"], rtol=1e-5)  # the head is linear
    assert "mean of parameters" not in table


def test_a_router_that_may_read_some_tokens_only_is_asked_with_those(tiny_bench):
    experts, model, asked = modular.score_experts(tiny_bench, "JEET", 0), modular.load_moe(modular.train_moe(tiny_bench, "JEET", seed=0)), []
    route = model.route
    model.route = lambda ids, mask, allowed, prefix: asked.append((prefix, allowed)) or route(ids, mask, allowed, prefix)
    modular.choose_experts(tiny_bench, model, experts, "whole", LANGUAGES)
    modular.choose_experts(tiny_bench, model, experts, "4", ["en", "py"])
    assert asked == [(None, LANGUAGES), (4, ["en", "py"])]
    assert modular.choose_experts(tiny_bench, model, experts, "told", LANGUAGES).tolist() == [LANGUAGES.index(name) for name in experts.language]


def test_the_mean_of_parameters_is_that_of_the_experts_as_they_were_trained_apart(tiny_bench):
    table = modular.score_switches(tiny_bench, "PLE", seed=0, prefixes=[4])
    experts = [recipes.load_gpt2(modular.train_expert(tiny_bench, language, 0)) for language in LANGUAGES]
    merged = recipes.load_gpt2(modular.train_expert(tiny_bench, "en", 0))
    with torch.no_grad():
        for name, weight in merged.named_parameters():
            weight.copy_(torch.stack([dict(expert.named_parameters())[name] for expert in experts]).mean(dim=0))
    expected = recipes.evaluate.summarize(recipes.score(tiny_bench, recipes.dense_logits, merged, 8)).nats_per_token
    np.testing.assert_allclose(table[table.use == "mean of parameters"].nats_per_token, expected, rtol=1e-5)


def test_keeping_all_experts_is_the_routed_model_and_keeping_one_sends_everything_through_it(tiny_bench):
    kept, experts = modular.keep_experts(tiny_bench, "JEET", 0), modular.score_experts(tiny_bench, "JEET", 0)
    assert kept.kept.nunique() == 15
    routed = recipes.read_scores(modular.train_moe(tiny_bench, "JEET", seed=0)).query("use == 'routed'")
    np.testing.assert_allclose(kept[kept.n_kept == 4].nats_per_token, routed.nats_per_token, rtol=1e-6)
    for language in LANGUAGES:
        alone = kept[kept.kept == language].set_index("language")
        sums = experts.groupby("language")[[language, "n_tokens"]].sum()
        np.testing.assert_allclose(alone.nats_per_token[LANGUAGES], (sums[language] / sums.n_tokens)[LANGUAGES], rtol=1e-6)
        assert alone.is_kept.to_dict() == {name: name == language for name in LANGUAGES}


def test_an_expert_taken_out_is_an_artefact_that_says_where_it_comes_from_and_fits_back(tiny_bench):
    path, model_path = modular.cut_expert(tiny_bench, "JEET", "de", seed=0), modular.train_moe(tiny_bench, "JEET", seed=0)
    model = modular.load_moe(model_path)
    body, header = modular.moe.load_expert(path / "expert.safetensors", model)
    notes = read_manifest(path)["notes"]
    assert notes | header == notes | {"kind": "mome-expert", "shape": header["shape"]}
    assert notes == {"language": "de", "parent": model_path.name, "tokenizer_sha256": hash_tokenizer(tiny_bench.data.tokenizer),
                     "data_sha256": read_manifest(tiny_bench.data_path)["notes"]["sha256"], "seed": 0, "parameters": sum(p.numel() for p in body.parameters())}
    assert all(torch.equal(weight, body.state_dict()[name]) for name, weight in model.experts["de"].state_dict().items())


@pytest.fixture(scope="module")
def spanish(tiny_bench):
    return modular.open_added(tiny_bench, "es")


def test_an_added_language_is_cut_by_the_same_tokenizer(tiny_bench, spanish):
    assert (spanish.corpus, spanish.languages, spanish.data.languages) == ("mini", ("es",), ["es"])
    assert hash_tokenizer(spanish.data.tokenizer) == hash_tokenizer(tiny_bench.data.tokenizer)
    assert len(spanish.data.rows("validation")) >= 8


def test_a_language_can_be_added_from_the_mini_corpus_by_name_or_from_a_folder_of_ones_own(tiny_bench, tmp_path):
    assert modular.open_added(tiny_bench, "sql", "mini").data.languages == ["sql"]
    shutil.copytree(repository() / "data" / "mini" / "it", tmp_path / "xx")
    added = modular.open_added(tiny_bench, "xx", f"folder:{tmp_path}")
    assert added.data.languages == ["xx"]
    assert hash_tokenizer(added.data.tokenizer) == hash_tokenizer(tiny_bench.data.tokenizer)


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_an_added_expert_learns_its_language_while_nothing_else_moves(tiny_bench, spanish, variant):
    model, enlarged = modular.load_moe(modular.train_moe(tiny_bench, variant, seed=0)), modular.load_enlarged(tiny_bench, spanish, variant, seed=0)
    before, after = model.state_dict(), enlarged.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items() if not name.startswith("router."))
    notes = read_manifest(modular.train_added_expert(tiny_bench, spanish, variant, seed=0))["notes"]
    started = before[f"experts.{notes['started_as']}.h.0.mlp.c_fc.weight"]
    assert not torch.equal(after["experts.es.h.0.mlp.c_fc.weight"], started)
    scores = {number: recipes.score(spanish, modular.expert_forward(number), enlarged).nats.sum() for number in range(5)}
    assert min(scores, key=scores.get) == 4


def test_only_the_added_expert_is_trained(tiny_bench, spanish, monkeypatch):
    trained, train = [], modular.train.train

    def watch(model, *arguments, **options):
        trained.append({name.split(".")[0] + "." + name.split(".")[1] for name, weight in model.named_parameters() if weight.requires_grad})
        return train(model, *arguments, **options)

    modular.train_moe(tiny_bench, "JEET", seed=1)
    monkeypatch.setattr(modular.train, "train", watch)
    modular.train_added_expert(tiny_bench, spanish, "JEET", seed=1)
    assert trained == [{"experts.es"}]


def test_removing_an_expert_leaves_the_others_bit_identical_and_putting_it_back_restores_every_score(tiny_bench, spanish):
    table = modular.score_changes(tiny_bench, spanish, "JEET", seed=0, removed="fr")
    assert list(dict.fromkeys(table.stage)) == ["as trained", "added", "removed", "put back"]
    assert table.is_identical.all()
    nats = table.pivot(index="stage", columns="language", values="nats_per_token")
    assert nats.loc["put back"].tolist() == nats.loc["added"].tolist()
    assert nats["fr"]["removed"] != nats["fr"]["added"]
    shares = table.pivot(index="stage", columns="language", values="to_added")
    assert (shares.loc["as trained"] == 0).all()
    assert shares["es"]["added"] > 0.5


def test_what_is_there_is_found_in_its_place_without_starting_a_process(tiny_bench, monkeypatch):
    builds = [partial(recipes.train_student, languages=[language], seed=9) for language in ("de", "py", "en")]
    middle = builds[1](tiny_bench)
    whole = recipes.build_all(tiny_bench, builds, jobs=2)
    assert whole[1] == middle
    monkeypatch.setattr(recipes, "ProcessPoolExecutor", None)
    assert recipes.build_all(tiny_bench, builds, jobs=2) == whole
    assert whole == [build(tiny_bench) for build in builds]


def test_models_built_in_two_processes_equal_those_built_here_bit_for_bit(tiny_bench):
    builds = [partial(recipes.train_student, languages=[language], seed=7) for language in ("en", "fr")]
    apart = recipes.build_all(tiny_bench, builds, jobs=2)
    weights = [recipes.load_gpt2(path).state_dict() for path in apart]
    for path in apart:
        shutil.rmtree(path)
    here = recipes.build_all(tiny_bench, builds)
    assert here == apart
    for path, before in zip(here, weights, strict=True):
        assert all(torch.equal(weight, before[name]) for name, weight in recipes.load_gpt2(path).state_dict().items())


def test_a_recipe_that_fails_in_a_process_of_its_own_raises_its_own_error(tiny_bench):
    with pytest.raises(ValueError, match="languages='es' is unknown"):
        recipes.build_all(tiny_bench, [partial(recipes.train_student, languages=[language], seed=0) for language in ("es", "en")], jobs=2)


def test_routed_models_are_timed_beside_dense_ones_and_every_switch_has_a_speed(tiny_bench):
    price = modular.price_moe(tiny_bench, rounds=1)
    assert price[price.what == "training step"].way.tolist() == ["dense, same active", "JEET", "MoE-CE", "dense, same total"]
    assert (price[price.way == "dense, same active"]["median"] == 1).all()
    assert set(price.what) == {"training step", "gradient", "scoring", "writing", "use"}
    for variant in ("PLE", "MoE-CE"):
        table = modular.add_speed(modular.score_switches(tiny_bench, variant, seed=0, prefixes=[4]), price)
        assert len(table) == len(modular.score_switches(tiny_bench, variant, seed=0, prefixes=[4]))
        assert (table.tokens_per_second > 0).all()


@pytest.mark.parametrize(("call", "words"), [
    (lambda bench: modular.train_moe(bench, "MOE", seed=0), ["MOE", "JEET"]),
    (lambda bench: modular.train_dense(bench, "same", seed=0), ["same total"]),
    (lambda bench: modular.train_moe(bench, "JEET", seed=0, kd_loss="jsd"), ["jsd", "teacher_ce"]),
    (lambda bench: modular.cut_expert(bench, "JEET", "es", seed=0), ["language='es'"]),
    (lambda bench: modular.open_added(bench, "fr"), ["added_language='fr'", "already"]),
    (lambda bench: modular.open_added(bench, "xx"), ["added_language='xx'", "mini has no 'xx'"]),
    (lambda bench: recipes.build_all(bench, [], jobs=0), ["jobs=0"])])
def test_bad_input_is_refused_before_anything_is_built(tiny_bench, call, words, assert_refused):
    assert_refused(tiny_bench, call, words)
