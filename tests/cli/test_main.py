import os
import sys

import pytest

from mome import engine
from mome.cli import run
from mome.cli.main import main
from mome.store import NotBuilt


@pytest.mark.parametrize("words, said", [
    (["--scale", "huge"], ["scale='huge'", "smoke, laptop"]),
    (["--corpus", "wikipedia"], ["corpus='wikipedia'", "wiki40b"]),
    (["--corpus", "folder:/nowhere/at/all"], ["/nowhere/at/all"]),
    (["--languages", "en,xx"], ["'xx'", "en, fr, de, py"]),
    (["--languages", "en,en"], ["repeats"]), (["--seeds", "-1"], ["seeds='-1'", "0,1,2"]),
    (["--only", "7"], ["notebook='7'", "09_toy"]), (["-p", "alpah=0.5"], ["'alpah'", "alphas"]),
    (["-p", "alphas"], ["NAME=VALUE"]),
    (["-p", "x=warm"], ["x='warm'", "whole number"]),
    (["-p", "overrides={widht: 3}"], ["'widht'", "vocab_size"]),
    (["-p", "overrides={"], ["overrides", "YAML"]), (["--workers", "-1"], ["workers=-1"]),
    (["--scheduler", "here"], ["scheduler='here'", "tcp://"]),
    (["--out", "/proc/nowhere/x"], ["/proc/nowhere"])])
def test_bad_input_exits_with_code_2_and_one_line_before_anything_is_built(words, said, workbook, built,
                                                                           tmp_path, capsys):
    assert main(["run", "--scale", "smoke", "--corpus", "mini", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("mome: ")
    assert all(word in error for word in said), error
    assert not built and not (tmp_path / "home").exists()


@pytest.mark.parametrize("words, said", [
    (["9", "-p", "alhpa=0,1"], ["'alhpa'", "alphas"]),
    (["9", "-p", "alpha=0", "-p", "alphas=[1]"], ["'alphas'", "twice"]),
    (["9", "-p", "alpha"], ["'alpha'", "NAME=V"]), (["9", "-p", "out=here"], ["'out'", "--out"]),
    (["0"], ["notebook='0'", "09_toy"]),
    (["nowhere.ipynb"], ["'nowhere.ipynb'", "does not exist"]),
    (["nowhere.yaml"], ["'nowhere.yaml'", "does not exist"]),
    (["odd.yaml"], ["'temprature'"]), (["odd.yaml", "-p", "x=1"], ["'x=1'", "beside a YAML file"]),
    (["9", "--workers", "300"], ["workers=300"])])
def test_a_bad_sweep_exits_with_code_2_and_one_line_before_anything_is_built(words, said, workbook, built,
                                                                             tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("notebooks: [{notebook: 09}]\nparameters: {temprature: 2.0}")
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in said), error
    assert not built


def test_parameters_and_options_reach_the_engine(workbook, built, tmp_path, capsys):
    words = ["--languages", "en,fr", "--seeds", "3,4", "-p", "x=7", "--only", "9", "--out",
             str(tmp_path / "out")]
    options = ["--workers", "2", "--scheduler", "tcp://here:1", "--tracker", "tensorboard"]
    assert main(["run", *words, *options]) == 1
    (runs, *given), = built
    assert (given, [run.notebook for run in runs]) == ([2, "tcp://here:1", "tensorboard"], ["09_toy"])
    assert "tensorboard" not in runs[0].parameters
    assert all(part in runs[0].parameters
               for part in ('"languages": ["en", "fr"]', '"seeds": [3, 4]', '"x": 7', '"scale": "smoke"'))
    assert "0 of 1 runs complete" in capsys.readouterr().out
    assert (tmp_path / "out/report.html").exists()


def test_a_dry_run_shows_every_run_and_starts_none(workbook, built, tmp_path, capsys):
    assert main(["sweep", "9", "-p", "x=1,2", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert main(["run", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(words in said
               for words in ("2 runs into", "x=2: new", "0 there, 2 to build", "GB of disk",
                             "notebook 08_first: new"))
    assert not built and not (tmp_path / "out").exists()


def test_failures_are_named_at_the_end_and_an_interrupt_ends_with_a_sentence(workbook, monkeypatch, tmp_path,
                                                                             capsys):
    def fail(*_):
        raise engine.BuildFailed({"teacher (teacher-1)": "ValueError: no"})

    def stop(*_):
        raise engine.Stopped("stopped with 1 of 2 built")

    monkeypatch.setattr(engine, "build", fail)
    assert main(["run", "--out", str(tmp_path / "out")]) == 1
    assert "failed: teacher (teacher-1): ValueError: no\n" in capsys.readouterr().err
    monkeypatch.setattr(engine, "build", stop)
    assert main(["run", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "mome: stopped with 1 of 2 built\n"


def test_too_little_disk_is_said_before_anything_is_built(workbook, built, monkeypatch, capsys):
    monkeypatch.setattr(run, "SPARE_BYTES", 10**18)
    assert main(["run"]) == 2
    assert "GB are free" in capsys.readouterr().err
    assert not built


def test_what_is_not_built_and_an_error_of_a_library_are_no_bad_input(workbook, monkeypatch, capsys):
    monkeypatch.setattr("mome.runs.grid.read_needs", lambda *_: sys.modules["json"].loads("{"))
    with pytest.raises(ValueError, match="Expecting"):
        main(["run"])
    monkeypatch.setattr("mome.runs.compare.read_runs", lambda _: __import__("mome").store.find("teacher-1"))
    assert issubclass(NotBuilt, LookupError)
    assert main(["report", "here"]) == 1
    assert "teacher-1 is not built" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["runs", "--format", "json"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [
    "run", "plan", "sweep", "lab", "data", "train", "bench", "runs", "report", "clean", "publish"])
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    if command in ("run", "plan", "data", "train"):
        assert all(word in said for word in ("smoke, laptop", "folder:PATH", "--languages"))
    assert all(option not in said for option in ("--jobs", "--backend", "--keep-going", "--retry-failed"))
