"""`reading`: the sentence below the closing table says what the rows show, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.runs.reading import reading
from seqgan_env.measures.likelihood import Estimate, GeneratorMetrics
from seqgan_env.measures.measurement import Measurement, TableRow
from seqgan_env.measures.samples import CorpusReference


def row(method: str, nll_oracle: float | None, nll_test: float | None, error: float = 0.01) -> TableRow:
    def estimate(mean: float | None, of: float) -> Estimate | None:
        return None if mean is None else Estimate(mean, of)

    metrics = GeneratorMetrics(estimate(nll_oracle, error), estimate(nll_test, 0.5), None, None, None, 1.0, 1000)
    return TableRow(method, Measurement(metrics, None, torch.zeros(1, 1)))


# NLL_oracle falls by two nats for each nat of NLL_test.
MLE = [row("MLE", 9.0, 8.0), row("MLE, temp. 0.9", 8.8, 8.1), row("MLE, temp. 0.8", 8.4, 8.3)]
OTHERS = [row("random", 11.4, 8.5), row("oracle (floor)", 5.7, 5.7)]


@pytest.mark.parametrize(
    ("game", "expected"),
    [
        (
            (8.4, 8.2),
            "is better than MLE: its NLL_oracle is 8.400. MLE at a temperature with the same NLL_test, 8.200",
        ),
        ((8.59, 8.2), "is not shown to be better than MLE: its NLL_oracle is 8.590"),
        ((8.61, 8.2), "is not shown to be better than MLE"),
        ((8.7, 8.2), "is worse than MLE: its NLL_oracle is 8.700. MLE at a temperature with the same NLL_test"),
        ((8.4, 8.35), "is worse than MLE: 'MLE, temp. 0.8' is better in NLL_test, and not worse in NLL_oracle"),
        ((8.38, 9.0), "is worse than MLE: 'MLE, temp. 0.8'"),  # not lower by two errors
        ((8.3, 8.35), "cannot be judged: its NLL_test is above that of all MLE rows"),
        ((8.9, 7.9), "is better than MLE: better in NLL_test than all MLE rows, and not worse in NLL_oracle"),
        ((9.01, 7.9), "is better than MLE: better in NLL_test"),
        ((9.1, 7.9), "cannot be judged: it is better than 'MLE' in NLL_test, and worse in NLL_oracle"),
    ],
)
def test_a_game_is_compared_with_the_line_through_mles_rows(game: tuple[float, float], expected: str) -> None:
    said = reading([OTHERS[0], *MLE, row("SeqGAN", *game), OTHERS[1]], "SeqGAN")
    assert said is not None
    assert said.startswith(f"SeqGAN {expected}")
    assert said.endswith("This is one run: seqgan reproduce compares seeds.")


def test_the_difference_and_its_error_are_those_of_the_interpolation() -> None:
    said = reading([*MLE, row("reward constant, 3 of 5 rounds", 8.4, 8.15, 0.03)], "reward constant, 3 of 5 rounds")
    # A quarter of the way from 8.8 to 8.4.
    error = np.hypot(0.03, 0.01 * np.hypot(0.75, 0.25))
    assert said is not None
    assert f"has 8.700 (difference -0.300 ±{error:.3f})" in said


def test_without_a_game_mle_or_an_oracle_nothing_is_said() -> None:
    assert reading([OTHERS[0], *MLE], "MLE, temp. 0.8") is None
    assert reading([row("SeqGAN", 8.0, 8.0), *OTHERS], "SeqGAN") is None
    assert reading([*(replace(one, measurement=row("", None, 8.0).measurement) for one in MLE)], "SeqGAN") is None


def test_on_a_corpus_bleu_is_compared_at_equal_self_bleu() -> None:
    """Sentences of few words: the more often one repeats, the higher are both."""
    rng = np.random.default_rng(0)
    real = rng.integers(0, 12, (400, 6))
    reference = CorpusReference(real[:200], real[200:300], 12, rng=rng)

    def measured(method: str, tokens: Any) -> TableRow:
        metrics = row("", None, 2.0).metrics
        return TableRow(method, Measurement(metrics, reference.measure(tokens), torch.from_numpy(tokens)))

    different = rng.integers(0, 12, (100, 6))
    repeated = np.concatenate([np.repeat(real[200:201], 50, axis=0), different[:50]])
    mixed = np.concatenate([np.repeat(real[200:201], 20, axis=0), different[:80]])
    mle = [measured("MLE", different), measured("MLE, temp. 0.7", repeated)]
    real_words = reading([*mle, measured("SeqGAN", real[300:])], "SeqGAN")
    assert real_words is not None
    assert "BLEU-2" in real_words
    assert "NLL" not in real_words
    between = reading([*mle, measured("SeqGAN", mixed)], "SeqGAN")
    assert between is not None
    assert "is not shown to be better than MLE: its BLEU-2 is 0." in between
    assert "with the same self-BLEU-2, 0." in between
