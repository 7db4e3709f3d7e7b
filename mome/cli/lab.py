"""`mome lab`: JupyterLab on the notebooks; an installed package's notebooks, brought to where one works."""

import os

from mome.board import say
from mome.cli import saved
from mome.cli.values import add_command
from mome.config import home, is_checkout, notebooks_dir, repository
from mome.store import write_text

SAVED = f"--ServerApp.jpserver_extensions={saved.__name__}=True"  # though its JSON be not installed


def bring_notebooks() -> None:
    """Copy an installed package's notebooks to the workplace; what is there already stays as it is."""
    if is_checkout():
        return
    source, folder, brought = repository() / "notebooks", notebooks_dir(), []
    for path in sorted(source.rglob("[!.]*.*")):
        copy = folder / path.relative_to(source)
        if path.suffix in (".ipynb", ".yaml") and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_text(copy, path.read_text(encoding="utf-8"))
            brought.append(str(path.relative_to(source)))
    if brought:
        say(f"copied into {folder}: {', '.join(brought)}")


def add_lab(commands) -> None:
    parser = add_command(
        commands, "lab", lab_command, "open JupyterLab on the notebooks",
        "What stands behind -- goes to JupyterLab: mome lab -- --no-browser --port 8900. An installed "
        "package first copies its notebooks into ./notebooks, where they are not there yet; what they build "
        "lands beside them, or all of it under MOME_HOME.")
    parser.add_argument("options", nargs="*", help="options of `jupyter lab`, behind --")


def lab_command(options: list[str]) -> None:
    from jupyterlab.labapp import main

    bring_notebooks()
    os.environ["MOME_HOME"] = str(home())  # kernels start beside their notebook, and find it by this
    main([str(notebooks_dir()), SAVED, *options])
