"""Direct discriminative preference: real sequences are preferred to generated ones, without reward model and D.

Rafailov et al. 2023 (DPO, arXiv 2305.18290), Eq. 7, on the pairs of Chen et al. 2024 (SPIN, arXiv 2401.01335):
    L = -E_{Y+ real, Y- ~ G}[ log sigmoid( beta log(G(Y+) / G_ref(Y+)) - beta log(G(Y-) / G_ref(Y-)) ) ].
The logarithm of G / G_ref is the logit of a discriminator between real and generated: generator and discriminator are
one model. At G = G_ref the gradient is beta / 2 times that of maximum likelihood. In: the whole generated sequences of
one update, and equally many real ones. Out: `n_epochs` steps of Adam. The environment's rewards are not used. SPIN
plays rounds: it generates with G_ref, trains on many pairs, then sets G_ref <- G. Here a round has
`updates_per_reference` updates.
Departure: negatives are drawn from G as it learns, not from G_ref. With `updates_per_reference=1` the two are the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor
from torch.nn import functional as F

from agents.sequence_learner import SequenceBatch, SequenceLearner
from seqgan_env.arguments import check_count, check_number


class PreferenceLearner(SequenceLearner):
    """DPO's loss on pairs of real and generated sequences.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm: as in `SequenceLearner`. Give the environment
            `reward_mode="terminal", reward_model="constant"`: the rewards are not used, so they should cost nothing.
        beta: temperature of the preference (DPO, SPIN: 0.1).
        updates_per_reference: number of updates after which G_ref <- G; None keeps the first reference.
        real_sequences: (K, T) int64, PAD after the end; None takes the training split of the environment's task.
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if beta or updates_per_reference is not finite or out of
            range, or if the real sequences do not fit the environment.
    """

    least_sequences: ClassVar[int] = 1

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        n_epochs: int = 1,
        beta: float = 0.1,
        updates_per_reference: int | None = 1,
        real_sequences: Tensor | None = None,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("beta", beta, above=0)
        if updates_per_reference is not None:
            check_count("updates_per_reference", updates_per_reference)
        self.beta = beta
        self.updates_per_reference = updates_per_reference
        self.real_sequences = real_sequences
        self.rng = np.random.default_rng(sb3.get("seed"))  # chooses the real sequences
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, True, **sb3)

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        assert batch.reference_log_probs is not None
        logits = self.beta * (log_probs - batch.reference_log_probs).sum(dim=1)  # logits of a discriminator, (2M,)
        real, generated = logits.chunk(2)
        return -F.logsigmoid(real - generated).mean()

    def _batch(self) -> SequenceBatch:
        """M real sequences, then the M generated sequences that ended in the buffer."""
        batch = super()._batch()
        sequences = self._real()
        real = sequences[self._chosen(sequences, batch.sequences)].to(self.device)
        # Real sequences have no reward and no environment. Neither is used.
        return self.batch_of(
            torch.cat([real, batch.sequences]),
            torch.cat([torch.zeros_like(batch.rewards), batch.rewards]),
            batch.columns.repeat(2),
        )

    def _chosen(self, real: Tensor, generated: Tensor) -> Tensor:
        """Rows of random real sequences, (M,) int64: row i has the prompt of generated sequence i."""
        given = self.policy.generator.prompt_length
        if not given:
            return torch.from_numpy(self.rng.integers(len(real), size=len(generated)))
        prompts, place = torch.unique(
            torch.cat([real[:, :given], generated[:, :given].cpu()]), dim=0, return_inverse=True
        )
        rows_of = [torch.nonzero(place[: len(real)] == prompt).squeeze(1) for prompt in range(len(prompts))]
        wanted = place[len(real) :].tolist()
        if not all(len(rows_of[prompt]) for prompt in wanted):
            raise ValueError(
                "real_sequences has no sequence with the prompt of a generated one; a pair shares its prompt"
            )
        return torch.stack([rows_of[prompt][self.rng.integers(len(rows_of[prompt]))] for prompt in wanted])

    def _real(self) -> Tensor:
        if self.real_sequences is None:
            assert self.env is not None
            self.real_sequences = self.env.get_attr("task", indices=[0])[0].real_sequences("train")
        sequences, shape = self.real_sequences, self.observation_space.shape
        assert sequences is not None
        assert shape is not None
        if sequences.ndim != 2 or sequences.shape[1] != shape[0] or not len(sequences):
            raise ValueError(
                f"real_sequences has shape {tuple(sequences.shape)}, expected (K, {shape[0]}) with K of at least 1; "
                f"pad with PAD = {self.policy.generator.vocab_size}"
            )
        return sequences

    def train(self) -> None:
        super().train()
        if self.updates_per_reference is not None and self._n_updates % self.updates_per_reference == 0:
            self.take_reference()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "real_sequences"]  # data; the environment has it

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rng.bit_generator.state = state["rng"]
