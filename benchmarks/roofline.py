"""The shortest time of each stage on a machine, from the operations of its algorithm and the rates of the machine.

A stage is a chain of phases, and each waits for the one before it: no parameter changes before the gradient is known,
and no sequence is scored before it is drawn. Within a phase, memory is read ahead while the core computes. So a phase
takes the longer of two times: that of its arithmetic and that of its memory traffic. Products and exponentials share
the core's vector units, so their times add up. The bound of a stage is the sum over its phases:

    bound = sum_phases max(flops / rate of products + exps / rate of exponentials, bytes / bandwidth)

with fp32 rates that are measured in the same run, on the same device, with the same number of threads. The count is a
lower limit. It leaves out additions, comparisons, dropout, searches in cumulative sums, Python, and every array that
fits into a cache (logits never need to leave it). Parameters and token tables are counted as memory traffic. Equal
results of equal inputs are counted once: all sequences of a batch begin with the state of the empty prefix, and the N
completions of a prefix share the logits of their first token and the windows inside the prefix.
In: `Sizes`, `Rates`. Out: floating-point operations (a multiplication and an addition are two), exponentials, bytes;
seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.sizes import Sizes

_FLOAT = 4  # bytes
# Adam reads parameter, gradient and both moments, and writes all of them except the gradient.
_ADAM_PASSES = 7


@dataclass(frozen=True)
class Rates:
    """The best rates of a machine, per second.

    Attributes:
        flops: operations of a large fp32 matrix product.
        exps: exponentials of an fp32 array that stays in the cache.
        bytes: read and written bytes together, of a copy far larger than the private caches.
    """

    flops: float
    exps: float
    bytes: float

    def best(self, other: Rates) -> Rates:
        """The better of two measurements of the same machine: noise only ever slows it down."""
        return Rates(max(self.flops, other.flops), max(self.exps, other.exps), max(self.bytes, other.bytes))

    def __str__(self) -> str:
        return (
            f"{self.flops / 1e9:.0f} GFLOP/s in products · {self.exps / 1e9:.2f} G exponentials/s · "
            f"{self.bytes / 1e9:.1f} GB/s copied"
        )


@dataclass(frozen=True)
class Phase:
    """Work whose arithmetic and memory traffic can overlap.

    Attributes:
        flops: floating-point operations of matrix products.
        exps: exponentials; a sigmoid or a tanh has one.
        bytes: memory traffic.
    """

    flops: float = 0
    exps: float = 0
    bytes: float = 0

    def __add__(self, other: Phase) -> Phase:
        """Both kinds of work in one phase."""
        return Phase(self.flops + other.flops, self.exps + other.exps, self.bytes + other.bytes)

    def seconds(self, rates: Rates) -> float:
        """The longer of arithmetic and traffic."""
        return max(self.flops / rates.flops + self.exps / rates.exps, self.bytes / rates.bytes)


Work = tuple[Phase, ...]


def bound(work: Work, rates: Rates) -> float:
    """The shortest time of phases, one after the other, in seconds."""
    return sum(phase.seconds(rates) for phase in work)


# Pieces. V vocabulary, E = H of the generator and oracle, D embedding of the discriminator, F all its filters.


def distinct_states(sequences: int, sizes: Sizes) -> int:
    """States that predict a token of a batch: one of the empty prefix for all, then T - 1 of each sequence."""
    return sequences * (sizes.sequence_length - 1) + 1


def lstm(steps: int, sizes: Sizes) -> Phase:
    """Eq. 9 forward: 8 H (E + H) operations in the four gates, 5 H exponentials (three sigmoids, two tanh) per step."""
    hidden = sizes.hidden_size
    return Phase(flops=steps * 8 * hidden * (hidden + hidden), exps=steps * 5 * hidden)


def softmax(rows: int, sizes: Sizes) -> Phase:
    """Eq. 10: V logits of H products and a bias, 2 (H + 1) operations and one exponential each."""
    logits = rows * sizes.vocab_size
    return Phase(flops=logits * 2 * (sizes.hidden_size + 1), exps=logits)


def softmax_gradient(rows: int, sizes: Sizes) -> Phase:
    """Two more products: to the hidden states 2 H, to weight and bias 2 (H + 1) operations per logit."""
    return Phase(flops=rows * sizes.vocab_size * (4 * sizes.hidden_size + 2))


def adam(parameters: int) -> Phase:
    """One step: seven passes over arrays of the parameters' size."""
    return Phase(bytes=_ADAM_PASSES * _FLOAT * parameters)


def generator_parameters(sizes: Sizes) -> int:
    """V (E + H + 1) of embedding and output layer, 4 H (E + H + 1) of the gates."""
    hidden = sizes.hidden_size
    return (sizes.vocab_size + 4 * hidden) * (hidden + hidden + 1)


def filter_count(sizes: Sizes) -> int:
    """F."""
    return sum(count for _, count in sizes.filters)


def filter_rows(sizes: Sizes) -> int:
    """sum over filters of l * count: number of rows of D numbers in all filters together."""
    return sum(window * count for window, count in sizes.filters)


def discriminator_parameters(sizes: Sizes) -> int:
    """(V + 1) D embedding, D sum l count + F filters, F 2F + 2F highway, F + 1 output."""
    f = filter_count(sizes)
    embedding = sizes.discriminator_embedding_size
    return (sizes.vocab_size + 1 + filter_rows(sizes)) * embedding + f + 2 * f * f + 2 * f + f + 1


