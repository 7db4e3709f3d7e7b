import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2Config

from mome.models import modular
from mome.models.bodies import build_body
from mome.models.stacked import can_stack, normalize_stacked, project_stacked, run_stacked


@pytest.mark.parametrize("length", [10, 17])
def test_experts_that_run_side_by_side_equal_each_alone_in_values_and_in_gradients(build, length):
    model, found = build(), []
    embeddings = torch.randn(4, 3, length, 16, generator=torch.Generator().manual_seed(0))
    for together in (True, False):
        part, bodies = embeddings.clone().requires_grad_(), list(model.experts.values())
        if together:
            hidden = run_stacked(bodies, part)
        else:
            pairs = zip(bodies, part, strict=True)
            hidden = torch.stack([body(inputs_embeds=embedded).last_hidden_state for body, embedded in pairs])
        model.zero_grad()
        hidden.sin().sum().backward()
        found.append([hidden, part.grad, *(weight.grad for weight in model.experts.parameters())])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_layers_and_norms_side_by_side_equal_each_alone(build):
    blocks = [body.h[0] for body in build().experts.values()]
    hidden = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(0))
    for name, stacked in (("ln_1", normalize_stacked), ("mlp.c_fc", project_stacked)):
        parts = [block.get_submodule(name) for block in blocks]
        alone = torch.stack([part(states) for part, states in zip(parts, hidden, strict=True)])
        assert_close(stacked(parts, hidden), alone, atol=1e-5, rtol=1e-5)


def test_bodies_that_drop_out_recompute_or_attend_in_another_way_run_one_by_one(body_config):
    plain, values = build_body(body_config).train(), body_config.to_dict()
    plain.config._attn_implementation = "sdpa"
    assert can_stack(plain)
    dropping, *odd = (
        build_body(GPT2Config(**values | {"attn_implementation": "sdpa"} | other))
        for other in ({"resid_pdrop": 0.1}, {"attn_implementation": "eager"}, {"scale_attn_weights": False},
                      {"scale_attn_by_inverse_layer_idx": True}))
    assert (can_stack(dropping.train()), can_stack(dropping.eval())) == (False, True)
    assert [can_stack(body) for body in odd] == [False] * 3
    plain.gradient_checkpointing = True
    assert (can_stack(plain.train()), can_stack(plain.eval())) == (False, True)


def test_only_equally_many_rows_of_each_expert_without_mask_and_cache_run_as_one(build, ids, monkeypatch):
    model, calls, even = build(), [], torch.tensor([3, 0, 2, 0, 2, 3])

    def run(bodies, embeddings):
        calls.append(len(bodies))
        return run_stacked(bodies, embeddings)

    monkeypatch.setattr(modular, "run_stacked", run)
    for index, options in ((even, {}), (torch.tensor([3, 0, 2, 2, 1, 0]), {}), (torch.tensor([1] * 6), {}),
                           (even, {"attention_mask": torch.ones_like(ids)}), (even, {"use_cache": True})):
        model(ids, expert_index=index, **options)
    assert calls == [3]
