"""Recipes of modular models in use: every switch of the paper's grid and ours, experts that come and go."""

from __future__ import annotations

from dataclasses import dataclass

from mome.checks import check_choice, check_range
from mome.recipe import Table
from mome.recipes.data import Data
from mome.recipes.modular import AddedExpert, Expert, MoE, RoutedMoE
from mome.recipes.routers import FittedRouter

SPLIT = "validation"


@dataclass(frozen=True)
class ExpertScores(Table):
    """Nats of held-out rows under every expert of a modular model (`evaluate.uses.tabulate_experts`)."""

    device, shown = "gpu", ("model",)

    model: MoE
    rows_per_language: int
    common_expert: str = "off"
    split: str = SPLIT

    def check(self) -> None:
        check_choice("common_expert", self.common_expert, ("off", "on"))
        check_range("rows_per_language", self.rows_per_language, 1, whole=True)

    def tabulate(self):
        from mome.evaluate.uses import tabulate_experts

        return tabulate_experts(self.model.open(), self.model.data.open(), self.common_expert, self.split,
                                self.rows_per_language)


@dataclass(frozen=True)
class Switches(Table):
    """Every way of `evaluate.uses.list_uses` scored, a line per use and language, with parameters.

    PLE has a use more, "mean of parameters": its experts' weights, embeddings included, averaged into one
    dense model.
    """

    device, shown = "gpu", ("model",)

    model: RoutedMoE
    rows_per_language: int
    prefixes: tuple[int, ...]
    split: str = SPLIT

    def check(self) -> None:
        for prefix in self.prefixes:
            check_range("prefixes", prefix, 1, whole=True)

    @classmethod
    def of(cls, setting, variant: str, seed: int, prefixes, split: str = SPLIT) -> Switches:
        rows = max(8, setting.scale.evaluation_rows // 4)
        return cls(RoutedMoE.of(setting, variant, seed), rows, prefixes, split)

    def tabulate(self):
        import pandas as pd

        from mome.evaluate.uses import score_uses
        from mome.models.bodies import count_parameters

        model, data = self.model.open(), self.model.data.open()
        table = score_uses(model, data, self.split, self.rows_per_language, list(self.prefixes))
        if self.model.model.experts:
            table = pd.concat([table, self.score_merged(data)], ignore_index=True)
        return table.assign(parameters=count_parameters(model))

    def score_merged(self, data):
        """Return the lines of "mean of parameters"."""
        from mome.evaluate.scores import summarize
        from mome.evaluate.uses import score_model
        from mome.models.assemble import merge_experts
        from mome.models.bodies import count_parameters
        from mome.models.forwards import dense_logits

        merged = merge_experts([expert.open() for expert in self.model.model.experts])
        scores = summarize(score_model(merged, dense_logits, data, self.split, self.rows_per_language))
        return scores.assign(use="mean of parameters", group="average", router="", allowed="",
                             average_experts="", common_expert="off", bodies=1,
                             active_parameters=count_parameters(merged))

    def work(self) -> float:
        n = len(self.model.data.languages)
        return (4 * n + 1) * self.model.model.flops_to_score(n * self.rows_per_language)


@dataclass(frozen=True)
class Changes(Table):
    """What a modular model is worth while experts come and go, on all languages, the added one included.

    Stages: "as trained"; "added": with the added expert and a refitted router; "removed": without the expert
    `removed`; "put back": with it again, read from its own file. A line per stage and language: stage,
    language, nats_per_token, perplexity, bits_per_byte, to_added (share of its rows that the router sends to
    the added expert), is_identical (whether each expert of the trained model gives its language's rows the
    same nats, bit for bit).
    """

    device, shown = "gpu", ("model",)

    model: RoutedMoE
    enlarged: RoutedMoE
    removed: Expert
    rows_per_language: int
    split: str = SPLIT

    def check(self) -> None:
        host = self.model.model
        if self.enlarged.added is None or {self.enlarged.model.name, self.removed.model.name} != {host.name}:
            raise ValueError(f"enlarged={self.enlarged.title!r} and removed={self.removed.title!r} are not "
                             f"allowed; they must add an expert to {host.title}, and take one from it")

    @classmethod
    def of(cls, setting, model: RoutedMoE, added: Data, removed: str, split: str = SPLIT) -> Changes:
        host, router = model.model, FittedRouter.of(setting, (added,))
        enlarged = RoutedMoE(host, router, AddedExpert.of(setting, host, added))
        rows = max(8, setting.scale.evaluation_rows // 4)
        return cls(model, enlarged, Expert(host, removed), rows, split)

    @property
    def added(self) -> Data:
        return self.enlarged.added.data

    def tabulate(self):
        import pandas as pd

        from mome.evaluate.uses import own_nats

        model, tables, removed = self.model.open(), [], self.removed.language
        before, router = own_nats(model, self.model.data.open(), self.split, self.rows_per_language), None
        for stage in ("as trained", "added", "removed", "put back"):
            if stage == "added":
                model = self.enlarged.open()
                router = model.router
            elif stage == "removed":
                model.remove_expert(removed)
            elif stage == "put back":
                languages = [*model.config.languages, removed]
                model.add_expert(removed, self.removed.open(), router.keep(languages))
            tables += self.score_stage(model, stage, before)
        return pd.concat(tables, ignore_index=True)

    def score_stage(self, model, stage: str, before: dict) -> list:
        import numpy as np

        from mome.evaluate.scores import summarize
        from mome.evaluate.uses import own_nats, score_model, share_routed
        from mome.models.forwards import use_forward

        asked, tables = (self.split, self.rows_per_language), []
        now = own_nats(model, self.model.data.open(), *asked)
        is_same = all(np.array_equal(now[name], before[name]) for name in now)
        for side in (self.model.data.open(), self.added.open()):
            scores = summarize(score_model(model, use_forward(), side, *asked))
            shares = [share_routed(model, side, name, self.added.languages[0], *asked)
                      for name in scores.language]
            tables.append(scores.assign(stage=stage, to_added=shares, is_identical=is_same))
        return tables


def find_added(setting, language: str, corpus: str = "auto") -> Data:
    """Return the data of one more language, cut by the setting's tokenizer, which never saw any of it.

    `auto` is the setting's own source where it has the language, else `mini`. Raises ValueError for a
    language that the setting has already or that no such corpus has.
    """
    from mome.data.files import find_language
    from mome.data.folder import corpus_folder
    from mome.languages import check_corpus, corpus_languages, split_corpus
    from mome.recipes.setting import check_text, find_corpus

    def has_language(name: str) -> bool:
        known = corpus_languages(name)
        return language in known if known else bool(find_language(corpus_folder(name), language).files)

    if language in setting.languages:
        raise ValueError(f"added_language={language!r} is not allowed; the models know "
                         f"{', '.join(setting.languages)} already")
    own = split_corpus(setting.corpus_name)[0]  # without its day: the language may be fetched on another
    candidates = [own, "mini"] if corpus == "auto" else [corpus]
    for name in candidates:
        check_corpus(name, "corpus" if corpus == "auto" else "added_corpus")
    name = next(filter(has_language, candidates), None)
    if name is None:
        raise ValueError(f"added_language={language!r} is not allowed; {' and '.join(candidates)} lack it")
    found, _ = find_corpus(name, [language], setting.scale)
    check_text(found, False, setting.scale.context)
    # Held out of a corpus as small as `mini`, a usual share leaves next to nothing.
    least = 0.2 if found.source == "mini" else 0.0
    fractions = {name: max(least, getattr(setting.scale, name))
                 for name in ("validation_fraction", "test_fraction")}
    return Data.of(setting, corpus=found, languages=[language], common_articles=False, shares="equal",
                   read_by=Data.of(setting), **fractions)
