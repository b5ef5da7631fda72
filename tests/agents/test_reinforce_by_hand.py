"""`reinforce`: settings, refusals, the weights of cut sequences, logged numbers and the state, each by hand."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from stable_baselines3.common import base_class
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecFrameStack
from torch import Tensor

from agents.learner_options import LearnerConfig
from agents.learner_state import resume_episodes
from agents.reinforce import REINFORCE, subtract_baseline
from agents.vec_env import SequenceVecEnv
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.tasks.task import Task
from tests.toy_world import TableReward


def toy_env(task: Task, num_envs: int = 2, reward_mode: str = "terminal") -> SequenceVecEnv:
    return SequenceVecEnv(
        SequenceVectorEnv(task, num_envs, reward_model=TableReward(), reward_mode=reward_mode, n_rollouts=2)
    )


def agent_of(task: Task, reward_mode: str = "terminal", **keywords: Any) -> REINFORCE:
    return REINFORCE("LSTMPolicy", toy_env(task, reward_mode=reward_mode), **{"seed": 0, "device": "cpu"} | keywords)


def vector(agent: REINFORCE) -> Tensor:
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


# Settings.


def test_the_defaults_are_the_authors(task: Task) -> None:
    agent = REINFORCE("LSTMPolicy", toy_env(task))  # also without a seed and a device
    assert (agent.learning_rate, agent.baseline, agent.loss_reduction) == (1e-2, "none", "sum")
    assert (agent.ent_coef, agent.vf_coef, agent.max_grad_norm, agent.gae_lambda) == (0.0, 0.5, 5.0, 1.0)
    assert (agent.n_steps, agent.gamma, agent.verbose, agent.use_sde) == (3, 1.0, 0, False)
    assert (agent._stats_window_size, agent.tensorboard_log, agent.planned_timesteps) == (100, None, None)
    agent.learn(6)
    assert agent.ep_info_buffer is not None
    assert agent.ep_info_buffer.maxlen == 100


def test_settings_reach_sb3(task: Task) -> None:
    agent = agent_of(task, stats_window_size=7, verbose=1, n_steps=5, vf_coef=0.25, ent_coef=0.125, max_grad_norm=3.0)
    assert (agent._stats_window_size, agent.verbose, agent.n_steps) == (7, 1, 5)
    assert (agent.vf_coef, agent.ent_coef, agent.max_grad_norm) == (0.25, 0.125, 3.0)
    assert agent.rollout_buffer.buffer_size == 5
    assert agent.rollout_buffer.gae_lambda == 1.0
    assert agent_of(task, device="meta", _init_setup_model=False).device.type == "meta"


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        (
            {"baseline": "critic"},
            ValueError,
            r"^baseline='critic' must be one of \('none', 'step_mean', 'value', 'comp",
        ),
        ({"learning_rate": -0.1}, ValueError, r"^learning_rate=-0\.1 must"),
        ({"learning_rate": float("nan")}, ValueError, "^learning_rate=nan must"),
        ({"n_steps": 0}, ValueError, "^n_steps=0 must"),
        ({"n_steps": 1.5}, TypeError, r"^n_steps=1\.5 must"),
        ({"gamma": -0.1}, ValueError, r"^gamma=-0\.1 must"),
        ({"gamma": 1.1}, ValueError, r"^gamma=1\.1 must"),
        ({"ent_coef": float("inf")}, ValueError, "^ent_coef=inf must"),
        ({"vf_coef": -1.0}, ValueError, r"^vf_coef=-1\.0 must"),
        ({"max_grad_norm": 0.0}, ValueError, r"^max_grad_norm=0\.0 must"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(
    keywords: dict[str, Any], error: type[Exception], match: str, task: Task
) -> None:
    with pytest.raises(error, match=match):
        agent_of(task, **keywords)


def test_the_ends_of_the_ranges_are_allowed(task: Task) -> None:
    agent_of(task, learning_rate=0.0, gamma=1.0, vf_coef=0.0, ent_coef=-1.0, max_grad_norm=1e-9, n_steps=1)
    agent_of(task, "action_value", gamma=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"^learner\.batch_size=0 must be at least 1"),
        ({"learning_rate": -0.1}, r"^learner\.learning_rate=-0\.1 must be finite and not negative"),
        ({"max_grad_norm": 0.0}, r"^learner\.max_grad_norm=0\.0 must be above 0"),
    ],
)
def test_settings_of_a_run_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**changes)
    LearnerConfig(batch_size=1, learning_rate=0.0)


@pytest.mark.parametrize(
    ("mode", "gamma", "why"),
    [
        ("terminal", 0.0, "rewards are to be summed, and the last token alone learns. Use gamma=1, also in "
         "REINFORCE.load(..., gamma=1.0)."),
        ("potential", 0.0, "rewards are to be summed, and a token learns from its own Q_t - Q_{t-1}. Use gamma=1, also "
         "in REINFORCE.load(..., gamma=1.0)."),
        ("action_value", 0.5, "each reward already is the action value Q, which holds the whole future; summing them "
         "counts it many times. Use gamma=0, or reward_mode='potential'."),
    ],
)  # fmt: skip
def test_a_discount_that_does_not_fit_is_explained(mode: str, gamma: float, why: str, task: Task) -> None:
    with pytest.warns(UserWarning, match=r"^gamma=") as caught:
        agent_of(task, mode, gamma=gamma)
    assert [str(one.message) for one in caught] == [f"gamma={gamma} with reward_mode={mode!r}: {why}"]


def test_the_warning_of_a_discount_points_at_the_caller(task: Task) -> None:
    with pytest.warns(UserWarning, match=r"^gamma=") as caught:
        REINFORCE("LSTMPolicy", toy_env(task), gamma=0.0, device="cpu")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("mode", "gamma"), [("terminal", 1.0), ("terminal", 0.0), ("action_value", 0.5)])
def test_the_completions_baseline_needs_action_values_alone(mode: str, gamma: float, task: Task) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            ValueError, match=r"^baseline='completions' needs reward_mode='action_value' and gamma=0"
        ) as e:
            agent_of(task, mode, gamma=gamma, baseline="completions")
    assert f"{mode!r} and {gamma}: " in str(e.value)
    agent_of(task, "action_value", baseline="completions")


def test_a_wrapper_that_changes_the_width_is_named(task: Task) -> None:
    with pytest.raises(
        ValueError, match=r"^VecFrameStack gives observations of shape \(6,\), .* within \(3,\)\. "
    ) as e:
        REINFORCE("LSTMPolicy", VecFrameStack(toy_env(task), 2), device="cpu")
    assert str(e.value).endswith("leave out wrappers that stack or cut observations, such as VecFrameStack")


@pytest.mark.parametrize("force_reset", [None, True, False])
def test_a_new_environment_is_reset_unless_asked_otherwise(task: Task, force_reset: bool | None) -> None:
    agent = agent_of(task)
    agent.learn(6)
    keywords = {} if force_reset is None else {"force_reset": force_reset}
    agent.set_env(toy_env(task), **keywords)
    assert (agent._last_obs is None) is (force_reset is not False)


# Updates.


def noted_weights(agent: REINFORCE) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """What each update hands to the generator from now on; in training mode."""
    noted: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
    plain = agent.policy.generator.weighted_log_likelihood

    def weighted_log_likelihood(sequences: Tensor, weights: Tensor) -> Tensor:
        assert agent.policy.training
        noted.append((sequences.numpy().copy(), weights.numpy().copy()))
        return plain(sequences, weights)

    agent.policy.generator.weighted_log_likelihood = weighted_log_likelihood  # type: ignore[method-assign]
    return noted


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_what_a_cut_sequence_earns_reaches_its_earlier_tokens(task: Task, baseline: Any) -> None:
    """T = 4, updates of 3 steps: the second begins with each sequence's last token and ends within the next ones."""
    wide = Task("wide", 3, 4, task.real_sequences)
    env = SequenceVecEnv(SequenceVectorEnv(wide, 2, reward_model=TableReward(3, 4), reward_mode="terminal"))
    agent = REINFORCE("LSTMPolicy", env, n_steps=3, gamma=0.5, baseline=baseline, seed=0, device="cpu")
    if baseline == "value":
        torch.nn.init.constant_(agent.policy.value_net.bias, 0.3)
    noted = noted_weights(agent)
    agent.learn(6)
    first = noted[0][0]
    agent.learn(6, reset_num_timesteps=False)
    sequences, weights = noted[1]
    buffer = agent.rollout_buffer
    for column in range(2):
        own = int(np.flatnonzero((sequences[:, :3] == first[column, :3]).all(axis=1) & (sequences[:, 3] < 3))[0])
        reward = float(TableReward(3, 4)(torch.from_numpy(sequences[own : own + 1])))
        assert buffer.returns[0, column] == pytest.approx(reward)
        late = reward - (buffer.values[0, column] if baseline == "value" else 0.0)
        np.testing.assert_allclose(weights[own], [late / 8, late / 4, late / 2, late], rtol=1e-5)
    assert (np.abs(buffer.values) > 1e-3).any() == (baseline == "value")
    assert (agent.policy.training, weights.dtype) == (True, np.float32)


