import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

from mome.models.assemble import build_moe, load_moe
from mome.models.bodies import build_body, count_parameters
from mome.models.config import MoMEConfig
from mome.models.gpt2 import gpt2_config
from mome.models.modular import MoMEForCausalLM
from mome.router.affine import Router
from mome.scales import Shape


@pytest.mark.parametrize("common, index", [
    (False, [3, 0, 2, 2, 1, 0]), (True, [3, 0, 2, 2, 1, 0]), (True, [3, 0, 2, 0, 2, 3]), (False, [1] * 6)])
def test_a_mixed_batch_equals_its_rows_one_by_one_in_any_order(build, ids, common, index):
    model, order, index = build(common), torch.tensor([5, 2, 0, 1, 4, 3]), torch.tensor(index)
    with torch.no_grad():
        alone = torch.cat([model(ids[i:i + 1], expert_index=index[i:i + 1]).logits for i in range(6)])
        assert_close(model(ids, expert_index=index).logits, alone, atol=1e-5, rtol=1e-5)
        assert_close(model(ids[order], expert_index=index[order]).logits, alone[order], atol=1e-5, rtol=1e-5)


def test_experts_that_see_no_row_get_no_gradient_and_those_that_do_get_one(build, ids):
    model, touched = build(), {}
    model(ids[:2], expert_index=torch.tensor([0, 2])).logits.sum().backward()
    for name, body in model.experts.items():
        touched[name] = any(p.grad is not None and p.grad.abs().sum() > 0 for p in body.parameters())
    assert touched == {"en": True, "fr": False, "de": True, "py": False}


def test_identical_experts_equal_one_whatever_the_routing_or_the_posterior(build, ids, experts):
    model = build(distinct=False)
    with torch.no_grad():
        one = model(ids, expert_index=torch.zeros(6, dtype=torch.long)).logits
        assert_close(model(ids, expert_index=experts).logits, one, atol=1e-6, rtol=1e-5)
    model = build(distinct=False)
    with torch.no_grad():
        expected = model(ids, expert_index=experts).logits.log_softmax(dim=-1)
        assert_close(model(ids, average_experts="posterior").logits, expected, atol=1e-5, rtol=1e-5)


def test_common_expert_on_off_and_alone_equal_their_hand_composed_results(build, languages, ids, experts):
    model = build(has_common_expert=True)
    with torch.no_grad():
        embedded = model.embedding(ids)
        bodies = [model.experts[languages[number]] for number in experts]
        rows = zip(bodies, embedded.split(1), strict=True)
        routed = torch.cat([body(inputs_embeds=row).last_hidden_state for body, row in rows])
        common = model.common_expert(inputs_embeds=embedded).last_hidden_state
        for use, hidden in {"on": (routed + common) / 2, "off": routed, "alone": common}.items():
            logits = model(ids, expert_index=experts, common_expert=use).logits
            assert_close(logits, hidden @ model.embedding.weight.T, atol=1e-5, rtol=1e-5)
        default = model(ids, expert_index=experts).logits
        assert torch.equal(default, model(ids, expert_index=experts, common_expert="on").logits)


def test_averages_are_the_experts_mean_and_a_posterior_weighs_them_by_what_they_predicted(build, ids):
    model = build()
    with torch.no_grad():
        logits = [model(ids, expert_index=torch.full((6,), number)).logits for number in range(4)]
        logits = torch.stack(logits)
        assert_close(model(ids, average_experts="logits").logits, logits.mean(dim=0), atol=1e-5, rtol=1e-5)
        two = model(ids, allowed_experts=["fr", "py"], average_experts="hidden").logits
        assert_close(two, logits[[1, 3]].mean(dim=0), atol=1e-5, rtol=1e-5)
        found = model(ids, average_experts="posterior").logits.exp()
    probs = logits.softmax(dim=-1)
    for row in range(6):
        weights = torch.full((4,), 0.25)
        for position in range(10):
            if position:
                weights = weights * probs[:, row, position - 1, ids[row, position]]
                weights = weights / weights.sum()
            expected = (weights[:, None] * probs[:, row, position]).sum(dim=0)
            assert_close(found[row, position], expected, atol=1e-5, rtol=1e-4)


