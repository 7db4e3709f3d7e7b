"""The modular mixture of experts: shared embedding and head, one GPT-2 body per language, an optional common expert."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, GPT2Config, GPT2LMHeadModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from mome.config import check_choice
from mome.distill import ce_loss
from mome.models import build_body
from mome.router import Router

COMMON_EXPERT_USES = ("off", "on", "alone")


class MoMEConfig(PreTrainedConfig):
    """Configuration of `MoMEForCausalLM`. `body` holds the keyword values of the bodies' GPT2Config."""

    model_type = "mome"

    def __init__(self, languages=("en", "fr", "de", "py"), body=None, has_common_expert=False, tie_word_embeddings=True,
                 tokenizer_sha256="", **kwargs):
        kwargs = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | kwargs
        super().__init__(**kwargs)
        self.tie_word_embeddings = tie_word_embeddings
        self.languages = list(languages)
        self.body = dict(body or {})
        self.has_common_expert = has_common_expert
        self.tokenizer_sha256 = tokenizer_sha256  # of the tokenizer whose ids the router was fitted on
        self.vocab_size = self.body.get("vocab_size", 50_257)
        self.hidden_size = self.body.get("n_embd", 768)
        self.num_hidden_layers = self.body.get("n_layer", 12)

    def body_config(self) -> GPT2Config:
        config = GPT2Config(**self.body)
        config._attn_implementation = "sdpa"
        return config


class MoMEForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model in which every sequence of a batch goes through its own expert (paper, section on MoE variants).

    hidden = expert(embedding(input_ids)) of the routed language; with the common expert "on" the mean of that and the
    common expert's, "alone" the common expert's only. logits = head(hidden). The router sits inside.
    """

    config_class = MoMEConfig
    _supports_sdpa = True
    _tied_weights_keys: ClassVar = {"lm_head.weight": "embedding.weight"}  # in force only with config.tie_word_embeddings

    def __init__(self, config: MoMEConfig):
        super().__init__(config)
        body_config = config.body_config()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.experts = nn.ModuleDict({language: build_body(body_config) for language in config.languages})
        self.common_expert = build_body(body_config) if config.has_common_expert else None
        # The paper's head is untied and has a bias; tied, as in GPT-2, it has neither weights of its own nor a bias.
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=not config.tie_word_embeddings)
        self.router = Router(config.vocab_size, config.languages, config.tokenizer_sha256)
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, expert_index=None, labels=None, common_expert=None, allowed_experts=None,
                average_experts=False, **kwargs) -> CausalLMOutput:
        """Return logits (B, T, V) and, with labels (B, T, already shifted, -100 ignored), their mean cross-entropy.

        expert_index (B,) says which expert each row takes; without it the router decides from the whole row, among
        `allowed_experts` (names; all by default). `common_expert` is "on", "off" or "alone" (default: on where there is
        one). `average_experts` takes the mean over the allowed experts instead of the routed one. Raises ValueError for
        an unknown expert, none allowed, or a common expert that the model lacks.
        """
        use = self.check_common_expert(common_expert)
        allowed = self.check_experts(allowed_experts)
        embeddings = self.embedding(input_ids)
        if use == "alone":
            hidden = self.run_body(self.common_expert, embeddings, attention_mask)
        elif average_experts:
            hidden = sum(self.run_body(self.experts[name], embeddings, attention_mask) for name in allowed) / len(allowed)
        else:
            if expert_index is None:
                expert_index = self.route(input_ids, attention_mask, allowed)
            hidden = self.dispatch(embeddings, attention_mask, expert_index)
        if use == "on":
            hidden = (hidden + self.run_body(self.common_expert, embeddings, attention_mask)) / 2
        logits = self.lm_head(hidden)
        loss = None if labels is None else ce_loss(logits, labels) / (labels >= 0).sum()
        return CausalLMOutput(loss=loss, logits=logits)

    def run_body(self, body, embeddings, attention_mask):
        # Positions count real tokens, so that a left-padded row equals itself alone.
        positions = None if attention_mask is None else (attention_mask.cumsum(dim=-1) - 1).clamp_min(0)
        return body(inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=positions, use_cache=False).last_hidden_state

    def dispatch(self, embeddings, attention_mask, expert_index):
        """Return hidden states (B, T, D): the rows of each expert run together, then are put back in order."""
        order = torch.argsort(expert_index, stable=True)
        sizes = torch.bincount(expert_index, minlength=len(self.experts)).tolist()
        if max(sizes) == len(expert_index):  # one expert for all: no need to gather
            return self.run_body(list(self.experts.values())[sizes.index(max(sizes))], embeddings, attention_mask)
        parts, embedded = [], embeddings[order].split(sizes)
        masks = [None] * len(sizes) if attention_mask is None else attention_mask[order].split(sizes)
        for body, part, mask in zip(self.experts.values(), embedded, masks, strict=True):
            if len(part):
                parts.append(self.run_body(body, part, mask))
        return torch.cat(parts)[torch.argsort(order)]

    @torch.no_grad()
    def route(self, input_ids, attention_mask=None, allowed=None, prefix: int | None = None):
        """Return expert_index (B,): the router's most probable allowed expert, from the first `prefix` tokens or all."""
        if prefix is not None:
            input_ids, attention_mask = input_ids[:, :prefix], None if attention_mask is None else attention_mask[:, :prefix]
        probs = self.router(input_ids, attention_mask)
        barred = [name not in (allowed or self.config.languages) for name in self.config.languages]
        return probs.masked_fill(torch.tensor(barred, device=probs.device), -1).argmax(dim=-1)

    def check_experts(self, allowed) -> list[str]:
        if allowed is None:
            return list(self.config.languages)
        if not allowed:
            raise ValueError(f"allowed_experts={allowed!r} leaves no expert; choose from: {', '.join(self.config.languages)}")
        for name in allowed:
            check_choice("allowed_experts", name, self.config.languages)
        return list(allowed)

    def check_common_expert(self, use) -> str:
        if use is None:
            return "on" if self.common_expert is not None else "off"
        check_choice("common_expert", use, COMMON_EXPERT_USES if self.common_expert is not None else ("off",))
        return use

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, expert_index=None, **kwargs):
        # The expert is chosen once, on the prompt, and kept while the text grows.
        keep = {name: kwargs[name] for name in ("common_expert", "allowed_experts", "average_experts") if name in kwargs}
        return {"input_ids": input_ids, "attention_mask": attention_mask, "expert_index": expert_index, **keep}

    def generate(self, input_ids=None, attention_mask=None, expert_index=None, **kwargs):
        """Return generated ids as transformers does; routing is decided on the prompt, per row, unless told."""
        if expert_index is None:
            expert_index = self.route(input_ids, attention_mask, self.check_experts(kwargs.get("allowed_experts")))
        return super().generate(input_ids, attention_mask=attention_mask, expert_index=expert_index, use_cache=False, **kwargs)


