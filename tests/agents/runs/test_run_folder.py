"""`run_folder`: what a run is made of, where it may be, and what it never does."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.runs.checkpoints import write_tensors
from agents.runs.flat_names import FLAT_NAMES
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment, close_run, evaluate_run
from agents.setting_paths import value_at
from seqgan_env.components import GENERATORS
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.arithmetic import arithmetic_task
from seqgan_env.tasks.music import MusicTask, music_task
from seqgan_env.tasks.oracle import oracle_task, seeded_oracle
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.text import text_task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from seqgan_env.vocabulary import Vocabulary
from tests.agents.conftest import new_run, tiny_config, train


def test_a_run_folder_has_everything_in_its_place(finished_run: RunFolder) -> None:
    names = {str(path.relative_to(finished_run.path)) for path in finished_run.path.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("tensorboard/events")}
    assert len(events) == 1
    assert names - events == {
        "run.json",
        "task.safetensors",
        "metrics.csv",
        "lock",
        "checkpoints/latest.safetensors",
        "checkpoints/previous.safetensors",
        "checkpoints/mle.safetensors",
        *(f"samples/{stage}.txt" for stage in ("mle-001", "mle-002")),
        *(f"samples/adversarial-{index:03d}.txt" for index in (1, 2, 3)),
    }


def test_it_describes_how_it_came_about(finished_run: RunFolder) -> None:
    description = json.loads((finished_run.path / "run.json").read_text())
    assert description["task"] == "toy"
    assert description["preset"] == "toy"
    assert description["config"]["seed"] == 0
    # A CUDA build calls itself 2.13.0+cu130, and its distribution 2.13.0.
    assert description["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "numpy", "gymnasium", "stable-baselines3", "seqgan-gym"} <= set(description["versions"])
    assert finished_run.config() == tiny_config().complete()


@pytest.mark.parametrize(
    "task",
    [
        toy_task(n_sequences=20),
        oracle_task(30, 7, oracle=5, n_sequences=10, hidden_size=6),
        Task(
            "words", 3, 4, lambda _: torch.tensor([[0, 2, 3, 3], [1, 1, 1, 1]]), 2, Vocabulary(["a", "b", "."], eos=".")
        ),
        music_task(step_seconds=0.3),
        text_task(max_sequences=60),
        arithmetic_task(7, 1, n_sequences=20),
        Task("text", 3, 2, lambda _: torch.tensor([[0, 2], [1, 1]])),  # a name of ours, and nothing else
    ],
    ids=lambda task: f"{task.name}-{type(task).__name__}",
)
def test_a_task_comes_back_as_it_was(tmp_path: Path, task: Task) -> None:
    read = RunFolder.create(tmp_path / "run", task, tiny_config(), "toy").task()
    assert type(read) is type(task)
    assert read.summary() == task.summary()
    assert getattr(read, "step_seconds", None) == getattr(task, "step_seconds", None)
    assert pickle.loads(pickle.dumps(read)).state() == task.state()
    for name in ("name", "vocab_size", "sequence_length", "eos_token"):
        assert getattr(read, name) == getattr(task, name)
    for split in ("train", "validation", "test"):
        assert torch.equal(read.real_sequences(split), task.real_sequences(split))
        assert read.real_sequences(split).dtype == torch.int64
    sequences = task.real_sequences("test")
    if task.oracle is not None:
        assert read.oracle is not None
        assert torch.equal(read.oracle.log_probs(sequences), task.oracle.log_probs(sequences))
    else:
        assert read.oracle is None
    if task.vocabulary is not None:
        assert read.vocabulary is not None
        assert read.vocabulary.decode(sequences[0].tolist()) == task.vocabulary.decode(sequences[0].tolist())


def test_music_of_a_folder_from_before_tasks_had_classes_keeps_its_step(tmp_path: Path) -> None:
    task = music_task()
    run = RunFolder.create(tmp_path / "run", task, tiny_config(), "paper", corpus_options={"step_seconds": 0.25})
    old = {name: value for name, value in task.state().items() if name not in ("class", "step_seconds")}
    write_tensors(run.path / "task.safetensors", task.tensors(), old)
    read = run.task()
    assert isinstance(read, MusicTask)
    assert read.step_seconds == 0.25
    assert read.measures().panels == task.measures().panels


def test_a_run_can_be_moved_and_needs_no_oracle_file(tmp_path: Path) -> None:
    """Evaluated, sampled and resumed at another place, with the oracle's file gone: the same numbers."""
    oracle = seeded_oracle(7, 5, 4)
    file = tmp_path / "oracle.npz"
    hidden = oracle.hidden_size
    gates = {}
    for kind, matrix in (("W", oracle.input_weight), ("U", oracle.recurrent_weight), ("b", oracle.gate_bias)):
        for place, gate in enumerate(("i", "f", "og", "c")):
            gates[f"{kind}{gate}"] = matrix[..., place * hidden : (place + 1) * hidden].detach().numpy()
    output = {"Wo": oracle.output.weight.detach().t().numpy(), "bo": oracle.output.bias.detach().numpy()}
    np.savez(file, embeddings=oracle.embedding.detach().numpy(), **gates, **output)
    task = toy_task(oracle=str(file), n_sequences=64)
    config = tiny_config(oracle=str(file), rounds=1)
    here = train(RunFolder.create(tmp_path / "here", task, config, "toy"))
    expected = [str(row.metrics) for row in evaluate_run(here, 50, (1.0, 0.8), 0, "cpu")]
    metrics, weights = here.metrics_path.read_bytes(), here.latest_checkpoint.read_bytes()
    interrupted = RunFolder.create(tmp_path / "interrupted", task, config, "toy")
    file.unlink()
    (tmp_path / "another").mkdir()
    there = RunFolder(Path(shutil.move(here.path, tmp_path / "another" / "place")))
    assert [str(row.metrics) for row in evaluate_run(there, 50, (1.0, 0.8), 0, "cpu")] == expected
    assert sample_sequences(there.generator(), 5, 3, np.random.default_rng(0)).shape == (5, 3)
    again = RunFolder(Path(shutil.move(interrupted.path, tmp_path / "another" / "run")))
    train(again)
    assert again.metrics_path.read_bytes() == metrics
    assert again.latest_checkpoint.read_bytes() == weights


