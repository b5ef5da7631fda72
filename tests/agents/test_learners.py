"""`learners`: names, settings in RL Zoo's format, and what is refused."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from agents import learners
from agents.learners import ENTRIES, LEARNERS, SETTINGS, ComparedTask, LearnerName, read_settings, resolved
from agents.policies import TokenPrefixExtractor
from agents.reinforce import default_discount


def test_every_name_is_a_learner_with_a_file_of_settings() -> None:
    assert tuple(LEARNERS) == get_args(LearnerName)
    assert all(learner.name == name for name, learner in LEARNERS.items())
    assert sorted(path.stem for path in SETTINGS.glob("*.yml")) == sorted(LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("task", ENTRIES)
def test_settings_say_reward_mode_and_a_discount_that_fits_it(name: LearnerName, task: ComparedTask) -> None:
    settings = LEARNERS[name].settings(task)
    mode = LEARNERS[name].reward_mode(task)
    assert settings["gamma"] == default_discount(mode)
    assert settings["n_timesteps"] >= 10_000
    assert isinstance(settings["n_timesteps"], int)
    sizes = {"toy": (None, None), "middle": (50, 10), "oracle": (None, None)}[task]
    keywords = settings["env_kwargs"]
    assert (keywords.get("vocab_size"), keywords.get("sequence_length")) == sizes


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_made_from_its_settings(name: LearnerName) -> None:
    learner = LEARNERS[name]
    pytest.importorskip(learner.module, reason=f"{learner.label} needs seqgan-gym[contrib]")
    agent: Any = learner.make("toy", 3)
    settings = learner.settings("toy")
    assert type(agent).__name__ == learner.label
    assert agent.n_envs == settings["n_envs"]
    assert agent.gamma == settings["gamma"]
    assert agent.seed == 3
    assert agent.get_env().get_attr("reward_mode")[0] == settings["env_kwargs"]["reward_mode"]
    assert (agent.get_env().env.mdp.n_rollouts) == settings["env_kwargs"]["n_rollouts"]


def test_another_reward_mode_brings_the_discount_that_fits_it() -> None:
    learner = LEARNERS["ppo"]
    assert learner.reward_mode("toy") == "potential"
    discounts = [learner.make("toy", 0, mode).gamma for mode in ("action_value", "terminal", "potential")]  # type: ignore[attr-defined, arg-type]
    assert discounts == [0.0, 1.0, 1.0]
    assert learner.make("toy", 0, "action_value", gamma=0.5).gamma == 0.5  # type: ignore[attr-defined]


def test_settings_and_keywords_can_be_changed() -> None:
    agent: Any = LEARNERS["a2c"].make("toy", 0, env_kwargs={"n_rollouts": 7}, n_envs=2, learning_rate=0.5)
    assert (agent.n_envs, agent.learning_rate, agent.get_env().env.mdp.n_rollouts) == (2, 0.5, 7)
    assert LEARNERS["a2c"].settings("toy")["env_kwargs"]["n_rollouts"] != 7


def test_the_seed_decides_the_parameters() -> None:
    one, same, other = (
        torch.nn.utils.parameters_to_vector(LEARNERS["ppo"].make("toy", seed).policy.parameters()) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_policy_kwargs_as_rl_zoo_writes_them() -> None:
    text = (
        "dict(features_extractor_class=get_class_by_name('agents.policies.TokenPrefixExtractor'), "
        "net_arch=[8], a=dict(b=1.5))"
    )
    settings = resolved({"policy": "MlpPolicy", "policy_kwargs": text})
    assert settings["policy_kwargs"] == {
        "features_extractor_class": TokenPrefixExtractor,
        "net_arch": [8],
        "a": {"b": 1.5},
    }
    assert settings["policy"] == "MlpPolicy"


def test_a_learning_rate_that_falls_to_zero_as_rl_zoo_writes_it() -> None:
    rate = resolved({"policy": "MlpPolicy", "learning_rate": "lin_1e-2"})["learning_rate"]
    assert [rate(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.01, 0.005, 0.0])
    with pytest.raises(ValueError, match="learning_rate='fast' must be a number, or like 'lin_1e-2'"):
        resolved({"policy": "MlpPolicy", "learning_rate": "fast"})


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "dict(a=open('x'))", "dict(", "dict([1])"])
def test_nothing_in_a_file_of_settings_is_executed(text: str) -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs=.* must be dict\(\.\.\.\)"):
        resolved({"policy": "MlpPolicy", "policy_kwargs": text})


@pytest.mark.parametrize("text", ["- 1", "Env: 3", "Env: {n_envs: 1}", "a: [", ""])
def test_a_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ppo.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"ppo\.yml' cannot be read as settings of RL Zoo"):
        read_settings(path)


def test_a_task_without_settings_is_named_with_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ppo.yml").write_text("SeqGAN-Toy-v0: {n_timesteps: 10, policy: MlpPolicy}")
    monkeypatch.setattr(learners, "SETTINGS", tmp_path)
    with pytest.raises(ValueError, match=r"task='oracle': ppo.yml has no settings for SeqGAN-Oracle-v0; .*Toy"):
        LEARNERS["ppo"].settings("oracle")


def test_an_unknown_reward_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="reward_mode='sparse' must be one of"):
        LEARNERS["ppo"].make("toy", 0, "sparse")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("sb3_contrib", lambda: LEARNERS["trpo"].make("toy", 0), "contrib"),
        ("yaml", lambda: LEARNERS["ppo"].settings("toy"), "compare"),
    ],
)
def test_a_missing_library_is_an_error_that_names_the_extra(
    missing: str, call: Any, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *arguments: Any) -> Any:
        if name == missing:
            raise ImportError(name)
        return builtins.__import__(name)

    monkeypatch.setattr(learners, "import_module", refuse)
    with pytest.raises(ImportError, match=rf'pip install "seqgan-gym\[{extra}\]"'):
        call()
