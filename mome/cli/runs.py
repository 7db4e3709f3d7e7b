"""`mome runs`, `report`, `render`, `publish`, `clean`: what is there, and what nobody refers to."""

import shutil
import webbrowser
from contextlib import suppress
from pathlib import Path

from mome.checks import is_finite
from mome.cli.values import add_command, read_pairs
from mome.config import runs_dir, store_dir

LISTED = ["run", "notebook", "state", "scale", "minutes", "finished"]


def add_runs(commands) -> None:
    runs = add_command(commands, "runs", runs_command, "list, filter and compare runs",
                       "With --compare side by side: parameters that differ, then their numbers.")
    runs.add_argument("folders", nargs="*", help="of runs or sweeps (default: all under MOME_HOME/runs)")
    runs.add_argument("--where", action="append", default=[], metavar="NAME=VALUE",
                      help="only runs with this parameter, notebook or state; may be repeated")
    runs.add_argument("--compare", action="store_true", help="a column a run, in csv and json a line")
    runs.add_argument("--format", choices=["text", "csv", "json"], default="text")
    report = add_command(commands, "report", report_command, "write one HTML file on a run or a sweep")
    report.add_argument("folder", help="the folder of a run or a sweep")
    report.add_argument("--open", action="store_true", help="open it in a browser")
    render = add_command(commands, "render", render_command, "turn notebooks into web pages, a file each",
                         "A run's executed notebooks land in html/ in its folder, and its report links to "
                         "them; without a run those of the workbook, not executed, in MOME_HOME/runs/html. "
                         "The pages need no network and run no script.")
    render.add_argument("run", nargs="?", help="its folder, or its name under MOME_HOME/runs")
    render.add_argument("--slides", action="store_true",
                        help="of a run, and slides for a class into html/slides: each heading, figure and "
                             "table a screen, by headings or by a cell's slideshow metadata")
    render.add_argument("--open", action="store_true", help="open the index in a browser")
    publish = add_command(commands, "publish", publish_command,
                          "make figures/ and README's claims from the reference in figures/laptop",
                          "With a run's folder that run becomes the reference first.")
    publish.add_argument("run", nargs="?", help="the folder of a finished run at laptop scale")
    clean = add_command(commands, "clean", clean_command, "show what is built, remove what no run refers to",
                        "What a run or a command asked for, and what that was made from, stays. What is "
                        "unfinished, from which a build goes on, stays unless --unfinished. What was asked "
                        "for by name is listed in needs.txt under runs/train, runs/data: remove it there.")
    clean.add_argument("--runs", action="append", default=[], metavar="FOLDER", dest="folders",
                       help="further folders of runs whose needs stay; may be repeated")
    clean.add_argument("--unfinished", action="store_true", help="remove what is unfinished as well")
    clean.add_argument("--yes", action="store_true", help="remove without asking")


def check_folders(folders: list[str]) -> list[str]:
    for folder in folders:
        if not Path(folder).is_dir():
            raise ValueError(f"folder={folder!r} does not exist")
    return folders


def runs_command(folders: list[str], where: list[str], compare: bool, format: str) -> None:
    from mome.runs.compare import compare_runs, read_runs, select_runs
    from mome.runs.report import list_remarks

    found = select_runs(read_runs(check_folders(folders) or [runs_dir()]), read_pairs(where))
    shown = {"text": LISTED, "csv": [*LISTED, "folder"], "json": list(found)}[format]
    table = compare_runs(found) if compare and len(found) else found[shown]
    if format == "csv":
        print(table.to_csv(index=False))
    elif format == "json":
        print(table.to_json(orient="records", indent=1, default_handler=str))
    elif table.empty:
        print("no runs")
    elif compare:
        print(fold_table(table.set_index("run").T, shutil.get_terminal_size().columns))
    else:
        print(write_lines(table))
        print("\n".join(list_remarks(found)))


def report_command(folder: str, open: bool) -> None:
    from mome.runs.compare import read_runs
    from mome.runs.report import write_report

    if read_runs([folder]).empty:
        raise ValueError(f"folder={folder!r} holds no runs; give the folder of `mome run` or `mome sweep`")
    show_page(write_report(Path(folder)), open)


def render_command(run: str | None, slides: bool, open: bool) -> None:
    from mome.runs.render import render_run, render_workbook, write_pages
    from mome.runs.slides import make_slides

    folder = next((path for path in (Path(run), runs_dir() / run) if path.is_dir()), None) if run else None
    if run and not folder:
        raise ValueError(f"run={run!r} does not exist, here or in {runs_dir()}; `mome runs` lists what does")
    if slides and not folder:
        raise ValueError("slides=True is not allowed without a run; give the folder of `mome run`")
    page = render_run(folder) if folder else render_workbook(runs_dir() / "html")
    if slides:
        page = write_pages(page.parent / "slides", make_slides(folder))
    show_page(page, open)


def show_page(path: Path, open: bool) -> None:
    """Print the path of a page, and open it in a browser on request."""
    print(path)
    if open:
        webbrowser.open(path.resolve().as_uri())


def publish_command(run: str | None) -> None:
    from mome.runs.publish import publish

    print("\n".join(map(str, publish(Path(run) if run else None))))


def fold_table(table, width: int) -> str:
    """Return a table as text of lines that fit: long words shortened, columns that are too many below."""
    room = max(6, width // 2 - 4)  # for a name and a column beside it

    def shorten(value) -> str:
        text = f"{value:.4g}" if is_finite(value) else "" if value != value else str(value)
        return text if len(text) <= room else f"{text[:room // 2 - 1]}…{text[-(room - room // 2):]}"

    shown = table.map(shorten).rename(index=shorten, columns=shorten)
    return shown.rename_axis(columns=None).to_string(line_width=width)


def write_lines(table) -> str:
    """Return a table as text, its numbers with one digit."""
    return table.to_string(index=False, na_rep="", float_format="{:.1f}".format)


def clean_command(folders: list[str], unfinished: bool, yes: bool) -> None:
    from mome.runs.compare import find_unused, remove_unused

    table = find_unused([runs_dir(), *check_folders(folders)])
    going = table[table.state.eq("unused") | (table.state.eq("unfinished") & unfinished)]
    sizes = table.groupby(["kind", "state", "users"], as_index=False).agg(
        count=("folder", "size"), megabytes=("megabytes", "sum"), days=("days", "max"))
    print(write_lines(sizes) if len(table) else f"nothing under {store_dir()}")
    if going.empty:
        print("nothing to remove: runs refer to all of it")
        return
    print(write_lines(going))
    answer = "y" if yes else ""
    with suppress(EOFError):  # nobody can answer
        answer = answer or input(f"remove these {len(going)} ({going.megabytes.sum():.1f} MB)? [y/N] ")
    if answer.strip().lower() in ("y", "yes"):
        remove_unused(going)
    print(f"removed {len(going)}" if answer.strip().lower() in ("y", "yes") else "nothing removed")
