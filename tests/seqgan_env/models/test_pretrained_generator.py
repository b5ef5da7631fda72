"""Pretrained generators: the numbers of `transformers`, states that fork, copies that share their frozen weights."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.components import build_generator
from seqgan_env.models.dropout import Dropout
from seqgan_env.models.pretrained import library, load_model, source_of
from seqgan_env.models.pretrained_generator import PretrainedGenerator
from seqgan_env.models.sampling import draw_tokens
from seqgan_env.models.sequence_models import shift_right
from seqgan_env.rollout_policies import DelayedCopy, complete_sequences, fork, replay, sample_sequences
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import check_sequence_model
from tests.marks import slow
from tests.tiny_models import V, gpt2

T = 5
FAMILIES = ("gpt2", "llama")
pytestmark = pytest.mark.usefixtures("tiny_models")


def generator(folder: Path, **options: Any) -> PretrainedGenerator:
    return PretrainedGenerator(V, T, str(folder), **options)


def tokens(rows: int = 4, length: int = T) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(V, size=(rows, length)))


def trained(model: PretrainedGenerator) -> PretrainedGenerator:
    """The model after noise on its trained parameters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return model


def of_library(model: PretrainedGenerator, sequences: Tensor) -> Tensor:
    """log p of each token by the library's own forward pass, (B, T)."""
    start = torch.full_like(sequences[:, :1], model.start_token)
    with torch.no_grad():
        logits = model.model(input_ids=torch.cat([start, sequences[:, :-1]], dim=1)).logits
    return logits.log_softmax(dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2)


@pytest.mark.parametrize(("family", "rank"), [("gpt2", 4), slow("llama", 4), slow("gpt2", 0), slow("llama", 0)])
def test_the_conformance_suite_passes(tiny_models: Path, family: str, rank: int) -> None:
    check_sequence_model(PretrainedGenerator(V, 4, str(tiny_models / family), lora_rank=rank))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [0, 4])
