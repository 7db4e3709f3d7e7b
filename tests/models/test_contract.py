"""What transformers' causal language models promise, of ours; the oracle is transformers' GPT-2."""

import copy
import inspect

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, DynamicCache

from mome.models.bodies import build_body
from mome.models.gpt2 import gpt2_config
from mome.scales import Shape

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def is_modular(model):
    return hasattr(model, "experts")


def half_labelled(ids):
    """Return labels of rows that are supervised to unequal lengths, one of them nowhere."""
    return ids.masked_fill(torch.arange(ids.shape[1]) < torch.tensor([0, 4, 9, 1, 7, 10])[:, None], -100)


@pytest.mark.parametrize("count", [None, 37, torch.tensor(37)])
def test_labels_are_the_inputs_and_the_loss_is_that_of_transformers(twin, gpt2, ids, count):
    for labels in (ids, half_labelled(ids)):
        found, wanted = (model(ids, labels=labels, num_items_in_batch=count) for model in (twin, gpt2))
        assert_close(found.loss, wanted.loss, atol=1e-6, rtol=1e-6)
        assert_close(found.logits, wanted.logits, **CLOSE)
    assert twin.accepts_loss_kwargs and twin.loss_type == "ForCausalLM"


def test_padding_on_the_right_counts_nowhere_in_a_training(twin, gpt2, ids):
    real = torch.arange(10) < torch.tensor([10, 4, 9, 1, 7, 10])[:, None]
    batch = {"input_ids": ids * real, "attention_mask": real.long(), "labels": ids.masked_fill(~real, -100)}
    found, wanted = twin(**batch), gpt2(**batch)
    assert_close(found.loss, wanted.loss, atol=1e-6, rtol=1e-6)
    assert_close(found.logits[real], wanted.logits[real], **CLOSE)
    if is_modular(twin):
        assert torch.equal(twin.route(ids[3:4, :1]), twin.route(ids, real.long())[3:4])


def test_gradients_are_those_of_transformers(twin, gpt2, ids):
    gradients = []
    for model in (twin, gpt2):
        model.train()(input_ids=ids, labels=half_labelled(ids)).loss.backward()
        gradients.append(model.get_input_embeddings().weight.grad)
    assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_hidden_states_and_attentions_are_those_of_transformers(twin, gpt2, ids):
    for model in (twin, gpt2):
        model.set_attn_implementation("eager")
    found, wanted = (model(ids, output_hidden_states=True, output_attentions=True) for model in (twin, gpt2))
    assert (len(found.hidden_states), len(found.attentions)) == (3, 2)
    for one, other in zip(found.hidden_states, wanted.hidden_states, strict=True):
        assert_close(one, other, **CLOSE)
    for one, other in zip(found.attentions, wanted.attentions, strict=True):
        for heads in one.split(other.shape[1], dim=1):  # a common expert's heads follow
            assert_close(heads, other, **CLOSE)
        assert one.shape[1] == other.shape[1] * (2 if getattr(twin, "common_expert", None) else 1)
    assert_close(twin.lm_head(found.hidden_states[-1]), found.logits, **CLOSE)
    plain = twin(ids)
    assert plain.hidden_states is None and plain.attentions is None
    twin.config.output_hidden_states = True
    assert_close(twin(ids).hidden_states[1], wanted.hidden_states[1], **CLOSE)


def test_attentions_are_never_left_out_in_silence(twin, ids):
    try:
        attentions = twin(ids, output_attentions=True).attentions
    except ValueError as error:
        assert "output_attentions" in str(error) and "eager" in str(error)
    else:
        assert len(attentions) == 2 or not is_modular(twin)  # GPT-2 of transformers 5 gives none


@pytest.mark.parametrize("use", [
    {}, {"common_expert": "alone"}, {"common_expert": "off"}, {"average_experts": "hidden"},
    {"average_experts": "logits", "allowed_experts": ["fr", "py"]}, {"expert_index": [3, 0, 3, 0, 1, 1]}])
def test_the_head_of_the_last_hidden_state_is_the_logits_however_many_bodies_answer(build, ids, use):
    model, mask = build(has_common_expert=True, tie=False), torch.ones_like(ids)
    for more in ({}, {"attention_mask": mask}, {"use_cache": True}):
        found = model(ids, output_hidden_states=True, **use, **more)
        assert [states.shape for states in found.hidden_states] == [(6, 10, 16)] * 2
        assert_close(model.lm_head(found.hidden_states[-1]), found.logits, **CLOSE)


