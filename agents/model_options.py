"""Settings of a model: its name and its own options, which are the arguments of its constructor.

The options are read from the constructor's signature. So a new option needs no edit here, and a user's own model,
"module:Class", has options, too.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from docstring_parser import parse

from seqgan_env.arguments import check_number
from seqgan_env.components import DISCRIMINATORS, GENERATORS, imported_attribute
from seqgan_env.models.pretrained import is_pretrained
from seqgan_env.models.pretrained_discriminator import PretrainedDiscriminator
from seqgan_env.models.pretrained_generator import PretrainedGenerator

# The game gives these: the task's sizes, and a seed for the part.
_GIVEN = ("self", "task", "vocab_size", "sequence_length", "seed", "members")


@dataclass(frozen=True)
class Option:
    """An option of a model.

    Attributes:
        name: name of the constructor's argument.
        default: its default, a plain value.
        help: its description in the class's docstring.
        choices: the words that it may be; empty: any value of the default's type.
        least, above, most: the range of a number: at least, above, at most; None: no such end.
    """

    name: str
    default: int | float | str | bool
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None

    def check(self, place: str, value: Any) -> None:
        """Raise ValueError, with the place, unless it can have this value."""
        wanted = type(self.default)
        if not isinstance(value, (int, float) if wanted is float else wanted) or (
            isinstance(value, bool) and wanted is not bool
        ):
            raise ValueError(f"{place}={value!r} must be of type {wanted.__name__}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{place}={value!r} must be one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            least, above = (-math.inf if end is None else end for end in (self.least, self.above))
            check_number(
                place, value, at_least=least, above=above, at_most=math.inf if self.most is None else self.most
            )


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator G_theta (Eq. 9-10)."""

    name: str = "lstm"
    """G: lstm, gru, transformer, attention (an LSTM that looks back), hf:PATH or hf:NAME (a pretrained model), or
    module:Class of your own [P: lstm]."""
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
        parameters = inspect.signature(constructor).parameters.values()
        for option in plain_options(constructor, parameters, _GIVEN).values():
            found.setdefault(option.name, option)
    return found


def plain_options(
    constructor: Any, parameters: Iterable[inspect.Parameter], given: Collection[str]
) -> dict[str, Option]:
    """The options of a class: the arguments whose defaults are plain values; name -> option.

    Args:
        constructor: the class; its docstring has the help texts.
        parameters: arguments of its constructor.
        given: names of arguments that are no options.
    """
    texts = _help_texts(constructor)
    return {
        parameter.name: Option(parameter.name, parameter.default, texts.get(parameter.name, ""))
        for parameter in parameters
        if isinstance(parameter.default, int | float | str | bool) and parameter.name not in given
    }


def complete_options(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a model with its value.

    Raises:
        ValueError: for an option that the model does not have, or that has another type; also as `options_of`.
    """
    return completed(kind, name, options, options_of(kind, name))


def completed(kind: str, name: str, options: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Every known option with its value: the given one, or its default.

    Args:
        kind: "generator", "discriminator" or "learner".
        name: of the part, for messages.
        options: the given values.
        known: name -> option.

    Raises:
        ValueError: for a value whose option is not known, or that the option cannot have.
    """
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{kind}.{option}={value!r}: {no_such_option(kind, name, known)}")
        known[option].check(f"{kind}.{option}", value)
    return {option: options.get(option, known[option].default) for option in known}


def no_such_option(kind: str, name: str, known: Collection[str]) -> str:
    """What to say of an option that a part does not have."""
    return f"{kind}={name!r} has no such option; it has {', '.join(known) or 'none'}"


def _constructors(kind: str, name: str) -> list[Any]:
    """The classes that a name stands for; empty if "module:Attribute" names an object instead of a class."""
    known: dict[str, Any] = GENERATORS if kind == "generator" else DISCRIMINATORS
    if name in known:
        return [known[name]]
    if is_pretrained(name):
        return [PretrainedGenerator if kind == "generator" else PretrainedDiscriminator]
    if kind == "discriminator" and name.partition(":")[0] == "ensemble":
        members = name.partition(":")[2].split("+") if ":" in name else list(known)
        if not set(members) <= set(known):
            raise ValueError(f"discriminator={name!r}: members must be among {list(known)}, joined by '+'")
        return [known[member] for member in dict.fromkeys(members)]
    if ":" not in name:
        names = [*known, *(["ensemble"] if kind == "discriminator" else [])]
        raise ValueError(unknown_name(kind, name, names))
    value = imported_attribute(name, kind)
    return [value] if inspect.isclass(value) else []


def unknown_name(kind: str, name: str, names: Sequence[str]) -> str:
    """What to say of a name that is none: the known ones, and the most similar of them."""
    near = get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{kind}={name!r} is none of {', '.join(names)}, nor of the form 'module:Class'{hint}"


@functools.cache
def _help_texts(constructor: Any) -> dict[str, str]:
    """Argument -> its description in the docstring of a class or of a class that it inherits from."""
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(constructor)):
        for parameter in parse(one.__doc__ or "").params:
            for name in parameter.arg_name.split(", "):
                texts[name] = " ".join((parameter.description or "").split())
    return texts
