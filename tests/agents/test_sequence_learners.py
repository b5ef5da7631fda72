"""Learners of whole sequences: gradients against enumeration, and all that SB3's algorithms can do."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from torch import Tensor

from agents.cot import CoT
from agents.ddo import DDO
from agents.discriminator_trainer import DiscriminatorTrainer
from agents.dpg import DPG
from agents.grpo import GRPO, clipped_gains, group_advantages
from agents.kl_ppo import KLPPO
from agents.policies import SequencePolicy
from agents.preference import PreferenceLearner
from agents.reinforce import REINFORCE
from agents.rloo import RLOO, leave_one_out
from agents.sequence_learner import SequenceLearner, finished_sequences
from agents.vec_env import SequenceVecEnv, make_sequence_vec_env
from agents.weighted_mle import WeightedMLE, logits_of
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, shift_right
from seqgan_env.rewards import ConstantReward
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from tests.marks import slow
from tests.toy_world import TableReward, mixed_length_task

EVERYTHING = enumerate_sequences(3, 3)
EOS = 2
ALL: tuple[type, ...] = (RLOO, GRPO, KLPPO, WeightedMLE, DPG, PreferenceLearner, DDO, CoT)
WHOLE: tuple[type[SequenceLearner], ...] = (RLOO, GRPO, WeightedMLE, DPG, PreferenceLearner, DDO, CoT)
TOKENS = ("terminal", "potential", "action_value")


def ending_early() -> Tensor:
    """The 15 sequences over three tokens of which token 2 ends a sequence, (15, 3), PAD = 3."""
    after = ((EVERYTHING == EOS).cumsum(dim=1) - (EVERYTHING == EOS).long()) > 0
    return torch.unique(EVERYTHING.masked_fill(after, 3), dim=0)


def log_likelihoods(model: SequenceModel, sequences: Tensor) -> Tensor:
    """log p of every token, (R, T), differentiable, 0 at PAD, by a plain softmax."""
    logits = model.output(model.hidden_states(shift_right(sequences, 3)))
    tokens = sequences.clamp(max=2).unsqueeze(2)
    return torch.log_softmax(logits, dim=2).gather(2, tokens).squeeze(2) * (sequences < 3)


def gradient(model: SequenceModel, objective: Tensor) -> Tensor:
    return torch.cat([g.flatten().double() for g in torch.autograd.grad(objective, list(model.parameters()))])


def flat_gradient(policy: SequencePolicy) -> Tensor:
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in policy.generator.parameters()]
    )


def new_model(seed: int = 5) -> LSTMSequenceModel:
    return LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=seed)


def moved(model: LSTMSequenceModel, std: float = 0.3) -> LSTMSequenceModel:
    """A copy with noise on its parameters."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return other


def env_of(task: Task, num_envs: int, **keywords: Any) -> SequenceVecEnv:
    keywords = {"reward_model": TableReward(), "reward_mode": "terminal", "n_rollouts": 1} | keywords
    return SequenceVecEnv(SequenceVectorEnv(task, num_envs, **keywords))


def still(kind: Callable[..., Any], env: SequenceVecEnv, model: SequenceModel, reference: SequenceModel | None = None,
          **keywords: Any) -> Any:  # fmt: skip
    """A learner that stands still (learning rate 0), with unclipped gradients and a given reference."""
    keywords = {"learning_rate": 0.0, "max_grad_norm": 1e9, "seed": 3, "device": "cpu", "n_epochs": 1} | keywords
    if kind is RLOO:
        del keywords["n_epochs"]
    agent = kind(SequencePolicy, env, policy_kwargs={"generator": model}, **keywords)
    if reference is not None:
        agent.reference.take(reference)
    return agent


def ascent_directions(agent: Any, updates: int) -> Tensor:
    """Minus the gradient of each update, (updates, parameters) float64."""
    found = []
    train = agent.train

    def record() -> None:
        train()
        found.append(-flat_gradient(agent.policy).double())

    agent.train = record
    agent.learn(updates * agent.n_envs * agent.n_steps)
    return torch.stack(found)


