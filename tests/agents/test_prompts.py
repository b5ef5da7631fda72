"""Learners, the discriminator's training and whole games on tasks with prompts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.adversarial_rounds import AdversarialRounds
from agents.cot import CoT, token_divergences
from agents.ddo import DDO
from agents.dpg import DPG
from agents.grpo import GRPO
from agents.kl_ppo import KLPPO
from agents.policies import SequencePolicy
from agents.preference import PreferenceLearner
from agents.pretraining import Pretrainer, scheduled_inputs
from agents.reinforce import REINFORCE, subtract_baseline
from agents.replay_rewards import RewardSource
from agents.rloo import RLOO
from agents.runs.presets import TOY
from agents.seqgan import Milestone, SeqGAN
from agents.setting_paths import changed
from agents.vec_env import SequenceVecEnv
from agents.weighted_mle import WeightedMLE
from seqgan_env.components import build_discriminator
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.exact import ExactWorld
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.conditional import ConditionalOptions, conditional_task
from seqgan_env.tasks.task import Task
from seqgan_env.testing import check_policy_gradient
from tests.seqgan_env.test_prompts import EchoPolicy, EchoReward, echo_task, is_constant, model_of
from tests.toy_world import TableReward


def env_of(task: Task, rows: int = 64, **keywords: Any) -> SequenceVecEnv:
    keywords = {"reward_model": TableReward(3, 4), "reward_mode": "terminal", "n_rollouts": 1} | keywords
    return SequenceVecEnv(SequenceVectorEnv(task, rows, **keywords))


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_sb3s_face_keeps_each_response_with_its_prompt_and_agrees_with_the_vector_environment() -> None:
    reward = EchoReward()
    keywords = {"reward_model": reward, "rollout_policy": EchoPolicy(), "n_rollouts": 2}
    env = SequenceVecEnv(SequenceVectorEnv(echo_task(), 6, **keywords))
    other = SequenceVectorEnv(echo_task(), 6, autoreset_mode="SameStep", **keywords)
    env.seed(4)
    observations, theirs = env.reset(), other.reset(seed=4)[0]
    for _ in range(9):
        assert (observations == theirs).all()
        actions = observations[:, 0]
        observations, rewards, dones, infos = env.step(actions)
        theirs = other.step(actions)[0]
        assert set(rewards) == {1.0}
        for info in (info for info, done in zip(infos, dones, strict=True) if done):
            assert len(set(info["sequence"])) == 1
            assert info["episode"]["l"] == 3
    assert all(bool(is_constant(batch).all()) for batch in reward.batches)


def test_prompts_can_be_given_to_sb3s_face_and_a_stored_state_keeps_them() -> None:
    env = env_of(conditional_task(), 3)
    env.set_options([{"prompt": "c"}, {}, {"prompt": "a"}])
    assert env.reset()[[0, 2], 0].tolist() == [2, 0]
    state = env.state_dict()
    expected = [env.step(np.full(3, step)) for step in (0, 1, 2, 1)]
    other = env_of(conditional_task(), 3)
    observations, begins = other.load_state_dict(state)
    assert begins.all()
    assert observations[[0, 2], 0].tolist() == [2, 0]
    for step, (theirs, rewards, *_) in zip((0, 1, 2, 1), expected, strict=True):
        own, own_rewards, *_ = other.step(np.full(3, step))
        assert (own == theirs).all()
        assert (own_rewards == rewards).all()


class Watching(Discriminator):
    """Remembers what it is asked to judge."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.vocab_size, task.sequence_length)
        self.logit = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[Tensor] = []

    def forward(self, sequences: Tensor) -> Tensor:
        self.batches.append(sequences.clone())
        return self.logit.expand(len(sequences))


@pytest.mark.parametrize("sample_size", [None, 10])
def test_negatives_answer_the_prompts_of_the_positives_and_every_pair_stays_together(sample_size: int | None) -> None:
    task = echo_task()
    watching = Watching(task)
    rounds = AdversarialRounds(watching, task, k_epochs=2, batch_size=16, sample_size=sample_size)
    rounds.train_step(EchoPolicy())
    assert all(bool(is_constant(batch).all()) for batch in watching.batches)
    *trained, real, fresh = watching.batches
    size = sample_size or 40
    epochs = np.split(np.arange(len(trained)), 2)
    for epoch in epochs:
        halves = [trained[batch].chunk(2) for batch in epoch]
        assert all(torch.equal(*half) for half in halves)  # pairs of one prompt, side by side
        positives, negatives = (torch.cat([half[kind] for half in halves])[:, 0] for kind in (0, 1))
        assert len(positives) == size
        assert torch.equal(positives.sort().values, negatives.sort().values)
    assert torch.equal(real, fresh)  # the report: the prompts of the validation split


