"""Where a training step's time goes, and how near it comes to what the machine can multiply."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from mome.bench.modular import BASELINE, MODULAR, build_compared
from mome.distill.objective import make_objective
from mome.evaluate.scores import row_nats
from mome.models.forwards import dense_logits, told_forward
from mome.models.gpt2 import build_gpt2
from mome.recipes.students import shape_dense
from mome.scales import Scale
from mome.train.batches import make_batch
from mome.train.device import clip_gradients, find_device, make_accelerator
from mome.train.loop import take_gradient
from mome.train.optimizer import make_optimizer
from mome.train.products import multiply
from mome.train.timing import random_rows, ratios_to

SIDE = 1_024  # of the matrices of a large product


def bench_step(scale: Scale, languages: list[str], rounds: int) -> pd.DataFrame:
    """Return where the time of a step on hard labels goes at the scale's sizes, a line per model and part.

    Columns: model, part, then median, low, high (quartiles) of its share of the model's step in the same
    round, for a whole step its multiple of that of the dense model of an expert's shape; milliseconds
    (median); gflops, of a step and of a product of large matrices. "body" and "head and loss" are forward and
    backward, "curve" what a training's evaluations take for each of its steps. On a CPU it is processor time
    of one thread: other programs hardly matter. Random weights and ids: no time depends on them.
    """
    torch.set_num_threads(1)
    sizes, n, expert = (scale.vocab_size, scale.context), len(languages), scale.expert
    shapes = {"teacher": scale.teacher, "student": scale.student, BASELINE: expert, "JEET": expert,
              "MoE-CE": replace(expert, n_layer=2 * expert.n_layer),
              "dense, same total": shape_dense(scale, "same total", n)}
    counts = dict.fromkeys(shapes, (n * scale.student_steps, scale.batch_size))
    counts |= {"teacher": (scale.teacher_steps, scale.teacher_batches * scale.batch_size),
               "student": (scale.student_steps, scale.batch_size)}
    built, scored = build_compared(scale, languages), n * scale.evaluations * scale.curve_rows
    built["student"] = build_gpt2(scale.student, *sizes, seed=0).to(find_device())
    ways = {name: time_parts(built[name], name in MODULAR and n, batch_size, scale, scored / steps)
            for name, (steps, batch_size) in counts.items()} | {"product": time_product}
    table = pd.DataFrame([{"round": number, "model": name, "way": part, "seconds": seconds}
                          for number in range(-2, rounds) for name, run in ways.items()
                          for part, seconds in run().items()]).query("round >= 0")
    shares = {name: ratios_to(part, "step") for name, part in table.groupby("model", sort=False)}
    found, is_step = pd.concat(shares, names=["model", "part"]).reset_index(), table.way == "step"
    whole = ratios_to(table[is_step].assign(way=table.model), BASELINE).drop(columns="seconds")
    found.loc[found.part == "step", whole.columns] = whole.to_numpy()
    flops = {name: counts[name][1] * sizes[1] * shape.flops(sizes[0]) for name, shape in shapes.items()}
    rates = found.model.map(flops | {"product": 2 * SIDE**3}) / found.seconds / 1e9
    return found.assign(milliseconds=1e3 * found.pop("seconds"), gflops=rates.where(found.part == "step"))


def time_parts(model, n_told: int, batch_size: int, scale: Scale, scored: float) -> Callable[[], dict]:
    """Return a function that takes a step at rate 0 and scores rows, and returns the seconds of each part.

    A modular model is told the rows' languages, one of `n_told`. `scored` is what a training scores a step.
    """
    rows, optimizer, marks = random_rows(scale, 8 * batch_size), scale.make_optimizer(), []
    forward = told_forward(np.arange(len(rows)) % n_told) if n_told else dense_logits
    accelerator, stepper = make_accelerator(), make_optimizer(model, optimizer)
    loss_fn, batches = make_objective(None, forward), itertools.cycle(np.arange(len(rows)).reshape(8, -1))

    def end(part: str) -> None:
        marks.append((part, read_clock()))

    def enter_head(head, inputs) -> None:
        end("body")
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda slope: end("head and loss"))

    def run() -> dict[str, float]:
        marks[:] = [("", read_clock())]
        take_gradient(accelerator, model.train(), loss_fn, rows, next(batches), 1.0, scale.micro_batch_size)
        end("body")
        clip_gradients(accelerator, list(model.parameters()), optimizer.max_grad_norm)
        end("clipping")
        stepper.step()
        stepper.zero_grad()
        end("optimizer")
        seconds = {"step": marks[-1][1] - marks[0][1]}
        for (_, started), (part, ended) in itertools.pairwise(marks):
            seconds[part] = seconds.get(part, 0.0) + ended - started
        return seconds | {"curve": scored * time_row()}

    @torch.inference_mode()
    def time_row() -> float:
        started, batch = read_clock(), make_batch(rows, np.arange(8), find_device())
        row_nats(forward(model.eval(), batch), batch["labels"])
        return (read_clock() - started) / 8

    model.get_output_embeddings().register_forward_pre_hook(enter_head)
    return run


def time_product() -> dict[str, float]:
    matrix = torch.ones(SIDE, SIDE, device=find_device())
    started = read_clock()
    multiply(matrix, matrix)
    return {"step": read_clock() - started}


def read_clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
