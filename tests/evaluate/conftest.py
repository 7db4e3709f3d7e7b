"""A small packed data set of made-up words, built once."""

import numpy as np
import pandas as pd
import pytest
import torch

from mome.data.packing import PackedData, build_dataset

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> PackedData:
    rng, rows = np.random.default_rng(0), []
    for language, letters in (("en", "abcd"), ("fr", "éfgh"), ("py", "xyz_")):
        words = ["".join(rng.choice(list(letters), 5)) for _ in range(200)]
        kind = "code" if language == "py" else "page"
        texts = ["\n".join(" ".join(rng.choice(words, 12)) for _ in range(6)) for _ in range(24)]
        rows += [{"language": language, "article_id": f"{kind} {number}", "text": text}
                 for number, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("packed")
    build_dataset(pd.DataFrame(rows), folder, vocab_size=300, context=32, tokens_per_language=3_000,
                  max_diff_percent=20, validation_fraction=0.25, test_fraction=0.25,
                  held_out_tokens=10_000, split_seed=0)
    return PackedData(folder)
