"""Models: dense GPT-2s and the modular one, of which importing this tells transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForCausalLM

COMMON_EXPERT_USES = ("off", "on", "alone")
# How several experts answer together instead of the routed one: mean of hidden states (the paper's), of
# logits, or of probabilities weighed by how well each has predicted the text so far (Branch-Train-Merge).
AVERAGES = ("hidden", "logits", "posterior")

from mome.models.modular import MoMEConfig, MoMEForCausalLM  # noqa: E402 (it reads the names above)

AutoConfig.register("mome", MoMEConfig, exist_ok=True)
AutoModelForCausalLM.register(MoMEConfig, MoMEForCausalLM, exist_ok=True)
