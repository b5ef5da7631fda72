"""`policies`: sequence models as SB3 policies, SB3's own policies over prefixes, and both as roll-out policies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

from agents.discriminator_trainer import DiscriminatorTrainer, generator_of
from agents.policies import ActorRolloutPolicy, LastTokenExtractor, SequencePolicy, TokenPrefixExtractor
from agents.vec_env import make_sequence_vec_env
from seqgan_env.envs import action_space, observation_space
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from seqgan_env.testing import check_rollout_policy
from tests.toy_world import exact_next_token, sequence_probabilities

PREFIXES = torch.tensor([[3, 3, 3], [0, 3, 3], [2, 3, 3], [2, 1, 3], [0, 0, 3]])
EXTRACTOR: dict[str, Any] = {
    "features_extractor_class": TokenPrefixExtractor,
    "features_extractor_kwargs": {"features_dim": 8, "embedding_size": 4},
    "net_arch": [8],
}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], Any, dict[str, Any]]] = {
    "PPO": (PPO, "MlpPolicy", {"policy_kwargs": EXTRACTOR, "n_steps": 12, "batch_size": 12, "n_epochs": 1}),
    "PPO, SequencePolicy": (PPO, SequencePolicy, {"n_steps": 12, "batch_size": 12, "n_epochs": 1}),
    "A2C": (A2C, "MlpPolicy", {"policy_kwargs": EXTRACTOR, "n_steps": 12}),
    "A2C, SequencePolicy": (A2C, SequencePolicy, {"n_steps": 12}),
    "DQN": (
        DQN,
        "MlpPolicy",
        {"policy_kwargs": EXTRACTOR, "learning_starts": 24, "train_freq": 12, "batch_size": 12, "buffer_size": 100},
    ),
}
CONTRIB = {
    "RecurrentPPO": ("MlpLstmPolicy", {"n_steps": 12, "batch_size": 12, "n_epochs": 1}),
    "MaskablePPO": ("MlpPolicy", {"n_steps": 12, "batch_size": 12, "n_epochs": 1}),
    "TRPO": ("MlpPolicy", {"n_steps": 12, "batch_size": 12}),
}


def policy_of(task: Task, model: LSTMSequenceModel | None = None) -> SequencePolicy:
    return SequencePolicy(observation_space(task), action_space(task), lambda _: 1e-3, generator=model)


@pytest.fixture
def policy(task: Task, model: LSTMSequenceModel) -> SequencePolicy:
    return policy_of(task, model)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_the_policys_distribution_is_the_generators_next_token(
    policy: SequencePolicy, model: LSTMSequenceModel, dtype: torch.dtype
) -> None:
    """Also after SB3 has cast the observation to float."""
    probabilities = policy.get_distribution(PREFIXES.to(dtype)).distribution.probs
    expected = np.stack([exact_next_token(model, prefix[prefix < 3]) for prefix in PREFIXES])
    assert expected.std(axis=0).min() > 0.05  # the prefixes differ, so that a wrong one shows
    np.testing.assert_allclose(probabilities.detach().numpy(), expected, atol=1e-6)


def test_forward_gives_drawn_actions_zero_values_and_their_log_probabilities(policy: SequencePolicy) -> None:
    torch.manual_seed(0)
    actions, values, log_probs = policy(PREFIXES)
    assert actions.shape == (5,)
    assert actions.dtype == torch.int64
    assert torch.equal(values, torch.zeros(5, 1))  # the head starts at 0
    torch.testing.assert_close(log_probs, policy.get_distribution(PREFIXES).log_prob(actions))


def test_actions_are_drawn_from_the_generator(policy: SequencePolicy, model: LSTMSequenceModel) -> None:
    torch.manual_seed(0)
    actions, _, _ = policy(torch.tensor([[2, 1, 3]]).expand(20_000, 3))
    expected = exact_next_token(model, torch.tensor([2, 1]))
    counts = np.bincount(actions, minlength=3)
    standard_error = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(counts / 20_000 - expected) < 4 * standard_error).all()


def test_evaluate_actions_agrees_with_whole_sequences(policy: SequencePolicy, model: LSTMSequenceModel) -> None:
    sequences = enumerate_sequences(3, 3)
    expected = model.log_probs(sequences)
    for t in range(3):
        prefixes = torch.cat([sequences[:, :t], torch.full((27, 3 - t), 3)], dim=1)
        _, log_probs, entropy = policy.evaluate_actions(prefixes, sequences[:, t].float())
        torch.testing.assert_close(log_probs, expected[:, t])
        assert entropy is not None
        exact = -sum(p * np.log(p) for p in exact_next_token(model, sequences[0, :t]))
        assert entropy[0].item() == pytest.approx(exact, abs=1e-5)


def test_values_are_those_of_the_head_on_the_state_after_the_prefix(policy: SequencePolicy) -> None:
    torch.nn.init.normal_(policy.value_net.weight)
    values = policy.predict_values(PREFIXES)
    assert torch.unique(values).numel() == 5
    torch.testing.assert_close(policy(PREFIXES)[1], values)
    torch.testing.assert_close(policy.evaluate_actions(PREFIXES, torch.zeros(5))[0], values)


def test_predict_takes_one_observation_or_many(policy: SequencePolicy, model: LSTMSequenceModel) -> None:
    one, state = policy.predict(np.array([2, 1, 3]), deterministic=True)
    many, _ = policy.predict(PREFIXES.numpy(), deterministic=True)
    assert one.shape == ()
    assert state is None
    assert many.shape == (5,)
    expected = [exact_next_token(model, prefix[prefix < 3]).argmax() for prefix in PREFIXES]
    assert many.tolist() == expected
    assert one == expected[3]
    torch.manual_seed(1)
    drawn = {int(policy.predict(np.array([3, 3, 3]))[0]) for _ in range(50)}
    assert len(drawn) > 1


def test_a_given_generator_is_played_with_not_copied(policy: SequencePolicy, model: LSTMSequenceModel) -> None:
    assert policy.generator is model


def test_without_a_generator_one_is_made_from_sb3s_seed(task: Task) -> None:
    parameters = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        parameters.append(policy_of(task).generator.embedding.detach().clone())
    assert torch.equal(parameters[0], parameters[1])
    assert not torch.equal(parameters[0], parameters[2])
    assert parameters[0].shape == (3, 32)


def test_a_policy_survives_its_own_save_and_load(policy: SequencePolicy, tmp_path: Path) -> None:
    policy.save(str(tmp_path / "policy"))
    loaded = SequencePolicy.load(str(tmp_path / "policy"))
    torch.testing.assert_close(
        loaded.get_distribution(PREFIXES).distribution.probs, policy.get_distribution(PREFIXES).distribution.probs
    )


def test_other_spaces_and_vocabularies_are_refused(task: Task, model: LSTMSequenceModel) -> None:
    with pytest.raises(ValueError, match=r"action_space=Box.*must be Discrete\(V\)"):
        SequencePolicy(observation_space(task), spaces.Box(0, 1, (2,)), lambda _: 1e-3)
    with pytest.raises(ValueError, match="generator has vocab_size=3, the environment 4 actions"):
        SequencePolicy(observation_space(task), spaces.Discrete(4), lambda _: 1e-3, generator=model)


# SB3's own policies.


@pytest.fixture
def extractor(task: Task) -> TokenPrefixExtractor:
    torch.manual_seed(0)
    return TokenPrefixExtractor(observation_space(task), 8, 4)


def test_the_extractor_tells_all_prefixes_apart_and_reads_floats_as_ids(extractor: TokenPrefixExtractor) -> None:
    everything = torch.cat([PREFIXES, enumerate_sequences(3, 3)])
    features = extractor(everything)
    assert features.shape == (32, 8)
    distance = torch.cdist(features, features) + torch.eye(32)
    assert distance.min() > 1e-4
    torch.testing.assert_close(extractor(everything.float()), features)


def test_the_extractor_stops_at_the_prefixs_end(extractor: TokenPrefixExtractor) -> None:
    """What PAD's embedding does after the end must not matter: only its place as the start symbol does."""
    one = extractor(torch.tensor([[2, 1, 3]]))
    gru_alone, _ = extractor.gru(extractor.embedding(torch.tensor([[3, 2, 1]])))
    torch.testing.assert_close(one, gru_alone[:, -1])


