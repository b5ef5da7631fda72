"""The plain baseline and ours compute the same, so that comparing their speed is fair; and the command runs."""

from __future__ import annotations

import copy
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.report import CSV_COLUMNS
from benchmarks.stages import STAGES
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.metrics import negative_log_likelihood
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
        assert line["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--threads", "0"], "--threads 0"),
        (["--repeats", "-1"], "--repeats -1"),
        (["--csv", "no/such/folder/file.csv"], "no/such/folder"),
        (["--only", "juggling"], "juggling"),
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
