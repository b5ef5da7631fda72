"""The group of settings `learner`: which learner plays Algorithm 1, and its own options.

In: a learner's name, as `seqgan train --learner` gives it; `learner_table` has those of this project. Out: the
settings, and the options in them. A learner of your own, "module:Class", has the options that its constructor has. The
classes themselves are built in `game_learners`; nothing of Stable-Baselines3 is imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agents.learner_table import GAME_LEARNERS as GAME_LEARNERS
from agents.model_options import Option, completed, options_of, plain_options, unknown_name
from agents.setting_paths import check_counts, check_not_negative, check_positive
from seqgan_env.components import imported_attribute

# The game gives these to a learner, or no run needs them.
_GIVEN = (
    *("self", "policy", "env", "learning_rate", "n_steps", "batch_size", "gamma", "max_grad_norm", "policy_kwargs"),
    *("seed", "device", "verbose", "tensorboard_log", "stats_window_size", "monitor_wrapper", "use_sde"),
    *("sde_sample_freq", "has_reference", "_init_setup_model"),
)

# Learners that cannot play it, under all their names.
_NOT_BY_MLE = {
    **dict.fromkeys(("dqn", "qrdqn", "qr_dqn"), "has values of actions instead of a distribution"),
    **dict.fromkeys(("ppo_lstm", "recurrentppo", "recurrent_ppo"), "has a memory of its own instead of the generator"),
    **dict.fromkeys(("ppo_mask", "maskableppo", "maskable_ppo"), "has a feed-forward policy instead of the generator"),
}


@dataclass(frozen=True)
class LearnerConfig:
    """The learner: what updates the generator (lines 7-13 of Algorithm 1)."""

    name: str = "reinforce"
    """Learner: reinforce, rloo, grpo, ppo, a2c, trpo, weighted_mle, dpg, spin, ddo, cot, or module:Class of your own
    [P: reinforce]."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its own options; the others keep their defaults."""
    batch_size: int = 64
    """Sequences per generator update [2016, 2018: 64]."""
    learning_rate: float = 1e-2
    """Adam's learning rate of the learner; trpo: of the value head alone [2016: 1e-3; 2018: 1e-2]."""
    max_grad_norm: float = 5.0
    """Global norm to which gradients of the policy are clipped; trpo: not used [2016, 2018: 5]."""

    def __post_init__(self) -> None:
        expect_learner(self.name)
        check_counts(self, batch_size=1)
        check_not_negative(self, "learning_rate")
        check_positive(self, "max_grad_norm")

    def complete(self) -> LearnerConfig:
        """A copy that names every option.

        Raises:
            ValueError: for an option that the learner does not have, or a value that it cannot have; for
                "module:Class", if the import fails.
        """
        return replace(self, options=completed("learner", self.name, self.options, learner_options(self.name)))

    def named(self, name: str) -> LearnerConfig:
        """A copy with another learner and its default learning rate and clipping.

        Options that both learners have are kept.

        Raises:
            ValueError: for a name that is none, or a learner that cannot play.
        """
        known = learner_options(name)
        kept = {option: self.options.get(option, known[option].default) for option in known}
        if name == self.name:
            return replace(self, options=kept)
        if name in GAME_LEARNERS:
            own = GAME_LEARNERS[self.name].rate_share if self.name in GAME_LEARNERS else 1.0
            other = GAME_LEARNERS[name]
            rate, norm = self.learning_rate * other.rate_share / own, other.max_grad_norm
        else:
            rate = _default(name, "learning_rate", self.learning_rate)
            norm = _default(name, "max_grad_norm", self.max_grad_norm)
        return replace(self, name=name, options=kept, learning_rate=rate, max_grad_norm=norm)

    @property
    def step_setting(self) -> str:
        """The setting of this group that decides how far an update moves the generator."""
        return GAME_LEARNERS[self.name].step_setting if self.name in GAME_LEARNERS else "learning_rate"

    def check_reward_mode(self, mode: str) -> None:
        """Check that the learner can use a reward mode. A learner of your own is checked when it is built.

        Raises:
            ValueError: if it cannot; says what to write.
        """
        if self.name not in GAME_LEARNERS:
            return
        learner = GAME_LEARNERS[self.name]
        defaults = {option.name: option.default for option in learner.options} | dict(self.options)
        if learner.needs_sequences:
            expect_terminal(self.name, mode)
            if self.batch_size < 2:
                raise ValueError(
                    f"learner.batch_size={self.batch_size} must be at least 2: {self.name} compares the sequences of "
                    "an update with each other"
                )
        elif mode == "action_value" and self.name != "reinforce" and defaults.get("kl_coef"):
            raise ValueError(
                f"learner.kl_coef={defaults['kl_coef']} needs rewards that add up, and game.reward_mode={mode!r} is "
                "weighed step by step: the KL of later tokens would not count. Write --game.reward-mode potential"
            )

    def check_reward_model(self, reward_model: str) -> None:
        """Check that a learner which uses no reward is given none that costs anything.

        Raises:
            ValueError: if it is; says what to write.
        """
        if self.name in GAME_LEARNERS and GAME_LEARNERS[self.name].reward_model == "constant" != reward_model:
            raise ValueError(
                f"game.reward_model={reward_model!r}: learner={self.name!r} learns from real sequences and uses no "
                "reward, so a discriminator would be trained for nothing. Write --game.reward-model constant"
            )


