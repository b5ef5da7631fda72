"""SB3 policies around a sequence model, and what lets SB3's own policies read and continue prefixes.

In: observations (B, T), prefixes padded with PAD = V, which SB3 may have cast to float. Out: next tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from seqgan_env.models.sampling import draw_from_logits, draw_tokens
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, State, shift_right


class SequencePolicy(ActorCriticPolicy):
    """An SB3 actor-critic policy whose actor is a sequence model G_theta(y_t | Y_{1:t-1}) (Eq. 9-10).

    The value head reads the same hidden state and starts at 0. With REINFORCE, gradients of whole sequences go through
    `generator` directly; with PPO and A2C, through `evaluate_actions`.

    Args:
        observation_space: Box(0, V, (T,), int64).
        action_space: Discrete(V).
        lr_schedule: SB3's learning-rate schedule.
        generator: the sequence model to play with, used as it is and not copied; None makes an LSTM.
        embedding_size, hidden_size, init_std: of that LSTM (authors' code: 32, 32, 0.1).
        kwargs: of ActorCriticPolicy (optimizer_class, optimizer_kwargs, ...).

    Raises:
        ValueError: if the generator's vocabulary is not the action space.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        generator: SequenceModel | None = None,
        embedding_size: int = 32,
        hidden_size: int = 32,
        init_std: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"action_space={action_space} must be Discrete(V), one action a token")
        vocab_size = int(action_space.n)
        if generator is None:
            seed = int(torch.randint(2**31, ()))  # from the generator that SB3 seeds
            generator = LSTMSequenceModel(vocab_size, embedding_size, hidden_size, init_std, seed)
        if generator.vocab_size != vocab_size:
            raise ValueError(f"generator has vocab_size={generator.vocab_size}, the environment {vocab_size} actions")
        self._given_generator = (generator,)  # a module may be assigned only after nn.Module.__init__
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        (self.generator,) = self._given_generator
        del self._given_generator
        self.value_net = nn.Linear(self.generator.hidden_size, 1)
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "generator": self.generator,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def prefix_features(self, obs: Tensor) -> Tensor:
        """h_t after each prefix: (B, T) of any dtype -> (B, H) float32, differentiable."""
        sequences = obs.long()
        lengths = (sequences < self.generator.vocab_size).sum(dim=1)  # (B,)
        lengths = lengths.clamp(max=sequences.shape[1] - 1)  # a finished sequence: its value is never used
        longest = int(lengths.max())
        hidden = self.generator.hidden_states(shift_right(sequences, self.generator.vocab_size)[:, : longest + 1])
        return hidden[torch.arange(len(sequences), device=hidden.device), lengths]

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,) int64, values (B, 1), log-probabilities of the actions (B,) in nats."""
        hidden = self.prefix_features(obs)
        actions = self._act(hidden, deterministic)
        log_prob = self.generator.output.log_probs(hidden, actions)
        return actions, self.value_net(hidden), log_prob

    def _act(self, hidden: Tensor, deterministic: bool) -> Tensor:
        if deterministic:
            return self.generator.output(hidden).argmax(dim=1)
        uniforms = torch.rand(len(hidden), 1, device=hidden.device)
        return draw_tokens(self.generator.output, hidden, uniforms).squeeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        return self._act(self.prefix_features(observation), deterministic)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropies (B,) in nats, differentiable."""
        assert isinstance(obs, Tensor)
        hidden = self.prefix_features(obs)
        distribution = self._distribution(hidden)
        return self.value_net(hidden), distribution.log_prob(actions.long()), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        assert isinstance(obs, Tensor)
        return self._distribution(self.prefix_features(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        assert isinstance(obs, Tensor)
        return self.value_net(self.prefix_features(obs))

    def _distribution(self, hidden: Tensor) -> Distribution:
        distribution = CategoricalDistribution(self.generator.vocab_size)
        return distribution.proba_distribution(self.generator.output(hidden))


class TokenPrefixExtractor(BaseFeaturesExtractor):
    """Reads a prefix for any SB3 policy: embedding, GRU, the state after the last token.

    SB3 casts observations to float; ids are turned back to int64 here, since a token's id is not a magnitude.

    Args:
        observation_space: Box(0, V, (T,), int64).
        features_dim: size of the GRU's state.
        embedding_size: E.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 64, embedding_size: int = 32) -> None:
        super().__init__(observation_space, features_dim)
        self.pad_token = int(observation_space.high.max())
        self.embedding = nn.Embedding(self.pad_token + 1, embedding_size)  # row PAD is the start symbol
        self.gru = nn.GRU(embedding_size, features_dim, batch_first=True)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, T) of any dtype -> (B, features_dim) float32."""
        sequences = observations.round().long() if observations.is_floating_point() else observations.long()
        lengths = (sequences < self.pad_token).sum(dim=1)  # (B,)
        start = torch.full_like(sequences[:, :1], self.pad_token)
        outputs, _ = self.gru(self.embedding(torch.cat([start, sequences], dim=1)))  # (B, T + 1, F)
        return outputs[torch.arange(len(sequences), device=outputs.device), lengths]


class ActorRolloutPolicy:
    """Any SB3 actor-critic policy over tokens as a roll-out policy; its state is the prefix itself.

    The policy is read as it is at each call, so that this never lags behind it.

    Args:
        policy: an SB3 policy with a categorical `get_distribution`.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        assert isinstance(policy.action_space, spaces.Discrete)
        assert policy.observation_space.shape is not None
        self.policy = policy
        self.vocab_size = int(policy.action_space.n)
        self.sequence_length = policy.observation_space.shape[0]

    def initial_state(self, batch_size: int) -> State:
        shape = (batch_size, self.sequence_length)
        return (torch.full(shape, self.vocab_size, dtype=torch.int64, device=self.policy.device),)

    def advance(self, state: State, tokens: Tensor) -> State:
        sequences = state[0].clone()
        lengths = (sequences < self.vocab_size).sum(dim=1)
        grows = lengths < self.sequence_length
        sequences[grows, lengths[grows]] = tokens[grows]
        return (sequences,)

    @torch.no_grad()
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        self.policy.set_training_mode(False)
        distribution = self.policy.get_distribution(state[0])
        assert isinstance(distribution, CategoricalDistribution)
        return draw_from_logits(distribution.distribution.logits, uniforms)
