"""Two processes that accelerate starts train as one does, interrupted and resumed."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from torch.testing import assert_close

import mome

SCRIPT = '''
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

from mome.distill.objective import make_objective
from mome.distill.schedules import make_alpha_schedule
from mome.scales import Optimizer
from mome.train.batches import plan_batches
from mome.train.checkpoint import Checkpoint
from mome.train.loop import train_model


class Model(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.wte, self.head = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(torch.tanh(self.wte(input_ids))))


def main(folder, interrupted="no"):
    rank, rows = os.environ.get("RANK", "0"), np.random.default_rng(0).integers(0, 30, (20, 6))
    write, calls = Checkpoint.write, []
    forward = lambda model, batch: model(batch["input_ids"]).logits
    objective = make_objective("forward_kl", forward, teacher=Model(1))
    Checkpoint.write = lambda *arguments: (Path(folder, f"{rank}.saved").touch(), write(*arguments))

    def stopping(model, batch, alpha):
        calls.append(1)
        if len(calls) == (5 if rank == "0" else 3):  # the first micro-batch of step 3, in both processes
            raise KeyboardInterrupt
        return objective(model, batch, alpha)

    def run(model, loss_fn):
        return train_model(model, loss_fn, plan_batches([np.arange(20)], 4, 5, 0), rows, micro_batch_size=2,
                           optimizer=Optimizer(1e-2), alpha_schedule=make_alpha_schedule("grad_norm", 4),
                           checkpoint=Path(folder, "checkpoint.safetensors"))

    if interrupted == "interrupted":
        try:
            run(Model(0), stopping)
        except KeyboardInterrupt:
            torch.distributed.barrier()
    model = Model(0)
    history = run(model, objective)
    Path(folder, f"{rank}.json").write_text(json.dumps([len(calls), history.to_dict("list")]))
    save_file(model.state_dict(), Path(folder, f"{rank}.safetensors"))
    Checkpoint.write = write


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch_two_processes(*words):
    # `accelerate launch --cpu --num_processes 2` starts one process only; its launcher for several GPUs
    # serves CPUs when told to use them.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
               "--main_process_port", str(free_port()), *words]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": str(Path(mome.__file__).parents[1])}
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)
    try:
        output, _ = launcher.communicate(timeout=300)
    finally:
        launcher.terminate()  # and it ends its processes, which a kill would leave behind
        launcher.wait()
    assert launcher.returncode == 0, output


def read_result(folder, rank):
    calls, history = json.loads((folder / f"{rank}.json").read_text())
    return calls, pd.DataFrame(history).drop(columns="seconds"), load_file(folder / f"{rank}.safetensors")


def test_two_processes_that_are_interrupted_and_resumed_train_as_one(tmp_path):
    # Five sequences a step: three for one process in two micro-batches, two for the other in one.
    script, one, two = tmp_path / "script.py", tmp_path / "one", tmp_path / "two"
    script.write_text(SCRIPT)
    one.mkdir()
    two.mkdir()
    spec = importlib.util.spec_from_file_location("script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(one)
    launch_two_processes(str(script), str(two), "interrupted")
    (_, history, weights), found = read_result(one, 0), [read_result(two, rank) for rank in (0, 1)]
    assert [calls for calls, _, _ in found] == [5, 3]
    assert [path.name for path in two.glob("*.saved")] == ["0.saved"]
    pd.testing.assert_frame_equal(found[0][1], found[1][1], check_exact=True)
    assert_close(found[0][2], found[1][2], rtol=0, atol=0)
    pd.testing.assert_frame_equal(found[0][1], history, rtol=1e-5, atol=1e-5)
    assert_close(found[0][2], weights, rtol=1e-5, atol=1e-5)
