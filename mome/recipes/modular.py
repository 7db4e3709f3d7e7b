"""Recipes of modular models: trained in four ways, given a router, taken apart and enlarged."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from mome.checks import check_choice, check_range
from mome.distill import CACHED_LOSSES
from mome.recipe import Recipe
from mome.recipes.data import Data
from mome.recipes.routers import FittedRouter
from mome.recipes.students import Objective, Student
from mome.recipes.teacher import Targets, check_shared_batches, count_rows
from mome.recipes.training import Training, training_fields
from mome.weights import open_weights

MOE_VARIANTS = ("PLE", "PLE branched", "JEET", "MoE-CE")
# Parts of a language's token budget: for PLE's shared embedding once the experts are frozen, and, when PLE
# branches, for the common ancestor of its experts before they part (Li et al. 2022: about half is best).
EMBEDDING_SHARE, ANCESTOR_SHARE = 0.2, 0.4


@dataclass(frozen=True, kw_only=True)
class MoE(Training):
    """A modular model, trained with each row told its language. A router is no part of it: see `RoutedMoE`.

    PLE: `experts`, students distilled apart on one language each, assembled and frozen, then a session for
    the shared embedding and head. PLE branched: the same from experts with a common ancestor. JEET: embedding
    and experts together. MoE-CE: JEET with a common expert that sees every row. All see equally many tokens.
    """

    variant: str
    targets: Targets
    rows_per_language: int
    objective: Objective
    experts: tuple[Student, ...] = ()

    def check(self) -> None:
        super().check()
        check_choice("variant", self.variant, MOE_VARIANTS)
        check_targets(self)
        if len(self.languages) < 2:
            raise ValueError(f"languages={list(self.languages)!r} is too few for a modular model; give two")
        check_shared_batches(self.languages, self.batch_size)
        wanted = [(name,) for name in self.languages if self.variant.startswith("PLE")]
        if (found := [expert.languages for expert in self.experts if expert.data == self.data]) != wanted:
            raise ValueError(f"experts of {found!r} are not allowed; {self.variant} takes {wanted!r}")

    @classmethod
    def of(cls, setting, variant: str, seed: int = 0, kd_loss: str = "teacher_ce", alpha: float = 0.5,
           embedding_share: float = EMBEDDING_SHARE, ancestor_share: float = ANCESTOR_SHARE) -> MoE:
        """Return the modular model of a setting; `embedding_share` and `ancestor_share` part PLE's budget."""
        for name, share in (("embedding_share", embedding_share), ("ancestor_share", ancestor_share)):
            check_range(name, share, 1e-3, 0.9)
        scale, languages, objective = setting.scale, setting.languages, Objective(kd_loss, alpha=alpha)
        steps, experts = scale.student_steps * len(languages), ()
        train = functools.partial(Student.of, setting, seed=seed, objective=objective, shape=scale.expert)
        if variant.startswith("PLE"):
            steps, left, ancestor = max(2, round(steps * embedding_share)), 1 - embedding_share, None
            if variant == "PLE branched":
                ancestor, left = train(languages, token_share=ancestor_share), left - ancestor_share
            experts = tuple(train([name], token_share=left, start_from=ancestor) for name in languages)
        return cls(data=Data.of(setting), shape=scale.expert, steps=steps, seed=seed, variant=variant,
                   targets=Targets.of(setting), rows_per_language=count_rows(scale), objective=objective,
                   experts=experts, **training_fields(setting))

    @property
    def languages(self) -> tuple[str, ...]:
        return self.data.languages

    @property
    def title(self) -> str:
        return f"{self.variant} seed {self.seed}"

    def make_model(self):
        import torch

        from mome.data.vocabulary import token_counts
        from mome.models.assemble import assemble_experts

        if not self.experts:
            return start_moe(self, has_common_expert=self.variant == "MoE-CE")
        counts = torch.from_numpy(token_counts(self.data.open())).float()
        parts = {expert.languages[0]: expert.open().cpu() for expert in self.experts}
        return assemble_experts(parts, counts)

    def list_groups(self, data) -> list:
        return [data.row_numbers("train", language, self.rows_per_language) for language in data.languages]

    def make_forward(self, split: str):
        from mome.models.forwards import told_forward

        return told_forward(self.data.open().language_index(split))

    def make_loss(self, forward):
        from mome.distill.objective import make_objective

        return make_objective(self.objective.kd_loss, forward, targets=self.targets.open())

    def make_schedule(self):
        return self.objective.make_schedule(self.steps)

    def build(self, folder: Path) -> dict:
        notes = super().build(folder)
        ancestors = dict.fromkeys(expert.start_from for expert in self.experts if expert.start_from)
        tokens = notes["tokens"] + sum(part.notes["tokens"] for part in (*self.experts, *ancestors))
        # Not of the model in the folder: what is open there could not be renamed on Windows.
        model = start_moe(self, has_common_expert=self.variant == "MoE-CE")
        return notes | {"tokens": tokens, "active_parameters": model.active_parameters()}

    def open(self):
        """Return the modular model on the device that is used here."""
        from mome.models.assemble import load_moe

        return load_moe(self.folder)

    def work(self) -> float:
        return super().work() * (1.9 if self.variant == "MoE-CE" else 1.4)  # as `mome bench step` measures

    def size(self) -> float:
        return super().size() * (len(self.languages) + 1)


def check_targets(recipe) -> None:
    """Raise ValueError unless a modular training's cached targets serve its loss and cover its rows."""
    check_choice("kd_loss", recipe.objective.kd_loss, CACHED_LOSSES)
    check_range("temperature", recipe.objective.temperature, 1, 1)
    targets = recipe.targets
    if targets.data != recipe.data or targets.rows_per_language < recipe.rows_per_language or (
            set(targets.languages) < set(recipe.data.languages)):
        raise ValueError(f"targets={targets.name!r} are not allowed; they lack some of the rows")


