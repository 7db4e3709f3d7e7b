"""The pages that MkDocs is given: the checkout's Markdown files, and what is made from code and notebooks."""

import argparse
import ast
import os
import re
from collections import Counter
from html import escape
from pathlib import Path
from unittest.mock import patch

import mermaidx
import networkx
from mkdocs.structure.files import File, InclusionLevel
from pymdownx.slugs import slugify

from mome.cli.main import make_parser
from mome.config import notebook_paths
from mome.runs.render import make_pages

ROOT = Path(__file__).resolve().parent.parent
GUIDE = {"README.md": "index.md", "data/README.md": "data/index.md", "CONTRIBUTING.md": "contributing.md",
         "SECURITY.md": "security.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
FENCE = re.compile(r"(^```.*?^```$)", flags=re.DOTALL | re.MULTILINE)


def on_config(config):
    """Take GitHub's anchors, and make the menu."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    more = [{Path(page).stem.capitalize(): page} for name, page in [*GUIDE.items()][2:]
            if (ROOT / name).exists()]
    config.nav = [{"Workbook": "index.md"}, {"Data": "data/index.md"}, {"Commands": "commands.md"},
                  {"Architecture": "architecture.md"},
                  {"Code": [{name: f"code/{name}.md"} for name in [*list_wings(), *list_modules()]]}, *more]
    return config


def on_files(files, config):
    for page, content in {**make_guide(), **make_code_pages(), "commands.md": write_commands(),
                          "architecture.md": write_architecture()}.items():
        source = {"abs_src_path": str(content)} if isinstance(content, Path) else {"content": content}
        files.append(File.generated(config, page, inclusion=InclusionLevel.NOT_IN_NAV, **source))
    return files


def make_guide() -> dict[str, str | Path]:
    """Return {place in the site: text or file} of the Markdown files, the notebooks, and all they link to."""
    notebooks = {path.stem: path for path in notebook_paths()}
    pages = make_pages(notebooks, "Not executed", {"../index.html": "Workbook"})
    found = {f"notebooks/{name}.html": text for name, text in pages.items()}
    for path, page in ((ROOT / name, page) for name, page in GUIDE.items()):
        if path.exists():
            parts = LINK.split(path.read_text(encoding="utf-8"))  # every second one is a link
            parts[1::2] = [place(link, path.parent.relative_to(ROOT), found) for link in parts[1::2]]
            found[page] = adapt_markdown("".join(parts))
    return found


def place(link: str, folder: Path, found: dict) -> str:
    """Return where a link leads in the site; what it leads to, other than pages, is added to `found`."""
    name = os.path.normpath(folder / link)
    path, target = ROOT / name, GUIDE.get(name, name)
    if path.suffix == ".ipynb":
        target = str(Path(name).with_suffix(".html"))
    elif path.is_dir():
        target = f"{name}/index.md"
        files = {file.name: file for file in sorted(path.iterdir()) if file.is_file()}
        found[target] = f"# {name}\n\n" + "".join(f"- [{file}]({file})\n" for file in files)
        found |= {f"{name}/{file}": source for file, source in files.items()}
    elif target == name and path.is_file():
        found[name] = path
    return os.path.relpath(target, folder)


def adapt_markdown(text: str) -> str:
    """Return GitHub's Markdown as Python-Markdown reads it: items indented by four, folds, drawn charts."""
    def adapt(part: str) -> str:
        if part.startswith("```mermaid"):
            return draw_chart(part.removeprefix("```mermaid").removesuffix("```"))
        if part.startswith("```"):
            return part
        part = re.sub(r"^( +)(?=[-*] )", r"\1\1", part, flags=re.MULTILINE)
        return part.replace("<details>", '<details markdown="1">')

    return "".join(map(adapt, FENCE.split(text)))


def draw_chart(source: str) -> str:
    """Return a Mermaid chart as HTML that needs no script; on a narrow screen it scrolls."""
    drawn = mermaidx.render(source).svg()
    least = 0.6 * float(re.search(r'viewBox="\S+ \S+ (\S+)', drawn)[1])
    drawn = drawn.replace("<svg", f'<svg style="min-width:{least:.0f}px"', 1)
    return f'<div class="chart">{drawn}</div>'


def list_wings() -> list[str]:
    """Return the packages of `mome`."""
    return sorted(path.parent.name for path in (ROOT / "mome").glob("*/__init__.py"))


def list_modules() -> list[str]:
    """Return the modules of `mome` that belong to no wing."""
    return sorted(path.stem for path in (ROOT / "mome").glob("[!_]*.py"))


def make_code_pages() -> dict[str, str]:
    return {f"code/{name}.md": f"::: mome.{name}\n" for name in [*list_wings(), *list_modules()]}


def write_commands() -> str:
    """Return the page of every command's help."""
    parser = make_parser()
    commands = next(action.choices for action in parser._actions
                    if isinstance(action, argparse._SubParsersAction))
    with patch.dict(os.environ, {"COLUMNS": "10000"}):  # usage in one line, which the page folds
        parts = [write_command(command) for command in commands.values()]
    about = f"{parser.description} `mome` is `python -m mome`; `mome COMMAND --help` tells the same."
    return "\n\n".join(["# Commands", about, *parts]) + "\n"


def write_command(parser: argparse.ArgumentParser) -> str:
    options = [f"- `{describe_option(action)}`: {escape((action.help or '') % vars(action), quote=False)}"
               for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    usage = parser.format_usage().removeprefix("usage: ").strip()
    return "\n\n".join([f"## {parser.prog}", escape(parser.description, quote=False),
                        f"```{{.text .usage}}\n{usage}\n```", "\n".join(options)])


def describe_option(action: argparse.Action) -> str:
    """Return an option's spellings with what it takes, or an argument's name."""
    takes = action.metavar or "|".join(action.choices or ()) or action.dest.upper()
    spelt = ", ".join(action.option_strings)
    return f"{spelt} {takes}" if spelt and action.nargs != 0 else spelt or action.dest


def count_imports() -> Counter:
    """Return {(wing, imported wing): files that import it}; a module of its own counts as a wing."""
    found = Counter()
    for path in sorted((ROOT / "mome").rglob("*.py")):
        wing = path.relative_to(ROOT / "mome").parts[0].removesuffix(".py")
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = {name for node in nodes for name in (
            [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])}
        to = {name.split(".")[1] for name in names if name.startswith("mome.")}
        found.update((wing, other) for other in to & {*list_wings(), *list_modules()} - {wing})
    return Counter({pair: number for pair, number in found.items() if not pair[0].startswith("_")})


def write_architecture() -> str:
    """Return the page of the imports: a chart without arrows that others imply, and a table of all."""
    imports = count_imports()
    graph = networkx.DiGraph(list(imports))
    graph.add_nodes_from(list_modules())  # notebooks alone import some
    needed = networkx.transitive_reduction(graph)
    order = [wing for floor in networkx.topological_generations(graph) for wing in sorted(floor)]
    arrows = [f"{a} --> {b}" for a, b in needed.edges]
    rows = [["imports", *(f"[{b}](code/{b}.md)" for b in order)], ["---"] * (len(order) + 1)]
    rows += [[f"[{a}](code/{a}.md)", *(str(imports[a, b] or "") for b in order)] for a in order]
    return "\n\n".join([
        "# Architecture",
        "Drawn from the import statements of `mome` when these pages were made. An arrow leads from a wing "
        "to one that it imports; where a chain of arrows leads there already, the direct one is left out.",
        draw_chart("\n".join(["flowchart TB", *order, *arrows])),
        "## Every import",
        "How many files of a wing (row) import something of another (column). A row imports only from wings "
        "that come after it: there are no circles.",
        '<div class="imports" markdown="1">', "\n".join(f"| {' | '.join(row)} |" for row in rows), "</div>"])
