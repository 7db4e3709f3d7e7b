"""Fixtures shared by several files: a tiny bench on the mini corpus, built once a session in a folder of its own."""

import os

import pytest
import torch

torch.set_num_threads(1)  # equal results run to run, and no fight over cores with a kernel under test
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TINY = {"vocab_size": 600, "context": 32, "tokens_per_language": 8_000, "teacher": {"n_layer": 1, "n_embd": 32}, "student": {"n_layer": 1, "n_embd": 16},
        "expert": {"n_layer": 1, "n_embd": 16}, "teacher_tokens": 16_000, "student_tokens": 2_048, "evaluation_rows": 12, "evaluations": 2,
        "router_rows": 100, "targets_per_token": 8}


def pytest_collection_modifyitems(items):
    """Put the files that take longest first, so that of two processes none ends long after the other."""
    longest = ["test_notebooks", "test_modular", "test_continual"]
    items.sort(key=lambda item: longest.index(item.path.stem) if item.path.stem in longest else len(longest))


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory):
    """A folder of its own as MOME_HOME for the whole session, so that no test writes into the checkout."""
    folder = tmp_path_factory.mktemp("mome-home")
    before = os.environ.get("MOME_HOME")
    os.environ["MOME_HOME"] = str(folder)
    yield folder
    os.environ.pop("MOME_HOME") if before is None else os.environ.update(MOME_HOME=before)


@pytest.fixture(scope="session")
def tiny_bench(tiny_home):
    from mome import recipes
    from mome.config import resolve_scale

    return recipes.open_bench(resolve_scale("smoke", TINY), "mini", ["en", "fr", "de", "py"])


@pytest.fixture
def assert_refused():
    """A check that a call raises ValueError with every one of the words, and that nothing was built."""
    def check(bench, call, words):
        before = set(bench.data_path.parent.iterdir())
        with pytest.raises(ValueError) as error:
            call(bench)
        assert all(word in str(error.value) for word in words)
        assert set(bench.data_path.parent.iterdir()) == before

    return check
