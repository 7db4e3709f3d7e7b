"""Notebooks as web pages, one file each: figures and formulas inside, no script, nothing from elsewhere."""

from base64 import b64decode
from pathlib import Path

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell
from pygments.formatters import HtmlFormatter

from mome.config import WIDGET, notebook_paths
from mome.runs.compare import find_in_runs
from mome.runs.report import find_heading, load_page, page_of, write_report
from mome.store import write_text

WIDE = 1000  # pixels, of a figure with several panels
ACTIVE = {"application/javascript", WIDGET}  # dead without a kernel


class FormulaRenderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers draw themselves."""

    def inline_math(self, body: str) -> str:
        return self.draw_formula(body, "inline")

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{self.draw_formula(body, "block")}</span>'

    def draw_formula(self, body: str, display: str) -> str:
        """Return MathML; what is no formula, such as prices in dollars, stays as it was typed."""
        try:
            return convert(body, display=display)
        except Exception:  # the library's errors have no common base
            return self.escape_html(f"${body}$")


class CellExporter(HTMLExporter):
    """A notebook's cells as HTML, without the page around them."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        return MarkdownWithMath(FormulaRenderer(escape=False, exclude_anchor_links=True)).render(source)


def make_exporter() -> CellExporter:
    """Return an exporter of cells without prompts."""
    exporter = CellExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("clean_html", lambda code: code)  # pygments has escaped it
    return exporter


def render_run(run: Path) -> Path:
    """Write `html/` in the folder of a run or a sweep, a page an executed notebook, and the report anew.

    Returns the index of the pages. Raises ValueError, before anything is written, for a folder without
    executed notebooks and for a file that is no notebook.
    """
    found = {page_of(path.parent, run): path for path in find_in_runs([run], "executed.ipynb")}
    if not found:
        raise ValueError(f"run={str(run)!r} holds no executed notebook; give the folder of `mome run`")
    notebooks = {page.stem: path for page, path in found.items()}
    index = write_pages(next(iter(found)).parent, make_pages(
        notebooks, f"Run {run.resolve().name}", {"../report.html": "report"}))
    write_report(run)
    return index


def render_workbook(out: Path) -> Path:
    """Write a page a notebook of the workbook, not executed, and return the index of the pages."""
    return write_pages(out, make_pages({path.stem: path for path in notebook_paths()}, "Not executed", {}))


def write_pages(out: Path, pages: dict[str, str]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        write_text(out / f"{name}.html", text)
    return out / "index.html"


def make_pages(notebooks: dict[str, Path], about: str, links: dict[str, str],
               note: str = "") -> dict[str, str]:
    """Return {name: page} of {name: notebook}, and their "index" with `links`, {address: words}.

    A `note` stands at the head of each.
    """
    titles = {name: find_heading(path) for name, path in notebooks.items()}
    exporter = make_exporter()
    pages = {name: make_page(exporter, path, titles[name], about, titles, note)
             for name, path in notebooks.items()}
    told = {"about": about, "note": note, "titles": titles, "links": links}
    return pages | {"index": load_page("notebooks.html").render(told)}


def make_page(exporter: CellExporter, path: Path, title: str, about: str, names, note: str = "") -> str:
    """Return a notebook as a page, on which the `names` of others in its prose are links."""
    cells, _ = exporter.from_notebook_node(read_notebook(path))
    for name in names:
        cells = cells.replace(f"<code>{name}</code>", f'<a href="{name}.html">{name}</a>')
        cells = cells.replace(f'<a href="{name}.ipynb', f'<a href="{name}.html')
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight")
                   for style in ("default", "github-dark"))
    return load_page("notebook.html").render(title=title, about=about, note=note, cells=Markup(cells),
                                             light=Markup(light), dark=Markup(dark))


def read_notebook(path: Path):
    """Return a notebook with its cells prepared; ValueError for what is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for number, cell in enumerate(notebook.cells):
            prepare_cell(number, cell)
        notebook.cells = [part for cell in notebook.cells for part in fold_source(cell)]
    except (nbformat.ValidationError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no notebook ({str(error).splitlines()[0]})") from None
    return notebook


def prepare_cell(number: int, cell) -> None:
    """Drop outputs that only a kernel gives life to; let figures of several panels keep their width."""
    cell.metadata.setdefault("alt", f"figure of cell {number}")
    if cell.cell_type == "code":
        cell.outputs = [output for output in cell.outputs if not ACTIVE & {*output.get("data", ())}]
        for output in cell.outputs:
            head = b64decode(output.get("data", {}).get("image/png", "")[:32])
            if int.from_bytes(head[16:20], "big") > WIDE:
                output.metadata["image/png"] = {"unconfined": True}


def fold_source(cell) -> list:
    """Return the cell; one whose code JupyterLab folds is without it, after a cell of the folded code."""
    if not cell.metadata.get("jupyter", {}).get("source_hidden"):
        return [cell]
    cell.metadata.transient = {"remove_source": True}
    folded = f"<details><summary>Code</summary>\n\n```python\n{cell.source}\n```\n\n</details>"
    return [new_markdown_cell(folded, metadata={"alt": cell.metadata.alt}), cell]
