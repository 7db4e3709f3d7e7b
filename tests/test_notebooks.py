import ast
import json
import os
import subprocess
import sys

import nbformat
import papermill
import pytest

from mome import runs

PATHS = runs.notebook_paths()
COMMON = {"scale", "corpus", "languages", "seeds", "overrides", "out"}


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_five_notebooks_of_the_workbook_are_there():
    assert [path.stem for path in PATHS][:5] == ["01_dataset_creation", "02_router_comparison", "03_kd_alpha", "04_moe_variants", "05_catastrophic_forgetting"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_keeps_to_the_house_rules(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    cells = code_cells(path)
    assert 25 <= len(nbformat.read(path, as_version=4).cells) <= 45
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[-1] <= 40
    assert lengths[len(lengths) // 2] <= 9
    for cell in cells:
        assert not any(word in cell.source for word in ("!pip", "%cd", "sys.path", "/home/", "/work/", "/tmp/"))
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_papermill_infers_the_parameters_that_the_cell_declares(path):
    inferred = papermill.inspect_notebook(str(path))
    declared = runs.declared_parameters(path)
    assert set(inferred) == set(declared)
    assert set(declared) >= COMMON
    for name, value in declared.items():
        assert ast.literal_eval(inferred[name]["default"]) == value
        assert inferred[name]["help"], f"{name} has no help"
        assert inferred[name]["inferred_type_name"] == type(value).__name__


def test_a_misspelt_parameter_given_to_papermill_itself_stops_in_the_setup_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError, match="'alpah' is unknown to 03_kd_alpha"):
        papermill.execute_notebook(str(PATHS[2]), str(tmp_path / "out.ipynb"), {"scale": "smoke", "corpus": "mini", "alpah": 0.3}, progress_bar=False)


def test_a_folder_that_holds_a_run_of_other_parameters_is_refused_with_the_difference(tmp_path):
    values = {"scale": "smoke", "overrides": {}, "seeds": [0], "out": str(tmp_path)}
    runs.Run("05_catastrophic_forgetting", values, tmp_path)
    runs.Run("05_catastrophic_forgetting", values | {"out": "elsewhere"}, tmp_path)
    with pytest.raises(ValueError, match=r"seeds was \[0\] and is \[0, 1\] now"):
        runs.Run("05_catastrophic_forgetting", values | {"seeds": [0, 1]}, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["parameters"]["seeds"] == [0]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """All notebooks on the mini corpus at a scale below smoke, through the command line, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    overrides = ("{vocab_size: 600, context: 32, tokens_per_language: 9000, teacher_tokens: 20000, student_tokens: 5000, evaluation_rows: 16, "
                 "router_rows: 150, targets_per_token: 8}")
    command = [sys.executable, "-m", "mome", "run", "--scale", "smoke", "--corpus", "mini", "--seeds", "0,1", "--out", str(home / "out"),
               "-p", f"overrides={overrides}"]
    result = subprocess.run(command, env=os.environ | {"MOME_HOME": str(home), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return home / "out"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_through_and_leaves_metrics_findings_and_figures(path, finished_run):
    metrics = json.loads((finished_run / path.stem / "metrics.json").read_text())
    assert metrics["findings"]
    assert metrics["figures"]
    for figure in metrics["figures"]:
        assert (finished_run / path.stem / "figures" / f"{figure['name']}.png").read_bytes().startswith(b"\x89PNG")
    executed = nbformat.read(finished_run / path.stem / "executed.ipynb", as_version=4)
    errors = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs if output.output_type == "error"]
    assert not errors


def test_the_report_is_one_self_contained_page_with_every_figure_and_claim(finished_run):
    page = (finished_run / "report.html").read_text()
    figures = sum(len(metrics["figures"]) for metrics in runs.read_metrics(finished_run))
    assert figures >= 8
    assert page.count("data:image/png;base64,") == figures
    assert all(claim in page for claim in ("C1", "C2", "C3", "C4", "C5"))
    assert 'src="http' not in page
    assert "$" not in page.replace("$\\", "")
