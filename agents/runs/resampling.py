"""A run's generator with its discriminator on top: residual-energy resampling, see `seqgan_env.resampling`.

In: a run whose discriminator was trained. Out: samples, and measurements of them. The generator is the one that the
discriminator was trained against. Where a game trains its discriminator in each round, that is the latest generator;
else it is the generator after maximum likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from agents.runs.run_folder import RunFolder
from agents.runs.stored_models import built_discriminator
from agents.runs.trust import expect_trusted, own_parts
from seqgan_env.measures.likelihood import Estimate, GeneratorMetrics, token_counts
from seqgan_env.measures.measurement import Measurement, Measures
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.resampling import Resampled, ResidualModel, resample
from seqgan_env.rewards import LogitReward
from seqgan_env.tasks.task import Task


@dataclass(frozen=True)
class Residual:
    """A generator and the logit that corrects it.

    Attributes:
        generator: G.
        logit: C, of the run's discriminator.
        task: whose sequences they are.
    """

    generator: SequenceModel
    logit: LogitReward
    task: Task

    @classmethod
    def of(cls, run: RunFolder, device: str) -> Residual:
        """The parts of a run.

        Raises:
            ValueError: if the run has trained no discriminator, or it cannot be built.
        """
        config, task = run.config(), run.task()
        if task.prompt_length:
            raise ValueError(
                f"{str(run.path)!r} is a run on a task with prompts. There each prompt has its own Z, and "
                "resampling has one Z alone; leave --resample out"
            )
        in_rounds = config.game.rounds > 0 and config.game.d_steps > 0
        found = run.newest_readable()
        prefix = "trainer.adversary.discriminator."
        stored = {} if found is None else {n[len(prefix) :]: t for n, t in found[1].items() if n.startswith(prefix)}
        if found is None or not stored or not (in_rounds or config.discriminator.pretraining_steps):
            raise ValueError(
                f"{str(run.path)!r} has no trained discriminator to resample with; train a run with "
                "--game.reward-model logit and --discriminator.pretraining-steps 20 (or more), for example with "
                "--game.rounds 0, so that the generator is left as maximum likelihood made it"
            )
        own = {place: name for place, name in own_parts(config).items() if place == "discriminator.name"}
        expect_trusted(str(run.path), own, run.trust)
        discriminator = built_discriminator(config.discriminator, task, stored, found[0]).to(device).eval()
        checkpoint = None if in_rounds or not config.game.rounds else run.mle_checkpoint
        return cls(run.generator(checkpoint).to(device), LogitReward(discriminator), task)

    def draw(self, count: int, proposals: int, rng: np.random.Generator, temperature: float = 1.0) -> Resampled:
        """Sequences picked among proposals, which are drawn at a temperature; raises as `resample`."""
        generator, task = self.generator.at_temperature(temperature), self.task
        return resample(generator, self.logit, count, proposals, task.sequence_length, rng, task.eos_token)

    def measure(
        self, measures: Measures, count: int, proposals: int, rng: np.random.Generator, temperature: float = 1.0
    ) -> Measurement:
        """Measure drawn sequences, and NLL_test of what they come from for infinitely many proposals.

        The entropy of the drawn sequences is not known for a finite number of proposals, and so is left out.
        """
        drawn = self.draw(count, proposals, rng, temperature)
        model = ResidualModel(self.generator.at_temperature(temperature), self.logit, drawn.log_z.mean)
        measurement = measures.measure_drawn(model, drawn.sequences)
        per_token = _mean_length(measures.test, self.task.vocab_size)
        metrics = _with_error(measurement.metrics, drawn.log_z.standard_error / per_token)
        return replace(measurement, metrics=replace(metrics, entropy=None, kl_from_oracle=None))


def _mean_length(sequences: Tensor, vocab_size: int) -> float:
    return float(token_counts(sequences, vocab_size).mean())


def _with_error(metrics: GeneratorMetrics, error: float) -> GeneratorMetrics:
    """NLL_test and KL(oracle || P) with the standard error of log Z, in nats per token, as well."""
    changes: dict[str, Any] = {}
    for name in ("nll_test", "kl_to_oracle"):
        value: Estimate | None = getattr(metrics, name)
        if value is not None:
            changes[name] = Estimate(value.mean, float(np.hypot(value.standard_error, error)))
    return replace(metrics, **changes)
