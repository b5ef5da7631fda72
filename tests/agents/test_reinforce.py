"""`reinforce`: the policy gradient against enumeration, and everything that SB3's own algorithms can do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from agents.policies import SequencePolicy
from agents.reinforce import REINFORCE, default_discount, subtract_baseline, whole_sequences
from agents.vec_env import SequenceVecEnv, make_sequence_vec_env
from seqgan_env.envs import SequenceVectorEnv, ToyEnv
from seqgan_env.mdp import RewardMode
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import ConstantReward, OracleReward
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from tests.marks import slow
from tests.toy_world import DigitsReward, PointPolicy, TableReward, sequence_probabilities

EVERYTHING = enumerate_sequences(3, 3)
PREFIXES = np.array([[3, 3, 3], [2, 3, 3], [1, 0, 3]])


class Recorder(REINFORCE):
    """Keeps the gradient of each update, as an ascent direction of one sequence."""

    def train(self) -> None:
        super().train()
        sequences = self.n_steps * self.n_envs / 3
        self.gradients = [*getattr(self, "gradients", []), -generator_gradient(self.policy) / sequences]


def generator_gradient(policy: SequencePolicy) -> Tensor:
    gradients = [p.grad for p in policy.generator.parameters()]
    return torch.cat([torch.zeros(0) if g is None else g.flatten().double() for g in gradients])


def plain_log_probs(model: LSTMSequenceModel, sequences: Tensor) -> Tensor:
    """log p of every token, (R, T), differentiable, as Eq. 9-10 read; token 0 is the start symbol."""
    inputs = torch.cat([torch.zeros_like(sequences[:, :1]), sequences[:, :-1]], dim=1)
    logits = model.output(model.hidden_states(inputs))
    return torch.log_softmax(logits, dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2)


def exact_gradient(model: LSTMSequenceModel, reward: Any) -> Tensor:
    """grad J, J = sum over all 27 sequences of G(Y) R(Y) (Eq. 6)."""
    objective = (plain_log_probs(model, EVERYTHING).sum(dim=1).exp() * reward(EVERYTHING).float()).sum()
    return torch.cat([g.flatten().double() for g in torch.autograd.grad(objective, list(model.parameters()))])


def toy_env(task: Task, num_envs: int = 4, **keywords: Any) -> SequenceVecEnv:
    return SequenceVecEnv(SequenceVectorEnv(task, num_envs, **{"reward_model": TableReward()} | keywords))


def agent_of(task: Task, num_envs: int = 4, reward_mode: RewardMode = "terminal", **keywords: Any) -> REINFORCE:
    env = toy_env(task, num_envs, reward_mode=reward_mode, n_rollouts=2)
    return REINFORCE("LSTMPolicy", env, **{"seed": 0, "device": "cpu"} | keywords)


def recorder(model: LSTMSequenceModel, task: Task, num_envs: int, env: dict[str, Any], **keywords: Any) -> Recorder:
    """An agent that stands still (learning rate 0) and records unclipped gradients."""
    return Recorder(
        SequencePolicy,
        toy_env(task, num_envs, **env),
        learning_rate=0.0,
        max_grad_norm=1e9,
        policy_kwargs={"generator": model},
        seed=3,
        device="cpu",
        **keywords,
    )


def parameters(agent: REINFORCE) -> Tensor:
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


# The gradient.


@pytest.mark.parametrize(
    ("reward_mode", "baseline"),
    [
        slow("action_value", "none"),
        ("action_value", "step_mean"),
        ("action_value", "value"),
        ("action_value", "completions"),
        ("potential", "none"),
        slow("terminal", "none"),
        ("terminal", "step_mean"),
    ],
)
def test_averaged_gradients_are_the_enumerated_gradient_of_the_objective(
    task: Task, reward_mode: RewardMode, baseline: Any
) -> None:
    """Eq. 6-7, with the search following the generator itself."""
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    expected = exact_gradient(model, TableReward())
    env = {"reward_mode": reward_mode, "rollout_policy": model, "n_rollouts": 1}
    agent = recorder(model, task, 128, env, baseline=baseline)
    torch.nn.init.normal_(agent.policy.value_net.weight, std=0.3)  # a baseline that is wrong is still a baseline
    agent.learn(128 * 3 * 80)
    gradients = torch.stack(agent.gradients)
    mean = gradients.mean(dim=0)
    standard_error = gradients.std(dim=0) / len(gradients) ** 0.5
    assert standard_error.norm() < 0.2 * expected.norm()  # else anything would pass
    assert ((mean - expected).abs() <= 4 * standard_error + 1e-8).all()


@pytest.mark.parametrize("baseline", ["none", "step_mean"])
def test_the_entropy_bonus_adds_the_enumerated_gradient_of_the_entropy_at_each_prefix(
    task: Task, baseline: Any
) -> None:
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    probs = plain_log_probs(model, EVERYTHING).sum(dim=1).exp().detach()  # prefixes as often as they are met
    inputs = torch.cat([torch.zeros_like(EVERYTHING[:, :1]), EVERYTHING[:, :-1]], dim=1)
    log_p = torch.log_softmax(model.output(model.hidden_states(inputs)), dim=2)
    entropies = -(log_p.exp() * log_p).sum(dim=2).sum(dim=1)
    gradient = torch.autograd.grad((probs * entropies).sum() * 0.7, list(model.parameters()))
    expected = torch.cat([g.flatten().double() for g in gradient])
    agent = recorder(model, task, 128, {"reward_model": ConstantReward(0.0)}, baseline=baseline, ent_coef=0.7)
    agent.learn(128 * 3 * 80)
    gradients = torch.stack(agent.gradients)
    standard_error = gradients.std(dim=0) / len(gradients) ** 0.5
    assert standard_error.norm() < 0.2 * expected.norm()  # else anything would pass
    assert ((gradients.mean(dim=0) - expected).abs() <= 4 * standard_error + 1e-8).all()


def test_the_gradient_of_given_experience_is_that_of_minus_sum_log_prob_times_weight(
    task: Task, model: LSTMSequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through environment, buffer and loss: weights are Q of Eq. 4, each at its own sentence and step."""
    env = {"reward_model": DigitsReward(), "rollout_policy": PointPolicy(3, 0), "n_rollouts": 1}
    agent = recorder(model, task, 50, env)
    seen: dict[str, Tensor] = {}
    original = model.weighted_log_likelihood

    def spy(sequences: Tensor, weights: Tensor, inputs: Tensor | None = None) -> Tensor:
        seen.update(sequences=sequences, weights=weights)
        return original(sequences, weights, inputs)

    monkeypatch.setattr(model, "weighted_log_likelihood", spy)
    agent.learn(150)
    sequences, weights = seen["sequences"], seen["weights"]
    assert sequences.shape == (50, 3)
    assert len(torch.unique(sequences, dim=0)) > 8
    first, second, third = (sequences * torch.tensor([100, 10, 1])).unbind(1)
    assert torch.equal(weights, torch.stack([first, first + second, first + second + third], dim=1).float())
    loss = -(plain_log_probs(model, sequences) * weights).sum()
    expected = torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(-agent.gradients[0] * 50, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
@pytest.mark.parametrize("special_step", [0, 1, 2])
def test_a_reward_for_one_token_at_one_step_lands_on_that_sentence_and_step(
    task: Task, model: LSTMSequenceModel, monkeypatch: pytest.MonkeyPatch, reward_mode: RewardMode, special_step: int
) -> None:
    class TwoAtStep:
        def __call__(self, sequences: Tensor, /) -> Tensor:
            return (sequences[:, special_step] == 2).float()

    env = {"reward_model": TwoAtStep(), "rollout_policy": PointPolicy(3, 0), "reward_mode": reward_mode}
    agent = recorder(model, task, 32, env)
    seen: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(
        model, "weighted_log_likelihood", lambda y, w: seen.append((y, w)) or (model.embedding.sum() * 0 + w.sum() * 0)
    )
    agent.learn(32 * 3)
    ((sequences, weights),) = seen
    hit = (sequences[:, special_step] == 2).float()
    assert 0 < hit.sum() < 32
    steps = torch.arange(3)
    expected = {
        "action_value": hit[:, None] * (steps >= special_step),  # Q is 0 until the token stands there
        "potential": hit[:, None] * (steps <= special_step),  # the return to go has it until it was earned
        "terminal": hit[:, None] * torch.ones(3),
    }[reward_mode]
    assert torch.equal(weights, expected)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_an_update_covers_exactly_t_steps_of_each_sequence(length: int) -> None:
    task = toy_task(sequence_length=length)
    env = toy_env(task, 4, reward_model=DigitsReward(), rollout_policy=PointPolicy(3, 0), n_rollouts=1)
    agent = REINFORCE("LSTMPolicy", env, seed=0, device="cpu")
    assert agent.n_steps == length
    agent.learn(4 * length)
    assert agent._n_updates == 1
    assert agent.rollout_buffer.rewards.shape == (length, 4)
    assert agent.rollout_buffer.episode_starts.sum() == 4
    final = agent.rollout_buffer.observations[-1].astype(int)
    digits = np.concatenate([final[:, : length - 1], agent.rollout_buffer.actions[-1].astype(int)], axis=1)
    assert agent.rollout_buffer.rewards[-1].tolist() == (digits @ 10 ** np.arange(length)[::-1]).tolist()


def test_a_constant_rewards_gradient_is_noise_without_a_baseline_and_nothing_with_one(task: Task) -> None:
    """Its expectation is 0 in any case; `step_mean` removes it from every single update."""
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    env = {"reward_model": ConstantReward(1.0)}
    with_baseline = recorder(model, task, 20, env, baseline="step_mean")
    with_baseline.learn(20 * 3 * 5)
    assert torch.stack(with_baseline.gradients).abs().max() == 0
    without = recorder(model, task, 20, env)
    without.learn(20 * 3 * 100)
    gradients = torch.stack(without.gradients)
    assert gradients.norm(dim=1).min() > 0.01
    assert (gradients.mean(dim=0).abs() <= 4 * gradients.std(dim=0) / 10 + 1e-8).all()


def test_the_value_head_learns_without_moving_the_generator(task: Task) -> None:
    """With a constant reward of 1 the value becomes 1 at each prefix; the generator has weight 0 then."""
    env = toy_env(task, 8, reward_model=ConstantReward(1.0), reward_mode="terminal")
    model = LSTMSequenceModel(3, 4, 4, init_std=1.0, seed=1)
    agent = REINFORCE(
        SequencePolicy, env, baseline="value", seed=0, device="cpu", learning_rate=3e-2, vf_coef=1.0,
        policy_kwargs={"generator": model},
    )  # fmt: skip
    losses = []

    class Losses(BaseCallback):
        def _on_step(self) -> bool:
            losses.append(self.logger.name_to_value.get("train/value_loss"))
            return True

    agent.learn(8 * 3 * 120, Losses())
    values = agent.policy.predict_values(torch.from_numpy(PREFIXES)).detach().flatten()
    torch.testing.assert_close(values, torch.ones(3), atol=0.1, rtol=0)
    recorded = [loss for loss in losses if loss]
    assert recorded[-1] < 0.05 * recorded[0]
    generator = Recorder(
        SequencePolicy, env, learning_rate=0.0, baseline="value", vf_coef=100.0, max_grad_norm=1e9, seed=0,
        policy_kwargs={"generator": model}, device="cpu",
    )  # fmt: skip
    torch.nn.init.ones_(generator.policy.value_net.bias)  # value 1 = return 1: every weight is 0
    torch.nn.init.normal_(model.output.bias)
    generator.learn(24)
    assert generator.gradients[0].abs().max() == 0


def test_gradients_are_clipped_to_their_global_norm_over_all_parameters(task: Task) -> None:
    agent = agent_of(task, reward_mode="terminal", max_grad_norm=0.01)
    agent.learn(12)
    gradients = [p.grad.flatten() for p in agent.policy.parameters() if p.grad is not None]
    assert torch.cat(gradients).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_the_mean_reduction_divides_by_the_tokens(task: Task) -> None:
    gradients = []
    for reduction in ("sum", "mean"):
        model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
        agent = recorder(model, task, 8, {"reward_mode": "terminal"}, loss_reduction=reduction)
        agent.learn(24)
        gradients.append(agent.gradients[0])
    torch.testing.assert_close(gradients[0] / 24, gradients[1])


# Sequences from steps, and baselines, on literal arrays.


def test_steps_become_whole_sequences_again() -> None:
    observations = np.array([[[3, 3, 3], [3, 3, 3]], [[0, 3, 3], [2, 3, 3]], [[0, 1, 3], [2, 0, 3]]], dtype=np.float32)
    actions = np.array([[0, 2], [1, 0], [2, 1]], dtype=np.float32)
    sequences, row, step = whole_sequences(observations, actions, np.array([[1, 1], [0, 0], [0, 0]]), 3)
    assert sequences.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert row.tolist() == [[0, 1]] * 3
    assert step.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert sequences.dtype == np.int64


def test_rows_out_of_phase_and_episodes_across_the_buffers_borders_keep_their_places() -> None:
    """Row 0 goes on from an earlier buffer and starts anew at step 3; row 1 has two short episodes (EOS = 2)."""
    pad = 3
    observations = np.array(
        [
            [[1, pad, pad], [pad, pad, pad]],
            [[1, 0, pad], [0, pad, pad]],
            [[pad, pad, pad], [pad, pad, pad]],
            [[2, pad, pad], [1, pad, pad]],
        ]
    )
    actions = np.array([[0, 0], [1, 2], [2, 1], [1, 1]])
    starts = np.array([[0, 1], [0, 0], [1, 1], [0, 0]])
    sequences, row, step = whole_sequences(observations, actions, starts, 3)
    assert sequences.tolist() == [[1, 0, 1], [2, 1, pad], [0, 2, pad], [1, 1, pad]]
    assert row.tolist() == [[0, 2], [0, 2], [1, 3], [1, 3]]
    assert step.tolist() == [[1, 0], [2, 1], [0, 0], [1, 1]]
    assert (sequences[row, step] == actions).all()


def test_one_step_episodes_become_sequences_of_one_token() -> None:
    sequences, row, step = whole_sequences(np.full((3, 1, 1), 3), np.array([[2], [0], [1]]), np.ones((3, 1)), 3)
    assert sequences.tolist() == [[2], [0], [1]]
    assert row.tolist() == [[0], [1], [2]]
    assert step.tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("n_steps", [1, 2, 4, 7])
def test_any_number_of_steps_an_update_gives_the_same_total_gradient(task: Task, n_steps: int) -> None:
    """With a parameter that stands still, 84 steps cut into updates of any length have one sum of gradients."""
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    totals = []
    for length in (84, n_steps):
        env = {"reward_mode": "action_value", "reward_model": DigitsReward(), "rollout_policy": PointPolicy(3, 0)}
        agent = recorder(model, task, 2, env, n_steps=length)
        agent.learn(2 * 84)
        totals.append(torch.stack(agent.gradients).sum(dim=0) * (length * 2 / 3))
    torch.testing.assert_close(*totals, rtol=1e-4, atol=1e-1)


RETURNS = np.array([[1.0, 3.0, 8.0], [5.0, 7.0, 0.0]], dtype=np.float32)
STEPS = np.array([[0, 0, 0], [1, 1, 2]])
VALUES = np.array([[0.5, 1.0, 2.0], [5.0, 0.0, -1.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("none", [[1.0, 3.0, 8.0], [5.0, 7.0, 0.0]]),
        ("value", [[0.5, 2.0, 6.0], [0.0, 7.0, 1.0]]),
        ("completions", [[1 - 5.5, 3 - 4.5, 8 - 2.0], [5 - 1, 7 - 3, 0 - 8]]),  # the row before
        ("step_mean", [[1 - 5.5, 3 - 4.5, 8 - 2.0], [5 - 7.0, 7 - 5.0, 0.0]]),  # the others at the same step
    ],
)
def test_baselines_are_subtracted_step_by_step(baseline: Any, expected: list[list[float]]) -> None:
    weights = subtract_baseline(RETURNS, STEPS, VALUES, baseline)
    assert weights.tolist() == expected
    assert weights.dtype == np.float32


@pytest.mark.parametrize(
    ("mode", "discount"), [("action_value", 0.0), ("potential", 1.0), ("terminal", 1.0), (None, 1.0)]
)
def test_the_default_discount_follows_the_reward_mode(mode: str | None, discount: float) -> None:
    assert default_discount(mode) == discount


@pytest.mark.parametrize(("mode", "discount"), [("action_value", 0.0), ("potential", 1.0), ("terminal", 1.0)])
def test_an_agent_takes_the_discount_of_its_environment(task: Task, mode: RewardMode, discount: float) -> None:
    agent = agent_of(task, reward_mode=mode)
    assert agent.gamma == discount
    assert agent.rollout_buffer.gamma == discount
    agent.learn(12)
    rewards, returns = agent.rollout_buffer.rewards, agent.rollout_buffer.returns
    to_go = np.cumsum(rewards[::-1], axis=0)[::-1] if discount else rewards
    np.testing.assert_allclose(returns, to_go, atol=1e-6)


def test_summing_action_values_warns_and_says_why(task: Task) -> None:
    with pytest.warns(UserWarning, match=r"gamma=0.9 with reward_mode='action_value'.*counts it many times"):
        agent_of(task, reward_mode="action_value", gamma=0.9)
    terminal = agent_of(task, reward_mode="terminal")
    with pytest.warns(UserWarning, match="gamma=1"):
        terminal.set_env(toy_env(task, 4, reward_mode="action_value"))


@pytest.mark.parametrize(
    ("mode", "gamma"), [("action_value", None), ("action_value", 0.0), ("potential", 0.9), ("terminal", None)]
)
def test_no_other_discount_warns(task: Task, mode: RewardMode, gamma: float | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent_of(task, reward_mode=mode, gamma=gamma)


@pytest.mark.parametrize("mode", ["terminal", "potential"])
def test_a_discount_of_zero_warns_where_rewards_are_to_be_summed(mode: RewardMode, task: Task, tmp_path: Path) -> None:
    message = f"gamma=0.* with reward_mode='{mode}'.*gamma=1"
    with pytest.warns(UserWarning, match=message):
        agent_of(task, reward_mode=mode, gamma=0.0)
    agent = agent_of(task, reward_mode="action_value")
    agent.save(tmp_path / "agent")
    with pytest.warns(UserWarning, match=message):
        agent.set_env(toy_env(task, 4, reward_mode=mode))
    with pytest.warns(UserWarning, match=message):
        REINFORCE.load(tmp_path / "agent", env=toy_env(task, 4, reward_mode=mode), device="cpu")


def test_loading_warns_of_a_discount_where_rewards_are_action_values(task: Task, tmp_path: Path) -> None:
    agent_of(task, reward_mode="terminal").save(tmp_path / "agent")
    with pytest.warns(UserWarning, match=r"gamma=1.* with reward_mode='action_value'"):
        REINFORCE.load(tmp_path / "agent", env=toy_env(task, 4, reward_mode="action_value"), device="cpu")


def test_loading_with_the_right_discount_does_not_warn(task: Task, tmp_path: Path) -> None:
    agent_of(task, reward_mode="action_value").save(tmp_path / "agent")
    env = toy_env(task, 4, reward_mode="terminal")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert REINFORCE.load(tmp_path / "agent", env=env, device="cpu", gamma=1.0).gamma == 1


# Learning.


def learned_share(task: Task, reward_mode: RewardMode, baseline: Any, seed: int, updates: int) -> float:
    """How far J under the oracle's reward came from chance (0) to its enumerated optimum (1), exactly."""
    assert task.oracle is not None
    rewards = OracleReward(task.oracle)(EVERYTHING).double().numpy()
    env = toy_env(task, 32, reward_model="oracle", reward_mode=reward_mode, n_rollouts=2)
    agent = REINFORCE("LSTMPolicy", env, learning_rate=2e-2, baseline=baseline, seed=seed, device="cpu")

    def share() -> float:
        objective = sequence_probabilities(agent.policy.generator, EVERYTHING) @ rewards
        return float((objective - rewards.mean()) / (rewards.max() - rewards.mean()))

    assert share() < 0.1
    agent.learn(32 * 3 * updates)
    return share()


@pytest.mark.parametrize(
    ("reward_mode", "baseline"),
    [("terminal", "step_mean"), ("potential", "value"), ("action_value", "step_mean"), ("action_value", "none")],
)
def test_the_toy_task_is_learned_to_near_its_enumerated_optimum(reward_mode: RewardMode, baseline: Any) -> None:
    assert learned_share(toy_task(oracle=6), reward_mode, baseline, seed=0, updates=80) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("reward_mode", ["terminal", "potential", "action_value"])
@pytest.mark.parametrize("baseline", ["none", "step_mean", "value"])
def test_every_mode_and_baseline_learns_toy_tasks(reward_mode: RewardMode, baseline: Any) -> None:
    """Of tasks where the best first token is also the better one on average; elsewhere a gradient may stop short."""
    for oracle in (1, 4, 5, 6):
        assert learned_share(toy_task(oracle=oracle), reward_mode, baseline, seed=1, updates=120) > 0.95


# What SB3's own algorithms are checked for.


def test_saving_and_loading_keeps_parameters_predictions_and_the_optimizer(task: Task, tmp_path: Path) -> None:
    agent = agent_of(task, reward_mode="action_value", baseline="value")
    agent.learn(36)
    expected = {name: p.clone() for name, p in agent.policy.state_dict().items()}
    moments = agent.policy.optimizer.state_dict()["state"]
    agent.save(tmp_path / "agent")
    loaded = REINFORCE.load(tmp_path / "agent", env=agent.get_env(), device="cpu")
    assert loaded.policy.state_dict().keys() == expected.keys()
    for name, parameter in loaded.policy.state_dict().items():
        assert torch.equal(parameter, expected[name])
    for index, values in loaded.policy.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, moments[index][name])
    np.testing.assert_array_equal(
        loaded.predict(PREFIXES, deterministic=True)[0], agent.predict(PREFIXES, deterministic=True)[0]
    )
    for name in ("gamma", "baseline", "loss_reduction", "ent_coef", "n_steps", "max_grad_norm", "num_timesteps"):
        assert getattr(loaded, name) == getattr(agent, name), name
    assert loaded._n_updates == agent._n_updates == 3
    loaded.learn(12, reset_num_timesteps=False)
    assert loaded.num_timesteps == 48
    assert not torch.equal(parameters(loaded), parameters(agent))


def test_a_loaded_agent_learns_as_the_saved_one_would_have(task: Task, tmp_path: Path) -> None:
    first = agent_of(task)
    first.learn(24)
    first.save(tmp_path / "agent")
    second = REINFORCE.load(tmp_path / "agent", env=toy_env(task, reward_mode="terminal"), device="cpu")
    ends = []
    for agent in (first, second):
        agent.set_random_seed(7)
        agent._last_obs = None  # a reset takes the seed
        agent.learn(24, reset_num_timesteps=False)
        ends.append(parameters(agent))
    assert torch.equal(*ends)


def test_an_agent_loads_without_an_environment_and_predicts(task: Task, tmp_path: Path) -> None:
    agent = agent_of(task)
    agent.save(tmp_path / "agent.zip")
    loaded = REINFORCE.load(tmp_path / "agent.zip", device="cpu")
    assert loaded.get_env() is None
    assert loaded.predict(PREFIXES, deterministic=True)[0].shape == (3,)
    loaded.set_env(toy_env(task, reward_mode="terminal"))
    loaded.learn(12)


def test_loading_into_another_vocabulary_is_refused(task: Task, tmp_path: Path) -> None:
    agent_of(task).save(tmp_path / "agent")
    with pytest.raises(ValueError, match="spaces do not match"):
        REINFORCE.load(tmp_path / "agent", env=make_sequence_vec_env("SeqGAN-Toy-v0", 4, vocab_size=4), device="cpu")


def test_parameters_can_be_taken_and_given(task: Task) -> None:
    first, second = agent_of(task, seed=0), agent_of(task, seed=1)
    first.learn(12)
    assert not torch.equal(parameters(first), parameters(second))
    given = first.get_parameters()
    assert set(given) == {"policy", "policy.optimizer"}
    second.set_parameters(given)
    assert torch.equal(parameters(first), parameters(second))
    del given["policy"]["generator.embedding"]
    with pytest.raises(RuntimeError, match=r"generator\.embedding"):
        second.set_parameters(given)


def test_predict_takes_single_and_batched_observations_deterministic_or_not(task: Task) -> None:
    agent = agent_of(task, seed=0)
    agent.learn(12)
    torch.manual_seed(0)
    single = [int(agent.predict(PREFIXES[1])[0]) for _ in range(60)]
    assert set(single) == {0, 1, 2}
    batched, state = agent.predict(PREFIXES)
    assert batched.shape == (3,)
    assert state is None
    assert np.isin(batched, [0, 1, 2]).all()
    fixed = [agent.predict(PREFIXES, deterministic=True)[0].tolist() for _ in range(5)]
    assert all(actions == fixed[0] for actions in fixed)
    assert int(agent.predict(PREFIXES[1], deterministic=True)[0]) == fixed[0][1]


@pytest.mark.parametrize("reward_mode", ["terminal", "action_value"])
def test_the_same_seed_gives_the_same_agent(task: Task, reward_mode: RewardMode) -> None:
    ends = []
    for seed in (0, 0, 1):
        agent = agent_of(task, reward_mode=reward_mode, seed=seed)
        agent.learn(48)
        ends.append(parameters(agent))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


class Events(BaseCallback):
    """Counts the calls of SB3's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _on_training_start(self) -> None:
        self.seen.append("start")

    def _on_rollout_start(self) -> None:
        self.seen.append("experience")

    def _on_step(self) -> bool:
        self.seen.append("step")
        return True

    def _on_rollout_end(self) -> None:
        self.seen.append("collected")

    def _on_training_end(self) -> None:
        self.seen.append("end")


def test_callbacks_are_called_in_sb3s_order(task: Task) -> None:
    events = Events()
    agent_of(task).learn(24, events)
    once = ["experience", "step", "step", "step", "collected"]
    assert events.seen == ["start", *once, *once, "end"]


def test_sb3s_callbacks_work_together(task: Task, tmp_path: Path) -> None:
    agent = agent_of(task)
    evaluation = EvalCallback(
        toy_env(task, 2, reward_mode="terminal"),
        eval_freq=3,
        n_eval_episodes=4,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
        warn=False,
    )
    checkpoints = CheckpointCallback(save_freq=3, save_path=str(tmp_path / "steps"))
    agent.learn(48, CallbackList([evaluation, checkpoints, Events()]))
    assert (tmp_path / "best_model.zip").is_file()
    assert (tmp_path / "evaluations.npz").is_file()
    assert len(list((tmp_path / "steps").glob("*.zip"))) == 4
    assert np.isfinite(evaluation.last_mean_reward)
    REINFORCE.load(tmp_path / "best_model", device="cpu")


def test_callbacks_and_plain_functions_can_stop_training(task: Task, tmp_path: Path) -> None:
    agent = agent_of(task)
    agent.learn(10_000, StopTrainingOnMaxEpisodes(max_episodes=2))  # of each environment
    assert agent.num_timesteps == 24
    agent.learn(10_000, lambda local, _: local["self"].num_timesteps < 20)
    assert agent.num_timesteps == 20
    stop = StopTrainingOnRewardThreshold(reward_threshold=-1.0)
    evaluation = EvalCallback(toy_env(task, 1, reward_mode="terminal"), stop, eval_freq=6, verbose=0, warn=False)
    agent.learn(10_000, evaluation)
    assert agent.num_timesteps == 24


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_the_logger_gets_the_keys_of_an_update(task: Task, tmp_path: Path, baseline: Any) -> None:
    from stable_baselines3.common.logger import configure

    agent = agent_of(task, baseline=baseline)
    logger: Logger = configure(str(tmp_path), ["csv"])
    agent.set_logger(logger)
    agent.learn(24)
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    expected = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/total_timesteps", "train/learning_rate"}
    expected |= {f"train/{k}" for k in ("n_updates", "policy_gradient_loss", "mean_return", "mean_weight", "grad_norm")}
    if baseline == "value":
        expected |= {"train/value_loss", "train/explained_variance"}
    assert expected <= set(header)


def test_logged_numbers_are_those_of_the_buffer(task: Task) -> None:
    agent = agent_of(task)
    agent.learn(12)
    values, buffer = agent.logger.name_to_value, agent.rollout_buffer
    assert values["train/mean_return"] == pytest.approx(buffer.returns.mean())
    assert values["train/entropy_loss"] == pytest.approx(buffer.log_probs.mean())
    expected = -(buffer.log_probs * buffer.returns).sum()  # the parameters were those that acted
    assert values["train/policy_gradient_loss"] == pytest.approx(expected, rel=1e-4)
    assert [info["l"] for info in agent.ep_info_buffer or []] == [3] * 4


def test_tensorboard_and_progress_bar_work(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    agent = agent_of(task, tensorboard_log=str(tmp_path))
    agent.learn(12, progress_bar=True)
    assert list(tmp_path.glob("REINFORCE_1/events*"))


def test_set_env_changes_the_environment_and_checks_its_spaces(task: Task) -> None:
    agent = agent_of(task)
    agent.learn(12)
    with pytest.raises(AssertionError, match="number of environments"):
        agent.set_env(toy_env(task, 2, reward_mode="terminal"))
    with pytest.raises(ValueError, match="spaces do not match"):
        agent.set_env(make_sequence_vec_env("SeqGAN-Toy-v0", 4, sequence_length=4))
    other = toy_env(task, 4, reward_mode="terminal", reward_model=ConstantReward(0.125))
    agent.set_env(other)
    assert agent.get_env() is other
    agent.learn(12)
    assert agent.rollout_buffer.rewards[-1].tolist() == [0.125] * 4


@pytest.mark.parametrize("policy", ["LSTMPolicy", "SequencePolicy", "MlpPolicy", SequencePolicy])
def test_policies_have_names(policy: Any) -> None:
    agent = REINFORCE(policy, "SeqGAN-Toy-v0", device="cpu", seed=0)
    assert isinstance(agent.policy, SequencePolicy)


def test_an_environments_id_is_enough() -> None:
    agent = REINFORCE("LSTMPolicy", "SeqGAN-Toy-v0", device="cpu", seed=0)
    assert isinstance(agent.get_env(), DummyVecEnv)
    assert (agent.gamma, agent.n_steps, agent.n_envs) == (0.0, 3, 1)
    agent.learn(6)
    assert agent.num_timesteps == 6
    assert agent._n_updates == 2


def test_evaluate_policy_works_on_native_and_single_environments(task: Task) -> None:
    model = LSTMSequenceModel(3, 4, 4, init_std=2.0, seed=1)
    agent = REINFORCE(
        SequencePolicy, toy_env(task, reward_mode="terminal"), policy_kwargs={"generator": model}, device="cpu"
    )
    sequence = np.full((1, 3), 3)
    for t in range(3):
        sequence[:, t] = agent.predict(sequence, deterministic=True)[0]
    expected = float(TableReward()(torch.from_numpy(sequence)))
    single = ToyEnv(reward_model=TableReward(), reward_mode="terminal")
    for env in (toy_env(task, 2, reward_mode="terminal"), single):
        mean, deviation = evaluate_policy(agent, env, n_eval_episodes=4, deterministic=True, warn=False)
        assert mean == pytest.approx(expected, abs=1e-6)
        assert deviation == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"baseline": "critic"}, "baseline='critic' must be"),
        ({"loss_reduction": "max"}, "loss_reduction='max' must be"),
        ({"policy": "CnnPolicy"}, "Policy CnnPolicy unknown"),
    ],
)
def test_wrong_arguments_are_refused(keywords: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        REINFORCE(**{"policy": "LSTMPolicy", "env": "SeqGAN-Toy-v0", "device": "cpu"} | keywords)


def test_a_learning_rate_schedule_is_followed(task: Task) -> None:
    agent = agent_of(task, learning_rate=lambda remaining: 0.5 * remaining)
    agent.learn(24)
    assert agent.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    assert agent.lr_schedule(0.5) == 0.25
