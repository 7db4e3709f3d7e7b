import pytest

from mome.cli.main import make_parser
from mome.cli.values import read_pairs, read_sweep, read_yaml


@pytest.mark.parametrize("text, value", [
    ("2e-3", 0.002), ("1E5", 1e5), ("-.5e+2", -50.0), ("3.", 3.0), ("-7", -7), ("010", "010"),
    ("1_000", 1000), ("no", "no"), ("y", "y"), ("true", True), ("False", False), ("2026-11-25", "2026-11-25"),
    ("1:30", "1:30"), ("e5", "e5"), ("1e", "1e"), ("0x10", "0x10"), ("null", None), ("~", None),
    ("[a, 1e1, no]", ["a", 10.0, "no"]), ("{no: 2e-3, 'x': \"3\"}", {"no": 0.002, "x": "3"}),
    (".inf", ".inf")])
def test_plain_values_are_read_as_a_person_means_them(text, value):
    read = read_yaml("x", text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", [
    "{", "[0", "&a [*a]", "a: &b [1]\nc: *b", "!!python/object/apply:os.mkdir [hacked]",
    "!!int x", 1000 * "[", "a: 1\na b", "!!int " + 5000 * "9"])
def test_what_is_no_yaml_or_more_than_values_is_refused_by_name(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^thing is not readable as YAML .*"):
        read_yaml("thing", text)
    assert not (tmp_path / "hacked").exists()


def test_pairs_are_read_with_commas_between_lists_in_brackets_and_each_once():
    pairs = ["alpha=0,2e-3", "losses=[forward_kl],[jsd, skew_kl]", "scale=smoke", "overrides={context: 32}"]
    assert read_pairs(pairs, is_grid=True) == {"alpha": [0, 0.002],
                                               "losses": [["forward_kl"], ["jsd", "skew_kl"]],
                                               "scale": ["smoke"], "overrides": [{"context": 32}]}
    assert read_pairs(["second_corpus=", "alphas=[0, 1]", "text=a=b"]) == {"second_corpus": "",
                                                                           "alphas": [0, 1], "text": "a=b"}
    for odd in (["alphas"], ["=3"], ["a b=3"], ["alpha=0", "alpha=1"], ["alpha=[0"]):
        for is_grid in (False, True):
            with pytest.raises(ValueError, match="parameter"):
                read_pairs(odd, is_grid)


def test_a_sweep_file_may_name_a_notebook_by_its_number(tmp_path):
    (tmp_path / "s.yaml").write_text("notebooks: [{notebook: 03, grid: {lr: [2e-3, 1e1]}}]\n"
                                     "parameters: {languages: [no]}")
    assert read_sweep(tmp_path / "s.yaml") == {
        "notebooks": [{"notebook": "03", "grid": {"lr": [0.002, 10.0]}}], "parameters": {"languages": ["no"]}}


@pytest.mark.parametrize("text, words", [
    ("[1, 2]", ["[1, 2]", "mapping of notebooks"]), ("notebooks: []", ["notebooks=[]", "empty"]),
    ("notbooks: []\nnotebooks: [{notebook: '03'}]", ["notbooks="]), ("notebooks: [3]", ["notebook 1", "'3'"]),
    ("notebooks: [{notebook: 3, grid: [1]}]", ["notebook 1: grid=[1]"]),
    ("notebooks: [{grid: {}}]", ["notebook 1", "first"]),
    ("notebooks: [{notebook: 3}, {notebook: '03', needs: ['02']}]",
     ["notebook 2: needs=['02'] is not allowed"]),
    ("notebooks: [", ["YAML"]), ("\x80", ["mapping"])])
def test_a_sweep_file_of_another_form_is_refused_by_name(text, words, tmp_path):
    (tmp_path / "odd.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"odd\.yaml") as error:
        read_sweep(tmp_path / "odd.yaml")
    assert all(word in str(error.value) for word in words), error.value


def test_notebooks_may_be_named_in_several_lists_of_which_none_is_empty(capsys):
    parser = make_parser()
    assert parser.parse_args(["run", "--only", "3, 04", "--only", "x.ipynb"]).only == ["3", "04", "x.ipynb"]
    assert parser.parse_args(["bundle", "class.tar"]).only == []
    for text in ("", " , "):
        with pytest.raises(SystemExit):
            parser.parse_args(["run", "--only", text])
        assert f"{text!r} names no notebook" in capsys.readouterr().err
