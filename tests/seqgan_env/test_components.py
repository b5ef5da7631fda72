"""`components`: what the strings of `gym.make` name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqgan_env.components import (
    DISCRIMINATORS,
    GENERATORS,
    build_discriminator,
    build_generator,
    build_reward_model,
    build_rollout_policy,
    load_attribute,
)
from seqgan_env.models.context_discriminators import GRUDiscriminator, RCNNDiscriminator, TransformerDiscriminator
from seqgan_env.models.discriminator_ensemble import DiscriminatorEnsemble
from seqgan_env.models.discriminators import CNNDiscriminator, Discriminator
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, State
from seqgan_env.rewards import (
    BLEUReward,
    ConstantReward,
    DiscriminatorReward,
    OracleReward,
    RandomReward,
    ShuffledReward,
)
from seqgan_env.rollout_policies import DelayedCopy, NGramPolicy, UniformPolicy
from seqgan_env.tasks.task import Task

HERE = __name__


class OwnReward:
    """A reward model of one's own that asks for one size."""

    def __init__(self, sequence_length: int) -> None:
        self.sequence_length = sequence_length

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return (sequences == self.sequence_length - 1).double().mean(dim=1)


def own_reward(sequences: Tensor, /) -> Tensor:
    return sequences[:, 0].double()


class OwnModule(nn.Module):
    def forward(self, sequences: Tensor) -> Tensor:
        return sequences[:, 0].float()


class OwnDiscriminator(Discriminator):
    """A weight for each token and step, and no row for PAD: enough where a task has no EOS."""

    def __init__(self, task: Task, seed: int = 0) -> None:
        super().__init__(task.vocab_size, task.sequence_length)
        self.seed = seed
        self.weights = nn.Embedding(task.vocab_size * task.sequence_length, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.weights(sequences + self.vocab_size * torch.arange(self.sequence_length)).sum(dim=(1, 2))


class ColumnDiscriminator(OwnDiscriminator):
    """Forgets to squeeze."""

    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences).unsqueeze(1)


class FailingDiscriminator(OwnDiscriminator):
    def __init__(self) -> None:
        raise RuntimeError("no luck")


SHARED_DISCRIMINATOR = CNNDiscriminator(3, 3, "light")
SHARED_GENERATOR = GRUSequenceModel(3)


class OwnGenerator(GRUSequenceModel):
    """Asks for what it needs."""

    def __init__(self, task: Task, hidden_size: int, seed: int = 0) -> None:
        super().__init__(task.vocab_size, 4, hidden_size, seed=seed)
        self.seed = seed


class ForgetfulGenerator(OwnGenerator):
    """Its steps are not those of teacher forcing."""

    def advance(self, state: State, tokens: Tensor) -> State:
        return super().advance((torch.zeros_like(state[0]),), tokens)


