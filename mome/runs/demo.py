"""What `mome demo` shows: which models, copies of two notebooks, and both as static pages."""

import ipaddress
import re
import socket
from contextlib import suppress
from pathlib import Path

from mome.data.export import new_folder
from mome.languages import language_name
from mome.plan import make_plan
from mome.recipes.setting import find_newest
from mome.runs.execute import NotebookRun
from mome.runs.grid import find_notebook, plan_run
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters
from mome.scales import resolve_scale
from mome.store import read_json, write_json

TASTE, PLAYGROUND = "00_start_here", "06_playground"
SHOWN = {"demo", "parameters", "needs"}  # tags of 00's cells that a demo keeps
SMALL_MODELS = {"scale": "smoke", "corpus": "mini"}  # made in about a minute
STATIC = ("Missing here is what answers when you type or drag: it needs a kernel. The pictures show it once; "
          "the command mome demo shows all of it on your own machine.")


def choose_models(given: dict) -> tuple[dict, str]:
    """Return the parameters that a demo is shown with, and why in words; asks no network.

    Whoever names a scale or a corpus gets it. Else those that the playground has by itself where all that it
    needs is in the store, else small ones.
    """
    if {"scale", "corpus"} & given.keys():
        return given, "as asked for"
    path = find_notebook(PLAYGROUND)
    values = check_parameters(path, given, tell=lambda line: None)
    scale, is_found = resolve_scale(values["scale"], values["overrides"]), True
    if values["corpus"] == "auto":  # which without one in the store would ask the network
        is_found = find_newest(("help", "wiki40b"), values["languages"], scale, as_stored=True) is not None
    if is_found and not make_plan(read_needs(path, values)).missing:
        return given, "what the playground needs is in the store"
    return given | SMALL_MODELS, "small ones, as the store lacks some of the usual; --scale names others"


def plan_demo(parameters: dict, folder: Path) -> list[NotebookRun]:
    """Write the copies into `folder/pages` and return a run of each, into `folder/demo`, needs declared."""
    return plan_run([str(path) for path in copy_notebooks(folder / "pages")], parameters, folder / "demo")


def copy_notebooks(folder: Path) -> list[Path]:
    """Write both notebooks for a demo and return their paths: of 00 only the taste, links as pages have them.
    """
    copies = []
    for name in (TASTE, PLAYGROUND):
        notebook = read_json(find_notebook(name))
        if name == TASTE:
            notebook["cells"] = [cell for cell in notebook["cells"]
                                 if SHOWN & {*cell["metadata"].get("tags", [])}]
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = adapt_links("".join(cell["source"]))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.ipynb", notebook)
        copies.append(folder / f"{name}.ipynb")
    return copies


def adapt_links(text: str) -> str:
    """Return Markdown that links to the demo's pages; of other notebooks' links only the words stay."""
    names = "|".join((TASTE, PLAYGROUND))
    text = re.sub(rf"`({names})`", r"[\1](\1.html)", text)
    text = re.sub(rf"\]\(({names})\.ipynb", r"](\1.html", text)
    return re.sub(r"\[([^\]]*)\]\([^)\s:]*\.ipynb[^)]*\)", r"\1", text)


def describe_models(values: dict) -> str:
    """Return a run's scale, corpus and languages as words."""
    return (f"scale {values['scale']}, corpus {values['corpus']}, "
            f"{', '.join(map(language_name, values['languages']))}")


def write_static(runs: list[NotebookRun], about: str, out: Path) -> Path:
    """Write the executed runs as pages with an index into the new folder `out`; return the index.

    As on the live pages, code is not shown: its first cell would tell where this user's temporary files lie.
    """
    from mome.runs.render import make_pages, write_pages  # nbconvert, which the rest can do without

    notebooks = {run.notebook: run.folder / "shown.ipynb" for run in runs}
    for path in notebooks.values():
        notebook = read_json(path.with_name("executed.ipynb"))
        for cell in (cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
            cell["source"], cell["metadata"]["transient"] = "", {"remove_source": True}
        write_json(path, notebook)
    with new_folder(out) as folder:
        write_pages(folder, make_pages(notebooks, about, {}, STATIC))
    return out.resolve() / "index.html"


def is_loopback(address: str) -> bool:
    """True for an address that only this machine reaches; False for a name other than localhost."""
    with suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return address == "localhost"


def check_address(address: str, is_public: bool) -> None:
    """Raise ValueError for an address that this machine has not, or that others reach without consent."""
    if not is_loopback(address) and not is_public:
        raise ValueError(f"address={address!r} is not allowed without --public: others may reach it, where "
                         "only the token keeps them from the pages, and nothing is encrypted")
    try:
        family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as opened:
            opened.bind(place)
    except OSError as error:
        raise ValueError(f"address={address!r} is not one of this machine's ({error.strerror}); "
                         "127.0.0.1 is the usual") from None
