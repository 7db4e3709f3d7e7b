import pytest

from mome.languages import check_languages


def test_a_language_may_be_called_like_a_word_of_python():
    names = ["to", "no", "is", "True", "class", "type", "self", "items"]
    assert check_languages(names) == check_languages(",".join(names)) == names


@pytest.mark.parametrize("name", ["all", "row", "language", "n_bytes"])
def test_a_language_that_would_replace_a_column_of_tables_is_refused(name):
    with pytest.raises(ValueError, match=f"{name!r} otherwise"):
        check_languages(["en", name])
