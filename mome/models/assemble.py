"""Modular models from nothing and from experts trained apart; experts merged into one."""

import copy
from pathlib import Path

import torch
from transformers import GPT2Config, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from mome.models.bodies import check_shapes
from mome.models.config import MoMEConfig
from mome.models.dense import GPT2LMHeadModel
from mome.models.modular import MoMEForCausalLM
from mome.train.device import find_device
from mome.weights import open_weights


def build_moe(languages: list[str], body_config: GPT2Config, *, has_common_expert: bool,
              seed: int) -> MoMEForCausalLM:
    """Return a modular model with weights drawn from `seed`; its experts are equal, all from one draw.

    Its head is tied to the embedding where the bodies' configuration says so.
    """
    config = MoMEConfig(languages, body_config.to_diff_dict(), has_common_expert,
                        body_config.tie_word_embeddings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MoMEForCausalLM(config)
    first, *others = [*model.experts.values(), *([model.common_expert] if has_common_expert else [])]
    for other in others:  # one starting point keeps their ways of using the shared embedding comparable
        other.load_state_dict(first.state_dict())
    return model


def load_moe(path: Path) -> MoMEForCausalLM:
    """Return a saved modular model in evaluation mode, on the device that is used here."""
    disable_progress_bar()
    return MoMEForCausalLM.from_pretrained(open_weights(path)).eval().to(find_device())


def assemble_experts(experts: dict[str, GPT2LMHeadModel], token_counts: torch.Tensor) -> MoMEForCausalLM:
    """Return the PLE model of experts trained apart: their bodies frozen, one embedding made of theirs.

    Row v of the shared embedding, and of the head, is the mean of the experts' rows weighted by how often
    each language's training text holds token v (token_counts (E, V)): a token that one language owns keeps
    that expert's row exactly, one that none holds gets the plain mean. Raises ValueError for experts of
    different shapes.
    """
    languages = list(experts)
    check_shapes({language: model.config for language, model in experts.items()})
    moe = build_moe(languages, experts[languages[0]].config, has_common_expert=False, seed=0)
    counts = token_counts + (token_counts.sum(dim=0) == 0)
    shares = counts / counts.sum(dim=0)
    with torch.no_grad():
        for language, model in experts.items():
            weights = model.transformer.state_dict()
            del weights["wte.weight"]
            moe.experts[language].load_state_dict(weights)
        for layer, name in ((moe.embedding, "transformer.wte"), (moe.lm_head, "lm_head")):
            tables = torch.stack([model.get_submodule(name).weight for model in experts.values()])
            layer.weight.copy_((shares[..., None] * tables).sum(dim=0))
    moe.experts.requires_grad_(False)
    return moe


def merge_experts(experts: list[PreTrainedModel]) -> PreTrainedModel:
    """Return an expert of several's mean weights, which fits only those of one ancestor and one shape."""
    check_shapes({str(number): expert.config for number, expert in enumerate(experts)})
    merged, states = copy.deepcopy(experts[0]), [expert.state_dict() for expert in experts]
    merged.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return merged