def start_moe(recipe: Training, has_common_expert: bool):
    """Return an untrained modular model of a recipe's shape, an expert for each of the data's languages."""
    from mome.models.assemble import build_moe
    from mome.models.gpt2 import gpt2_config

    body = gpt2_config(recipe.shape, recipe.data.vocab_size, recipe.data.context)
    return build_moe(list(recipe.data.languages), body, has_common_expert=has_common_expert,
                     seed=recipe.seed)


@dataclass(frozen=True)
class RoutedMoE(Recipe):
    """A modular model with a fitted router inside and, where given, one more expert: what others can use."""

    model: MoE
    router: FittedRouter
    added: AddedExpert | None = None

    def check(self) -> None:
        wanted = (*self.model.languages, *([self.added.language] if self.added else []))
        if self.added and self.added.model != self.model:
            raise ValueError(f"added={self.added.title!r} is not allowed; it must be for {self.model.title}")
        if self.router.languages != wanted:
            raise ValueError(f"router of {', '.join(self.router.languages)} is not allowed; it must be "
                             f"fitted on {', '.join(wanted)}, in that order")

    @classmethod
    def of(cls, setting, variant: str, seed: int = 0) -> RoutedMoE:
        return cls(MoE.of(setting, variant, seed), FittedRouter.of(setting))

    @property
    def title(self) -> str:
        return f"{self.model.title} with router" + (f" and {self.added.language}" if self.added else "")

    @property
    def data(self) -> Data:
        return self.model.data

    def flops_to_score(self, n_rows: int) -> float:
        return self.model.flops_to_score(n_rows)

    def build(self, folder: Path) -> dict:
        model, router = self.model.open(), self.router.open()
        router.check_tokenizer(self.data.open().tokenizer)
        model.config.tokenizer_sha256 = router.tokenizer_sha256
        if self.added:
            model.add_expert(self.added.language, self.added.open(), router)
        else:
            model.router = router.to(model.device)
        model.save_pretrained(folder)
        return {"active_parameters": model.active_parameters(), "languages": list(model.config.languages)}

    open = MoE.open

    def size(self) -> float:
        return self.model.size()


@dataclass(frozen=True)
class Expert(Recipe):
    """One expert taken out of a modular model, as a file of its own."""

    format, shown = 2, ("language", "model")

    model: MoE
    language: str

    def check(self) -> None:
        check_choice("language", self.language, self.model.languages)

    def build(self, folder: Path) -> dict:
        host = self.model
        return keep_expert(folder, host.open(), self.language, host, host.data, host.seed)

    def open(self):
        """Return the expert's body, fit for its model."""
        from mome.models.experts import read_expert

        host = self.model.open()
        host.config.tokenizer_sha256 = self.model.data.notes["token_sha256"]
        return read_expert(open_weights(self.folder) / "expert.safetensors", host)[0].eval()


@dataclass(frozen=True, kw_only=True)
class AddedExpert(Training):
    """One more expert for a modular model, trained on `data` behind the frozen embedding and head.

    It starts as a copy of the expert that predicts `start_rows` training rows of the new language best, and
    learns from hard labels, as the teacher never saw the language.
    """

    format, shown = 2, ("language", "model")

    model: MoE
    start_rows: int = 64

    @classmethod
    def of(cls, setting, model: MoE, data: Data) -> AddedExpert:
        return cls(data=data, model=model, shape=model.shape, steps=setting.scale.student_steps,
                   seed=model.seed, **training_fields(setting))

    @property
    def language(self) -> str:
        return self.data.languages[0]

    @functools.cached_property
    def nearest(self) -> str:
        """The language whose expert predicts the new language best."""
        from mome.evaluate.uses import score_model
        from mome.models.forwards import expert_forward

        model, asked = self.model.open(), (self.data.open(), "train", self.start_rows)
        nats = {name: score_model(model, expert_forward(number), *asked).nats.sum()
                for number, name in enumerate(model.config.languages)}
        return min(nats, key=nats.get)

    def make_model(self):
        from mome.models.bodies import build_body
        from mome.router.affine import Router

        model = self.model.open()
        config, body = model.config, build_body(model.config.body_config())
        body.load_state_dict(model.experts[self.nearest].state_dict())
        router = Router(config.vocab_size, [*config.languages, self.language], config.tokenizer_sha256)
        model.add_expert(self.language, body, router)
        model.requires_grad_(False)
        model.experts[self.language].requires_grad_(True)
        return model

    def make_forward(self, split: str):
        from mome.models.forwards import expert_forward

        return expert_forward(len(self.model.languages))

    def build(self, folder: Path) -> dict:
        model, history = self.run_training(folder)
        history.to_parquet(folder / "history.parquet")
        about = keep_expert(folder, model, self.language, self.model, self.data, self.seed)
        return about | {"started_as": self.nearest, "tokens": int(history.tokens.iloc[-1])}

    open = Expert.open


def keep_expert(folder: Path, model, language: str, parent: MoE, data: Data, seed: int) -> dict:
    """Write one of the model's experts, with what it was made from; return that, for the manifest."""
    from mome.models.bodies import count_parameters
    from mome.models.experts import save_expert

    model.config.tokenizer_sha256 = data.notes["token_sha256"]
    about = {"parent": parent.name, "data_sha256": data.notes["sha256"], "seed": seed}
    save_expert(model, language, folder / "expert.safetensors", **about)
    return about | {"language": language, "tokenizer_sha256": model.config.tokenizer_sha256,
                    "parameters": count_parameters(model.experts[language])}
