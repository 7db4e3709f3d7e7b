"""A small home with what 00 and 06 need, JupyterLab on copies of both, and one Chromium."""

import browsing
import pytest

from mome.config import repository
from mome.engine import build_here
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters

LANGUAGES = ["fr", "py"]
SMALL = {"vocab_size": 600, "context": 64, "tokens_per_language": 9_000, "teacher_tokens": 8_000,
         "student_tokens": 4_200, "evaluation_rows": 8, "curve_rows": 4, "router_rows": 150,
         "targets_per_token": 8}
PARAMETERS = {"scale": "smoke", "corpus": "mini", "languages": LANGUAGES, "seeds": [0], "overrides": SMALL}
OPENED = {"00_start_here": PARAMETERS,
          "06_playground": PARAMETERS | {"variants": ["MoE-CE"], "prefixes": [8]}}


@pytest.fixture(scope="module")  # no longer: while it is open, no test may run an event loop of its own
def chromium():
    pytest.importorskip("playwright", reason="playwright is not installed; `make test` brings it")
    if not browsing.find_browser():
        pytest.skip(f"no browser is installed: {', '.join(browsing.BROWSERS)}")
    with browsing.open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def small_home(chromium, tmp_path_factory):
    """A home that holds what both notebooks need, so that their kernels build nothing."""
    home = tmp_path_factory.mktemp("browsed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_HOME", str(home))
        for name, parameters in OPENED.items():
            path = repository() / f"notebooks/{name}.ipynb"
            build_here(read_needs(path, check_parameters(path, parameters)))
    return home


@pytest.fixture(scope="module")
def lab(small_home):
    """The address of a JupyterLab on copies of the notebooks with small parameters."""
    folder = small_home / "notebooks"
    for name, parameters in OPENED.items():
        browsing.copy_notebook(repository() / f"notebooks/{name}.ipynb", folder, **parameters)
    with browsing.serve_lab(folder, small_home / "lab", small_home) as address:
        yield address


@pytest.fixture(scope="module")
def demo(small_home):
    """The address of `mome demo` on the same models, with its token."""
    with browsing.serve_demo(small_home / "demo", small_home, **OPENED["06_playground"]) as address:
        yield address


@pytest.fixture(scope="module")
def new_page(chromium):
    """A call that opens a page; at the end its pages have asked no other machine and opened no dialog."""
    asked, context = [], chromium.new_context(
        viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    context.on("request", lambda request: asked.append(request.url))
    context.on("dialog", lambda dialog: asked.append(f"a dialog: {dialog.message}") or dialog.dismiss())
    yield context.new_page
    context.close()
    local = ("data:", "blob:", "http://127.0.0.1", "ws://127.0.0.1")
    assert not [url for url in asked if not url.startswith(local)]


