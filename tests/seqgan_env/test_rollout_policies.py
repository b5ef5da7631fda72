"""`rollout_policies`: what continues a prefix, and that it continues it rightly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import (
    DelayedCopy,
    NGramPolicy,
    RolloutPolicy,
    UniformPolicy,
    complete_sequences,
    fork,
    replay,
    sample_sequences,
    select_rows,
)
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from tests.toy_world import SuccessorPolicy, exact_next_token, sequence_probabilities

DATA = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 4], [2, 1, 1, 1]])  # 4 is PAD


def grid(points: int) -> Tensor:
    return ((torch.arange(points) + 0.5) / points).unsqueeze(0)


def next_token_shares(policy: RolloutPolicy, prefix: list[int], points: int = 20_000) -> np.ndarray:
    """The distribution of the next token, by an even grid of uniforms."""
    state = policy.initial_state(1)
    for token in prefix:
        state = policy.advance(state, torch.tensor([token]))
    return np.bincount(policy.draw(state, grid(points))[0].numpy(), minlength=policy.vocab_size) / points


def parameters_of(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_uniform_draws_share_out_the_grid_evenly() -> None:
    np.testing.assert_allclose(next_token_shares(UniformPolicy(7), [3]), [1 / 7] * 7, atol=1e-4)
    below_one = torch.tensor([[0.0, float(np.nextafter(np.float32(1), np.float32(0)))]])
    assert UniformPolicy(5000).draw((torch.empty(1, 0),), below_one).tolist() == [[0, 4999]]


def test_the_uniform_policy_knows_its_likelihood() -> None:
    log_probs = UniformPolicy(7).log_probs(torch.tensor([[0, 6, 7], [3, 7, 7]]))
    assert log_probs.tolist() == [pytest.approx(row) for row in ([-1.9459101, -1.9459101, 0], [-1.9459101, 0, 0])]


def test_every_policy_satisfies_the_protocol(model: LSTMSequenceModel) -> None:
    for policy in (model, UniformPolicy(3), DelayedCopy(model), NGramPolicy(DATA, 4)):
        assert isinstance(policy, RolloutPolicy)


# --- the delayed copy ------------------------------------------------------------------------------------------------


def test_a_delayed_copy_is_a_copy(model: LSTMSequenceModel) -> None:
    policy = DelayedCopy(model)
    before = parameters_of(policy.model).clone()
    with torch.no_grad():
        model.output.bias.add_(5.0)
        model.embedding.mul_(2.0)
    assert torch.equal(parameters_of(policy.model), before)
    assert not any(parameter.requires_grad for parameter in policy.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("rate", [0.0, 0.8, 1.0])
def test_an_update_keeps_the_rates_share_of_every_old_parameter(rate: float) -> None:
    old, new = (LSTMSequenceModel(3, 4, 5, init_std=1.0, seed=seed) for seed in (1, 2))
    policy = DelayedCopy(old, rate)
    beta, theta = parameters_of(old).clone(), parameters_of(new).clone()
    for _ in range(2):  # twice: it goes on following
        policy.follow(new)
        beta = rate * beta + (1 - rate) * theta
        torch.testing.assert_close(parameters_of(policy.model), beta)
    assert torch.equal(parameters_of(new), theta)
    assert torch.equal(parameters_of(policy.model), theta) is (rate == 0.0)


def test_an_update_changes_what_is_drawn(model: LSTMSequenceModel) -> None:
    policy = DelayedCopy(model)
    before = next_token_shares(policy, [1])
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    np.testing.assert_array_equal(next_token_shares(policy, [1]), before)
    policy.follow(model)
    assert next_token_shares(policy, [1]).tolist() == [0, 1, 0]


def test_a_delayed_copy_takes_running_statistics_as_they_are(model: LSTMSequenceModel) -> None:
    model.register_buffer("running_mean", torch.zeros(2))
    delayed = DelayedCopy(model, rate=0.8)
    model.running_mean.fill_(3.0)
    assert delayed.model.running_mean.tolist() == [0.0, 0.0]
    delayed.follow(model)
    assert delayed.model.running_mean.tolist() == [3.0, 3.0]


def test_a_copy_of_rate_zero_forgets_even_parameters_that_are_not_finite(model: LSTMSequenceModel) -> None:
    policy = DelayedCopy(model)
    with torch.no_grad():
        policy.model.output.bias.fill_(float("nan"))
    policy.follow(model)
    assert torch.equal(parameters_of(policy.model), parameters_of(model))


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_generator_of_another_shape_is_not_followed(model: LSTMSequenceModel, kind: str) -> None:
    policy = DelayedCopy(model)
    if kind == "parameter":
        model.add_module("another", torch.nn.Linear(1, 1))  # behind the parameters that both have
    else:
        model.register_buffer("another", torch.zeros(1))
    with pytest.raises(ValueError, match="zip"):
        policy.follow(model)


def test_a_delayed_copy_draws_from_the_models_distribution(model: LSTMSequenceModel) -> None:
    shares = next_token_shares(DelayedCopy(model), [2, 0])
    np.testing.assert_allclose(shares, exact_next_token(model, torch.tensor([2, 0])), atol=2e-4)


# --- n-grams ---------------------------------------------------------------------------------------------------------


def test_an_n_gram_policy_has_the_interpolated_counts() -> None:
    backoff = 0.25
    uniform = np.full(4, 1 / 4)
    unigram = (1 - backoff) * np.array([2, 7, 2, 0]) / 11 + backoff * uniform  # 11 tokens, PAD left out
    # After 1: 1, 2, 1, 0, 1, 1 in the order of the rows; the start symbol 0 stands before each row's first token.
    after_1 = (1 - backoff) * np.array([1, 4, 1, 0]) / 6 + backoff * unigram
    after_0 = (1 - backoff) * np.array([1, 2, 1, 0]) / 4 + backoff * unigram  # start: 0, 1, 2; then 0 -> 1
    policy = NGramPolicy(DATA, 4, order=2, backoff=backoff)
    np.testing.assert_allclose(next_token_shares(policy, [2, 1]), after_1, atol=3e-4)
    np.testing.assert_allclose(next_token_shares(policy, []), after_0, atol=3e-4)
    np.testing.assert_allclose(next_token_shares(policy, [2, 0]), after_0, atol=3e-4)


def test_an_unseen_context_backs_off_wholly() -> None:
    unigram = NGramPolicy(DATA, 4, order=1, backoff=0.25)
    bigram = NGramPolicy(DATA, 4, order=2, backoff=0.25)
    np.testing.assert_array_equal(next_token_shares(bigram, [3]), next_token_shares(unigram, [3]))


def test_a_trigram_looks_two_tokens_back() -> None:
    backoff = 0.5
    bigram = next_token_shares(NGramPolicy(DATA, 4, order=2, backoff=backoff), [1])
    trigram = next_token_shares(NGramPolicy(DATA, 4, order=3, backoff=backoff), [2, 1])  # followed by 1, once
    np.testing.assert_allclose(trigram, 0.5 * np.array([0, 1, 0, 0]) + 0.5 * bigram, atol=3e-4)
    after_1_1 = next_token_shares(NGramPolicy(DATA, 4, order=3, backoff=backoff), [1, 1])  # 2, 0, 1
    np.testing.assert_allclose(after_1_1, 0.5 * np.array([1, 1, 1, 0]) / 3 + 0.5 * bigram, atol=3e-4)


@pytest.mark.filterwarnings("error")
def test_a_backoff_of_one_is_uniform() -> None:
    np.testing.assert_allclose(next_token_shares(NGramPolicy(DATA, 4, 2, 1.0), [1]), [0.25] * 4, atol=1e-4)


def test_an_n_gram_policy_is_a_bigram_that_backs_off_a_tenth_of_the_time() -> None:
    given = NGramPolicy(DATA, 4, order=2, backoff=0.1)
    default = NGramPolicy(DATA.numpy(), 4)  # an array will do
    assert torch.equal(default.draw((torch.tensor([[1]]),), grid(500)), given.draw((torch.tensor([[1]]),), grid(500)))
    assert given.initial_state(2)[0].tolist() == [[0], [0]]
    assert NGramPolicy(DATA, 4, order=3).advance((torch.tensor([[1, 2]]),), torch.tensor([3]))[0].tolist() == [[2, 3]]


def test_the_places_of_a_context_are_drawn_in_the_order_of_the_data() -> None:
    """So a seed's draws do not depend on how the contexts were sorted."""
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (1, 2000)))
    policy = NGramPolicy(tokens, 50, order=1, backoff=1e-9)
    uniforms = grid(2000).double().float()
    assert torch.equal(policy.draw(policy.initial_state(1), uniforms), tokens)


