"""The model card that lies beside a saved modular model."""

from pathlib import Path

from mome.models.gpt2 import count_parameters

MODEL_CARD = """# Modular mixture of experts: {languages}

A causal language model of {n_experts} GPT-2 bodies{common} behind one shared embedding, distilled from a
multilingual teacher (arXiv:2407.19610). A router inside reads each sequence and sends it through one expert.

| | |
| --- | --- |
| parameters | {total:,}; {active:,} of them active for a sequence |
| an expert | {body.n_layer} layers of {body.n_embd}, {body.n_head} heads |
| context, vocabulary | {body.n_positions:,} tokens, {body.vocab_size:,} entries |
| head | {head} |
| tokenizer (SHA-256) | `{tokenizer}` |

```python
import mome.models
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("this folder")
```

`forward` and `generate` take `expert_index` (told instead of routed), `allowed_experts`, `common_expert`
("on", "off", "alone") and `average_experts` ("hidden", "logits", "posterior"). Pad prompts on the left.
Trained for research on little text: what it writes is neither true nor safe.
"""


def write_model_card(model, folder: Path) -> None:
    """Write a modular model's languages, sizes and use to README.md in `folder`."""
    config = model.config
    (Path(folder) / "README.md").write_text(encoding="utf-8", data=MODEL_CARD.format(
        languages=", ".join(config.languages), n_experts=len(model.experts), body=config.body_config(),
        common=" and a common expert" if config.has_common_expert else "", total=count_parameters(model),
        active=model.active_parameters(), tokenizer=config.tokenizer_sha256 or "unknown",
        head="tied to the embedding" if config.tie_word_embeddings else "with weights of its own"))
