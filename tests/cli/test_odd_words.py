"""Odd invocations of every command: the exit code, and the sentence or the silence."""

import json
import os
import subprocess
import sys

import pytest

from mome.cli.main import main

MINI = ["--scale", "smoke", "--corpus", "mini"]


@pytest.mark.parametrize("words, code, said", [
    (["plan", "3", *MINI, "-p", "temperature=2e0", "-p", "evaluations=2_0", "-p", "budgets=[.5, +1]"], 0,
     "build"),
    (["plan", "03", *MINI, "-p", "evaluations=3e1", "--workers", "1e0"], 0, "build"),
    (["plan", "3", *MINI, "-p", "evaluations=2.5"], 2, "evaluations=2.5"),
    (["plan", "3", *MINI, "-p", "evaluations=1" + 400 * "0"], 2, "evaluations=1"),
    (["plan", "3", *MINI, "-p", "alphas=[1e400]"], 2, "alphas=inf"),
    (["plan", "3", *MINI, "-p", "sentance=x"], 2, "'sentance'"),
    (["plan", "3", *MINI, "-p", "sentence=3"], 2, "sentence=3"),
    (["plan", "3", *MINI, "-p", "language=no"], 2, "language='no'"),
    (["plan", "3", *MINI, "-p", "x=!!bool x"], 2, "parameter x="),
    (["plan", "3", *MINI, "-p", "losses=[ce]"], 2, "losses='ce'"),
    (["plan", "4", *MINI, "-p", "controls=[deep]"], 2, "controls='deep'"),
    (["plan", "4", *MINI, "-p", "added_corpus=here"], 2, "added_corpus='here'"),
    (["plan", "5", *MINI, "-p", "order=[en, xx]"], 2, "order='xx'"),
    (["plan", "5", *MINI, "-p", "imbalance=[1, 2]"], 2, "line 11: imbalance=[1.0, 2.0] is not"),
    (["plan", "2", *MINI, "--languages", "en"], 2, "languages=['en']"),
    (["plan", "4", *MINI, "--languages", "en"], 2, "languages=['en']"),
    (["plan", "5", *MINI, "--languages", "py"], 2, "languages=['py']"),
    (["run", "--only", "3,4", *MINI, "--languages", "en", "--dry-run"], 2, "languages=['en']"),
    (["run", "--only", "1", *MINI, "--out", "a file"], 2,
     "out='{here}/a file' is not allowed; {here}/a file is a file"),
    (["run", "--only", "1", *MINI, "--out", "a file/x/y", "--dry-run"], 2, "{here}/a file is a file"),
    (["sweep", "1", "-p", "scale=smoke", "--out", "a file/x"], 2, "{here}/a file is a file"),
    (["run", "--only", "1", *MINI, "--out", "/proc/x", "--dry-run"], 2, "out='/proc/x' cannot be written"),
    (["data", *MINI, "--out", "a file/x"], 2, "{here}/a file is a file"),
    (["data", *MINI, "--out", "/proc/x"], 2, "out='/proc/x' cannot be written"),
    (["export", "03:alpha 0.5", "a file/x"], 2, "{here}/a file is a file"),
    (["train", "MoE-CE", *MINI, "--languages", "en"], 2, "languages=['en']"),
    (["train", "teacher", *MINI, "--languages", "en,fr,de", "--overrides", "{batch_size: 8}"], 2,
     "batches of 8"),
    (["train", "teacher", *MINI, "--overrides", "[1]"], 2, "overrides=[1]"),
    (["train", "teacher", *MINI, "--overrides", "{batch_size: 1e300}"], 2, "batch_size=1"),
    (["bench", "router", "--languages", "en"], 2, "at least two"),
    (["runs", "--where", "notebook=03"], 0, "no runs"),
    (["runs", "--where", "notebook=3", "--compare"], 0, "no runs"),
    (["runs", "--where", "x=1"], 2, "where='x'"), (["runs", "nowhere"], 2, "folder='nowhere'"),
    (["report", "a file"], 2, "folder='a file'"), (["publish", "nowhere"], 2, "nowhere"),
    (["clean", "--runs", "nowhere"], 2, "folder='nowhere'")])
def test_an_odd_command_ends_with_its_exit_code_and_one_sentence(words, code, said, built, tmp_path,
                                                                 monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    assert main(words) == code
    seen = capsys.readouterr()
    assert said.format(here=tmp_path) in (seen.err if code else seen.out)
    assert not built and (not code or seen.err.count("\n") == 1), seen.err


@pytest.mark.parametrize("words, said", [
    (["train", "teacher", "--seed", "x"], "--seed: invalid"),
    (["plan", "--workers", "1.5"], "--workers: invalid"),
    (["bench", "data", "--repeats", ""], "--repeats: invalid"), ([], "required"), (["rnu"], "'rnu'"),
    (["sweep", "3", "--scale", "smoke"], "--scale")])
def test_what_the_parser_refuses_ends_with_2(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("languages, told", [
    ("en,fr", ["05_catastrophic_forgetting: imbalance=[4.0, 1.0] in place of [4.0, 3.0, 2.0, 1.0]"]),
    ("en,fr,de", ["imbalance=[4.0, 2.5, 1.0]", "batch_size=6 in place of 8, which 3 languages cannot share"]),
    ("fr,py", ["03_kd_alpha: language='fr' in place of 'en'", "imbalance=[4.0, 1.0]"]),
    ("en,fr,de,py,es", ["04_moe_variants: added_language='it' in place", "batch_size=10 in place of 8",
                        "imbalance=[4.0, 3.25, 2.5, 1.75, 1.0]"]),
    ("it,sql", ["03_kd_alpha: language='it'", "imbalance=[4.0, 1.0]"]), ("en,fr,de,py", [])])
def test_what_nobody_gave_suits_the_languages_and_is_told_in_a_line_each(languages, told, capsys):
    assert main(["plan", *MINI, "--languages", languages]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told) and all(any(part in line for line in lines) for part in told), lines


@pytest.mark.parametrize("words", [["runs", "--compare"], ["plan", "1", *MINI], ["--help"]])
def test_a_closed_pipe_is_quiet(words):
    command = [sys.executable, "-m", "mome"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == "" and done.returncode == 0


def test_a_question_that_nobody_can_answer_is_none(tmp_path, monkeypatch, capsys):
    store = tmp_path / "home/data/store/corpus-0123456789ab"
    store.mkdir(parents=True)
    (store / "manifest.json").write_text(json.dumps({"parents": {}}))
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main(["clean"]) == 0
    assert "nothing removed" in capsys.readouterr().out and store.exists()
