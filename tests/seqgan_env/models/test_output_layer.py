"""`models.output_layer`: the blocked softmax equals the plain one, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqgan_env.models import output_layer
from seqgan_env.models.output_layer import OutputLayer, check_temperature, exp_logit_blocks


def random_layer(hidden_size: int, vocab_size: int, std: float, seed: int = 0) -> OutputLayer:
    layer = OutputLayer(hidden_size, vocab_size)
    layer.reset_parameters(std, torch.Generator().manual_seed(seed))
    return layer


def random_rows(rows: int, hidden_size: int, vocab_size: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, targets, weights of both signs."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, hidden_size, generator=generator)
    targets = torch.randint(vocab_size, (rows,), generator=generator)
    return hidden, targets, torch.randn(rows, generator=generator)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that a handful of rows spans several of them."""
    monkeypatch.setitem(output_layer._BLOCK_BYTES, "cpu", 4 * 70 * 3)


CASES = [(1, 3, 1, 0.5), (7, 70, 5, 1.0), (10, 65, 4, 40.0), (4, 1, 2, 1.0)]  # rows, V, H, std; 40 needs the shift


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("rows", "vocab_size", "hidden_size", "std"), CASES)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7, 2.0])
def test_log_probs_equal_plain_log_softmax(
    rows: int, vocab_size: int, hidden_size: int, std: float, temperature: float
) -> None:
    layer = random_layer(hidden_size, vocab_size, std)
    hidden, targets, _ = random_rows(rows, hidden_size, vocab_size)
    plain = torch.log_softmax(layer(hidden).double() / temperature, dim=1)
    expected = plain[torch.arange(rows), targets].float()
    torch.testing.assert_close(layer.log_probs(hidden, targets, temperature), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("rows", "vocab_size", "hidden_size", "std"), CASES)
def test_weighted_log_likelihood_and_its_gradients_equal_autograd_through_log_softmax(
    rows: int, vocab_size: int, hidden_size: int, std: float
) -> None:
    layer = random_layer(hidden_size, vocab_size, std)
    hidden, targets, weights = random_rows(rows, hidden_size, vocab_size)
    hidden.requires_grad_()
    value = layer.weighted_log_likelihood(hidden, targets, weights)
    (3 * value).backward()  # 3: the incoming gradient must be passed on
    gradients = [hidden.grad, layer.weight.grad, layer.bias.grad]

    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, layer.weight, layer.bias)]
    logits = exact[0] @ exact[1].t() + exact[2]
    plain = (weights.double() * torch.log_softmax(logits, dim=1)[torch.arange(rows), targets]).sum()
    (3 * plain).backward()
    torch.testing.assert_close(value.double(), plain, rtol=2e-5, atol=2e-5)
    for gradient, expected in zip(gradients, exact, strict=True):
        torch.testing.assert_close(gradient.double(), expected.grad, rtol=1e-4, atol=1e-4)


def test_rows_of_weight_zero_change_nothing_and_get_no_gradient() -> None:
    layer = random_layer(4, 9, 1.0)
    hidden, targets, weights = random_rows(6, 4, 9)
    weights[[1, 4]] = 0.0
    kept = [0, 2, 3, 5]
    everything = hidden.clone().requires_grad_()
    value = layer.weighted_log_likelihood(everything, targets, weights)
    value.backward()
    alone = layer.weighted_log_likelihood(hidden[kept], targets[kept], weights[kept])
    assert value.item() == pytest.approx(alone.item(), rel=1e-6)
    assert everything.grad[[1, 4]].abs().sum() == 0
    assert (everything.grad[kept].abs().sum(dim=1) > 0).all()


def test_no_rows_of_weight_are_worth_zero() -> None:
    layer = random_layer(4, 9, 1.0)
    hidden, targets, _ = random_rows(3, 4, 9)
    value = layer.weighted_log_likelihood(hidden.requires_grad_(), targets, torch.zeros(3))
    value.backward()
    assert value.item() == 0
    assert hidden.grad.abs().sum() == 0