def assert_mean_is(directions: Tensor, expected: Tensor, deviations: float = 4.0, share: float = 0.2) -> None:
    error = directions.std(dim=0) / len(directions) ** 0.5
    assert error.norm() < share * expected.norm()  # else anything would pass
    assert ((directions.mean(dim=0) - expected).abs() <= deviations * error + 1e-8).all()


def world(ends_early: bool) -> tuple[Task, Tensor]:
    """A task of three tokens and steps, and all its sequences."""
    if not ends_early:
        return toy_task(), EVERYTHING
    sequences = ending_early()
    return Task("ends early", 3, 3, lambda split: sequences, eos_token=EOS), sequences


def mean_length(model: SequenceModel, sequences: Tensor) -> float:
    lengths = (sequences < 3).sum(dim=1)
    return (log_likelihoods(model, sequences).sum(dim=1).exp() * lengths).sum().item()


# Gradients against enumeration.


@pytest.mark.parametrize(
    ("mode", "kl_coef", "ends_early"),
    [
        ("action_value", 0.3, False),
        ("terminal", 0.0, True),
        slow("terminal", 0.0, False),
        slow("potential", 0.3, True),
    ],
)
def test_rloos_gradient_is_that_of_the_mean_reward_less_the_kl(mode: str, kl_coef: float, ends_early: bool) -> None:
    task, sequences = world(ends_early)
    model, reference = new_model(), new_model(8)
    log_p = log_likelihoods(model, sequences).sum(dim=1)
    drift = log_p - log_likelihoods(reference, sequences).sum(dim=1).detach()
    expected = gradient(model, (log_p.exp() * (TableReward()(sequences).float() - kl_coef * drift)).sum())
    env = env_of(task, 96, reward_mode=mode)
    agent = still(RLOO, env, model, reference if kl_coef else None, kl_coef=kl_coef)
    # A sequence of an environment takes `mean_length` steps, and the loss is divided as if it took T.
    assert_mean_is(ascent_directions(agent, 100) * mean_length(model, sequences) / 3, expected, 5 if ends_early else 4)


@pytest.mark.parametrize("kl_coef", [slow(0.0), 0.3])
def test_grpos_first_gradient_without_scaling_is_that_of_the_mean_reward_and_of_the_forward_kl(kl_coef: float) -> None:
    """Of k the gradient is that of KL(G_ref || G) at each prefix met, the prefixes' own distribution held."""
    model, reference = new_model(), new_model(8)
    log_p = log_likelihoods(model, EVERYTHING).sum(dim=1)
    expected = gradient(model, (log_p.exp() * TableReward()(EVERYTHING).float()).sum()) * (1 - 1 / 96)  # own mean
    hidden = model.hidden_states(shift_right(EVERYTHING, 3))
    log_g = torch.log_softmax(model.output(hidden), dim=2)  # (27, T, V)
    ref_hidden = reference.hidden_states(shift_right(EVERYTHING, 3))
    log_ref = torch.log_softmax(reference.output(ref_hidden), dim=2).detach()
    prefixes = log_likelihoods(model, EVERYTHING).sum(dim=1).exp().detach()
    forward_kl = (prefixes * (log_ref.exp() * (log_ref - log_g)).sum(dim=2).sum(dim=1)).sum()
    expected = expected - kl_coef * gradient(model, forward_kl)
    agent = still(
        GRPO, env_of(toy_task(), 96), model, reference if kl_coef else None, kl_coef=kl_coef, scale_rewards=False
    )
    assert_mean_is(ascent_directions(agent, 100) * 3, expected)  # the loss is a mean over T


