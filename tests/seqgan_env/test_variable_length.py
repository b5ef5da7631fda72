"""Sequences that end early: a batch of mixed lengths gives what its sequences give one by one, cut to their lengths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.components import (
    DISCRIMINATORS,
    GENERATORS,
    build_discriminator,
    build_generator,
    build_reward_model,
)
from seqgan_env.envs import SequenceEnv, SequenceVectorEnv
from seqgan_env.mdp import SequenceMDP
from seqgan_env.measures.bleu import BLEU
from seqgan_env.measures.likelihood import Estimate, estimate, measure_generator, negative_log_likelihood, nll_per_token
from seqgan_env.models.discriminators import CNNDiscriminator, Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import NGramPolicy, sample_sequences
from seqgan_env.tasks.task import Task
from tests.toy_world import cut_to_length, mixed_length_task

V, T, EOS = 6, 7, 5


@pytest.fixture
def task() -> Task:
    return mixed_length_task()


@pytest.fixture
def sequences(task: Task) -> Tensor:
    return task.real_sequences("train")


@pytest.fixture(params=GENERATORS)
def generator(request: pytest.FixtureRequest, task: Task) -> SequenceModel:
    return build_generator(request.param, task, embedding_size=4, hidden_size=4, init_std=1.0, seed=1)


@pytest.fixture(params=[*DISCRIMINATORS, "ensemble"])
def discriminator(request: pytest.FixtureRequest, task: Task) -> Discriminator:
    options = {"filters": ((1, 3), (2, 4), (5, 2), (7, 2)), "embedding_size": 4, "hidden_size": 3, "seed": 2}
    return build_discriminator(request.param, task, **options, dropout=0.0).eval()


def gradients(model: torch.nn.Module, loss: Tensor) -> Tensor:
    """Of all parameters, one after another."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


# Generators.


def test_likelihoods_stop_at_the_end(generator: SequenceModel, sequences: Tensor) -> None:
    together = generator.log_probs(sequences)
    assert bool((together[sequences == V] == 0).all())
    for row, alone in zip(together, cut_to_length(sequences, V), strict=True):
        torch.testing.assert_close(row[: alone.shape[1]], generator.log_probs(alone)[0], atol=1e-5, rtol=1e-5)


def test_the_weighted_likelihood_and_its_gradient_stop_at_the_end(generator: SequenceModel, sequences: Tensor) -> None:
    """MLE and the policy gradient in one: whatever weights stand at PAD are ignored."""
    weights = torch.rand(sequences.shape, generator=torch.Generator().manual_seed(0)) + 0.1
    together = generator.weighted_log_likelihood(sequences, weights)
    one_by_one = torch.stack(
        [
            generator.weighted_log_likelihood(alone, row[: alone.shape[1]].unsqueeze(0))
            for alone, row in zip(cut_to_length(sequences, V), weights, strict=True)
        ]
    ).sum()
    torch.testing.assert_close(together, one_by_one)
    expected = gradients(generator, one_by_one)
    torch.testing.assert_close(gradients(generator, together), expected, atol=1e-4, rtol=1e-4)
    assert expected.abs().max() > 1


def test_samples_have_eos_once_at_their_end_and_pad_behind_it(generator: SequenceModel) -> None:
    samples = sample_sequences(generator, 300, T, np.random.default_rng(0), EOS)
    lengths = (samples < V).sum(dim=1)
    assert len(lengths.unique()) > 4
    for row, length in zip(samples.tolist(), lengths.tolist(), strict=True):
        assert row[length:] == [V] * (T - length)
        assert EOS not in row[: length - 1]
        assert row[length - 1] == EOS or length == T


def test_an_ngram_policy_learns_nothing_from_pad(sequences: Tensor) -> None:
    policy = NGramPolicy(sequences, V, order=2, backoff=1e-9)
    real = [row[row < V].tolist() for row in sequences]
    pairs = {pair for row in real for pair in pairwise(row)}
    drawn = sample_sequences(policy, 500, T, np.random.default_rng(0), EOS)
    for row in drawn:
        tokens = row[row < V].tolist()
        assert set(pairwise(tokens)) <= pairs


# Discriminators and rewards.


def test_a_discriminator_scores_a_batch_as_its_sequences_one_by_one(
    discriminator: Discriminator, sequences: Tensor
) -> None:
    together, with_gradient = discriminator.score(sequences), discriminator(sequences)
    one_by_one = torch.cat([discriminator(row.unsqueeze(0)) for row in sequences])
    for scores in (together, with_gradient):
        torch.testing.assert_close(scores, one_by_one, atol=1e-5, rtol=1e-5)
    assert one_by_one.std() > 1e-3


