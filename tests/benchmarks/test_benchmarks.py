"""The plain baseline and ours compute the same, so that comparing their speed is fair; and the commands run."""

from __future__ import annotations

import copy
import csv
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from rich.table import Table
from rich.text import Text
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.report import CSV_COLUMNS, Result, notes, seconds_table, threads_table
from benchmarks.roofline import Phase, Rates
from benchmarks.stages import STAGES, Pair
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.measures.likelihood import negative_log_likelihood
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import DiscriminatorReward
from seqgan_env.rollout_policies import DelayedCopy, sample_sequences
from seqgan_env.tasks.toy import enumerate_sequences, toy_task

ROOT = Path(__file__).parents[2]
V, T, B = 150, 7, 12


@pytest.fixture
def model() -> LSTMSequenceModel:
    return LSTMSequenceModel(V, embedding_size=5, hidden_size=6, init_std=1.0, seed=3)


@pytest.fixture
def sequences() -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def toy_model() -> LSTMSequenceModel:
    return LSTMSequenceModel(3, embedding_size=4, hidden_size=4, init_std=1.0, seed=5)


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert ours.keys() == others.keys()
    for name, gradient in ours.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, others[name], rtol=1e-4, atol=1e-6, msg=name)


def test_plain_nll_equals_ours(model: LSTMSequenceModel, sequences: Tensor) -> None:
    ours = negative_log_likelihood(model, sequences)
    # A batch size that does not divide the number of sequences.
    np.testing.assert_allclose(plain.negative_log_likelihood(model, sequences, batch_size=5), ours, rtol=1e-5)


def test_plain_mle_loss_and_gradients_equal_ours(model: LSTMSequenceModel, sequences: Tensor) -> None:
    ours = -model.weighted_log_likelihood(sequences, torch.full((B, T), 1 / (B * T)))
    other = plain.mle_loss(model, sequences)
    torch.testing.assert_close(other, ours)
    assert_same_gradients(gradients(model, ours), gradients(model, other))


def test_plain_policy_gradient_equals_ours(model: LSTMSequenceModel, sequences: Tensor) -> None:
    action_values = torch.rand(B, T, generator=torch.Generator().manual_seed(1))
    ours = -model.weighted_log_likelihood(sequences, action_values)
    other = plain.policy_gradient_loss(model, sequences, action_values)
    torch.testing.assert_close(other, ours)
    assert_same_gradients(gradients(model, ours), gradients(model, other))


