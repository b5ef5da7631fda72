"""Eq. 1-8 and 13 by enumeration: in a small world every quantity is computed exactly instead of estimated.

A world consists of all sequences that a small task allows. In: policies, rewards. Out: distributions, action values
(Eq. 4), the objective and its gradient (Eq. 1, 6-7), the best discriminator, NLLs and KLs (Eq. 13), the best policy.
For
teaching and for tests: an estimator is compared with the truth in two lines.

    world = ExactWorld.of(toy_task())
    exact = world.action_values(reward_model, rollout_policy)  # (S, T), what Monte-Carlo search estimates

Where a task has prompts, a sequence is a prompt with a response. Prompts have known probabilities, those of the task's
training sequences. All else is that of the responses: log p(response | prompt), action values, NLLs and KLs per token
of the responses. Log-probabilities of models are float32 and are summed in float64, so "exact" means about 1e-6.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqgan_env.exact.policies import TablePolicy, log_or_minus_infinity, log_probs_by_drawing
from seqgan_env.exact.sequences import FloatArray, IntArray, SequenceTree
from seqgan_env.measures.likelihood import LikelihoodModel
from seqgan_env.models.response_mask import counted_tokens
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rewards import RewardModel, score_sequences
from seqgan_env.rollout_policies import RolloutPolicy
from seqgan_env.tasks.task import Task

Distribution = RolloutPolicy | LikelihoodModel | FloatArray
"""A distribution over all sequences: a policy, or the (S,) probabilities themselves."""

_GRADIENT_ROWS = 1 << 14  # sequences in one gradient computation


@dataclass(frozen=True)
class Moments:
    """Expectation and standard deviation of one draw, in the unit of the drawn values.

    The mean of N independent draws has the standard deviation `deviation / sqrt(N)`.
    """

    mean: float
    deviation: float


class ExactWorld:
    """All sequences of V tokens and T steps, with their exact quantities.

    Without EOS there are V^T. With EOS a sequence ends after it, or at T: n_1 = V, n_T = 1 + (V - 1) n_{T-1}.

    Args:
        vocab_size: V.
        sequence_length: T.
        eos_token: the token that ends a sequence early, or None.
        prompts: (M, P) int64, from which an episode draws its prompt; equal ones may repeat. None: no prompts.

    Attributes:
        sequences: (S, T) int64, all sequences in lexicographic order, PAD = V after the end.
        lengths: (S,) int64, tokens of each sequence that count: with EOS, without the prompt.
        prompt_length: P, 0 without prompts.
        prompt_probabilities: (S,) float64, the probability of each sequence's prompt; 1 without prompts.

    Raises:
        ValueError: if a size is below 1, EOS is not a token, or S is above 200,000.
    """

    def __init__(
        self, vocab_size: int, sequence_length: int, eos_token: int | None = None, prompts: Tensor | None = None
    ) -> None:
        given = np.empty((1, 0), dtype=np.int64) if prompts is None else prompts.cpu().numpy()
        different, counts = np.unique(given, axis=0, return_counts=True)
        self._tree = SequenceTree(vocab_size, sequence_length, eos_token, different)
        self.vocab_size = vocab_size
        self.sequence_length = sequence_length
        self.eos_token = eos_token
        self.prompt_length = given.shape[1]
        self.sequences = torch.from_numpy(self._tree.tokens)
        self._counted = counted_tokens(self.sequences, vocab_size, self.prompt_length).numpy()
        self.lengths = self._counted.sum(axis=1)
        responses = len(self._tree.tokens) // len(different)  # every prompt has equally many
        self._prompt_of = np.repeat(np.arange(len(different)), responses)
        self.prompt_probabilities = np.repeat(counts / counts.sum(), responses)

    @classmethod
    def of(cls, task: Task) -> ExactWorld:
        """The world of a task: its tokens, its steps, its EOS, the prompts of its training sequences."""
        prompts = task.prompts("train") if task.prompt_length else None
        return cls(task.vocab_size, task.sequence_length, task.eos_token, prompts)

    def __len__(self) -> int:
        return len(self._tree.tokens)

    # Distributions.

    def log_probs(self, policy: RolloutPolicy | LikelihoodModel) -> FloatArray:
        """log p(y_t | Y_{1:t-1}) of every token of every sequence in nats, (S, T) float64; 0 at PAD and at prompts.

        A policy without a likelihood draws with 16,384 evenly spaced uniforms at every prefix. Each of its
        probabilities then has an error of about 1e-4.

        Raises:
            ValueError: if the policy has another vocabulary, or its probabilities do not sum to 1.
        """
        if policy.vocab_size != self.vocab_size:
            raise ValueError(f"policy has vocab_size={policy.vocab_size}, the world {self.vocab_size}")
        if isinstance(policy, LikelihoodModel):
            found = policy.log_probs(self.sequences).detach().double().cpu().numpy()
        else:
            found = log_probs_by_drawing(self._tree, policy)
        if self.prompt_length:
            found = np.where(self._counted, found, 0.0)
        totals = np.bincount(self._prompt_of, np.exp(found.sum(axis=1)))
        total = float(totals[np.abs(totals - 1).argmax()])
        if not abs(total - 1) < 1e-3:
            kind = "responses to a prompt" if self.prompt_length else f"{len(self):,} sequences"
            raise ValueError(
                f"{type(policy).__name__} gives all {kind} together the probability {total:.4f}; "
                "expected 1. Look at its log_probs: natural logarithms, one per token, 0 at PAD."
            )
        return found

    def probabilities(self, distribution: Distribution) -> FloatArray:
        """p(Y) of every sequence, (S,) float64; with prompts, p(prompt) p(response | prompt).

        Raises:
            ValueError: if given probabilities have another shape, are negative, or do not sum to 1.
        """
        if not isinstance(distribution, np.ndarray):
            return self.prompt_probabilities * np.exp(self.log_probs(distribution).sum(axis=1))
        if distribution.shape != (len(self),):
            raise ValueError(
                f"probabilities have shape {distribution.shape}, expected ({len(self)},), one per sequence"
            )
        total = float(distribution.sum())
        if not (abs(total - 1) < 1e-3 and (distribution >= 0).all()):
            raise ValueError(f"probabilities must be at least 0 and sum to 1, got the sum {total:.4f}")
        return distribution.astype(np.float64)

    def policy(self, probabilities: FloatArray) -> TablePolicy:
        """The policy that draws sequences with given probabilities, (S,); uniform after prefixes of probability 0."""
        mass = self._tree.edge_sums(self.probabilities(probabilities)[:, None] * self._tree.real).reshape(
            -1, self.vocab_size
        )
        total = mass.sum(axis=1, keepdims=True)
        shares = np.where(total > 0, mass / np.where(total > 0, total, 1), 1 / self.vocab_size)
        return TablePolicy(self._tree.children, shares)

    # Eq. 4: action values. Eq. 1, 6-7: the objective and its gradient.

    def rewards(self, reward_model: RewardModel) -> FloatArray:
        """R(Y) of every sequence, (S,) float64."""
        return score_sequences(reward_model, self.sequences)

    def action_values(self, reward_model: RewardModel, rollout_policy: RolloutPolicy) -> FloatArray:
        """Eq. 4 for N -> infinity: Q(Y_{1:t-1}, y_t) = sum over completions G_beta(completion | Y_{1:t}) R(Y).

        Args:
            reward_model: R.
            rollout_policy: G_beta, which completes the prefix. The prefix itself may have probability 0 under it.

        Returns:
            (S, T) float64, one value for each token of each sequence, in units of the reward; 0 at PAD and at prompts.
        """
        own = self.log_probs(rollout_policy)
        later = own[:, ::-1].cumsum(axis=1)[:, ::-1]
        later = np.concatenate([later[:, 1:], np.zeros((len(self), 1))], axis=1)  # sums over the tokens after y_t
        weighted = np.exp(later) * self.rewards(reward_model)[:, None]
        return np.where(self._counted, self._tree.edge_sums(weighted)[self._tree.edge], 0.0)

    def action_value(self, prefix: Sequence[int], reward_model: RewardModel, rollout_policy: RolloutPolicy) -> Moments:
        """Q of one prefix Y_{1:t} (its last token is the action), with the deviation of R over its completions.

        Raises:
            ValueError: if no sequence of the world begins with it.
        """
        rows = self.beginning_with(prefix)
        weights = np.exp(self.log_probs(rollout_policy)[rows, len(prefix) :].sum(axis=1))
        return moments(weights, score_sequences(reward_model, self.sequences[torch.from_numpy(rows)]))

    def beginning_with(self, prefix: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Which sequences begin with a prefix, (S,) bool.

        Raises:
            ValueError: if no sequence begins with it.
        """
        wanted = np.asarray(prefix, dtype=np.int64)
        rows = np.zeros(len(self), dtype=bool)
        if len(wanted) <= self.sequence_length and (wanted < self.vocab_size).all():
            rows = (self._tree.tokens[:, : len(wanted)] == wanted).all(axis=1)
        if not rows.any():
            raise ValueError(
                f"prefix={list(prefix)} begins no sequence; expected up to {self.sequence_length} tokens of "
                f"0..{self.vocab_size - 1}, none after eos_token={self.eos_token}"
            )
        return rows

    def objective(self, generator: Distribution, reward_model: RewardModel) -> float:
        """Eq. 1: J = sum_Y G(Y) R(Y), in units of the reward."""
        return float(self.probabilities(generator) @ self.rewards(reward_model))

    def gradient(
        self, generator: SequenceModel, reward_model: RewardModel, rollout_policy: RolloutPolicy | None = None
    ) -> dict[str, Tensor]:
        """Eq. 6-7: sum_Y G(Y) sum_t grad log G(y_t | Y_{1:t-1}) Q(Y_{1:t-1}, y_t), where G_beta gives Q.

        With the generator's own Q this is the gradient of J. With another G_beta it is the direction that SeqGAN
        expects to take.

        Args:
            generator: G, a model with parameters, at temperature 1.
            reward_model: R, taken as constant.
            rollout_policy: G_beta; None is the generator itself.

        Returns:
            The gradient by name of parameter, in units of the reward.

        Raises:
            ValueError: if the generator's temperature is not 1.
        """
        if generator.temperature != 1.0:
            raise ValueError(f"generator has temperature={generator.temperature}; its gradient is known only at 1")
        values = self.action_values(reward_model, generator if rollout_policy is None else rollout_policy)
        weights = torch.from_numpy(self.probabilities(generator)[:, None] * values)
        named = {name: part for name, part in generator.named_parameters() if part.requires_grad}
        total = {name: torch.zeros_like(part) for name, part in named.items()}
        was_training = generator.training
        generator.eval()
        try:
            for rows, weight in zip(self.sequences.split(_GRADIENT_ROWS), weights.split(_GRADIENT_ROWS), strict=True):
                scalar = generator.weighted_log_likelihood(
                    rows.to(generator.device), weight.to(generator.device, generator.output.weight.dtype)
                )
                parts = torch.autograd.grad(scalar, list(named.values()), allow_unused=True)
                for name, part in zip(named, parts, strict=True):
                    if part is not None:
                        total[name] += part
        finally:
            generator.train(was_training)
        return total

    def best_sequence(self, reward_model: RewardModel) -> tuple[IntArray, float]:
        """The sequence with the highest reward, (T,) int64, and this reward; the first one of several."""
        rewards = self.rewards(reward_model)
        best = int(rewards.argmax())
        return self._tree.tokens[best].copy(), float(rewards[best])

    def best_policy(
        self, reward_model: RewardModel, anchor: Distribution | None = None, weight: float = 1.0
    ) -> TablePolicy:
        """The policy with the highest J; with an anchor G_0, with the highest J - weight * KL(G || G_0).

        Without an anchor it always writes the best sequence. With one it is G_0(Y) exp(R(Y) / weight) up to a factor.

        Args:
            reward_model: R.
            anchor: G_0, or None.
            weight: of the divergence (nats per sequence), above 0; used with an anchor.

        Raises:
            ValueError: if weight is not above 0.
        """
        rewards = self.rewards(reward_model)
        if anchor is None:
            chosen = np.zeros(len(self))
            for prompt in range(int(self._prompt_of[-1]) + 1):  # the best response to each prompt
                rows = np.flatnonzero(self._prompt_of == prompt)
                chosen[rows[rewards[rows].argmax()]] = self.prompt_probabilities[rows[0]]
            return self.policy(chosen)
        if not weight > 0:
            raise ValueError(f"weight={weight} must be above 0; without an anchor leave both out")
        scores = log_or_minus_infinity(self.probabilities(anchor)) + rewards / weight
        unnormalised = np.exp(scores - scores.max())
        return self.policy(unnormalised / unnormalised.sum())

    # Eq. 5: the best discriminator. Eq. 13: NLLs, entropies, divergences.

    def best_discriminator(self, real: Distribution, generator: Distribution) -> FloatArray:
        """The D that minimises Eq. 5: D(Y) = p(Y) / (p(Y) + G(Y)), (S,) float64; 0.5 where both are 0."""
        p, g = self.probabilities(real), self.probabilities(generator)
        total = p + g
        return np.where(total > 0, p / np.where(total > 0, total, 1), 0.5)

    def discriminator_loss(self, discriminator: FloatArray, real: Distribution, generator: Distribution) -> float:
        """Eq. 5, halved as in training: -(E_p[log D] + E_G[log(1 - D)]) / 2, nats per sequence; log 2 is chance.

        Args:
            discriminator: D(Y) of every sequence, (S,) probabilities.
            real: p.
            generator: G.
        """
        p, g = self.probabilities(real), self.probabilities(generator)
        return -(_expected_log(p, discriminator) + _expected_log(g, 1 - np.asarray(discriminator))) / 2

    def nll(self, sampled: Distribution, scored: Distribution, per: Literal["token", "sequence"] = "token") -> float:
        """-E_{Y ~ sampled}[log scored(Y)] in nats per token (all nats over all expected tokens) or per sequence.

        Eq. 13's NLL_oracle is nll(generator, oracle), NLL_test is nll(oracle, generator), the entropy nll(g, g).
        It is infinite if `scored` gives probability 0 to a sequence that `sampled` draws.
        """
        if per not in ("token", "sequence"):
            raise ValueError(f"per={per!r} must be 'token' or 'sequence'")
        p = self.probabilities(sampled)
        nats = -_expected_log(p, self._responses(scored))
        return nats / float(p @ self.lengths) if per == "token" else nats

    def _responses(self, distribution: Distribution) -> FloatArray:
        """p(response | prompt) of every sequence, (S,) float64; without prompts p(Y)."""
        joint = self.probabilities(distribution)
        if not self.prompt_length:
            return joint
        total = np.bincount(self._prompt_of, joint)[self._prompt_of]
        return np.where(total > 0, joint / np.where(total > 0, total, 1), 0.0)

    def entropy(self, distribution: Distribution, per: Literal["token", "sequence"] = "token") -> float:
        """H = -E[log p(Y)], nats per token or per sequence."""
        return self.nll(distribution, distribution, per)

    def kl(self, p: Distribution, q: Distribution, per: Literal["token", "sequence"] = "token") -> float:
        """KL(p || q) = E_{Y ~ p}[log p(Y) - log q(Y)], nats per token of p, or per sequence."""
        return self.nll(p, q, per) - self.entropy(p, per)

    def jensen_shannon(self, p: Distribution, q: Distribution) -> float:
        """JSD(p, q) in nats per sequence: log 2 minus `discriminator_loss` of the best D."""
        return float(np.log(2)) - self.discriminator_loss(self.best_discriminator(p, q), p, q)


def moments(weights: FloatArray, values: FloatArray) -> Moments:
    """Expectation and deviation of values (S,) under weights (S,), which are scaled to sum to 1."""
    shares = weights / weights.sum()
    mean = float(shares @ values)
    return Moments(mean, float(np.sqrt(shares @ (values - mean) ** 2)))


def _expected_log(weights: FloatArray, values: FloatArray) -> float:
    """sum_s weights_s log values_s, in which 0 log 0 is 0."""
    kept = weights > 0
    return float(weights[kept] @ log_or_minus_infinity(np.asarray(values, dtype=np.float64)[kept]))
