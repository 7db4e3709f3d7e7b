"""Scores of a model on packed rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from mome.evaluate.scores import score_rows, summarize


@pytest.fixture(scope="session")
def bigram(packed):
    """A model that reads one token: logits (V, V) drawn at random."""
    size = len(packed.tokenizer)
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


def test_a_summary_is_weighted_by_tokens_and_bytes_and_a_uniform_model_scores_the_log_of_its_vocabulary(
        packed):
    table = pd.DataFrame({"language": ["en", "fr", "en"], "nats": [10.0, 20.0, 90.0],
                          "n_tokens": [10, 10, 30], "n_bytes": [40, 40, 10]})
    summary = summarize(table).set_index("language")
    assert summary.index.tolist() == ["en", "fr"]
    assert summary.nats_per_token.to_dict() == pytest.approx({"en": 2.5, "fr": 2.0})
    assert summary.perplexity["en"] == pytest.approx(np.exp(2.5))
    assert summary.bits_per_byte["en"] == pytest.approx(100 / np.log(2) / 50)
    size = len(packed.tokenizer)
    summary = summarize(score_rows(lambda batch: torch.zeros(*batch["input_ids"].shape, size), packed))
    assert summary.language.tolist() == packed.languages
    assert summary.nats_per_token.tolist() == pytest.approx([np.log(size)] * len(packed.languages))


def test_every_row_has_the_nats_tokens_bytes_and_article_of_its_own_targets(packed, bigram):
    languages = ["py", "en"]
    table = score_rows(lambda batch: bigram[batch["input_ids"]], packed, split="test", languages=languages)
    numbers = np.concatenate([packed.row_numbers("test", language) for language in languages])
    rows = torch.from_numpy(packed.rows("test")[numbers].astype(np.int64))
    log_probs = bigram.log_softmax(-1)
    np.testing.assert_allclose(table.nats, -log_probs[rows[:, :-1], rows[:, 1:]].sum(1), rtol=1e-5)
    assert list(table) == ["language", "article_id", "nats", "n_tokens", "n_bytes"]
    assert table.language.tolist() == packed.dataset["test"].select(numbers)["language"][:]
    assert table.article_id.tolist() == packed.dataset["test"].select(numbers)["article_id"][:]
    assert (table.n_tokens == packed.rows("test").shape[1] - 1).all()
    texts = [packed.tokenizer.decode(row[1:], skip_special_tokens=True) for row in rows]
    assert table.n_bytes.tolist() == [len(text.encode()) for text in texts]


def test_the_batch_size_cuts_the_work_and_changes_no_score_and_no_gradients_are_kept(packed, bigram):
    weight, seen, tracked = torch.nn.Parameter(bigram), [], []

    def forward(batch):
        seen.append(packed.language_index("validation")[batch["row_numbers"]])
        logits = weight[batch["input_ids"]]
        tracked.append(logits.requires_grad)
        return logits

    small = score_rows(forward, packed, batch_size=3, rows_per_language=7)
    assert [len(part) for part in seen] == [3, 3, 1] * len(packed.languages)
    assert all(len(set(part)) == 1 for part in seen)
    pd.testing.assert_frame_equal(small, score_rows(forward, packed, rows_per_language=7))
    assert not any(tracked)


def test_a_forward_may_name_several_logits_of_a_batch(packed, bigram):
    def forward(batch):
        yield "first", bigram[batch["input_ids"]]
        yield "second", 2 * bigram[batch["input_ids"]]

    def score(forward):
        return score_rows(forward, packed, rows_per_language=5)

    both = score(forward)
    for name, table in (("first", bigram), ("second", 2 * bigram)):
        alone = score(lambda batch, table=table: table[batch["input_ids"]])
        pd.testing.assert_series_equal(both[name], alone.nats, check_names=False)