def test_resuming_evaluating_and_sampling_run_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    run = train(run)

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("something was unpickled")

    class Refuse:
        __init__ = refuse

    for name in ("load", "loads"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", Refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    monkeypatch.setattr("cloudpickle.loads", refuse)
    again = RunFolder(run.path)
    train(again)
    close_run(again, "cpu", Console(quiet=True))
    evaluate_run(again, 20, (1.0, 0.5), 0, "cpu")
    sample_sequences(again.generator(), 5, 3, np.random.default_rng(0))


def test_every_file_of_a_run_is_json_csv_safetensors_png_text_or_tensorboard(finished_run: RunFolder) -> None:
    kinds = {path.suffix for path in finished_run.path.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    assert kinds <= {".json", ".csv", ".safetensors", ".png", ".txt", ""}
    assert (finished_run.path / "lock").read_bytes() == b""
    for path in finished_run.path.rglob("*.safetensors"):
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert json.loads(path.read_bytes()[8 : 8 + header])["__metadata__"]["state"]


@pytest.mark.parametrize("content", ["file", "folder", "run", "file in its place"])
def test_a_place_that_is_used_is_refused_and_left_as_it_is(tmp_path: Path, task: Task, content: str) -> None:
    out = tmp_path / "out"
    if content == "run":
        new_run(out)
    elif content == "file in its place":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").mkdir() if content == "folder" else (out / "mine").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"out='.*' is already used; choose another folder, or go on with --resume"):
        RunFolder.create(out, task, tiny_config(), "toy")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_may_be_used(tmp_path: Path, task: Task) -> None:
    RunFolder.create(tmp_path, task, tiny_config(), "toy")
    assert RunFolder(tmp_path).config() == tiny_config().complete()


def test_a_folder_whose_making_was_interrupted_can_be_made_again(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        if calls.append(1) or len(calls) == 3:  # the third: run.json, after the task
            raise OSError(28, "No space left on device")

    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        RunFolder.create(tmp_path / "run", task, tiny_config(), "toy")
    monkeypatch.undo()
    assert (tmp_path / "run" / "task.safetensors").is_file()
    with pytest.raises(ValueError, match=r"has no run\.json"):
        RunFolder(tmp_path / "run")
    assert RunFolder.create(tmp_path / "run", task, tiny_config(), "toy").config() == tiny_config().complete()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "is not a run folder: it has no run.json; give a folder that training made"),
        ("", "run.json' cannot be read"),
        ('{"kind": "seqgan-r', "run.json' cannot be read"),
        ("[]", "is of another kind"),
        ('{"kind": "other"}', "is of another kind"),
    ],
)
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, text: str | None, match: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        RunFolder(tmp_path)