def test_grpos_later_gradients_are_those_of_the_clipped_ratio() -> None:
    """On given sequences, after the generator has moved: a plain reading of the paper's equation."""
    model, old, reference = new_model(), moved(new_model()), new_model(8)
    agent = still(GRPO, env_of(world(True)[0], 4), copy.deepcopy(old), reference, kl_coef=0.1, clip_range=0.3)
    sequences = ending_early()
    rewards = TableReward()(sequences).float()
    batch = agent.batch_of(sequences, rewards, torch.arange(15))
    agent.policy.generator.load_state_dict(model.state_dict())
    agent._descend(batch)
    log_p, log_old, log_ref = (log_likelihoods(one, sequences) for one in (model, old, reference))
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    loss, clipped = torch.zeros(()), 0
    for i in range(15):
        length = int((sequences[i] < 3).sum())
        for t in range(length):
            ratio = (log_p[i, t] - log_old[i, t].detach()).exp()
            bounded = ratio.clamp(0.7, 1.3)
            clipped += int(bounded.item() != ratio.item())
            to_ref = log_ref[i, t].detach() - log_p[i, t]
            gain = torch.min(ratio * advantages[i], bounded * advantages[i]) - 0.1 * (to_ref.exp() - to_ref - 1)
            loss = loss - gain / length / 15
    assert 5 < clipped < (sequences < 3).sum() - 5
    torch.testing.assert_close(flat_gradient(agent.policy).double(), gradient(model, loss), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("mode", "kl_coef"), [slow("terminal", 0.0), ("potential", 0.3)])
def test_kl_ppos_first_gradient_is_that_of_the_mean_reward_less_the_kl(mode: str, kl_coef: float) -> None:
    model, reference = new_model(), new_model(8)
    log_p = log_likelihoods(model, EVERYTHING).sum(dim=1)
    drift = log_p - log_likelihoods(reference, EVERYTHING).sum(dim=1).detach()
    expected = gradient(model, (log_p.exp() * (TableReward()(EVERYTHING).float() - kl_coef * drift)).sum())
    plain = {"normalize_advantage": False, "gae_lambda": 1.0, "vf_coef": 0.0, "ent_coef": 0.0}
    agent = still(KLPPO, env_of(toy_task(), 96, reward_mode=mode), model, reference, kl_coef=kl_coef, **plain)
    torch.nn.init.normal_(agent.policy.value_net.weight, std=0.3)  # a baseline that is wrong is still a baseline
    assert_mean_is(ascent_directions(agent, 100) * 3, expected)  # the loss is a mean over steps


def test_kl_ppo_without_a_penalty_is_ppo() -> None:
    ends = []
    for kind, keywords in ((PPO, {"batch_size": 24, "gamma": 1.0, "n_epochs": 4}), (KLPPO, {"kl_coef": 0.0})):
        env = env_of(toy_task(), 8, reward_mode="potential")
        agent = kind(SequencePolicy, env, learning_rate=5e-3, n_steps=3, seed=0, device="cpu", **keywords)
        agent.learn(24 * 5)
        ends.append(torch.nn.utils.parameters_to_vector(agent.policy.parameters()))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_weighted_mles_gradient_is_the_weighted_likelihood_and_where_d_is_best_that_of_maximum_likelihood() -> None:
    """r = p_real / G makes E_G[r grad log G] the gradient of E_real[log G]."""
    model = new_model()
    real = moved(model)  # not far away: else a few rare sequences have nearly all the weight

    def logit(sequences: Tensor) -> Tensor:
        return (real.log_probs(sequences) - model.log_probs(sequences)).sum(dim=1)

    expected = gradient(
        model,
        (
            log_likelihoods(real, EVERYTHING).sum(dim=1).exp().detach() * log_likelihoods(model, EVERYTHING).sum(dim=1)
        ).sum(),
    )
    env = env_of(toy_task(), 256, reward_model=logit)
    agent = still(WeightedMLE, env, model, reward="logit", self_normalised=False)
    assert_mean_is(ascent_directions(agent, 150), expected)


def pair_gradient(model: SequenceModel) -> Tensor:
    """The expected gradient of MaliGAN's normalised weights over batches of two sequences, by all 27 * 27 of them."""
    reward = TableReward()
    log_p = log_likelihoods(model, EVERYTHING).sum(dim=1)
    ratios = (reward(EVERYTHING) / (1 - reward(EVERYTHING))).float()
    weights = ratios[:, None] / (ratios[:, None] + ratios[None]) - 0.5  # of the first of a pair
    pairs = log_p.exp().detach()[:, None] * log_p.exp().detach()[None]
    return gradient(model, (2 * pairs * weights * log_p[:, None]).sum())


