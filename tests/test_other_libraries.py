"""What docs/libraries.md shows works with each library, and the environments are what each of them expects.

A library that is not installed is skipped; `pytest -m rllib` and so on choose one.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.envs import SequenceVectorEnv, ToyEnv
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import DiscriminatorReward
from seqgan_env.tasks.toy import toy_task

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.S | re.M))


def block(section: str, language: str = "python") -> str:
    """The first block of a section in a language, as it stands."""
    found = re.search(rf"```{language}\n(.*?)```", SECTIONS[section], flags=re.S)
    assert found is not None
    return found[1]


def blocks(section: str) -> str:
    """All Python blocks of a section as one, for a later block that goes on with what an earlier one defines."""
    return "\n".join(re.findall(r"```python\n(.*?)```", SECTIONS[section], flags=re.S))


def run(code: str, name: str = "libraries") -> dict[str, Any]:
    """Execute a block; what it defines."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code, "libraries.md", "exec"), names)
    return names


def needs(module: str, how: str) -> Any:
    """A library, or a skip that says how to get it."""
    return pytest.importorskip(module, reason=f"{module} is not installed: {how}", exc_type=ImportError)


def test_every_library_has_its_section_and_its_version() -> None:
    assert list(SECTIONS) == ["Single files", "RL Zoo", "TorchRL", "RLlib", "TRL", "tianshou"]
    for section in list(SECTIONS)[1:]:
        assert re.search(rf"^\| {section} \| \w+ \d+\.\d+\.\d+.* \| gymnasium \d+\.\d+\.\d+, .* \| .+ \|$", PAGE, re.M)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", PAGE) if not target.startswith("http")]
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_every_command_of_the_page_names_a_file_that_exists() -> None:
    for command in block("Single files", "bash").splitlines():
        assert (ROOT / shlex.split(command, comments=True)[1]).is_file()


# RL Zoo.


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of RL Zoo's command; its table of algorithms is put back afterwards."""
    needs("rl_zoo3", 'pip install -c constraints.txt -e ".[zoo]"')
    import rl_zoo3.train

    algorithms = rl_zoo3.train.ALGOS.copy()
    monkeypatch.chdir(ROOT)
    yield rl_zoo3.train
    rl_zoo3.train.ALGOS.clear()
    rl_zoo3.train.ALGOS.update(algorithms)


def train_with_zoo(monkeypatch: pytest.MonkeyPatch, algorithm: str, folder: Path, train: Any) -> Any:
    """The page's command for one algorithm and a few steps; the agent that it leaves in a file."""
    command = block("RL Zoo", "bash").replace("ppo", algorithm)
    few = f"-n 288 --eval-freq -1 --seed 0 --device cpu --verbose 0 -f {folder}"
    words = shlex.split(f"{command} {few}")
    assert words[:3] == ["python", "-m", "rl_zoo3.train"]
    monkeypatch.setattr(sys, "argv", words[2:])
    train()
    return folder / algorithm / "SeqGAN-Toy-v0_1" / "SeqGAN-Toy-v0.zip"


@pytest.mark.zoo
@pytest.mark.parametrize("algorithm", ["a2c", "dqn", "ppo", "ppo_lstm", "qrdqn", "trpo"])
def test_rl_zoo_trains_with_our_settings(
    zoo: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str
) -> None:
    path = train_with_zoo(monkeypatch, algorithm, tmp_path, zoo.train)
    agent = zoo.ALGOS[algorithm].load(path, device="cpu")
    assert agent.num_timesteps >= 288
    assert agent.gamma == 1.0
    assert agent.n_envs == (8 if algorithm in ("dqn", "qrdqn") else 32)


@pytest.mark.zoo
@pytest.mark.usefixtures("zoo")
def test_rl_zoo_trains_reinforce_once_its_table_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from agents.policies import SequencePolicy
    from agents.reinforce import REINFORCE

    path = train_with_zoo(monkeypatch, "reinforce", tmp_path, lambda: run(block("RL Zoo"), "__main__"))
    agent = REINFORCE.load(path, device="cpu")
    assert isinstance(agent.policy, SequencePolicy)
    assert (agent.gamma, agent.ent_coef, agent.num_timesteps) == (1.0, 0.01, 288)  # as the file has it


# TorchRL.


@pytest.fixture
def torchrl_envs() -> Any:
    """TorchRL's module of environments."""
    needs("torchrl", 'pip install -c constraints.txt -e ".[torchrl]"')
    import torchrl.envs

    return torchrl.envs


@pytest.mark.torchrl
@pytest.mark.usefixtures("torchrl_envs")
def test_torchrl_learns_as_the_page_shows() -> None:
    run(block("TorchRL"))


