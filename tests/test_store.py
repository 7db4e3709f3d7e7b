import json
import os
import platform
import subprocess
from contextlib import contextmanager

import pytest
from toys import Counter, Number, start_main

from mome import store
from mome.checks import describe_error


def test_what_fails_leaves_nothing_under_its_name_nor_beside_it(own_home):
    with pytest.raises(ArithmeticError):
        Number(1, act="raise").keep()
    assert [path.name for path in store.store_dir().iterdir()] == ["locks"]


def test_what_is_not_there_is_said_by_name(own_home):
    with pytest.raises(store.NotBuilt, match=f"{Number(7).name} is not built"):
        Number(7).open()


def test_what_goes_on_finds_its_checkpoint_and_leaves_none_when_it_is_whole(own_home, tmp_path):
    counter = Counter(5, log=str(tmp_path / "log"))
    aside = store.prepare_aside(counter.name, goes_on=True)
    (aside / "checkpoint.safetensors").write_text("3")
    counter.keep()
    assert "from 3" in (tmp_path / "log").read_text() and counter.open() == 5
    assert sorted(path.name for path in counter.folder.iterdir()) == ["manifest.json", "number"]


def test_two_processes_do_not_build_the_same_at_once_and_one_says_who_the_other_is(own_home):
    who = rf"{Number(1).name} is being built by \S+ on {platform.node()} \(process {os.getpid()}\)"
    with store.hold(Number(1).name), pytest.raises(store.BuiltElsewhere, match=who):
        Number(1).keep()
    assert not store.is_locked(Number(1).name)
    Number(1).keep()


def test_what_another_process_finished_between_the_look_and_the_lock_is_found_and_not_built_again(
        own_home, tmp_path, monkeypatch):
    log, hold = tmp_path / "log", store.hold

    @contextmanager
    def hold_late(name):
        monkeypatch.setattr(store, "hold", hold)
        recipe.keep()  # the other process
        with hold(name):
            yield

    for recipe in (Counter(2, log=str(log)), Number(2, log=str(log))):
        monkeypatch.setattr(store, "hold", hold_late)
        recipe.keep()
        assert recipe.open() == 2
    assert len(log.read_text().splitlines()) == 2


HOLD = """
import time
from mome import store
with store.hold("number-1"), store.take_place(["only"], lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_is_killed_gives_back_its_lock_and_its_place(own_home):
    holder, waited = start_main(HOLD, stdout=subprocess.PIPE), []

    def wait():
        waited.append(True)
        holder.kill()

    assert holder.stdout.readline() == "held\n" and store.is_locked("number-1")
    with store.take_place(["only"], wait):
        assert waited and not store.is_locked("number-1")
    holder.communicate()
    with store.hold("number-1"):  # what the dead one noted misleads nobody
        assert str(os.getpid()) in (store.store_dir() / "locks/number-1.holder").read_text()
    assert not list((store.store_dir() / "locks").glob("*.holder"))


@pytest.mark.parametrize("damage, word", [
    (lambda path: path.unlink(), "gone"), (lambda path: path.write_text("10000"), "bytes instead of 1"),
    (lambda path: path.write_text("7"), "SHA-256"),
    (lambda path: (path.write_text("7"), os.utime(path, (2, 2))), "SHA-256")])  # exchanged for an older one
def test_a_file_that_is_gone_cut_off_or_changed_is_refused_by_name_one_of_another_time_is_not(
        own_home, damage, word):
    Number(1).keep()
    path = store.folder_of(Number(1).name) / "number"
    os.utime(path, (1, 1))  # as in a copied folder
    store.checked.clear()
    assert Number(1).open() == 1
    damage(path)
    store.checked.clear()
    with pytest.raises(ValueError, match=rf"number is damaged \(.*{word}"):
        Number(1).open()


def test_a_file_within_a_folder_of_a_built_thing_is_watched_too(own_home):
    def fill(folder):
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "words").write_text("a b")

    path = store.keep("data-1", {}, fill)
    (path / "tokenizer" / "words").unlink()
    with pytest.raises(ValueError, match=r"tokenizer/words is damaged \(gone"):
        store.find("data-1")


def test_a_manifest_names_every_file_with_its_hash_damaged_it_is_named_and_without_it_is_nothing(own_home):
    Number(1).keep()
    path = store.folder_of(Number(1).name) / "manifest.json"
    path.write_text("{")
    store.checked.clear()
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Number(1).open()
    assert list(store.list_manifests()) == []
    path.unlink()
    Number(1).keep()
    assert Number(1).open() == 1
    Number(1).keep()
    folder = Number(1).folder
    written = json.loads((folder / "manifest.json").read_text())["contents"]
    assert set(written) == {"number"} and written["number"]["sha256"] == store.hash_file(folder / "number")


def test_text_is_written_whole_or_not_at_all_also_on_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert store.read_json(path) == {"a": 1} and [file.name for file in tmp_path.iterdir()] == ["x.json"]
    path.write_text("{")
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        store.read_json(path)
    def fill_up(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(OSError, match="No space"):
        store.write_text(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == [path]


def test_the_size_of_a_folder_is_that_of_its_files_without_what_links_lead_to(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(bytes(5))
    (tmp_path / "link").symlink_to(tmp_path / "inner" / "file")
    assert store.measure_size(tmp_path) == 5


def test_a_hash_does_not_depend_on_the_order_of_keys():
    assert store.content_hash({"a": 1, "b": [1, 2]}) == store.content_hash({"b": [1, 2], "a": 1})
    assert store.content_hash([1, 2]) != store.content_hash([2, 1])


def test_what_does_not_fit_on_the_disk_leaves_nothing_and_says_what_to_do(small_disk, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(small_disk))
    with pytest.raises(OSError, match="No space left") as error:
        Number(1, act="fill").keep()
    assert describe_error(error.value).startswith("the disk is full, make room and try again: OSError: ")
    assert [path.name for path in store.store_dir().iterdir()] == ["locks"]
    Number(2).keep()  # there is room again
    with pytest.raises(OSError, match=r"No space left on device: '.*/report\.html'"):
        store.write_text(small_disk / "report.html", "x" * 8_000_000)
    assert [path.name for path in small_disk.iterdir()] == ["data"]


def test_what_a_library_writes_for_one_user_is_open_to_those_who_may_use_the_folder(tmp_path, monkeypatch):
    def fill(folder):
        (folder / "inner").mkdir()
        for name in ("weights", "inner/more"):
            (folder / name).write_bytes(b"1")
            (folder / name).chmod(0o600)

    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    folder = store.keep("thing-000000000000", {}, fill)
    for path in (folder / "weights", folder / "inner/more"):
        assert path.stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
