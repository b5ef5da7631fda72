"""`mixed_reward`: a weighted sum of rewards, its name, its terms' means, and its state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.components import build_reward_model, is_learned_reward
from seqgan_env.mixed_reward import MixedReward, Term, reward_terms
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import ConstantReward, DiscriminatorReward, RandomReward, load_reward_state, reward_state
from seqgan_env.tasks.toy import toy_task

HERE = __name__
TASK = toy_task()


def verifier(sequences: Tensor) -> Tensor:
    """Whether a sequence begins with token 0."""
    return (sequences[:, 0] == 0).float()


SPEC = f"0.5*discriminator + -2*{HERE}:verifier+constant:0.25"


def test_a_sum_is_the_sum_of_its_weighted_terms() -> None:
    discriminator = CNNDiscriminator(3, 3, ((1, 4),), seed=1)
    reward = build_reward_model(SPEC, TASK, discriminator)
    sequences = TASK.real_sequences("train")[:20]
    expected = 0.5 * DiscriminatorReward(discriminator)(sequences) - 2 * verifier(sequences) + 0.25
    torch.testing.assert_close(reward(sequences), expected.double(), atol=1e-6, rtol=0)


def test_the_name_is_read_with_its_weights() -> None:
    assert reward_terms(SPEC) == [Term(0.5, "discriminator"), Term(-2, f"{HERE}:verifier"), Term(1, "constant:0.25")]


@pytest.mark.parametrize("spec", ["x*bleu", "nan*bleu", "inf*bleu", "0*bleu", "bleu+", "2*", "+bleu", "2*3*bleu"])
def test_what_is_no_sum_is_named(spec: str) -> None:
    with pytest.raises(ValueError, match=r"reward_model='.*'"):
        build_reward_model(spec, TASK)


def test_a_name_that_occurs_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="'bleu' occurs twice; add its weights"):
        reward_terms("bleu + 2*bleu")


@pytest.mark.parametrize(
    ("spec", "is_learned"), [(SPEC, True), ("bleu + 2*logit", True), ("bleu + constant", False), ("2*bleu", False)]
)
def test_a_sum_with_a_discriminator_is_learned(spec: str, is_learned: bool) -> None:
    assert is_learned_reward(spec) is is_learned


def test_means_of_the_terms_are_over_all_sequences_since_they_were_taken() -> None:
    reward = build_reward_model(f"3*{HERE}:verifier + constant:0.25", TASK)
    assert isinstance(reward, MixedReward)
    assert reward.take_means() == {}
    sequences = torch.tensor([[0, 1, 2], [1, 1, 1], [0, 0, 0]])
    reward(sequences)
    reward(sequences[:1])
    assert reward.take_means() == pytest.approx({f"{HERE}:verifier": 3 / 4, "constant:0.25": 0.25})
    assert reward.take_means() == {}


def test_the_state_holds_random_streams_and_sums() -> None:
    def made() -> MixedReward:
        terms = [Term(1, "random"), Term(2, "constant")]
        return MixedReward(terms, [RandomReward(np.random.default_rng(3)), ConstantReward()])

    first, second = made(), made()
    first(TASK.real_sequences("train")[:5])
    load_reward_state(second, reward_state(first))
    sequences = TASK.real_sequences("train")[:7]
    assert torch.equal(first(sequences), second(sequences))
    assert first.take_means() == second.take_means()


def test_an_environment_seeds_the_random_terms() -> None:
    reward = build_reward_model("random + constant", TASK, rng=np.random.default_rng(5))
    assert isinstance(reward, MixedReward)
    assert reward.rng.random() == np.random.default_rng(5).random()


def test_a_term_that_is_not_finite_is_refused() -> None:
    reward = MixedReward([Term(1, "broken")], [lambda sequences: torch.full((len(sequences),), math.nan)])
    with pytest.raises(ValueError, match="must be finite"):
        reward(TASK.real_sequences("train")[:2])


def test_terms_and_models_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="1 terms need as many"):
        MixedReward([Term(1, "constant")], [])
