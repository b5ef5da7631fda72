"""Eq. 9-10: sequence models p(y_t | y_1..y_{t-1}). One class is oracle, generator and roll-out policy.

Eq. 9: h_t = g(h_{t-1}, x_t).  Eq. 10: p(y_t | x_1..x_t) = softmax(c + V h_t).
In: tokens (B, T) int64. Out: states, drawn tokens, log-probabilities in nats.
As in the authors' code, token 0 is fed first as the start symbol and is also an ordinary token.
Models begin in float32 on the CPU. `.double()`, `.bfloat16()` and `.to(device)` convert and move them and their states.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.dropout import Dropout
from seqgan_env.models.output_layer import OutputLayer, check_temperature
from seqgan_env.models.parameters import at_least_float32, blank, seeded
from seqgan_env.models.response_mask import counted_tokens
from seqgan_env.models.sampling import draw_tokens

State = tuple[Tensor, ...]
START_TOKEN = 0
_SCORE_BATCH = 1024


class SequenceModel(nn.Module, ABC):
    """A next-token distribution with a state that can be updated token by token, and forked.

    Subclasses define `initial_state`, `advance`, `features` and `hidden_states`. Every tensor of a state has the batch
    in dimension 0. So forking is `repeat_interleave`, and selecting rows is indexing. Every sequence model is a
    `RolloutPolicy`.

    Args:
        vocab_size: V.
        hidden_size: H.
        sizes: sizes of a subclass, by name; each must be at least 1.

    Attributes:
        vocab_size: V.
        temperature: divides the logits when drawing and scoring; 1 is the model itself.
        prompt_length: P, the first tokens of each sequence, which are read and not counted; the task sets it.
    """

    prompt_length: int = 0

    def __init__(self, vocab_size: int, hidden_size: int, **sizes: int) -> None:
        super().__init__()
        for name, size in {"vocab_size": vocab_size, "hidden_size": hidden_size, **sizes}.items():
            check_count(name, size)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.temperature = 1.0
        self.output = OutputLayer(hidden_size, vocab_size)
        self._dropout: Dropout | None = None

    @property
    def device(self) -> torch.device:
        """The device of the parameters, and so of all states and tokens."""
        return self.output.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, and so of all states: float32 unless the model was converted."""
        return self.output.weight.dtype

    def _zeros(self, *shape: int) -> Tensor:
        """Zeros of the parameters' dtype, on their device."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _embedding_parameter(self, embedding_size: int, tied: bool) -> nn.Parameter:
        """(V, E) without values; with `tied`, the output layer's weight itself."""
        if tied and embedding_size != self.hidden_size:
            raise ValueError(
                f"tied=True needs embedding_size={embedding_size} equal to hidden_size={self.hidden_size}: the "
                "embedding is the output layer's weight"
            )
        return self.output.weight if tied else blank(self.vocab_size, embedding_size)

    def _draw_parameters(self, std: float, seed: int) -> None:
        """Draw all parameters from N(0, std^2), the output layer's last; layer norms stay at 1 and 0."""
        check_number("init_std", std, at_least=0)
        generator = seeded(seed)
        with torch.no_grad():
            for module in self.modules():
                if module is not self.output and not isinstance(module, nn.LayerNorm):
                    for parameter in module.parameters(recurse=False):
                        parameter.normal_(0.0, std, generator=generator)
        self.output.reset_parameters(std, generator)

    def _after_start(self, blank: State) -> State:
        """The state after the start symbol, starting from a state of zeros."""
        return self.advance(blank, torch.full((len(blank[0]),), START_TOKEN, dtype=torch.int64, device=self.device))

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """State of `batch_size` empty prefixes: the state after the start symbol."""

    @abstractmethod
    def advance(self, state: State, tokens: Tensor) -> State:
        """Eq. 9: the state after one more token. `tokens`: (R,) int64 in 0..V-1."""

    @abstractmethod
    def features(self, state: State) -> Tensor:
        """h_t (R, H), the part of the state that the output layer of Eq. 10 reads."""

    @abstractmethod
    def hidden_states(self, inputs: Tensor) -> Tensor:
        """Eq. 9 over whole sequences, teacher-forced and differentiable.

        Args:
            inputs: (B, T) int64, the token that is fed before each step. Column 0 is the start symbol.

        Returns:
            (B, T, H), of the model's dtype; step t predicts token y_t.
        """

    def at_temperature(self, temperature: float) -> SequenceModel:
        """The same model with shared parameters; it draws and scores with logits / temperature (<1: sharper).

        Raises:
            ValueError: if the temperature is not in 0.001..1000.
        """
        check_temperature(temperature)
        view = copy.copy(self)
        view.temperature = temperature
        return view

    @contextmanager
    def dropping(self, dropout: Dropout | None) -> Iterator[None]:
        """Within the block, `weighted_log_likelihood` drops embeddings and hidden states; draws and scores never do.

        Raises:
            ValueError: at the end of the block, if embeddings were to be dropped but the model's `hidden_states` does
                not call `drop_embeddings`.
        """
        self._dropout = dropout
        try:
            yield
        finally:
            self._dropout = None
        if dropout is not None and dropout.embedding and not dropout.embeddings_dropped:
            raise ValueError(
                f"{type(self).__name__}.hidden_states drops no embeddings; call self.drop_embeddings(embedded, "
                "steps_dimension) in it, or set embedding_dropout=0"
            )

    def drop_embeddings(self, embedded: Tensor, steps_dimension: int) -> Tensor:
        """Embeddings of the fed tokens, with entries dropped within `dropping`, else unchanged.

        Args:
            embedded: embeddings of whole sequences, of any shape.
            steps_dimension: the dimension of the T steps.
        """
        return embedded if self._dropout is None else self._dropout.of_embeddings(embedded, steps_dimension)

    @torch.no_grad()
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        """Draw N next tokens for each row: (R, N) float32 in [0, 1) -> (R, N) int64."""
        return draw_tokens(self.output, self.features(state), uniforms, self.temperature)

    @torch.no_grad()
    def log_probs(self, sequences: Tensor) -> Tensor:
        """log p(y_t | y_1..y_{t-1}) of every token in nats; 0 at PAD, and at the tokens of a prompt.

        (B, T) int64, PAD after the end -> (B, T) float32; float64 for a float64 model.
        """
        return torch.cat([self._batch_log_probs(batch) for batch in sequences.to(self.device).split(_SCORE_BATCH)])

    def _batch_log_probs(self, sequences: Tensor) -> Tensor:
        counted = self.counted(sequences)  # (B, T)
        hidden = self.hidden_states(shift_right(sequences, self.vocab_size))
        result = at_least_float32(self._zeros(*sequences.shape))
        result[counted] = self.output.log_probs(hidden[counted], sequences[counted], self.temperature).to(result.dtype)
        return result

    def counted(self, sequences: Tensor) -> Tensor:
        """The tokens whose log-probabilities count, (B, T) bool: neither PAD nor a part of the prompt."""
        return counted_tokens(sequences, self.vocab_size, self.prompt_length)

    def weighted_log_likelihood(
        self, sequences: Tensor, weights: Tensor, inputs: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """sum_{b,t} weights_{b,t} log p(y_{b,t} | y_{b,1..t-1}): a differentiable scalar in nats.

        MLE has equal weights; the policy gradient (Eq. 6-8) has action values as weights. With label smoothing s, the
        log-probability is (1 - s) log p(y) + s/V sum_v log p(v) (Szegedy et al. 2016, section 7).

        Args:
            sequences: (B, T) int64 targets, PAD after the end.
            weights: (B, T) floats, constants; ignored at PAD and at the prompt.
            inputs: (B, T) int64, the fed tokens (scheduled sampling); None feeds the targets, shifted right.
            label_smoothing: s, in [0, 1].
        """
        inputs = shift_right(sequences, self.vocab_size) if inputs is None else inputs
        hidden = self.hidden_states(inputs)
        if self._dropout is not None:
            hidden = self._dropout.of_hidden(hidden)
        weights = weights.masked_fill(~self.counted(sequences), 0)
        rows = (hidden.flatten(0, 1), sequences.flatten(), weights.flatten())
        result = self.output.weighted_log_likelihood(*rows)
        return result + label_smoothing * self.output.weighted_mean_margin(*rows) if label_smoothing else result


def shift_right(sequences: Tensor, vocab_size: int) -> Tensor:
    """Teacher forcing: the start symbol, then y_1..y_{T-1}; PAD becomes the start symbol, and is never scored."""
    inputs = torch.full_like(sequences, START_TOKEN)
    inputs[:, 1:] = sequences[:, :-1]
    return inputs.masked_fill_(inputs >= vocab_size, START_TOKEN)


class RecurrentSequenceModel(SequenceModel):
    """The shared part of LSTM and GRU: an embedding, and for each gate W, U and b of x W + h U + b.

    Args:
        vocab_size: V.
        embedding_size: E (paper's code: 32).
        hidden_size: H (paper's code: 32).
        init_std: parameters are drawn from N(0, init_std^2): 0.1 for a generator (authors' code), 1 for an oracle.
        seed: seed of this draw.
        tied: the embedding is the output layer's weight V of Eq. 10 (Press & Wolf 2017); E must equal H.
    """

    GATES: ClassVar[int]

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 32,
        hidden_size: int = 32,
        init_std: float = 0.1,
        seed: int = 0,
        tied: bool = False,
    ) -> None:
        super().__init__(vocab_size, hidden_size, embedding_size=embedding_size)
        self.embedding = self._embedding_parameter(embedding_size, tied)
        # The columns hold all gates side by side, so one matrix product computes them.
        self.input_weight = blank(embedding_size, self.GATES * hidden_size)
        self.recurrent_weight = blank(hidden_size, self.GATES * hidden_size)
        self.gate_bias = blank(self.GATES * hidden_size)
        self._draw_parameters(init_std, seed)

    def features(self, state: State) -> Tensor:
        return state[0]


