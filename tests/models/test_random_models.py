"""Modular models of random shapes: whatever is done to one and undone leaves it as it was."""

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from mome.models.assemble import build_moe
from mome.models.bodies import build_body, spell_key
from mome.models.gpt2 import gpt2_config
from mome.router.affine import Router
from mome.scales import Shape

SAVED_WITH = {"dtype", "architectures", "_name_or_path"}  # what saving and opening adds to a configuration
NAMES = ["en", "fr", "de", "py", "to", "zh-Hant"]


def draw_model(rng):
    """Return a model of random experts, shape, head, common expert and type, with far-off random weights."""
    n_head = int(rng.integers(1, 4))
    shape = Shape(int(rng.integers(1, 4)), n_head, n_head * int(rng.choice([2, 4, 8])), bool(rng.integers(2)))
    config = gpt2_config(shape, int(rng.integers(20, 90)), int(rng.integers(20, 40)))
    names = [str(name) for name in rng.permutation(NAMES)[:rng.integers(1, 6)]]
    model = build_moe(names, config, has_common_expert=bool(rng.integers(2)), seed=0).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.3 * torch.randn_like(weight)) if "router" not in name else weight.normal_()
    return model.to(torch.bfloat16 if rng.integers(2) else torch.float32)


def draw_rows(rng, model):
    ids = torch.from_numpy(rng.integers(3, model.config.vocab_size, (int(rng.integers(1, 9)), 9)))
    mask = (torch.arange(9) >= torch.from_numpy(rng.integers(0, 8, len(ids)))[:, None]).long()
    return ids * mask, mask


def draw_use(rng, model):
    allowed = [str(name) for name in rng.permutation(model.config.languages)[:rng.integers(1, 6)]]
    index = torch.from_numpy(rng.integers(0, len(model.experts), 1))
    uses = [{}, {"allowed_experts": allowed}, {"expert_index": index}, {"average_experts": "posterior"},
            {"average_experts": str(rng.choice(["hidden", "logits"])), "allowed_experts": allowed}]
    common = ["on", "off", "alone"] if model.config.has_common_expert else ["off"]
    return uses[rng.integers(len(uses))] | {"common_expert": str(rng.choice(common))}


def answer(model, ids, mask, use):
    """Return logits, routes and text, all that a model says of a batch."""
    use = {**use, **({"expert_index": use["expert_index"].expand(len(ids))} if "expert_index" in use else {})}
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, **use).logits
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "attention_mask": mask}
    options["num_beams"] = 1 + model.config.vocab_size % 2
    return logits, model.route(ids, mask), model.generate(ids, **options, **use)


