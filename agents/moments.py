"""An optimizer's moments as a part of a checkpoint. Its settings are not among them: the configuration holds those."""

from __future__ import annotations

from typing import Any

import torch


def moments(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """The optimizer's state of each parameter: place of the parameter, as text -> name -> tensor."""
    state = optimizer.state_dict()["state"]
    return {
        str(place): {name: torch.as_tensor(value) for name, value in values.items()} for place, values in state.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, state: dict[str, dict[str, Any]]) -> None:
    """Set what `moments` returned; the optimizer's settings stay as they are.

    The tensors are copied. PyTorch's optimizers keep those that they are given and change them in place, so two
    optimizers would share their moments.
    """
    groups = optimizer.state_dict()["param_groups"]
    by_place = {int(place): {name: value.clone() for name, value in values.items()} for place, values in state.items()}
    optimizer.load_state_dict({"state": by_place, "param_groups": groups})