def test_a_discriminator_learns_to_see_a_response_to_another_prompt() -> None:
    task = echo_task()
    discriminator = build_discriminator("cnn", task, filters="light", dropout=0.0, seed=0)
    rounds = AdversarialRounds(discriminator, task, k_epochs=1, batch_size=32, learning_rate=1e-2)
    real = task.real_sequences("train").repeat(8, 1)
    wrong = real.clone()
    wrong[:, 0] = (wrong[:, 0] + torch.arange(len(real)) % 3 + 1) % 4  # each prompt as often as before, all wrong
    for _ in range(6):
        rounds.epoch(real, wrong)
    assert (discriminator.score(real) > 0).double().mean() > 0.95
    assert (discriminator.score(wrong) < 0).double().mean() > 0.95


@pytest.mark.parametrize("kind", [PreferenceLearner, DDO])
def test_real_and_generated_sequences_of_a_pair_share_their_prompt(kind: Any) -> None:
    task = conditional_task(n_sequences=50)
    agent = kind(SequencePolicy, env_of(task, 16, reward_model="constant"), n_epochs=1, seed=0)
    seen: list[Any] = []
    loss = agent.loss
    agent.loss = lambda log_probs, batch: (seen.append(batch), loss(log_probs, batch))[1]  # type: ignore[method-assign]
    agent.learn(16 * 3)
    real, generated = seen[0].sequences.chunk(2)
    assert torch.equal(real[:, 0], generated[:, 0])
    assert torch.equal(seen[0].is_token, task.response_mask(seen[0].sequences))
    assert len(set(real[:, 0].tolist())) == 3
    rows = {tuple(row) for row in task.real_sequences("train").tolist()}
    assert {tuple(row) for row in real.tolist()} <= rows


# --- likelihoods and gradients ---------------------------------------------------------------------------------------


