"""Slides from an executed notebook: headings, short prose, figures, tables and findings, a screen each."""

import re
from pathlib import Path

from markupsafe import Markup
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mome.runs.compare import find_in_runs
from mome.runs.render import CellExporter, make_exporter, read_notebook
from mome.runs.report import find_heading, load_page, page_of

LONG, ROWS, SHORT = 900, 16, 16  # letters of a slide's prose, lines of its table or text, lines of its code
SKIPPED = re.compile(r"setup|references|beside the reference|you can now", re.IGNORECASE)  # but for figures
WORK = re.compile(r"\brun\.build\(|\bstart_run\(|\brun\.complete\(|\bbeside_reference\(")
NOTES = re.compile(r"\*\*How to read (it|them)")
BARE = "bare"  # a cell without code, of which no empty box is shown
FOLD = re.compile(r"<details>.*?</details>", re.DOTALL)
# Paragraphs for readers, not for a class.
LEFT = ("| reads", "Previous:", "Next:", "What is missing", "The next cell")


def make_slides(run: Path) -> dict[str, str]:
    """Return {name: page of slides} of a run's executed notebooks, and their "index"."""
    found = {page_of(path.parent, run).stem: path for path in find_in_runs([run], "executed.ipynb")}
    titles = {name: find_heading(path) for name, path in found.items()}
    exporter = make_exporter()
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={BARE}), enabled=True)
    about, pages = f"Run {run.resolve().name}", {}
    for name, path in found.items():
        slides = [draw_slide(exporter, slide) for slide in list_slides(read_notebook(path).cells)]
        pages[name] = load_page("slides.html").render(title=titles[name], about=about, slides=slides)
    return pages | {"index": load_page("notebooks.html").render(
        about=f"Slides · {about}", titles=titles, links={"../index.html": "the whole notebooks"})}


def list_slides(cells: list) -> list[dict]:
    """Return slides as {"title", "cells", "notes", "is_first"}, in order.

    Each heading begins one, each figure, table or printed text has its own; "how to read it" is a note under
    what stands before it. Setup, long code and folded hints are left out. A cell's `slideshow` metadata, as
    JupyterLab sets it, decides otherwise: skip, notes, slide, subslide or fragment.
    """
    slides, title, is_skipped = [], "", False
    for cell in cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        if kind == "skip":
            continue
        if cell.cell_type == "markdown":
            for part in split_prose(cell.source):
                head = re.match(r"(#+) (.*)\n?", part)
                title = head[2].strip() if head else title
                is_skipped = bool(SKIPPED.match(title)) if head else is_skipped
                add_prose(slides, part[head.end():] if head else part, title, kind, bool(head), is_skipped)
        elif cell.cell_type == "code":
            for part in split_code(cell, title, kind):
                if not is_skipped or kind not in ("", "-") or has_image(part):
                    add_output(slides, part, title)
    return [slide for slide in slides if slide["cells"] or slide["is_first"]]


def add_prose(slides: list[dict], text: str, title: str, kind: str, is_head: bool, is_skipped: bool) -> None:
    """Add prose to the slides: as a note, with the slide before it, or on slides of its own."""
    text = FOLD.sub("", text).strip()
    if is_skipped and kind in ("", "-"):
        return
    if slides and (kind == "notes" or NOTES.match(text)):
        slides[-1]["notes"].append(new_markdown_cell(text))
        return
    if slides and kind == "fragment":
        slides[-1]["cells"].append(new_markdown_cell(text))
        return
    for number, piece in enumerate(split_long(text)):
        slides.append({"title": title, "cells": [new_markdown_cell(piece.strip())] if piece.strip() else [],
                       "notes": [], "is_first": is_head and not number})


def add_output(slides: list[dict], part, title: str) -> None:
    """Add a cell of one output: with what stands before it under the same heading where both have room."""
    last = slides[-1] if slides else {"title": None}
    if last["title"] == title and not last["notes"] and sum(map(fill, [*last["cells"], part])) <= 1:
        last["cells"].append(part)
    else:
        slides.append({"title": title, "cells": [part], "notes": [], "is_first": False})


def fill(cell) -> float:
    """Return about which part of a slide a cell takes."""
    if cell.cell_type == "markdown":
        return len(cell.source) / LONG
    lines, data = len(cell.source.splitlines()) / SHORT, [output.get("data", {}) for output in cell.outputs]
    texts = [output.get("text", "").count("\n") / ROWS for output in cell.outputs]
    pages = [each["text/html"] for each in data if "text/html" in each and "<img" not in each["text/html"]]
    letters = [0 if "<tr" in page else len(re.sub(r"<[^>]*>|\s+", " ", page)) / LONG for page in pages]
    tables = [page.count("<tr") / ROWS for page in pages]
    return lines + sum(texts + letters + tables) + has_image(cell)


def has_image(cell) -> bool:
    return any(kind.startswith("image/") or "<img" in str(value)
               for output in cell.outputs for kind, value in output.get("data", {}).items())


def split_prose(source: str) -> list[str]:
    """Return a cell's prose cut before each heading, and before each "how to read it"."""
    return [part.strip() for part in re.split(r"^(?=#+ |\*\*How to read )", source, flags=re.MULTILINE)
            if part.strip()]


def split_long(text: str) -> list[str]:
    """Return a text in pieces of whole paragraphs that a slide has room for."""
    pieces = [""]
    for paragraph in [each for each in text.split("\n\n") if not each.startswith(LEFT)]:
        is_full = pieces[-1] and len(pieces[-1]) + len(paragraph) > LONG
        pieces[len(pieces) - (not is_full):] = [paragraph if is_full else f"{pieces[-1]}\n\n{paragraph}"]
    return pieces


def split_code(cell, title: str, kind: str) -> list:
    """Return a cell per output that is shown, and the code itself where it is short and the idea's."""
    is_exercise = any(tag.startswith(("exercise:", "check:")) for tag in cell.metadata.get("tags", []))
    if (is_exercise or WORK.search(cell.source)) and kind in ("", "-"):
        return []
    is_shown = kind not in ("", "-") or title.lower().startswith("the idea")
    code = cell.source if is_shown and len(cell.source.splitlines()) <= SHORT else ""
    outputs = [output for output in cell.outputs if output.output_type != "error"]
    parts = [new_code_cell(code, outputs=[shorten(outputs.pop(0))] if outputs else [])] if code else []
    parts += [new_code_cell("", outputs=[shorten(output)]) for output in outputs]
    for part in parts:
        part.metadata["tags"] = [] if part.source else [BARE]
    return parts


def shorten(output):
    """Return an output with the first lines of a printed text."""
    if output.output_type == "stream":
        lines = output.text.splitlines()
        output.text = "\n".join([*lines[:ROWS], *(["..."] if len(lines) > ROWS else [])])
    return output


def draw_slide(exporter: CellExporter, slide: dict) -> dict:
    """Return a slide's title, body and notes as HTML."""
    def draw(cells: list) -> Markup:
        for number, cell in enumerate(cells):
            cell.metadata["alt"] = slide["title"] or f"figure {number}"
        return Markup(exporter.from_notebook_node(new_notebook(cells=cells))[0]) if cells else Markup("")

    return {"title": draw([new_markdown_cell(f"# {slide['title']}")]) if slide["title"] else Markup(""),
            "body": draw(slide["cells"]), "notes": draw(slide["notes"]), "is_first": slide["is_first"]}
