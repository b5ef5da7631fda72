"""Builds objects from the strings that `gym.make` and the command line take.

In: an object or a string, and the task it is for. Out: a reward model, a discriminator, a generator, a roll-out policy.
Name a part of your own by "module:Attribute"; there is no registry.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
from torch import nn

from seqgan_env.measures.bleu import Smoothing
from seqgan_env.mixed_reward import MixedReward, is_mixed, reward_terms
from seqgan_env.models.attention_models import AttentionLSTMSequenceModel, TransformerSequenceModel
from seqgan_env.models.context_discriminators import GRUDiscriminator, RCNNDiscriminator, TransformerDiscriminator
from seqgan_env.models.discriminator_ensemble import DiscriminatorEnsemble
from seqgan_env.models.discriminators import CNNDiscriminator, Discriminator
from seqgan_env.models.pretrained import PREFIX, is_pretrained, source_of
from seqgan_env.models.pretrained_discriminator import PretrainedDiscriminator
from seqgan_env.models.pretrained_generator import PretrainedGenerator
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, SequenceModel
from seqgan_env.relativistic import REAL_SEQUENCES, RelativisticReward
from seqgan_env.rewards import (
    BLEUReward,
    ConstantReward,
    DiscriminatorReward,
    LogitReward,
    OracleReward,
    RandomReward,
    RewardModel,
    ShuffledReward,
)
from seqgan_env.rollout_policies import DelayedCopy, NGramPolicy, RolloutPolicy, UniformPolicy
from seqgan_env.tasks.task import Task
from seqgan_env.testing import check_discriminator, check_sequence_model

Model = TypeVar("Model", bound=nn.Module)
DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "cnn": CNNDiscriminator,
    "rcnn": RCNNDiscriminator,
    "bigru": GRUDiscriminator,
    "transformer": TransformerDiscriminator,
}
GENERATORS: dict[str, type[SequenceModel]] = {
    "lstm": LSTMSequenceModel,
    "gru": GRUSequenceModel,
    "transformer": TransformerSequenceModel,
    "attention": AttentionLSTMSequenceModel,
}


def build_reward_model(
    spec: Any, task: Task, discriminator: nn.Module | None = None, rng: np.random.Generator | None = None
) -> RewardModel:
    """Build the reward model that an environment's `reward_model=` names.

    Args:
        spec: a RewardModel; an nn.Module that returns logits (a discriminator); or a string: "discriminator" (also for
            None; its probability), "logit" (its logit), "relativistic" (its logit less that of real sequences),
            "shuffled" or "shuffled:logit" (the same rewards, permuted over the batch), "bleu" (against 40 % of the
            training sequences) or "bleu:skip" to give its smoothing, "random", "constant" or "constant:0.3", "oracle",
            "module:Attribute" of your own, or a weighted sum of such names, as in "0.5*discriminator +
            1.0*my_module:verifier".
        task: what the reward is for.
        discriminator: used by "discriminator", "logit", "relativistic" and "shuffled"; None makes a new CNN.
        rng: used by "shuffled", "bleu" and "random"; None makes a generator with seed 0. An environment seeds it again
            at each reset with a seed.

    Raises:
        ValueError: for an unknown string.
        TypeError: for any other object that is not callable.
    """
    if spec is None:
        spec = "discriminator"
    if isinstance(spec, str):
        rng = np.random.default_rng(0) if rng is None else rng
        name, _, argument = spec.partition(":")
        if is_mixed(spec):
            terms = reward_terms(spec)
            return MixedReward(terms, [build_reward_model(term.name, task, discriminator, rng) for term in terms])
        if is_learned_reward(spec):
            if discriminator is None:
                discriminator = CNNDiscriminator(task.vocab_size, task.sequence_length)
            if spec == "relativistic":
                return RelativisticReward(discriminator, task.some_sequences("train", REAL_SEQUENCES))
            reward = LogitReward(discriminator) if spec.endswith("logit") else DiscriminatorReward(discriminator)
            return ShuffledReward(reward, rng) if name == "shuffled" else reward
        if name == "bleu":
            smoothing = cast(Smoothing, argument or "epsilon")
            real, given = task.real_sequences("train"), task.prompt_length
            return BLEUReward(real, task.vocab_size, prompt_length=given, smoothing=smoothing, rng=rng)
        if spec == "random":
            return RandomReward(rng)
        if name == "constant":
            try:
                return ConstantReward(float(argument)) if argument else ConstantReward()
            except ValueError:
                hint = "is not a number, or not a finite one, as in 'constant:0.5'"
                raise ValueError(f"reward_model={spec!r}: {argument!r} {hint}") from None
        if spec == "oracle":
            if task.oracle is None:
                raise ValueError(f"reward_model='oracle': the task {task.name!r} has no oracle")
            return OracleReward(task.oracle)
        spec = load_attribute(spec, "reward_model", task)
    if isinstance(spec, nn.Module):
        return DiscriminatorReward(spec)
    if not callable(spec):
        raise TypeError(f"reward_model must be callable, got {type(spec).__name__}; give (R, T) tokens -> (R,) rewards")
    model: RewardModel = spec
    return model


def is_learned_reward(spec: str) -> bool:
    """Whether the reward model of this name uses a discriminator. The discriminator must then be trained."""
    if is_mixed(spec):
        return any(is_learned_reward(term.name) for term in reward_terms(spec))
    return spec in ("discriminator", "logit", "relativistic", "shuffled", "shuffled:logit")


def build_discriminator(spec: Any, task: Task, **options: Any) -> Discriminator:
    """Build the discriminator that `discriminator=` names. A class from outside this project is checked.

    Args:
        spec: a `Discriminator`; or a string: "cnn" (also for None), "rcnn", "bigru", "transformer", "ensemble" (one of
            each), "ensemble:cnn+cnn+rcnn" of your choice, "hf:PATH" or "hf:NAME", a pretrained model of the extra
            `transformers`, or "module:Class" of your own.
        task: what it is for.
        options: constructor arguments, such as seed or dropout; arguments that the class does not have are left out.
            The members of an ensemble get seed, seed + 1, ... as seeds.

    Raises:
        ImportError: for "hf:..." without the extra `transformers`.
        TypeError: for anything that is not a `Discriminator`.
        ValueError: for a string that names nothing, or a discriminator with a fault, which the message names.
    """
    spec = "cnn" if spec is None else spec
    name, _, argument = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name in DISCRIMINATORS and not argument:
        model: Discriminator = _call(DISCRIMINATORS[name], task, **options)
        return model
    if name == "ensemble":
        kinds = argument.split("+") if argument else list(DISCRIMINATORS)
        if not set(kinds) <= set(DISCRIMINATORS):
            raise ValueError(f"discriminator={spec!r}: members must be among {list(DISCRIMINATORS)}, joined by '+'")
        seed = options.pop("seed", 0)
        members = [build_discriminator(kind, task, **options, seed=seed + place) for place, kind in enumerate(kinds)]
        return DiscriminatorEnsemble(members)
    if isinstance(spec, str) and is_pretrained(spec):
        pretrained: Discriminator = _call(PretrainedDiscriminator, task, **_with_source(spec, options))
        return pretrained
    model = load_attribute(spec, "discriminator", task, **options) if isinstance(spec, str) else spec
    check_discriminator(model, task)
    return _own(model, spec)


def build_generator(spec: Any, task: Task, **options: Any) -> SequenceModel:
    """Build the generator that `generator=` names. A class from outside this project is checked.

    Args:
        spec: a `SequenceModel`; or a string: "lstm" (also for None), "gru", "transformer", "attention" (an LSTM that
            attends to its own past), "hf:PATH" or "hf:NAME", a pretrained model of the extra `transformers`, or
            "module:Class" of your own, whose module is then imported.
        task: what it is for.
        options: constructor arguments, such as seed or hidden_size; arguments that the class does not have are left
            out.

    Raises:
        ImportError: for "hf:..." without the extra `transformers`.
        TypeError: for anything that is not a `SequenceModel`.
        ValueError: for a string that names nothing, or a generator with a fault, which the message names.
    """
    spec = "lstm" if spec is None else spec
    is_own = False
    if isinstance(spec, str) and spec in GENERATORS:
        model = _call(GENERATORS[spec], task, **options)
    elif isinstance(spec, str) and is_pretrained(spec):
        model = _call(PretrainedGenerator, task, **_with_source(spec, options))
    else:
        model = load_attribute(spec, "generator", task, **options) if isinstance(spec, str) else spec
        if isinstance(model, SequenceModel) and model.vocab_size != task.vocab_size:
            raise ValueError(
                f"{type(model).__name__} has vocab_size={model.vocab_size}, the task {task.name!r} has "
                f"{task.vocab_size}; they must be equal"
            )
        model, is_own = _own(model, spec), True
    if isinstance(model, SequenceModel):
        model.prompt_length = task.prompt_length
    if is_own:
        check_sequence_model(model, sequence_length=task.sequence_length)
    generator: SequenceModel = model
    return generator


def _with_source(spec: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a pretrained model with its source, which need not exist where `folder` has a copy of it."""
    stored = options.get("folder") is not None
    return {**options, "source": spec.removeprefix(PREFIX) if stored else source_of(spec)}


