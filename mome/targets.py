"""The teacher's targets, worked out once and read by every student: what is listed of each distribution, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mome.artifacts import progress, read_json, write_json
from mome.config import check_choice, check_range
from mome.distill import IGNORED, combined_loss

ROWS_PER_FILE = 4_096
# How the teacher's mass beyond the listed tokens is kept: by draws that share it, as one event, or not at all.
TAILS = ("drawn", "lumped", "dropped")


@torch.inference_mode()
def cache_targets(teacher, rows: np.ndarray, row_numbers: np.ndarray, k: int, folder: Path, *, tail: str = "drawn", identity: Mapping[str, str] | None = None,
                  micro_batch_size: int = 32) -> dict:
    """Write k of the teacher's targets per position of the given rows under `folder`; return sizes and the listed mass.

    See `list_targets` for what is listed. Per token 2 k bytes of uint16 ids, 2 k of float16 weights, 2 of tail mass and 2 of
    entropy in nats, in safetensors files of 4,096 rows. `identity` says what they were made from; `CachedTargets` asks for it.
    """
    device, mass = next(teacher.parameters()).device, []
    teacher.eval()
    with progress("cache teacher targets", len(row_numbers)) as bar:
        for part, start in enumerate(range(0, len(row_numbers), ROWS_PER_FILE)):
            pieces, numbers = [], row_numbers[start:start + ROWS_PER_FILE]
            generator = torch.Generator(device).manual_seed(part)
            for at in range(0, len(numbers), micro_batch_size):
                batch = torch.from_numpy(rows[numbers[at:at + micro_batch_size]].astype(np.int64)).to(device)
                logits = teacher(input_ids=batch).logits.float()
                found = list_targets(logits, k, tail, generator)
                mass.append(found["weights"][..., :count_top(k, tail)].float().sum(-1).mean().item())
                pieces.append({"ids": found["ids"].to(torch.uint16), **{name: found[name].half() for name in ("weights", "tail", "entropy")}})
                bar.update(n=len(batch))
            save_file({name: torch.cat([piece[name] for piece in pieces]).cpu() for name in pieces[0]}, folder / f"targets-{part:05d}.safetensors")
    write_json(folder / "targets.json", {"identity": dict(identity or {}), "k": k, "tail": tail, "vocab_size": logits.shape[-1],
                                         "rows": [int(number) for number in row_numbers]})
    return {"rows": len(row_numbers), "k": k, "bytes_per_token": 4 * k + 4, "top_probability": round(float(np.mean(mass)), 4)}


def count_top(k: int, tail: str) -> int:
    """Return how many of k listed tokens are the teacher's most probable ones; the rest are draws."""
    return (k + 1) // 2 if tail == "drawn" else k


