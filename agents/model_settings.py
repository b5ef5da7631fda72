"""Which model, and its own options: those that its constructor takes, whoever wrote it.

A model's options are read from its constructor's signature, so a new option of a model needs no edit here, and a
model of the user's own, "module:Class", has options too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from docstring_parser import parse

from seqgan_env.components import DISCRIMINATORS, GENERATORS, imported_attribute

# Given by the game: the task's sizes, and a seed of the part.
_GIVEN = ("self", "task", "vocab_size", "sequence_length", "seed", "members")


@dataclass(frozen=True)
class Option:
    """An option of a model.

    Attributes:
        name: of the constructor's argument.
        default: its default, a plain value.
        help: what the class's docstring says of it.
    """

    name: str
    default: int | float | str | bool
    help: str


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator G_theta (Eq. 9-10)."""

    name: str = "lstm"
    """G: lstm, gru, transformer, attention (an LSTM that looks back), or module:Class of your own [P: lstm]."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of its constructor; the others keep their defaults [2016, 2018: E = H = 32, N(0, 0.1^2)]."""

    def complete(self) -> GeneratorConfig:
        """The same with every option named; raises as `complete_options`."""
        return replace(self, options=complete_options("generator", self.name, self.options))


def shared_options(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that another model has too; raises as `options_of`."""
    known = options_of(kind, name)
    return {option: value for option, value in options.items() if option in known}


def options_of(kind: str, name: str) -> dict[str, Option]:
    """The options of the models that a name stands for: name of the option -> option.

    Args:
        kind: "generator" or "discriminator".
        name: as `build_generator` and `build_discriminator` take it. An ensemble has the options of all its members.

    Raises:
        ValueError: for a name that is none; it names the known ones and the nearest. For "module:Attribute", if that
            cannot be imported.
    """
    found: dict[str, Option] = {}
    for constructor in _constructors(kind, name):
        texts = _help_texts(constructor)
        for parameter in inspect.signature(constructor).parameters.values():
            is_plain = isinstance(parameter.default, int | float | str | bool)
            if is_plain and parameter.name not in (*_GIVEN, *found):
                text = texts.get(parameter.name, "")
                found[parameter.name] = Option(parameter.name, parameter.default, text)
    return found


def complete_options(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a model with its value.

    Raises:
        ValueError: for an option that the model does not have, or of another type; also as `options_of`.
    """
    known = options_of(kind, name)
    for option, value in options.items():
        if option not in known:
            raise ValueError(
                f"{kind}.{option}={value!r}: {kind}={name!r} has no such option; it has {', '.join(known)}"
            )
        wanted = type(known[option].default)
        if not isinstance(value, (int, float) if wanted is float else wanted) or (
            isinstance(value, bool) and wanted is not bool
        ):
            raise ValueError(f"{kind}.{option}={value!r} must be of type {wanted.__name__}")
    return {option: options.get(option, known[option].default) for option in known}


def _constructors(kind: str, name: str) -> list[Any]:
    """The classes that a name stands for; none for an object of the user's own that is already made."""
    known: dict[str, Any] = GENERATORS if kind == "generator" else DISCRIMINATORS
    if name in known:
        return [known[name]]
    if kind == "discriminator" and name.partition(":")[0] == "ensemble":
        members = name.partition(":")[2].split("+") if ":" in name else list(known)
        if not set(members) <= set(known):
            raise ValueError(f"discriminator={name!r}: members must be among {list(known)}, joined by '+'")
        return [known[member] for member in dict.fromkeys(members)]
    if ":" not in name:
        names = [*known, *(["ensemble"] if kind == "discriminator" else [])]
        near = get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{kind}={name!r} is none of {', '.join(names)}, nor of the form 'module:Class'{hint}")
    value = imported_attribute(name, kind)
    return [value] if inspect.isclass(value) else []


def _help_texts(constructor: Any) -> dict[str, str]:
    """Argument -> what the docstring of a class, or of one that it inherits from, says of it."""
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(constructor)):
        for parameter in parse(one.__doc__ or "").params:
            for name in parameter.arg_name.split(", "):
                texts[name] = " ".join((parameter.description or "").split())
    return texts
