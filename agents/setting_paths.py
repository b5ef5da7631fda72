"""Settings as nested frozen dataclasses: reading and changing them by a dotted path, and their shared checks.

A path such as "pretraining.epochs" names a field of a group. An option of a model has such a path, too, as in
"generator.hidden_size", although it is stored in the group's `options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Config = TypeVar("Config")


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of nested settings with new values: `changed(config, {"pretraining.epochs": 3})`.

    Args:
        config: a dataclass, which may hold others.
        changes: dotted path -> value.

    Raises:
        ValueError: for an unknown path, or for a value that its group refuses.
    """
    by_field: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        by_field.setdefault(head, {})[rest] = value
    known = {field.name for field in fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, inner in by_field.items():
        if name not in known:
            if "options" not in known or "" not in inner:
                raise ValueError(
                    f"{name!r} is no setting of {type(config).__name__}; it has {', '.join(sorted(known))}"
                )
            values.setdefault("options", dict(config.options))[name] = inner[""]  # type: ignore[attr-defined]
        elif "" in inner:
            values[name] = inner[""]
        else:
            values[name] = changed(getattr(config, name), inner)
    return replace(config, **values)  # type: ignore[type-var]


def value_at(config: Any, path: str) -> Any:
    """The value at a dotted path; None for a model's option that is not set."""
    for name in path.split("."):
        has_it = name in {field.name for field in fields(config)}
        config = getattr(config, name) if has_it else config.options.get(name)
    return config


def differing(first: Any, second: Any, path: str = "") -> list[str]:
    """Dotted paths at which two settings objects of one class differ."""
    if type(first) is type(second) and is_dataclass(first):
        pairs = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(first)}
        if "options" in pairs:
            both = pairs.pop("options")
            pairs |= {name: (both[0].get(name), both[1].get(name)) for name in {**both[0], **both[1]}}
        return [
            found
            for name, (one, other) in pairs.items()
            for found in differing(one, other, f"{path}.{name}".lstrip("."))
        ]
    return [] if first == second else [path]


# Checks of groups. All raise ValueError with the name, the value and the expectation.


def check_counts(config: Any, **least: int) -> None:
    """Every named field must be None or a whole number that is at least the given one."""
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{_place(config, name)}={value!r} must be a whole number")
        if value < smallest:
            raise ValueError(f"{_place(config, name)}={value} must be at least {smallest}")


def check_positive(config: Any, *names: str) -> None:
    """Every named field must be finite and above 0."""
    for name in names:
        value = getattr(config, name)
        if not (_is_number(value) and value > 0 and math.isfinite(value)):
            raise ValueError(f"{_place(config, name)}={value} must be above 0 and finite")


def check_not_negative(config: Any, *names: str) -> None:
    """Every named field must be finite and not below 0."""
    for name in names:
        value = getattr(config, name)
        if not (_is_number(value) and value >= 0 and math.isfinite(value)):
            raise ValueError(f"{_place(config, name)}={value} must be finite and not negative")


def check_shares(config: Any, *names: str) -> None:
    """Every named field must lie in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        if not (_is_number(value) and 0 <= value <= 1):
            raise ValueError(f"{_place(config, name)}={value} must lie in [0, 1]")


def check_shares_below_one(config: Any, *names: str) -> None:
    """Every named field must lie in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not (_is_number(value) and 0 <= value < 1):
            raise ValueError(f"{_place(config, name)}={value} must lie in [0, 1)")


def check_choices(config: Any, **known: Sequence[str]) -> None:
    """Every named field must be one of the given words."""
    for name, words in known.items():
        if getattr(config, name) not in words:
            raise ValueError(f"{_place(config, name)}={getattr(config, name)!r} must be one of {', '.join(words)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _place(config: Any, name: str) -> str:
    """The dotted path of a field in all settings: "pretraining.epochs" of a `PretrainingConfig`."""
    group = type(config).__name__.removesuffix("Config").lower()
    return name if group == "seqgan" else f"{group}.{name}"


def check_finite(value: Any, name: str = "") -> None:
    """Check every number of some settings, or of what a command was given.

    Args:
        value: a number, or a dataclass, a sequence or a mapping that holds numbers, at any depth.
        name: where it stands, dots between the levels.

    Raises:
        ValueError: if one is NaN or infinite: each would run to the end and mean nothing.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value} must be a finite number")
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_finite(inner, str(key) if name in ("", "config", "asked", "options") else f"{name}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for inner in value:
            check_finite(inner, name)
