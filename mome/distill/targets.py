"""The teacher's targets, computed once and read by every student: what is listed, and what that costs."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor

from mome.checks import check_choice, check_range
from mome.distill import IGNORED, TAILS
from mome.distill.fused import combined_loss
from mome.progress import progress
from mome.store import read_json, write_json
from mome.weights import note_read

ROWS_PER_FILE = 4_096


@torch.inference_mode()
def cache_targets(teacher, rows: np.ndarray, row_numbers: np.ndarray, k: int, folder: Path, *,
                  tail: str = "drawn", identity: dict | None = None, micro_batch_size: int = 32) -> dict:
    """Write k of the teacher's targets per position of the given rows; return sizes and the listed mass.

    Per token 2 k bytes of uint16 ids, 2 k of float16 weights, 2 of tail mass, 2 of entropy in nats (see
    `list_targets`), in safetensors files of 4,096 rows under `folder`, with its number as the seed
    of its draws. `identity` says what they were made from; `CachedTargets` compares it.
    """
    device, mass = next(teacher.eval().parameters()).device, []
    with progress("cache teacher targets", len(row_numbers)) as bar:
        for part, start in enumerate(range(0, len(row_numbers), ROWS_PER_FILE)):
            kept, numbers = {}, row_numbers[start:start + ROWS_PER_FILE]
            generator = Generator(device).manual_seed(part)
            for at in range(0, len(numbers), micro_batch_size):
                batch = torch.from_numpy(rows[numbers[at:at + micro_batch_size]].astype(np.int64)).to(device)
                logits = teacher(input_ids=batch).logits.float()
                found = list_targets(logits, k, tail, generator)
                mass.append(found["weights"][..., :count_top(k, tail)].float().sum(-1).mean().item())
                for name, value in found.items():  # in place: pieces kept between logits fragment memory
                    if name not in kept:
                        kind = torch.uint16 if name == "ids" else torch.float16
                        kept[name] = torch.empty((len(numbers), *value.shape[1:]), dtype=kind)
                    kept[name][at:at + len(batch)] = value.cpu().to(kept[name].dtype)
                bar.update(n=len(batch))
            save_file(kept, folder / f"targets-{part:05d}.safetensors")
    write_json(folder / "targets.json", {"identity": dict(identity or {}), "k": k, "tail": tail,
                                         "vocab_size": logits.shape[-1], "rows": row_numbers.tolist()})
    return {"rows": len(row_numbers), "k": k, "bytes_per_token": 4 * k + 4,
            "top_probability": round(float(np.mean(mass)), 4)}


def count_top(k: int, tail: str) -> int:
    """Return how many of k listed tokens are the teacher's most probable ones; the rest are draws."""
    return (k + 1) // 2 if tail == "drawn" else k


def list_targets(logits: Tensor, k: int, tail: str, generator: Generator | None = None) -> dict[str, Tensor]:
    """Return {"ids", "weights" (B, T, k), "tail", "entropy" (B, T)} of a teacher's logits (B, T, V).

    drawn: half are the most probable tokens with their probabilities, half are draws with replacement from
    the rest, sharing its mass: sum w log q is unbiased for the teacher's expectation (arXiv:2503.16870).
    lumped: the k most probable tokens and one event for the rest, of mass "tail": KL over k + 1 events, a
    lower bound of the full KL. dropped: the k most probable tokens, scaled to 1: the bias that the other two
    avoid. "entropy" is that of the events listed; of all tokens when drawn. ValueError for k outside [2, V].
    """
    check_choice("tail", tail, TAILS)
    check_range("k", k, 2, logits.shape[-1], whole=True)
    check_range("vocabulary", logits.shape[-1], 1, 65_536, whole=True)  # an id takes two bytes
    log_probs = logits.log_softmax(dim=-1).clamp_min_(torch.finfo(logits.dtype).min)  # p log p is 0 if p is
    probs, n_top = log_probs.exp(), count_top(k, tail)
    weights, ids = probs.topk(n_top, dim=-1)
    others, entropy = probs.scatter_(-1, ids, 0.0), -weights.xlogy(weights).sum(-1)
    rest = others.sum(-1)  # 1 less those listed would be rounding where the teacher is sure
    if tail == "lumped":
        return {"ids": ids, "weights": weights, "tail": rest, "entropy": entropy - rest.xlogy(rest)}
    if tail == "dropped":
        weights = weights / weights.sum(-1, keepdim=True)
        entropy = -weights.xlogy(weights).sum(-1)
    else:
        flat = others.flatten(0, 1).clamp_min(1e-20)  # draws of a rest that rounds to nothing weigh nothing
        drawn = torch.multinomial(flat, k - n_top, replacement=True, generator=generator)
        drawn = drawn.view(*ids.shape[:2], k - n_top)
        # A token drawn n times has n shares at its first place, none at the others.
        is_same = drawn.unsqueeze(-1) == drawn.unsqueeze(-2)
        n_times = is_same.sum(-1) * (is_same.tril(-1).sum(-1) == 0)
        share = rest.unsqueeze(-1) / (k - n_top) * n_times
        ids, weights = torch.cat([ids, drawn], dim=-1), torch.cat([weights, share], dim=-1)
        entropy = entropy - (others * log_probs).sum(-1)
    return {"ids": ids, "weights": weights, "tail": torch.zeros_like(rest), "entropy": entropy}


