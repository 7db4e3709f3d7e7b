import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config, pipeline

from mome import moe
from mome.config import Shape
from mome.models import build_body, build_gpt2, count_parameters, gpt2_config
from mome.router import Router
from mome.tokenizer import N_BYTE_TOKENS, train_tokenizer

LANGUAGES = ["en", "fr", "de", "py"]
CONFIG = gpt2_config(Shape(1, 2, 16), 60, 24)
IDS = torch.randint(3, 60, (6, 10), generator=torch.Generator().manual_seed(0))
EXPERTS = torch.tensor([3, 0, 2, 2, 1, 0])


def build(has_common_expert=False, tie=True, distinct=True):
    model = moe.build_moe(LANGUAGES, CONFIG, has_common_expert=has_common_expert, tie_word_embeddings=tie, seed=0).eval()
    if distinct:
        torch.manual_seed(1)
        with torch.no_grad():
            for body in [*model.experts.values(), *([model.common_expert] if has_common_expert else [])]:
                for parameter in body.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            model.router.weight.normal_()
            model.router.weight[:3] = 0
    return model


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("experts", [EXPERTS, torch.tensor([3, 0, 2, 0, 2, 3]), torch.tensor([1] * 6)], ids=["uneven", "equally many of each", "all of one"])
def test_a_mixed_batch_equals_its_rows_one_by_one_in_any_order(common, experts):
    model, order = build(common), torch.tensor([5, 2, 0, 1, 4, 3])
    with torch.no_grad():
        alone = torch.cat([model(IDS[i:i + 1], expert_index=experts[i:i + 1]).logits for i in range(6)])
        assert_close(model(IDS, expert_index=experts).logits, alone, atol=1e-5, rtol=1e-5)
        assert_close(model(IDS[order], expert_index=experts[order]).logits, alone[order], atol=1e-5, rtol=1e-5)


def test_experts_that_see_no_row_get_no_gradient_and_those_that_do_get_one():
    model = build()
    model(IDS[:2], expert_index=torch.tensor([0, 2])).logits.sum().backward()
    touched = {name: any(p.grad is not None and p.grad.abs().sum() > 0 for p in body.parameters()) for name, body in model.experts.items()}
    assert touched == {"en": True, "fr": False, "de": True, "py": False}


def test_identical_experts_equal_one_whatever_the_routing():
    model = build(distinct=False)
    with torch.no_grad():
        assert_close(model(IDS, expert_index=EXPERTS).logits, model(IDS, expert_index=torch.zeros(6, dtype=torch.long)).logits, atol=1e-6, rtol=1e-5)


def test_common_expert_on_off_and_alone_equal_their_hand_composed_results():
    model = build(has_common_expert=True)
    with torch.no_grad():
        embedded = model.embedding(IDS)
        routed = torch.cat([model.experts[LANGUAGES[e]](inputs_embeds=embedded[i:i + 1]).last_hidden_state for i, e in enumerate(EXPERTS)])
        common = model.common_expert(inputs_embeds=embedded).last_hidden_state
        for use, hidden in {"on": (routed + common) / 2, "off": routed, "alone": common}.items():
            assert_close(model(IDS, expert_index=EXPERTS, common_expert=use).logits, hidden @ model.embedding.weight.T, atol=1e-5, rtol=1e-5)


def test_averaging_two_allowed_experts_is_the_mean_of_their_hidden_states():
    model = build()
    with torch.no_grad():
        parts = [model(IDS, expert_index=torch.full((6,), LANGUAGES.index(name))).logits for name in ("fr", "py")]
        assert_close(model(IDS, allowed_experts=["fr", "py"], average_experts="hidden").logits, sum(parts) / 2, atol=1e-5, rtol=1e-5)


def test_the_router_chooses_per_row_among_the_allowed_experts():
    model = build()
    probs = model.router(IDS)
    assert model.route(IDS).tolist() == probs.argmax(-1).tolist()
    assert len(set(model.route(IDS).tolist())) > 1
    restricted = model.route(IDS, allowed=["fr", "py"])
    assert restricted.tolist() == [1 if row[1] > row[3] else 3 for row in probs]