def test_log_probabilities_are_those_of_the_library(tiny_models: Path, family: str, rank: int) -> None:
    model = trained(generator(tiny_models / family, lora_rank=rank))
    sequences = tokens()
    torch.testing.assert_close(model.log_probs(sequences), of_library(model, sequences), atol=1e-5, rtol=1e-5)
    plain = load_model("AutoModelForCausalLM", tiny_models / family, torch.float32)
    untrained = generator(tiny_models / family, lora_rank=rank)
    logits = plain(input_ids=shift_right(sequences, V).index_fill(1, torch.tensor([0]), untrained.start_token)).logits
    expected = logits.log_softmax(dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(untrained.log_probs(sequences), expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_different_lengths_are_left_padded_rows_of_the_library(tiny_models: Path, family: str) -> None:
    model = trained(generator(tiny_models / family))
    sequences, lengths = tokens(T), torch.arange(T)  # prefixes of 0 to T - 1 tokens
    found = model.output(model.features(replay(model, sequences, lengths)))
    padded, mask = torch.zeros(T, T, dtype=torch.int64), torch.zeros(T, T, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        prefix = torch.cat([torch.tensor([model.start_token]), sequences[row, :length]])
        padded[row, T - len(prefix) :], mask[row, T - len(prefix) :] = prefix, 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    expected = model.model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, -1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forked_state_is_that_of_a_prefix_read_again(tiny_models: Path, family: str) -> None:
    model = trained(generator(tiny_models / family))
    sequences, lengths = tokens(3), torch.full((3,), 2)
    forked = fork(replay(model, sequences, lengths), 2)
    continued = torch.tensor([5, 6, 7, 8, 9, 10])
    whole = torch.cat([sequences[:, :2].repeat_interleave(2, dim=0), continued.unsqueeze(1)], dim=1)
    again = replay(model, whole, torch.full((6,), 3))
    for one, other in zip(model.advance(forked, continued), again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_completions_begin_with_their_prefix_and_end_with_eos(tiny_models: Path) -> None:
    model = generator(tiny_models / "gpt2")
    prefixes = tokens(2)
    prefixes[:, 2:] = V
    lengths = torch.full((2,), 2)
    uniforms = torch.from_numpy(np.random.default_rng(0).random((2, 200, T), dtype=np.float32))
    completed = complete_sequences(model, replay(model, prefixes, lengths), prefixes, lengths, uniforms, eos_token=0)
    assert (completed[:, :2] == prefixes[:, :2].repeat_interleave(200, dim=0)).all()
    ended = (completed == 0).cumsum(dim=1)
    assert ((completed == V) == ((ended > 0) & (completed != 0))).all()
    assert (completed == V).any()


def test_the_start_symbol_is_bos_or_else_eos(tiny_models: Path, tmp_path: Path) -> None:
    assert generator(tiny_models / "llama").start_token == 1  # EOS: it has no BOS
    gpt2(tmp_path / "other", bos_token_id=7)
    model = generator(tmp_path / "other")
    assert model.start_token == 7
    sequences = tokens()
    torch.testing.assert_close(model.log_probs(sequences), of_library(model, sequences), atol=1e-5, rtol=1e-5)
    gpt2(tmp_path / "none", bos_token_id=None, eos_token_id=None)
    with pytest.raises(ValueError, match="neither BOS nor EOS"):
        generator(tmp_path / "none")


def test_gradients_reach_the_adapters_alone(tiny_models: Path) -> None:
    model = trained(generator(tiny_models / "gpt2"))
    model.weighted_log_likelihood(tokens(), torch.ones(4, T)).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached
    assert all("lora_" in name for name in reached)
    assert reached == set(model.state_dict())


def test_the_gradient_of_an_adapter_is_that_of_the_library(tiny_models: Path) -> None:
    model = trained(generator(tiny_models / "llama"))
    sequences = tokens()
    model.weighted_log_likelihood(sequences, torch.ones(4, T)).backward()
    own = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.zero_grad()
    start = torch.full_like(sequences[:, :1], model.start_token)
    logits = model.model(input_ids=torch.cat([start, sequences[:, :-1]], dim=1)).logits
    logits.log_softmax(dim=2).gather(2, sequences.unsqueeze(2)).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(own[name], parameter.grad, atol=1e-4, rtol=1e-3)


def bytes_of(*models: torch.nn.Module) -> int:
    """Bytes of all parameters, each memory once."""
    memory = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in models for p in m.parameters()}
    return sum(memory.values())


def test_copies_share_the_base_and_not_the_adapters(tiny_models: Path) -> None:
    model = trained(generator(tiny_models / "gpt2", lora_rank=1))
    base = sum(tensor.nbytes for tensor in model.base_tensors())
    beta, anchor = DelayedCopy(model, rate=0.5), copy.deepcopy(model)
    again = copy.deepcopy(beta.model)  # a copy of a frozen copy
    assert bytes_of(model, beta.model, anchor, again) < 2 * base
    assert not {id(p) for p in model.parameters() if p.requires_grad} & {id(p) for p in beta.model.parameters()}
    frozen = [tensor.clone() for tensor in model.base_tensors()]
    before = copy.deepcopy(anchor.state_dict())
    target = {name: value.clone() for name, value in beta.state_dict().items()}
    trained(model)
    beta.follow(model)
    assert all(map(torch.equal, model.base_tensors(), frozen))  # although rate 0.5 scales parameters in place
    for name, value in model.state_dict().items():
        torch.testing.assert_close(beta.state_dict()[name], 0.5 * target[name] + 0.5 * value)
        assert torch.equal(anchor.state_dict()[name], before[name])
        assert torch.equal(again.state_dict()[name], before[name])


def test_a_saved_state_holds_the_trained_part_alone(tiny_models: Path) -> None:
    model, other = trained(generator(tiny_models / "gpt2", seed=1)), generator(tiny_models / "gpt2", seed=2)
    sequences = tokens()
    assert not torch.equal(model.log_probs(sequences), other.log_probs(sequences))
    assert all("lora_" in name for name in model.state_dict())
    holder, receiver = torch.nn.Module(), torch.nn.Module()
    holder.inner, receiver.inner = model, other
    receiver.load_state_dict(holder.state_dict())  # within another module, as in a policy
    assert torch.equal(model.log_probs(sequences), other.log_probs(sequences))
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_state_dict({})
    whole = generator(tiny_models / "gpt2", lora_rank=0)
    values = [value.data_ptr() for value in whole.state_dict().values()]
    assert len(values) == len(set(values)) == len(list(whole.causal_model.parameters()))  # tied weights once


def test_a_pickled_model_goes_on_with_the_same_numbers(tiny_models: Path) -> None:
    model = trained(generator(tiny_models / "llama"))
    copied: PretrainedGenerator = pickle.loads(pickle.dumps(model))
    assert torch.equal(model.log_probs(tokens()), copied.log_probs(tokens()))
    assert copied.state_dict().keys() == model.state_dict().keys()


def test_drawing_is_that_of_every_sequence_model(tiny_models: Path) -> None:
    model = trained(generator(tiny_models / "gpt2"))
    state = replay(model, tokens(6), torch.full((6,), 3))
    uniforms = torch.from_numpy(np.random.default_rng(0).random((6, 500), dtype=np.float32))
    for temperature in (1.0, 0.5):
        drawn = model.at_temperature(temperature).draw(state, uniforms)
        expected = draw_tokens(model.output, model.features(state), uniforms, temperature)
        assert (drawn == expected).float().mean() > 0.99  # a border may be rounded


def test_a_bfloat16_model_is_close_to_the_float32_one(tiny_models: Path) -> None:
    model, exact = generator(tiny_models / "llama", dtype="bfloat16"), generator(tiny_models / "llama")
    assert model.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert model.initial_state(2)[2].dtype == torch.bfloat16
    sequences = tokens(20)
    difference = (model.log_probs(sequences) - exact.log_probs(sequences)).abs()
    assert difference.mean() < 0.05
    model.weighted_log_likelihood(sequences, torch.ones(20, T)).backward()
    drawn = sample_sequences(model, 50, T, np.random.default_rng(0))
    assert drawn.shape == (50, T)


def test_dropout_is_off_inside_the_model_and_on_where_pretraining_asks_for_it(tiny_models: Path) -> None:
    model = generator(tiny_models / "gpt2").train()
    sequences, weights = tokens(), torch.ones(4, T)
    whole = model.weighted_log_likelihood(sequences, weights)
    assert torch.equal(whole, model.weighted_log_likelihood(sequences, weights))
    with model.dropping(Dropout(0.5, 0.0, False, torch.Generator().manual_seed(0))):
        dropped = model.weighted_log_likelihood(sequences, weights)
    assert not torch.isclose(whole, dropped)


def test_a_seed_draws_the_adapters_and_no_random_stream_moves(tiny_models: Path) -> None:
    made = []
    for seed, of_the_program in ((3, 0), (3, 1), (4, 1)):
        torch.manual_seed(of_the_program)
        before = torch.get_rng_state()
        made.append(generator(tiny_models / "gpt2", seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
    first, same, other = made
    assert all(map(torch.equal, first.state_dict().values(), same.state_dict().values()))
    assert not all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))


def test_loading_says_nothing_and_leaves_the_library_as_it_was(
    tiny_models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging = library("transformers").utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator(tiny_models / "gpt2")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": V - 1}, "vocab_size=64, the task has 63.*--tokenizer hf:"),
        ({"sequence_length": 33}, "sequence_length=33.*32 positions"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, bfloat16"),
        ({"lora_rank": -1}, "lora_rank=-1"),
        ({"lora_alpha": 0.0}, "lora_alpha=0.0"),
    ],
)
def test_a_wrong_size_is_named(tiny_models: Path, options: dict[str, Any], message: str) -> None:
    arguments = {"vocab_size": V, "sequence_length": T, "source": str(tiny_models / "gpt2")} | options
    with pytest.raises(ValueError, match=message):
        PretrainedGenerator(**arguments)


def test_tokens_beyond_the_horizon_are_refused(tiny_models: Path) -> None:
    model = generator(tiny_models / "gpt2")
    with pytest.raises(ValueError, match="sequence_length=5"):
        model.hidden_states(torch.zeros(1, T + 1, dtype=torch.int64))
    state = replay(model, tokens(1), torch.tensor([T]))
    with pytest.raises(ValueError, match="sequence_length=5"):
        model.features(state)


def test_models_of_other_kinds_are_refused_with_a_reason(tmp_path: Path) -> None:
    transformers: Any = library("transformers")
    sizes = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 1}
    softcapped = transformers.Gemma2Config(
        **sizes, intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        final_logit_softcapping=30.0,
    )  # fmt: skip
    transformers.Gemma2ForCausalLM(softcapped).save_pretrained(tmp_path / "softcapped")
    with pytest.raises(ValueError, match="output layer is not the last thing"):
        generator(tmp_path / "softcapped")
    for name, config in {
        "mamba": transformers.MambaConfig(**sizes, state_size=4),
        "bloom": transformers.BloomConfig(vocab_size=V, hidden_size=16, n_layer=1, n_head=2),
    }.items():
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match="of a kind that cannot be a generator here"):
            generator(tmp_path / name)


def test_code_that_comes_with_a_model_is_never_run(tiny_models: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "hostile", tmp_path / "was_run"
    shutil.copytree(tiny_models / "gpt2", folder)
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    names = {name: f"theirs.{name}" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}
    config |= {"auto_map": names, "_attn_implementation": "nobody/kernel", "attn_implementation": "nobody/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    model = generator(folder)  # a known kind: the library's own class is taken
    assert model.causal_model.config._attn_implementation == "sdpa"
    config["model_type"] = "theirs"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be read"):
        generator(folder)
    assert not mark.exists()


def test_only_safetensors_are_read(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_models / "gpt2", folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        generator(folder)


def test_an_adapter_and_a_folder_that_is_missing_are_named(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_models / "gpt2", folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a LoRA adapter; merge it"):
        generator(folder)
    with pytest.raises(ValueError, match="no such folder"):
        source_of(f"hf:{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="names no model"):
        source_of("hf:")
    assert source_of("hf:gpt2") == "gpt2"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"seqgan-gym\[transformers\]"):
        build_generator(f"hf:{tiny_models / 'gpt2'}", toy_task())
