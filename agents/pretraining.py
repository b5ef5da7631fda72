"""Pretraining of the generator: maximum likelihood, and scheduled sampling (Bengio et al. 2015).

max_theta sum_{Y real} sum_t log G_theta(y_t | Y_{1:t-1}). In: real sequences (M, T) int64. Out: a trained generator.
Departures from the authors' code: batches are reshuffled each epoch unless `reshuffle` is off, and the last, smaller
batch is used (their code keeps the file's order and drops this batch). Scheduled sampling draws a new coin for every
token (their 2016 graph draws it once).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.moments import load_moments, moments
from agents.setting_paths import check_counts, check_positive, check_shares
from seqgan_env.measures.likelihood import Estimate, nll_per_token
from seqgan_env.models.sequence_models import SequenceModel, shift_right


@dataclass(frozen=True)
class PretrainingConfig:
    """Pretraining of the generator by maximum likelihood (MLE)."""

    epochs: int = 120
    """MLE epochs: the exact number, or the maximum with --pretraining.patience [2016: 240; 2018: 120]."""
    patience: int | None = None
    """Stop MLE after this many epochs without a lower held-out NLL, and restore the best; None: never [P: None]."""
    learning_rate: float = 1e-2
    """Adam's learning rate for MLE [2016: 1e-3; 2018: 1e-2]."""
    batch_size: int = 64
    """Sequences per MLE step [2016, 2018: 64]."""
    max_grad_norm: float = 5.0
    """Global norm to which gradients of MLE are clipped [2016, 2018: 5]."""
    reshuffle: bool = True
    """Draw new MLE batches each epoch [P: not said; 2016, 2018: False]."""
    epoch_sequences: int | None = None
    """Most sequences in an MLE epoch, drawn anew for each one; it bounds the work of an epoch; None: all [P: all]."""
    curriculum_rate_step: float = 0.0
    """Scheduled sampling: decrease per MLE epoch of the probability of feeding the real token [P: 0.002]; 0 is MLE."""
    measure_every: int = 5
    """MLE epochs between measurements [2016, 2018: 5]."""

    def __post_init__(self) -> None:
        check_counts(self, epochs=0, patience=1, batch_size=1, epoch_sequences=1, measure_every=1)
        check_positive(self, "learning_rate", "max_grad_norm")
        check_shares(self, "curriculum_rate_step")

    def pretrainer(
        self, generator: SequenceModel, sequences: Tensor, validation: Tensor, rng: np.random.Generator
    ) -> Pretrainer:
        """A `Pretrainer` with these settings; for the other arguments see there."""
        return Pretrainer(
            generator,
            sequences,
            validation,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            max_grad_norm=self.max_grad_norm,
            max_epochs=self.epochs,
            patience=self.patience,
            curriculum_rate_step=self.curriculum_rate_step,
            reshuffle=self.reshuffle,
            epoch_sequences=self.epoch_sequences,
            rng=rng,
        )