def test_weighted_mles_normalised_gradient_over_all_pairs_is_the_enumerated_one() -> None:
    """Exactly: one update for each pair of different sequences, weighted with the pair's probability."""
    model, rewards = new_model(), TableReward()(EVERYTHING).float()
    p = log_likelihoods(model, EVERYTHING).sum(dim=1).exp().detach().double()
    expected = pair_gradient(model)
    agent = still(WeightedMLE, env_of(toy_task(), 2), model)
    agent.learn(0)
    mean = torch.zeros_like(expected)
    for first, second in itertools.combinations(range(len(EVERYTHING)), 2):  # a pair of equal ones has no gradient
        rows = torch.tensor([first, second])
        agent._descend(agent.batch_of(EVERYTHING[rows], rewards[rows], torch.tensor([0, 1])))
        mean -= 2 * p[first] * p[second] * flat_gradient(agent.policy).double()
    assert torch.allclose(mean, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.slow
def test_weighted_mles_normalised_gradient_of_played_pairs_is_the_enumerated_one() -> None:
    model = new_model()
    expected = pair_gradient(model)
    agent = still(WeightedMLE, env_of(toy_task(), 2), model)
    assert_mean_is(ascent_directions(agent, 3000), expected)


def test_preferences_gradient_is_the_enumerated_one_of_all_pairs_of_real_and_generated() -> None:
    model, reference, real = new_model(), new_model(8), new_model(9)
    task = toy_task(oracle=real, n_sequences=20_000)
    log_p = log_likelihoods(model, EVERYTHING).sum(dim=1)
    logits = 0.7 * (log_p - log_likelihoods(reference, EVERYTHING).sum(dim=1).detach())
    sequences = task.real_sequences("train")
    index = (sequences * torch.tensor([9, 3, 1])).sum(dim=1)
    p_real = torch.bincount(index, minlength=27) / len(index)
    pairs = p_real[:, None] * log_p.exp().detach()[None]
    expected = gradient(model, (pairs * torch.nn.functional.logsigmoid(logits[:, None] - logits[None])).sum())
    agent = still(
        PreferenceLearner, env_of(task, 96, reward_model="constant"), model, reference, beta=0.7,
        updates_per_reference=None,
    )  # fmt: skip
    assert_mean_is(ascent_directions(agent, 100), expected)


def test_preferences_gradient_at_its_reference_is_half_beta_times_that_of_maximum_likelihood() -> None:
    model, real = new_model(), new_model(9)
    p_real = log_likelihoods(real, EVERYTHING).sum(dim=1).exp().detach()
    expected = 0.35 * gradient(model, (p_real * log_likelihoods(model, EVERYTHING).sum(dim=1)).sum())
    chosen = torch.multinomial(p_real, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    env = env_of(toy_task(), 96, reward_model="constant")
    agent = still(PreferenceLearner, env, model, beta=0.7, real_sequences=EVERYTHING[chosen])
    assert_mean_is(ascent_directions(agent, 100), expected)


# Literal numbers.


def test_leave_one_out_on_literal_numbers() -> None:
    rewards = torch.tensor([1.0, 3.0, 8.0])
    assert leave_one_out(rewards, torch.tensor([0, 1, 2])).tolist() == [1 - 5.5, 3 - 4.5, 8 - 2.0]
    assert leave_one_out(rewards, torch.tensor([0, 0, 1])).tolist() == [1 - 8.0, 3 - 8.0, 8 - 2.0]
    assert leave_one_out(rewards, torch.tensor([0, 0, 0])).tolist() == [1 - 5.5, 3 - 4.5, 8 - 2.0]
    assert leave_one_out(torch.tensor([5.0]), torch.tensor([0])).tolist() == [0.0]


def test_group_advantages_on_literal_numbers() -> None:
    advantages = group_advantages(torch.tensor([1.0, 2.0, 3.0]), scale=True)
    torch.testing.assert_close(advantages, torch.tensor([-1.0, 0.0, 1.0]), rtol=1e-3, atol=0)
    assert group_advantages(torch.tensor([1.0, 2.0, 6.0]), scale=False).tolist() == [-2.0, -1.0, 3.0]
    assert group_advantages(torch.tensor([0.3, 0.3]), scale=True).tolist() == [0.0, 0.0]


def test_a_ratio_beyond_the_clip_range_brings_no_gain_but_still_costs() -> None:
    log_ratio = torch.tensor([[math.log(2.0), math.log(0.5)]])
    assert clipped_gains(log_ratio, torch.tensor([[1.0]]), 0.2).tolist() == [[pytest.approx(1.2), pytest.approx(0.5)]]
    assert clipped_gains(log_ratio, torch.tensor([[-1.0]]), 0.2).tolist() == [
        [pytest.approx(-2.0), pytest.approx(-0.8)]
    ]


def test_logits_of_probabilities_are_finite_and_others_are_refused() -> None:
    logits = logits_of(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    assert logits[1:3].tolist() == [pytest.approx(-math.log(3)), 0.0]
    assert torch.isfinite(logits).all()
    assert logits[0] < -15 < 15 < logits[3]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"is not in \[0, 1\].*reward='logit'"):
            logits_of(torch.tensor([0.5, wrong]))


def test_sequences_that_end_are_found_with_their_rewards_wherever_updates_cut_them() -> None:
    """Row 0 goes on from an earlier buffer with 10 earned; row 1 has a short episode and goes on after the buffer."""
    pad = 3
    observations = np.array(
        [[[1, pad, pad], [pad, pad, pad]], [[1, 0, pad], [0, pad, pad]], [[pad, pad, pad], [pad, pad, pad]]]
    )
    actions = np.array([[0, 0], [1, 2], [2, 1]])
    starts = np.array([[0, 1], [0, 0], [1, 1]])
    rewards = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    common = (observations, actions, rewards, starts, np.array([1, 0]), np.array([10.0, 20.0]), 3)
    sequences, returns, columns, begun = finished_sequences(*common)
    assert sequences.tolist() == [[1, 0, 1], [0, 2, pad], [2, pad, pad]]
    assert returns.tolist() == [14.0, 6.0, 5.0]
    assert columns.tolist() == [0, 1, 0]
    assert begun.tolist() == [0.0, 6.0]
    assert finished_sequences(*common, last_reward_counts=True)[1].tolist() == [3.0, 4.0, 5.0]


@pytest.mark.parametrize("mode", TOKENS)
def test_each_sequence_is_learned_from_once_and_with_its_own_reward(mode: str) -> None:
    """Of sequences of all lengths, cut by updates of four steps."""
    reward = TableReward(6, 7)
    env = env_of(mixed_length_task(), 8, reward_model=reward, reward_mode=mode)
    agent = RLOO("LSTMPolicy", env, n_steps=14, learning_rate=0.0, seed=0, device="cpu")
    agent.n_steps = agent.rollout_buffer.buffer_size = 4
    seen: list[Any] = []
    loss = agent.loss
    agent.loss = lambda log_probs, batch: seen.append(batch) or loss(log_probs, batch)  # type: ignore[method-assign]
    ended: list[np.ndarray] = []
    agent.learn(
        8 * 4 * 20, lambda local, _: ended.extend(i["sequence"] for i in local["infos"] if "sequence" in i) or True
    )
    learned = torch.cat([batch.sequences for batch in seen])
    assert sorted(learned.tolist()) == sorted(map(list, ended))
    rewards = torch.cat([batch.rewards for batch in seen])
    torch.testing.assert_close(rewards, reward(learned).float(), rtol=1e-5, atol=1e-6)
    assert len({int((row < 6).sum()) for row in learned}) == 7


# What SB3's own algorithms are checked for, and more.


def small(kind: Callable[..., Any], task: Task | None = None, **keywords: Any) -> Any:
    env = env_of(task or toy_task(), 4, reward_mode="terminal" if kind is not KLPPO else "potential")
    return kind("LSTMPolicy", env, **{"seed": 0, "device": "cpu"} | keywords)


def parameters(agent: Any) -> Tensor:
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


@pytest.mark.parametrize("kind", ALL)
def test_a_seed_reproduces(kind: Any) -> None:
    ends = [parameters(small(kind, seed=seed).learn(60)) for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("kind", ALL)
def test_sequences_of_mixed_lengths_are_learned_from(kind: Any) -> None:
    reward = TableReward(6, 7)
    env = env_of(mixed_length_task(), 8, reward_model=reward, reward_mode="potential" if kind is KLPPO else "terminal")
    agent = kind("LSTMPolicy", env, seed=0, device="cpu")
    before = parameters(agent)
    agent.learn(8 * 7 * 3)
    assert torch.isfinite(parameters(agent)).all()
    assert not torch.equal(parameters(agent), before)


@pytest.mark.parametrize("kind", ALL)
def test_one_learn_is_the_adversarial_game(kind: Any) -> None:
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 8, seed=0, reward_mode="potential" if kind is KLPPO else "terminal")
    discriminator = CNNDiscriminator(3, 3, ((1, 4), (2, 4)))
    trainer = DiscriminatorTrainer(discriminator, d_steps=1, k_epochs=1, sample_size=16, batch_size=16)
    agent = kind("LSTMPolicy", env, seed=0, device="cpu").learn(8 * 3 * 3, trainer)
    assert trainer.rounds == 3
    assert torch.isfinite(parameters(agent)).all()


@pytest.mark.parametrize("kind", ALL)
def test_saving_keeps_everything_and_a_loaded_learner_goes_on_alike(kind: Any, tmp_path: Path) -> None:
    first = small(kind)
    first.learn(24)
    first.save(tmp_path / "agent")
    second = kind.load(tmp_path / "agent", env=small(kind).get_env(), device="cpu")
    assert torch.equal(parameters(second), parameters(first))
    if first.reference is not None:
        assert bool(second.reference.taken)
        for name, tensor in first.reference.state_dict().items():
            assert torch.equal(second.reference.state_dict()[name], tensor)
    ends = []
    for agent in (first, second):
        agent.set_random_seed(7)
        agent._last_obs = None  # a reset takes the seed
        ends.append(parameters(agent.learn(36, reset_num_timesteps=False)))
    assert torch.equal(*ends)
    alone = kind.load(tmp_path / "agent", device="cpu")
    assert alone.predict(np.full((2, 3), 3), deterministic=True)[0].shape == (2,)


@pytest.mark.parametrize("kind", ALL)
def test_a_state_that_is_loaded_into_a_new_learner_goes_on_as_the_first_would_have(kind: Any) -> None:
    """In the midst of sequences: mixed lengths, cut by updates."""
    keywords = {"kl_coef": 0.1} if kind in (RLOO, GRPO, KLPPO) else {}
    first, second = (
        kind(
            "LSTMPolicy",
            env_of(mixed_length_task(), 4, reward_model=TableReward(6, 7)),
            seed=seed,
            device="cpu",
            **keywords,
        )
        for seed in (0, 1)
    )
    first.learn(4 * 7 * 3)
    second.learn(4 * 7)
    state = copy.deepcopy(first.state_dict())  # as from a file
    assert {"policy", "optimizer", "num_timesteps", "n_updates", "reference"} <= state.keys()
    second.load_state_dict(state)
    ends = []
    for agent in (first, second):
        agent.set_random_seed(7)
        agent._last_obs = None
        ends.append(parameters(agent.learn(4 * 7 * 3, reset_num_timesteps=False)))
    assert torch.equal(*ends)
    assert first.num_timesteps == second.num_timesteps
    assert first._n_updates == second._n_updates


@pytest.mark.parametrize("kind", [RLOO, GRPO, KLPPO])
def test_the_reference_is_the_generator_when_the_first_learn_begins_and_stays(kind: Any) -> None:
    agent = small(kind, kl_coef=0.1)
    torch.nn.init.normal_(agent.policy.generator.embedding)  # as maximum likelihood moves it
    expected = agent.policy.generator.embedding.detach().clone()
    agent.learn(24)
    agent.learn(24, reset_num_timesteps=False)
    assert torch.equal(agent.reference.generator.embedding, expected)
    assert not torch.equal(agent.policy.generator.embedding, expected)
    agent.take_reference()
    assert torch.equal(agent.reference.generator.embedding, agent.policy.generator.embedding)


@pytest.mark.parametrize(("every", "moves"), [(1, True), (3, True), (5, False), (None, False)])
def test_preferences_reference_follows_after_its_number_of_updates(every: int | None, moves: bool) -> None:
    agent = small(PreferenceLearner, updates_per_reference=every)
    first = agent.policy.generator.output.bias.detach().clone()
    agent.learn(12 * 3)
    assert torch.equal(agent.reference.generator.output.bias, first) == (not moves)
    assert torch.equal(agent.reference.generator.output.bias, agent.policy.generator.output.bias) == moves


@pytest.mark.parametrize("kind", ALL)
def test_the_logger_tensorboard_the_bar_and_evaluation_work(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    agent = small(kind, tensorboard_log=str(tmp_path))
    agent.learn(24, progress_bar=True)
    assert list(tmp_path.glob(f"{kind.__name__}_1/events*"))
    assert math.isfinite(agent.logger.name_to_value["train/loss"])
    mean, _ = evaluate_policy(agent, env_of(toy_task(), 2), n_eval_episodes=4, warn=False)
    assert 0 < mean < 1


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("policy", ["LSTMPolicy", "SequencePolicy", "MlpPolicy", SequencePolicy])
def test_policies_have_names(kind: Any, policy: Any) -> None:
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 2, reward_mode="terminal")
    assert isinstance(kind(policy, env, device="cpu").policy, SequencePolicy)


OWN_SETTINGS = {
    RLOO: ("learning_rate", "max_grad_norm", "kl_coef", "n_steps"),
    GRPO: ("learning_rate", "max_grad_norm", "kl_coef", "clip_range", "n_epochs", "n_steps"),
    KLPPO: ("learning_rate", "max_grad_norm", "kl_coef", "clip_range", "n_epochs", "n_steps", "batch_size"),
    WeightedMLE: ("learning_rate", "max_grad_norm", "n_epochs", "n_steps"),
    PreferenceLearner: ("learning_rate", "max_grad_norm", "beta", "n_epochs", "n_steps", "updates_per_reference"),
    DPG: ("learning_rate", "n_epochs", "temperature"),
    DDO: ("learning_rate", "alpha", "beta", "updates_per_reference"),
    CoT: (
        *("learning_rate", "future_weight", "mediator_steps", "mediator_pretraining", "mediator_learning_rate"),
        *("mediator_weight_decay", "mediator_dropout"),
    ),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OWN_SETTINGS.items() for name in names])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "fast"])
