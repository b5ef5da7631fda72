"""Eq. 13 and its companions: how good a generator is, and how diverse.

NLL_oracle = -E_{Y ~ G} log p_oracle(Y) (Eq. 13) rewards only quality: a generator that repeats one likely sequence
scores below the oracle's own entropy. NLL_test = -E_{Y ~ data} log G(Y) punishes missing sequences. The two are always
shown together. Further measures: the entropy H(G), KL(G || oracle) = NLL_oracle - H(G), KL(oracle || G) = NLL_test -
H(oracle), and the share of distinct samples.
In: models and token sequences. Out: nats per token, with standard errors. Log-probabilities are exact, so the only
error is Monte Carlo.
If sequences differ in length, "per token" means all nats divided by all tokens, with EOS and without PAD. So a long
sequence counts more than a short one, as in a language model's perplexity, exp(NLL_test).
With prompts of P tokens, only the responses are counted: log p(response | prompt), per token of the responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.response_mask import counted_tokens
from seqgan_env.rollout_policies import RolloutPolicy, drawn_prompts, sample_sequences


@runtime_checkable
class LikelihoodModel(Protocol):
    """A model with an exact likelihood, such as a sequence model or the uniform policy."""

    vocab_size: int

    def log_probs(self, sequences: Tensor) -> Tensor:
        """log p of every token in nats, 0 at PAD: (B, T) int64 -> (B, T) float32."""


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean and its standard error, both in nats per token unless another unit is given."""

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ±{self.standard_error:.3f}"

    def __sub__(self, other: Estimate) -> Estimate:
        """Difference of two independent estimates."""
        return Estimate(self.mean - other.mean, float(np.hypot(self.standard_error, other.standard_error)))


@dataclass(frozen=True)
class GeneratorMetrics:
    """Measurements of a generator; all fields are in nats per token except the last two.

    Attributes:
        nll_oracle: Eq. 13 on its own samples; None without an oracle.
        nll_test: on held-out real sequences; None if the generator has no likelihood.
        entropy: H(G), the generator's NLL on its own samples; None if it has no likelihood.
        kl_from_oracle: KL(G || oracle) = NLL_oracle - H(G), estimated sample by sample.
        kl_to_oracle: KL(oracle || G) = NLL_test - H(oracle), estimated sequence by sequence on the test set.
        distinct: share of different sequences among the samples.
        n_samples: number of samples.
    """

    nll_oracle: Estimate | None
    nll_test: Estimate | None
    entropy: Estimate | None
    kl_from_oracle: Estimate | None
    kl_to_oracle: Estimate | None
    distinct: float
    n_samples: int

    @property
    def perplexity(self) -> float | None:
        """exp(NLL_test): the generator's uncertainty on held-out sequences, as a number of equally likely tokens."""
        return None if self.nll_test is None else float(np.exp(self.nll_test.mean))


def negative_log_likelihood(model: LikelihoodModel, sequences: Tensor, prompt_length: int = 0) -> np.ndarray:
    """-log p(Y) of each sequence divided by its number of tokens, (M,) float64, nats per token.

    With prompts, -log p(response | prompt) divided by the response's number of tokens, for any kind of model.
    """
    counted = counted_tokens(sequences, model.vocab_size, prompt_length)
    log_probs = model.log_probs(sequences)
    if prompt_length:
        log_probs = log_probs.where(counted.to(log_probs.device), 0)
    return -log_probs.double().sum(dim=1).cpu().numpy() / token_counts(sequences, model.vocab_size, prompt_length)


def token_counts(sequences: Tensor, vocab_size: int, prompt_length: int = 0) -> np.ndarray:
    """Tokens of each sequence with EOS, without its prompt, (M,) int64; 1 if there are none: their likelihood is 1."""
    return counted_tokens(sequences, vocab_size, prompt_length).sum(dim=1).clamp(min=1).cpu().numpy()


def nll_per_token(model: LikelihoodModel, sequences: Tensor, prompt_length: int = 0) -> Estimate:
    """NLL of all sequences (M, T) over the number of all their tokens; with prompts, of all responses."""
    counts = token_counts(sequences, model.vocab_size, prompt_length)
    return estimate(negative_log_likelihood(model, sequences, prompt_length), counts)


