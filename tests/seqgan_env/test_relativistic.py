"""The relativistic reward: a logit less the mean logit of real sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqgan_env.components import build_reward_model, is_learned_reward
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.relativistic import RelativisticReward
from seqgan_env.tasks.toy import enumerate_sequences, toy_task

EVERYTHING = enumerate_sequences(3, 3)


class Shifted(torch.nn.Module):
    """A discriminator with another constant."""

    def __init__(self, discriminator: CNNDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, sequences: Tensor) -> Tensor:
        logits: Tensor = self.discriminator.score(sequences)
        return logits + 5


def test_the_reward_is_the_logit_less_the_mean_of_the_real_ones_whatever_the_constant() -> None:
    discriminator = CNNDiscriminator(3, 3, ((1, 4), (2, 4)), seed=0)
    real = EVERYTHING[[0, 0, 3]]
    logits = discriminator.score(EVERYTHING)
    expected = logits - (2 * logits[0] + logits[3]) / 3
    torch.testing.assert_close(RelativisticReward(discriminator, real)(EVERYTHING), expected)
    torch.testing.assert_close(RelativisticReward(Shifted(discriminator), real)(EVERYTHING), expected)


def test_it_follows_the_discriminator() -> None:
    discriminator = CNNDiscriminator(3, 3, ((1, 4),), seed=0)
    reward = build_reward_model("relativistic", toy_task(), discriminator)
    before = reward(EVERYTHING)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(2)
    assert not torch.allclose(reward(EVERYTHING), before)
    assert abs(reward(toy_task().some_sequences("train", 256)).mean().item()) < 1e-5
    assert is_learned_reward("relativistic")  # so a game trains its discriminator


def test_without_real_sequences_it_is_refused() -> None:
    with pytest.raises(ValueError, match="real_sequences is empty"):
        RelativisticReward(CNNDiscriminator(3, 3, ((1, 4),)), EVERYTHING[:0])
