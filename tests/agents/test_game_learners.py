"""Every learner plays Algorithm 1: options, errors, the same end after an interruption, and a rising reward."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.game_learners import build_learner
from agents.kl_ppo import KLPPO
from agents.learner_options import (
    GAME_LEARNERS,
    LearnerConfig,
    learner_options,
    needs_sequences,
    reward_model_of,
)
from agents.learner_state import learner_state
from agents.runs.checkpoints import read_tensors
from agents.runs.description import config_from
from agents.runs.flat_names import nested
from agents.runs.health import diverged
from agents.runs.presets import PRESETS, TOY
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed
from agents.studies.cells import Cell, check_same_cell
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import build_reward_model
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.oracle import OracleOptions
from seqgan_env.tasks.text import TextOptions
from seqgan_env.tasks.toy import ToyOptions, enumerate_sequences, toy_task
from tests.agents.conftest import TINY, TINY_OPTIONS, train
from tests.marks import slow

OWN = "tests.agents.own_learners"
Command = Callable[..., tuple[int, str]]
# Learner -> options with which it has every kind of state: value head, reference, RMSprop.
STATEFUL: dict[str, dict[str, Any]] = {
    "reinforce": {"baseline": "value"},
    "rloo": {"kl_coef": 0.1},
    "grpo": {"kl_coef": 0.1},
    "ppo": {"kl_coef": 0.1, "n_epochs": 2},
    "a2c": {"use_rms_prop": True},
    "trpo": {},
    "weighted_mle": {"n_epochs": 2},
    "dpg": {},
    "spin": {"updates_per_reference": 2},
    "ddo": {"updates_per_reference": 2},
    "cot": {"mediator_pretraining": 2, "future_weight": 0.5},
    f"{OWN}:RunningBaseline": {"share": 0.3},
    f"{OWN}:NoisyA2C": {},
}
TASKS = ("toy", "oracle", "text")


def config_of(task: str, learner: str, place: Path, **changes: Any) -> SeqGANConfig:
    """Tiny settings: seconds on any task."""
    options: Any = {
        "toy": lambda: ToyOptions(train_sequences=64),
        "oracle": lambda: OracleOptions(vocab_size=12, sequence_length=4, train_sequences=64),
        "text": lambda: TextOptions(corpus=str(corpus(place))),
    }[task]()
    base = changed(TOY, {"task": options, "pretraining.batch_size": 16, "discriminator.sample_size": 32})
    sizes = {name: value for name, value in TINY.items() if name != "train_sequences"}
    group = replace(LearnerConfig(), batch_size=8).named(learner)
    parts = {
        "learner": replace(group, options=dict(group.options) | STATEFUL.get(learner, {})),
        "game.reward_mode": "terminal" if needs_sequences(learner) else "potential",
        "game.reward_model": reward_model_of(learner) or "discriminator",
    }
    sizes.pop("generator_batch_size")
    return changed(changed(base, nested(sizes) | parts), changes)


def corpus(place: Path) -> Path:
    path, rng = place / "corpus.txt", np.random.default_rng(0)
    if not path.is_file():
        lines = {" ".join(rng.choice(["a", "red", "old", "cat", "sees"], rng.integers(2, 6))) for _ in range(400)}
        path.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    return path


def new_run(path: Path, task: str, config: SeqGANConfig) -> RunFolder:
    corpus_options = asdict(config.task) if task == "text" else None
    return RunFolder.create(path, config.task.task(), config, task, corpus_options=corpus_options)


def assert_same_end(run: RunFolder, other: RunFolder) -> None:
    """The same CSV byte for byte, and the same weights, optimizers, counters and random states."""
    assert run.metrics_path.read_bytes() == other.metrics_path.read_bytes()
    (tensors, state), (expected, expected_state) = (read_tensors(r.latest_checkpoint) for r in (run, other))
    assert state == expected_state
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


# The same end after an interruption.


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("learner", STATEFUL)
def test_a_run_that_is_broken_off_in_a_round_and_resumed_ends_as_one_that_was_not(
    learner: str, task: str, tmp_path: Path
) -> None:
    assert_same_end_after_an_interruption(task, config_of(task, learner, tmp_path), tmp_path)


def test_a_game_with_a_relativistic_reward_is_resumed_alike(tmp_path: Path) -> None:
    changes = {"game.reward_model": "relativistic", "discriminator.loss": "bradley_terry"}
    assert_same_end_after_an_interruption("toy", config_of("toy", "rloo", tmp_path, **changes), tmp_path)


def assert_same_end_after_an_interruption(task: str, config: SeqGANConfig, tmp_path: Path) -> None:
    whole = train(new_run(tmp_path / "whole", task, config))
    broken = new_run(tmp_path / "broken", task, config)
    experiment = Experiment(broken, console=Console(quiet=True), show_progress=False)
    play = experiment.game.trainer.play

    def stop(agent: Any) -> None:
        """The learner has made its update, and nothing of it is saved."""
        if experiment.game.trainer.rounds == 1:
            raise KeyboardInterrupt
        play(agent)

    experiment.game.trainer.play = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        experiment.train()
    assert broken.metrics_path.read_bytes() != whole.metrics_path.read_bytes()
    assert_same_end(train(broken), whole)


@pytest.mark.parametrize("learner", ["ppo", slow("trpo"), slow("grpo"), slow("cot")])
def test_a_command_that_is_killed_and_resumed_ends_as_one_that_was_not(
    learner: str, tmp_path: Path, mortal_command: Command
) -> None:
    line = ["train", "toy", *TINY_OPTIONS, "--learner", learner, "--out"]
    assert mortal_command([*line, tmp_path / "whole"])[0] == 0
    status, said = mortal_command([*line, tmp_path / "killed"], at="row is half logged", count=6)
    assert status == -9, said
    status, said = mortal_command(["train", "toy", "--no-progress", "--resume", tmp_path / "killed"])
    assert status == 0, said
    assert_same_end(RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole"))


@pytest.mark.parametrize("learner", ["rloo", "grpo", "ppo"])
def test_the_reference_of_a_penalty_is_the_generator_at_the_end_of_mle(learner: str, tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", "toy", config_of("toy", learner, tmp_path)))
    (mle, _), (end, _) = read_tensors(run.mle_checkpoint), read_tensors(run.latest_checkpoint)
    for name in [name for name in mle if name.startswith("agent.policy.generator.")]:
        stored = end[name.replace("agent.policy.generator.", "agent.reference.generator.")]
        assert torch.equal(stored, mle[name]), name
    assert not torch.equal(end["agent.policy.generator.embedding"], mle["agent.policy.generator.embedding"])


def test_all_that_a_learner_of_ones_own_adds_is_in_its_state() -> None:
    game = SeqGAN(toy_task(), changed(TOY, {"learner": LearnerConfig(f"{OWN}:NoisyA2C", batch_size=4)}))
    game.trainer.begin(game.agent)
    game.agent.learn(game.steps_per_update)
    state = learner_state(game.agent)["attributes"]
    assert {"rng", "noise", "history", "total", "scale", "scale_optimizer", "num_timesteps"} <= state.keys()
    assert "policy_kwargs" not in state
    assert isinstance(state["noise"], torch.Tensor)


@pytest.mark.parametrize("learner", ["spin", "ddo", "cot"])
def test_the_real_sequences_of_a_task_are_not_in_the_state_of_a_learner(learner: str) -> None:
    agent = built(LearnerConfig(learner, batch_size=4))
    agent.learn(12)
    state = learner_state(agent)
    assert "rng" in state
    assert state.get("attributes", {}).get("real_sequences") is None


@pytest.mark.parametrize("learner", [*GAME_LEARNERS, f"{OWN}:RunningBaseline"])
def test_with_learning_rate_0_the_game_goes_on_and_the_generator_stays(learner: str, tmp_path: Path) -> None:
    changes = {"learner.learning_rate": 0.0} | ({"learner.target_kl": 1e-12} if learner == "trpo" else {})
    run = train(new_run(tmp_path / "run", "toy", config_of("toy", learner, tmp_path, **changes)))
    (mle, _), (end, _) = read_tensors(run.mle_checkpoint), read_tensors(run.latest_checkpoint)
    name = "agent.policy.generator.output.bias"
    torch.testing.assert_close(end[name], mle[name], atol=1e-5, rtol=0)
    assert run.metrics()[-1]["index"] == "3"


# Options.


OTHER: dict[str, Any] = {
    "baseline": "step_mean", "ent_coef": 0.011, "vf_coef": 0.3, "kl_coef": 0.07, "n_epochs": 3, "clip_range": 0.13,
    "scale_rewards": False, "length_normalised": False, "gae_lambda": 0.7, "normalize_advantage": False,
    "use_rms_prop": True, "target_kl": 0.03, "cg_max_steps": 4, "cg_damping": 0.2, "line_search_shrinking_factor": 0.6,
    "line_search_max_iter": 5, "n_critic_updates": 3, "sub_sampling_factor": 2,
    "reward": "logit", "self_normalised": False, "temperature": 1.5, "alpha": 0.4, "beta": 0.3,
    "updates_per_reference": 7, "future_weight": 0.3, "mediator_steps": 2, "mediator_pretraining": 5,
    "mediator_learning_rate": 0.01, "mediator_weight_decay": 0.1, "mediator_dropout": 0.2,
}  # fmt: skip


def built(config: LearnerConfig, mode: Any = None) -> Any:
    task = toy_task()
    mode = mode or ("terminal" if needs_sequences(config.name) else "potential")
    env = SequenceVecEnv(SequenceVectorEnv(task, config.batch_size, reward_model="oracle", reward_mode=mode))
    return build_learner(config, env, LSTMSequenceModel(3, 8, 8, 0.1, 0), 0, "cpu")


@pytest.mark.parametrize(("learner", "option"), [(name, o) for name in GAME_LEARNERS for o in learner_options(name)])
def test_every_option_reaches_the_learner(learner: str, option: str) -> None:
    value = OTHER[option]
    assert value != learner_options(learner)[option].default
    agent = built(LearnerConfig(learner, {option: value}, batch_size=8))
    if option == "use_rms_prop":
        assert isinstance(agent.policy.optimizer, torch.optim.RMSprop)
        return
    reached = getattr(agent, option)
    assert (reached(1.0) if callable(reached) else reached) == value


@pytest.mark.parametrize("learner", GAME_LEARNERS)
def test_the_shared_settings_and_the_discount_reach_the_learner(learner: str) -> None:
    config = LearnerConfig(learner, batch_size=8, learning_rate=0.003, max_grad_norm=0.4)
    agent = built(config)
    assert agent.lr_schedule(1.0) == 0.003
    assert learner == "trpo" or agent.max_grad_norm == 0.4
    assert (agent.n_steps, agent.n_envs, agent.gamma) == (3, 8, 1.0)
    if not GAME_LEARNERS[learner].needs_sequences:
        assert built(config, "action_value").gamma == 0.0


@pytest.mark.parametrize("learner", ["ppo", "a2c"])
def test_the_loss_of_the_value_head_does_not_change_the_generator(learner: str) -> None:
    agent = built(LearnerConfig(learner, {"vf_coef": 1.0, "normalize_advantage": False}, batch_size=8))
    before = agent.policy.value_net.bias.detach().clone()
    agent.env.env_method("set_reward_model", build_reward_model("constant:0.5", toy_task()))
    agent.learn(24)
    values, _, _ = agent.policy.evaluate_actions(torch.full((2, 3), 3), torch.zeros(2))
    agent.policy.optimizer.zero_grad()
    values.square().sum().backward()
    assert all(parameter.grad is None for parameter in agent.policy.generator.parameters())
    assert not torch.equal(agent.policy.value_net.bias, before)


def test_another_learner_brings_its_tuned_settings_and_keeps_shared_options() -> None:
    preset = LearnerConfig(options={"baseline": "step_mean", "ent_coef": 0.02}, learning_rate=0.02, batch_size=32)
    ppo = preset.named("ppo")
    assert (ppo.learning_rate, ppo.max_grad_norm, ppo.batch_size) == (0.005, 0.5, 32)
    assert ppo.options["ent_coef"] == 0.02
    assert "baseline" not in ppo.options
    assert ppo.named("reinforce").learning_rate == 0.02
    own = preset.named(f"{OWN}:RunningBaseline")
    assert (own.learning_rate, own.max_grad_norm) == (3e-3, 1.0)  # as its constructor has them
    assert own.options == {"share": 0.1, "n_epochs": 1}
    assert learner_options(own.name)["share"].help == "weight of the newest update in the baseline."


def test_ppo_without_a_penalty_has_no_reference_and_its_mean_reward_is_that_of_the_game() -> None:
    assert built(LearnerConfig("ppo", batch_size=8)).reference is None
    ends = []
    for weight in (0.0, 5.0):
        agent = built(LearnerConfig("ppo", {"kl_coef": weight}, batch_size=8, learning_rate=0.0))
        if agent.reference is not None:
            agent.reference.take(LSTMSequenceModel(3, 8, 8, 2.0, 1))
        agent.learn(24)
        ends.append(agent.rollout_buffer.rewards.copy())
    np.testing.assert_array_equal(*ends)
    assert isinstance(agent, KLPPO)


def test_settings_of_earlier_versions_are_read() -> None:
    values = asdict(TOY)
    values["learner"] = {"batch_size": 9, "learning_rate": 0.5, "baseline": "value", "max_grad_norm": 2.0}
    learner = config_from("toy", values).learner
    assert learner == LearnerConfig("reinforce", {"baseline": "value"}, 9, 0.5, 2.0)


@pytest.mark.parametrize(("learner", "option"), [("ppo", "--learner.learning-rate"), ("trpo", "--learner.target-kl")])
def test_a_game_that_diverges_names_the_setting_that_moves_this_learner(learner: str, option: str) -> None:
    config = changed(TOY, {"learner": LearnerConfig(learner)}).complete()
    assert f"with a lower {option} (now 0.01)" in str(diverged("it is NaN", "adversarial", config))


def test_a_grid_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    config = asdict(TOY.complete())
    cell = Cell("one", "module:train", {"config": config}, defaults={"config": asdict(SeqGANConfig().complete())})
    learner = {"batch_size": 64, "learning_rate": 1e-2, "baseline": "none", "max_grad_norm": 5.0}
    stored = cell.description | {"settings": {"config": config | {"learner": learner}}}
    (tmp_path / "one").mkdir()
    (cell.folder(tmp_path) / "cell.json").write_text(json.dumps(stored))
    check_same_cell(cell, tmp_path)
    (cell.folder(tmp_path) / "cell.json").write_text(json.dumps(stored).replace('"none"', '"value"'))
    with pytest.raises(ValueError, match=r"was computed with config\.learner\.options\.baseline='value', not 'none'"):
        check_same_cell(cell, tmp_path)


# Errors.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "pppo",
            ["learner='pppo' is none of reinforce, rloo, grpo, ppo, a2c, trpo, weigh", "did you mean 'ppo'?"],
        ),
        ("DQN", ["learner='DQN' has values of actions", "seqgan compare"]),
        ("qrdqn", ["has values of actions"]),
        ("RecurrentPPO", ["has a memory of its own", "seqgan compare"]),
        ("MaskablePPO", ["has a feed-forward policy", "seqgan compare"]),
        ("kl_ppo", ["write --learner ppo --learner.kl-coef"]),
    ],
)
def test_a_name_that_cannot_play_is_refused_with_the_reason(name: str, words: list[str]) -> None:
    for make in (lambda: LearnerConfig(name), lambda: LearnerConfig().named(name), lambda: learner_options(name)):
        with pytest.raises(ValueError) as error:
            make()
        assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("learner", "options", "match"),
    [
        (
            "ppo",
            {"baseline": "value"},
            r"learner.baseline='value': learner='ppo' has no such option; it has n_epochs, ",
        ),
        ("ppo", {"n_epochs": 0}, "learner.n_epochs=0 must be at least 1"),
        ("ppo", {"n_epochs": 1.5}, "learner.n_epochs=1.5 must be of type int"),
        ("ppo", {"gae_lambda": 1.5}, "learner.gae_lambda=1.5 must"),
        ("trpo", {"target_kl": 0.0}, "learner.target_kl=0.0 must be above 0"),
        ("trpo", {"target_kl": float("nan")}, "learner.target_kl=nan must"),
        ("reinforce", {"baseline": "critic"}, "learner.baseline='critic' must be one of none, step_mean, value"),
    ],
)
def test_wrong_options_are_refused_by_name(learner: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LearnerConfig(learner, options).complete()


@pytest.mark.parametrize("mode", ["action_value", "potential"])
@pytest.mark.parametrize("learner", ["rloo", "grpo"])
def test_learners_of_whole_sequences_say_which_reward_mode_to_write(learner: str, mode: str) -> None:
    with pytest.raises(
        ValueError, match=rf"game.reward_mode='{mode}': learner='{learner}' .* --game.reward-mode termin"
    ):
        changed(TOY, {"learner.name": learner, "game.reward_mode": mode})
    with pytest.raises(ValueError, match=r"learner.batch_size=1 must be at least 2"):
        changed(TOY, {"learner.name": learner, "game.reward_mode": "terminal", "learner.batch_size": 1})


@pytest.mark.parametrize("learner", ["spin", "ddo", "cot"])
def test_learners_without_a_reward_train_no_discriminator_and_refuse_one(learner: str) -> None:
    changes = {"learner.name": learner, "game.reward_mode": "terminal"}
    with pytest.raises(ValueError, match=rf"'discriminator': learner='{learner}' .* --game.reward-model constant"):
        changed(TOY, changes)
    game = SeqGAN(toy_task(), changed(TOY, changes | {"game.reward_model": "constant"}))
    assert game.trainer.adversary is None


def test_a_penalty_needs_rewards_that_add_up() -> None:
    with pytest.raises(ValueError, match=r"learner.kl_coef=0.1 needs rewards that add up, .* --game.reward-mode poten"):
        changed(TOY, {"learner.name": "ppo", "learner.kl_coef": 0.1})
    changed(TOY, {"learner.name": "ppo", "learner.kl_coef": 0.1, "game.reward_mode": "potential"})


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Raises", "cannot be built as Raises.*RuntimeError: no such thing"),
        ("OtherSteps", "has n_steps=8, .* take n_steps=3"),
        ("OtherPolicy", "cannot be built|does not train the game's generator"),
        ("ValueBased", "cannot be built|is no OnPolicyAlgorithm"),
        ("NOT_A_CLASS", "must be a class"),
        ("Missing", "cannot be loaded"),
    ],
)
def test_a_class_of_ones_own_that_cannot_play_is_refused_with_the_reason(name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        built(LearnerConfig(f"{OWN}:{name}", batch_size=8))


def test_a_class_of_whole_sequences_needs_terminal_rewards_too() -> None:
    with pytest.raises(ValueError, match=r"Write --game\.reward-mode terminal"):
        built(LearnerConfig(f"{OWN}:RunningBaseline", batch_size=8), "action_value")


# Learning.


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("learner", [name for name in GAME_LEARNERS if reward_model_of(name) == ""])
def test_each_learner_raises_the_mean_reward_from_a_generator_after_mle(learner: str, seed: int) -> None:
    """With its tuned settings and all rewards of the oracle; means over all 27 sequences, exact."""
    everything = enumerate_sequences(3, 3)
    group = TOY.learner.named(learner)
    mode = "terminal" if GAME_LEARNERS[learner].needs_sequences else "action_value"
    game = SeqGAN(
        toy_task(),
        changed(
            TOY,
            {
                "seed": seed,
                "learner": group,
                "game.reward_mode": mode,
                "game.reward_model": "oracle",
                "game.rounds": 60,
            },
        ),
    )
    rewards = game.reward_model(everything).double()

    def mean_reward() -> float:
        return float((game.generator.log_probs(everything).double().sum(dim=1).exp() * rewards).sum())

    at_the_end_of: dict[str, float] = {}
    game.train(lambda milestone: at_the_end_of.update({milestone.stage: mean_reward()}))
    gained = (at_the_end_of["adversarial"] - at_the_end_of["mle"]) / (float(rewards.max()) - at_the_end_of["mle"])
    assert gained > 0.3


@pytest.mark.slow
def test_a_round_of_ppo_takes_at_most_one_and_a_half_times_that_of_reinforce() -> None:
    """At the paper's sizes, with the settings of preset fast; processor time, the two in turns."""
    config = PRESETS["fast"]
    task = config.task.task()
    games = {name: SeqGAN(task, replace(config, learner=config.learner.named(name))) for name in ("reinforce", "ppo")}
    seconds: dict[str, list[float]] = {name: [] for name in games}
    for game in games.values():
        game.trainer.begin(game.agent)
    for _ in range(4):
        for name, game in games.items():
            begin = time.process_time()
            game.agent.learn(game.steps_per_update, reset_num_timesteps=False)
            game.trainer.play(game.agent)
            seconds[name].append(time.process_time() - begin)
    assert statistics.median(seconds["ppo"][1:]) <= 1.5 * statistics.median(seconds["reinforce"][1:])
