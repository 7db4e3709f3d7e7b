"""A trained model as a folder for others: it opens, is used and is understood where this package is not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from mome import store
from mome.config import repository
from mome.data.export import check_out, new_folder
from mome.data.ids import hash_tokenizer
from mome.models.bodies import count_parameters
from mome.models.dense import GPT2LMHeadModel
from mome.models.modular import MoMEForCausalLM
from mome.models.travel import write_model
from mome.runs import model_card as card
from mome.runs.arms import ALONE, UNROUTED, find_arm, find_stored
from mome.runs.origin import Origin, find_data, find_routed


def export_model(model: str, out: Path, parameters: dict) -> Path:
    """Write a model as a folder for others and return it; it appears when it is whole.

    `model` is a name in the store or its beginning, a notebook and words (`find_arm`, which alone takes
    `parameters`), or a folder that `save_pretrained` or this function wrote.
    """
    check_out(out)
    path = Path(model).expanduser()
    is_folder = path.is_dir() and path.resolve().parent != store.store_dir()
    is_arm = not is_folder and (":" in model or model.isdecimal())
    if parameters and not is_arm:
        raise ValueError(f"parameter {next(iter(parameters))!r} is not allowed with model={model!r}; options "
                         "are for a notebook's needs, such as 04:JEET:seed 0")
    disable_progress_bar()
    with new_folder(out) as folder:
        if is_folder:
            write_saved(path, folder)
        else:
            write_stored(find_arm(model, parameters) if is_arm else find_stored(path.name), folder)
        shutil.copyfile(repository() / "LICENSE", folder / "LICENSE")
    return out.resolve()


def write_stored(name: str, folder: Path) -> None:
    """Write a model of the store; one without a router as its version that has one."""
    origin = Origin.of_stored(name)
    kind = origin.made[name]["kind"]
    if kind in UNROUTED:
        routed = find_routed(name)
        if routed is None:
            raise ValueError(f"model={name!r}, {origin.title}, has no router to choose an expert, and "
                             "the store has no version of it with one; `mome run --only 04` builds those")
        write_stored(routed, folder)
    elif kind in ALONE:
        write_expert(name, origin, folder)
    else:
        tokenizer = load_tokenizer(store.find(find_data(origin.made, name)) / "tokenizer")
        write_whole(load_any(store.find(name)), tokenizer, origin, folder)


def write_saved(path: Path, folder: Path) -> None:
    """Write a model from a folder, with the tokenizer there, or that of the store which it was made for."""
    model = load_any(path)
    sha256 = getattr(model.config, "tokenizer_sha256", "")
    places = [path, *(found / "tokenizer" for found, manifest in store.list_manifests("data")
                      if manifest["notes"]["token_sha256"] == sha256)]
    place = next((place for place in places if (place / "tokenizer.json").is_file()), None)
    if place is None:
        raise ValueError(f"model={str(path)!r} holds no tokenizer, without which nobody can use it; write it "
                         "there first: tokenizer.save_pretrained(...)")
    write_whole(model, load_tokenizer(place), Origin.of_folder(path), folder)


def load_any(path: Path) -> PreTrainedModel:
    """Return the model in a folder, on the CPU, in the type that it was saved in."""
    if not (path / "config.json").is_file():
        raise ValueError(f"model={str(path)!r} holds no config.json; give a folder of save_pretrained")
    kind = store.read_json(path / "config.json").get("model_type")
    classes = {"mome": MoMEForCausalLM, "gpt2": GPT2LMHeadModel}
    if kind not in classes:
        raise ValueError(f"model={str(path)!r} is of type {kind!r}; {' and '.join(classes)} can be exported")
    return classes[kind].from_pretrained(path, dtype="auto", use_safetensors=True).eval()


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(path)


def write_whole(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, origin: Origin,
                folder: Path) -> None:
    """Write a model that answers by itself, with its card; ValueError for another model's tokenizer."""
    config, is_modular = model.config, model.config.model_type == "mome"
    found, wanted = hash_tokenizer(tokenizer), getattr(config, "tokenizer_sha256", "")
    if len(tokenizer) > config.vocab_size or wanted not in ("", found):
        raise ValueError(f"tokenizer {found[:12]} of {len(tokenizer):,} entries is not the model's, it has "
                         f"{config.vocab_size:,} ids of tokenizer {wanted[:12] or 'without a name'}")
    write_model(model, tokenizer, folder)
    origin = replace(origin, languages=list(config.languages) if is_modular else origin.languages)
    origin.write(folder)
    prompt = next((text for name, text in card.PROMPTS.items() if name in origin.languages), "Text")
    use = card.USE.format(prompt=prompt, context=config.max_position_embeddings, bos=tokenizer.bos_token)
    about = card.DENSE + card.DISTILLED * ("targets" in origin.kinds)
    if is_modular:
        about = card.MODULAR.format(n=len(config.languages), common=card.COMMON * config.has_common_expert)
        about += card.ROUTED if model.router.weight.any() else card.UNROUTED
        use += card.SWITCHES.format(
            prompt=prompt, number=len(config.languages) - 1, last=config.languages[-1],
            first=config.languages[0], common=card.COMMON_USE * config.has_common_expert)
    else:
        use += card.PLAIN
    sizes = measure(model) | {"tokenizer (SHA-256)": f"`{found}`"}
    store.write_text(folder / "README.md", card.model_card(origin, sizes, about, use))


