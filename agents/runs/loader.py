"""Loads the model of this folder with PyTorch alone: `model, config = load(folder)`."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class LanguageModel(nn.Module):
    """Logits (B, T, V) of the next tokens, from tokens (B, T) int64. Begin every row with token 0."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        vocab_size, embedding_size, width = (config[name] for name in ("vocab_size", "embedding_size", "hidden_size"))
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.network: Any
        if config["kind"] == "transformer":
            self.project = nn.Linear(embedding_size, width, bias=False)
            self.positions = nn.Embedding(config["sequence_length"], width)
            layer = nn.TransformerEncoderLayer(
                width, config["heads"], 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.network = nn.TransformerEncoder(layer, config["layers"], nn.LayerNorm(width), False)
        else:
            self.network = {"lstm": nn.LSTM, "gru": nn.GRU}[config["kind"]](embedding_size, width, batch_first=True)
        self.output = nn.Linear(width, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if not isinstance(self.network, nn.TransformerEncoder):
            return self.output(self.network(x)[0])
        x = self.project(x) + self.positions.weight[: tokens.shape[1]]
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).triu(1)
        return self.output(self.network(x, later, is_causal=True))


def load(folder: str) -> tuple[LanguageModel, dict[str, Any]]:
    """The model, ready to use, and its configuration."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    content = Path(folder, "model.safetensors").read_bytes()  # length of the header in 8 bytes; header; numbers
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        first, last = (start + offset for offset in entry["data_offsets"])
        tensors[name] = torch.frombuffer(bytearray(content[first:last]), dtype=torch.float32).view(entry["shape"])
    model = LanguageModel(config)
    model.load_state_dict(tensors)
    return model.eval(), config
