"""Top-k and top-p: the probabilities are exactly those of the kept set, for every generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqgan_env.components import GENERATORS, build_generator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, sample_sequences, state_after
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import check_rollout_policy
from seqgan_env.truncated_policy import TruncatedPolicy, truncated

ROW = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (None, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (1, 1.0, [0, 1, 0, 0]),
        (2, 1.0, [0, 4 / 7, 0, 3 / 7]),
        (4, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (9, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (None, 0.01, [0, 1, 0, 0]),
        (None, 0.39, [0, 1, 0, 0]),
        (None, 0.41, [0, 4 / 7, 0, 3 / 7]),
        (None, 0.69, [0, 4 / 7, 0, 3 / 7]),
        (None, 0.71, [0, 4 / 9, 2 / 9, 3 / 9]),
        (None, 0.95, [0.1, 0.4, 0.2, 0.3]),
        (3, 0.7, [0, 4 / 7, 0, 3 / 7]),  # of the three: 4/9, 7/9, so two are enough
        (3, 0.4, [0, 1, 0, 0]),  # 4/9 > 0.4
    ],
)
def test_the_kept_tokens_share_the_probability_in_their_old_proportion(
    top_k: int | None, top_p: float, expected: list[float]
) -> None:
    torch.testing.assert_close(truncated(ROW, top_k, top_p), torch.tensor([expected], dtype=torch.float64))


def test_of_equal_tokens_those_with_the_smaller_id_are_kept_exactly_k_of_them() -> None:
    even = torch.full((2, 5), 0.2)
    assert truncated(even, top_k=2).tolist() == [[0.5, 0.5, 0, 0, 0]] * 2


def model_of(kind: str, vocab_size: int = 5, seed: int = 1) -> SequenceModel:
    return build_generator(kind, toy_task(vocab_size), seed=seed, init_std=0.8, hidden_size=8, embedding_size=8)


@pytest.mark.parametrize("kind", list(GENERATORS))
@pytest.mark.parametrize(("top_k", "top_p", "temperature"), [(2, 1.0, 1.0), (None, 0.6, 0.7), (3, 0.8, 1.5)])
def test_the_distribution_of_sequences_is_the_product_of_the_renormalised_ones(
    kind: str, top_k: int | None, top_p: float, temperature: float
) -> None:
    model = model_of(kind).at_temperature(temperature)
    policy = TruncatedPolicy(model, top_k, top_p)
    count = 30_000
    drawn = sample_sequences(policy, count, 2, np.random.default_rng(0))
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    # By hand: NumPy, from the model's own log-probabilities.
    first = kept(model.log_probs(torch.arange(5).unsqueeze(1))[:, 0].exp().double().numpy(), top_k, top_p)
    expected = []
    for token in range(5):
        following = torch.stack([torch.full((5,), token), torch.arange(5)], dim=1)
        expected += list(first[token] * kept(model.log_probs(following)[:, 1].exp().double().numpy(), top_k, top_p))
    seen = np.array([(drawn == pair).all(dim=1).double().mean().item() for pair in pairs])
    errors = np.sqrt(np.array(expected) / count)
    assert (seen[np.array(expected) == 0] == 0).all()
    assert (np.abs(seen - expected) <= 4.5 * errors + 1e-4).all()


def kept(probabilities: np.ndarray, top_k: int | None, top_p: float) -> np.ndarray:
    order = np.argsort(-probabilities, kind="stable")
    if top_k is not None:
        order = order[:top_k]
    shares = probabilities[order] / probabilities[order].sum()
    enough = next(n for n in range(1, len(order) + 1) if shares[:n].sum() >= top_p or n == len(order))
    chosen = np.zeros(len(probabilities))
    chosen[order[:enough]] = probabilities[order[:enough]]
    return chosen / chosen.sum()


@pytest.mark.parametrize("kind", list(GENERATORS))
def test_one_token_is_left_with_top_k_one_and_with_a_tiny_top_p(kind: str) -> None:
    model = model_of(kind)
    greedy = sample_sequences(TruncatedPolicy(model, top_k=1), 20, 3, np.random.default_rng(0))
    assert len(torch.unique(greedy, dim=0)) == 1
    assert torch.equal(greedy, sample_sequences(TruncatedPolicy(model, top_p=1e-6), 20, 3, np.random.default_rng(1)))
    state = state_after(model, greedy[:1, :1])
    assert int(greedy[0, 1]) == int(model.output(model.features(state)).argmax())


@pytest.mark.parametrize("vocab_size", [64, 65, 200])
def test_large_vocabularies_are_drawn_in_blocks_from_the_kept_tokens(
    vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqgan_env.truncated_policy._CELLS", 300)
    model = model_of("lstm", vocab_size)
    policy = TruncatedPolicy(model, top_k=3)
    state = state_after(model, torch.arange(7).unsqueeze(1))
    uniforms = torch.rand(7, 400, generator=torch.Generator().manual_seed(0))
    drawn, probabilities = policy.draw(state, uniforms), policy.probabilities(state)
    assert (probabilities > 0).sum(dim=1).tolist() == [3] * 7
    assert (probabilities.gather(1, drawn) > 0).all()
    for row in range(7):
        shares = torch.bincount(drawn[row], minlength=vocab_size) / 400
        assert (shares - probabilities[row]).abs().max() < 0.12


def test_it_is_a_roll_out_policy_and_leaves_the_model_as_it_is() -> None:
    model = model_of("lstm", 3)
    policy = TruncatedPolicy(model, 2)
    assert isinstance(policy, RolloutPolicy)
    check_rollout_policy(policy)
    assert model.temperature == 1


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"top_k": 0}, ValueError),
        ({"top_k": 1.5}, TypeError),
        ({"top_p": 0.0}, ValueError),
        ({"top_p": 1.1}, ValueError),
    ],
)
def test_numbers_out_of_range_are_refused(keywords: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(keywords))):
        TruncatedPolicy(model_of("lstm"), **keywords)
