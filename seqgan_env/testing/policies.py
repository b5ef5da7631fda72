"""Checks of what draws tokens: roll-out policies (Eq. 3) and sequence models (Eq. 9-10)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.sequence_models import SequenceModel, State, shift_right
from seqgan_env.rollout_policies import RolloutPolicy, fork, replay
from seqgan_env.tasks.toy import enumerate_sequences
from seqgan_env.testing.expectations import (
    attempt,
    default_tolerance,
    duplicate,
    expect_equal,
    expect_learning,
    expect_parameters_that_learn,
    expect_saving,
    expect_scores,
    expect_tensor,
    random_state_kept,
)

_ROWS = 8
_LENGTH = 6  # of sequences, for parts that have none of their own
_DRAWS = 20_000
_ENUMERATED = 4096  # sequences at most
# A share of draws that rounding may turn: uniforms that stand on the border of two tokens.
_BORDER_SHARE = 0.01
# Draws are wrong beyond this many standard deviations: a right part fails once in three million seeds.
_DEVIATIONS = 5.0


def check_rollout_policy(
    policy: Any, *, sequence_length: int | None = None, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Check G_beta of Eq. 3: states can be forked, selected and mixed, and draws depend on state and uniforms alone.

    Where it has `log_probs`, these must be a distribution, and the one that draws have.

    Args:
        policy: a `RolloutPolicy`.
        sequence_length: T to check with; None is the policy's own, or 6.
        seed: of tokens and draws.
        tolerance: of log-probabilities in nats, and of the sum of probabilities.

    Raises:
        TypeError: if it lacks a method.
        ValueError: naming the first fault.
    """
    name = type(policy).__name__
    missing = [method for method in ("vocab_size", "initial_state", "advance", "draw") if not hasattr(policy, method)]
    if missing:
        raise TypeError(f"{name} is no roll-out policy: it lacks {', '.join(missing)}")
    steps = _steps(policy, sequence_length)
    rng = np.random.default_rng(seed)
    state = attempt(f"{name}.initial_state fails", policy.initial_state, _ROWS)
    _expect_state(f"{name}.initial_state", state)
    device = state[0].device
    tokens = torch.from_numpy(rng.integers(policy.vocab_size, size=(_ROWS, steps))).to(device)
    forked = fork(state, 2)
    for column in tokens.unbind(1):
        uniforms = torch.from_numpy(rng.random((_ROWS, 256), dtype=np.float32)).to(device)
        draws = _check_draw(policy, state, forked, uniforms)
        forked = policy.advance(fork(state, 2), column.repeat_interleave(2))
        advanced = _check_advance(policy, state, column)
        _expect_same_draws(
            f"{name}.draw gives other tokens for the same state and uniforms; it may use neither random numbers of its "
            "own nor attributes that advance changes",
            *(policy.draw(state, uniforms), draws),
        )
        state = advanced
    _check_mixed_lengths(policy, tokens, rng)
    if hasattr(policy, "log_probs"):
        _check_log_probs(name, policy, tokens, tolerance)
        _check_draws(name, policy, tokens, rng)


def check_sequence_model(
    model: Any, *, sequence_length: int | None = None, seed: int = 0, tolerance: float | None = None
) -> None:
    """Check G: all of a roll-out policy, and that drawing, scoring, stepping and learning are of one distribution.

    Args:
        model: a `SequenceModel`.
        sequence_length: T to check with; None is the model's own, or 6.
        seed: of tokens, draws, and the noise that stands for training.
        tolerance: of hidden states, log-probabilities in nats, and the sum of probabilities. None is 1e-4, and 0.1
            where parameters have 16 bits.

    Raises:
        TypeError: if it is not a `SequenceModel`, or cannot be copied.
        ValueError: naming the first fault.
    """
    name = type(model).__name__
    if not isinstance(model, SequenceModel):
        raise TypeError(
            f"{name} is no sequence model; derive it from seqgan_env.models.sequence_models.SequenceModel, and give it "
            "initial_state, advance, features and hidden_states"
        )
    expect_parameters_that_learn(name, model)
    tolerance = default_tolerance(model) if tolerance is None else tolerance
    with random_state_kept(seed):
        fresh, model = duplicate(model), duplicate(model).train()
        steps = _steps(model, sequence_length)
        check_rollout_policy(model, sequence_length=steps, seed=seed, tolerance=tolerance)
        rng = np.random.default_rng(seed)
        tokens = torch.from_numpy(rng.integers(model.vocab_size, size=(_ROWS, steps))).to(model.device)
        _check_hidden_states(name, model, tokens, tolerance)
        _check_draws(f"{name}.at_temperature(0.5)", model.at_temperature(0.5), tokens, rng)
        weights = torch.from_numpy(rng.random(tokens.shape, dtype=np.float32)).to(model.device)
        likelihood = model.weighted_log_likelihood(tokens, weights).detach() / tokens.numel()
        expected = (weights * model.at_temperature(1.0).log_probs(tokens)).mean()
        message = f"{name}.weighted_log_likelihood is not the weighted sum of log_probs"
        expect_equal(message, likelihood, expected, tolerance)
        expect_learning(name, model, lambda trained: trained.weighted_log_likelihood(tokens, weights))
        expect_saving(name, fresh, lambda saved: saved.log_probs(tokens), tolerance)


