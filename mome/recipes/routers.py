"""Recipes of routers: the workbook's own, and each classifier that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mome.checks import check_choice, check_range
from mome.data import SPLITS
from mome.languages import CODE_LANGUAGES
from mome.recipe import Recipe, Table
from mome.recipes.data import Corpus, Data, OtherRows
from mome.router import check_classifier_options

ROUTER_SEED = 42
COMMENT_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)  # of a file's characters
MIXES = tuple(number / 10 for number in range(11))  # of a row's tokens


@dataclass(frozen=True)
class FittedRouter(Recipe):
    """The workbook's router, TF-IDF and logistic regression as one affine map; languages of `added` data
    follow.
    """

    shown = ("languages",)

    data: Data
    rows_per_language: int
    added: tuple[Data, ...] = ()
    options: tuple[tuple[str, float], ...] = ()
    seed: int = ROUTER_SEED

    def check(self) -> None:
        check_range("rows_per_language", self.rows_per_language, 1, whole=True)
        object.__setattr__(self, "options", fill_options("logistic_regression", self.options))

    @classmethod
    def of(cls, setting, added: tuple[Data, ...] = (), data: Data | None = None) -> FittedRouter:
        return cls(data or Data.of(setting), setting.scale.router_rows, added)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(language for data in (self.data, *self.added) for language in data.languages)

    def build(self, folder: Path) -> None:
        from mome.router.fit import fit_affine

        data, *added = (part.open() for part in (self.data, *self.added))
        router, _ = fit_affine(data, self.rows_per_language, self.seed, tuple(added), **dict(self.options))
        router.save(folder / "router.safetensors")

    def open(self):
        """Return the `Router`; ValueError when it was fitted on another tokenizer's ids."""
        from mome.router.affine import Router

        return Router.load(self.folder / "router.safetensors", self.data.open().tokenizer)

    def work(self) -> float:
        return 1e6 * self.rows_per_language * len(self.languages)


def fill_options(classifier: str, options) -> tuple[tuple[str, float], ...]:
    """Return all options of a classifier as sorted pairs, so that a default said and unsaid is one value."""
    chosen = check_classifier_options(classifier, options)
    return tuple(sorted((name, float(value)) for name, value in chosen.items()))


@dataclass(frozen=True)
class ClassifierTable(Table):
    """A table of what one classifier reads that was fitted on whole training rows."""

    shown = ("classifier",)

    data: Data
    classifier: str
    rows_per_language: int
    options: tuple[tuple[str, float], ...] = field(default=(), kw_only=True)
    seed: int = field(default=ROUTER_SEED, kw_only=True)

    def check(self) -> None:
        object.__setattr__(self, "options", fill_options(self.classifier, self.options))

    def fit(self) -> dict:
        """Return {classifier: fitted pipeline}, as the probes take them."""
        from mome.router.classifiers import fit_classifier

        return {self.classifier: fit_classifier(self.data.open(), self.classifier, self.rows_per_language,
                                                self.seed, **dict(self.options))}


@dataclass(frozen=True)
class ComparedClassifier(ClassifierTable):
    """One classifier, and what it reads of held-out rows, at every prefix."""

    prefixes: tuple[int, ...]
    split: str = "validation"

    def check(self) -> None:
        super().check()
        check_choice("split", self.split, SPLITS)
        for prefix in self.prefixes:
            check_range("prefixes", prefix, 1, whole=True)
        if len(self.data.languages) < 2:
            raise ValueError(f"languages={list(self.data.languages)!r} is not allowed; give two or more")

    @classmethod
    def of(cls, setting, classifier: str, prefixes, split: str, split_seed: int = 0) -> ComparedClassifier:
        return cls(Data.of(setting, split_seed), classifier, setting.scale.router_rows, prefixes, split)

    def tabulate(self):
        """Return the tables of `compare_classifier`: scores and predictions."""
        from mome.router.compare import compare_classifier

        tables = compare_classifier(self.data.open(), self.classifier, self.rows_per_language,
                                    list(self.prefixes), self.seed, self.split, **dict(self.options))
        return dict(zip(("scores", "predictions"), tables, strict=True))

    def work(self) -> float:
        slow = {"neural_net": 7, "gradient_boosting": 30, "k_nearest_neighbours": 10, "random_forest": 20,
                "paper_pipeline": 5}.get(self.classifier, 1)
        return 1.5e6 * slow * self.rows_per_language * len(self.data.languages)


@dataclass(frozen=True)
class CommentedRows(Table):
    """Held-out code with prose of the other languages between its statements; columns of `comment_rows`."""

    data: Data
    shares: tuple[float, ...] = COMMENT_SHARES
    n_rows: int = 300
    seed: int = 0
    split: str = "validation"

    @property
    def code(self) -> str:
        """The language of code whose texts are commented; empty where the data has none."""
        return next((name for name in self.data.languages if name in CODE_LANGUAGES), "")

    def check(self) -> None:
        check_choice("split", self.split, SPLITS)
        if not self.code or len(self.data.languages) < 2:
            raise ValueError(f"languages={list(self.data.languages)!r} is not allowed; give one of code, "
                             f"among {', '.join(sorted(CODE_LANGUAGES))}, and another")

    def tabulate(self):
        import pandas as pd

        from mome.router.probes import comment_rows

        texts = pd.read_parquet(self.data.folder / "documents.parquet")
        texts = texts[(texts.split == self.split) & texts.kept]
        return comment_rows(self.data.open(), texts, self.code, list(self.shares), self.n_rows, self.seed)

    def work(self) -> float:
        return 1.5e11


@dataclass(frozen=True)
class ProbedClassifier(ClassifierTable):
    """What a fitted classifier makes of text it was never shown: another domain, commented code, mixes,
    strangers.
    """

    format = 2

    strangers: Corpus | None
    commented: CommentedRows | None
    mixes: tuple[float, ...] = MIXES
    mix_rows: int = 200
    stranger_rows: int = 200
    split: str = "validation"

    def check(self) -> None:
        super().check()
        check_choice("split", self.split, SPLITS)

    @classmethod
    def of(cls, data: Data, classifier: str, rows_per_language: int, strangers: Corpus | None, split: str):
        """Return the classifier with every probe that the data's languages allow."""
        is_mixed = len(data.languages) > 1 and not CODE_LANGUAGES.isdisjoint(data.languages)
        commented = CommentedRows(data, split=split) if is_mixed else None
        return cls(data, classifier, rows_per_language, strangers, commented, split=split)

    def tabulate(self):
        """Return the tables domains, mixes, strangers, answers and comments; those that do not apply are left
        out.
        """
        from mome.router import probes

        data, models = self.data.open(), self.fit()
        tables = {"domains": probes.read_domains(models, data, {}, self.split),
                  "mixes": probes.read_mixes(models, data, list(self.mixes), self.mix_rows, self.split)}
        if self.strangers:
            tables["strangers"], tables["answers"] = probes.read_strangers(
                models, data, self.strangers.open(), self.stranger_rows, self.split)
        if self.commented:
            asked = self.commented.open(), self.commented.code
            tables["comments"] = probes.read_commented_code(models, data, *asked)
        return tables

    def work(self) -> float:
        return 3e10


@dataclass(frozen=True)
class OtherReadings(ClassifierTable):
    """What a fitted classifier reads of another corpus' rows."""

    is_optional = True

    other: OtherRows

    def tabulate(self):
        from mome.router.probes import read_domains

        table = read_domains(self.fit(), self.data.open(), {"another": self.other.open()})
        return table[table.domain == "another"]
