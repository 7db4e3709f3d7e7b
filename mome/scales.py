"""Sizes: one dial for everything that grows with the machine. Nothing here loads torch."""

from dataclasses import dataclass, fields, replace

from mome.checks import check_choice, check_range, check_shares
from mome.values import Values

OPTIMIZERS = ("muon", "adamw")
MOST_WIDTH, MOST_BATCH, MOST = 2**16, 2**20, 10**15  # more is a slip of the pen, and plans loop over some


@dataclass(frozen=True)
class Shape(Values):
    """A GPT-2 shape: layers, heads, width; whether the head is the table of tokens or has weights of its own.
    """

    n_layer: int
    n_head: int
    n_embd: int
    tie_word_embeddings: bool = True

    def check(self) -> None:
        for name in ("n_layer", "n_head", "n_embd"):
            check_range(name, getattr(self, name), 1, MOST_WIDTH, whole=True)
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not allowed; it must be a multiple of n_head="
                             f"{self.n_head}")

    def weights(self, vocab_size: int, context: int) -> int:
        """Return a GPT-2's number of weights: tables, head, blocks of 12 D^2 + 13 D, final norm."""
        width, tables = self.n_embd, vocab_size * (1 if self.tie_word_embeddings else 2) + context
        return tables * width + self.n_layer * (12 * width**2 + 13 * width) + 2 * width

    def flops(self, vocab_size: int) -> float:
        """Return about how many operations a token takes in a training step: 6 per weight of a product."""
        return 6.0 * (12 * self.n_layer * self.n_embd**2 + vocab_size * self.n_embd)


@dataclass(frozen=True)
class Optimizer(Values):
    """How steps are taken: by Muon or AdamW, with linear warm-up and decay of the rate.

    `learning_rate` is that of the hidden matrices, which Muon or AdamW moves; tables, head, norms and biases
    take AdamW's steps of `other_rate`, where 0 is the same rate. A `max_grad_norm` of 0 is no clipping.
    """

    learning_rate: float
    other_rate: float = 0.0
    kind: str = "adamw"
    warmup_fraction: float = 0.05
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.9  # Muon's

    def check(self) -> None:
        check_choice("optimizer", self.kind, OPTIMIZERS)
        if self.kind == "adamw":
            object.__setattr__(self, "momentum", 0.0)
        object.__setattr__(self, "other_rate", self.other_rate or self.learning_rate)
        for name in ("learning_rate", "other_rate"):
            check_range(name, getattr(self, name), 1e-8)
        for name in ("weight_decay", "max_grad_norm"):
            check_range(name, getattr(self, name), 0)
        check_range("warmup_fraction", self.warmup_fraction, 0, 1)
        for name, value in [("momentum", self.momentum), *(("betas", beta) for beta in self.betas)]:
            check_range(name, value, 0, 1 - 1e-9)


