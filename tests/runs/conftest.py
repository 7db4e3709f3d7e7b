"""A notebook that takes a second: what tests of runs execute in place of an experiment."""

import json
import sys
from types import SimpleNamespace

import pytest

PARAMETERS = """scale: str = "smoke"  # sizes
corpus: str = "mini"  # text
languages: list = ["en", "fr", "de", "py"]  # languages
seeds: list = [0]  # seeds
alphas: list = [0.5]  # fractions
switch: bool = False  # True or False
overrides: dict = {}  # values of the scale
x: int = 1  # a number
act: str = "work"  # what happens
log: str = ""  # a line for each execution
out: str = ""  # folder
"""
NEEDS = "needs = []"
CODE = """import json, os, signal, time
from pathlib import Path
folder = Path(out)
names = ("scale", "corpus", "languages", "seeds", "alphas", "switch", "overrides", "x", "act", "log", "out")
values = {name: globals()[name] for name in names}
(folder / "config.json").write_text(json.dumps({"notebook": "09_toy", "parameters": values}))
if log:
    with open(log, "a") as file:
        print(folder.name, os.environ["OMP_NUM_THREADS"], os.environ["MOME_BATCH"], os.getpid(), file=file)
"""
ACT = """died = folder / "died"
if act == "raise once" and not (folder / "raised").exists():
    (folder / "raised").touch()
    raise ArithmeticError("only this once")
if act == "die once" and not died.exists():
    died.touch()
    os.kill(os.getpid(), signal.SIGKILL)
if act == "fill once" and not (folder / "big").exists():
    (folder / "big").write_bytes(bytes(8_000_000))
time.sleep(60 if act == "linger" else 0)
"""
END = """aside = folder / ".metrics"
entry = {"notebook": "09_toy", "run": folder.name, "parameters": values, "metrics": {"square": x * x},
         "findings": [], "figures": [], "tables": [], "seconds": 1.0, "versions": {}}
aside.write_text(json.dumps(entry))
os.replace(aside, folder / "metrics.json")
"""


def write_toy(folder, name="09_toy", needs=NEEDS, cells=(CODE, ACT, END), parameters=PARAMETERS):
    """Write the toy notebook and return its path; `needs` None leaves that cell out."""
    def code(source, *tags):
        return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": [],
                "execution_count": None, "id": f"cell{abs(hash(source)) % 10**6}"}

    found = [{"cell_type": "markdown", "source": "# Toy", "metadata": {}, "id": "title"},
             code(parameters, "parameters")]
    found += [] if needs is None else [code(needs, "needs")]
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": [*found, *map(code, cells)], "nbformat": 4, "nbformat_minor": 5,
                                "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}))
    return path


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_WORKERS", "2")
    monkeypatch.delenv("MOME_NOTEBOOK", raising=False)


@pytest.fixture(scope="session")
def write_notebook():
    return write_toy


@pytest.fixture
def make_toy(tmp_path):
    return lambda **changes: write_toy(tmp_path, **changes)


@pytest.fixture
def toy(make_toy):
    return make_toy()


@pytest.fixture
def enter(monkeypatch):
    """A function that makes this process a kernel in which cells were executed."""
    def call(*cells):
        events = SimpleNamespace(register=lambda *_: None, unregister=lambda *_: None)
        shell = SimpleNamespace(user_ns={"In": ["", *cells]}, events=events)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        return shell.user_ns

    return call
