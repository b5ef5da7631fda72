"""`models.sequence_models`: Eq. 9-10, against NumPy in float64 and against plain autograd."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, shift_right
from seqgan_env.tasks.toy import enumerate_sequences
from tests.toy_world import exact_next_token, sequence_probabilities

GATES = ("i", "f", "og", "c")


def random_arrays(vocab_size: int = 7, embedding_size: int = 3, hidden_size: int = 5) -> dict[str, np.ndarray]:
    """15 arrays of the authors' names; E differs from H, so that a transposed matrix shows."""
    rng = np.random.RandomState(2)
    arrays = {"embeddings": rng.normal(size=(vocab_size, embedding_size))}
    for gate in GATES:
        arrays[f"W{gate}"] = rng.normal(size=(embedding_size, hidden_size))
        arrays[f"U{gate}"] = rng.normal(size=(hidden_size, hidden_size))
        arrays[f"b{gate}"] = rng.normal(size=hidden_size)
    arrays["Wo"] = rng.normal(size=(hidden_size, vocab_size))
    arrays["bo"] = rng.normal(size=vocab_size)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def numpy_log_probs(arrays: dict[str, np.ndarray], sequence: list[int]) -> list[float]:
    """log p(y_t | y_1..y_{t-1}) as the equations read, in float64; token 0 is fed first."""
    a = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    h = c = np.zeros(a["Ui"].shape[0])
    log_probs = []
    for fed, target in zip([0, *sequence[:-1]], sequence, strict=True):
        x = a["embeddings"][fed]
        i, f, o = (1 / (1 + np.exp(-(x @ a[f"W{g}"] + h @ a[f"U{g}"] + a[f"b{g}"]))) for g in ("i", "f", "og"))
        c = f * c + i * np.tanh(x @ a["Wc"] + h @ a["Uc"] + a["bc"])
        h = o * np.tanh(c)
        logits = h @ a["Wo"] + a["bo"]
        log_probs.append(float(logits[target] - np.log(np.exp(logits).sum())))
    return log_probs


def test_the_lstm_equals_its_equations_in_numpy_float64() -> None:
    arrays = random_arrays()
    model = LSTMSequenceModel.from_arrays(arrays)
    sequences = [[0, 1, 2, 3, 4, 5], [6, 6, 0, 6, 1, 2], [3, 0, 0, 5, 5, 1]]
    expected = [numpy_log_probs(arrays, sequence) for sequence in sequences]
    assert np.ptp(expected) > 3  # far from uniform
    np.testing.assert_allclose(model.log_probs(torch.tensor(sequences)), expected, atol=2e-5)


def test_the_gru_equals_its_equations_in_numpy_float64() -> None:
    model = GRUSequenceModel(7, 3, 5, init_std=1.0, seed=4)
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    sequences = [[0, 1, 2, 3, 4, 5], [6, 6, 0, 6, 1, 2]]
    expected = []
    for sequence in sequences:
        h, log_probs = np.zeros(5), []
        for fed, target in zip([0, *sequence[:-1]], sequence, strict=True):
            x_r, x_z, x_n = np.split(w["embedding"][fed] @ w["input_weight"] + w["gate_bias"], 3)
            h_r, h_z, h_n = np.split(h @ w["recurrent_weight"], 3)
            r, z = (1 / (1 + np.exp(-gate)) for gate in (x_r + h_r, x_z + h_z))
            h = (1 - z) * np.tanh(x_n + r * h_n) + z * h
            logits = w["output.weight"] @ h + w["output.bias"]
            log_probs.append(logits[target] - np.log(np.exp(logits).sum()))
        expected.append(log_probs)
    assert np.ptp(expected) > 3  # far from uniform
    np.testing.assert_allclose(model.log_probs(torch.tensor(sequences)), expected, atol=2e-5)