@pytest.mark.parametrize("config", [None, {}, {"hidden_size": 0}, {"nonsense": 1}])
def test_a_run_whose_settings_are_gone_is_refused(tmp_path: Path, config: dict[str, Any] | None) -> None:
    description = {"kind": "seqgan-run", "format": 2, "task": "toy", "task_options": "toy"} | (
        {} if config is None else {"config": config}
    )
    (tmp_path / "run.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="holds no valid configuration"):
        RunFolder(tmp_path).config()


def test_a_run_without_checkpoint_or_metrics_says_so(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with pytest.raises(ValueError, match="has no checkpoint yet; go on with: seqgan train"):
        run.generator()
    with pytest.raises(ValueError, match=r"has no metrics.csv yet"):
        run.metrics()


def test_remains_of_a_half_written_checkpoint_are_never_picked_up(tmp_path: Path, finished_run: RunFolder) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run.path, tmp_path / "run")))
    expected = run.generator().state_dict()
    whole = run.latest_checkpoint.read_bytes()
    (run.path / "checkpoints" / ".latest.safetensors.123.tmp").write_bytes(whole[: len(whole) // 2])
    for name, tensor in run.generator().state_dict().items():
        assert torch.equal(tensor, expected[name])
    train(run)
    assert not list(run.path.rglob("*.tmp"))
    for checkpoint in run.checkpoints:
        checkpoint.unlink()
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        run.generator()


def test_a_truncated_checkpoint_or_task_is_an_error_that_names_the_file(
    tmp_path: Path, finished_run: RunFolder
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run.path, tmp_path / "run")))
    for checkpoint in run.checkpoints:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"latest\.safetensors' is not a readable checkpoint"):
        train(run)
    with pytest.raises(ValueError, match=r"latest\.safetensors' is not a readable checkpoint"):
        run.generator()
    task = run.path / "task.safetensors"
    task.write_bytes(task.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"task\.safetensors' is not a readable"):
        run.task()


