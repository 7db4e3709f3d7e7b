"""The workbook as a user gets it: the notebooks' form, and all of them once through the command line."""

import ast
import html
import json
import os
import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml

import mome
from mome.config import notebook_paths, repository
from mome.figures.style import set_style
from mome.plan import make_plan
from mome.provenance import versions
from mome.recipe import collect
from mome.runs import CLAIMS
from mome.runs.drawing import save_figure
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters
from mome.runs.publish import publish
from mome.runs.reference import read_reference

PATHS, NUMBERED = notebook_paths(), notebook_paths(is_numbered=True)
SMALL = {"vocab_size": 600, "context": 32, "tokens_per_language": 9_000, "teacher_tokens": 8_000,
         "student_tokens": 4_200, "evaluation_rows": 8, "curve_rows": 4, "router_rows": 150,
         "targets_per_token": 8}
FEWER = ["-p", "wobble_seeds=[3]", "-p", "evaluations=8", "-p", "budgets=[0.5,1.0]"]  # points of curves


def test_the_notebooks_of_the_workbook_are_there():
    assert [path.stem for path in NUMBERED][:6] == [
        "00_start_here", "01_dataset_creation", "02_router_comparison", "03_kd_alpha", "04_moe_variants",
        "05_catastrophic_forgetting"]


