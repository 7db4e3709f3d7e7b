"""Fixtures shared by several files: a home for the session, a tiny setting on the mini corpus, built once."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.update(CUDA_VISIBLE_DEVICES="", ACCELERATE_USE_CPU="true")  # before torch looks: equal everywhere

import pytest
import torch

import mome

gc.disable()  # while all is collected, which stays: it would be looked through again and again
torch.set_num_threads(1)  # equal results run to run, and no fight over cores with a worker under test
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TINY = {"vocab_size": 600, "context": 32, "tokens_per_language": 8_000,
        "teacher": {"n_layer": 1, "n_embd": 32}, "student": {"n_layer": 1, "n_embd": 16},
        "expert": {"n_layer": 1, "n_embd": 16}, "teacher_tokens": 16_000, "student_tokens": 2_048,
        "evaluation_rows": 12, "curve_rows": 8, "evaluations": 2, "router_rows": 100, "targets_per_token": 8}


def pytest_collection_modifyitems(items):
    """Put the files that take longest first, so that of two processes none ends long after the other."""
    longest = ["test_workbook", "test_engine", "test_training", "test_devices", "test_modular_recipes",
               "test_forgetting_recipes"]
    items.sort(key=lambda item: longest.index(item.path.stem) if item.path.stem in longest else len(longest))


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory):
    """A folder of its own as MOME_HOME for the whole session, so that no test writes into the checkout."""
    folder = tmp_path_factory.mktemp("mome-home")
    before = os.environ.get("MOME_HOME")
    os.environ["MOME_HOME"] = str(folder)
    yield folder
    os.environ.pop("MOME_HOME") if before is None else os.environ.update(MOME_HOME=before)


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """An empty home for one test."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB, where this process may mount one."""
    folder, mount = tmp_path / "disk", ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run([*mount, str(folder)], capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def launch():
    """A call that runs `python -m ...`, a launcher of processes, to its end; what it says when it fails."""
    def run(*words, **environment):
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(mome.__file__).parents[1])}
        launcher = subprocess.Popen([sys.executable, "-m", *words], env=os.environ | environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = launcher.communicate(timeout=300)
        finally:
            launcher.terminate()  # and it ends its processes, which a kill would leave behind
            launcher.wait()
        assert launcher.returncode == 0, output

    return run


@pytest.fixture(scope="session")
def tiny_setting(tiny_home):
    """A setting that takes seconds; its data is built."""
    from mome.engine import build_here
    from mome.recipes.data import Data
    from mome.recipes.setting import open_setting

    setting = open_setting("smoke", "mini", ["en", "fr", "de", "py"], TINY)
    build_here(Data.of(setting))
    return setting