class LSTMSequenceModel(RecurrentSequenceModel):
    """Eq. 9-10 with g an LSTM (Hochreiter & Schmidhuber 1997), as the oracle and generator of the paper.

    i, f, o = sigmoid(x W + h U + b) each, c' = f c + i tanh(x W_c + h U_c + b_c), h' = o tanh(c').
    The columns of the matrices hold the gates in the order i, f, o, c.
    """

    GATES = 4

    def initial_state(self, batch_size: int) -> State:
        zeros = self._zeros(batch_size, self.hidden_size)
        return self._after_start((zeros, zeros))

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        h, c = state
        gates = torch.addmm(self.gate_bias, h, self.recurrent_weight) + self.embedding[tokens] @ self.input_weight
        i, f, o = torch.sigmoid(gates[:, : 3 * self.hidden_size]).chunk(3, dim=1)
        c = f * c + i * torch.tanh(gates[:, 3 * self.hidden_size :])
        return o * torch.tanh(c), c

    def hidden_states(self, inputs: Tensor) -> Tensor:
        # PyTorch's LSTM has the gates in rows, in the order i, f, c, o, and a second bias.
        bias = self._in_torch_order(self.gate_bias)
        weights = [self._in_torch_order(weight).t() for weight in (self.input_weight, self.recurrent_weight)]
        embedded = self.drop_embeddings(nn.functional.embedding(inputs.t(), self.embedding), 0)  # (T, B, E)
        zeros = embedded.new_zeros(1, inputs.shape[0], self.hidden_size)
        parameters = [*weights, bias, torch.zeros_like(bias)]
        hidden, _, _ = torch.lstm(embedded, (zeros, zeros), parameters, True, 1, 0.0, self.training, False, False)
        return hidden.transpose(0, 1)  # (B, T, H)

    @staticmethod
    def _in_torch_order(gates: Tensor) -> Tensor:
        i, f, o, c = gates.chunk(4, dim=-1)
        return torch.cat([i, f, c, o], dim=-1)

    # The authors' files hold each gate's matrices separately. This is the order of their pickle.
    ARRAY_NAMES: Sequence[str] = (
        *("embeddings", "Wi", "Ui", "bi", "Wf", "Uf", "bf", "Wog", "Uog", "bog", "Wc", "Uc", "bc", "Wo", "bo"),
    )

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> LSTMSequenceModel:
        """Build from the authors' 15 float arrays (matrices act on row vectors, x @ W).

        Raises:
            ValueError: if an array is missing or a shape does not fit the others.
        """
        missing = [name for name in cls.ARRAY_NAMES if name not in arrays]
        if missing:
            raise ValueError(f"oracle parameters lack {missing}; expected the arrays {list(cls.ARRAY_NAMES)}")
        vocab_size, embedding_size = _two_dimensions("embeddings", arrays["embeddings"])
        hidden_size, _ = _two_dimensions("Ui", arrays["Ui"])
        square = (hidden_size, hidden_size)
        shapes: dict[str, tuple[int, ...]] = {"embeddings": (vocab_size, embedding_size)}
        for gate in ("i", "f", "og", "c"):
            shapes |= {f"W{gate}": (embedding_size, hidden_size), f"U{gate}": square, f"b{gate}": (hidden_size,)}
        shapes |= {"Wo": (hidden_size, vocab_size), "bo": (vocab_size,)}
        for name, shape in shapes.items():
            array = np.asarray(arrays[name])
            if array.shape != shape:
                raise ValueError(f"oracle parameter {name} has shape {array.shape}, expected {shape}")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"oracle parameter {name} must hold finite floats, got dtype {array.dtype}")

        def stacked(kind: str) -> np.ndarray:
            return np.concatenate([arrays[f"{kind}{gate}"] for gate in ("i", "f", "og", "c")], axis=-1)

        model = cls(vocab_size, embedding_size, hidden_size)
        values = {
            "embedding": arrays["embeddings"],
            "input_weight": stacked("W"),
            "recurrent_weight": stacked("U"),
            "gate_bias": stacked("b"),
            "output.weight": arrays["Wo"].T,
            "output.bias": arrays["bo"],
        }
        model.load_state_dict({k: torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in values.items()})
        return model