def test_plain_generator_step_clips_and_moves_the_parameters(model: LSTMSequenceModel, sequences: Tensor) -> None:
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = 1000 * plain.mle_loss(model, sequences)
    assert plain.generator_step(model, optimizer, loss, max_grad_norm=0.5) == pytest.approx(loss.item())
    moved = torch.cat([(value - before[name]).flatten() for name, value in model.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_plain_discriminator_scores_and_gradients_equal_ours(sequences: Tensor) -> None:
    ours = CNNDiscriminator(V, T, "paper", dropout=0.0)
    other = plain.PlainDiscriminator(ours)
    torch.testing.assert_close(other(sequences), ours(sequences))
    torch.testing.assert_close(other(sequences), ours.score(sequences))
    labels = (torch.arange(B) < B // 2).float()
    same_name = {"embedding.weight", "output.weight", "output.bias"}
    of_ours = gradients(ours, F.binary_cross_entropy_with_logits(ours(sequences), labels) + ours.penalty())
    # A step of size 1 by plain gradient descent shows the gradient that the plain step follows.
    before = copy.deepcopy(other.state_dict())
    half = B // 2
    plain.discriminator_step(other, torch.optim.SGD(other.parameters(), lr=1.0), sequences[:half], sequences[half:])
    followed = {name: before[name] - other.state_dict()[name] for name in before}
    assert_same_gradients({name: of_ours[name] for name in same_name}, {name: followed[name] for name in same_name})
    highway = torch.cat([followed["transform.weight"], followed["gate.weight"]]).t()
    torch.testing.assert_close(highway, of_ours["highway.weight"], rtol=1e-3, atol=1e-6)
    for place in range(len(ours.filters)):
        kernel = followed[f"convolutions.{place}.weight"].transpose(1, 2).flatten(1)
        torch.testing.assert_close(kernel, of_ours[f"windows.kernels.{place}"], rtol=1e-3, atol=1e-6)
    biases = torch.cat([followed[f"convolutions.{place}.bias"] for place in range(len(ours.filters))])
    torch.testing.assert_close(biases, of_ours["windows.bias"], rtol=1e-3, atol=1e-6)


def test_plain_sampling_and_ours_follow_the_same_distribution(toy_model: LSTMSequenceModel) -> None:
    count = 20_000
    every = enumerate_sequences(3, 3)
    expected = toy_model.log_probs(every).sum(dim=1).exp().double().numpy() * count
    place = torch.tensor([9, 3, 1])
    rng = np.random.default_rng(0)
    torch_rng = torch.Generator().manual_seed(0)
    ours = torch.bincount(sample_sequences(toy_model, count, 3, rng) @ place, minlength=27).numpy()
    other = torch.bincount(plain.sample(toy_model, count, 3, 3000, torch_rng) @ place, minlength=27).numpy()
    assert expected.min() > 5  # the chi-square approximation holds
    for counts in (ours, other):
        assert counts.sum() == count
        assert stats.chisquare(counts, expected * count / expected.sum()).pvalue > 1e-3
    assert stats.chi2_contingency(np.stack([ours, other])).pvalue > 1e-3


@pytest.mark.parametrize("sequence", [(0, 1, 2), (2, 2, 0), (1, 0, 1)])
def test_plain_search_and_ours_agree_within_four_standard_errors(
    toy_model: LSTMSequenceModel, sequence: tuple[int, int, int]
) -> None:
    rows, n_rollouts = 1000, 4
    # Far from 0.5, and far apart for different sequences.
    discriminator = CNNDiscriminator(3, 3, [(2, 20), (3, 20)], embedding_size=8, seed=1).eval()
    with torch.no_grad():
        discriminator.output.weight.mul_(3)
    copies = torch.tensor([sequence]).repeat(rows, 1)
    env = SequenceVectorEnv(
        toy_task(),
        rows,
        autoreset_mode=AutoresetMode.DISABLED,
        reward_model=DiscriminatorReward(discriminator),
        rollout_policy=DelayedCopy(toy_model),
        n_rollouts=n_rollouts,
    )
    env.reset(seed=0)
    ours = np.stack([env.step(actions)[1] for actions in copies.numpy().T], axis=1)  # (rows, T)
    plain_discriminator = plain.PlainDiscriminator(discriminator)
    torch_rng = torch.Generator().manual_seed(1)
    other = plain.prefix_values(toy_model, plain_discriminator, copies, n_rollouts, torch_rng).double().numpy()

    # Rows are independent estimates of the same values.
    error = np.hypot(ours[:, :-1].std(axis=0, ddof=1), other.std(axis=0, ddof=1)) / np.sqrt(rows)
    assert (error > 0).all()
    assert (error < 0.01).all()
    assert (np.abs(ours[:, :-1].mean(axis=0) - other.mean(axis=0)) < 4 * error).all()
    np.testing.assert_allclose(plain.final_values(plain_discriminator, copies), ours[:, -1], rtol=1e-5)


def test_search_completes_prefixes_without_changing_them(model: LSTMSequenceModel, sequences: Tensor) -> None:
    for length in range(T + 1):
        completed = plain.complete(model, sequences[:, :length], T, torch.Generator().manual_seed(0))
        assert completed.shape == (B, T)
        assert torch.equal(completed[:, :length], sequences[:, :length])


@pytest.mark.slow
def test_the_command_prints_every_stage_and_writes_the_csv(tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--csv", str(path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "120"}
    )
    assert done.returncode == 0, done.stderr
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert [line["stage"] for line in lines] == list(STAGES)
    for line in lines:
        assert line["stage"] in done.stdout
        seconds = float(line["ours_seconds"]), float(line["plain_seconds"])
        assert min(seconds) > 0
        assert float(line["ratio"]) == pytest.approx(seconds[1] / seconds[0], rel=1e-2, abs=1e-3)
        assert line["threads"] == "1"
        assert line["precision"] == "fp32"
        assert line["device"] == "cpu"
        assert (line["python"], line["torch"], line["numpy"]) == (
            platform.python_version(),
            torch.__version__,
            np.__version__,
        )
        assert all(line[column] for column in ("machine", "commit"))
        assert min(float(line[column]) for column in ("gflops", "gexps", "bandwidth")) > 0
        assert bool(line["bound_seconds"]) == (not line["stage"].startswith("stepping"))
        if line["bound_seconds"]:
            share = float(line["bound_seconds"]) / seconds[0]
            assert float(line["reached"]) == pytest.approx(share, abs=1e-3)


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Gives back the number of PyTorch's threads, which the commands set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_threads")
def test_stages_are_timed_with_each_number_of_threads_and_plain_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.__main__ import main

    path = tmp_path / "speed.csv"
    arguments = ["stages", "--quick", "--only", "oracle-nll", "sampling", "--threads", "2", "1", "--csv", str(path)]
    main(arguments)
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["stage"], line["threads"]) for line in lines] == [
        ("sampling", "2"),
        ("sampling", "1"),
        ("oracle-nll", "2"),
        ("oracle-nll", "1"),
    ]
    assert [bool(line["plain_seconds"]) for line in lines] == [True, False, True, False]
    assert [bool(line["ratio"]) for line in lines] == [True, False, True, False]
    printed = capsys.readouterr().out
    assert "2 threads / 1" in printed
    assert "Seconds with 2 threads" in printed


def result(ours: dict[int, float], plain_seconds: float = 6.0, **settings: object) -> Result:
    pair = Pair("a batch", ours=lambda: None, plain=lambda: None, **settings)  # type: ignore[arg-type]
    return Result("sampling", pair, ours, plain_seconds, (Phase(flops=10),))


RATES = {1: Rates(flops=10, exps=1, bytes=1), 2: Rates(flops=20, exps=2, bytes=1)}


def printed(table: Table | None) -> list[list[str]]:
    """The cells of a table's rows as they are printed."""
    assert table is not None
    columns = [list(column.cells) for column in table.columns]
    return [[Text.from_markup(str(cell)).plain for cell in row] for row in zip(*columns, strict=True)]


def test_the_table_shows_bound_and_share_reached_at_the_first_number_of_threads() -> None:
    table = seconds_table([result({1: 2.0, 2: 1.0}, required=3)], RATES, judge=True)
    assert printed(table) == [["sampling", "2", "6", "3.0", "3 holds", "1", "50%"]]


@pytest.mark.parametrize(("at_two", "verdict"), [(1.0, "1.7 holds"), (1.5, "1.7 missed")])
def test_the_gain_of_two_threads_over_one_is_judged(at_two: float, verdict: str) -> None:
    table = threads_table([result({2: at_two, 1: 2.0}, required_gain=1.7)], RATES, judge=True)
    (row,) = printed(table)
    # One thread first, whatever the order of the command line; each against the bound of its own rates.
    assert row == ["sampling", "2", "50%", f"{at_two:.3g}", f"{0.5 / at_two:.0%}", f"{2 / at_two:.2f}", verdict]


def test_the_gain_is_not_judged_for_other_numbers_or_quick_runs() -> None:
    four = result({1: 2.0, 4: 1.0}, required_gain=1.7)
    (row,) = printed(threads_table([four], RATES | {4: RATES[2]}, judge=True))
    assert row[-1] == ""
    (row,) = printed(threads_table([result({1: 2.0, 2: 1.0}, required_gain=1.7)], RATES, judge=False))
    assert row[-1] == ""
    assert threads_table([result({1: 2.0})], RATES, judge=True) is None


def test_the_notes_say_what_a_unit_of_work_is_and_explain_another_precision() -> None:
    units, note = notes([result({1: 2.0}, precision="int8"), result({1: 2.0})])
    assert units == "Units of work: sampling a batch · sampling a batch."
    assert note.startswith("sampling: its products are int8, but the bound is that of fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("command", ["stages", "scaling"])
def test_the_commands_run_on_a_gpu(command: str, tmp_path: Path) -> None:
    from benchmarks.__main__ import main

    path = tmp_path / "gpu.csv"
    main([command, "--quick", "--device", "cuda", "--csv", str(path)])
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["device"] for line in lines} == {"cuda"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("command", [[], ["scaling"]])
def test_a_missing_gpu_is_said_at_once(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit) as refusal:
        main([*command, "--device", "cuda"])
    assert refusal.value.code == 2
    assert "--device cuda" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--threads", "0"], "--threads 0"),
        (["--threads", "1", "0"], "--threads 0"),
        (["--threads", "2", "2"], "--threads 2 2"),
        (["--threads"], "--threads"),
        (["stages", "--repeats", "-1"], "--repeats -1"),
        (["--repeats", "-1"], "--repeats -1"),
        (["--csv", "no/such/folder/file.csv"], "no/such/folder"),
        (["--only", "juggling"], "juggling"),
        (["juggling"], "juggling"),
        (["scaling", "--threads", "0"], "--threads 0"),
        (["scaling", "--picture", "no/such/folder/file.png"], "no/such/folder"),
        (["scaling", "--axes", "W"], "W"),
        (["scaling", "--only", "mle-epoch"], "mle-epoch"),
        (["scaling", "--plot-only"], "--plot-only"),
        (["scaling", "--plot-only", "--csv", __file__, "--picture", "x.png"], "lacks the columns"),
        (["scaling", "--plot-only", "--csv", "no_such.csv", "--picture", "x.png"], "no_such.csv"),
    ],
)
def test_the_command_refuses_unusable_options(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    captured = capsys.readouterr()
    assert named in captured.err + captured.out
