"""The arithmetic task: expressions such as (3+4)*2 of a tiny grammar, with an exactly known likelihood.

An expression is one operand, or several with + - * between them. An operand is a digit or an expression in brackets.
The grammar is a finite automaton. Its state says whether the next token must begin an operand, how many brackets are
open, and how many tokens are left. So every expression is complete within T tokens, and its probability is a product of
known numbers.

This is a task for labs: a reader sees a generator's mistakes at once, and NLL_oracle measures them. With probability
`SLIP` a token is drawn uniformly instead of from the grammar. So a wrong token costs a few nats, not infinitely many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from seqgan_env.models.sequence_models import SequenceModel, State
from seqgan_env.tasks.oracle import DrawnSequences, check_draws
from seqgan_env.tasks.task import Task
from seqgan_env.vocabulary import Vocabulary

EOS = "<eos>"
TOKENS = (*"0123456789+-*()", EOS)
SLIP = 1e-6


class Place(NamedTuple):
    """A state of the automaton: the place of the next token in an expression.

    Attributes:
        after_operand: whether an operand has just ended, so that an operator, a bracket or the end may follow.
        depth: number of open brackets.
        left: number of tokens that may still come.
    """

    after_operand: bool
    depth: int
    left: int


def choices(place: Place, max_depth: int) -> dict[str, float]:
    """The tokens that the grammar allows at a place, with their probabilities, whose sum is 1.

    A token is allowed if the expression can still be completed. An operand is a digit three times as often as a
    bracket. After an operand, the allowed choices among operator, closing bracket and end are equally likely.
    """
    weights: dict[str, float] = {}
    if place.after_operand:
        if place.left >= place.depth + 2:
            weights |= dict.fromkeys("+-*", 1 / 3)
        weights |= {")": 1.0} if place.depth else {EOS: 1.0}
    else:
        weights |= dict.fromkeys("0123456789", 3 / 10)
        if place.depth < max_depth and place.left >= place.depth + 3:
            weights |= {"(": 1.0}
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def following(place: Place, token: str) -> Place:
    """The place after an allowed token other than EOS."""
    depth = place.depth + {"(": 1, ")": -1}.get(token, 0)
    return Place(token.isdigit() or token == ")", depth, place.left - 1)


class GrammarModel(SequenceModel):
    """An automaton as a sequence model: h_t of Eq. 10 is the one-hot vector of its state, and the weights are log p.

    Args:
        next_state: (S, V) int64, the next state for each state and token; state 0 belongs to the empty prefix.
        log_probs: (S, V) float32, log p(token | state) in nats.
    """

    next_state: Tensor

    def __init__(self, next_state: Tensor, log_probs: Tensor) -> None:
        super().__init__(log_probs.shape[1], log_probs.shape[0])
        self.register_buffer("next_state", next_state)
        with torch.no_grad():
            self.output.weight.copy_(log_probs.t())
        self.requires_grad_(False)

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, dtype=torch.int64, device=self.device),)

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        return (self.next_state[state[0], tokens],)

    def features(self, state: State) -> Tensor:
        return torch.nn.functional.one_hot(state[0], self.hidden_size).to(self.output.weight)

    def hidden_states(self, inputs: Tensor) -> Tensor:
        states = [self.initial_state(len(inputs))]  # column 0 of the inputs is the start symbol
        for tokens in inputs[:, 1:].unbind(1):
            states.append(self.advance(states[-1], tokens))
        return torch.stack([self.features(state) for state in states], dim=1)  # (B, T, S)


def grammar_model(sequence_length: int, max_depth: int) -> GrammarModel:
    """The grammar's exact distribution over sequences of at most T tokens; the last state is the one after a slip."""
    places = [Place(False, 0, sequence_length)]
    arrows: list[dict[str, Place]] = []
    for place in places:  # grows during the loop
        after = {token: following(place, token) for token in choices(place, max_depth) if token != EOS}
        arrows.append(after)
        places += [new for new in dict.fromkeys(after.values()) if new not in places and new.left]
    number = {place: index for index, place in enumerate(places)}
    broken = len(places)
    next_state = torch.full((broken + 1, len(TOKENS)), broken)
    probabilities = torch.full((broken + 1, len(TOKENS)), SLIP / len(TOKENS), dtype=torch.float64)
    probabilities[broken] = 1 / len(TOKENS)
    for index, (place, after) in enumerate(zip(places, arrows, strict=True)):
        for token, probability in choices(place, max_depth).items():
            probabilities[index, TOKENS.index(token)] += (1 - SLIP) * probability
            next_state[index, TOKENS.index(token)] = number.get(after.get(token, place), broken)
    return GrammarModel(next_state, probabilities.log().float())


