"""Exported models, opened where mome cannot be imported: all in one process, as imports are slow."""

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from mome import models, store
from mome.data.tokenizer import train_tokenizer
from mome.engine import build_here
from mome.models.assemble import build_moe
from mome.models.dense import GPT2LMHeadModel
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.models.modular import MoMEForCausalLM
from mome.models.travel import ENTRIES, list_code, list_modules
from mome.recipes.modular import Expert, RoutedMoE
from mome.recipes.scores import Scores
from mome.recipes.students import HARD_LABELS, Student
from mome.recipes.teacher import Teacher
from mome.runs.export import export_model
from mome.scales import Shape

CONTEXT = 32
TEXT = "le pain est dans la rue"
# What is asked of each exported folder, where an import of mome fails.
ASK = """
import json, sys

class Barred:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "mome":
            raise ModuleNotFoundError("no mome here")

sys.meta_path.insert(0, Barred())
try:
    import mome
    raise SystemExit("mome can be imported")
except ModuleNotFoundError:
    pass
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

torch.set_num_threads(1)
folder, text, answers = sys.argv[1], sys.argv[2], {}
for name in sys.argv[3:]:
    path = f"{folder}/{name}"
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
    batch = tokenizer([text, text[:6]], return_tensors="pt", padding=True)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    tensors, context = {"ids": ids, "mask": mask}, model.config.max_position_embeddings
    said = {"module": type(model).__module__, "side": tokenizer.padding_side,
            "longest": tokenizer.model_max_length, "context": context}
    with torch.inference_mode():
        tensors["logits"] = model(**batch).logits
        if hasattr(model, "route"):
            tensors["index"] = model.route(ids, mask)
            for number in range(len(model.config.languages)):
                tensors[f"told {number}"] = model(**batch, expert_index=[number] * 2).logits
            for use in ("off", "alone") if model.config.has_common_expert else ():
                tensors[use] = model(**batch, common_expert=use).logits
            tensors["averaged"] = model(**batch, average_experts="hidden").logits
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    said["written"] = write(text, do_sample=False)[0]["generated_text"]
    three = model.generate(ids, attention_mask=mask, max_length=ids.shape[1] + 3, eos_token_id=None)
    said["three"] = three.shape[1] - ids.shape[1]  # what a caller says goes before what the folder says
    said["more"] = len(write([text, text[:6]], do_sample=False, batch_size=2))
    for key, call in {"end": lambda: model.generate(ids, attention_mask=mask, max_new_tokens=context),
                      "long": lambda: model(torch.full((1, context + 1), 5))}.items():
        try:
            call()
        except ValueError as error:
            said[key] = str(error)
    model.save_pretrained(f"{folder}/again {name}")
    again = AutoModelForCausalLM.from_pretrained(f"{folder}/again {name}", trust_remote_code=True)
    said["again"] = torch.equal(again(**batch).logits, tensors["logits"]) and type(again).__module__
    if name == "jeet":
        expert = f"{folder}/expert/expert.safetensors"
        model.remove_expert("fr")
        model.add_expert("fr", expert, type(model.router).load(f"{folder}/expert/router.safetensors").keep(
            [*model.config.languages, "fr"]))
        last = [len(model.config.languages) - 1] * 2
        tensors["put back"] = model(**batch, expert_index=last).logits.detach()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, f"{folder}/{name}.out")
    answers[name] = said
    assert not any(each.partition(".")[0] == "mome" for each in sys.modules)
plain = AutoModelForCausalLM.from_pretrained(f"{folder}/student")
answers["plain"] = type(plain).__module__
with open(f"{folder}/answers.json", "w") as file:
    json.dump(answers, file)
"""
NAMES = ["jeet", "ce", "random", "student", "teacher"]


@pytest.fixture(scope="module")
def recipes(tiny_setting):
    """Small trained models; a modular one with a common expert, and its scores."""
    jeet, ce = (RoutedMoE.of(tiny_setting, name) for name in ("JEET", "MoE-CE"))
    student = Student.of(tiny_setting, ["fr"], objective=HARD_LABELS)
    found = {"jeet": jeet, "ce": ce, "student": student, "teacher": Teacher.of(tiny_setting),
             "expert": Expert(jeet.model, "fr")}
    build_here([*found.values(), Scores.of(tiny_setting, ce, "routed, common off", "test"),
                Scores.of(tiny_setting, ce, "routed"), Scores.of(tiny_setting, ce, "routed", "test")])
    return found


