"""SeqGAN through environment, search, SB3 and callback against a plain loop: same seeds, same parameters.

The loop below is Algorithm 1 with Eq. 4, 5 and 7 as they read: no Gymnasium, no SB3, no buffers and no state that is
carried along. Each completion reads its prefix from the start; LSTM, discriminator and losses are those of
`benchmarks.plain`, Adam is written out. What both sides share are the random streams: PyTorch's for actions and
dropout, one NumPy generator a row for the search, the trainer's for negatives and their order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy
from agents.reinforce import REINFORCE
from agents.vec_env import SequenceVecEnv
from benchmarks import plain
from seqgan_env import mdp
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.mdp import RewardMode
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from tests.marks import slow

V, T, B, SEED, UPDATES = 4, 4, 6, 3, 20
NEGATIVES, D_STEPS, K_EPOCHS, D_BATCH = 20, 2, 2, 16
G_RATE, D_RATE = 1e-2, 1e-2
TOLERANCE = 1e-5  # of a parameter after all updates; float32 sums in another order differ by 2e-6


@dataclass(frozen=True)
class Game:
    """What differs between the games that are played both ways."""

    reward_mode: RewardMode = "action_value"
    n_rollouts: int = 3
    retrained: bool = True
    rollout_rate: float = 0.0


GAMES = {
    "D fixed": Game(retrained=False),
    "D fixed, one completion": Game(retrained=False, n_rollouts=1),
    "D retrained": Game(),
    "D retrained, one completion": Game(n_rollouts=1),
    "D retrained, G_beta delayed": Game(rollout_rate=0.8, n_rollouts=16),
    "potential": Game(reward_mode="potential"),
    "terminal": Game(reward_mode="terminal"),
}
# Slow: each is a mixture of others.
ALSO = ("D fixed, one completion", "D retrained", "D retrained, one completion", "potential")


@dataclass(frozen=True)
class Outcome:
    """After the last update: all parameters of G, in one vector, and logits of D for all sequences."""

    generator: Tensor
    logits: Tensor


@pytest.fixture(scope="module")
def toy() -> Task:
    return toy_task(V, T, n_sequences=40)


def new_generator() -> LSTMSequenceModel:
    return LSTMSequenceModel(V, 5, 6, init_std=0.5, seed=1)


def new_discriminator() -> CNNDiscriminator:
    """D_phi with rewards that lie far apart."""
    discriminator = CNNDiscriminator(V, T, [(1, 6), (2, 8), (3, 5)], embedding_size=4, seed=2)
    nn.init.normal_(discriminator.output.weight, generator=torch.Generator().manual_seed(0))
    return discriminator


def outcome(generator: LSTMSequenceModel, discriminator: nn.Module) -> Outcome:
    with torch.no_grad():
        logits = discriminator.eval()(enumerate_sequences(V, T))
    return Outcome(nn.utils.parameters_to_vector(generator.parameters()).detach(), logits)


def through_the_environment(toy: Task, game: Game) -> Outcome:
    generator, discriminator = new_generator(), new_discriminator()
    env = SequenceVecEnv(
        SequenceVectorEnv(
            toy,
            B,
            reward_model=discriminator,
            reward_mode=game.reward_mode,
            rollout_policy=generator,
            n_rollouts=game.n_rollouts,
        )
    )
    agent = REINFORCE(
        SequencePolicy, env, learning_rate=G_RATE, policy_kwargs={"generator": generator}, seed=SEED, device="cpu"
    )
    trainer = DiscriminatorTrainer(
        discriminator if game.retrained else None,
        toy,
        d_steps=D_STEPS,
        k_epochs=K_EPOCHS,
        sample_size=NEGATIVES,
        batch_size=D_BATCH,
        learning_rate=D_RATE,
        rollout_rate=game.rollout_rate,
        seed=SEED,
    )
    torch.manual_seed(SEED)  # building policies draws too
    agent.learn(UPDATES * B * T, trainer)
    return outcome(generator, discriminator)


# The plain loop.


class Adam:
    """Kingma & Ba (2015), Algorithm 1; `zero_grad` and `step` as in PyTorch."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, eps: float) -> None:
        self.parameters, self.learning_rate, self.eps, self.count = list(parameters), learning_rate, eps, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        for parameter, (first, second) in zip(self.parameters, self.moments, strict=True):
            assert parameter.grad is not None
            first.copy_(0.9 * first + 0.1 * parameter.grad)
            second.copy_(0.999 * second + 0.001 * parameter.grad**2)
            mean, square = first / (1 - 0.9**self.count), second / (1 - 0.999**self.count)
            parameter.sub_(self.learning_rate * mean / (square.sqrt() + self.eps))


@torch.no_grad()
def go_on(model: LSTMSequenceModel, prefixes: Tensor, uniforms: Tensor) -> Tensor:
    """Draw as many tokens as uniforms has columns, by inverse CDF; the prefix is read anew for each. (R, t) int64."""
    for column in uniforms.unbind(1):
        logits = plain.sequence_logits(model, nn.functional.pad(prefixes, (0, 1)))[:, -1]
        below = torch.softmax(logits, dim=1).cumsum(dim=1) <= column.unsqueeze(1)
        prefixes = torch.cat([prefixes, below.sum(dim=1, keepdim=True).clamp(max=V - 1)], dim=1)
    return prefixes


