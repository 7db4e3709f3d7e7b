import json

import pytest

from mome import runs, sweep
from mome.__main__ import main


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a kernel was started before the input was checked")

    monkeypatch.setattr(sweep, "execute_notebook", refuse)


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))


@pytest.mark.parametrize(("words", "said"), [
    (["--scale", "huge"], ["scale='huge'", "smoke, laptop, paper"]),
    (["--corpus", "wikipedia"], ["corpus='wikipedia'", "wiki40b"]),
    (["--corpus", "folder:/nowhere/at/all"], ["/nowhere/at/all"]),
    (["--languages", "en,xx"], ["'xx'", "en, fr, de, py"]),
    (["--languages", "en,en"], ["repeats"]),
    (["--seeds", "-1"], ["seeds='-1'", "0,1,2"]),
    (["--seeds", "one"], ["seeds='one'"]),
    (["--only", "09"], ["only='09'", "03_kd_alpha"]),
    (["-p", "alphas=[0.5, 1.2]"], ["alphas=1.2", "[0, 1]"]),
    (["-p", "alpah=0.5"], ["'alpah'", "alphas"]),
    (["-p", "temperature=0"], ["temperature=0"]),
    (["-p", "losses=[forward_kl, inverse_kl]"], ["losses='inverse_kl'", "reverse_kl"]),
    (["-p", "schedules=[alternate]"], ["schedules='alternate'", "dwa"]),
    (["-p", "overrides={batch_size: 1, micro_batch_size: 1}"], ["batch_size"]),
    (["-p", "temperature=0"], ["temperature=0"]),
    (["-p", "temperature=warm"], ["temperature='warm'", "float"]),
    (["-p", "alphas"], ["NAME=VALUE"]),
    (["-p", "classifiers=[oracle]"], ["'oracle'", "logistic_regression"]),
    (["-p", "overrides={widht: 3}"], ["'widht'", "vocab_size"]),
    (["-p", "overrides={vocab_size: 10}"], ["vocab_size=10"]),
    (["-p", "order=[en, fr]"], ["order=", "en, fr, de, py"]),
    (["-p", "variants=[PLE, DENSE]"], ["'DENSE'", "JEET"]),
    (["-p", "added_language=fr"], ["added_language='fr'", "already"]),
    (["-p", "added_language=xx"], ["added_language='xx'", "es"]),
    (["-p", "added_corpus=folder:nowhere"], ["folder:nowhere"]),
    (["-p", "jobs=0"], ["jobs=0"]),
    (["-p", "orders=some"], ["orders='some'", "rotations"]),
    (["-p", "replay=[0.1, 2]"], ["replay=2", "1"]),
    (["-p", "imbalance=[4, 1]"], ["imbalance=[4, 1]", "en, fr, de, py"]),
    (["--only", "05", "-p", "variants=[PLE branched]"], ["'PLE branched'", "JEET"]),
    (["--only", "05", "--languages", "en"], ["languages=['en']", "at least two"])])
def test_bad_input_exits_with_code_2_and_one_line_that_names_value_and_choices(words, said, capsys):
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("mome: ")
    assert all(word in error for word in said), error


def test_the_default_added_language_gives_way_to_a_model_that_learns_it_anyway():
    values = {"languages": ["en", "es"], "corpus": "mini", "overrides": {"batch_size": 8}}
    assert runs.check_parameters(runs.notebook_paths()[3], values)["added_language"] == "es"


def test_a_folder_corpus_without_files_is_refused(tmp_path, capsys):
    (tmp_path / "en").mkdir()
    assert main(["run", "--corpus", f"folder:{tmp_path}", "--languages", "en"]) == 2
    assert "holds no files" in capsys.readouterr().err


def test_parameters_reach_the_notebooks_that_declare_them_and_no_other():
    plan = sweep.plan_run(["03", "04"], {"scale": "smoke", "temperature": 3.0})
    assert [(path.stem[:2], set(given)) for path, given in plan] == [("03", {"scale", "temperature"}), ("04", {"scale"})]


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--scale", "--corpus", "--languages", "--seeds", "--only", "--out", "--parameter"))
    assert all(word in said for word in ("smoke", "laptop", "paper", "folder:PATH"))


def test_publishing_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert main(["publish", str(tmp_path)]) == 2
    assert "no complete notebook" in capsys.readouterr().err


def test_a_corpus_out_of_reach_is_said_before_any_kernel(monkeypatch, capsys):
    from mome import corpus

    monkeypatch.setattr(corpus.shutil, "which", lambda tool: None)
    assert main(["run", "--scale", "smoke", "--corpus", "help"]) == 2
    error = capsys.readouterr().err
    assert "corpus='help' needs apt-get" in error
    assert "mini" in error


def test_too_little_disk_is_said_before_any_kernel(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "LEAST_FREE_BYTES", {"laptop": 10**18, "smoke": 10**18})
    assert main(["run", "--scale", "smoke", "--corpus", "mini"]) == 2
    assert "GB are free" in capsys.readouterr().err


def test_publishing_replaces_the_claims_and_figures_of_the_notebooks_that_ran_and_keeps_the_others(monkeypatch, tmp_path, capsys):
    from mome import runs

    root, run = tmp_path / "checkout", tmp_path / "night"
    (root / "figures").mkdir(parents=True)
    (run / "02_router_comparison/figures").mkdir(parents=True)
    for name in ("02_old.png", "03_kept.png"):
        (root / "figures" / name).write_bytes(b"old")
    (run / "02_router_comparison/figures/new.png").write_bytes(b"new")
    (root / "README.md").write_text("before\n<!-- claims -->\n| claim | verdict | measured | run |\n| --- | --- | --- | --- |\n"
                                    "| C1 | **holds** | one | `day` |\n| C3 | **holds** | three | `day` |\n<!-- /claims -->\nafter\n")
    (run / "02_router_comparison/executed.ipynb").touch()
    metrics = {"notebook": "02_router_comparison", "run": "night", "parameters": {}, "metrics": {}, "seconds": 1, "tables": [],
               "figures": [{"name": "new", "caption": ""}],
               "findings": [{"claim": "C3", "verdict": "cannot tell", "text": "measured again"}, {"claim": "", "verdict": "", "text": "aside"}]}
    (run / "02_router_comparison/metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(runs, "repository", lambda: root)
    assert main(["publish", str(run)]) == 0
    assert sorted(path.name for path in (root / "figures").iterdir()) == ["02_new.png", "03_kept.png"]
    text = (root / "README.md").read_text()
    assert "| C1 | **holds** | one | `day` |" in text
    assert "| C3 | **cannot tell** | measured again | `night` |" in text
    assert "three" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
