"""Eq. 5: training the discriminator on real and generated sequences. No reinforcement learning here.

min_phi -E_{Y real}[log D_phi(Y)] - E_{Y ~ G}[log(1 - D_phi(Y))]. In: real sequences, and a function that draws
generated ones.
Out: a trained discriminator, and a report on held-out sequences.
The loss may also be that of Bradley and Terry 1952 on pairs of a real and a generated sequence, with C the logit:
min_phi -E_{Y real, Y' ~ G}[log sigmoid(C(Y) - C(Y'))], as in relativistic GANs (arXiv 1807.00734). It fixes C up to a
constant. The best C is log(p_real / G) for both losses.
Departures from the authors' code: labels are balanced in every batch; the optimizer offers weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from agents.model_options import complete_options
from agents.moments import load_moments, moments
from agents.setting_paths import check_choices, check_counts, check_not_negative, check_positive
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.parameters import at_least_float32
from seqgan_env.tasks.task import Task

DiscriminatorLoss = Literal["logistic", "bradley_terry"]
_REPORT_SIZE = 1000  # held-out sequences of each kind in a report


@dataclass(frozen=True)
class DiscriminatorReport:
    """The discriminator's results in one of the d steps.

    Attributes:
        loss: mean of Eq. 5's two terms over the last epoch, nats per sequence, without the penalty; or of pairs.
        accuracy: share of held-out real and fresh generated sequences told apart; 0.5 is chance.
        calibration_error: mean |confidence - frequency| over ten bins of D's output (expected calibration error).
        mean_real: mean of D, a probability, on held-out real sequences.
        mean_generated: mean of D on fresh generated sequences.

    After training on pairs, D is the sigmoid of the logit less the middle between the two kinds' mean logits.
    """

    loss: float
    accuracy: float
    calibration_error: float
    mean_real: float
    mean_generated: float


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator D_phi (Eq. 11-12) and its training (Eq. 5)."""

    name: str = "cnn"
    """D: cnn, rcnn, bigru, transformer, ensemble, ensemble:cnn+bigru, hf:PATH or hf:NAME (a pretrained model), or
    module:Class of your own [P: cnn]."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of its constructor; the others keep their defaults, for cnn those of [2016, 2018]."""
    loss: DiscriminatorLoss = "logistic"
    """What D minimises: logistic (Eq. 5) or bradley_terry, on pairs of real and generated sequences [P: logistic]."""
    learning_rate: float = 1e-4
    """Adam's learning rate for the discriminator [2016, 2018: 1e-4]."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the discriminator's Adam [2016, 2018: 0]."""
    batch_size: int | None = None
    """Sequences per discriminator step, half of them real; None: as --pretraining.batch-size [2016, 2018: 64]."""
    sample_size: int | None = None
    """Positives, and as many negatives, in each draw; None takes all training sequences [P: None]."""
    pretraining_steps: int = 50
    """Draws of fresh negatives before the game, k epochs on each [2016, 2018: 50]."""

    def __post_init__(self) -> None:
        check_counts(self, batch_size=1, sample_size=1, pretraining_steps=0)
        check_choices(self, loss=get_args(DiscriminatorLoss))
        check_positive(self, "learning_rate")
        check_not_negative(self, "weight_decay")

    def complete(self) -> DiscriminatorConfig:
        """A copy that names every option of the model; raises as `complete_options`."""
        return replace(self, options=complete_options("discriminator", self.name, self.options))


