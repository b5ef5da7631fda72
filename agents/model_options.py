"""Settings of a model: its name and its own options, which are the arguments of its constructor.

The options are read from the constructor's signature. So a new option needs no edit here, and a user's own model,
"module:Class", has options, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from docstring_parser import parse

from seqgan_env.components import DISCRIMINATORS, GENERATORS, imported_attribute

# The game gives these: the task's sizes, and a seed for the part.
_GIVEN = ("self", "task", "vocab_size", "sequence_length", "seed", "members")


@dataclass(frozen=True)
class Option:
    """An option of a model.

    Attributes:
        name: name of the constructor's argument.
        default: its default, a plain value.
        help: its description in the class's docstring.
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
        """A copy that names every option; raises as `complete_options`."""
        return replace(self, options=complete_options("generator", self.name, self.options))


def shared_options(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the options that this model has, too; raises as `options_of`."""
    known = options_of(kind, name)
    return {option: value for option, value in options.items() if option in known}


def options_of(kind: str, name: str) -> dict[str, Option]:
    """The options of all models that a name stands for: name of the option -> option.

    Args:
        kind: "generator" or "discriminator".
        name: as `build_generator` and `build_discriminator` take it. An ensemble has the options of all its members.

    Raises:
        ValueError: for an unknown name; the message gives the known names and the most similar one. For
            "module:Attribute", if the import fails.
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
        ValueError: for an option that the model does not have, or that has another type; also as `options_of`.
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
    """The classes that a name stands for; empty if "module:Attribute" names an object instead of a class."""
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


@functools.cache
def _help_texts(constructor: Any) -> dict[str, str]:
    """Argument -> its description in the docstring of a class or of a class that it inherits from."""
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(constructor)):
        for parameter in parse(one.__doc__ or "").params:
            for name in parameter.arg_name.split(", "):
                texts[name] = " ".join((parameter.description or "").split())
    return texts
