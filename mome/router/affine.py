"""The workbook's router: TF-IDF and logistic regression as one affine map of token counts, in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mome.checks import check_choice, check_range
from mome.data.ids import PLAIN, check_ids, hash_tokenizer


class Router(nn.Module):
    """TF-IDF and logistic regression as one affine map of token counts: an embedding bag plus a bias.

    Its probabilities equal scikit-learn's to 1e-5. Padding and special tokens weigh nothing.
    `tokenizer_sha256` names the tokenizer whose ids it reads; empty when it was not fitted on any.
    """

    def __init__(self, vocab_size: int, languages: list[str], tokenizer_sha256: str = ""):
        super().__init__()
        self.languages, self.tokenizer_sha256 = list(languages), tokenizer_sha256
        shape = vocab_size, len(languages)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float32), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[1], dtype=torch.float32), requires_grad=False)

    def _apply(self, fn, recurse=True):
        # Moved with its model, but never cast: what rounding left of the table would choose other experts.
        def move(tensor):
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    @classmethod
    def from_pipeline(cls, pipeline, languages: list[str], tokenizer_sha256: str = "") -> Router:
        """Return the router that equals a fitted `make_classifier("logistic_regression")`."""
        idf, linear = pipeline[1].idf_, pipeline[-1]
        coefficients, intercept = linear.coef_, linear.intercept_
        if len(languages) == 2:  # of two classes scikit-learn keeps one row: second over first
            coefficients, intercept = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercept)
        router = cls(len(idf), languages, tokenizer_sha256)
        router.weight.copy_(torch.from_numpy((coefficients * idf).T))
        router.weight[:pipeline[0].func.keywords["n_special"]] = 0
        router.bias.copy_(torch.from_numpy(intercept))
        return router

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return router_probs (B, E) of input_ids (B, T), without any the prior; ValueError for bad ids."""
        if input_ids.device.type != "cuda":  # there the kernel raises, as looking would wait for it
            check_ids(input_ids, len(self.weight))
        if input_ids.shape[1] == 0:
            return torch.softmax(self.bias, dim=-1).expand(len(input_ids), -1)
        mask = None if attention_mask is None else attention_mask.to(self.weight.dtype)
        logits = nn.functional.embedding_bag(input_ids, self.weight, mode="sum", per_sample_weights=mask)
        return torch.softmax(logits + self.bias, dim=-1)

    def running_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (B, T, E): the router_probs after every token of input_ids (B, T), by running sums."""
        check_ids(input_ids, len(self.weight))
        return torch.softmax(self.weight[input_ids].cumsum(dim=1) + self.bias, dim=-1)

    @torch.inference_mode()
    def route(self, rows: np.ndarray, chunk: int = 8_192, threshold: float = 0.0) -> np.ndarray:
        """Return the language index (N,) of rows (N, T), or -1 where no probability reaches `threshold`."""
        check_range("threshold", threshold, 0, 1)
        parts = []
        for at in range(0, len(rows), chunk):  # so that memory stays flat
            ids = torch.from_numpy(rows[at:at + chunk].astype(np.int64)).to(self.weight.device)
            probs, index = self(ids).max(dim=1)
            parts.append(torch.where(probs >= threshold, index, -1).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @torch.inference_mode()
    def classify(self, texts: list[str], tokenizer) -> torch.Tensor:
        """Return router_probs (N, E) of texts of any length; ValueError for another tokenizer."""
        self.check_tokenizer(tokenizer)
        if isinstance(texts, str):
            raise ValueError(f"texts={texts[:40]!r} is not allowed; give a list of texts, for example [text]")
        if not texts:
            return torch.zeros(0, len(self.languages))
        ids = [torch.tensor(row, dtype=torch.int64) for row in tokenizer(texts, **PLAIN)["input_ids"]]
        check_ids(torch.cat(ids), len(self.weight))
        offsets = torch.tensor([0, *(len(row) for row in ids)]).cumsum(0)[:-1]
        # In float64, as the rounding of a million sums of float32 can move a probability by some hundredths.
        logits = nn.functional.embedding_bag(torch.cat(ids), self.weight.cpu().double(), offsets, mode="sum")
        return torch.softmax(logits + self.bias.cpu(), dim=-1).float()

    def keep(self, languages: list[str]) -> Router:
        """Return the router of some languages, whose probabilities keep their proportions; at least one."""
        if not languages:
            raise ValueError(f"languages={languages!r} leaves none; choose from: {', '.join(self.languages)}")
        for language in languages:
            check_choice("languages", language, self.languages)
        columns = [self.languages.index(language) for language in languages]
        kept = Router(len(self.weight), languages, self.tokenizer_sha256)
        kept.load_state_dict({"weight": self.weight[:, columns], "bias": self.bias[columns]})
        return kept.to(self.weight.device)

    def widen(self, language: str, bias: float) -> Router:
        """Return the router with one more language of that bias, for which no token speaks."""
        wider = Router(len(self.weight), [*self.languages, language], self.tokenizer_sha256)
        return wider.fill(self, bias)

    def resize(self, vocab_size: int) -> Router:
        """Return the router of more or fewer ids; of new ones none speaks for a language."""
        return Router(vocab_size, self.languages, self.tokenizer_sha256).fill(self)

    @torch.no_grad()
    def fill(self, other: Router, bias: float = 0.0) -> Router:
        """Take the tables of another router as far as they go, zeros and `bias` beyond, and its device."""
        rows, columns = (min(sizes) for sizes in zip(self.weight.shape, other.weight.shape, strict=True))
        self.to(other.weight.device)
        self.weight[:rows, :columns] = other.weight[:rows, :columns]
        self.bias.fill_(bias)[:columns] = other.bias[:columns]
        return self

    def check_tokenizer(self, tokenizer) -> None:
        """Raise ValueError unless `tokenizer` is the one that this router was fitted with."""
        found = hash_tokenizer(tokenizer)
        if self.tokenizer_sha256 and found != self.tokenizer_sha256:
            raise ValueError(f"tokenizer {found[:12]} is not the one that this router was fitted with ("
                             f"{self.tokenizer_sha256[:12]}): the same ids mean other texts; fit it again")

    def save(self, path: Path) -> None:
        """Write weights as safetensors, with languages and tokenizer hash as JSON in its header."""
        about = {name: getattr(self, name) for name in ("languages", "tokenizer_sha256")}
        save_file(self.state_dict(), path, {"router": json.dumps({"kind": "mome-router", **about})})

    @classmethod
    def load(cls, path: Path, tokenizer=None) -> Router:
        """Return a saved router; ValueError for a damaged file, another kind of file or another tokenizer."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["router"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            kind, languages, sha256 = about["kind"], about["languages"], about["tokenizer_sha256"]
            if kind != "mome-router" or not isinstance(sha256, str) or not isinstance(languages, list):
                raise ValueError("its header is not a router's")
            if not languages or sorted({str(name) for name in languages}) != sorted(languages):
                raise ValueError("its languages are not different names")
            weight, dtypes = tensors["weight"], {tensor.dtype for tensor in tensors.values()}
            is_finite = all(bool(tensor.isfinite().all()) for tensor in tensors.values())
            if dtypes != {torch.float32} or not is_finite or weight.shape[1:] != (len(languages),):
                raise ValueError("its weights are not a finite float32 table with a column for each language")
            router = cls(len(weight), languages, sha256)
            router.load_state_dict(tensors)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is not a router that this workbook wrote: {error}") from None
        if tokenizer is not None:
            router.check_tokenizer(tokenizer)
        return router
