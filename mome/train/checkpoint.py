"""The state of a training on disk: written by the clock, whole or not at all, read back bit for bit."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mome.store import share

log = logging.getLogger("mome")
WAIT_PER_SECOND = 19  # seconds of training for each of writing: checkpoints take at most 5 % of the time


class Checkpoint:
    """The file of a training's state and the time when it is next written; without a path nothing is kept."""

    def __init__(self, path: Path | None, seconds: float, plan: np.ndarray, model: torch.nn.Module, optimizer,
                 scaler=None, is_writer: bool = True):
        self.path, self.seconds, self.is_writer, self.due = path, seconds, is_writer, monotonic() + seconds
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        if path is not None:  # a folder, since safetensors makes other files beside its own
            self.aside = path.with_suffix(".aside")
            shutil.rmtree(self.aside, ignore_errors=True)  # what a kill left
        self.plan = hashlib.sha256(np.ascontiguousarray(plan, dtype=np.int64).tobytes()).hexdigest()

    def save_when_due(self, history: list[dict]) -> None:
        """Save after a whole step when the time has come."""
        if monotonic() >= self.due:
            self.save(history, get_random_state())

    def save(self, history: list[dict], random_state: dict[str, torch.Tensor]) -> None:
        """Save the state. Where the disk refuses, warn: a training is worth more than its checkpoint."""
        started = monotonic()
        try:
            if self.path and self.is_writer:
                self.write(history, random_state)
        except (OSError, SafetensorError) as error:  # the latter is how safetensors reports a full disk
            log.warning("checkpoint %s cannot be written (%s); training goes on", self.path, error)
        ended = monotonic()
        self.due = ended + max(self.seconds, WAIT_PER_SECOND * (ended - started))

    def write(self, history: list[dict], random_state: dict[str, torch.Tensor]) -> None:
        """Write weights, all that the optimizer keeps of each, random state; as metadata all else."""
        metadata = {"plan": self.plan, "history": json.dumps(history),
                    "scaler": json.dumps(self.scaler and self.scaler.state_dict())}
        tensors = dict(random_state)
        for name, parameter in self.model.named_parameters():
            tensors[f"model.{name}"] = parameter.detach()
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            self.aside.mkdir(exist_ok=True)
            save_file(tensors, self.aside / self.path.name, metadata=metadata)
            share(self.aside)
            os.replace(self.aside / self.path.name, self.path)
        finally:
            shutil.rmtree(self.aside, ignore_errors=True)

    def load(self) -> list[dict]:
        """Restore what the file holds; return its history, or an empty one. ValueError for an unfit file."""
        if self.path is None or not self.path.exists():
            return []
        refusal = f"checkpoint {self.path} cannot be used, delete it to start again: "
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # off the mapped file
        except SafetensorError as error:
            raise ValueError(f"{refusal}it is damaged ({error})") from None
        parameters = dict(self.model.named_parameters())
        needed = {"plan", "history", "scaler", "random_state", *(f"model.{name}" for name in parameters)}
        missing = needed - set(metadata) - set(tensors)
        if missing:
            raise ValueError(f"{refusal}it is damaged and lacks {min(missing)}")
        if metadata["plan"] != self.plan:
            raise ValueError(f"{refusal}it was written under another plan of batches")
        torch.set_rng_state(tensors["random_state"])
        if "cuda_random_state" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["cuda_random_state"])
        if self.scaler:
            self.scaler.load_state_dict(json.loads(metadata["scaler"]))
        for name, parameter in parameters.items():
            parameter.data.copy_(tensors[f"model.{name}"])
        for key in tensors:
            if key.startswith("optimizer."):
                name, _, moment = key.removeprefix("optimizer.").rpartition(".")
                parameter = parameters[name]
                self.optimizer.state[parameter][moment] = tensors[key].to(parameter.device)
        return json.loads(metadata["history"])


def get_random_state() -> dict[str, torch.Tensor]:
    on_cuda = {"cuda_random_state": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"random_state": torch.get_rng_state(), **on_cuda}
