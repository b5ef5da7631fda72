"""`models.attention`: the Transformer block against its equations in NumPy, and stepping against all steps at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.models.attention import TransformerBlock, remember, visible_slots

B, T, W = 3, 5, 6


@pytest.fixture
def block() -> TransformerBlock:
    block = TransformerBlock(W, heads=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0.0, 0.7, generator=generator)
    return block


def vectors(seed: int = 1) -> Tensor:
    return torch.randn(B, T, W, generator=torch.Generator().manual_seed(seed))


def numpy_block(block: TransformerBlock, x: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The block as its equations read, in float64: x (T, W), visible (T, T) bool, step by step and head by head."""
    p = {name: tensor.double().numpy() for name, tensor in block.state_dict().items()}

    def norm(v: np.ndarray, name: str) -> np.ndarray:
        centred = v - v.mean()
        return p[f"{name}.weight"] * centred / np.sqrt((centred**2).mean() + 1e-5) + p[f"{name}.bias"]

    projected = np.stack([p["queries_keys_values.weight"] @ norm(v, "attention_norm") for v in x])
    q, k, v = np.split(projected, 3, axis=1)
    out = []
    for t in range(len(x)):
        mixed = []
        for head in np.split(np.arange(W), block.heads):
            scores = [q[t, head] @ k[s, head] / math.sqrt(len(head)) for s in range(len(x)) if visible[t, s]]
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed.append(weights @ v[visible[t]][:, head])
        y = x[t] + p["mix.weight"] @ np.concatenate(mixed) + p["mix.bias"]
        inner = p["expand.weight"] @ norm(y, "feed_forward_norm") + p["expand.bias"]
        gelu = np.array([0.5 * a * (1 + math.erf(a / math.sqrt(2))) for a in inner])
        out.append(y + p["contract.weight"] @ gelu + p["contract.bias"])
    return np.stack(out)


@torch.no_grad()
def test_causal_attention_equals_its_equations_in_numpy_float64(block: TransformerBlock) -> None:
    x = vectors()
    expected = [numpy_block(block, row, np.tri(T, dtype=bool)) for row in x.double().numpy()]
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


@torch.no_grad()
def test_masked_attention_sees_the_visible_steps_alone(block: TransformerBlock) -> None:
    x = vectors()
    visible = torch.tensor([[True] * 5, [True, True, False, False, False], [True, False, True, False, True]])
    expected = [
        numpy_block(block, r, np.tile(m, (T, 1))) for r, m in zip(x.double().numpy(), visible.numpy(), strict=True)
    ]
    np.testing.assert_allclose(block(x, visible), expected, atol=1e-5)


@torch.no_grad()
def test_stepping_with_a_memory_equals_all_steps_at_once(block: TransformerBlock) -> None:
    x = vectors()
    whole, memory = block(x), torch.zeros(B, 2, T, W)
    for t in range(T):
        torch.testing.assert_close(block.step(x[:, t], memory, torch.full((B,), t)), whole[:, t], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_of_one_step_may_stand_in_different_slots_and_stale_slots_behind_are_not_seen(
    block: TransformerBlock,
) -> None:
    x = vectors()
    whole, memory = block(x), torch.zeros(B, 2, T, W)
    for t in range(T):
        block.step(x[:, t], memory, torch.full((B,), t))  # every slot is written
    slots = torch.tensor([1, 4, 2])
    stepped = block.step(x[torch.arange(B), slots], memory, slots)
    torch.testing.assert_close(stepped, whole[torch.arange(B), slots], atol=1e-5, rtol=1e-5)


def test_remembering_writes_each_row_into_its_own_slot_and_nowhere_else() -> None:
    memory = torch.zeros(2, 3, 2)
    remember(memory, torch.tensor([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert memory.tolist() == [[[0, 0], [0, 0], [1, 2]], [[3, 4], [0, 0], [0, 0]]]


def test_a_row_sees_the_slots_up_to_its_own() -> None:
    assert visible_slots(torch.tensor([2, 0])).tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("heads", [0, 4])
def test_heads_that_do_not_share_the_width_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match=f"heads={heads} must (be at least 1|divide the width of the vectors, 6)"):
        TransformerBlock(W, heads)
