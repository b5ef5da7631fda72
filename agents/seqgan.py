"""Algorithm 1: SeqGAN. Read `SeqGAN.train` first; every line of the paper's algorithm is a line there.

In: a task with real sequences and a configuration. Out: a trained generator and discriminator.
The units of work (an MLE epoch, a discriminator step, an adversarial round) are counted. So training can stop after any
of them, and continue from a checkpoint with the same result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from agents.adversarial_rounds import AdversarialRounds, GameConfig
from agents.adversary import DiscriminatorConfig
from agents.game_learners import build_learner
from agents.learner_options import LearnerConfig
from agents.learner_state import learner_state, load_learner_state, resume_episodes
from agents.model_options import GeneratorConfig
from agents.pretraining import PretrainingConfig
from agents.random_streams import RandomStreams
from agents.setting_paths import check_counts, check_finite
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import build_discriminator, build_generator, build_reward_model, is_learned_reward
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.rewards import AnchoredReward, load_reward_state, reward_state
from seqgan_env.tasks.oracle import OracleOptions
from seqgan_env.tasks.task import Task


@dataclass(frozen=True)
class MeasuringConfig:
    """Measurements during training."""

    samples: int = 2000
    """Sequences drawn for each measurement during training."""
    held_out_sequences: int | None = None
    """Most validation sequences, and most test sequences, that a measurement uses; None: all."""

    def __post_init__(self) -> None:
        check_counts(self, samples=1, held_out_sequences=1)


@dataclass(frozen=True)
class SeqGANConfig:
    """All settings of one run, in groups. The fields' docstrings are the help texts of the command line.

    Sources: [P] the paper (arXiv 1609.05473), [2016] and [2018] the authors' code at those times.
    """

    seed: int = 0
    """Seed of the run; the data of the task has its own."""
    final_samples: int = 10_000
    """Sequences drawn for each line of the closing table [P: 100,000]."""
    checkpoint_every: int = 1
    """Units of work (MLE epochs, discriminator steps, rounds) between checkpoints."""
    task: Any = field(default_factory=OracleOptions)
    """Options of the task, such as `OracleOptions`."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    """Its pretraining."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator and its training."""
    game: GameConfig = field(default_factory=GameConfig)
    """The adversarial game."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """The learner, which updates the generator."""
    measuring: MeasuringConfig = field(default_factory=MeasuringConfig)
    """Measurements during training."""

    def __post_init__(self) -> None:
        check_counts(self, seed=0, final_samples=1, checkpoint_every=1)
        check_finite(self)
        if self.seed >= 2**32:
            raise ValueError(f"seed={self.seed} must lie in 0..2^32-1")
        available, batch = getattr(self.task, "train_sequences", None), self.pretraining.batch_size
        if available is not None and available < batch:
            raise ValueError(f"train_sequences={available} must be at least batch_size={batch}")
        self.learner.check_reward_mode(self.game.reward_mode)
        self.learner.check_reward_model(self.game.reward_model)

    def complete(self) -> SeqGANConfig:
        """A copy that names every option of both models and of the learner. A run folder stores this form."""
        return replace(
            self,
            generator=self.generator.complete(),
            discriminator=self.discriminator.complete(),
            learner=self.learner.complete(),
        )


PRETRAINED_PARTS = ("generator", "discriminator")  # what may be a pretrained model, "hf:NAME"
Stage = Literal["mle", "discriminator", "adversarial"]


@dataclass(frozen=True)
class Milestone:
    """A finished unit of work.

    Attributes:
        stage: "mle", "discriminator" or "adversarial".
        index: epochs, steps or rounds done in this stage, from 1.
        total: the largest number of units in this stage.
        train_nll: of the MLE epoch, nats per token, on the inputs that were fed; None in other stages.
        validation_nll: nats per token on held-out real sequences, with real prefixes as inputs; None in other stages.
    """

    stage: Stage
    index: int
    total: int
    train_nll: float | None = None
    validation_nll: float | None = None


class SeqGAN:
    """Generator, discriminator, environment and agents of one game, and the algorithm that plays it.

    Args:
        task: real sequences; the task's oracle, if it has one, is never used here.
        config: all settings.
        device: device of the models; "auto" takes a GPU if there is one.
        models: part -> folder with a copy of its pretrained model, as a run folder has it. A part that is absent here
            reads the model that its name says.

    Attributes:
        generator: G_theta, as `config.generator` names it.
        discriminator: D_phi, as `config.discriminator` names it.
        reward_model: the environment's reward model.
        plain_reward_model: the same without an anchor.
        agent: the learner, as `config.learner` names it; its policy holds the generator.

    Raises:
        ValueError, TypeError: if a user's own generator, discriminator, learner or reward cannot be loaded or has a
            fault; the message names it.
        ImportError: if the library of the learner is not installed.
    """

    # The place of the generator in `state_dict`, with dots between the levels: for readers that need only the
    # generator.
    GENERATOR: ClassVar[str] = "agent.policy.generator"

    def __init__(
        self,
        task: Task,
        config: SeqGANConfig,
        device: str | torch.device = "cpu",
        models: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        self.task = task
        self.models = models
        self.config = config
        self.discriminator_steps = 0
        # Some parts draw from global streams: dropout, SB3's policies when they act, and perhaps a user's own parts.
        self.streams = RandomStreams(config.seed)
        with self.streams:
            self._build(device)

    def _build(self, device: str | torch.device) -> None:
        """Make all parts, each with its own seed. Never renumber the seeds: the results of a run would change."""
        task, config = self.task, self.config
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(6)]
        folders = [{"folder": self.models[part]} if part in self.models else {} for part in PRETRAINED_PARTS]
        self.generator = build_generator(
            config.generator.name, task, **config.generator.options, **folders[0], seed=seeds[0]
        ).to(device)
        self.discriminator = build_discriminator(
            config.discriminator.name, task, **config.discriminator.options, **folders[1], seed=seeds[1]
        ).to(device)
        self.pretrainer = config.pretraining.pretrainer(
            self.generator,
            task.real_sequences("train"),
            task.some_sequences("validation", config.measuring.held_out_sequences),
            np.random.default_rng(seeds[2]),
        )
        self.plain_reward_model = self.reward_model = build_reward_model(
            config.game.reward_model, task, self.discriminator, np.random.default_rng(seeds[5])
        )
        self.anchored: AnchoredReward | None = None
        if config.game.anchor_weight > 0:
            anchor = copy.deepcopy(self.generator)
            self.anchored = AnchoredReward(self.reward_model, self.generator, anchor, config.game.anchor_weight)
            self.reward_model = self.anchored
        self.trainer = AdversarialRounds(
            self.discriminator if is_learned_reward(config.game.reward_model) else None,
            task,
            reward_model=self.reward_model,
            d_steps=config.game.d_steps,
            k_epochs=config.game.k_epochs,
            sample_size=config.discriminator.sample_size,
            batch_size=config.discriminator.batch_size or config.pretraining.batch_size,
            learning_rate=config.discriminator.learning_rate,
            weight_decay=config.discriminator.weight_decay,
            loss=config.discriminator.loss,
            rollout_rate=config.game.rollout_rate,
            seed=seeds[3],
        )
        self.env = SequenceVecEnv(
            SequenceVectorEnv(
                task,
                config.learner.batch_size,
                reward_model=self.reward_model,
                reward_mode=config.game.reward_mode,
                n_rollouts=config.game.n_rollouts,
            )
        )
        self.agent: Any = build_learner(config.learner, self.env, self.generator, seeds[4], device)
        self._plan()

    def _plan(self) -> None:
        """Tell the agent how many steps it will take. One that knows plans lets its schedules fall over all of them."""
        self.agent.planned_timesteps = self.config.game.rounds * self.config.game.g_steps * self.steps_per_update

    def change_counts(self, config: SeqGANConfig) -> None:
        """Do more or less of what is still to do: MLE epochs, discriminator steps, rounds.

        A count that is changed before its stage has come so far gives what a game gives that had it from the start.

        Args:
            config: settings that differ from the game's in these three counts only.
        """
        self.config = config
        self.pretrainer.max_epochs = config.pretraining.epochs
        self._plan()

    @property
    def steps_per_update(self) -> int:
        """B * T: one sequence of each environment; B * (T - P) with prompts of P tokens."""
        return self.config.learner.batch_size * self.task.response_length

    def train(self, after: Callable[[Milestone], None] = lambda milestone: None) -> None:
        """Algorithm 1, from the current state of the game on.

        Args:
            after: called after every unit of work, to measure, log, save or show progress.
        """
        trainer = self.trainer
        while not self.pretrainer.finished:  # line 2: pre-train G_theta with MLE
            with self.streams:
                train_nll, validation = self.pretrainer.epoch()
            after(Milestone("mle", self.pretrainer.epochs, self.config.pretraining.epochs, train_nll, validation.mean))
        self._begin_game()  # line 3: beta <- theta
        while self.discriminator_steps < self._pretraining_steps():  # lines 4-5: pre-train D_phi on negatives of G
            with self.streams:
                trainer.train_step(self.generator)
            self.discriminator_steps += 1
            after(Milestone("discriminator", self.discriminator_steps, self._pretraining_steps()))
        while trainer.rounds < self.config.game.rounds:  # line 6: repeat
            with self.streams:
                for _ in range(self.config.game.g_steps):  # line 7: for g-steps do
                    # Line 8: a sequence from each environment; lines 9-11: Q of each step, by Monte-Carlo search in
                    # the environment; line 12: the policy gradient, or the update of another learner.
                    self.agent.learn(self.steps_per_update, reset_num_timesteps=False)
                trainer.note_experience(self.agent)
                trainer.play(self.agent)  # lines 14-16: d-steps of k epochs on fresh negatives; line 17: beta <- theta
            after(Milestone("adversarial", trainer.rounds, self.config.game.rounds))

    def _begin_game(self) -> None:
        """Line 3, unless G_beta and the anchor came from a checkpoint; then hand R and G_beta to the environment."""
        if self.anchored is not None and self.trainer.rollout_policy is None:
            self.anchored.set_anchor()
        self.trainer.begin(self.agent)

    def _pretraining_steps(self) -> int:
        return self.config.discriminator.pretraining_steps if self.trainer.adversary is not None else 0

    # Checkpoints: each part has its own state; this class only collects them.

    def state_dict(self) -> dict[str, Any]:
        """The game's state between two units of work: nested dicts of tensors and JSON values."""
        begun = self.agent._last_obs is not None  # the first `learn` resets the environment, which also seeds it
        state = {
            "agent": learner_state(self.agent),  # with the generator
            "pretrainer": self.pretrainer.state_dict(),
            "discriminator_steps": self.discriminator_steps,
            "trainer": self.trainer.state_dict(),
            "reward": reward_state(self.reward_model),
            "env": self.env.state_dict() if begun else None,
            "random": self.streams.state_dict(),
        }
        if self.trainer.adversary is None:
            state["discriminator"] = dict(self.discriminator.state_dict())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned. This game must have the same task and configuration, and must not have begun.

        Raises:
            ValueError: if the state belongs to another configuration.
        """
        try:
            load_learner_state(self.agent, state["agent"])
            self.pretrainer.load_state_dict(state["pretrainer"])
            self.discriminator_steps = state["discriminator_steps"]
            self.trainer.load_state_dict(state["trainer"], self.generator)
            load_reward_state(self.reward_model, state["reward"])
            if state["env"] is not None:
                resume_episodes(self.agent, *self.env.load_state_dict(state["env"]))
            self.streams.load_state_dict(state["random"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"the checkpoint does not fit the run's configuration: {error}") from error

    def begin_with(self, parameters: dict[str, torch.Tensor]) -> None:
        """Begin MLE with the parameters of another game's generator.

        Raises:
            ValueError: if they belong to another generator.
        """
        try:
            self.generator.load_state_dict(parameters)
        except RuntimeError as error:
            raise ValueError(f"the parameters to start from do not fit the run's configuration: {error}") from error
        self.pretrainer.restart_average()

    def load_pretraining(self, state: dict[str, Any]) -> None:
        """Take only the pretrained generator from another game's state; the rest follows this game's configuration.

        Raises:
            ValueError: if the state belongs to another generator.
        """
        prefix = "generator."
        try:
            policy = state["agent"]["policy"]
            generator = {name[len(prefix) :]: policy[name] for name in policy if name.startswith(prefix)}
            self.generator.load_state_dict(generator)
            self.pretrainer.load_state_dict(state["pretrainer"])
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"the pretraining does not fit the run's configuration: {error}") from error
