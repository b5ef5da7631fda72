"""Algorithm 1: SeqGAN. Read `SeqGAN.train` first; every line of the paper's algorithm is a line there.

In: a task with real sequences and a configuration. Out: a trained generator and discriminator.
The units of work (an MLE epoch, a discriminator step, an adversarial round) are counted, so that training can stop
after any of them and go on from a checkpoint with the same result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from stable_baselines3.common.utils import set_random_seed

from agents.configuration import SeqGANConfig
from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import build_discriminator, build_generator, build_reward_model, is_learned_reward
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.rewards import AnchoredReward
from seqgan_env.tasks.task import Task

Stage = Literal["mle", "discriminator", "adversarial"]


@dataclass(frozen=True)
class Milestone:
    """A unit of work that is done.

    Attributes:
        stage: "mle", "discriminator" or "adversarial".
        index: epochs, steps or rounds done in this stage, from 1.
        total: how many the stage has at most.
        train_nll: of the MLE epoch, nats per token, on the inputs that were fed; None in other stages.
        validation_nll: likewise, on held-out real sequences, fed as they are.
    """

    stage: Stage
    index: int
    total: int
    train_nll: float | None = None
    validation_nll: float | None = None


class SeqGAN:
    """Generator, discriminator, environment and agents of one game, and the algorithm that plays it.

    Args:
        task: real sequences; their oracle, if any, is never looked at here.
        config: all settings.
        device: where models live; "auto" takes a GPU if there is one.

    Attributes:
        generator: G_theta, as `config.generator` names it.
        discriminator: D_phi, as `config.discriminator` names it.
        reward_model: what the environment scores with.

    Raises:
        ValueError, TypeError: if a generator, discriminator or reward of the user's own cannot be loaded or has a
            fault; the message names it.
    """

    def __init__(self, task: Task, config: SeqGANConfig, device: str | torch.device = "cpu") -> None:
        set_random_seed(config.seed)
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(6)]
        self.task = task
        self.config = config
        self.generator = build_generator(config.generator, task, **config.generator_options, seed=seeds[0]).to(device)
        self.discriminator = build_discriminator(
            config.discriminator, task, **config.discriminator_options, seed=seeds[1]
        ).to(device)
        self.pretrainer = Pretrainer(
            self.generator,
            task.real_sequences("train"),
            task.some_sequences("validation", config.held_out_sequences),
            learning_rate=config.mle_learning_rate,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            max_epochs=config.mle_epochs,
            patience=config.mle_patience,
            curriculum_rate_step=config.curriculum_rate_step,
            reshuffle=config.mle_reshuffle,
            epoch_sequences=config.epoch_sequences,
            rng=np.random.default_rng(seeds[2]),
        )
        self.reward_model = build_reward_model(
            config.reward_model, task, self.discriminator, np.random.default_rng(seeds[5])
        )
        if config.anchor_weight > 0:
            anchor = copy.deepcopy(self.generator)
            self.reward_model = AnchoredReward(self.reward_model, self.generator, anchor, config.anchor_weight)
        self.trainer = DiscriminatorTrainer(
            self.discriminator if is_learned_reward(config.reward_model) else None,
            task,
            reward_model=self.reward_model,
            g_steps=config.g_steps,
            d_steps=config.d_steps,
            k_epochs=config.k_epochs,
            sample_size=config.discriminator_sample_size,
            batch_size=config.discriminator_batch_size or config.batch_size,
            learning_rate=config.discriminator_learning_rate,
            weight_decay=config.discriminator_weight_decay,
            rollout_rate=config.rollout_rate,
            seed=seeds[3],
        )
        self.env = SequenceVecEnv(
            SequenceVectorEnv(
                task,
                config.generator_batch_size,
                reward_model=self.reward_model,
                reward_mode=config.reward_mode,
                n_rollouts=config.n_rollouts,
            )
        )
        self.agent = REINFORCE(
            SequencePolicy,
            self.env,
            learning_rate=config.generator_learning_rate,
            baseline=config.baseline,
            max_grad_norm=config.max_grad_norm,
            policy_kwargs={"generator": self.generator},
            seed=seeds[4],
            device=device,
        )
        self.discriminator_steps = 0

    def train(self, after: Callable[[Milestone], None] = lambda milestone: None) -> None:
        """Algorithm 1, from wherever the game stands.

        Args:
            after: called after every unit of work: to measure, log, save, show progress.
        """
        config = self.config
        while not self.pretrainer.finished:  # line 2: pre-train G_theta with MLE
            train_nll, validation = self.pretrainer.epoch()
            after(Milestone("mle", self.pretrainer.epochs, config.mle_epochs, train_nll, validation.mean))
        if self.trainer.rollout_policy is None:
            self.trainer.sync(self.generator)  # line 3: beta <- theta
            if isinstance(self.reward_model, AnchoredReward):
                self.reward_model.drop_anchor()
        while self.discriminator_steps < self._pretraining_steps():  # lines 4-5: pre-train D_phi on negatives of G
            self.trainer.train_step(self.generator)
            self.discriminator_steps += 1
            after(Milestone("discriminator", self.discriminator_steps, self._pretraining_steps()))
        # Lines 6-17. `learn` plays g-steps: a sequence for each environment (line 8), Q(a = y_t; s = Y_{1:t-1}) for
        # each step by Monte-Carlo search (lines 9-11), the policy gradient (line 12). After g of them the trainer plays
        # d-steps of k epochs on fresh negatives (lines 14-16), and beta <- theta (line 17).
        self.trainer.on_round = lambda index: after(Milestone("adversarial", index, config.rounds))
        rounds_left = config.rounds - self.trainer.rounds
        if rounds_left > 0:
            steps = rounds_left * config.g_steps * config.generator_batch_size * self.task.sequence_length
            self.agent.learn(steps, self.trainer, reset_num_timesteps=False)

    def _pretraining_steps(self) -> int:
        return self.config.discriminator_pretraining_steps if self.trainer.discriminator is not None else 0
