# python examples/06_other_learners.py
"""Any learner: --learner reinforce, rloo, grpo, ppo, a2c, trpo, dqn, ... New here: one word chooses the learner.

The settings are the tuned ones of `agents/settings`. The reward is the oracle's likelihood, so the best of the toy's 27
sequences is known. The trainer has no discriminator to train. It only keeps the roll-out policy a copy of the learner's
policy: a distribution, a recurrent network, or epsilon-greedy over action values.
trpo, ppo_mask, ppo_lstm and qrdqn come from sb3-contrib: pip install "seqgan-gym[compare]"
"""

import argparse

import numpy as np

from agents.discriminator_trainer import DiscriminatorTrainer, generator_of
from agents.learners import LEARNERS
from seqgan_env.rewards import OracleReward, score_sequences
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.toy import enumerate_sequences

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--learner", choices=LEARNERS, default="a2c")
parser.add_argument("--fast", action="store_true", help="a tenth of the steps")
arguments = parser.parse_args()

learner = LEARNERS[arguments.learner]
settings = learner.settings("toy")
for name, value in settings.items():
    print(f"{name}: {value}")

agent = learner.make("toy", seed=0)
env = agent.get_env()
assert env is not None
task = env.get_attr("task")[0]
agent.learn(settings["n_timesteps"] // (10 if arguments.fast else 1), callback=DiscriminatorTrainer(None, task))

generator = generator_of(agent)  # draws tokens as the learner does
assert generator is not None
reward = OracleReward(task.oracle)
everything = score_sequences(reward, enumerate_sequences(task.vocab_size, task.sequence_length))
won = score_sequences(reward, sample_sequences(generator, 2000, task.sequence_length, np.random.default_rng(0))).mean()
uniform, best = everything.mean(), everything.max()
print(f"mean reward {won:.3f}: {uniform:.3f} for uniform tokens, {best:.3f} for only the best sequence")
share = (won - uniform) / (best - uniform)
print(f"{learner.label} won {share:.2f} of the possible gain (expected for A2C after all steps: 1.00)")
