"""Recipes of dense students: what they learn from, on which languages, for how long, from which weights."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from mome import distill
from mome.checks import check_choice, check_range
from mome.distill import ALPHA_WINDOW, DWA_TEMPERATURE
from mome.languages import check_languages
from mome.recipes.data import Data
from mome.recipes.teacher import Targets, Teacher, check_shared_batches, count_rows
from mome.recipes.training import Training, training_fields
from mome.scales import Shape
from mome.values import Values

SHARES = (1e-3, 1e3)  # of a student's usual tokens
DENSE_SIZES = ("same active", "same total", "same total, deep")
# The schedules of alpha that use a value.
USED_BY = {"alpha": ("fixed", "linear", "cosine"), "alpha_end": ("linear", "cosine"),
           "window": ("adaptive_paper", "dwa", "grad_norm"), "dwa_temperature": ("dwa",)}


@dataclass(frozen=True)
class Objective(Values):
    """What a student minimises: alpha * hard-label CE + (1 - alpha) * KD loss; no `kd_loss` is CE alone.

    What a schedule or loss does not use is set to its default, so that equal objectives have equal names.
    """

    kd_loss: str | None = "teacher_ce"
    schedule: str = "fixed"
    alpha: float = 0.5
    alpha_end: float = 0.0
    temperature: float = 1.0
    mixture: float | None = None
    window: int = ALPHA_WINDOW
    dwa_temperature: float = DWA_TEMPERATURE

    def check(self) -> None:
        check_choice("alpha_schedule", self.schedule, distill.ALPHA_SCHEDULES)
        for name in ("alpha", "alpha_end"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("window", self.window, 2, whole=True)
        check_range("dwa_temperature", self.dwa_temperature, 1e-3)
        defaults = {field.name: field.default for field in fields(self)}
        if self.kd_loss is None:
            kept = defaults | {"kd_loss": None, "alpha": 1.0}
        else:
            kept = {name: defaults[name] for name, users in USED_BY.items() if self.schedule not in users}
            kept["mixture"] = distill.check_kd_options(self.kd_loss, self.temperature, self.mixture)
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    @property
    def is_cached(self) -> bool:
        """True when the loss is computed from cached targets, without running the teacher."""
        return distill.can_use_cache(self.kd_loss, self.temperature)

    def make_schedule(self, steps: int):
        from mome.distill.schedules import make_alpha_schedule

        return make_alpha_schedule(self.schedule, steps, self.alpha, self.alpha_end, window=self.window,
                                   dwa_temperature=self.dwa_temperature)


HARD_LABELS = Objective(None)


@dataclass(frozen=True, kw_only=True)
class Student(Training):
    """A dense student: batches balanced over `languages`, at most `rows_per_language` rows of each.

    It reads `targets` or runs `teacher`, as its objective asks for, and goes on from the weights of
    `start_from`, where given.
    """

    languages: tuple[str, ...]
    rows_per_language: int
    objective: Objective = field(default_factory=Objective)
    targets: Targets | None = None
    teacher: Teacher | None = None
    start_from: Training | None = None

    def check(self) -> None:
        super().check()
        check_languages(self.languages, self.data.languages)
        self.check_batches()
        self.check_sources()

    def check_batches(self) -> None:
        check_shared_batches(self.languages, self.batch_size)
        alternates = self.objective.schedule == "alternate_micro_batch"
        if alternates and self.batch_size % (2 * self.micro_batch_size):
            raise ValueError(f"micro_batch_size={self.micro_batch_size} is not allowed; twice as many must "
                             f"divide batch_size={self.batch_size}, so that both losses have equal shares")

    def check_sources(self) -> None:
        """Raise ValueError for targets or a teacher that the objective lacks; drop what it does not use."""
        objective = self.objective
        if not objective.is_cached:
            object.__setattr__(self, "targets", None)
        elif self.targets is None or self.targets.rows_per_language < self.rows_per_language:
            cached = self.targets.rows_per_language if self.targets else 0
            raise ValueError(f"rows_per_language={self.rows_per_language} is not allowed; targets are cached "
                             f"for {cached} rows of a language")
        elif not set(self.languages) <= set(self.targets.languages):
            raise ValueError(f"languages={self.languages!r} is not allowed; targets are cached for "
                             f"{', '.join(self.targets.languages)}")
        elif self.targets.data != self.data:
            raise ValueError(f"targets of {self.targets.data.name} are not allowed; they must be made "
                             f"from the student's own {self.data.name}")
        if objective.is_cached or objective.kd_loss is None:
            object.__setattr__(self, "teacher", None)
        elif self.teacher is None:
            raise ValueError(f"kd_loss={objective.kd_loss!r} at temperature={objective.temperature:g} cannot "
                             "read cached targets; give the teacher")

    @classmethod
    def of(cls, setting, languages, seed: int = 0, objective: Objective | None = None, *, tail: str = "drawn",
           token_share: float = 1.0, shape: Shape | None = None, **changes):
        """Return the student of a setting on some languages, with `token_share` of the tokens of each.

        A share above 1 is fresh text as far as there is any. It and a tail other than drawn have targets of
        their own, of the student's languages alone; all other students share theirs.
        """
        scale, objective = setting.scale, objective or Objective()
        languages = check_languages(languages, setting.languages)
        check_choice("tail", tail, distill.TAILS)
        check_range("token_share", token_share, *SHARES)
        share = max(1.0, token_share)
        cached = languages if share > 1 or tail != "drawn" else setting.languages
        width = 1.0 if shape is None else shape.n_embd / scale.expert.n_embd
        values = training_fields(setting, width=width)
        if objective.schedule == "alternate_micro_batch":
            half = max(1, scale.batch_size // 2)
            values["micro_batch_size"] = max(n for n in range(1, scale.micro_batch_size + 1) if half % n == 0)
        needs_teacher = objective.kd_loss is not None and not objective.is_cached
        return cls(**{
            **values, "data": Data.of(setting), "shape": shape or scale.student, "languages": languages,
            "steps": max(2, round(scale.student_steps * token_share)) * len(languages), "seed": seed,
            "rows_per_language": count_rows(scale, share), "objective": objective,
            "targets": Targets.of(setting, tail, cached, share) if objective.is_cached else None,
            "teacher": Teacher.of(setting) if needs_teacher else None, **changes})

    @property
    def title(self) -> str:
        """What it learns from, on what, for how long: enough to tell the arms of a notebook apart."""
        loss = self.objective
        words = [self.kind(), "+".join(self.languages), loss.kd_loss or "hard labels"]
        if loss.kd_loss:
            words.append(f"alpha {loss.alpha:.3g}" if loss.schedule == "fixed" else loss.schedule)
        if loss.temperature != 1:
            words.append(f"T {loss.temperature:g}")
        if self.targets and self.targets.tail != "drawn":
            words.append(f"{self.targets.tail} tail")
        words += [f"{self.steps} steps", f"seed {self.seed}"]
        return " ".join([*words, *([] if self.order_seed is None else [f"order {self.order_seed}"])])

    def make_model(self):
        return self.start_from.open() if self.start_from else super().make_model()

    def list_rows(self, data, language: str):
        """Return the training rows of a language that the student sees."""
        return data.row_numbers("train", language, self.rows_per_language)

    def list_groups(self, data) -> list:
        return [self.list_rows(data, language) for language in self.languages]

    def make_loss(self, forward, **second):
        from mome.distill.objective import make_objective

        loss, sources = self.objective, {"targets": self.targets, "teacher": self.teacher}
        opened = {name: source.open() for name, source in sources.items() if source}
        return make_objective(loss.kd_loss, forward, temperature=loss.temperature, mixture=loss.mixture,
                              **opened, **second)

    def make_schedule(self):
        return self.objective.make_schedule(self.steps)


def shape_dense(scale, size: str, n_experts: int) -> Shape:
    """Return a dense control's shape: an expert's ("same active"), or with the weights of so many experts.

    "same total" is wider at an expert's depth, in steps of two per head; "same total, deep" has all layers.
    """
    check_choice("controls", size, DENSE_SIZES)
    expert = scale.expert
    if size == "same active":
        return expert
    if size == "same total, deep":
        return replace(expert, n_layer=expert.n_layer * n_experts)
    body, all_weights = expert.weights(0, scale.context), expert.weights(scale.vocab_size, scale.context)
    total = all_weights + (n_experts - 1) * body + (0 if expert.tie_word_embeddings else scale.vocab_size)
    widths = range(expert.n_embd, 2 * n_experts * expert.n_embd, 2 * expert.n_head)
    wider = [replace(expert, n_embd=width) for width in widths]
    return min(wider, key=lambda shape: abs(shape.weights(scale.vocab_size, scale.context) - total))


def make_dense(setting, size: str = "same active", seed: int = 0) -> Student:
    """Return the dense student beside a modular model: trained on all languages, as many tokens of each."""
    shape = shape_dense(setting.scale, size, len(setting.languages))
    return Student.of(setting, setting.languages, seed, shape=shape)
