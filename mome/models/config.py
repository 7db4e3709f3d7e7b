"""What a modular model is made of: languages, its bodies' shape, common expert or none, head tied or not."""

from typing import ClassVar

from transformers import GPT2Config, PreTrainedConfig

COMMON_EXPERT_USES = ("off", "on", "alone")
# How several experts answer together instead of the routed one: mean of hidden states (the paper's), of
# logits, or of probabilities weighed by how well each has predicted the text so far (Branch-Train-Merge).
AVERAGES = ("hidden", "logits", "posterior")


class MoMEConfig(PreTrainedConfig):
    """Configuration of `MoMEForCausalLM`. `body` holds the keyword values of the bodies' GPT2Config."""

    model_type = "mome"
    keys_to_ignore_at_inference: ClassVar = ["past_key_values"]

    def __init__(self, languages=("en", "fr", "de", "py"), body=None, has_common_expert=False,
                 tie_word_embeddings=True, tokenizer_sha256="", **kwargs):
        super().__init__(**{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | kwargs)
        self.languages, self.body = check_names(languages), dict(body or {})
        self.has_common_expert, self.tie_word_embeddings = has_common_expert, tie_word_embeddings
        self.tokenizer_sha256 = tokenizer_sha256  # of the tokenizer whose ids the router was fitted on
        shape = self.body_config()
        self.vocab_size, self.hidden_size = shape.vocab_size, shape.n_embd
        self.num_hidden_layers, self.max_position_embeddings = shape.n_layer, shape.n_positions
        self.num_attention_heads, self.use_cache = shape.n_head, kwargs.get("use_cache", False)

    def body_config(self) -> GPT2Config:
        return GPT2Config(**self.body, attn_implementation=self._attn_implementation or "sdpa")


def check_names(languages) -> list[str]:
    """Return languages as a list; ValueError unless they are different names that modules can have."""
    names = list(languages)
    is_plain = all(isinstance(name, str) and name and "." not in name for name in names)
    if not names or not is_plain or len(set(names)) < len(names):
        raise ValueError(f"languages={languages!r} are not allowed; give different names without a full stop")
    return names
