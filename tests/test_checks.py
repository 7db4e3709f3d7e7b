import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from mome import store
from mome.checks import check_range, check_writable, describe_error, is_sentence
from mome.languages import check_languages
from mome.progress import Progress
from mome.recipes.data import Corpus
from mome.scales import resolve_scale


def catch(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error


@pytest.mark.parametrize("call, arguments", [
    (resolve_scale, ["huge"]), (check_languages, [[]]), (check_range, ["x", 2, 0, 1]),
    (store.find, ["teacher-0123456789ab"]), (Corpus, ["mini", ["en", "en"]]), (store.read_json, [__file__])])
def test_what_a_raise_of_our_own_code_says_is_a_sentence_also_of_a_helper(call, arguments):
    error = catch(call, *arguments)
    assert is_sentence(error) and describe_error(error) == str(error)


@pytest.mark.parametrize("call, arguments", [
    (json.loads, ["{"]), (store.content_hash, [math.nan]), (store.write_json, [Path("x"), {1: object()}]),
    (check_range, ["x", 1, "low"]), (Corpus, [])])
def test_an_error_of_a_library_or_of_a_slip_in_our_code_is_told_with_its_type_and_place(call, arguments):
    error = catch(call, *arguments)
    assert not is_sentence(error)
    assert describe_error(error).startswith(f"{type(error).__name__}: ") and ".py:" in describe_error(error)


def test_an_error_that_nobody_raised_yet_and_one_whose_file_is_gone(tmp_path, monkeypatch):
    assert not is_sentence(ValueError("x")) and describe_error(ValueError("x")) == "ValueError: x"
    (tmp_path / "own.py").write_text("def refuse():\n    raise ValueError(\n        'a sentence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("mome.checks.OWN_FOLDER", tmp_path)
    own = __import__("own")
    (tmp_path / "own.py").unlink()
    assert is_sentence(catch(own.refuse))
    del sys.modules["own"]


def test_a_folder_that_can_be_written_is_there_or_can_be_made_and_checking_makes_none(tmp_path):
    check_writable("out", tmp_path)
    check_writable("out", tmp_path / "new/below")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    for place, words in ((tmp_path / "file/x", "file is a file, give a folder"),
                         ("/proc/x", "cannot be written")):
        with pytest.raises(ValueError, match=f"out='.*x' .*{words}"):
            check_writable("out", place)


def test_json_holds_no_nan_nor_infinity_at_any_depth(tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    odd = {"a": [math.nan, {"b": -math.inf}], "c": np.float32("nan"), "d": np.int64(3)}
    store.write_json(tmp_path / "x.json", odd)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"a": [None, {"b": None}], "c": None, "d": 3}


def test_a_bar_is_text_also_in_jupyterlab(monkeypatch):
    monkeypatch.delenv("MOME_BATCH", raising=False)
    shown = Progress("rows", 3)
    assert type(shown.bar).__module__ == "tqdm.std"
    shown.bar.close()