class OwnPolicy(UniformPolicy):
    """Asks for the task itself."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.vocab_size)
        self.task = task


class Unfinished:
    vocab_size = 3


def bare_task() -> Task:
    return Task("bare", 3, 3, lambda split: torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("spec", [None, "discriminator"])
def test_the_default_reward_is_a_fresh_cnn_of_the_tasks_size(spec: str | None, task: Task) -> None:
    first, second = build_reward_model(spec, task), build_reward_model(spec, task)
    assert isinstance(first, DiscriminatorReward)
    assert isinstance(first.discriminator, CNNDiscriminator)
    assert (first.discriminator.vocab_size, first.discriminator.sequence_length) == (3, 3)
    assert first.discriminator is not second.discriminator


@pytest.mark.parametrize(("spec", "value"), [("constant", 0.5), ("constant:0.3", 0.3), ("constant:-2", -2.0)])
def test_a_constant_reward_can_be_named_with_its_value(spec: str, value: float, task: Task) -> None:
    reward = build_reward_model(spec, task)
    assert isinstance(reward, ConstantReward)
    assert reward.value == value


def test_a_shuffled_reward_is_that_of_a_fresh_cnn(task: Task) -> None:
    first, second = build_reward_model("shuffled", task), build_reward_model("shuffled", task)
    assert isinstance(first, ShuffledReward)
    assert isinstance(first.reward_model, DiscriminatorReward)
    assert isinstance(first.reward_model.discriminator, CNNDiscriminator)
    assert first.reward_model.discriminator is not second.reward_model.discriminator


def test_a_discriminator_that_is_given_is_the_one_that_scores(task: Task) -> None:
    own = OwnModule()
    assert build_reward_model("discriminator", task, own).discriminator is own
    assert build_reward_model("shuffled", task, own).reward_model.discriminator is own
    assert isinstance(build_reward_model("constant", task, own), ConstantReward)


def test_a_bleu_reward_has_four_tenths_of_the_training_sequences_as_references() -> None:
    train = torch.arange(10)[:, None].repeat(1, 3)
    task = Task("numbers", 10, 3, lambda split: {"train": train}[split])
    reward = build_reward_model("bleu", task)
    assert isinstance(reward, BLEUReward)
    assert sorted(reward(train).tolist()) == [0.0] * 6 + [1.0] * 4


@pytest.mark.parametrize(
    ("spec", "smoothing"),
    [("bleu", "epsilon"), ("bleu:none", "none"), ("bleu:epsilon", "epsilon"), ("bleu:skip", "skip")],
)
def test_a_bleu_reward_can_be_named_with_its_smoothing(spec: str, smoothing: str, task: Task) -> None:
    bleu = build_reward_model(spec, task).bleu
    assert (bleu.smoothing, bleu.max_order) == (smoothing, 3)


def test_rewards_that_draw_take_the_generator_that_is_given_or_that_of_seed_zero(task: Task) -> None:
    rng = np.random.default_rng(5)
    assert build_reward_model("random", task, rng=rng).rng is rng
    assert build_reward_model("shuffled", task, rng=rng).rng is rng
    draws = [build_reward_model("random", task)(torch.zeros(4, 3)).tolist() for _ in range(2)]
    assert draws[0] == draws[1] == RandomReward(np.random.default_rng(0))(torch.zeros(4, 3)).tolist()
    train = task.real_sequences("train")
    given = build_reward_model("bleu", task, rng=np.random.default_rng(5))
    assert torch.equal(given(train), BLEUReward(train, 3, rng=np.random.default_rng(5))(train))


def test_the_oracles_reward_must_be_asked_for(task: Task) -> None:
    reward = build_reward_model("oracle", task)
    assert isinstance(reward, OracleReward)
    assert reward.oracle is task.oracle


def test_rewards_of_ones_own_are_named_by_module_and_attribute(task: Task) -> None:
    instance = build_reward_model(f"{HERE}:OwnReward", task)
    assert isinstance(instance, OwnReward)
    assert instance.sequence_length == 3
    assert build_reward_model(f"{HERE}:own_reward", task) is own_reward
    assert isinstance(build_reward_model(f"{HERE}:OwnModule", task), DiscriminatorReward)


def test_objects_are_taken_as_they_are_and_modules_as_discriminators(task: Task) -> None:
    module = OwnModule()
    assert build_reward_model(own_reward, task) is own_reward
    assert build_reward_model(module, task).discriminator is module


@pytest.mark.parametrize(
    ("spec", "model_class"),
    [
        (None, CNNDiscriminator),
        ("cnn", CNNDiscriminator),
        ("rcnn", RCNNDiscriminator),
        ("bigru", GRUDiscriminator),
        ("transformer", TransformerDiscriminator),
        ("ensemble", DiscriminatorEnsemble),
        (f"{HERE}:OwnDiscriminator", OwnDiscriminator),
    ],
)
def test_a_discriminator_is_built_for_the_task_it_is_named_for(
    spec: str | None, model_class: type[Discriminator], task: Task
) -> None:
    model = build_discriminator(spec, task)
    assert type(model) is model_class
    assert (model.vocab_size, model.sequence_length) == (task.vocab_size, task.sequence_length)


def test_options_reach_the_discriminators_that_take_them(task: Task) -> None:
    options = {"seed": 5, "dropout": 0.125, "filters": "light"}
    light = build_discriminator("cnn", task, **options)
    assert torch.equal(light.embedding.weight, CNNDiscriminator(3, 3, "light", seed=5).embedding.weight)
    assert (light.dropout.p, light.filters[0]) == (0.125, (1, 64))
    assert build_discriminator("bigru", task, **options).dropout.p == 0.125
    assert build_discriminator(f"{HERE}:OwnDiscriminator", task, **options).seed == 5


def test_an_ensemble_has_one_of_each_kind_or_those_that_are_named_with_seeds_of_their_own(task: Task) -> None:
    assert [type(member) for member in build_discriminator("ensemble", task).members] == list(DISCRIMINATORS.values())
    twins = build_discriminator("ensemble:bigru+bigru", task, seed=7, l2=0.5).members
    for seed, member in zip((7, 8), twins, strict=True):
        assert torch.equal(member.embedding.weight, GRUDiscriminator(3, 3, seed=seed).embedding.weight)
        assert member.l2 == 0.5


def test_a_discriminator_in_a_file_of_ones_own_is_found_by_module_and_class(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from torch import nn
from seqgan_env.models.discriminators import Discriminator

class MyNet(Discriminator):
    def __init__(self, vocab_size, sequence_length):
        super().__init__(vocab_size, sequence_length)
        self.scores = nn.EmbeddingBag(vocab_size + 1, 1, mode="sum")

    def forward(self, sequences):
        return self.scores(sequences).squeeze(1)
"""
    (tmp_path / "my_own_module.py").write_text(source)
    (tmp_path / "my_faulty_module.py").write_text(source.replace(".squeeze(1)", ".squeeze(1).detach()"))
    monkeypatch.syspath_prepend(tmp_path)
    assert type(build_discriminator("my_own_module:MyNet", task)).__name__ == "MyNet"
    with pytest.raises(ValueError, match=r"MyNet.forward returned logits without a gradient"):
        build_discriminator("my_faulty_module:MyNet", task)