@dataclass(frozen=True)
class Scale(Values):
    """Everything that grows with the machine. Tokens are per language, batch_size in sequences per step."""

    name: str
    tokens_per_language: int  # most training tokens kept of each language
    vocab_size: int
    context: int  # tokens per sequence, T
    teacher: Shape
    student: Shape
    expert: Shape  # bodies of the modular model
    batch_size: int
    teacher_batches: int  # of that size in one step of the teacher
    micro_batch_size: int  # sequences per forward pass on one device
    teacher_tokens: int  # training tokens the teacher sees, all languages together
    student_tokens: int  # training tokens a student or expert sees, per language
    optimizer: str  # muon or adamw; `notebooks/rates.ipynb` sweeps the rates of both
    muon_lr: float  # of hidden matrices, in every model: the step is scaled to a matrix's shape
    adamw_lr: float  # of hidden matrices of students and experts, should AdamW move them
    adamw_teacher_lr: float
    targets_per_token: int  # cached teacher targets per position: half most probable tokens, half draws
    evaluation_rows: int  # most held-out sequences scored per language
    curve_rows: int  # the same, of the small curve that a training keeps
    evaluations: int  # points of that curve
    router_rows: int  # most training sequences per language a router is fitted on
    other_lr: float = 2e-2  # of tables, head, norms and biases, which AdamW moves; 0 is that of the matrices
    betas: tuple[float, float] = (0.8, 0.99)
    warmup_fraction: float = 0.05
    weight_decay: float = 0.05
    max_grad_norm: float = 0.0  # no clipping
    validation_fraction: float = 0.06  # of all articles
    test_fraction: float = 0.2
    held_out_tokens: int = 1_536  # most of a held-out article
    max_diff_percent: float = 5.0  # most that training tokens may differ, in percent of the largest
    common_articles: bool = True  # keep an article only when every natural language has it
    near_duplicates: float = 0.5  # Jaccard similarity from which a training text counts as a copy
    shares: str | tuple[tuple[str, float], ...] = "equal"  # of training tokens; or imbalanced
    mixed_precision: str = "no"  # no, bf16 or fp16; `mome bench precision` checks the choice

    def check(self) -> None:
        for name in ("tokens_per_language", "batch_size", "teacher_batches", "micro_batch_size",
                     "teacher_tokens", "router_rows", "student_tokens", "evaluation_rows", "curve_rows",
                     "evaluations"):
            most = MOST_BATCH if "batch" in name else MOST
            check_range(name, getattr(self, name), 1, most, whole=True)
        # The first token of a sequence is never a target.
        check_range("context", self.context, 2, MOST_BATCH, whole=True)
        check_range("vocab_size", self.vocab_size, 300, 65_536, whole=True)
        check_range("targets_per_token", self.targets_per_token, 2, self.vocab_size - 1, whole=True)
        for name in ("muon_lr", "adamw_lr", "adamw_teacher_lr"):
            check_range(name, getattr(self, name), 1e-8)
        check_range("other_lr", self.other_lr, 0)
        self.make_optimizer()  # which checks the rest of its values
        for name in ("validation_fraction", "test_fraction"):
            check_range(name, getattr(self, name), 0.001, 0.4)
        check_range("held_out_tokens", self.held_out_tokens, 16, whole=True)
        check_range("max_diff_percent", self.max_diff_percent, 0.01, 100)
        check_range("near_duplicates", self.near_duplicates, 0.1, 1)
        check_shares(self.shares)
        check_choice("mixed_precision", self.mixed_precision, ("no", "bf16", "fp16"))
        if self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size={self.micro_batch_size} is not allowed; it must be at most "
                             f"batch_size={self.batch_size}")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context

    @property
    def teacher_steps(self) -> int:
        return max(2, self.teacher_tokens // (self.teacher_batches * self.tokens_per_step))

    @property
    def student_steps(self) -> int:
        """Optimizer steps of one student on one language."""
        return max(2, self.student_tokens // self.tokens_per_step)

    def make_optimizer(self, role: str = "student", kind: str = "", width: float = 1.0) -> Optimizer:
        """Return how a role, "teacher" or "student", takes its steps, by default with the scale's optimizer.

        AdamW's rate falls as the model is `width` times as wide (Yang et al. 2022, arXiv:2203.03466): at an
        expert's rate a wide one would end behind it. Muon's steps are scaled to each matrix already.
        """
        kind = kind or self.optimizer
        adamw_rate = self.adamw_teacher_lr if role == "teacher" else self.adamw_lr / width
        rate = self.muon_lr if kind == "muon" else adamw_rate
        return Optimizer(rate, self.other_lr, kind, self.warmup_fraction, self.weight_decay,
                         self.max_grad_norm, self.betas)


SCALES = {scale.name: scale for scale in (
    Scale("smoke", 60_000, 1_024, 64, teacher=Shape(2, 2, 96, False), student=Shape(2, 2, 48, False),
          expert=Shape(2, 2, 48, False), batch_size=8, teacher_batches=1, micro_batch_size=8,
          teacher_tokens=240_000, student_tokens=18_000, optimizer="muon", muon_lr=8e-3, adamw_lr=2e-3,
          adamw_teacher_lr=1e-3, targets_per_token=16, evaluation_rows=48, curve_rows=6, evaluations=3,
          router_rows=400, test_fraction=0.12),
    Scale("laptop", 520_000, 4_096, 128, teacher=Shape(4, 4, 192, False), student=Shape(2, 4, 96, False),
          expert=Shape(2, 4, 96, False), batch_size=4, teacher_batches=2, micro_batch_size=4,
          teacher_tokens=1_200_000, student_tokens=128_000, optimizer="muon", muon_lr=4e-3, adamw_lr=1e-3,
          adamw_teacher_lr=5e-4, targets_per_token=32, evaluation_rows=160, curve_rows=16, evaluations=6,
          router_rows=2_000),
    # Sizes of the paper, whose experts' head is untied; more tokens can be asked for with `overrides`.
    Scale("paper", 500_000_000, 32_000, 1_024, teacher=Shape(24, 16, 1_024), student=Shape(12, 12, 768),
          expert=Shape(3, 6, 768, False), batch_size=1_024, teacher_batches=1, micro_batch_size=32,
          teacher_tokens=6_000_000_000, student_tokens=1_500_000_000, optimizer="adamw", muon_lr=4e-3,
          adamw_lr=5e-4, adamw_teacher_lr=3e-4, targets_per_token=64, evaluation_rows=2_000, curve_rows=500,
          evaluations=16, router_rows=20_000, other_lr=0.0, betas=(0.9, 0.95), max_grad_norm=1.0,
          test_fraction=0.1, held_out_tokens=16_384, mixed_precision="bf16"))}


def resolve_scale(scale: str, overrides: dict | None = None) -> Scale:
    """Return the named scale, single values overridden, a shape's as a mapping: {"student": {"n_layer": 6}}.

    Raises ValueError for an unknown scale, an unknown field, or a value that the field does not allow.
    """
    check_choice("scale", scale, list(SCALES))
    return override("overrides", SCALES[scale], {} if overrides is None else overrides)


def override(label: str, base: Values, changes: dict) -> Values:
    """Return `base` with some of its fields changed, which errors call by `label`."""
    known = [field.name for field in fields(base) if field.name != "name"]
    if not isinstance(changes, dict):
        raise ValueError(f"{label}={changes!r} is not allowed; give a mapping, names in: {', '.join(known)}")
    for name, value in changes.items():
        check_choice(label, name, known)
        if isinstance(getattr(base, name), Shape):
            changes = changes | {name: override(f"{label}[{name!r}]", getattr(base, name), value)}
    return replace(base, **changes)
