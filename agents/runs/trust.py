"""Which parts of a run folder are somebody's own code, and whether the user has said that it may run.

In: settings. Out: the "module:Class" names in them. A folder that somebody else made may name any module; importing it
would run it. So such a module is imported only if the user's own command repeats its name. A pretrained model,
"hf:NAME", is data: a run reads it from its own folder alone, and code that comes with it is never run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from agents.learner_options import GAME_LEARNERS
from agents.seqgan import SeqGANConfig
from seqgan_env.components import DISCRIMINATORS, GENERATORS, is_learned_reward
from seqgan_env.mixed_reward import is_mixed, reward_terms
from seqgan_env.models.pretrained import is_pretrained

_REWARDS_WITH_ARGUMENT = ("bleu", "constant")  # as in "constant:0.5"
_REWARDS = ("bleu", "constant", "random", "oracle")


def is_own_generator(name: str) -> bool:
    """Whether a generator's name is "module:Class" of somebody's own."""
    return name not in GENERATORS and not is_pretrained(name)


def is_own_discriminator(name: str) -> bool:
    """Likewise of a discriminator."""
    return name not in DISCRIMINATORS and name.partition(":")[0] != "ensemble" and not is_pretrained(name)


def is_own_learner(name: str) -> bool:
    """Likewise of a learner."""
    return name not in GAME_LEARNERS


def is_own_reward(name: str) -> bool:
    """Likewise of a reward model."""
    kind = name.partition(":")[0]
    return not (is_learned_reward(name) or name in _REWARDS or kind in _REWARDS_WITH_ARGUMENT)


def _reward_names(spec: str) -> list[str]:
    """The reward models of a weighted sum, or the one that is named."""
    return [term.name for term in reward_terms(spec)] if is_mixed(spec) else [spec]


def own_parts(config: SeqGANConfig) -> dict[str, str]:
    """Dotted path -> name of each part that is no part of this project."""
    found: dict[str, str] = {}
    if is_own_generator(config.generator.name):
        found["generator.name"] = config.generator.name
    if is_own_discriminator(config.discriminator.name):
        found["discriminator.name"] = config.discriminator.name
    if is_own_learner(config.learner.name):
        found["learner.name"] = config.learner.name
    for place, name in enumerate(_reward_names(config.game.reward_model)):
        if is_own_reward(name):
            found[f"game.reward_model{f'[{place}]' if place else ''}"] = name
    return found


def own_parts_of_format_1(flat: Mapping[str, Any]) -> dict[str, str]:
    """The same of the flat settings that run folders of format 1 hold; values may be anything."""
    tests = {"generator": is_own_generator, "discriminator": is_own_discriminator, "reward_model": is_own_reward}
    return {
        name: flat[name] for name, is_own in tests.items() if isinstance(flat.get(name), str) and is_own(flat[name])
    }


def expect_trusted(path: str, parts: dict[str, str], trusted: Collection[str]) -> None:
    """Check that the user trusts all parts that would be imported.

    Args:
        path: of the run folder, for the message.
        parts: dotted path -> "module:Class".
        trusted: the names that the user has repeated.

    Raises:
        ValueError: if one is not among them; names it and the option.
    """
    for place, name in parts.items():
        if name not in trusted:
            raise ValueError(
                f"{path!r} names {place.removesuffix('.name')}={name!r}, which is not part of this project; its module "
                f"is imported, and so executed, only if you repeat the name: --trust {name}"
            )
