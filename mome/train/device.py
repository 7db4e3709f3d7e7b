"""Where training runs: its device, and the processes that share a step."""

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env


def find_device() -> torch.device:
    """Return the training loop's device, so that all else runs where training does.

    accelerate's state, made without `cpu`, would see no other processes on CPUs.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu).device


def make_accelerator(mixed_precision: str = "no", **options) -> Accelerator:
    """Return an accelerator of this precision, whatever accelerate finds in its environment variables."""
    find_device()
    # A process may train in one precision after another; accelerate would hold on to the first.
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(mixed_precision=mixed_precision, dynamo_backend="no",
                       gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1), **options)


def clip_gradients(accelerator: Accelerator, weights: list[torch.nn.Parameter], most: float) -> torch.Tensor:
    """Return the norm of all gradients, then scale them down to a norm of `most`; 0 leaves them alone."""
    if most:
        return accelerator.clip_grad_norm_(weights, most)
    accelerator.unscale_gradients()  # fp16's
    return torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])


def sum_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Leave in every process the sum of all processes' gradients, in one exchange for each type of number.

    A weight without a gradient counts as zero; where no process has one, there is none, as in one process.
    """
    if PartialState().num_processes == 1:
        return
    met = torch.tensor([weight.grad is not None for weight in parameters], dtype=torch.int32)
    met = met.to(PartialState().device)
    torch.distributed.all_reduce(met)
    parameters = [weight for weight, count in zip(parameters, met.tolist(), strict=True) if count]
    for dtype in dict.fromkeys(weight.dtype for weight in parameters):
        group = [weight for weight in parameters if weight.dtype == dtype]
        flat = torch.cat([(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
                          for weight in group])
        torch.distributed.all_reduce(flat)
        for weight, part in zip(group, flat.split([weight.numel() for weight in group]), strict=True):
            weight.grad = part.view_as(weight)
