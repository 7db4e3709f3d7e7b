"""Fixtures of several files: the documents of mini, read without `corpora`, and a data set packed of them."""

import pandas as pd
import pytest

from mome.config import repository
from mome.data.packing import PackedData, build_dataset


@pytest.fixture(scope="session")
def documents() -> pd.DataFrame:
    """The texts of mini in three natural languages and Python: 64 of each."""
    rows = [(language, path.name if language == "py" else path.stem, path.read_text(encoding="utf-8"))
            for language in ("en", "fr", "de", "py")
            for path in sorted((repository() / "data" / "mini" / language).iterdir())]
    return pd.DataFrame(rows, columns=["language", "article_id", "text"])


@pytest.fixture(scope="session")
def sizes() -> dict:
    return {"vocab_size": 600, "context": 32, "tokens_per_language": 15_000, "max_diff_percent": 5.0,
            "validation_fraction": 0.06, "test_fraction": 0.06, "held_out_tokens": 1_000, "split_seed": 42}


@pytest.fixture(scope="session")
def built(documents, sizes, tmp_path_factory):
    """The folder of a data set of `documents`, and its notes."""
    folder = tmp_path_factory.mktemp("data")
    return folder, build_dataset(documents, folder, **sizes)


@pytest.fixture(scope="session")
def packed(built) -> PackedData:
    return PackedData(built[0])
