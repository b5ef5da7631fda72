"""Parameters that do not depend on the settings of the program around them.

They begin as float32 on the CPU. Neither `torch.set_default_dtype` nor `torch.set_default_device` changes the result of
a seed. Move or convert a model afterwards, by `model.to("cuda")` or `model.double()`. Nothing is drawn here, so the
global random stream does not advance. The owner draws every number from its own generator.
In: shapes, or a class of modules. Out: parameters without values.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def blank(*shape: int) -> nn.Parameter:
    """A parameter without values."""
    return nn.Parameter(torch.empty(shape, dtype=torch.float32, device="cpu"))


def blank_module(kind: type[Module], *arguments: Any, **options: Any) -> Module:
    """A PyTorch module without parameter values, because its own initialisation draws from the global stream.

    `torch.nn.utils.skip_init` does the same on the meta device. There it runs the initialisation all the same, and for
    that it imports PyTorch's compiler, which takes a second.
    """
    without_values: Any = type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})
    module: Module = without_values(*arguments, **options, dtype=torch.float32, device="cpu")
    module.__class__ = kind
    return module


def layer_norm(width: int) -> nn.LayerNorm:
    """A layer norm with weights 1 and biases 0."""
    return nn.LayerNorm(width, dtype=torch.float32, device="cpu")


def seeded(seed: int) -> torch.Generator:
    """A separate random stream on the CPU, for drawing parameters."""
    return torch.Generator(device="cpu").manual_seed(seed)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, with 16-bit numbers converted to float32: sums over a vocabulary need more than 16 bits."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
