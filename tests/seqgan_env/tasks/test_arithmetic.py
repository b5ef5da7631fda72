"""The arithmetic task: what the grammar draws is valid, and its likelihood is that of a hand-made recursion."""

from __future__ import annotations

import ast
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from seqgan_env.measures.likelihood import negative_log_likelihood
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.arithmetic import EOS, SLIP, TOKENS, ArithmeticOptions, arithmetic_task
from seqgan_env.tasks.task import restored_task
from seqgan_env.tasks.toy import enumerate_sequences
from seqgan_env.testing import check_rollout_policy, check_task


def ids(text: str, length: int) -> torch.Tensor:
    """An expression with its end, (1, T) int64."""
    tokens = [TOKENS.index(character) for character in text]
    tokens += [TOKENS.index(EOS)] * (len(tokens) < length)
    return torch.tensor([tokens + [len(TOKENS)] * (length - len(tokens))])


def test_every_real_expression_can_be_computed_and_ends_in_time() -> None:
    task = arithmetic_task(n_sequences=2_000)
    texts = [task.decode(row) for row in task.real_sequences("train").tolist()]
    for text in texts:
        assert isinstance(eval(compile(ast.parse(text, mode="eval"), "", "eval"), {}), int)
        assert 1 <= len(text) <= 15
    depths = {
        max(text[: end + 1].count("(") - text[: end + 1].count(")") for end in range(len(text))) for text in texts
    }
    assert depths == {0, 1, 2}
    assert {len(text) for text in texts} == set(range(1, 16, 2))


# By hand: a first operand is one of ten digits, or a bracket a quarter of the time where there is room.
@pytest.mark.parametrize(
    ("text", "length", "depth", "probability"),
    [
        ("7", 1, 2, 1 / 10),
        ("7", 2, 0, 1 / 10),  # after it there is room for EOS alone
        ("7", 3, 0, 1 / 10 / 2),  # an operator or the end
        ("1+2", 3, 0, 1 / 10 / 2 / 3 / 10),  # full: no EOS
        ("1+2", 4, 0, 1 / 10 / 2 / 3 / 10),  # EOS must follow
        ("(3)", 3, 1, 1 / 4 / 10),  # in the bracket neither an operator nor another bracket fits
        ("(3)", 5, 1, 1 / 4 / 10 / 2 / 2),  # operator or bracket, then operator or end
        ("((4))", 5, 2, 1 / 4 / 4 / 10),
    ],
)
def test_the_likelihood_is_the_product_of_the_choices(text: str, length: int, depth: int, probability: float) -> None:
    if depth and length >= 3:
        probability = probability if text.startswith("(") else probability * 3 / 4
    oracle = arithmetic_task(length, depth, n_sequences=1).oracle
    assert oracle is not None
    assert oracle.log_probs(ids(text, length)).sum().item() == pytest.approx(math.log(probability), abs=1e-4)


def test_the_probabilities_of_all_sequences_add_up_and_a_wrong_one_costs_a_slip() -> None:
    oracle = arithmetic_task(3, 1, n_sequences=1).oracle
    assert oracle is not None
    everything = enumerate_sequences(len(TOKENS), 3)
    eos, pad = TOKENS.index(EOS), len(TOKENS)
    ended = (everything == eos).cumsum(dim=1) - (everything == eos).long() > 0
    distinct = everything.masked_fill(ended, pad).unique(dim=0)
    probabilities = oracle.log_probs(distinct).double().sum(dim=1).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    wrong = oracle.log_probs(ids("+", 3))[0, 0].item()
    assert wrong == pytest.approx(math.log(SLIP / len(TOKENS)), abs=1e-4)
    exact_entropy = -(probabilities * probabilities.log()).sum().item()
    drawn = sample_sequences(oracle, 20_000, 3, np.random.default_rng(0), eos)
    nll = -oracle.log_probs(drawn).double().sum(dim=1)
    assert nll.mean().item() == pytest.approx(exact_entropy, abs=5 * nll.std().item() / math.sqrt(len(nll)))


def test_it_is_a_task_a_policy_and_an_environment_like_the_others() -> None:
    task = arithmetic_task(n_sequences=200)
    check_task(task)
    check_rollout_policy(task.oracle, sequence_length=6)
    env = gym.make("SeqGAN-Arithmetic-v0", sequence_length=7, train_sequences=50, reward_model="oracle")
    env.reset(seed=0)
    for character in "(1+2)":
        observation, _, ended, _, info = env.step(TOKENS.index(character))
        assert not ended
    *_, ended, _, info = env.step(TOKENS.index(EOS))
    assert ended
    assert info["text"] == "(1+2)"
    nll = negative_log_likelihood(env.unwrapped.task.oracle, ids("(1+2)", 7))
    assert info["oracle_nll"] == pytest.approx(float(nll[0]), rel=1e-5)
    assert observation.shape == (7,)


def test_it_is_stored_and_read_back_with_its_grammar() -> None:
    task = arithmetic_task(9, 1, n_sequences=30)
    again = restored_task(task.state(), task.tensors(), task.draw_split)
    assert type(again) is type(task)
    sequences = task.real_sequences("test")
    assert torch.equal(again.oracle.log_probs(sequences), task.oracle.log_probs(sequences))
    with pytest.raises(ValueError, match="not those of a grammar"):
        restored_task(task.state(), {"oracle.embedding": torch.zeros(2, 2)}, task.draw_split)
    damaged = task.tensors() | {"oracle.next_state": task.oracle.next_state + 1}
    with pytest.raises(ValueError, match="not those of a grammar"):
        restored_task(task.state(), damaged, task.draw_split)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"depth": -1}, ValueError),
        ({"sequence_length": 0}, ValueError),
        ({"depth": 1.5}, TypeError),
        ({"train_sequences": 0}, ValueError),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{next(iter(options))}="):
        ArithmeticOptions(**options)
