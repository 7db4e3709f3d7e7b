"""The modular mixture of experts: shared embedding and head, a GPT-2 body per language, the router inside."""

from functools import partial
from typing import ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from mome.checks import check_choice
from mome.data.ids import check_ids
from mome.models.bodies import Experts, FastLinear, build_body, count_parameters
from mome.models.cache import run_rows
from mome.models.config import AVERAGES, COMMON_EXPERT_USES, MoMEConfig
from mome.models.generation import ModularGeneration, check_cache
from mome.models.members import Members
from mome.models.stacked import can_stack, run_stacked
from mome.router.affine import Router


class MoMEForCausalLM(Members, ModularGeneration, PreTrainedModel, GenerationMixin):
    """A causal language model in which every sequence of a batch goes through its own expert.

    logits = head(hidden), hidden = expert(embedding(input_ids)) of the routed language; with the common
    expert "on" the mean of that and the common expert's, "alone" the common expert's only.
    """

    config_class = MoMEConfig
    supports_gradient_checkpointing = _supports_sdpa = accepts_loss_kwargs = True
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
        self.generation_config.use_cache = True  # the configuration's False is meant for training

    @classmethod
    def from_pretrained(cls, name_or_path, *args, output_loading_info=False, **kwargs):
        """Return the saved model as transformers does; ValueError for one that holds no router to choose."""
        kwargs.setdefault("use_safetensors", True)  # a pickled .bin is never read unless asked for
        model, info = super().from_pretrained(name_or_path, *args, output_loading_info=True, **kwargs)
        missing = ", ".join(sorted(name for name in info["missing_keys"] if name.startswith("router.")))
        if missing:
            raise ValueError(f"{name_or_path} holds no router ({missing} missing); save the model with one")
        model.router.requires_grad_(False)  # its tables are fitted, not trained
        return (model, info) if output_loading_info else model

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None,
                inputs_embeds=None, labels=None, use_cache=None, output_hidden_states=None,
                output_attentions=None, logits_to_keep=0, num_items_in_batch=None, expert_index=None,
                allowed_experts=None, common_expert=None, average_experts=None):
        """Return transformers' CausalLMOutputWithPast: logits (B, T, V), and what is asked for beside them.

        labels (B, T) are as input_ids, -100 ignored: the loss is the cross-entropy of each next one, in nats,
        its mean, or its sum over `num_items_in_batch`. hidden_states are n_layer + 1 of (B, T, D), weighed as
        the bodies answer; attentions n_layer of (B, heads, T, S), the heads of all that answer side by side.

        expert_index (B,) says which expert each row takes; without it the router decides from the whole row,
        among `allowed_experts` (names; all by default). `common_expert` is "on" (the default where there is
        one), "off" or "alone". `average_experts` lets all allowed experts answer, not the routed one: see
        `AVERAGES`. Raises ValueError for switches that the model lacks, another index than an allowed expert
        for each row, a sequence that leaves the context, and where the router would have to read embeddings,
        or a sequence of which the cache holds the beginning.
        """
        allowed, use = self.check_experts(allowed_experts), self.check_common(common_expert)
        check_choice("average_experts", average_experts, (None, *AVERAGES))
        check_cache(past_key_values)
        attention_mask = None if attention_mask is None else attention_mask.long()
        use_cache = self.config.use_cache if use_cache is None else use_cache
        cache = DynamicCache() if use_cache and past_key_values is None else past_key_values
        length = 0 if cache is None else cache.get_seq_length()
        n_rows, position_ids = self.check_inputs(input_ids, inputs_embeds, attention_mask, position_ids,
                                                 length)
        wanted = self.check_wanted(output_hidden_states, output_attentions)
        average = average_experts if use != "alone" else None
        if expert_index is not None:
            index = self.check_index(expert_index, n_rows, allowed, average_experts)
        else:
            index = self.choose(input_ids, attention_mask, allowed, use, average, length)
        embeddings = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        inputs = {"inputs_embeds": embeddings, "attention_mask": attention_mask, "position_ids": position_ids}
        run = partial(run_rows, inputs, cache, length, wanted)
        # Experts can run side by side where there is neither mask nor cache, and nothing of theirs is wanted.
        is_plain = attention_mask is position_ids is cache is None and not any(wanted.values())
        experts = ([] if use == "alone" else self.run_all(run, allowed) if average else
                   [self.dispatch(run, index, embeddings if is_plain else None)])
        n_before = len(experts) * self.config.num_hidden_layers
        common = None if use == "off" else run(self.common_expert, None, n_before)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        last, *states = mix_states(experts, common)
        if average == "posterior":
            logits = torch.stack([self.lm_head(mix_states([part[:1]], common)[0]) for part in experts])
            logits = weigh_by_evidence(logits, input_ids, attention_mask)
        else:
            logits = self.lm_head(last if labels is not None else last[:, keep])
        loss = None if labels is None else self.loss_function(
            logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        if labels is not None or average == "posterior":
            logits = logits[:, keep]
        n_states = wanted["output_hidden_states"] * (self.config.num_hidden_layers + 1)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=cache, hidden_states=tuple(states[:n_states]) or None,
            attentions=tuple(states[n_states:]) or None)

    def check_inputs(self, input_ids, inputs_embeds, mask, position_ids, length: int):
        """Return (B, position_ids (B, T) or None for plain ones) of tokens behind `length` cached ones."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds; both, or neither, is not allowed")
        if input_ids is not None and (input_ids.dim() != 2 or input_ids.shape[1] == 0):
            raise ValueError(f"input_ids of shape {tuple(input_ids.shape)} are not allowed; give (B, T) with "
                             "one token a row or more")
        if input_ids is not None and not input_ids.is_cuda:  # there the kernel raises: looking would wait
            check_ids(input_ids, self.config.vocab_size)
        n_rows, n_tokens = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
        self.check_positions(length + n_tokens, mask, position_ids)
        if mask is not None:
            if mask.shape != (n_rows, length + n_tokens):
                raise ValueError(f"attention_mask of {tuple(mask.shape)} is not allowed; it must be "
                                 f"{(n_rows, length + n_tokens)}: sequences, tokens with the cached ones")
            if position_ids is None:  # counts real tokens, so that a left-padded row equals itself alone
                position_ids = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, -n_tokens:]
        return n_rows, None if position_ids is None else position_ids.expand(n_rows, -1)

    def choose(self, input_ids, mask, allowed, use, average, length: int) -> torch.Tensor | None:
        """Return the expert that the router takes for each row (B,); None where no single one answers."""
        if use == "alone" or average in ("hidden", "logits"):
            return None
        if length or input_ids is None:
            raise ValueError("expert_index=None is not allowed with inputs_embeds, nor with past_key_values "
                             "that hold tokens: who answers is decided on whole sequences of ids; give what "
                             "`route` found on the prompt")
        return None if average else self.route(input_ids, mask, allowed)

    def check_common(self, use: str | None) -> str:
        has_common = self.common_expert is not None
        use = use if use is not None else "on" if has_common else "off"
        check_choice("common_expert", use, COMMON_EXPERT_USES if has_common else ("off",))
        return use

    def check_wanted(self, hidden_states: bool | None, attentions: bool | None) -> dict[str, bool]:
        """Return which of a body's states are told; ValueError for attentions that are never computed."""
        given = {"output_hidden_states": hidden_states, "output_attentions": attentions}
        wanted = {name: bool(getattr(self.config, name, False) if value is None else value)
                  for name, value in given.items()}
        if wanted["output_attentions"] and self.config._attn_implementation != "eager":
            raise ValueError("output_attentions=True is not allowed with attn_implementation="
                             f"{self.config._attn_implementation!r}; open the model with 'eager'")
        return wanted

    def run_all(self, run, allowed: list[str]) -> list[list[torch.Tensor]]:
        """Return the states of all rows in each allowed expert."""
        n_layer = self.config.num_hidden_layers
        return [run(self.experts[name], None, place * n_layer) for place, name in enumerate(allowed)]

    def dispatch(self, run, expert_index, embeddings=None) -> list[torch.Tensor]:
        """Return the states of each row in its expert; given embeddings, equally many rows run together."""
        sizes = torch.bincount(expert_index, minlength=len(self.experts)).tolist()
        if max(sizes) == len(expert_index):  # one expert for all: no need to gather
            return run(list(self.experts.values())[sizes.index(max(sizes))])
        bodies = [body for body, size in zip(self.experts.values(), sizes, strict=True) if size]
        order, sizes = torch.argsort(expert_index, stable=True), [size for size in sizes if size]
        if embeddings is not None and len(set(sizes)) == 1 and all(can_stack(body) for body in bodies):
            parts = [run_stacked(bodies, embeddings[order].unflatten(0, (len(bodies), -1))).flatten(0, 1)]
        else:
            parts = [torch.cat(states) for states in zip(*map(run, bodies, order.split(sizes)), strict=True)]
        back = torch.argsort(order)
        return [states[back] for states in parts]

    @torch.no_grad()
    def route(self, input_ids, attention_mask=None, allowed=None, prefix: int | None = None) -> torch.Tensor:
        """Return expert_index (B,): the most probable allowed expert after `prefix` tokens (None: all)."""
        mask = None if attention_mask is None else attention_mask[:, :prefix]
        probs, names = self.router(input_ids[:, :prefix], mask), self.config.languages
        barred = torch.tensor([name not in (allowed or names) for name in names], device=probs.device)
        return probs.masked_fill(barred, -1).argmax(dim=-1)

    def active_parameters(self, bodies: int | None = None) -> int:
        """Return how many weights a sequence meets in so many bodies; by default its own and a common one."""
        n_common, body = int(self.config.has_common_expert), next(iter(self.experts.values()))
        unused = len(self.experts) + n_common - (bodies or 1 + n_common)
        return count_parameters(self) - unused * count_parameters(body)