def test_pretraining_learns_and_reports_the_likelihood_of_responses() -> None:
    task = conditional_task(n_sequences=300)
    model = model_of(task)
    start, sequences = model.log_probs(task.real_sequences("train")), task.real_sequences("train")
    pretrainer = Pretrainer(
        model, sequences, task.real_sequences("validation"), learning_rate=0.0, batch_size=100,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    train_nll, held_out = pretrainer.epoch()
    assert train_nll == pytest.approx(-start.sum().item() / 900, rel=1e-5)
    validation = model.log_probs(task.real_sequences("validation"))
    assert held_out.mean == pytest.approx(-validation.sum().item() / 900, rel=1e-5)


def test_scheduled_sampling_keeps_the_prompt() -> None:
    task = conditional_task(sequence_length=5, prompt_length=2)
    sequences = task.real_sequences("train")[:200]
    inputs = scheduled_inputs(model_of(task), sequences, 0.0, np.random.default_rng(0))
    assert torch.equal(inputs[:, 1:3], sequences[:, :2])
    assert not torch.equal(inputs[:, 3:], sequences[:, 2:4])


@pytest.mark.parametrize(
    ("kind", "mode", "keywords"),
    [
        (REINFORCE, "action_value", {"baseline": "none"}),
        (REINFORCE, "action_value", {"baseline": "completions"}),
        (REINFORCE, "potential", {"baseline": "step_mean"}),
        (RLOO, "terminal", {}),
        (GRPO, "terminal", {"kl_coef": 0.0, "scale_rewards": False, "n_epochs": 1}),
    ],
)
def test_the_expected_gradient_of_a_learner_is_enumerated(kind: Any, mode: Any, keywords: dict[str, Any]) -> None:
    task = conditional_task()
    env = env_of(task, 128, reward_mode=mode)
    model = LSTMSequenceModel(3, 3, 4, init_std=1.0, seed=5)
    agent = kind(
        SequencePolicy, env, policy_kwargs={"generator": model}, max_grad_norm=1e9, seed=3, device="cpu", **keywords
    )
    assert model.prompt_length == 1
    assert agent.n_steps == 3
    check_policy_gradient(agent, updates=60)


def test_the_mediator_reads_responses_to_the_prompts_of_real_sequences() -> None:
    task = conditional_task(n_sequences=50)
    agent = CoT(SequencePolicy, env_of(task, 16, reward_model="constant"), mediator_pretraining=1, seed=0)
    agent.learn(48)
    assert agent.mediator.generator.prompt_length == 1
    real = agent.choose_real(16)
    assert torch.equal(agent._generated(16, real)[:, 0], real[:, 0])
    divergences = token_divergences(agent.policy.generator, agent.mediator.generator, real)
    assert not divergences[:, 0].any()
    assert (divergences[:, 1:] > 0).all()


@pytest.mark.parametrize("kind", [RLOO, GRPO, KLPPO, WeightedMLE, PreferenceLearner, DDO, DPG])
def test_divergence_from_the_reference_is_that_of_responses(kind: Any) -> None:
    task = conditional_task()
    env = env_of(task, 8, reward_model="constant")
    keywords: dict[str, Any] = {"kl_coef": 0.1} if kind in (RLOO, GRPO, KLPPO) else {}
    agent = kind(SequencePolicy, env, seed=0, **keywords)
    agent.learn(48)
    assert agent.policy.generator.prompt_length == 1
    if agent.reference is not None:
        assert not agent.reference.log_probs(task.real_sequences("test"))[:, 0].any()


def test_the_first_step_of_a_response_is_not_compared_with_the_episode_before() -> None:
    returns = np.array([[0.1], [0.5], [0.9], [0.2], [0.3], [0.4]], dtype=np.float32)  # two responses of three tokens
    step, begins = np.array([[1], [2], [3], [1], [2], [3]]), np.array([[True], [False], [False]] * 2)
    weights = subtract_baseline(returns, step, np.zeros_like(returns), "completions", begins)
    np.testing.assert_allclose(weights[:, 0], [-0.1, 0.4, 0.4, 0.1, 0.1, 0.1], atol=1e-6)


def test_replayed_rewards_begin_after_the_prompt() -> None:
    task, reward = conditional_task(), TableReward(3, 4)
    source = RewardSource(task, "potential", reward, model_of(task), 2)
    sequence = np.array([1, 0, 2, 1])
    observations = np.full((3, 4), 3)
    for step in range(3):
        observations[step, : step + 1] = sequence[: step + 1]
    rewards = source.rewards(observations, sequence[1:], np.random.default_rng(0))
    assert rewards.sum() == pytest.approx(reward(torch.from_numpy(sequence[None])).item())


# --- whole games -----------------------------------------------------------------------------------------------------

SMALL = {
    "task": ConditionalOptions(train_sequences=64),
    "pretraining.epochs": 2,
    "discriminator.pretraining_steps": 1,
    "game.rounds": 2,
    "game.n_rollouts": 2,
    "learner.batch_size": 16,
}


def played(settings: dict[str, Any]) -> SeqGAN:
    config = changed(TOY, SMALL | settings)
    game = SeqGAN(config.task.task(), config)
    game.train()
    return game


@pytest.mark.parametrize("learner", ["reinforce", "rloo", "grpo", "ppo", "a2c"])
def test_every_learner_plays_a_game_with_prompts(learner: str) -> None:
    mode = {"reinforce": "action_value", "rloo": "terminal", "grpo": "terminal"}.get(learner, "potential")
    game = played({"learner.name": learner, "game.reward_mode": mode})
    assert game.agent.num_timesteps == 2 * 16 * 3
    assert game.generator.prompt_length == 1


@pytest.mark.parametrize("anchor", [0.0, 0.5])
def test_a_game_with_prompts_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(anchor: float) -> None:
    settings = {"game.anchor_weight": anchor}
    whole = played(settings)
    config = changed(TOY, SMALL | settings)
    states: list[Any] = []
    stopped = SeqGAN(config.task.task(), config)

    def keep(milestone: Milestone) -> None:
        if milestone.stage == "adversarial":
            states.append(copy.deepcopy(stopped.state_dict()))

    stopped.train(keep)
    resumed = SeqGAN(config.task.task(), config)
    resumed.load_state_dict(states[0])
    resumed.train()
    for own, theirs in zip(resumed.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(own, theirs)


def test_a_game_against_the_oracles_reward_learns_better_responses() -> None:
    settings = {"game.reward_model": "oracle", "game.rounds": 15, "learner.batch_size": 64}
    game = played(settings)
    before = played(settings | {"game.rounds": 0})
    world = ExactWorld.of(game.task)
    reward = game.env.env.mdp.reward_model
    assert world.objective(game.generator, reward) > world.objective(before.generator, reward) + 0.02


def test_a_learner_is_saved_and_loaded_with_its_prompt_length(tmp_path: Path) -> None:
    agent = REINFORCE("LSTMPolicy", env_of(conditional_task(), 8), seed=0)
    agent.learn(24)
    agent.save(tmp_path / "agent.zip")
    loaded = REINFORCE.load(tmp_path / "agent.zip", env=env_of(conditional_task(), 8))
    assert loaded.policy.generator.prompt_length == 1
    assert loaded.n_steps == 3
