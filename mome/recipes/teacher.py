"""Recipes of the teacher and of its targets, cached once for all students."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mome.checks import check_choice, check_range
from mome.distill import TAILS
from mome.languages import check_languages
from mome.recipe import Recipe
from mome.recipes.data import Data
from mome.recipes.training import Training, training_fields


@dataclass(frozen=True, kw_only=True)
class Teacher(Training):
    """A GPT-2 trained from scratch on hard labels, on batches balanced over the languages."""

    shown = ("seed",)

    def check(self) -> None:
        super().check()
        check_shared_batches(self.data.languages, self.batch_size)

    @classmethod
    def of(cls, setting, data: Data | None = None, seed: int = 0, **changes) -> Teacher:
        scale = setting.scale
        return cls(**{"data": data or Data.of(setting), "shape": scale.teacher, "steps": scale.teacher_steps,
                      "seed": seed, **training_fields(setting, "teacher"), **changes})


@dataclass(frozen=True)
class Targets(Recipe):
    """The teacher's targets on rows that students see: k per position, `tail` as in `list_targets`."""

    device = "gpu"

    teacher: Teacher
    languages: tuple[str, ...]
    rows_per_language: int
    k: int
    tail: str = "drawn"
    micro_batch_size: int = 32

    def check(self) -> None:
        check_choice("tail", self.tail, TAILS)
        check_languages(self.languages, self.data.languages)
        check_range("k", self.k, 2, self.data.vocab_size - 1, whole=True)
        check_range("rows_per_language", self.rows_per_language, 1, whole=True)

    @classmethod
    def of(cls, setting, tail: str = "drawn", languages=None, share: float = 1.0) -> Targets:
        """Return those that all students share, or others: of some languages, of more of their text."""
        scale = setting.scale
        return cls(Teacher.of(setting), tuple(languages or setting.languages), count_rows(scale, share),
                   scale.targets_per_token, tail, scale.micro_batch_size)

    @property
    def title(self) -> str:
        return "targets" + (f", {self.tail} tail" if self.tail != "drawn" else "")

    @property
    def data(self) -> Data:
        return self.teacher.data

    def identity(self) -> dict[str, str]:
        """Return what the targets must be made from, by name: teacher, tokenizer and data set."""
        notes = self.data.notes
        return {"teacher": self.teacher.name, "tokenizer": notes["token_sha256"], "data": notes["sha256"]}

    def build(self, folder: Path) -> dict:
        import numpy as np

        from mome.distill.targets import cache_targets

        data = self.data.open()
        rows = [data.row_numbers("train", language, self.rows_per_language) for language in self.languages]
        return cache_targets(self.teacher.open(), data.rows("train"), np.concatenate(rows), self.k, folder,
                             tail=self.tail, identity=self.identity(), micro_batch_size=self.micro_batch_size)

    def open(self):
        """Return the `CachedTargets`; ValueError when damaged, or of another teacher, tokenizer or data."""
        return open_cached(self)

    def work(self) -> float:
        return 1.3 * self.teacher.flops_to_score(self.rows_per_language * len(self.languages))

    def size(self) -> float:
        return self.rows_per_language * len(self.languages) * self.data.context * (4.0 * self.k + 4)


@lru_cache(maxsize=4)
def open_cached(targets: Targets):
    from mome.distill.targets import CachedTargets

    return CachedTargets(targets.folder, targets.identity())


def check_shared_batches(languages, batch_size: int) -> None:
    """Raise ValueError, with a size that would do, unless batches can hold as many rows of each language."""
    share, rest = divmod(batch_size, len(languages))
    if rest or not share:
        raise ValueError(f"languages={list(languages)!r}: {len(languages)} languages cannot share batches of "
                         f"{batch_size} sequences equally; give overrides={{'batch_size': "
                         f"{len(languages) * max(1, share)}, ...}} and a micro_batch_size within it")


def count_rows(scale, share: float = 1.0) -> int:
    """Return how many rows of a language a student sees at a share of its tokens, the same for all seeds."""
    return max(1, round(scale.student_tokens * share) // scale.context)
