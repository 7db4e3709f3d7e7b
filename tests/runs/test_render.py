import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mome.cli.main import main

FIGURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run with an executed notebook, under a home of its own."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    folder = tmp_path / "runs/night/09_toy"
    folder.mkdir(parents=True)
    outputs = [new_output("display_data", {"image/png": FIGURE, "text/plain": "Figure"}),
               new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "VBox(children=1)"}),
               new_output("display_data", {"application/javascript": "alert(1)"}),
               new_output("stream", text="<b>said</b>")]
    nbformat.write(new_notebook(cells=[
        new_markdown_cell("# Why <toys>?\n\nAfter `09_toy`, $\\alpha$ and $$\\sum_v p_v$$, $x_$"),
        new_code_cell("x = '<i>'" + "+ 1" * 99, outputs=outputs),
        new_code_cell("print(folded)", outputs=[new_output("stream", text="told")],
                      metadata={"jupyter": {"source_hidden": True}})]), folder / "executed.ipynb")
    return folder.parent


def test_a_run_becomes_pages_that_need_nothing_from_elsewhere_and_show_no_dead_widget(run, capsys):
    assert main(["render", "night"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "html/index.html")
    page = (run / "html/09_toy.html").read_text()
    assert "<title>Why &lt;toys&gt;? · Run night</title>" in page and f"base64,{FIGURE}" in page
    assert page.count("<math") == 2 and page.count("$") == 2 and "&lt;b&gt;said&lt;/b&gt;" in page
    assert not re.search("VBox|alert|<script|src=.?http|url\\(|@import|<link", page)
    assert "default-src 'none'" in page and 'alt="figure of cell 1"' in page
    assert '<a href="09_toy.html">09_toy</a>' in page
    assert page.count("folded") == 1 and "folded" in page[page.index("<details>"):page.index("</details>")]
    assert "told" in page[page.index("</details>"):]
    assert '<a href="09_toy.html">09_toy</a>: Why &lt;toys&gt;?' in (run / "html/index.html").read_text()
    assert '<a href="../report.html">' in (run / "html/index.html").read_text()


def test_the_report_links_to_a_page_once_it_is_there(run):
    entry = {"notebook": "09_toy", "run": "night", "parameters": {"scale": "smoke"}, "metrics": {},
             "seconds": 1, "tables": [], "figures": [], "findings": [], "versions": {}}
    (run / "09_toy/config.json").write_text(json.dumps(entry))
    (run / "09_toy/metrics.json").write_text(json.dumps(entry))
    assert main(["report", str(run)]) == 0
    assert "html/09_toy.html" not in (run / "report.html").read_text()
    assert main(["render", str(run)]) == 0
    assert 'href="html/09_toy.html"' in (run / "report.html").read_text()


@pytest.mark.parametrize(("name", "sentence"), [
    ("day", "run='day' does not exist"), ("empty", "holds no executed notebook"),
    ("broken", "executed.ipynb is damaged or no notebook"), ("cut", "executed.ipynb is damaged")])
def test_what_cannot_be_rendered_is_refused_before_anything_is_written(run, name, sentence, capsys):
    for other, text in (("empty", ""), ("broken", '{"cells": [{}]}'), ("cut", '{"cells"')):
        (run.parent / other).mkdir()
        if text:
            (run.parent / other / "executed.ipynb").write_text(text)
    assert main(["render", name]) == 2
    assert sentence in capsys.readouterr().err and not (run.parent / name / "html").exists()
