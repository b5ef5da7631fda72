# python examples/03_seqgan.py
"""SeqGAN: Algorithm 1 on a middle-sized oracle. New here: the discriminator, and the game after MLE.

One SB3 `learn()` is the whole adversarial game: REINFORCE updates the generator from Monte-Carlo action values, and the
callback trains the discriminator and copies the generator to the roll-out policy after every update.
"""

import argparse

import numpy as np

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.vec_env import make_sequence_vec_env
from seqgan_env.measures.likelihood import measure_generator
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import SequenceModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fast", action="store_true", help="one MLE epoch and two rounds only")
fast = parser.parse_args().fast
rounds, samples = (2, 500) if fast else (30, 10_000)

env = make_sequence_vec_env("SeqGAN-Oracle-v0", num_envs=64, seed=0, vocab_size=50, sequence_length=10, n_rollouts=16)
task = env.get_attr("task")[0]
agent = REINFORCE("LSTMPolicy", env, learning_rate=2e-3, baseline="step_mean", seed=0, device="cpu")
generator = agent.policy.generator
discriminator = CNNDiscriminator(task.vocab_size, task.sequence_length, filters="light")
trainer = DiscriminatorTrainer(discriminator, task, d_steps=1, k_epochs=1, learning_rate=1e-3, sample_size=2000)


def report(name: str, model: SequenceModel) -> float:
    """Print both NLLs of a model and return NLL_oracle."""
    test = task.real_sequences("test")[:samples]
    metrics = measure_generator(model, test, np.random.default_rng(1), oracle=task.oracle, n_samples=samples)
    assert metrics.nll_oracle is not None
    print(f"{name:22} NLL_oracle {metrics.nll_oracle}  NLL_test {metrics.nll_test}")
    return metrics.nll_oracle.mean


Pretrainer(
    generator,
    task.real_sequences("train"),
    task.real_sequences("validation"),
    max_epochs=1 if fast else 5,
    rng=np.random.default_rng(0),
).fit()
report("MLE", generator)
report("MLE, temperature 0.9", generator.at_temperature(0.9))

for _ in range(1 if fast else 3):
    trainer.train_step(generator)
agent.learn(rounds * env.num_envs * task.sequence_length, callback=trainer)
print("discriminator:", trainer.last_report)
nll_oracle = report("SeqGAN", generator)
print(f"NLL_oracle {nll_oracle:.2f} (expected 3.11 after all rounds)")
