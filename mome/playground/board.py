"""The modularity board: which experts are there, who answers, and what that is worth on held-out text."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax, logsumexp

from mome.data.packing import PackedData
from mome.evaluate.uses import score_model
from mome.figures import playground as figures
from mome.languages import language_name
from mome.models.config import COMMON_EXPERT_USES
from mome.models.forwards import use_forward
from mome.playground.answers import Answer
from mome.playground.fields import Field
from mome.playground.reading import read_with_experts

ROWS = 4  # of each language
AVERAGED = {"mean of hidden states": "hidden", "mean of logits": "logits", "posterior mixture": "posterior"}
ROUTER, TOLD = "the router chooses", "the language is told"
WAYS = (ROUTER, TOLD, *AVERAGED)


def board_fields(models: dict, languages: list[str]) -> dict[str, Field]:
    """Return the board's switches: the model, an expert each, who answers, and the common expert."""
    return {"variant": Field("Model", next(iter(models)), tuple(models)),
            "way": Field("Who answers", ROUTER, WAYS),
            "common": Field("Common expert", "off", ("off", "on", "alone")),
            **{f"expert_{name}": Field(language_name(name), True, group="experts there")
               for name in languages}}


def answer_board(models: dict, grids: dict[str, pd.DataFrame], data: PackedData, split: str) -> Callable:
    """Return a panel: a setting of the board -> its bits per byte now, and its line in the grid, if any.

    models {variant: modular model}; grids {variant: the table of `Switches`}.
    """
    held = {(name, common): Held(model, data, split, common) for name, model in models.items()
            for common in (COMMON_EXPERT_USES if model.common_expert is not None else ("off",))}

    def ask(variant: str, way: str, common: str, **experts) -> Answer:
        there = [name for name in data.languages if experts[f"expert_{name}"]]
        if not there:
            return Answer("No expert is there: switch one on.")
        if (variant, common) not in held:
            return Answer(f"{variant} has no common expert: choose another model, or switch it off.")
        if way == TOLD and common != "alone" and len(there) < len(data.languages):
            return Answer("A text can be told its language only while all experts are there.")
        rows = held[variant, common]
        here, whole = rows.score(way, there), rows.score(ROUTER, data.languages)
        use, more = find_use(grids[variant], way, common, there), here - whole
        words = f"{variant}, {way}: {here.mean():.2f} bits per byte, mean over languages. "
        words += (f"Most is lost on {language_name(more.idxmax())}, {more.max():.2f} more than when the "
                  "router chooses among all. " if more.max() > 0.005 else "Nothing is lost by it. ")
        words += (f"In the grid of notebook 04 this is {use!r}." if use else
                  "The grid of notebook 04 has no such line.")
        return Answer(words, figures.plot_board, (here, whole, grids[variant], use))

    return ask


class Held:
    """A few held-out rows of each language, and what every expert of a model makes of their tokens."""

    def __init__(self, model, data: PackedData, split: str, common: str):
        self.model, self.data, self.split, self.common = model, data, split, common
        numbers = [data.row_numbers(split, name, ROWS) for name in data.languages]
        self.languages = np.repeat(np.arange(len(numbers)), list(map(len, numbers)))
        self.rows = torch.from_numpy(data.rows(split)[np.concatenate(numbers)].astype(np.int64))
        self.rows = self.rows.to(model.device)
        self.n_bytes = data.token_bytes[self.rows[:, 1:].cpu().numpy()].sum(axis=1)
        self.nats = read_with_experts(model, self.rows, common) if common != "alone" else None

    def score(self, way: str, there: list[str]) -> pd.Series:
        """Return bits per byte by language, read in one way by the experts that are there."""
        names = self.data.languages
        if self.common == "alone" or AVERAGED.get(way) in ("hidden", "logits"):
            forward = use_forward(allowed_experts=there, common_expert=self.common,
                                  average_experts=AVERAGED.get(way) if self.common != "alone" else None)
            nats = score_model(self.model, forward, self.data, self.split, ROWS).nats.to_numpy()
        elif way in AVERAGED:
            nats = mix_by_evidence(self.nats[[names.index(name) for name in there]]).sum(axis=1)
        else:
            chosen = self.languages
            if way == ROUTER:
                chosen = self.model.route(self.rows, None, there).cpu().numpy()
            nats = self.nats[chosen, np.arange(len(chosen))].sum(axis=1)
        sums = [[part[self.languages == number].sum() for number in range(len(names))]
                for part in (nats, self.n_bytes)]
        return pd.Series(np.divide(*sums) / np.log(2), names)


def mix_by_evidence(nats: np.ndarray) -> np.ndarray:
    """Return nats (B, T) under the posterior mixture of experts from those under each (E, B, T).

    As `models.modular.weigh_by_evidence`, of the tokens that come alone: -log sum_e P(e | before) p_e.
    """
    before = -np.concatenate([np.zeros_like(nats[..., :1]), nats.cumsum(axis=-1)[..., :-1]], axis=-1)
    return -logsumexp(log_softmax(before, axis=0) - nats, axis=0)


def find_use(grid: pd.DataFrame, way: str, common: str, there: list[str]) -> str:
    """Return the name of the grid's line that is this setting of the board; empty where it has none."""
    if common == "alone":
        same = grid.common_expert == "alone"
    else:
        router = "told" if way == TOLD else "whole"
        same = ((grid.allowed == ",".join(there)) & (grid.router == router) & (grid.common_expert == common)
                & (grid.average_experts == AVERAGED.get(way, "")))
    return next(iter(grid[same].use), "")
