"""Residual-energy resampling: a generator that is corrected by a discriminator while it generates, and never trained.

Deng, Bakhtin, Ott, Szlam, Ranzato 2020 (arXiv 2004.11714), Eq. 2 and Algorithm 1: the model is
    P(Y) = G(Y) exp(C(Y)) / Z,   Z = E_{Y ~ G}[ exp(C(Y)) ],
with C the logit of a discriminator that was trained against G by Eq. 5. For the best one C = log(p / G), and P is the
real distribution. Samples: draw M proposals from G, and pick one of them with probability softmax(C). With M = 1 this
is G, for M -> infinity it is P.
NLL of P per sequence: -log P(Y) = -log G(Y) - C(Y) + log Z. So NLL_test of P is that of G less the held-out gain,
E_real[C] - log Z. In: a generator, a logit. Out: sequences, and an estimate of log Z from all proposals. The mean of
exp(C) is estimated, so log Z comes out too low by about half its squared standard error.
Departure from the paper: there are no prefixes of 120 tokens that P continues, and no top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgan_env.arguments import check_count
from seqgan_env.measures.likelihood import Estimate, LikelihoodModel
from seqgan_env.models.sampling import draw_from_logits
from seqgan_env.rewards import RewardModel
from seqgan_env.rollout_policies import RolloutPolicy, sample_sequences

_PROPOSED = 1 << 14  # proposals drawn and scored together


@dataclass(frozen=True)
class Resampled:
    """What was drawn.

    Attributes:
        sequences: (R, T) int64, PAD after the end.
        log_z: log Z, nats per sequence, from all R * M proposals.
    """

    sequences: Tensor
    log_z: Estimate


def resample(
    generator: RolloutPolicy,
    logit: RewardModel,
    count: int,
    proposals: int,
    sequence_length: int,
    rng: np.random.Generator,
    eos_token: int | None = None,
) -> Resampled:
    """Draw sequences, each of them picked among proposals of the generator.

    Args:
        generator: G.
        logit: C; a constant that is added to it changes neither the sequences nor P.
        count: R, number of sequences.
        proposals: M, for each of them.
        sequence_length: T.
        rng: source of all randomness.
        eos_token: the token that ends a sequence early, or None.

    Raises:
        ValueError: if a number is below 1.
    """
    check_count("count", count)
    check_count("proposals", proposals)
    picked, scores = [], []
    rows = max(1, _PROPOSED // proposals)
    for start in range(0, count, rows):
        some = min(rows, count - start)
        proposed = sample_sequences(generator, some * proposals, sequence_length, rng, eos_token)
        logits = torch.as_tensor(logit(proposed)).to(proposed.device).view(some, proposals)
        uniforms = torch.from_numpy(rng.random((some, 1), dtype=np.float32)).to(logits.device)
        choice = draw_from_logits(logits.float(), uniforms).squeeze(1)  # (some,), places of the picked ones
        place = torch.arange(some, device=choice.device) * proposals + choice
        picked.append(proposed[place])
        scores.append(logits.double().flatten().cpu())
    return Resampled(torch.cat(picked), log_mean_exp(torch.cat(scores).numpy()))


def log_mean_exp(values: np.ndarray) -> Estimate:
    """log of the mean of exp(values), (K,), and its standard error, that of the mean over the mean."""
    largest = values.max()
    ratios = np.exp(values - largest)
    mean = ratios.mean()
    error = ratios.std(ddof=1) / np.sqrt(len(ratios)) / mean if len(ratios) > 1 else float("nan")
    return Estimate(float(largest + np.log(mean)), float(error))


class ResidualModel:
    """P(Y) = G(Y) exp(C(Y)) / Z, as a model with a likelihood: what resampling draws from for M -> infinity.

    Args:
        generator: G, with a likelihood.
        logit: C.
        log_z: log Z, nats per sequence.

    Attributes:
        vocab_size: V.
    """

    def __init__(self, generator: LikelihoodModel, logit: RewardModel, log_z: float) -> None:
        self.vocab_size = generator.vocab_size
        self.generator = generator
        self.logit = logit
        self.log_z = log_z

    def log_probs(self, sequences: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T), whose sum over a row is log P(Y) in nats; 0 at PAD.

        P knows whole sequences only. Each token has log G, and the first one also C(Y) - log Z.
        """
        found = self.generator.log_probs(sequences).clone()
        found[:, 0] += torch.as_tensor(self.logit(sequences)).to(found) - self.log_z
        return found
