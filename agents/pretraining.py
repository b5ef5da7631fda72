"""Pretraining of the generator: maximum likelihood, and scheduled sampling (Bengio et al. 2015).

max_theta sum_{Y real} sum_t log G_theta(y_t | Y_{1:t-1}). In: real sequences (M, T) int64. Out: a trained generator.
Departures from the authors' code: batches are reshuffled each epoch unless `reshuffle` is off, and the last, smaller
batch is used (their code keeps the file's order and drops this batch). Scheduled sampling draws a new coin for every
token (their 2016 graph draws it once). Regularisation is off by default, as in the paper: dropout, decoupled weight
decay (AdamW, Loshchilov & Hutter 2019), falling learning rates, label smoothing (Szegedy et al. 2016), averaged weights
(Polyak & Juditsky 1992). Held-out NLLs are always those of the whole model: nothing is dropped, nothing is smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from agents.moments import load_moments, moments
from agents.setting_paths import (
    check_choices,
    check_counts,
    check_not_negative,
    check_positive,
    check_shares,
    check_shares_below_one,
)
from seqgan_env.measures.likelihood import Estimate, nll_per_token
from seqgan_env.models.dropout import Dropout
from seqgan_env.models.sequence_models import SequenceModel, shift_right

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class PretrainingConfig:
    """Pretraining of the generator by maximum likelihood (MLE)."""

    epochs: int = 120
    """MLE epochs: the exact number, or the maximum with --pretraining.patience [2016: 240; 2018: 120]."""
    patience: int | None = None
    """Stop MLE after this many epochs without a lower held-out NLL, and restore the best; None: never [P: None]."""
    learning_rate: float = 1e-2
    """Adam's learning rate for MLE; the highest one with a schedule [2016: 1e-3; 2018: 1e-2]."""
    schedule: Schedule = "constant"
    """Learning rate over all MLE steps: constant, or linear or cosine, which fall to 0 [P: constant]."""
    warmup: float = 0.0
    """Share of the MLE steps in which the learning rate first rises from 0 [P: 0]."""
    weight_decay: float = 0.0
    """Decoupled weight decay of MLE, on all parameters: AdamW in place of Adam [P: 0]."""
    dropout: float = 0.0
    """Probability of dropping an entry of h_t, which the output layer reads, in MLE [P: 0]."""
    embedding_dropout: float = 0.0
    """Probability of dropping an entry of a token's embedding in MLE [P: 0]."""
    variational: bool = False
    """Drop the same entries at all steps of a sequence [P: no dropout]."""
    label_smoothing: float = 0.0
    """Share of each MLE target that is spread over all V tokens [P: 0]."""
    weight_averaging: float = 0.0
    """Decay per step of a running average of the weights, which MLE ends with; 0: none [P: 0]."""
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
        check_not_negative(self, "weight_decay")
        check_choices(self, schedule=get_args(Schedule))
        check_shares(self, "curriculum_rate_step", "warmup", "label_smoothing")
        check_shares_below_one(self, "dropout", "embedding_dropout", "weight_averaging")

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
            schedule=self.schedule,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            variational=self.variational,
            label_smoothing=self.label_smoothing,
            weight_averaging=self.weight_averaging,
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
        schedule: of the learning rate, see `learning_rate_factor`.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: decoupled, of all parameters. With 0 the optimizer is Adam, else AdamW.
        dropout: probability of dropping an entry of h_t.
        embedding_dropout: probability of dropping an entry of an embedding.
        variational: drop the same entries at all steps of a sequence.
        label_smoothing: share of each target that is spread over all V tokens.
        weight_averaging: a running average of the weights keeps this share of itself at each step. Held-out NLLs are
            the average's, and the generator gets it when the epochs are done. 0 averages nothing.
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
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        variational: bool = False,
        label_smoothing: float = 0.0,
        weight_averaging: float = 0.0,
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
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warmup = warmup
        self.dropout = dropout
        self.embedding_dropout = embedding_dropout
        self.variational = variational
        self.label_smoothing = label_smoothing
        self.weight_averaging = weight_averaging
        self.rng = rng
        self.optimizer = new_optimizer(generator, learning_rate, weight_decay)
        self.epochs = 0
        self.best_validation = float("inf")
        self._epochs_since_best = 0
        self._best_parameters: dict[str, Tensor] = {}
        self.restart_average()

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
        batches = sequences.split(self.batch_size)
        for number, batch in enumerate(batches):
            self._set_learning_rate((self.epochs + number / len(batches)) / self.max_epochs)
            count = int(self.generator.counted(batch).sum())
            total += self._step(batch, count) * count
            tokens += count
        self.epochs += 1
        with self._averaged():
            held_out = nll_per_token(self.generator, self.validation, self.generator.prompt_length)
            if self.patience is not None:
                self._remember_best(held_out.mean)
        self._finish()
        return total / tokens, held_out

    def _step(self, batch: Tensor, count: int) -> float:
        """One Adam step on the mean NLL of a batch; returns it, nats per token."""
        inputs = None
        real_probability = 1 - self.curriculum_rate_step * self.epochs
        if self.curriculum_rate_step:
            inputs = scheduled_inputs(self.generator, batch, max(real_probability, 0.0), self.rng)
        weights = torch.full(batch.shape, 1.0 / count, device=batch.device)
        with self.generator.dropping(self._new_dropout()):
            smoothing = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
            loss = -self.generator.weighted_log_likelihood(batch, weights, inputs, **smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.max_grad_norm)
        self.optimizer.step()
        for name, value in self.generator.state_dict().items() if self._average else ():
            self._average[name].lerp_(value, 1 - self.weight_averaging)
        return loss.item()

    def _set_learning_rate(self, done: float) -> None:
        if self.schedule == "constant" and not self.warmup:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * learning_rate_factor(self.schedule, self.warmup, done)

    def _new_dropout(self) -> Dropout | None:
        """The dropout of one step, with masks that follow from the pretrainer's random stream."""
        if not self.dropout and not self.embedding_dropout:
            return None
        masks = torch.Generator(self.generator.device).manual_seed(int(self.rng.integers(2**63)))
        return Dropout(self.embedding_dropout, self.dropout, self.variational, masks)

    def restart_average(self) -> None:
        """Begin the running average with the generator's weights as they are now."""
        self._average = _copies(self.generator) if self.weight_averaging else {}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within the block the generator has the averaged weights, if there are any."""
        if not self._average:
            yield
            return
        own = _copies(self.generator)
        self.generator.load_state_dict(self._average)
        try:
            yield
        finally:
            self.generator.load_state_dict(own)

    def _remember_best(self, validation_nll: float) -> None:
        if validation_nll < self.best_validation:
            self.best_validation = validation_nll
            self._epochs_since_best = 0
            self._best_parameters = _copies(self.generator)
        else:
            self._epochs_since_best += 1

    def _finish(self) -> None:
        """After the last epoch: give the generator its best weights, or the average of the last ones."""
        if self.finished and (self._best_parameters or self._average):
            self.generator.load_state_dict(self._best_parameters or self._average)

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
            "average": dict(self._average),
            "epochs": self.epochs,
            "best_validation": self.best_validation if np.isfinite(self.best_validation) else None,
            "epochs_since_best": self._epochs_since_best,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        load_moments(self.optimizer, state["optimizer"])
        self._best_parameters = dict(state["best_parameters"])
        self._average = dict(state.get("average", {}))  # absent from checkpoints before there was averaging
        self.epochs = state["epochs"]
        best = state["best_validation"]
        self.best_validation = float("inf") if best is None else best
        self._epochs_since_best = state["epochs_since_best"]
        self.rng.bit_generator.state = state["rng"]


def learning_rate_factor(schedule: Schedule, warmup: float, done: float) -> float:
    """What the highest learning rate is multiplied with: a rise from 0, then constant or a fall to 0 at the end.

    Args:
        schedule: "constant"; "linear", 1 - d; or "cosine", (1 + cos(pi d)) / 2 (Loshchilov & Hutter 2017), where d is
            the share of the steps after the warm-up that are done.
        warmup: share of all steps in which the factor rises linearly.
        done: share of all steps that are done, in [0, 1).
    """
    if done < warmup:
        return done / warmup
    falling = (done - warmup) / (1 - warmup)
    factors = {"constant": 1.0, "linear": 1 - falling, "cosine": (1 + math.cos(math.pi * falling)) / 2}
    return factors[schedule]


def new_optimizer(generator: SequenceModel, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam, or AdamW if weights decay."""
    if weight_decay == 0:
        return torch.optim.Adam(generator.parameters(), lr=learning_rate, fused=True)
    return torch.optim.AdamW(generator.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def _copies(generator: SequenceModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in generator.state_dict().items()}


@torch.no_grad()
def scheduled_inputs(
    generator: SequenceModel, sequences: Tensor, real_probability: float, rng: np.random.Generator
) -> Tensor:
    """Inputs of scheduled sampling: at each step the real previous token, or a token drawn by the generator.

    The tokens of a prompt are always the real ones.
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
    coins[:, 1 : generator.prompt_length + 1] = True
    uniforms = torch.from_numpy(rng.random((rows, length), dtype=np.float32)).to(inputs.device)
    state = generator.initial_state(rows)
    for t in range(1, length):
        own = generator.draw(state, uniforms[:, t : t + 1]).squeeze(1)
        inputs[:, t] = torch.where(coins[:, t], inputs[:, t], own)
        state = generator.advance(state, inputs[:, t])
    return inputs
