"""`discriminator_trainer`: Algorithm 1's order, fresh negatives, G_beta's delay, and what the reports say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from torch import Tensor

from agents.discriminator_trainer import DiscriminatorReport, DiscriminatorTrainer, calibration_error, generator_of
from agents.policies import ActorRolloutPolicy, SequencePolicy, TokenPrefixExtractor
from agents.reinforce import REINFORCE
from agents.vec_env import SequenceVecEnv
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import ConstantReward, DiscriminatorReward, ShuffledReward
from seqgan_env.rollout_policies import DelayedCopy, UniformPolicy
from seqgan_env.tasks.task import Split, Task
from tests.toy_world import DigitsReward, PointPolicy

FILTERS = ((1, 4), (2, 4))


class Spy(DiscriminatorTrainer):
    """Notes what happens in order, and the sequences that each epoch sees."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.events: list[str] = []
        self.draws: list[Tensor] = []
        self.epochs: list[tuple[Tensor, Tensor]] = []
        self.generators: list[Tensor] = []
        if self.adversary is not None:
            plain = self.adversary.epoch

            def epoch(real: Tensor, generated: Tensor, paired: bool = False) -> float:
                self.events.append("k")
                self.epochs.append((real, generated))
                return plain(real, generated, paired)

            self.adversary.epoch = epoch  # type: ignore[method-assign]

    def train_step(self, generator: Any) -> DiscriminatorReport | None:
        self.events.append("d")
        if isinstance(generator, LSTMSequenceModel):
            self.generators.append(vector(generator))
        return super().train_step(generator)

    def _negatives(self, generator: Any, count: int) -> Tensor | None:
        negatives = super()._negatives(generator, count)
        self.events.append("negatives")
        if negatives is not None:
            self.draws.append(negatives)
        return negatives

    def sync(self, policy: Any) -> None:
        self.events.append("sync")
        super().sync(policy)

    def _hand_over_rollout_policy(self, learner: Any) -> None:
        self.events.append("hand over")
        super()._hand_over_rollout_policy(learner)


def spied_agent(spy: Spy, env: SequenceVecEnv, **keywords: Any) -> REINFORCE:
    """An agent whose updates are among the spy's events."""

    class SpiedAgent(REINFORCE):
        def train(self) -> None:
            spy.events.append("g")
            super().train()

    return SpiedAgent("LSTMPolicy", env, **{"seed": 0, "device": "cpu"} | keywords)


def vector(module: torch.nn.Module) -> Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def discriminator_of(task: Task, **keywords: Any) -> CNNDiscriminator:
    return CNNDiscriminator(task.vocab_size, task.sequence_length, FILTERS, 8, **keywords)


@pytest.fixture
def env(task: Task) -> SequenceVecEnv:
    return SequenceVecEnv(SequenceVectorEnv(task, 4, reward_model=ConstantReward(), n_rollouts=2))


@pytest.fixture
def make_spy(task: Task) -> Callable[..., Spy]:
    def make(discriminator: Any = "fresh", **keywords: Any) -> Spy:
        discriminator = discriminator_of(task) if discriminator == "fresh" else discriminator
        return Spy(discriminator, task, **{"sample_size": 40, "batch_size": 20} | keywords)

    return make


