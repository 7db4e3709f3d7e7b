import pytest
import torch
from torch import nn

from mome.models.bodies import build_body, check_shapes, count_parameters
from mome.models.gpt2 import build_gpt2, gpt2_config, load_gpt2
from mome.scales import Shape


def test_equal_seeds_give_equal_weights_and_the_callers_random_state_stays():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (build_gpt2(Shape(1, 2, 16), 60, 24, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_shared_weights_are_counted_once():
    layer = nn.Linear(3, 3, bias=False)
    assert count_parameters(nn.Sequential(layer, layer)) == 9


def test_nothing_drops_out_in_training(ids):
    model = build_gpt2(Shape(2, 2, 16), 60, 24, seed=0)
    assert torch.equal(model.train()(ids).logits, model.eval()(ids).logits)


def test_a_body_has_no_token_table_and_computes_what_the_whole_model_does(ids):
    model = build_gpt2(Shape(2, 2, 16), 60, 24, seed=0).eval()
    body = build_body(gpt2_config(Shape(2, 2, 16), 60, 24)).eval()
    weights = model.transformer.state_dict()
    assert set(weights) - set(body.state_dict()) == {"wte.weight"}
    body.load_state_dict(weights, strict=False)
    hidden = body(inputs_embeds=model.transformer.wte(ids)).last_hidden_state
    assert torch.equal(hidden, model.transformer(ids).last_hidden_state)


def test_a_saved_model_comes_back_ready_to_be_scored(tmp_path, ids):
    model = build_gpt2(Shape(1, 2, 16), 60, 24, seed=0)
    model.save_pretrained(tmp_path)
    loaded = load_gpt2(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_are_a_pickle_are_refused_whatever_they_are_called(tmp_path, bomb, name):
    build_gpt2(Shape(1, 2, 16), 60, 24, seed=0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(bomb)
    with pytest.raises(Exception, match=r"safetensors|[Hh]eader"):
        load_gpt2(tmp_path)


def test_bodies_of_one_shape_pass_and_the_first_that_differs_is_named():
    one, longer, wider = (gpt2_config(Shape(1, 2, 16), 60, 24), gpt2_config(Shape(1, 2, 16), 60, 32),
                          gpt2_config(Shape(1, 2, 32), 60, 24))
    check_shapes({"en": one, "fr": gpt2_config(Shape(1, 2, 16), 60, 24)})
    with pytest.raises(ValueError, match=r"'de' has n_positions=32, 'en' 24"):
        check_shapes({"en": one, "de": longer, "fr": wider})
    with pytest.raises(ValueError, match="'fr' has n_embd=32, 'en' 16"):
        check_shapes({"en": one, "fr": wider})
