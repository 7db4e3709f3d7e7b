"""A bundle round trip into an empty home, and bundles that are damaged, cut off or a stranger's."""

import io
import json
import lzma
import shutil
import tarfile

import pytest
import torch

from mome import store
from mome.distill.targets import CachedTargets
from mome.engine import build_here
from mome.plan import make_plan
from mome.recipes.data import Data
from mome.recipes.students import HARD_LABELS, Student
from mome.recipes.teacher import Targets
from mome.runs import bundle
from mome.runs.load import load_bundle

ABOUT = {"parameters": {"scale": "smoke", "corpus": "mini"}, "notebooks": ["03_kd_alpha"]}


def list_store():
    root = store.store_dir()
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*")
                  if path.is_file() and "locks" not in path.parts) if root.exists() else []


@pytest.fixture(scope="module")
def made(tiny_setting, tmp_path_factory):
    """Two students, of which one is read, and targets of which two rows are; the bundle of it all."""
    read, other = (Student.of(tiny_setting, ["en"], seed, HARD_LABELS) for seed in (0, 1))
    targets = Targets.of(tiny_setting)
    build_here([read, other, targets])
    weights = {read.name: [], targets.name: sorted(targets.open().position)[:2]}
    parts = bundle.choose_parts([Data.of(tiny_setting), read, other, targets],
                              [{"found": [targets.teacher.name], "weights": weights}])
    out = tmp_path_factory.mktemp("bundle") / "class.tar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "LARGE", 1_000)
        bundle.write_bundle(parts, ABOUT, out)
    return {"out": out, "read": read, "other": other, "targets": targets, "rows": weights[targets.name],
            "state": read.open().state_dict(), "row": targets.open().lookup(weights[targets.name])}


@pytest.fixture
def empty_home(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "class"))
    store.checked.clear()


def test_in_an_empty_home_nothing_is_left_to_build_and_what_notebooks_read_is_equal_bit_for_bit(
        made, empty_home, tmp_path):
    found = load_bundle(made["out"])
    needs = [made["read"], made["other"], made["targets"]]
    assert not make_plan(needs).missing and not found["kept"] and found["parameters"] == ABOUT["parameters"]
    for name, weight in made["read"].open().state_dict().items():
        assert torch.equal(weight, made["state"][name])
    assert len(made["other"].history())
    thin = CachedTargets(made["targets"].folder)
    for name, value in thin.lookup(made["rows"]).items():
        assert torch.equal(value, made["row"][name])
    assert len(thin.position) == 2
    with pytest.raises(store.NotBuilt, match=r"without model\.safetensors.*delete the folder"):
        made["other"].open()
    loaded = list_store()
    assert len(load_bundle(made["out"])["kept"]) == len(found["loaded"]) and list_store() == loaded


def test_what_was_left_out_is_built_again_where_another_is_made_from_it_and_only_there(
        made, empty_home, tiny_setting):
    load_bundle(made["out"])
    missing = make_plan([made["other"], Student.of(tiny_setting, ["en"], 0)]).missing
    assert [recipe.kind() for recipe in missing] == ["teacher", "targets", "student"]
    made["other"].keep()  # as the engine does for a parent
    assert made["other"].is_whole and made["other"].open()


def test_what_the_store_has_stays_as_it_is_unless_the_bundle_has_more_of_it(made, empty_home, tmp_path):
    load_bundle(made["out"])
    folder = made["read"].folder
    (folder / "mine").write_text("kept")
    shutil.rmtree(made["other"].folder)
    found = load_bundle(made["out"])
    assert found["loaded"] == [made["other"].name] and (folder / "mine").exists()


def change(out, path, edit):
    """Write the bundle anew at `path`, its members as `edit(name, member, data)` leaves them."""
    with tarfile.open(out) as old, tarfile.open(path, "w:xz") as new:
        for member in old:
            data = old.extractfile(member).read()
            for each, text in edit(member, data):
                each.size = len(text) if each.isreg() else 0
                new.addfile(each, io.BytesIO(text))


