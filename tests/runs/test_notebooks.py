"""The committed notebooks' cells of parameters, and the committed sweep."""

import ast
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import papermill
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mome.cli.values import read_sweep
from mome.config import notebook_paths, repository
from mome.distill import ALPHA_SCHEDULES, KD_LOSSES
from mome.recipe import list_ancestors
from mome.runs.grid import plan_sweep
from mome.runs.needs import read_needs
from mome.runs.parameters import COMMON_PARAMETERS, check_parameters, declared_parameters
from mome.scales import SCALES

PATHS = notebook_paths()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_papermill_infers_the_parameters_that_the_cell_declares(path):
    inferred, declared = papermill.inspect_notebook(str(path)), declared_parameters(path)
    assert set(inferred) == set(declared) >= set(COMMON_PARAMETERS)
    for name, value in declared.items():
        assert ast.literal_eval(inferred[name]["default"]) == value
        assert inferred[name]["help"], f"{name} has no help"
        assert inferred[name]["inferred_type_name"] == type(value).__name__


def plan_on_mini(name, folder):
    spec = read_sweep(repository() / "notebooks" / name)
    return plan_sweep(spec | {"parameters": spec["parameters"] | {"corpus": "mini"}}, folder)


def test_the_example_of_a_sweep_can_be_planned(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    assert len(plan_on_mini("sweep.yaml", tmp_path / "out")) == 12


def test_the_study_holds_every_loss_schedule_and_order_over_three_seeds(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    runs = plan_on_mini("study.yaml", tmp_path / "out")
    chapters = [path.stem for path in notebook_paths(is_numbered=True)
                if path.stem not in ("00_start_here", "06_playground")]  # which have no choices of their own
    assert [run.notebook for run in runs] == chapters
    students = [recipe for recipe in list_ancestors(runs) if recipe.kind() == "student"]
    objectives = [student.objective for student in students]
    assert {objective.kd_loss for objective in objectives} == {None, *KD_LOSSES}
    assert {objective.schedule for objective in objectives} == set(ALPHA_SCHEDULES)
    orders = [list_order(student) for student in students if len(student.languages) == 1]
    assert {student.optimizer.kind for student in students} == {"muon", "adamw"}
    assert {orders.count(order) for order in permutations(["en", "fr", "de", "py"])} == {3}


def list_order(student):
    return (*(list_order(student.start_from) if student.start_from else ()), *student.languages)


def test_a_sweep_of_rates_tries_as_many_in_every_arm_and_changes_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    path = repository() / "notebooks/rates.ipynb"
    needs = read_needs(path, check_parameters(path, {"scale": "smoke", "corpus": "mini", "rates": [0.5, 4]}))
    for (_, optimizer, field, _), tried in needs.items():
        rate = "other_rate" if field == "other_lr" else "learning_rate"
        models = [score.model for score in tried.values()]
        assert [getattr(model.optimizer, rate) for model in models] == [
            pytest.approx(factor * getattr(SCALES["smoke"], field)) for factor in tried]
        assert {model.optimizer.kind for model in models} == {optimizer}
        changed = {replace(model, optimizer=replace(model.optimizer, **{rate: 1.0})).name for model in models}
        assert len(changed) == 1
    tries = [sorted((arm, field == "other_lr", *tried) for (arm, by, field, _), tried in needs.items()
                    if by == optimizer) for optimizer in ("muon", "adamw")]
    assert tries[0] == tries[1] and len(tries[0]) == 9
    assert all(tried == [0.5, 1.0, 4.0] for _, is_other, *tried in tries[0] if not is_other)


def test_a_misspelt_parameter_given_to_papermill_itself_stops_in_the_setup_cell(monkeypatch):
    notebook = parameterize_notebook(load_notebook_node(str(PATHS[2])), {"scale": "smoke", "alpah": 0.3})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = cells[:next(place for place, cell in enumerate(cells) if "needs" in cell.metadata.tags)]
    shell = SimpleNamespace(user_ns={"In": [cell.source for cell in cells]})
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    with pytest.raises(ValueError, match=f"'alpah' is unknown to {PATHS[2].stem}"):
        exec("\n".join(shell.user_ns["In"]), {})
