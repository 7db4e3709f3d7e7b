"""`mome demo`: a taste and the playground as local pages, live by voila, or as static files."""

import json
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mome import engine
from mome.checks import check_range
from mome.cli.lab import bring_notebooks
from mome.cli.values import add_command, add_parameters, add_workers, read_parameters, whole_number
from mome.config import runs_dir


def add_demo(commands) -> None:
    parser = add_command(
        commands, "demo", demo_command, "show a taste of 00 and the playground of 06 as pages in a browser",
        "Served by voila (pip install \"mome[demo]\") to this machine alone, behind a token. Shown are the "
        "models of the store, or small ones that take a minute; what is missing is built before.")
    parser.add_argument("--address", default="127.0.0.1", help="to listen at (default: %(default)s)")
    parser.add_argument("--port", type=whole_number, default=8866,
                        help="or the next that is free (default: %(default)s)")
    parser.add_argument("--public", action="store_true",
                        help="allow an address that others reach: the token alone keeps them from the pages")
    parser.add_argument("--no-browser", action="store_false", dest="browser", help="open no browser")
    parser.add_argument("--export", default="", metavar="FOLDER",
                        help="write what can be static into a new folder instead; needs no voila")
    add_parameters(parser)
    add_workers(parser)


def demo_command(address: str, port: int, public: bool, browser: bool, export: str, workers: int,
                 scheduler: str, **given) -> int:
    from mome.data.export import check_out
    from mome.runs.demo import check_address, choose_models, describe_models, plan_demo
    from mome.runs.record import note_needs

    if export:
        check_out(Path(export).expanduser(), "export")
    else:
        check_range("port", port, 1, 65535, whole=True)
        check_address(address, public)
        if not find_spec("voila"):
            raise ValueError('voila, which serves the pages, is not installed; pip install "mome[demo]"')
    bring_notebooks()
    parameters, why = choose_models(read_parameters(**given))
    # Copies and what pages write are of no use later, and a token is nobody else's: not under runs/, which
    # `mome runs` lists and a group may share, but in a folder of this user's that goes at the end.
    with TemporaryDirectory(prefix="mome-demo-", ignore_cleanup_errors=True) as folder:
        runs = plan_demo(parameters, Path(folder))
        shown = describe_models(json.loads(runs[-1].parameters))
        print(f"models of {shown} ({why})", flush=True)
        needs = [run.needs for run in runs]
        note_needs(runs_dir() / "demo", needs)
        if export:
            return export_pages(runs, shown, Path(export).expanduser(), workers, scheduler)
        engine.build(needs, workers, scheduler)
        serve_pages(runs, shown, Path(folder), address, port, browser)
    return 0


def export_pages(runs: list, shown: str, out: Path, workers: int, scheduler: str) -> int:
    """Execute both notebooks and write them as pages; return 0. Where one fails, nothing is written."""
    from mome.runs.demo import write_static

    engine.build(runs, workers, scheduler)
    print(write_static(runs, f"Executed {time.strftime('%Y-%m-%d')}, {shown}", out))
    return 0


def serve_pages(runs: list, shown: str, folder: Path, address: str, port: int, is_opened: bool) -> None:
    from mome.runs.demo import is_loopback
    from mome.runs.report import find_heading, load_page
    from mome.runs.serve import make_server, serve

    titles = {run.notebook: find_heading(Path(run.path)) for run in runs}
    note = "A page opens within half a minute: it starts a kernel of its own."
    about = f"Models of {shown}; the taste has small ones of its own"
    index = load_page("notebooks.html").render(about=about, note=note, titles=titles, links={})

    def tell(where: str) -> None:
        others = "" if is_loopback(address) else "; others may reach it, unencrypted: whoever has it sees all"
        print(f"open {where}{others}\nCtrl-C ends it", flush=True)
        if is_opened:
            webbrowser.open(where)

    serve(make_server(runs, index, folder, address, port), tell)
