"""Bodies of one shape side by side: small ones alone spend their time on calls and on fetching weights."""

import torch
from torch import nn
from transformers import GPT2Model

from mome.train.products import multiply


def can_stack(body: GPT2Model) -> bool:
    """Return whether `run_stacked` does what this body does: no dropout or checkpointing, plain attention."""
    config, is_odd = body.config, body.training and body.gradient_checkpointing
    drops = body.training and max(config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) > 0
    scales_plainly = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx
    return scales_plainly and config._attn_implementation == "sdpa" and not drops and not is_odd


def run_stacked(bodies: list[GPT2Model], embeddings: torch.Tensor) -> torch.Tensor:
    """Return hidden states (E, B, T, D) of embeddings (E, B, T, D), part e through body e."""
    length, width, heads = *embeddings.shape[2:], bodies[0].config.n_head
    hidden = (embeddings + torch.stack([body.wpe.weight[:length] for body in bodies])[:, None]).flatten(1, 2)
    for blocks in zip(*(body.h for body in bodies), strict=True):
        inner = normalize_stacked([block.ln_1 for block in blocks], hidden)
        states = project_stacked([block.attn.c_attn for block in blocks], inner)
        # 3 x (E * B, heads, T, D / heads)
        states = states.view(-1, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*states, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(len(bodies), -1, width)
        hidden = hidden + project_stacked([block.attn.c_proj for block in blocks], mixed)
        inner = normalize_stacked([block.ln_2 for block in blocks], hidden)
        inner = blocks[0].mlp.act(project_stacked([block.mlp.c_fc for block in blocks], inner))
        hidden = hidden + project_stacked([block.mlp.c_proj for block in blocks], inner)
    return normalize_stacked([body.ln_f for body in bodies], hidden).view(embeddings.shape)


def project_stacked(layers: list[nn.Module], hidden: torch.Tensor) -> torch.Tensor:
    """Return (E, N, D') of hidden (E, N, D), part e through layer e."""
    weights, biases = (torch.stack([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    return multiply(hidden, weights.mT, biases)


def normalize_stacked(norms: list[nn.LayerNorm], hidden: torch.Tensor) -> torch.Tensor:
    """Return (E, N, D) of hidden (E, N, D), part e through norm e."""
    weights, biases = (torch.stack([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    normal = nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=norms[0].eps)
    return torch.addcmul(biases.unsqueeze(1), normal, weights.unsqueeze(1))
