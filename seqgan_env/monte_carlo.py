"""Eq. 3-4: action values of prefixes by Monte-Carlo search.

Eq. 3: {Y^1, ..., Y^N} = MC^{G_beta}(Y_{1:t}; N): N completions of a prefix by the roll-out policy.
Eq. 4: Q(Y_{1:t-1}, y_t) = (1/N) sum_n R(Y^n) for t < T, and R(Y_{1:T}) at the end.
In: prefixes with the roll-out policy's state. Out: Q, the arithmetic mean of rewards.
Departures from the authors' code: the state of each prefix is forked instead of recomputed, all B * N completions run
as one batch, and a finished sequence is scored once instead of N times. The distribution of Q is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from seqgan_env.models.sequence_models import State
from seqgan_env.rewards import RewardModel, score_sequences
from seqgan_env.rollout_policies import RolloutPolicy, complete_sequences


def action_values(
    policy: RolloutPolicy,
    state: State | None,
    sequences: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    finished: npt.NDArray[np.bool_],
    reward_model: RewardModel,
    n_rollouts: int,
    rngs: Sequence[np.random.Generator],
    eos_token: int | None = None,
    common_uniforms: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float64]:
    """Eq. 4: Q of the last token of each of B prefixes.

    Args:
        policy: G_beta.
        state: G_beta's state after each prefix, B rows; None only where all are finished.
        sequences: (B, T) prefixes or finished sequences, PAD after the end.
        lengths: (B,) tokens in each, at least 1.
        finished: (B,) bool, True where the sequence is complete. It is then scored directly, without completions.
        reward_model: R(Y) of Eq. 2.
        n_rollouts: N.
        rngs: B generators. Row b's completions use only the b-th one, so a row's result does not depend on the other
            rows of the batch.
        eos_token: the token that ends a sequence early, or None.
        common_uniforms: (B, N, T) float32 in [0, 1), instead of draws from `rngs`: column t draws token t of the row's
            completions. Give the same array for the next prefix of the same sequence to use common random numbers: Q_t
            and Q_{t-1} then share their randomness, so their difference has a smaller variance. The distribution of
            each Q does not change.

    Returns:
        (B,) float64.

    Raises:
        TypeError, ValueError: if the reward model returns anything but B * N finite numbers.
    """
    horizon = sequences.shape[1]
    open_rows = np.flatnonzero(~finished)
    batches = [torch.from_numpy(sequences[finished])]
    if len(open_rows):
        assert state is not None
        missing = horizon - lengths[open_rows]
        uniforms = np.zeros((len(open_rows), n_rollouts, int(missing.max())), dtype=np.float32)
        for row, (lane, steps) in enumerate(zip(open_rows, missing, strict=True)):
            if common_uniforms is None:
                uniforms[row, :, :steps] = rngs[int(lane)].random((n_rollouts, steps), dtype=np.float32)
            else:
                uniforms[row, :, :steps] = common_uniforms[lane, :, horizon - steps :]
        device = state[0].device
        lanes = torch.from_numpy(open_rows).to(device)
        completions = complete_sequences(
            policy,
            state if len(open_rows) == len(sequences) else tuple(part[lanes] for part in state),
            torch.from_numpy(sequences[open_rows]).to(device),
            torch.from_numpy(lengths[open_rows]).to(device),
            torch.from_numpy(uniforms).to(device),
            eos_token,
        )  # (open * N, T)
        batches = [completions, batches[0].to(device)]
    rewards = score_sequences(reward_model, torch.cat(batches))
    values = np.empty(len(sequences))
    n_completions = len(open_rows) * n_rollouts
    values[open_rows] = rewards[:n_completions].reshape(-1, n_rollouts).mean(axis=1)
    values[finished] = rewards[n_completions:]
    return values
