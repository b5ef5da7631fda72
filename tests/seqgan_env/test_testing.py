"""`testing`: every part of the project passes, and each fault is caught by a message that names it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.components import DISCRIMINATORS, build_discriminator, build_reward_model
from seqgan_env.models.attention_models import AttentionLSTMSequenceModel, TransformerSequenceModel
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, SequenceModel, State
from seqgan_env.rewards import RewardModel
from seqgan_env.rollout_policies import DelayedCopy, NGramPolicy, UniformPolicy
from seqgan_env.tasks.oracle import oracle_task, seeded_oracle
from seqgan_env.tasks.task import Split, Task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import (
    check_discriminator,
    check_reward_model,
    check_rollout_policy,
    check_sequence_model,
    check_task,
)
from seqgan_env.testing.policies import deviations
from seqgan_env.vocabulary import Vocabulary
from tests.toy_world import DigitsReward, PointPolicy, SuccessorPolicy, TableReward

V, T = 5, 4
GENERATORS = [LSTMSequenceModel, GRUSequenceModel, TransformerSequenceModel, AttentionLSTMSequenceModel]


def ending_task(**changes: Any) -> Task:
    """V = 4, T = 5; token 3 ends a sequence early, and every split has its own sequences."""
    splits = {"train": [0, 1, 3, 4, 4], "validation": [2, 2, 2, 2, 2], "test": [3, 4, 4, 4, 4]}
    given = {
        "name": "ending",
        "vocab_size": 4,
        "sequence_length": 5,
        "draw_split": lambda split: torch.tensor([splits[split], [0, 0, 0, 0, 3]]),
        "eos_token": 3,
        "vocabulary": Vocabulary("abc.", eos="."),
        "oracle": seeded_oracle(0, 4, 4),
    }
    return Task(**(given | changes))


# Our own parts.


@pytest.mark.parametrize("model_class", GENERATORS)
@pytest.mark.parametrize("init_std", [0.1, 1.0])
def test_our_generators_pass(model_class: type[SequenceModel], init_std: float) -> None:
    check_sequence_model(model_class(V, 3, 6, init_std, 1))


def test_a_generator_passes_with_one_token_and_with_one_step() -> None:
    check_sequence_model(LSTMSequenceModel(1, 2, 3))
    check_sequence_model(TransformerSequenceModel(V, 2, 4, sequence_length=1))


@pytest.mark.parametrize("spec", [*DISCRIMINATORS, "ensemble"])
@pytest.mark.parametrize("task", [toy_task(), ending_task(), None], ids=["toy", "ending", "no task"])
def test_our_discriminators_pass(spec: str, task: Task | None) -> None:
    check_discriminator(build_discriminator(spec, task or toy_task()), task)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_our_roll_out_policies_pass(n: int) -> None:
    sequences = toy_task().real_sequences("train")
    for policy in (UniformPolicy(3), NGramPolicy(sequences, 3, order=n), PointPolicy(3, 2), SuccessorPolicy(3)):
        check_rollout_policy(policy, sequence_length=n + 1)
    for model_class in GENERATORS:
        check_rollout_policy(DelayedCopy(model_class(3, seed=n)))


@pytest.mark.parametrize("spec", ["discriminator", "shuffled", "bleu", "random", "constant", "oracle"])
@pytest.mark.parametrize("task", [toy_task(), ending_task()], ids=["toy", "ending"])
def test_our_rewards_pass(spec: str, task: Task) -> None:
    check_reward_model(build_reward_model(spec, task), task)


def test_rewards_pass_that_return_integers_or_arrays() -> None:
    check_reward_model(TableReward())
    check_reward_model(DigitsReward())
    check_reward_model(lambda sequences: sequences.sum(dim=1))
    check_reward_model(lambda sequences: sequences.numpy().mean(axis=1))


@pytest.mark.parametrize("task", [toy_task(), oracle_task(7, 5, n_sequences=20), ending_task()], ids=lambda t: t.name)
def test_our_tasks_pass(task: Task) -> None:
    check_task(task)


def test_a_model_is_as_it_was_after_its_check() -> None:
    checks = ((LSTMSequenceModel(V), check_sequence_model), (SumNet(), check_discriminator))
    random_state = torch.random.get_rng_state()
    for model, check in checks:
        model.eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        check(model)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not model.training
    assert torch.equal(random_state, torch.random.get_rng_state())


def test_a_random_reward_is_wound_back_after_its_check() -> None:
    reward = build_reward_model("random", toy_task())
    expected = build_reward_model("random", toy_task())(torch.zeros(4, 3))
    check_reward_model(reward)
    assert torch.equal(reward(torch.zeros(4, 3)), expected)


def test_frozen_parameters_and_heads_that_start_at_zero_are_no_fault() -> None:
    model = SumNet()
    nn.init.zeros_(model.output.weight)
    check_discriminator(model)
    model.embedding.requires_grad_(False)
    check_discriminator(model)


# Faulty rewards.


def noisy(sequences: Tensor) -> Tensor:
    return torch.rand(len(sequences))


def centred(sequences: Tensor) -> Tensor:
    values = sequences.double().mean(dim=1)
    return values - values.mean()


def overwriting(sequences: Tensor) -> Tensor:
    return sequences.clamp_(max=1).sum(dim=1)


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (3, TypeError, "reward_model must be callable, got int"),
        (lambda sequences: "high", TypeError, "must return a tensor of 24 numbers, got str"),
        (lambda sequences: torch.ones(len(sequences), 1), ValueError, r"shape \(24, 1\) for 24 sequences"),
        (lambda sequences: torch.full((len(sequences),), torch.nan), ValueError, "returned nan for sequence"),
        (lambda sequences: torch.ones(len(sequences), requires_grad=True), ValueError, "numbers with a gradient"),
        (noisy, ValueError, "function gave two different scores to the same batch"),
        (centred, ValueError, "function depends on the other sequences of the batch"),
        (overwriting, ValueError, "function changed the sequences that it scored"),
    ],
)
def test_a_faulty_reward_is_caught(reward: RewardModel, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_reward_model(reward)


# Faulty discriminators: each differs from a right one by its fault.


class SumNet(Discriminator):
    """Right: the sum of token embeddings, dropout, a linear layer."""

    rows = V + 1

    def __init__(self) -> None:
        super().__init__(V, T)
        self.embedding = nn.Embedding(self.rows, 6)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(6, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.output(self.dropout(self.embedding(sequences).sum(dim=1))).squeeze(1)


class Column(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences).unsqueeze(1)


class Undefined(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences) * torch.nan


class Pairs(SumNet):
    def forward(self, sequences: Tensor) -> Any:
        return super().forward(sequences), None


class Decision(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return (super().forward(sequences) > 0).long()


class Elsewhere(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences).to("meta")


class Detached(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences).detach()


class NoPad(SumNet):
    rows = V


class AlwaysDropping(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return F.dropout(super().forward(sequences), 0.5)


class WithGradient(SumNet):
    def score(self, sequences: Tensor) -> Tensor:
        was_training = self.training
        scores = self.eval()(sequences)
        self.train(was_training)
        return scores


class NeedsGradient(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        logits = super().forward(sequences)
        torch.autograd.grad(logits.sum(), self.output.weight, retain_graph=True)
        return logits


class StaysInEvaluation(SumNet):
    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        return self.eval()(sequences)


class Overwriting(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences.clamp_(max=2))


class Centred(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        logits = super().forward(sequences)
        return logits - logits.mean() if len(logits) else logits


class Halved(SumNet):
    def score(self, sequences: Tensor) -> Tensor:
        return super().score(sequences) / 2


class NeverEmpty(SumNet):
    def score(self, sequences: Tensor) -> Tensor:
        return super().score(sequences) if len(sequences) else torch.zeros(1)


class WrongPenalty(SumNet):
    def penalty(self) -> Tensor:
        return self.output.weight.square()[0]


class Unused(SumNet):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(2, 1)


class Unregistered(SumNet):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(1, 1)]

    def forward(self, sequences: Tensor) -> Tensor:
        return self.layers[0](super().forward(sequences).unsqueeze(1)).squeeze(1)


class SquareRoot(SumNet):
    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences) + (0 * self.output.bias).abs().sqrt()


class Remembering(SumNet):
    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None

    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        if self.table is None:
            self.table = self.embedding.weight @ self.output.weight[0]
        return self.table[sequences].sum(dim=1) + self.output.bias


class Locked(SumNet):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("model_class", "error", "message"),
    [
        (nn.Identity, TypeError, "Identity is not a discriminator; derive it from"),
        (Locked, TypeError, "Locked cannot be copied by copy.deepcopy"),
        (Column, ValueError, r"Column.forward returned shape \(8, 1\), expected \(8,\)"),
        (Undefined, ValueError, "Undefined.forward returned NaN or infinity"),
        (Pairs, ValueError, "Pairs.forward returned tuple, expected a tensor"),
        (Decision, ValueError, "Decision.forward returned dtype torch.int64, expected floats"),
        (Elsewhere, ValueError, "Elsewhere.forward returned a tensor on meta, expected cpu"),
        (Detached, ValueError, "Detached.forward returned logits without a gradient"),
        (NoPad, ValueError, r"fails on PAD = 5: IndexError: .*; an embedding needs vocab_size \+ 1 rows"),
        (
            AlwaysDropping,
            ValueError,
            "AlwaysDropping.score gave two different .*, so it does not score in evaluation mode",
        ),
        (WithGradient, ValueError, "WithGradient.score returned numbers with a gradient; decorate it"),
        (
            NeedsGradient,
            ValueError,
            "NeedsGradient.score fails on 16 sequences: RuntimeError: .* does not require grad",
        ),
        (StaysInEvaluation, ValueError, "StaysInEvaluation.score left the model in evaluation mode"),
        (Overwriting, ValueError, "Overwriting.score changed the sequences"),
        (Centred, ValueError, "Centred.score depends on the other sequences of the batch"),
        (Halved, ValueError, "Halved.score differs from forward in evaluation mode"),
        (NeverEmpty, ValueError, r"NeverEmpty.score returned shape \(1,\), expected \(0,\)"),
        (WrongPenalty, ValueError, r"WrongPenalty.penalty returned shape \(6,\), expected \(\)"),
        (Unused, ValueError, "Unused: no gradient reaches forgotten.weight, forgotten.bias"),
        (Unregistered, ValueError, r"learns with a tensor of shape \(1,?.*\) that is not one of its parameters"),
        (SquareRoot, ValueError, "SquareRoot: the gradient of output.bias is NaN or infinite"),
        (Remembering, ValueError, r"Remembering: scores differ after load_state_dict\(state_dict\(\)\)"),
    ],
)
def test_a_faulty_discriminator_is_caught(
    model_class: Callable[[], nn.Module], error: type[Exception], message: str
) -> None:
    check_discriminator(SumNet())
    with pytest.raises(error, match=message):
        check_discriminator(model_class())


def test_pad_is_asked_of_a_discriminator_only_where_the_task_has_an_eos() -> None:
    check_discriminator(NoPad(), oracle_task(V, T, n_sequences=9))
    with pytest.raises(ValueError, match="PAD = 5"):
        check_discriminator(NoPad(), ending_task(vocab_size=V, sequence_length=T))


def test_a_discriminator_of_other_sizes_than_the_tasks_is_caught() -> None:
    with pytest.raises(ValueError, match="SumNet has sequence_length=4, the task 'oracle' has 3; they must be equal"):
        check_discriminator(SumNet(), oracle_task(V, 3, n_sequences=9))


# Faulty sequence models and roll-out policies: an LSTM but for the fault.


class RightLSTM(LSTMSequenceModel):
    def __init__(self) -> None:
        super().__init__(V, 3, 6, 1.0, seed=1)


class ListState(RightLSTM):
    def initial_state(self, batch_size: int) -> Any:
        return list(super().initial_state(batch_size))


class BatchInDimensionOne(RightLSTM):
    def initial_state(self, batch_size: int) -> State:
        return tuple(part.t() for part in super().initial_state(batch_size))

    def advance(self, state: State, tokens: Tensor) -> State:
        if state[0].shape[0] == len(tokens):
            return super().advance(state, tokens)
        return tuple(part.t() for part in super().advance(tuple(part.t() for part in state), tokens))


class GrowingState(RightLSTM):
    def initial_state(self, batch_size: int) -> State:
        return (*super().initial_state(batch_size), torch.zeros(batch_size, 0))

    def advance(self, state: State, tokens: Tensor) -> State:
        advanced = super().advance(state[:2], tokens)
        return advanced if len(state) == 2 else (*advanced, torch.cat([state[2], tokens[:, None].float()], dim=1))


class StateWithGradient(RightLSTM):
    def advance(self, state: State, tokens: Tensor) -> State:
        return tuple(part + 0 * self.gate_bias.sum() for part in super().advance(state, tokens))


class InPlace(RightLSTM):
    def advance(self, state: State, tokens: Tensor) -> State:
        h, c = super().advance(state, tokens)
        return state[0].copy_(h), c


class LastInAnAttribute(RightLSTM):
    def advance(self, state: State, tokens: Tensor) -> State:
        self.last = super().advance(state, tokens)
        return self.last

    def features(self, state: State) -> Tensor:
        return self.last[0][: len(state[0])]


class PlaceInTheBatch(RightLSTM):
    """Right for a whole batch, wrong for its rows."""

    def features(self, state: State) -> Tensor:
        return state[0] + torch.arange(len(state[0])).unsqueeze(1) / 8


class StepCounter(RightLSTM):
    """Takes the longest prefix of the batch for the length of all."""

    def initial_state(self, batch_size: int) -> State:
        return (*super().initial_state(batch_size), torch.zeros(batch_size))

    def advance(self, state: State, tokens: Tensor) -> State:
        advanced = super().advance(state[:2], tokens)
        return advanced if len(state) == 2 else (*advanced, state[2] + 1)

    def features(self, state: State) -> Tensor:
        return state[0] + state[2].max() if len(state[2]) else state[0]


class GlobalDraws(RightLSTM):
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return super().draw(state, torch.rand_like(uniforms))


class HalfDraws(RightLSTM):
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return super().draw(state, uniforms[:, ::2])


class IntDraws(RightLSTM):
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return super().draw(state, uniforms).int()


class FromOne(RightLSTM):
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return super().draw(state, uniforms) + 1


class Squared(RightLSTM):
    """Takes u^2 for u, so that low tokens are drawn too often."""

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return super().draw(state, uniforms.square())


class OneTemperature(RightLSTM):
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return (
            self.at_temperature(1.0).draw(state, uniforms) if self.temperature != 1 else super().draw(state, uniforms)
        )


class Unnormalised(RightLSTM):
    def log_probs(self, sequences: Tensor) -> Tensor:
        return super().log_probs(sequences) + 0.01 * (sequences < V)


class CountsPad(RightLSTM):
    def log_probs(self, sequences: Tensor) -> Tensor:
        return super().log_probs(sequences) - (sequences == V).float()


class LogProbsWithGradient(RightLSTM):
    def log_probs(self, sequences: Tensor) -> Tensor:
        return super().log_probs(sequences) + 0 * self.output.bias.sum()


class SeesTheFuture(RightLSTM):
    def hidden_states(self, inputs: Tensor) -> Tensor:
        hidden = super().hidden_states(inputs)
        return hidden + hidden.flip(1)


class DroppingStates(RightLSTM):
    def hidden_states(self, inputs: Tensor) -> Tensor:
        return F.dropout(super().hidden_states(inputs), 0.5, self.training)


class ScaledStates(RightLSTM):
    def hidden_states(self, inputs: Tensor) -> Tensor:
        return 1.01 * super().hidden_states(inputs)


class NarrowStates(RightLSTM):
    def hidden_states(self, inputs: Tensor) -> Tensor:
        return super().hidden_states(inputs)[:, :, :4]

    def log_probs(self, sequences: Tensor) -> Tensor:
        right = RightLSTM()
        right.load_state_dict(self.state_dict())
        return right.at_temperature(self.temperature).log_probs(sequences)


class ConstantStates(RightLSTM):
    def hidden_states(self, inputs: Tensor) -> Tensor:
        return super().hidden_states(inputs).detach()


class OtherLikelihood(RightLSTM):
    def weighted_log_likelihood(self, sequences: Tensor, weights: Tensor, inputs: Tensor | None = None) -> Tensor:
        return -super().weighted_log_likelihood(sequences, weights, inputs)


class UnusedParameter(RightLSTM):
    def __init__(self) -> None:
        super().__init__()
        self.key_bias = nn.Parameter(torch.zeros(6))


class RememberingLSTM(RightLSTM):
    def log_probs(self, sequences: Tensor) -> Tensor:
        self.kept = getattr(self, "kept", None) or (self.embedding.detach().clone(),)
        current, self.embedding.data = self.embedding.data, self.kept[0]
        result = super().log_probs(sequences)
        self.embedding.data = current
        return result


@pytest.mark.parametrize(
    ("model_class", "error", "message"),
    [
        (nn.Identity, TypeError, "Identity is not a sequence model; derive it from"),
        (ListState, ValueError, "ListState.initial_state returned list, expected a tuple"),
        (
            BatchInDimensionOne,
            ValueError,
            r"tensor 0 has shape \(6, 8\) for 8 prefixes; the batch must be in dimension 0",
        ),
        (GrowingState, ValueError, "GrowingState.advance returned tensors .*; shapes and dtypes must stay"),
        (StateWithGradient, ValueError, "initial_state returned a state with a gradient; decorate it"),
        (InPlace, ValueError, "InPlace.advance changed the state or the tokens"),
        (LastInAnAttribute, ValueError, "LastInAnAttribute.draw gives different tokens for"),
        (PlaceInTheBatch, ValueError, "draw gives different tokens for a forked state"),
        (
            StepCounter,
            ValueError,
            "StepCounter: a prefix of 0 tokens draws different tokens",
        ),
        (GlobalDraws, ValueError, "GlobalDraws.draw gives different tokens"),
        (HalfDraws, ValueError, r"HalfDraws.draw returned shape \(8, 128\), expected \(8, 256\)"),
        (IntDraws, ValueError, "IntDraws.draw returned dtype torch.int32, expected int64"),
        (FromOne, ValueError, r"FromOne.draw returned tokens outside 0\.\.4"),
        (Squared, ValueError, r"Squared: draws do not follow log_probs: after \[\] token \d was drawn with"),
        (OneTemperature, ValueError, r"OneTemperature.at_temperature\(0.5\): draws do not follow log_probs"),
        (Unnormalised, ValueError, "probabilities of all 3125 sequences of length 5 do not sum to 1"),
        (CountsPad, ValueError, "CountsPad.log_probs is not 0 at PAD = 5"),
        (LogProbsWithGradient, ValueError, "LogProbsWithGradient.log_probs returned numbers with a gradient"),
        (SeesTheFuture, ValueError, "SeesTheFuture.log_probs of a token depends on later tokens"),
        (DroppingStates, ValueError, "DroppingStates.log_probs gave two different scores to the same batch"),
        (ScaledStates, ValueError, "ScaledStates: at step 0 advance and hidden_states give different h_t"),
        (NarrowStates, ValueError, r"NarrowStates.hidden_states returned shape \(8, 6, 4\), expected \(8, 6, 6\)"),
        (ConstantStates, ValueError, "ConstantStates.hidden_states returned no gradient"),
        (OtherLikelihood, ValueError, "OtherLikelihood.weighted_log_likelihood is not the weighted sum of log_probs"),
        (UnusedParameter, ValueError, "UnusedParameter: no gradient reaches key_bias"),
        (RememberingLSTM, ValueError, r"RememberingLSTM: scores differ after load_state_dict\(state_dict\(\)\)"),
    ],
)
def test_a_faulty_sequence_model_is_caught(
    model_class: Callable[[], nn.Module], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_sequence_model(model_class())


def test_the_lstm_that_the_faulty_ones_derive_from_passes() -> None:
    check_sequence_model(RightLSTM())


def test_a_policy_that_lacks_a_method_is_caught() -> None:
    with pytest.raises(TypeError, match="Task is not a roll-out policy: it lacks initial_state, advance, draw"):
        check_rollout_policy(ending_task())


def test_a_policy_that_recalls_the_tokens_of_its_last_call_is_caught() -> None:
    class Recalling(SuccessorPolicy):
        def advance(self, state: State, tokens: Tensor) -> State:
            self.tokens = tokens
            return super().advance(state, tokens)

        def draw(self, state: State, uniforms: Tensor) -> Tensor:
            drawn = super().draw(state, uniforms)
            return drawn if state[0][0] < 0 or len(self.tokens) == len(drawn) else 0 * drawn

    with pytest.raises(ValueError, match="draw gives different tokens for"):
        check_rollout_policy(Recalling(V))


@pytest.mark.parametrize("row", [0, 1])
def test_what_goes_wrong_in_a_policy_is_told_with_what_was_tried(row: int) -> None:
    class Failing(PointPolicy):
        def draw(self, state: State, uniforms: Tensor) -> Tensor:
            raise KeyError("weights") if row else IndexError("out of range")

    with pytest.raises(ValueError, match=r"Failing.draw fails: (KeyError: 'weights'|IndexError: out of range)"):
        check_rollout_policy(Failing(V, 0))


# Faulty tasks.


def splits(**changes: list[list[int]]) -> Callable[[Split], Tensor]:
    return lambda split: torch.tensor(changes[split]) if split in changes else ending_task().draw_split(split)


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ("oracle", TypeError, "str is not a task"),
        (
            ending_task(draw_split=splits(test=[[0, 1, 3, 5, 5]])),
            ValueError,
            r"sequence 0 is \[0, 1, 3, 5, 5\]; tokens lie",
        ),
        (ending_task(draw_split=splits(test=[[0, -1, 3, 4, 4]])), ValueError, r"tokens lie in 0\.\.3"),
        (ending_task(draw_split=splits(test=[[0, 3, 1, 4, 4]])), ValueError, "PAD = 4 comes after EOS = 3, and only"),
        (ending_task(draw_split=splits(test=[[0, 1, 4, 4, 4]])), ValueError, "PAD = 4 comes after EOS = 3, and only"),
        (ending_task(eos_token=None), ValueError, "without an EOS every sequence has T tokens"),
        (ending_task(draw_split=splits(train=[[0, 3]])), ValueError, r"'train' has shape \(1, 2\), expected \(M, 5\)"),
        (ending_task(draw_split=lambda split: torch.zeros(0, 5).long()), ValueError, r"has shape \(0, 5\)"),
        (ending_task(draw_split=lambda split: torch.zeros(2, 5)), ValueError, "is of torch.float32, expected an int64"),
        (ending_task(draw_split=lambda split: [[0] * 5]), ValueError, "is of list, expected an int64 tensor"),
        (ending_task(draw_split=lambda split: torch.zeros(2, 5).long()), ValueError, "test and train hold the same"),
        (
            ending_task(draw_split=lambda split: torch.randint(3, (9, 5))),
            ValueError,
            "split 'train' differs when it is drawn again",
        ),
        (ending_task(oracle=seeded_oracle(0, 5, 4)), ValueError, "its oracle has vocab_size=5, the task 4"),
        (ending_task(vocabulary=Vocabulary("ab.", eos=".")), ValueError, "its vocabulary has 3 tokens, the task 4"),
        (ending_task(vocabulary=Vocabulary("abc.")), ValueError, "its vocabulary has EOS = None, the task 3"),
    ],
)
def test_a_faulty_task_is_caught(task: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_task(task)


def test_an_oracle_without_finite_likelihood_is_caught() -> None:
    task = ending_task()
    with torch.no_grad():
        task.oracle.output.bias[0] = -torch.inf
    with pytest.raises(ValueError, match="its oracle gives real sequences a likelihood that is not finite"):
        check_task(task)


# The statistic behind the draws.


def test_deviations_are_those_of_a_standard_normal_when_draws_are_right() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(20))
    values = [deviations(rng.multinomial(20_000, probabilities), probabilities) for _ in range(2000)]
    assert abs(np.mean(values)) < 0.1
    assert np.std(values) == pytest.approx(1.0, abs=0.1)


def test_deviations_see_a_wrong_probability_and_a_token_that_cannot_be_drawn() -> None:
    probabilities = np.array([0.5, 0.3, 0.2, 0.0])
    assert deviations(np.array([10_000, 6_000, 4_000, 0]), probabilities) < 1
    assert deviations(np.array([10_400, 5_600, 4_000, 0]), probabilities) > 5
    assert deviations(np.array([9_990, 5_990, 3_990, 30]), probabilities) > 5