@pytest.mark.parametrize(
    ("name", "face"),
    [(name, "native") for name in ALGORITHMS] + [(name, "single environments by id") for name in ("PPO", "DQN")],
)
def test_sb3s_algorithms_play_the_adversarial_game_unchanged(name: str, face: str) -> None:
    algorithm, policy, keywords = ALGORITHMS[name]
    env_keywords = {"reward_mode": "potential", "n_rollouts": 2}
    if face == "native":
        env = make_sequence_vec_env("SeqGAN-Toy-v0", 2, **env_keywords)
    else:
        env = make_vec_env("SeqGAN-Toy-v0", 2, env_kwargs=env_keywords)
    discriminator = CNNDiscriminator(3, 3, ((1, 4), (2, 4)))
    before = discriminator.output.weight.detach().clone()
    trainer = DiscriminatorTrainer(discriminator, d_steps=1, k_epochs=1, sample_size=32, batch_size=16)
    agent = algorithm(policy, env, seed=0, device="cpu", **keywords)
    parameters = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()
    agent.learn(144, trainer)
    assert trainer.rounds == 144 // (2 * 12)
    assert not torch.equal(discriminator.output.weight, before)
    assert not torch.equal(torch.nn.utils.parameters_to_vector(agent.policy.parameters()), parameters)
    assert trainer.last_report is not None
    assert np.isfinite(trainer.last_report.loss)
    action, _ = agent.predict(np.array([2, 1, 3]))
    assert 0 <= int(action) < 3


