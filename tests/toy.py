"""A notebook that takes a second: what tests of sweeps run in place of a training."""

import json
from pathlib import Path

PARAMETERS = """scale = "smoke"
corpus = "mini"
languages = ["en", "fr", "de", "py"]
seeds = [0]
overrides = {}
out = ""
x = 1
act = "work"
log = ""
"""
# A line in `log` for each execution; config.json and metrics.json as `mome.runs.Run` leaves them.
CODE = """import json, os, signal, time
from pathlib import Path
folder = Path(out)
values = {"scale": scale, "corpus": corpus, "languages": languages, "seeds": seeds, "overrides": overrides, "x": x, "act": act}
(folder / "config.json").write_text(json.dumps({"notebook": "09_toy", "parameters": values}))
if log:
    with open(log, "a") as file:
        file.write(f"{folder.name} {os.environ['OMP_NUM_THREADS']} {os.getpid()}\\n")
"""
ACT = """died = folder / "died"
if act == "raise":
    raise ArithmeticError("nine does not go into four")
if act == "raise once" and not (folder / "raised").exists():
    (folder / "raised").touch()
    raise ArithmeticError("only this once")
if act == "die always" or act == "die once" and not died.exists():
    died.touch()
    os.kill(os.getpid(), signal.SIGKILL)
if act == "wait" and not (folder / "waited").exists():
    try:
        time.sleep(120)
    finally:
        (folder / "waited").touch()
if act == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (folder / "deaf").touch()
    time.sleep(600)
if act == "full":
    raise OSError(28, "No space left on device")
time.sleep(3 if act == "linger" else 0.2)
"""
END = """aside = folder / ".metrics"
aside.write_text(json.dumps({"notebook": "09_toy", "run": folder.name, "parameters": values, "metrics": {"square": x * x + seeds[0]}, "findings": [],
                             "figures": [], "tables": [], "seconds": 1.0, "versions": {}}))
os.replace(aside, folder / "metrics.json")
"""


def write_notebook(folder: Path, name: str = "09_toy") -> Path:
    cells = [{"cell_type": "markdown", "source": "# Toy", "metadata": {}, "id": "title"}]
    for number, source in enumerate((PARAMETERS, CODE, ACT, END)):
        cells.append({"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"] if number == 0 else []}, "outputs": [],
                      "execution_count": None, "id": f"cell{number}"})
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
                                "nbformat": 4, "nbformat_minor": 5}))
    return path
