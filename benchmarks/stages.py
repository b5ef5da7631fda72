"""The timed stages: for each, our code and plain code for the same work.

In: the sizes and a device. Out: a `Pair` of functions without arguments. Making a pair builds models and data; this is
not timed.
Both sides start from equal parameters. A side that trains has its own copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.vec_env import SequenceVecEnv
from benchmarks import plain
from benchmarks.sizes import Sizes
from seqgan_env.envs import SequenceEnv, SequenceVectorEnv
from seqgan_env.mdp import SequenceMDP
from seqgan_env.measures.likelihood import negative_log_likelihood
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import ConstantReward, DiscriminatorReward
from seqgan_env.rollout_policies import DelayedCopy, UniformPolicy, sample_sequences
from seqgan_env.tasks.oracle import oracle_task, seeded_oracle
from seqgan_env.tasks.task import Task

StageName = Literal[
    "sampling",
    "mle-epoch",
    "search",
    "policy-gradient",
    "discriminator-step",
    "oracle-nll",
    "stepping-1",
    "stepping-64",
    "stepping-1024",
    "stepping-overhead",
]
_LEARNING_RATE = 1e-2
_REQUIRED_GAIN = 1.7


@dataclass(frozen=True)
class Pair:
    """One stage.

    Attributes:
        work: description of the timed work, for the table.
        ours: does the work once.
        plain: does the same work once.
        prepare: called before each call of `ours`, outside the clock.
        per_call: units of work in a call of either side; seconds are divided by it.
        plain_scale: factor for the plain seconds, if `plain` does only a share of the work.
        required: the ratio that this project promises, or None.
        required_gain: the promised gain of two threads over one, or None.
        precision: precision of our matrix products.
        env_steps: single-environment steps in a unit of work, for stages that step environments.
        note: a note that is needed to understand the numbers.
    """

    work: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    per_call: int = 1
    plain_scale: float = 1.0
    required: float | None = None
    required_gain: float | None = None
    precision: str = "fp32"
    env_steps: int | None = None
    note: str = ""


class World:
    """Models and data that the stages share; each is made at its first use.

    Args:
        sizes: see `Sizes`.
        device: device of models and data.
    """

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.sizes = sizes
        self.device = device

    @cached_property
    def task(self) -> Task:
        """The paper's synthetic task, with a seeded oracle."""
        sizes = self.sizes
        oracle = seeded_oracle(0, sizes.vocab_size, sizes.hidden_size).to(self.device)
        return oracle_task(sizes.vocab_size, sizes.sequence_length, oracle=oracle, n_sequences=sizes.sequences)

    @cached_property
    def real(self) -> Tensor:
        """(M, T) int64 real sequences."""
        return self.task.real_sequences("train")

    @cached_property
    def oracle(self) -> LSTMSequenceModel:
        """The task's oracle."""
        assert isinstance(self.task.oracle, LSTMSequenceModel)
        return self.task.oracle

    @cached_property
    def discriminator(self) -> CNNDiscriminator:
        """D_phi with those of the paper's filters that fit T."""
        sizes = self.sizes
        discriminator = CNNDiscriminator(
            sizes.vocab_size,
            sizes.sequence_length,
            sizes.filters,
            embedding_size=sizes.discriminator_embedding_size,
        )
        return discriminator.to(self.device)

    def generator(self) -> LSTMSequenceModel:
        """G_theta, a new one with the same parameters at each call."""
        sizes = self.sizes
        return LSTMSequenceModel(sizes.vocab_size, sizes.hidden_size, sizes.hidden_size, seed=1).to(self.device)

    def torch_rng(self) -> torch.Generator:
        """The plain side's randomness, on the device."""
        return torch.Generator(self.device).manual_seed(0)


def sampling(world: World) -> Pair:
    """Eq. 10: whole sequences from the generator."""
    sizes, generator = world.sizes, world.generator()
    rng, torch_rng = np.random.default_rng(0), world.torch_rng()
    return Pair(
        work=f"{sizes.sequences:,} sequences",
        ours=lambda: sample_sequences(generator, sizes.sequences, sizes.sequence_length, rng),
        plain=lambda: plain.sample(generator, sizes.sequences, sizes.sequence_length, sizes.batch_size, torch_rng),
        required=5,
        required_gain=_REQUIRED_GAIN,
    )


