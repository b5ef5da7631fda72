"""A time limit of a run: how much of each stage is done, planned before the run and again when a stage begins.

In: a run folder whose run.json has a time limit, and how long the work really takes. Out: counts of MLE epochs,
discriminator steps and rounds, which are written into run.json. A run of the same seed with these counts gives the same
numbers, whatever the clock says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from agents.runs.projection import COUNTS, UnitCosts, WorkClock, fitted_to, least, try_units
from agents.runs.run_folder import RunFolder
from agents.seqgan import Milestone, SeqGAN, SeqGANConfig
from agents.setting_paths import changed, value_at


def new_budget(minutes: float, asked: SeqGANConfig) -> dict[str, Any]:
    """What run.json holds of a time limit: the minutes, and the counts that were asked for."""
    return {"minutes": minutes, "asked": {path: value_at(asked, path) for path in COUNTS}}


@dataclass
class Budget:
    """A time limit while a run trains.

    Attributes:
        minutes: of work, see `WorkClock`; None is no limit.
        asked: dotted path -> the count that was asked for; empty without a limit.
    """

    minutes: float | None = None
    asked: Mapping[str, int] = field(default_factory=dict)
    _clock: WorkClock | None = None
    _stage: str | None = None
    _before_last: float = 0.0

    @classmethod
    def of(cls, run: RunFolder) -> Budget:
        """The time limit that run.json has.

        Raises:
            ValueError: if it is none.
        """
        stored = run.description.get("budget")
        if stored is None:
            return cls()
        minutes, asked = stored.get("minutes"), stored.get("asked")
        if not isinstance(minutes, int | float) or not minutes > 0 or not isinstance(asked, dict):
            raise ValueError(f"{str(run.path / 'run.json')!r} has budget={stored!r}, which is none; restore the file")
        if set(asked) != set(COUNTS) or not all(isinstance(count, int) for count in asked.values()):
            raise ValueError(f"{str(run.path / 'run.json')!r} has counts={asked!r} in its budget; restore the file")
        return cls(float(minutes), asked)

    def begin(self, device: str) -> None:
        """Start the clock."""
        self._clock = WorkClock(device)

    def after(self, game: SeqGAN, run: RunFolder, milestone: Milestone, device: str, console: Console) -> None:
        """After a unit of work: end MLE when its share is used up, and plan again when the next stage begins."""
        if self.minutes is None or self._clock is None:
            return
        used = self._clock.seconds()
        last_unit, self._before_last = used - self._before_last, used
        if milestone.stage == "mle" and not game.pretrainer.finished:
            self._bound_pretraining(game, run, used, last_unit, console)
            return
        ended = game.pretrainer.finished if milestone.stage == "mle" else milestone.index == milestone.total
        if ended and milestone.stage != "adversarial" and game.config.game.rounds:
            self._plan_again(game, run, milestone.stage, device, console)

    def _bound_pretraining(self, game: SeqGAN, run: RunFolder, used: float, last_unit: float, console: Console) -> None:
        """Make the next epoch the last one if another would go beyond half of the time.

        It is decided before that epoch, so that the epoch ends as the last one of a run with this count.
        """
        assert self.minutes is not None
        smallest = least(game.config).pretraining.epochs
        done = game.pretrainer.epochs
        beyond = game.config.game.rounds > 0 and used + 2 * last_unit > 60 * self.minutes / 2
        if beyond and smallest <= done + 1 < game.config.pretraining.epochs:
            self._change(game, run, changed(game.config, {"pretraining.epochs": done + 1}), console)

    def _plan_again(self, game: SeqGAN, run: RunFolder, stage: str, device: str, console: Console) -> None:
        """Plan the stages that are left with costs that are measured now."""
        assert self.minutes is not None
        assert self._clock is not None
        costs = try_units(game.task, game.config, device, game.models)
        used = self._clock.seconds()
        left = ("discriminator.pretraining_steps", "game.rounds") if stage == "mle" else ("game.rounds",)
        asked = changed(game.config, {path: self.asked[path] for path in left})
        fitting, fits = fitted_to(asked, _without_what_is_done(costs, stage), 60 * self.minutes - used)
        if not fits:
            console.print(
                f"warning: the time of --minutes {self.minutes:g} is used up; the game gets its least useful size, and "
                "the run takes longer",
                highlight=False,
                soft_wrap=True,
            )
        self._change(game, run, changed(game.config, {path: value_at(fitting, path) for path in left}), console)

    def _change(self, game: SeqGAN, run: RunFolder, config: SeqGANConfig, console: Console) -> None:
        for path in COUNTS:
            was, now = value_at(game.config, path), value_at(config, path)
            if was != now:
                console.print(f"time limit: {path} {was} -> {now}", highlight=False)
        if config != game.config:
            run.change_config(config)
            game.change_counts(config)


def _without_what_is_done(costs: UnitCosts, stage: str) -> UnitCosts:
    """Costs of what follows a stage: MLE is done, and after the discriminator's pretraining that is done too."""
    return costs.without("mle") if stage == "mle" else costs.without("mle", "discriminator")
