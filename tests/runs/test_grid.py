import json

import pytest

from mome.recipes import setting
from mome.runs import grid
from mome.runs.grid import find_notebook, plan_run, plan_sweep


def sweep(path, out, **values):
    return plan_sweep({"notebooks": [{"notebook": str(path), "grid": values}]}, out)


def test_a_grid_is_the_product_of_its_values_and_each_run_has_a_folder_of_its_own(toy, tmp_path):
    runs = sweep(toy, tmp_path, x=[1, 2], seed=[0, 1, 2], act=["work"])
    values = [json.loads(run.parameters) for run in runs]
    assert [(value["x"], value["seeds"]) for value in values] == [(x, [seed]) for x in (1, 2)
                                                                  for seed in (0, 1, 2)]
    assert len({run.folder for run in runs}) == len({run.name for run in runs}) == 6
    assert runs[0].title == "notebook 09_toy x=1 seeds=[0]"
    assert all(run.folder.parent == tmp_path for run in runs)


def test_equal_values_are_one_run_in_whatever_form_they_are_written_and_other_code_another(toy, tmp_path):
    assert len(sweep(toy, tmp_path, alpha=[0, 0.0])) == 1
    default = sweep(toy, tmp_path)[0]
    assert sweep(toy, tmp_path, seed=[0])[0].folder == sweep(toy, tmp_path, alphas=[[0.5]],
                                                             x=[1])[0].folder == default.folder
    assert sweep(toy, tmp_path, x=[2])[0].folder != default.folder
    before = sweep(toy, tmp_path)[0]
    toy.write_text(toy.read_text().replace("x * x", "x + x"))
    after = sweep(toy, tmp_path)[0]
    assert before.folder != after.folder and before.name != after.name


def test_the_same_plan_finds_the_same_folder_without_being_told(toy):
    def root(**values):
        return sweep(toy, "", **values)[0].folder.parent

    assert root(x=[1, 2]) == root(x=[2, 1]) != root(x=[1, 3])


def test_what_a_notebook_needs_are_the_parents_of_its_run(make_toy, tmp_path):
    path = make_toy(needs="from mome.recipes.setting import open_setting\n"
                          "needs = {'text': open_setting(scale, corpus, languages, overrides).corpus}")
    one, two = sweep(path, tmp_path, languages=[["en"], ["en", "fr"]])
    assert [parent.languages for run in (one, two) for parent in run.parents().values()] == [("en",),
                                                                                             ("en", "fr")]


def test_auto_is_found_once_a_command_and_handed_on_by_its_full_name(make_toy, tmp_path, monkeypatch, capsys):
    asked = []

    def open_setting(scale, corpus, *rest):
        asked.append(corpus)
        return setting.open_setting(scale, "mini" if corpus == "auto" else corpus, *rest)

    monkeypatch.setattr(grid, "open_setting", open_setting)
    runs = sweep(make_toy(parameters=open_parameters("auto")), tmp_path, x=[1, 2])
    assert asked == ["auto"]
    assert [json.loads(run.parameters)["corpus"] for run in runs] == ["mini", "mini"]
    assert "corpus mini: chosen by name" in capsys.readouterr().err


def open_parameters(corpus):
    return f'scale = "smoke"\ncorpus = "{corpus}"\nlanguages = ["en"]\nx = 1\noverrides = {{}}\nout = ""'


@pytest.mark.parametrize("entry, words", [
    ({"grid": {"alhpa": [0]}}, ["'alhpa'", "alphas"]), ({"grid": {"alphas": [0.5]}}, ["alphas=0.5", "list"]),
    ({"grid": {"alpha": [0], "alphas": [[1.0]]}}, ["'alphas'", "twice"]),
    ({"grid": {"out": ["here"]}}, ["'out'", "--out"]),
    ({"grid": {"x": 3}}, ["x=3", "list of values"]), ({"grid": {"x": []}}, ["x=[]", "list of values"]),
    ({"parameters": {"x": 1}, "grid": {"x": [1, 2]}}, ["x=[1, 2]", "no single value"]),
    ({"parameters": {"alpha": 1.0}, "grid": {"alphas": [[0.5]]}}, ["'alphas'", "twice"]),
    ({"grid": {"languages": [["en", "xx"]]}}, ["'xx'", "en, fr"]),
    ({"parameters": {"corpus": "wikipedia"}}, ["corpus='wikipedia'", "wiki40b"]),
    ({"parameters": {"overrides": {"shares": {"en": 1}}}}, ["shares=", "en, fr, de, py"]),
    ({"grid": {"x": [1, "two"]}}, ["x='two'"])])