def test_a_discriminator_object_is_taken_as_it_is(task: Task) -> None:
    own = OwnDiscriminator(task)
    assert build_discriminator(own, task) is own


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rnn", ValueError, "discriminator='rnn' is neither a known name nor"),
        ("ensemble:cnn+rnn", ValueError, r"discriminator='ensemble:cnn\+rnn': members must be among \['cnn', 'rcnn'"),
        (
            "no_such_module:Net",
            ValueError,
            "cannot be loaded: .*; is the folder of no_such_module the current one",
        ),
        (f"{HERE}:FailingDiscriminator", ValueError, ":FailingDiscriminator' cannot be built: RuntimeError: no luck$"),
        (f"{HERE}:NoSuchNet", ValueError, "has no attribute 'NoSuchNet'$"),
        (f"{HERE}:OwnModule", TypeError, "OwnModule is not a discriminator; derive it from .*Discriminator"),
        (f"{HERE}:ColumnDiscriminator", ValueError, r"forward returned shape \(8, 1\), expected \(8,\)"),
        (CNNDiscriminator(4, 3), ValueError, "CNNDiscriminator has vocab_size=4, the task 'toy' has 3"),
        (3, TypeError, "int is not a discriminator"),
    ],
)
def test_a_wrong_discriminator_is_refused_by_its_fault(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(error, match=message):
        build_discriminator(spec, task)


def test_a_module_that_fails_while_it_is_imported_is_told_from_one_that_is_missing(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_broken_module.py").write_text("1 / 0")
    (tmp_path / "my_needy_module.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"my_broken_module:Net' cannot be loaded: ZeroDivisionError: division"):
        build_discriminator("my_broken_module:Net", task)
    with pytest.raises(ValueError, match=r"cannot be loaded: No module named 'no_such_dependency'$"):
        build_discriminator("my_needy_module:Net", task)


@pytest.mark.parametrize("spec", [None, *GENERATORS])
def test_a_generator_is_built_for_the_task_it_is_named_for(spec: str | None, eos_task: Task) -> None:
    options = {"embedding_size": 5, "hidden_size": 6, "init_std": 0.5, "seed": 9}
    model = build_generator(spec, eos_task, **options, dropout=0.5)  # which none of them has
    assert type(model) is GENERATORS[spec or "lstm"]
    assert model.vocab_size == eos_task.vocab_size
    assert getattr(model, "sequence_length", 5) == eos_task.sequence_length == 5
    sizes = {"sequence_length": 5} if hasattr(model, "sequence_length") else {}
    expected = type(model)(4, **options, **sizes)
    sequences = eos_task.real_sequences("train")
    assert torch.equal(model.log_probs(sequences), expected.log_probs(sequences))


def test_a_generator_of_ones_own_is_named_or_taken_as_it_is(task: Task) -> None:
    own = build_generator(f"{HERE}:OwnGenerator", task, hidden_size=6, embedding_size=7, seed=3)
    assert isinstance(own, OwnGenerator)
    assert (own.hidden_size, own.seed) == (6, 3)
    assert build_generator(own, task) is own


def test_one_object_that_many_name_is_copied_for_each(task: Task) -> None:
    """Else trying a part out would train the run's."""
    builds = ((build_generator, "SHARED_GENERATOR"), (build_discriminator, "SHARED_DISCRIMINATOR"))
    for build, name in builds:
        first, second = (build(f"{HERE}:{name}", task) for _ in range(2))
        assert first is not second
        assert first is not globals()[name]
        assert torch.equal(*(next(model.parameters()) for model in (first, second)))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rnn", ValueError, "generator='rnn' is neither a known name nor"),
        ("lstm:2", ValueError, "generator='lstm:2' cannot be loaded"),
        (f"{HERE}:ForgetfulGenerator", ValueError, "ForgetfulGenerator"),
        (f"{HERE}:OwnGenerator", ValueError, "cannot be built: TypeError: .*missing 1 required .* 'hidden_size'"),
        (f"{HERE}:OwnPolicy", TypeError, "OwnPolicy is not a sequence model; derive it from .*SequenceModel"),
        (
            LSTMSequenceModel(4),
            ValueError,
            "LSTMSequenceModel has vocab_size=4, the task 'toy' has 3; they must",
        ),
        (GENERATORS["transformer"](3, sequence_length=2), ValueError, "sequence_length=2 .* is too small"),
        (3, TypeError, "int is not a sequence model"),
    ],
)
def test_a_wrong_generator_is_refused_by_its_fault(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    options = {"hidden_size": 4} if spec == f"{HERE}:ForgetfulGenerator" else {}
    with pytest.raises(error, match=message):
        build_generator(spec, task, **options)


@pytest.mark.parametrize(("spec", "order"), [("ngram", 2), ("ngram:1", 1), ("ngram:3", 3)])
def test_an_ngram_policy_is_fitted_on_the_training_sequences(spec: str, order: int) -> None:
    splits = {"train": torch.tensor([[2, 1, 0]]), "validation": torch.tensor([[1, 1, 1]])}
    policy = build_rollout_policy(spec, Task("steps", 3, 3, lambda split: splits[split]))
    assert isinstance(policy, NGramPolicy)
    assert policy.order == order
    drawn = policy.draw(policy.initial_state(1), torch.linspace(0.2, 0.99, 50).unsqueeze(0))
    assert set(drawn[0].tolist()) == ({0, 1, 2} if order == 1 else {2})  # 0.1 of backoff lies below


@pytest.mark.parametrize("spec", [None, "uniform"])
def test_the_default_roll_out_policy_is_uniform(spec: str | None, task: Task) -> None:
    policy = build_rollout_policy(spec, task)
    assert isinstance(policy, UniformPolicy)
    assert policy.vocab_size == 3


def test_a_sequence_model_is_copied_as_a_roll_out_policy(model: LSTMSequenceModel, task: Task) -> None:
    policy = build_rollout_policy(model, task)
    assert isinstance(policy, DelayedCopy)
    assert policy.model is not model
    assert torch.equal(policy.model.embedding, model.embedding)
    oracle = build_rollout_policy("oracle", task)
    assert torch.equal(oracle.model.embedding, task.oracle.embedding)


def test_a_policy_of_ones_own_is_taken_as_it_is_or_named(task: Task) -> None:
    own = OwnPolicy(task)
    assert build_rollout_policy(own, task) is own
    assert build_rollout_policy(f"{HERE}:OwnPolicy", task).task is task


def test_a_class_gets_only_the_arguments_that_it_takes(task: Task) -> None:
    policy = load_attribute("seqgan_env.rollout_policies:UniformPolicy", "rollout_policy", task)
    assert policy.vocab_size == 3


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("discriminater", ValueError, "reward_model='discriminater' is neither a known name nor"),
        ("bleu:exp", ValueError, "smoothing='exp' must be one of"),
        ("random:1", ValueError, "reward_model='random:1' cannot be loaded"),
        ("shuffled:bleu", ValueError, "reward_model='shuffled:bleu' cannot be loaded"),
        ("constant:high", ValueError, "reward_model='constant:high': 'high' is not a number"),
        ("no_such_module:Thing", ValueError, "reward_model='no_such_module:Thing' cannot be loaded"),
        (f"{HERE}:NoSuchThing", ValueError, "cannot be loaded"),
        (f"{HERE}:", ValueError, "neither a known name nor"),
        (":Thing", ValueError, "neither a known name nor"),
        (3, TypeError, "reward_model must be callable, got int"),
        (f"{HERE}:HERE", TypeError, "reward_model must be callable, got str"),
    ],
)
def test_a_wrong_reward_model_is_refused_by_name(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(error, match=message):
        build_reward_model(spec, task)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("unifrom", ValueError, "rollout_policy='unifrom' is neither a known name nor"),
        ("no_such_module:Thing", ValueError, "rollout_policy='no_such_module:Thing' cannot be loaded"),
        ("ngram:two", ValueError, "rollout_policy='ngram:two': 'two' is not an order, as in 'ngram:3'"),
        ("ngram:0", ValueError, "order=0 must be at least 1"),
        (UniformPolicy(4), ValueError, "rollout_policy has vocab_size=4, the task has 3"),
        (LSTMSequenceModel(5), ValueError, "rollout_policy has vocab_size=5, the task has 3"),
        (3, TypeError, "rollout_policy must have vocab_size, initial_state, advance and draw, got int"),
        (Unfinished(), TypeError, "rollout_policy must have .*, got Unfinished"),
    ],
)
def test_a_wrong_roll_out_policy_is_refused_by_name(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(error, match=message):
        build_rollout_policy(spec, task)


def test_the_oracle_cannot_be_asked_of_a_task_without_one() -> None:
    with pytest.raises(ValueError, match="reward_model='oracle': the task 'bare' has no oracle"):
        build_reward_model("oracle", bare_task())
    with pytest.raises(ValueError, match="rollout_policy='oracle': the task 'bare' has no oracle"):
        build_rollout_policy("oracle", bare_task())
