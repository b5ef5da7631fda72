"""Learners of other libraries that play the game: their names and their tuned settings, read from one place.

The settings are the files of `agents/settings`. They have RL Zoo's format, and RL Zoo's names of the algorithms.
`python -m rl_zoo3.train` reads the same files, so it trains the same as `seqgan compare`. In: a learner's name and a
task. Out: an SB3 algorithm with its environment. The files are data: classes that they name are imported, but nothing
in them is executed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from agents.reinforce import default_discount
from agents.vec_env import make_sequence_vec_env
from seqgan_env.mdp import RewardMode

LearnerName = Literal[
    "reinforce", "rloo", "grpo", "ppo", "kl_ppo", "a2c", "trpo", "ppo_mask", "ppo_lstm", "dqn", "qrdqn"
]
ComparedTask = Literal["toy", "middle", "oracle"]
# The middle task has no id of its own: it is SeqGAN-Oracle-v0 with the sizes in its settings.
ENTRIES: dict[ComparedTask, str] = {"toy": "SeqGAN-Toy-v0", "middle": "SeqGAN-Middle-v0", "oracle": "SeqGAN-Oracle-v0"}
SETTINGS = Path(__file__).parent / "settings"
_OF_THE_RUN = ("n_envs", "n_timesteps", "env_kwargs")  # RL Zoo does not pass these to the algorithm


@dataclass(frozen=True)
class Learner:
    """An algorithm that can play the game.

    Attributes:
        name: the name in RL Zoo, if RL Zoo knows the algorithm; also the name of the file with its settings.
        label: the name in tables and figures.
        module: the module that holds the class.
        extra: the extra of this package that installs the module; "" for none.
        is_on_policy: whether it learns only from fresh experience.
    """

    name: LearnerName
    label: str
    module: str
    extra: str = ""
    is_on_policy: bool = True

    def algorithm(self) -> type[BaseAlgorithm]:
        """The class.

        Raises:
            ImportError: if its library is not installed; the message names the extra.
        """
        try:
            algorithm: type[BaseAlgorithm] = getattr(import_module(self.module), self.label)
        except ImportError as error:
            raise ImportError(f'{self.label} needs {self.module}: pip install "seqgan-gym[{self.extra}]"') from error
        return algorithm

    def settings(self, task: ComparedTask) -> dict[str, Any]:
        """Tuned settings for a task, as in the file: plain values, and names of classes.

        Raises:
            ValueError: if there are none.
        """
        path = SETTINGS / f"{self.name}.yml"
        found = read_settings(path)
        if ENTRIES[task] not in found:
            raise ValueError(f"task={task!r}: {path.name} has no settings for {ENTRIES[task]}; it has {sorted(found)}")
        settings: dict[str, Any] = found[ENTRIES[task]]
        return settings

    def reward_mode(self, task: ComparedTask) -> RewardMode:
        """The reward mode that its settings were tuned for."""
        mode: RewardMode = self.settings(task)["env_kwargs"]["reward_mode"]
        return mode

    def make(
        self,
        task: ComparedTask,
        seed: int,
        reward_mode: RewardMode | None = None,
        env_kwargs: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        **changes: Any,
    ) -> BaseAlgorithm:
        """The algorithm with its environment, ready to learn.

        Args:
            task: the task, which decides on the settings.
            seed: of the algorithm and of its environments.
            reward_mode: used instead of the one in the settings. The discount then fits it: 0 for "action_value", 1
                otherwise.
            env_kwargs: keywords of the environment; they are added to those in the settings, or replace them.
            settings: settings as `settings` returns them; None reads the file.
            changes: arguments of the algorithm that replace those in the settings; n_envs is one, too.

        Raises:
            ImportError: if its library is not installed.
            ValueError: if the task has no settings, or the reward mode does not exist.
        """
        if reward_mode is not None and reward_mode not in get_args(RewardMode):
            raise ValueError(f"reward_mode={reward_mode!r} must be one of {get_args(RewardMode)}")
        algorithm = self.algorithm()
        settings = resolved(self.settings(task) if settings is None else settings) | changes
        keywords = settings["env_kwargs"] | (env_kwargs or {})
        if reward_mode is not None and reward_mode != keywords["reward_mode"]:
            keywords["reward_mode"] = reward_mode
            settings["gamma"] = changes.get("gamma", default_discount(reward_mode))
        env_id = "SeqGAN-Toy-v0" if task == "toy" else "SeqGAN-Oracle-v0"
        env = make_sequence_vec_env(env_id, settings["n_envs"], seed=seed, **keywords)
        arguments = {key: value for key, value in settings.items() if key not in _OF_THE_RUN}
        return algorithm(env=env, seed=seed, device="cpu", **arguments)


LEARNERS: dict[LearnerName, Learner] = {
    learner.name: learner
    for learner in (
        Learner("reinforce", "REINFORCE", "agents.reinforce"),
        Learner("rloo", "RLOO", "agents.rloo"),
        Learner("grpo", "GRPO", "agents.grpo"),
        Learner("ppo", "PPO", "stable_baselines3"),
        Learner("kl_ppo", "KLPPO", "agents.kl_ppo"),
        Learner("a2c", "A2C", "stable_baselines3"),
        Learner("trpo", "TRPO", "sb3_contrib", "contrib"),
        Learner("ppo_mask", "MaskablePPO", "sb3_contrib", "contrib"),
        Learner("ppo_lstm", "RecurrentPPO", "sb3_contrib", "contrib"),
        Learner("dqn", "DQN", "stable_baselines3", is_on_policy=False),
        Learner("qrdqn", "QRDQN", "sb3_contrib", "contrib", is_on_policy=False),
    )
}


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """A file of RL Zoo: environment -> settings, plain values.

    Raises:
        ValueError: if the file is missing or of another form.
        ImportError: if PyYAML is not installed; names the extra.
    """
    try:
        yaml: Any = import_module("yaml")
    except ImportError as error:
        raise ImportError('settings of learners need PyYAML: pip install "seqgan-gym[compare]"') from error
    try:
        entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for settings in entries.values():
            settings["n_timesteps"] = int(settings["n_timesteps"])  # 1e5 is a float, as RL Zoo writes it
    except (OSError, yaml.YAMLError, KeyError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as settings of RL Zoo: {error}") from error
    return entries


def resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """Replace the names of classes and schedules in settings by the objects themselves.

    RL Zoo evaluates `policy_kwargs` as Python, imports policies with a dot in their names, and reads "lin_1e-2" as a
    learning rate that falls to 0. Here the names are imported, too, but everything else must be a literal.

    Raises:
        ValueError: for anything else.
    """
    settings = dict(settings)
    if isinstance(settings.get("policy_kwargs"), str):
        try:
            settings["policy_kwargs"] = _value_of(ast.parse(settings["policy_kwargs"], mode="eval").body)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"policy_kwargs={settings['policy_kwargs']!r} must be dict(...): {error}") from error
    rate = settings.get("learning_rate")
    if isinstance(rate, str):
        start = rate.removeprefix("lin_")
        try:
            settings["learning_rate"] = LinearSchedule(float(start), 0.0, 1.0)
        except ValueError as error:
            raise ValueError(f"learning_rate={rate!r} must be a number, or like 'lin_1e-2'") from error
    if "." in settings["policy"]:
        settings["policy"] = imported_object(settings["policy"])
    return settings


def imported_object(name: str) -> Any:
    """Import the object with a dotted name such as "agents.policies.SequencePolicy"."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _value_of(node: ast.expr) -> Any:
    """The value of a literal, of dict(key=value, ...), or of RL Zoo's get_class_by_name("module.Class")."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "dict" and not node.args:
            return {keyword.arg: _value_of(keyword.value) for keyword in node.keywords}
        if node.func.id == "get_class_by_name" and len(node.args) == 1:
            return imported_object(ast.literal_eval(node.args[0]))
    return ast.literal_eval(node)