@pytest.mark.torchrl
@pytest.mark.parametrize("autoreset_mode", ["SameStep", "Disabled"])
def test_torchrl_sees_every_token_of_a_batch_and_no_step_of_a_finished_row(
    torchrl_envs: Any, autoreset_mode: str
) -> None:
    envs = SequenceVectorEnv(toy_task(), 4, reward_model="oracle", autoreset_mode=autoreset_mode)
    env = torchrl_envs.GymWrapper(envs, categorical_action_encoding=True)
    env.set_seed(0)
    torchrl_envs.check_env_specs(env)
    steps = env.rollout(7, break_when_any_done=False)
    actions, before, after = steps["action"], steps["observation"], steps["next", "observation"]
    assert steps["next", "done"][0].flatten().tolist() == [False, False, True] * 2 + [False]
    for t in range(7):
        assert before[:, t].lt(3).sum(dim=1).tolist() == [t % 3] * 4
        assert after[:, t, t % 3].tolist() == actions[:, t].tolist()
        assert after[:, t, : t % 3].tolist() == before[:, t, : t % 3].tolist()


@pytest.mark.torchrl
def test_torchrl_refuses_autoreset_at_the_next_step(torchrl_envs: Any) -> None:
    with pytest.raises(RuntimeError, match="SAME_STEP or DISABLED"):
        torchrl_envs.GymWrapper(SequenceVectorEnv(toy_task(), 4, reward_model="oracle"))


# RLlib.


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray on one core, with RLlib."""
    needs("ray.rllib", "see docs/libraries.md for an environment of its own")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.rllib
@pytest.mark.usefixtures("ray")
def test_rllib_learns_for_two_iterations_as_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[gym.Env[Any, Any]] = []
    step = SequenceVectorEnv.step

    def watched(self: Any, actions: Any) -> Any:
        environments.append(self)
        return step(self, actions)

    monkeypatch.setattr(SequenceVectorEnv, "step", watched)
    monkeypatch.setattr(ToyEnv, "step", lambda *_: pytest.fail("single environments, where the native batch was asked"))
    learnt = run(block("RLlib"))
    assert len(learnt["returns"]) == 2
    assert {(env.num_envs, env.autoreset_mode) for env in environments} == {  # type: ignore[attr-defined]
        (32, gym.vector.AutoresetMode.NEXT_STEP)
    }
    assert {env.reward_mode for env in environments} == {"potential"}  # type: ignore[attr-defined]


# TRL.


@pytest.mark.trl
def test_trl_learns_from_the_oracle_and_in_the_game_as_the_page_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs("trl", 'pip install -c constraints.txt -e ".[trl]"')
    from agents.adversary import Adversary

    monkeypatch.chdir(tmp_path)  # its output folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    drawn: list[Any] = []
    step = Adversary.step
    monkeypatch.setattr(Adversary, "step", lambda self, task, draw: (drawn.append(draw(8)), step(self, task, draw))[1])
    learnt = run(blocks("TRL"))
    assert len(drawn) == 5 + 30  # before the game, and after each step of GRPO
    assert {tuple(batch.shape) for batch in drawn} == {(8, 3)}
    assert max(int(batch.max()) for batch in drawn) < 3  # never the start symbol
    assert learnt["prompts"].column_names == ["prompt", "text"]
    assert learnt["prompts"][0]["text"] == toy_task().decode(toy_task().real_sequences("train")[0].tolist())


# tianshou.


@pytest.mark.tianshou
def test_tianshou_learns_as_the_page_shows() -> None:
    needs("tianshou", "see docs/libraries.md for an environment of its own")
    learnt = run(block("tianshou"))
    assert learnt["envs"].get_env_attr("reward_mode") == ["terminal"] * 32
    assert learnt["mean_return"] < 0.4441  # the best sequence has 0.44409


@pytest.mark.tianshou
def test_tianshou_stops_at_texts_that_only_last_steps_have() -> None:
    needs("tianshou", "see docs/libraries.md for an environment of its own")
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv

    code = block("tianshou")
    names = run(code[: code.index("collector = Collector")])
    for make_env, missing in ((names["make_env"], False), (lambda: names["make_env"]().env, True)):
        envs = DummyVectorEnv([make_env for _ in range(2)])
        collector = Collector(names["ppo"], envs, VectorReplayBuffer(12, 2))
        collector.reset()
        collector.collect(n_step=12)
        assert collector.buffer.hasnull() is missing


@pytest.mark.tianshou
def test_tianshou_gives_all_environments_of_a_process_the_same_reward_model() -> None:
    needs("tianshou", "see docs/libraries.md for an environment of its own")
    from tianshou.env import DummyVectorEnv

    reward = DiscriminatorReward(CNNDiscriminator(3, 3, ((1, 4),)))
    envs = DummyVectorEnv([lambda: gym.make("SeqGAN-Toy-v0", reward_model=reward) for _ in range(3)])
    assert all(mdp.reward_model is reward for mdp in envs.get_env_attr("mdp"))
