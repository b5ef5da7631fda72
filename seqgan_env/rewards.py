"""Eq. 2: reward models, anything that scores whole sequences.

In: sequences (R, T) int64, PAD = V after the end. Out: rewards (R,) floats, finite; higher is better.
The paper's reward is D_phi(Y), the probability that Y is real; its rival PG-BLEU takes BLEU against real sequences.
Null rewards (constant, random, shuffled) are here too. They show what a policy gradient without a baseline does even if
the reward says nothing.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqgan_env.arguments import check_number
from seqgan_env.measures.bleu import BLEU, Smoothing
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.parameters import at_least_float32
from seqgan_env.models.sequence_models import SequenceModel


@runtime_checkable
class RewardModel(Protocol):
    """Scores whole sequences. Any callable with this signature is a reward model.

    A model with a state has `state_dict()` and `load_state_dict(state)`, nested dicts of tensors and JSON values. A
    model that draws random numbers keeps its NumPy generator in an attribute `rng`. Checkpoints then hold both. An
    environment that was given the model's name seeds `rng` at each reset with a seed.
    """

    def __call__(self, sequences: Tensor, /) -> Tensor:
        """(R, T) int64, PAD = V after the end -> (R,) finite floats."""


def reward_state(reward_model: RewardModel) -> dict[str, Any]:
    """A reward model's own state for a checkpoint, see `RewardModel`; empty if it has no state."""
    state: dict[str, Any] = {}
    if hasattr(reward_model, "state_dict"):
        state["own"] = reward_model.state_dict()
    if isinstance(rng := getattr(reward_model, "rng", None), np.random.Generator):
        state["rng"] = rng.bit_generator.state
    return state


def load_reward_state(reward_model: RewardModel, state: dict[str, Any]) -> None:
    """Set what `reward_state` returned."""
    if "own" in state:
        reward_model.load_state_dict(state["own"])  # type: ignore[attr-defined]
    if "rng" in state:
        reward_model.rng.bit_generator.state = state["rng"]  # type: ignore[attr-defined]


class DiscriminatorReward:
    """Eq. 2's D_phi(Y) = sigmoid(logit), a probability; dropout is off while scoring.

    Args:
        discriminator: D_phi; its trainer holds the same object.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.sigmoid(self.logits(sequences))

    @torch.no_grad()
    def logits(self, sequences: Tensor) -> Tensor:
        """(R, T) int64 -> (R,) float32, or float64 of a float64 discriminator."""
        if isinstance(self.discriminator, Discriminator):
            return at_least_float32(self.discriminator.score(sequences))
        was_training = self.discriminator.training
        self.discriminator.eval()
        try:
            return at_least_float32(self.discriminator(sequences))
        finally:
            self.discriminator.train(was_training)


class LogitReward(DiscriminatorReward):
    """log(D / (1 - D)), the logit of D. For the best D it is log(p_real(Y) / G(Y)), where G drew D's negatives."""

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return self.logits(sequences)


