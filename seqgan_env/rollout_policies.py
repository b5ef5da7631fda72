"""Eq. 3: roll-out policies G_beta and the sequences that they complete.

In: prefixes with a recurrent state, uniforms. Out: whole sequences. Every sequence model is a roll-out policy. This
file adds the delayed copy of a generator (Algorithm 1's beta <- theta) and the simpler, faster policies that the paper
allows.
Departures from the authors' code: an update really changes the delayed copy (their update assigns to names that the
graph never reads again), and all parameters have the same delay (their code is meant to copy the embedding at once).
"""

from __future__ import annotations

import copy
import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.sequence_models import START_TOKEN, SequenceModel, State

_SAMPLE_BATCH = 5000  # sequences drawn together: sharing small operations between threads costs more than it saves


@runtime_checkable
class RolloutPolicy(Protocol):
    """The methods that the search needs to continue a prefix. Every tensor of a state has the batch in dimension 0.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    def initial_state(self, batch_size: int) -> State:
        """State of empty prefixes; it holds at least one tensor."""

    def advance(self, state: State, tokens: Tensor) -> State:
        """State after one more token; tokens are (R,) int64."""

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        """Next tokens as a function of uniforms: (R, N) float32 in [0, 1) -> (R, N) int64."""


class UniformPolicy:
    """Every token equally likely; its state is empty.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int) -> None:
        check_count("vocab_size", vocab_size)
        self.vocab_size = vocab_size

    def initial_state(self, batch_size: int) -> State:
        return (torch.empty((batch_size, 0), dtype=torch.float32, device="cpu"),)

    def advance(self, state: State, tokens: Tensor) -> State:
        return state

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return (uniforms * self.vocab_size).long().clamp_(max=self.vocab_size - 1)

    def log_probs(self, sequences: Tensor) -> Tensor:
        """-log V for every token, 0 at PAD: (B, T) int64 -> (B, T) float32."""
        return -math.log(self.vocab_size) * (sequences < self.vocab_size).float()