@pytest.mark.parametrize("part", ["embeddings", "W", "U", "b", "Wo", "bo"])
def test_gradients_through_time_equal_differences_of_the_equations_in_numpy(part: str) -> None:
    arrays = random_arrays()
    sequence, weights = [1, 6, 0, 3, 3], np.array([0.5, -1.0, 2.0, 1.0, 1.5])
    names = [f"{part}{gate}" for gate in GATES] if part in ("W", "U", "b") else [part]
    rng = np.random.RandomState(3)
    direction = {name: rng.normal(size=arrays[name].shape) for name in names}

    def likelihood(step: float) -> float:
        moved = {name: arrays[name].astype(np.float64) + step * direction[name] for name in names}
        return float(weights @ numpy_log_probs(arrays | moved, sequence))

    model = LSTMSequenceModel.from_arrays(arrays)
    model.weighted_log_likelihood(torch.tensor([sequence]), torch.from_numpy(weights).float().unsqueeze(0)).backward()
    gradient = {
        "embeddings": model.embedding.grad,
        "W": model.input_weight.grad,
        "U": model.recurrent_weight.grad,
        "b": model.gate_bias.grad,
        "Wo": model.output.weight.grad.t(),
        "bo": model.output.bias.grad,
    }[part]
    along = float((gradient.double().numpy() * np.concatenate(list(direction.values()), axis=-1)).sum())
    assert along == pytest.approx((likelihood(1e-5) - likelihood(-1e-5)) / 2e-5, rel=1e-4)
    assert abs(along) > 0.05


def test_stepping_equals_teacher_forcing() -> None:
    model = LSTMSequenceModel.from_arrays(random_arrays())
    sequences = torch.tensor([[1, 5, 2, 0], [6, 3, 3, 4]])
    hidden = model.hidden_states(shift_right(sequences, 7))
    state = model.initial_state(2)
    for t in range(4):
        torch.testing.assert_close(model.features(state), hidden[:, t], atol=1e-6, rtol=1e-5)
        state = model.advance(state, sequences[:, t])


def test_probabilities_of_all_sequences_sum_to_one(model: LSTMSequenceModel) -> None:
    p = sequence_probabilities(model, enumerate_sequences(3, 3))
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    assert p.max() > 2 / 27


def test_shift_right_feeds_the_start_symbol_first_and_hides_pad() -> None:
    shifted = shift_right(torch.tensor([[4, 5, 6], [1, 7, 7]]), vocab_size=7)
    assert shifted.tolist() == [[0, 4, 5], [0, 1, 0]]


