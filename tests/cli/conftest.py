"""The toy notebook of tests/runs, a home of its own, and no build unless a test asks for one."""

import importlib.util
from pathlib import Path

import pytest

from mome import engine

SPEC = importlib.util.spec_from_file_location("toy", Path(__file__).parents[1] / "runs/conftest.py")
toys = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(toys)


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MOME_WORKERS", raising=False)


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """What the commands would have built: (needs, workers, scheduler, tracker) of each call."""
    calls = []
    monkeypatch.setattr(engine, "build", lambda needs, workers=0, scheduler="",
                        tracker="": calls.append((needs, workers, scheduler, tracker)))
    return calls


@pytest.fixture
def workbook(monkeypatch, tmp_path):
    """A workbook of two toys, 08_first and 09_toy."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr("mome.config.notebooks_dir", lambda: tmp_path / "notebooks")
    return [toys.write_toy(tmp_path / "notebooks", name) for name in ("08_first", "09_toy")]
