"""Dense GPT-2s: the teacher and dense students."""

from dataclasses import asdict
from pathlib import Path

import torch
from transformers import GPT2Config
from transformers.utils.logging import disable_progress_bar

from mome.models.bodies import speed_up
from mome.models.dense import GPT2LMHeadModel
from mome.scales import Shape
from mome.weights import open_weights


def gpt2_config(shape: Shape, vocab_size: int, context: int) -> GPT2Config:
    """Return the GPT-2 configuration of a shape."""
    # Dropout is off: within about one epoch it only slows learning. `gelu_pytorch_tanh` is GPT-2's own
    # activation in one fused kernel instead of seven.
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2Config(**asdict(shape), **drops, vocab_size=vocab_size, n_positions=context, use_cache=False,
                      bos_token_id=1, eos_token_id=2, pad_token_id=0, activation_function="gelu_pytorch_tanh")


def build_gpt2(shape: Shape, vocab_size: int, context: int, seed: int) -> GPT2LMHeadModel:
    """Return a GPT-2 with weights drawn from `seed`, leaving the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return speed_up(GPT2LMHeadModel(gpt2_config(shape, vocab_size, context)))


def load_gpt2(path: Path) -> GPT2LMHeadModel:
    """Return a saved GPT-2 in evaluation mode, read from safetensors only, never from a pickle."""
    disable_progress_bar()  # a widget in JupyterLab, dead when the notebook is opened again
    return speed_up(GPT2LMHeadModel.from_pretrained(open_weights(path), use_safetensors=True)).eval()
