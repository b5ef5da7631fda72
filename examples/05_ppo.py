# python examples/05_ppo.py
"""PPO instead of REINFORCE: another SB3 algorithm plays the same game. New here: the algorithm and its reward mode.

PPO maximises a sum of rewards, so it gets "potential" rewards, which sum to R(Y). The discriminator trainer is the same
callback, unchanged; G_beta is a copy of PPO's actor, a `SequencePolicy`.
"""

import argparse

import numpy as np
from stable_baselines3 import PPO

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy
from agents.vec_env import make_sequence_vec_env
from seqgan_env.measures.likelihood import measure_generator
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import SequenceModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fast", action="store_true", help="two rounds only")
rounds = 2 if parser.parse_args().fast else 60

env = make_sequence_vec_env(
    "SeqGAN-Oracle-v0", num_envs=64, seed=0, vocab_size=50, sequence_length=10, n_rollouts=4, reward_mode="potential"
)
task = env.get_attr("task")[0]
agent = PPO(
    SequencePolicy,
    env,
    learning_rate=5e-3,
    n_steps=task.sequence_length,
    batch_size=320,
    n_epochs=4,
    gamma=1.0,
    ent_coef=0.003,
    policy_kwargs={"embedding_size": 32, "hidden_size": 32},
    seed=0,
    device="cpu",
)
trainer = DiscriminatorTrainer(
    CNNDiscriminator(task.vocab_size, task.sequence_length, filters="light"),
    d_steps=1,
    k_epochs=1,
    learning_rate=1e-3,
    sample_size=1000,
)


def nll_oracle() -> float:
    """NLL_oracle of PPO's actor, nats per token."""
    generator = agent.policy.generator
    assert isinstance(generator, SequenceModel)
    test = task.real_sequences("test")
    metrics = measure_generator(generator, test, np.random.default_rng(1), oracle=task.oracle, n_samples=5000)
    assert metrics.nll_oracle is not None
    print(f"NLL_oracle {metrics.nll_oracle}  NLL_test {metrics.nll_test}  distinct {metrics.distinct:.3f}")
    return metrics.nll_oracle.mean


before = nll_oracle()
agent.learn(rounds * env.num_envs * task.sequence_length, callback=trainer)
after = nll_oracle()
print(f"NLL_oracle from {before:.2f} to {after:.2f} (expected from 6.24 to about 3.8 after all rounds)")