def test_rows_are_written_in_fixed_columns_and_digits(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.rewind_metrics(0)
    run.log({"stage": "mle", "index": 1, "epoch": 1, "train_nll": 1 / 3, "nll_oracle": None})
    run.close()
    header, row = run.metrics_path.read_text().splitlines()
    assert header == (
        "stage,index,epoch,train_nll,validation_nll,nll_oracle,nll_oracle_se,nll_test,nll_test_se,entropy,distinct,"
        "discriminator_loss,discriminator_accuracy,discriminator_calibration_error,mean_reward"
    )
    assert row == "mle,1,1,0.333333" + "," * 11
    assert run.metrics()[0]["train_nll"] == "0.333333"
    size = run.metrics_size()
    run.log({"stage": "mle", "index": 2, "epoch": 2})
    run.rewind_metrics(size)
    run.close()
    assert run.metrics_path.read_text().splitlines() == [header, row]
    run.rewind_metrics(0)
    assert run.metrics_path.read_text().splitlines() == [header]


def test_parameters_of_something_else_are_refused(tmp_path: Path) -> None:
    from agents.runs.checkpoints import write_tensors

    run = new_run(tmp_path / "run")
    write_tensors(run.latest_checkpoint, {"policy.generator.embedding": torch.ones(3, 2)}, {})
    with pytest.raises(ValueError, match=r"parameters in '.*latest.safetensors' are not those of generator='lstm': "):
        run.generator()


# Generators and discriminators by name.


@pytest.mark.parametrize("name", GENERATORS)
def test_the_generator_comes_back_as_it_was_trained_whatever_its_kind(tmp_path: Path, name: str) -> None:
    run = new_run(tmp_path / "run", generator=name, rounds=1)
    experiment = Experiment(run, console=Console(quiet=True), show_progress=False)
    experiment.train()
    read, trained = RunFolder(run.path).generator(), experiment.game.generator
    assert type(read) is GENERATORS[name]
    sequences = enumerate_sequences(3, 3)
    assert torch.equal(read.log_probs(sequences), trained.log_probs(sequences))


@pytest.mark.parametrize("name", GENERATORS)
def test_reading_a_run_with_built_in_parts_imports_no_module_but_that_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = new_run(tmp_path / "run", generator=name, mle_epochs=0, rounds=0, discriminator_pretraining_steps=0)
    train(run)
    original = importlib.import_module

    def only_the_tasks(module: str) -> ModuleType:
        return original(module) if module == "seqgan_env.tasks.toy" else pytest.fail(f"{module} was imported")

    monkeypatch.setattr(importlib, "import_module", only_the_tasks)
    again = RunFolder(run.path)
    evaluate_run(again, 20, (1.0,), 0, "cpu")
    sample_sequences(again.generator(), 5, 3, np.random.default_rng(0))


def test_a_generator_of_ones_own_is_built_from_its_module_and_missed_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_generator_module.py").write_text(
        "from seqgan_env.models.sequence_models import GRUSequenceModel\nclass Own(GRUSequenceModel):\n    pass\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        run = train(new_run(tmp_path / "run", generator="own_generator_module:Own", rounds=1))
        generator = run.generator()
        assert type(generator).__name__ == "Own"
        assert generator is not run.generator(run.mle_checkpoint)
    monkeypatch.delitem(sys.modules, "own_generator_module")
    with pytest.raises(
        ValueError,
        match=r"run' was trained with generator='own_generator_module:Own', which cannot be built now.*No module named "
        r"'own_generator_module'; is the folder of own_generator_module the current one, or on PYTHONPATH\?",
    ):
        run.generator()


def test_a_generator_that_has_changed_since_is_refused(tmp_path: Path, finished_run: RunFolder) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run.path, tmp_path / "run")))
    run.description["config"]["generator"]["name"] = "gru"
    with pytest.raises(ValueError, match=r"(?s)are not those of generator='gru': .*size mismatch"):
        run.generator()


# Starting from another run's pretraining.

PRETRAINING_SETTINGS = {
    "seed": 1,
    "generator": "gru",
    "embedding_size": 5,
    "init_std": 0.2,
    "batch_size": 32,
    "mle_epochs": 3,
    "mle_patience": 3,
    "mle_reshuffle": False,
    "epoch_sequences": 64,
    "mle_learning_rate": 0.5,
    "curriculum_rate_step": 0.5,
    "evaluate_every_epochs": 1,
    "evaluation_samples": 51,
    "held_out_sequences": 64,
}


@pytest.mark.parametrize("setting", PRETRAINING_SETTINGS)
def test_a_pretraining_with_other_settings_is_refused_and_the_setting_named(
    tmp_path: Path, finished_run: RunFolder, setting: str
) -> None:
    other = PRETRAINING_SETTINGS[setting]
    (path, *_) = FLAT_NAMES[setting]
    was = value_at(finished_run.config(), path)
    message = re.escape(f" has {path}={was!r}, the new run {other!r}; both must agree")
    with pytest.raises(ValueError, match=message):
        new_run(tmp_path / "run", pretrained=finished_run, **{setting: other})
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "changes", [{"rounds": 1}, {"dropout": 0.5}, {"generator_learning_rate": 0.5}, {"evaluate_every_rounds": 1}]
)
def test_settings_of_the_game_need_not_agree_with_the_pretrainings(
    tmp_path: Path, finished_run: RunFolder, changes: dict[str, Any]
) -> None:
    assert new_run(tmp_path / "run", pretrained=finished_run, **changes).metrics_size() > 0


