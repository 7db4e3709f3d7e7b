import json
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from mome import engine, store
from mome.config import tracker_dir
from mome.recipe import Recipe
from mome.recipes.data import Data
from mome.recipes.modular import MoE
from mome.recipes.scores import Scores
from mome.recipes.setting import open_setting
from mome.recipes.students import Objective, Student
from mome.recipes.teacher import Targets, Teacher
from mome.recipes.training import SWITCHES, checkpoint_seconds, count_processes
from mome.scales import Optimizer, Shape


@pytest.fixture(scope="module")
def teacher(tiny_setting):
    recipe = Teacher.of(tiny_setting)
    engine.build_here([Targets.of(tiny_setting), Scores.of(tiny_setting, recipe)])
    return recipe


def other_value(recipe, name):
    """Return another value that the field allows."""
    value = getattr(recipe, name)
    if isinstance(value, Data):
        return replace(value, split_seed=value.split_seed + 1)
    if isinstance(value, Recipe):
        changes = {"seed": value.seed + 1} if hasattr(value, "seed") else {"tail": "lumped"}
        return replace(value, **changes)
    others = {"mixed_precision": "bf16", "split": "test", "tail": "lumped", "languages": ("en", "fr"),
              "use": "told", "start_from": None, "objective": Objective(alpha=0.25), "teacher": None,
              "order_seed": 7}
    if name in others:
        return others[name]
    if isinstance(value, Shape):
        return replace(value, n_layer=value.n_layer + 1)
    if isinstance(value, Optimizer):
        return replace(value, betas=(0.9, 0.99))
    return value - 1 if name == "rows_per_language" else 2 * value + (not value)


@pytest.mark.parametrize("make", [
    Teacher.of, Targets.of,
    lambda setting: Student.of(setting, ["en"], start_from=Student.of(setting, ["fr"])),
    lambda setting: Scores.of(setting, Teacher.of(setting))])
def test_every_field_changes_the_name(tiny_setting, make):
    recipe = make(tiny_setting)
    names = {field.name: replace(recipe, **{field.name: other_value(recipe, field.name)}).name
             for field in fields(recipe)
             if not (isinstance(recipe, Student) and field.name in ("teacher", "data"))}  # targets fix both
    assert len({recipe.name, *names.values()}) == 1 + len(names)


def test_what_is_asked_of_a_training_renames_no_training():
    def names(**overrides):
        setting = open_setting("smoke", "mini", ["en", "fr", "de", "py"], overrides)
        teacher, student = Teacher.of(setting), Student.of(setting, ["en"])
        trained = [recipe.name for recipe in (teacher, Targets.of(setting), student)]
        return trained, Scores.of(setting, student).name

    trained, scores = names()
    for overrides in ({"evaluation_rows": 7}, {"router_rows": 9}):
        assert names(**overrides)[0] == trained
    assert names(evaluation_rows=7)[1] != scores
    assert not set(names(student_tokens=20_000)[0][1:]) & set(trained)


def test_the_teacher_learns_and_keeps_weights_history_and_a_small_curve(tiny_setting, teacher):
    history = teacher.history(arm="teacher")
    assert list(history.columns[:2]) == ["arm", "step"]
    assert len(history) == teacher.steps == history.step.max()
    assert history.ce_loss.iloc[-1] < history.ce_loss.iloc[0] - 0.3
    curve = history.dropna(subset=["nats_en"])
    assert curve.step.tolist() == [round(teacher.steps / 2), teacher.steps]
    assert teacher.notes["tokens"] == history.tokens.iloc[-1] == teacher.steps * teacher.batch_size * 31
    assert not list(teacher.folder.glob("checkpoint*"))


def test_scores_are_those_of_the_model_on_rows_spread_over_the_split(tiny_setting, teacher):
    scores, data = Scores.of(tiny_setting, teacher), teacher.data.open()
    table = scores.open()
    assert table.groupby("language").size().max() <= scores.rows_per_language
    row = data.row_numbers("validation", "fr", scores.rows_per_language)[0]
    ids = torch.from_numpy(data.rows("validation")[[row]].astype(np.int64))
    log_probs = torch.log_softmax(teacher.open()(ids).logits[0, :-1], -1)
    expected = -log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert table[table.language == "fr"].nats.iloc[0] == pytest.approx(expected, rel=1e-5)
    summary = scores.summary(arm="teacher", seed=0)
    measures = ["nats_per_token", "perplexity", "bits_per_byte"]
    assert list(summary.columns) == ["arm", "seed", "language", *measures]
    of_test = Scores.of(tiny_setting, teacher, split="test")
    engine.build_here(of_test)
    assert set(of_test.open().article_id) <= set(teacher.data.open().article_ids("test"))
    assert not of_test.open().equals(table)


