"""The device that the training loop uses."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def find_device() -> torch.device:
    """Return the training loop's device, so that all else runs where training does.

    accelerate's state, made without `cpu`, would see no other processes on CPUs.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