class DelayedCopy:
    """A copy of the generator that follows it with a delay: beta <- rate * beta + (1 - rate) * theta at each `follow`.

    Rate 0 is the paper's Algorithm 1 (beta <- theta). Rate 0.8 is the delay that the authors' code intends.

    Args:
        generator: G_theta; copied, never shared.
        rate: share of the old parameters that an update keeps, in [0, 1].
    """

    def __init__(self, generator: SequenceModel, rate: float = 0.0) -> None:
        check_number("rate", rate, at_least=0, at_most=1, hint="0 copies the generator, 1 never follows it")
        self.model = copy.deepcopy(generator).requires_grad_(False)
        self.rate = rate
        self.vocab_size = generator.vocab_size

    @torch.no_grad()
    def follow(self, generator: SequenceModel) -> None:
        """Move towards the generator. Older states are no longer valid: hand the policy to the environment again."""
        for own, theirs in zip(self.model.parameters(), generator.parameters(), strict=True):
            if own is not theirs:  # copies of a pretrained model share its frozen weights
                own.mul_(self.rate).add_(theirs, alpha=1 - self.rate) if self.rate else own.copy_(theirs)
        for statistic, new in zip(self.model.buffers(), generator.buffers(), strict=True):
            statistic.copy_(new)  # running statistics are copied: a mixture of them describes no model

    def state_dict(self) -> dict[str, Tensor]:
        """The copy's parameters and statistics, for a checkpoint."""
        return dict(self.model.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Set what `state_dict` returned."""
        self.model.load_state_dict(state)

    def initial_state(self, batch_size: int) -> State:
        return self.model.initial_state(batch_size)

    def advance(self, state: State, tokens: Tensor) -> State:
        return self.model.advance(state, tokens)

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return self.model.draw(state, uniforms)


class NGramPolicy:
    """An interpolated n-gram model of real sequences. It needs no (V, V) table.

    P_m(y | last m-1 tokens) = (1 - backoff) * (share of y after this context in the data) + backoff * P_{m-1}(y | last
    m-2 tokens). For an unseen context P_m = P_{m-1}, and P_0 is uniform. A draw picks the order first. It then picks
    one of the places in the data where this context occurs, and copies the next token.

    Args:
        sequences: (M, T) int64 real sequences, PAD = V after the end.
        vocab_size: V.
        order: n, at least 1; a context has n - 1 tokens.
        backoff: probability of falling back to the next shorter context, in (0, 1].
    """

    def __init__(self, sequences: Tensor, vocab_size: int, order: int = 2, backoff: float = 0.1) -> None:
        check_count("vocab_size", vocab_size)
        check_count("order", order)
        check_number("backoff", backoff, above=0, at_most=1)
        if float(vocab_size + 1) ** (order - 1) > 2**62:
            raise ValueError(f"order={order} with vocab_size={vocab_size} has contexts that int64 cannot number")
        self.vocab_size = vocab_size
        self.order = order
        self.backoff = backoff
        tokens = torch.as_tensor(sequences, device="cpu")
        start = torch.full((tokens.shape[0], order - 1), START_TOKEN, dtype=torch.int64, device="cpu")
        padded = torch.cat([start, tokens], dim=1).numpy()
        real = tokens.numpy() < vocab_size
        # For each order m: sorted context keys and, in the same order, the tokens that followed.
        self._contexts: list[tuple[np.ndarray, np.ndarray]] = []
        for m in range(1, order + 1):
            windows = np.lib.stride_tricks.sliding_window_view(padded, m, axis=1)[:, order - m :]  # (M, T, m)
            keys = self._keys(windows[..., :-1])[real]
            by_key = np.argsort(keys, kind="stable")
            self._contexts.append((keys[by_key], tokens.numpy()[real][by_key]))

    def _keys(self, context: np.ndarray) -> np.ndarray:
        """Give each context (..., m-1) a number, with its tokens as digits in base V + 1."""
        key = np.zeros(context.shape[:-1], dtype=np.int64)
        for column in range(context.shape[-1]):
            key = key * (self.vocab_size + 1) + context[..., column]
        return key

    def initial_state(self, batch_size: int) -> State:
        return (torch.full((batch_size, self.order - 1), START_TOKEN, dtype=torch.int64, device="cpu"),)

    def advance(self, state: State, tokens: Tensor) -> State:
        return (torch.cat([state[0], tokens.unsqueeze(1)], dim=1)[:, 1:],)

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        context = state[0].numpy()
        u = uniforms.numpy().astype(np.float64)  # the unused part of each uniform, after each choice
        tokens = np.full(u.shape, -1, dtype=np.int64)
        for m in range(self.order, 0, -1):
            keys, successors = self._contexts[m - 1]
            key = self._keys(context[:, self.order - m :])[:, None]
            first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
            seen = (last > first) & (tokens < 0)
            here = seen & (u >= self.backoff)
            share = (u - self.backoff) / (1 - self.backoff) if self.backoff < 1 else u
            place = first + np.minimum((share * (last - first)).astype(np.int64), last - first - 1)
            tokens = np.where(here, successors[np.clip(place, 0, len(successors) - 1)], tokens)
            u = np.where(seen & ~here, u / self.backoff, u)
        uniform_tokens = np.minimum((u * self.vocab_size).astype(np.int64), self.vocab_size - 1)
        return torch.from_numpy(np.where(tokens < 0, uniform_tokens, tokens))


def fork(state: State, copies: int) -> State:
    """Repeat each row of a state `copies` times; copies are neighbours: (R, ...) -> (R * copies, ...)."""
    return tuple(part.repeat_interleave(copies, dim=0) for part in state)


@torch.no_grad()
def replay(policy: RolloutPolicy, sequences: Tensor, lengths: Tensor) -> State:
    """Compute a roll-out policy's state after prefixes of different lengths, from the start.

    Args:
        policy: any roll-out policy.
        sequences: (B, T) int64, padded with PAD = V.
        lengths: (B,) int64, tokens in each prefix.
    """
    state = policy.initial_state(sequences.shape[0])
    device = state[0].device
    sequences, lengths = sequences.to(device), lengths.to(device)
    for t in range(int(lengths.max()) if lengths.numel() else 0):
        advanced = policy.advance(state, sequences[:, t].clamp(max=policy.vocab_size - 1))
        state = select_rows(t < lengths, advanced, state)
    return state


def select_rows(condition: Tensor, chosen: State, other: State) -> State:
    """Rows of `chosen` where condition (B,) bool holds, rows of `other` elsewhere."""
    return tuple(
        torch.where(condition.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in zip(chosen, other, strict=True)
    )


@torch.no_grad()
def complete_sequences(
    policy: RolloutPolicy,
    state: State,
    sequences: Tensor,
    lengths: Tensor,
    uniforms: Tensor,
    eos_token: int | None = None,
) -> Tensor:
    """Continue every prefix N times with a roll-out policy. Its state is forked, so no prefix is recomputed.

    Args:
        policy: the roll-out policy G_beta.
        state: its state after each of the B prefixes.
        sequences: (B, T) int64, prefixes padded with PAD.
        lengths: (B,) int64, tokens in each prefix, in 0..T-1.
        uniforms: (B, N, L) float32 in [0, 1), L >= the number of missing tokens; column s draws the s-th new token.
        eos_token: the token that ends a sequence early, or None.

    Returns:
        (B * N, T) int64; the N completions of a prefix are neighbours. PAD stays after EOS.
    """
    horizon = sequences.shape[1]
    n = uniforms.shape[1]
    completed = sequences.repeat_interleave(n, dim=0)  # (B*N, T)
    position = lengths.repeat_interleave(n)
    uniforms = uniforms.flatten(0, 1)  # (B*N, L)
    rows = torch.arange(completed.shape[0], dtype=torch.int64, device=completed.device)  # rows that still grow
    # The N completions of a prefix share the logits of their first token.
    tokens = policy.draw(state, uniforms[:, 0].view(-1, n)).flatten()
    state = fork(state, n)
    for step in range(horizon):
        completed[rows, position] = tokens
        position = position + 1
        grows = position < horizon
        if eos_token is not None:
            grows &= tokens != eos_token
        if not bool(grows.any()):
            return completed
        if not bool(grows.all()):
            rows, position, tokens = rows[grows], position[grows], tokens[grows]
            state = tuple(part[grows] for part in state)
        state = policy.advance(state, tokens)
        tokens = policy.draw(state, uniforms[rows, step + 1].unsqueeze(1)).squeeze(1)
    raise AssertionError("every sequence is complete after T steps")


def sample_sequences(
    policy: RolloutPolicy,
    count: int,
    sequence_length: int,
    rng: np.random.Generator,
    eos_token: int | None = None,
    prompts: Tensor | None = None,
) -> Tensor:
    """Draw whole sequences Y_{1:T} ~ policy: completions of the empty prefix, or of one prompt each.

    `Task.sample` also draws the prompts.

    Args:
        policy: any roll-out policy; a sequence model is one.
        count: number of sequences.
        sequence_length: T.
        rng: source of all randomness.
        eos_token: the token that ends a sequence early, or None.
        prompts: (count, P) int64, the first tokens of each sequence, with P < T; None: there are none.

    Returns:
        (count, T) int64 on the policy's device, PAD after EOS.
    """
    batches = []
    for start in range(0, count, _SAMPLE_BATCH):
        rows = min(_SAMPLE_BATCH, count - start)
        if prompts is not None and prompts.shape[1]:
            some = prompts[start : start + rows]
            batches.append(_continue_prompts(policy, some, sequence_length, rng, eos_token))
            continue
        uniforms = torch.from_numpy(rng.random((1, rows, sequence_length), dtype=np.float32))
        state = policy.initial_state(1)
        device = state[0].device
        empty = torch.full((1, sequence_length), policy.vocab_size, dtype=torch.int64, device=device)
        lengths = torch.zeros(1, dtype=torch.int64, device=device)
        batches.append(complete_sequences(policy, state, empty, lengths, uniforms.to(device), eos_token))
    if not batches:
        return torch.empty((0, sequence_length), dtype=torch.int64, device=policy.initial_state(1)[0].device)
    return torch.cat(batches)


def drawn_prompts(sequences: Tensor, prompt_length: int, count: int, rng: np.random.Generator) -> Tensor | None:
    """Prompts of random sequences (M, T), (count, P) int64; None for P = 0, which draws nothing.

    Each sequence gives its prompt once before any gives it twice.
    """
    if not prompt_length:
        return None
    orders = [rng.permutation(len(sequences)) for _ in range(-(-count // len(sequences)))]
    rows = np.concatenate([np.empty(0, dtype=np.int64), *orders])[:count]
    return sequences[torch.from_numpy(rows), :prompt_length]


def _continue_prompts(
    policy: RolloutPolicy, prompts: Tensor, sequence_length: int, rng: np.random.Generator, eos_token: int | None
) -> Tensor:
    """One sequence for each prompt, (rows, T) int64; row i begins with prompt i."""
    rows, given = prompts.shape
    uniforms = torch.from_numpy(rng.random((rows, 1, sequence_length - given), dtype=np.float32))
    state = state_after(policy, prompts)
    device = state[0].device
    sequences = torch.full((rows, sequence_length), policy.vocab_size, dtype=torch.int64, device=device)
    sequences[:, :given] = prompts
    lengths = torch.full((rows,), given, dtype=torch.int64, device=device)
    return complete_sequences(policy, state, sequences, lengths, uniforms.to(device), eos_token)


def state_after(policy: RolloutPolicy, prompts: Tensor) -> State:
    """A roll-out policy's state after (B, P) int64 prompts, which are whole: no row holds PAD."""
    return replay(policy, prompts, torch.full((len(prompts),), prompts.shape[1], dtype=torch.int64))
