"""A device without hardware: what is moved to it is known by its memory, and must meet nothing else."""

from contextlib import contextmanager
from unittest.mock import Mock

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("mps", 0)  # which PyTorch knows in every build, and which has no float64
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
PICKS = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}  # by indices from anywhere
is_attending = False
held: set[StorageWeakRef] = set()  # a weak reference keeps its address from being given out again


def is_held(tensor: Tensor) -> bool:
    return StorageWeakRef(tensor.untyped_storage()) in held


def is_ours(device) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def list_tensors(values) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Device(TorchDispatchMode):
    """What is made on the device, or comes of its tensors, is on it; they cannot be mixed with others.

    Single numbers may come from elsewhere, as for PyTorch. What is float64 here cannot be there.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, tensors = kwargs or {}, list_tensors((args, kwargs))
        sides = {is_held(tensor) for tensor in tensors if tensor.dim()}
        if len(sides) > 1 and func not in COPIES and not (func in PICKS and is_held(args[0])):
            raise RuntimeError(f"all tensors must be on one device: {func} met some on {DEVICE} and on cpu")
        goes = is_ours(kwargs.get("device")) or (is_attending and not tensors)
        result = func(*args, **kwargs | ({"device": torch.device("cpu")} if goes else {}))
        if goes or (func is not torch.ops.aten.copy_.default and any(map(is_held, tensors))):
            for tensor in list_tensors(result):
                held.add(StorageWeakRef(tensor.untyped_storage()))
                if tensor.dtype in (torch.float64, torch.uint16):
                    raise TypeError(f"{DEVICE} has no {tensor.dtype}, which {func} would give")
        return result


def move(tensor: Tensor, *args, **kwargs) -> Tensor:
    """Return `tensor.to(...)`; to the host it is a copy that is there."""
    named = [part for part in (*args, *kwargs.values()) if isinstance(part, torch.device | str | Tensor)]
    if is_held(tensor) and named:
        goes = is_held(named[0]) if isinstance(named[0], Tensor) else is_ours(named[0])
        if goes:  # it is there already
            args, kwargs = tree_map_only((torch.device, str), lambda name: "cpu", (args, kwargs))
        else:
            tensor = tensor.clone()
            held.discard(StorageWeakRef(tensor.untyped_storage()))
    elif named and isinstance(named[0], Tensor) and is_held(named[0]):
        args = (DEVICE, named[0].dtype, *args[1:])
    return Tensor._to(tensor, *args, **kwargs)


def read(name: str):
    """Return a tensor's method of that name, which reads memory of the host, where the device's is not."""
    method = getattr(Tensor, name)

    def read_here(tensor, *args, **kwargs):
        if is_held(tensor):
            raise TypeError(f"a tensor on {DEVICE} cannot be read as numpy; copy it to the host first")
        return method(tensor, *args, **kwargs)

    return read_here


def copy_deeply(tensor, memo):
    copy = Tensor._copy_deeply(tensor, memo)
    if is_held(tensor):  # it copies memory, not tensors
        held.add(StorageWeakRef(copy.untyped_storage()))
    return copy


def attend(*args, **kwargs) -> Tensor:
    """Return what attention gives; the mask that it makes itself is where its queries are."""
    global is_attending
    is_attending = is_held(args[0])
    try:
        return Tensor._attend(*args, **kwargs)
    finally:
        is_attending = False


def make(name: str):
    """Return torch's function of that name, which makes a tensor of numbers, for the device as well."""
    function = getattr(torch, name)
    return lambda data, *, device=None, **kwargs: (
        function(data, **kwargs).to(device) if is_ours(device) else function(data, device=device, **kwargs))


class Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


@contextmanager
def fake_device(monkeypatch):
    """Within, the device is the one that `find_device` gives, and can be used."""
    there = Tensor.device
    with monkeypatch.context() as patch:
        patch.delenv("ACCELERATE_USE_CPU", raising=False)  # conftest keeps all else on the CPU
        patch.setattr(Tensor, "_to", Tensor.to, raising=False)
        patch.setattr(Tensor, "_copy_deeply", Tensor.__deepcopy__, raising=False)
        patch.setattr(Tensor, "_attend", staticmethod(functional.scaled_dot_product_attention), raising=False)
        patch.setattr(functional, "scaled_dot_product_attention", attend)
        patch.setattr(Tensor, "to", move)
        patch.setattr(Tensor, "cpu", lambda tensor, *args, **kwargs: move(tensor, "cpu"))
        patch.setattr(Tensor, "numpy", read("numpy"))
        patch.setattr(Tensor, "__array__", read("__array__"))
        patch.setattr(Tensor, "__deepcopy__", copy_deeply)
        patch.setattr(Tensor, "device", property(
            lambda tensor: DEVICE if is_held(tensor) else there.__get__(tensor)))
        patch.setattr(torch, "tensor", make("tensor"))
        patch.setattr(torch, "as_tensor", make("as_tensor"))
        patch.setattr(torch, "Event", Mock())  # of the device's queue, where transformers waits for it
        patch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: True)  # torch 2.9 asks it
        patch.setattr(torch, "Generator", Generator)
        patch.setattr("mome.distill.targets.Generator", Generator)
        patch.setitem(PartialState()._shared_state, "device", DEVICE)
        AcceleratorState._reset_state()  # it would hold on to the device before
        with Device():
            yield
    AcceleratorState._reset_state()
    held.clear()