def test_the_router_chooses_per_row_among_the_allowed_experts_and_reads_no_more_than_its_prefix(build, ids):
    model = build()
    probs = model.router(ids)
    assert model.route(ids).tolist() == probs.argmax(-1).tolist()
    assert len(set(model.route(ids).tolist())) > 1
    restricted = [1 if row[1] > row[3] else 3 for row in probs]
    assert model.route(ids, allowed=["fr", "py"]).tolist() == restricted
    with torch.no_grad():
        told = model(ids, expert_index=torch.tensor(restricted)).logits
        assert torch.equal(model(ids, allowed_experts=["fr", "py"]).logits, told)
    model, mask = build(), torch.ones_like(ids)
    mask[:, 0] = 0
    whole, prefix = model.route(ids).tolist(), model.route(ids, prefix=3).tolist()
    assert prefix == model.route(ids[:, :3]).tolist() != whole
    assert model.route(ids, mask, prefix=3).tolist() == model.route(ids[:, 1:3]).tolist()


def test_gradient_checkpointing_changes_no_gradient(build, ids, experts):
    gradients = []
    for is_on in (False, True):
        model = build(has_common_expert=True).train()
        if is_on:
            # transformers has another name for it since 5.23
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            assert all(body.gradient_checkpointing for body in [*model.experts.values(), model.common_expert])
        model(ids, expert_index=experts).logits.square().sum().backward()
        found = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        gradients.append(torch.cat(found))
    assert_close(*gradients)


@pytest.mark.parametrize("options, words", [
    ({"allowed_experts": ["es"]}, ["es", "en, fr, de, py"]), ({"allowed_experts": []}, ["no expert"]),
    ({"average_experts": "votes"}, ["votes", "posterior"]), ({"common_expert": "on"}, ["on", "off"]),
    ({"common_expert": "sometimes"}, ["sometimes"])])
