"""GPT-2 bodies: what experts are, and how a modular model keeps them by language."""

from itertools import product

from torch import nn
from transformers import GPT2Config, GPT2Model
from transformers.pytorch_utils import Conv1D

from mome.train.products import multiply

TAKEN = frozenset(dir(nn.ModuleDict()))  # names that are attributes of every ModuleDict
BODY_SHAPE = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")


class FastConv1D(Conv1D):
    def forward(self, x):
        return multiply(x, self.weight.T, self.bias)


class FastLinear(nn.Linear):
    def forward(self, x):
        return multiply(x, self.weight, self.bias)


def speed_up(model: nn.Module) -> nn.Module:
    """Return the model, whose layers now take `multiply` for their products."""
    for module in model.modules():
        module.__class__ = {Conv1D: FastConv1D, nn.Linear: FastLinear}.get(type(module), type(module))
    return model


def build_body(config: GPT2Config) -> GPT2Model:
    """Return a GPT-2 body, to be fed `inputs_embeds`: positions, blocks, final norm, but no token table."""
    body = speed_up(GPT2Model(config))
    body.wte = None
    return body


def spell_key(language: str) -> str:
    """Return where `Experts` keeps a language's body: `to` and `train` cannot be names of modules."""
    return f"{language}:" if language in TAKEN else language


class Experts(nn.ModuleDict):
    """GPT-2 bodies by language; its keys are those that `spell_key` gives."""

    def __getitem__(self, language: str) -> GPT2Model:
        return super().__getitem__(spell_key(language))

    def __setitem__(self, language: str, body: GPT2Model) -> None:
        super().__setitem__(spell_key(language), body)

    def __delitem__(self, language: str) -> None:
        super().__delitem__(spell_key(language))

    def __contains__(self, language: str) -> bool:
        return super().__contains__(spell_key(language))


def count_parameters(module: nn.Module) -> int:
    """Return how many weights a module holds, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def check_shapes(configs: dict[str, GPT2Config]) -> None:
    """Raise ValueError unless all bodies have one shape."""
    first, *others = configs
    for other, name in product(others, BODY_SHAPE):
        found, wanted = getattr(configs[other], name), getattr(configs[first], name)
        if found != wanted:
            raise ValueError(f"expert {other!r} has {name}={found}, {first!r} {wanted}; both need one")