def empty(rows: int) -> Tensor:
    return torch.empty((rows, 0), dtype=torch.int64)


def action_value(
    rollout_policy: LSTMSequenceModel, discriminator: nn.Module, prefix: Tensor, n: int, rng: np.random.Generator
) -> float:
    """Eq. 4 of one prefix, (t,) int64: the mean of D over N completions, or D itself at the end."""
    sequences = prefix.unsqueeze(0)
    if len(prefix) < T:
        uniforms = torch.from_numpy(rng.random((n, T - len(prefix)), dtype=np.float32))
        sequences = go_on(rollout_policy, sequences.repeat(n, 1), uniforms)
    return float(plain.final_values(discriminator, sequences).mean())


def weights_of_the_gradient(q: Tensor, reward_mode: RewardMode) -> Tensor:
    """Eq. 7's weight of each step, (B, T), from its Q; where rewards sum to R(Y), the return to go."""
    if reward_mode == "action_value":
        return q
    final = q[:, -1:].expand(-1, T)
    if reward_mode == "terminal":
        return final
    return final - nn.functional.pad(q[:, :-1], (1, 0))  # the sum of Q_s - Q_{s-1} over s = t..T


def retrain(
    discriminator: plain.PlainDiscriminator, optimizer: Any, generator: LSTMSequenceModel, toy: Task, rng: Any
) -> None:
    """One of the d steps of Eq. 5."""
    negatives = go_on(generator, empty(NEGATIVES), torch.from_numpy(rng.random((NEGATIVES, T), dtype=np.float32)))
    real = toy.real_sequences("train")
    real = real[rng.permutation(len(real))[:NEGATIVES]]
    for _ in range(K_EPOCHS):
        discriminator.train()
        shuffled = [rows[rng.permutation(NEGATIVES)].split(D_BATCH // 2) for rows in (real, negatives)]
        for real_batch, generated_batch in zip(*shuffled, strict=True):
            plain.discriminator_step(discriminator, optimizer, real_batch, generated_batch)
        discriminator.eval()
    rng.random((len(toy.real_sequences("validation")), T), dtype=np.float32)  # what the trainer's report draws


def plain_loop(toy: Task, game: Game) -> Outcome:
    generator, discriminator = new_generator(), plain.PlainDiscriminator(new_discriminator()).eval()
    rollout_policy = copy.deepcopy(generator)
    adam = Adam(generator.parameters(), G_RATE, eps=1e-5)  # SB3's eps
    discriminator_adam = Adam(discriminator.parameters(), D_RATE, eps=1e-8)
    row_rngs = [np.random.default_rng(SEED + row) for row in range(B)]
    trainer_rng = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    for _ in range(UPDATES):
        sequences, q = empty(B), torch.full((B, T), torch.nan)
        for t in range(T):
            sequences = go_on(generator, sequences, torch.rand(B, 1))
            if game.reward_mode == "terminal" and t + 1 < T:
                continue  # no search is run
            for row, rng in enumerate(row_rngs):
                q[row, t] = action_value(rollout_policy, discriminator, sequences[row], game.n_rollouts, rng)
        adam.zero_grad()
        plain.policy_gradient_loss(generator, sequences, weights_of_the_gradient(q, game.reward_mode)).backward()
        norm = torch.stack([p.grad.square().sum() for p in generator.parameters() if p.grad is not None]).sum().sqrt()
        for parameter in generator.parameters():
            assert parameter.grad is not None
            parameter.grad *= min(1.0, 5.0 / float(norm))
        adam.step()
        if game.retrained:
            for _ in range(D_STEPS):
                retrain(discriminator, discriminator_adam, generator, toy, trainer_rng)
        with torch.no_grad():
            for beta, theta in zip(rollout_policy.parameters(), generator.parameters(), strict=True):
                beta.copy_(game.rollout_rate * beta + (1 - game.rollout_rate) * theta)
    return outcome(generator, discriminator)


@pytest.mark.parametrize(
    "game",
    [slow(game, id=name) if name in ALSO else pytest.param(game, id=name) for name, game in GAMES.items()],
)
def test_reinforce_through_the_environment_equals_a_plain_loop_without_gymnasium(toy: Task, game: Game) -> None:
    ours, other = through_the_environment(toy, game), plain_loop(toy, game)
    start = outcome(new_generator(), new_discriminator())
    assert (ours.generator - start.generator).abs().mean() > 1000 * TOLERANCE  # both have moved far
    assert torch.equal(ours.logits, start.logits) != game.retrained
    torch.testing.assert_close(ours.generator, other.generator, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours.logits, other.logits, rtol=0, atol=10 * TOLERANCE)


FAULTS = {
    "all rewards on the next row": lambda values: np.roll(values, 1),
    "two rows swapped": lambda values: values[[*range(B - 2), B - 1, B - 2]],
    "a thousandth more": lambda values: values * 1.001,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_the_search_tells_environment_and_plain_loop_apart(
    toy: Task, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    game, original = Game(retrained=False), mdp.action_values
    monkeypatch.setattr(mdp, "action_values", lambda *arguments: fault(original(*arguments)))
    ours, other = through_the_environment(toy, game), plain_loop(toy, game)
    assert (ours.generator - other.generator).abs().max() > 3 * TOLERANCE