def test_a_round_is_g_updates_then_d_draws_of_k_epochs_then_the_sync(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    spy = make_spy(g_steps=2, d_steps=3, k_epochs=2)
    spied_agent(spy, env).learn(12 * 4, spy)
    draw = ["d", "negatives", "k", "k", "negatives"]  # the last negatives are the report's
    one_round = ["g", "g", *draw * 3, "sync", "hand over"]
    assert spy.events == ["sync", "hand over", *one_round * 2]
    assert spy.rounds == 2


def test_updates_that_fill_no_round_wait_for_the_next_call_of_learn(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    spy = make_spy(g_steps=2, d_steps=1, k_epochs=1)
    agent = spied_agent(spy, env)
    agent.learn(12 * 3, spy)
    assert spy.rounds == 1
    assert [event for event in spy.events if event in "gd"] == ["g", "g", "d", "g"]
    agent.learn(12, spy, reset_num_timesteps=False)
    assert spy.rounds == 2
    assert [event for event in spy.events if event in "gd"] == ["g", "g", "d", "g", "g", "d"]


def test_negatives_come_from_the_updated_generator(make_spy: Callable[..., Spy], env: SequenceVecEnv) -> None:
    spy = make_spy(d_steps=2, k_epochs=1)
    agent = spied_agent(spy, env)
    before = vector(agent.policy.generator)
    agent.learn(12, spy)
    assert len(spy.generators) == 2
    for seen in spy.generators:
        assert torch.equal(seen, vector(agent.policy.generator))
        assert not torch.equal(seen, before)


def test_each_draw_has_fresh_negatives_and_as_many_positives_from_the_training_split(
    make_spy: Callable[..., Spy], task: Task
) -> None:
    spy = make_spy(d_steps=3, k_epochs=2, sample_size=30)
    generator = LSTMSequenceModel(3, 4, 4, init_std=0.5, seed=0)
    for _ in range(3):
        spy.train_step(generator)
    epochs = spy.epochs
    assert [(len(real), len(generated)) for real, generated in epochs] == [(30, 30)] * 6
    for first, second in ((0, 1), (2, 3), (4, 5)):  # both epochs of a draw see the same sequences
        assert torch.equal(epochs[first][1], epochs[second][1])
        assert torch.equal(epochs[first][0], epochs[second][0])
    assert not torch.equal(epochs[1][1], epochs[2][1])
    assert not torch.equal(epochs[3][1], epochs[4][1])
    assert not torch.equal(epochs[1][0], epochs[2][0])
    known = {tuple(row) for row in task.real_sequences("train").tolist()}
    assert {tuple(row) for real, _ in epochs for row in real.tolist()} <= known


def test_without_a_sample_size_every_real_sequence_is_used_once(task: Task, make_spy: Callable[..., Spy]) -> None:
    spy = make_spy(d_steps=1, k_epochs=1, sample_size=None)
    spy.train_step(UniformPolicy(3))
    real, generated = spy.epochs[0]
    assert len(generated) == 1000
    weights = torch.tensor([9, 3, 1])
    assert sorted((real @ weights).tolist()) == sorted((task.real_sequences("train") @ weights).tolist())


def test_batches_are_half_real_and_half_generated(make_spy: Callable[..., Spy], task: Task) -> None:
    spy = make_spy(k_epochs=1, sample_size=25, batch_size=10)
    batches: list[Tensor] = []
    discriminator = spy.discriminator
    assert discriminator is not None
    discriminator.register_forward_pre_hook(
        lambda module, inputs: batches.append(inputs[0]) if module.training else None
    )
    spy.train_step(PointPolicy(3, 2))
    assert [len(batch) for batch in batches] == [10] * 5
    for batch in batches:
        assert (batch[5:] == 2).all()
    assert not (torch.cat([batch[:5] for batch in batches]) == 2).all()


@pytest.fixture
def separable_task() -> Task:
    """Real sequences hold the tokens 0 and 1 alone. Looking at the test split is an error."""

    def draw_split(split: Split) -> Tensor:
        assert split != "test"
        rng = np.random.default_rng(["train", "validation"].index(split))
        return torch.from_numpy(rng.integers(0, 2, (300, 3)))

    return Task("separable", 3, 3, draw_split)


class TwosPolicy(UniformPolicy):
    """Tokens 1 and 2: two thirds of its sequences hold a token that no real one does."""

    def draw(self, state: Any, uniforms: Tensor) -> Tensor:
        return 1 + (uniforms > 0.2).long()


def test_the_discriminator_learns_to_tell_separable_distributions_apart(separable_task: Task) -> None:
    trainer = DiscriminatorTrainer(
        discriminator_of(separable_task), separable_task, k_epochs=3, learning_rate=1e-2, seed=0
    )
    reports = [trainer.train_step(TwosPolicy(3)) for _ in range(4)]
    first, last = reports[0], reports[-1]
    assert first is not None
    assert last is not None
    assert last.accuracy > 0.9
    assert last.mean_real > 0.8
    assert last.mean_generated < 0.2
    assert last.loss < first.loss
    assert trainer.last_report is last


def test_what_cannot_be_told_apart_stays_at_chance(task: Task) -> None:
    assert task.oracle is not None
    trainer = DiscriminatorTrainer(discriminator_of(task), task, k_epochs=1, learning_rate=1e-3, sample_size=500)
    for _ in range(3):
        report = trainer.train_step(task.oracle)
    assert report is not None
    assert report.accuracy == pytest.approx(0.5, abs=0.05)


def test_a_report_is_about_held_out_real_and_fresh_generated_sequences(
    task: Task, make_spy: Callable[..., Spy]
) -> None:
    spy = make_spy(k_epochs=1)
    report = spy.train_step(UniformPolicy(3))
    assert spy.discriminator is not None
    assert report is not None
    held_out = task.real_sequences("validation")[:1000]
    fresh = spy.draws[-1]
    assert not torch.equal(fresh[:40], spy.draws[0])
    real, generated = (torch.sigmoid(spy.discriminator.score(rows)) for rows in (held_out, fresh))
    assert report.mean_real == pytest.approx(real.mean().item(), abs=1e-6)
    assert report.mean_generated == pytest.approx(generated.mean().item(), abs=1e-6)
    accuracy = ((real > 0.5).float().mean() + (generated <= 0.5).float().mean()) / 2
    assert report.accuracy == pytest.approx(accuracy.item(), abs=1e-6)


def test_the_loss_is_that_of_eq_5_and_the_penalty_joins_only_the_gradient(task: Task) -> None:
    discriminator = discriminator_of(task, dropout=0.0, l2=5.0)
    trainer = DiscriminatorTrainer(discriminator, task, k_epochs=1, learning_rate=1e-9, sample_size=200, batch_size=400)
    real = task.real_sequences("train")[:200]
    generated = torch.full((200, 3), 2)
    score_real, score_generated = (torch.sigmoid(discriminator.score(rows)).double() for rows in (real, generated))
    expected = -(score_real.log().mean() + (1 - score_generated).log().mean()) / 2
    loss = trainer.epoch(real, generated)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    gradient = discriminator.output.weight.grad
    assert gradient is not None
    assert gradient.norm() > 0.5 * 5.0 * discriminator.output.weight.norm()


def test_dropout_is_on_while_the_discriminator_trains_and_off_in_every_score(
    task: Task, make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    discriminator = discriminator_of(task, dropout=0.5)
    modes: list[bool] = []
    discriminator.dropout.register_forward_hook(lambda module, *_: modes.append(module.training))
    spy = make_spy(discriminator, d_steps=1, k_epochs=2)
    env.env_method("set_reward_model", DiscriminatorReward(discriminator))
    discriminator.train()  # as a careless caller leaves it
    env.reset()
    for _ in range(3):
        env.step(np.zeros(4, dtype=int))
    assert modes
    assert not any(modes)
    modes.clear()
    spy.train_step(UniformPolicy(3))
    training = [mode for mode in modes if mode]
    assert len(training) == 2 * 4  # two epochs of 40 + 40 sequences, 20 at a time
    assert modes[: len(training)] == training  # the report comes after, without dropout
    assert len(modes) > len(training)


# G_beta.


def test_g_beta_lags_between_syncs_and_equals_the_generator_after_one(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    spy = make_spy(g_steps=2, d_steps=1, k_epochs=1)
    lagging: list[bool] = []

    class Watch(REINFORCE):
        def train(self) -> None:
            super().train()
            assert isinstance(spy.rollout_policy, DelayedCopy)
            assert env.env.mdp.rollout_policy is spy.rollout_policy  # the search uses it
            lagging.append(not torch.equal(vector(spy.rollout_policy.model), vector(self.policy.generator)))

    agent = Watch("LSTMPolicy", env, seed=0, device="cpu")
    after_rounds: list[bool] = []
    spy.on_round = lambda _: after_rounds.append(
        torch.equal(vector(spy.rollout_policy.model), vector(agent.policy.generator))  # type: ignore[union-attr]
    )
    agent.learn(12 * 6, spy)
    assert lagging == [True] * 6
    assert after_rounds == [True] * 3


def test_with_rate_08_g_beta_keeps_four_fifths_of_itself(make_spy: Callable[..., Spy], env: SequenceVecEnv) -> None:
    spy = make_spy(d_steps=1, k_epochs=1, rollout_rate=0.8)
    agent = REINFORCE("LSTMPolicy", env, seed=0, device="cpu")
    expected = [vector(agent.policy.generator)]
    copies: list[Tensor] = []

    def compare(_: int) -> None:
        assert isinstance(spy.rollout_policy, DelayedCopy)
        expected.append(0.8 * expected[-1] + 0.2 * vector(agent.policy.generator))
        copies.append(vector(spy.rollout_policy.model))

    spy.on_round = compare
    agent.learn(12 * 3, spy)
    assert len(copies) == 3
    for got, wanted in zip(copies, expected[1:], strict=True):
        torch.testing.assert_close(got, wanted)
        assert not torch.equal(got, vector(agent.policy.generator))


def test_the_search_sees_the_synced_parameters_and_no_stale_states(task: Task) -> None:
    """After a sync a generator that only draws 2 completes with 2, whatever it drew before."""
    env = SequenceVecEnv(SequenceVectorEnv(task, 1, reward_model=DigitsReward(), n_rollouts=2))
    model = LSTMSequenceModel(3, 4, 4)
    agent = REINFORCE(SequencePolicy, env, policy_kwargs={"generator": model}, seed=0, device="cpu")
    trainer = DiscriminatorTrainer(None, task)
    for token in (1, 2):
        with torch.no_grad():
            model.output.bias.zero_()[token] = 80.0
        trainer.sync(model)
        trainer._hand_over_rollout_policy(agent)
        env.reset()
        assert env.step(np.array([0]))[1].tolist() == [11 * token]


# Other learners, and no discriminator.


def test_without_a_discriminator_only_g_beta_is_synced(make_spy: Callable[..., Spy], env: SequenceVecEnv) -> None:
    reward_model = env.env.mdp.reward_model
    spy = make_spy(None, d_steps=2)
    agent = spied_agent(spy, env)
    agent.learn(24, spy)
    assert spy.events == ["sync", "hand over"] + ["g", "sync", "hand over"] * 2
    assert env.env.mdp.reward_model is reward_model
    assert spy.last_report is None
    assert spy.optimizer is None
    assert spy.mean_reward == 0.5
    assert spy.rounds == 2


def test_the_environment_is_given_the_discriminator_as_reward(task: Task, env: SequenceVecEnv) -> None:
    discriminator = discriminator_of(task)
    trainer = DiscriminatorTrainer(discriminator, d_steps=1, k_epochs=1, sample_size=20)
    REINFORCE("LSTMPolicy", env, seed=0, device="cpu").learn(12, trainer)
    reward = env.env.mdp.reward_model
    assert isinstance(reward, DiscriminatorReward)
    assert reward.discriminator is discriminator
    assert trainer.task is env.env.task  # taken from the environment


def test_a_reward_built_around_the_discriminator_is_handed_over_in_its_place(task: Task, env: SequenceVecEnv) -> None:
    discriminator = discriminator_of(task)
    before = vector(discriminator)
    shuffled = ShuffledReward(DiscriminatorReward(discriminator), np.random.default_rng(0))
    trainer = DiscriminatorTrainer(discriminator, reward_model=shuffled, d_steps=1, k_epochs=1, sample_size=20)
    REINFORCE("LSTMPolicy", env, seed=0, device="cpu").learn(12, trainer)
    assert env.env.mdp.reward_model is shuffled
    assert not torch.equal(vector(discriminator), before)


def test_a_reward_without_a_discriminator_is_handed_over_too(task: Task, env: SequenceVecEnv) -> None:
    reward = DigitsReward()
    REINFORCE("LSTMPolicy", env, seed=0, device="cpu").learn(12, DiscriminatorTrainer(None, reward_model=reward))
    assert env.env.mdp.reward_model is reward


def test_reports_reach_the_logger(make_spy: Callable[..., Spy], env: SequenceVecEnv) -> None:
    spy = make_spy(d_steps=1, k_epochs=1)
    agent = REINFORCE("LSTMPolicy", env, seed=0, device="cpu")
    agent.learn(12, spy)
    logged = agent.logger.name_to_value
    for name in ("loss", "accuracy", "calibration_error", "mean_real", "mean_generated"):
        assert logged[f"discriminator/{name}"] == getattr(spy.last_report, name)


def sb3_agent(kind: Any, env: SequenceVecEnv, **keywords: Any) -> Any:
    policy_kwargs = {"features_extractor_class": TokenPrefixExtractor, "net_arch": [8]}
    return kind("MlpPolicy", env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **keywords)


def test_ppos_negatives_come_from_its_own_distribution_and_g_beta_is_a_copy(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    spy = make_spy(d_steps=1, k_epochs=1)
    agent = sb3_agent(PPO, env, n_steps=6, batch_size=12, n_epochs=1, gamma=0.0)
    agent.learn(24 * 2, spy)
    assert spy.rounds == 2
    assert spy.draws[0].shape == (40, 3)
    assert isinstance(spy.rollout_policy, ActorRolloutPolicy)
    assert spy.rollout_policy.policy is not agent.policy
    assert torch.equal(vector(spy.rollout_policy.policy), vector(agent.policy))
    agent.train()
    assert not torch.equal(vector(spy.rollout_policy.policy), vector(agent.policy))


def test_dqns_negatives_are_played_with_its_exploration_and_so_is_g_beta(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    spy = make_spy(d_steps=1, k_epochs=1, sample_size=900)
    agent = sb3_agent(DQN, env, train_freq=3, learning_starts=24, buffer_size=100, exploration_initial_eps=0.3)
    rates: list[float] = []
    spy.on_round = lambda _: rates.append(spy.rollout_policy.exploration_rate)  # type: ignore[union-attr]
    agent.learn(48, spy)
    assert rates == [1.0, agent.exploration_final_eps, agent.exploration_final_eps, agent.exploration_final_eps]
    copied = spy.rollout_policy
    assert isinstance(copied, ActorRolloutPolicy)
    assert env.env.mdp.rollout_policy is copied
    assert copied.policy is not agent.policy
    assert torch.equal(vector(copied.policy), vector(agent.policy))
    negatives = [draw for draw in spy.draws if len(draw) == 900]
    shares = [torch.unique(draw, dim=0, return_counts=True)[1].max() / 900 for draw in negatives]
    assert shares[0] < 0.1  # of the commonest of 27 sequences: SB3 plays uniformly until learning starts
    assert [bool(share > 0.8) for share in shares[1:]] == [True] * 3  # (1 - 0.05 * 2 / 3)^3 = 0.90


def test_negatives_of_a_policy_that_cannot_be_asked_are_the_sequences_that_it_finished(
    make_spy: Callable[..., Spy], env: SequenceVecEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("agents.discriminator_trainer", "agents.adversarial_rounds"):
        monkeypatch.setattr(f"{module}.has_known_distribution", lambda policy: False)
    spy = make_spy(d_steps=1, k_epochs=1)
    agent = sb3_agent(DQN, env, learning_starts=0, train_freq=3, batch_size=4, buffer_size=100)
    agent.learn(12, spy)
    finished = np.stack(list(spy._finished_sequences))
    assert finished.shape == (4, 3)
    real, generated = spy.epochs[0]
    assert generated.tolist() == finished.tolist()
    assert len(real) == 4
    assert spy.rollout_policy is None
    assert isinstance(env.env.mdp.rollout_policy, UniformPolicy)  # the environment's own stays


def test_a_delayed_g_beta_of_ppo_keeps_four_fifths_of_itself(make_spy: Callable[..., Spy], env: SequenceVecEnv) -> None:
    spy = make_spy(None, rollout_rate=0.8)
    agent = sb3_agent(PPO, env, n_steps=6, batch_size=12, n_epochs=1, gamma=0.0)
    before = vector(agent.policy)
    agent.learn(24, spy)
    assert isinstance(spy.rollout_policy, ActorRolloutPolicy)
    torch.testing.assert_close(vector(spy.rollout_policy.policy), 0.8 * before + 0.2 * vector(agent.policy))
    assert not torch.equal(before, vector(agent.policy))


def test_a_policy_with_a_gradient_in_its_last_distribution_is_copied_all_the_same(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    agent = sb3_agent(PPO, env, n_steps=6, batch_size=12, n_epochs=1, gamma=0.0)
    agent.learn(24)
    assert agent.policy.action_dist.distribution.logits.requires_grad
    spy = make_spy(None)
    spy.sync(agent)
    assert isinstance(spy.rollout_policy, ActorRolloutPolicy)
    assert torch.equal(vector(spy.rollout_policy.policy), vector(agent.policy))


def test_environments_that_hold_copies_are_given_the_trained_reward_again(
    make_spy: Callable[..., Spy], env: SequenceVecEnv
) -> None:
    """As those in processes of their own do."""
    held = []
    plain = env.env_method

    def copying(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "set_reward_model":
            held.append(copy.deepcopy(arguments[0]))
            arguments = (held[-1],)
        return plain(name, *arguments, **keywords)

    env.env_method = copying  # type: ignore[method-assign]
    spy = make_spy(d_steps=1, k_epochs=1)
    REINFORCE("LSTMPolicy", env, seed=0, device="cpu").learn(24, spy)
    assert len(held) == 3
    assert spy.discriminator is not None
    assert torch.equal(vector(env.env.mdp.reward_model.discriminator), vector(spy.discriminator))  # type: ignore[attr-defined]


def test_a_learner_that_finished_nothing_yet_has_no_negatives(make_spy: Callable[..., Spy]) -> None:
    spy = make_spy()
    assert spy.train_step(None) is None
    assert spy.epochs == []


def test_what_can_be_sampled_of_a_policy(task: Task, env: SequenceVecEnv, model: LSTMSequenceModel) -> None:
    assert generator_of(model) is model
    agent = REINFORCE("LSTMPolicy", env, device="cpu")
    assert generator_of(agent.policy) is agent.policy.generator
    assert isinstance(generator_of(sb3_agent(PPO, env, gamma=0.0).policy), ActorRolloutPolicy)
    agent = sb3_agent(DQN, env, buffer_size=100)
    agent.exploration_rate, agent.num_timesteps = 0.25, 1000
    played, greedy = generator_of(agent), generator_of(agent.policy)
    assert isinstance(played, ActorRolloutPolicy)
    assert isinstance(greedy, ActorRolloutPolicy)
    assert (played.policy, played.exploration_rate) == (agent.policy, 0.25)
    assert (greedy.policy, greedy.exploration_rate) == (agent.policy, 0.0)


def test_the_seed_decides_the_negatives(task: Task) -> None:
    ends = []
    for seed in (0, 0, 1):
        trainer = DiscriminatorTrainer(discriminator_of(task, dropout=0.0), task, k_epochs=1, sample_size=64, seed=seed)
        trainer.train_step(UniformPolicy(3))
        assert trainer.discriminator is not None
        ends.append(vector(trainer.discriminator))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize(("name", "least"), [("g_steps", 1), ("d_steps", 0), ("k_epochs", 1)])
def test_counts_that_are_too_small_are_refused(name: str, least: int) -> None:
    DiscriminatorTrainer(None, **{name: least})
    with pytest.raises(ValueError, match=f"{name}={least - 1} must be at least {least}"):
        DiscriminatorTrainer(None, **{name: least - 1})


def test_without_d_steps_a_round_leaves_the_discriminator_alone_and_still_syncs(task: Task) -> None:
    trainer = DiscriminatorTrainer(discriminator_of(task), task, d_steps=0)
    assert trainer.discriminator is not None
    before = vector(trainer.discriminator)
    agent = REINFORCE("SequencePolicy", SequenceVecEnv(SequenceVectorEnv(task, 4, n_rollouts=1)), seed=0)
    agent.learn(2 * 4 * task.sequence_length, trainer)
    assert trainer.rounds == 2
    assert torch.equal(vector(trainer.discriminator), before)
    assert isinstance(trainer.rollout_policy, DelayedCopy)
    assert torch.equal(vector(trainer.rollout_policy.model), vector(agent.policy.generator))


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=1 must be at least 2"):
        DiscriminatorTrainer(None, batch_size=1)


@pytest.mark.parametrize(
    ("probabilities", "outcomes", "expected"),
    [
        ([1.0, 0.0], [True, False], 0.0),
        ([1.0, 0.0], [False, True], 1.0),
        ([0.5, 0.5], [True, False], 0.0),
        ([0.9, 0.9, 0.9, 0.9], [True, True, True, False], 0.15),
        ([0.25, 0.75], [False, True], 0.25),
        ([0.12, 0.18, 0.95], [False, True, True], (2 * 0.35 + 0.05) / 3),  # two in one bin, one in another
    ],
)
def test_calibration_error_on_literal_cases(probabilities: list[float], outcomes: list[bool], expected: float) -> None:
    assert calibration_error(np.array(probabilities), np.array(outcomes)) == pytest.approx(expected)