def test_the_citation_names_this_version_the_licence_and_the_paper():
    cited = yaml.safe_load((repository() / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (mome.__version__, "MIT")
    assert [paper["url"] for paper in cited["references"]] == ["https://arxiv.org/abs/2407.19610"]
    assert f"## {mome.__version__}\n" in (repository() / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_jupyterlab_writes_when_it_saves_a_notebook_is_taken_out_by_the_hook(tmp_path):
    hooks = yaml.safe_load((repository() / ".pre-commit-config.yaml").read_text())["repos"]
    strip = next(hook["args"] for repo in hooks for hook in repo["hooks"] if hook["id"] == "nbstripout")
    for path in PATHS:  # as it was before, though a person may have saved it just now, and as it is saved
        notebook = nbformat.read(path, as_version=4)
        nbformat.write(notebook, tmp_path / f"{path.stem}.before.ipynb")
        notebook.metadata.language_info |= {
            "version": "3.99", "mimetype": "text/x-python", "file_extension": ".py",
            "codemirror_mode": {"name": "ipython"}, "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python"}
        for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
            cell |= {"execution_count": number, "outputs": [nbformat.v4.new_output("stream", text="seen")]}
            cell.metadata["execution"] = {"shell.execute_reply": "now"}
        nbformat.write(notebook, tmp_path / f"{path.stem}.saved.ipynb")
    subprocess.run([sys.executable, "-m", "nbstripout", *strip, *tmp_path.glob("*.ipynb")], check=True)
    for path in PATHS:
        before, saved = (tmp_path / f"{path.stem}.{when}.ipynb" for when in ("before", "saved"))
        assert before.read_bytes() == saved.read_bytes()
        ids = [[cell.id for cell in nbformat.read(place, 4).cells] for place in (path, saved)]
        assert ids[0] == ids[1]


def test_what_is_committed_has_no_outputs():
    git = ["git", "-C", str(repository())]
    listed = subprocess.run([*git, "ls-files", "*.ipynb"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git repository")
    for name in listed.stdout.split():
        committed = subprocess.run([*git, "show", f":{name}"], capture_output=True, text=True, check=True)
        cells = [cell for cell in json.loads(committed.stdout)["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), name


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_keeps_to_the_house_rules(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    asked = 3 * sum(tag.startswith("exercise:") for tag in tags)  # its text, its stub, its check
    assert (25 if path in NUMBERED else 10) <= len(notebook.cells) - asked <= 52
    assert tags.count("parameters") == tags.count("needs") == 1
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[-1] <= 30 and lengths[len(lengths) // 2] <= 9
    assert max(len(line) for cell in cells for line in cell.source.splitlines()) <= 110
    for cell in cells:
        odd = ("!pip", "%cd", "sys.path", "globals()", "/work/", "/tmp/")
        assert not any(word in cell.source for word in odd)
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15


def name_needs(**overrides) -> dict[str, set[str]]:
    """Return {notebook: the names of its trainings} under the given overrides of the scale."""
    found = {}
    for path in PATHS:
        given = {"scale": "smoke", "corpus": "mini", "overrides": {**SMALL, **overrides}}
        values = check_parameters(path, given)
        missing = make_plan(read_needs(path, values)).missing
        found[path.stem] = {recipe.name for recipe in missing if hasattr(recipe, "curve_rows")}
    return found


def test_what_is_asked_of_trained_models_renames_no_training(own_home):
    before = name_needs()
    assert len(before["05_catastrophic_forgetting"]) > 10
    assert name_needs(router_rows=99) == name_needs(evaluation_rows=9) == before
    assert before["03_kd_alpha"] & before["05_catastrophic_forgetting"]  # asked for by two, built once


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """All notebooks on the mini corpus, smaller than smoke, by the command line, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    run = [sys.executable, "-m", "mome", "run", "--scale", "smoke", "--corpus", "mini", "--seeds", "0,1"]
    run += ["--out", str(home / "out"), "--workers", "2", "-p", f"overrides={json.dumps(SMALL)}", *FEWER]
    environment = os.environ | {"MOME_HOME": str(home), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-3000:]
    return home / "out"


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_a_notebook_runs_through_and_leaves_metrics_findings_and_figures(path, finished_run):
    metrics = json.loads((finished_run / path.stem / "metrics.json").read_text())
    assert metrics["findings"] and metrics["figures"]
    for figure in metrics["figures"]:
        image = finished_run / path.stem / "figures" / f"{figure['name']}.png"
        assert image.read_bytes().startswith(b"\x89PNG")
    executed = nbformat.read(finished_run / path.stem / "executed.ipynb", as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = "".join(output.data.get("text/html", "") for output in outputs if "data" in output)
    for said in (html.escape(figure["caption"]) for figure in metrics["figures"]):
        assert f'<img alt="{said}"' in shown and f"<figcaption>{said}</figcaption>" in shown


def test_every_need_of_the_run_is_there_and_the_same_command_builds_nothing(finished_run, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(finished_run.parent))
    for path in NUMBERED:
        values = json.loads((finished_run / path.stem / "config.json").read_text())["parameters"]
        needs = read_needs(path, {**values, "out": ""})
        assert collect(needs) and not make_plan(needs).missing


def test_a_figure_is_drawn_again_from_its_data_byte_for_byte_outside_of_the_notebook(finished_run, tmp_path):
    set_style()
    plt.switch_backend("Agg")
    for folder in finished_run.glob("0*"):
        entry = json.loads((folder / "metrics.json").read_text())
        for figure in (entry["figures"][0], entry["figures"][-1]):
            path = folder / "figures" / f"{figure['name']}.json"
            save_figure(path.read_text(), entry["run"], tmp_path / "again.png")
            plt.close("all")
            assert (tmp_path / "again.png").read_bytes() == path.with_suffix(".png").read_bytes(), path


def test_figures_and_claims_in_the_repository_are_what_publish_makes_of_the_reference(tmp_path, monkeypatch):
    _, entries = read_reference()
    shutil.copytree(repository() / "figures", tmp_path / "figures")
    shutil.copy(repository() / "README.md", tmp_path)
    for module in ("publish", "reference"):
        monkeypatch.setattr(f"mome.runs.{module}.repository", lambda: tmp_path)
    drawn_by, now = entries[0]["versions"], versions()
    is_same = all(drawn_by.get(name) == now[name] for name in ("matplotlib", "seaborn", "numpy"))
    publish()
    for path in [*tmp_path.glob("figures/*"), tmp_path / "README.md"]:
        there = repository() / path.relative_to(tmp_path)
        assert there.exists()
        if path.is_file() and (is_same or path.suffix == ".md"):
            assert there.read_bytes() == path.read_bytes(), path


def test_a_claim_is_told_in_25_words_at_most_and_by_its_parts(finished_run):
    ran = [json.loads(path.read_text()) for path in finished_run.glob("*/metrics.json")]
    for entries in (ran, read_reference()[1]):
        claims = [finding for entry in entries for finding in entry["findings"] if finding["claim"]]
        assert sorted(finding["claim"] for finding in claims) == sorted(CLAIMS)
        for finding in claims:
            assert len(finding["text"].split()) <= 25 and finding["parts"], finding["text"]


def test_the_report_is_one_self_contained_page_with_every_figure_and_claim(finished_run):
    page = (finished_run / "report.html").read_text()
    metrics = [json.loads(path.read_text()) for path in finished_run.glob("*/metrics.json")]
    figures = sum(len(entry["figures"]) for entry in metrics)
    assert figures >= 8 and page.count("data:image/png;base64,") == figures
    assert all(claim in page for claim in CLAIMS) and 'src="http' not in page
    captions = [html.escape(figure["caption"]) for entry in metrics for figure in entry["figures"]]
    assert all(f'alt="{caption}"' in page for caption in captions)
