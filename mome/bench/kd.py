"""What a step of each way to distil costs, and which precision a device should train in."""

import itertools
import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mome.distill.objective import make_objective, original_objective
from mome.distill.targets import CachedTargets, cache_targets, list_targets
from mome.models.bodies import speed_up
from mome.models.forwards import dense_logits
from mome.models.gpt2 import build_gpt2
from mome.scales import Scale, Shape
from mome.train.batches import make_batch
from mome.train.device import find_device
from mome.train.timing import make_step, probe_precision, random_rows, ratios_to, time_in_turn

HARD, CACHED, ORIGINAL = "hard labels", "KD, cached", "KD, the original's way"
VOCABULARIES, CONTEXTS = (2_048, 8_192, 32_768), (64, 128, 256, 512)


def bench_kd(scale: Scale, repeats: int) -> pd.DataFrame:
    """Return what a step of each way to distil costs at the scale's sizes, by vocabulary and by context.

    Columns: vocab_size, context, way, then ratios within the same round (median, low, high: quartiles) to a
    step on hard labels alone (`times_ce`, ...) and to the cached step (`times_cached`, ...), milliseconds
    (median), and bytes_per_token of the cache on disk. Random weights and ids: what is computed does not
    depend on them. Batches hold equally many tokens.
    """
    own, n = (scale.vocab_size, scale.context), scale.tokens_per_step
    sizes = [own, *((size, own[1]) for size in VOCABULARIES), *((own[0], context) for context in CONTEXTS)]
    tables = {(size, context): time_kd(replace(scale, vocab_size=size, context=context), n, repeats)
              for size, context in dict.fromkeys(sizes)}
    return pd.concat(tables, names=["vocab_size", "context"]).reset_index()


def build_plain(shape: Shape, scale: Scale) -> GPT2LMHeadModel:
    """Return a shape with GPT-2's defaults, as the original trains it: dropout, a slower activation."""
    config = GPT2Config(vocab_size=scale.vocab_size, n_positions=scale.context, **asdict(shape),
                        use_cache=False, bos_token_id=1, eos_token_id=2)
    return speed_up(GPT2LMHeadModel(config))


def time_kd(scale: Scale, tokens_per_step: int, repeats: int) -> pd.DataFrame:
    """Return `bench_kd`'s lines of one vocabulary and context, by way; "caching" is that of a step's rows."""
    device, sizes = find_device(), (scale.vocab_size, scale.context)
    batch_size = max(1, tokens_per_step // scale.context)
    rows, shapes = random_rows(scale, 8 * batch_size), (scale.student, scale.teacher)
    numbers, distil = np.arange(len(rows)), partial(make_objective, "teacher_ce", dense_logits)
    batches = itertools.cycle(numbers.reshape(-1, batch_size))
    student, teacher = (build_gpt2(shape, *sizes, seed=0).to(device) for shape in shapes)
    plain, plain_teacher = (build_plain(shape, scale).to(device) for shape in shapes)
    original, generator = partial(original_objective, dense_logits), torch.Generator(device).manual_seed(0)

    @torch.inference_mode()
    def cache() -> None:
        logits = dense_logits(teacher, make_batch(rows, next(batches), device)).float()
        list_targets(logits, targets.k, targets.tail, generator)

    with tempfile.TemporaryDirectory(prefix="mome-bench-") as scratch:
        folder, k = Path(scratch), scale.targets_per_token
        cache_targets(teacher, rows, numbers, k, folder, micro_batch_size=batch_size)
        targets = CachedTargets(folder)
        trained = {HARD: (student, make_objective(None, dense_logits)), CACHED: (student, distil(targets)),
                   "KD, teacher every step": (student, distil(teacher=teacher)),
                   ORIGINAL: (student, original(teacher)),
                   f"{ORIGINAL}, GPT-2's defaults": (plain, original(plain_teacher.eval()))}
        step = partial(make_step, rows=rows, batches=batches, micro_batch_size=batch_size,
                       optimizer=scale.make_optimizer())
        steps = {way: step(*each) for way, each in trained.items()}
        timed = time_in_turn({**steps, "caching": cache}, repeats)
        n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    hard, cached = ratios_to(timed, HARD), ratios_to(timed, CACHED)
    return pd.DataFrame({
        "times_ce": hard["median"], "ce_low": hard.low, "ce_high": hard.high,
        "times_cached": cached["median"], "cached_low": cached.low, "cached_high": cached.high,
        "milliseconds": 1e3 * hard.seconds, "bytes_per_token": n_bytes / rows.size})


def bench_precision(scale: Scale) -> dict:
    """Return `probe_precision` of the teacher's shape here, and "scale": the scale's `mixed_precision`."""
    device, n_rows = find_device(), scale.micro_batch_size
    model = build_gpt2(scale.teacher, scale.vocab_size, scale.context, seed=0).to(device)
    batch = make_batch(random_rows(scale, n_rows), np.arange(n_rows), device)
    found = probe_precision(model, make_objective(None, dense_logits), batch)
    return found | {"scale": scale.mixed_precision}