@pytest.mark.parametrize("average", ["hidden", "logits"])
def test_a_common_expert_has_half_the_say_beside_however_many(build, ids, average):
    model = build(has_common_expert=True)
    on, off, alone = (model(ids, common_expert=use, average_experts=average)
                      for use in ("on", "off", "alone"))
    assert_close(on.logits, (off.logits + alone.logits) / 2, **CLOSE)


def test_a_tuple_comes_where_no_dict_is_asked_for(twin, ids):
    options = {"input_ids": ids, "labels": ids, "output_hidden_states": True, "use_cache": False}
    wanted, found = twin(**options), twin(**options, return_dict=False)
    assert isinstance(found, tuple) and len(found) == 3
    for one, other in zip(found[:2], (wanted.loss, wanted.logits), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found[2][-1], wanted.hidden_states[-1])
    if is_modular(twin):  # GPT-2 of transformers 5.23 cannot
        twin.config.return_dict = False
        assert isinstance(twin(ids), tuple)


@pytest.mark.parametrize("keep", [1, 3, torch.tensor([0, 8])])
def test_only_the_logits_that_are_to_be_kept_are_made(twin, gpt2, ids, keep):
    found, wanted = (model(ids, logits_to_keep=keep).logits for model in (twin, gpt2))
    assert found.shape == wanted.shape
    assert_close(found, wanted, **CLOSE)


def test_given_positions_and_given_embeddings_count_as_in_transformers(twin, gpt2, ids):
    told = {"expert_index": [0] * 6} if is_modular(twin) else {}
    positions = torch.arange(3, 13).expand(6, -1)
    found, wanted = (model(ids, position_ids=positions).logits for model in (twin, gpt2))
    assert_close(found, wanted, **CLOSE)
    vectors = torch.randn(6, 10, 16)
    found = twin(inputs_embeds=vectors, **told, labels=ids)
    wanted = gpt2(inputs_embeds=vectors, labels=ids)
    assert_close((found.logits, found.loss), (wanted.logits, wanted.loss), **CLOSE)
    embedded = twin.get_input_embeddings()(ids)
    assert_close(twin(inputs_embeds=embedded, **told).logits, twin(ids, **told).logits, **CLOSE)
    for both in ({"input_ids": ids, "inputs_embeds": embedded}, {}):
        with pytest.raises(ValueError, match=r"input_ids.*inputs_embeds"):
            twin(**both, **told)


def test_a_cache_is_given_where_the_configuration_or_the_call_asks_for_one(twin, gpt2, ids):
    assert twin(ids).past_key_values is None  # our configurations say so: training needs none
    for model in (twin, gpt2):
        model.config.use_cache = True
    cache = twin(ids[:, :6]).past_key_values
    told = {"expert_index": twin.route(ids)} if is_modular(twin) else {}
    found = twin(ids[:, 6:], past_key_values=cache, **told)
    assert_close(found.logits, gpt2(ids).logits[:, 6:], **CLOSE)
    assert found.past_key_values.get_seq_length() == 10
    assert twin(ids, use_cache=False).past_key_values is None


@pytest.mark.parametrize("name", ["lables", "expert_indices", "shift_label", "input_embeds", "num_items"])
def test_an_unknown_argument_is_refused_by_its_name(twin, ids, name):
    with pytest.raises((TypeError, ValueError), match=name):
        twin(ids, **{name: ids})
    parameters = inspect.signature(twin.forward).parameters  # from which the Trainer and generate read names
    assert {"input_ids", "attention_mask", "labels", "position_ids", "inputs_embeds", "logits_to_keep",
            "past_key_values"} <= set(parameters)


@pytest.mark.parametrize("index", [
    [3, 0, 2, 2, 1, 0], torch.tensor([3, 0, 2, 2, 1, 0], dtype=torch.int32),
    torch.tensor([3, 0, 2, 2, 1, 0], dtype=torch.uint8)])
def test_an_expert_index_may_be_a_list_or_a_tensor_of_any_whole_type(build, ids, experts, index):
    model = build()
    assert torch.equal(model(ids, expert_index=index).logits, model(ids, expert_index=experts).logits)


