"""A model for others: weights, configuration, tokenizer, and the code that opens them without mome."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from mome.store import write_json

# Where the code of a kind of model begins, and the classes that transformers shall open with it.
ENTRIES = {"mome": ("mome.models.modular", {"AutoConfig": "config.MoMEConfig",
                                            "AutoModelForCausalLM": "modular.MoMEForCausalLM"}),
           "gpt2": ("mome.models.dense", {"AutoModelForCausalLM": "dense.GPT2LMHeadModel"})}
OWN_IMPORT = re.compile(r"^(\s*)from mome(?:\.\w+)*\.(\w+) import ", re.MULTILINE)


def list_code(module: str) -> dict[str, str]:
    """Return {file name: text} of a module of mome and of all that it imports from mome, for one flat folder.

    Their imports of each other become relative, which is what transformers follows. ValueError where two of
    them have one file name.
    """
    places, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        path = Path(importlib.util.find_spec(name).origin)
        if places.setdefault(path.name, path) != path:
            raise ValueError(f"{path} and {places[path.name]} cannot travel in one folder; rename one")
        known = {found for found in list_modules(path) if found.startswith("mome.")}
        waiting += [found for found in known if Path(importlib.util.find_spec(found).origin)
                    not in places.values()]
    return {name: OWN_IMPORT.sub(r"\1from .\2 import ", path.read_text(encoding="utf-8"))
            for name, path in sorted(places.items())}


def list_modules(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model so that transformers' Auto classes open it, with `trust_remote_code`, without mome.

    A dense one opens as plain GPT-2, too. By default text is generated up to the context's end.
    """
    config = model.config
    module, auto_map = ENTRIES[config.model_type]
    context = config.max_position_embeddings
    config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, use_cache=True,
        pad_token_id=config.pad_token_id, max_length=context)
    model.save_pretrained(folder)
    path = folder / "config.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, dict(sorted({**about, "auto_map": auto_map}.items())))
    for name, text in list_code(module).items():
        (folder / name).write_text(text, encoding="utf-8")
    PreTrainedTokenizerFast(  # made anew, as values that are set later are not saved
        tokenizer_object=tokenizer.backend_tokenizer, padding_side="left", model_max_length=context,
        model_input_names=["input_ids", "attention_mask"], **tokenizer.special_tokens_map,
    ).save_pretrained(folder)
