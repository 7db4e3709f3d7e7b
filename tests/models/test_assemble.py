import pytest
import torch
from cases import each
from torch.testing import assert_close

from mome.models.assemble import assemble_experts, build_moe, merge_experts
from mome.models.gpt2 import build_gpt2
from mome.scales import Shape


def test_a_new_models_experts_are_equal_and_follow_the_seed_alone(languages, body_config):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (build_moe(languages, body_config, has_common_expert=True, seed=seed)
                           for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    wanted = first.experts["en"].state_dict()
    for body in (*first.experts.values(), first.common_expert, again.experts["py"]):
        assert all(torch.equal(wanted[name], weight) for name, weight in body.state_dict().items())
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


@each("tie", [True, False])
def test_an_assembled_model_equals_its_expert_on_tokens_only_that_expert_knows(languages, ids, tie):
    shape = Shape(1, 2, 16, tie)
    experts = {name: build_gpt2(shape, 60, 24, seed=seed) for seed, name in enumerate(languages)}
    counts = torch.zeros(4, 60)
    counts[0] = 1e9  # all tokens are English
    model = assemble_experts(experts, counts).eval()
    for name in languages:
        weights, own = experts[name].transformer.state_dict(), model.experts[name].state_dict()
        assert all(torch.equal(weights[key], weight) for key, weight in own.items())
    with torch.no_grad():
        logits = model(ids, expert_index=torch.zeros(6, dtype=torch.long)).logits
        if not tie:
            logits = logits - model.lm_head.bias
        assert_close(logits, experts["en"].eval()(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in model.experts.parameters())
    assert model.embedding.weight.requires_grad


def test_a_token_gets_the_mean_of_its_languages_rows_weighted_by_use_or_the_row_of_its_only_one():
    experts = {name: build_gpt2(Shape(1, 2, 16), 60, 24, seed=seed) for seed, name in enumerate(["en", "fr"])}
    counts = torch.zeros(2, 60)
    counts[0, 7], counts[1, 7], counts[1, 9], counts[1, 10] = 3e6, 1e6, 1, 3
    model = assemble_experts(experts, counts)
    english, french = (expert.transformer.wte.weight for expert in experts.values())
    assert_close(model.embedding.weight[7], 0.75 * english[7] + 0.25 * french[7], atol=1e-6, rtol=1e-5)
    assert_close(model.embedding.weight[8], (english[8] + french[8]) / 2)  # a token of nobody
    assert torch.equal(model.embedding.weight[9:11], french[9:11])


def test_experts_of_different_shapes_are_refused():
    experts = {"en": build_gpt2(Shape(1, 2, 16), 60, 24, 0), "fr": build_gpt2(Shape(1, 2, 32), 60, 24, 0)}
    with pytest.raises(ValueError, match="'fr' has n_embd=32"):
        assemble_experts(experts, torch.ones(2, 60))
    with pytest.raises(ValueError, match="n_embd=32"):
        merge_experts(list(experts.values()))


def test_merged_experts_are_the_mean_of_their_weights_and_identical_ones_merge_into_themselves(build):
    first, second = list(build().experts.values())[:2]
    before = {name: weight.clone() for name, weight in first.state_dict().items()}
    merged = merge_experts([first, second]).state_dict()
    for name, weight in before.items():
        assert_close(merged[name], (weight + second.state_dict()[name]) / 2)
        assert torch.equal(first.state_dict()[name], weight)
    again = merge_experts([first, first]).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in before.items())
