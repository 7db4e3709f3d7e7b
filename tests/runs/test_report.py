import json

import pandas as pd
import pytest

from mome.cli.main import main
from mome.figures.arms import plot_language_bars
from mome.runs import CLAIMS
from mome.runs.drawing import describe_plot
from mome.runs.report import write_report

MACHINE = {"processor": "Fast <1>", "cores": 2, "cores_of_machine": 8}
GOOD = {"notebook": "03_kd_alpha", "run": "r", "parameters": {"x": 1}, "metrics": {}, "seconds": 61,
        "tables": ["t"],
        "figures": [{"name": "f", "caption": "A & B"}], "versions": {},
        "findings": [{"text": "<b>t</b> $1", "verdict": "cannot tell", "claim": "C1", "parts": [
            {"asks": "part <one>", "answer": None, "said": "by 1 | 2"}]}]}
CALL = describe_plot(plot_language_bars, (pd.Series({"en": 1.0}), "dots"), {})
TITLE = "# <script>alert(1)</script>"


def write_run(folder, entry):
    """Write a finished run by hand."""
    for part in ("figures", "tables"):
        (folder / part).mkdir(parents=True)
    width = (300).to_bytes(4, "big")
    (folder / "figures/f.json").write_text(CALL)
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
        "before\n<!-- surprises -->\n<!-- /surprises -->\n<!-- claims -->\nold\n<!-- /claims -->\nafter\n")
    for module in ("publish", "reference"):
        monkeypatch.setattr(f"mome.runs.{module}.repository", lambda: root)
    return root


LAPTOP = GOOD | {"parameters": {"scale": "laptop", "seeds": [0, 1]}}


@pytest.mark.parametrize("change", [
    {"notebook": "../../x"}, {"notebook": "*"}, {"figures": [{"name": "../../../secret", "caption": ""}]},
    {"figures": [{"name": "f"}]}, {"figures": [{"name": "f", "caption": 3}]}, {"tables": ["/etc/passwd"]},
    {"seconds": "long"},
    {"findings": [{"text": "t", "verdict": "<script>", "claim": "C1", "parts": []}]}, {"run": "` | <b>"},
    {"run": 3},
    {"findings": [{"text": "t", "verdict": "holds", "claim": "C1 | x |", "parts": []}]}, {"metrics": None},
    {"findings": [GOOD["findings"][0] | {"parts": [{"asks": "a", "answer": "<b>", "said": ""}]}]},
    {"findings": [GOOD["findings"][0] | {"parts": [{"asks": "a", "answer": True, "said": 3}]}]},
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
    write_run(tmp_path / "night/03_kd_alpha", GOOD | {"machine": MACHINE, "lock": "c" * 64})
    path, title = tmp_path / "03_kd_alpha.ipynb", {"cell_type": "markdown", "source": [TITLE], "metadata": {}}
    path.write_text(json.dumps({"cells": [title]}))
    monkeypatch.setattr("mome.runs.report.notebook_paths", lambda: [path])
    page = write_report(tmp_path / "night").read_text()
    assert page.count("data:image/png;base64,") == 1 and 'style="width:2.0in;' in page
    assert all(text in page for text in (
        "&lt;script&gt;", "A &amp; B", "t: 201 lines, the first 200", "&lt;i&gt;199&lt;/i&gt;", "Run night",
        "61 s", "Made on Fast &lt;1&gt;, 2 of 8 cores. Versions are those of the lock cccccccccccc.",
        '<td class="verdict cannot-tell">cannot tell</td><td>&lt;b&gt;t&lt;/b&gt; $1',
        "part &lt;one&gt;: cannot tell. by 1 | 2", CLAIMS["C1"]))
    assert "<script>" not in page and "&lt;i&gt;200&lt;/i&gt;" not in page
    assert "://" not in page and "<h2>Runs</h2>" not in page


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
    write_run(tmp_path / "night/03_kd_alpha", LAPTOP)
    assert main(["publish", str(tmp_path / "night")]) == 2
    assert "has no marks" in capsys.readouterr().err
    assert (checkout / "figures/03_old.png").exists() and not (checkout / "figures/laptop").exists()


def test_only_a_run_at_laptop_scale_becomes_the_reference(checkout, tmp_path, capsys):
    write_run(tmp_path / "night/03_kd_alpha", GOOD | {"parameters": {"scale": "smoke"}})
    assert main(["publish", str(tmp_path / "night")]) == 2
    assert "is of scale 'smoke'" in capsys.readouterr().err


def test_publishing_keeps_a_runs_record_and_makes_figures_and_claims_from_it_each_time_alike(
        checkout, tmp_path, capsys):
    night = tmp_path / "night"
    write_run(night / "03_kd_alpha", LAPTOP | {"run": "night"})
    write_run(night / "05_last", LAPTOP | {"notebook": "05_last", "findings": [
        {"claim": "C5", "verdict": "holds", "text": "measured | again\n", "parts": []},
        {"claim": "", "verdict": "", "text": "aside", "parts": []}]})
    told = {"date": "2026-01-02", "minutes": 24.6, "corpus": "help@x"}
    (night / "command.json").write_text(json.dumps(told))
    assert main(["publish", str(night)]) == 0
    assert str(checkout / "README.md") in capsys.readouterr().out
    figures, text = checkout / "figures", (checkout / "README.md").read_text()
    assert sorted(path.name for path in figures.glob("*.png")) == ["02_kept.png", "03_f.png", "05_f.png"]
    head, rows = text.splitlines()[4], [line for line in text.splitlines() if line.startswith("| **")]
    assert head.startswith("Scale laptop, corpus help@x, seeds 0, 1, 2026-01-02, 25 minutes. Intervals")
    assert "one teacher" in head
    assert rows == [f"| **C1** | {CLAIMS['C1']} | **cannot tell** | <b>t</b> $1 |",
                    f"| **C5** | {CLAIMS['C5']} | **holds** | measured / again |"]
    assert "  - part <one>: cannot tell. by 1 / 2" in text and text.endswith("<!-- /claims -->\nafter\n")
    before = {path: path.read_bytes() for path in [checkout / "README.md", *figures.glob("*.png")]}
    for path in figures.glob("0[35]_*.png"):
        path.unlink()
    assert main(["publish"]) == 0
    assert before == {path: path.read_bytes() for path in before}
    write_run(tmp_path / "part" / "05_last", LAPTOP | {"notebook": "05_last", "run": "part", "findings": []})
    (tmp_path / "part" / "command.json").write_text(json.dumps(told | {"minutes": 0.1}))
    assert main(["publish", str(tmp_path / "part")]) == 0
    assert head in (checkout / "README.md").read_text()  # what a part of the claims cost is not told of all


def test_of_a_notebook_without_a_number_the_tables_are_published_too(checkout, tmp_path):
    write_run(tmp_path / "night/rates", LAPTOP | {"notebook": "rates"})
    assert main(["publish", str(tmp_path / "night")]) == 0
    names = sorted(path.name for path in (checkout / "figures").glob("*.png"))
    assert names == ["02_kept.png", "03_old.png", "rates_f.png"]
    table = (checkout / "figures/laptop/rates_t.csv").read_text()
    assert table.startswith("a\n<i>0</i>\n<i>1</i>\n")
