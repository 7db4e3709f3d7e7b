"""Recipes of scores: what a trained model is worth on held-out rows, in every way of using it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mome.checks import check_choice, check_range
from mome.data import SPLITS
from mome.languages import check_languages
from mome.recipe import Recipe, Table
from mome.recipes.data import Data

# Ways of using a modular model: told each row's language, or routed by the router on the whole row.
USES = {"told": {}, "routed": {}, "routed, common off": {"common_expert": "off"},
        "common alone": {"common_expert": "alone"}}


@dataclass(frozen=True)
class Scores(Table):
    """A model's nats on each held-out row, for a dense model (`use` empty) or one way of using a modular one.

    `rows_per_language` rows at most of each of `languages`, spread evenly over the split.
    """

    device, shown = "gpu", ("model", "use", "split")

    model: Recipe
    data: Data
    split: str
    languages: tuple[str, ...]
    rows_per_language: int
    use: str = ""

    def check(self) -> None:
        check_choice("split", self.split, SPLITS)
        check_choice("use", self.use, ("", *USES))
        check_languages(self.languages, self.data.languages)
        check_range("rows_per_language", self.rows_per_language, 1, whole=True)
        if self.use.startswith("routed") and not hasattr(self.model, "router"):
            raise ValueError(f"use={self.use!r} is not allowed; {self.model.title} has no router")

    @classmethod
    def of(cls, setting, model, use: str = "", split: str = "validation") -> Scores:
        return cls(model, model.data, split, model.data.languages, setting.scale.evaluation_rows, use)

    def tabulate(self):
        """Return a line per row: language, article_id, nats, n_tokens, n_bytes."""
        from mome.evaluate.uses import score_model
        from mome.models.forwards import dense_logits, told_forward, use_forward

        data, forward = self.data.open(), dense_logits
        if self.use == "told":
            forward = told_forward(data.language_index(self.split))
        elif self.use:
            forward = use_forward(**USES[self.use])
        model = self.model.open()
        return score_model(model, forward, data, self.split, self.rows_per_language, self.languages)

    def summary(self, **columns):
        """Return `evaluate.summarize` of the scores, constant columns (arm, seed, ...) in front."""
        from mome.evaluate.scores import summarize

        table = summarize(self.open())
        return table.assign(**columns)[[*columns, *table.columns]]

    def work(self) -> float:
        return self.model.flops_to_score(self.rows_per_language * len(self.languages))


def sweep_rate(setting, model, optimizer: str, field: str, factors) -> dict[float, Scores]:
    """Return {factor: score} of a model trained at multiples, 1 among them, of a rate, a field of the scale.

    All else is the model's. What it learns is scored on validation, a modular model told each row's language.
    """
    role, found = "teacher" if model.kind() == "teacher" else "student", {}
    for factor in sorted({1.0, *factors}):
        scale = replace(setting.scale, **{field: factor * getattr(setting.scale, field)})
        tried = replace(model, optimizer=scale.make_optimizer(role, optimizer))
        scores = Scores.of(setting, tried, "told" if model.kind() == "moe" else "")
        found[factor] = replace(scores, languages=getattr(model, "languages", scores.languages))
    return found
