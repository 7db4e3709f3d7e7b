"""A modular model in every way of using it: told, routed, with some of its experts, averaged."""

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch

from mome.data.packing import PackedData
from mome.evaluate.scores import score_rows, summarize
from mome.languages import CODE_LANGUAGES
from mome.models.forwards import expert_forward
from mome.models.modular import weigh_by_evidence


def score_model(model, forward, data: PackedData, split: str, rows_per_language: int,
                languages=None) -> pd.DataFrame:
    """Return `score_rows` of a model; `forward(model, batch)` gives its logits."""
    device = next(model.eval().parameters()).device
    return score_rows(lambda batch: forward(model, batch), data, split=split, device=device,
                      languages=list(languages) if languages else None, rows_per_language=rows_per_language)


def tabulate_experts(model, data: PackedData, common_expert: str, split: str,
                     rows_per_language: int) -> pd.DataFrame:
    """Return a line per row: row (its place in the split), language, article_id, n_tokens, n_bytes, and its
    nats under each language's expert, a column each.
    """
    table = tabulate_uses(model, data, split, rows_per_language, [common_expert])
    return name_experts(table, data, common_expert)


def name_experts(table: pd.DataFrame, data: PackedData, common_expert: str) -> pd.DataFrame:
    """Return `tabulate_uses`' table, the columns of experts with this use of the common one by language."""
    return table.rename(columns={f"{common_expert} {name}": name for name in data.languages})


def tabulate_uses(model, data: PackedData, split: str, rows_per_language: int, common_uses: list[str],
                  averaged=()) -> pd.DataFrame:
    """Return a line per row as `tabulate_experts` does, with a column of nats for all that `answer` names."""
    forward = partial(answer, common_uses=common_uses, averaged=averaged)
    table = score_model(model, forward, data, split, rows_per_language)
    numbers = [data.row_numbers(split, language, rows_per_language) for language in data.languages]
    table.insert(0, "row", np.concatenate(numbers))
    return table


def answer(model, batch: dict, common_uses: list[str], averaged) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield logits (B, T, V) of a batch, for which every body reads it once, and whose they are.

    Of each expert ("on en": with the common one), then of the lines of `list_uses` in `averaged`, by name.
    """
    ids, names, common = batch["input_ids"], model.config.languages, None
    embedded = model.embedding(ids)
    experts = [body(inputs_embeds=embedded).last_hidden_state for body in model.experts.values()]
    if model.common_expert is not None:
        common = model.common_expert(inputs_embeds=embedded).last_hidden_state
    for common_use in common_uses:
        hidden = {name: part if common_use == "off" else (part + common) / 2
                  for name, part in zip(names, experts, strict=True)}
        logits = {name: model.lm_head(part) for name, part in hidden.items()}
        yield from ((f"{common_use} {name}", part) for name, part in logits.items())
        for use in averaged:
            if use.common_expert == common_use and use.average_experts == "hidden":
                yield use.use, model.lm_head(sum(hidden[name] for name in use.allowed) / len(use.allowed))
            elif use.common_expert == common_use:
                parts = torch.stack([logits[name] for name in use.allowed])
                is_mean = use.average_experts == "logits"
                yield use.use, parts.mean(dim=0) if is_mean else weigh_by_evidence(parts, ids, None)
    yield from ((use.use, model.lm_head(common)) for use in averaged if use.common_expert == "alone")


def list_uses(languages: list[str], has_common_expert: bool, prefixes: list[int]) -> pd.DataFrame:
    """Return the paper's grid of switches, and ours: one line per way of using a modular model.

    Columns: use (its name), group, router ("whole", "told", "random" or a number of tokens it reads), allowed
    (languages of the experts it may use), common_expert, average_experts, bodies (that a sequence passes).
    """
    code = [name for name in languages if name in CODE_LANGUAGES]
    pairs = [[name, other] for other in code for name in languages if name not in code]
    uses = [("all routed", "router", "whole", languages, ""),
            ("told the language", "router", "told", languages, ""),
            *((f"routed by {prefix} tokens", "router", str(prefix), languages, "") for prefix in prefixes),
            ("random expert", "router", "random", languages, ""),
            *((f"{name} alone", "one expert", "whole", [name], "") for name in languages),
            *((f"{' + '.join(pair)} routed", "pairs", "whole", pair, "") for pair in pairs),
            *((f"{' + '.join(pair)} averaged", "pairs", "whole", pair, "hidden") for pair in pairs),
            ("all averaged", "average", "whole", languages, "hidden"),
            ("mean of logits", "average", "whole", languages, "logits"),
            ("posterior mixture", "average", "whole", languages, "posterior")]
    table = pd.DataFrame(uses, columns=["use", "group", "router", "allowed", "average_experts"])
    table = table.assign(common_expert="off", bodies=[len(use[3]) if use[4] else 1 for use in uses])
    if has_common_expert:
        common = table.assign(use=table.use + " + common", common_expert="on", bodies=table.bodies + 1)
        alone = table[:1].assign(use="common alone", group="one expert", common_expert="alone")
        table = pd.concat([table, common, alone], ignore_index=True)
    return table


def score_uses(model, data: PackedData, split: str, rows_per_language: int,
               prefixes: list[int]) -> pd.DataFrame:
    """Return every way of `list_uses` scored: its columns (allowed joined by commas), those of `summarize`,
    active_parameters. "random expert" is the mean over experts of each row's nats.
    """
    uses, tables = list_uses(data.languages, model.common_expert is not None, prefixes), []
    averaged = uses[(uses.average_experts != "") | (uses.common_expert == "alone")]
    common_uses = sorted(set(uses.common_expert) - {"alone"})
    table = tabulate_uses(model, data, split, rows_per_language, common_uses, list(averaged.itertuples()))
    for use in uses.itertuples(index=False):
        if use.use in table:
            scores = table.assign(nats=table[use.use])
        else:
            experts = name_experts(table, data, use.common_expert)
            scores = take_experts(model, data, split, experts, use.router, use.allowed)
        tables.append(summarize(scores).assign(**use._asdict() | {"allowed": ",".join(use.allowed)},
                                               active_parameters=model.active_parameters(use.bodies)))
    return pd.concat(tables, ignore_index=True)


def take_experts(model, data: PackedData, split: str, experts: pd.DataFrame, router: str,
                 allowed: list[str]) -> pd.DataFrame:
    """Return `tabulate_experts`' table with the nats of the expert that the router takes for each row."""
    nats, languages = experts[data.languages].to_numpy(), data.languages
    if router == "random":
        taken = nats[:, [languages.index(name) for name in allowed]].mean(axis=1)
    else:
        taken = nats[np.arange(len(nats)), choose_experts(model, data, split, experts, router, allowed)]
    return experts.drop(columns=languages).assign(nats=taken)


