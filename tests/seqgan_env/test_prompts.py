"""Tasks with prompts: the environment, the search, the masks and the measures, against enumeration.

In the echo world every token of a right response equals the prompt. So wherever a prompt is paired with the response of
another row, a row of tokens is no longer constant, and a test sees it.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from torch import Tensor

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env import mdp as mdp_module
from seqgan_env.components import build_generator, build_reward_model
from seqgan_env.envs import SequenceEnv, SequenceVectorEnv
from seqgan_env.exact import ExactWorld
from seqgan_env.measures.likelihood import measure_samples, negative_log_likelihood, nll_per_token, token_counts
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, State
from seqgan_env.rewards import OracleReward
from seqgan_env.rollout_policies import UniformPolicy, sample_sequences
from seqgan_env.tasks.conditional import conditional_task
from seqgan_env.tasks.task import Task, restored_task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import check_sequence_model, check_task
from tests.toy_world import TableReward

ROWS, T, V = 5, 4, 4


class EchoPolicy:
    """Repeats the first token of its prefix; its state is this token, so the state of another row shows."""

    vocab_size = V

    def initial_state(self, batch_size: int) -> State:
        return (torch.full((batch_size,), -1),)

    def advance(self, state: State, tokens: Tensor) -> State:
        return (torch.where(state[0] < 0, tokens, state[0]),)

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return state[0].unsqueeze(1).expand(uniforms.shape).clone()


class EchoReward:
    """1 for a sequence of equal tokens, 0 for any other; remembers the batches that it scored."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __call__(self, sequences: Tensor, /) -> Tensor:
        self.batches.append(sequences.clone())
        return is_constant(sequences).double()


def is_constant(sequences: Tensor) -> Tensor:
    return (sequences == sequences[:, :1]).all(dim=1)


def echoes(split: str, count: int = 40) -> Tensor:
    tokens = torch.from_numpy(np.random.default_rng(len(split)).integers(V, size=count))
    return tokens.unsqueeze(1).repeat(1, T)


def echo_task() -> Task:
    return Task("echo", V, T, echoes, prompt_length=1)


def model_of(task: Task, seed: int = 7, std: float = 1.0) -> SequenceModel:
    return build_generator("lstm", task, embedding_size=3, hidden_size=4, init_std=std, seed=seed)


# --- episodes ------------------------------------------------------------------------------------------------------


def test_an_episode_begins_with_the_prompt_of_a_training_sequence_and_has_the_steps_of_a_response() -> None:
    task = conditional_task()
    env = SequenceEnv(task, reward_model="oracle", reward_mode="terminal")
    first = [env.reset(seed=seed)[0] for seed in range(30)]
    assert {int(row[0]) for row in first} == {0, 1, 2}
    assert all((row[1:] == task.pad_token).all() for row in first)
    assert (env.reset(seed=3)[0] == first[3]).all()
    steps = [env.step(0)[2] for _ in range(3)]
    assert steps == [False, False, True]
    with pytest.raises(ValueError, match="call reset"):
        env.step(0)


def test_a_given_prompt_begins_the_episode_as_text_or_as_ids() -> None:
    env = SequenceEnv(conditional_task(), reward_model="oracle", reward_mode="terminal")
    for prompt in ("b", [1], np.array([1])):
        assert env.reset(options={"prompt": prompt})[0].tolist() == [1, 3, 3, 3]
    for token in (0, 2, 2):
        info = env.step(token)[4]
    assert (info["prompt"], info["text"], info["sequence"].tolist()) == ("b", "a c c", [1, 0, 2, 2])
    oracle = env.task.oracle
    assert oracle is not None
    assert info["oracle_nll"] == pytest.approx(-oracle.log_probs(torch.tensor([[1, 0, 2, 2]])).sum().item() / 3)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([1, 2], ValueError, r"expected \(1,\)"),
        ([3], ValueError, r"0\.\.2"),
        ([-1], ValueError, r"0\.\.2"),
        ([0.5], TypeError, "token ids"),
        ("z", ValueError, "not in this vocabulary"),
    ],
)
def test_a_prompt_that_the_task_does_not_have_is_refused_and_changes_nothing(
    prompt: Any, error: type[Exception], message: str
) -> None:
    env = SequenceEnv(conditional_task(), reward_model="oracle")
    before = env.reset(seed=0)[0]
    with pytest.raises(error, match=message):
        env.reset(options={"prompt": prompt})
    assert (env.mdp.tokens[0] == before).all()


