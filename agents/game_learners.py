"""Building the learner of a game: an SB3 algorithm around the game's generator.

In: the group of settings `learner`, the game's environment and its generator. Out: an algorithm whose policy is a
`SequencePolicy` with this generator. One `learn` of B * T steps is one generator update: lines 8-12 of Algorithm 1.
The discount is the one that belongs to the reward mode: 0 for action values, else 1.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.learner_options import (
    GAME_LEARNERS,
    LearnerConfig,
    constructor_arguments,
    expect_terminal,
    needs_sequences,
)
from agents.learners import LEARNERS
from agents.policies import SequencePolicy
from agents.prefixes import episode_steps
from agents.reinforce import default_discount
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import imported_attribute
from seqgan_env.models.sequence_models import SequenceModel


def build_learner(
    config: LearnerConfig, env: SequenceVecEnv, generator: SequenceModel, seed: int, device: str | torch.device
) -> OnPolicyAlgorithm:
    """The learner that the settings name.

    Args:
        config: its settings.
        env: of one sequence for each of `config.batch_size` rows.
        generator: G_theta; it is not copied.
        seed: of the learner.
        device: where the generator is.

    Raises:
        ImportError: if its library is not installed; the message names the extra.
        ValueError: for an option that it does not have, a reward mode that it cannot use, or a class of your own that
            cannot play; the message says why.
    """
    config, mode = config.complete(), env.get_attr("reward_mode")[0]
    horizon = episode_steps(env)
    is_own = config.name not in GAME_LEARNERS
    if is_own:
        algorithm = imported_attribute(config.name, "learner")
        if needs_sequences(config.name):
            expect_terminal(config.name, mode)
    else:
        config.check_reward_mode(mode)
        algorithm = _algorithm(GAME_LEARNERS[config.name].algorithm)
    given = {
        "learning_rate": config.learning_rate,
        "n_steps": horizon,  # one sequence from each environment
        "batch_size": horizon * env.num_envs,  # PPO and TRPO: all tokens of the update
        "gamma": default_discount(mode),
        "max_grad_norm": config.max_grad_norm,
        "policy_kwargs": {"generator": generator, "detached_value": True},
        "seed": seed,
        "device": device,
    }
    known = constructor_arguments(algorithm)
    arguments = {name: value for name, value in given.items() if name in known} | dict(config.options)
    agent = _built(config.name, algorithm, env, arguments) if is_own else algorithm(SequencePolicy, env, **arguments)
    if is_own:
        _check_learner(config.name, agent, generator, horizon)
    agent.set_logger(Logger(folder=None, output_formats=[]))  # SB3 would make a temporary folder
    return agent


def _algorithm(name: str) -> Any:
    """The class of a learner in the table: "module:Class" of this project, or a name in `agents.learners`."""
    return imported_attribute(name, "learner") if ":" in name else LEARNERS[name].algorithm()  # type: ignore[index]


def _built(name: str, algorithm: Any, env: SequenceVecEnv, arguments: dict[str, Any]) -> Any:
    """An object of a class of somebody's own."""
    try:
        return algorithm(SequencePolicy, env, **arguments)
    except Exception as error:  # whatever their code raises
        raise ValueError(
            f"learner={name!r} cannot be built as {name.partition(':')[2]}(SequencePolicy, env, ...): "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_learner(name: str, agent: Any, generator: SequenceModel, horizon: int) -> None:
    """Check that an object can play Algorithm 1.

    Raises:
        ValueError: if it cannot; says what is missing.
    """
    if not isinstance(agent, OnPolicyAlgorithm):
        raise ValueError(
            f"learner={name!r} makes a {type(agent).__name__}, which is no OnPolicyAlgorithm of Stable-Baselines3. A "
            "learner of the game plays the generator after maximum likelihood and learns from its fresh sequences. "
            "Value-based learners have no such generator: see `seqgan compare`"
        )
    if getattr(agent.policy, "generator", None) is not generator:
        raise ValueError(
            f"learner={name!r} does not train the game's generator: its policy must be the SequencePolicy that its "
            "constructor is given, with the given policy_kwargs"
        )
    if agent.n_steps != horizon:
        raise ValueError(
            f"learner={name!r} has n_steps={agent.n_steps}, and an update of the game is one sequence of each "
            f"environment: take n_steps={horizon} as the constructor's argument"
        )