def test_left_padding_changes_neither_routing_nor_logits():
    model, pad = build(), torch.zeros(6, 4, dtype=torch.long)
    mask = torch.cat([pad, torch.ones_like(IDS)], dim=1)
    with torch.no_grad():
        padded = model(torch.cat([pad, IDS], dim=1), attention_mask=mask)
        assert_close(padded.logits[:, 4:], model(IDS).logits, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_cross_entropy_of_shifted_labels():
    model, labels = build(), torch.cat([IDS[:, 1:], torch.full((6, 1), -100)], dim=1)
    with torch.no_grad():
        result = model(IDS, expert_index=EXPERTS, labels=labels)
        expected = torch.nn.functional.cross_entropy(result.logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    assert_close(result.loss, expected)


@pytest.mark.parametrize(("common", "tie"), [(False, True), (True, True), (True, False)])
def test_saved_and_loaded_gives_identical_logits_and_routes(tmp_path, common, tie):
    model = build(common, tie)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is moe.MoMEForCausalLM
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    assert torch.equal(loaded.route(IDS), model.route(IDS))
    assert (loaded.lm_head.weight is loaded.embedding.weight) == tie
    assert not list(tmp_path.glob("*.bin"))


def test_generation_routes_on_the_prompt_and_equals_greedy_decoding_by_hand():
    model, grown = build(), IDS.clone()
    expert_index = model.route(IDS)
    for _ in range(5):
        with torch.no_grad():
            grown = torch.cat([grown, model(grown, expert_index=expert_index).logits[:, -1:].argmax(-1)], dim=1)
    produced = model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert torch.equal(produced, grown)


@pytest.mark.parametrize("options", [{}, {"common_expert": "off"}, {"common_expert": "alone"}, {"average_experts": "hidden"}, {"average_experts": "logits"},
                                     {"allowed_experts": ["fr", "py"]}])
@pytest.mark.parametrize("strategy", [{"do_sample": False}, {"num_beams": 3}])
def test_generation_with_a_cache_equals_generation_without(options, strategy):
    model, plain = build(has_common_expert=True), {"max_new_tokens": 6, "eos_token_id": None, **options, **strategy}
    assert torch.equal(model.generate(IDS, **plain), model.generate(IDS, use_cache=False, **plain))


def test_logits_in_pieces_through_the_cache_equal_those_of_the_whole():
    model = build(has_common_expert=True)
    with torch.no_grad():
        whole, pieces, cache = model(IDS, expert_index=EXPERTS).logits, [], None
        for at, to in ((0, 4), (4, 5), (5, 10)):
            result = model(IDS[:, at:to], expert_index=EXPERTS, past_key_values=cache, use_cache=True)
            pieces, cache = [*pieces, result.logits], result.past_key_values
    assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_generated_batch_of_mixed_languages_and_lengths_equals_its_rows_one_by_one(use_cache):
    model, lengths = build(has_common_expert=True), [10, 3, 7, 1, 9, 5]
    mask = torch.arange(10) >= 10 - torch.tensor(lengths)[:, None]
    padded = torch.where(mask, IDS, 0)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    together = model.generate(padded, attention_mask=mask.long(), use_cache=use_cache, **options)
    assert len(set(model.route(padded, mask.long()).tolist())) > 1
    for row, length in enumerate(lengths):
        alone = model.generate(padded[row:row + 1, 10 - length:], **options)
        assert torch.equal(together[row:row + 1, 10 - length:], alone)


def test_sampling_follows_its_seed_and_several_returned_sequences_keep_their_prompts_expert():
    model, draws = build(), []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(model.generate(IDS, max_new_tokens=6, do_sample=True, num_return_sequences=2))
    assert torch.equal(*draws)
    assert draws[0].shape[0] == 12
    assert torch.equal(draws[0][:, :10], IDS.repeat_interleave(2, dim=0))


def test_averaged_logits_are_the_mean_of_the_experts_and_a_posterior_weighs_them_by_what_they_predicted():
    model = build()
    with torch.no_grad():
        logits = torch.stack([model(IDS, expert_index=torch.full((6,), number)).logits for number in range(4)])
        assert_close(model(IDS, average_experts="logits").logits, logits.mean(dim=0), atol=1e-5, rtol=1e-5)
        found = model(IDS, average_experts="posterior").logits.exp()
    probs = logits.softmax(dim=-1)
    for row in range(6):
        weights = torch.full((4,), 0.25)
        for position in range(10):
            if position:
                weights = weights * probs[:, row, position - 1, IDS[row, position]]
                weights = weights / weights.sum()
            assert_close(found[row, position], (weights[:, None] * probs[:, row, position]).sum(dim=0), atol=1e-5, rtol=1e-4)


def test_a_posterior_over_identical_experts_is_any_one_of_them():
    model = build(distinct=False)
    with torch.no_grad():
        expected = model(IDS, expert_index=EXPERTS).logits.log_softmax(dim=-1)
        assert_close(model(IDS, average_experts="posterior").logits, expected, atol=1e-5, rtol=1e-5)


def test_the_text_generation_pipeline_of_transformers_takes_prompts_of_several_lengths():
    tokenizer = train_tokenizer([], N_BYTE_TOKENS)
    tokenizer.padding_side = "left"
    model = moe.build_moe(["en", "fr"], gpt2_config(Shape(1, 2, 16), len(tokenizer), 24), has_common_expert=False, tie_word_embeddings=True, seed=0).eval()
    writer = pipeline("text-generation", model=model, tokenizer=tokenizer)
    texts = [found[0]["generated_text"] for found in writer(["one", "a longer one"], batch_size=2, max_new_tokens=3, do_sample=False)]
    assert [text.startswith(prompt) for text, prompt in zip(texts, ["one", "a longer one"], strict=True)] == [True, True]
    assert texts[1] == writer("a longer one", max_new_tokens=3, do_sample=False)[0]["generated_text"]


def test_a_saved_model_states_its_languages_and_sizes_on_a_card(tmp_path):
    model = build(has_common_expert=True)
    model.save_pretrained(tmp_path)
    card, body = (tmp_path / "README.md").read_text(), count_parameters(model.common_expert)
    assert "4 GPT-2 bodies and a common expert" in card
    assert f"{count_parameters(model):,}; {model.active_parameters():,} of them active" in card
    assert model.active_parameters() == count_parameters(model) - 3 * body
    assert "{" not in card


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for is_on in (False, True):
        model = build(has_common_expert=True).train()
        if is_on:
            model.activation_checkpointing_enable()
        model(IDS, expert_index=EXPERTS).logits.square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    assert_close(*gradients)


def test_the_router_is_not_asked_about_half_a_sequence():
    model = build()
    cache = model(IDS[:, :5], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="expert_index"):
        model(IDS[:, 5:], past_key_values=cache)


@pytest.mark.parametrize(("ids", "mask", "words"), [
    (torch.zeros(1, 0, dtype=torch.long), None, "empty prompt"),
    (IDS[:2], torch.tensor([[1] * 10, [0] * 10]), "empty prompt"),
    (IDS[:2], torch.tensor([[1] * 10, [1] * 6 + [0] * 4]), "on the left")])
def test_an_empty_prompt_and_right_padding_are_refused(ids, mask, words):
    with pytest.raises(ValueError, match=words):
        build().generate(ids, attention_mask=mask, max_new_tokens=2)


def test_an_assembled_model_equals_its_expert_on_tokens_only_that_expert_knows():
    experts = {name: build_gpt2(Shape(1, 2, 16), 60, 24, seed=seed) for seed, name in enumerate(LANGUAGES)}
    counts = torch.zeros(4, 60)
    counts[0] = 1e9  # all tokens are English
    model = moe.assemble_experts(experts, counts, tie_word_embeddings=True).eval()
    with torch.no_grad():
        assert_close(model(IDS, expert_index=torch.zeros(6, dtype=torch.long)).logits, experts["en"].eval()(input_ids=IDS).logits, atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in model.experts.parameters())
    assert model.embedding.weight.requires_grad


def test_a_token_of_two_languages_gets_the_mean_of_their_rows_weighted_by_use():
    experts = {name: build_gpt2(Shape(1, 2, 16), 60, 24, seed=seed) for seed, name in enumerate(["en", "fr"])}
    counts = torch.zeros(2, 60)
    counts[0, 7], counts[1, 7] = 3e6, 1e6
    model = moe.assemble_experts(experts, counts, tie_word_embeddings=True)
    expected = 0.75 * experts["en"].transformer.wte.weight[7] + 0.25 * experts["fr"].transformer.wte.weight[7]
    assert_close(model.embedding.weight[7], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("options", "words"), [
    ({"allowed_experts": ["es"]}, ["es", "en, fr, de, py"]), ({"allowed_experts": []}, ["no expert"]),
    ({"average_experts": "votes"}, ["votes", "posterior"]), ({"common_expert": "on"}, ["on", "off"]), ({"common_expert": "sometimes"}, ["sometimes"])])
def test_bad_switches_are_refused_by_name(options, words):
    with pytest.raises(ValueError) as error:
        build()(IDS, **options)
    assert all(word in str(error.value) for word in words)


def five_languages(model):
    """Return a router of the model's languages and Spanish, which wins where token 7 is read."""
    router = Router(60, [*LANGUAGES, "es"], model.config.tokenizer_sha256)
    router.weight[:, :4] = model.router.weight
    router.weight[7, 4] = 100.0
    return router


def test_an_added_expert_changes_no_logit_of_the_others_and_answers_for_its_own_rows(tmp_path):
    model, body = build(has_common_expert=True), build_body(CONFIG)
    before = {name: {key: value.clone() for key, value in expert.state_dict().items()} for name, expert in model.experts.items()}
    told = model(IDS, expert_index=EXPERTS).logits
    model.add_expert("es", body, five_languages(model))
    assert all(torch.equal(value, before[name][key]) for name in LANGUAGES for key, value in model.experts[name].state_dict().items())
    assert torch.equal(model(IDS, expert_index=EXPERTS).logits, told)
    rows = IDS.clone()
    rows[:3, 2] = 7
    assert (model.route(rows)[:3] == 4).all()
    own, common = (part(inputs_embeds=model.embedding(rows[:3])).last_hidden_state for part in (body, model.common_expert))
    assert_close(model(rows).logits[:3], (own + common) / 2 @ model.embedding.weight.T, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(rows).logits, model(rows).logits)


def test_a_removed_expert_leaves_the_others_as_they_were_and_the_router_chooses_among_them():
    model = build()
    probs, told = model.router(IDS), model(IDS, expert_index=torch.full((6,), 3)).logits
    model.remove_expert("fr")
    assert model.config.languages == list(model.experts) == model.router.languages == ["en", "de", "py"]
    assert torch.equal(model(IDS, expert_index=torch.full((6,), 2)).logits, told)
    kept = probs[:, [0, 2, 3]]
    assert_close(model.router(IDS), kept / kept.sum(dim=1, keepdim=True), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="'fr'"):
        model(IDS, allowed_experts=["fr"])


def test_an_expert_added_and_removed_leaves_the_model_as_it_was():
    model = build()
    before, routes = model(IDS).logits, model.router(IDS)
    model.add_expert("es", build_body(CONFIG), five_languages(model))
    model.remove_expert("es")
    assert torch.equal(model(IDS).logits, before)
    assert_close(model.router(IDS), routes)


def test_merged_experts_are_the_mean_of_their_weights_and_identical_ones_merge_into_themselves():
    model = build()
    first, second = list(model.experts.values())[:2]
    merged = moe.merge_experts([first, second]).state_dict()
    for name, weight in first.state_dict().items():
        assert_close(merged[name], (weight + second.state_dict()[name]) / 2)
    again = moe.merge_experts([first, first]).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in first.state_dict().items())


def test_a_saved_expert_comes_back_bit_for_bit_with_what_is_known_of_it(tmp_path):
    model = build()
    moe.save_expert(model.experts["de"], tmp_path / "de.safetensors", language="de", tokenizer_sha256=model.config.tokenizer_sha256, seed=3, data="abc")
    body, header = moe.load_expert(tmp_path / "de.safetensors", model)
    assert all(torch.equal(value, model.experts["de"].state_dict()[name]) for name, value in body.state_dict().items())
    assert (header["language"], header["seed"], header["data"]) == ("de", 3, "abc")


@pytest.mark.parametrize(("damage", "words"), [
    (lambda path: path.write_bytes(path.read_bytes()[:200]), "not an expert"), (lambda path: path.write_text("no expert"), "not an expert"),
    (lambda path: save_file({"a": torch.zeros(1)}, path), "not an expert"),
    (lambda path: moe.save_expert(build_body(CONFIG), path, language="de", tokenizer_sha256="f" * 64), "ffffffffffff"),
    (lambda path: moe.save_expert(build_body(gpt2_config(Shape(1, 2, 32), 60, 24)), path, language="de", tokenizer_sha256=""), "32")],
    ids=["cut short", "text", "other tensors", "another tokenizer", "another width"])
def test_a_file_that_is_no_expert_for_the_model_is_refused_by_name(tmp_path, damage, words):
    path, model = tmp_path / "de.safetensors", build()
    moe.save_expert(model.experts["de"], path, language="de", tokenizer_sha256=model.config.tokenizer_sha256)
    damage(path)
    with pytest.raises(ValueError, match=rf"de\.safetensors.*{words}"):
        moe.load_expert(path, model)


@pytest.mark.parametrize(("change", "words"), [
    (lambda model: model.add_expert("fr", build_body(CONFIG), five_languages(model)), "'fr' has an expert already"),
    (lambda model: model.add_expert("es", build_body(gpt2_config(Shape(2, 2, 16), 60, 24)), five_languages(model)), "n_layer=2"),
    (lambda model: model.add_expert("es", build_body(CONFIG), model.router), "en, fr, de, py, es, in that order"),
    (lambda model: model.add_expert("es", build_body(CONFIG), Router(60, [*LANGUAGES, "es"], "f" * 64)), "ffffffffffff"),
    (lambda model: model.remove_expert("es"), "'es'"), (lambda model: [model.remove_expert(name) for name in LANGUAGES], "last expert"),
    (lambda model: model.router.keep([]), "leaves none"), (lambda model: model.router.keep(["es"]), "'es'")])
def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    model = build()
    with pytest.raises(ValueError, match=words):
        change(model)
    assert list(model.experts) == model.config.languages == model.router.languages


def test_experts_of_different_shapes_are_refused():
    experts = {"en": build_gpt2(Shape(1, 2, 16), 60, 24, 0), "fr": build_gpt2(Shape(1, 2, 32), 60, 24, 0)}
    with pytest.raises(ValueError, match="'fr' has n_embd=32"):
        moe.assemble_experts(experts, torch.ones(2, 60), True)


@pytest.mark.parametrize("rows", [IDS[:4], IDS[:4].repeat(2, 1)[:, :17]], ids=["10 tokens", "17 tokens"])
def test_experts_that_run_side_by_side_equal_each_alone_in_values_and_in_gradients(rows):
    model, found = build(), []
    embeddings = torch.randn(4, 3, rows.shape[1], 16, generator=torch.Generator().manual_seed(0))
    for together in (True, False):
        part, bodies = embeddings.clone().requires_grad_(), list(model.experts.values())
        parts = moe.run_stacked(bodies, part) if together else torch.stack([b(inputs_embeds=e).last_hidden_state for b, e in zip(bodies, part, strict=True)])
        model.zero_grad()
        parts.sin().sum().backward()
        found.append([parts, part.grad, *(weight.grad for weight in model.experts.parameters())])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_bodies_that_drop_out_or_recompute_run_one_by_one():
    body = build_body(GPT2Config(**CONFIG.to_dict() | {"resid_pdrop": 0.1}))
    assert (moe.can_stack(body.train()), moe.can_stack(body.eval())) == (False, True)
    plain = build_body(CONFIG).train()
    assert moe.can_stack(plain)
    plain.gradient_checkpointing = True
    assert not moe.can_stack(plain)


def test_the_auto_classes_know_a_saved_model_once_mome_is_imported_whatever_the_order(tmp_path):
    build().save_pretrained(tmp_path)
    load = f"print(type(AutoConfig.from_pretrained({str(tmp_path)!r})).__name__, type(AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})).__name__)"
    lines = ["import mome", "from transformers import AutoConfig, AutoModelForCausalLM"]
    for order in (lines, lines[::-1]):
        result = subprocess.run([sys.executable, "-c", "\n".join([*order, load])], capture_output=True, text=True, check=True)
        assert result.stdout.split() == ["MoMEConfig", "MoMEForCausalLM"]


def test_a_checkpoint_without_a_router_is_refused(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    weights = {name: tensor for name, tensor in load_file(tmp_path / "model.safetensors").items() if not name.startswith("router.")}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (moe.MoMEForCausalLM.from_pretrained, AutoModelForCausalLM.from_pretrained):
        with pytest.raises(ValueError, match=r"holds no router \(router\.bias, router\.weight missing\)"):
            load(tmp_path)


def test_active_parameters_count_the_bodies_that_a_sequence_takes():
    model = build(has_common_expert=True)
    body = count_parameters(model.common_expert)
    assert model.active_parameters() == model.active_parameters(2) == model.active_parameters(1) + body
    assert model.active_parameters(5) == count_parameters(model)
