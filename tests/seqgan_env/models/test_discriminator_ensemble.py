"""`models.discriminator_ensemble`: scores, penalties and gradients of the mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqgan_env.models.context_discriminators import GRUDiscriminator
from seqgan_env.models.discriminator_ensemble import DiscriminatorEnsemble
from seqgan_env.models.discriminators import CNNDiscriminator, Discriminator

V, T = 6, 5


def sequences() -> Tensor:
    return torch.randint(V, (12, T), generator=torch.Generator().manual_seed(0))


def ensemble() -> DiscriminatorEnsemble:
    members = [CNNDiscriminator(V, T, "light"), GRUDiscriminator(V, T), GRUDiscriminator(V, T, l2=0.7, seed=1)]
    return DiscriminatorEnsemble(members)


def test_an_ensemble_scores_the_mean_of_its_members_logits() -> None:
    model, batch = ensemble(), sequences()
    expected = sum(member.score(batch) for member in model.members) / 3
    torch.testing.assert_close(model.score(batch), expected)
    torch.testing.assert_close(model.eval()(batch).detach(), expected, atol=1e-5, rtol=1e-5)
    penalties = [member.penalty().item() for member in model.members]
    assert model.penalty().item() == pytest.approx(sum(penalties) / 3)


def test_members_of_an_ensemble_learn_each_from_their_own_loss() -> None:
    model, batch = ensemble().eval(), sequences()
    logits = model.member_logits(batch)
    assert logits.shape == (3, 12)
    F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    for member in model.members:
        own = {name: parameter.grad.clone() for name, parameter in member.named_parameters()}
        member.zero_grad()
        (F.binary_cross_entropy_with_logits(member(batch), torch.ones(len(batch))) / 3).backward()
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(own[name], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "members is empty"),
        ([GRUDiscriminator(V, T)] * 2, "the same discriminator twice"),
        ([GRUDiscriminator(V, T), GRUDiscriminator(V + 1, T)], r"\[\(6, 5\), \(7, 5\)\]; they must be equal"),
    ],
)
def test_members_that_do_not_make_an_ensemble_are_refused(members: list[Discriminator], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscriminatorEnsemble(members)