def test_a_literal_log_probability() -> None:
    layer = OutputLayer(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [0.0]]))
        layer.bias.copy_(torch.tensor([0.0, 1.0]))
    # logits (2, 1): log p = -log(1 + e^-1), -log(1 + e)
    log_probs = layer.log_probs(torch.tensor([[2.0], [2.0]]), torch.tensor([0, 1]))
    assert log_probs.tolist() == pytest.approx([-0.3132617, -1.3132617], abs=1e-6)


@pytest.mark.filterwarnings("error")  # PyTorch warns where a block does not have its place in the buffer
def test_blocks_cover_all_rows_once_and_append_columns_of_no_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(output_layer._BLOCK_BYTES, "cpu", 4 * 128 * 3)  # three rows a block
    layer = random_layer(4, 100, 1.0)
    hidden, _, _ = random_rows(8, 4, 100)
    blocks = [
        (rows, mass.clone(), shift)
        for rows, mass, shift in exp_logit_blocks(hidden, layer.weight.detach(), layer.bias.detach(), 1.0, 64)
    ]
    assert [(rows.start, rows.stop) for rows, _, _ in blocks] == [(0, 3), (3, 6), (6, 8)]
    mass = torch.cat([mass for _, mass, _ in blocks])
    assert mass.shape == (8, 128)
    assert mass[:, 100:].abs().sum() == 0
    torch.testing.assert_close(mass[:, :100], layer(hidden).exp().detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("std", "shifted"), [(0.1, False), (100.0, True)])
def test_logits_are_shifted_only_where_exp_could_overflow(std: float, shifted: bool) -> None:
    layer = random_layer(4, 9, std)
    hidden, _, _ = random_rows(5, 4, 9)
    (_, mass, shift), *_ = exp_logit_blocks(hidden, layer.weight.detach(), layer.bias.detach())
    assert (shift is not None) is shifted
    assert torch.isfinite(mass).all()


@pytest.mark.parametrize(("bound", "shifted"), [(59.9, False), (60.1, True)])
def test_the_bound_on_logits_is_the_longest_weights_times_the_longest_state(bound: float, shifted: bool) -> None:
    weight, bias = torch.full((100, 1), 8.0), torch.full((100,), 6.0)  # each of length 10 with its bias
    hidden = torch.full((100, 1), ((bound / 10) ** 2 - 1) ** 0.5)  # of length bound / 10 with the bias's 1
    weight[1:], hidden[1:] = weight[1:] / 2, hidden[1:] / 2
    (_, _, shift), *_ = exp_logit_blocks(hidden, weight, bias)
    assert (shift is not None) is shifted


def test_a_bound_of_exactly_60_is_no_longer_safe() -> None:
    weight, bias = torch.tensor([[8.0, 0.0, 0.0]]), torch.tensor([6.0])
    ((_, _, shift),) = exp_logit_blocks(torch.tensor([[5.0, 3.0, 1.0]]), weight, bias)
    assert shift is not None


def test_the_shift_is_each_rows_largest_logit() -> None:
    weight, bias = torch.tensor([[100.0], [-100.0]]), torch.zeros(2)
    ((_, mass, shift),) = exp_logit_blocks(torch.tensor([[1.0], [-2.0]]), weight, bias)
    assert shift.tolist() == [[100.0], [200.0]]
    assert mass.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(("bytes_of_a_block", "sizes"), [(1, [1] * 5), (4 * 9 * 2, [2, 2, 1]), (4 * 9 * 4, [3, 2])])
def test_blocks_have_one_row_at_least_and_are_of_one_size(
    monkeypatch: pytest.MonkeyPatch, bytes_of_a_block: int, sizes: list[int]
) -> None:
    monkeypatch.setitem(output_layer._BLOCK_BYTES, "cpu", bytes_of_a_block)
    layer = random_layer(4, 9, 1.0)
    hidden, _, _ = random_rows(5, 4, 9)
    blocks = exp_logit_blocks(hidden, layer.weight.detach(), layer.bias.detach())
    assert [rows.stop - rows.start for rows, _, _ in blocks] == sizes


