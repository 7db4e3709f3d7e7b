"""Build once, name by content."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import mome
from mome import artifacts
from mome.artifacts import artifact_path, content_hash, find_or_build, read_json, read_manifest, write_json


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    monkeypatch.setenv("MOME_BATCH", "1")
    return tmp_path


class Builder:
    """Writes one file, counts its calls and notes what it found; fails at first when asked to."""

    def __init__(self, failures: int = 0, error: type[BaseException] = KeyboardInterrupt):
        self.calls, self.failures, self.error, self.found = 0, failures, error, []

    def __call__(self, folder: Path) -> dict:
        self.calls += 1
        self.found.append(sorted(path.name for path in folder.iterdir()))
        (folder / f"part{self.calls}").write_text("text")
        if self.calls <= self.failures:
            raise self.error("interrupted")
        return {"calls": self.calls}


def start_python(code: str, *arguments: str) -> subprocess.Popen:
    """Start a second Python process on the same mome and the same home."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mome.__file__).resolve().parents[1])}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names_under(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_an_artifact_is_built_once_and_found_again():
    build = Builder()
    first = find_or_build("data", {"seed": 0}, build)
    assert find_or_build("data", {"seed": 0}, build) == first
    assert build.calls == 1
    assert (first / "part1").read_text() == "text"
    assert first == artifact_path("data", {"seed": 0})


def test_the_order_of_keys_does_not_change_the_name():
    build = Builder()
    first = find_or_build("data", {"a": 1, "b": {"c": 2, "d": [3, 4]}}, build)
    assert find_or_build("data", {"b": {"d": [3, 4], "c": 2}, "a": 1}, build) == first
    assert build.calls == 1


def test_the_order_in_a_list_changes_the_name():
    assert content_hash(["en", "fr"]) != content_hash(["fr", "en"])


def test_another_config_kind_or_parent_has_another_name():
    parents = {"corpus": Path("corpus-000000000000")}
    paths = [artifact_path("data", {"seed": 0}), artifact_path("data", {"seed": 1}), artifact_path("data", {"seed": "0"}), artifact_path("data", {}),
             artifact_path("router", {"seed": 0}), artifact_path("data", {"seed": 0}, parents),
             artifact_path("data", {"seed": 0}, {"corpus": Path("corpus-000000000001")}), artifact_path("data", {"seed": 0}, {"other": parents["corpus"]})]
    assert len(set(paths)) == len(paths)


def test_a_parent_enters_by_its_own_name_wherever_it_lies(tmp_path):
    name = "corpus-000000000000"
    assert artifact_path("data", {}, {"corpus": Path("/a") / name}) == artifact_path("data", {}, {"corpus": tmp_path / name})


def test_a_new_format_of_a_kind_renames_its_artifacts_only(monkeypatch):
    data, router = artifact_path("data", {}), artifact_path("router", {})
    monkeypatch.setitem(artifacts.FORMATS, "data", artifacts.FORMATS["data"] + 1)
    assert artifact_path("data", {}) != data
    assert artifact_path("router", {}) == router


def test_a_content_hash_is_twelve_hexadecimal_digits_of_sha256():
    # sha256 of the two characters {}
    assert content_hash({}) == "44136fa355b3"


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": float("inf")}])
def test_a_content_hash_refuses_numbers_that_json_does_not_have(value):
    with pytest.raises(ValueError):
        content_hash(value)


def test_the_manifest_says_what_was_built_from_what(home):
    parent = find_or_build("corpus", {"corpus": "mini"}, Builder())
    manifest = read_manifest(find_or_build("data", {"seed": 3}, Builder(), {"corpus": parent}))
    assert (manifest["kind"], manifest["config"], manifest["parents"]) == ("data", {"seed": 3}, {"corpus": parent.name})
    assert (manifest["format"], manifest["notes"]) == (artifacts.FORMATS["data"], {"calls": 1})
    assert manifest["seconds"] >= 0
    assert set(manifest["versions"]) == {"python", *artifacts.PACKAGES}


def test_a_builder_without_notes_leaves_empty_notes():
    assert read_manifest(find_or_build("data", {}, lambda folder: None))["notes"] == {}


def test_artifacts_lie_under_home(home):
    assert find_or_build("data", {}, Builder()).parent == home / "data" / "artifacts"


def test_the_builder_fills_another_folder_than_the_final_one():
    final, seen = artifact_path("data", {}), []
    find_or_build("data", {}, lambda folder: seen.append((folder == final, final.exists())))
    assert seen == [(False, False)]
    assert (final / "manifest.json").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_build_leaves_nothing_under_the_final_name(error):
    build = Builder(failures=1, error=error)
    with pytest.raises(error):
        find_or_build("data", {}, build)
    assert not [path for path in artifact_path("data", {}).parent.iterdir() if path.is_dir()]


def test_after_an_interruption_the_build_starts_from_an_empty_folder():
    build = Builder(failures=1)
    with pytest.raises(KeyboardInterrupt):
        find_or_build("data", {}, build)
    path = find_or_build("data", {}, build)
    assert build.found == [[], []]
    assert names_under(path) == {"part2", "manifest.json"}
    assert names_under(path.parent) == {path.name}