def test_what_a_sweep_does_not_allow_is_refused_before_anything_is_planned(entry, words, toy, tmp_path,
                                                                           monkeypatch):
    monkeypatch.setattr(grid, "make_run", None)
    with pytest.raises(ValueError) as error:
        plan_sweep({"notebooks": [{"notebook": str(toy), **entry}]}, tmp_path)
    assert all(word in str(error.value) for word in words), error.value


def test_parameters_of_a_sweep_reach_the_notebooks_that_have_them_and_one_must(make_toy, tmp_path):
    first, second = make_toy(name="08_first",
                             parameters=open_parameters("mini") + "\ny = 1"), make_toy(name="07_second")
    spec = {"notebooks": [{"notebook": str(first)}, {"notebook": str(second)}],
            "parameters": {"y": 2, "seed": 3}}
    one, two = (json.loads(run.parameters) for run in plan_sweep(spec, tmp_path))
    assert one["y"] == 2 and "seeds" not in one and two["seeds"] == [3] and "y" not in two
    with pytest.raises(ValueError, match="'temprature' is unknown"):
        plan_sweep({**spec, "parameters": {"temprature": 1}}, tmp_path)


@pytest.fixture
def workbook(make_toy, tmp_path, monkeypatch):
    """A workbook of two notebooks with numbers and one without."""
    (tmp_path / "notebooks").mkdir()
    for name in ("03_kd_alpha", "04_moe", "rates"):
        make_toy(name=name).rename(tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr("mome.config.notebooks_dir", lambda: tmp_path / "notebooks")
    return tmp_path / "notebooks"


def test_a_notebook_is_found_by_number_name_or_path_and_else_refused_with_those_that_are_there(workbook):
    path = workbook / "03_kd_alpha.ipynb"
    assert [find_notebook(name) for name in ("3", "03", "03_kd", "03_kd_alpha", str(path))] == [path] * 5
    for name in ("0", "9", "", "0x", "nowhere.ipynb", "3 4"):
        with pytest.raises(ValueError, match=rf"notebook='{name}' does not.*03_kd_alpha, 04_moe, rates"):
            find_notebook(name)
    path.rename(workbook / "rates_of_all.ipynb")
    with pytest.raises(ValueError, match="notebook='rate' is several"):
        find_notebook("rate")


def test_a_run_is_each_notebook_chosen_or_all_with_a_number_in_a_folder_of_its_name(workbook, tmp_path):
    assert [run.folder for run in plan_run(["rates"], {}, tmp_path)] == [tmp_path / "rates"]
    assert [run.folder for run in plan_run([], {}, tmp_path / "out")] == [tmp_path / "out/03_kd_alpha",
                                                                          tmp_path / "out/04_moe"]
    runs = plan_run(["4", "04_moe"], {"x": 5}, tmp_path / "out")
    assert [(run.notebook, json.loads(run.parameters)["x"]) for run in runs] == [("04_moe", 5)]
    assert json.loads(plan_run(["4"], {"alpha": 0}, tmp_path / "out")[0].parameters)["alphas"] == [0.0]
    for parameters, words in (({"alpah": 1}, "unknown to the notebooks chosen; they have: act, alphas"),
                              ({"out": "here"}, "give --out for its folder")):
        with pytest.raises(ValueError, match=words):
            plan_run([], parameters, tmp_path / "out")


def test_a_folder_that_holds_another_run_and_two_notebooks_of_one_name_are_refused_when_planned(
        workbook, make_toy, tmp_path):
    copy = make_toy(name="04_moe")
    with pytest.raises(ValueError, match="two notebooks of one name"):
        plan_run(["4", str(copy)], {}, tmp_path / "out")
    folder = plan_run(["3"], {"x": 1}, tmp_path / "out")[0].folder
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"parameters": json.loads(plan_run(["3"], {"x": 1},
                                                                                      tmp_path)[0].parameters)}))
    plan_run(["3"], {"x": 1}, tmp_path / "out")
    with pytest.raises(ValueError, match="x was 1 and is 2 now"):
        plan_run(["3"], {"x": 2}, tmp_path / "out")


def test_equal_overrides_are_one_run_whatever_type_their_numbers_have(toy, tmp_path):
    texts = ({"batch_size": 8, "muon_lr": 1, "shares": {"en": 1, "fr": 2}, "betas": [0, 0.9]},
             {"muon_lr": 1.0, "batch_size": 8.0, "shares": {"fr": 2.0, "en": 1.0}, "betas": (0.0, 0.9)})
    grid = {"overrides": list(texts), "alpha": [0, 0.0, -0.0]}
    spec = {"notebooks": [{"notebook": str(toy), "grid": grid}],
            "parameters": {"languages": ["en", "fr"]}}
    assert len(plan_sweep(spec, tmp_path)) == 1
