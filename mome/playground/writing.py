"""Panels of writing: a modular model goes on with a prompt, and the models of every stage of forgetting."""

import html
import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from mome.checks import check_range
from mome.data.packing import PackedData
from mome.figures import playground as figures
from mome.figures.router import mark_text
from mome.figures.style import language_palette
from mome.languages import language_name
from mome.playground.answers import Answer
from mome.playground.reading import EMPTY, read_ids

ROUTED, EACH = "the router's choice", "each expert"


@torch.inference_mode()
def stream_tokens(model, ids: torch.Tensor, length: int, sampling_temperature: float = 0.0,
                  top_p: float = 1.0, seed: int = 0, **switches) -> Iterator[torch.Tensor]:
    """Yield the next token of every row (B,), `length` times; as `generate` would of each, one at a time.

    Temperature 0 takes the most probable token, else one is drawn among those that together have a
    probability of `top_p`, by a generator of each row's own: who else writes changes nothing. `switches` go
    to the model.
    """
    check_range("sampling_temperature", sampling_temperature, 0)
    processors = LogitsProcessorList()
    if sampling_temperature:
        processors += [TemperatureLogitsWarper(float(sampling_temperature)), TopPLogitsWarper(float(top_p))]
    draws, cache, given = [torch.Generator(model.device).manual_seed(seed) for _ in ids], DynamicCache(), ids
    for _ in range(length):
        logits = model(given, past_key_values=cache, use_cache=True, **switches).logits[:, -1].float()
        scores = processors(ids, logits)
        given = (torch.stack([row.multinomial(1, generator=drawn) for row, drawn in
                              zip(scores.softmax(dim=-1), draws, strict=True)]) if sampling_temperature
                 else scores.argmax(dim=-1, keepdim=True))
        ids = torch.cat([ids, given], dim=1)
        yield given[:, 0]


def list_writers(languages: list[str]) -> tuple[tuple[str, str], ...]:
    """Return who may write, as pairs of a label and a value: each expert, the routed one, one by name."""
    return (EACH, EACH), (ROUTED, ROUTED), *((language_name(name), name) for name in languages)


def answer_writing(model, tokenizer) -> Callable:
    """Return a panel: prompt, expert, the common one, and how to draw -> what is written, word by word."""
    names, context = model.config.languages, model.config.max_position_embeddings

    def ask(prompt: str, expert: str, sampling_temperature: float, top_p: float, length: int, seed: int,
            common: bool = False) -> Iterator[Answer]:
        ids, left_out = read_ids(tokenizer, prompt, context - length, with_start=True)
        if not ids:
            yield EMPTY
            return
        routed = names[int(model.route(torch.tensor([ids[1:]], device=model.device)))]
        chosen = names if expert == EACH else [routed if expert == ROUTED else expert]
        index = torch.tensor([names.index(name) for name in chosen], device=model.device)
        rows = torch.tensor([ids] * len(chosen), device=model.device)
        who = "each expert" if expert == EACH else f"the {language_name(chosen[0])} expert"
        how = f", {'with' if common else 'without'} the common expert" * (model.common_expert is not None)
        words = f"The router takes the prompt for {language_name(routed)}. What {who} writes{how}.{left_out}"
        said = tokenizer.decode(ids[1:])
        written = stream_tokens(model, rows, length, sampling_temperature, top_p, seed, expert_index=index,
                                common_expert="on" if common else "off")
        texts = {name: "" for name in chosen}
        for texts in read_streams(tokenizer, chosen, written):
            yield Answer(words, page=frame_texts(said, texts))
        yield Answer(words, figures.plot_pages, (said, texts), page=frame_texts(said, texts), says_all=True)

    return ask


def read_streams(tokenizer, names: list[str], stream: Iterator[torch.Tensor]) -> Iterator[dict[str, str]]:
    """Yield {name: text so far} after each token of a stream; a text ends where its row ends an article."""
    written = {name: [] for name in names}
    for tokens in stream:
        for name, token in zip(names, tokens.tolist(), strict=True):
            if tokenizer.eos_token_id not in written[name]:
                written[name].append(token)
        yield {name: tokenizer.decode(ids, skip_special_tokens=True) for name, ids in written.items()}
        if all(tokenizer.eos_token_id in ids for ids in written.values()):
            return


