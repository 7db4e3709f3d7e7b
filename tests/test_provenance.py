"""Where something was made: told whatever is missing, the same in every record, without names of people."""

import getpass
import json
import platform
import subprocess

import pytest

from mome import provenance, store
from mome.provenance import (
    describe_code,
    describe_machine,
    describe_provenance,
    find_commit,
    list_unlocked,
    own_commit,
    spread_provenance,
    tell_provenance,
)


@pytest.fixture
def anew():
    """Look again at what is found once a process, now and after the test."""
    for look in (describe_code, describe_machine, own_commit):
        look.cache_clear()
    yield
    for look in (describe_code, describe_machine, own_commit):
        look.cache_clear()


def test_a_commit_is_told_as_changed_where_a_file_differs_and_none_where_git_does_not_know_the_file(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    assert find_commit(file) is None
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert find_commit(file) is None
    for words in (["add", "a"], ["-c", "user.name=n", "-c", "user.email=e@e", "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit = find_commit(file)
    assert len(commit) >= 7 and commit.isalnum()
    (tmp_path / "installed").write_text("a package within somebody's checkout")
    assert find_commit(tmp_path / "installed") is None
    file.write_text("2")
    assert find_commit(file) == f"{commit}, changed"


def test_packages_of_another_version_than_locked_are_named_and_no_others(monkeypatch):
    installed = {"torch": "2.13.0+cpu", "numpy": "2.1.0", "only-elsewhere": "1", "pandas": "3.1.1"}

    def version(name):
        if name not in installed:
            raise provenance.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(provenance, "version", version)
    lock = ("# torch==1.0\n--index-url x\ntorch==2.13.0\nnumpy==2.4.6 \\\n  --hash=sha256:00\n  # via mome\n"
            "only-elsewhere==2 ; sys_platform == 'other'\npandas[a]==3.1.1 --hash=sha256:11\nnot-here==1\n")
    assert list_unlocked(lock) == ["numpy 2.1.0, not 2.4.6"]
    assert list_unlocked("") == []


def test_what_a_record_tells_is_fixed_and_holds_no_name_of_a_person_or_a_computer(monkeypatch, anew):
    monkeypatch.setattr(platform, "node", lambda: "her-laptop")
    monkeypatch.setattr(getpass, "getuser", lambda: "her-name")
    monkeypatch.setenv("HOME", "/home/her-name")
    told = tell_provenance()
    assert set(told) == {"commit", "lock", "unlocked", "machine", "workers", "threads"}
    assert set(told["machine"]) == {"processor", "cores", "cores_of_machine", "memory_gb", "gpu", "system",
                                    "python"}
    assert "her-" not in json.dumps(told)


def test_records_are_written_where_nothing_can_be_found_and_those_from_before_are_read(monkeypatch, anew):
    def fail(*_, **__):
        raise FileNotFoundError("no such thing here")

    monkeypatch.setattr(provenance.subprocess, "run", fail)
    monkeypatch.setattr(provenance.Path, "read_text", fail)
    monkeypatch.setattr(provenance.Path, "read_bytes", fail)
    monkeypatch.setattr(provenance.psutil, "virtual_memory", fail)
    told = tell_provenance()
    assert (told["commit"], told["lock"], told["unlocked"]) == (None, None, [])
    assert told["machine"]["memory_gb"] is None and told["machine"]["processor"]
    said = describe_provenance(told)
    assert said.startswith("Made on ") and said.endswith("No lock of versions.") and "None" not in said
    assert describe_provenance({"commit": "abc"}) == "" and spread_provenance({}) == {}


def test_many_other_versions_are_told_in_a_short_line():
    told = spread_provenance({"unlocked": [f"p{number} 1, not 2" for number in range(7)], "lock": "a" * 64})
    assert told["unlocked"].endswith("p4 1, not 2 and 2 others") and told["lock"] == "a" * 12


def test_a_built_thing_tells_its_commit_and_machine(own_home):
    folder = store.keep("toy-000000000000", {"kind": "toy"}, lambda folder: None)
    manifest = store.read_manifest(folder)
    assert (manifest["commit"], manifest["machine"]) == (own_commit(), describe_machine())
    assert manifest["threads"] == 1
