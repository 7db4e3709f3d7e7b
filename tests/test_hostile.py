"""What is read from disk may be cut off or made by someone else: it is refused by name, and nothing in it is executed."""

import json
import os
import pickle
import shutil

import pytest

from mome import artifacts, data, models, moe, recipes, runs, sweep, train
from mome.__main__ import main


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def bomb(tmp_path):
    """Bytes that leave `exploded` when unpickled; no test may leave it."""
    path = tmp_path / "exploded"
    yield pickle.dumps(Bomb(path))
    assert not path.exists(), "a pickle was executed"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Change one bit, as a bad disk or a hand does."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def student(tiny_bench):
    return recipes.train_student(tiny_bench, ["en"], seed=7, kd_loss=None)


@pytest.fixture
def own_copy(student, tiny_bench, tmp_path):
    return shutil.copytree(student, tmp_path / "student")


@pytest.mark.parametrize("name", ["model.safetensors", "scores.parquet", "config.json"])
def test_an_artefact_with_a_file_changed_cut_off_or_gone_is_refused_by_name_when_it_is_asked_for(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))

    def build(folder):
        (folder / name).write_bytes(b"x" * 100)

    path = artifacts.find_or_build("student", {"a": 1}, build)
    monkeypatch.setattr(artifacts, "_checked", set())
    assert artifacts.find_or_build("student", {"a": 1}, build) == path
    for spoil, said in ((flip, "SHA-256"), (cut, "50 bytes instead of 100"), (os.remove, "gone instead of 100")):
        spoil(path / name)
        monkeypatch.setattr(artifacts, "_checked", set())
        with pytest.raises(ValueError, match=said) as error:
            artifacts.find_or_build("student", {"a": 1}, build)
        assert str(path) in str(error.value)


def test_a_copied_artefact_opens_although_its_files_are_newer(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))

    def build(folder):
        (folder / "scores.parquet").write_bytes(b"x")

    path = artifacts.find_or_build("student", {"a": 1}, build)
    os.utime(path / "scores.parquet", (0, 0))
    monkeypatch.setattr(artifacts, "_checked", set())
    assert artifacts.find_or_build("student", {"a": 1}, build) == path


@pytest.mark.parametrize("text", ["", "{", "[]", '{"contents": []}', '{"contents": {"a": 1}}', '{"contents": {"a": {}}}', '{"kind": "student"',
                                  '{"contents": {"\\u0000": {"bytes": 1}}}', "\x80", 100_000 * "["])
def test_a_damaged_manifest_is_refused_by_name(text, monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    path = artifacts.find_or_build("student", {"a": 1}, lambda folder: None)
    (path / "manifest.json").write_text(text, encoding="latin-1")
    monkeypatch.setattr(artifacts, "_checked", set())
    with pytest.raises(ValueError, match=r"manifest\.json is damaged|is damaged \(gone"):
        artifacts.find_or_build("student", {"a": 1}, lambda folder: None)


def test_weights_that_are_a_pickle_are_refused_whatever_they_are_called(own_copy, bomb):
    for name in ("model.safetensors", "pytorch_model.bin"):
        (own_copy / "model.safetensors").unlink(missing_ok=True)
        (own_copy / name).write_bytes(bomb)
        with pytest.raises(Exception, match=r"safetensors|[Hh]eader"):
            recipes.load_gpt2(own_copy)


def test_a_modular_model_that_is_a_pickle_is_refused(tiny_bench, tmp_path, bomb):
    body = models.gpt2_config(tiny_bench.scale.expert, 600, 32)
    moe.build_moe(["en", "fr"], body, has_common_expert=False, tie_word_embeddings=True, seed=0).save_pretrained(tmp_path / "moe")
    (tmp_path / "moe/model.safetensors").rename(tmp_path / "kept")
    (tmp_path / "moe/pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(OSError, match="safetensors"):
        moe.MoMEForCausalLM.from_pretrained(tmp_path / "moe")


def test_a_checkpoint_that_is_a_pickle_or_cut_off_is_refused(tmp_path, bomb):
    model = models.build_gpt2(models_shape(), 50, 8, 0)
    path = tmp_path / "checkpoint.safetensors"
    for content in (bomb, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint"):
            train.load_checkpoint(path, model, train.make_optimizer(model, 0.1), "plan")


def models_shape():
    from mome.config import Shape

    return Shape(1, 2, 8)


def test_a_data_set_that_names_files_outside_its_folder_is_refused(tiny_bench, tmp_path):
    copy = shutil.copytree(tiny_bench.data_path, tmp_path / "data")
    assert len(data.PackedData(copy).rows("train"))
    state = copy / "dataset/train/state.json"
    content = json.loads(state.read_text())
    content["_data_files"][0]["filename"] = "../../../elsewhere.arrow"
    state.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="elsewhere"):
        data.PackedData(copy)


GOOD = {"notebook": "03_kd_alpha", "run": "r", "parameters": {}, "metrics": {}, "seconds": 1, "figures": [{"name": "f", "caption": "c"}], "tables": [],
        "findings": [{"text": "<b>t</b>", "verdict": "holds", "claim": "C1"}], "versions": {}}


def write_run(folder, entry):
    (folder / "03_kd_alpha/figures").mkdir(parents=True)
    (folder / "03_kd_alpha/figures/f.png").write_bytes(b"png")
    (folder / "03_kd_alpha/metrics.json").write_text(json.dumps(entry))
    (folder / "03_kd_alpha/executed.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# <script>alert(1)</script>"]}]}))
    return folder


