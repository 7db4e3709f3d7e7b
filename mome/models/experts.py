"""One expert as a file of its own: safetensors, with what is known of it as JSON in the header."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import GPT2Model

from mome.models.bodies import BODY_SHAPE, build_body


def hash_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of tensors: names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def hash_embedding(model) -> str:
    """Return the SHA-256 of a modular model's embedding and head, between which its experts learned.

    Of values rounded to bfloat16, so that a model that was opened in it has the same.
    """
    tensors = {"embedding": model.embedding.weight}
    if not model.config.tie_word_embeddings:
        tensors |= {f"head {name}": tensor for name, tensor in model.lm_head.named_parameters()}
    return hash_tensors({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()})


def save_expert(model, language: str, path: Path, **about) -> None:
    """Write a modular model's expert with hashes of all that it fits, and what else is known (text, numbers).

    Raises KeyError for a language without an expert.
    """
    body = model.experts[language]
    tensors = {name: tensor.contiguous() for name, tensor in body.state_dict().items()}
    header = {"kind": "mome-expert", "language": language, "tokenizer_sha256": model.config.tokenizer_sha256,
              "embedding_sha256": hash_embedding(model), "sha256": hash_tensors(tensors),
              "shape": {name: getattr(body.config, name) for name in BODY_SHAPE}, **about}
    save_file(tensors, path, metadata={"expert": json.dumps(header)})


def read_expert(path: Path | str, model) -> tuple[GPT2Model, dict]:
    """Return a saved expert's body, fit for `model`, and its header.

    Raises ValueError for a damaged or changed file, another file, or an expert of another tokenizer, shape or
    embedding than the model's.
    """
    config, sha256 = model.config.body_config(), model.config.tokenizer_sha256
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["expert"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        shape, read = header["shape"], header["tokenizer_sha256"]
        wanted = {name: getattr(config, name) for name in BODY_SHAPE}
        if hash_tensors(tensors) != header["sha256"]:
            raise ValueError("its weights are not those that were saved")
        if read != sha256:
            raise ValueError(f"it reads ids of tokenizer {read[:12]!r}, the model those of {sha256[:12]!r}")
        if shape != wanted:
            raise ValueError(f"its shape is {shape}, the model's {wanted}")
        if (found := header["embedding_sha256"]) != (own := hash_embedding(model)):
            raise ValueError(f"it was trained behind embedding {found[:12]!r}, the model's is {own[:12]!r}")
        body = build_body(config)
        body.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is not an expert for this model: {error}") from None
    return body, header