@pytest.mark.parametrize("first", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("second", [torch.bfloat16, torch.float32, torch.float64])
def test_a_float64_part_makes_float64_and_anything_else_float32(first: torch.dtype, second: torch.dtype) -> None:
    layer = random_layer(4, 9, 1.0).to(second)
    hidden, targets, weights = random_rows(5, 4, 9)
    hidden = hidden.to(first)
    expected = torch.float64 if torch.float64 in (first, second) else torch.float32
    log_probs = layer.log_probs(hidden, targets)
    assert log_probs.dtype == expected
    value = layer.weighted_log_likelihood(hidden, targets, weights.double())
    assert value.dtype == expected
    value.backward()
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == second
    plain = torch.log_softmax(hidden.double() @ layer.weight.double().t() + layer.bias.double(), dim=1)
    torch.testing.assert_close(log_probs.double(), plain[torch.arange(5), targets], rtol=1e-5, atol=1e-5)
    assert value.item() == pytest.approx((weights * log_probs).sum().item(), rel=1e-5)
    assert layer(hidden).dtype == second


@pytest.mark.parametrize("bytes_of_a_block", [1, 1000])
def test_large_terms_that_cancel_leave_the_small_one(monkeypatch: pytest.MonkeyPatch, bytes_of_a_block: int) -> None:
    """Sums over rows and over blocks are float64."""
    monkeypatch.setitem(output_layer._BLOCK_BYTES, "cpu", bytes_of_a_block)
    layer = random_layer(4, 9, 1.0)
    hidden, targets, _ = random_rows(1, 4, 9)
    hidden, targets = hidden.expand(3, -1), targets.expand(3)
    value = layer.weighted_log_likelihood(hidden, targets, torch.tensor([2.0**26, 1.0, -(2.0**26)]))
    assert value.item() == pytest.approx(layer.log_probs(hidden[:1], targets[:1]).item(), rel=1e-5)


def test_rows_of_weight_zero_are_left_out_of_the_work() -> None:
    layer = random_layer(4, 9, 1.0)
    hidden, targets, weights = random_rows(3, 4, 9)
    hidden[1], weights[1] = float("nan"), 0.0
    layer.weighted_log_likelihood(hidden, targets, weights).backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_a_layer_is_made_in_float32_on_the_cpu_whatever_the_defaults() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            layer = OutputLayer(2, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    for parameter, shape in ((layer.weight, (3, 2)), (layer.bias, (3,))):
        assert (parameter.shape, parameter.dtype, parameter.device.type) == (shape, torch.float32, "cpu")
        assert not parameter.any()
        assert parameter.requires_grad


def test_no_rows_make_no_blocks() -> None:
    layer = random_layer(4, 9, 1.0)
    assert list(exp_logit_blocks(torch.empty(0, 4), layer.weight.detach(), layer.bias.detach())) == []


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_a_positive_number_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"^temperature={temperature}"):
        check_temperature(temperature)


def test_a_temperature_outside_the_range_of_float32_is_refused_and_its_ends_are_not() -> None:
    for temperature in (0.99e-3, 1.01e3):
        with pytest.raises(ValueError, match=r"^temperature=.* must lie in \[0\.001, 1000\]; ") as caught:
            check_temperature(temperature)
        hint = "1 samples the model itself; predict(deterministic=True) gives the most likely tokens"
        assert str(caught.value).endswith(f"; {hint}")
    check_temperature(1e-3)
    check_temperature(1e3)


def test_parameters_are_normal_with_the_given_deviation() -> None:
    layer = random_layer(50, 400, 0.1)
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.03)
    assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.005)
    assert layer.bias.std().item() == pytest.approx(0.1, rel=0.2)
    assert layer.bias.mean().item() == pytest.approx(0.0, abs=0.02)


def test_parameters_come_from_the_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (random_layer(3, 5, 1.0, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("weight", "bias"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_a_frozen_layer_passes_the_same_gradient_on_and_has_none_itself() -> None:
    layer = OutputLayer(4, 9)
    layer.reset_parameters(1.0, torch.Generator().manual_seed(0))
    hidden = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    gradients = []
    for learns in (True, False):
        layer.requires_grad_(learns)
        given = hidden.clone().requires_grad_()
        layer.weighted_log_likelihood(given, torch.arange(5), torch.arange(1.0, 6.0)).backward()
        gradients.append(given.grad)
        assert (layer.weight.grad is not None) == learns
        layer.weight.grad = layer.bias.grad = None
    assert torch.equal(*gradients)  # type: ignore[arg-type]