def mle_epoch(world: World) -> Pair:
    """One epoch of maximum likelihood; ours also measures a held-out NLL, on one sequence."""
    sizes, sequences = world.sizes, world.real
    trainer = Pretrainer(
        world.generator(),
        sequences,
        sequences[:1],
        learning_rate=_LEARNING_RATE,
        batch_size=sizes.batch_size,
        rng=np.random.default_rng(0),
    )
    model = world.generator()
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    torch_rng = world.torch_rng()
    return Pair(
        work=f"{sizes.sequences:,} sequences",
        ours=trainer.epoch,
        plain=lambda: plain.mle_epoch(model, optimizer, sequences, sizes.batch_size, torch_rng),
        required_gain=_REQUIRED_GAIN,
    )


def search(world: World) -> Pair:
    """Eq. 3-4: the rewards of one batch of sequences, by search and scoring in the vector environment."""
    sizes, generator = world.sizes, world.generator()
    discriminator = copy.deepcopy(world.discriminator).eval()
    plain_discriminator = plain.PlainDiscriminator(discriminator)
    finished = world.real[: sizes.batch_size]
    sequences = finished.cpu().numpy()
    reward_model, rollout_policy = DiscriminatorReward(discriminator), DelayedCopy(generator)
    env = SequenceVectorEnv(
        world.task,
        sizes.batch_size,
        autoreset_mode=AutoresetMode.DISABLED,
        reward_model=reward_model,
        n_rollouts=sizes.n_rollouts,
    )
    env.reset(seed=0)
    torch_rng = world.torch_rng()

    @torch.no_grad()
    def new_round() -> None:
        # In training, D and G_beta have changed since the last search, so no values derived from them may be kept.
        for parameter in discriminator.parameters():
            parameter.mul_(1 + 1e-6)
        env.set_rollout_policy(rollout_policy)

    def episode() -> None:
        env.reset()
        for actions in sequences.T:
            env.step(actions)

    scale = sizes.n_rollouts / sizes.plain_rollouts
    return Pair(
        work="one batch, with scoring",
        ours=episode,
        plain=lambda: plain.prefix_values(generator, plain_discriminator, finished, sizes.plain_rollouts, torch_rng),
        prepare=new_round,
        plain_scale=scale,
        required=8,
        required_gain=_REQUIRED_GAIN,
        note=f"plain was timed on {sizes.plain_rollouts} of the {sizes.n_rollouts} completions of every prefix, "
        f"without the last step's score, and scaled by {scale:g}; ours includes the oracle's NLL in `info`",
    )


def policy_gradient(world: World) -> Pair:
    """Eq. 6-8: only the generator's update, with given rewards."""
    sizes = world.sizes
    env = SequenceVecEnv(SequenceVectorEnv(world.task, sizes.batch_size, reward_model="constant", n_rollouts=1))
    agent = REINFORCE(
        SequencePolicy,
        env,
        learning_rate=_LEARNING_RATE,
        policy_kwargs={"generator": world.generator()},
        seed=0,
        device=world.device,
    )
    agent.learn(sizes.batch_size * sizes.sequence_length)  # fills the buffer with one sequence per row
    rewards = np.random.default_rng(0).random((sizes.sequence_length, sizes.batch_size), dtype=np.float32)
    agent.rollout_buffer.returns[:] = rewards
    taken = agent.rollout_buffer.actions[..., 0].astype(np.int64)  # (T, B)
    actions, values = (torch.from_numpy(array.T.copy()).to(world.device) for array in (taken, rewards))  # (B, T) each
    model = world.generator()
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    return Pair(
        work="one batch, rewards given",
        ours=agent.train,
        plain=lambda: plain.generator_step(model, optimizer, plain.policy_gradient_loss(model, actions, values)),
        required_gain=_REQUIRED_GAIN,
    )


