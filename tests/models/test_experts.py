import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mome.models.assemble import build_moe
from mome.models.experts import hash_embedding, hash_tensors, read_expert, save_expert
from mome.models.gpt2 import gpt2_config
from mome.scales import Shape


def test_a_saved_expert_comes_back_bit_for_bit_with_what_is_known_of_it(tmp_path, build):
    model, path = build(), tmp_path / "de.safetensors"
    save_expert(model, "de", path, seed=3, data="abc")
    body, header = read_expert(path, model)
    saved = model.experts["de"].state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in body.state_dict().items())
    shape = {"vocab_size": 60, "n_positions": 24, "n_layer": 1, "n_head": 2, "n_embd": 16}
    about = {"kind": "mome-expert", "language": "de", "tokenizer_sha256": "", "seed": 3, "data": "abc"}
    hashes = {"sha256": hash_tensors(saved), "embedding_sha256": hash_embedding(model)}
    assert header == {"shape": shape, **about, **hashes}


def save_other(width=16, sha256="", seed=0):
    other = build_moe(["de"], gpt2_config(Shape(1, 2, width), 60, 24), has_common_expert=False, seed=seed)
    other.config.tokenizer_sha256 = sha256
    return lambda path: save_expert(other, "de", path)


def change_a_weight(path):
    with safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    tensors["ln_f.bias"][3] += 1e-6
    save_file(tensors, path, metadata=header)


@pytest.mark.parametrize("damage, words", [
    (lambda path: path.write_bytes(path.read_bytes()[:200]), "not an expert"),
    (lambda path: path.write_text("no expert"), "not an expert"),
    (lambda path: save_file({"a": torch.zeros(1)}, path), "not an expert"),
    (save_other(sha256="f" * 64), "ffffffffffff"), (save_other(width=32), "32"),
    (save_other(seed=1), "behind embedding"), (change_a_weight, "not those that were saved")])
def test_a_file_that_is_no_expert_for_the_model_is_refused_by_name(tmp_path, build, bomb, damage, words):
    path, model = tmp_path / "de.safetensors", build()
    save_expert(model, "de", path)
    damage(path)
    with pytest.raises(ValueError, match=rf"de\.safetensors.*{words}"):
        read_expert(path, model)
    path.write_bytes(bomb)
    with pytest.raises(ValueError, match="not an expert"):
        read_expert(path, model)