@pytest.fixture(scope="module")
def exported(recipes, tmp_path_factory):
    """The folder of all exported ones, a random model saved by hand among them."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, recipe in recipes.items():
        export_model(recipe.name, folder / name, {})
    tokenizer = train_tokenizer([TEXT, "Open the document"], 300, exact=False)
    torch.manual_seed(0)
    model = build_moe(["fr", "sql"], gpt2_config(Shape(1, 2, 16), len(tokenizer), CONTEXT),
                      has_common_expert=True, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "saved")
    tokenizer.save_pretrained(folder / "saved")
    export_model(str(folder / "saved"), folder / "random", {})
    return folder


@pytest.fixture(scope="module")
def answers(exported):
    """What a process without mome, in another folder, says of each."""
    environment = {"HF_MODULES_CACHE": str(exported / "modules"), "HF_HUB_OFFLINE": "1", "PATH": "",
                   "HF_HOME": str(exported / "hub"), "OMP_NUM_THREADS": "1", "HOME": str(exported),
                   "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-I", "-c", ASK, str(exported), TEXT, *NAMES], env=environment,
                          cwd=exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not supported" not in done.stderr and "trust_remote_code" not in done.stderr, done.stderr
    return json.loads((exported / "answers.json").read_text())


@pytest.mark.parametrize("kind", ENTRIES)
def test_code_that_travels_imports_only_torch_transformers_safetensors_and_itself(kind, tmp_path):
    module, auto_map = ENTRIES[kind]
    code = list_code(module)
    allowed = {*sys.stdlib_module_names, "numpy", "torch", "transformers", "safetensors"}
    for name, text in code.items():
        path = tmp_path / name
        path.write_text(text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and f"{node.module}.py" in code, (name, node.module)
        others = {found.partition(".")[0] for found in list_modules(path) if f"{found}.py" not in code}
        assert others <= allowed, name
    for place in auto_map.values():
        file, _, name = place.partition(".")
        assert any(isinstance(node, ast.ClassDef) and node.name == name
                   for node in ast.parse(code[f"{file}.py"]).body)


def test_two_files_of_one_name_cannot_travel_in_one_folder(monkeypatch, tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "same.py").write_text("")
    imports = (f"from mome.models.{place}.same import a\n" for place in ("one", "two"))
    (tmp_path / "first.py").write_text("".join(imports))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"same\.py .*rename one"):
        list_code("mome.models.first")


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_model_opens_without_mome_and_gives_the_same_numbers_bit_for_bit(
        exported, recipes, answers, name):
    path = recipes[name].folder if name in recipes else exported / "saved"
    is_dense, found = name in ("student", "teacher"), load_file(exported / f"{name}.out")
    model = (GPT2LMHeadModel if is_dense else MoMEForCausalLM).from_pretrained(path).eval()
    batch = {"input_ids": found["ids"], "attention_mask": found["mask"]}
    with torch.inference_mode():
        assert torch.equal(found["logits"], model(**batch).logits)
        if not is_dense:
            assert torch.equal(found["index"], model.route(found["ids"], found["mask"]))
            assert torch.equal(found["averaged"], model(**batch, average_experts="hidden").logits)
            for number in range(len(model.config.languages)):
                assert torch.equal(found[f"told {number}"], model(**batch, expert_index=[number] * 2).logits)
            for use in ("off", "alone") if model.config.has_common_expert else ():
                assert torch.equal(found[use], model(**batch, common_expert=use).logits)
    assert answers[name]["module"].startswith("transformers_modules.")
    assert answers[name]["again"].startswith("transformers_modules.")  # and saved there, it opens again


def test_switches_and_experts_give_other_numbers_where_they_should(exported):
    found = load_file(exported / "random.out")
    assert found["mask"][1, 0] == 0  # the shorter row is padded on the left
    parts = [found[name] for name in ("averaged", "off", "alone", "told 0", "told 1")]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(parts, 2))


def test_a_french_prompt_goes_to_the_french_expert(exported, recipes):
    for name in ("jeet", "ce"):
        assert load_file(exported / f"{name}.out")["index"][0] == 1, recipes[name].model.languages


def test_an_expert_travels_alone_and_is_put_back_from_its_file(exported):
    found = load_file(exported / "jeet.out")
    assert torch.equal(found["put back"], found["told 1"])
    assert {path.name for path in (exported / "expert").iterdir()} == {
        "LICENSE", "README.md", "expert.safetensors", "made.json", "router.safetensors", "scores.json"}


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_writes_within_the_context_and_past_it_generation_ends_in_words(answers, name):
    said = answers[name]
    assert said["written"].startswith(TEXT) and len(said["written"]) > len(TEXT)
    assert said["more"] == 2 and said["three"] == 3
    assert said["side"] == "left" and said["longest"] == said["context"] == CONTEXT
    assert str(CONTEXT) in said["end"] and "max_new_tokens" in said["end"]
    assert str(CONTEXT) in said["long"] and "context" in said["long"]


def test_a_dense_model_opens_as_plain_gpt2_without_trust(answers):
    assert answers["plain"].startswith("transformers.models.gpt2.")


def test_an_exported_folder_is_exported_again_as_it_is(exported, tmp_path):
    for name in ("ce", "student"):
        export_model(str(exported / name), tmp_path / name, {})
        for path in (exported / name).iterdir():
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_card_tells_scores_of_test_first_languages_licence_and_origin(exported, recipes):
    card, recipe = ModelCard.load(exported / "ce/README.md"), recipes["ce"]
    assert card.data.language == ["en", "fr", "de", "code"] and card.data.license == "mit"
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-generation"
    found = {(result.metric_args["use"], result.dataset_config, result.dataset_split): result.metric_value
             for result in card.data.eval_results if result.metric_type == "nats_per_token"}
    ours = {key for key in found if key[0] in ("routed", "routed, common off")}  # other tests may score more
    assert {split for _, _, split in ours} == {"test"} and len(ours) == 8
    scores = json.loads((exported / "ce/scores.json").read_text())["scores"]
    assert {(score["use"], score["language"], score["split"]): round(score["nats_per_token"], 4)
            for score in scores} == found
    assert all(name in card.text for name in (recipe.model.name, recipe.model.targets.name, recipe.data.name))
    assert "common_expert" in card.text and "{" not in card.text.replace("```", "")


def test_a_card_without_scores_or_origin_says_so(exported):
    card = ModelCard.load(exported / "random/README.md")
    assert "no scores of it" in card.text and "is not known" in card.text
    assert card.data.eval_results is None and card.data.license is None
    assert card.data.language == ["fr", "code"]
    assert "model-index" not in card.content


def test_an_experts_card_says_to_which_model_it_fits_and_how_to_add_it(exported, recipes):
    card = ModelCard.load(exported / "expert/README.md")
    assert recipes["jeet"].model.name in card.text and f"mome export {recipes['jeet'].name}" in card.text
    assert 'model.add_expert("fr", "expert.safetensors", router)' in card.text
    assert card.data.pipeline_tag is None


def test_a_model_without_a_router_travels_as_the_one_with_it(exported, recipes, tmp_path):
    export_model(recipes["jeet"].model.name, tmp_path / "new", {})
    weights = [path / "model.safetensors" for path in (tmp_path / "new", exported / "jeet")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    (store.folder_of(recipes["jeet"].name) / "manifest.json").rename(tmp_path / "manifest.json")
    try:
        with pytest.raises(ValueError, match="has no router"):
            export_model(recipes["jeet"].model.name, tmp_path / "other", {})
    finally:
        (tmp_path / "manifest.json").rename(store.folder_of(recipes["jeet"].name) / "manifest.json")
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".other*"))


def test_what_is_no_model_or_lacks_its_tokenizer_is_refused_by_name(exported, tiny_setting, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty.*config\.json"):
        export_model(str(tmp_path / "empty"), tmp_path / "new", {})
    build_gpt2(Shape(1, 2, 16), 300, 24, seed=0).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        export_model(str(tmp_path / "saved"), tmp_path / "new", {})
    for path in (exported / "ce").glob("tokenizer*"):  # of more entries
        (tmp_path / "saved" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="is not the model's"):
        export_model(str(tmp_path / "saved"), tmp_path / "new", {})
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["empty", "saved"]
