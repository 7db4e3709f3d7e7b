"""The lock, the wheel as it is built here, and what an installed package does in an empty folder."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mome.cli.main import main
from mome.config import repository
from mome.recipes.setting import open_setting
from mome.runs.publish import publish

PLAN = ["-m", "mome", "plan", "--scale", "smoke", "--corpus", "mini"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what a wheel of this checkout holds, as pip would lay it out."""
    base = tmp_path_factory.mktemp("wheel")
    built = ["bdist_wheel", "--dist-dir", str(base), "--bdist-dir", str(base / "bdist")]
    words = ["egg_info", "--egg-base", str(base), "build", "--build-base", str(base / "build"), *built]
    subprocess.run([sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", *words],
                   cwd=repository(), check=True, capture_output=True)
    wheel, = base.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(base / "site")
    return base / "site"


def run_there(installed, folder, *words, **environment):
    environment = {name: value for name, value in os.environ.items() if name != "MOME_HOME"} | environment
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120,
                          env=environment | {"PYTHONPATH": str(installed)}, check=True)


def test_a_wheel_holds_every_module_and_all_that_commands_read(installed):
    for there, here in (("mome", "mome"), *((f"mome/workbook/{name}", name) for name in (
            "notebooks", "data/mini", "figures/laptop", "LICENSE", "CITATION.cff", "requirements.txt"))):
        root = repository() / here
        files = [root] if root.is_file() else [
            path for path in root.rglob("*") if path.is_file() and not {".pyc", ".ipynb_checkpoints"} & {
                path.suffix, path.parent.name}]
        assert files
        for path in files:
            copy = installed / there / path.relative_to(root)
            assert copy.read_bytes() == path.read_bytes(), path
    enabled, = installed.glob("*.data/data/etc/jupyter/jupyter_server_config.d/mome.json")
    assert json.loads(enabled.read_text()) == {"ServerApp": {"jpserver_extensions": {"mome.cli.saved": True}}}


def test_an_installed_package_plans_in_an_empty_folder_on_copies_it_never_overwrites(installed, tmp_path):
    first = run_there(installed, tmp_path, *PLAN)
    assert "copied into" in first.stderr and "0 there" in first.stdout
    copied, source = tmp_path / "notebooks", repository() / "notebooks"
    names = {path.relative_to(source) for path in source.rglob("*") if path.suffix in (".ipynb", ".yaml")}
    assert {path.relative_to(copied) for path in copied.rglob("*") if path.is_file()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["notebooks"]
    changed = tmp_path / "notebooks/study.yaml"
    changed.write_text("mine: 1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = run_there(installed, tmp_path, *PLAN, "01")
    assert "copied" not in again.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_kernel_beside_its_notebook_finds_the_workplace_and_names_data_as_a_checkout_does(
        installed, tmp_path):
    tell = ("import json; from mome.config import home; from mome.recipes.setting import open_setting; "
            "print(json.dumps([str(home()), open_setting('smoke', 'mini', ['en', 'py']).corpus.name]))")
    (tmp_path / "notebooks/mine").mkdir(parents=True)
    (tmp_path / "notebooks/01_dataset_creation.ipynb").touch()
    expected = [str(tmp_path), open_setting("smoke", "mini", ["en", "py"]).corpus.name]
    assert json.loads(run_there(installed, tmp_path / "notebooks/mine", "-c", tell).stdout) == expected
    expected[0] = str(tmp_path / "notebooks")
    told = run_there(installed, tmp_path, "-c", tell, MOME_HOME=expected[0])
    assert json.loads(told.stdout) == expected


def test_the_lock_holds_an_allowed_version_of_every_dependency_and_nothing_of_cuda():
    locked = {}
    for line in (repository() / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pinned = Requirement(line)
            locked.setdefault(canonicalize_name(pinned.name), []).append(str(pinned.specifier)[2:])
            assert str(pinned.specifier).startswith("=="), line
    project = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]
    for line in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        asked = Requirement(line)
        found = locked.get(canonicalize_name(asked.name), [])
        assert found, f"{line}: not in the lock; run `make lock`"
        assert all(version in asked.specifier for version in found), f"{line}: {found}; run `make lock`"
    assert not [name for name in locked if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_lab_opens_jupyterlab_on_the_notebooks_with_what_stands_behind_the_dashes(monkeypatch, own_home):
    opened = []
    monkeypatch.setattr("jupyterlab.labapp.main", opened.append)
    assert main(["lab"]) == main(["lab", "--", "--no-browser", "--port", "8900"]) == 0
    always = [str(repository() / "notebooks"), "--ServerApp.jpserver_extensions=mome.cli.saved=True"]
    assert opened == [always, [*always, "--no-browser", "--port", "8900"]]
    assert os.environ["MOME_HOME"] == str(own_home)


def test_publish_outside_of_a_checkout_is_refused(monkeypatch):
    monkeypatch.setattr("mome.runs.publish.is_checkout", lambda: False)
    with pytest.raises(ValueError, match="is installed; publish writes"):
        publish()
