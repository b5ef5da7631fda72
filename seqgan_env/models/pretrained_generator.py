"""Any causal language model of `transformers` as a generator: Eq. 9-10 with g a pretrained Transformer.

In: tokens (B, T) int64 with the model's own ids; V is the number of rows of its output layer. Out: as for every
`SequenceModel`. The start symbol is the model's BOS, or its EOS if it has no BOS.
The state holds keys and values of each fed token in a slot of its own, so a search forks them, and no prefix is
recomputed. Dropout inside the model is off, in training too: a policy gradient needs the distribution that was drawn
from. `pretraining.dropout` still drops embeddings and hidden states.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.models.attention_models import PrefixMemory
from seqgan_env.models.output_layer import OutputLayer
from seqgan_env.models.pretrained import DTYPES, SharedBase, check_options, load_model, with_lora
from seqgan_env.models.sampling import draw_from_masses, draw_tokens
from seqgan_env.models.sequence_models import SequenceModel, State

KIND = "AutoModelForCausalLM"
_SEGMENT = 64  # of `draw_from_masses`: masses are padded to a multiple
_BLOCK_BYTES = 64 << 20  # logits that are made together
_SCORED_TOKENS = 1 << 14  # tokens that are scored together
# The largest error of logits of size 1: of the same work done again, and of another order of the work.
_SAME = {torch.float32: 1e-5, torch.bfloat16: 0.02}
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
# Settings that change logits after the output layer. Capping at 30 cannot be seen in the small logits of a check.
_CHANGES_OF_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class PretrainedGenerator(SharedBase, PrefixMemory, SequenceModel):
    """A causal language model of `transformers`, with LoRA adapters as the trained part.

    State: h_t (R, H), fed (R,), and for each layer keys (R, heads, T, d) and values (R, heads, T, d'). Copies share the
    frozen weights, see `SharedBase`.

    Args:
        vocab_size: V, which must be that of the model.
        sequence_length: T, the longest sequence.
        source: folder of the model, or its name on the Hugging Face hub.
        lora_rank: rank of the LoRA adapters of all linear layers; 0 trains all weights instead.
        lora_alpha: the adapters' output is scaled with alpha / rank.
        dtype: of the weights, float32 or bfloat16; adapters are always float32.
        seed: of the adapters.
        folder: a run's own copy of the model, which is read in place of the source.

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if the model cannot be read, its sizes do not fit, or it is of a kind that does not work here; the
            message says why.
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        source: str,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        dtype: str = "float32",
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        check_options(dtype, lora_rank)
        causal = load_model(KIND, source if folder is None else folder, DTYPES[dtype])
        head = causal.get_output_embeddings()
        self._check_sizes(source, causal.config, head, vocab_size, sequence_length)
        super().__init__(vocab_size, head.in_features, sequence_length=sequence_length)
        self.sequence_length = sequence_length
        self.source = source
        self.start_token = _start_token(source, causal.config)
        self.model = causal
        self.output = OutputLayer.__new__(OutputLayer)
        nn.Module.__init__(self.output)
        self.output.weight = head.weight
        self._has_bias = head.bias is not None
        none = torch.zeros(vocab_size, dtype=head.weight.dtype, device=head.weight.device)
        self.output.bias = head.bias if self._has_bias else nn.Parameter(none, requires_grad=False)
        self._check_kind()
        if lora_rank:
            self.model = with_lora(causal, lora_rank, lora_alpha, seed)
        self._share_frozen()

    @staticmethod
    def _check_sizes(source: str, config: Any, head: Any, vocab_size: int, sequence_length: int) -> None:
        if not isinstance(head, nn.Linear):
            raise ValueError(f"{source!r} has no linear output layer, so it is not a causal language model")
        if head.out_features != vocab_size:
            raise ValueError(
                f"{source!r} has vocab_size={head.out_features}, the task has {vocab_size}; the task must use the "
                f"model's tokenizer: --tokenizer hf:{source}"
            )
        for name in _CHANGES_OF_LOGITS:
            if getattr(config, name, None) not in (None, 1):
                raise ValueError(
                    f"{source!r} has {name}={getattr(config, name)}, so its output layer is not the last thing that it "
                    "computes; it cannot be a generator here"
                )
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        positions = getattr(config, "max_position_embeddings", None)
        for name, most in (("positions", positions), ("tokens of memory", window)):
            if most is not None and sequence_length > most:
                raise ValueError(f"sequence_length={sequence_length}: {source!r} has {most} {name}")

    @torch.no_grad()
    def _check_kind(self) -> None:
        """Check on two short sequences that this class computes what the model itself computes.

        Raises:
            ValueError: if not; then its memory or its output layer is of another kind.
        """
        from seqgan_env.models.slot_cache import memory_shapes

        steps = min(3, self.sequence_length)
        tokens = torch.arange(2 * steps, dtype=torch.int64).view(2, steps) % self.vocab_size
        fed = torch.cat([torch.full((2, 1), self.start_token, dtype=torch.int64), tokens[:, :-1]], dim=1)
        try:
            self._memory_shapes = memory_shapes(self._body, self.start_token, self.device)
            logits = self.model(input_ids=fed).logits.float()
            state, stepped = self.initial_state(2), []
            for column in tokens.unbind(1):
                stepped.append(self.features(state))
                state = self.advance(state, column)
        except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
            raise ValueError(f"{self.source!r} is of a kind that cannot be a generator here: {error}") from error
        for what, found, tolerance in (
            ("output layer is not the last thing that it computes", self.hidden_states(fed), _SAME),
            ("memory is not one of keys and values at positions", torch.stack(stepped, dim=1), _CLOSE),
        ):
            difference = float((self.output(found).float() - logits).abs().max())
            if not difference <= tolerance[self.dtype] * max(1.0, float(logits.abs().max())):
                raise ValueError(
                    f"{self.source!r} is of a kind that cannot be a generator here: its {what} (logits differ by "
                    f"{difference:.3g})"
                )

    @property
    def has_adapters(self) -> bool:
        """Whether LoRA adapters are the trained part."""
        return hasattr(self.model, "peft_config")

    @property
    def causal_model(self) -> Any:
        """The model of `transformers`, with its output layer; LoRA adapters are in its layers."""
        return self.model.get_base_model() if self.has_adapters else self.model

    def adapted_model(self) -> Any:
        """A copy of its own as a `peft.PeftModel`, which names the source as its base model."""
        model = copy.deepcopy(self.model)
        for config in model.peft_config.values():
            config.base_model_name_or_path = self.source
        return model

    def merged_model(self) -> Any:
        """A copy of its own as a model of `transformers`, with the adapters merged into the weights."""
        model = copy.deepcopy(self.model)
        return model.merge_and_unload() if self.has_adapters else model

    @property
    def _body(self) -> Any:
        return self.causal_model.base_model

    def train(self, mode: bool = True) -> PretrainedGenerator:
        """Set the mode; the pretrained model stays in evaluation mode, so that nothing is dropped in it."""
        super().train(mode)
        self.model.eval()
        return self

    def initial_state(self, batch_size: int) -> State:
        fed = torch.zeros(1, dtype=torch.int64, device=self.device)
        memory = [self._zeros(1, heads, self.sequence_length, size) for heads, size in self._memory_shapes]
        start = torch.full_like(fed, self.start_token)
        state = self.advance((self._zeros(1, self.hidden_size), fed, *memory), start)
        return tuple(part.repeat_interleave(batch_size, dim=0) for part in state)

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        from seqgan_env.models.slot_cache import read_one_token

        _, fed, *memory = state
        if not len(tokens):
            return state
        hidden, remembered = read_one_token(self._body, tokens, self._slot(state), memory)
        return hidden, fed + 1, *remembered

    def hidden_states(self, inputs: Tensor) -> Tensor:
        self._check_length(inputs)
        fed = inputs.clone()
        fed[:, 0] = self.start_token
        given: dict[str, Any] = {"input_ids": fed}
        if self._dropout is not None:
            embedded = self.causal_model.get_input_embeddings()(fed)
            given = {"inputs_embeds": self.drop_embeddings(embedded, 1)}
        mask = torch.ones_like(fed)
        hidden: Tensor = self._body(**given, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden

    @torch.no_grad()
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        """Draw N next tokens for each row: (R, N) float32 in [0, 1) -> (R, N) int64.

        A pretrained output layer is tens of megabytes, so it is read in place, without a copy of it for each call.
        """
        hidden, weight = self.features(state), self.output.weight
        if weight.dtype not in (torch.float32, torch.float64):
            return draw_tokens(self.output, hidden, uniforms, self.temperature)
        bias = self.output.bias if self._has_bias else None
        tokens = torch.empty(uniforms.shape, dtype=torch.int64, device=hidden.device)
        padding = 0 if self.vocab_size <= _SEGMENT else -self.vocab_size % _SEGMENT
        block = max(1, _BLOCK_BYTES // (weight.element_size() * self.vocab_size))
        for start in range(0, len(hidden), block):
            rows = slice(start, start + block)
            logits = F.linear(hidden[rows], weight, bias)
            if self.temperature != 1.0:
                logits /= self.temperature
            masses = logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
            tokens[rows] = draw_from_masses(F.pad(masses, (0, padding)) if padding else masses, uniforms[rows])
        return tokens

    @torch.no_grad()
    def log_probs(self, sequences: Tensor) -> Tensor:
        rows = max(1, _SCORED_TOKENS // self.sequence_length)
        return torch.cat([self._batch_log_probs(batch) for batch in sequences.to(self.device).split(rows)])


def _start_token(source: str, config: Any) -> int:
    """BOS, or EOS if there is no BOS.

    Raises:
        ValueError: if there is neither.
    """
    for token in (config.bos_token_id, config.eos_token_id):
        first = token[0] if isinstance(token, list | tuple) and token else token
        if isinstance(first, int):
            return first
    raise ValueError(f"{source!r} has neither BOS nor EOS in its configuration, so there is no start symbol")
