"""The work that the bounds are made of, counted by hand at tiny sizes, and the rates that they are divided by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch

from benchmarks import roofline
from benchmarks.machine import measure_rates
from benchmarks.roofline import Phase, Rates, bound
from benchmarks.sizes import PAPER_SIZES, Sizes
from benchmarks.stages import STAGES
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.models.window_features import Filters


@dataclass(frozen=True)
class TinySizes(Sizes):
    """V = 5, T = 3, E = H = 2, M = 4, B = 2, N = 2, D = 3; two filters of one token, one of two: F = 3."""

    vocab_size: int = 5
    sequence_length: int = 3
    hidden_size: int = 2
    sequences: int = 4
    batch_size: int = 2
    n_rollouts: int = 2
    discriminator_embedding_size: int = 3

    @property
    def filters(self) -> Filters:
        return ((1, 2), (2, 1))


TINY = TinySizes()
# A distinct state: 5 logits of 2 (2 + 1) operations; gates of 8 * 2 * (2 + 2) operations; 5 and 5 * 2 exponentials.
SOFTMAX, GATES, EXPS = 30, 64, 15


def test_sampling_and_nll_need_a_softmax_and_a_step_for_each_distinct_state() -> None:
    states = 4 * 2 + 1  # the empty prefix is the same for all
    expected = (Phase(flops=states * (SOFTMAX + GATES), exps=states * EXPS),)
    assert roofline.sampling(TINY) == expected
    assert roofline.oracle_nll(TINY) == expected


def test_an_mle_epoch_needs_three_products_a_logit_and_adam_each_step() -> None:
    states = 4 * 2 + 2  # two batches, each with the empty prefix
    gradient = 5 * (2 * 2 + 2 * 3)  # a logit: to two hidden numbers, to two weights and a bias
    parameters = 5 * 2 + (5 * 2 + 5) + (2 * 8 + 2 * 8 + 8)
    assert roofline.mle_epoch(TINY) == (
        Phase(flops=states * (SOFTMAX + gradient + 3 * GATES), exps=states * EXPS),
        Phase(bytes=2 * parameters * 7 * 4),
    )


def test_the_last_smaller_batch_of_an_epoch_is_a_step() -> None:
    three, two = (roofline.mle_epoch(replace(TINY, sequences=count))[1].bytes for count in (5, 4))
    assert three / two == 3 / 2


def test_the_policy_gradient_is_one_step_on_a_batch() -> None:
    assert roofline.policy_gradient(TINY) == roofline.mle_epoch(replace(TINY, sequences=2))


def test_the_search_draws_and_scores_every_completion_and_shares_what_prefixes_share() -> None:
    # Prefixes of 1 and 2 tokens, 2 of each: 4 first tokens; those of 1 token have one more, in 4 completions.
    drawn, inside = 4 + 4, 4
    states = 2 * 2 + 1
    scored = 2 * 2 * 2 + 2
    table = (5 + 1) * (1 * 2 + 2 * 1)
    # A sequence's own windows: 3 of one token, two filters; 2 of two tokens, one filter, each two rows.
    own = 2 * (3 * 2 + 2 * 2)
    # Behind the prefix: 2 windows of either length after 1 token, 1 after 2.
    behind = 4 * (3 * 2 + 3 * 2)
    head = 2 * 3 * 6 + 2 * 3
    assert roofline.search(TINY) == (
        Phase(flops=table * 2 * 3, bytes=4 * table),
        Phase(flops=drawn * SOFTMAX + (states + inside) * GATES, exps=drawn * 5 + (states + inside) * 10),
        Phase(flops=own + behind, bytes=4 * (own + behind)),
        Phase(flops=scored * head, exps=scored * 3),
        Phase(flops=states * (SOFTMAX + GATES), exps=states * EXPS),
    )


def test_the_windows_of_a_search_are_those_that_differ() -> None:
    sizes = replace(PAPER_SIZES, sequence_length=9, batch_size=2, n_rollouts=3)
    adds = 0
    for window, count in sizes.filters:
        different = set()
        for row, t, n, start in product(range(2), range(1, 10), range(3), range(9 - window + 1)):
            completion = (t, n) if start + window > t else None  # None: a window of the sequence itself
            different.add((row, start, completion))
        adds += len(different) * window * count
    assert roofline.searched_window_adds(sizes) == adds


def test_a_discriminator_step_trains_the_windows_at_the_maximum_alone() -> None:
    forward, backward = 2 * 3 * (3 * 2 + 2 * 2), 2 * (2 * 3 * (2 + 2))
    head = 3 * (2 * 3 * 6 + 2 * 3)
    parameters = 6 * 3 + (2 * 3 + 6) + 3 + (3 * 6 + 6) + (3 + 1)
    assert roofline.discriminator_step(TINY) == (
        Phase(flops=2 * (forward + backward + head), exps=2 * 3, bytes=2 * 4 * parameters),
        Phase(bytes=7 * 4 * parameters),
    )


def test_parameters_are_those_of_the_models() -> None:
    generator = LSTMSequenceModel(5, 2, 2)
    discriminator = CNNDiscriminator(5, 3, TINY.filters, embedding_size=3)
    assert roofline.generator_parameters(TINY) == sum(p.numel() for p in generator.parameters())
    assert roofline.discriminator_parameters(TINY) == sum(p.numel() for p in discriminator.parameters())


def test_a_phase_takes_the_longer_of_arithmetic_and_traffic_and_phases_add() -> None:
    rates = Rates(flops=10, exps=5, bytes=2)
    arithmetic, traffic = Phase(flops=20, exps=5, bytes=4), Phase(flops=10, bytes=10)
    assert arithmetic.seconds(rates) == 20 / 10 + 5 / 5
    assert traffic.seconds(rates) == 10 / 2
    assert bound((arithmetic, traffic), rates) == 3 + 5
    assert bound((arithmetic + traffic,), rates) == 14 / 2


def test_every_stage_but_stepping_has_a_bound() -> None:
    assert set(STAGES) - set(roofline.WORK) == {f"stepping-{of}" for of in ("1", "64", "1024", "overhead")}
    assert set(roofline.WORK) <= set(STAGES)


def test_the_better_of_two_measurements_counts() -> None:
    assert Rates(1, 5, 2).best(Rates(3, 4, 2)) == Rates(3, 5, 2)


def test_measured_rates_are_positive_and_printed() -> None:
    rates = measure_rates(torch.device("cpu"), quick=True)
    assert min(rates.flops, rates.exps, rates.bytes) > 0
    assert str(Rates(160e9, 4.5e9, 13e9)) == "160 GFLOP/s in products · 4.50 G exponentials/s · 13.0 GB/s copied"


@pytest.mark.parametrize(("stage", "flops"), [("sampling", 66e9), ("oracle-nll", 66e9), ("mle-epoch", 194e9)])
def test_at_the_papers_sizes_the_output_layer_is_most_of_the_work(stage: str, flops: float) -> None:
    # 200,000 tokens, 5,000 logits, 33 products forward; 32 + 33 more backward.
    assert sum(phase.flops for phase in roofline.WORK[stage](PAPER_SIZES)) == pytest.approx(flops, rel=0.05)
