"""Runs with pretrained models: killed, resumed without the original, sampled, exported."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.command import forms
from agents.command.export import export
from agents.runs import model_card
from agents.runs.checkpoints import read_tensors
from agents.runs.presets import PRETRAINED, TEXT
from agents.runs.run_folder import RunFolder
from agents.seqgan import SeqGAN
from agents.setting_paths import changed, value_at
from seqgan_env.models.pretrained import library
from seqgan_env.models.pretrained_generator import PretrainedGenerator
from tests.agents.runs.test_crashes import STATUS, assert_same_run
from tests.marks import slow

Command = Callable[..., tuple[int, str]]
SMALL = (
    "--learner grpo --generator.lora-rank 2 --discriminator.lora-rank 2 --pretraining.epochs 2 "
    "--discriminator.pretraining-steps 2 --discriminator.sample-size 16 --game.rounds 2 --game.d-steps 1 "
    "--game.k-epochs 1 --learner.batch-size 8 --measuring.samples 20 --final-samples 30 --checkpoint-every 1 "
    "--pretraining.epoch-sequences 64 --game.measure-every 1 --minutes None --no-progress"
)
# Imported once, before the commands are forked.
IMPORTS = [
    *("peft", "transformers.models.gpt2.modeling_gpt2", "transformers.models.roberta.modeling_roberta"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
]


def arguments(folder: Path, *more: str) -> list[str]:
    """A small run of the text with both models pretrained."""
    models = ["--generator", f"hf:{folder / 'gpt2'}", "--discriminator", f"hf:{folder / 'roberta'}"]
    return ["train", "text", "--corpus", str(folder / "lines.txt"), *models, *SMALL.split(), *more]


@pytest.fixture(scope="module")
def command(mortal_command: Command) -> Command:
    """As `mortal_command`, with the libraries imported."""
    return functools.partial(mortal_command, imports=IMPORTS)


@pytest.fixture(scope="module")
def whole(tiny_models: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was not interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    status, output = command(arguments(tiny_models, "--out", str(path)))
    assert status == 0, output
    assert "Traceback" not in output
    assert "Warning" not in output
    return RunFolder(path)


@pytest.fixture
def moved_away(tiny_models: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with copies of the models, which a test may remove."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_models, folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("at", "count", "how"),
    [
        ("in a discriminator epoch", 4, "SIGKILL"),  # of the second round, after its update of the generator
        slow("in an MLE epoch", 3, "SIGTERM"),
        slow("in a discriminator epoch", 2, "SIGKILL"),
        slow("checkpoint is half written", 3, "SIGKILL"),
    ],
)
def test_a_killed_run_goes_on_without_the_original_and_ends_as_one_that_was_not(
    moved_away: Path, tmp_path: Path, command: Command, whole: RunFolder, at: str, count: int, how: str
) -> None:
    path = tmp_path / "died"
    status, output = command(arguments(moved_away, "--out", str(path)), at=at, count=count, signal=how)
    assert status == STATUS[how], output
    shutil.rmtree(moved_away)
    status, output = command(["train", "text", "--resume", str(path), "--no-progress"])
    assert status == 0, output
    assert_same_run(RunFolder(path), whole)


def test_a_run_is_sampled_evaluated_and_exported_from_its_folder_alone(
    whole: RunFolder, tmp_path: Path, command: Command
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(whole.path, copied)
    status, output = command(["sample", str(copied), "-n", "3", "--no-nearest"])
    assert status == 0, output
    assert len(output.splitlines()) == 3
    status, output = command(["evaluate", str(copied), "--samples", "20"])
    assert status == 0, output
    assert "NLL_test" in output
    out = tmp_path / "exported"
    status, output = command(["export", str(copied), str(out)])
    assert status == 0, output
    assert output.strip() == str(out)
    status, output = command(["export", str(copied), str(out)])
    assert status == 2
    assert "is already used" in output


def of_library(model: Any, start: int, sequences: torch.Tensor) -> torch.Tensor:
    fed = torch.cat([torch.full_like(sequences[:, :1], start), sequences[:, :-1]], dim=1)
    with torch.no_grad():
        logits = model.eval()(fed).logits
    return logits.log_softmax(dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2)


@pytest.mark.parametrize("adapter", [False, True])
def test_the_exported_model_has_the_numbers_of_the_run(
    whole: RunFolder, tiny_models: Path, tmp_path: Path, adapter: bool
) -> None:
    transformers = library("transformers")
    export(whole.path, tmp_path / "out", adapter=adapter)
    if adapter:
        base = transformers.AutoModelForCausalLM.from_pretrained(tiny_models / "gpt2")
        model = library("peft").PeftModel.from_pretrained(base, tmp_path / "out")
        assert not (tmp_path / "out" / "model.safetensors").exists()
        named = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert named == str(tiny_models / "gpt2")
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    generator = whole.generator()
    assert isinstance(generator, PretrainedGenerator)
    sequences = torch.arange(2 * generator.sequence_length).view(2, -1) % generator.vocab_size
    expected = of_library(model, generator.start_token, sequences)
    torch.testing.assert_close(generator.log_probs(sequences), expected, atol=1e-5, rtol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    row = whole.task().real_sequences("test")[0].tolist()
    assert tokenizer.decode([t for t in row if t not in (0, generator.vocab_size)]) == whole.task().decode(row)


def test_the_model_before_the_game_can_be_exported(whole: RunFolder, tmp_path: Path) -> None:
    export(whole.path, tmp_path / "out", mle=True)
    model = library("transformers").AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    generator = whole.generator(whole.mle_checkpoint)
    sequences = torch.arange(2 * generator.sequence_length).view(2, -1) % generator.vocab_size  # type: ignore[operator]
    expected = of_library(model, 0, sequences)
    torch.testing.assert_close(generator.log_probs(sequences), expected, atol=1e-5, rtol=1e-5)
    assert 'is the line "MLE"' in (tmp_path / "out" / "README.md").read_text()


def test_the_model_card_holds_the_table_the_data_and_the_settings(whole: RunFolder) -> None:
    card = model_card.model_card(whole)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "base_model" not in card.split("---")[1]  # a folder of this machine is nothing on the hub
    header, _, mle = [line for line in card.splitlines() if line.startswith("|")][:3]
    assert header.startswith("| method | NLL_test |")
    results = (whole.path / "results.csv").read_text().splitlines()
    assert f"{float(results[1].split(',')[1]):.3f}" in mle
    assert "There is no oracle for this task" in card
    assert 'is the line "SeqGAN"' in card
    assert "- sequences: train" in card
    settings = json.loads(card.split("```json\n")[1].split("\n```")[0])
    assert settings["learner"]["name"] == "grpo"
    assert settings["generator"]["options"]["lora_rank"] == 2


def test_both_nlls_stand_in_the_card_where_there_is_an_oracle(whole: RunFolder, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(whole.path, copied)
    (copied / "results.csv").write_text("method,nll_test,nll_test_se,nll_oracle,nll_oracle_se\nMLE,1.5,0.1,2.5,0.2\n")
    card = model_card.model_card(RunFolder(copied))
    assert "| method | NLL_test | NLL_oracle |" in card
    assert "| MLE | 1.500 ± 0.100 | 2.500 ± 0.200 |" in card
    assert "There is no oracle" not in card
    (copied / "results.csv").unlink()
    assert "Not measured" in model_card.model_card(RunFolder(copied))


def test_pushing_calls_the_library_and_ends_with_our_card(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    transformers, hub = library("transformers"), library("huggingface_hub")
    for kind in (transformers.GPT2LMHeadModel, transformers.PreTrainedTokenizerBase):
        monkeypatch.setattr(kind, "push_to_hub", lambda self, name: calls.append((type(self).__name__, name)))
    monkeypatch.setattr(
        hub.ModelCard, "push_to_hub", lambda self, name: calls.append((self.content.split("\n# ")[1][:3], name))
    )
    export(whole.path, tmp_path / "out", push_to_hub="me/mine")
    assert [name for _, name in calls] == ["me/mine"] * 3
    assert calls[0][0] == "GPT2LMHeadModel"
    assert calls[-1][0] == whole.path.name


def test_only_pretrained_generators_have_adapters(toy_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="generator='lstm'; adapter is for pretrained generators"):
        export(toy_run.path, tmp_path / "out", adapter=True)


def test_checkpoints_hold_the_trained_part_and_the_folder_holds_the_base_once(whole: RunFolder) -> None:
    tensors, _ = read_tensors(whole.latest_checkpoint)
    of_models = [name for name in tensors if ".model." in name or name.startswith("model.")]
    assert of_models
    assert all("lora_" in name for name in of_models)
    assert {path.name for path in (whole.path / "models").iterdir()} == {"generator", "discriminator"}
    for part in ("generator", "discriminator"):
        names = {path.suffix for path in (whole.path / "models" / part).iterdir()}
        assert names == {".json", ".safetensors"}
    described = whole.description["models"]["generator"]
    assert described["source"].startswith("hf:")
    assert len(described["sha256"]) == 64


def test_a_game_needs_less_than_twice_the_memory_of_its_base(whole: RunFolder) -> None:
    config = changed(whole.config(), {"game.anchor_weight": 0.1, "generator.lora_rank": 1, "learner.kl_coef": 0.04})
    game = SeqGAN(whole.task(), config, models=whole.models())
    game.trainer.sync(game.generator)
    assert game.anchored is not None
    beta: Any = game.trainer.rollout_policy
    models = (game.generator, beta.model, game.anchored.anchor, game.agent.reference.generator)
    assert len(set(map(id, models))) == 4
    memory = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for model in models
        for tensor in (*model.parameters(), *model.buffers())
    }
    base = sum(tensor.nbytes for tensor in game.generator.base_tensors())  # type: ignore[operator, union-attr]
    assert sum(memory.values()) < 2 * base


@pytest.mark.parametrize("what", ["missing", "damaged", "swapped", "sizes"])
def test_a_stored_model_that_is_not_the_runs_own_is_refused(whole: RunFolder, tmp_path: Path, what: str) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(whole.path, copied)
    place = copied / "models" / "generator"
    if what == "missing":
        shutil.rmtree(place)
    elif what == "damaged":
        content = bytearray((place / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (place / "model.safetensors").write_bytes(content)
    elif what == "swapped":
        (place / "config.json").unlink()
        (place / "config.json").symlink_to(whole.path / "models" / "generator" / "config.json")
    else:
        from agents.runs.pretrained_models import _fingerprint

        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | {"n_layer": 10**9}))
        described = json.loads((copied / "run.json").read_text())
        described["models"]["generator"]["sha256"] = _fingerprint(place)
        (copied / "run.json").write_text(json.dumps(described))
    message = {
        "missing": "is missing: it holds the weights of 'hf:",
        "damaged": "is damaged: it is not what run.json says",
        "swapped": "is a symbolic link",
        "sizes": "n_layer=1000000000 does not fit its weights",
    }[what]
    with pytest.raises(ValueError, match=message):
        RunFolder(copied).generator()


def test_a_strangers_run_that_names_a_model_of_the_hub_downloads_nothing(
    toy_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = json.loads((toy_run.path / "run.json").read_text())
    described["config"]["generator"] = {"name": "hf:nobody/model", "options": {"lora_rank": 1}}
    (toy_run.path / "run.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="is missing: it holds the weights of 'hf:nobody/model'"):
        RunFolder(toy_run.path).generator()


def test_a_run_takes_anothers_pretraining_only_if_both_adapt_the_same_weights(
    whole: RunFolder, tiny_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_models / "gpt2", tmp_path / "gpt2")
    config = changed(whole.config(), {"generator.name": f"hf:{tmp_path / 'gpt2'}", "discriminator.name": "cnn"})
    config = changed(config, {"discriminator.options": {}})
    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    described = json.loads((other / "run.json").read_text())
    described["models"]["generator"]["sha256"] = "0" * 64
    (other / "run.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="has another pretrained model than the new run"):
        RunFolder.create(tmp_path / "new", whole.task(), config, "text", RunFolder(other))
    same = changed(config, {"generator.name": whole.config().generator.name})
    run = RunFolder.create(tmp_path / "new", whole.task(), same, "text", whole)
    assert run.mle_checkpoint.is_file()


@pytest.fixture
def toy_run(tmp_path: Path) -> RunFolder:
    from tests.agents.conftest import new_run, train

    return train(new_run(tmp_path / "toy"))


def test_a_pretrained_generator_brings_its_tokenizer_and_smaller_rates() -> None:
    config = forms.with_parts(TEXT, {"generator": "hf:some/model", "learner": "grpo"}.get, "text")
    assert config.task.tokenizer == "hf:some/model"
    for path, value in PRETRAINED.items():
        if path != "learner.learning_rate":
            assert value_at(config, path) == value
    assert config.learner.learning_rate == PRETRAINED["learner.learning_rate"] / 2  # as of grpo
    assert config.generator.options == {"lora_rank": 8, "lora_alpha": 16.0, "dtype": "float32"}
    assert config.game.reward_mode == "terminal"
    assert forms.with_parts(TEXT, {"generator": "gru"}.get, "text").task.tokenizer is None


# Prompts.


def test_a_pretrained_generator_answers_prompts_and_counts_the_response_alone(
    tiny_models: Path, tmp_path: Path, command: Command
) -> None:
    path = tmp_path / "prompted"
    status, output = command(arguments(tiny_models, "--prompt-tokens", "2", "--out", str(path)))
    assert status == 0, output
    run = RunFolder(path)
    generator, sequences = run.generator(), run.task().real_sequences("test")
    assert generator.prompt_length == run.task().prompt_length == 2
    log_probs = generator.log_probs(sequences)
    assert bool((log_probs[:, :2] == 0).all())
    assert bool((log_probs[:, 2] < 0).all())
    start = run.task().decode(sequences[0, :2].tolist())
    status, output = command(["sample", str(path), "-n", "3", "--no-nearest", "--prompt", start])
    assert status == 0, output
    assert [line.startswith(start) for line in output.splitlines()] == [True] * 3


def test_a_pretrained_tokenizer_with_marked_prompts_is_refused(tiny_models: Path, command: Command) -> None:
    status, output = command(arguments(tiny_models, "--prompt-separator", "a"))
    assert status == 2
    assert "has no token that could mark prompts of a column or a line; choose prompt_tokens" in output


@pytest.mark.parametrize("learner", ["ddo", "spin", slow("cot"), slow("dpg"), slow("reinforce"), slow("ppo")])
def test_other_learners_play_a_pretrained_generator_too(
    learner: str, tiny_models: Path, tmp_path: Path, command: Command
) -> None:
    path = tmp_path / "run"
    few = ("--learner", learner, "--game.rounds", "1", "--game.n-rollouts", "2")
    status, output = command(arguments(tiny_models, *few, "--out", str(path)))
    assert status == 0, output
    assert RunFolder(path).metrics()[-1]["stage"] == "adversarial"
