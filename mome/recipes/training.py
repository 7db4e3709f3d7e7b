"""What all trainings share: model, batches and loss from a recipe's fields in, weights and history out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mome import store
from mome.checks import check_choice, check_range
from mome.recipe import Recipe, list_ancestors
from mome.recipes.data import Data
from mome.scales import Optimizer, Shape

CURVE_SPLIT = "validation"
STEP_WORK = 1.2e9  # of a step beside its products: optimizer, targets, a hundred small operations
# What accelerate reads from its environment that would change a training, and what leaves it as it is.
SWITCHES = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
            "ACCELERATE_DYNAMO_BACKEND": "no", "ACCELERATE_FP8_BACKEND": "no",
            **dict.fromkeys((f"ACCELERATE_USE_{name}" for name in (
                "FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG", "SAGEMAKER")), "false")}


@dataclass(frozen=True, kw_only=True)
class Training(Recipe):
    """A training; its folder holds weights, as transformers saves them, and history.

    Unless a kind of training says otherwise: a GPT-2 from scratch, on hard labels, on batches balanced over
    the data's languages. Its history has a curve: scored `evaluations` times on `curve_rows` rows a language.
    `seed` draws the weights, and the order of the text unless `order_seed` does.
    """

    device = "gpu"
    goes_on = True

    data: Data
    shape: Shape
    steps: int
    batch_size: int
    micro_batch_size: int
    optimizer: Optimizer
    mixed_precision: str = "no"
    curve_rows: int
    evaluations: int
    seed: int = 0
    order_seed: int | None = None

    def check(self) -> None:
        for name in ("steps", "batch_size", "micro_batch_size", "curve_rows", "evaluations"):
            check_range(name, getattr(self, name), 1, whole=True)
        for name, seed in (("seed", self.seed), ("order_seed", self.text_seed)):
            check_range(name, seed, 0, 2**31 - 1, whole=True)
        object.__setattr__(self, "order_seed", None if self.text_seed == self.seed else self.order_seed)
        check_choice("mixed_precision", self.mixed_precision, ("no", "bf16", "fp16"))
        checkpoint_seconds()  # both said now, not in the first training
        check_switches(self.mixed_precision)

    @property
    def text_seed(self) -> int:
        """The seed of the order of the text."""
        return self.seed if self.order_seed is None else self.order_seed

    def make_model(self):
        """Return the model before its first step."""
        from mome.models.gpt2 import build_gpt2

        return build_gpt2(self.shape, self.data.vocab_size, self.data.context, self.seed)

    def list_groups(self, data) -> list:
        """Return the training rows that batches are balanced over, an array of row numbers a language."""
        return [data.row_numbers("train", language) for language in data.languages]

    def plan_rows(self, data):
        """Return the batches (steps, B), row numbers of the training split."""
        from mome.train.batches import plan_batches

        return plan_batches(self.list_groups(data), self.steps, self.batch_size, self.text_seed)

    def make_loss(self, forward):
        """Return `loss_fn(model, batch, alpha)`, for a model on the training's device."""
        from mome.distill.objective import make_objective

        return make_objective(None, forward)

    def make_schedule(self):
        """Return the schedule of alpha; None is hard labels alone."""
        return None

    def make_forward(self, split: str):
        """Return `forward(model, batch)` of a split: logits (B, T, V)."""
        from mome.models.forwards import dense_logits

        return dense_logits

    def build(self, folder: Path) -> dict:
        from transformers.utils.logging import disable_progress_bar

        from mome.models.bodies import count_parameters

        disable_progress_bar()
        model, history = self.run_training(folder)
        model.save_pretrained(folder)
        history.to_parquet(folder / "history.parquet")
        return {"parameters": count_parameters(model), "tokens": int(history.tokens.iloc[-1])}

    def run_training(self, folder: Path):
        """Return (trained model, history); the state goes to a checkpoint in the folder."""
        from mome.train.device import find_device
        from mome.train.loop import train_model

        data, model = self.data.open(), self.make_model().to(find_device())
        held_out = self.make_forward(CURVE_SPLIT)
        history = train_model(
            model, self.make_loss(self.make_forward("train")), self.plan_rows(data), data.rows("train"),
            optimizer=self.optimizer, alpha_schedule=self.make_schedule(), text=self.title, name=self.name,
            values=self.plain_fields(),
            mixed_precision=self.mixed_precision, micro_batch_size=self.micro_batch_size,
            evaluations=self.evaluations, evaluate=lambda: {
                f"nats_{name}": nats for name, nats in self.score_curve(model, held_out).items()},
            checkpoint=folder / store.CHECKPOINT, checkpoint_seconds=checkpoint_seconds())
        return model, history

    def score_curve(self, model, forward, rows: int = 0, languages=None,
                    split: str = CURVE_SPLIT) -> dict[str, float]:
        """Return {language: nats per token} on a few held-out rows of each: the curve's, or other ones."""
        from mome.evaluate.scores import summarize
        from mome.evaluate.uses import score_model

        rows = rows or self.curve_rows
        scores = score_model(model, forward, self.data.open(), split, rows, languages)
        return summarize(scores).set_index("language").nats_per_token.to_dict()

    def history(self, **columns):
        """Return the training's history, one row a step, constant columns (arm, seed, ...) in front."""
        import pandas as pd

        history = pd.read_parquet(self.folder / "history.parquet")
        return history.assign(**columns)[[*columns, *history.columns]]

    def open(self):
        """Return the trained model on the device that is used here, fit to be asked."""
        from mome.models.gpt2 import load_gpt2
        from mome.train.device import find_device

        return load_gpt2(self.folder).to(find_device())

    def work(self) -> float:
        flops = self.batch_size * self.data.context * self.shape.flops(self.data.vocab_size)
        return self.steps * (flops + STEP_WORK)

    def flops_to_score(self, n_rows: int) -> float:
        return n_rows * self.data.context * self.shape.flops(self.data.vocab_size) / 3

    def size(self) -> float:
        return 4.0 * self.shape.weights(self.data.vocab_size, self.data.context) + 2e5