def test_the_places_of_each_context_too() -> None:
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (1, 3000)))
    row = [0, *tokens[0].tolist()]
    policy = NGramPolicy(tokens, 3, order=2, backoff=1e-9)
    for context in range(3):
        followed_by = [after for before, after in itertools.pairwise(row) if before == context]
        drawn = policy.draw((torch.tensor([[context]]),), grid(len(followed_by)))
        assert drawn[0].tolist() == followed_by


@pytest.mark.parametrize("changed", [0, 1, 36, 37])
def test_long_contexts_that_differ_in_one_token_are_not_confused(changed: int) -> None:
    """38 digits in base 3: only whole numbers of 61 bits keep them apart."""
    contexts = torch.tensor([[1] * 38, [1] * 38])
    contexts[1, changed] = 0
    sequences = torch.cat([contexts, torch.tensor([[0], [1]])], dim=1)
    policy = NGramPolicy(sequences, 2, order=39, backoff=1e-6)
    assert policy.draw((contexts,), grid(50).expand(2, -1)).tolist() == [[0] * 50, [1] * 50]


def test_contexts_of_the_same_tokens_in_another_order_are_not_confused() -> None:
    contexts = torch.tensor([[0, 1], [1, 0]])
    policy = NGramPolicy(torch.cat([contexts, torch.tensor([[0], [1]])], dim=1), 2, order=3, backoff=1e-6)
    assert policy.draw((contexts,), grid(50).expand(2, -1)).tolist() == [[0] * 50, [1] * 50]