def estimate(values: np.ndarray, tokens: np.ndarray | None = None) -> Estimate:
    """Mean and standard error of independent values, (M,).

    Args:
        values: one value per sequence.
        tokens: (M,) weights of the mean, if each value is a mean over so many tokens. The mean is then a ratio of two
            random sums, and its error is that of the linearised ratio. Equal weights change nothing.
    """
    weights = np.ones(len(values)) if tokens is None else tokens / tokens.mean()
    mean = float((weights * values).mean())
    if len(values) < 2:
        return Estimate(mean, float("nan"))
    variance = float(((weights * (values - mean)) ** 2).sum()) / (len(values) - 1)
    return Estimate(mean, float(np.sqrt(variance / len(values))))


def measure_generator(
    generator: RolloutPolicy,
    test_sequences: Tensor,
    rng: np.random.Generator,
    *,
    oracle: LikelihoodModel | None = None,
    n_samples: int = 100_000,
    eos_token: int | None = None,
    prompt_length: int = 0,
) -> GeneratorMetrics:
    """Draw samples and measure them.

    Args:
        generator: G; if it has no likelihood (such as an n-gram policy), only NLL_oracle and `distinct` are measured.
        test_sequences: (M, T) int64, held-out real sequences; T also sets the samples' length.
        rng: source of all randomness.
        oracle: the known distribution, or None.
        n_samples: the paper draws 100,000.
        eos_token: ends a sequence early, or None.
        prompt_length: P; the samples then continue prompts of the test sequences, and only responses are counted.

    Raises:
        ValueError: if n_samples < 1.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples={n_samples} must be at least 1")
    prompts = drawn_prompts(test_sequences, prompt_length, n_samples, rng)
    samples = sample_sequences(generator, n_samples, test_sequences.shape[1], rng, eos_token, prompts)
    return measure_samples(generator, samples, test_sequences, oracle, prompt_length)


def measure_samples(
    generator: RolloutPolicy | LikelihoodModel,
    samples: Tensor,
    test_sequences: Tensor,
    oracle: LikelihoodModel | None = None,
    prompt_length: int = 0,
) -> GeneratorMetrics:
    """The same measurements for given samples, (R, T) int64.

    Args:
        generator: G, which drew the samples.
        samples: (R, T) int64, PAD after the end.
        test_sequences: (M, T) int64, held-out real sequences.
        oracle: the known distribution, or None.
        prompt_length: P, the first tokens of each sequence, which are given; only the others are counted.
    """

    def nll(model: LikelihoodModel, sequences: Tensor) -> np.ndarray:
        return negative_log_likelihood(model, sequences, prompt_length)

    sampled_tokens = token_counts(samples, generator.vocab_size, prompt_length)
    tested_tokens = token_counts(test_sequences, generator.vocab_size, prompt_length)
    oracle_nll = None if oracle is None else nll(oracle, samples)
    own_nll = test_nll = None
    if isinstance(generator, LikelihoodModel):
        own_nll = nll(generator, samples)
        test_nll = nll(generator, test_sequences)
    kl_from = None if oracle_nll is None or own_nll is None else estimate(oracle_nll - own_nll, sampled_tokens)
    kl_to = None
    if oracle is not None and test_nll is not None:
        kl_to = estimate(test_nll - nll(oracle, test_sequences), tested_tokens)
    return GeneratorMetrics(
        nll_oracle=None if oracle_nll is None else estimate(oracle_nll, sampled_tokens),
        nll_test=None if test_nll is None else estimate(test_nll, tested_tokens),
        entropy=None if own_nll is None else estimate(own_nll, sampled_tokens),
        kl_from_oracle=kl_from,
        kl_to_oracle=kl_to,
        distinct=distinct_share(samples[:, prompt_length:]),
        n_samples=len(samples),
    )


def real_metrics(
    samples: Tensor, vocab_size: int, oracle: LikelihoodModel | None = None, prompt_length: int = 0
) -> GeneratorMetrics:
    """Measure real sequences (R, T) int64, of which the first P tokens are not counted, like samples of a generator
    without a likelihood.
    """
    nll = None if oracle is None else negative_log_likelihood(oracle, samples, prompt_length)
    return GeneratorMetrics(
        nll_oracle=None if nll is None else estimate(nll, token_counts(samples, vocab_size, prompt_length)),
        nll_test=None,
        entropy=None,
        kl_from_oracle=None,
        kl_to_oracle=None,
        distinct=distinct_share(samples[:, prompt_length:]),
        n_samples=len(samples),
    )


def distinct_share(sequences: Tensor) -> float:
    """Share of different sequences among (M, T), in (0, 1]."""
    return len(torch.unique(sequences, dim=0)) / len(sequences)
