"""One expert as a file of its own: safetensors, with what is known of it as JSON in the header."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import GPT2Model

from mome.models.gpt2 import BODY_SHAPE, build_body
from mome.models.modular import MoMEForCausalLM


def save_expert(body: GPT2Model, path: Path, *, language: str, tokenizer_sha256: str, **about) -> None:
    """Write one expert with its language, shape, tokenizer and what else is known of it (text or numbers)."""
    header = {"kind": "mome-expert", "language": language, "tokenizer_sha256": tokenizer_sha256,
              "shape": {name: getattr(body.config, name) for name in BODY_SHAPE}, **about}
    tensors = {name: tensor.contiguous() for name, tensor in body.state_dict().items()}
    save_file(tensors, path, metadata={"expert": json.dumps(header)})


def load_expert(path: Path, model: MoMEForCausalLM) -> tuple[GPT2Model, dict]:
    """Return a saved expert's body, fit for `model`, and its header.

    Raises ValueError for a damaged file, another file, or another tokenizer or shape than the model's.
    """
    config, sha256 = model.config.body_config(), model.config.tokenizer_sha256
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["expert"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        shape, read = header["shape"], header["tokenizer_sha256"]
        wanted = {name: getattr(config, name) for name in BODY_SHAPE}
        if read != sha256:
            raise ValueError(f"it reads ids of tokenizer {read[:12]!r}, the model those of {sha256[:12]!r}")
        if shape != wanted:
            raise ValueError(f"its shape is {shape}, the model's {wanted}")
        body = build_body(config)
        body.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not an expert for this model: {error}") from None
    return body, header