def test_a_uniform_that_equals_the_backoff_takes_the_first_place() -> None:
    policy = NGramPolicy(torch.tensor([[1, 0, 2]]), 3, order=1, backoff=0.25)
    assert policy.draw(policy.initial_state(1), torch.tensor([[0.25, 0.0]])).tolist() == [[1, 0]]


def test_contexts_have_numbers_as_long_as_they_fit_63_bits() -> None:
    sequences = torch.zeros(2, 70, dtype=torch.int64)
    policy = NGramPolicy(sequences, 1, order=63)  # 62 binary digits
    assert policy.draw(policy.initial_state(1), torch.tensor([[0.5]])).tolist() == [[0]]
    with pytest.raises(ValueError, match=r"^order=64 with vocab_size=1 has contexts that int64 cannot number$"):
        NGramPolicy(sequences, 1, order=64)


def test_n_gram_rows_do_not_mix() -> None:
    policy = NGramPolicy(DATA, 4, order=2, backoff=0.25)
    state = (torch.tensor([[1], [0], [3]]),)
    uniforms = grid(101).expand(3, -1)
    together = policy.draw(state, uniforms)
    for row in range(3):
        assert torch.equal(together[row], policy.draw((state[0][row : row + 1],), grid(101))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "order=0"),
        ({"backoff": 0.0}, r"backoff=0\.0"),
        ({"backoff": 1.5}, r"backoff=1\.5"),
        ({"order": 7, "vocab_size": 5000}, "order=7 with vocab_size=5000"),
    ],
)
def test_wrong_n_grams_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NGramPolicy(**({"sequences": DATA, "vocab_size": 4} | arguments))


