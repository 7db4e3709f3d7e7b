import json
import os
import time
from collections import Counter

import pytest

from mome import store
from mome.cli.main import main
from mome.config import store_dir
from mome.recipes.setting import open_setting
from mome.runs import compare
from mome.runs.compare import compare_runs, find_unused, read_runs, select_runs
from mome.runs.record import note_needs


def write_run(folder, number, state="complete", **parameters):
    """Write a finished or failed run by hand."""
    folder = folder / f"0{number}_toy-{len(list(folder.glob('*')))}"
    folder.mkdir(parents=True)
    values = {"scale": "smoke", "x": 1, "alphas": [0.5], "out": str(folder), **parameters}
    (folder / "config.json").write_text(json.dumps({"notebook": f"0{number}_toy", "parameters": values}))
    metrics = {"loss": {"en": values["x"] / 2, "fr": None}, "is_best": True}
    entry = {"notebook": f"0{number}_toy", "run": folder.name, "parameters": values, "metrics": metrics,
             "seconds": 90, "findings": [], "figures": [], "tables": []}
    files = {"complete": ("metrics.json", json.dumps(entry)), "failed": ("failure.txt", "cell 4: E: why")}
    (folder / files[state][0]).write_text(files[state][1])
    return folder


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "out"
    write_run(out, 3, x=1)
    write_run(out, 3, x=2, alphas=[0.0])
    write_run(out, 4, "failed", x=2)
    for number, text in enumerate(('{"note', "[]", '{"notebook": 3, "parameters": []}', "\x00")):
        (out / str(number)).mkdir()
        (out / str(number) / "config.json").write_text(text)
    return out


def test_runs_are_listed_damaged_ones_as_such_and_side_by_side_by_what_differs(folder):
    table = read_runs([folder, folder])
    assert Counter(table.state) == {"complete": 2, "failed": 1, "damaged": 4}
    assert table[table.state == "complete"].minutes.tolist() == [1.5, 1.5]
    compared = compare_runs(select_runs(read_runs([folder]), {"state": "complete"}))
    assert list(compared) == ["run", "state", "x", "alphas", "loss en"]
    assert compared[["x", "alphas", "loss en"]].values.tolist() == [["1", "[0.5]", 0.5], ["2", "[0.0]", 1.0]]


def test_where_runs_were_made_stands_beside_them_as_far_as_it_differs(folder):
    for number, path in enumerate(sorted(folder.glob("03_toy-*/config.json"))):
        told = {"commit": f"a{number}", "machine": {"processor": "Fast", "cores": 2 + number}, "threads": 1}
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
    compared = compare_runs(select_runs(read_runs([folder]), {"state": "complete"}))
    assert list(compared) == ["run", "state", "x", "alphas", "commit", "cores", "loss en"]
    assert compared[["commit", "cores"]].values.tolist() == [["a0", "2"], ["a1", "3"]]


@pytest.mark.parametrize("where, count", [
    ({"notebook": 3}, 2), ({"notebook": "03"}, 2), ({"notebook": "04_toy"}, 1), ({"state": "failed"}, 1),
    ({"alpha": 0}, 1), ({"alphas": [0.5]}, 2), ({"x": 2, "state": "complete"}, 1), ({"x": 3}, 0)])
def test_runs_are_chosen_by_notebook_state_or_parameter(where, count, folder):
    table = read_runs([folder])
    assert len(select_runs(table[table.state != "damaged"], where)) == count
    with pytest.raises(ValueError, match=r"where='y' is unknown; .*alphas.*state"):
        select_runs(table, {"y": 2})