def window_adds(sizes: Sizes) -> int:
    """sum over filters of (T - l + 1) l count: products with an embedding, or table rows' numbers, of a sequence."""
    return sum((sizes.sequence_length - window + 1) * window * count for window, count in sizes.filters)


def searched_window_adds(sizes: Sizes) -> int:
    """Numbers read from token tables to score a whole search; windows in shared prefixes count once.

    A window of the sequences themselves is looked up once, B (T - l + 1) of them, for every prefix that holds it and
    for the finished sequence. A completion of Y_{1:t} has min(T - l + 1, T - t) windows that end after its prefix.
    """
    horizon = sizes.sequence_length
    adds = sizes.batch_size * window_adds(sizes)
    for window, count in sizes.filters:
        behind = sum(min(horizon - window + 1, horizon - t) for t in range(1, horizon))
        adds += sizes.batch_size * sizes.n_rollouts * behind * window * count
    return adds


def head(sequences: int, sizes: Sizes, products: int = 1) -> Phase:
    """Highway and output: 2 F 2F + 2 F operations for each product (forward 1, with gradients 3), F sigmoids."""
    f = filter_count(sizes)
    return Phase(flops=sequences * products * (4 * f * f + 2 * f), exps=sequences * f)


# Stages.


def sampling(sizes: Sizes) -> Work:
    """M sequences: a softmax and an LSTM step for each distinct state."""
    states = distinct_states(sizes.sequences, sizes)
    return (softmax(states, sizes) + lstm(states, sizes),)


def generator_steps(sequences: int, steps: int, sizes: Sizes) -> Work:
    """Updates by likelihood, `sequences` in `steps` batches: three products per logit, 3 x the gates' products, Adam.

    The one-hot half of the gradient touches one row per token and is left out.
    """
    states = sequences * (sizes.sequence_length - 1) + steps
    forward = lstm(states, sizes)
    gates_backward = Phase(flops=2 * forward.flops)
    gradient = softmax(states, sizes) + softmax_gradient(states, sizes) + forward + gates_backward
    return gradient, adam(steps * generator_parameters(sizes))


def mle_epoch(sizes: Sizes) -> Work:
    """One pass over M sequences in ceil(M / B) steps."""
    return generator_steps(sizes.sequences, -(-sizes.sequences // sizes.batch_size), sizes)


def policy_gradient(sizes: Sizes) -> Work:
    """One step on B sequences; the rewards are weights and cost nothing."""
    return generator_steps(sizes.batch_size, 1, sizes)


def search(sizes: Sizes) -> Work:
    """Eq. 3-4 for t = 1..T: draw B N completions of each prefix, score them and the finished sequences.

    A completion of Y_{1:t} draws T - t tokens; the logits of the first are those of its prefix. D is scored by look-up,
    which is cheaper at these sizes. Token tables are built anew, since D has changed since the last search.
    `info` holds the oracle's NLL of the finished sequences.
    """
    batch, horizon, n = sizes.batch_size, sizes.sequence_length, sizes.n_rollouts
    inside = batch * n * (horizon - 1) * (horizon - 2) // 2  # tokens of completions, without the first of each
    prefixes = batch * (horizon - 1)
    scored = batch * n * (horizon - 1) + batch
    table = (sizes.vocab_size + 1) * filter_rows(sizes)
    adds = searched_window_adds(sizes)
    states = distinct_states(batch, sizes)
    return (
        Phase(flops=2 * table * sizes.discriminator_embedding_size, bytes=_FLOAT * table),
        softmax(prefixes + inside, sizes) + lstm(distinct_states(batch, sizes) + inside, sizes),
        Phase(flops=adds, bytes=_FLOAT * adds),
        head(scored, sizes),
        softmax(states, sizes) + lstm(states, sizes),
    )


def discriminator_step(sizes: Sizes) -> Work:
    """One step on B sequences: products of all windows, gradients of the windows at the maximum, highway, Adam.

    Forward: 2 D (T - l + 1) l count operations per sequence. Backward: the maximum passes its gradient to one window
    for each sequence and filter, so 2 D l count for the filters, and equally many for the embedding. Parameters are
    read and gradients written once.
    """
    embedding, parameters = sizes.discriminator_embedding_size, discriminator_parameters(sizes)
    windows = 2 * embedding * (window_adds(sizes) + 2 * filter_rows(sizes))
    traffic = Phase(bytes=2 * _FLOAT * parameters)
    gradient = Phase(flops=sizes.batch_size * windows) + head(sizes.batch_size, sizes, products=3) + traffic
    return gradient, adam(parameters)


def oracle_nll(sizes: Sizes) -> Work:
    """M sequences: a softmax and an LSTM step for each distinct state."""
    return sampling(sizes)


WORK: dict[str, Callable[[Sizes], Work]] = {
    "sampling": sampling,
    "mle-epoch": mle_epoch,
    "search": search,
    "policy-gradient": policy_gradient,
    "discriminator-step": discriminator_step,
    "oracle-nll": oracle_nll,
}
"""The work in one unit of each stage. Stepping environments is bookkeeping, and has no such bound."""
