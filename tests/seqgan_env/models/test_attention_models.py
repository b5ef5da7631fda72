"""`models.attention_models`: generators that look back, against NumPy, and inside the environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.mdp import SequenceMDP
from seqgan_env.models.attention_models import AttentionLSTMSequenceModel, TransformerSequenceModel
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, SequenceModel, shift_right
from seqgan_env.rollout_policies import replay, sample_sequences
from seqgan_env.tasks.task import Task
from tests.toy_world import TableReward, exact_action_value

LOOKING_BACK = [TransformerSequenceModel, AttentionLSTMSequenceModel]
ALL = [LSTMSequenceModel, GRUSequenceModel, *LOOKING_BACK]
V, T = 5, 6


def random_tokens(rows: int = 4, steps: int = T) -> Tensor:
    return torch.randint(V, (rows, steps), generator=torch.Generator().manual_seed(3))


def test_soft_attention_equals_its_equations_in_numpy_float64() -> None:
    model = AttentionLSTMSequenceModel(V, 3, 4, init_std=1.0, seed=2)
    inputs = shift_right(random_tokens(), V)
    plain = LSTMSequenceModel(V, 3, 4)
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in plain.state_dict()})
    h = plain.hidden_states(inputs).detach().double().numpy()
    W_a, W_c = model.query_weight.detach().double().numpy(), model.mix_weight.detach().double().numpy()
    expected = np.zeros_like(h)
    for b, t in np.ndindex(*inputs.shape):
        scores = np.array([h[b, t] @ W_a @ h[b, s] / 2 for s in range(t + 1)])  # sqrt(H) = 2
        weights = np.exp(scores) / np.exp(scores).sum()
        context = weights @ h[b, : t + 1]
        expected[b, t] = np.tanh(np.concatenate([context, h[b, t]]) @ W_c)
    np.testing.assert_allclose(model.hidden_states(inputs).detach(), expected, atol=1e-5)
    assert abs(expected).max() < 1
    assert expected.std() > 0.1


def test_the_transformer_adds_positions_to_projected_embeddings_and_ends_in_a_norm() -> None:
    model = TransformerSequenceModel(V, 3, 4, init_std=1.0, sequence_length=T, layers=1)
    with torch.no_grad():
        for part in (model.blocks[0].mix, model.blocks[0].contract):  # a block that adds nothing
            part.weight.zero_()
            part.bias.zero_()
    inputs = random_tokens()
    x = (model.embedding[inputs] @ model.input_weight + model.positions).detach().double().numpy()
    centred = x - x.mean(axis=2, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(model.hidden_states(inputs).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("model_class", ALL)
def test_generators_learn_a_token_that_only_the_distant_past_tells(model_class: type[SequenceModel]) -> None:
    torch.manual_seed(0)
    sequences = torch.randint(V, (256, 4), generator=torch.Generator().manual_seed(0))
    sequences[:, 3] = sequences[:, 0]
    model = model_class(V, 16, 16, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    weights = torch.full(sequences.shape, -1 / len(sequences))
    for _ in range(150):
        optimizer.zero_grad()
        model.weighted_log_likelihood(sequences, weights).backward()
        optimizer.step()
    nll = -model.log_probs(sequences).mean(dim=0)
    assert nll[3] < 0.2
    assert nll[0] > 1.5  # log 5 = 1.61: the first token cannot be told


@pytest.mark.parametrize("model_class", ALL)
def test_a_seed_gives_the_same_parameters_and_the_global_generator_is_left_alone(
    model_class: type[SequenceModel],
) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (model_class(V, 4, 6, 0.5, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    norms = {name for name in first if "norm" in name}
    assert all(not torch.equal(first[name], other[name]) for name in first.keys() - norms)


@pytest.mark.parametrize("model_class", LOOKING_BACK)
def test_parameters_have_the_deviation_that_is_asked_for(model_class: type[SequenceModel]) -> None:
    model = model_class(500, init_std=0.1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.unique().tolist() == [float(name.endswith("weight"))]
        else:
            assert parameter.std().item() == pytest.approx(0.1, rel=0.35), name


@pytest.mark.parametrize("model_class", LOOKING_BACK)
def test_a_state_after_prefixes_of_mixed_lengths_is_that_of_each_alone(model_class: type[SequenceModel]) -> None:
    model = model_class(V, 4, 6, 1.0, sequence_length=T)
    tokens, lengths = random_tokens(), torch.tensor([5, 0, 3, 1])
    features = model.features(replay(model, tokens, lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = model.features(replay(model, tokens[row : row + 1, :length], lengths[row : row + 1]))
        torch.testing.assert_close(features[row], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_class", LOOKING_BACK)
def test_a_step_computes_one_token_and_never_the_prefix(
    model_class: type[SequenceModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_class(V, 4, 6, sequence_length=T)
    monkeypatch.setattr(model, "hidden_states", lambda inputs: pytest.fail("the prefix was recomputed"))
    sizes: list[tuple[int, ...]] = []
    linear = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: sizes.append(x.shape[:-1]) or linear(self, x))
    sample_sequences(model, 7, T, np.random.default_rng(0))
    assert set(sizes) <= {(1,), (7,)}


@pytest.mark.parametrize("model_class", LOOKING_BACK)
def test_a_sequence_longer_than_the_model_is_refused_by_name(model_class: type[SequenceModel]) -> None:
    model = model_class(V, 4, 6, sequence_length=3)
    message = r"sequence_length=3 of this \w+ is too small for token 4"
    with pytest.raises(ValueError, match=message):
        model.log_probs(random_tokens(2, 4))
    with pytest.raises(ValueError, match=message):
        sample_sequences(model, 2, 4, np.random.default_rng(0))
    assert sample_sequences(model, 2, 3, np.random.default_rng(0)).shape == (2, 3)


@pytest.mark.parametrize("model_class", LOOKING_BACK)
@pytest.mark.parametrize("size", ["vocab_size", "embedding_size", "hidden_size", "sequence_length"])
def test_a_size_below_one_is_refused_by_name(model_class: type[SequenceModel], size: str) -> None:
    with pytest.raises(ValueError, match=f"{size}=0 must be at least 1"):
        model_class(**({"vocab_size": 3} | {size: 0}))


@pytest.mark.parametrize("model_class", ALL)
def test_the_environment_searches_with_any_generator(model_class: type[SequenceModel], task: Task) -> None:
    """Rows at different steps, finished rows that are fed on, new episodes in some rows: Q is still that of Eq. 4."""
    extra = {"sequence_length": 3} if model_class in LOOKING_BACK else {}
    model = model_class(3, 4, 6, 1.5, 11, **extra)
    reward, n = TableReward(), 400
    mdp = SequenceMDP(task, 3, reward_model=reward, rollout_policy=model, n_rollouts=n)
    rngs = np.random.default_rng(0).spawn(3)
    mdp.reset()
    plan = [
        [True, True, True],
        [True, False, True],
        [True, True, False],
        [False, True, True],
        "reset",
        [True, False, False],
    ]
    actions = np.array([2, 0, 1])
    for rows in plan:
        if rows == "reset":
            mdp.reset(mdp.finished.copy())
            continue
        returned = mdp.step(actions, rngs, np.array(rows))
        for row in np.flatnonzero(rows):
            prefix = tuple(mdp.tokens[row, : mdp.lengths[row]].tolist())
            mean, deviation = exact_action_value(model, reward, prefix)
            assert abs(returned[row] - mean) <= 4 * deviation / np.sqrt(n) + 1e-6, (row, prefix)
    assert mdp.lengths.tolist() == [1, 0, 0]