def load_attribute(spec: str, argument: str, task: Task, **options: Any) -> Any:
    """Load what "module:Attribute" names. A class is called at once.

    It gets the task, the task's sizes and the options, as far as its constructor has such arguments.

    Raises:
        ValueError: if the string has another form, if the import fails, or if the class raises an error.
    """
    value = imported_attribute(spec, argument)
    if not inspect.isclass(value):
        return value
    try:
        return _call(value, task, **options)
    except Exception as error:
        raise ValueError(f"{argument}={spec!r} cannot be built: {type(error).__name__}: {error}") from error


def imported_attribute(spec: str, argument: str) -> Any:
    """Import what "module:Attribute" names. The import executes the module.

    Raises:
        ValueError: if the string has another form, or if the import fails.
    """
    module_name, separator, attribute = spec.partition(":")
    if not separator or not module_name or not attribute:
        raise ValueError(f"{argument}={spec!r} is neither a known name nor of the form 'module:Attribute'")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name in (module_name, module_name.split(".")[0])
        hint = f"; is the folder of {module_name} the current one, or on PYTHONPATH?" if is_missing else ""
        raise ValueError(f"{argument}={spec!r} cannot be loaded: {error}{hint}") from error
    except Exception as error:  # whatever the user's own module raises while it is imported
        raise ValueError(f"{argument}={spec!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _own(model: Model, spec: Any) -> Model:
    """A model that only the caller holds. "module:attribute" may name one object, which every caller would share."""
    return copy.deepcopy(model) if isinstance(spec, str) else model


def _call(constructor: type, task: Task, **options: Any) -> Any:
    """Make an object. Pass those of task, vocab_size, sequence_length and options that its constructor has."""
    offered = {"task": task, "vocab_size": task.vocab_size, "sequence_length": task.sequence_length, **options}
    accepted = inspect.signature(constructor).parameters
    return constructor(**{name: given for name, given in offered.items() if name in accepted})


def build_rollout_policy(spec: Any, task: Task) -> RolloutPolicy:
    """Build the roll-out policy that an environment's `rollout_policy=` names.

    Args:
        spec: a RolloutPolicy (a SequenceModel is copied, so that the original does not change); or a string: "uniform"
            (also for None), "ngram" (bigrams of the task's training sequences) or "ngram:3" to give the order,
            "oracle", or "module:Attribute" of your own.
        task: what it is for.

    Raises:
        ValueError: for an unknown string, or for a policy with another vocabulary size.
        TypeError: for an object without the protocol's methods.
    """
    if spec is None:
        spec = "uniform"
    if isinstance(spec, str):
        name, _, argument = spec.partition(":")
        if spec == "uniform":
            return UniformPolicy(task.vocab_size)
        if name == "ngram":
            if argument and not argument.isdecimal():
                raise ValueError(f"rollout_policy={spec!r}: {argument!r} is not an order, as in 'ngram:3'")
            return NGramPolicy(task.real_sequences("train"), task.vocab_size, int(argument or 2))
        if spec == "oracle":
            if task.oracle is None:
                raise ValueError(f"rollout_policy='oracle': the task {task.name!r} has no oracle")
            return DelayedCopy(task.oracle)
        spec = load_attribute(spec, "rollout_policy", task)
    if isinstance(spec, SequenceModel):
        spec = DelayedCopy(spec)
    if not isinstance(spec, RolloutPolicy):
        raise TypeError(
            f"rollout_policy must have vocab_size, initial_state, advance and draw, got {type(spec).__name__}"
        )
    if spec.vocab_size != task.vocab_size:
        raise ValueError(
            f"rollout_policy has vocab_size={spec.vocab_size}, the task has {task.vocab_size}; they must be equal"
        )
    return spec