def test_the_numbers_of_an_update_are_logged(task: Task) -> None:
    agent = agent_of(task, baseline="value", max_grad_norm=1e-3)
    noted = noted_weights(agent)
    agent.learn(6)
    logged, buffer = agent.logger.name_to_value, agent.rollout_buffer
    assert logged["train/n_updates"] == 1
    assert "tensorboard" in agent.logger.name_to_excluded["train/n_updates"]
    assert logged["train/mean_weight"] == pytest.approx((buffer.returns - buffer.values).mean())
    assert logged["train/mean_weight"] == pytest.approx(noted[0][1].mean())
    assert logged["train/grad_norm"] > 1e-3  # before it was clipped
    expected = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
    assert logged["train/explained_variance"] == pytest.approx(expected)
    assert logged["train/value_loss"] == pytest.approx(((buffer.returns - buffer.values) ** 2).mean(), rel=1e-4)


def test_each_update_is_logged_unless_asked_otherwise(task: Task, tmp_path: Path) -> None:
    for interval, rows in ((None, 4), (2, 2)):
        agent = agent_of(task)
        agent.set_logger(configure(str(tmp_path / str(interval)), ["csv"]))
        agent.learn(24, **({} if interval is None else {"log_interval": interval}))
        assert len((tmp_path / str(interval) / "progress.csv").read_text().splitlines()) == 1 + rows


