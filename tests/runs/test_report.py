import json

import pandas as pd
import pytest
from cases import each

from mome.cli.main import main
from mome.runs.report import write_report

GOOD = {"notebook": "03_kd_alpha", "run": "r", "parameters": {"x": 1}, "metrics": {}, "seconds": 61,
        "tables": ["t"],
        "figures": [{"name": "f", "caption": "A & B"}], "versions": {},
        "findings": [{"text": "<b>t</b> $1", "verdict": "cannot tell", "claim": "C1"}]}
TITLE = "# <script>alert(1)</script>"


def write_run(folder, entry):
    """Write a finished run by hand."""
    for part in ("figures", "tables"):
        (folder / part).mkdir(parents=True)
    width = (300).to_bytes(4, "big")
    (folder / "figures/f.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width + bytes(20))
    pd.DataFrame({"a": [f"<i>{number}</i>" for number in range(201)]}).to_parquet(folder / "tables/t.parquet")
    (folder / "config.json").write_text(json.dumps({"notebook": entry["notebook"],
                                                    "parameters": entry["parameters"] or {}}))
    (folder / "metrics.json").write_text(json.dumps(entry))
    return folder


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with published figures and claims."""
    root = tmp_path / "checkout"
    (root / "figures").mkdir(parents=True)
    (root / "notebooks").mkdir()
    for name in ("02_kept.png", "03_old.png"):
        (root / "figures" / name).write_bytes(b"old")
    (root / "README.md").write_text(
        "before\n<!-- claims -->\n| claim | verdict | measured | run |\n| --- | --- | --- | --- |\n"
        "| C1 | **holds** | one | `day` |\n| C3 | **holds** | three | `day` |\n<!-- /claims -->\nafter\n")
    monkeypatch.setattr("mome.runs.publish.repository", lambda: root)
    return root


@each("change", [
    {"notebook": "../../x"}, {"notebook": "*"}, {"figures": [{"name": "../../../secret", "caption": ""}]},
    {"figures": [{"name": "f"}]}, {"figures": [{"name": "f", "caption": 3}]}, {"tables": ["/etc/passwd"]},
    {"seconds": "long"},
    {"findings": [{"text": "t", "verdict": "<script>", "claim": "C1"}]}, {"run": "` | <b>"}, {"run": 3},
    {"findings": [{"text": "t", "verdict": "holds", "claim": "C1 | x |"}]}, {"metrics": None},
    {"parameters": 3}])
def test_a_run_whose_names_lead_elsewhere_or_whose_form_is_wrong_is_refused_before_anything_is_written(
        change, checkout, tmp_path, capsys):
    write_run(tmp_path / "run/03_kd_alpha", GOOD | change)
    for command in ("publish", "report"):
        assert main([command, str(tmp_path / "run")]) == 2
        assert "metrics.json is not what a run writes" in capsys.readouterr().err
    assert sorted(path.name for path in (checkout / "figures").iterdir()) == ["02_kept.png", "03_old.png"]
    assert not (tmp_path / "run/report.html").exists()


def test_the_report_is_one_page_that_holds_all_and_escapes_what_a_run_says(tmp_path, monkeypatch):
    write_run(tmp_path / "night/03_kd_alpha", GOOD)
    path, title = tmp_path / "03_kd_alpha.ipynb", {"cell_type": "markdown", "source": [TITLE], "metadata": {}}
    path.write_text(json.dumps({"cells": [title]}))
    monkeypatch.setattr("mome.runs.report.notebook_paths", lambda: [path])
    page = write_report(tmp_path / "night").read_text()
    assert page.count("data:image/png;base64,") == 1 and 'style="width:2.0in"' in page
    assert all(text in page for text in (
        "&lt;script&gt;", "A &amp; B", "t: 201 lines, the first 200", "&lt;i&gt;199&lt;/i&gt;", "Run night",
        "61 s",
        '<td class="cannot-tell">cannot tell</td><td>&lt;b&gt;t&lt;/b&gt; $1</td>'))
    assert "<script>" not in page and "&lt;i&gt;200&lt;/i&gt;" not in page
    assert "http" not in page and "<h2>Runs</h2>" not in page


def test_the_report_of_a_sweep_tells_its_runs_apart_and_names_those_that_failed(tmp_path):
    for name, x in (("a", 1), ("b", 2)):
        write_run(tmp_path / name, GOOD | {"parameters": {"scale": "smoke", "x": x, "out": name}})
    failed = write_run(tmp_path / "c", GOOD | {"parameters": {"scale": "smoke", "x": 3}})
    (failed / "failure.txt").write_text("cell 4: ArithmeticError: nine <four>")
    page = write_report(tmp_path).read_text()
    assert " · x 1</h2>" in page and " · x 2</a>" in page
    assert "<h2>Runs</h2>" in page
    assert "c failed: cell 4: ArithmeticError: nine &lt;four&gt;" in page


def test_a_folder_without_runs_and_a_readme_without_its_marks_are_refused_before_a_figure_goes(
        tmp_path, checkout, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err
    assert main(["publish", str(tmp_path)]) == 2
    assert "no complete notebook" in capsys.readouterr().err
    (checkout / "README.md").write_text("nothing")
    write_run(tmp_path / "night/03_kd_alpha", GOOD)
    assert main(["publish", str(tmp_path / "night")]) == 2
    assert "has no marks" in capsys.readouterr().err
    assert (checkout / "figures/03_old.png").exists()


def test_publishing_replaces_the_claims_and_figures_of_what_ran_and_keeps_the_others(checkout, tmp_path,
                                                                                     capsys):
    findings = [{"claim": "C3", "verdict": "cannot tell", "text": "measured | again\n"},
                {"claim": "", "verdict": "", "text": "aside"}]
    write_run(tmp_path / "night/03_kd_alpha", GOOD | {"run": "night", "findings": findings})
    assert main(["publish", str(tmp_path / "night")]) == 0
    assert sorted(path.name for path in (checkout / "figures").iterdir()) == ["02_kept.png", "03_f.png"]
    text = (checkout / "README.md").read_text()
    assert text.splitlines() == [
        "before", "<!-- claims -->", "| claim | verdict | measured | run |", "| --- | --- | --- | --- |",
        "| C1 | **holds** | one | `day` |", "| C3 | **cannot tell** | measured / again | `night` |",
        "<!-- /claims -->", "after"]
    assert str(checkout / "README.md") in capsys.readouterr().out


def test_of_a_notebook_without_a_number_the_tables_are_published_too(checkout, tmp_path):
    (checkout / "figures/rates_gone.csv").touch()
    write_run(tmp_path / "night/rates", GOOD | {"notebook": "rates"})
    assert main(["publish", str(tmp_path / "night")]) == 0
    names = sorted(path.name for path in (checkout / "figures").iterdir())
    assert names == ["02_kept.png", "03_old.png", "rates_f.png", "rates_t.csv"]
    assert (checkout / "figures/rates_t.csv").read_text().startswith("a\n<i>0</i>\n<i>1</i>\n")
