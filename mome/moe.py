"""The modular mixture of experts: shared embedding and head, one GPT-2 body per language, an optional common expert."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, GPT2Config, GPT2LMHeadModel, GPT2Model, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from mome.config import check_choice
from mome.distill import IGNORED, ce_loss
from mome.models import build_body, count_parameters
from mome.router import Router

COMMON_EXPERT_USES = ("off", "on", "alone")
# How several experts answer together instead of the routed one: mean of hidden states (the paper's), of logits, or of
# probabilities weighed by how well each expert has predicted the sequence so far (Branch-Train-Merge).
AVERAGES = ("hidden", "logits", "posterior")
BODY_SHAPE = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")


MODEL_CARD = """# Modular mixture of experts: {languages}

A causal language model of {n_experts} GPT-2 bodies{common} behind one shared embedding, distilled from a multilingual teacher (arXiv:2407.19610). A router
inside reads each sequence and sends it through one expert.

| | |
| --- | --- |
| parameters | {total:,}; {active:,} of them active for a sequence |
| an expert | {shape} |
| context, vocabulary | {context:,} tokens, {vocab_size:,} entries |
| head | {tied} |
| tokenizer (SHA-256) | `{tokenizer}` |

```python
import mome
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("this folder")
```

`forward` and `generate` take `expert_index` (told instead of routed), `allowed_experts`, `common_expert` ("on", "off", "alone") and `average_experts`
("hidden", "logits", "posterior"). Pad prompts on the left. Trained for research on little text: what it writes is neither true nor safe.
"""


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
        self.max_position_embeddings = self.body.get("n_positions", 1_024)

    def body_config(self) -> GPT2Config:
        config = GPT2Config(**self.body)
        config._attn_implementation = "sdpa"
        return config


class RowsOfCache:
    """Some rows and layers of a batch's cache, which an expert's body takes for a cache of its own.

    All bodies have one shape, so keys and values of every row fit one cache, whichever expert wrote them: what generation
    does to whole batches (growing, reordering beams) needs to know nothing of experts. `rows` None is the whole batch.
    """

    def __init__(self, cache: Cache, rows: torch.Tensor | None, batch_size: int, first_layer: int, length: int):
        self.cache, self.rows, self.batch_size, self.first_layer, self.length = cache, rows, batch_size, first_layer, length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.length + query_length, 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values (rows, heads, T, D) of new positions; return those of all positions of these rows."""
        number = self.first_layer + layer_idx
        if self.rows is None:
            return self.cache.update(keys, values, number)
        if self.cache.get_seq_length(number) == self.length:  # the first expert of this step makes room for all rows
            room = keys.new_zeros(self.batch_size, *keys.shape[1:])
            self.cache.update(room, room.clone(), number)
        layer = self.cache.layers[number]
        layer.keys[self.rows, :, self.length:], layer.values[self.rows, :, self.length:] = keys, values
        return layer.keys[self.rows], layer.values[self.rows]


class MoMEForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model in which every sequence of a batch goes through its own expert (paper, section on MoE variants).

    hidden = expert(embedding(input_ids)) of the routed language; with the common expert "on" the mean of that and the
    common expert's, "alone" the common expert's only. logits = head(hidden). The router sits inside.
    """

    config_class = MoMEConfig
    supports_gradient_checkpointing = True
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

    @classmethod
    def from_pretrained(cls, name_or_path, *args, output_loading_info=False, **kwargs):
        """Return the saved model as transformers does. Raises ValueError for a checkpoint that holds no router, which could not choose."""
        kwargs.setdefault("use_safetensors", True)  # a pickled .bin is never read unless asked for
        model, info = super().from_pretrained(name_or_path, *args, output_loading_info=True, **kwargs)
        missing = sorted(name for name in info["missing_keys"] if name.startswith("router."))
        if missing:
            raise ValueError(f"{name_or_path} holds no router ({', '.join(missing)} missing); fit one and save it within the model")
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, expert_index=None, labels=None, common_expert=None, allowed_experts=None,
                average_experts=None, past_key_values=None, use_cache=None, **kwargs) -> CausalLMOutputWithPast:
        """Return logits (B, T, V) and, with labels (B, T, already shifted, -100 ignored), their mean cross-entropy.

        expert_index (B,) says which expert each row takes; without it the router decides from the whole row, among
        `allowed_experts` (names; all by default). `common_expert` is "on", "off" or "alone" (default: on where there is
        one). `average_experts` lets all allowed experts answer instead of the routed one, see `AVERAGES`. Raises ValueError
        for an unknown expert, none allowed, a common expert that the model lacks, and where the router would have to read a
        sequence of which the cache holds the beginning.
        """
        use, allowed = self.check_common_expert(common_expert), self.check_experts(allowed_experts)
        check_choice("average_experts", average_experts, (None, *AVERAGES))
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        embeddings = self.embedding(input_ids)
        run = self.make_runner(embeddings, attention_mask, past_key_values)
        n_layer, hidden = self.config.num_hidden_layers, []
        if use == "alone":
            hidden = [run(self.common_expert, None, 0)]
        elif average_experts:
            hidden = [run(self.experts[name], None, number * n_layer) for number, name in enumerate(allowed)]
        else:
            if expert_index is None:
                if past_key_values is not None and past_key_values.get_seq_length():
                    raise ValueError("expert_index=None is not allowed with past_key_values that hold tokens: the router reads whole sequences; "
                                     "give the expert_index that `route` found on the prompt")
                expert_index = self.route(input_ids, attention_mask, allowed)
            # Without mask and cache, experts with equally many rows can run side by side.
            is_plain = attention_mask is None and past_key_values is None
            hidden = [self.dispatch(run, expert_index, embeddings if is_plain else None)]
        if use == "on":
            common = run(self.common_expert, None, len(hidden) * n_layer)
            hidden = [(part + common) / 2 for part in hidden]
        if average_experts in ("logits", "posterior") and use != "alone":
            logits = mix_logits(torch.stack([self.lm_head(part) for part in hidden]), input_ids, attention_mask, average_experts)
        else:
            logits = self.lm_head(sum(hidden) / len(hidden))
        loss = None if labels is None else ce_loss(logits, labels) / (labels != IGNORED).sum()
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def make_runner(self, embeddings, attention_mask, cache):
        """Return `run(body, rows, first_layer)`: hidden states (rows, T, D) of some rows (None: all) through one body."""
        length, positions = 0 if cache is None else cache.get_seq_length(), None
        if attention_mask is not None:
            # Positions count real tokens, so that a left-padded row equals itself alone.
            positions = (attention_mask.cumsum(dim=-1) - 1).clamp_min(0)[:, -embeddings.shape[1]:]

        def run(body, rows, first_layer):
            parts = [part if rows is None or part is None else part[rows] for part in (embeddings, attention_mask, positions)]
            view = None if cache is None else RowsOfCache(cache, rows, len(embeddings), first_layer, length)
            return body(inputs_embeds=parts[0], attention_mask=parts[1], position_ids=parts[2], past_key_values=view,
                        use_cache=view is not None).last_hidden_state

        return run

    def dispatch(self, run, expert_index, embeddings=None):
        """Return hidden states (B, T, D): the rows of each expert run together, then are put back in order.

        With `embeddings` (B, T, D), experts that have equally many rows, as in balanced training, run as one.
        """
        sizes = torch.bincount(expert_index, minlength=len(self.experts)).tolist()
        if max(sizes) == len(expert_index):  # one expert for all: no need to gather
            return run(list(self.experts.values())[sizes.index(max(sizes))], None, 0)
        order = torch.argsort(expert_index, stable=True)
        bodies = [body for body, size in zip(self.experts.values(), sizes, strict=True) if size]
        if embeddings is not None and len({size for size in sizes if size}) == 1 and all(can_stack(body) for body in bodies):
            parts = run_stacked(bodies, embeddings[order].unflatten(0, (len(bodies), -1))).flatten(0, 1)
        else:
            parts = torch.cat([run(body, rows, 0) for body, rows in zip(bodies, order.split([size for size in sizes if size]), strict=True)])
        return parts[torch.argsort(order)]

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

    def active_parameters(self, bodies: int | None = None) -> int:
        """Return how many weights one sequence goes through when it takes so many bodies: the routed one, and the common one, by default."""
        of_body, all_bodies = count_parameters(next(iter(self.experts.values()))), len(self.experts) + self.config.has_common_expert
        return count_parameters(self) - (all_bodies - (bodies or 1 + self.config.has_common_expert)) * of_body

    def save_pretrained(self, save_directory, **kwargs):
        """Write weights, configuration and a model card."""
        super().save_pretrained(save_directory, **kwargs)
        body, tied = self.config.body_config(), "tied to the embedding" if self.config.tie_word_embeddings else "with weights of its own"
        (Path(save_directory) / "README.md").write_text(MODEL_CARD.format(
            languages=", ".join(self.config.languages), n_experts=len(self.experts), common=" and a common expert" if self.config.has_common_expert else "",
            shape=f"{body.n_layer} layers of {body.n_embd}, {body.n_head} heads", context=body.n_positions, vocab_size=body.vocab_size, tied=tied,
            total=count_parameters(self), active=self.active_parameters(), tokenizer=self.config.tokenizer_sha256 or "unknown"), encoding="utf-8")

    def add_expert(self, language: str, body: GPT2Model, router: Router) -> None:
        """Add an expert; the others keep their weights bit for bit. `router` takes the old one's place.

        Raises ValueError for a language that is there already, a body of another shape, or a router that does not know this
        model's languages and the new one, in that order, or reads another tokenizer's ids.
        """
        languages = [*self.config.languages, language]
        if language in self.config.languages:
            raise ValueError(f"language={language!r} has an expert already; remove it first, or choose another name")
        check_shapes({"this model": self.config.body_config(), language: body.config})
        if list(router.languages) != languages:
            raise ValueError(f"router of {', '.join(router.languages)} is not allowed; it must be fitted on {', '.join(languages)}, in that order")
        if router.tokenizer_sha256 != self.config.tokenizer_sha256:
            raise ValueError(f"router reads ids of tokenizer {router.tokenizer_sha256[:12]!r}, this model those of {self.config.tokenizer_sha256[:12]!r}")
        self.experts[language] = body.to(self.device)
        self.config.languages, self.router = languages, router.to(self.device)

    def remove_expert(self, language: str) -> None:
        """Take an expert out, and its language out of the router. Raises ValueError for an unknown one and for the last."""
        check_choice("language", language, self.config.languages)
        if len(self.config.languages) == 1:
            raise ValueError(f"language={language!r} is the last expert; a model needs one")
        languages = [name for name in self.config.languages if name != language]
        del self.experts[language]
        self.config.languages, self.router = languages, self.router.keep(languages)

    def generate(self, input_ids=None, attention_mask=None, expert_index=None, use_cache=True, **kwargs):
        """Return generated ids as transformers does; routing is decided on the prompt, per row, unless told, and kept.

        Raises ValueError for an empty prompt, for rows padded on the right, and for a cache with `average_experts="posterior"`,
        whose weights need the whole sequence.
        """
        if input_ids is None or input_ids.shape[-1] == 0 or (attention_mask is not None and (attention_mask.sum(dim=-1) == 0).any()):
            raise ValueError("input_ids holds an empty prompt; every row needs at least one token, for example the bos token")
        if attention_mask is not None and (attention_mask[:, -1] == 0).any():
            raise ValueError("attention_mask ends with padding; pad prompts on the left: tokenizer(..., padding=True, padding_side='left')")
        if expert_index is None:
            expert_index = self.route(input_ids, attention_mask, self.check_experts(kwargs.get("allowed_experts")))
        use_cache = use_cache and kwargs.get("average_experts") != "posterior"
        if use_cache and kwargs.get("past_key_values") is None:
            kwargs["past_key_values"] = DynamicCache()
        return super().generate(input_ids, attention_mask=attention_mask, expert_index=expert_index, use_cache=use_cache, **kwargs)


def can_stack(body: GPT2Model) -> bool:
    """Return whether `run_stacked` computes what this body does: no dropout at work, no checkpointing, plain attention."""
    config = body.config
    drops = body.training and max(config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) > 0
    is_plain = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx and config._attn_implementation == "sdpa"
    return is_plain and not drops and not (body.gradient_checkpointing and body.training)


def run_stacked(bodies: list[GPT2Model], embeddings: torch.Tensor) -> torch.Tensor:
    """Return hidden states (E, B, T, D) of embeddings (E, B, T, D), part e through body e: one batched matrix product a layer for all.

    Small experts on few rows would otherwise spend their time on calls and on fetching weights.
    """
    n_experts, length, width = len(bodies), embeddings.shape[2], embeddings.shape[3]
    heads = bodies[0].config.n_head
    hidden = (embeddings + torch.stack([body.wpe.weight[:length] for body in bodies]).unsqueeze(1)).flatten(1, 2)
    for blocks in zip(*(body.h for body in bodies), strict=True):
        states = project_stacked([block.attn.c_attn for block in blocks], normalize_stacked([block.ln_1 for block in blocks], hidden))
        states = states.view(-1, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)  # 3 x (E * B, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(*states, is_causal=True).transpose(1, 2).reshape(n_experts, -1, width)
        hidden = hidden + project_stacked([block.attn.c_proj for block in blocks], mixed)
        inner = project_stacked([block.mlp.c_fc for block in blocks], normalize_stacked([block.ln_2 for block in blocks], hidden))
        hidden = hidden + project_stacked([block.mlp.c_proj for block in blocks], blocks[0].mlp.act(inner))
    return normalize_stacked([body.ln_f for body in bodies], hidden).view(embeddings.shape)


def project_stacked(layers: list[nn.Module], hidden: torch.Tensor) -> torch.Tensor:
    """Return (E, N, D') of hidden (E, N, D), part e through layer e."""
    return torch.baddbmm(torch.stack([layer.bias for layer in layers]).unsqueeze(1), hidden, torch.stack([layer.weight for layer in layers]))


def normalize_stacked(norms: list[nn.LayerNorm], hidden: torch.Tensor) -> torch.Tensor:
    """Return (E, N, D) of hidden (E, N, D), part e through norm e."""
    weight, bias = (torch.stack([getattr(norm, name) for norm in norms]).unsqueeze(1) for name in ("weight", "bias"))
    return F.layer_norm(hidden, hidden.shape[-1:], eps=norms[0].eps) * weight + bias


def mix_logits(logits: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, how: str) -> torch.Tensor:
    """Return what several experts' logits (E, B, T, V) say together, (B, T, V).

    "logits" is their mean. "posterior" is the log of sum_e P(e | tokens read) p_e, P(e | tokens read) being proportional to the
    probability that expert e gave to the tokens read so far, equal before the first (Li et al. 2022, Branch-Train-Merge, eq. 2).
    """
    if how == "logits":
        return logits.mean(dim=0)
    log_probs = F.log_softmax(logits.float(), dim=-1)
    read = log_probs[:, :, :-1].gather(-1, input_ids[None, :, 1:, None].expand(len(logits), -1, -1, -1)).squeeze(-1)
    if attention_mask is not None:
        # A first real token after padding was predicted from nothing.
        read = read * (attention_mask[:, 1:] * attention_mask[:, :-1])
    evidence = F.pad(read, (1, 0)).cumsum(dim=-1)
    return torch.logsumexp(log_probs + F.log_softmax(evidence, dim=0).unsqueeze(-1), dim=0)


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
    check_shapes({language: model.config for language, model in experts.items()})
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


def check_shapes(configs: dict[str, GPT2Config]) -> None:
    """Raise ValueError unless all bodies have one shape."""
    first, *others = configs
    for other in others:
        for name in BODY_SHAPE:
            if getattr(configs[other], name) != getattr(configs[first], name):
                raise ValueError(f"expert {other!r} has {name}={getattr(configs[other], name)}, {first!r} {getattr(configs[first], name)}; "
                                 "experts of one model must have one shape")


def merge_experts(experts: list[PreTrainedModel]) -> PreTrainedModel:
    """Return one expert whose weights are the mean of several of one shape: a merge that fits only experts that share an ancestor."""
    check_shapes({str(number): expert.config for number, expert in enumerate(experts)})
    merged, states = copy.deepcopy(experts[0]), [expert.state_dict() for expert in experts]
    merged.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return merged


def save_expert(body: GPT2Model, path: Path, *, language: str, tokenizer_sha256: str, **about: str | int) -> None:
    """Write one expert as safetensors, with its language, shape, tokenizer and whatever else is known of it as JSON in the header."""
    shape = {name: getattr(body.config, name) for name in BODY_SHAPE}
    header = {"kind": "mome-expert", "language": language, "tokenizer_sha256": tokenizer_sha256, "shape": shape, **about}
    save_file({name: tensor.contiguous() for name, tensor in body.state_dict().items()}, path, metadata={"expert": json.dumps(header)})


def load_expert(path: Path, model: MoMEForCausalLM) -> tuple[GPT2Model, dict]:
    """Return a saved expert's body, fit for `model`, and its header.

    Raises ValueError for a file that is damaged or no expert, and for an expert of another tokenizer or shape than the model's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["expert"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        found, wanted = header["shape"], {name: getattr(model.config.body_config(), name) for name in BODY_SHAPE}
        if header["tokenizer_sha256"] != model.config.tokenizer_sha256:
            raise ValueError(f"it reads ids of tokenizer {header['tokenizer_sha256'][:12]!r}, the model those of {model.config.tokenizer_sha256[:12]!r}")
        if found != wanted:
            raise ValueError(f"its shape is {found}, the model's {wanted}")
        body = build_body(model.config.body_config())
        body.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not an expert for this model: {error}") from None
    return body, header


AutoConfig.register("mome", MoMEConfig, exist_ok=True)  # in place of the stand-in of mome/__init__.py
AutoModelForCausalLM.register(MoMEConfig, MoMEForCausalLM)