def discriminator_step(world: World) -> Pair:
    """Eq. 5: forward, backward, optimizer of the discriminator."""
    sizes = world.sizes
    half = sizes.batch_size // 2
    rows = half * sizes.discriminator_steps
    real = world.real[:rows]
    generated = sample_sequences(world.generator(), rows, sizes.sequence_length, np.random.default_rng(0))
    trainer = DiscriminatorTrainer(copy.deepcopy(world.discriminator), world.task, batch_size=sizes.batch_size)
    model = plain.PlainDiscriminator(world.discriminator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def plain_steps() -> None:
        model.train()
        for real_batch, generated_batch in zip(real.split(half), generated.split(half), strict=True):
            plain.discriminator_step(model, optimizer, real_batch, generated_batch)

    return Pair(
        work="one batch",
        ours=lambda: trainer.epoch(real, generated),
        plain=plain_steps,
        per_call=sizes.discriminator_steps,
        required_gain=_REQUIRED_GAIN,
    )


def oracle_nll(world: World) -> Pair:
    """Eq. 13: the likelihood of sequences under the oracle."""
    sizes, oracle, sequences = world.sizes, world.oracle, world.real
    return Pair(
        work=f"{sizes.sequences:,} sequences",
        ours=lambda: negative_log_likelihood(oracle, sequences),
        plain=lambda: plain.negative_log_likelihood(oracle, sequences, sizes.batch_size),
        required_gain=_REQUIRED_GAIN,
    )


def stepping(world: World, num_envs: int) -> Pair:
    """Environment steps with a constant reward: one native vector environment, and a loop over single ones."""
    sizes, task = world.sizes, world.task
    episode_steps = num_envs * sizes.sequence_length
    episodes = max(1, sizes.env_steps // episode_steps)
    actions = np.random.default_rng(0).integers(sizes.vocab_size, size=(episodes * sizes.sequence_length, num_envs))
    native = SequenceVectorEnv(
        task, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, reward_model="constant", reward_mode="terminal"
    )
    singles = [SequenceEnv(task, reward_model="constant", reward_mode="terminal") for _ in range(num_envs)]
    native.reset(seed=0)
    for index, env in enumerate(singles):
        env.reset(seed=index)

    def step_native() -> None:
        for row in actions:
            native.step(row)

    def step_singles() -> None:
        for row in actions:
            for env, action in zip(singles, row, strict=True):
                _, _, terminated, _, _ = env.step(action)
                if terminated:
                    env.reset()

    return Pair(
        work=f"{sizes.sequence_length} steps of {num_envs:,} envs",
        ours=step_native,
        plain=step_singles,
        per_call=episodes,
        required=5 if num_envs == 64 else None,
        env_steps=episode_steps,
        note="plain is a loop over bare single environments, without gym.make's wrappers; both sides reset immediately "
        "when an episode ends and report the oracle's NLL in `info`",
    )


def stepping_overhead(world: World, num_envs: int = 64) -> Pair:
    """The extra cost of an environment step, compared with the bare MDP, whose reward model and G_beta never change.

    Ours is built by `gym.make_vec` from strings, and its parts are swapped through the setters before each episode. The
    bare MDP gets the same parts once, as objects, and steps without spaces, seeds, autoreset and copies. The task has
    no oracle, since its NLL in `info` would cost ten times as much as everything else.
    """
    sizes, task = world.sizes, replace(world.task, oracle=None)
    episodes = max(1, sizes.env_steps // (num_envs * sizes.sequence_length))
    actions = np.random.default_rng(0).integers(sizes.vocab_size, size=(sizes.sequence_length, num_envs))
    reward_model, rollout_policy = ConstantReward(), UniformPolicy(sizes.vocab_size)
    env = SequenceVectorEnv(
        task,
        num_envs,
        autoreset_mode=AutoresetMode.SAME_STEP,
        reward_model="constant",
        reward_mode="terminal",
        rollout_policy="uniform",
    )
    env.reset(seed=0)
    mdp = SequenceMDP(task, num_envs, reward_model=reward_model, rollout_policy=rollout_policy, reward_mode="terminal")
    rngs = [np.random.default_rng(row) for row in range(num_envs)]

    def step_env() -> None:
        for _ in range(episodes):
            env.set_reward_model(reward_model)
            env.set_rollout_policy(rollout_policy)
            for row in actions:
                env.step(row)

    def step_mdp() -> None:
        for _ in range(episodes):
            for row in actions:
                mdp.step(row, rngs)
            mdp.end_info(mdp.finished)
            mdp.reset()

    return Pair(
        work=f"{sizes.sequence_length} steps of {num_envs:,} envs",
        ours=step_env,
        plain=step_mdp,
        per_call=episodes,
        note="plain is the bare MDP behind the same environment, with parts that are never swapped; a ratio of 1 is an "
        "environment without extra cost",
    )


STAGES: dict[StageName, Callable[[World], Pair]] = {
    "sampling": sampling,
    "mle-epoch": mle_epoch,
    "search": search,
    "policy-gradient": policy_gradient,
    "discriminator-step": discriminator_step,
    "oracle-nll": oracle_nll,
    "stepping-1": partial(stepping, num_envs=1),
    "stepping-64": partial(stepping, num_envs=64),
    "stepping-1024": partial(stepping, num_envs=1024),
    "stepping-overhead": stepping_overhead,
}
