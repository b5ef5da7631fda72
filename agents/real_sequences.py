"""The shared part of learners that compare real sequences with generated ones, and use no reward.

In: experience of an SB3 vector environment, and the real sequences of its task. Out: random choices of real sequences,
from a random stream that checkpoints hold. The environment's rewards are not used, so no discriminator is trained.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.sequence_learner import SequenceLearner


class RealSequenceLearner(SequenceLearner):
    """A learner that needs real sequences in place of rewards. A subclass gives `loss`.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, has_reference: as in `SequenceLearner`. Give the
            environment `reward_mode="terminal", reward_model="constant"`: the rewards are not used, so they should
            cost nothing.
        real_sequences: (K, T) int64, PAD after the end; None takes the training split of the environment's task.
        sb3: as in SB3.

    Attributes:
        rng: chooses the real sequences.
    """

    least_sequences: ClassVar[int] = 1
    uses_reward: ClassVar[bool] = False  # a game then trains no discriminator

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule,
        n_steps: int | None = None,
        n_epochs: int = 1,
        max_grad_norm: float = 1.0,
        has_reference: bool = False,
        real_sequences: Tensor | None = None,
        **sb3: Any,
    ) -> None:
        self.real_sequences = real_sequences
        self.rng = np.random.default_rng(sb3.get("seed"))
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, has_reference, **sb3)

    def choose_real(self, count: int, partners: Tensor | None = None) -> Tensor:
        """Real sequences, chosen at random with replacement: (count, T) int64 on the learner's device.

        Args:
            count: how many.
            partners: (count, T) int64; in a task with prompts, real sequence i has the prompt of partner i.

        Raises:
            ValueError: if the given real sequences do not fit the environment, or none has a partner's prompt.
        """
        sequences, given = self._real(), self.policy.generator.prompt_length
        if partners is not None and given:
            chosen = self._with_prompts(sequences[:, :given], partners[:, :given].cpu())
        else:
            chosen = torch.from_numpy(self.rng.integers(len(sequences), size=count))
        return sequences[chosen].to(self.device)

    def _with_prompts(self, real: Tensor, wanted: Tensor) -> Tensor:
        """Random rows of real prompts (K, P) that equal each of the wanted ones (M, P): (M,) int64."""
        different, place = torch.unique(torch.cat([real, wanted]), dim=0, return_inverse=True)
        rows_of = [torch.nonzero(place[: len(real)] == prompt).squeeze(1) for prompt in range(len(different))]
        prompts = place[len(real) :].tolist()
        if not all(len(rows_of[prompt]) for prompt in prompts):
            raise ValueError(
                "real_sequences has no sequence with the prompt of a generated one; a pair shares its prompt"
            )
        return torch.stack([rows_of[prompt][self.rng.integers(len(rows_of[prompt]))] for prompt in prompts])

    def _real(self) -> Tensor:
        sequences, shape = self.real_sequences, self.observation_space.shape
        if sequences is None:  # not kept here: a checkpoint would hold them
            assert self.env is not None
            sequences = self.env.get_attr("task", indices=[0])[0].real_sequences("train")
        assert sequences is not None
        assert shape is not None
        if sequences.ndim != 2 or sequences.shape[1] != shape[0] or not len(sequences):
            raise ValueError(
                f"real_sequences has shape {tuple(sequences.shape)}, expected (K, {shape[0]}) with K of at least 1; "
                f"pad with PAD = {self.policy.generator.vocab_size}"
            )
        return sequences

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "real_sequences"]  # data; the environment has it

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rng.bit_generator.state = state["rng"]