def mix_states(experts: list[list[torch.Tensor]], common: list[torch.Tensor] | None) -> list[torch.Tensor]:
    """Return states as the bodies answer: the experts' mean, and half of it and half of the common expert's.

    Hidden states are (B, T, D); attentions (B, heads, T, S) stand side by side instead.
    """
    answers = [*experts, *([] if common is None else [common])]
    mixed = []
    for parts in zip(*answers, strict=True):
        if parts[0].dim() == 4:
            mixed.append(torch.cat(parts, dim=1))
        elif common is None or not experts:
            mixed.append(sum(parts) / len(parts))
        else:
            mixed.append((sum(parts[:-1]) / len(experts) + parts[-1]) / 2)
    return mixed


def weigh_by_evidence(logits: torch.Tensor, input_ids: torch.Tensor, attention_mask) -> torch.Tensor:
    """Return log sum_e P(e | tokens read) p_e, (B, T, V), of several experts' logits (E, B, T, V).

    P(e | ...) is proportional to the probability that e gave those tokens, equal before any (Li et al. 2022,
    Branch-Train-Merge, eq. 2).
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    read = torch.take_along_dim(log_probs[:, :, :-1], input_ids[None, :, 1:, None], dim=-1).squeeze(-1)
    if attention_mask is not None:  # a first real token after padding was predicted from nothing
        read = read * (attention_mask[:, 1:] * attention_mask[:, :-1])
    evidence = nn.functional.pad(read, (1, 0)).cumsum(dim=-1)
    return torch.logsumexp(log_probs + torch.log_softmax(evidence, dim=0).unsqueeze(-1), dim=0)