def test_settings_that_are_no_finite_numbers_in_range_are_refused(kind: Any, name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{name}="):
        small(kind, **{name: value})


def test_other_wrong_arguments_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"less than 2 sequences of 3 tokens per update; .* n_steps=6"):
        RLOO("LSTMPolicy", "SeqGAN-Toy-v0", device="cpu")
    with pytest.raises(ValueError, match="reward='odds' must be"):
        small(WeightedMLE, reward="odds")
    with pytest.raises(ValueError, match="batch_size=5 must divide the 12 steps"):
        small(KLPPO, batch_size=5)
    with pytest.raises(ValueError, match="has no reference; give it a coefficient above 0"):
        small(RLOO).take_reference()
    with pytest.raises(ValueError, match=r"real_sequences has shape \(5, 2\), expected \(K, 3\)"):
        small(PreferenceLearner, real_sequences=torch.zeros(5, 2, dtype=torch.int64)).learn(12)
    with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
        WeightedMLE("LSTMPolicy", env_of(toy_task(), 4, reward_model=ConstantReward(2.0)), device="cpu").learn(12)
    with pytest.warns(UserWarning, match="reward_mode='action_value'"):
        KLPPO("LSTMPolicy", env_of(toy_task(), 4, reward_mode="action_value"), device="cpu")


def test_one_environment_with_enough_steps_is_a_group() -> None:
    agent = RLOO("LSTMPolicy", "SeqGAN-Toy-v0", n_steps=12, device="cpu", seed=0)
    before = parameters(agent)
    agent.learn(24)
    assert not torch.equal(parameters(agent), before)


@pytest.mark.parametrize("kind", WHOLE)
def test_an_update_in_which_no_sequence_ends_changes_nothing(kind: Any) -> None:
    agent = small(kind, n_steps=3)
    agent.n_steps = agent.rollout_buffer.buffer_size = 1
    before = parameters(agent)
    agent.learn(8)
    assert torch.equal(parameters(agent), before)
    agent.learn(4, reset_num_timesteps=False)
    assert agent._n_updates == 1
    assert isinstance(agent, REINFORCE)
