"""Small packed data sets of the mini corpus, and the routers fitted on them."""

import numpy as np
import pandas as pd
import pytest
import torch

from mome.data.corpora import read_documents
from mome.data.packing import PackedData, build_dataset
from mome.data.tokenizer import train_tokenizer
from mome.router.affine import Router
from mome.router.fit import fit_affine

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """Return a function that packs texts of the mini corpus: 700 tokens, rows of 64."""
    def build(languages: list[str], **changed) -> PackedData:
        folder = tmp_path_factory.mktemp("data")
        sizes = {"vocab_size": 700, "context": 64, "tokens_per_language": 15_000, "max_diff_percent": 5.0,
                 "validation_fraction": 0.06, "test_fraction": 0.06, "held_out_tokens": 10_000,
                 "split_seed": 42, **changed}
        build_dataset(pd.DataFrame(read_documents("mini", languages, 1, True, folder)), folder, **sizes)
        return PackedData(folder)

    return build


@pytest.fixture(scope="session")
def data(pack) -> PackedData:
    return pack(["en", "fr", "de", "py"])


@pytest.fixture(scope="session")
def fitted(data):
    return fit_affine(data, 100)


@pytest.fixture(scope="session")
def router(fitted) -> Router:
    return fitted[0]


@pytest.fixture(scope="session")
def two(pack):
    """Data of two languages, its router and the pipeline that it equals."""
    data = pack(["en", "fr"])
    return data, *fit_affine(data, 100)


@pytest.fixture(scope="session")
def other_tokenizer():
    return train_tokenizer(["another text altogether, said twice: another text altogether"], 300, exact=False)


@pytest.fixture(scope="session")
def ids():
    """Return a function that makes rows a tensor of ids."""
    return lambda rows: torch.from_numpy(np.asarray(rows).astype(np.int64))


@pytest.fixture(scope="session")
def assert_near():
    def check(actual, expected, atol: float) -> None:
        pair = [torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected)]
        torch.testing.assert_close(*pair, atol=atol, rtol=0)

    return check