def measure(model: PreTrainedModel) -> dict[str, str]:
    """Return a model's sizes in words."""
    config, total, body = model.config, f"{count_parameters(model):,}", "body"
    context = f"{config.max_position_embeddings:,}"
    if config.model_type == "mome":
        body, total = "an expert", f"{total}; {model.active_parameters():,} of them active for a sequence"
    return {"parameters": total,
            body: f"{config.num_hidden_layers} layers of {config.hidden_size}, "
                  f"{config.num_attention_heads} heads",
            "context, vocabulary": f"{context} tokens, {config.vocab_size:,} entries",
            "head": "tied to the embedding" if config.tie_word_embeddings else "with weights of its own",
            "numbers": str(model.dtype).removeprefix("torch.")}


def write_expert(name: str, origin: Origin, folder: Path) -> None:
    """Write an expert alone: its file, the router of its model with it where the store has that, a card."""
    about, file = origin.made[name], folder / "expert.safetensors"
    shutil.copyfile(store.find(name) / file.name, file)
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["expert"])
    if "embedding_sha256" not in header:
        raise ValueError(f"model={name!r} is from an earlier version, without the hashes that say what it "
                         "fits; `mome run --only 04` builds it again")
    host, shape, (language,) = about["parents"]["model"], header["shape"], origin.languages
    plain = find_routed(host)
    routed = plain if about["kind"] == "expert" else find_routed(host, name)
    if routed:
        router = store.read_manifest(store.find(routed))["parents"]["router"]
        shutil.copyfile(store.find(router) / "router.safetensors", folder / "router.safetensors")
    origin.write(folder)
    sizes = {"parameters": f"{about['notes']['parameters']:,}",
             "body": f"{shape['n_layer']} layers of {shape['n_embd']}, {shape['n_head']} heads",
             "context": f"{shape['n_positions']:,} tokens", "weights (SHA-256)": f"`{header['sha256']}`",
             "embedding and head (SHA-256)": f"`{header['embedding_sha256']}`",
             "tokenizer (SHA-256)": f"`{header['tokenizer_sha256']}`"}
    use = card.ADD.format(
        host=f"{origin.made[host]['title']} (`{host}`)",
        exported=f", which `mome export {plain}` writes" if plain else "",
        lines=(card.ADD_ROUTED if routed else card.ADD_TOLD).format(language=language))
    store.write_text(folder / "README.md", card.model_card(origin, sizes, card.ALONE, use, is_whole=False))