def expect_terminal(name: str, mode: str) -> None:
    """Raise ValueError, with the option to write, unless a learner of whole sequences gets R(Y) alone."""
    if mode != "terminal":
        raise ValueError(
            f"game.reward_mode={mode!r}: learner={name!r} learns from whole sequences with R(Y), so the search would "
            "be wasted. Write --game.reward-mode terminal"
        )


def needs_sequences(name: str) -> bool:
    """Whether a learner uses R(Y) of whole sequences alone; as `learner_options`."""
    expect_learner(name)
    if name in GAME_LEARNERS:
        return GAME_LEARNERS[name].needs_sequences
    return bool(getattr(imported_attribute(name, "learner"), "needs_sequences", False))


def reward_model_of(name: str) -> str:
    """The reward model that a learner is made for, "" for any; "constant" if it uses none. As `learner_options`."""
    expect_learner(name)
    if name in GAME_LEARNERS:
        return GAME_LEARNERS[name].reward_model
    return "" if getattr(imported_attribute(name, "learner"), "uses_reward", True) else "constant"


def expect_learner(name: str) -> None:
    """Check a name without importing anything.

    Raises:
        ValueError: if it is none, or that of a learner that cannot play Algorithm 1.
    """
    if name in GAME_LEARNERS or ":" in name:
        return
    if (why := _NOT_BY_MLE.get(name.lower().replace("-", "_"))) is not None:
        raise ValueError(
            f"learner={name!r} {why}, so there is no generator that maximum likelihood could pretrain and that this "
            f"learner then plays. `seqgan compare` has it; here the learners are {', '.join(GAME_LEARNERS)}"
        )
    if name == "kl_ppo":
        raise ValueError("learner='kl_ppo' is PPO with a penalty: write --learner ppo --learner.kl-coef 0.01")
    raise ValueError(unknown_name("learner", name, list(GAME_LEARNERS)))


def learner_options(name: str) -> dict[str, Option]:
    """The own options of a learner: name -> option. Imports the module of "module:Class".

    Raises:
        ValueError: as `expect_learner`, or if the import fails.
    """
    expect_learner(name)
    if name in GAME_LEARNERS:
        return {option.name: option for option in GAME_LEARNERS[name].options}
    constructor = imported_attribute(name, "learner")
    unused = getattr(constructor, "unused_arguments", ())
    return plain_options(constructor, constructor_arguments(constructor).values(), (*_GIVEN, *unused))


def options_of_part(kind: str, name: str) -> dict[str, Option]:
    """The options of a generator, discriminator or learner; see `options_of` and `learner_options`."""
    return learner_options(name) if kind == "learner" else options_of(kind, name)


def constructor_arguments(constructor: Any) -> dict[str, inspect.Parameter]:
    """Arguments that a class takes, also those that it hands on with `**` to the class that it inherits from.

    Raises:
        ValueError: if it is no class.
    """
    if not inspect.isclass(constructor):
        raise ValueError(f"learner={constructor!r} must be a class: the name of an SB3 algorithm's class")
    found: dict[str, inspect.Parameter] = {}
    for one in inspect.getmro(constructor):
        if "__init__" not in vars(one):
            continue
        parameters = inspect.signature(vars(one)["__init__"]).parameters
        found = {**parameters, **found}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


def _default(name: str, argument: str, other: float) -> float:
    """The default of a constructor's argument of "module:Class", where that is a number; else the other value."""
    parameter = constructor_arguments(imported_attribute(name, "learner")).get(argument)
    value = None if parameter is None else parameter.default
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else other