def same(one, other):
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_a_random_model_comes_back_from_every_round_trip_as_it_was(tmp_path, seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = draw_model(rng)
    (ids, mask), use = draw_rows(rng, model), draw_use(rng, model)
    wanted, config = answer(model, ids, mask, use), copy.deepcopy(model.config.to_dict())
    steps = {"save": lambda: reopen(model, tmp_path / "saved"), "add": lambda: add_and_remove(model, rng),
             "resize": lambda: grow_and_shrink(model, rng), "copy": lambda: copy.deepcopy(model)}
    for name in rng.permutation([*steps, *steps]):
        model = steps[name]()
        found = model.config.to_dict()
        assert {key for key in config if found[key] != config[key]} <= SAVED_WITH, f"after {name}"
        assert same(answer(model, ids, mask, use), wanted), f"after {name}"
        for key, weight in model.named_parameters():
            is_router = key.startswith("router.")
            assert (weight.dtype, weight.requires_grad, weight.is_leaf) == (
                torch.float32 if is_router else model.dtype, not is_router, True), f"{key} after {name}"
    assert model.config.tie_word_embeddings == (model.lm_head.weight is model.embedding.weight)
    for step in (check_order, check_padding, check_cache_and_gradients, check_membership):
        step(model, ids, mask, use, rng)


def reopen(model, folder):
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def add_and_remove(model, rng):
    """Add experts of random weights, with a router or without, and take them out in any order."""
    names = model.config.languages
    new = [name for name in [*NAMES, "es", "it"] if name not in names][:int(rng.integers(1, 3))]
    for name in new:
        router = None
        if rng.integers(2):
            router = Router(model.config.vocab_size, [*model.config.languages, name])
            router.weight[:, :-1], router.bias[:-1] = model.router.weight, model.router.bias
            router.weight[:, -1].normal_()
        model.add_expert(name, build_body(model.config.body_config()).eval(), router)
    assert model.config.languages == model.router.languages == [*names, *new]
    assert list(model.experts) == [spell_key(name) for name in model.config.languages]
    for name in rng.permutation(new):
        model.remove_expert(str(name))
    return model


def grow_and_shrink(model, rng):
    size = model.config.vocab_size
    for new in (size + int(rng.integers(1, 30)), size):
        model.resize_token_embeddings(new)
        model = copy.deepcopy(model)
    return model


def tolerance(model):
    return {"atol": 1e-5, "rtol": 1e-4} if model.dtype == torch.float32 else {"atol": 0.15, "rtol": 0.1}


def check_order(model, ids, mask, use, rng):
    order = torch.from_numpy(rng.permutation(len(ids)))
    one, other = answer(model, ids, mask, use), answer(model, ids[order], mask[order], use)
    real = mask[order] == 1
    assert_close(other[0][real], one[0][order][real], **tolerance(model))
    assert torch.equal(other[1], one[1][order])
    if model.dtype == torch.float32:
        assert torch.equal(other[2], one[2][order])


def check_padding(model, ids, mask, use, rng):
    one = answer(model, ids, mask, use)
    for row, keep in enumerate(mask == 1):
        alone = answer(model, ids[row, keep][None], None, use)
        assert_close(one[0][row, keep], alone[0][0], **tolerance(model))
        assert torch.equal(one[1][row:row + 1], alone[1])
        if model.dtype == torch.float32:
            assert torch.equal(one[2][row, 9:], alone[2][0, -4:])


def check_cache_and_gradients(model, ids, mask, use, rng):
    """In two pieces through a cache all is as in one; only experts that read a row get a gradient."""
    is_one = "average_experts" not in use and use["common_expert"] != "alone"
    if is_one:
        use = {"common_expert": use["common_expert"], "expert_index": model.route(ids, mask)}
    if use.get("average_experts") != "posterior":
        whole, cut = model(ids, attention_mask=mask, **use).logits, int(rng.integers(1, 8))
        first = model(ids[:, :cut], attention_mask=mask[:, :cut], use_cache=True, **use)
        rest = model(ids[:, cut:], attention_mask=mask, past_key_values=first.past_key_values, **use)
        found = torch.cat([first.logits, rest.logits], dim=1)
        assert_close(found[mask == 1], whole[mask == 1], **tolerance(model))
    labels = ids.masked_fill(mask == 0, -100)
    model.train()(ids, attention_mask=mask, labels=labels, **use).loss.backward()
    touched = {name for name in model.config.languages
               if any(weight.grad is not None for weight in model.experts[name].parameters())}
    assert not is_one or touched == {model.config.languages[at] for at in use["expert_index"].tolist()}
    model.eval()


def check_membership(model, ids, mask, use, rng):
    """Each expert alone says the same whoever leaves."""
    said = {name: answer(model, ids, mask, {"allowed_experts": [name]})[0] for name in model.config.languages}
    for name in rng.permutation(model.config.languages)[1:]:
        model.remove_expert(str(name))
        del said[name]
        for other, logits in said.items():
            assert torch.equal(answer(model, ids, mask, {"allowed_experts": [other]})[0], logits)
    with pytest.raises(ValueError, match="last expert"):
        model.remove_expert(model.config.languages[0])
