import re

import pytest

from mome.languages import CODE_LANGUAGES, check_corpus, check_languages, usual_name


def test_a_language_may_be_called_like_a_word_of_python_and_not_like_a_column_of_tables():
    names = ["to", "no", "is", "True", "class", "type", "self", "items"]
    assert check_languages(names) == check_languages(",".join(names)) == names
    for name in ("all", "row", "language", "n_bytes"):
        with pytest.raises(ValueError, match=f"{name!r} otherwise"):
            check_languages(["en", name])


def test_a_programming_language_has_one_name_whatever_its_folder_is_called():
    names = {"Python": "py", "PY": "py", "JavaScript": "js", "sh": "bash", "C++": "cpp", "C#": "csharp",
             "golang": "go", "C": "c", "pt_BR": "pt-br", "cs": "cs", "pl": "pl"}
    assert {name: usual_name(name) for name in names} == names
    assert all(usual_name(language) == language for language in CODE_LANGUAGES)
    for name, known in {"python": "py", "PY": "py", "c++": "cpp"}.items():
        with pytest.raises(ValueError, match=re.escape(f"{name!r} is called {known!r} here")):
            check_languages(["en", name])
    with pytest.raises(ValueError, match="repeats a language"):
        check_languages(["pt-br", "pt_BR"])


def test_a_folder_that_is_not_there_is_nobodys_or_cannot_be_spelt_is_refused_by_name(tmp_path):
    names = ["/no/such", "~nobody-of-that-name/h", "x" * 5_000, "\udce9", "a\0b", "", "PATH", str(tmp_path)]
    for name in names:
        with pytest.raises(ValueError, match=r"^corpus='folder:") as error:
            check_corpus(f"folder:{name}")
        str(error.value).encode()
