"""Checks of parts that draw tokens: roll-out policies (Eq. 3) and sequence models (Eq. 9-10)."""

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
_LENGTH = 6  # tokens of a sequence, for parts without a length of their own
_DRAWS = 20_000
_ENUMERATED = 4096  # the largest number of sequences
# Rounding may change this share of the draws, for uniforms at the border of two tokens.
_BORDER_SHARE = 0.01
# Draws that deviate more, in standard deviations, are wrong. A correct part fails for one of three million seeds.
_DEVIATIONS = 5.0


def check_rollout_policy(
    policy: Any, *, sequence_length: int | None = None, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Check G_beta of Eq. 3: states can be forked, selected and mixed, and draws depend only on state and uniforms.

    If it has `log_probs`, these must be a distribution, and draws must follow it.

    Args:
        policy: a `RolloutPolicy`.
        sequence_length: T to check with; None is the policy's own, or 6.
        seed: of tokens and draws.
        tolerance: the largest error of log-probabilities in nats, and of the sum of probabilities.

    Raises:
        TypeError: if it lacks a method.
        ValueError: for any other fault; the message names the first one.
    """
    name = type(policy).__name__
    missing = [method for method in ("vocab_size", "initial_state", "advance", "draw") if not hasattr(policy, method)]
    if missing:
        raise TypeError(f"{name} is not a roll-out policy: it lacks {', '.join(missing)}")
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
            f"{name}.draw gives different tokens for the same state and uniforms; it must use neither random numbers "
            "of its own nor attributes that advance changes",
            *(policy.draw(state, uniforms), draws),
        )
        state = advanced
    _check_mixed_lengths(policy, tokens, rng)
    if hasattr(policy, "log_probs"):
        _check_log_probs(name, policy, tokens, tolerance)
        _check_draws(name, policy, tokens, rng)


def _check_prompts(name: str, model: SequenceModel, tokens: Tensor, weights: Tensor, tolerance: float) -> None:
    """Check that log-probabilities and likelihoods leave out the tokens of a prompt, here one of them."""
    counted = model.log_probs(tokens)
    counted[:, 0] = 0
    prompted = duplicate(model)
    prompted.prompt_length = 1
    remedy = "; use self.counted(sequences), which is False there"
    expect_equal(f"{name}.log_probs is not 0 at a prompt{remedy}", prompted.log_probs(tokens), counted, tolerance)
    likelihood = prompted.weighted_log_likelihood(tokens, weights).detach() / tokens.numel()
    message = f"{name}.weighted_log_likelihood counts the tokens of a prompt{remedy}"
    expect_equal(message, likelihood, (weights * counted).mean(), tolerance)


def check_sequence_model(
    model: Any, *, sequence_length: int | None = None, seed: int = 0, tolerance: float | None = None
) -> None:
    """Check G: it must be a roll-out policy, and drawing, scoring, stepping and learning must have one distribution.

    Args:
        model: a `SequenceModel`.
        sequence_length: T to check with; None is the model's own, or 6.
        seed: of tokens, draws, and the noise that stands for training.
        tolerance: the largest error of hidden states, of log-probabilities in nats, and of the sum of probabilities.
            None is 1e-4, or 0.1 for 16-bit parameters.

    Raises:
        TypeError: if it is not a `SequenceModel`, or cannot be copied.
        ValueError: for any other fault; the message names the first one.
    """
    name = type(model).__name__
    if not isinstance(model, SequenceModel):
        raise TypeError(
            f"{name} is not a sequence model; derive it from seqgan_env.models.sequence_models.SequenceModel, and give "
            "it initial_state, advance, features and hidden_states"
        )
    expect_parameters_that_learn(name, model)
    tolerance = default_tolerance(model) if tolerance is None else tolerance
    with random_state_kept(seed):
        fresh, model = duplicate(model), duplicate(model).train()
        steps, given = _steps(model, sequence_length), min(model.prompt_length, 1)
        fresh.prompt_length = model.prompt_length = 0  # first the whole sequence, then the mask of a prompt
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
        if given and steps > 1:
            _check_prompts(name, model, tokens, weights, tolerance)
        expect_learning(name, model, lambda trained: trained.weighted_log_likelihood(tokens, weights))
        expect_saving(name, fresh, lambda saved: saved.log_probs(tokens), tolerance)


def _check_draw(policy: RolloutPolicy, state: State, forked: State, uniforms: Tensor) -> Tensor:
    """Draw tokens; check that a state forked before its last token, and selected rows of a state, draw the same.

    Args:
        policy: draws the tokens.
        state: the state of _ROWS prefixes.
        forked: the state of the same prefixes, two copies of each, as neighbours.
        uniforms: (_ROWS, N) float32.
    """
    name = f"{type(policy).__name__}.draw"
    draws: Tensor = attempt(f"{name} fails", policy.draw, state, uniforms)
    expect_tensor(name, draws, uniforms.shape, uniforms.device, integer=True)
    if bool(((draws < 0) | (draws >= policy.vocab_size)).any()):
        raise ValueError(f"{name} returned tokens outside 0..{policy.vocab_size - 1}")
    _expect_same_draws(
        f"{name} gives different tokens for a forked state and for the state itself; keep everything about a "
        "prefix in tensors with the batch in dimension 0",
        *(policy.draw(forked, uniforms.repeat_interleave(2, dim=0)), draws.repeat_interleave(2, dim=0)),
    )
    rows = torch.arange(_ROWS - 1, -1, -2, dtype=torch.int64, device=uniforms.device)
    _expect_same_draws(
        f"{name} gives different tokens for selected rows of a state and in the whole batch",
        *(policy.draw(tuple(part[rows] for part in state), uniforms[rows]), draws[rows]),
    )
    return draws


def _check_advance(policy: RolloutPolicy, state: State, tokens: Tensor) -> State:
    """The state after one more token; check that the state before has not changed."""
    name = f"{type(policy).__name__}.advance"
    given, column = tuple(part.clone() for part in state), tokens.clone()
    advanced: State = attempt(f"{name} fails", policy.advance, given, column)
    _expect_state(name, advanced, state)
    if not all(map(torch.equal, (*given, column), (*state, tokens))):
        raise ValueError(f"{name} changed the state or the tokens that it was given; return a new state")
    return advanced


def _check_hidden_states(name: str, model: SequenceModel, tokens: Tensor, tolerance: float) -> None:
    """Check that teacher forcing has a gradient, and equals stepping."""
    inputs = shift_right(tokens, model.vocab_size)
    hidden = attempt(f"{name}.hidden_states fails", model.hidden_states, inputs)
    expect_tensor(f"{name}.hidden_states", hidden, (*tokens.shape, model.hidden_size), model.device)
    if not hidden.requires_grad:
        raise ValueError(f"{name}.hidden_states returned no gradient, so it cannot learn; remove torch.no_grad()")
    state = model.initial_state(_ROWS)
    for step, column in enumerate(tokens.unbind(1)):
        features = model.features(state)
        expect_tensor(f"{name}.features", features, (_ROWS, model.hidden_size), model.device)
        expect_equal(
            f"{name}: at step {step} advance and hidden_states give different h_t; both are Eq. 9, and both are fed "
            "the start symbol first",
            *(features, hidden[:, step].detach()),
            tolerance,
        )
        state = model.advance(state, column)


def _check_mixed_lengths(policy: RolloutPolicy, tokens: Tensor, rng: np.random.Generator) -> None:
    """Check that prefixes of different lengths draw the same in a batch and recomputed alone."""
    lengths = torch.arange(_ROWS, dtype=torch.int64, device=tokens.device) % tokens.shape[1]
    uniforms = torch.from_numpy(rng.random((_ROWS, 256), dtype=np.float32)).to(tokens.device)
    together = policy.draw(replay(policy, tokens, lengths), uniforms)
    for place in range(_ROWS):
        row = slice(place, place + 1)
        alone = policy.draw(replay(policy, tokens[row], lengths[row]), uniforms[row])
        _expect_same_draws(
            f"{type(policy).__name__}: a prefix of {int(lengths[row])} tokens draws different tokens in a batch "
            "of other lengths and recomputed alone; a row's state must depend only on its own tokens",
            *(together[row], alone),
        )


def _check_log_probs(name: str, policy: Any, tokens: Tensor, tolerance: float) -> None:
    """Check that they are finite, repeatable, causal and 0 at PAD, and that probabilities sum to 1."""
    padded = tokens.clone()
    padded[:, (tokens.shape[1] + 1) // 2 :] = policy.vocab_size
    expect_scores(f"{name}.log_probs", policy.log_probs, padded, tolerance)
    log_probs = policy.log_probs(padded)
    expect_tensor(f"{name}.log_probs", log_probs, padded.shape, tokens.device)
    if bool((log_probs[padded == policy.vocab_size] != 0).any()):
        raise ValueError(f"{name}.log_probs is not 0 at PAD = {policy.vocab_size}, which is not a token")
    message = f"{name}.log_probs of a token depends on later tokens, which it must not see"
    expect_equal(message, policy.log_probs(tokens).where(padded < policy.vocab_size, 0.0), log_probs, tolerance)
    length = max([1, *(t for t in range(1, tokens.shape[1] + 1) if policy.vocab_size**t <= _ENUMERATED)])
    everything = enumerate_sequences(policy.vocab_size, length).to(tokens.device)
    total = policy.log_probs(everything).double().sum(dim=1).exp().sum()
    message = f"{name}.log_probs: probabilities of all {len(everything)} sequences of length {length} do not sum to 1"
    expect_equal(message, total, torch.ones_like(total), tolerance)


def _check_draws(name: str, policy: Any, tokens: Tensor, rng: np.random.Generator) -> None:
    """Check that draws after the empty prefix and after a long one follow log_probs."""
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
    """Deviation of counts from probabilities, in standard deviations: chi-square by Wilson and Hilferty (1931).

    Args:
        counts: (V,) integers.
        probabilities: (V,), with sum 1.
    """
    expected = counts.sum() * probabilities
    common = expected >= 5  # the other tokens count as one
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
    """Expect a tuple of tensors of _ROWS rows, without gradient, with the shapes and dtypes of the state before."""
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
            f"{name} returned tensors {forms[0]} from a state of {forms[1]}; shapes and dtypes must stay the "
            "same, so that rows of two states can be mixed"
        )


def _steps(part: Any, sequence_length: int | None) -> int:
    """T to check with: the given one, the part's own, or 6."""
    return int(getattr(part, "sequence_length", _LENGTH) if sequence_length is None else sequence_length)
