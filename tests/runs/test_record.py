import json
import math
import re
import time
from base64 import b64encode

import numpy as np
import pandas as pd
import pytest

from mome.evaluate.claims import make_part
from mome.figures.arms import plot_language_bars
from mome.provenance import tell_provenance
from mome.recipes.setting import open_setting
from mome.runs.parameters import check_parameters, declared_parameters, find_cell, read_kernel
from mome.runs.record import Run, fresh_folder, start_run, tell
from mome.runs.state import Heartbeat, run_state
from mome.store import NotBuilt


@pytest.fixture
def values(toy):
    return check_parameters(toy, {})


@pytest.fixture
def run(values, tmp_path):
    return Run("09_toy", values, tmp_path / "night" / "09_toy")


@pytest.fixture
def mini():
    return open_setting("smoke", "mini", ["en", "fr"]).corpus


def test_a_runs_folder_appears_at_its_first_table_and_names_the_run(run):
    assert run.id == "night" and run.scale.name == "smoke"
    run.finding("it works")
    assert not run.folder.exists()
    run.table(pd.DataFrame({"a": [1]}), "numbers")
    config = json.loads((run.folder / "config.json").read_text())
    assert config["parameters"]["x"] == 1 and tell_provenance().items() <= config.items()
    assert pd.read_parquet(run.folder / "tables/numbers.parquet").a.tolist() == [1]


def test_a_figure_is_kept_with_its_caption_and_its_data_and_bears_the_runs_id(run, monkeypatch):
    import matplotlib.pyplot as plt

    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", lambda figure: None)
        run.figure("dots", "Dots.", plot_language_bars, pd.Series({"en": 1.0}), "dots")
    assert (run.folder / "figures/dots.png").read_bytes().startswith(b"\x89PNG")
    assert [text.get_text() for text in plt.gcf().texts] == ["run night"]
    assert json.loads((run.folder / "figures/dots.json").read_text())["plot"] == "arms.plot_language_bars"
    assert [*run.figures.values()] == [{"name": "dots", "caption": "Dots."}]
    plt.close("all")


def test_a_notebook_shows_a_figure_once_with_its_caption_beneath_and_as_alt_text(run, monkeypatch):
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr("mome.runs.record.find_shell", lambda: object())
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    run.figure("dots", "a < b & \"c\"", plot_language_bars, pd.Series({"en": 1.0}), "dots")
    assert plt.get_fignums() == [] and [each["text/plain"] for each in shown] == ["a < b & \"c\""]
    page, said = shown[0]["text/html"], "a &lt; b &amp; &quot;c&quot;"
    assert f'<img alt="{said}"' in page and f"<figcaption>{said}</figcaption>" in page
    image = b64encode((run.folder / "figures/dots.png").read_bytes()).decode()
    assert page.count(f"data:image/png;base64,{image}") == 1


def test_metrics_are_plain_json_whatever_numbers_they_hold(run):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    run.complete({"nan": math.nan, "inf": [np.float64("inf")], "count": np.int64(3), "share": np.float32(0.5),
                  "is": np.True_})
    entry = json.loads((run.folder / "metrics.json").read_text(), parse_constant=refuse)
    assert entry["metrics"] == {"nan": None, "inf": [None], "count": 3, "share": 0.5, "is": True}
    assert entry["run"] == "night"


def test_a_finding_is_returned_as_it_is_read_and_its_words_are_checked(run):
    assert run.finding("a is b") == "a is b"
    parts = [make_part("as said", True, "2 of 2.")]
    assert run.claim("C1", "c is d", parts) == "C1 holds: c is d\n  as said: yes. 2 of 2."
    with pytest.raises(ValueError, match=r"C9.*unknown"):
        run.claim("C9 | x", "e", parts)


