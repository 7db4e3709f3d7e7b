import subprocess
import sys

import pytest
from cases import each

from mome.recipe import collect
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters

CORPUS = """from mome.recipes.setting import open_setting
setting = open_setting(scale, corpus, languages, overrides)
needs = {"text": setting.corpus, "nothing": None}
"""


def test_the_cell_sees_the_values_given_keeps_its_changes_and_no_other_cell_is_run(make_toy):
    path = make_toy(needs=CORPUS, cells=("raise SystemExit",))
    needs = read_needs(path, check_parameters(path, {"languages": ["en", "es"]}))
    assert needs["text"].languages == ("en", "es")
    assert [recipe.kind() for recipe in collect(needs)] == ["corpus"]
    path = make_toy(needs="languages.append('xx')\nneeds = []")
    values = check_parameters(path, {})
    read_needs(path, values)
    assert values == check_parameters(path, {})


@each("cell, words", [
    (None, ["no cell tagged 'needs'", "[]"]),
    ("x = 1\nneeds = undefined", ["line 2", "NameError", "undefined"]),
    ("needs = [", ["SyntaxError"]), ("pass", ["KeyError: 'needs'"]), ("needs = [3]", ["3", "no recipe"]),
    (CORPUS.replace("languages,", "['en', 'xx'],"), ["line 2", "languages='xx'", "en, fr"])])
def test_a_cell_that_is_missing_or_fails_is_named_with_the_cause(cell, words, make_toy):
    path = make_toy(needs=cell)
    with pytest.raises(ValueError, match="09_toy") as error:
        read_needs(path, check_parameters(path, {}))
    assert all(word in str(error.value) for word in words), error.value


def test_a_plan_loads_no_torch_and_builds_nothing(tmp_path):
    code = ("import sys; from mome.cli.main import main; code = main(sys.argv[1:]); "
            "print(sorted({'torch', 'transformers', 'papermill', 'distributed'} & {*sys.modules})); "
            "sys.exit(code)")
    words = ["plan", "rates", "--scale", "smoke", "--corpus", "mini"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 there, ")
    assert "critical path" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "home").exists()