def test_a_pretraining_on_other_sequences_is_refused(tmp_path: Path, finished_run: RunFolder) -> None:
    task = toy_task(oracle=5, n_sequences=64)
    with pytest.raises(ValueError, match=r"pretrained='.*' has other real sequences or another oracle"):
        RunFolder.create(tmp_path / "run", task, tiny_config(), "toy", pretrained=finished_run)


def test_a_pretraining_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pretrained='.*' has not finished its MLE; train it further first"):
        new_run(tmp_path / "run", pretrained=new_run(tmp_path / "mle"))


def test_a_branched_run_has_the_pretrainings_measurements_and_says_where_it_came_from(
    tmp_path: Path, finished_run: RunFolder
) -> None:
    run = new_run(tmp_path / "run", pretrained=finished_run, reward_model="constant")
    assert [row["stage"] for row in run.metrics()] == ["mle", "mle"]
    assert run.description["pretrained"] == str(finished_run.path)
    assert finished_run.description["pretrained"] is None
    assert torch.equal(
        run.generator(run.mle_checkpoint).embedding, finished_run.generator(finished_run.mle_checkpoint).embedding
    )


def test_a_branching_that_was_interrupted_can_be_made_again(
    tmp_path: Path, finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def fail_at(moment: int) -> None:
        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == moment:
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        calls.clear()
        monkeypatch.setattr(os, "fsync", fail)

    for moment in (3, 5, 7):  # measurements, checkpoint, description
        fail_at(moment)
        with pytest.raises(OSError, match="No space"):
            new_run(tmp_path / "run", pretrained=finished_run)
        assert not (tmp_path / "run" / "run.json").exists()
    monkeypatch.undo()
    run = train(new_run(tmp_path / "run", pretrained=finished_run))
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


# Run folders of earlier versions.

FORMAT_1 = Path(__file__).parent / "format_1"  # `train toy` of version 0.1.0; the checkpoint holds the generator alone


def test_a_run_folder_of_format_1_is_still_read() -> None:
    run = RunFolder(FORMAT_1)
    config = run.config()
    assert (config.pretraining.epochs, config.game.rounds, config.discriminator.options["filters"]) == (2, 1, "short")
    assert (config.task.train_sequences, config.generator.options["hidden_size"]) == (64, 6)
    assert run.task().real_sequences("train").shape == (64, 3)
    assert [row["stage"] for row in run.metrics()] == ["mle", "mle", "discriminator", "adversarial"]
    generator = run.generator()
    assert generator.hidden_size == 6
    drawn = sample_sequences(generator, 5, 3, np.random.default_rng(1))
    vocabulary = run.task().vocabulary
    assert vocabulary is not None
    expected = (FORMAT_1 / "samples.txt").read_text(encoding="utf-8").splitlines()  # as version 0.1.0 drew them
    assert [vocabulary.decode(row) for row in drawn.tolist()] == expected


def test_a_run_folder_of_format_1_is_not_gone_on_with() -> None:
    with pytest.raises(ValueError, match=r"has format=1: it can be evaluated, sampled and plotted, but"):
        Experiment(RunFolder(FORMAT_1))


@pytest.mark.parametrize("number", [0, 3, None, "2"])
def test_a_run_folder_of_another_format_is_refused(tmp_path: Path, number: Any) -> None:
    run = Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    description = json.loads((run / "run.json").read_text()) | {"format": number}
    (run / "run.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"this version reads 1 and 2\. Use the version .* that made it: 0\.1\.0"):
        RunFolder(run)


def test_a_setting_that_format_1_did_not_have_is_refused(tmp_path: Path) -> None:
    run = Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    description = json.loads((run / "run.json").read_text())
    description["config"]["nonsense"] = 1
    (run / "run.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="holds no valid configuration: 'nonsense' is no setting"):
        RunFolder(run).config()
