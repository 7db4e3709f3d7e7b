"""Products by oneDNN equal torch's, with their gradients, and the package's models take them."""

import pytest
import torch

from mome.models.assemble import build_moe
from mome.models.bodies import FastConv1D, FastLinear
from mome.models.gpt2 import build_gpt2, gpt2_config, load_gpt2
from mome.scales import Shape
from mome.train import products
from mome.train.products import FEWEST, is_fast, multiply, multiply_stacks, stays_exact

needs_onednn = pytest.mark.skipif(products.linear is None, reason="torch is built without oneDNN")
N, M = 96, 160


def random_parts(is_transposed, stack):
    """x, weight and bias of one product or of a stack of them."""
    torch.manual_seed(0)
    x, bias = torch.randn(*(stack or (2,)), 64, N), torch.randn(*stack, M)
    weight = torch.randn(*stack, N, M).mT if is_transposed else torch.randn(*stack, M, N)
    return [part.requires_grad_() for part in (x, weight, bias)]


@needs_onednn
@pytest.mark.parametrize("stack", [(), (3,)])
@pytest.mark.parametrize("is_transposed, frozen", [
    (False, ()), (True, ()), (False, (0,)), (True, (1,)), (False, (2,)), (True, (0, 2))])
def test_a_product_and_its_gradients_are_those_of_float64(is_transposed, frozen, stack):
    parts = random_parts(is_transposed, stack)
    exact = [part.detach().double().requires_grad_() for part in parts]
    for number in frozen:
        parts[number].requires_grad_(False)
    assert is_fast(*parts[:2]) or (stack and not stays_exact())
    found, expected = multiply(*parts), exact[0] @ exact[1].mT + exact[2].unsqueeze(-2)
    slope = torch.randn(found.shape)
    found.backward(slope)
    expected.backward(slope.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    for number, (part, of) in enumerate(zip(parts, exact, strict=True)):
        assert (part.grad is None) == (number in frozen)
        if number not in frozen:
            assert ((part.grad - of.grad).norm() / of.grad.norm()).item() < 1e-6


@needs_onednn
def test_a_gradient_of_a_gradient_is_refused_and_not_wrong():
    x, weight, bias = random_parts(False, ())
    slope, = torch.autograd.grad(multiply(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


@pytest.mark.parametrize("stack", [(), (3,)])
def test_small_double_and_autocast_products_stay_with_torch(stack):
    x, weight, bias = random_parts(False, stack)
    few = x[:1, :FEWEST // weight.numel()]
    assert not is_fast(few, weight[:1] if stack else weight) and not is_fast(x.double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_fast(x, weight) and multiply(x, weight, bias).dtype == torch.bfloat16


@needs_onednn
def test_stacks_stay_with_torch_where_onednn_would_round_to_bfloat16(monkeypatch):
    def round_and_multiply(x, weight):
        return (x.bfloat16() @ weight.bfloat16().mT).float()

    monkeypatch.setattr(products, "multiply_stacks", round_and_multiply)
    monkeypatch.setattr(products, "stays_exact", stays_exact.__wrapped__)
    x, weight, bias = random_parts(False, (3,))
    assert not is_fast(x, weight)
    assert torch.equal(multiply(x, weight, bias), torch.baddbmm(bias.unsqueeze(1), x, weight.mT))


def test_torchs_precision_is_afterwards_what_it_was():
    settings, stack = torch.backends.mkldnn.matmul, torch.ones(2, 8, 8)
    for before in ("ieee", settings.fp32_precision):
        settings.fp32_precision = before
        multiply_stacks(stack, stack)
        assert settings.fp32_precision == before
        with pytest.raises(RuntimeError):
            multiply_stacks(stack, torch.ones(2, 8, 9))
        assert settings.fp32_precision == before


def test_all_layers_of_all_models_take_them(tmp_path):
    shape = Shape(1, 2, 16)
    dense = build_gpt2(shape, 60, 24, seed=0)
    dense.save_pretrained(tmp_path)
    moe = build_moe(["en", "fr"], gpt2_config(shape, 60, 24), has_common_expert=True, seed=0)
    for model, bodies in ((dense, 1), (load_gpt2(tmp_path), 1), (moe, 3)):
        layers = [type(module) for module in model.modules()]
        assert (layers.count(FastConv1D), layers.count(FastLinear)) == (4 * bodies, 1)
