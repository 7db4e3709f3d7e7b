"""Scores of a model on packed rows: nats per token, perplexity, bits per byte."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from mome.data.packing import PackedData
from mome.train.batches import make_batch

LOGITS = 2**22  # of a batch on a CPU: 16 megabytes, which its cache holds; a GPU gets 32 times that


@torch.inference_mode()
def score_rows(forward: Callable[[dict], torch.Tensor | Iterable], data: PackedData, *,
               split: str = "validation", rows_per_language: int | None = None,
               languages: list[str] | None = None, batch_size: int | None = None,
               device="cpu") -> pd.DataFrame:
    """Return one line per sequence: language, article_id, nats (summed), n_tokens, n_bytes of targets.

    `forward(batch)` gives logits (B, T, V) of a batch of one language: `input_ids`, `labels`, `row_numbers`;
    or pairs of a name and logits, and the table has their nats by these names.
    """
    nats, rows, languages = defaultdict(list), data.rows(split), languages or data.languages
    numbers = [data.row_numbers(split, language, rows_per_language) for language in languages]
    room = LOGITS * (1 if torch.device(device).type == "cpu" else 32)
    batch_size = batch_size or max(1, room // (rows.shape[1] * len(data.tokenizer)))
    for part in numbers:
        for at in range(0, len(part), batch_size):
            batch = make_batch(rows, part[at:at + batch_size], device)
            found = forward(batch)
            for name, logits in [("nats", found)] if isinstance(found, torch.Tensor) else found:
                nats[name].append(row_nats(logits, batch["labels"]))
    every = np.concatenate(numbers)
    targets = rows[every, 1:]  # packed rows have no padding: every token but the first is one
    return pd.DataFrame({"language": np.repeat(np.array(languages, dtype=object), list(map(len, numbers))),
                         "article_id": data.article_ids(split)[every],
                         **{name: torch.cat(parts).cpu().double().numpy() for name, parts in nats.items()},
                         "n_tokens": targets.shape[1], "n_bytes": data.token_bytes[targets].sum(1)})


def row_nats(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the nats (B,) of each row, summed over its targets; logits (B, T, V), labels (B, T)."""
    loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    return loss.view(labels.shape).sum(1)


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one line per language: nats_per_token, perplexity (its exp), bits_per_byte of all its text."""
    sums = scores.groupby("language", sort=False)[["nats", "n_tokens", "n_bytes"]].sum()
    nats = sums.nats / sums.n_tokens
    return pd.DataFrame({"nats_per_token": nats, "perplexity": np.exp(nats),
                         "bits_per_byte": sums.nats / np.log(2) / sums.n_bytes}).reset_index()
