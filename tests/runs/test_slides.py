import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mome.cli.main import main
from mome.runs.slides import LONG, list_slides

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = f'<figure><img alt="two arms" src="data:image/png;base64,{PIXEL}"></figure>'
FIGURE = new_output("display_data", {"text/html": IMAGE})


def said(text):
    return new_output("stream", text=text)


def code(source, *outputs, **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


CELLS = [
    new_markdown_cell("# Why <toys>?\n\nBecause.\n\n| reads | writes |\n| --- | --- |\n\nNext: `10_other`."),
    new_markdown_cell("## Setup\n\nParameters are checked."), code("print(1)", said("checked")),
    code("run.build(needs)", said("building")),
    new_markdown_cell("## What came of it\n\nTwo arms."),
    code("x = 1", said("one\n"), FIGURE),
    new_markdown_cell("**How to read it.** Left is better.\n\n### More"),
    code("long = 1", said("\n".join(map(str, range(99))))),
    new_markdown_cell("### Exercise 09.1: add (5 minutes, easy)\n\nAdd.<details>\n+</details>"),
    code("stub", said("still to be written"), tags=["exercise:09.1"]),
    new_markdown_cell("## The idea on toy numbers"), code("assert 1 + 1 == 2"),
    code("y = 2", said("left out"), slideshow={"slide_type": "skip"})]


def tell(cells):
    return [(slide["title"], [cell.source or cell.outputs[0].output_type for cell in slide["cells"]],
             len(slide["notes"])) for slide in list_slides(cells)]


def test_headings_figures_and_texts_become_slides_and_setup_hints_stubs_and_long_code_do_not():
    assert tell(CELLS) == [
        ("Why <toys>?", ["Because."], 0), ("What came of it", ["Two arms.", "stream"], 0),
        ("What came of it", ["display_data"], 1), ("More", ["stream"], 0),
        ("Exercise 09.1: add (5 minutes, easy)", ["Add."], 0),
        ("The idea on toy numbers", ["assert 1 + 1 == 2"], 0)]


def test_prose_that_is_too_long_for_a_slide_goes_on_on_the_next_one_between_paragraphs():
    prose = "\n\n".join(letter * (LONG // 2 - 10) for letter in "abc")
    slides = tell([new_markdown_cell(f"## Long\n\n{prose}")])
    assert [len(cells[0].split()) for _, cells, _ in slides] == [2, 1]


def test_a_run_becomes_slides_without_script_or_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    folder = tmp_path / "runs/night/09_toy"
    folder.mkdir(parents=True)
    nbformat.write(new_notebook(cells=CELLS), folder / "executed.ipynb")
    assert main(["render", "night", "--slides"]) == 0
    index = tmp_path / "runs/night/html/slides/index.html"
    assert capsys.readouterr().out.strip() == str(index) and 'href="09_toy.html"' in index.read_text()
    page = (index.parent / "09_toy.html").read_text()
    assert page.count("<section") == 6 and page.count(PIXEL) == 1 and "Why &lt;toys&gt;?" in page
    assert f'alt="two arms" src="data:image/png;base64,{PIXEL}"' in page and "<pre><span></span> " not in page
    assert not re.search(r"<script|src=.?http|url\(|@import|<link", page) and "default-src 'none'" in page


def test_slides_need_a_run(capsys):
    assert main(["render", "--slides"]) == 2
    assert "slides=True is not allowed without a run" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "slides"), [("notes", 1), ("fragment", 1), ("slide", 2), ("skip", 1)])
def test_metadata_of_a_cell_decides_otherwise(kind, slides):
    cells = [new_markdown_cell("## One\n\nText."),
             new_markdown_cell("More.", metadata={"slideshow": {"slide_type": kind}})]
    assert len(list_slides(cells)) == slides