def test_bad_switches_are_refused_by_name(build, ids, options, words):
    with pytest.raises(ValueError) as error:
        build()(ids, **options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("common, tie", [(False, True), (True, True), (True, False)])
def test_saved_and_loaded_gives_identical_logits_and_routes(tmp_path, build, ids, common, tie):
    model = build(common, tie)
    model.config.tokenizer_sha256 = "a" * 64
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is MoMEConfig
    for loaded in (AutoModelForCausalLM.from_pretrained(tmp_path), load_moe(tmp_path)):
        assert type(loaded) is MoMEForCausalLM
        assert not loaded.training
        assert torch.equal(loaded(ids).logits, model(ids).logits)
        assert torch.equal(loaded.route(ids), model.route(ids))
        assert (loaded.lm_head.weight is loaded.embedding.weight) == tie
        assert (loaded.lm_head.bias is None) == tie
        assert loaded.config.tokenizer_sha256 == loaded.router.tokenizer_sha256 == "a" * 64
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_checkpoint_without_a_router_and_one_that_is_a_pickle_are_refused(tmp_path, build, bomb):
    build().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("router.")}
    save_file(weights, path, metadata={"format": "pt"})
    for load in (load_moe, AutoModelForCausalLM.from_pretrained):
        with pytest.raises(ValueError, match=r"holds no router \(router\.bias, router\.weight missing\)"):
            load(tmp_path)
    build().save_pretrained(tmp_path / "moe")
    (tmp_path / "moe/model.safetensors").unlink()
    (tmp_path / "moe/pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(OSError, match="safetensors"):
        load_moe(tmp_path / "moe")


def test_active_parameters_count_the_bodies_that_a_sequence_takes(build):
    model = build(has_common_expert=True)
    body = count_parameters(model.common_expert)
    assert model.active_parameters() == model.active_parameters(2) == model.active_parameters(1) + body
    assert model.active_parameters(5) == count_parameters(model)
    plain = build()
    assert plain.active_parameters() == plain.active_parameters(1) == count_parameters(plain) - 3 * body


def five_languages(model):
    """Return a router of the model's languages and Spanish, which wins where token 7 is read."""
    router = Router(60, [*model.config.languages, "es"], model.config.tokenizer_sha256)
    router.weight[:, :4] = model.router.weight
    router.weight[7, 4] = 100.0
    return router


def test_an_added_expert_changes_no_logit_of_the_others_and_answers_for_its_own_rows(
        tmp_path, build, body_config, languages, ids, experts):
    model, body = build(has_common_expert=True), build_body(body_config).eval()
    before = {name: value.clone() for name, value in model.experts.state_dict().items()}
    told = model(ids, expert_index=experts).logits
    model.add_expert("es", body, five_languages(model))
    assert list(model.experts) == model.config.languages == [*languages, "es"]
    assert {name.split(".")[0] for name in before} == set(languages)
    after = model.experts.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(model(ids, expert_index=experts).logits, told)
    rows = ids.clone()
    rows[:3, 2] = 7
    assert (model.route(rows)[:3] == 4).all()
    embedded = model.embedding(rows[:3])
    own, common = (part(inputs_embeds=embedded).last_hidden_state for part in (body, model.common_expert))
    assert_close(model(rows).logits[:3], (own + common) / 2 @ model.embedding.weight.T, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(load_moe(tmp_path)(rows).logits, model(rows).logits)


def test_a_removed_expert_leaves_the_others_as_they_were_and_one_added_before_leaves_no_trace(
        build, ids, body_config):
    model = build()
    probs, told = model.router(ids), model(ids, expert_index=torch.full((6,), 3)).logits
    model.remove_expert("fr")
    assert model.config.languages == list(model.experts) == model.router.languages == ["en", "de", "py"]
    assert torch.equal(model(ids, expert_index=torch.full((6,), 2)).logits, told)
    kept = probs[:, [0, 2, 3]]
    assert_close(model.router(ids), kept / kept.sum(dim=1, keepdim=True), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="'fr'"):
        model(ids, allowed_experts=["fr"])
    model = build()
    before, routes = model(ids).logits, model.router(ids)
    model.add_expert("es", build_body(body_config), five_languages(model))
    model.remove_expert("es")
    assert torch.equal(model(ids).logits, before)
    assert_close(model.router(ids), routes)


def test_an_expert_may_be_called_like_a_method_of_modules_or_a_word_of_python(tmp_path, body_config, ids):
    names = ["to", "train", "type", "pop", "items", "half", "no", "True", "class", "training", "_apply"]
    model = build_moe(names, body_config, has_common_expert=False, seed=0)
    for name in names:
        model.experts[name].ln_f.bias.data.normal_()
    model.router.weight.data.normal_()
    told = torch.arange(len(ids)) % len(names)
    model.train()(ids, expert_index=told, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.eval().add_expert("values", build_body(body_config).eval(), Router(60, [*names, "values"]))
    model.remove_expert("to")
    model.save_pretrained(tmp_path)
    opened = load_moe(tmp_path)
    assert opened.config.languages == [*names[1:], "values"] and "to" not in opened.experts
    for name in opened.config.languages:
        use = {"allowed_experts": [name], "average_experts": "hidden"}
        assert name in opened.experts and torch.equal(opened(ids, **use).logits, model(ids, **use).logits)
    assert torch.equal(opened.route(ids, allowed=["train", "no"]), model.route(ids, allowed=["train", "no"]))


def add(language, body, router):
    return lambda model: model.add_expert(language, build_body(gpt2_config(body, 60, 24)), router(model))


def other_tokenizer(model):
    return Router(60, [*model.config.languages, "es"], "f" * 64)


@pytest.mark.parametrize("change, words", [
    (add("fr", Shape(1, 2, 16), five_languages), "'fr' has an expert already"),
    (add("es", Shape(2, 2, 16), five_languages), "n_layer=2"),
    (add("es", Shape(1, 2, 16), lambda model: model.router), "en, fr, de, py, es, in that order"),
    (add("es", Shape(1, 2, 16), other_tokenizer), "ffffffffffff"),
    (lambda model: model.remove_expert("es"), "'es'"),
    (lambda model: [model.remove_expert(name) for name in list(model.experts)], "last expert"),
    (lambda model: model.router.keep([]), "leaves none"), (lambda model: model.router.keep(["es"]), "'es'")])
def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(build, change, words):
    model = build()
    with pytest.raises(ValueError, match=words):
        change(model)
    assert list(model.experts) == model.config.languages == model.router.languages
    assert "es" not in model.experts