@pytest.mark.parametrize("index", [
    torch.tensor([True] * 6), [True] * 6, torch.tensor([0.0] * 6), [0.5] * 6, ["en"] * 6, [None] * 6, [0] * 5,
    [0] * 7, [], torch.tensor(0), 0, torch.zeros(6, 1, dtype=torch.long), [[0]] * 6, "en", [0, 0, 0, 0, 0, 4],
    [0, 0, -1, 0, 0, 0]])
def test_an_expert_index_of_another_type_length_or_range_is_refused_before_any_work(build, ids, index):
    model, calls = build(), []
    model.embedding.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match="expert_index"):
        model(ids, expert_index=index)
    with pytest.raises(ValueError, match="expert_index"):
        model.generate(ids, expert_index=index, max_new_tokens=2)
    assert not calls


@pytest.mark.parametrize("use", [
    {"expert_index": [0, 1, 0, 1, 0, 1], "allowed_experts": ["en", "py"]},
    {"expert_index": [0] * 6, "average_experts": "hidden"}])
def test_an_expert_index_that_other_switches_contradict_is_refused(build, ids, use):
    model, allowed = build(), {"allowed_experts": ["en", "fr"]}
    for call in (model, model.generate):
        with pytest.raises(ValueError, match="expert_index"):
            call(ids, **use)
    told = {"expert_index": [0, 1, 0, 1, 0, 1]}
    assert torch.equal(model(ids, **told, **allowed).logits, model(ids, **told).logits)


def test_embeddings_without_ids_need_to_be_told_their_experts(build, ids):
    model = build(has_common_expert=True)
    embedded = model.embedding(ids)
    for use in ({}, {"average_experts": "posterior"}, {"allowed_experts": ["en", "fr"]}):
        with pytest.raises(ValueError, match="inputs_embeds"):
            model(inputs_embeds=embedded, **use)
    for use in ({"average_experts": "hidden"}, {"average_experts": "logits"}, {"common_expert": "alone"}):
        assert_close(model(inputs_embeds=embedded, **use).logits, model(ids, **use).logits, **CLOSE)


def test_the_contexts_end_is_an_error_that_names_context_and_length(twin, ids):
    row = torch.cat([ids, ids, ids], dim=1)[:1]
    told = {"expert_index": [0]} if is_modular(twin) else {}
    assert twin(row[:, :24]).logits.shape[1] == 24
    with pytest.raises(ValueError, match=r"context.*24.*25|25.*context.*24"):
        twin(row[:, :25])
    cache = DynamicCache()
    twin(row[:, :20], past_key_values=cache, use_cache=True)
    with pytest.raises(ValueError, match=r"context.*24.*25|25.*context.*24"):
        twin(row[:, 20:25], past_key_values=cache, use_cache=True, **told)
    assert cache.get_seq_length() == 20
    with pytest.raises(ValueError, match="context"):
        twin(inputs_embeds=twin.get_input_embeddings()(row[:, :25]), **told)
    with pytest.raises(ValueError, match="position_ids"):
        twin(row[:, :2], position_ids=torch.tensor([[3, 24]]))


@pytest.mark.parametrize("cast", [
    lambda model: model.to(torch.bfloat16), lambda model: model.bfloat16(), lambda model: model.half(),
    lambda model: model.to("cpu", torch.bfloat16), lambda model: model.to(dtype=torch.float16),
    lambda model: copy.deepcopy(model).to(torch.bfloat16).float().bfloat16()])
def test_another_type_of_numbers_changes_no_route_as_the_router_keeps_its_own(build, ids, cast):
    model = build(has_common_expert=True)
    before = copy.deepcopy(model.router.state_dict())
    cast(model_in := copy.deepcopy(model))
    found = cast(model)
    assert found.dtype in (torch.bfloat16, torch.float16) and model_in.router.weight.dtype == torch.float32
    assert {name: value.dtype for name, value in found.state_dict().items() if "router" not in name
            and value.dtype != found.dtype} == {}
    assert all(torch.equal(value, before[name]) for name, value in found.router.state_dict().items())
    result = found(ids, labels=ids)
    assert result.logits.dtype == found.dtype and result.loss.isfinite()