def choose_experts(model, data: PackedData, split: str, experts: pd.DataFrame, router: str,
                   allowed: list[str]) -> np.ndarray:
    """Return the number of the expert that the router takes for each row, (N,)."""
    if router == "told":
        return experts.language.map(data.languages.index).to_numpy()
    ids = torch.from_numpy(data.rows(split)[experts.row.to_numpy()].astype(np.int64)).to(model.device)
    return model.route(ids, None, allowed, None if router == "whole" else int(router)).cpu().numpy()


def keep_experts(model, data: PackedData, split: str, experts: pd.DataFrame) -> pd.DataFrame:
    """Return what a modular model is worth with some of its experts only, the router choosing among those.

    One line per subset of experts and language: kept (joined by commas), n_kept, language, is_kept,
    nats_per_token, perplexity, bits_per_byte.
    """
    tables = []
    for size in range(1, len(data.languages) + 1):
        for subset in map(list, itertools.combinations(data.languages, size)):
            scores = summarize(take_experts(model, data, split, experts, "whole", subset))
            is_kept = scores.language.isin(subset)
            tables.append(scores.assign(kept=",".join(subset), n_kept=size, is_kept=is_kept))
    return pd.concat(tables, ignore_index=True)


def own_nats(model, data: PackedData, split: str, rows_per_language: int) -> dict[str, np.ndarray]:
    """Return {language: nats (N,) of its rows under its own expert}, of the languages that have one."""
    names, asked = model.config.languages, (data, split, rows_per_language)
    return {name: score_model(model, expert_forward(names.index(name)), *asked, [name]).nats.to_numpy()
            for name in data.languages if name in names}


def share_routed(model, data: PackedData, language: str, expert: str, split: str,
                 rows_per_language: int) -> float:
    """Return the share of a language's rows that the router sends to an expert."""
    if expert not in model.config.languages:
        return 0.0
    rows = data.rows(split)[data.row_numbers(split, language, rows_per_language)]
    return float((model.router.route(rows) == model.config.languages.index(expert)).mean())
