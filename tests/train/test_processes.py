"""Two processes train as one does: every model, with few of its languages each, interrupted and resumed."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from cases import each
from safetensors.torch import load_file
from torch.testing import assert_close

SCRIPT = '''
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mome.distill.objective import make_objective
from mome.distill.schedules import make_alpha_schedule
from mome.models.assemble import build_moe
from mome.models.forwards import dense_logits, told_forward
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.scales import Optimizer, Shape
from mome.train.batches import plan_batches
from mome.train.checkpoint import Checkpoint
from mome.train.device import find_device
from mome.train.loop import train_model

RANK = os.environ.get("RANK", "0")
SIZES = Shape(1, 2, 16), 40, 10
LANGUAGES = np.repeat(np.arange(4), 12)
ROWS = np.random.default_rng(0).integers(3, 40, (48, 10))
GROUPS = [np.flatnonzero(LANGUAGES == number) for number in range(4)]


def make_dense(seed):
    return build_gpt2(*SIZES, seed)


def make_modular(seed, has_common_expert=False):
    return build_moe(["en", "fr", "de", "py"], gpt2_config(*SIZES), has_common_expert=has_common_expert,
                     seed=seed)


def make_ce(seed):
    return make_modular(seed, True)


# What is trained, on what, in batches and micro-batches of so many rows, by which schedule of alpha.
CASES = {"hard labels": (make_dense, None, 4, 4, "fixed"),
         "KD": (make_dense, "forward_kl", 8, 2, "grad_norm"),
         "JEET": (make_modular, "teacher_ce", 4, 4, "fixed"),
         "MoE-CE": (make_ce, "jsd", 8, 2, "alternate_micro_batch"),
         "some experts": (make_modular, None, 2, 1, "fixed")}


def main(folder, kind="whole"):
    find_device()
    for case in CASES:
        train(Path(folder, case), case, kind == "interrupted" and case in ("KD", "JEET"))


def train(folder, case, is_interrupted):
    folder.mkdir(parents=True, exist_ok=True)
    make, name, batch_size, micro_batch_size, schedule = CASES[case]
    forward = dense_logits if make is make_dense else told_forward(LANGUAGES)
    objective, calls = make_objective(name, forward, teacher=make_dense(9).eval()), []
    plan, write = plan_batches(GROUPS[:batch_size], 20, batch_size, 0), Checkpoint.write

    def count(model, batch, alpha):
        calls.append(1)
        if is_interrupted and len(calls) == 15:  # the first micro-batch of a step, in both processes
            raise KeyboardInterrupt
        return objective(model, batch, alpha)

    optimizer = Optimizer(1e-3, kind="adamw" if make is make_dense else "muon", other_rate=1e-3)

    def run(model, checkpoint="checkpoint.safetensors"):
        return train_model(model, count, plan, ROWS, micro_batch_size=micro_batch_size,
                           optimizer=optimizer, alpha_schedule=make_alpha_schedule(schedule, 20),
                           checkpoint=folder / checkpoint)

    Checkpoint.write = lambda *arguments: (Path(folder, f"{RANK}.saved").touch(), write(*arguments))
    if is_interrupted:
        try:
            run(make(0))
        except KeyboardInterrupt:
            torch.distributed.barrier()
        try:
            run(make(0), "checkpoint.safetensors" if RANK == "0" else "of_another_machine.safetensors")
        except ValueError as error:
            Path(folder, f"{RANK}.said").write_text(str(error))
    model = make(int(RANK))  # all start from the first one's weights
    history = run(model)
    Checkpoint.write = write
    Path(folder, f"{RANK}.json").write_text(json.dumps([len(calls), history.to_dict("list")]))
    save_file({name: value.detach() for name, value in model.named_parameters()},
              Path(folder, f"{RANK}.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory, launch):
    """The script as a module, after all its trainings in one process, and in two, interrupted and resumed."""
    path = tmp_path_factory.mktemp("processes") / "script.py"
    path.write_text(SCRIPT)
    spec = importlib.util.spec_from_file_location("script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(path.with_name("one"))
    launch("torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(path),
           str(path.with_name("two")), "interrupted", CUDA_VISIBLE_DEVICES="")
    return module


def read_result(script, name, case, rank=0):
    folder = Path(script.__file__).with_name(name) / case
    calls, history = json.loads((folder / f"{rank}.json").read_text())
    return calls, pd.DataFrame(history).drop(columns="seconds"), load_file(folder / f"{rank}.safetensors")


@each("case", ["hard labels", "KD", "JEET", "MoE-CE", "some experts"])
def test_two_processes_train_as_one(script, case):
    _, history, weights = read_result(script, "one", case)
    (_, first, mine), (_, second, other) = (read_result(script, "two", case, rank) for rank in (0, 1))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert_close(mine, other, rtol=0, atol=0)
    pd.testing.assert_frame_equal(first, history, rtol=1e-5, atol=1e-5)
    for name, weight in weights.items():
        found = mine[name]
        if name.endswith("c_attn.bias"):  # the keys' third has no true gradient, and Adam makes noise large
            found, weight = (torch.cat(part.chunk(3)[::2]) for part in (found, weight))
        assert_close(found, weight, rtol=0, atol=1e-5, msg=name)


def test_weights_that_no_process_meets_stay_as_they_were(script):
    # The batches hold two languages of four, one in each process.
    _, _, weights = read_result(script, "two", "some experts")
    for name, start in script.make_modular(0).named_parameters():
        is_unmet = name.startswith(("experts.de", "experts.py", "router"))
        assert torch.equal(weights[name], start) == is_unmet, name


@each("case, calls", [("KD", 14 + 1 + 13 * 2), ("JEET", 14 + 1 + 6)])
def test_two_processes_go_on_from_the_checkpoint_that_the_first_wrote(script, case, calls):
    assert [read_result(script, "two", case, rank)[0] for rank in (0, 1)] == [calls, calls]
    assert [path.name for path in Path(script.__file__).parent.glob(f"two/{case}/*.saved")] == ["0.saved"]


def test_a_process_that_does_not_see_the_checkpoint_is_refused(script):
    said = [path.read_text() for path in sorted(Path(script.__file__).parent.glob("two/JEET/*.said"))]
    assert len(said) == 2 and all("they need one store" in text for text in said)