def test_log_probs_stop_at_pad_and_what_stands_before_does_not_change() -> None:
    model = LSTMSequenceModel.from_arrays(random_arrays())
    whole = model.log_probs(torch.tensor([[1, 5, 2, 0]]))
    padded = model.log_probs(torch.tensor([[1, 5, 7, 7], [7, 7, 7, 7]]))
    torch.testing.assert_close(padded[0, :2], whole[0, :2])
    assert padded[0, 2:].tolist() == [0, 0]
    assert padded[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_divides_the_logits_when_scoring(model: LSTMSequenceModel, temperature: float) -> None:
    view = model.at_temperature(temperature)
    sequences = enumerate_sequences(3, 3)
    logits = model.output(model.hidden_states(shift_right(sequences, 3))) / temperature
    expected = torch.log_softmax(logits, dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(view.log_probs(sequences), expected.detach(), atol=1e-5, rtol=1e-5)


def test_temperature_divides_the_logits_when_drawing(model: LSTMSequenceModel) -> None:
    view = model.at_temperature(0.4)
    grid = ((torch.arange(4096) + 0.5) / 4096).unsqueeze(0)
    state = model.advance(model.initial_state(1), torch.tensor([2]))
    shares = np.bincount(view.draw(state, grid)[0], minlength=3) / 4096
    expected = exact_next_token(view, torch.tensor([2]))
    np.testing.assert_allclose(shares, expected, atol=2 / 4096)
    assert abs(expected - exact_next_token(model, torch.tensor([2]))).max() > 0.02


def test_a_view_at_another_temperature_shares_its_parameters_and_leaves_the_model_as_it_was(
    model: LSTMSequenceModel,
) -> None:
    view = model.at_temperature(0.5)
    with torch.no_grad():
        model.output.bias.add_(1.0)
    assert view.output.bias is model.output.bias
    assert model.temperature == 1.0


def test_weighted_log_likelihood_and_gradients_equal_plain_autograd(model: LSTMSequenceModel) -> None:
    sequences = torch.tensor([[0, 1, 2], [2, 3, 3], [1, 1, 3]])  # 3 is PAD
    weights = torch.tensor([[0.5, -1.0, 2.0], [1.5, 9.0, 9.0], [0.0, 0.3, 9.0]])  # 9 stands where PAD is
    value = model.weighted_log_likelihood(sequences, weights)
    value.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain_model = copy.deepcopy(model).double()
    plain_model.zero_grad()
    logits = plain_model.output(plain_model.hidden_states(shift_right(sequences, 3)))
    log_probs = torch.log_softmax(logits, dim=2).gather(2, sequences.clamp(max=2).unsqueeze(2)).squeeze(2)
    plain = (weights * (sequences < 3) * log_probs).sum()
    plain.backward()
    assert value.item() == pytest.approx(plain.item(), rel=1e-5)
    for name, parameter in plain_model.named_parameters():
        torch.testing.assert_close(gradients[name].double(), parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
        assert parameter.grad.abs().sum() > 0, name


def test_other_inputs_than_the_targets_can_be_fed(model: LSTMSequenceModel) -> None:
    targets, inputs = torch.tensor([[1, 2, 0]]), torch.tensor([[0, 2, 2]])
    value = model.weighted_log_likelihood(targets, torch.ones(1, 3), inputs)
    logits = model.output(model.hidden_states(inputs))
    expected = torch.log_softmax(logits, dim=2).gather(2, targets.unsqueeze(2)).sum()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert value.item() != pytest.approx(model.weighted_log_likelihood(targets, torch.ones(1, 3)).item(), rel=1e-3)


def test_a_seed_gives_the_same_parameters_and_another_seed_others() -> None:
    first, again, other = (LSTMSequenceModel(5, seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_building_a_model_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    LSTMSequenceModel(5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_parameters_have_the_deviation_of_the_authors_generator() -> None:
    model = LSTMSequenceModel(5000)
    for name, parameter in model.named_parameters():
        assert parameter.std().item() == pytest.approx(0.1, rel=0.2), name


@pytest.mark.parametrize("name", ["vocab_size", "embedding_size", "hidden_size"])
def test_a_size_below_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        LSTMSequenceModel(**({"vocab_size": 3, "embedding_size": 2, "hidden_size": 2} | {name: 0}))


def changed(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return random_arrays() | changes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({name: array for name, array in random_arrays().items() if name != "Uc"}, r"lack \['Uc'\]"),
        (changed(embeddings=np.zeros(7, np.float32)), "embeddings has shape"),
        (changed(Ui=np.zeros(5, np.float32)), "Ui has shape"),
        (changed(Wf=np.zeros((5, 3), np.float32)), r"Wf has shape \(5, 3\), expected \(3, 5\)"),
        (changed(bog=np.zeros((1, 5), np.float32)), "bog has shape"),
        (changed(Wo=np.zeros((7, 5), np.float32)), "Wo has shape"),
        (changed(bo=np.zeros(8, np.float32)), "bo has shape"),
        (changed(bc=np.full(5, np.nan, np.float32)), "bc must hold finite floats"),
        (changed(bo=np.full(7, np.inf, np.float32)), "bo must hold finite floats"),
        (changed(bi=np.zeros(5, np.int64)), "bi must hold finite floats"),
        (changed(bi=np.array([None] * 5)), "bi must hold finite floats"),
    ],
)
def test_arrays_that_do_not_make_an_lstm_are_refused_by_name(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTMSequenceModel.from_arrays(arrays)
