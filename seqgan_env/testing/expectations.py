"""Expectations that the checks of all parts use: kinds of tensors, equal numbers, modules that learn and can be saved.

In: a name for messages, and the expectation. Out: nothing, or a ValueError that names fault and remedy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def attempt(what: str, function: Callable[..., Any], *arguments: Any, remedy: str = "") -> Any:
    """Call a function and return its result. If it fails, the error also says what was tried."""
    try:
        return function(*arguments)
    except Exception as error:
        hint = f"; {remedy}" if remedy else ""
        raise ValueError(f"{what}: {type(error).__name__}: {error}{hint}") from error


def expect_tensor(name: str, value: Any, shape: Sequence[int], device: torch.device, integer: bool = False) -> None:
    """Expect a finite tensor with a shape and a device, of floats or of int64."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} returned {type(value).__name__}, expected a tensor")
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} returned shape {tuple(value.shape)}, expected {tuple(shape)}")
    if value.dtype != torch.int64 if integer else not value.is_floating_point():
        raise ValueError(f"{name} returned dtype {value.dtype}, expected {'int64' if integer else 'floats'}")
    if value.device.type != device.type:
        raise ValueError(f"{name} returned a tensor on {value.device}, expected {device}, where its inputs are")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} returned NaN or infinity; expected finite numbers")


def default_tolerance(model: nn.Module) -> float:
    """The largest difference of a model's numbers that rounding may cause; it is larger for 16-bit models."""
    bits = min((torch.finfo(parameter.dtype).bits for parameter in model.parameters()), default=32)
    return 1e-4 if bits >= 32 else 0.1


def expect_parameters_that_learn(name: str, model: nn.Module) -> None:
    """Expect a parameter that is not frozen. If all are frozen, no loss has a gradient."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        raise ValueError(
            f"{name}: all of its parameters are frozen (requires_grad=False), so it cannot learn; call "
            "requires_grad_(True) on it, or on a copy of it"
        )


def expect_equal(message: str, first: Tensor, second: Tensor, tolerance: float) -> None:
    """Expect that no two numbers differ by more than the tolerance."""
    difference = float((first - second).abs().max()) if first.numel() else 0.0
    if not difference <= tolerance:
        raise ValueError(f"{message} (largest difference {difference:.3g}, tolerance {tolerance:.3g})")


def expect_scores(
    name: str, score: Callable[[Tensor], Tensor], sequences: Tensor, tolerance: float, row_by_row: bool = True
) -> None:
    """Expect scores without gradient that are the same at each call and in each batch, and an unchanged input."""
    given = sequences.clone()
    scores = score(given)
    if scores.requires_grad:
        raise ValueError(f"{name} returned numbers with a gradient; decorate it with @torch.no_grad()")
    if not torch.equal(given, sequences):
        raise ValueError(f"{name} changed the sequences that it scored; work on a copy of them")
    message = (
        f"{name} gave two different scores to the same batch, so it does not score in evaluation mode; switch "
        "dropout off while scoring (nn.Dropout in a module, or F.dropout with training=self.training)"
    )
    expect_equal(message, score(given), scores, tolerance)
    if row_by_row:
        message = f"{name} depends on the other sequences of the batch; score each by itself"
        expect_equal(message, score(sequences.flip(0)).flip(0), scores, tolerance)
        expect_equal(message, torch.cat([score(row) for row in sequences.split(1)]), scores, tolerance)


def expect_learning(name: str, model: Model, loss: Callable[[Model], Tensor]) -> None:
    """Expect a loss with a finite gradient to every parameter that is not frozen, and to nothing else."""
    model = moved(model)  # a layer that starts at zero passes no gradient back, which is not a fault
    value = loss(model)
    known = set(map(id, model.parameters()))
    for leaf in _leaves(value):
        if id(leaf) not in known:
            raise ValueError(
                f"{name} learns with a tensor of shape {tuple(leaf.shape)} that is not one of its parameters, so it is "
                "neither trained nor saved; make it an nn.Parameter, and a list of modules an nn.ModuleList"
            )
    value.backward()
    gradients = {label: parameter.grad for label, parameter in model.named_parameters() if parameter.requires_grad}
    unreached = [label for label, gradient in gradients.items() if gradient is None or not gradient.any()]
    if unreached:
        raise ValueError(
            f"{name}: no gradient reaches {', '.join(unreached)}; use them in the loss, or freeze them with "
            "requires_grad_(False)"
        )
    for label, gradient in gradients.items():
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            raise ValueError(f"{name}: the gradient of {label} is NaN or infinite")


def _leaves(value: Tensor) -> Iterator[Tensor]:
    """The tensors that collect the gradient of this value."""
    seen, nodes = set(), [value.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        nodes.extend(before for before, _ in node.next_functions)


def expect_saving(name: str, model: Model, score: Callable[[Model], Tensor], tolerance: float) -> None:
    """Expect that a model which has scored, and then loads another's state_dict, scores like the other one.

    Args:
        name: for messages.
        model: the model, before it has scored anything.
        score: gives the scores of some sequences.
        tolerance: the largest difference of scores.
    """
    trained, loaded = moved(model), duplicate(model)
    score(loaded)
    loaded.load_state_dict(trained.state_dict())
    message = (
        f"{name}: scores differ after load_state_dict(state_dict()); register everything that it learns as parameters "
        "or buffers, and do not store values computed from them, or compute them again after each change"
    )
    expect_equal(message, score(loaded), score(trained), tolerance)


def duplicate(model: Model) -> Model:
    """A deep copy. Raises TypeError if it cannot be made."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise TypeError(f"{type(model).__name__} cannot be copied by copy.deepcopy: {error}") from error


def moved(model: Model) -> Model:
    """A deep copy with noise on the parameters that learn, to stand for some training.

    Frozen parameters stay as they are: a copy may share them with the original.
    """
    model = duplicate(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@contextmanager
def random_state_kept(seed: int) -> Iterator[None]:
    """A context with seeded global generators of torch; afterwards they have their old states again."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
