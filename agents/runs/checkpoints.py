"""Checkpoints of a game: everything that a resumed run needs to end as an uninterrupted one.

A checkpoint is one safetensors file: tensors (models, optimizers, G_beta, torch's random state) and, in its metadata,
JSON (counters, NumPy random states). Reading one executes nothing. Files are written aside, synced and renamed, so
that a crash or a full disk leaves the file before as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from agents.seqgan import SeqGAN
from seqgan_env.rewards import AnchoredReward
from seqgan_env.rollout_policies import DelayedCopy

_EPISODES = ("tokens", "lengths", "values")  # of the MDP: where its sequences stand


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename; on any error the file before stays and no remains are left.

    Raises:
        OSError: if the disk is full or not writable.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and plain values as one file; values must be what JSON can hold."""
    contiguous: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        contiguous[name] = tensor.detach().cpu().contiguous()
        memory = contiguous[name].untyped_storage().data_ptr()
        if memory in stored:  # tied weights; safetensors refuses two names for one memory
            contiguous[name] = contiguous[name].clone()
        stored.add(memory)
    write_atomically(path, save(contiguous, metadata={"state": json.dumps(state)}))


def read_tensors(
    path: Path, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Args:
        path: the file.
        wanted: of which tensors, by name; the others are not read.

    Raises:
        ValueError: if the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}, state  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not a readable checkpoint of this project: {error}") from error


def snapshot(game: SeqGAN) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and plain values that define where a game stands."""
    tensors = {
        f"{part}.{name}": tensor
        for part, module in _modules(game).items()
        for name, tensor in module.state_dict().items()
    }
    for part, optimizer in _optimizers(game).items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{part}.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors |= {f"best_parameters.{name}": tensor for name, tensor in game.pretrainer.tensors().items()}
    tensors["random.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    mdp = game.env.env.mdp
    if mdp.lengths.any():  # where sequences differ in length, some are half written when a round ends
        tensors |= {f"episodes.{name}": torch.from_numpy(getattr(mdp, name).copy()) for name in _EPISODES}
    state = {
        "pretrainer": game.pretrainer.counters(),
        "discriminator_steps": game.discriminator_steps,
        "rounds": game.trainer.rounds,
        "num_timesteps": game.agent.num_timesteps,
        "n_updates": game.agent._n_updates,
        "has_rollout_policy": game.trainer.rollout_policy is not None,
        "trainer_rng": game.trainer.rng.bit_generator.state,
        # Not seeded before the game begins: its first reset does that.
        "env_rngs": None if game.agent._last_obs is None else [rng.bit_generator.state for rng in game.env.env.rngs],
    }
    reward_rng = _reward_rng(game)
    if reward_rng is not None:
        state["reward_rng"] = reward_rng.bit_generator.state
    return tensors, state


def restore(game: SeqGAN, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Set a newly made game to where `snapshot` was taken.

    Raises:
        ValueError: if the checkpoint belongs to another configuration.
    """
    if state["has_rollout_policy"]:
        game.trainer.sync(game.generator)
    try:
        for part, module in _modules(game).items():
            module.load_state_dict(_under(part, tensors))
        for part, optimizer in _optimizers(game).items():
            _restore_optimizer(optimizer, _under(part, tensors))
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the checkpoint does not fit the run's configuration: {error}") from error
    game.pretrainer.restore(state["pretrainer"], _under("best_parameters", tensors))
    game.discriminator_steps = state["discriminator_steps"]
    game.trainer.rounds = state["rounds"]
    game.trainer.rng.bit_generator.state = state["trainer_rng"]
    game.agent.num_timesteps = state["num_timesteps"]
    game.agent._n_updates = state["n_updates"]
    if state["env_rngs"] is not None:
        # The reset takes the seeds that SB3 has set; only then do the stored random states hold.
        game.env.reset()
        mdp = game.env.env.mdp
        for name, tensor in _under("episodes", tensors).items():
            getattr(mdp, name)[:] = tensor.numpy()
        game.agent._last_obs = mdp.tokens.copy()
        game.agent._last_episode_starts = mdp.lengths == 0
        for rng, stored in zip(game.env.env.rngs, state["env_rngs"], strict=True):
            rng.bit_generator.state = stored
    reward_rng = _reward_rng(game)
    if reward_rng is not None:
        reward_rng.bit_generator.state = state["reward_rng"]
    torch.set_rng_state(tensors["random.torch"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def restore_pretraining(game: SeqGAN, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Set a newly made game to the end of another's MLE; what the game itself needs stays as its configuration made it.

    Raises:
        ValueError: if the checkpoint belongs to another generator.
    """
    try:
        game.generator.load_state_dict(_under("policy.generator", tensors))
        _restore_optimizer(game.pretrainer.optimizer, _under("mle_optimizer", tensors))
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the pretraining does not fit the run's configuration: {error}") from error
    game.pretrainer.restore(state["pretrainer"], _under("best_parameters", tensors))


def _modules(game: SeqGAN) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"policy": game.agent.policy, "discriminator": game.discriminator}
    if isinstance(game.trainer.rollout_policy, DelayedCopy):
        modules["rollout_policy"] = game.trainer.rollout_policy.model
    if isinstance(game.reward_model, AnchoredReward):
        modules["anchor"] = game.reward_model.anchor
    return modules


def _reward_rng(game: SeqGAN) -> np.random.Generator | None:
    """What the reward model draws from, if it does."""
    rng = getattr(game.reward_model, "rng", None)
    return rng if isinstance(rng, np.random.Generator) else None


def _optimizers(game: SeqGAN) -> dict[str, torch.optim.Optimizer]:
    optimizers = {"mle_optimizer": game.pretrainer.optimizer, "policy_optimizer": game.agent.policy.optimizer}
    if game.trainer.optimizer is not None:
        optimizers["discriminator_optimizer"] = game.trainer.optimizer
    return optimizers


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer its moments back; its settings come from the configuration."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
