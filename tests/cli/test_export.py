"""`mome export`: which model words mean, and what is said where they mean none or several."""

import json

import pytest

from mome import store
from mome.cli.main import main
from mome.recipe import collect
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters

NEEDS = """from mome.recipes.scores import Scores
from mome.recipes.setting import open_setting
from mome.recipes.students import Objective, Student
from mome.recipes.teacher import Targets

setting = open_setting(scale, corpus, languages, overrides)
students = {(f"alpha {alpha:g}", share, seed): Student.of(
    setting, ["en"], seed, Objective(alpha=alpha), token_share=share)
    for alpha in (0.5, 0.55) for share in (2, 0.5, 1) for seed in seeds}
watched = {key: Student.of(setting, ["en"], key[2], evaluations=9)
           for key in students if key[:2] == ("alpha 0.5", 1)}
needs = [Targets.of(setting), students, watched, [Scores.of(setting, part) for part in students.values()]]
"""


@pytest.fixture
def needs(workbook):
    """What the toy 09 needs: students of two alphas, three budgets and two seeds, the teacher's targets."""
    path = workbook[1]
    path.write_text(path.read_text().replace(json.dumps("needs = []"), json.dumps(NEEDS)))
    found = read_needs(path, check_parameters(path, {"seeds": [0, 2]}))
    for recipe in collect(found):
        for part in [*recipe.parents().values(), recipe]:
            about = {"kind": part.kind(), "title": part.title, "fields": part.plain_fields(),
                     "parents": {label: parent.name for label, parent in part.parents().items()}}
            store.keep(part.name, about, lambda folder: None)
    return found


@pytest.fixture
def export(monkeypatch, tmp_path):
    """A call of the command; the names of the models that it would have written."""
    names = []
    (tmp_path / "LICENSE").touch()

    def write(name, folder):
        names.append(name)
        store.write_json(folder / "made.json", {"title": f"title of {name}"})

    monkeypatch.setattr("mome.runs.export.write_stored", write)

    def run(model, *words, code=0):
        names.clear()
        found = main(["export", model, str(tmp_path / f"out {len(list(tmp_path.iterdir()))}"), *words])
        assert found == code
        return names[0] if names else None

    return run


@pytest.mark.parametrize("words, key", [
    ("alpha 0.5:seed 0", ("alpha 0.5", 1, 0)), ("alpha 0.5:0", ("alpha 0.5", 1, 0)),
    ("Alpha 0.5 : 2 : seed 2", ("alpha 0.5", 2, 2)), ("0.55:seed 2", ("alpha 0.55", 1, 2)),
    ("alpha 0.5:0.5:seed 2", ("alpha 0.5", 0.5, 2)), ("alpha 0.5:2:2", ("alpha 0.5", 2, 2))])
def test_words_mean_the_model_that_the_needs_hold_under_these_keys(needs, export, words, key):
    assert export(f"9:{words}", "--seeds", "0,2") == needs[1][key].name
    assert export(f"09_toy:{words}", "-p", "seeds=[0, 2]") == needs[1][key].name


def test_what_others_are_made_from_is_found_by_its_title(needs, export):
    assert export("9:teacher") == needs[0].teacher.name


def test_several_models_are_refused_and_told_with_their_names_and_so_is_none(needs, export, capsys):
    assert export("9:alpha 0.5", "--seeds", "0,2", code=2) is None
    said = capsys.readouterr().err
    for key, student in needs[1].items():
        assert (f"{key[0]}:{key[1]:g}:seed {key[2]}: {student.title} ({student.name})" in said) == (
            key[0] == "alpha 0.5"), key
    assert export("9:beta", "--seeds", "0,2", code=2) is None
    said = capsys.readouterr().err
    assert "fits none" in said and "alpha 0.55:0.5:seed 2" in said
    assert export("7:beta", code=2) is None and "notebook='7'" in capsys.readouterr().err


def test_a_model_that_is_not_built_is_told_with_the_command_that_builds_it(needs, export, capsys):
    options = ("--seeds", "1", "-p", "overrides={student_tokens: 4096}")
    assert export("9:alpha 0.5:seed 1", *options, code=1) is None
    said = capsys.readouterr().err
    assert "is not built" in said and "mome run --only 09_toy" in said
    assert "-p 'seeds=[1]'" in said and '-p \'overrides={"student_tokens": 4096}\'' in said


def test_a_name_in_the_store_may_be_its_beginning_as_far_as_one_model_has_it(needs, export, capsys):
    name = next(iter(needs[1].values())).name
    assert export(name) == export(name[:-1]) == name
    assert export("student", code=2) is None
    said = capsys.readouterr().err
    assert "14 models" in said and name in said
    assert export(needs[0].name, code=2) is None and "it is no model" in capsys.readouterr().err
    assert export("routed_moe-0", code=2) is None
    said = capsys.readouterr().err
    assert "mome train" in said and name in said


def test_where_nothing_can_be_written_nothing_is_looked_for(needs, export, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main(["export", "teacher", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert export("teacher", "--scale", "smoke", code=2) is None
    assert "'scale'" in capsys.readouterr().err


def test_the_last_words_say_how_to_publish_it(needs, export, capsys):
    export("teacher")
    said = capsys.readouterr().out
    assert "title of teacher" in said and "written to " in said and "hf upload NAME/out" in said
