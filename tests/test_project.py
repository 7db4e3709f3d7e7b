"""The files around the code: each parses, and every path, make target and version in it is there."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mome.config import repository

ROOT = repository()
if not (ROOT / ".github").is_dir():
    pytest.skip("these files are of a checkout, not of an sdist", allow_module_level=True)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    parse = {".yml": yaml.safe_load, ".json": json.loads}.get(Path(name).suffix, str)
    return parse(text)


@pytest.mark.parametrize("name", [
    ".binder/postBuild", ".devcontainer/devcontainer.json", ".github/workflows/ci.yml", "Dockerfile",
    "README.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_what_is_asked_of_make_the_makefile_makes(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", read("Makefile"), re.M)
    asked = re.findall(r"(?:^|[`\"] ?|: |RUN |&& )make\W+([a-z]+)", text, re.M)
    assert asked and set(asked) <= set(targets)


def test_binder_gets_files_that_repo2docker_reads_and_scripts_that_run():
    names = {path.name for path in (ROOT / ".binder").iterdir()}
    assert names == {"apt.txt", "postBuild", "runtime.txt", "start"}
    for name in ("postBuild", "start"):
        path = ROOT / ".binder" / name
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
        assert os.access(path, os.X_OK)
    version = re.fullmatch(r"python-(3\.\d+)\n", read(".binder/runtime.txt"))[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_the_container_has_no_root_and_the_devcontainer_starts_from_a_stage_of_it():
    lines, dev = read("Dockerfile").splitlines(), read(".devcontainer/devcontainer.json")
    stages = [line.split()[-1] for line in lines if line.startswith("FROM") and " AS " in line]
    assert dev["build"]["target"] in stages
    assert (ROOT / ".devcontainer" / dev["build"]["dockerfile"]).samefile(ROOT / "Dockerfile")
    assert [line for line in lines if line.startswith("USER")] == [f"USER {dev['remoteUser']}"]
    command = json.loads(next(line for line in lines if line.startswith("CMD")).removeprefix("CMD "))
    assert command[:2] == ["make", "lab"]


def test_the_workflow_may_only_read_and_tests_every_python_that_is_promised():
    workflow = read(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"} and True in workflow  # YAML 1.1 reads `on` as true
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(set(step) & {"uses", "run"} for step in steps)
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    promised = [name.rpartition(" :: ")[2] for name in PROJECT["classifiers"]
                if re.search(r":: 3\.\d+$", name)]
    assert promised == [version for version in matrix["python"] if version in promised]
    assert min(matrix["python"], key=lambda version: int(version[2:])) in PROJECT["requires-python"]


def test_the_forms_for_issues_are_whole():
    paths = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert [path.stem for path in paths] == ["bug", "config", "idea", "result"]
    for path in paths:
        form = read(str(path.relative_to(ROOT)))
        if path.stem == "config":
            assert set(form) <= {"blank_issues_enabled", "contact_links"}
            continue
        assert form["name"] and form["description"]
        ids = [part["id"] for part in form["body"]]
        assert len(set(ids)) == len(ids)
        for part in form["body"]:
            assert part["type"] in ("textarea", "input", "dropdown", "checkboxes")
            assert part["attributes"]["label"] and set(part.get("validations", {})) <= {"required"}


def test_every_path_that_the_project_files_link_to_is_there():
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "data/README.md"):
        links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", read(name))
        missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
        assert not missing, f"{name} links to {missing}"