def test_a_discriminators_gradient_is_the_sum_of_its_sequences_gradients(
    discriminator: Discriminator, sequences: Tensor
) -> None:
    together = gradients(discriminator, discriminator(sequences).square().sum())
    one_by_one = sum(gradients(discriminator, discriminator(row.unsqueeze(0)).square().sum()) for row in sequences)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-4)
    assert together.abs().max() > 0.1


@pytest.mark.parametrize("kind", [*DISCRIMINATORS, "ensemble"])
def test_a_discriminators_score_does_not_depend_on_how_much_pad_follows(
    kind: str, task: Task, sequences: Tensor
) -> None:
    longer = Task("longer", V, T + 6, task.draw_split, eos_token=EOS)
    options = {"filters": ((1, 3), (2, 4), (5, 2), (7, 2)), "embedding_size": 4, "hidden_size": 3, "seed": 2}
    short, long = (build_discriminator(kind, one, **options).eval() for one in (task, longer))
    parameters = dict(short.named_parameters())
    for name, parameter in long.named_parameters():  # learned positions: those of the longer task, and some more
        with torch.no_grad():
            parameter[: len(parameters[name])] = parameters[name]
    padded = torch.nn.functional.pad(sequences, (0, 6), value=V)
    for repeats in (1, 40):  # by `forward` and by tables
        torch.testing.assert_close(
            long.score(padded.repeat(repeats, 1)), short.score(sequences.repeat(repeats, 1)), atol=1e-5, rtol=1e-5
        )


def test_windows_of_a_cnn_do_not_reach_beyond_the_end() -> None:
    """With features below 0 everywhere, a window of PAD, or with PAD in it, would be the greatest."""
    model = CNNDiscriminator(V, T, filters=((1, 1), (2, 1)), embedding_size=1, dropout=0.0).eval()
    with torch.no_grad():
        model.embedding.weight[:V] = 1.0
        for kernel in model.windows.kernels:
            kernel.fill_(-1.0)
        model.windows.bias.fill_(10.0)  # so that the relu passes everything
    pooled: list[Tensor] = []
    model.highway.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0]))
    batch = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [0, 1, 5, 6, 6, 6, 6], [5, 6, 6, 6, 6, 6, 6]])
    model(batch)
    model.score(batch)
    for features in pooled:
        # One embedding, or two; a sequence of one token has one window of two, with nothing behind the token.
        assert features.tolist() == [[9.0, 8.0], [9.0, 8.0], [9.0, 9.0]]
    assert len(pooled) == 2


@pytest.mark.parametrize("reward", ["bleu", "oracle", "discriminator", "constant"])
def test_rewards_of_a_batch_are_those_of_its_sequences_one_by_one(reward: str, task: Task, sequences: Tensor) -> None:
    model = build_reward_model(reward, task)
    one_by_one = torch.cat([model(row.unsqueeze(0)) for row in sequences])
    torch.testing.assert_close(model(sequences), one_by_one, atol=1e-6, rtol=1e-5)
    assert one_by_one.std() > 1e-4 or reward == "constant"


def test_bleu_does_not_see_pad(sequences: Tensor, task: Task) -> None:
    references = task.real_sequences("test")
    bleu = BLEU(references.numpy(), V, smoothing="epsilon")
    wider = BLEU(np.pad(references.numpy(), ((0, 0), (0, 3)), constant_values=V), V, smoothing="epsilon")
    one_by_one = [bleu.sentences(alone.numpy())[0] for alone in cut_to_length(sequences, V)]
    for scores in (bleu.sentences(sequences.numpy()), wider.sentences(sequences.numpy())):
        np.testing.assert_allclose(scores, one_by_one)
    assert np.ptp(one_by_one) > 0.3


# Search and environment.