class GRUSequenceModel(RecurrentSequenceModel):
    """Eq. 9-10 with g a gated recurrent unit (Cho et al. 2014), with three quarters of an LSTM's matrices.

    r, z = sigmoid(x W + h U + b) each, n = tanh(x W_n + b_n + r (h U_n)), h' = (1 - z) n + z h.
    The columns of the matrices hold the gates in the order r, z, n. As in cuDNN, r is applied after U_n. PyTorch's GRU
    adds a second bias to h U. For n it is inside r (h U_n + b'_n), so it cannot be part of b_n; `recurrent_bias` holds
    it. `torch_weights.from_torch` reads PyTorch's own weights.

    Args:
        vocab_size, embedding_size, hidden_size, init_std, seed, tied: as `RecurrentSequenceModel`.
        recurrent_bias: whether there is a second bias, added to h U.
    """

    GATES = 3

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 32,
        hidden_size: int = 32,
        init_std: float = 0.1,
        seed: int = 0,
        recurrent_bias: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__(vocab_size, embedding_size, hidden_size, init_std, seed, tied)
        if recurrent_bias:
            self.recurrent_bias = blank(self.GATES * hidden_size)
            self._draw_parameters(init_std, seed)  # all again, since there is one more now

    def _second_bias(self) -> Tensor | None:
        return self._parameters.get("recurrent_bias")

    def initial_state(self, batch_size: int) -> State:
        return self._after_start((self._zeros(batch_size, self.hidden_size),))

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        (h,) = state
        from_input = torch.addmm(self.gate_bias, self.embedding[tokens], self.input_weight)
        second_bias = self._second_bias()
        from_state = h @ self.recurrent_weight
        if second_bias is not None:
            from_state += second_bias
        size = 2 * self.hidden_size
        r, z = torch.sigmoid(from_input[:, :size] + from_state[:, :size]).chunk(2, dim=1)
        n = torch.tanh(from_input[:, size:] + r * from_state[:, size:])
        return (torch.lerp(n, h, z),)

    def hidden_states(self, inputs: Tensor) -> Tensor:
        embedded = self.drop_embeddings(nn.functional.embedding(inputs.t(), self.embedding), 0)  # (T, B, E)
        zeros = embedded.new_zeros(1, inputs.shape[0], self.hidden_size)
        second_bias = self._second_bias()
        if second_bias is None:
            second_bias = torch.zeros_like(self.gate_bias)
        # PyTorch's GRU has the gates in rows.
        parameters = [self.input_weight.t(), self.recurrent_weight.t(), self.gate_bias, second_bias]
        hidden, _ = torch.gru(embedded, zeros, parameters, True, 1, 0.0, self.training, False, False)
        return hidden.transpose(0, 1)  # (B, T, H)


def _two_dimensions(name: str, array: np.ndarray) -> tuple[int, int]:
    shape = np.asarray(array).shape
    if len(shape) != 2:
        raise ValueError(f"oracle parameter {name} has shape {shape}, expected two dimensions")
    return shape