def test_there_is_a_progress_bar_where_one_is_asked_for(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[BaseCallback] = []

    class Bar(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def _on_step(self) -> bool:
            return True

    monkeypatch.setattr(base_class, "ProgressBarCallback", Bar)
    agent_of(task).learn(6)
    assert made == []
    agent_of(task).learn(6, progress_bar=True)
    assert len(made) == 1
    parameters = inspect.signature(REINFORCE.learn).parameters
    assert (parameters["tb_log_name"].default, parameters["reset_num_timesteps"].default) == ("REINFORCE", True)


def test_a_schedule_falls_over_the_planned_steps(task: Task) -> None:
    agent = agent_of(task, learning_rate=lambda remaining: remaining)
    agent.planned_timesteps = 24
    agent.learn(6)
    assert agent.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.75)
    agent.planned_timesteps = None
    agent.learn(12)
    assert agent.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_an_update_is_computed_where_the_policy_is_whatever_the_default_device(task: Task) -> None:
    agent = agent_of(task)
    agent.learn(6)
    before = vector(agent)
    with torch.device("meta"):
        agent.train()
    assert not torch.equal(vector(agent), before)


# The state.


def test_an_agent_with_anothers_state_goes_on_as_it_would(task: Task) -> None:
    first, second = agent_of(task), agent_of(task, seed=1)
    first.learn(12)
    state = first.state_dict()
    assert set(state) == {"policy", "optimizer", "num_timesteps", "n_updates"}
    second.load_state_dict(state)
    assert (second.num_timesteps, second._n_updates) == (12, 2)
    assert torch.equal(vector(second), vector(first))
    for agent in (first, second):
        agent.set_random_seed(5)
        agent.set_env(toy_env(task))
        agent.get_env().seed(9)  # type: ignore[union-attr]
        agent.learn(6, reset_num_timesteps=False)
    assert torch.equal(vector(second), vector(first))
    assert (second.num_timesteps, second._n_updates) == (18, 3)


def test_episodes_are_resumed_where_they_stood(task: Task) -> None:
    agent = agent_of(task)
    observations, starts = np.array([[0, 1, 3], [2, 3, 3]]), np.array([False, True])
    resume_episodes(agent, observations, starts)
    assert agent._last_obs is observations
    assert agent._last_episode_starts is starts


# Baselines on literal arrays.


def test_a_token_that_is_alone_at_its_step_has_no_weight_against_the_others() -> None:
    returns = np.array([[4.0, 2.0], [3.0, 7.0]], dtype=np.float32)
    step = np.array([[0, 0], [1, 2]])
    values = np.zeros((2, 2), dtype=np.float32)
    assert subtract_baseline(returns, step, values, "step_mean").tolist() == [[2.0, -2.0], [0.0, 0.0]]


def test_the_completions_baseline_takes_the_row_before_within_a_sequence_alone() -> None:
    returns = np.array([[4.0, 2.0], [3.0, 7.0], [5.0, 10.0], [1.0, 6.0]], dtype=np.float32)
    step = np.array([[0, 0], [1, 0], [2, 1], [0, 2]])
    weights = subtract_baseline(returns, step, np.zeros((4, 2), dtype=np.float32), "completions")
    others = {4.0: (2 + 7 + 1) / 3, 2.0: (4 + 7 + 1) / 3, 7.0: (4 + 2 + 1) / 3, 1.0: (4 + 2 + 7) / 3}
    expected = [
        [4 - others[4.0], 2 - others[2.0]], [3 - 4, 7 - others[7.0]], [5 - 3, 10 - 7], [1 - others[1.0], 6 - 10],
    ]  # fmt: skip
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