def _check_draw(policy: RolloutPolicy, state: State, forked: State, uniforms: Tensor) -> Tensor:
    """Tokens drawn; a state forked before its last token and rows selected from a state draw the same.

    Args:
        policy: what draws.
        state: of _ROWS prefixes.
        forked: of the same prefixes, two copies of each, neighbours together.
        uniforms: (_ROWS, N) float32.
    """
    name = f"{type(policy).__name__}.draw"
    draws: Tensor = attempt(f"{name} fails", policy.draw, state, uniforms)
    expect_tensor(name, draws, uniforms.shape, uniforms.device, integer=True)
    if bool(((draws < 0) | (draws >= policy.vocab_size)).any()):
        raise ValueError(f"{name} returned tokens outside 0..{policy.vocab_size - 1}")
    _expect_same_draws(
        f"{name} gives other tokens for a forked state than for the state that was forked; keep all that a prefix "
        "leaves behind in tensors with the batch in dimension 0",
        *(policy.draw(forked, uniforms.repeat_interleave(2, dim=0)), draws.repeat_interleave(2, dim=0)),
    )
    rows = torch.arange(_ROWS - 1, -1, -2, dtype=torch.int64, device=uniforms.device)
    _expect_same_draws(
        f"{name} gives other tokens for rows selected from a state than in the whole batch",
        *(policy.draw(tuple(part[rows] for part in state), uniforms[rows]), draws[rows]),
    )
    return draws


def _check_advance(policy: RolloutPolicy, state: State, tokens: Tensor) -> State:
    """The state after one more token; the state before is as it was."""
    name = f"{type(policy).__name__}.advance"
    given, column = tuple(part.clone() for part in state), tokens.clone()
    advanced: State = attempt(f"{name} fails", policy.advance, given, column)
    _expect_state(name, advanced, state)
    if not all(map(torch.equal, (*given, column), (*state, tokens))):
        raise ValueError(f"{name} changed the state or the tokens that it was given; return a new state")
    return advanced


def _check_hidden_states(name: str, model: SequenceModel, tokens: Tensor, tolerance: float) -> None:
    """Teacher forcing has a gradient, and equals stepping."""
    inputs = shift_right(tokens, model.vocab_size)
    hidden = attempt(f"{name}.hidden_states fails", model.hidden_states, inputs)
    expect_tensor(f"{name}.hidden_states", hidden, (*tokens.shape, model.hidden_size), model.device)
    if not hidden.requires_grad:
        raise ValueError(f"{name}.hidden_states returned no gradient, so it cannot learn; take torch.no_grad() out")
    state = model.initial_state(_ROWS)
    for step, column in enumerate(tokens.unbind(1)):
        features = model.features(state)
        expect_tensor(f"{name}.features", features, (_ROWS, model.hidden_size), model.device)
        expect_equal(
            f"{name}: at step {step} advance leads to another h_t than hidden_states; both are Eq. 9, and both are fed "
            "the start symbol first",
            *(features, hidden[:, step].detach()),
            tolerance,
        )
        state = model.advance(state, column)


def _check_mixed_lengths(policy: RolloutPolicy, tokens: Tensor, rng: np.random.Generator) -> None:
    """A batch of prefixes of different lengths draws what each prefix draws when it is recomputed alone."""
    lengths = torch.arange(_ROWS, dtype=torch.int64, device=tokens.device) % tokens.shape[1]
    uniforms = torch.from_numpy(rng.random((_ROWS, 256), dtype=np.float32)).to(tokens.device)
    together = policy.draw(replay(policy, tokens, lengths), uniforms)
    for place in range(_ROWS):
        row = slice(place, place + 1)
        alone = policy.draw(replay(policy, tokens[row], lengths[row]), uniforms[row])
        _expect_same_draws(
            f"{type(policy).__name__}: among prefixes of other lengths a prefix of {int(lengths[row])} tokens draws "
            "other tokens than when it is recomputed alone; a row's state may depend on its own tokens only",
            *(together[row], alone),
        )