def test_with_keep_partial_the_unfinished_folder_is_handed_over_again():
    build = Builder(failures=2)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            find_or_build("teacher", {}, build, keep_partial=True)
        assert not artifact_path("teacher", {}).exists()
    path = find_or_build("teacher", {}, build, keep_partial=True)
    assert build.found == [[], ["part1"], ["part1", "part2"]]
    assert names_under(path) == {"part1", "part2", "part3", "manifest.json"}
    assert names_under(path.parent) == {path.name}


def test_a_killed_build_is_started_again(tmp_path):
    code = ("import sys, time\nfrom pathlib import Path\nfrom mome.artifacts import find_or_build\n"
            "def build(folder):\n    (folder / 'half').write_text('x'); Path(sys.argv[1]).touch(); time.sleep(60)\n"
            "find_or_build('data', {}, build)\n")
    process = start_python(code, str(tmp_path / "started"))
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert not artifact_path("data", {}).exists()
    assert names_under(find_or_build("data", {}, Builder())) == {"part1", "manifest.json"}


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from mome.artifacts import find_or_build

name, together = sys.argv[1], Path(sys.argv[2])

def build(folder):
    with open(together / "builds", "a") as file:
        file.write(name + "\\n")
    time.sleep(0.5)
    (folder / "built_by").write_text(name)

(together / f"ready-{name}").touch()
deadline = time.monotonic() + 60
while len(list(together.glob("ready-*"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.005)
print(find_or_build("data", {"seed": 0}, build, keep_partial=True))
"""


def test_two_processes_that_want_one_artifact_build_it_once(tmp_path):
    processes = [start_python(BUILD_SLOWLY, name, str(tmp_path)) for name in ("a", "b")]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    builders = (tmp_path / "builds").read_text().split()
    assert len(builders) == 1
    path = artifact_path("data", {"seed": 0})
    assert {Path(out.strip()) for out, _ in answers} == {path}
    assert (path / "built_by").read_text() == builders[0]


@pytest.mark.parametrize("damage", [b"", b'{"kind": "da', b"\xff\xfe\x00", b"not json"])
def test_a_damaged_manifest_gives_an_error_that_names_the_file_and_the_way_out(damage):
    path = find_or_build("data", {}, Builder())
    (path / "manifest.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*delete its folder") as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_a_folder_without_a_manifest_is_not_an_artifact(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_json_round_trips_with_accents_as_themselves(tmp_path):
    value = {"é": ["œ", 1, 2.5, None, True, {"漢": "😀"}]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "œ" in (tmp_path / "value.json").read_text(encoding="utf-8")
    assert names_under(tmp_path) == {"value.json"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a limit on file size, which this system lacks")
def test_a_full_disk_leaves_the_json_that_was_there(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"state": "before"})
    code = ("import resource, sys\nfrom pathlib import Path\nfrom mome.artifacts import write_json\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n    write_json(Path(sys.argv[1]), ['x' * 100] * 1000)\nexcept OSError:\n    print('refused')\n")
    out, error = start_python(code, str(path)).communicate(timeout=120)
    assert out.strip() == "refused", error
    assert read_json(path) == {"state": "before"}


def test_a_value_that_is_not_json_leaves_the_json_that_was_there(tmp_path):
    write_json(tmp_path / "value.json", {"state": "before"})
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"state": object()})
    assert read_json(tmp_path / "value.json") == {"state": "before"}
    assert names_under(tmp_path) == {"value.json"}


def test_json_arrives_by_one_rename_within_its_folder(monkeypatch, tmp_path):
    path, seen, replace = tmp_path / "value.json", [], os.replace

    def spy(source, target):
        seen.append((json.loads(Path(source).read_text()), Path(source).parent, Path(target), path.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    write_json(path, {"a": 1})
    assert seen == [({"a": 1}, tmp_path, path, False)]


def test_a_reader_never_sees_half_a_json_file(tmp_path):
    path, values, stop = tmp_path / "value.json", [["a"] * 20_000, ["b"] * 30_000], threading.Event()
    write_json(path, values[0])

    def write():
        while not stop.is_set():
            for value in values:
                write_json(path, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            assert read_json(path) in values
    finally:
        stop.set()
        writer.join()


def test_track_yields_everything_and_closes_its_status_line(monkeypatch, tmp_path):
    status = tmp_path / "status.json"
    monkeypatch.setenv("MOME_STATUS", str(status))
    clock = iter(range(1_000, 10_000, 2))  # two seconds between any two looks at the clock
    monkeypatch.setattr(artifacts, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    texts = []
    for item in artifacts.track("abc", "spell", 3):
        texts.append((item, read_json(status)["text"] if status.exists() else None))
    assert texts == [("a", None), ("b", "spell 1/3"), ("c", "spell 2/3")]
    assert not status.exists()


def test_progress_closes_its_status_line_when_the_work_fails(monkeypatch, tmp_path):
    status = tmp_path / "status.json"
    monkeypatch.setenv("MOME_STATUS", str(status))
    clock = iter(range(1_000, 10_000, 2))
    monkeypatch.setattr(artifacts, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    with pytest.raises(RuntimeError), artifacts.progress("work", 4) as bar:
        bar.update("loss 2.0")
        line = read_json(status)
        raise RuntimeError
    assert line["text"] == "work 1/4 loss 2.0"
    assert line["seconds_left"] > 0
    assert not status.exists()


def test_an_artifact_that_lost_its_manifest_is_built_again():
    path = find_or_build("data", {}, Builder())
    (path / "manifest.json").unlink()
    assert find_or_build("data", {}, Builder()) == path
    assert read_manifest(path)["kind"] == "data"