class Pretrainer:
    """Maximum-likelihood epochs: a fixed number, or until the held-out NLL stops falling.

    Args:
        generator: G_theta, trained in place.
        sequences: (M, T) int64 real sequences.
        validation: (M', T) int64 held-out real sequences, which decide when to stop.
        learning_rate: of Adam (2018 code: 1e-2, 2016 code: 1e-3).
        batch_size: sequences per step (authors: 64).
        max_grad_norm: global norm to which gradients are clipped (authors: 5).
        max_epochs: the largest number of epochs; without `patience`, the exact number.
        patience: stop after this many epochs without a better held-out NLL, and go back to the best epoch; None never
            stops early.
        curriculum_rate_step: scheduled sampling: after each epoch the probability of feeding the real token falls by
            this number (paper: 0.002); 0 is plain MLE.
        reshuffle: draw new batches for each epoch; False keeps the batches of the given order, as in the authors' code.
        epoch_sequences: the largest number of sequences in an epoch, drawn anew for each one. It bounds the work of an
            epoch on a corpus of any size; None takes all.
        rng: source of all randomness.

    Attributes:
        epochs: epochs done.
        best_validation: lowest held-out NLL so far, nats per token.
    """

    def __init__(
        self,
        generator: SequenceModel,
        sequences: Tensor,
        validation: Tensor,
        *,
        learning_rate: float = 1e-2,
        batch_size: int = 64,
        max_grad_norm: float = 5.0,
        max_epochs: int = 120,
        patience: int | None = None,
        curriculum_rate_step: float = 0.0,
        reshuffle: bool = True,
        epoch_sequences: int | None = None,
        rng: np.random.Generator,
    ) -> None:
        if len(sequences) < batch_size:
            raise ValueError(
                f"batch_size={batch_size} exceeds the {len(sequences)} training sequences; lower it, or give more"
            )
        if epoch_sequences is not None and epoch_sequences < batch_size:
            raise ValueError(f"epoch_sequences={epoch_sequences} must be at least batch_size={batch_size}")
        if epoch_sequences is not None and not reshuffle:
            raise ValueError(f"epoch_sequences={epoch_sequences} needs reshuffle=True: each epoch draws new ones")
        if not 0 <= curriculum_rate_step <= 1:
            raise ValueError(f"curriculum_rate_step={curriculum_rate_step} must lie in [0, 1]")
        self.generator = generator
        self.sequences = sequences.to(generator.device)
        self.validation = validation.to(generator.device)
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        self.max_epochs = max_epochs
        self.patience = patience
        self.curriculum_rate_step = curriculum_rate_step
        self.reshuffle = reshuffle
        self.epoch_sequences = epoch_sequences
        self.rng = rng
        self.optimizer = torch.optim.Adam(generator.parameters(), lr=learning_rate, fused=True)
        self.epochs = 0
        self.best_validation = float("inf")
        self._epochs_since_best = 0
        self._best_parameters: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the held-out NLL has stopped falling."""
        ran_out = self.patience is not None and self._epochs_since_best >= self.patience
        return ran_out or self.epochs >= self.max_epochs

    def epoch(self) -> tuple[float, Estimate]:
        """One pass over the training sequences of the epoch; returns (training NLL, held-out NLL), nats per token.

        The training NLL is for the inputs that were fed; the held-out NLL is always for real prefixes.
        """
        sequences = self.sequences
        if self.reshuffle:
            order = self.rng.permutation(len(sequences))[: self.epoch_sequences]
            sequences = sequences[torch.from_numpy(order).to(sequences.device)]
        total, tokens = 0.0, 0
        for batch in sequences.split(self.batch_size):
            count = int((batch < self.generator.vocab_size).sum())
            total += self._step(batch, count) * count
            tokens += count
        self.epochs += 1
        held_out = nll_per_token(self.generator, self.validation)
        if self.patience is not None:
            self._remember_best(held_out.mean)
        return total / tokens, held_out

    def _step(self, batch: Tensor, count: int) -> float:
        """One Adam step on the mean NLL of a batch; returns it, nats per token."""
        inputs = None
        real_probability = 1 - self.curriculum_rate_step * self.epochs
        if self.curriculum_rate_step:
            inputs = scheduled_inputs(self.generator, batch, max(real_probability, 0.0), self.rng)
        weights = torch.full(batch.shape, 1.0 / count, device=batch.device)
        loss = -self.generator.weighted_log_likelihood(batch, weights, inputs)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return loss.item()

    def _remember_best(self, validation_nll: float) -> None:
        if validation_nll < self.best_validation:
            self.best_validation = validation_nll
            self._epochs_since_best = 0
            self._best_parameters = {k: v.clone() for k, v in self.generator.state_dict().items()}
        else:
            self._epochs_since_best += 1
        if self.finished:
            self.generator.load_state_dict(self._best_parameters)

    def fit(self) -> list[tuple[float, Estimate]]:
        """Run epochs until finished; returns the result of each `epoch`."""
        history = []
        while not self.finished:
            history.append(self.epoch())
        return history

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, except the generator: its owner saves it."""
        return {
            "optimizer": moments(self.optimizer),
            "best_parameters": dict(self._best_parameters),
            "epochs": self.epochs,
            "best_validation": self.best_validation if np.isfinite(self.best_validation) else None,
            "epochs_since_best": self._epochs_since_best,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        load_moments(self.optimizer, state["optimizer"])
        self._best_parameters = dict(state["best_parameters"])
        self.epochs = state["epochs"]
        best = state["best_validation"]
        self.best_validation = float("inf") if best is None else best
        self._epochs_since_best = state["epochs_since_best"]
        self.rng.bit_generator.state = state["rng"]


@torch.no_grad()
def scheduled_inputs(
    generator: SequenceModel, sequences: Tensor, real_probability: float, rng: np.random.Generator
) -> Tensor:
    """Inputs of scheduled sampling: at each step the real previous token, or a token drawn by the generator.

    A new coin is drawn for every token. Probability 1 gives teacher forcing; with 0 all tokens are the generator's.

    Args:
        generator: G_theta, which draws its tokens given the mixed prefix so far.
        sequences: (B, T) int64 real sequences, PAD after the end.
        real_probability: of feeding the real token, in [0, 1].
        rng: source of all randomness.

    Returns:
        (B, T) int64; column 0 is the start symbol.
    """
    inputs = shift_right(sequences, generator.vocab_size)
    rows, length = inputs.shape
    coins = torch.from_numpy(rng.random((rows, length)) < real_probability).to(inputs.device)
    uniforms = torch.from_numpy(rng.random((rows, length), dtype=np.float32)).to(inputs.device)
    state = generator.initial_state(rows)
    for t in range(1, length):
        own = generator.draw(state, uniforms[:, t : t + 1]).squeeze(1)
        inputs[:, t] = torch.where(coins[:, t], inputs[:, t], own)
        state = generator.advance(state, inputs[:, t])
    return inputs