class AnchoredReward:
    """R(Y) - weight * log(G(Y) / G_0(Y)): its expectation is E[R] - weight * KL(G || G_0), in nats per sequence.

    The generator that maximises it is G_0(Y) exp(R(Y) / weight), up to a factor. With `LogitReward`, weight 1 and the
    best D against G_0, this is the real distribution. Without an anchor the best generator repeats the one sequence
    that D scores highest.

    Args:
        reward_model: R.
        generator: G; its learner holds the same object.
        anchor: G_0, which does not change while G learns; set it with `set_anchor`.
        weight: finite, above 0.

    Raises:
        ValueError: if weight is infinite, or not above 0.
    """

    def __init__(
        self, reward_model: RewardModel, generator: SequenceModel, anchor: SequenceModel, weight: float
    ) -> None:
        check_number("weight", weight, above=0, hint="without an anchor use the reward model itself")
        self.reward_model = reward_model
        self.generator = generator
        self.anchor = anchor.requires_grad_(False)
        self.weight = weight

    def set_anchor(self) -> None:
        """G_0 <- G."""
        self.anchor.load_state_dict(self.generator.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """G_0's parameters and the state of the inner reward model. G is not included: its learner saves it."""
        return {"anchor": dict(self.anchor.state_dict()), "reward_model": reward_state(self.reward_model)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.anchor.load_state_dict(state["anchor"])
        load_reward_state(self.reward_model, state["reward_model"])

    @torch.no_grad()
    def __call__(self, sequences: Tensor, /) -> Tensor:
        sequences = sequences.to(self.generator.device)
        drift = (self.generator.log_probs(sequences) - self.anchor.log_probs(sequences)).sum(dim=1)
        return self.reward_model(sequences).to(drift) - self.weight * drift


class ConstantReward:
    """The same reward for every sequence: the null twin of any reward.

    Args:
        value: finite; an undecided discriminator gives 0.5.

    Raises:
        ValueError: if it is NaN or infinite.
    """

    def __init__(self, value: float = 0.5) -> None:
        check_number("value", value)
        self.value = value

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.full((sequences.shape[0],), self.value, dtype=torch.float32, device=sequences.device)


class RandomReward:
    """Uniform in [0, 1) and independent of the sequence: a null reward with noise.

    A mean over N completions has 1/N of the variance. An environment that was given `reward_model="random"` seeds `rng`
    at each reset with a seed. An environment does not seed an object that you pass: seed it yourself, since several
    environments may share it.

    Args:
        rng: source of all randomness.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.from_numpy(self.rng.random(len(sequences), dtype=np.float32))


class ShuffledReward:
    """Another model's rewards, permuted over the batch: the same values, on the wrong sequences.

    The whole batch that is scored at once is permuted. In the search this batch holds all completions of all prefixes
    and all finished sequences of the step. So Q_t of a prefix is the mean of N rewards of the batch, drawn without
    replacement, and its expectation is the mean of the batch for every prefix. This mean remains. It changes with t and
    with training, and a sequence's own rewards contribute to it: the expected policy gradient is 1/B of the wrapped
    model's. With B = 1, a single environment, it is the whole gradient: there the shuffle hides nothing. `rng` is
    seeded like that of `RandomReward`.

    Args:
        reward_model: whose rewards are permuted.
        rng: source of the permutations.
    """

    def __init__(self, reward_model: RewardModel, rng: np.random.Generator) -> None:
        self.reward_model = reward_model
        self.rng = rng

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.from_numpy(self.rng.permutation(score_sequences(self.reward_model, sequences)))

    def state_dict(self) -> dict[str, Any]:
        """The state of the inner reward model."""
        return {"reward_model": reward_state(self.reward_model)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        load_reward_state(self.reward_model, state["reward_model"])


class BLEUReward:
    """PG-BLEU's reward: sentence BLEU against a random share of the real sequences, equal weights of orders 1 to N.

    The paper gives no details. The authors' code (2016) takes BLEU-3, each training sequence with probability 0.4 (here
    exactly this share of them), and one completion per prefix, which is `n_rollouts=1` of the environment. It uses nltk
    without smoothing, and nltk then left out orders without a match: `smoothing="skip"`. With it a sequence that shares
    no bigram with the references gets more than one that shares a few. Uniform noise then gets more than real
    sequences, at least than those of an oracle. The default here is nltk's method1, "epsilon".

    Args:
        sequences: (M, T) int64 real sequences, PAD after the end.
        vocab_size: V.
        prompt_length: P, the first tokens of every sequence, which are not compared; 0 without prompts.
        share: the share of the sequences that are references, in (0, 1] (2016: 0.4).
        max_order: the longest n-grams that count (2016: 3).
        smoothing: see `seqgan_env.measures.bleu.Smoothing` (2016: "skip").
        rng: chooses the references, once.

    Raises:
        ValueError: if `share` is out of range, or if `BLEU` raises it.
    """

    def __init__(
        self,
        sequences: Tensor,
        vocab_size: int,
        *,
        prompt_length: int = 0,
        share: float = 0.4,
        max_order: int = 3,
        smoothing: Smoothing = "epsilon",
        rng: np.random.Generator,
    ) -> None:
        check_number("share", share, above=0, at_most=1)
        chosen = rng.permutation(len(sequences))[: max(round(share * len(sequences)), 1)]
        self.prompt_length = prompt_length
        self.bleu = BLEU(sequences[:, prompt_length:].cpu().numpy()[chosen], vocab_size, max_order, smoothing)

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.from_numpy(self.bleu.sentences(sequences[:, self.prompt_length :].cpu().numpy()))


class OracleReward:
    """Likelihood of a sequence under the oracle, geometric mean per token: exp(mean_t log p(y_t)), in (0, 1].

    This reward tells the learner the answer. Use it for tests and upper bounds, never for a result.

    Args:
        oracle: the known distribution.
    """

    def __init__(self, oracle: SequenceModel) -> None:
        self.oracle = oracle

    def __call__(self, sequences: Tensor, /) -> Tensor:
        log_probs = self.oracle.log_probs(sequences)
        counted = self.oracle.counted(sequences).to(log_probs.device)
        return (log_probs.sum(dim=1) / counted.sum(dim=1).clamp(min=1)).exp()


def score_sequences(reward_model: RewardModel, sequences: Tensor) -> npt.NDArray[np.float64]:
    """Score (R, T) sequences and check the rewards: (R,) float64.

    Raises:
        TypeError: if the reward model returns something that is not an array of numbers.
        ValueError: if it returns another shape, NaN or infinity.
    """
    with torch.no_grad():
        returned = reward_model(sequences)
    name = getattr(reward_model, "__name__", type(reward_model).__name__)
    return checked_rewards(returned, sequences, name)


def checked_rewards(returned: object, sequences: Tensor, name: str) -> npt.NDArray[np.float64]:
    """Check the rewards that a reward model returned for (R, T) sequences, and return them as (R,) float64.

    Args:
        returned: a tensor or array of any real dtype, or a list of numbers.
        sequences: the sequences that it scored.
        name: of the reward model, for messages.

    Raises:
        TypeError, ValueError: as `score_sequences`.
    """
    count, whose = len(sequences), f"the reward model is {name}"
    try:
        if isinstance(returned, Tensor):
            rewards = returned.detach().to("cpu", torch.float64).numpy()
        else:
            rewards = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"reward_model must return a tensor of {count} numbers, got {type(returned).__name__}; {whose}"
        ) from error
    if rewards.shape != (count,):
        raise ValueError(
            f"reward_model returned shape {rewards.shape} for {count} sequences; expected ({count},), one reward per "
            f"sequence; {whose}"
        )
    finite = np.isfinite(rewards)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"reward_model returned {rewards[bad]} for sequence {sequences[bad].tolist()}; rewards must be finite; "
            f"{whose}"
        )
    return rewards
