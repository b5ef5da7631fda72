"""`projection`: the arithmetic of a projected time, and that trying the units leaves a run as it is."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import Any

import pytest
import torch

from agents.runs.flat_names import nested
from agents.runs.presets import PRESETS
from agents.runs.projection import Projection, UnitCosts, WorkClock, duration, try_units, within
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import tiny_config
from tests.toy_world import mixed_length_task

COSTS = UnitCosts(
    mle_epoch=2.0, discriminator_draw=1.0, discriminator_epoch=10.0, generator_update=4.0, measurement=0.5
)


def with_flat(**flat: Any) -> SeqGANConfig:
    return changed(PRESETS["repo2018"], nested(flat))


def test_every_unit_is_multiplied_by_how_often_a_run_does_it() -> None:
    config = with_flat(
        mle_epochs=20,
        evaluate_every_epochs=5,
        discriminator_pretraining_steps=7,
        k_epochs=3,
        rounds=30,
        g_steps=2,
        d_steps=5,
        evaluate_every_rounds=10,
    )
    projection = COSTS.projection(config)
    assert projection.mle == 20 * 2 + 4 * 0.5
    assert projection.discriminator == 7 * (1 + 3 * 10)
    assert projection.adversarial == 30 * (2 * 4 + 5 * (1 + 3 * 10)) + 3 * 0.5
    assert projection.table == 7 * 0.5 * config.final_samples / config.measuring.samples
    stages = (projection.mle, projection.discriminator, projection.adversarial, projection.table)
    assert projection.total == sum(stages)


def test_the_printed_projection_names_the_stages_that_take_time() -> None:
    text = str(Projection(mle=180.0, discriminator=0.0, adversarial=26_400.0))
    assert text == "projected time on this machine: 7 h 23 min (MLE 3 min, game 7 h 20 min)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (3_570, "1 h 0 min"), (26_400, "7 h 20 min"), (367_200, "4 d 6 h")],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("reward_model", ["discriminator", "bleu", "constant"])
def test_units_are_timed_with_every_reward(reward_model: str) -> None:
    costs = try_units(toy_task(n_sequences=64), tiny_config(reward_model=reward_model))
    seconds = {field.name: getattr(costs, field.name) for field in fields(costs)}
    assert all(math.isfinite(value) for value in seconds.values())
    unused = {name for name, value in seconds.items() if value == 0} - {"discriminator_is_done"}
    assert unused == (set() if reward_model == "discriminator" else {"discriminator_draw", "discriminator_epoch"})


@pytest.mark.parametrize(
    ("minutes", "mle_epochs", "d_steps", "rounds"),
    [
        (1000.0, 100, 12, 50),  # all fits
        (10.0, 100, 6, 28),  # 570 of 600 s: MLE takes 200, a D step 5, a round 12
        (5.0, 70, 5, 10),  # 285 of 300 s: MLE takes what the least useful game leaves
        (3.0, 13, 5, 10),  # 171 of 180 s: the least useful game takes 145
    ],
)
def test_a_time_limit_takes_from_discriminator_and_game_first_and_then_from_mle(
    minutes: float, mle_epochs: int, d_steps: int, rounds: int
) -> None:
    costs = UnitCosts(2.0, 1.0, 4.0, 7.0, 0.0)
    config = with_flat(
        mle_epochs=100,
        discriminator_pretraining_steps=12,
        k_epochs=1,
        rounds=50,
        g_steps=1,
        d_steps=1,
    )
    fitting = within(config, costs, minutes)
    assert (fitting.pretraining.epochs, fitting.discriminator.pretraining_steps, fitting.game.rounds) == (
        mle_epochs,
        d_steps,
        rounds,
    )
    assert changed(fitting, nested({"mle_epochs": 100, "discriminator_pretraining_steps": 12, "rounds": 50})) == config
    assert costs.projection(fitting).total <= 60 * minutes


def test_a_time_limit_without_room_for_a_useful_game_is_refused_and_says_what_it_needs() -> None:
    config = with_flat(mle_epochs=100, discriminator_pretraining_steps=12, k_epochs=1, rounds=50, g_steps=1, d_steps=1)
    needs = r"MLE 5 epochs \(10 s\), D pretraining 5 steps \(25 s\), the game 10 rounds \(2 min\); give --minutes 2\.8"
    with pytest.raises(ValueError, match=r"minutes=0\.1 is too short for a useful run on this machine.*" + needs):
        within(config, UnitCosts(2.0, 1.0, 4.0, 7.0, 0.0), 0.1)


def test_a_busy_machine_does_not_make_the_work_seem_long() -> None:
    clock, start = WorkClock(), time.perf_counter()
    time.sleep(0.3)  # as if another program had the core
    assert clock.seconds() < 0.1 < time.perf_counter() - start


@pytest.mark.slow
def test_units_of_a_corpus_are_bounded_whatever_its_size() -> None:
    """Four times the sequences cost no more where epochs, draws and held-out sequences are bounded."""
    config = tiny_config(epoch_sequences=64, held_out_sequences=32, discriminator_sample_size=64)
    seen = []
    for count in (64, 256):
        task = mixed_length_task(count)
        game = SeqGAN(task, config)
        assert len(game.pretrainer.validation) == 32
        batches: list[int] = []
        game.pretrainer._step = lambda batch, tokens, batches=batches: batches.append(len(batch)) or 0.0  # type: ignore[method-assign, misc]
        game.pretrainer.epoch()
        seen.append(sum(batches))
        assert all(math.isfinite(getattr(try_units(task, config), field.name)) for field in fields(UnitCosts))
    assert seen == [64, 64]


def test_trying_the_units_does_not_change_the_run_that_follows() -> None:
    def trained(tried_before: bool) -> torch.Tensor:
        task, config = toy_task(n_sequences=64), tiny_config()
        if tried_before:
            try_units(task, config)
        game = SeqGAN(task, config)
        game.train()
        parameters = [*game.generator.parameters(), *game.discriminator.parameters()]
        return torch.nn.utils.parameters_to_vector(parameters).detach()

    assert torch.equal(trained(tried_before=True), trained(tried_before=False))