def test_a_task_without_prompts_refuses_one_and_a_vector_wants_one_for_each_row() -> None:
    with pytest.raises(TypeError, match="reset option 'prompt' is unknown"):
        SequenceEnv(toy_task()).reset(options={"prompt": "a"})
    env = SequenceVectorEnv(conditional_task(), 3)
    with pytest.raises(ValueError, match="2 entries for num_envs=3"):
        env.reset(options={"prompt": ["a", "b"]})
    assert env.reset(options={"prompt": "c"})[0][:, 0].tolist() == [2, 2, 2]
    assert env.reset(seed=1, options={"prompt": ["a", None, "b"]})[0][[0, 2], 0].tolist() == [0, 1]
    some = {"prompt": ["a", "b", "c"], "reset_mask": np.array([False, False, True])}
    assert env.reset(options=some)[0][[0, 2], 0].tolist() == [0, 2]


def test_the_registered_environment_passes_gymnasiums_check_and_a_step_before_reset_is_refused() -> None:
    env = gym.make("SeqGAN-Conditional-v0", reward_model="oracle", n_rollouts=2)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    with pytest.raises(ValueError, match="call reset"):
        SequenceEnv(conditional_task()).step(0)


@pytest.mark.parametrize("length", [-1, 4, 5])
def test_a_prompt_must_leave_room_for_a_response(length: int) -> None:
    with pytest.raises(ValueError, match=r"prompt_length=-?\d must lie in 0\.\.3"):
        Task("wrong", 3, 4, echoes, prompt_length=length)


def test_check_task_refuses_a_prompt_with_an_end_in_it() -> None:
    rows = torch.tensor([[3, 4, 4, 4], [0, 1, 3, 4]])
    task = Task("ends", 4, 4, lambda split: rows + 0, eos_token=3, prompt_length=1)
    with pytest.raises(ValueError, match=r"sequence 0 has the prompt \[3\]"):
        check_task(task)


# --- the pairing of prompts and responses --------------------------------------------------------------------------


def play_echoes(mode: AutoresetMode, reward: EchoReward, steps: int = 14) -> list[float]:
    """Answer every prompt with itself; the rewards of all steps that were no reset."""
    env = SequenceVectorEnv(
        echo_task(), ROWS, reward_model=reward, rollout_policy=EchoPolicy(), n_rollouts=3, autoreset_mode=mode
    )
    observations, _ = env.reset(seed=0)
    env.reset(options={"reset_mask": np.array([True, False, True, False, False])})  # rows at different places
    observations, earned = env.mdp.tokens.copy(), []
    for _ in range(steps):
        ended = env.mdp.finished.copy()
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, _ = env.reset(options={"reset_mask": ended})
            ended[:] = False
        observations, rewards, *_ = env.step(observations[:, 0])
        earned += rewards[~ended].tolist()
    return earned


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_no_step_reset_or_search_pairs_a_response_with_another_prompt(mode: AutoresetMode) -> None:
    reward = EchoReward()
    earned = play_echoes(mode, reward)
    assert len(earned) > 40
    assert set(earned) == {1.0}
    assert all(bool(is_constant(batch).all()) for batch in reward.batches)
    assert len(torch.unique(torch.cat(reward.batches), dim=0)) == V


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_echo_world_sees_states_of_other_prompts(mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch) -> None:
    right = mdp_module.state_after
    monkeypatch.setattr(mdp_module, "state_after", lambda policy, prompts: right(policy, prompts.roll(1, 0)))
    assert set(play_echoes(mode, EchoReward())) > {1.0}