def with_more(name, kind=tarfile.REGTYPE, linkname=""):
    def edit(member, data):
        yield member, data
        if member.name.endswith("/manifest.json"):
            more = tarfile.TarInfo(name.format(member.name.split("/")[1]))
            more.type, more.linkname = kind, linkname
            yield more, b"evil"
    return edit


def other_format(member, data):
    yield member, (json.dumps(json.loads(data) | {"format": 9}).encode() if member.name == bundle.INDEX
                   else data)


def other_byte(member, data):
    yield member, (data[:-1] + bytes([data[-1] ^ 1]) if member.name.endswith("model.safetensors") else data)


def other_manifest(member, data):
    yield member, data.replace(b"mini", b"maxi") if member.name.endswith("manifest.json") else data


def other_folder(member, data):
    yield member, (json.dumps(json.loads(data) | {"parameters": {"corpus": "folder:/etc"}}).encode()
                   if member.name == bundle.INDEX else data)


HOSTILE = {
    "a path upwards": (with_more("store/{}/../../../evil.json"), "a path that leaves its folder"),
    "an absolute path": (with_more("/tmp/evil.json"), "a path that leaves its folder"),
    "a link": (with_more("store/{}/x.json", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
    "a hard link": (with_more("store/{}/x.json", tarfile.LNKTYPE, "bundle.json"), "a link"),
    "a device": (with_more("store/{}/x.json", tarfile.CHRTYPE), "a link"),
    "code": (with_more("store/{}/modeling.py"), "or no data"),
    "a file of no manifest": (with_more("store/{}/x.json"), "not in its manifest"),
    "a name of no list": (with_more("store/student-000000000000/x.json"), "not in its list"),
    "another format": (other_format, "has format 9, this version of mome reads 1"),
    "a byte": (other_byte, "damaged .its SHA-256 is another"),
    "a manifest": (other_manifest, "another's or was changed"),
    "a folder to read": (other_folder, "corpus='folder:/etc' is not allowed"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strangers_bundle_is_refused_with_a_sentence_and_leaves_nothing(what, made, empty_home, tmp_path):
    edit, said = HOSTILE[what]
    change(made["out"], tmp_path / "odd.tar", edit)
    with pytest.raises(ValueError, match=rf"^bundle='.*odd\.tar' .*{said}.*; nothing was loaded$"):
        load_bundle(tmp_path / "odd.tar")
    assert list_store() == [] and not (tmp_path / "evil.json").exists()


def test_what_is_cut_off_no_bundle_or_says_that_it_is_huge_is_refused(made, empty_home, tmp_path):
    whole, path = made["out"].read_bytes(), tmp_path / "odd.tar"
    huge = tarfile.TarInfo(bundle.INDEX)
    huge.size = 10**12
    texts = [whole[:len(whole) * part // 5 + 100] for part in range(5)]
    bomb = lzma.compress(bytes(40_000_000), preset=0)
    for text in [*texts, b"", b"text", b"\x1f\x8b" + whole, lzma.compress(huge.tobuf()), bomb]:
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"^bundle='.*odd\.tar' .*; nothing was loaded$"):
            load_bundle(path)
        assert list_store() == []


def test_a_new_bundle_takes_no_others_place_and_no_corpus_that_is_here_alone(made, tmp_path):
    with pytest.raises(ValueError, match=r"out='.*class\.tar' is there already"):
        bundle.check_bundle(made["out"], {})
    with pytest.raises(ValueError, match="second_corpus='folder:x' is not allowed in a bundle"):
        bundle.check_bundle(tmp_path / "new.tar", {"second_corpus": "folder:x"})
    with tarfile.open(made["out"]) as tar:
        card = tar.extractfile("README.md").read().decode()
    assert "written for this workbook. Licence: MIT" in card and "Weights that no notebook reads" in card
