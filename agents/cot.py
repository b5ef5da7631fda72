"""CoT: cooperative training. A mediator learns the mixture of real and generated, and the generator follows it.

Lu, Yu, Feng, Zhu, Zhang 2019 (arXiv 1804.03782). The mediator M is a language model that maximises the likelihood of
the mixture: E_{Y real}[log M(Y)] / 2 + E_{Y ~ G}[log M(Y)] / 2, so that the best one is M = (p + G) / 2. Then
    grad JSD(p, G) = grad KL(G || M) / 2,   with M held fixed, and
    KL(G || M) = sum_t E_{s ~ G}[ k_t(s) ],   k_t(s) = sum_v G(v | s) ( log G(v | s) - log M(v | s) ),
where s is a prefix of t - 1 tokens. Its gradient has two parts:
    sum_t E_{s ~ G}[ grad k_t(s) ]  +  sum_t E_{s ~ G}[ grad log G(s) k_t(s) ].
The first part is exact at each prefix: it is a sum over all tokens instead of an estimate from the drawn one. It is all
that the authors' code takes. The second part is dropped there: it says that a token also decides which prefixes come
later. `future_weight` brings it back, estimated as in REINFORCE. So with M = (p + G) / 2 the expected update is
- with future_weight=1 the gradient of 2 JSD(p, G);
- with future_weight=0 the part of it that does not pass through the distribution of the prefixes. At the last step, and
  where T = 1, nothing is dropped. It is 0 at G = p, as the whole gradient is.
In: the whole sequences of one update, whose prefixes are used, and real ones for M. Out: `n_epochs` steps of Adam on G,
then `mediator_steps` steps of Adam on M. The environment's rewards are not used.
Departures from the authors' code: G comes from maximum likelihood, and M starts as its copy, with the same size (there
G is new, and M is a new LSTM of twice the size). M is trained before the first update, too.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.moments import load_moments, moments
from agents.real_sequences import RealSequenceLearner
from agents.reference import Reference
from agents.rloo import leave_one_out
from agents.sequence_learner import SequenceBatch
from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.dropout import Dropout
from seqgan_env.models.parameters import at_least_float32
from seqgan_env.models.sequence_models import SequenceModel, shift_right
from seqgan_env.rollout_policies import sample_sequences

_LOGITS = 1 << 24  # in one block of sequences: 64 MiB in float32


class CoT(RealSequenceLearner):
    """Cooperative training.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, real_sequences: as in `RealSequenceLearner`.
        future_weight: weight of the second part of the gradient, in [0, 1]: 0 as the authors, 1 for the whole gradient.
        mediator_steps: steps of Adam on M after each update (authors: 1).
        mediator_pretraining: steps of Adam on M before the first update.
        mediator_learning_rate: of M's Adam (authors: 3e-3).
        mediator_weight_decay: of M's AdamW (authors: 0).
        mediator_dropout: probability of dropping an entry of M's hidden states in its training (authors: 0.5).
        sb3: as in SB3.

    Attributes:
        mediator: M. It is copied from G when the first `learn` begins.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if an option is not finite or out of range.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int | None = None,
        n_epochs: int = 1,
        future_weight: float = 0.0,
        mediator_steps: int = 1,
        mediator_pretraining: int = 100,
        mediator_learning_rate: float = 3e-3,
        mediator_weight_decay: float = 0.0,
        mediator_dropout: float = 0.5,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("future_weight", future_weight, at_least=0, at_most=1)
        check_count("mediator_steps", mediator_steps, 0)
        check_count("mediator_pretraining", mediator_pretraining, 0)
        check_number("mediator_learning_rate", mediator_learning_rate, above=0)
        check_number("mediator_weight_decay", mediator_weight_decay, at_least=0)
        check_number("mediator_dropout", mediator_dropout, at_least=0, below=1)
        self.future_weight = future_weight
        self.mediator_steps = mediator_steps
        self.mediator_pretraining = mediator_pretraining
        self.mediator_learning_rate = mediator_learning_rate
        self.mediator_weight_decay = mediator_weight_decay
        self.mediator_dropout = mediator_dropout
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, **sb3)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.mediator = Reference(self.policy.generator)  # a copy at a certain time, as G_ref, but one that learns
        self.mediator.generator.requires_grad_(True)
        self.mediator_optimizer = torch.optim.AdamW(
            self.mediator.generator.parameters(),
            lr=self.mediator_learning_rate,
            weight_decay=self.mediator_weight_decay,
            fused=True,
        )

    def _setup_learn(self, *arguments: Any, **keywords: Any) -> Any:
        if not bool(self.mediator.taken):
            self.mediator.take(self.policy.generator)
            self.train_mediator(self.mediator_pretraining)
        return super()._setup_learn(*arguments, **keywords)

    def train(self) -> None:
        """Steps of Adam on G, with M as it is; then steps of Adam on M."""
        super().train()
        mediator_nll = self.train_mediator(self.mediator_steps)
        if mediator_nll is not None:
            self.logger.record("train/mediator_nll", mediator_nll)  # of the mixture, nats per token

    def train_mediator(self, steps: int) -> float | None:
        """Steps of Adam on M's likelihood of a batch, of which one half is real and the other is drawn from G.

        Returns:
            M's NLL in the last step, with dropout, nats per token; None without a step.
        """
        mediator, loss = self.mediator.generator, None
        mediator.train()
        for _ in range(steps):
            real = self.choose_real(self.n_envs)
            batch = torch.cat([real, self._generated(self.n_envs, real)])  # (2B, T)
            count = int(mediator.counted(batch).sum())
            with mediator.dropping(self._new_dropout()):
                weights = torch.full(batch.shape, 1.0 / count, device=batch.device)
                loss = -mediator.weighted_log_likelihood(batch, weights)
            self.mediator_optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(mediator.parameters(), self.max_grad_norm)
            self.mediator_optimizer.step()
        mediator.eval()
        return None if loss is None else loss.item()

    def _generated(self, count: int, real: Tensor) -> Tensor:
        """Sequences of G, (count, T) int64; with prompts, responses to those of the real sequences."""
        assert self.env is not None
        assert self.observation_space.shape is not None
        task = self.env.get_attr("task", indices=[0])[0]
        horizon = self.observation_space.shape[0]
        prompts = real[:, : task.prompt_length]
        return sample_sequences(self.policy.generator, count, horizon, self.rng, task.eos_token, prompts)

    def _new_dropout(self) -> Dropout | None:
        """The dropout of one step, with masks that follow from the learner's random stream."""
        if not self.mediator_dropout:
            return None
        masks = torch.Generator(self.device).manual_seed(int(self.rng.integers(2**63)))
        return Dropout(0.0, self.mediator_dropout, False, masks)

    def _descend(self, batch: SequenceBatch) -> tuple[float, float]:
        """One step of Adam on G; returns KL(G || M) in nats per sequence, and the norm of the gradient."""
        generator = self.policy.generator
        self.policy.optimizer.zero_grad()
        self.policy.set_training_mode(True)
        divergence = 0.0
        for rows in self._blocks(batch.sequences):  # the first part of the gradient
            divergences = token_divergences(generator, self.mediator.generator, rows).sum() / self._sequences
            divergences.backward()
            divergence += divergences.item()
        if self.future_weight:
            log_probs = generator.log_probs(batch.sequences).requires_grad_()
            (weights,) = torch.autograd.grad(self.loss(log_probs, batch), log_probs)
            generator.weighted_log_likelihood(batch.sequences, weights).backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return divergence, float(grad_norm)

    @torch.no_grad()
    def _divergences(self, batch: SequenceBatch) -> Tensor:
        """k_t at each prefix, (M, T), without gradient."""
        generator, mediator = self.policy.generator, self.mediator.generator
        return torch.cat([token_divergences(generator, mediator, rows) for rows in self._blocks(batch.sequences)])

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        """Its gradient is the second part: the log-probability of each token, weighted with what comes later."""
        weights = future_divergences(self._divergences(batch), batch.columns)
        return self.future_weight * (weights * log_probs).sum() / self._sequences

    @property
    def _sequences(self) -> float:
        """Sequences of an update, if all have T tokens: a fixed number, for the reason that `rloo` gives."""
        assert self.observation_space.shape is not None
        return self.n_envs * self.n_steps / (self.observation_space.shape[0] - self.policy.generator.prompt_length)

    def _blocks(self, sequences: Tensor) -> tuple[Tensor, ...]:
        """(M, T) in blocks whose logits over V tokens fit into memory."""
        return sequences.split(max(1, _LOGITS // (sequences.shape[1] * self.policy.generator.vocab_size)))

    # Saving: SB3's zip, and checkpoints.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "mediator", "mediator_optimizer"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return [*modules, "mediator", "mediator_optimizer"], tensors

    def state_dict(self) -> dict[str, Any]:
        mediator = {
            "mediator": dict(self.mediator.state_dict()),
            "mediator_optimizer": moments(self.mediator_optimizer),
        }
        return super().state_dict() | mediator

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.mediator.load_state_dict(state["mediator"])
        load_moments(self.mediator_optimizer, state["mediator_optimizer"])


def token_divergences(generator: SequenceModel, mediator: SequenceModel, sequences: Tensor) -> Tensor:
    """k_t(s) at each prefix s of some sequences: sum_v G(v | s) (log G(v | s) - log M(v | s)), nats, 0 at PAD.

    It is 0 at the tokens of a prompt, too.

    Args:
        generator: G; the result is differentiable with respect to its parameters.
        mediator: M, taken as constant.
        sequences: (M, T) int64, PAD after the end.

    Returns:
        (M, T) float32, or float64 of float64 models; at least 0.
    """
    inputs, is_token = shift_right(sequences, generator.vocab_size), generator.counted(sequences)
    log_g = _log_softmax(generator, inputs, is_token)  # (R, V)
    with torch.no_grad():
        log_m = _log_softmax(mediator, inputs, is_token)
    values = (log_g.exp() * (log_g - log_m)).sum(dim=1)
    return values.new_zeros(sequences.shape).masked_scatter(is_token, values)


def _log_softmax(model: SequenceModel, inputs: Tensor, is_token: Tensor) -> Tensor:
    """log p(v | s) of all tokens v at the prefixes that are followed by a token: (R, V)."""
    logits = at_least_float32(model.output(model.hidden_states(inputs)[is_token]))
    return torch.log_softmax(logits, dim=1)


def future_divergences(divergences: Tensor, columns: Tensor) -> Tensor:
    """For each token the divergences of the later steps of its sequence, less the mean of the other sequences.

    Args:
        divergences: (M, T), nats.
        columns: (M,) int64, the environment of each sequence.
    """
    later = divergences.flip(1).cumsum(dim=1).flip(1) - divergences
    return torch.stack([leave_one_out(step, columns) for step in later.unbind(1)], dim=1)