def test_a_model_in_bfloat16_is_saved_and_opened_as_such_and_takes_an_expert_of_another_type(
        tmp_path, build, ids, body_config):
    model = build()
    wide = model(ids).logits
    model.save_pretrained(tmp_path / "wide")
    narrow = AutoModelForCausalLM.from_pretrained(tmp_path / "wide", dtype=torch.bfloat16)
    assert_close(narrow(ids).logits.float(), wide, atol=0.05, rtol=0.05)
    narrow.save_pretrained(tmp_path / "narrow")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "narrow")
    for one in (narrow, again):
        assert one.dtype == one.experts["fr"].dtype == torch.bfloat16
        assert one.router.weight.dtype == torch.float32
        assert torch.equal(one.router.weight, model.router.weight)
        assert torch.equal(one(ids).logits, narrow(ids).logits)
    body = build_body(body_config)
    narrow.add_expert("es", body)
    assert narrow.experts["es"].dtype == torch.bfloat16
    assert narrow(ids, expert_index=[4, 0, 4, 0, 1, 4], labels=ids).loss.isfinite()
    assert narrow.route(ids).max() < 4


def test_an_expert_without_a_router_answers_only_when_it_is_told(tmp_path, build, ids, body_config):
    model, body, names = build(), build_body(body_config).eval(), ["en", "fr", "de", "py", "es"]
    before, probs = model(ids).logits, model.router(ids)
    model.add_expert("es", body)
    model.save_pretrained(tmp_path)
    for one in (model, AutoModelForCausalLM.from_pretrained(tmp_path)):
        assert one.config.languages == list(one.experts) == one.router.languages == names
        assert torch.equal(one(ids).logits, before)
        assert_close(one.router(ids)[:, :4], probs, **CLOSE)
        told = one(ids, expert_index=[4] * 6).logits
        assert torch.equal(one(ids, allowed_experts=["es"]).logits, told)
        wanted = body(inputs_embeds=one.embedding(ids)).last_hidden_state @ one.embedding.weight.T
        assert_close(told, wanted, **CLOSE)
        assert_close(one(ids, average_experts="hidden", allowed_experts=["es"]).logits, told, **CLOSE)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("size", [77, 50])
def test_a_resized_table_takes_its_router_along(tmp_path, build, tie, size):
    model = build(has_common_expert=True, tie=tie)
    ids = torch.randint(3, 50, (6, 10), generator=torch.Generator().manual_seed(0))
    before, probs = model(ids).logits, model.router(ids)
    assert model.resize_token_embeddings(size) is model.get_input_embeddings()
    model.save_pretrained(tmp_path)
    for one in (model, AutoModelForCausalLM.from_pretrained(tmp_path)):
        sizes = {one.config.vocab_size, one.config.body_config().vocab_size, one.embedding.num_embeddings,
                 len(one.embedding.weight), len(one.router.weight), one(ids).logits.shape[-1]}
        assert sizes == {size}
        assert_close(one(ids).logits[..., :50], before[..., :50], **CLOSE)
        assert torch.equal(one.router(ids), probs)
        assert (one.lm_head.weight is one.embedding.weight) == tie
        if size == 77:  # new ids say nothing of the language
            new = torch.cat([ids, torch.full((6, 2), 60), torch.full((6, 1), 76)], dim=1)
            assert torch.equal(one.route(new), one.route(ids)) and torch.equal(one.router(new), probs)
            assert one(new, labels=new).loss.isfinite()
        one.add_expert("es", build_body(gpt2_config(Shape(1, 2, 16), size, 24)))
        assert one(ids, expert_index=[4] * 6).logits.shape[-1] == size
    resized = model.resize_token_embeddings(61, pad_to_multiple_of=8)
    assert len(resized.weight) == len(model.router.weight) == 64
    assert model.resize_token_embeddings() is model.embedding
    with pytest.raises(ValueError, match="vocab_size"):
        model.add_expert("it", build_body(gpt2_config(Shape(1, 2, 16), 60, 24)))


@pytest.mark.parametrize("shape", [lambda ids: ids[0], lambda ids: ids[:, :0], lambda ids: ids[None]])
def test_ids_that_are_no_table_of_tokens_are_refused(build, ids, shape):
    for call in (build(), build().generate):
        with pytest.raises(ValueError, match="input_ids"):
            call(shape(ids))


def test_a_copy_owes_its_original_nothing(twin, ids):
    before, other = twin(ids).logits, copy.deepcopy(twin)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert torch.equal(twin(ids).logits, before) and other(ids).logits.abs().max() == 0
    if is_modular(other):
        other.remove_expert("en")
        assert list(twin.experts) == twin.config.languages == twin.router.languages == ["en", "fr", "py"]