def training_fields(setting, role: str = "student", width: float = 1.0) -> dict:
    """Return what every training takes from a setting's scale."""
    names = ("batch_size", "micro_batch_size", "mixed_precision", "curve_rows", "evaluations")
    values = {name: getattr(setting.scale, name) for name in names}
    if role == "teacher":
        values["batch_size"] *= setting.scale.teacher_batches
    return values | {"optimizer": setting.scale.make_optimizer(role, width=width)}


def checkpoint_seconds() -> float:
    """Return how often a training writes its state: MOME_CHECKPOINT_SECONDS, else 30. No result changes."""
    given = os.environ.get("MOME_CHECKPOINT_SECONDS", "30")
    try:
        seconds = float(given)
    except ValueError:
        seconds = given  # which the check refuses by name
    check_range("MOME_CHECKPOINT_SECONDS", seconds, 0)
    return seconds


def check_switches(mixed_precision: str) -> None:
    """Raise ValueError for what `accelerate launch` was asked for and a training does not do."""
    for name, neutral in SWITCHES.items():
        value = os.environ.get(name, neutral).lower()
        if value not in (neutral, mixed_precision if name == "ACCELERATE_MIXED_PRECISION" else neutral):
            raise ValueError(f"{name}={value!r} is not allowed; a training takes its values from its recipe, "
                             f"precision and micro-batches from --overrides: unset it, or give {neutral}")


def count_processes() -> int:
    """Return how many processes train together; ValueError where accelerate started one for several."""
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if is_launched and "WORLD_SIZE" not in os.environ:
        raise ValueError("accelerate launch started one process where several were asked for, as it does "
                         "with --cpu; use: torchrun --standalone --nproc-per-node N -m mome train ...")
    return int(os.environ.get("WORLD_SIZE", "1"))


def train_together(recipe: Training) -> Path:
    """Return the built folder of a training in the processes that `accelerate launch` or torchrun started.

    They train together what it is made from, too; all else the first process builds, which alone keeps what
    is done, while the others wait for it.
    """
    from accelerate import PartialState

    from mome.train.device import find_device

    device = find_device()  # which tells accelerate of the other processes before anything else asks it
    if PartialState().num_processes != count_processes():
        raise ValueError(f"accelerate joins no processes on {device}; set ACCELERATE_USE_CPU=true")
    for part in list_ancestors([recipe], is_end=lambda made: made.is_there):
        if PartialState().is_main_process:
            part.keep()
        elif isinstance(part, Training) and not part.is_there:
            with TemporaryDirectory() as folder:
                checkpoint = store.unfinished_of(part.name) / store.CHECKPOINT
                (Path(folder) / store.CHECKPOINT).symlink_to(checkpoint)
                part.run_training(Path(folder))
        while not part.is_there:  # a barrier would not wait for hours
            time.sleep(0.1)
    return recipe.folder
