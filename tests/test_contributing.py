"""The worked example of CONTRIBUTING.md, followed word for word on a copy; what it trains is only planned."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_workbook import test_a_notebook_keeps_to_the_house_rules as check_house_rules

from mome.config import repository
from mome.distill import KD_LOSSES

STEP = re.compile(r"^(Change|Write|Run|Train)(?: `([^`]+)`)?:?[^\n]*\n\n```\w+\n(.*?)^```$", re.M | re.S)


def read_steps(text: str) -> list[tuple[str, str, str]]:
    """Return (verb, path, block) of each step; every verb's line has a block."""
    steps = STEP.findall(text)
    assert len(steps) == len(re.findall(r"^(?:Change|Write|Run|Train)\b", text, re.M))
    return steps


def change(path: Path, block: str) -> None:
    """Put the lines with + or a space in place of those with - or a space, which stand there once."""
    before, after = ("".join(f"{line[1:]}\n" for line in block.splitlines() if line[:1] in ("", " ", sign))
                     for sign in "-+")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path}: stands there {text.count(before)} times:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="the example's commands are for a POSIX shell")
def test_the_example_of_contributing_can_be_followed_word_for_word(tmp_path):
    if "hellinger" in KD_LOSSES:
        pytest.skip("somebody has followed it here")
    checkout = tmp_path / "mome"
    for name in ("mome", "notebooks", "tests", "data/mini"):
        shutil.copytree(repository() / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository() / "pyproject.toml", checkout)
    own = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
           "MOME_HOME": str(tmp_path / "home"), "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    said = []
    for verb, path, block in read_steps((repository() / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        if verb == "Change":
            change(checkout / path, block)
        elif verb == "Write":
            (checkout / path).write_text(block, encoding="utf-8")
        else:
            words = block if verb == "Run" else f"{block.strip()} --dry-run"
            done = subprocess.run(["bash", "-euc", words], cwd=checkout, env=os.environ | own,
                                  capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            said.append(done.stdout)
    check_house_rules(checkout / "notebooks/bounded_losses.ipynb")
    tests, on_mini, on_cython = said[-3:]
    assert " passed" in tests and "notebook bounded_losses" in on_mini and "en+py+cython" in on_cython
