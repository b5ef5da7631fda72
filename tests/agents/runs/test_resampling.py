"""`runs.resampling`: which generator is resampled, the errors of its measurements, and a stranger's discriminator."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.runs.description import read_description, written
from agents.runs.resampling import Residual
from agents.runs.run_folder import RunFolder
from seqgan_env.measures.likelihood import nll_per_token
from seqgan_env.models.sequence_models import SequenceModel
from tests.agents.conftest import new_run, train


def same(first: SequenceModel, second: SequenceModel) -> bool:
    return all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())


def test_the_generator_is_the_one_that_the_discriminator_was_trained_against(
    finished_run: RunFolder, tmp_path: Path
) -> None:
    mle, latest = finished_run.generator(finished_run.mle_checkpoint), finished_run.generator()
    assert not same(mle, latest)
    assert same(Residual.of(finished_run, "cpu").generator, latest)
    kept = new_run(tmp_path / "run")
    config = kept.config()
    kept.change_config(replace(config, game=replace(config.game, d_steps=0)))
    kept = train(RunFolder(kept.path))  # D is as its pretraining left it
    assert same(Residual.of(kept, "cpu").generator, kept.generator(kept.mle_checkpoint))


def test_a_discriminator_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", discriminator_pretraining_steps=0, rounds=0))
    with pytest.raises(ValueError, match=r"has no trained discriminator.*--discriminator.pretraining-steps 20"):
        Residual.of(run, "cpu")


def test_nll_test_is_that_of_the_generator_less_the_held_out_gain(finished_run: RunFolder) -> None:
    residual, measures = Residual.of(finished_run, "cpu"), finished_run.measures
    found = residual.measure(measures, 500, 8, np.random.default_rng(0)).metrics
    log_z = residual.draw(500, 8, np.random.default_rng(0)).log_z
    plain = nll_per_token(residual.generator, measures.test)
    gain = (residual.logit(measures.test).mean().item() - log_z.mean) / 3
    assert found.nll_test is not None
    assert found.nll_test.mean == pytest.approx(plain.mean - gain, abs=1e-6)
    assert found.nll_test.standard_error >= log_z.standard_error / 3 > 0
    assert found.entropy is found.kl_from_oracle is None


def test_a_strangers_discriminator_runs_no_code(
    finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(finished_run.path, tmp_path / "run"))
    description = read_description(path)
    description["config"]["discriminator"]["name"] = "strange_part:Discriminator"
    (path / "run.json").write_bytes(written(description))
    (tmp_path / "strange_part.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ValueError, match=r"discriminator='strange_part:Discriminator', .* --trust strange_part:Disc"):
        Residual.of(RunFolder(path), "cpu")
