"""What routing adds to training, scoring and writing, and what each use of a modular model costs."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from mome.distill.objective import make_objective
from mome.evaluate.uses import list_uses
from mome.models.assemble import build_moe
from mome.models.forwards import dense_logits, told_forward
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.recipes.students import shape_dense
from mome.scales import Scale
from mome.train.batches import make_batch
from mome.train.device import find_device
from mome.train.timing import make_step, random_rows, ratios_to, time_in_turn

BASELINE, MODULAR = "dense, same active", ("JEET", "MoE-CE")
# What the cost of a way of using a modular model depends on.
COST_COLUMNS = ["average_experts", "common_expert", "bodies"]


def bench_modular(scale: Scale, languages: list[str], rounds: int) -> pd.DataFrame:
    """Return what routing costs: a training step on mixed batches, scoring one, and writing with a cache.

    Columns: what ("training step", "gradient" (that without clipping and the optimizer), "scoring",
    "writing", "use": scoring by each kind of use of MoE-CE), way, median, low, high (quartiles of the ratio
    within the same round of its time to that of the dense student of an expert's shape, or of the first
    use), tokens_per_second (median), and of uses `COST_COLUMNS`. Random weights and ids: what is computed
    does not depend on them.
    """
    built, rows = build_compared(scale, languages), random_rows(scale, 8 * scale.batch_size)
    tables = time_moe(built, scale, np.arange(len(rows)) % len(languages), rows, rounds)
    tables["use"] = time_uses(built["MoE-CE"], languages, rows, rounds)
    return pd.concat(tables, names=["what"]).reset_index()


def build_compared(scale: Scale, languages: list[str]) -> dict:
    """Return {way: untrained model}, those in `MODULAR` modular."""
    sizes = scale.vocab_size, scale.context
    moe = partial(build_moe, languages, gpt2_config(scale.expert, *sizes), seed=0)
    dense = {BASELINE: scale.expert, "dense, same total": shape_dense(scale, "same total", len(languages)),
             "teacher": scale.teacher}
    built = {way: build_gpt2(shape, *sizes, seed=0) for way, shape in dense.items()}
    built |= {"JEET": moe(has_common_expert=False), "MoE-CE": moe(has_common_expert=True)}
    return {way: model.to(find_device()) for way, model in built.items()}


def time_moe(built: dict, scale: Scale, expert_index: np.ndarray, rows: np.ndarray, rounds: int) -> dict:
    """Return {what: lines of `bench_modular` by way}; expert_index (N,) is that of rows (N, T)."""
    tables, batches = {}, np.arange(len(rows)).reshape(-1, scale.batch_size)
    told = told_forward(expert_index)
    objectives = {way: make_objective(None, told if way in MODULAR else dense_logits) for way in built}
    for what in ("training step", "gradient"):
        step = partial(make_step, rows=rows, batches=itertools.cycle(batches), is_updated=what != "gradient",
                       micro_batch_size=scale.micro_batch_size, optimizer=scale.make_optimizer())
        steps = {way: step(built[way], objectives[way]) for way in built if way != "teacher"}
        tables[what] = compare_times(steps, rounds, scale.batch_size * scale.context)
    ids = make_batch(rows, np.arange(8), find_device())["input_ids"]
    index, score = torch.from_numpy(expert_index[:8]).to(ids.device), torch.inference_mode()
    use = {way: {"expert_index": index} if way in MODULAR else {} for way in built}
    scorers = {way: partial(score(model.eval()), ids, **use[way]) for way, model in built.items()}
    tables["scoring"] = compare_times(scorers, rounds, ids.numel())
    prompts, n_new = ids[:, :scale.context // 4], scale.context // 2
    options = {"attention_mask": torch.ones_like(prompts), "max_new_tokens": n_new, "do_sample": False,
               "eos_token_id": None, "pad_token_id": 0, "use_cache": True}
    writers = {way: partial(model.generate, prompts, **options, **use[way]) for way, model in built.items()}
    return tables | {"writing": compare_times(writers, rounds, len(prompts) * n_new, in_a_row=1)}


def time_uses(model, languages: list[str], rows: np.ndarray, rounds: int) -> pd.DataFrame:
    """Return lines of `bench_modular`: what each kind of use costs to score a mixed batch, by use."""
    uses = list_uses(languages, True, []).drop_duplicates(COST_COLUMNS)
    ids, score = make_batch(rows, np.arange(8), model.device)["input_ids"], torch.inference_mode()(model)
    told = torch.arange(8, device=model.device) % len(languages)
    ways = {use.use: partial(score, ids, allowed_experts=use.allowed, common_expert=use.common_expert,
                             expert_index=None if use.average_experts else told,
                             average_experts=use.average_experts or None) for use in uses.itertuples()}
    uses = uses.set_index("use")
    return compare_times(ways, rounds, ids.numel(), uses.index[0]).join(uses[COST_COLUMNS])


def compare_times(ways: dict, rounds: int, n_tokens: int, baseline: str = BASELINE, in_a_row: int = 4):
    """Return each way's time over the baseline's, of `in_a_row` calls: in real use weights are in cache."""
    def repeat(run: Callable[[], None]) -> None:
        for _ in range(in_a_row):
            run()

    timed = time_in_turn({way: partial(repeat, run) for way, run in ways.items()}, rounds, warm_up=1)
    table = ratios_to(timed, baseline)
    return table.assign(tokens_per_second=in_a_row * n_tokens / table.seconds).drop(columns="seconds")
