"""`seqgan`: Algorithm 1's order, what a unit of work is, and that the oracle is never looked at."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.seqgan import Milestone, SeqGAN
from seqgan_env.components import DISCRIMINATORS, GENERATORS
from seqgan_env.models.discriminator_ensemble import DiscriminatorEnsemble
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import (
    AnchoredReward,
    BLEUReward,
    ConstantReward,
    DiscriminatorReward,
    LogitReward,
    RandomReward,
    ShuffledReward,
)
from seqgan_env.rollout_policies import DelayedCopy
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import tiny_config


def game_of(task: Task | None = None, **changes: Any) -> SeqGAN:
    return SeqGAN(toy_task(n_sequences=64) if task is None else task, tiny_config(**changes))


def vector(module: torch.nn.Module) -> Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_the_stages_follow_each_other_unit_by_unit() -> None:
    milestones: list[Milestone] = []
    game = game_of()
    game.train(milestones.append)
    assert [(m.stage, m.index, m.total) for m in milestones] == [
        ("mle", 1, 2),
        ("mle", 2, 2),
        ("discriminator", 1, 2),
        ("discriminator", 2, 2),
        ("adversarial", 1, 3),
        ("adversarial", 2, 3),
        ("adversarial", 3, 3),
    ]
    assert all((m.train_nll is None) == (m.stage != "mle") for m in milestones)
    assert all((m.validation_nll is None) == (m.stage != "mle") for m in milestones)


def test_each_stage_trains_what_it_should_and_nothing_else() -> None:
    game = game_of(k_epochs=2, d_steps=2)
    seen: dict[str, list[tuple[bool, bool]]] = {"mle": [], "discriminator": [], "adversarial": []}
    last = [vector(game.generator), vector(game.discriminator)]

    def after(milestone: Milestone) -> None:
        now = [vector(game.generator), vector(game.discriminator)]
        moved = tuple(not torch.equal(a, b) for a, b in zip(last, now, strict=True))
        seen[milestone.stage].append(moved)  # type: ignore[arg-type]
        last[:] = now

    game.train(after)
    assert seen == {
        "mle": [(True, False)] * 2,
        "discriminator": [(False, True)] * 2,
        "adversarial": [(True, True)] * 3,
    }


def test_the_rollout_policy_starts_as_the_generator_that_mle_left_and_follows_it() -> None:
    game = game_of()
    states: list[tuple[str, bool]] = []

    def after(milestone: Milestone) -> None:
        policy = game.trainer.rollout_policy
        same = isinstance(policy, DelayedCopy) and torch.equal(vector(policy.model), vector(game.generator))
        states.append((milestone.stage, same))

    game.train(after)
    assert [same for stage, same in states if stage == "mle"] == [False, False]
    assert [same for stage, same in states if stage != "mle"] == [True] * 5
    assert game.env.env.mdp.rollout_policy is game.trainer.rollout_policy


def test_the_anchor_is_the_generator_that_mle_left_and_stays_there() -> None:
    game = game_of(reward_model="logit", anchor_weight=1.0, reward_mode="terminal", d_steps=0)
    ends_of_mle: list[Tensor] = []

    def after(milestone: Milestone) -> None:
        if milestone.stage == "mle":
            ends_of_mle[:] = [vector(game.generator)]

    game.train(after)
    assert isinstance(game.reward_model, AnchoredReward)
    assert torch.equal(vector(game.reward_model.anchor), ends_of_mle[0])
    assert not torch.equal(vector(game.generator), ends_of_mle[0])
    assert game.reward_model.generator is game.generator
    assert isinstance(game.reward_model.reward_model, LogitReward)
    assert game.reward_model.reward_model.discriminator is game.discriminator
    assert game.env.env.mdp.reward_mode == "terminal"


def test_a_round_takes_g_updates_of_one_sequence_for_each_environment() -> None:
    game = game_of(g_steps=3, rounds=2)
    game.train()
    assert game.agent._n_updates == 6
    assert game.agent.num_timesteps == 2 * 3 * 8 * 3  # rounds, g, sequences, T
    assert game.trainer.rounds == 2


def test_the_agent_the_pretrainer_and_the_environment_share_the_two_models() -> None:
    game = game_of(rounds=1)
    game.train()
    assert game.agent.policy.generator is game.generator
    assert game.pretrainer.generator is game.generator
    reward = game.env.env.mdp.reward_model
    assert isinstance(reward, DiscriminatorReward)
    assert reward.discriminator is game.discriminator
    assert game.agent.gamma == 0.0


def test_the_oracle_and_the_test_split_are_never_looked_at() -> None:
    plain = toy_task(n_sequences=64)
    drawn = plain.real_sequences("train"), plain.real_sequences("validation")

    def draw_split(split: str) -> Tensor:
        return {"train": drawn[0], "validation": drawn[1]}[split]  # KeyError for "test"

    blind = Task("blind", 3, 3, draw_split)
    ends = []
    for task in (plain, blind):
        game = game_of(task)
        game.train()
        ends.append(vector(game.generator))
    assert torch.equal(*ends)


def test_training_goes_on_only_with_what_is_left() -> None:
    game = game_of()
    game.train()
    end = vector(game.generator)
    milestones: list[Milestone] = []
    game.train(milestones.append)
    assert milestones == []
    assert torch.equal(vector(game.generator), end)


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_game_that_is_stopped_after_any_unit_goes_on_to_the_same_end(stop_at: int) -> None:
    class Stop(Exception):
        pass

    whole = game_of()
    whole.train()
    units = 0

    def after(milestone: Milestone) -> None:
        nonlocal units
        units += 1
        if units == stop_at:
            raise Stop

    stopped = game_of()
    with pytest.raises(Stop):
        stopped.train(after)
    assert stopped.pretrainer.epochs + stopped.discriminator_steps + stopped.trainer.rounds == stop_at
    stopped.train()
    assert torch.equal(vector(stopped.generator), vector(whole.generator))
    assert torch.equal(vector(stopped.discriminator), vector(whole.discriminator))


def test_the_seed_decides_everything() -> None:
    ends = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(ends))
        game = game_of(seed=seed)
        game.train()
        ends.append(torch.cat([vector(game.generator), vector(game.discriminator)]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_seed_means_the_streams_that_it_always_meant() -> None:
    """Runs of earlier versions are repeated bit for bit."""
    seeds = [int(seed) for seed in np.random.SeedSequence(7).generate_state(5)]
    config = tiny_config(seed=7)
    game = SeqGAN(toy_task(n_sequences=64), config)
    generator = LSTMSequenceModel(3, 8, 8, 0.1, seeds[0])
    discriminator = CNNDiscriminator(3, 3, "light", 8, 0.0, 0.2, seeds[1])
    assert torch.equal(vector(game.generator), vector(generator))
    assert torch.equal(vector(game.discriminator), vector(discriminator))
    assert game.pretrainer.rng.bit_generator.state == np.random.default_rng(seeds[2]).bit_generator.state
    assert game.trainer.rng.bit_generator.state == np.random.default_rng(seeds[3]).bit_generator.state
    assert game.agent.seed == seeds[4]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_plays_the_whole_game(name: str) -> None:
    """And all of the settings that it knows reach it."""
    seeds = [int(seed) for seed in np.random.SeedSequence(0).generate_state(1)]
    game = game_of(generator=name, embedding_size=5, hidden_size=6, init_std=0.2, rounds=1)
    options: dict[str, Any] = {} if name in ("lstm", "gru") else {"sequence_length": 3}
    assert type(game.generator) is GENERATORS[name]
    assert torch.equal(vector(game.generator), vector(GENERATORS[name](3, 5, 6, 0.2, seeds[0], **options)))
    ends: list[Tensor] = [vector(game.generator)]
    game.train(lambda milestone: ends.append(vector(game.generator)))
    assert not torch.equal(ends[0], ends[1])  # an MLE epoch
    assert not torch.equal(ends[-2], ends[-1])  # a round
    assert isinstance(game.trainer.rollout_policy, DelayedCopy)
    assert torch.equal(vector(game.trainer.rollout_policy.model), ends[-1])


@pytest.mark.parametrize("name", [*DISCRIMINATORS, "ensemble:cnn+bigru"])
def test_every_discriminator_plays_the_whole_game(name: str) -> None:
    game = game_of(discriminator=name, discriminator_embedding_size=8, dropout=0.125, l2=0.75, rounds=1)
    members = game.discriminator.members if isinstance(game.discriminator, DiscriminatorEnsemble) else None
    for kind, model in zip(name.partition(":")[2].split("+"), members or [game.discriminator], strict=True):
        assert type(model) is DISCRIMINATORS[kind or name]
        assert (model.embedding.embedding_dim, model.dropout.p, model.l2) == (8, 0.125, 0.75)
    before = vector(game.discriminator)
    game.train()
    assert not torch.equal(vector(game.discriminator), before)
    assert isinstance(game.reward_model, DiscriminatorReward)
    assert game.reward_model.discriminator is game.discriminator


def test_the_choice_of_discriminator_leaves_the_generators_mle_as_it_is() -> None:
    ends = [game_of(discriminator=name, rounds=0, discriminator_pretraining_steps=0) for name in ("cnn", "rcnn")]
    for game in ends:
        game.train()
    assert torch.equal(*(vector(game.generator) for game in ends))


def test_the_reward_that_is_named_is_the_one_that_the_search_asks_from_first_to_last() -> None:
    kinds = {"discriminator": DiscriminatorReward, "shuffled": ShuffledReward, "bleu": BLEUReward}
    for name, kind in (kinds | {"random": RandomReward, "constant:0.3": ConstantReward}).items():
        game = game_of(reward_model=name, rounds=1)
        assert type(game.reward_model) is kind
        assert game.env.env.mdp.reward_model is game.reward_model
        game.train()
        assert game.env.env.mdp.reward_model is game.reward_model


def test_a_shuffled_reward_is_the_trained_discriminators() -> None:
    game = game_of(reward_model="shuffled")
    before, stages = vector(game.discriminator), []
    game.train(lambda milestone: stages.append(milestone.stage))
    assert stages == ["mle"] * 2 + ["discriminator"] * 2 + ["adversarial"] * 3
    assert not torch.equal(vector(game.discriminator), before)
    assert game.trainer.last_report is not None
    assert isinstance(game.reward_model, ShuffledReward)
    assert isinstance(game.reward_model.reward_model, DiscriminatorReward)
    assert game.reward_model.reward_model.discriminator is game.discriminator
    sequences = game.task.real_sequences("train")
    plain = DiscriminatorReward(game.discriminator)(sequences).double()
    assert torch.equal(game.reward_model(sequences).sort().values, plain.sort().values)


@pytest.mark.parametrize("reward_model", ["bleu", "bleu:none", "random", "constant"])
def test_the_rivals_rewards_train_no_discriminator(reward_model: str) -> None:
    game = game_of(reward_model=reward_model)
    before, stages = vector(game.discriminator), []
    generator = vector(game.generator)
    game.train(lambda milestone: stages.append(milestone.stage))
    assert stages == ["mle"] * 2 + ["adversarial"] * 3
    assert torch.equal(vector(game.discriminator), before)
    assert game.trainer.last_report is None
    assert not torch.equal(vector(game.generator), generator)


def test_pg_bleus_references_are_of_the_training_sequences_and_of_the_seed() -> None:
    real = torch.arange(80)[:, None].repeat(1, 3)
    task = Task("numbers", 80, 3, lambda split: real)
    references = [game_of(task, reward_model="bleu", seed=seed).reward_model(real).tolist() for seed in (0, 0, 1)]
    assert sorted(references[0]) == [0.0] * 48 + [1.0] * 32
    assert references[0] == references[1] != references[2]


def test_scheduled_sampling_is_a_setting_of_the_mle_stage() -> None:
    """The first epoch feeds real tokens alone, as MLE does, and the second does not."""
    ends: dict[float, list[Tensor]] = {0.0: [], 0.5: []}
    for step, seen in ends.items():
        game = game_of(curriculum_rate_step=step, mle_reshuffle=False, rounds=0, discriminator_pretraining_steps=0)
        assert game.pretrainer.curriculum_rate_step == step
        game.train(lambda milestone, game=game, seen=seen: seen.append(vector(game.generator)))  # type: ignore[misc]
    assert torch.equal(ends[0.0][0], ends[0.5][0])
    assert not torch.equal(ends[0.0][1], ends[0.5][1])


def test_a_null_reward_trains_no_discriminator() -> None:
    game = game_of(reward_model="constant:0.25")
    before, stages = vector(game.discriminator), []
    game.train(lambda milestone: stages.append(milestone.stage))
    assert stages == ["mle"] * 2 + ["adversarial"] * 3
    assert torch.equal(vector(game.discriminator), before)
    reward = game.env.env.mdp.reward_model
    assert isinstance(reward, ConstantReward)
    assert reward.value == 0.25
    assert game.trainer.mean_reward == 0.25


def test_without_mle_or_rounds_those_stages_are_skipped() -> None:
    for changes, stages in (
        ({"mle_epochs": 0, "discriminator_pretraining_steps": 0}, ["adversarial"] * 3),
        ({"rounds": 0}, ["mle"] * 2 + ["discriminator"] * 2),
    ):
        seen: list[str] = []
        game_of(**changes).train(lambda milestone, seen=seen: seen.append(milestone.stage))  # type: ignore[misc]
        assert seen == stages


def test_early_stopping_ends_mle_before_its_last_epoch() -> None:
    stages: list[str] = []
    game = game_of(mle_epochs=100, mle_patience=1, mle_learning_rate=0.1, rounds=1)
    game.train(lambda milestone: stages.append(milestone.stage))
    assert 1 < stages.count("mle") < 100
    assert stages[-1] == "adversarial"


def test_settings_reach_the_parts_that_they_are_about() -> None:
    config = tiny_config(
        dropout=0.3, l2=0.7, d_steps=2, g_steps=4, k_epochs=5, rollout_rate=0.6, n_rollouts=7,
        discriminator_learning_rate=3e-3, discriminator_weight_decay=0.2, mle_learning_rate=4e-3,
        generator_learning_rate=5e-3, max_grad_norm=2.5, embedding_size=5, hidden_size=6, batch_size=20,
        generator_batch_size=9, baseline="step_mean", discriminator_sample_size=30,
    )  # fmt: skip
    game = SeqGAN(toy_task(n_sequences=64), config)
    assert game.generator.embedding.shape == (3, 5)
    assert game.generator.hidden_size == 6
    assert game.discriminator.dropout.p == 0.3
    assert game.discriminator.l2 == 0.7
    assert game.trainer.adversary is not None
    assert (game.trainer.d_steps, game.trainer.adversary.k_epochs) == (2, 5)
    assert (game.trainer.rollout_rate, game.trainer.adversary.sample_size, game.trainer.adversary.batch_size) == (
        0.6,
        30,
        20,
    )
    assert game.trainer.adversary.optimizer.param_groups[0]["lr"] == 3e-3
    assert game.trainer.adversary.optimizer.param_groups[0]["weight_decay"] == 0.2
    assert game.pretrainer.optimizer.param_groups[0]["lr"] == 4e-3
    assert game.pretrainer.batch_size == 20
    assert game.agent.policy.optimizer.param_groups[0]["lr"] == 5e-3
    assert (game.agent.max_grad_norm, game.pretrainer.max_grad_norm) == (2.5, 2.5)
    assert game.agent.baseline == "step_mean"
    assert game.env.num_envs == 9
    assert game.env.env.mdp.n_rollouts == 7


# The loop, beside the callback that plays the same rounds.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"g_steps": 3, "d_steps": 2, "k_epochs": 2, "rollout_rate": 0.8},
        {"reward_model": "constant"},
        {"discriminator": "cnn", "dropout": 0.5, "baseline": "value"},
    ],
    ids=["plain", "g d k and a delay", "constant", "dropout"],
)
def test_the_loop_and_the_callback_play_the_same_game(changes: dict[str, Any]) -> None:
    looped, called = game_of(**changes), game_of(**changes)
    looped.train()
    config = called.config
    trainer = DiscriminatorTrainer(
        called.trainer.discriminator,
        called.task,
        reward_model=called.reward_model,
        g_steps=config.game.g_steps,
        d_steps=config.game.d_steps,
        k_epochs=config.game.k_epochs,
        learning_rate=config.discriminator.learning_rate,
        rollout_rate=config.game.rollout_rate,
        seed=int(np.random.SeedSequence(config.seed).generate_state(4)[3]),
    )
    with called.streams:
        called.pretrainer.fit()
        trainer.sync(called.generator)
        for _ in range(config.discriminator.pretraining_steps if trainer.discriminator is not None else 0):
            trainer.train_step(called.generator)
        steps = config.game.rounds * config.game.g_steps * called.steps_per_update
        called.agent.learn(steps, trainer, reset_num_timesteps=False)
    assert trainer.rounds == looped.trainer.rounds == config.game.rounds
    assert trainer.mean_reward == looped.trainer.mean_reward
    assert trainer.last_report == looped.trainer.last_report
    assert torch.equal(vector(called.generator), vector(looped.generator))
    assert torch.equal(vector(called.discriminator), vector(looped.discriminator))
    assert isinstance(trainer.rollout_policy, DelayedCopy)
    assert isinstance(looped.trainer.rollout_policy, DelayedCopy)
    assert torch.equal(vector(trainer.rollout_policy.model), vector(looped.trainer.rollout_policy.model))


def test_a_learning_rate_schedule_falls_over_the_game_and_not_over_an_update() -> None:
    game = game_of(rounds=4, g_steps=2)
    game.agent.lr_schedule = lambda progress: progress
    rates: list[float] = []
    game.train(lambda milestone: rates.append(game.agent.policy.optimizer.param_groups[0]["lr"]))
    assert rates[-4:] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_a_game_leaves_the_programs_random_streams_as_they_are() -> None:
    def program() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    def seed() -> None:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)

    seed()
    expected = [program() for _ in range(8)]
    seed()
    drawn = [program()]
    game = game_of(dropout=0.5)
    game.train(lambda milestone: drawn.append(program()))
    assert drawn == expected


def test_a_game_makes_no_folder_of_a_logger(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    game_of().train()
    assert list(tmp_path.iterdir()) == []
