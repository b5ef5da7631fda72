"""Settings as the command line shows them: tyro's forms, made from the dataclasses of the settings.

In: a dataclass and its values. Out: a dataclass for tyro with the same fields and help texts, and marks on those
that `--help` leaves out and `--help-all` shows; and the way back. A model's options are fields of its group's form.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints

from tyro.conf import Suppress, arg
from tyro.extras import SubcommandApp

from agents.learner_options import GAME_LEARNERS, options_of_part
from agents.model_options import Option, no_such_option
from agents.runs.presets import for_pretrained, with_learner
from agents.seqgan import SeqGANConfig
from agents.setting_paths import check_finite
from seqgan_env.components import DISCRIMINATORS, GENERATORS
from seqgan_env.models.pretrained import is_pretrained

# A group that is a part with options of its own: its `name` is the group's own option, as in `--generator lstm`.
_PARTS = ("generator", "discriminator", "learner")


def form_of(config: Any, shown: Collection[str] | None = None, path: str = "") -> type:
    """A dataclass for tyro.

    Args:
        config: a dataclass; its values are the form's defaults.
        shown: dotted paths that help shows; None shows all.
        path: where `config` stands, dots between the levels.
    """
    hints, texts = get_type_hints(type(config)), _field_texts(config.__class__)
    made: list[tuple[str, Any, Any]] = []
    for field in fields(config):
        value, place = getattr(config, field.name), f"{path}.{field.name}".lstrip(".")
        if field.name == "options":
            for option in options_of_part(path, config.name).values():
                default = config.options.get(option.name, option.default)
                kind: Any = Literal[option.choices] if option.choices else type(option.default)
                made.append((option.name, _marked(f"{path}.{option.name}", kind, _text(option), shown), default))
        elif is_dataclass(value):
            inner = form_of(value, shown, place)
            text = texts.get(field.name, "") if shown is None else ""
            heading = arg(name="") if field.name == "task" else arg(help=text)
            made.append((field.name, Annotated[inner, heading], inner()))
        else:
            is_model = field.name == "name" and path in _PARTS
            text = texts.get(field.name, "")
            made.append(
                (field.name, _marked(path if is_model else place, hints[field.name], text, shown, is_model), value)
            )
    return make_dataclass(f"{type(config).__name__}Form", made, frozen=True)


def read_form(config: Any, form: Any) -> Any:
    """The settings that a filled form stands for; `config` is what the form was made from."""
    values: dict[str, Any] = {}
    for field in fields(config):
        if field.name == "options":
            own = {other.name for other in fields(config)}
            names = [other.name for other in fields(form) if other.name not in own]
            values["options"] = {name: getattr(form, name) for name in names}
        elif is_dataclass(value := getattr(config, field.name)):
            values[field.name] = read_form(value, getattr(form, field.name))
        else:
            values[field.name] = getattr(form, field.name)
    return replace(config, **values)


def with_parts(config: SeqGANConfig, named: Callable[[str], str | None], preset: str) -> SeqGANConfig:
    """The settings with other models and another learner; of the options that were set, each keeps those that it knows.

    A learner also brings what `with_learner` says. A pretrained generator brings its tokenizer, smaller learning rates
    and less work (`presets.PRETRAINED`).

    Args:
        config: the settings.
        preset: name of the preset that they are.
        named: "generator", "discriminator" or "learner" -> the name that the command line gives, or None.

    Raises:
        ValueError: for a name that is none; it names the known ones.
    """
    for kind in ("generator", "discriminator"):
        group = getattr(config, kind)
        name = named(kind) or group.name
        known = options_of_part(kind, name)
        kept = {option: group.options.get(option, known[option].default) for option in known}
        if kind == "generator" and is_pretrained(name) and not is_pretrained(group.name):
            config = for_pretrained(config, name)
            group = config.generator
        config = replace(config, **{kind: replace(group, name=name, options=kept)})
    return with_learner(config, named("learner") or config.learner.name, preset)


def expect_own_options(config: SeqGANConfig, arguments: Sequence[str]) -> None:
    """Check that the options of parts are those of the parts that are named, not of others.

    Args:
        config: the settings, whose groups name the parts.
        arguments: the command line.

    Raises:
        ValueError: for an option of another part; names the ones that this part has.
    """
    for argument in arguments:
        kind, _, option = argument.partition("=")[0].removeprefix("--").partition(".")
        if kind not in _PARTS or not argument.startswith("--"):
            continue
        option = option.removeprefix("no-").replace("-", "_")
        group = getattr(config, kind)
        own = options_of_part(kind, group.name)
        if option in own or option in {field.name for field in fields(group)}:
            continue
        if any(option in options_of_part(kind, other) for other in _BUILT_IN[kind]):
            raise ValueError(f"--{kind}.{option.replace('_', '-')}: {no_such_option(kind, group.name, own)}")


_BUILT_IN: dict[str, Collection[str]] = {
    "generator": GENERATORS, "discriminator": DISCRIMINATORS, "learner": GAME_LEARNERS
}  # fmt: skip


def _text(option: Option) -> str:
    return option.help[:1].upper() + option.help[1:]


def _marked(place: str, kind: Any, text: str, shown: Collection[str] | None, is_model: bool = False) -> Any:
    mark: Any = arg(name="", help=text) if is_model else arg(help=text)
    if shown is None or place in shown or place.removeprefix("task.") in shown:
        return Annotated[kind, mark]
    return Annotated[kind, mark, Suppress]


@functools.cache
def _field_texts(cls: type) -> dict[str, str]:
    """Field -> the text below it in the source of a dataclass or of one that it inherits from."""
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(cls)):
        if not is_dataclass(one):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, below in zip(tree.body, tree.body[1:], strict=False):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and is_text:
                texts[statement.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined]
    return texts


def first_paragraph(command: Callable[..., None], arguments: Sequence[str]) -> str | None:
    """A command's line in the list of all commands; None for the command that is called, whose help has the whole."""
    if command.__name__ in arguments[:1]:
        return None
    return (inspect.getdoc(command) or "").split("\n\n")[0]


def add_command(app: SubcommandApp, command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Add a command to the parser; without its options if the command line calls another one.

    Making options takes time, and the parser would offer them for misspelt ones of the command that is called.
    """
    if calls_another(command.__name__, arguments):
        app.command(name=command.__name__)(not_called)
    else:
        app.command(help=first_paragraph(command, arguments))(deferred(command))


def calls_another(name: str, arguments: Sequence[str]) -> bool:
    """Whether a command line begins with another word than this one, and with no option such as --help."""
    return bool(arguments) and arguments[0] != name and not arguments[0].startswith("-")


def not_called() -> Callable[[], None]:
    """Stands for a command that the command line does not call."""
    raise AssertionError("the command line calls another command")


def deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A command that only parses and returns what runs it: the parser's complaints are then apart from the run's.

    What runs it first refuses NaN and infinity, in whatever argument they stand.
    """

    @functools.wraps(command)
    def parsed(*arguments: Any, **keywords: Any) -> Callable[[], None]:
        def run() -> None:
            check_finite([*arguments, keywords])
            command(*arguments, **keywords)

        return run

    return parsed


def run_form(*given: tuple[str, Any, Any, str], hidden: Collection[str] = ()) -> type:
    """A form of fields: name, type, default, help text; help leaves the hidden ones out."""
    made: list[tuple[str, Any, Any]] = [
        (name, Annotated[(kind, arg(help=text), *([Suppress] if name in hidden else []))], default)
        for name, kind, default, text in given
    ]
    return make_dataclass("RunForm", made, frozen=True)