class Adversary:
    """D_phi with its optimizer: the d steps of Algorithm 1.

    Args:
        discriminator: D_phi, trained in place.
        k_epochs: epochs on each draw of negatives (paper: 3).
        sample_size: positives, and as many negatives, in each draw; None takes all real sequences, as the paper.
        batch_size: sequences per step, half of them real (authors: 64).
        learning_rate: of Adam (authors: 1e-4).
        weight_decay: of AdamW (authors: 0).
        loss: "logistic", Eq. 5, or "bradley_terry", on pairs.
        rng: draws the order of the sequences and the choice of positives.

    Attributes:
        last_report: the latest report; None before the first step.

    Raises:
        ValueError: if k_epochs is below 1, batch_size below 2, or the loss unknown.
    """

    def __init__(
        self,
        discriminator: Discriminator,
        *,
        k_epochs: int = 3,
        sample_size: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        loss: DiscriminatorLoss = "logistic",
        rng: np.random.Generator,
    ) -> None:
        check_sizes(k_epochs, batch_size)
        check_loss(loss)
        self.loss = loss
        self.discriminator = discriminator
        self.k_epochs = k_epochs
        self.sample_size = sample_size
        self.batch_size = batch_size
        self.rng = rng
        self.last_report: DiscriminatorReport | None = None
        self.optimizer = torch.optim.AdamW(
            discriminator.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )

    def step(self, task: Task, draw: Callable[..., Tensor | None]) -> DiscriminatorReport | None:
        """One of the d steps: fresh negatives, k epochs of Eq. 5 on them and as many positives, then a report.

        In a task with prompts, the negatives answer the prompts of the positives. So a prompt alone says nothing about
        which of the two a sequence is.

        Args:
            task: real sequences, "train" as positives and "validation" for the report.
            draw: count -> generated sequences (count or fewer, T) int64, or None if there are none yet. Then nothing is
                done and None is returned. In a task with prompts: (count, prompts), prompts (count, P) int64.

        Raises:
            ValueError: if the discriminator has diverged, so that it gives NaN.
        """
        real = task.real_sequences("train")
        size = len(real) if self.sample_size is None else min(self.sample_size, len(real))
        if task.prompt_length:  # the positives come first, because the negatives answer their prompts
            real = self._some(real, size)
        generated = _answers(draw, task, real) if task.prompt_length else draw(size)
        if generated is None:
            return None
        device = self.discriminator.device
        real = real[: len(generated)] if task.prompt_length else self._some(real, len(generated))
        real, generated = real.to(device), generated.to(device)
        for _ in range(self.k_epochs):
            loss = self.epoch(real, generated, paired=task.prompt_length > 0)
        validation = task.real_sequences("validation")[:_REPORT_SIZE]
        fresh = _answers(draw, task, validation) if task.prompt_length else draw(len(validation))
        assert fresh is not None
        self.last_report = self._report(loss, validation[: len(fresh)], fresh)
        return self.last_report

    def _some(self, real: Tensor, count: int) -> Tensor:
        """At most `count` random real sequences, in random order."""
        return real[torch.from_numpy(self.rng.permutation(len(real))[:count])]

    def epoch(self, real: Tensor, generated: Tensor, paired: bool = False) -> float:
        """One pass over equally many real and generated sequences; each batch holds half of each kind.

        Args:
            real: (M, T) int64, on the discriminator's device.
            generated: (M, T) int64, on the discriminator's device.
            paired: whether row i of both is a pair, which stays together: two responses to one prompt.

        Returns:
            The mean of Eq. 5's loss, or of that of pairs, over the batches, nats per sequence.
        """
        half = self.batch_size // 2
        order = torch.from_numpy(self.rng.permutation(len(real)))
        other = order if paired else torch.from_numpy(self.rng.permutation(len(generated)))
        real, generated = real[order], generated[other]
        self.discriminator.train()
        losses = []
        for real_batch, generated_batch in zip(real.split(half), generated.split(half), strict=True):
            logits = self.discriminator.member_logits(torch.cat([real_batch, generated_batch]))  # (M, B)
            loss = (pair_loss if self.loss == "bradley_terry" else eq5_loss)(logits, len(real_batch))
            self.optimizer.zero_grad()
            (loss + self.discriminator.penalty()).backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.discriminator.eval()
        return float(np.mean(losses))

    def _report(self, loss: float, real: Tensor, generated: Tensor) -> DiscriminatorReport:
        """Accuracy and calibration on held-out real sequences and equally many newly generated ones."""
        middle = self._middle(real, generated) if self.loss == "bradley_terry" else 0.0
        real_scores, generated_scores = self._probabilities(real, middle), self._probabilities(generated, middle)
        probabilities = np.concatenate([real_scores, generated_scores])
        labels_real_is_one = np.repeat([True, False], len(generated))
        return DiscriminatorReport(
            loss=loss,
            accuracy=float(((probabilities > 0.5) == labels_real_is_one).mean()),
            calibration_error=calibration_error(probabilities, labels_real_is_one),
            mean_real=float(real_scores.mean()),
            mean_generated=float(generated_scores.mean()),
        )

    def _middle(self, real: Tensor, generated: Tensor) -> float:
        """The logit in the middle between the two kinds' means: the constant that pairs leave open."""
        means = [at_least_float32(self.discriminator.score(sequences)).mean() for sequences in (real, generated)]
        return float(sum(means) / 2)

    def _probabilities(self, sequences: Tensor, middle: float) -> npt.NDArray[np.floating]:
        """D(Y) of each sequence, (R,); in float32 if the discriminator computes in 16 bits, which NumPy may lack.

        Args:
            sequences: (R, T) int64.
            middle: the logit that counts as undecided.

        Raises:
            ValueError: if one is NaN.
        """
        logits = self.discriminator.score(sequences)
        found = torch.sigmoid(at_least_float32(logits) - middle).cpu().numpy()
        if np.isnan(found).any():
            raise ValueError(
                f"the discriminator gives NaN after training with learning_rate={self.optimizer.param_groups[0]['lr']}"
                f" in {logits.dtype}; it has diverged. Lower learning_rate; float16 needs float32 or bfloat16 instead"
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """D's parameters, the optimizer's moments and the last report. `rng` is not included: its owner saves it."""
        return {
            "discriminator": dict(self.discriminator.state_dict()),
            "optimizer": moments(self.optimizer),
            "last_report": None if self.last_report is None else asdict(self.last_report),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.discriminator.load_state_dict(state["discriminator"])
        load_moments(self.optimizer, state["optimizer"])
        report = state["last_report"]
        self.last_report = None if report is None else DiscriminatorReport(**report)


def _answers(draw: Callable[..., Tensor | None], task: Task, real: Tensor) -> Tensor | None:
    """Generated responses to the prompts of real sequences, in their order."""
    return draw(len(real), real[:, : task.prompt_length])


def eq5_loss(logits: Tensor, count: int) -> Tensor:
    """Eq. 5, halved: the mean over real and generated sequences, nats, a differentiable scalar.

    Args:
        logits: (M, B), of M members of an ensemble; the first `count` columns are real.
        count: number of real sequences.
    """
    labels_real_is_one = torch.zeros_like(logits)
    labels_real_is_one[:, :count] = 1
    return F.binary_cross_entropy_with_logits(logits, labels_real_is_one)


def pair_loss(logits: Tensor, count: int) -> Tensor:
    """Bradley-Terry: each real sequence beats its generated partner; arguments as of `eq5_loss`, half of each kind."""
    return -F.logsigmoid(logits[:, :count] - logits[:, count:]).mean()


def check_loss(loss: str) -> None:
    """Raise ValueError unless a discriminator has this loss."""
    if loss not in get_args(DiscriminatorLoss):
        raise ValueError(f"loss={loss!r} must be one of {', '.join(get_args(DiscriminatorLoss))}")


def check_sizes(k_epochs: int, batch_size: int) -> None:
    """Check arguments of `Adversary`.

    Raises:
        ValueError: if k_epochs is below 1 or batch_size below 2.
    """
    if k_epochs < 1:
        raise ValueError(f"k_epochs={k_epochs} must be at least 1")
    if batch_size < 2:
        raise ValueError(f"batch_size={batch_size} must be at least 2: one real and one generated sequence")


def calibration_error(
    probabilities: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: the mean over sequences of |mean probability - frequency| in their bin.

    Args:
        probabilities: (R,) in [0, 1].
        outcomes: (R,) bool, whether the event happened.
        bins: number of bins of equal width.
    """
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    gap = np.bincount(which, probabilities, minlength=bins) - np.bincount(which, outcomes, minlength=bins)
    return float(np.abs(gap).sum() / count.sum())
