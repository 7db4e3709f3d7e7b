"""A small modular model, six rows of ids and an expert for each row."""

import pickle

import pytest
import torch
from transformers import GPT2LMHeadModel

from mome.models.assemble import build_moe
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.scales import Shape

torch.set_num_threads(1)  # equal results run to run


@pytest.fixture
def languages():
    return ["en", "fr", "de", "py"]


@pytest.fixture
def body_config():
    return gpt2_config(Shape(1, 2, 16), 60, 24)


@pytest.fixture
def ids():
    return torch.randint(3, 60, (6, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def experts():
    return torch.tensor([3, 0, 2, 2, 1, 0])


@pytest.fixture
def build(languages, body_config):
    """Return a function that builds a model whose experts and router differ unless told otherwise."""
    def build_one(has_common_expert=False, tie=True, distinct=True):
        body_config.tie_word_embeddings = tie
        model = build_moe(languages, body_config, has_common_expert=has_common_expert, seed=0)
        if distinct:
            torch.manual_seed(1)
            with torch.no_grad():
                for body in [*model.experts.values(), *([model.common_expert] if has_common_expert else [])]:
                    for parameter in body.parameters():
                        parameter.add_(0.1 * torch.randn_like(parameter))
                model.router.weight.normal_()
                model.router.weight[:3] = 0
        return model.eval()

    return build_one


@pytest.fixture
def gpt2():
    """transformers' own GPT-2, whose weights are far from where they start."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(gpt2_config(Shape(2, 2, 16), 60, 24))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model.generation_config.use_cache = True  # our configurations have none in training
    return model.eval()


@pytest.fixture(params=["dense", "modular", "with a common expert"])
def twin(request, gpt2):
    """One of our models that must say what `gpt2` says: the dense one, or one whose experts all equal it."""
    if request.param == "dense":
        model = build_gpt2(Shape(2, 2, 16), 60, 24, seed=0)
        model.load_state_dict(gpt2.state_dict())
        return model.eval()
    common, weights = request.param != "modular", gpt2.transformer.state_dict()
    model = build_moe(["en", "fr", "py"], gpt2.config, has_common_expert=common, seed=0)
    model.embedding.weight.data.copy_(weights.pop("wte.weight"))
    for body in [*model.experts.values(), *([model.common_expert] if common else [])]:
        body.load_state_dict(weights)
    model.router.weight.data.normal_()
    return model.eval()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def bomb(tmp_path):
    """Bytes that leave a file when they are unpickled; no test may leave it."""
    path = tmp_path / "exploded"
    yield pickle.dumps(Bomb(path))
    assert not path.exists(), "a pickle was executed"