@pytest.mark.parametrize("change", [
    {"notebook": "../../x"}, {"notebook": "*"}, {"figures": [{"name": "../../../secret", "caption": ""}]}, {"figures": [{"name": "f"}]},
    {"tables": ["/etc/passwd"]}, {"findings": [{"text": "t", "verdict": "<script>", "claim": "C1"}]},
    {"findings": [{"text": "t", "verdict": "holds", "claim": "C1 | x |"}]}, {"seconds": "long"}, {"metrics": None}, {"parameters": 3}])
def test_a_run_whose_names_lead_elsewhere_or_whose_form_is_wrong_is_refused_before_anything_is_written(change, tmp_path, monkeypatch, capsys):
    root = tmp_path / "checkout"
    (root / "figures").mkdir(parents=True)
    (root / "figures/03_old.png").touch()
    (root / "README.md").write_text("<!-- claims --><!-- /claims -->")
    monkeypatch.setattr(runs, "repository", lambda: root)
    folder = write_run(tmp_path / "run", GOOD | change)
    assert main(["publish", str(folder)]) == 2
    assert "metrics.json is not what a run writes" in capsys.readouterr().err
    assert main(["report", str(folder)]) == 2
    assert sorted(path.name for path in (root / "figures").iterdir()) == ["03_old.png"]
    assert not (folder / "report.html").exists()


def test_the_report_escapes_what_a_run_says(tmp_path):
    folder = write_run(tmp_path / "run", GOOD)
    page = runs.write_report(folder).read_text()
    assert "<script>" not in page
    assert "&lt;b&gt;t&lt;/b&gt;" in page


def test_a_notebooks_parameters_are_read_as_literals_and_never_run(tmp_path):
    path = tmp_path / "09_evil.ipynb"
    for source in (f"x = __import__('os').mkdir({str(tmp_path / 'exploded')!r})", "x = [", "x = y"):
        path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}]}))
        with pytest.raises(ValueError, match="09_evil"):
            runs.declared_parameters(path)
    assert not (tmp_path / "exploded").exists()
    path.write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="09_evil"):
        runs.declared_parameters(path)


def test_clean_keeps_what_runs_used_and_its_parents_and_removes_nothing_outside(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    parent = artifacts.find_or_build("data", {}, lambda folder: None)
    used = artifacts.find_or_build("student", {"a": 1}, lambda folder: None, {"data": parent})
    unused = artifacts.find_or_build("student", {"a": 2}, lambda folder: None, {"data": parent})
    held = artifacts.find_or_build("student", {"a": 3}, lambda folder: None)
    unfinished = unused.with_name("partial-student-0123456789ab")
    stranger = unused.with_name("photos")
    outside = tmp_path / "outside"
    for folder in (unfinished, stranger, outside):
        folder.mkdir()
    unused.with_name("student-ffffffffffff").symlink_to(outside)
    run = tmp_path / "home/runs/r/03_kd_alpha"
    run.mkdir(parents=True)
    (run / "artifacts.txt").write_text(f"{used.name}\n../../../outside\n\x00\n")
    with artifacts.FileLock(f"{held}.lock"):
        monkeypatch.setattr("builtins.input", lambda text: "n")
        assert main(["clean"]) == 0
        assert "nothing removed" in capsys.readouterr().out
        assert unused.exists()
        assert main(["clean", "--yes"]) == 0
    assert [path.exists() for path in (parent, used, unused, held, unfinished, stranger, outside)] == [True, True, False, True, True, True, True]
    assert main(["clean", "--yes", "--unfinished"]) == 0
    assert not unfinished.exists()


def test_a_run_lists_the_artefacts_it_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    monkeypatch.setenv("MOME_USES", str(tmp_path / "artifacts.txt"))
    for _ in range(2):
        path = artifacts.find_or_build("student", {"b": 1}, lambda folder: None)
    assert (tmp_path / "artifacts.txt").read_text() == f"{path.name}\n"


def test_a_sweeps_plan_ignores_what_a_damaged_earlier_run_left(tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    for number, text in enumerate(("{", "[]", '{"notebook": 3, "parameters": []}', "\x00")):
        folder = tmp_path / "runs" / str(number)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text)
    _, planned = sweep.plan_sweep({"notebooks": [{"notebook": "03", "grid": {"alpha": [0.1]}}]})
    planned[0].folder.mkdir(parents=True)
    for text, wanted in (("{", "damaged"), ("[]", "TypeError"), ("{}", "cell 0")):
        (planned[0].folder / "failure.json").write_text(text)
        said = sweep.describe_plan(planned, 1, False)
        assert "1 failed, 0 to run" in said
        assert wanted in said