def test_the_least_that_is_allowed_works() -> None:
    assert UniformPolicy(1).draw((torch.empty(1, 0),), torch.tensor([[0.9]])).tolist() == [[0]]
    shares = next_token_shares(NGramPolicy(torch.zeros(3, 2, dtype=torch.int64), 1, order=1, backoff=1.0), [])
    assert shares.tolist() == [1.0]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_outside_zero_to_one_is_refused(model: LSTMSequenceModel, rate: float) -> None:
    with pytest.raises(ValueError, match=f"^rate={rate} must .*; 0 copies the generator, 1 never follows it$"):
        DelayedCopy(model, rate)


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^vocab_size=0"):
        UniformPolicy(0)
    with pytest.raises(ValueError, match=r"^vocab_size=0"):
        NGramPolicy(DATA, 0)


def test_a_restored_delayed_copy_is_the_one_that_was_stored(model: LSTMSequenceModel) -> None:
    stored, fresh = DelayedCopy(model), DelayedCopy(LSTMSequenceModel(3, 4, 5, init_std=1.0, seed=2))
    assert not torch.equal(parameters_of(fresh.model), parameters_of(stored.model))
    state = stored.state_dict()
    assert type(state) is dict
    fresh.load_state_dict(state)
    assert torch.equal(parameters_of(fresh.model), parameters_of(stored.model))


def test_policies_without_parameters_live_on_the_cpu_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            (empty,) = UniformPolicy(3).initial_state(2)
            n_gram = NGramPolicy(torch.tensor([[0, 1]], device="cpu"), 3)
            (context,) = n_gram.initial_state(2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (empty.shape, empty.dtype, empty.device.type) == ((2, 0), torch.float32, "cpu")
    assert (context.shape, context.dtype, context.device.type) == ((2, 1), torch.int64, "cpu")


# --- states, completions, whole sequences ----------------------------------------------------------------------------


def test_forks_of_a_row_are_neighbours() -> None:
    assert fork((torch.tensor([1, 2]), torch.tensor([[3], [4]])), 3)[0].tolist() == [1, 1, 1, 2, 2, 2]
    assert fork((torch.tensor([[3], [4]]),), 2)[0].tolist() == [[3], [3], [4], [4]]


def test_selecting_rows_takes_each_row_from_one_state() -> None:
    a, b = (torch.tensor([[1, 1], [2, 2]]), torch.tensor([1, 2])), (torch.zeros(2, 2).long(), torch.zeros(2).long())
    selected = select_rows(torch.tensor([False, True]), a, b)
    assert selected[0].tolist() == [[0, 0], [2, 2]]
    assert selected[1].tolist() == [0, 2]


def test_replaying_prefixes_of_mixed_length_equals_walking_each() -> None:
    model = LSTMSequenceModel(4, 3, 5, init_std=1.0)
    sequences = torch.tensor([[4, 4, 4], [2, 4, 4], [1, 3, 4], [0, 1, 2]])
    state = replay(model, sequences, torch.tensor([0, 1, 2, 3]))
    for row, length in enumerate([0, 1, 2, 3]):
        alone = model.initial_state(1)
        for token in sequences[row, :length]:
            alone = model.advance(alone, token.view(1))
        for part, expected in zip(state, alone, strict=True):
            torch.testing.assert_close(part[row : row + 1], expected)


def test_completions_keep_their_prefix_and_stand_beside_each_other() -> None:
    policy = SuccessorPolicy(10)
    sequences = torch.tensor([[1, 10, 10, 10], [5, 6, 7, 10], [8, 0, 10, 10]])
    lengths = torch.tensor([1, 3, 2])
    completed = complete_sequences(policy, replay(policy, sequences, lengths), sequences, lengths, torch.rand(3, 2, 3))
    assert completed.tolist() == [[1, 2, 3, 4]] * 2 + [[5, 6, 7, 8]] * 2 + [[8, 0, 1, 2]] * 2


def test_a_completion_ends_at_eos_and_pad_stays_behind_it() -> None:
    policy = SuccessorPolicy(6)
    sequences = torch.tensor([[0, 6, 6, 6, 6], [2, 6, 6, 6, 6], [4, 5, 0, 6, 6]])
    lengths = torch.tensor([1, 1, 3])
    state = replay(policy, sequences, lengths)
    completed = complete_sequences(policy, state, sequences, lengths, torch.rand(3, 1, 4), eos_token=3)
    assert completed.tolist() == [[0, 1, 2, 3, 6], [2, 3, 6, 6, 6], [4, 5, 0, 1, 2]]


@pytest.mark.parametrize("eos_token", [None, 1])
def test_a_batch_of_mixed_lengths_equals_its_rows_one_by_one(eos_token: int | None) -> None:
    model = LSTMSequenceModel(4, 3, 5, init_std=1.0)
    sequences = torch.tensor([[4, 4, 4, 4, 4], [2, 4, 4, 4, 4], [0, 3, 0, 2, 4], [3, 3, 4, 4, 4]])
    lengths = torch.tensor([0, 1, 4, 2])
    uniforms = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(0))
    state = replay(model, sequences, lengths)
    together = complete_sequences(model, state, sequences, lengths, uniforms, eos_token).view(4, 6, 5)
    for row in range(4):
        one = slice(row, row + 1)
        alone = complete_sequences(
            model, replay(model, sequences[one], lengths[one]), sequences[one], lengths[one], uniforms[one], eos_token
        )
        assert torch.equal(together[row], alone)
    assert bool((together == 4).any()) is (eos_token is not None)