def _check_log_probs(name: str, policy: Any, tokens: Tensor, tolerance: float) -> None:
    """Finite, repeatable, causal, 0 at PAD, and probabilities that sum to 1."""
    padded = tokens.clone()
    padded[:, (tokens.shape[1] + 1) // 2 :] = policy.vocab_size
    expect_scores(f"{name}.log_probs", policy.log_probs, padded, tolerance)
    log_probs = policy.log_probs(padded)
    expect_tensor(f"{name}.log_probs", log_probs, padded.shape, tokens.device)
    if bool((log_probs[padded == policy.vocab_size] != 0).any()):
        raise ValueError(f"{name}.log_probs is not 0 at PAD = {policy.vocab_size}, which is no token")
    message = f"{name}.log_probs of a token depends on tokens behind it, which it must not see"
    expect_equal(message, policy.log_probs(tokens).where(padded < policy.vocab_size, 0.0), log_probs, tolerance)
    length = max([1, *(t for t in range(1, tokens.shape[1] + 1) if policy.vocab_size**t <= _ENUMERATED)])
    everything = enumerate_sequences(policy.vocab_size, length).to(tokens.device)
    total = policy.log_probs(everything).double().sum(dim=1).exp().sum()
    message = f"{name}.log_probs: probabilities of all {len(everything)} sequences of length {length} do not sum to 1"
    expect_equal(message, total, torch.ones_like(total), tolerance)


def _check_draws(name: str, policy: Any, tokens: Tensor, rng: np.random.Generator) -> None:
    """Next tokens, after the empty prefix and a long one, are drawn with the probabilities of log_probs."""
    vocab_size, device = policy.vocab_size, tokens.device
    next_tokens = torch.arange(vocab_size, dtype=torch.int64, device=device).unsqueeze(1)
    for length in (0, tokens.shape[1] - 1):
        prefix = tokens[:1, :length]
        continued = torch.cat([prefix.expand(vocab_size, -1), next_tokens], dim=1)
        probabilities = policy.log_probs(continued)[:, -1].double().exp().cpu().numpy()
        state = replay(policy, prefix, torch.tensor([length], dtype=torch.int64, device=device))
        uniforms = torch.from_numpy(rng.random((1, max(_DRAWS, 20 * vocab_size)), dtype=np.float32)).to(device)
        counts = np.bincount(policy.draw(state, uniforms)[0].cpu().numpy(), minlength=vocab_size)
        if deviations(counts, probabilities) > _DEVIATIONS:
            shares = counts / counts.sum()
            token = int(np.argmax(abs(shares - probabilities)))
            raise ValueError(
                f"{name}: draws do not follow log_probs: after {prefix[0].tolist()} token {token} was drawn with "
                f"frequency {shares[token]:.3f}, and its probability is {probabilities[token]:.3f}"
            )


def deviations(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """How far counts lie from probabilities, in standard deviations: chi-square by Wilson and Hilferty (1931).

    Args:
        counts: (V,) integers.
        probabilities: (V,) of sum 1.
    """
    expected = counts.sum() * probabilities
    common = expected >= 5  # the others count as one token
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], max(float(expected[~common].sum()), 1.0))
    freedom = len(expected) - 1
    if freedom == 0:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(((((observed - expected) ** 2 / expected).sum() / freedom) ** (1 / 3) - 1 + spread) / np.sqrt(spread))


def _expect_same_draws(message: str, first: Tensor, second: Tensor) -> None:
    share = float((first != second).double().mean())
    if share > _BORDER_SHARE:
        raise ValueError(f"{message} ({share:.0%} of draws differ)")


def _expect_state(name: str, state: Any, like: State | None = None) -> None:
    """A tuple of tensors of _ROWS rows without gradient, of the shapes and dtypes of the state before."""
    if not isinstance(state, tuple) or not state or not all(isinstance(part, Tensor) for part in state):
        raise ValueError(f"{name} returned {type(state).__name__}, expected a tuple of one or more tensors")
    for place, part in enumerate(state):
        if part.dim() == 0 or len(part) != _ROWS:
            raise ValueError(
                f"{name} returned a state whose tensor {place} has shape {tuple(part.shape)} for {_ROWS} prefixes; the "
                "batch must be in dimension 0, so that states can be forked and selected"
            )
        if part.requires_grad:
            raise ValueError(f"{name} returned a state with a gradient; decorate it with @torch.no_grad()")
    forms = [[(tuple(part.shape), part.dtype) for part in parts] for parts in (state, state if like is None else like)]
    if forms[0] != forms[1]:
        raise ValueError(
            f"{name} returned tensors {forms[0]} from a state of {forms[1]}; shapes and dtypes must stay as they "
            "are, so that rows of two states can be mixed"
        )


def _steps(part: Any, sequence_length: int | None) -> int:
    """T to check with: what is asked for, the part's own, or 6."""
    return int(getattr(part, "sequence_length", _LENGTH) if sequence_length is None else sequence_length)