def build_moe(languages: list[str], body_config: GPT2Config, *, has_common_expert: bool, tie_word_embeddings: bool, seed: int) -> MoMEForCausalLM:
    """Return a modular model with weights drawn from `seed`; every expert starts from the same draw.

    One starting point keeps the experts' ways of using the shared embedding comparable, and makes N untrained experts
    equal one.
    """
    config = MoMEConfig(languages, body_config.to_diff_dict(), has_common_expert, tie_word_embeddings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MoMEForCausalLM(config)
    first, *others = [*model.experts.values(), *([model.common_expert] if has_common_expert else [])]
    for other in others:
        other.load_state_dict(first.state_dict())
    return model


def assemble_experts(experts: dict[str, GPT2LMHeadModel], token_counts: torch.Tensor, tie_word_embeddings: bool) -> MoMEForCausalLM:
    """Return the PLE model of experts trained apart: their bodies frozen, one embedding made of theirs.

    Row v of the shared embedding is the mean of the experts' rows weighted by how often each language's training text
    holds token v (token_counts (E, V)): a token that one language owns keeps that expert's row exactly. Raises
    ValueError for experts of different shapes.
    """
    languages, models = list(experts), list(experts.values())
    reference = models[0].config
    for language, model in experts.items():
        for name in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd"):
            if getattr(model.config, name) != getattr(reference, name):
                raise ValueError(f"expert {language!r} has {name}={getattr(model.config, name)}, the others {getattr(reference, name)}; "
                                 "experts of one model must have one shape")
    moe = build_moe(languages, reference, has_common_expert=False, tie_word_embeddings=tie_word_embeddings, seed=0)
    shares = (token_counts + 1e-3) / (token_counts + 1e-3).sum(dim=0)
    with torch.no_grad():
        for language, model in experts.items():
            weights = {name: value for name, value in model.transformer.state_dict().items() if not name.startswith("wte.")}
            moe.experts[language].load_state_dict(weights)
        mean = sum(share[:, None] * model.transformer.wte.weight for share, model in zip(shares, models, strict=True))
        moe.embedding.weight.copy_(mean)
        moe.lm_head.weight.copy_(mean)
    moe.experts.requires_grad_(False)
    return moe


AutoConfig.register("mome", MoMEConfig)
AutoModelForCausalLM.register(MoMEConfig, MoMEForCausalLM)
