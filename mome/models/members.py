"""Who belongs to a modular model: experts that join and leave, and a vocabulary that grows."""

from pathlib import Path

import torch
from transformers import GPT2Model

from mome.checks import check_choice
from mome.models.bodies import check_shapes, speed_up
from mome.models.config import check_names
from mome.models.experts import read_expert
from mome.router.affine import Router

NEVER = -1e9  # the bias of an expert that no router knows: finite, so that it can be alone


class Members:
    """What a modular model knows of its members; all changes keep the other experts bit for bit."""

    def check_experts(self, allowed) -> list[str]:
        """Return the allowed experts' names, each once; ValueError for an unknown one and for none."""
        names = self.config.languages
        if isinstance(allowed, str):
            raise ValueError(f"allowed_experts={allowed!r} is not allowed; give a list: [{allowed!r}]")
        if allowed is not None and not len(allowed):
            raise ValueError(f"allowed_experts={allowed!r} leaves no expert; choose from: {', '.join(names)}")
        for name in [] if allowed is None else allowed:
            check_choice("allowed_experts", name, names)
        return list(dict.fromkeys(names if allowed is None else allowed))

    def check_index(self, index, batch_size: int, allowed: list[str] | None = None,
                    average: str | None = None) -> torch.Tensor:
        """Return the experts' numbers (B,) as a tensor; ValueError unless each row has an allowed one."""
        if average is not None:
            raise ValueError(f"average_experts={average!r} is not allowed with expert_index, which names one "
                             "expert for each row")
        names = self.config.languages
        whole = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
        try:
            found = torch.as_tensor(index, device=self.device)
        except (TypeError, ValueError, RuntimeError):  # words, lists of unequal lengths
            found = torch.tensor(0.0)
        if found.dtype not in whole or found.shape != (batch_size,):
            raise ValueError(f"expert_index={index!r} is not allowed; give a whole number for each of the "
                             f"{batch_size} rows, from 0 to {len(names) - 1}: {', '.join(names)}")
        for number in found.unique().tolist():
            if not 0 <= number < len(names):
                raise ValueError(f"expert_index={number} is not allowed; experts have numbers from 0 to "
                                 f"{len(names) - 1}: {', '.join(names)}")
            if allowed is not None and names[number] not in allowed:
                raise ValueError(f"expert_index={number} ({names[number]}) is not allowed; "
                                 f"allowed_experts are {', '.join(allowed)}")
        return found.long()

    def add_expert(self, language: str, body: GPT2Model | str | Path, router: Router | None = None) -> None:
        """Add an expert: a body, which takes the model's device and type, or the file that holds one.

        `router` takes the old one's place. Without one the new expert is never routed to: it answers where
        it is told (`expert_index`, `allowed_experts`) or averaged. Raises ValueError for a language that has
        an expert or cannot be a name, a body of another shape or with a token table, a file as `read_expert`
        does, and a router that does not know this model's languages and the new one, in that order, or reads
        another tokenizer's ids.
        """
        names, sha256 = self.config.languages, self.config.tokenizer_sha256
        if language in names:
            raise ValueError(f"language={language!r} has an expert already; remove it, or take another name")
        languages = check_names([*names, language])
        if isinstance(body, str | Path):
            body, _ = read_expert(body, self)
        if not isinstance(body, GPT2Model) or body.wte is not None:
            raise ValueError(f"body={type(body).__name__} is not allowed; an expert is a GPT2Model without a "
                             "token table, as build_body makes it")
        check_shapes({"this model": self.config.body_config(), language: body.config})
        if router is None:
            router = self.router.widen(language, NEVER)
        if router.languages != languages:
            raise ValueError(f"router of {', '.join(router.languages)} is not allowed; it must be fitted on "
                             f"{', '.join(languages)}, in that order")
        if (found := router.tokenizer_sha256) != sha256:
            raise ValueError(f"router reads ids of tokenizer {found[:12]!r}, not the model's {sha256[:12]!r}")
        if len(router.weight) != self.config.vocab_size:
            raise ValueError(f"router of {len(router.weight)} ids is not allowed; the model has "
                             f"{self.config.vocab_size}")
        body.config._attn_implementation = self.config._attn_implementation
        self.experts[language] = body.to(self.device, self.embedding.weight.dtype).train(self.training)
        self.config.languages, self.router = languages, router.to(self.device)

    def remove_expert(self, language: str) -> None:
        """Take an expert out, also of the router. Raises ValueError for an unknown one and for the last."""
        check_choice("language", language, self.config.languages)
        languages = [name for name in self.config.languages if name != language]
        if not languages:
            raise ValueError(f"language={language!r} is the last expert; a model needs one")
        del self.experts[language]
        self.config.languages, self.router = languages, self.router.keep(languages)

    def resize_token_embeddings(self, *args, **kwargs) -> torch.nn.Embedding:
        """Return the embedding with more or fewer rows, as transformers does; the router follows.

        To the router a new id is like a special one: it says nothing about the language.
        """
        embedding = super().resize_token_embeddings(*args, **kwargs)
        size = len(embedding.weight)
        self.router = self.router.resize(size)
        self.config.body = {**self.config.body, "vocab_size": size}
        for body in [*self.experts.values(), *([self.common_expert] if self.common_expert else [])]:
            body.config.vocab_size = size
        speed_up(self.lm_head)
        return embedding
