import pytest

from mome.languages import check_languages


def test_a_language_may_be_called_like_a_word_of_python_and_not_like_a_column_of_tables():
    names = ["to", "no", "is", "True", "class", "type", "self", "items"]
    assert check_languages(names) == check_languages(",".join(names)) == names
    for name in ("all", "row", "language", "n_bytes"):
        with pytest.raises(ValueError, match=f"{name!r} otherwise"):
            check_languages(["en", name])