@pytest.mark.parametrize("name", CONTRIB)
def test_sb3_contribs_algorithms_play_the_adversarial_game_unchanged(name: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    policy, keywords = CONTRIB[name]
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 2, reward_mode="potential", n_rollouts=2)
    trainer = DiscriminatorTrainer(CNNDiscriminator(3, 3, ((1, 4),)), d_steps=1, k_epochs=1, sample_size=32)
    agent = getattr(contrib, name)(policy, env, seed=0, device="cpu", policy_kwargs=EXTRACTOR, **keywords)
    agent.learn(120, trainer)
    assert trainer.rounds == 120 // (2 * 12)
    assert trainer.last_report is not None


@pytest.mark.parametrize("name", ["PPO, SequencePolicy", "A2C, SequencePolicy"])
def test_sb3s_learners_learn_what_the_reward_model_likes(name: str) -> None:
    algorithm, policy, keywords = ALGORITHMS[name]
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 8, reward_mode="terminal", reward_model=ShareOfTwos())
    agent = algorithm(policy, env, learning_rate=3e-2, seed=0, device="cpu", **keywords)
    agent.learn(8 * 12 * 25)
    assert isinstance(agent.policy, SequencePolicy)
    samples = sample_sequences(agent.policy.generator, 500, 3, np.random.default_rng(0))
    assert (samples == 2).float().mean() > 0.7


class ShareOfTwos:
    def __call__(self, sequences: torch.Tensor, /) -> torch.Tensor:
        return (sequences == 2).float().mean(dim=1)


# SB3's policies as roll-out policies.


@pytest.fixture
def actor() -> ActorRolloutPolicy:
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 1, reward_mode="terminal")
    agent = PPO("MlpPolicy", env, policy_kwargs=EXTRACTOR, seed=0, device="cpu")
    with torch.no_grad():
        agent.policy.action_net.weight.mul_(500)  # SB3 begins almost uniform
    return ActorRolloutPolicy(agent.policy)


def test_an_actor_as_rollout_policy_carries_its_prefix_as_state(actor: ActorRolloutPolicy) -> None:
    assert isinstance(actor, RolloutPolicy)
    first = actor.initial_state(2)
    second = actor.advance(first, torch.tensor([1, 2]))
    third = actor.advance(second, torch.tensor([0, 0]))
    assert first[0].tolist() == [[3, 3, 3]] * 2
    assert second[0].tolist() == [[1, 3, 3], [2, 3, 3]]
    assert third[0].tolist() == [[1, 0, 3], [2, 0, 3]]
    full = actor.advance(actor.advance(third, torch.tensor([1, 1])), torch.tensor([2, 2]))
    assert full[0].tolist() == [[1, 0, 1], [2, 0, 1]]  # a finished sequence stays as it is


def test_an_actor_as_rollout_policy_draws_what_the_actor_would(actor: ActorRolloutPolicy) -> None:
    sequences = enumerate_sequences(3, 3)
    log_probs = torch.zeros(27, 3)
    for t in range(3):
        prefixes = torch.cat([sequences[:, :t], torch.full((27, 3 - t), 3)], dim=1)
        distribution = actor.policy.get_distribution(prefixes)
        log_probs[:, t] = distribution.log_prob(sequences[:, t]).detach()
    expected = log_probs.double().sum(dim=1).exp().numpy()
    assert expected.std() > 0.01
    samples = sample_sequences(actor, 20_000, 3, np.random.default_rng(0))
    index = (samples * torch.tensor([9, 3, 1])).sum(dim=1)
    shares = np.bincount(index, minlength=27) / 20_000
    standard_error = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(shares - expected) < 4 * standard_error + 1e-9).all()


# Every kind of policy through the one adaptor.


