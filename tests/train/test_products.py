"""Products by oneDNN equal torch's, with their gradients, and the package's models take them."""

import pytest
import torch

from mome.models.assemble import build_moe
from mome.models.gpt2 import FastConv1D, FastLinear, build_gpt2, gpt2_config, load_gpt2
from mome.scales import Shape
from mome.train import products
from mome.train.products import FEWEST, is_fast, multiply

needs_onednn = pytest.mark.skipif(products.linear is None, reason="torch is built without oneDNN")
ROWS, N, M = (2, 64), 96, 160


def random_parts(is_transposed):
    torch.manual_seed(0)
    x, bias = torch.randn(*ROWS, N, requires_grad=True), torch.randn(M, requires_grad=True)
    weight = (torch.randn(N, M).T if is_transposed else torch.randn(M, N)).requires_grad_()
    return x, weight, bias


@needs_onednn
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 2)])
def test_a_product_and_its_gradients_are_those_of_float64(is_transposed, frozen):
    parts = random_parts(is_transposed)
    exact = [part.detach().double().requires_grad_() for part in parts]
    for number in frozen:
        parts[number].requires_grad_(False)
    slope = torch.randn(*ROWS, M)
    assert is_fast(*parts[:2])
    found, expected = multiply(*parts), exact[0] @ exact[1].T + exact[2]
    found.backward(slope)
    expected.backward(slope.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    for number, (part, of) in enumerate(zip(parts, exact, strict=True)):
        assert (part.grad is None) == (number in frozen)
        if number not in frozen:
            assert ((part.grad - of.grad).norm() / of.grad.norm()).item() < 1e-6


@needs_onednn
def test_a_gradient_of_a_gradient_is_refused_and_not_wrong():
    x, weight, bias = random_parts(False)
    slope, = torch.autograd.grad(multiply(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def test_small_double_and_autocast_products_stay_with_torch():
    x, weight, _ = random_parts(False)
    few = x[:1, :FEWEST // weight.numel()]
    assert not is_fast(few, weight) and not is_fast(x.double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_fast(x, weight) and multiply(x, weight).dtype == torch.bfloat16


def test_all_layers_of_all_models_take_them(tmp_path):
    shape = Shape(1, 2, 16)
    dense = build_gpt2(shape, 60, 24, seed=0)
    dense.save_pretrained(tmp_path)
    moe = build_moe(["en", "fr"], gpt2_config(shape, 60, 24), has_common_expert=True, seed=0)
    for model, bodies in ((dense, 1), (load_gpt2(tmp_path), 1), (moe, 3)):
        layers = [type(module) for module in model.modules()]
        assert (layers.count(FastConv1D), layers.count(FastLinear)) == (4 * bodies, 1)
