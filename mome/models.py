"""GPT-2 shapes: the teacher, dense students and the bodies of experts."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from mome.config import Shape


def gpt2_config(shape: Shape, vocab_size: int, context: int) -> GPT2Config:
    """Return the GPT-2 configuration of a shape.

    Dropout is off: within about one epoch it only slows learning. `gelu_pytorch_tanh` is GPT-2's own activation in one
    fused kernel instead of seven.
    """
    return GPT2Config(vocab_size=vocab_size, n_positions=context, n_layer=shape.n_layer, n_head=shape.n_head, n_embd=shape.n_embd,
                      activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                      bos_token_id=1, eos_token_id=2, pad_token_id=0, use_cache=False)


def build_gpt2(shape: Shape, vocab_size: int, context: int, seed: int) -> GPT2LMHeadModel:
    """Return a GPT-2 with weights drawn from `seed`, leaving the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(gpt2_config(shape, vocab_size, context))


def build_body(config: GPT2Config) -> GPT2Model:
    """Return a GPT-2 body to be fed `inputs_embeds`: position table, blocks and final norm, without its own token table."""
    body = GPT2Model(config)
    body.wte = None
    return body


def size_gpt2(shape: Shape, vocab_size: int, context: int) -> int:
    """Return how many weights `build_gpt2` would give that shape: tables, blocks of 12 D^2 + 13 D, final norm; the head is tied."""
    width = shape.n_embd
    return (vocab_size + context) * width + shape.n_layer * (12 * width**2 + 13 * width) + 2 * width


def count_parameters(module: nn.Module) -> int:
    """Return how many weights a module holds, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())
