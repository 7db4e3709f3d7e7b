"""The modular mixture of experts: shared embedding and head, a GPT-2 body per language, the router inside."""

from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, GPT2Config, GPT2Model, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from mome.checks import check_choice
from mome.distill import IGNORED
from mome.distill.fused import ce_loss
from mome.models import AVERAGES, COMMON_EXPERT_USES
from mome.models.cache import RowsOfCache
from mome.models.card import write_model_card
from mome.models.gpt2 import Experts, FastLinear, build_body, check_shapes, count_parameters
from mome.models.stacked import can_stack, run_stacked
from mome.router.affine import Router
from mome.train.device import find_device


class MoMEConfig(PreTrainedConfig):
    """Configuration of `MoMEForCausalLM`. `body` holds the keyword values of the bodies' GPT2Config."""

    model_type = "mome"

    def __init__(self, languages=("en", "fr", "de", "py"), body=None, has_common_expert=False,
                 tie_word_embeddings=True, tokenizer_sha256="", **kwargs):
        super().__init__(**{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | kwargs)
        self.languages, self.body = list(languages), dict(body or {})
        self.has_common_expert, self.tie_word_embeddings = has_common_expert, tie_word_embeddings
        self.tokenizer_sha256 = tokenizer_sha256  # of the tokenizer whose ids the router was fitted on
        shape = self.body_config()
        self.vocab_size, self.hidden_size = shape.vocab_size, shape.n_embd
        self.num_hidden_layers, self.max_position_embeddings = shape.n_layer, shape.n_positions

    def body_config(self) -> GPT2Config:
        return GPT2Config(**self.body, attn_implementation="sdpa")


class MoMEForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model in which every sequence of a batch goes through its own expert.

    logits = head(hidden), hidden = expert(embedding(input_ids)) of the routed language; with the common
    expert "on" the mean of that and the common expert's, "alone" the common expert's only.
    """

    config_class = MoMEConfig
    supports_gradient_checkpointing = _supports_sdpa = True
    _input_embed_layer = "embedding"
    _tied_weights_keys: ClassVar = {"lm_head.weight": "embedding.weight"}  # where config.tie_word_embeddings

    def __init__(self, config: MoMEConfig):
        super().__init__(config)
        body_config = config.body_config()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.experts = Experts({language: build_body(body_config) for language in config.languages})
        self.common_expert = build_body(body_config) if config.has_common_expert else None
        # The paper's head is untied and has a bias; a tied one, as in GPT-2, has nothing of its own.
        self.lm_head = FastLinear(config.hidden_size, config.vocab_size, bias=not config.tie_word_embeddings)
        self.router = Router(config.vocab_size, config.languages, config.tokenizer_sha256)
        self.post_init()

    @classmethod
    def from_pretrained(cls, name_or_path, *args, output_loading_info=False, **kwargs):
        """Return the saved model as transformers does; ValueError for one that holds no router to choose."""
        kwargs.setdefault("use_safetensors", True)  # a pickled .bin is never read unless asked for
        model, info = super().from_pretrained(name_or_path, *args, output_loading_info=True, **kwargs)
        missing = ", ".join(sorted(name for name in info["missing_keys"] if name.startswith("router.")))
        if missing:
            raise ValueError(f"{name_or_path} holds no router ({missing} missing); save the model with one")
        return (model, info) if output_loading_info else model

    def forward(self, input_ids, attention_mask=None, expert_index=None, labels=None, common_expert=None,
                allowed_experts=None, average_experts=None, past_key_values=None, use_cache=None, **kwargs):
        """Return logits (B, T, V) and, with labels (B, T, shifted already, -100 ignored), their mean CE.

        expert_index (B,) says which expert each row takes; without it the router decides from the whole row,
        among `allowed_experts` (names; all by default). `common_expert` is "on" (the default where there is
        one), "off" or "alone". `average_experts` lets all allowed experts answer, not the routed one: see
        `AVERAGES`. Raises ValueError for an unknown expert, none allowed, a common expert that the model
        lacks, and where the router would have to read a sequence of which the cache holds the beginning.
        """
        allowed, has_common = self.check_experts(allowed_experts), self.common_expert is not None
        use = common_expert if common_expert is not None else "on" if has_common else "off"
        check_choice("common_expert", use, COMMON_EXPERT_USES if has_common else ("off",))
        check_choice("average_experts", average_experts, (None, *AVERAGES))
        average = average_experts if use != "alone" else None
        cache = DynamicCache() if use_cache and past_key_values is None else past_key_values
        hidden = self.run_bodies(input_ids, attention_mask, cache, expert_index, use, average, allowed)
        if average in ("logits", "posterior"):
            parts = torch.stack([self.lm_head(part) for part in hidden])
            logits = mix_logits(parts, input_ids, attention_mask, average)
        else:
            logits = self.lm_head(sum(hidden) / len(hidden))
        loss = None if labels is None else ce_loss(logits, labels) / (labels != IGNORED).sum()
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

    def run_bodies(self, input_ids, mask, cache, expert_index, use, average, allowed) -> list[torch.Tensor]:
        """Return hidden states (B, T, D): one for each expert that is averaged, else a single one."""
        embeddings, n_layer = self.embedding(input_ids), self.config.num_hidden_layers
        inputs = {"inputs_embeds": embeddings, "attention_mask": mask, "position_ids": None}
        if mask is not None:  # positions count real tokens, so that a left-padded row equals itself alone
            inputs["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, -embeddings.shape[1]:]
        run = partial(run_rows, inputs, cache, 0 if cache is None else cache.get_seq_length())
        if use == "alone":
            return [run(self.common_expert)]
        if average:
            hidden = [run(self.experts[name], None, at * n_layer) for at, name in enumerate(allowed)]
        else:
            if expert_index is None and cache is not None and cache.get_seq_length():
                raise ValueError("expert_index=None is not allowed with past_key_values that hold tokens: "
                                 "the router reads whole sequences; give what `route` found on the prompt")
            index = self.route(input_ids, mask, allowed) if expert_index is None else expert_index
            # Experts can run side by side where there is neither a mask nor a cache.
            hidden = [self.dispatch(run, index, embeddings if mask is None and cache is None else None)]
        if use == "on":
            common = run(self.common_expert, None, len(hidden) * n_layer)
            hidden = [(part + common) / 2 for part in hidden]
        return hidden

    def dispatch(self, run, expert_index, embeddings=None):
        """Return hidden states (B, T, D); given embeddings, experts of equally many rows run together."""
        sizes = torch.bincount(expert_index, minlength=len(self.experts)).tolist()
        if max(sizes) == len(expert_index):  # one expert for all: no need to gather
            return run(list(self.experts.values())[sizes.index(max(sizes))])
        bodies = [body for body, size in zip(self.experts.values(), sizes, strict=True) if size]
        order, sizes = torch.argsort(expert_index, stable=True), [size for size in sizes if size]
        if embeddings is not None and len(set(sizes)) == 1 and all(can_stack(body) for body in bodies):
            parts = run_stacked(bodies, embeddings[order].unflatten(0, (len(bodies), -1))).flatten(0, 1)
        else:
            parts = torch.cat(list(map(run, bodies, order.split(sizes))))
        return parts[torch.argsort(order)]

    @torch.no_grad()
    def route(self, input_ids, attention_mask=None, allowed=None, prefix: int | None = None) -> torch.Tensor:
        """Return expert_index (B,): the most probable allowed expert after `prefix` tokens (None: all)."""
        mask = None if attention_mask is None else attention_mask[:, :prefix]
        probs, names = self.router(input_ids[:, :prefix], mask), self.config.languages
        barred = torch.tensor([name not in (allowed or names) for name in names], device=probs.device)
        return probs.masked_fill(barred, -1).argmax(dim=-1)

    def check_experts(self, allowed) -> list[str]:
        names = self.config.languages
        if allowed is not None and not allowed:
            raise ValueError(f"allowed_experts={allowed!r} leaves no expert; choose from: {', '.join(names)}")
        for name in allowed or ():
            check_choice("allowed_experts", name, names)
        return list(allowed or names)

    def active_parameters(self, bodies: int | None = None) -> int:
        """Return how many weights a sequence meets in so many bodies; by default its own and a common one."""
        n_common, body = int(self.config.has_common_expert), next(iter(self.experts.values()))
        unused = len(self.experts) + n_common - (bodies or 1 + n_common)
        return count_parameters(self) - unused * count_parameters(body)

    def save_pretrained(self, save_directory, **kwargs):
        """Write weights, configuration and a model card."""
        super().save_pretrained(save_directory, **kwargs)
        write_model_card(self, save_directory)

    def add_expert(self, language: str, body: GPT2Model, router: Router) -> None:
        """Add an expert; the others keep their weights bit for bit. `router` takes the old one's place.

        Raises ValueError for a language that is there already, a body of another shape, or a router that does
        not know this model's languages and the new one, in that order, or reads another tokenizer's ids.
        """
        names, found, sha256 = self.config.languages, router.tokenizer_sha256, self.config.tokenizer_sha256
        if language in names:
            raise ValueError(f"language={language!r} has an expert already; remove it, or take another name")
        check_shapes({"this model": self.config.body_config(), language: body.config})
        if router.languages != [*names, language]:
            raise ValueError(f"router of {', '.join(router.languages)} is not allowed; it must be fitted on "
                             f"{', '.join([*names, language])}, in that order")
        if found != sha256:
            raise ValueError(f"router reads ids of tokenizer {found[:12]!r}, not the model's {sha256[:12]!r}")
        self.experts[language] = body.to(self.device)
        self.config.languages, self.router = [*names, language], router.to(self.device)

    def remove_expert(self, language: str) -> None:
        """Take an expert out, also of the router. Raises ValueError for an unknown one and for the last."""
        check_choice("language", language, self.config.languages)
        languages = [name for name in self.config.languages if name != language]
        if not languages:
            raise ValueError(f"language={language!r} is the last expert; a model needs one")
        del self.experts[language]
        self.config.languages, self.router = languages, self.router.keep(languages)

    def generate(self, input_ids=None, attention_mask=None, expert_index=None, use_cache=True, **kwargs):
        """Return generated ids as transformers does; ValueError for an empty prompt and for right padding."""
        mask, is_empty = attention_mask, input_ids is None or input_ids.shape[-1] == 0
        if is_empty or (mask is not None and (mask.sum(dim=-1) == 0).any()):
            raise ValueError("input_ids holds an empty prompt; every row needs a token, for example bos")
        if mask is not None and (mask[:, -1] == 0).any():
            raise ValueError("attention_mask ends with padding; pad prompts on the left: padding_side='left'")
        if expert_index is None:  # the prompt decides, row by row, for all that follows
            expert_index = self.route(input_ids, mask, self.check_experts(kwargs.get("allowed_experts")))
        use_cache = use_cache and kwargs.get("average_experts") != "posterior"  # needs the whole sequence
        if use_cache and kwargs.get("past_key_values") is None:
            kwargs["past_key_values"] = DynamicCache()
        kwargs |= {"attention_mask": mask, "expert_index": expert_index, "use_cache": use_cache}
        return super().generate(input_ids, **kwargs)


def load_moe(path: Path) -> MoMEForCausalLM:
    """Return a saved modular model in evaluation mode, on the device that is used here."""
    return MoMEForCausalLM.from_pretrained(path).eval().to(find_device())


def run_rows(inputs: dict, cache, length: int, body: GPT2Model, rows=None, first_layer=0) -> torch.Tensor:
    """Return hidden states (rows, T, D) of some rows (None: all) in a body, after `length` cached tokens."""
    batch_size = len(inputs["inputs_embeds"])
    view = None if cache is None else RowsOfCache(cache, rows, batch_size, first_layer, length)
    if rows is not None:
        inputs = {name: None if part is None else part[rows] for name, part in inputs.items()}
    return body(**inputs, past_key_values=view, use_cache=view is not None).last_hidden_state


def mix_logits(logits: torch.Tensor, input_ids: torch.Tensor, attention_mask, how: str) -> torch.Tensor:
    """Return what several experts' logits (E, B, T, V) say together, (B, T, V).

    "logits" is their mean, "posterior" log sum_e P(e | tokens read) p_e, where P(e | ...) is proportional to
    the probability that e gave those tokens, equal before any (Li et al. 2022, Branch-Train-Merge, eq. 2).
    """
    if how == "logits":
        return logits.mean(dim=0)
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    read = torch.take_along_dim(log_probs[:, :, :-1], input_ids[None, :, 1:, None], dim=-1).squeeze(-1)
    if attention_mask is not None:  # a first real token after padding was predicted from nothing
        read = read * (attention_mask[:, 1:] * attention_mask[:, :-1])
    evidence = nn.functional.pad(read, (1, 0)).cumsum(dim=-1)
    return torch.logsumexp(log_probs + torch.log_softmax(evidence, dim=0).unsqueeze(-1), dim=0)