class CachedTargets:
    """The teacher's cached targets in memory-mapped files, looked up by row number of the training split."""

    def __init__(self, folder: Path, identity: dict | None = None):
        """Raise ValueError where `identity` (teacher, tokenizer, data) is another's, or a file is damaged."""
        self.folder, self.advice = Path(folder), f"delete {folder} to build them again"
        note_read(self.folder)
        path = self.folder / "targets.json"
        header = read_json(path) if path.exists() else None
        if not isinstance(header, dict) or not {"identity", "k", "tail", "vocab_size", "rows"} <= set(header):
            raise ValueError(f"the header of cached targets {path} is missing or damaged; {self.advice}")
        for name, value in (identity or {}).items():
            if header["identity"].get(name) != value:
                raise ValueError(f"cached targets {folder} belong to another {name}: "
                                 f"made from {header['identity'].get(name)}, asked for {value}")
        self.k, self.tail, self.vocab_size = header["k"], header["tail"], header["vocab_size"]
        self.position = {number: place for place, number in enumerate(header["rows"])}
        self.parts = [self.map_file(number) for number in range(-(-len(self.position) // ROWS_PER_FILE))]

    def map_file(self, part: int) -> dict[str, Tensor]:
        path = self.folder / f"targets-{part:05d}.safetensors"
        n_rows = min(ROWS_PER_FILE, len(self.position) - part * ROWS_PER_FILE)
        try:
            with safe_open(path, framework="pt") as file:  # views of the mapped file, not read before use
                tensors = {name: file.get_tensor(name) for name in ("ids", "weights", "tail", "entropy")}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"cached targets {path} are damaged ({error}); {self.advice}") from None
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        is_whole = {shape[0] for shape in shapes.values()} == {n_rows} and shapes["ids"] == shapes["weights"]
        if not is_whole or shapes["ids"][-1] != self.k:
            raise ValueError(f"cached targets {path} are damaged: {shapes} for {n_rows} rows; {self.advice}")
        return tensors

    @torch.autocast("cpu", enabled=False)  # under bfloat16 it does not stack float16
    def lookup(self, row_numbers, vocab_size: int | None = None) -> dict[str, Tensor]:
        """Return {"ids" (B, T, k) int64, "weights" (B, T, k), "tail" and "entropy" (B, T) float16}."""
        if vocab_size not in (None, self.vocab_size):
            raise ValueError(f"the student's vocabulary has {vocab_size} tokens, its teacher's "
                             f"{self.vocab_size}")
        found = []
        note_read(self.folder, map(int, row_numbers))
        for number in map(int, row_numbers):
            if number not in self.position:
                raise ValueError(f"row {number} is not among the {len(self.position)} cached rows of "
                                 f"{self.folder}")
            part, offset = divmod(self.position[number], ROWS_PER_FILE)
            found.append({name: tensor[offset] for name, tensor in self.parts[part].items()})
        stacked = {name: torch.stack([row[name] for row in found]) for name in found[0]}
        return stacked | {"ids": stacked["ids"].long()}


def copy_targets(folder: Path, row_numbers: list[int], out: Path) -> None:
    """Write the cached targets of these rows alone under `out`."""
    cached, header = CachedTargets(folder), read_json(folder / "targets.json")
    places = [divmod(cached.position[number], ROWS_PER_FILE) for number in row_numbers]
    save_file({name: torch.stack([cached.parts[part][name][offset] for part, offset in places])
               for name in cached.parts[0]}, out / "targets-00000.safetensors")
    write_json(out / "targets.json", header | {"rows": row_numbers})


def measure_bias(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, ks: list[int],
                 draws: int = 8, seed: int = 0) -> pd.DataFrame:
    """Return how far cached targets lie from the teacher's whole distribution: one line per tail, k and draw.

    Columns: tail, k, draw, bytes_per_token, full_kl and cached_kl (forward KL in nats per supervised token),
    bias (cached - full), gradient_error (|cached - full| / |full|, norms of the gradient in the logits
    averaged over tokens). Logits (B, T, V), labels (B, T).
    """
    def kl_and_mean_gradient(**source):
        logits = student_logits.detach().float().requires_grad_()
        sums = combined_loss(logits, labels, 0.0, "forward_kl", **source)
        sums["loss"].backward()
        return sums["kd_loss"].item() / n_tokens, logits.grad.sum(dim=(0, 1)) / n_tokens

    n_tokens, teacher_logits, table = int((labels != IGNORED).sum()), teacher_logits.float(), []
    generator = Generator(student_logits.device).manual_seed(seed)
    full_kl, full_gradient = kl_and_mean_gradient(teacher_logits=teacher_logits)
    for tail, k in itertools.product(TAILS, ks):
        for draw in range(draws if tail == "drawn" else 1):
            targets = list_targets(teacher_logits, k, tail, generator)
            cached_kl, gradient = kl_and_mean_gradient(targets=targets)
            error = ((gradient - full_gradient).norm() / full_gradient.norm()).item()
            table.append((tail, k, draw, 4 * k + 4, full_kl, cached_kl, cached_kl - full_kl, error))
    return pd.DataFrame(table, columns=["tail", "k", "draw", "bytes_per_token", "full_kl", "cached_kl",
                                        "bias", "gradient_error"])