def test_the_command_lists_and_compares_as_text_csv_and_json(folder, tmp_path, capsys):
    assert main(["runs", str(folder), "--where", "notebook=04"]) == 0
    said = capsys.readouterr().out
    assert "failed: cell 4: E: why" in said and "03_toy" not in said
    assert main(["runs", str(folder), "--compare", "--where", "state=complete"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 50
    assert main(["runs", str(folder), "--compare", "--format", "json", "--where", "x=2"]) == 0
    assert [(run["state"], run["loss en"])
            for run in json.loads(capsys.readouterr().out)] == [("complete", 1), ("failed", None)]
    assert main(["runs", str(folder), "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 8
    assert main(["runs", str(folder), "--format", "json", "--where", "x=2", "--where", "state=complete"]) == 0
    line, = json.loads(capsys.readouterr().out)
    assert line["parameters"]["alphas"] == [0.0] and line["metrics"]["loss"] == {"en": 1.0, "fr": None}
    assert line["folder"].startswith(str(folder))
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / "empty"), "--compare"]) == 0
    assert "no runs" in capsys.readouterr().out


@pytest.fixture
def built(tmp_path):
    """Four corpora in the store: used by a run, by a command, by nobody, and being built."""
    recipes = [open_setting("smoke", "mini", languages).corpus
               for languages in (["en"], ["fr"], ["de"], ["es"])]
    for recipe in recipes:
        recipe.keep()
    run = tmp_path / "home/runs/night/03_toy"
    run.mkdir(parents=True)
    (run / "needs.txt").write_text(f"{recipes[0].name}\n../../../outside\n\x00\n3\n")
    (tmp_path / "home/runs/damaged").mkdir()
    (tmp_path / "home/runs/damaged/needs.txt").write_bytes(b"\x80\xff")
    note_needs(tmp_path / "home/runs/train", recipes[1])
    return recipes


def test_clean_keeps_what_runs_and_commands_used_and_removes_nothing_outside(built, monkeypatch, tmp_path,
                                                                             capsys):
    used, trained, unused, held = (recipe.folder for recipe in built)
    unfinished, outside = store_dir() / "unfinished-corpus-0123456789ab", tmp_path / "outside"
    stranger = store_dir() / "photos"
    for path in (unfinished, stranger, outside):
        path.mkdir()
    (store_dir() / "corpus-ffffffffffff").symlink_to(outside)
    with store.lock_of(held.name):
        for answer in ("n", EOFError):
            monkeypatch.setattr("builtins.input", lambda text,
                                answer=answer: answer if answer == "n" else (_ for _ in ()).throw(answer))
            assert main(["clean"]) == 0
            assert "nothing removed" in capsys.readouterr().out
        assert unused.exists()
        assert main(["clean", "--yes"]) == 0
    assert [path.exists() for path in (used, trained, unused, held, unfinished, stranger, outside)] == [
        True, True, False, True, True, True, True]
    assert main(["clean", "--yes", "--unfinished", "--runs", str(tmp_path)]) == 0
    assert not unfinished.exists() and not held.exists() and used.exists()
    assert main(["clean", "--runs", str(tmp_path / "nowhere")]) == 2


def test_what_a_user_trained_by_name_is_never_offered_though_it_is_unfinished(built):
    trained, of_a_run, unused = (recipe.name for recipe in built[1::-1] + built[2:3])
    for name in (trained, of_a_run):
        os.replace(store.folder_of(name), store.unfinished_of(name))
    assert main(["clean", "--unfinished", "--yes"]) == 0
    assert store.unfinished_of(trained).exists()
    assert not store.unfinished_of(of_a_run).exists() and not store.is_there(unused)


def test_clean_tells_kind_size_age_and_users(built, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "measure_size", lambda folder: 2.5e6)
    os.utime(built[0].folder, (time.time() - 3 * 86400,) * 2)
    note_needs(tmp_path / "home/runs/other", built[0])
    (tmp_path / "home/runs/night/needs.txt").touch()  # a command's: its runs go by its name
    assert main(["clean", "--yes"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["corpus", "used", "night,", "other", "1", "2.5", "3.0"] in lines
    assert ["corpus", "used", "train", "1", "2.5", "0.0"] in lines
    assert [built[2].name, "corpus", "2.5", "0.0", "unused"] in lines


def test_what_a_used_thing_was_made_from_is_used(built, tmp_path):
    names = [recipe.name for recipe in built]
    manifest = built[1].folder / "manifest.json"
    manifest.write_text(json.dumps({**store.read_json(manifest), "parents": {"corpus": names[2], "odd": 3}}))
    states = find_unused([tmp_path / "home/runs"]).set_index("folder").state
    assert [states[name] for name in names] == ["used", "used", "used", "unused"]
    manifest.write_text("{")
    assert find_unused([tmp_path / "home/runs"]).set_index("folder").state[names[2]] == "unused"


def test_what_is_being_built_when_it_is_to_be_removed_stays(built):
    table = find_unused([])
    with store.lock_of(built[0].name), pytest.raises(TimeoutError):
        compare.remove_unused(table[table.folder == built[0].name])
    assert os.path.isdir(built[0].folder)


def test_runs_side_by_side_fit_the_terminal_and_lose_no_run(folder, monkeypatch, capsys):
    for columns in (30, 40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["runs", "--compare", str(folder)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns
        assert sum(line.split().count("complete") for line in lines) == 2