def test_findings_are_told_word_by_word_and_a_claims_parts_are_folded(run, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    said = run.claim("C1", "c < d", [make_part("as said", True, "2 & 2.")])
    tell(run.finding("a is b"), said)
    assert shown[0]["text/plain"] == f"a is b\n{said}"
    first, second = shown[0]["text/html"].split("</div>")[:2]
    assert ">a is b</p>" in first and "<details>" not in first
    assert "<b>C1 holds:</b> c &lt; d</p>" in second and "<li>as said: yes. 2 &amp; 2.</li>" in second


def test_a_folder_of_a_run_of_other_or_damaged_parameters_is_refused_with_the_difference(values, run):
    run.open_folder()
    Run("09_toy", values | {"out": "elsewhere"}, run.folder)
    with pytest.raises(ValueError, match=r"seeds was \[0\] and is \[0, 1\] now"):
        Run("09_toy", values | {"seeds": [0, 1]}, run.folder)
    for text in ("{", "[]", "3", "{}", '{"parameters": []}'):  # damaged
        (run.folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=re.escape(str(run.folder))):
            Run("09_toy", values, run.folder)


def test_a_cell_that_is_executed_again_counts_once(run):
    for text in ("one", "two"):
        run.table(pd.DataFrame({"a": [text]}), "numbers")
        run.claim("C1", text, [make_part("as said", True, "")])
        run.finding("as before")
    run.complete({})
    entry = json.loads((run.folder / "metrics.json").read_text())
    assert entry["tables"] == ["numbers"]
    assert [finding["text"] for finding in entry["findings"]] == ["two", "as before"]


@pytest.mark.parametrize("kept", ["metrics.json", "name.txt"])
def test_a_kernel_writes_nothing_where_a_finished_run_or_a_commands_lies(kept, values, tmp_path, capsys):
    (tmp_path / kept).touch()
    run = start_run("09_toy", **values | {"out": str(tmp_path)})
    assert run.folder.parent == tmp_path / "home/runs" and "holds another run" in capsys.readouterr().err


def test_a_kernel_goes_on_in_the_folder_of_its_own_run_and_leaves_that_of_another(values, run):
    run.open_folder()
    given = values | {"out": str(run.folder)}
    assert start_run("09_toy", **given).folder == run.folder
    Heartbeat(run.folder.parent)  # a run of this process is another now
    (run.folder / "running.json").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    assert run_state(run.folder) == "running"
    assert start_run("09_toy", **given).folder != run.folder


def test_a_new_run_of_a_kernel_ends_the_one_before(values, run, tmp_path):
    run.open_folder()
    assert run_state(run.folder) == "running"
    Run("09_toy", values, tmp_path / "next").open_folder()
    assert [run_state(folder) for folder in (run.folder, tmp_path / "next")] == ["interrupted", "running"]


def test_two_runs_that_start_in_one_second_or_by_a_clock_set_back_do_not_share_a_folder(values, monkeypatch):
    runs = [Run("09_toy", values, fresh_folder("09_toy").with_name("now")) for _ in range(2)]
    assert runs[0].open_folder() != runs[1].open_folder()
    assert runs[0].id != runs[1].id
    monkeypatch.setattr(time, "strftime", lambda *_: "20200101-000000")
    first = fresh_folder("smoke")
    first.mkdir(parents=True)
    assert fresh_folder("smoke").name == "smoke-20200101-000000-2"


def test_building_keeps_the_names_of_all_needs_with_the_run(run, mini):
    mini.keep()
    other = open_setting("smoke", "mini", ["de", "fr"]).corpus
    other.keep()
    run.build({"first": [mini]})
    run.build([mini, other])
    assert set((run.folder / "needs.txt").read_text().split()) == {mini.name, other.name}


def test_within_a_command_what_was_not_planned_is_refused_and_not_built(run, mini, monkeypatch, toy):
    monkeypatch.setenv("MOME_NOTEBOOK", str(toy))
    with pytest.raises(NotBuilt, match=mini.name):
        run.build([mini])
    assert not mini.is_there


def test_a_run_takes_each_parameter_by_name_and_writes_nothing_yet(toy, enter, tmp_path):
    enter(find_cell(toy, "parameters"))
    values = declared_parameters(toy)
    run = start_run("09_toy", **values | {"x": 4, "out": str(tmp_path / "there")})
    assert run.values["x"] == 4 and run.folder == tmp_path / "there"
    assert start_run("09_toy", **values).folder.parent == tmp_path / "home/runs"
    assert not run.folder.exists() and not (tmp_path / "home").exists()
    with pytest.raises(ValueError, match="'y' is unknown"):
        start_run("09_toy", **values, y=1)
    with pytest.raises(ValueError, match="x='four'"):
        start_run("09_toy", **values | {"x": "four"})


def test_a_copy_of_a_notebook_may_gain_a_parameter_wherever_it_is_executed(enter):
    cell = 'scale = "smoke"\ncorpus = "mini"\nlanguages = ["en"]\nmine = 3\noverrides = {}\nout = ""'
    variables, known = enter(cell), read_kernel()[0]
    assert start_run("03_kd_alpha", **known | {"mine": 5}).values["mine"] == 5
    variables["mine"] = 7  # which its setup cell does not name yet
    given = {name: known[name] for name in known if name != "mine"}
    assert start_run("03_kd_alpha", **given).values["mine"] == 7


def test_of_parameters_the_cells_count_that_were_executed_last(toy, enter):
    cell, injected = find_cell(toy, "parameters"), "# Parameters\nalpah = 0.3\nscale = 'laptop'\n"
    assert read_kernel() == ({}, {})
    enter("import os", "%matplotlib inline", cell, injected)
    assert read_kernel() == (declared_parameters(toy), {"alpah": 0.3, "scale": "laptop"})
    enter(cell, injected, cell.replace("x: int = 1", "x: int = 2"))
    assert read_kernel() == (declared_parameters(toy) | {"x": 2}, {})