@dataclass
class ArithmeticTask(Task):
    """The task with an automaton as oracle, which is restored from its two tables."""

    @classmethod
    def oracle_of(cls, parameters: dict[str, Tensor]) -> GrammarModel:
        """The automaton from its parameters.

        Raises:
            ValueError: if they are not those of an automaton.
        """
        try:
            model = GrammarModel(parameters["next_state"], parameters["output.weight"].t())
            model.load_state_dict(parameters)
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            raise ValueError(f"the stored parameters are not those of a grammar: {error}") from error
        if not bool(((model.next_state >= 0) & (model.next_state < model.hidden_size)).all()):
            raise ValueError("the stored parameters are not those of a grammar: a state leads to an unknown one")
        return model


@dataclass(frozen=True)
class ArithmeticOptions:
    """The kind of expressions. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[Task]] = ArithmeticTask
    PAGE: ClassVar[str] = """Arithmetic expressions of a tiny grammar, such as (3+4)*2.

    ## Description
        Generate an expression, character by character, that cannot be told from expressions of a grammar. Its
    likelihood is known exactly. Every action appends a digit, an operator, a bracket or the end; the transition is
    deterministic.

    ## Action Space
    `Discrete(16)`: the digits, + - * ( ), and EOS.

    ## Observation Space
    `Box(0, 16, (T,), int64)`: the prefix, padded with PAD = 16. An id is not a magnitude: use an embedding.

    ## Rewards
    By `reward_mode`: "action_value" (default), Q of Eq. 4 at each step, to be learned from with discount 0;
    "potential", its differences, for learners of discount 1; "terminal", R(Y) at the end only.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated by EOS or after T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64 with PAD after EOS, `text`, and `oracle_nll`, the sequence's NLL under the
    grammar in nats per token. It enters the reward only with `reward_model="oracle"`.

    ## Arguments
    - `sequence_length` (15): T; `depth` (2): brackets that may be open at once;
    - `data_seed` (0), `train_sequences` (10000): of the real expressions that the grammar draws;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    ## Version History
    - v0: first version.
    """

    sequence_length: int = 15
    """T, the largest number of tokens in an expression, with the end."""
    depth: int = 2
    """Most brackets that are open at once; 0: no brackets."""
    data_seed: int = 0
    """Seed of the real expressions that the grammar draws."""
    train_sequences: int = 10_000
    """Real training expressions; validation and test have equally many."""

    def __post_init__(self) -> None:
        check_draws(self.train_sequences, self.data_seed)
        for name, least in (("sequence_length", 1), ("depth", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r} must be an int")
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")

    def task(self) -> ArithmeticTask:
        """The task of these options."""
        model, vocabulary = grammar_model(self.sequence_length, self.depth), Vocabulary(TOKENS, EOS, "")
        eos = vocabulary.eos_token
        return ArithmeticTask(
            "arithmetic",
            len(vocabulary),
            self.sequence_length,
            DrawnSequences(model, self.sequence_length, self.train_sequences, self.data_seed, eos),
            eos_token=eos,
            vocabulary=vocabulary,
            oracle=model,
        )


def arithmetic_task(
    sequence_length: int = 15, depth: int = 2, *, data_seed: int = 0, n_sequences: int = 10_000
) -> Task:
    """Expressions of at most T tokens, as `ArithmeticOptions` makes them.

    Args:
        sequence_length: T.
        depth: the largest number of brackets that are open at once.
        data_seed: seed of the draws of real expressions.
        n_sequences: expressions in each split.

    Raises:
        ValueError, TypeError: for an argument out of range.
    """
    return ArithmeticOptions(sequence_length, depth, data_seed, n_sequences).task()