@pytest.mark.parametrize("count", [7, 40, 95])
def test_samples_continue_their_own_prompts_each_as_often_as_it_occurs(count: int) -> None:
    task = echo_task()
    samples = task.sample(EchoPolicy(), count, np.random.default_rng(0), "validation")
    assert samples.shape == (count, T)
    assert is_constant(samples).all()
    real = torch.bincount(task.prompts("validation").flatten(), minlength=V)
    drawn = torch.bincount(samples[:, 0], minlength=V)
    assert (drawn >= count // 40 * real).all()
    assert (drawn <= -(-count // 40) * real).all()


def test_samples_of_several_batches_keep_their_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqgan_env.rollout_policies._SAMPLE_BATCH", 3)
    prompts = torch.arange(10).remainder(V).unsqueeze(1)
    samples = sample_sequences(EchoPolicy(), 10, T, np.random.default_rng(0), prompts=prompts)
    assert torch.equal(samples, prompts.repeat(1, T))


# --- exact values --------------------------------------------------------------------------------------------------


def test_the_world_of_prompts_has_their_probabilities_and_a_distribution_for_each() -> None:
    task = conditional_task()
    world = ExactWorld.of(task)
    assert len(world) == 81
    oracle = task.oracle
    assert oracle is not None
    for prompt in range(3):
        rows = world.beginning_with([prompt])
        share = float((task.prompts("train") == prompt).double().mean())
        assert world.probabilities(oracle)[rows].sum() == pytest.approx(share, abs=1e-6)
    responses = [world.probabilities(oracle)[world.beginning_with([p])] for p in range(3)]
    responses = [part / part.sum() for part in responses]
    assert np.abs(responses[0] - responses[1]).sum() > 0.2  # a response depends on its prompt


def test_the_oracle_of_the_task_draws_what_its_likelihood_says() -> None:
    task = conditional_task(n_sequences=20_000)
    world = ExactWorld.of(task)
    expected = world.probabilities(task.oracle)  # type: ignore[arg-type]
    index = (task.real_sequences("train") * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    seen = np.bincount(index.numpy(), minlength=81) / 20_000
    assert np.abs(seen - expected).max() < 4 * np.sqrt(expected.max() / 20_000)


def test_search_values_of_every_prefix_are_the_enumerated_ones() -> None:
    task, n = conditional_task(), 4_000
    world, reward, policy = ExactWorld.of(task), TableReward(3, 4), model_of(task)
    env = SequenceVectorEnv(
        task, len(world), reward_model=reward, rollout_policy=policy, n_rollouts=n, autoreset_mode="Disabled"
    )
    prompts = [row[:1] for row in world.sequences.tolist()]
    env.reset(seed=0, options={"prompt": prompts})
    exact = world.action_values(reward, policy)
    assert not exact[:, 0].any()
    for t in range(1, 4):
        rewards = env.step(world.sequences[:, t].numpy())[1]
        errors = [
            world.action_value(row[: t + 1], reward, policy).deviation / np.sqrt(n) for row in world.sequences.tolist()
        ]
        assert (np.abs(rewards - exact[:, t]) <= 4.5 * np.array(errors) + 1e-6).all()


def test_potential_rewards_of_a_response_add_up_to_the_reward_of_the_sequence() -> None:
    task, reward = conditional_task(), TableReward(3, 4)
    env = SequenceEnv(task, reward_model=reward, reward_mode="potential", n_rollouts=2)
    env.reset(seed=5)
    steps = [env.step(token) for token in (2, 0, 1)]
    total = sum(step[1] for step in steps)
    assert total == pytest.approx(reward(torch.from_numpy(steps[-1][0][None])).item())


def test_log_probs_losses_and_gradients_leave_the_prompt_out() -> None:
    task = conditional_task()
    model, sequences = model_of(task), task.real_sequences("train")[:50]
    plain = LSTMSequenceModel(3, 3, 4, 1.0, 7)
    counted, everything = model.log_probs(sequences), plain.log_probs(sequences)
    assert not counted[:, 0].any()
    torch.testing.assert_close(counted[:, 1:], everything[:, 1:])
    weights = torch.rand(sequences.shape, generator=torch.Generator().manual_seed(0))
    total = model.weighted_log_likelihood(sequences, weights)
    assert total.item() == pytest.approx((weights * counted).sum().item(), rel=1e-5)
    total.backward()
    plain.weighted_log_likelihood(sequences, weights * torch.tensor([0.0, 1, 1, 1])).backward()
    for own, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad)
    assert torch.equal(model.counted(sequences), task.response_mask(sequences))


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer", "attention"])
def test_every_generator_counts_the_response_alone(kind: str) -> None:
    task = conditional_task(sequence_length=5, prompt_length=2)
    model = build_generator(kind, task, seed=1)
    assert model.prompt_length == 2
    assert not model.log_probs(task.real_sequences("test"))[:, :2].any()
    assert model.at_temperature(0.5).prompt_length == 2


@pytest.mark.parametrize("kind", ["model", "uniform"])
def test_nlls_and_kls_over_all_sequences_are_the_enumerated_ones(kind: str) -> None:
    task = conditional_task()
    world, oracle = ExactWorld.of(task), task.oracle
    assert oracle is not None
    policy: Any = model_of(task) if kind == "model" else UniformPolicy(3)

    def expected(model: Any, weights: np.ndarray) -> float:  # all nats over all tokens
        nll, counts = negative_log_likelihood(model, world.sequences, 1), token_counts(world.sequences, 3, 1)
        assert set(counts) == {3}
        return float(weights @ (nll * counts) / (weights @ counts))

    p, g = world.probabilities(oracle), world.probabilities(policy)
    assert expected(policy, p) == pytest.approx(world.nll(oracle, policy), abs=1e-6)
    assert expected(oracle, g) - expected(policy, g) == pytest.approx(world.kl(policy, oracle), abs=1e-6)
    assert expected(policy, p) - expected(oracle, p) == pytest.approx(world.kl(oracle, policy), abs=1e-6)


def test_sampled_measures_agree_with_the_enumerated_ones() -> None:
    task = conditional_task(n_sequences=4_000)
    world, model = ExactWorld.of(task), model_of(task)
    measured = task.measures().measure(model, 20_000, np.random.default_rng(0)).metrics
    assert task.oracle is not None
    for estimate, exact in (
        (measured.nll_oracle, world.nll(model, task.oracle)),
        (measured.nll_test, world.nll(task.oracle, model)),
        (measured.entropy, world.entropy(model)),
        (measured.kl_from_oracle, world.kl(model, task.oracle)),
        (measured.kl_to_oracle, world.kl(task.oracle, model)),
    ):
        assert estimate is not None
        assert abs(estimate.mean - exact) < 5 * estimate.standard_error  # prompts of the splits differ a little, too
    assert nll_per_token(model, task.real_sequences("test"), 1).mean == measured.nll_test.mean  # type: ignore[union-attr]
    copied = measure_samples(model, task.real_sequences("test"), task.real_sequences("test"), None, 1)
    assert copied.distinct == len(torch.unique(task.real_sequences("test")[:, 1:], dim=0)) / 4_000


def test_the_best_policy_answers_each_prompt_best() -> None:
    task, reward = conditional_task(), TableReward(3, 4)
    world = ExactWorld.of(task)
    chosen = world.probabilities(world.best_policy(reward))
    for prompt in range(3):
        rows = np.flatnonzero(world.beginning_with([prompt]))
        assert chosen[rows].argmax() == world.rewards(reward)[rows].argmax()
    anchored = world.best_policy(reward, task.oracle, 0.5)
    tilted = world.probabilities(task.oracle) * np.exp(world.rewards(reward) / 0.5)  # type: ignore[arg-type]
    for prompt in range(3):
        rows = world.beginning_with([prompt])
        own = world.probabilities(anchored)[rows]
        np.testing.assert_allclose(own / own.sum(), tilted[rows] / tilted[rows].sum(), rtol=1e-4)


def test_a_world_with_prompts_and_eos_ends_at_an_eos_of_the_response() -> None:
    world = ExactWorld(3, 4, 2, torch.tensor([[0], [1], [1]]))
    assert len(world) == 2 * (1 + 2 * (1 + 2 * 3))
    assert set(world.lengths) == {1, 2, 3}
    assert world.prompt_probabilities[[0, -1]].tolist() == pytest.approx([1 / 3, 2 / 3])


# --- rewards and storage -------------------------------------------------------------------------------------------


def test_the_oracles_reward_and_bleu_count_the_response_alone() -> None:
    task = conditional_task()
    sequences = task.real_sequences("test")[:20]
    reward = OracleReward(task.oracle)(sequences)  # type: ignore[arg-type]
    log_probs = task.oracle.log_probs(sequences)[:, 1:]  # type: ignore[union-attr]
    torch.testing.assert_close(reward, log_probs.mean(dim=1).exp())
    bleu = build_reward_model("bleu", task)
    other = sequences.clone()
    other[:, 0] = (other[:, 0] + 1) % 3
    assert torch.equal(bleu(sequences), bleu(other))


def test_a_stored_task_keeps_its_prompts_and_one_without_has_no_trace_of_them() -> None:
    task = conditional_task()
    copy = restored_task(task.state(), task.tensors(), task.draw_split)
    assert (copy.prompt_length, copy.oracle.prompt_length) == (1, 1)  # type: ignore[union-attr]
    assert torch.equal(copy.oracle.log_probs(copy.real_sequences("test")),  # type: ignore[union-attr]
                       task.oracle.log_probs(task.real_sequences("test")))  # type: ignore[union-attr]  # fmt: skip
    assert "prompt_length" not in toy_task().state()


def test_rendering_shows_the_prompt_without_a_value() -> None:
    env = SequenceEnv(conditional_task(), reward_model="oracle", n_rollouts=2, render_mode="ansi")
    env.reset(options={"prompt": "b"})
    env.step(0)
    lines = env.render().splitlines()
    assert lines[0] == "t = 2/4"
    assert lines[1].split() == ["token", "b", "a"]
    assert lines[2].split()[1] == "-"


class CountsPrompts(LSTMSequenceModel):
    """A generator with a fault: it does not know of prompts."""

    def counted(self, sequences: Tensor) -> Tensor:
        return sequences < self.vocab_size


def test_a_generator_of_ones_own_must_leave_the_prompt_out() -> None:
    assert build_generator(CountsPrompts(3, 4, 4), toy_task()).prompt_length == 0
    with pytest.raises(ValueError, match=r"CountsPrompts\.log_probs is not 0 at a prompt"):
        build_generator(CountsPrompts(3, 4, 4), conditional_task())
    check_sequence_model(model_of(conditional_task()))
