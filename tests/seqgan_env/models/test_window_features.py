"""`models.window_features`: against convolution and maximum, forward and backward, by product and by table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqgan_env.models.window_features import WindowFeatures, WindowMaxima, shared_prefixes

FILTERS = ((1, 3), (2, 4), (5, 2))
V, E, T = 7, 4, 5


def features_module(seed: int = 0) -> WindowFeatures:
    module = WindowFeatures(FILTERS, E)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


def by_convolution(module: WindowFeatures, embedded: Tensor) -> Tensor:
    """The same features by `conv1d` and `amax`: (T, B, E) -> (B, F)."""
    pooled = [
        F.conv1d(embedded.permute(1, 2, 0), kernel.view(count, window, E).transpose(1, 2)).amax(dim=2)
        for (window, count), kernel in zip(FILTERS, module.kernels, strict=True)
    ]
    return torch.cat(pooled, dim=1) + module.bias


def random_embedding(seed: int = 1) -> Tensor:
    return torch.randn(V, E, generator=torch.Generator().manual_seed(seed))


def random_tokens(rows: int, seed: int = 2) -> Tensor:
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_features_and_gradients_equal_a_convolutions(rows: int) -> None:
    module, embedding = features_module(), random_embedding().requires_grad_()
    tokens = random_tokens(rows)  # tokens repeat, so that windows tie
    weights = torch.randn(rows, module.size, generator=torch.Generator().manual_seed(3))
    parameters = [embedding, *module.parameters()]
    ours, theirs = module(embedding[tokens.t()]), by_convolution(module, embedding[tokens.t()])
    torch.testing.assert_close(ours, theirs)
    for mine, expected in zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((theirs * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected)


def test_the_gradient_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    assert torch.autograd.gradcheck(
        WindowMaxima.apply, (leaf(T, 3, E), None, leaf(3, E), leaf(4, 2 * E), leaf(2, T * E))
    )


def test_the_gradient_equals_finite_differences_where_sequences_end_early() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1, 3, T])
    inside = (torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2)

    def features(embedded: Tensor, *kernels: Tensor) -> Tensor:
        return WindowMaxima.apply(embedded * inside, lengths, *kernels)

    leaves = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((T, 3, E), (3, E), (4, 2 * E), (2, T * E))
    ]
    assert torch.autograd.gradcheck(features, leaves)


def test_large_batches_take_the_slow_sort_to_the_same_gradient() -> None:
    """Beyond 2^15 windows the 16-bit sort cannot number them."""
    module, embedding = features_module(), random_embedding().requires_grad_()
    tokens = random_tokens(2**15 // T + 1)
    ours, theirs = module(embedding[tokens.t()]), by_convolution(module, embedding[tokens.t()])
    mine, expected = (torch.autograd.grad(total.mean(), embedding)[0] for total in (ours, theirs))
    torch.testing.assert_close(mine, expected)


def test_a_second_derivative_is_refused_and_not_silently_wrong() -> None:
    module, embedding = features_module(), random_embedding().requires_grad_()
    (first,) = torch.autograd.grad(module(embedding[random_tokens(3).t()]).square().sum(), embedding, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("shared", [0, 1, 3, 4, 5])
def test_looking_up_equals_multiplying_whatever_neighbours_share(shared: int) -> None:
    module, embedding = features_module(), random_embedding()
    tokens = random_tokens(12)
    tokens[:, :shared] = tokens[::4].repeat_interleave(4, dim=0)[:, :shared]  # groups of four, as completions
    torch.testing.assert_close(
        module.look_up(tokens, module.token_tables(embedding)), module(embedding[tokens.t()]).detach()
    )


@pytest.mark.parametrize("shared", [0, 1, 3, 4, 5])
def test_looking_up_equals_multiplying_whatever_neighbours_share_and_wherever_they_end(shared: int) -> None:
    module, embedding = features_module(), torch.cat([random_embedding(), torch.zeros(1, E)])
    tokens = random_tokens(16)
    lengths = torch.tensor([1, 2, 3, 4, 5, 5, 5, 5, 4, 5, 4, 5, 3, 3, 2, 5])
    tokens[:, :shared] = tokens[::4].repeat_interleave(4, dim=0)[:, :shared]
    tokens[torch.arange(T) >= lengths.unsqueeze(1)] = V
    looked_up = module.look_up(tokens, module.token_tables(embedding), lengths)
    torch.testing.assert_close(looked_up, module(embedding[tokens.t()], lengths).detach())
    assert bool(looked_up.isfinite().all())


def test_looking_up_sequences_of_one_does_not_depend_on_the_batch() -> None:
    module, embedding = features_module(), random_embedding()
    tokens = random_tokens(12)
    tokens[:8, :3] = tokens[0, :3]
    one_by_one = torch.cat([module.look_up(row.unsqueeze(0), module.token_tables(embedding)) for row in tokens])
    torch.testing.assert_close(module.look_up(tokens, module.token_tables(embedding)), one_by_one, rtol=0, atol=0)


def test_groups_share_the_prefix_that_most_neighbours_share() -> None:
    a, b = [1, 2, 3, 4], [1, 2, 9, 9]
    tokens = torch.tensor([a, a, [1, 2, 3, 5], b, [1, 2, 9, 8], [7, 7, 7, 7]])
    length, leaders, leader_of = shared_prefixes(tokens)  # agreements with the row before: 4, 3, 2, 3, 0
    assert length == 3
    assert leaders.tolist() == [0, 3, 5]
    assert leader_of.tolist() == [0, 0, 0, 1, 1, 2]


def test_equal_rows_keep_a_window_of_their_own() -> None:
    """The shared prefix stays below T, so that every sequence has windows behind it."""
    assert shared_prefixes(torch.ones(3, 4, dtype=torch.int64))[0] == 3


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (0, 4)])
def test_nothing_is_shared_where_there_are_no_neighbours(shape: tuple[int, int]) -> None:
    length, leaders, leader_of = shared_prefixes(torch.ones(shape, dtype=torch.int64))
    assert length == 0
    assert leaders.tolist() == leader_of.tolist() == list(range(shape[0]))
