"""Recipes of training in stages: one language after another, remedies, and one session beside it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from mome.checks import check_choice, check_range, check_shares
from mome.data import SPLITS
from mome.languages import check_languages
from mome.recipe import Recipe, Table
from mome.recipes.data import Data
from mome.recipes.modular import MoE, check_targets, start_moe
from mome.recipes.scores import Scores
from mome.recipes.students import Objective, Student
from mome.recipes.teacher import Targets, count_rows
from mome.recipes.training import CURVE_SPLIT, Training, training_fields

MODULAR_STAGES = ("PLE", "JEET", "MoE-CE")
FIRST_STAGES = {"PLE": "JEET"}  # what PLE freezes later, it learns as JEET does
ORDERS = ("one", "rotations", "all")
# Shared parts of a modular model, and the modules that make them.
RESTORED = {"embedding and head": ("embedding", "lm_head"), "common expert": ("common_expert",),
            "both": ("embedding", "lm_head", "common_expert")}
SECOND_SHARE = 0.5  # of the loss that the student of the stage before has, where it teaches too


@dataclass(frozen=True, kw_only=True)
class Stage(Student):
    """A dense student's next stage on one language, with a remedy (without one it is a plain `Student`).

    `replay` is the share of rows that come from `earlier` languages; with `second_share` the student before
    is distilled too (forward KL), on the new language's text: learning without forgetting, Li and Hoiem 2017.
    """

    shown, title = ("languages", "replay", "second_share", "seed"), Recipe.title

    earlier: tuple[str, ...] = ()
    replay: float = 0.0
    second_share: float = 0.0

    def check(self) -> None:
        super().check()
        check_range("replay", self.replay, 0, 1)
        check_range("second_share", self.second_share, 0 if self.replay else 1e-6, 1)
        if self.start_from is None:
            raise ValueError("start_from=None is not allowed; a stage goes on from the student before")
        object.__setattr__(self, "earlier", self.earlier if self.replay else ())  # where it matters
        if self.replay:
            check_languages(self.earlier, self.data.languages)

    def plan_rows(self, data):
        pools = [self.list_rows(data, language) for language in self.earlier]
        return plan_replay(super().plan_rows(data), pools, self.replay, self.text_seed)

    def make_loss(self, forward, **second):
        if self.second_share:
            second = {"second_teacher": self.start_from.open(), "second_share": self.second_share}
        return super().make_loss(forward, **second)


def plan_replay(plan, pools: list, replay: float, seed: int):
    """Return the batches (steps, B) with a share of slots given evenly to the pools, each walked in turn."""
    rng = np.random.default_rng([seed, 1])
    slots = rng.choice(plan.size, round(replay * plan.size) if pools else 0, replace=False)
    pools = [rng.permutation(pool) for pool in pools]
    for number, slot in enumerate(slots):
        pool = pools[number % len(pools)]
        plan.flat[slot] = pool[number // len(pools) % len(pool)]
    return plan


@dataclass(frozen=True, kw_only=True)
class Session(Student):
    """One session on languages merged and shuffled, each with its share of a balanced session's rows."""

    shares: tuple[tuple[str, float], ...]

    def check(self) -> None:
        super().check()
        check_shares(self.shares, self.languages)
        object.__setattr__(self, "shares", tuple(sorted(self.shares)))

    def check_batches(self) -> None:
        """Any number of languages will do, as batches are not balanced."""

    @property
    def title(self) -> str:
        return f"session {' '.join(f'{name} {share:g}' for name, share in self.shares)} seed {self.seed}"

    def plan_rows(self, data):
        shares, rng, parts = dict(self.shares), np.random.default_rng([self.text_seed, 2]), []
        sums = np.cumsum([0.0, *(shares[name] for name in self.languages)])
        borders = np.round(sums / sum(shares.values()) * (self.steps * self.batch_size)).astype(int)
        for rows, n in zip(self.list_groups(data), np.diff(borders), strict=True):
            walks = [rng.permutation(rows) for _ in range(-(-n // len(rows)))]
            parts.append(np.concatenate([rows[:0], *walks])[:n])
        return rng.permutation(np.concatenate(parts)).reshape(self.steps, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class ModularStage(Training):
    """A modular model's stage on one language, told to it: its expert learns, and what is shared.

    JEET shares embedding and head, MoE-CE a common expert as well. PLE's embedding and head are the first
    stage's, then frozen with every expert that is done: nothing can drift. Its first stage is JEET's.
    """

    shown = ("variant", "language", "seed")

    variant: str
    language: str
    targets: Targets
    rows_per_language: int
    objective: Objective
    start_from: ModularStage | None = None

    def check(self) -> None:
        super().check()
        check_choice("variant", self.variant, MODULAR_STAGES)
        check_choice("language", self.language, self.data.languages)
        check_targets(self)
        before, first = self.start_from, FIRST_STAGES.get(self.variant, self.variant)
        if before is None:
            object.__setattr__(self, "variant", first)
        elif before.variant != (self.variant if before.start_from else first):
            raise ValueError(f"start_from={before.title!r} is not allowed; give {self.variant}")

    def make_model(self):
        model = self.start_from.open() if self.start_from else start_moe(self, self.variant == "MoE-CE")
        model.experts.requires_grad_(False)
        model.experts[self.language].requires_grad_(True)
        if self.variant == "PLE":
            model.embedding.requires_grad_(False)
            model.lm_head.requires_grad_(False)
        return model

    def list_groups(self, data) -> list:
        return [data.row_numbers("train", self.language, self.rows_per_language)]

    make_forward, make_loss, make_schedule = MoE.make_forward, MoE.make_loss, MoE.make_schedule
    open = MoE.open

    def work(self) -> float:
        return super().work() * (1.6 if self.variant == "MoE-CE" else 1.05)  # as stages took in the workbook

    def size(self) -> float:
        return super().size() * (len(self.data.languages) + 1)


def check_order(order, languages) -> list[str]:
    """Return the order of training, the languages' own for an empty one; each stands once, at least two."""
    name, order = ("order", order) if order else ("languages", list(languages))
    if len(order := check_languages(order, languages, name)) < max(2, len(languages)):
        raise ValueError(f"{name}={order!r} is not allowed; give two or more, each of {', '.join(languages)}")
    return order


def list_orders(languages, which: str) -> list[list[str]]:
    """Return orders of training: "one" as given, "rotations" (each first and last once), or "all"."""
    check_choice("orders", which, ORDERS)
    languages, turns = list(languages), len(languages) if which == "rotations" else 1
    if which == "all":
        return [list(order) for order in itertools.permutations(languages)]
    return [languages[turn:] + languages[:turn] for turn in range(turns)]


def make_stages(setting, order, seed: int = 0, replay: float = 0, second_share: float = 0) -> list[Student]:
    """Return one student a stage; orders that begin with the same languages share those stages."""
    stages = [None]
    for number, language in enumerate(check_languages(order, setting.languages)):
        kind, remedy = Student, {}
        if number and (replay or second_share):
            kind, remedy = Stage, {"earlier": order[:number], "replay": replay, "second_share": second_share}
        stages.append(kind.of(setting, [language], seed, start_from=stages[-1], **remedy))
    return stages[1:]


def make_session(setting, shares: dict[str, float], seed: int = 0) -> Session:
    check_languages(list(shares), setting.languages)
    return Session.of(setting, [name for name in setting.languages if name in shares], seed, shares=shares)


def make_moe_stages(setting, variant: str, order, seed: int = 0) -> list[ModularStage]:
    """Return one modular model a stage, in order."""
    scale, stages = setting.scale, [None]
    fields = {"data": Data.of(setting), "shape": scale.expert, "steps": scale.student_steps, "seed": seed,
              "variant": variant, "targets": Targets.of(setting), "rows_per_language": count_rows(scale),
              "objective": Objective(), **training_fields(setting)}
    for language in check_languages(order, setting.languages):
        stages.append(ModularStage(language=language, start_from=stages[-1], **fields))
    return stages[1:]


def score_stages(setting, stages: list[Training], split: str = CURVE_SPLIT) -> list[Scores]:
    """Return the scores of each stage on all languages."""
    return [Scores.of(setting, stage, "told" if isinstance(stage, ModularStage) else "", split)
            for stage in stages]


def read_score_matrix(scores: list[Scores], order: list[str], value: str = "nats_per_token"):
    """Return `value` on each language (columns) after each stage (rows), both in the order of training."""
    import pandas as pd

    return pd.DataFrame([part.summary().set_index("language")[value][order] for part in scores], index=order)


def read_stages(stages: list[Training], order: list[str], **columns):
    """Return the curves of all stages in one table, with stage, total_tokens and perplexity_<language>."""
    import pandas as pd

    tables, seen = [], 0
    for language, stage in zip(order, stages, strict=True):
        part = stage.history(stage=language, **columns)
        tables.append(part.assign(total_tokens=part.tokens + seen).dropna(subset=[f"nats_{order[0]}"]))
        seen += part.tokens.iloc[-1]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(**{f"perplexity_{name}": np.exp(table[f"nats_{name}"]) for name in order})


def score_untrained(student: Student, split: str = CURVE_SPLIT):
    """Return nats per token, by language, of the student's untrained weights, on the rows of its curve."""
    import pandas as pd

    from mome.train.device import find_device

    model = replace(student, start_from=None).make_model().to(find_device())
    return pd.Series(student.score_curve(model, student.make_forward(split), split=split))


@dataclass(frozen=True)
class Drift(Table):
    """Where a modular model trained in stages forgets: what comes back when a shared part is put as it was.

    An expert is touched in its own stage only, so with all shared parts restored everything comes back.
    """

    device = "gpu"

    stages: tuple[ModularStage, ...]
    rows_per_language: int
    split: str = CURVE_SPLIT

    def check(self) -> None:
        check_choice("split", self.split, SPLITS)
        pairs = list(itertools.pairwise(self.stages))
        if not pairs or any(stage.start_from != before for before, stage in pairs):
            raise ValueError(f"stages={[stage.title for stage in self.stages]!r} are not allowed; give two "
                             "or more, each of which goes on from the one before it")

    @property
    def title(self) -> str:
        return f"drift of {self.stages[-1].title}"

    def tabulate(self):
        """Return language, part, forgotten (nats per token, end - own stage), recovered (by the part)."""
        import pandas as pd

        rows, last = [], self.stages[-1]
        for stage in self.stages[:-1]:
            own, end = self.score(stage, stage.open()), self.score(stage, last.open())
            for part, names in RESTORED.items():
                mixed, before = last.open(), stage.open()
                for name in names:
                    setattr(mixed, name, getattr(before, name))
                rows.append({"language": stage.language, "part": part, "forgotten": end - own,
                             "recovered": end - self.score(stage, mixed)})
        return pd.DataFrame(rows)

    def score(self, stage: ModularStage, model) -> float:
        """Return nats per token of a stage's language under its expert in a model."""
        from mome.models.forwards import expert_forward

        forward, language = expert_forward(stage.data.languages.index(stage.language)), stage.language
        return stage.score_curve(model, forward, self.rows_per_language, [language], self.split)[language]

    def work(self) -> float:
        return 5 * (len(self.stages) - 1) * self.stages[0].flops_to_score(self.rows_per_language)


@dataclass(frozen=True)
class RefittedRouters(Table):
    """How well a router that is fitted again in every stage recognises the languages so far.

    Fitted on all data so far, on the new language's alone, or on the token counts kept of each language.
    """

    data: Data
    order: tuple[str, ...]
    rows_per_language: int

    def check(self) -> None:
        check_order(self.order, self.data.languages)

    def tabulate(self):
        from mome.router.stages import refit_routers

        return refit_routers(self.data.open(), list(self.order), self.rows_per_language)