def played_by(name: str) -> ActorRolloutPolicy:
    """The roll-out policy of an agent, far from uniform; by chance, since nothing is learned."""
    algorithms = {"PPO": PPO, "DQN": DQN}
    algorithm = algorithms[name] if name in algorithms else getattr(pytest.importorskip("sb3_contrib"), name)
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 1, reward_mode="terminal")
    kwargs, policy, keywords = dict(EXTRACTOR), "MlpPolicy", {}
    if name == "RecurrentPPO":
        reader = {"features_extractor_class": LastTokenExtractor, "features_extractor_kwargs": {"features_dim": 4}}
        kwargs, policy = reader | {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [8]}, "MlpLstmPolicy"
    if name in ("DQN", "QRDQN"):
        keywords["buffer_size"] = 10
    agent = algorithm(policy, env, policy_kwargs=kwargs, seed=0, device="cpu", **keywords)
    agent.exploration_rate, agent.num_timesteps = 0.3, 1000
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    found = generator_of(agent)
    assert isinstance(found, ActorRolloutPolicy)
    return found


KINDS = ("PPO", "DQN", "TRPO", "MaskablePPO", "RecurrentPPO", "QRDQN")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_policy_passes_the_checks_of_rollout_policies(name: str) -> None:
    """Forked states among them: for RecurrentPPO they hold the LSTM's memory."""
    check_rollout_policy(played_by(name))


@pytest.mark.parametrize("name", KINDS)
def test_a_delayed_copy_plays_the_same_until_it_is_told_to_follow(name: str) -> None:
    policy = played_by(name)
    sequences = enumerate_sequences(3, 3)
    before = policy.log_probs(sequences)
    copied = policy.delayed_copy()
    with torch.no_grad():
        for parameter in policy.policy.parameters():
            parameter.mul_(-0.5)
    policy.exploration_rate = 0.6
    assert torch.equal(copied.log_probs(sequences), before)
    assert not torch.allclose(policy.log_probs(sequences), before)
    copied.follow(policy)
    assert torch.equal(copied.log_probs(sequences), policy.log_probs(sequences))


@pytest.mark.parametrize("name", ["DQN", "QRDQN"])
def test_a_value_based_policy_plays_the_best_token_and_explores_at_its_rate(name: str) -> None:
    policy = played_by(name)
    action, _ = policy.policy.predict(np.array([[2, 1, 3]]), deterministic=True)
    state = (torch.tensor([[2, 1, 3]]),)
    probabilities = torch.softmax(policy._logits(state), dim=1)[0]
    expected = [0.1, 0.1, 0.1]
    expected[int(action[0])] = 0.8  # 1 - 0.3 + 0.3 / 3
    assert probabilities.tolist() == pytest.approx(expected)
    policy.exploration_rate = 0.0
    uniforms = torch.rand(1, 100)
    assert (policy.draw(state, uniforms) == int(action[0])).all()


def test_a_recurrent_policy_draws_what_its_agent_would(task: Task) -> None:
    """Token by token through `predict` and its own memory, as an environment would ask."""
    policy = played_by("RecurrentPPO")
    rows = 5000
    torch.manual_seed(0)
    sequences, memory = np.full((rows, 3), 3), None
    for t in range(3):
        starts = np.full(rows, t == 0)
        sequences[:, t], memory = policy.policy.predict(sequences, memory, starts)
    expected = policy.log_probs(enumerate_sequences(3, 3)).double().sum(dim=1).exp().numpy()
    assert expected.std() > 0.01
    shares = np.bincount(sequences @ np.array([9, 3, 1]), minlength=27) / rows
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / rows) + 1e-9).all()


def test_a_policy_without_distribution_or_action_values_is_refused(policy: SequencePolicy) -> None:
    with pytest.raises(TypeError, match="SimpleNamespace has neither get_distribution nor q_net"):
        ActorRolloutPolicy(SimpleNamespace())  # type: ignore[arg-type]


def test_the_last_tokens_reader_reads_the_last_token_alone() -> None:
    box: Any = spaces.Box(0, 3, (3,), np.int64)
    extractor = LastTokenExtractor(box, 4)
    rows = torch.tensor([[3, 3, 3], [1, 3, 3], [2, 1, 3], [0, 2, 1], [0, 0, 2]])
    expected = extractor.embedding(torch.tensor([3, 1, 1, 1, 2]))
    assert torch.equal(extractor(rows), expected)
    assert torch.equal(extractor(rows.float()), expected)


def test_a_sequence_policy_and_its_generator_sample_alike(policy: SequencePolicy, model: LSTMSequenceModel) -> None:
    """Token by token through SB3's `predict`, as an environment would ask."""
    torch.manual_seed(0)
    sequences = np.full((20_000, 3), 3)
    for t in range(3):
        sequences[:, t], _ = policy.predict(sequences)
    expected = sequence_probabilities(model, enumerate_sequences(3, 3))
    shares = np.bincount(sequences @ np.array([9, 3, 1]), minlength=27) / 20_000
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000) + 1e-9).all()
