"""`models.sampling`: the blocked draw has the distribution of the plain softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from seqgan_env.models.output_layer import OutputLayer
from seqgan_env.models.sampling import draw_from_logits, draw_from_masses, draw_tokens
from seqgan_env.models.sequence_models import LSTMSequenceModel

BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))  # the largest float32 below 1


def layer_with(std: float, vocab_size: int, hidden_size: int = 8, seed: int = 0) -> OutputLayer:
    layer = OutputLayer(hidden_size, vocab_size)
    layer.reset_parameters(std, torch.Generator().manual_seed(seed))
    return layer


def probabilities(layer: OutputLayer, hidden: Tensor, temperature: float = 1.0) -> np.ndarray:
    """Plain softmax in float64, (R, V)."""
    return torch.softmax(layer(hidden).double() / temperature, dim=1).detach().numpy()


def chi_square_p_value(tokens: np.ndarray, p: np.ndarray, least_expected: float = 25.0) -> float:
    """Of one row's draws against p; neighbouring tokens are merged until a bin expects enough draws."""
    assert tokens.min() >= 0
    assert tokens.max() < len(p)
    bins = np.minimum(np.floor(np.cumsum(p) * len(tokens) / least_expected), len(tokens) // least_expected - 1)
    bins = np.unique(bins, return_inverse=True)[1]
    expected = np.bincount(bins, weights=p) * len(tokens)
    kept = expected > 5
    observed = np.bincount(bins[tokens], minlength=len(expected)).astype(float)
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    used = expected > 1e-9
    statistic = ((observed - expected)[used] ** 2 / expected[used]).sum()
    return float(stats.chi2.sf(statistic, used.sum() - 1))


# V, std of the layer, temperature. std 30 makes logits in the hundreds, which need the shift.
DISTRIBUTIONS = [
    (3, 1.0, 1.0),
    (64, 0.5, 1.0),
    (65, 0.5, 1.0),
    (200, 0.7, 0.6),
    (200, 30.0, 20.0),
    (5000, 0.3, 1.0),
    (5000, 0.3, 2.0),
    (5000, 30.0, 30.0),
]


@pytest.mark.parametrize(("vocab_size", "std", "temperature"), DISTRIBUTIONS)
def test_draws_pass_a_chi_square_test_against_softmax(vocab_size: int, std: float, temperature: float) -> None:
    layer = layer_with(std, vocab_size)
    hidden = torch.randn(2, 8, generator=torch.Generator().manual_seed(3))
    uniforms = torch.from_numpy(np.random.default_rng(5).random((2, 60_000), dtype=np.float32))
    tokens = draw_tokens(layer, hidden, uniforms, temperature).numpy()
    p = probabilities(layer, hidden, temperature)
    for row in range(2):
        assert chi_square_p_value(tokens[row], p[row]) > 1e-3
    assert chi_square_p_value(tokens[0], p[1]) < 1e-6  # the test can fail: the rows differ


@pytest.mark.parametrize(("vocab_size", "std", "temperature"), DISTRIBUTIONS)
def test_an_even_grid_of_uniforms_is_shared_out_exactly_by_softmax(
    vocab_size: int, std: float, temperature: float
) -> None:
    layer = layer_with(std, vocab_size)
    hidden = torch.randn(1, 8, generator=torch.Generator().manual_seed(4))
    grid = 2**17
    uniforms = ((torch.arange(grid) + 0.5) / grid).unsqueeze(0)
    tokens = draw_tokens(layer, hidden, uniforms, temperature)[0].numpy()
    shares = np.bincount(tokens, minlength=vocab_size) / grid
    # One grid point of slack at each end of a token's interval, and float32 sums.
    np.testing.assert_allclose(shares, probabilities(layer, hidden, temperature)[0], atol=3 / grid)
    assert (np.diff(tokens) >= 0).all()  # an inverse CDF is monotone


def test_draws_of_one_row_are_independent() -> None:
    layer = layer_with(0.7, 4)
    hidden = torch.randn(1, 8, generator=torch.Generator().manual_seed(5)).expand(20_000, 8)
    uniforms = torch.from_numpy(np.random.default_rng(6).random((20_000, 2), dtype=np.float32))
    first, second = draw_tokens(layer, hidden, uniforms).numpy().T
    pairs = np.bincount(4 * first + second, minlength=16).reshape(4, 4)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3
    p = probabilities(layer, hidden[:1])[0]
    assert stats.chisquare(pairs.ravel(), 20_000 * np.outer(p, p).ravel()).pvalue > 1e-3


def test_each_row_draws_from_its_own_distribution() -> None:
    layer = OutputLayer(3, 3)
    with torch.no_grad():
        layer.weight.copy_(100 * torch.eye(3))
    tokens = draw_tokens(layer, torch.eye(3)[[2, 0, 1, 2]], torch.rand(4, 5))
    assert tokens.tolist() == [[2] * 5, [0] * 5, [1] * 5, [2] * 5]


@pytest.mark.parametrize("columns", [3, 63, 64, 128, 5056])
@pytest.mark.parametrize("uniform", [0.0, BELOW_ONE])
def test_a_token_of_mass_zero_is_never_drawn(columns: int, uniform: float) -> None:
    rng = np.random.default_rng(columns)
    masses = torch.from_numpy(rng.random((200, columns), dtype=np.float32))
    masses[torch.from_numpy(rng.random((200, columns)) < 0.7)] = 0.0
    masses[:, [0, -1]] = 0.0  # the ends, where 0 and 1 fall
    masses[:, 1] = torch.from_numpy(rng.random(200, dtype=np.float32)) + 0.1
    random_uniforms = torch.from_numpy(rng.random((200, 500), dtype=np.float32))
    uniforms = torch.cat([torch.full((200, 1), uniform), random_uniforms], dim=1)
    tokens = draw_from_masses(masses, uniforms)
    assert (masses.gather(1, tokens) > 0).all()


@pytest.mark.parametrize("columns", [5, 192])
def test_the_extreme_uniforms_draw_the_first_and_last_tokens_of_positive_mass(columns: int) -> None:
    masses = torch.zeros(1, columns)
    masses[0, 2] = 1e-30
    masses[0, columns - 2] = 1e-30
    tokens = draw_from_masses(masses, torch.tensor([[0.0, BELOW_ONE]]))
    assert tokens.tolist() == [[2, columns - 2]]


def test_masses_of_very_different_size_do_not_lead_out_of_the_segment() -> None:
    masses = torch.full((1, 256), 1e-12)
    masses[0, 70] = 1e12
    uniforms = torch.linspace(0, BELOW_ONE, 1000).unsqueeze(0)
    tokens = draw_from_masses(masses, uniforms)
    assert (tokens[0, 1:] == 70).all()
    assert (tokens >= 0).all()


@pytest.mark.parametrize("vocab_size", [1, 3, 64, 65, 130])
def test_drawing_from_logits_shares_out_the_grid_by_softmax(vocab_size: int) -> None:
    logits = 3 * torch.randn(2, vocab_size, generator=torch.Generator().manual_seed(1))
    uniforms = ((torch.arange(4096) + 0.5) / 4096).expand(2, -1)
    tokens = draw_from_logits(logits, uniforms).numpy()
    for row, p in enumerate(torch.softmax(logits.double(), dim=1).numpy()):
        np.testing.assert_allclose(np.bincount(tokens[row], minlength=vocab_size) / 4096, p, atol=3 / 4096)


def test_the_draw_is_a_function_of_the_uniforms_alone() -> None:
    layer = layer_with(0.5, 300)
    hidden, uniforms = torch.randn(6, 8), torch.rand(6, 7)
    torch.manual_seed(1)
    first = draw_tokens(layer, hidden, uniforms)
    torch.manual_seed(2)
    assert torch.equal(first, draw_tokens(layer, hidden, uniforms))
    assert first.dtype == torch.int64


@pytest.mark.parametrize("temperature", [1e-45, 1e-8, 1e-4, 1e4, 0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_float32_cannot_hold_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature=.* must lie in \[0\.001, 1000\]"):
        LSTMSequenceModel(5, 4, 4).at_temperature(temperature)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("vocab_size", [5, 64, 65, 200])
def test_draws_at_the_ends_of_the_range_are_tokens(temperature: float, vocab_size: int) -> None:
    model = LSTMSequenceModel(vocab_size, 4, 4, init_std=3.0).at_temperature(temperature)
    draws = model.draw(model.initial_state(20), torch.rand(20, 50))
    assert 0 <= int(draws.min()) <= int(draws.max()) < vocab_size


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("vocab_size", [5, 64, 65, 200])
def test_a_diverged_model_is_an_error_and_never_draws_token_v(value: float, vocab_size: int) -> None:
    uniforms = torch.rand(20, 50)
    for part in ("bias", "weight"):
        layer = OutputLayer(4, vocab_size)
        with torch.no_grad():
            getattr(layer, part)[2] = value
        with pytest.raises(ValueError, match=r"NaN, infinite or all 0.*diverged"):
            draw_tokens(layer, torch.ones(20, 4), uniforms)
    logits = torch.zeros(20, vocab_size)
    logits[7, 2] = value
    with pytest.raises(ValueError, match="NaN, infinite or all 0"):
        draw_from_logits(logits, uniforms)


@pytest.mark.parametrize("vocab_size", [5, 64, 65, 200])
def test_a_logit_of_minus_infinity_is_a_token_that_is_never_drawn(vocab_size: int) -> None:
    layer = OutputLayer(4, vocab_size)
    with torch.no_grad():
        layer.bias[2] = -torch.inf
    draws = draw_tokens(layer, torch.ones(20, 4), torch.rand(20, 500))
    assert set(draws.unique().tolist()) == set(range(vocab_size)) - {2}
    with pytest.raises(ValueError, match="NaN, infinite or all 0"):
        draw_from_logits(torch.full((1, vocab_size), -torch.inf), torch.rand(1, 1))


@pytest.mark.parametrize("width", [5, 64, 65, 128, 192])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_masses_that_are_not_finite_are_an_error_wherever_they_stand(width: int, value: float, place: int) -> None:
    masses = torch.nn.functional.pad(torch.ones(3, width), (0, -width % 64 if width > 64 else 0))
    masses[1, place] = value
    with pytest.raises(ValueError, match="NaN, infinite or all 0"):
        draw_from_masses(masses, torch.rand(3, 2))


def test_all_mass_may_stand_in_one_segment() -> None:
    for token in (5, 70, 190):
        masses = torch.zeros(1, 192)
        masses[0, token] = 1.0
        assert draw_from_masses(masses, torch.tensor([[0.0, 0.5, BELOW_ONE]])).tolist() == [[token] * 3]


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("masses_type", [torch.float32, torch.float64])
@pytest.mark.parametrize("uniforms_type", [torch.float32, torch.float64])
def test_masses_and_uniforms_may_be_of_two_types(
    width: int, masses_type: torch.dtype, uniforms_type: torch.dtype
) -> None:
    uniforms = (torch.arange(width, dtype=uniforms_type) + 0.5) / width
    tokens = draw_from_masses(torch.ones(1, width, dtype=masses_type), uniforms[None])
    assert tokens.tolist() == [list(range(width))]


def test_tokens_are_drawn_where_the_states_are_whatever_the_default_device() -> None:
    layer, hidden, uniforms = layer_with(1.0, 100), torch.ones(2, 8), torch.rand(2, 3)
    expected = draw_tokens(layer, hidden, uniforms)
    with torch.device("meta"):
        tokens = draw_tokens(layer, hidden, uniforms)
    assert tokens.device.type == "cpu"
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("width", [5, 64, 128])
def test_masses_of_zero_are_an_error(width: int) -> None:
    masses = torch.ones(3, width)
    masses[1] = 0
    with pytest.raises(ValueError, match="all 0"):
        draw_from_masses(masses, torch.rand(3, 2))
