"""Exported models: PyTorch alone, and ONNX Runtime, give the logits of the run's generator."""

from __future__ import annotations

import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents.command import main as cli
from agents.runs.plain_export import export_plain, loader_parameters
from agents.runs.run_folder import RunFolder
from seqgan_env.models.attention_models import AttentionLSTMSequenceModel, TransformerSequenceModel
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, SequenceModel, shift_right
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task

V, T = 30, 7
MODELS: dict[str, SequenceModel] = {
    "lstm": LSTMSequenceModel(V, 5, 8, 1.0, 1),
    "tied lstm": LSTMSequenceModel(V, 8, 8, 1.0, 1, tied=True),
    "gru": GRUSequenceModel(V, 5, 8, 1.0, 2),
    "gru with two biases": GRUSequenceModel(V, 5, 8, 1.0, 3, recurrent_bias=True),
    "transformer": TransformerSequenceModel(V, 5, 8, 0.5, 4, T, layers=3, heads=2),
    "tied transformer": TransformerSequenceModel(V, 8, 8, 0.5, 4, T, layers=1, heads=4, tied=True),
}


@pytest.fixture(scope="module")
def task() -> Task:
    return oracle_task(V, T, 0, n_sequences=40)


@pytest.mark.parametrize("name", MODELS)
def test_the_loader_beside_the_model_gives_its_log_probabilities(name: str, task: Task, tmp_path: Path) -> None:
    export_plain(MODELS[name], task, tmp_path)
    load = runpy.run_path(str(tmp_path / "load.py"))["load"]  # the file that was written, not ours
    model, config = load(str(tmp_path))
    sequences = task.real_sequences("train")[:9]
    with torch.no_grad():
        log_probs = torch.log_softmax(model(shift_right(sequences, V)), dim=2)
    found = log_probs.gather(2, sequences.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(found, MODELS[name].log_probs(sequences), atol=2e-5, rtol=0)
    assert (config["sequence_length"], config["start_token"], config["eos_token"]) == (T, 0, None)


def test_the_loader_imports_pytorch_alone(task: Task, tmp_path: Path) -> None:
    export_plain(MODELS["lstm"], task, tmp_path)
    code = """
import sys
sys.path.insert(0, ".")
from load import load
load(".")
print([name for name in sys.modules if name.startswith(("seqgan", "agents", "safetensors"))])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len((tmp_path / "load.py").read_text().splitlines()) < 55


def test_a_model_that_pytorch_has_not_is_named() -> None:
    with pytest.raises(ValueError, match="AttentionLSTMSequenceModel cannot be exported: only lstm, gru and transf"):
        loader_parameters(AttentionLSTMSequenceModel(V, 5, 8, sequence_length=T))


@pytest.mark.parametrize("name", ["lstm", "gru with two biases", "transformer"])
def test_onnx_runtime_gives_the_same_logits_for_other_sizes(name: str, task: Task, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason='pip install "seqgan-gym[onnx]" onnxruntime')
    runtime = pytest.importorskip("onnxruntime", reason='pip install "seqgan-gym[onnx]" onnxruntime')
    export_plain(MODELS[name], task, tmp_path, onnx=True)
    model, _ = runpy.run_path(str(tmp_path / "load.py"))["load"](str(tmp_path))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for batch, length in ((1, 1), (6, T)):
        tokens = torch.randint(0, V, (batch, length))
        (logits,) = session.run(None, {"tokens": tokens.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(tokens).detach(), atol=1e-4, rtol=0)


def test_onnx_without_its_extra_is_named(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"seqgan-gym\[onnx\]"):
        export_plain(MODELS["lstm"], task, tmp_path, onnx=True)


# The command.


def call(line: str) -> int:
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def test_a_run_is_exported_with_a_card_whose_code_runs(
    finished_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"export {finished_run.path} {tmp_path / 'model'}") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "generator `lstm`" in card
    assert "## Results" in card
    assert json.loads(card.split("```json\n")[1].split("```")[0])["generator"]["name"] == "lstm"
    code = card.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "model", capture_output=True, text=True, check=True
    )
    drawn = json.loads(done.stdout)
    assert len(drawn) == 3
    assert set(drawn) <= {0, 1, 2}


@pytest.mark.parametrize("option", ["--adapter", "--push-to-hub me/model"])
def test_options_of_pretrained_generators_are_refused(
    option: str, finished_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"export {finished_run.path} {tmp_path / 'model'} {option}") == 2
    assert "is for pretrained generators" in capsys.readouterr().err
    assert not (tmp_path / "model" / "config.json").exists()
