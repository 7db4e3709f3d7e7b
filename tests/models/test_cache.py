import pytest
import torch
from torch.testing import assert_close


def test_generation_routes_on_the_prompt_and_equals_greedy_decoding_by_hand(build, ids):
    model, grown = build(), ids.clone()
    expert_index = model.route(ids)
    for _ in range(5):
        with torch.no_grad():
            logits = model(grown, expert_index=expert_index).logits
        grown = torch.cat([grown, logits[:, -1:].argmax(-1)], dim=1)
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), **options), grown)


@pytest.mark.parametrize("options", [
    {}, {"common_expert": "alone"}, {"average_experts": "hidden", "common_expert": "off"},
    {"average_experts": "logits"}, {"average_experts": "posterior"},
    {"num_beams": 3, "allowed_experts": ["fr", "py"]}, {"num_beams": 3, "average_experts": "hidden"}])
def test_generation_with_a_cache_equals_generation_without(build, ids, options):
    model = build(has_common_expert=True)
    plain = {"max_new_tokens": 6, "eos_token_id": None, "do_sample": False, "output_logits": True, **options}
    with_cache, without = (model.generate(ids, use_cache=use_cache, return_dict_in_generate=True, **plain)
                           for use_cache in (True, False))
    assert torch.equal(with_cache.sequences, without.sequences)
    assert_close(torch.stack(with_cache.logits), torch.stack(without.logits), atol=1e-5, rtol=1e-5)


def test_logits_in_pieces_through_the_cache_equal_those_of_the_whole(build, ids, experts):
    model, pieces, cache = build(has_common_expert=True), [], None
    with torch.no_grad():
        whole = model(ids, expert_index=experts).logits
        for at, to in ((0, 4), (4, 5), (5, 10)):
            result = model(ids[:, at:to], expert_index=experts, past_key_values=cache, use_cache=True)
            pieces, cache = [*pieces, result.logits], result.past_key_values
    assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache.get_seq_length() == 10


def test_sampling_follows_its_seed_and_several_returned_sequences_keep_their_prompts_expert(build, ids):
    model, draws = build(), []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(model.generate(ids, max_new_tokens=6, do_sample=True, num_return_sequences=2))
    assert torch.equal(*draws)
    assert draws[0].shape[0] == 12
    assert torch.equal(draws[0][:, :10], ids.repeat_interleave(2, dim=0))


@pytest.mark.parametrize("n_tokens, mask, words", [
    (0, None, "empty prompt"), (10, [[1] * 10, [0] * 10], "empty prompt"),
    (10, [[1] * 10, [1] * 6 + [0] * 4], "on the left")])
def test_an_empty_prompt_right_padding_and_half_a_sequence_for_the_router_are_refused(
        build, ids, n_tokens, mask, words):
    model, mask = build(), None if mask is None else torch.tensor(mask)
    with pytest.raises(ValueError, match=words):
        model.generate(ids[:2, :n_tokens], attention_mask=mask, max_new_tokens=2)
    cache = model(ids[:, :5], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="expert_index"):
        model(ids[:, 5:], past_key_values=cache)
