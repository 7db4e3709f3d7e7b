"""Notebooks, recipes and benchmarks as on a GPU, without one, with languages named like parts of Python."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY
from fake_device import DEVICE, fake_device, is_held
from transformers import GPT2Model

from mome import store
from mome.bench import kd, modular, step
from mome.config import notebook_paths, repository
from mome.engine import build_here
from mome.evaluate.uses import score_model
from mome.models.assemble import build_moe
from mome.models.bodies import build_body
from mome.models.forwards import dense_logits
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.plan import make_plan
from mome.recipe import Recipe
from mome.recipes import routers, setting, training
from mome.recipes.data import Data
from mome.recipes.setting import open_setting
from mome.router.affine import Router
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters, declared_parameters, read_cells
from mome.scales import Shape, resolve_scale

ORIGINS = {"no": "en", "to": "fr", "py": "py", "True": "es"}  # whose texts stand under the odd names
LANGUAGES = ["no", "to", "py"]
SMALL = TINY | {"batch_size": 6, "micro_batch_size": 3, "tokens_per_language": 5_000, "student_tokens": 600,
                "teacher_tokens": 2_000, "evaluation_rows": 4, "curve_rows": 2, "router_rows": 20}
LONG = SMALL | {"context": 1_024, "tokens_per_language": 30_000, "validation_fraction": 0.2,
                "test_fraction": 0.2, "vocab_size": 300, "batch_size": 3}
COMMON = {"languages": LANGUAGES, "overrides": SMALL, "scale": "smoke", "seeds": [0]}
CHOSEN = {
    "02_router_comparison": {"classifiers": ["multinomial_nb", "logistic_regression"], "prefixes": [2, 8],
                             "experts": "JEET", "overrides": LONG},
    "03_kd_alpha": {"language": "to", "losses": ["reverse_kl"], "schedules": [], "wobble_seeds": [],
                    "budgets": [1.0], "evaluations": 8, "overrides": SMALL | {"student_tokens": 3_200}},
    "04_moe_variants": {"variants": ["PLE branched", "MoE-CE"], "controls": ["same active"], "prefixes": [8],
                        "added_language": "True"},
    "05_catastrophic_forgetting": {"variants": ["MoE-CE"], "replay": [], "second_teacher": True,
                                   "imbalance": [3.0, 2.0, 1.0]},
    "rates": {"language": "to", "rates": [4.0], "kinds": ["student", "teacher"]}}
NOTEBOOKS = {path.stem: path for path in notebook_paths()}


def check_closed(source) -> None:
    """Assert that this process holds no file of a folder open, as Windows would not rename it."""
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    opened = [os.readlink(path) for path in links if path.exists()]
    opened += Path("/proc/self/maps").read_text().splitlines()
    assert not [name for name in opened if f"{source}/" in name]


def test_a_tensor_here_that_meets_one_there_is_noticed():
    with pytest.MonkeyPatch.context() as patch, fake_device(patch):
        here, there = torch.ones(3), torch.ones(3).to(DEVICE)
        assert (there.device, (there + 1).device, there.cpu().device) == (DEVICE, DEVICE, here.device)
        for mix in (lambda: here + there, lambda: here.dot(there), there.numpy, there.double):
            with pytest.raises((RuntimeError, TypeError), match=str(DEVICE)):
                mix()


def test_a_model_there_takes_an_expert_and_a_router_from_here_and_writes_the_same():
    config, ids = gpt2_config(Shape(1, 2, 16), 60, 24), torch.arange(3, 27).view(3, 8)
    model = build_moe(["no", "to"], config, has_common_expert=True, seed=0).eval()
    router, written = Router(60, ["no", "to", "True"]), []
    for weight in (*model.parameters(), router.weight):
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(weight.numel()))
    with pytest.MonkeyPatch.context() as patch, fake_device(patch):
        for place in (torch.device("cpu"), DEVICE):
            there = copy.deepcopy(model).to(place)
            there.add_expert("True", build_body(config).eval(), copy.deepcopy(router))
            there.experts["True"].load_state_dict(model.common_expert.state_dict())
            prompts = ids.to(place)
            for stop in (None, 18):  # transformers looks a step later there whether all rows have ended
                written.append(there.generate(prompts, attention_mask=torch.ones_like(prompts),
                                              max_new_tokens=12, eos_token_id=stop, pad_token_id=0).tolist())
    assert written[:2] == written[2:] and len(written[0][0]) == 20 > len(written[1][0])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """{recipe: how often its build runs a model} of all that is built on the device, in a home of its own."""
    home, mini, built, making = tmp_path_factory.mktemp("devices"), repository() / "data/mini", {}, []
    forward, replace, keep = GPT2Model.forward, os.replace, Recipe.keep
    for name, origin in ORIGINS.items():
        shutil.copytree(mini / origin, home / "corpus" / name)
        for number, path in enumerate(sorted((mini / origin).iterdir())):  # few, and so long
            (home / "other" / name).mkdir(parents=True, exist_ok=True)
            with open(home / "other" / name / f"{number % 4}{path.suffix}", "a", encoding="utf-8") as file:
                file.write(path.read_text(encoding="utf-8"))

    def run(*args, **kwargs):
        for recipe in making:
            built[recipe] += 1
        return forward(*args, **kwargs)

    def rename(source, target):
        if Path("/proc/self/maps").exists():  # on Linux, which would rename it all the same
            check_closed(source)
        replace(source, target)

    def keep_counted(recipe):
        built[recipe] = 0
        making.append(recipe)
        keep(recipe)
        making.pop()

    with pytest.MonkeyPatch.context() as patch, fake_device(patch):
        patch.setenv("MOME_HOME", str(home))
        patch.setenv("MOME_BATCH", "1")
        patch.setattr(store.os, "replace", rename)
        patch.setattr(GPT2Model, "forward", run)
        patch.setattr(Recipe, "keep", keep_counted)
        patch.setattr("mome.runs.record.Run.figure", lambda *_, **options: None)
        yield built


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_builds_and_reads_on_another_device(name, built, monkeypatch):
    path, home = NOTEBOOKS[name], Path(os.environ["MOME_HOME"])
    monkeypatch.setenv("MOME_NOTEBOOK", str(path))
    corpora = {"corpus": f"folder:{home / 'corpus'}", "added_corpus": f"folder:{home / 'corpus'}",
               "second_corpus": f"folder:{home / 'other'}", "out": str(home / "runs" / name)}
    asked = {key: value for key, value in {**COMMON, **corpora}.items() if key in declared_parameters(path)}
    values = check_parameters(path, asked | CHOSEN.get(name, {}))
    if name == "00_start_here":  # whose taste has sizes of its own
        monkeypatch.setattr(setting, "open_setting", lambda scale, corpus, languages, overrides: (
            open_setting(scale, corpus, languages, overrides | SMALL)))
    for recipe in make_plan(read_needs(path, values)).missing:
        recipe.keep()
    names = {"display": lambda shown: None}
    for cell in [cell for cell in read_cells(path) if cell["kind"] == "code"]:
        exec(compile(cell["source"], f"{name}: {cell['source'][:40]!r}", "exec"), names)
        names |= values if "parameters" in cell["tags"] else {}
    if name == "02_router_comparison":  # at a long context: no stranger of `mini` fills a row alone
        assert (names["sent"].n_rows > 0).all() and names["found"]


def list_kinds(kind=Recipe) -> set:
    kinds = {found for child in kind.__subclasses__() for found in list_kinds(child)}
    return kinds | {kind} if kind.__module__.startswith("mome.recipes") else kinds


def test_every_kind_of_recipe_was_built_on_the_device(built):
    if not built:
        pytest.skip("the notebooks of this file build them: run it as a whole")
    assert list_kinds() - {type(recipe) for recipe in built} == {training.Training, routers.ClassifierTable}


def test_a_recipe_says_gpu_when_its_build_runs_a_model(built):
    assert {recipe.kind() for recipe, n in built.items() if bool(n) != (recipe.device == "gpu")} == set()


def test_a_model_is_scored_where_it_is(built):
    opened = open_setting("smoke", f"folder:{os.environ['MOME_HOME']}/corpus", LANGUAGES, SMALL)
    build_here(Data.of(opened))
    model, data = build_gpt2(opened.scale.student, 600, 32, seed=0), Data.of(opened).open()
    here = score_model(model, dense_logits, data, "test", 3)
    there = score_model(model.to(DEVICE), dense_logits, data, "test", 3)
    assert is_held(model.lm_head.weight) and here.equals(there)


def test_benchmarks_run_on_the_device(built, monkeypatch):
    monkeypatch.setattr(kd, "VOCABULARIES", ())
    monkeypatch.setattr(kd, "CONTEXTS", ())
    scale = resolve_scale("smoke", TINY)
    for table in (kd.bench_kd(scale, 1), modular.bench_modular(scale, LANGUAGES, 1),
                  step.bench_step(scale, LANGUAGES, 1)):
        assert len(table) > 5
    assert kd.bench_precision(scale)["choice"] in ("no", "bf16")
