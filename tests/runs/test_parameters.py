import json

import pytest
from cases import each

from mome.runs.parameters import check_parameters, declared_parameters, hash_code


def test_a_notebooks_parameters_are_read_as_literals_never_run_and_what_is_no_notebook_is_refused(tmp_path):
    path = tmp_path / "09_evil.ipynb"
    for source in (f"x = __import__('os').mkdir({str(tmp_path / 'exploded')!r})", "x = [", "x = y",
                   "x = {[]: 1}"):
        cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}
        path.write_text(json.dumps({"cells": [cell]}))
        with pytest.raises(ValueError, match="09_evil"):
            declared_parameters(path)
    assert not (tmp_path / "exploded").exists()
    for content in (b"\x80\x04", b"{", b"[]", b'{"cells": 3}', b'{"cells": []}',
                    b'{"cells": [{"source": "x"}]}'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="09_evil"):
            declared_parameters(path)


@each("given, words", [
    ({"alpah": 1}, ["'alpah'", "09_toy", "alphas"]), ({"x": "2"}, ["x='2'", "whole number"]),
    ({"x": True}, ["x=True"]), ({"x": 1.5}, ["x=1.5"]), ({"switch": 1}, ["switch=1", "True or False"]),
    ({"alphas": 0.5}, ["alphas=0.5", "list"]), ({"alphas": ["a"]}, ["alphas='a'"]),
    ({"alphas": [float("nan")]}, ["alphas=nan", "finite"]),
    ({"scale": "huge"}, ["scale='huge'", "smoke, laptop"]),
    ({"overrides": {"widht": 3}}, ["'widht'", "vocab_size"]),
    ({"overrides": {"vocab_size": 10}}, ["vocab_size=10"]),
    ({"languages": "en"}, ["languages='en'", "list"]),
    ({"seeds": [-1]}, ["seeds=-1"]), ({"seeds": [0, 0]}, ["repeats"]), ({"seeds": []}, ["seeds=[]"])])
def test_what_no_notebook_allows_is_refused_by_name_and_value(given, words, toy):
    with pytest.raises(ValueError) as error:
        check_parameters(toy, given)
    assert all(word in str(error.value) for word in words), error.value


def test_values_take_the_place_of_defaults_in_their_types_and_a_notebook_has_those_that_all_have(
        toy, make_toy):
    values = check_parameters(toy, {"alphas": [0, 1], "x": 3, "languages": ["en", "ja"]})
    assert values["alphas"] == [0.0, 1.0] and all(type(alpha) is float for alpha in values["alphas"])
    assert (values["x"], values["act"], values["languages"]) == (3, "work", ["en", "ja"])
    assert list(values) == list(declared_parameters(toy))
    with pytest.raises(ValueError, match=r"no parameter 'corpus'.*scale, corpus"):
        check_parameters(make_toy(parameters='scale = "smoke"\nlanguages = ["en"]\noverrides = {}\nout = ""'),
                         {})


def test_the_hash_of_a_notebook_is_that_of_what_it_does(make_toy):
    before = hash_code(make_toy())
    assert hash_code(make_toy(parameters="scale = 'laptop'")) == before
    assert hash_code(make_toy(needs="needs = [1]")) != before
    assert hash_code(make_toy(cells=("pass",))) != before
