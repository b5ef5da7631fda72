"""Parameters that are the same whatever the program around them has set.

They begin as float32 on the CPU: neither `torch.set_default_dtype` nor `torch.set_default_device` changes what a seed
means. Move or convert a model afterwards, by `model.to("cuda")` or `model.double()`. Nothing is drawn here, so that the
global random stream stays where it is; the owner draws every number from a generator of its own.
In: shapes, or a class of modules. Out: parameters without values.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def blank(*shape: int) -> nn.Parameter:
    """A parameter whose values are not set."""
    return nn.Parameter(torch.empty(shape, dtype=torch.float32, device="cpu"))


def blank_module(kind: type[Module], *arguments: Any, **options: Any) -> Module:
    """A module of PyTorch's whose parameters are not set: its own initialisation draws from the global stream."""
    return kind(*arguments, **options, dtype=torch.float32, device="meta").to_empty(device="cpu")


def layer_norm(width: int) -> nn.LayerNorm:
    """A layer norm with weights 1 and biases 0."""
    return nn.LayerNorm(width, dtype=torch.float32, device="cpu")


def seeded(seed: int) -> torch.Generator:
    """A random stream of our own, on the CPU, where parameters are drawn."""
    return torch.Generator(device="cpu").manual_seed(seed)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or a 16-bit one in float32: sums over a vocabulary need more digits than it has."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
