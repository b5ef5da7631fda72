"""`views`: what the live page shows is what the run has, and looking changes nothing."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agents.runs.run_folder import RunFolder
from agents.watch import views
from seqgan_env.measures.likelihood import measure_generator, nll_per_token
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import new_run, train


@pytest.fixture
def run(tmp_path: Path, finished_run: RunFolder) -> RunFolder:
    """A copy of a finished run."""
    return RunFolder(Path(shutil.copytree(finished_run.path, tmp_path / "run")))


@pytest.fixture(scope="module")
def them(finished_run: RunFolder) -> views.Players:
    found = views.players(finished_run)
    assert found is not None
    return found


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_history_has_the_logged_columns_the_border_and_where_the_run_stands(run: RunFolder) -> None:
    past = views.history(run)
    assert (past.stage, past.index, past.total, past.has_oracle) == ("the game", 3, 3, True)
    assert past.border == 2  # MLE has two epochs
    epochs, rewards = past.column("mean_reward")
    logged = [row for row in run.metrics() if row["mean_reward"]]
    assert epochs.tolist() == [3, 4, 5]
    assert rewards.tolist() == [float(row["mean_reward"]) for row in logged]
    assert past.curve("x").measured == [row for row in run.metrics() if row["nll_test"]]


def test_a_line_that_is_being_written_is_left_out(run: RunFolder) -> None:
    whole = run.metrics_path.read_bytes()
    lines = len(views.history(run).rows)
    for cut in (1, 5, 12):
        run.metrics_path.write_bytes(whole[:-cut])
        assert len(views.history(run).rows) == lines - 1


def test_a_run_that_has_done_nothing_yet_shows_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    past = views.history(run)
    assert (past.rows, past.stage, past.border) == ([], "", None)
    assert [len(part) for part in past.column("nll_test")] == [0, 0]
    assert views.players(run) is None
    run.rewind_metrics(0)  # a header alone
    assert views.history(run).rows == []


def test_there_is_no_border_while_mle_goes_on(run: RunFolder) -> None:
    rows = [row for row in run.metrics() if row["stage"] == "mle"]
    assert views.History(rows, "", 0, 0, True).border is None


def test_a_stamp_changes_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert views.stamp(path) is None
    path.write_text("a")
    first = views.stamp(path)
    path.write_text("ab")
    assert first != views.stamp(path) is not None


def test_the_models_are_those_of_the_latest_checkpoint(finished_run: RunFolder, them: views.Players) -> None:
    rows = finished_run.task().real_sequences("test")[:20]
    assert (them.generator.log_probs(rows) == finished_run.generator().log_probs(rows)).all()
    assert them.mle is not None
    mle = finished_run.generator(finished_run.mle_checkpoint)
    assert (them.mle.log_probs(rows) == mle.log_probs(rows)).all()
    assert (them.mle.log_probs(rows) != them.generator.log_probs(rows)).any()
    assert them.n_rollouts == 2
    assert them.has_trained_discriminator


def test_a_checkpoint_of_mle_has_an_untrained_discriminator_and_g_for_g_beta(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", rounds=0, discriminator_pretraining_steps=0))
    them = views.players(run)
    assert them is not None
    assert not them.has_trained_discriminator
    assert len(views.samples(them, 1.0, 1, rng())[0]) == 3


def test_an_older_format_says_why_its_models_are_not_shown(run: RunFolder) -> None:
    run.format = 1
    with pytest.raises(ValueError, match="format=1"):
        views.players(run)


def test_calibration_and_accuracy_of_known_scores() -> None:
    found = views.Scores(real=np.array([0.95, 0.55, 1.0]), generated=np.array([0.05, 0.55, 0.5]))
    assert found.accuracy() == pytest.approx(5 / 6)
    bins = found.calibration()
    assert [number for _, _, number in bins] == [1, 3, 2]
    assert [said for said, _, _ in bins] == pytest.approx([0.05, 1.6 / 3, 0.975])
    assert [true for _, true, _ in bins] == pytest.approx([0, 1 / 3, 1])


def test_scores_are_those_of_the_discriminator_on_held_out_sequences(them: views.Players) -> None:
    found = views.scores(them, rng())
    assert found is not None
    assert them.discriminator is not None
    real = them.task.real_sequences("validation")[: views.HELD_OUT]
    assert found.real == pytest.approx(them.discriminator.score(real).sigmoid().detach().numpy(), rel=1e-5)
    assert found.generated.shape == found.real.shape
    fixed = dataclasses.replace(them, discriminator=None)
    assert views.scores(fixed, rng()) is None


def test_each_token_has_the_completions_that_made_its_q(them: views.Players) -> None:
    drawn = views.samples(them, 1.0, 4, rng())
    assert len(drawn) == 4
    for row in drawn:
        tokens = [token.text for token in row]
        assert len(row) == 3
        for t, token in enumerate(row):
            rewards = [one.reward for one in token.completions]
            assert token.value == pytest.approx(np.mean(rewards))
            assert rewards == sorted(rewards, reverse=True)
            assert token.prefix == " ".join(tokens[: t + 1])
            assert {len(one.text.split()) for one in token.completions} == {2 - t}
        assert [len(token.completions) for token in row] == [2, 2, 1]  # N, and the whole sequence once


def test_samples_follow_the_temperature_and_the_seed(them: views.Players) -> None:
    def texts(temperature: float, seed: int) -> list[str]:
        return [row[-1].prefix for row in views.samples(them, temperature, 20, np.random.default_rng(seed))]

    assert texts(1.0, 0) == texts(1.0, 0) != texts(1.0, 1)
    assert len(set(texts(0.05, 0))) < len(set(texts(1.0, 0)))


def test_control_characters_of_tokens_are_visible() -> None:
    from seqgan_env.vocabulary import Vocabulary

    task = dataclasses.replace(toy_task(n_sequences=8), vocabulary=Vocabulary(["a\n", "\x1b[2J", " "]))
    assert views.as_text(task, [0, 1, 2, task.pad_token]) == "a⏎ U+001B[2J ␣"


def test_a_point_at_temperature_one_is_the_generator_itself(them: views.Players) -> None:
    task = them.task
    point = views.at_temperature(them.generator, task, 1.0)
    test = task.real_sequences("test")[: views.HELD_OUT]
    exact = measure_generator(them.generator, test, rng(), oracle=task.oracle, n_samples=4000)
    assert exact.nll_oracle is not None
    assert point.nll_test == pytest.approx(nll_per_token(them.generator, test).mean, rel=1e-6)
    assert point.quality == pytest.approx(exact.nll_oracle.mean, abs=0.1)


def test_lower_temperatures_lose_more_and_are_likelier(them: views.Players) -> None:
    curve = views.temperature_curve(them.generator, them.task)
    assert [point.temperature for point in curve] == list(views.TEMPERATURES)
    assert curve[0].nll_test > views.at_temperature(them.generator, them.task, 1.0).nll_test
    assert curve[0].quality < curve[-1].quality


def test_without_an_oracle_quality_is_the_entropy(them: views.Players) -> None:
    task = dataclasses.replace(them.task, oracle=None)
    uniform = LSTMSequenceModel(3, embedding_size=2, hidden_size=2)
    for parameter in uniform.parameters():
        parameter.data.zero_()
    assert views.at_temperature(uniform, task, 1.0).quality == pytest.approx(np.log(3))
    assert views.oracle_entropy(task) is None


def test_the_oracles_entropy_is_its_own_nll(them: views.Players) -> None:
    found = views.oracle_entropy(them.task)
    assert them.task.oracle is not None
    exact = measure_generator(them.task.oracle, them.task.real_sequences("test"), rng(), n_samples=20_000).entropy
    assert exact is not None
    assert found == pytest.approx(exact.mean, abs=0.05)


def test_looking_writes_nothing_into_the_run(run: RunFolder) -> None:
    def state() -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size, path.read_bytes() if path.is_file() else b"")
            for path in sorted(run.path.rglob("*"))
        }

    before = state()
    views.history(run)
    them = views.players(run)
    assert them is not None
    views.scores(them, rng())
    views.samples(them, 0.8, 2, rng())
    views.temperature_curve(them.generator, them.task)
    assert state() == before


def test_what_is_shown_is_computed_without_the_pages_library() -> None:
    program = "import sys, agents.watch.views, agents.watch.figures; print('marimo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"