def interrupt(recipe, number):
    """Build a training up to its step of that number, where it is interrupted."""
    from mome.train import loop

    taken, take = [], loop.take_gradient

    def stop(*arguments):
        taken.append(1)
        if len(taken) == number:
            raise KeyboardInterrupt
        return take(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_gradient", stop)
        recipe.keep()


def test_an_interrupted_training_ends_with_the_weights_of_a_whole_one(tiny_setting, teacher):
    student = Student.of(tiny_setting, ["en"], seed=5)
    student.keep()
    whole = store.folder_of(student.name)
    weights, history = (whole / "model.safetensors").read_bytes(), pd.read_parquet(whole / "history.parquet")
    whole.rename(whole.with_name("aside"))
    interrupt(student, 4)
    assert (store.unfinished_of(student.name) / store.CHECKPOINT).exists() and not student.is_there
    student.keep()
    assert (whole / "model.safetensors").read_bytes() == weights
    found = pd.read_parquet(whole / "history.parquet")
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), history.drop(columns="seconds"))


def test_how_often_a_checkpoint_is_written_is_no_value_of_a_recipe(monkeypatch):
    monkeypatch.setenv("MOME_CHECKPOINT_SECONDS", "1.5")
    assert checkpoint_seconds() == 1.5
    monkeypatch.setenv("MOME_CHECKPOINT_SECONDS", "soon")
    with pytest.raises(ValueError, match="MOME_CHECKPOINT_SECONDS='soon'"):
        checkpoint_seconds()


@pytest.mark.parametrize("name", SWITCHES)
def test_what_accelerate_would_do_otherwise_is_refused_before_a_start(tiny_setting, monkeypatch, name):
    monkeypatch.setenv(name, SWITCHES[name].upper())
    Teacher.of(tiny_setting)
    if name == "ACCELERATE_MIXED_PRECISION":  # may be that of the recipe
        monkeypatch.setenv(name, "bf16")
        assert Teacher.of(tiny_setting, mixed_precision="bf16").mixed_precision == "bf16"
    monkeypatch.setenv(name, {"no": "FP16", "1": "2", "false": "True"}[SWITCHES[name]])
    with pytest.raises(ValueError, match=f"^{name}='(fp16|2|true)' .*{SWITCHES[name]}"):
        Teacher.of(tiny_setting)


@pytest.mark.parametrize("words, is_refused", [
    (["--cpu", "--num_processes", "2"], True), (["--cpu", "--num_processes", "1"], False)])
def test_one_process_that_accelerate_started_for_several_says_so(monkeypatch, words, is_refused):
    from accelerate.commands import launch as launcher

    for name in ("WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert count_processes() == 1
    arguments = launcher.launch_command_parser().parse_args([*words, "-m", "mome"])
    arguments, _, _ = launcher._validate_launch_command(arguments)
    for name, value in launcher.prepare_simple_launcher_cmd_env(arguments)[1].items():
        monkeypatch.setenv(name, value)
    if is_refused:
        with pytest.raises(ValueError, match=r"one process where several .* torchrun --standalone"):
            count_processes()
    assert is_refused or count_processes() == 1


def test_two_launched_processes_train_what_a_model_is_made_from_and_it_as_one_does(own_home, launch):
    overrides = {"vocab_size": 600, "context": 32, "tokens_per_language": 8000, "teacher_tokens": 1024,
                 "student_tokens": 1024, "teacher": {"n_layer": 1, "n_embd": 32},
                 "expert": {"n_layer": 1, "n_embd": 16}, "batch_size": 4, "micro_batch_size": 4,
                 "curve_rows": 4, "evaluations": 1}
    recipe = MoE.of(open_setting("smoke", "mini", ["en", "fr"], overrides), "PLE")
    engine.build_here(recipe)
    trained = [recipe, *recipe.experts]
    losses = [part.history().ce_loss for part in trained]
    for part in trained:
        part.folder.rename(part.folder.with_name(f"aside-{part.name}"))
    interrupt(recipe.experts[1], 5)
    # Its launcher for several GPUs serves CPUs when told to use them.
    launch("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
           "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "mome",
           "train", "PLE", "--scale", "smoke", "--corpus", "mini", "--languages", "en,fr", "--overrides",
           json.dumps(overrides), ACCELERATE_USE_CPU="true", MOME_TRACKER="tensorboard")
    assert [part.manifest["is_resumed"] for part in trained] == [False, False, True]
    assert [len(list((tracker_dir() / part.name).glob("events*"))) for part in trained] == [1, 1, 1]
    for part, expected in zip(trained, losses, strict=True):
        np.testing.assert_allclose(part.history().ce_loss, expected, rtol=1e-4)
