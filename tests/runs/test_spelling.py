import pytest
import yaml
from papermill.cli import _resolve_type

from mome.config import notebook_paths
from mome.recipe import to_plain
from mome.runs.defaults import USUAL
from mome.runs.parameters import check_parameters, declared_parameters, find_cell
from mome.runs.record import start_run
from mome.runs.spelling import read_again, read_yaml
from mome.scales import SCALES

FIELDS = to_plain(SCALES["smoke"])


@pytest.mark.parametrize("text, default", [
    ("2e-3", 1.0), ("1e1", 1), ("1e1", 0.5), (".5", 1.0), ("1_000", 1), ("+3", 1), ("-.5e+2", 1.0),
    ("[2e-3, 1]", [0.5]), ("[no, en]", ["en"]), ("no", "en"), ("[no, fr]", []),
    ("{muon_lr: 2e-3, mixed_precision: no}", FIELDS),
    ("{student: {n_layer: 1e0}, shares: {no: 2e0, en: 1}}", FIELDS), ("[y, 'n']", ["en"]), ("true", False)])
def test_what_papermill_has_read_is_read_again_as_a_command_reads_it(text, default):
    wanted = read_yaml("x", text)
    assert read_again("x", yaml.safe_load(text), default) == wanted  # -y and -f
    if not isinstance(default, dict):
        assert read_again("x", _resolve_type(text), default) == wanted  # -p


@pytest.mark.parametrize("text", ["2e-3", "no", "3"])
def test_a_text_stays_what_was_written(text):
    assert read_again("sentence", text, "") == text


def test_a_kernels_variables_become_what_the_run_uses(toy, enter):
    injected = {"languages": "[fr, no]", "alphas": ["2e-3", 1], "x": "1e1",
                "overrides": {"muon_lr": "2e-3", "mixed_precision": False}}
    cell = "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in injected.items())])
    variables = enter(find_cell(toy, "parameters"), cell)
    variables |= declared_parameters(toy) | injected
    run = start_run("09_toy", **{name: variables[name] for name in declared_parameters(toy)})
    wanted = {"languages": ["fr", "no"], "alphas": [0.002, 1.0], "x": 10,
              "overrides": {"muon_lr": 0.002, "mixed_precision": "no"}}
    assert {name: variables[name] for name in wanted} == wanted == {name: run.values[name] for name in wanted}
    variables["x"] = "ten"
    with pytest.raises(ValueError, match="x='ten'"):
        start_run("09_toy", **{name: variables[name] for name in declared_parameters(toy)})


def test_in_a_kernel_what_nobody_chose_suits_the_languages_and_what_papermill_was_given_stays(
        make_toy, enter, capsys):
    toy = make_toy(parameters='scale = "smoke"\ncorpus = "mini"\nlanguages = ["en"]\nlanguage = "en"\n'
                              'imbalance = [4.0, 3.0, 2.0, 1.0]\noverrides = {}\nout = ""')
    cell, usual = find_cell(toy, "parameters"), declared_parameters(toy)
    for given, language, imbalance in (
            ({}, "fr", [4.0, 2.5, 1.0]), ({"language": "en"}, "en", [4.0, 2.5, 1.0]),
            ({"imbalance": [1, 2]}, "fr", [1.0, 2.0])):
        given = {"languages": ["fr", "de", "py"], **given}
        variables = enter(cell, "\n".join(["# Parameters", *(f"{name} = {given[name]!r}" for name in given)]))
        variables |= usual | given
        start_run("09_toy", **{name: variables[name] for name in usual})
        assert (variables["language"], variables["imbalance"]) == (language, imbalance)
        assert variables["overrides"] == {"batch_size": 6, "micro_batch_size": 6}
        assert "batch_size=6 in place of 8" in capsys.readouterr().err
    variables = enter(cell.replace('["en"]', '["fr", "de"]').replace("[4.0, 3.0, 2.0, 1.0]", "[2.0]"))
    variables |= usual | {"languages": ["fr", "de"], "imbalance": [2.0]}
    start_run("09_toy", **{name: variables[name] for name in usual})
    assert (variables["language"], variables["imbalance"]) == ("fr", [2.0])  # a person's edit stays


def test_a_cell_of_papermills_never_beats_an_edit_of_the_parameters_unseen(toy, enter, capsys):
    cell = find_cell(toy, "parameters").replace("x: int = 1", "x: int = 7")  # edited in an executed copy
    variables = enter(cell, "# Parameters\nx = 5\nact = 'work'\n")
    variables |= declared_parameters(toy) | {"x": 5}
    given = {name: variables[name] for name in declared_parameters(toy)}
    assert start_run("09_toy", **given).values["x"] == 5
    assert "the cell '# Parameters' sets x=5 over the cell above it" in capsys.readouterr().err


def test_the_usual_values_are_the_notebooks_own_and_change_nothing_for_their_languages(capsys):
    for path in notebook_paths():
        declared = declared_parameters(path)
        assert {name: declared[name] for name in USUAL if name in declared}.items() <= USUAL.items()
        assert check_parameters(path, {}) == declared
    assert capsys.readouterr().err == ""
