"""The site, built once; its links, and those of the Markdown files as GitHub shows them."""

import logging
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from lxml import html
from mkdocs.commands.build import build
from mkdocs.config import load_config
from pymdownx.slugs import slugify

from mome.cli.main import make_parser

ROOT = Path(__file__).resolve().parent.parent
MARKDOWN = sorted([*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob(".github/**/*.md")])
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                 for path in (ROOT / "mome").rglob("*.py") if not re.match("__main__|__init__", path.name)
                 or (path.name == "__init__.py" and path.parent.name != "mome"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages, {path: parsed page}, their folder, and the warnings that a strict build does not allow."""
    folder, told = tmp_path_factory.mktemp("site"), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    parser = html.HTMLParser(encoding="utf-8")
    return {path.relative_to(folder).as_posix(): html.parse(str(path), parser).getroot()
            for path in folder.rglob("*.html")}, folder, told


def test_the_site_builds_without_a_warning(site):
    assert site[2] == []


def test_every_link_and_image_of_the_site_leads_to_something_that_is_there(site):
    pages, folder, _ = site
    names = {page: {*tree.xpath("//@id"), *tree.xpath("//a/@name")} for page, tree in pages.items()}
    for page, tree in pages.items():
        if page == "404.html":  # which is shown at any address, so that its links begin at the root
            continue
        for link in tree.xpath("//@href | //@src"):
            address, _, part = unquote(link).partition("#")
            if re.match("[a-z]+:", address):
                continue
            target = (folder / page).parent.joinpath(address).resolve() if address else folder / page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page} leads to {link}, which is not there"
            known = names.get(target.relative_to(folder.resolve()).as_posix())
            assert not part or known is None or part in known, f"{page} leads to {link}, which it lacks"


def test_the_site_loads_nothing_from_elsewhere(site):
    pages, folder, _ = site
    loaded = {link for tree in pages.values() for link in tree.xpath("//@src | //link/@href | //@data")}
    assert [link for link in loaded if re.match("(https?:)?//", link)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.css"))
    assert re.findall(r"url\(.?(?:https?:)?//|@import", styles) == []


def test_every_module_has_a_place_and_every_command_its_help(site):
    pages = site[0]
    found = {name for page, tree in pages.items() if page.startswith("code/") for name in tree.xpath("//@id")}
    assert [name for name in MODULES if name not in found] == []
    text = " ".join(pages["commands.html"].text_content().split())
    for name, command in make_parser()._subparsers._group_actions[0].choices.items():
        assert f"mome {name}¶" in text
        for action in command._actions[1:]:
            told = ((action.help or "") % vars(action)).replace("`", "")  # which become letters of code
            assert " ".join(told.split()) in text, f"{name} {action.dest}"


def test_the_architecture_draws_what_the_code_imports(site):
    tree = site[0]["architecture.html"]
    drawn = {" ".join(node.text_content().split()) for node in tree.xpath("//g[contains(@class, 'node ')]")}
    assert drawn == {name.split(".")[1] for name in MODULES}
    table = [[cell.text_content() for cell in row] for row in tree.xpath("//table//tr")]
    rows = {row[0]: row[1:] for row in table}
    counted = {wing: dict(zip(rows["imports"], cells, strict=True)) for wing, cells in rows.items()}
    assert counted["cli"]["runs"] and counted["store"]["config"] and not counted["runs"]["cli"]
    assert not any(rows["checks"])


def test_the_workbook_page_shows_figures_charts_folds_and_lists(site):
    tree = site[0]["index.html"]
    assert len(tree.xpath("//article//img")) >= 5 and tree.xpath("//article//div[@class='chart']/svg")
    assert len(tree.xpath("//article//details//li//li")) > 5
    assert "mermaid" not in " ".join(tree.xpath("//article//code/@class")) and "**" not in tree.text_content()


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_markdown_files_lead_somewhere_on_github(path):
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)  # code holds no links
    for link in re.findall(r'\]\(([^)\s]+)|(?:src|href)="([^"]+)"', text):
        address, _, part = "".join(link).partition("#")
        target = path.parent / address if address else path
        if re.match("[a-z]+:", address):
            continue
        assert target.exists(), f"{path} leads to {address}, which is not there"
        if part:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert part in {slugify(case="lower")(head.replace("`", ""), "-") for head in heads}