@pytest.mark.parametrize("reward", ["discriminator", "bleu"])
def test_a_batch_of_episodes_gives_what_they_give_one_by_one(
    generator: SequenceModel, reward: str, task: Task, sequences: Tensor
) -> None:
    """Each row plays one real sequence after another, so that rows come to stand at different steps."""
    rows, per_row = 4, 5
    scripts = [torch.cat(cut_to_length(sequences[row * per_row :][:per_row], V), dim=1)[0] for row in range(rows)]
    steps = min(map(len, scripts))
    options = {"reward_model": build_reward_model(reward, task), "rollout_policy": generator, "n_rollouts": 3}

    def play(chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
        mdp = SequenceMDP(task, len(chosen), **options)
        rngs = [np.random.default_rng(row) for row in chosen]
        mdp.reset()
        rewards, ends = [], []
        for step in range(steps):
            rewards.append(mdp.step(np.array([int(scripts[row][step]) for row in chosen]), rngs))
            ends.append(mdp.finished.copy())
            if mdp.finished.any():
                mdp.reset(mdp.finished.copy())
        return np.array(rewards), np.array(ends)

    together, ends = play(list(range(rows)))
    assert 0 < ends.sum() < ends.size
    assert len({tuple(column) for column in ends.T}) == rows  # out of phase
    for row in range(rows):
        alone, own_ends = play([row])
        np.testing.assert_array_equal(own_ends[:, 0], ends[:, row])
        np.testing.assert_allclose(alone[:, 0], together[:, row], atol=1e-5)


def test_an_episode_ends_at_eos_and_the_observation_says_where() -> None:
    env = SequenceEnv(mixed_length_task(), reward_model="constant")
    env.reset(seed=0)
    assert not env.step(2)[2]
    observation, _, terminated, truncated, info = env.step(EOS)
    assert (terminated, truncated) == (True, False)
    assert observation.tolist() == [2, EOS, V, V, V, V, V]
    assert info["sequence"].tolist() == observation.tolist()
    assert info["text"] == "c"
    with pytest.raises(ValueError, match="has finished"):
        env.step(0)


def test_rows_of_a_vector_environment_end_on_their_own() -> None:
    envs = SequenceVectorEnv(mixed_length_task(), 3, reward_model="constant", autoreset_mode="SameStep")
    envs.reset(seed=0)
    ends = []
    for actions in ([EOS, 0, 0], [0, EOS, 0], [0, EOS, 0]):
        observations, _, terminations, _, _ = envs.step(np.array(actions))
        ends.append(terminations.tolist())
    assert ends == [[True, False, False], [False, True, False], [False, True, False]]
    assert [int((row < V).sum()) for row in observations] == [2, 0, 3]
    assert envs.action_masks().shape == (3, V)


# Measures.


def test_nll_is_all_nats_over_all_tokens(generator: SequenceModel, sequences: Tensor) -> None:
    alone = [generator.log_probs(one).double().sum().item() for one in cut_to_length(sequences, V)]
    tokens = int((sequences < V).sum())
    measured = nll_per_token(generator, sequences)
    assert measured.mean == pytest.approx(-sum(alone) / tokens, rel=1e-5)
    of_sequences = negative_log_likelihood(generator, sequences).mean()
    assert abs(measured.mean - of_sequences) > measured.standard_error / 10  # it is not the mean of the means


def test_all_measures_are_ratios_of_sums(generator: SequenceModel, task: Task) -> None:
    test = task.real_sequences("test")
    metrics = measure_generator(
        generator, test, np.random.default_rng(1), oracle=task.oracle, n_samples=200, eos_token=EOS
    )
    samples = sample_sequences(generator, 200, T, np.random.default_rng(1), EOS)

    def nats(model: SequenceModel, rows: Tensor) -> float:
        return -model.log_probs(rows).double().sum().item() / int((rows < V).sum())

    assert task.oracle is not None
    expected = {
        "nll_oracle": nats(task.oracle, samples),
        "nll_test": nats(generator, test),
        "entropy": nats(generator, samples),
        "kl_from_oracle": nats(task.oracle, samples) - nats(generator, samples),
        "kl_to_oracle": nats(generator, test) - nats(task.oracle, test),
    }
    for name, value in expected.items():
        assert getattr(metrics, name).mean == pytest.approx(value, rel=1e-5), name
    assert metrics.perplexity == pytest.approx(np.exp(expected["nll_test"]), rel=1e-5)


def test_the_error_of_a_ratio_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 30, size=(4000, 50))
    values = 2 + 3 / tokens + rng.normal(size=tokens.shape) / np.sqrt(tokens)  # short sequences cost more a token
    estimates = [estimate(*draw) for draw in zip(values, tokens, strict=True)]
    spread = np.std([one.mean for one in estimates])
    assert np.mean([one.standard_error for one in estimates]) == pytest.approx(spread, rel=0.05)
    unweighted = np.mean([estimate(draw).standard_error for draw in values])
    assert abs(unweighted - spread) > 0.2 * spread  # which a plain standard error is not


def test_sequences_of_one_length_have_a_plain_mean_and_error() -> None:
    values = np.random.default_rng(0).normal(size=30)
    plain, weighted = estimate(values), estimate(values, np.full(30, 7))
    assert weighted == Estimate(pytest.approx(plain.mean), pytest.approx(plain.standard_error))  # type: ignore[arg-type]
    assert plain.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(30))


@pytest.mark.parametrize("score", [negative_log_likelihood, lambda model, rows: nll_per_token(model, rows).mean])
def test_more_pad_changes_no_measure(score: Callable[..., object], task: Task, sequences: Tensor) -> None:
    assert task.oracle is not None
    padded = torch.nn.functional.pad(sequences, (0, 4), value=V)
    np.testing.assert_allclose(score(task.oracle, padded), score(task.oracle, sequences), rtol=1e-5)  # type: ignore[arg-type]
