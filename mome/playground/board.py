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


def board_fields(models: dict, variant: str, languages: list[str]) -> dict[str, Field]:
    """Return the board's switches: model (`variant` at first), experts, who answers, the common expert."""
    common = "off" if models[variant].common_expert is None else "on"
    return {"variant": Field("Model", variant, tuple(models)), "way": Field("Who answers", ROUTER, WAYS),
            "common": Field("Common expert", common, COMMON_EXPERT_USES),
            **{f"expert_{name}": Field(language_name(name), True, group="experts there")
               for name in languages}}


def answer_board(models: dict, grids: dict[str, pd.DataFrame], data: PackedData, split: str) -> Callable:
    """Return a panel: a setting of the board -> its bits per byte now, and its line in the grid, if any.

    models {variant: modular model}; grids {variant: the table of `Switches`}. Beside them stands the model as
    it was trained: all experts, the router, the common expert on where there is one.
    """
    held = {(name, common): Held(model, data, split, common) for name, model in models.items()
            for common in (COMMON_EXPERT_USES if model.common_expert is not None else ("off",))}

    def ask(variant: str, way: str, common: str, **experts) -> Answer:
        there, is_alone = [name for name in data.languages if experts[f"expert_{name}"]], common == "alone"
        if not there and not is_alone:
            return Answer("No expert is there: switch one on.")
        if (variant, common) not in held:
            return Answer(f"{variant} has no common expert: set 'Common expert' to 'off', or choose another "
                          "model.")
        if way == TOLD and not is_alone and len(there) < len(data.languages):
            return Answer("A text can be told its language only while all experts are there.")
        rows, trained = held[variant, common], "off" if (variant, "on") not in held else "on"
        here, whole = rows.score(way, there), held[variant, trained].score(ROUTER, data.languages)
        use = find_use(grids[variant], way, common, there)
        is_trained = (way, common, there) == (ROUTER, trained, data.languages)
        who = "the common expert alone" if is_alone else way
        words = f"{variant}, {who}: {here.mean():.2f} bits per byte, mean over languages. "
        words += "Nothing is changed yet. " if is_trained else tell_loss(here - whole)
        if way == ROUTER and not is_alone:
            words += rows.tell_routes(there)
        words += (f"In the grid of notebook 04 this is {use!r}." if use else
                  "The grid of notebook 04 has no such line.")
        return Answer(words, figures.plot_board, (here, whole, grids[variant], use, common))

    return ask


def tell_loss(more: pd.Series) -> str:
    """Return in words which language loses most by a setting; `more` is in bits per byte, by language."""
    if more.max() < 0.005:
        return "No language loses by it. "
    return (f"Most is lost on {language_name(more.idxmax())}, {more.max():.2f} more than by the model as it "
            "was trained. ")


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

    def tell_routes(self, there: list[str]) -> str:
        """Return in words how many texts of each language whose expert is not there who reads."""
        chosen = self.model.route(self.rows, None, there).cpu().numpy()
        names, told = self.data.languages, []
        for number, name in enumerate(names):
            if name not in there:
                counts = np.bincount(chosen[self.languages == number], minlength=len(names))
                by = ", ".join(f"{counts[place]} by the {language_name(names[place])} expert"
                               for place in np.argsort(-counts, kind="stable") if counts[place])
                told.append(f"Of {counts.sum()} texts in {language_name(name)} are now read {by}. ")
        return "".join(told)

    def score(self, way: str, there: list[str]) -> pd.Series:
        """Return bits per byte by language, read in one way by the experts that are there."""
        names = self.data.languages
        if self.common == "alone" or AVERAGED.get(way) in ("hidden", "logits"):
            forward = use_forward(common_expert="alone") if self.common == "alone" else use_forward(
                allowed_experts=there, common_expert=self.common, average_experts=AVERAGED[way])
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
    way = ROUTER if len(there) == 1 and way in AVERAGED else way  # a mean of one is that one
    if common == "alone":
        same = grid.common_expert == "alone"
    else:
        router = "told" if way == TOLD else "whole"
        is_same = grid.allowed.map(lambda allowed: {*allowed.split(",")} == {*there})
        same = (is_same & (grid.router == router) & (grid.common_expert == common)
                & (grid.average_experts == AVERAGED.get(way, "")))
    return next(iter(grid[same].use), "")