def frame_texts(prompt: str, texts: dict[str, str]) -> str:
    """Return HTML of what each language's expert made of a prompt."""
    palette, titles = language_palette(texts), ["the prompt", "written"]
    parts = []
    for name, text in texts.items():
        pieces = [prompt, re.sub(r"\n{3,}", lambda run: f"\n(line ends x {len(run[0])})\n", text)]
        marked = mark_text(pieces, ["#ffffff", f"{palette[name]}40"], titles)
        parts.append(f"<div><b>{html.escape(language_name(name))}</b>{marked}</div>")
    return "".join(parts)


def find_prompts(data: PackedData, split: str, length: int = 16) -> dict[str, str]:
    """Return {language: how a held-out row begins, one that begins a text if there is}.

    That are `length` tokens, or less than half of a row where rows are short.
    """
    prompts, length = {}, min(length, data.rows(split).shape[1] // 2 - 1)
    for language in data.languages:
        rows = data.rows(split)[data.row_numbers(split, language)]
        starts = np.flatnonzero(rows[:, 0] == data.tokenizer.bos_token_id)
        row = rows[starts[0] if len(starts) else 0]
        prompts[language] = data.tokenizer.decode(row[:length].tolist(), skip_special_tokens=True)
    return prompts


def answer_stages(arms: dict[str, list], scores: dict[str, pd.DataFrame], prompts: dict[str, str], tokenizer,
               length: int = 40) -> Callable:
    """Return a panel: arm, stage, language -> what that model writes and how well it reads all languages.

    arms {name: recipes of the stages}; scores {name: bits per byte, a row a stage, a column a language};
    prompts {language: the beginning of a held-out text}.
    """
    opened: dict[tuple[str, int], torch.nn.Module] = {}

    def ask(arm: str, stage: int, language: str) -> Iterator[Answer]:
        matrix = scores[arm]
        number = min(stage, len(matrix)) - 1
        if (arm, number) not in opened:
            opened[arm, number] = arms[arm][number].open().eval()
        model, told = opened[arm, number], {}
        if hasattr(model, "experts"):
            told = {"expert_index": torch.tensor([model.config.languages.index(language)])}
        context = model.config.max_position_embeddings
        ids, _ = read_ids(tokenizer, prompts[language], context // 2, with_start=True)
        rows = torch.tensor([ids], device=model.device)
        words, said, texts = tell_stage(arm, matrix, number, language), tokenizer.decode(ids[1:]), {}
        written = stream_tokens(model, rows, min(length, context - len(ids)), **told)
        for texts in read_streams(tokenizer, [language], written):
            yield Answer(words, page=frame_texts(said, texts))
        yield Answer(words, figures.plot_stage_text, (matrix, number, language, said, texts[language]),
                     page=frame_texts(said, texts))

    return ask


def tell_stage(arm: str, matrix: pd.DataFrame, number: int, language: str) -> str:
    """Return in words how well an arm reads a language after a stage, and what of it is forgotten.

    That is measured from the best stage since the language's own, as `evaluate.forgetting` does.
    """
    name, values, own = language_name(language), matrix[language], matrix.index.get_loc(language)
    now, said = values.iloc[number], [*map(language_name, matrix.index)]
    words = f"{arm}, after {said[number]}: {name} is read at {now:.2f} bits per byte. "
    if number < own:
        return words + "It has not been taught yet."
    best = own + int(values.iloc[own:number + 1].argmin())
    if now - values.iloc[best] < 0.005:
        return words + "Nothing of it is forgotten."
    lost = round(now, 2) - round(values.iloc[best], 2)  # as the reader of both numbers subtracts
    return words + f"After {said[best]} it was {values.iloc[best]:.2f}: {lost:.2f} are forgotten."
