"""Models: dense GPT-2s and the modular one, of which importing this tells transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForCausalLM

from mome.models.config import MoMEConfig
from mome.models.modular import MoMEForCausalLM

AutoConfig.register("mome", MoMEConfig, exist_ok=True)
AutoModelForCausalLM.register(MoMEConfig, MoMEForCausalLM, exist_ok=True)