def list_targets(logits: torch.Tensor, k: int, tail: str, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
    """Return {"ids", "weights" (B, T, k), "tail", "entropy" (B, T)} of a teacher's logits (B, T, V).

    drawn: half are the most probable tokens with their probabilities, half are draws with replacement from the rest, sharing
    its mass: sum w log q is unbiased for the teacher's expectation (arXiv:2503.16870). lumped: the k most probable tokens and
    one event for the rest, of mass "tail": KL over k + 1 events, a lower bound of the full KL. dropped: the k most probable
    tokens, scaled to 1: the bias that the other two avoid. "entropy" is that of the events listed; of all tokens when drawn.
    Raises ValueError for an unknown tail or k outside [2, V].
    """
    check_choice("tail", tail, TAILS)
    check_range("k", k, 2, logits.shape[-1], whole=True)
    if logits.shape[-1] > 65_536:
        raise ValueError(f"vocabulary of {logits.shape[-1]} is not allowed; cached ids take two bytes, at most 65536 tokens")
    log_probs = F.log_softmax(logits, dim=-1)
    probs, n_top = log_probs.exp(), count_top(k, tail)
    weights, ids = probs.topk(n_top, dim=-1)
    rest = (1 - weights.sum(-1)).clamp_min(0)
    if tail == "lumped":
        return {"ids": ids, "weights": weights, "tail": rest, "entropy": -(weights.xlogy(weights).sum(-1) + rest.xlogy(rest))}
    if tail == "dropped":
        weights = weights / weights.sum(-1, keepdim=True)
        return {"ids": ids, "weights": weights, "tail": torch.zeros_like(rest), "entropy": -weights.xlogy(weights).sum(-1)}
    others, n_drawn = probs.scatter(-1, ids, 0.0), k - n_top
    # The floor keeps a row drawable whose rest rounds to nothing; its draws then weigh nothing.
    drawn = torch.multinomial(others.flatten(0, 1).clamp_min(1e-20), n_drawn, replacement=True, generator=generator).view(*ids.shape[:2], n_drawn)
    # A token drawn n times carries n shares at its first place and none at the others, so that no listed weight hides in another.
    is_same = drawn.unsqueeze(-1) == drawn.unsqueeze(-2)
    n_times = is_same.sum(-1) * (is_same.tril(-1).sum(-1) == 0)
    share = others.sum(-1, keepdim=True) / n_drawn * n_times
    return {"ids": torch.cat([ids, drawn], dim=-1), "weights": torch.cat([weights, share], dim=-1), "tail": torch.zeros_like(rest),
            "entropy": -(probs * log_probs).sum(dim=-1)}


class CachedTargets:
    """The teacher's cached targets in memory-mapped files, looked up by row number of the training split."""

    def __init__(self, folder: Path, identity: Mapping[str, str] | None = None):
        """Raise ValueError where `identity` (teacher, tokenizer, data) is not the cache's, or a file is missing, cut short or damaged."""
        self.folder = Path(folder)
        path = self.folder / "targets.json"
        header = read_json(path) if path.exists() else None
        if not isinstance(header, dict) or not {"identity", "k", "tail", "vocab_size", "rows"} <= set(header):
            raise ValueError(f"cached targets {path} is missing or damaged; delete {self.folder} to build them again")
        for name, value in (identity or {}).items():
            if header["identity"].get(name) != value:
                raise ValueError(f"cached targets {self.folder} belong to another {name}: made from {header['identity'].get(name)}, asked for {value}")
        self.k, self.tail, self.vocab_size = header["k"], header["tail"], header["vocab_size"]
        self.position = {number: place for place, number in enumerate(header["rows"])}
        n_files = -(-len(self.position) // ROWS_PER_FILE)
        self.parts = [self.map_file(number) for number in range(n_files)]

    def map_file(self, part: int) -> dict[str, torch.Tensor]:
        path = self.folder / f"targets-{part:05d}.safetensors"
        n_rows = min(ROWS_PER_FILE, len(self.position) - part * ROWS_PER_FILE)
        try:
            with safe_open(path, framework="pt") as file:
                # Views of the mapped file: nothing is read before it is used.
                tensors = {name: file.get_tensor(name) for name in ("ids", "weights", "tail", "entropy")}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"cached targets {path} are damaged ({error}); delete {self.folder} to build them again") from None
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if any(shape[0] != n_rows for shape in shapes.values()) or shapes["ids"] != shapes["weights"] or shapes["ids"][-1] != self.k:
            raise ValueError(f"cached targets {path} are damaged: tensors {shapes} for {n_rows} rows of {self.k}; delete {self.folder} to build them again")
        return tensors

    def lookup(self, row_numbers, vocab_size: int | None = None) -> dict[str, torch.Tensor]:
        """Return {"ids" (B, T, k) int64, "weights" (B, T, k), "tail" and "entropy" (B, T) float16}.

        Raises ValueError for a row that is not cached, and where `vocab_size`, the student's, is not the teacher's.
        """
        if vocab_size not in (None, self.vocab_size):
            raise ValueError(f"the student's vocabulary of {vocab_size} is not the teacher's of {self.vocab_size}; both must share one tokenizer")
        found = []
        for number in row_numbers:
            if int(number) not in self.position:
                raise ValueError(f"row {int(number)} is not among the {len(self.position)} of cached targets {self.folder}")
            part, offset = divmod(self.position[int(number)], ROWS_PER_FILE)
            found.append({name: tensor[offset] for name, tensor in self.parts[part].items()})
        stacked = {name: torch.stack([row[name] for row in found]) for name in found[0]}
        return stacked | {"ids": stacked["ids"].long()}


def measure_bias(student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, ks: list[int], draws: int = 8,
                 seed: int = 0) -> pd.DataFrame:
    """Return how far cached targets lie from the teacher's whole distribution: one line per tail, k and draw.

    Columns: tail, k, draw (0 only where nothing is drawn), bytes_per_token, full_kl and cached_kl (forward KL in nats per
    supervised token), bias (cached - full), gradient_error (|cached - full| / |full|, norms of the gradient in the logits
    averaged over tokens: what every token is pushed by in the mean). Logits (B, T, V), labels (B, T).
    """
    def kl_and_mean_gradient(**source):
        logits = student_logits.detach().float().requires_grad_()
        combined_loss(logits, labels, 0.0, "forward_kl", **source)["loss"].backward()
        with torch.no_grad():
            kl = combined_loss(logits, labels, 0.0, "forward_kl", **source)["kd_loss"].item()
        return kl / n_tokens, logits.grad.sum(dim=(0, 1)) / n_tokens

    n_tokens, generator, table = int((labels != IGNORED).sum()), torch.Generator(student_logits.device).manual_seed(seed), []
    full_kl, full_gradient = kl_and_mean_gradient(teacher_logits=teacher_logits.float())
    for tail in TAILS:
        for k in ks:
            for draw in range(draws if tail == "drawn" else 1):
                cached_kl, gradient = kl_and_mean_gradient(targets=list_targets(teacher_logits.float(), k, tail, generator))
                table.append({"tail": tail, "k": k, "draw": draw, "bytes_per_token": 4 * k + 4, "full_kl": full_kl, "cached_kl": cached_kl,
                              "bias": cached_kl - full_kl, "gradient_error": ((gradient - full_gradient).norm() / full_gradient.norm()).item()})
    return pd.DataFrame(table)