@pytest.mark.parametrize("eos_token", [None, 2])
def test_samples_have_the_models_distribution(model: LSTMSequenceModel, eos_token: int | None) -> None:
    samples = sample_sequences(model, 20_000, 3, np.random.default_rng(0), eos_token)
    kinds = enumerate_sequences(3, 3)
    if eos_token is not None:  # what follows EOS is PAD
        after = ((kinds == eos_token).cumsum(dim=1) - (kinds == eos_token).long()) > 0
        kinds = torch.unique(kinds.masked_fill(after, 3), dim=0)
    p = sequence_probabilities(model, kinds)
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    counts = np.array([int((samples == kind).all(dim=1).sum()) for kind in kinds])
    assert counts.sum() == 20_000
    errors = np.sqrt(p * (1 - p) / 20_000)
    assert (np.abs(counts / 20_000 - p) < 4.5 * errors + 1e-6).all()


def test_samples_are_a_function_of_the_generator_alone(model: LSTMSequenceModel, task: Task) -> None:
    first, again, other = (sample_sequences(model, 3000, 3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (3000, 3)
    assert not torch.equal(first[:900], first[2048:2948])  # each batch draws anew


@pytest.mark.parametrize("count", [1, 5000, 5001, 10_003])
def test_samples_are_drawn_five_thousand_at_a_time_from_one_stream(count: int) -> None:
    rng, expected = np.random.default_rng(4), []
    for start in range(0, count, 5000):
        uniforms = rng.random((1, min(5000, count - start), 3), dtype=np.float32)
        expected.append(torch.from_numpy((uniforms[0] * np.float32(7)).astype(np.int64)))
    assert torch.equal(sample_sequences(UniformPolicy(7), count, 3, np.random.default_rng(4)), torch.cat(expected))


def test_no_prefixes_have_an_empty_state(model: LSTMSequenceModel) -> None:
    state = replay(model, torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert all(len(part) == 0 for part in state)


def test_no_samples_are_an_empty_table() -> None:
    assert sample_sequences(UniformPolicy(3), 0, 4, np.random.default_rng(0)).dtype == torch.int64
    assert sample_sequences(UniformPolicy(3), 0, 4, np.random.default_rng(0)).shape == (0, 4)


def test_samples_live_where_the_policy_does_whatever_the_default_device(model: LSTMSequenceModel) -> None:
    expected = sample_sequences(model, 20, 3, np.random.default_rng(1), eos_token=2)
    with torch.device("meta"):
        samples = sample_sequences(model, 20, 3, np.random.default_rng(1), eos_token=2)
        none = sample_sequences(model, 0, 3, np.random.default_rng(1))
    assert torch.equal(samples, expected)
    assert none.device.type == "cpu"
