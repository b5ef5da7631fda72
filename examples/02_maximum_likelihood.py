# python examples/02_maximum_likelihood.py
"""Maximum likelihood: a generator learns from real sequences. New here: the sequence model and its measures.

The task is a middle-sized oracle (V = 50, T = 10). Both NLLs are always shown: NLL_oracle measures whether samples are
likely under the oracle, NLL_test whether real sequences are likely under the generator.
"""

import argparse

import numpy as np

from agents.pretraining import Pretrainer
from seqgan_env.measures.likelihood import measure_generator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.oracle import oracle_task

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fast", action="store_true", help="one epoch only")
fast = parser.parse_args().fast

task = oracle_task(vocab_size=50, sequence_length=10, oracle=0)
generator = LSTMSequenceModel(task.vocab_size, seed=0)
pretrainer = Pretrainer(
    generator,
    task.real_sequences("train"),
    task.real_sequences("validation"),
    max_epochs=1 if fast else 20,
    patience=3,
    rng=np.random.default_rng(0),
)
while not pretrainer.finished:
    train_nll, held_out = pretrainer.epoch()
    print(f"epoch {pretrainer.epochs:2}: training NLL {train_nll:.3f}, held-out NLL {held_out} nats per token")

metrics = measure_generator(
    generator,
    task.real_sequences("test"),
    np.random.default_rng(1),
    oracle=task.oracle,
    n_samples=500 if fast else 10_000,
)
print(f"NLL_oracle {metrics.nll_oracle}, NLL_test {metrics.nll_test}, entropy {metrics.entropy}")
print(f"KL(oracle || G) = {metrics.kl_to_oracle} nats per token (expected 0.42 after all epochs)")
