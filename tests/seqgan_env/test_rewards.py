"""`rewards`: what scores whole sequences, and what is not taken for a reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import ConstantReward, DiscriminatorReward, OracleReward, RewardModel, score_sequences
from seqgan_env.tasks.toy import enumerate_sequences

SEQUENCES = enumerate_sequences(3, 3)


class DroppedSum(nn.Module):
    """A discriminator that is not ours: the tokens' sum, through dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.dropout(sequences.float()).sum(dim=1)


def test_a_discriminators_reward_is_the_sigmoid_of_its_logit() -> None:
    discriminator = CNNDiscriminator(3, 3, filters=((1, 4), (2, 4)))
    with torch.no_grad():
        expected = torch.sigmoid(discriminator.eval()(SEQUENCES))
    rewards = DiscriminatorReward(discriminator)(SEQUENCES)
    torch.testing.assert_close(rewards, expected)
    assert not rewards.requires_grad
    assert ((rewards > 0) & (rewards < 1)).all()


@pytest.mark.parametrize("discriminator", [CNNDiscriminator(3, 3, dropout=0.9), DroppedSum()])
def test_dropout_is_off_in_a_discriminators_reward_and_its_mode_is_restored(discriminator: nn.Module) -> None:
    discriminator.train()
    reward = DiscriminatorReward(discriminator)
    assert torch.equal(reward(SEQUENCES), reward(SEQUENCES))
    assert all(module.training for module in discriminator.modules())
    assert not torch.equal(discriminator(SEQUENCES), discriminator(SEQUENCES))


def test_a_module_of_ones_own_is_passed_through_a_sigmoid() -> None:
    rewards = DiscriminatorReward(DroppedSum())(torch.tensor([[0, 0, 0], [2, 1, 0]]))
    assert rewards.tolist() == pytest.approx([0.5, 0.9525741])


def test_a_discriminators_reward_follows_its_training() -> None:
    discriminator = CNNDiscriminator(3, 3)
    reward = DiscriminatorReward(discriminator)
    before = reward(SEQUENCES)
    with torch.no_grad():
        discriminator.output.bias.add_(3.0)
    assert (reward(SEQUENCES) > before).all()


def test_a_constant_reward_is_the_same_for_every_sequence() -> None:
    assert ConstantReward()(SEQUENCES).tolist() == [0.5] * 27
    assert ConstantReward(2.0)(SEQUENCES[:2]).tolist() == [2.0, 2.0]


def test_the_oracles_reward_is_its_likelihood_a_token(model: LSTMSequenceModel) -> None:
    sequences = torch.tensor([[0, 1, 2], [2, 1, 3]])  # 3 is PAD: a mean over two tokens
    log_probs = model.log_probs(sequences)
    expected = [log_probs[0].mean().exp().item(), log_probs[1, :2].mean().exp().item()]
    assert OracleReward(model)(sequences).tolist() == pytest.approx(expected)


def test_any_callable_is_a_reward_model() -> None:
    assert isinstance(lambda sequences: sequences[:, 0].float(), RewardModel)


@pytest.mark.parametrize(
    "returned", [torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), [1, 2.0], np.array([1.0, 2.0], np.float32)]
)
def test_tensors_arrays_and_lists_of_numbers_are_rewards(returned: object) -> None:
    rewards = score_sequences(lambda sequences: returned, SEQUENCES[:2])
    assert rewards.tolist() == [1.0, 2.0]
    assert rewards.dtype == np.float64


def test_rewards_carry_no_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert score_sequences(lambda sequences: 3 * weight, SEQUENCES[:2]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.tensor([0.5, float("nan")]), ValueError, r"reward_model returned nan for sequence \[0, 0, 1\]"),
        (torch.tensor([float("inf"), 0.5]), ValueError, r"reward_model returned inf for sequence \[0, 0, 0\]"),
        (torch.zeros(3), ValueError, r"reward_model returned shape \(3,\) for 2 sequences"),
        (torch.zeros(2, 1), ValueError, r"reward_model returned shape \(2, 1\)"),
        (torch.tensor(0.5), ValueError, r"reward_model returned shape \(\)"),
        (0.5, ValueError, r"reward_model returned shape \(\)"),
        ("high", TypeError, "reward_model must return a tensor of 2 numbers, got str"),
        ({"a": 1}, TypeError, "reward_model must return a tensor of 2 numbers, got dict"),
        ([None, object()], TypeError, "reward_model must return a tensor of 2 numbers, got list"),
        ([[1.0], [1.0, 2.0]], TypeError, "reward_model must return a tensor of 2 numbers, got list"),
    ],
)
def test_what_is_not_a_finite_number_a_sequence_is_refused(
    returned: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score_sequences(lambda sequences: returned, SEQUENCES[:2])
