"""SB3 policies around a sequence model, and parts that let SB3's own policies read and continue prefixes.

In: observations (B, T), prefixes padded with PAD = V, which SB3 may have cast to float. Out: next tokens.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from agents.prefixes import longest_prefixes, prefix_length, prefix_tokens
from seqgan_env.models.sampling import draw_from_logits, draw_tokens
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, State, shift_right

_ROWS = 4096  # sequences scored together, so that their logits over V tokens fit into memory


class SequencePolicy(ActorCriticPolicy):
    """An SB3 actor-critic policy whose actor is a sequence model G_theta(y_t | Y_{1:t-1}) (Eq. 9-10).

    The value head reads the same hidden state, and its output starts at 0. REINFORCE computes gradients of whole
    sequences with `generator` directly; PPO and A2C use `evaluate_actions`.

    Args:
        observation_space: Box(0, V, (T,), int64).
        action_space: Discrete(V).
        lr_schedule: SB3's learning-rate schedule.
        generator: the sequence model that plays; it is not copied. None makes an LSTM.
        embedding_size, hidden_size, init_std: options of this LSTM (authors' code: 32, 32, 0.1).
        detached_value: whether the loss of the value head changes the head alone. Otherwise it changes the generator,
            too, as in SB3's policies with a shared network.
        kwargs: arguments of ActorCriticPolicy (optimizer_class, optimizer_kwargs, ...).

    Raises:
        ValueError: if the generator's vocabulary size differs from the number of actions, or if observations are not
            prefixes of tokens.
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
        detached_value: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"action_space={action_space} must be Discrete(V), one action per token")
        vocab_size = int(action_space.n)
        self._sequence_length = prefix_length(observation_space)
        self.detached_value = detached_value
        if generator is None:
            seed = int(torch.randint(2**31, (), dtype=torch.int64, device="cpu"))  # from the generator that SB3 seeds
            generator = LSTMSequenceModel(vocab_size, embedding_size, hidden_size, init_std, seed)
        if generator.vocab_size != vocab_size:
            raise ValueError(f"generator has vocab_size={generator.vocab_size}, the environment {vocab_size} actions")
        self._given_generator = (generator,)  # a module can be assigned only after nn.Module.__init__
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        (self.generator,) = self._given_generator
        del self._given_generator
        self.value_net = nn.Linear(self.generator.hidden_size, 1, dtype=torch.float32, device="cpu")
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        self.value_net.to(self.generator.dtype)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "generator": self.generator,
            "detached_value": self.detached_value,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def prefix_features(self, obs: Tensor) -> Tensor:
        """h_t after each prefix: (B, T) of any dtype -> (B, H), differentiable.

        Prefixes of one sequence are read together: experience of whole sequences costs one pass over them.

        Raises:
            ValueError: if they are not prefixes of tokens, see `prefixes.prefix_tokens`.
        """
        pad_token = self.generator.vocab_size
        prefixes = prefix_tokens(obs, pad_token, self._sequence_length)
        lengths = (prefixes < pad_token).sum(dim=1)  # (B,)
        lengths = lengths.clamp(max=prefixes.shape[1] - 1)  # a finished sequence: its value is never used
        shortest, longest = (int(length) for length in torch.aminmax(lengths))
        sequences, rows = prefixes, torch.arange(len(prefixes), dtype=torch.int64, device=prefixes.device)
        if shortest < longest:  # while the environments act, all prefixes have one length
            sequences, rows = longest_prefixes(prefixes, pad_token)
        hidden = self.generator.hidden_states(shift_right(sequences, pad_token)[:, : longest + 1])
        return hidden[rows, lengths]

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,) int64, values (B, 1), log-probabilities of the actions (B,) in nats."""
        hidden = self.prefix_features(obs)
        actions = self._act(hidden, deterministic)
        log_prob = self.generator.output.log_probs(hidden, actions)
        return actions, self._values(hidden), log_prob.float()

    def _act(self, hidden: Tensor, deterministic: bool) -> Tensor:
        if deterministic:
            return self.generator.output(hidden).argmax(dim=1)
        uniforms = torch.rand(len(hidden), 1, dtype=torch.float32, device=hidden.device)
        return draw_tokens(self.generator.output, hidden, uniforms).squeeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        return self._act(self.prefix_features(observation), deterministic)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropies (B,) in nats, differentiable."""
        assert isinstance(obs, Tensor)
        hidden = self.prefix_features(obs)
        distribution = self._distribution(hidden)
        return self._values(hidden), distribution.log_prob(actions.long()), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        assert isinstance(obs, Tensor)
        return self._distribution(self.prefix_features(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        assert isinstance(obs, Tensor)
        return self._values(self.prefix_features(obs))

    def _values(self, hidden: Tensor) -> Tensor:
        """(B, 1) float32, as SB3's buffers need it, for a generator of any dtype."""
        return self.value_net(hidden.detach() if self.detached_value else hidden).float()

    def _distribution(self, hidden: Tensor) -> Distribution:
        distribution = CategoricalDistribution(self.generator.vocab_size)
        return distribution.proba_distribution(self.generator.output(hidden).float())


class TokenPrefixExtractor(BaseFeaturesExtractor):
    """Reads a prefix for any SB3 policy: embedding, GRU, the state after the last token.

    SB3 casts observations to float. They are cast back to int64 here, since a token's id is not a magnitude.

    Args:
        observation_space: Box(0, V, (T,), int64).
        features_dim: size of the GRU's state.
        embedding_size: E.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 64, embedding_size: int = 32) -> None:
        super().__init__(observation_space, features_dim)
        self.sequence_length = prefix_length(observation_space)
        self.pad_token = int(observation_space.high.max())
        self.embedding = nn.Embedding(self.pad_token + 1, embedding_size)  # row PAD is the start symbol
        self.gru = nn.GRU(embedding_size, features_dim, batch_first=True)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, T) of any dtype -> (B, features_dim); raises ValueError if an observation is not a prefix."""
        sequences = prefix_tokens(observations, self.pad_token, self.sequence_length)
        lengths = (sequences < self.pad_token).sum(dim=1)  # (B,)
        start = torch.full_like(sequences[:, :1], self.pad_token)
        outputs, _ = self.gru(self.embedding(torch.cat([start, sequences], dim=1)))  # (B, T + 1, F)
        return outputs[torch.arange(len(sequences), dtype=torch.int64, device=outputs.device), lengths]


class LastTokenExtractor(BaseFeaturesExtractor):
    """Reads only the last token of a prefix, for policies with a memory: RecurrentPPO.

    Args:
        observation_space: Box(0, V, (T,), int64).
        features_dim: size of the embedding.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 32) -> None:
        super().__init__(observation_space, features_dim)
        self.sequence_length = prefix_length(observation_space)
        self.pad_token = int(observation_space.high.max())
        self.embedding = nn.Embedding(self.pad_token + 1, features_dim)  # row PAD is the start symbol

    def forward(self, observations: Tensor) -> Tensor:
        """(B, T) of any dtype -> (B, features_dim); raises ValueError if an observation is not a prefix."""
        sequences = prefix_tokens(observations, self.pad_token, self.sequence_length)
        last = (sequences < self.pad_token).sum(dim=1, keepdim=True) - 1  # (B, 1), -1 for the empty prefix
        tokens = sequences.gather(1, last.clamp(min=0)).squeeze(1)  # PAD where the prefix is empty
        return self.embedding(tokens)


class ActorRolloutPolicy:
    """Any SB3 or sb3-contrib policy over tokens as a roll-out policy. It acts as during training.

    The state is the prefix. For a recurrent policy it is also the LSTM's memory of the prefix, so a forked state has a
    forked memory. How a policy acts:

    - with a distribution (PPO, A2C, TRPO, MaskablePPO, RecurrentPPO): that distribution; all tokens are allowed.
    - with action values (DQN, QR-DQN): epsilon-greedy. Each token has probability epsilon / V, and the best one has 1 -
      epsilon more. SB3 draws one coin per step for all environments. Here each sequence has its own coin; the
      distribution of one sequence is the same.

    Each call reads the policy's current parameters, so this object never lags behind it.

    Args:
        policy: an SB3 policy over Discrete(V).
        exploration_rate: epsilon of a value-based policy, in [0, 1]; SB3 keeps it in the algorithm.
        rate: share of its old parameters that this object keeps when it follows a learner, in [0, 1]; 0 copies the
            learner.

    Raises:
        TypeError: if the policy has neither a distribution nor action values.
    """

    def __init__(self, policy: BasePolicy, exploration_rate: float = 0.0, rate: float = 0.0) -> None:
        if not has_known_distribution(policy):
            raise TypeError(f"{type(policy).__name__} has neither get_distribution nor q_net nor quantile_net")
        assert isinstance(policy.action_space, spaces.Discrete)
        assert policy.observation_space.shape is not None
        self.policy = policy
        self.exploration_rate = exploration_rate
        self.rate = rate
        self.vocab_size = int(policy.action_space.n)
        self.sequence_length = policy.observation_space.shape[0]

    def delayed_copy(self, rate: float = 0.0) -> ActorRolloutPolicy:
        """A copy with its own parameters, which `follow` changes; `rate` as in the constructor."""
        with torch.no_grad():  # SB3 keeps its last distribution, and a distribution with a gradient cannot be copied
            self._logits(self.initial_state(1))
        policy = copy.deepcopy(self.policy)
        return ActorRolloutPolicy(policy.requires_grad_(False), self.exploration_rate, rate)

    @torch.no_grad()
    def follow(self, learner: ActorRolloutPolicy) -> None:
        """beta <- rate * beta + (1 - rate) * theta. Older states are no longer valid.

        Args:
            learner: moves towards this one; its exploration rate is copied at once.
        """
        for own, theirs in zip(self.policy.parameters(), learner.policy.parameters(), strict=True):
            own.mul_(self.rate).add_(theirs, alpha=1 - self.rate) if self.rate else own.copy_(theirs)
        for statistic, new in zip(self.policy.buffers(), learner.policy.buffers(), strict=True):
            statistic.copy_(new)
        self.exploration_rate = learner.exploration_rate

    def state_dict(self) -> dict[str, Any]:
        """The policy's parameters and statistics, and its exploration, for a checkpoint."""
        return {"policy": dict(self.policy.state_dict()), "exploration_rate": self.exploration_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        self.exploration_rate = state["exploration_rate"]

    @torch.no_grad()
    def initial_state(self, batch_size: int) -> State:
        shape = (batch_size, self.sequence_length)
        sequences = torch.full(shape, self.vocab_size, dtype=torch.int64, device=self.policy.device)
        if not hasattr(self.policy, "lstm_actor"):
            return (sequences,)
        policy: Any = self.policy
        layers, _, size = policy.lstm_hidden_state_shape
        dtype = next(policy.lstm_actor.parameters()).dtype
        memory = torch.zeros(batch_size, layers, size, dtype=dtype, device=self.policy.device)
        return self._remember(sequences, memory, memory)

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        sequences = state[0].clone()
        lengths = (sequences < self.vocab_size).sum(dim=1)
        grows = lengths < self.sequence_length
        sequences[grows, lengths[grows]] = tokens[grows]
        return self._remember(sequences, *state[1:]) if len(state) > 1 else (sequences,)

    @torch.no_grad()
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return draw_from_logits(self._logits(state), uniforms)

    @torch.no_grad()
    def log_probs(self, sequences: Tensor) -> Tensor:
        """log p of every token in nats, 0 at PAD, -inf for a token that is never played: (B, T) int64 -> (B, T)
        float32.
        """
        sequences = sequences.to(self.policy.device)
        found = torch.zeros(sequences.shape, dtype=torch.float32, device="cpu")
        for start in range(0, len(sequences), _ROWS):
            rows = sequences[start : start + _ROWS]
            state = self.initial_state(len(rows))
            for t, column in enumerate(rows.unbind(1)):
                tokens = column.clamp(max=self.vocab_size - 1)
                chosen = torch.log_softmax(self._logits(state), dim=1).gather(1, tokens.unsqueeze(1)).squeeze(1)
                found[start : start + _ROWS, t] = torch.where(column < self.vocab_size, chosen, 0.0).float().cpu()
                state = self.advance(state, tokens)
        return found.to(sequences.device)

    def _remember(self, sequences: Tensor, hidden: Tensor, cell: Tensor) -> State:
        """A recurrent policy's state after the prefixes: from (B, T) and the memory before, (B, layers, H)."""
        policy: Any = self.policy
        policy.set_training_mode(False)
        features = BasePolicy.extract_features(policy, sequences, policy.pi_features_extractor)
        memory = (hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous())  # (layers, B, H), as in torch
        _, (hidden, cell) = policy.lstm_actor(features.unsqueeze(0), memory)
        return sequences, hidden.transpose(0, 1), cell.transpose(0, 1)

    def _logits(self, state: State) -> Tensor:
        """(B, V): logits of the next tokens. For epsilon-greedy, their softmax is the distribution that it plays."""
        policy: Any = self.policy
        policy.set_training_mode(False)
        if len(state) > 1:
            return policy.action_net(policy.mlp_extractor.forward_actor(state[1][:, -1]))
        sequences = state[0]
        if hasattr(policy, "get_distribution"):
            return policy.get_distribution(sequences).distribution.logits
        if hasattr(policy, "q_net"):
            action_values = policy.q_net(sequences)
        else:
            action_values = policy.quantile_net(sequences).mean(dim=1)
        probabilities = torch.full_like(action_values, self.exploration_rate / self.vocab_size)
        greedy = action_values.argmax(dim=1, keepdim=True)
        return probabilities.scatter_add_(1, greedy, torch.full_like(action_values, 1 - self.exploration_rate)).log()


def has_known_distribution(policy: BasePolicy) -> bool:
    """Whether we can compute the distribution that a policy plays. Then it can be a roll-out policy."""
    return any(hasattr(policy, name) for name in ("get_distribution", "q_net", "quantile_net"))
