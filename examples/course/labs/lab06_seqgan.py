# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab06_seqgan
# config_file: otter.yml

# %% [markdown]
# # Lab 6: SeqGAN: put Algorithm 1 together
#
# **You learn** how the parts of labs 1 to 5 make one algorithm; to read a learning curve with *both* NLLs.
#
# **Time**: 45 minutes. The notebook itself runs in one minute. **You need**: labs 2, 3 and 5.
#
# ## Theory: Algorithm 1
#
# 1. Train $G_\theta$ by maximum likelihood on real sequences (line 2).
# 2. $\beta \leftarrow \theta$ (line 3). Train $D_\phi$ on real sequences and on negatives of $G_\theta$ (lines 4-5).
# 3. Repeat (lines 6-17):
#     - *g-steps*: $G_\theta$ writes sequences. Monte-Carlo search gives $Q(Y_{1:t-1}, y_t)$ with the reward $D_\phi$ (Eq. 4).
#       The policy gradient moves $\theta$ (Eq. 8).
#     - *d-steps*: draw new negatives, train $D_\phi$ for $k$ epochs (Eq. 5).
#     - $\beta \leftarrow \theta$.
# - NLL_oracle $= -E_{Y \sim G}[\log p(Y)]$ asks: are the written sequences plausible?
# - NLL_test $= -E_{Y \sim p}[\log G(Y)]$ asks: are all real sequences possible? A generator that repeats one good sequence
#   has a very low NLL_oracle and a very high NLL_test.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.vec_env import make_sequence_vec_env
from seqgan_env.exact import ExactWorld
from seqgan_env.models.discriminators import CNNDiscriminator

torch.set_num_threads(1)
V, T = 5, 5
world = ExactWorld(V, T)  # 3,125 sequences
env = make_sequence_vec_env("SeqGAN-Toy-v0", num_envs=64, seed=0, vocab_size=V, sequence_length=T, oracle=5, n_rollouts=8)
task = env.get_attr("task")[0]
oracle = task.oracle
print("entropy of the oracle:", round(world.entropy(oracle), 3), "nats per token")

# %% [markdown]
# ## The parts
#
# - `REINFORCE("LSTMPolicy", env)` is the learner. Its generator is `agent.policy.generator`.
# - `Pretrainer(generator, train, validation, ...).fit()` is step 1.
# - `DiscriminatorTrainer(discriminator, task, g_steps, d_steps, k_epochs)` is a *callback*. `trainer.train_step(generator)`
#   is one d-step. Given to `agent.learn`, it plays d-steps after every generator update and copies $\beta \leftarrow \theta$.

# %%
torch.manual_seed(0)
agent = REINFORCE("LSTMPolicy", env, learning_rate=3e-3, baseline="step_mean", seed=0, device="cpu")
generator = agent.policy.generator
discriminator = CNNDiscriminator(V, T, filters=((1, 16), (2, 32), (3, 32)), embedding_size=16, l2=0.0, seed=0)
curve = []  # a row for each measurement: (round, NLL_oracle, NLL_test)
trainer = DiscriminatorTrainer(
    discriminator, task, d_steps=1, k_epochs=1, sample_size=1000, learning_rate=5e-3, seed=0
)

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** Write what is measured. `world.nll(sampled, scored)` is $-E_{Y \sim sampled}[\log scored(Y)]$ in nats per
# token. Which is which for NLL_oracle and NLL_test? `measure` appends a row to `curve`.

# %% [raw]
# # BEGIN SOLUTION

# %%
def measure(round_number):
    """Append (round, NLL_oracle, NLL_test) of the generator as it is now."""
    # BEGIN SOLUTION
    curve.append((round_number, world.nll(generator, oracle), world.nll(oracle, generator)))
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_measure(env, measure):
    from checks import ask, close, values

    kept = list(env["curve"])
    env["curve"].clear()
    ask(measure, 7)
    found = list(env["curve"])
    env["curve"][:] = kept
    values(found, (1, 3), "measure(7) must append one row of three numbers to `curve`.")
    world, generator, oracle = env["world"], env["generator"], env["oracle"]
    look = "NLL_oracle: sequences come from the generator, the oracle scores them. NLL_test is the other way round."
    close(found[0], [7, world.nll(generator, oracle), world.nll(oracle, generator)], look, 1e-6)

# %%
# HIDDEN
def test_measure_per_token(env, measure):
    from checks import ask, values

    kept = list(env["curve"])
    env["curve"].clear()
    ask(measure, 1)
    found = list(env["curve"])
    env["curve"][:] = kept
    row = values(found, (1, 3), "measure(1) must append one row of three numbers to `curve`.")[0]
    assert row[1:].max() < 5, "Both NLLs must be per token, not per sequence."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 4

# %% [markdown]
# **Question 2.** Steps 1 and 2. Pretrain the generator for 2 epochs (batch size 64, learning rate 1e-2), keep a copy of it as
# `after_mle`, train the discriminator with 20 d-steps. Call `measure(0)` after MLE.

# %% [raw]
# # BEGIN SOLUTION

# %%
def pretrain():
    """Steps 1 and 2; returns a copy of the generator after MLE."""
    # BEGIN SOLUTION
    Pretrainer(
        generator,
        task.real_sequences("train"),
        task.real_sequences("validation"),
        batch_size=64,
        learning_rate=1e-2,
        max_epochs=2,
        rng=np.random.default_rng(0),
    ).fit()
    measure(0)
    for _ in range(20):
        trainer.train_step(generator)
    return copy.deepcopy(generator)
    # END SOLUTION


after_mle = pretrain()
print("discriminator:", trainer.last_report)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_pretrain(env, after_mle, curve):
    from checks import of_kind, values

    world, oracle = env["world"], env["oracle"]
    of_kind(after_mle, type(env["generator"]), "Return copy.deepcopy(generator).")
    gap = world.nll(oracle, after_mle) - world.entropy(oracle)
    assert gap < 0.1, f"After MLE NLL_test is {gap:.2f} above the entropy. Did Pretrainer(...).fit() run for 2 epochs?"
    rows = of_kind(curve, list, "`curve` is the list of measurements.")
    assert rows and values(rows[0], (3,), "Call measure(0) after MLE.")[0] == 0, "Call measure(0) after MLE."
    assert env["trainer"].last_report is not None, "Train the discriminator: trainer.train_step(generator)."

# %%
# HIDDEN
def test_after_mle_is_a_copy(env, after_mle):
    from checks import of_kind

    of_kind(after_mle, type(env["generator"]), "Return copy.deepcopy(generator).")
    assert after_mle is not env["generator"], "after_mle must be a copy: the generator goes on learning."
    report = env["trainer"].last_report
    assert report is not None and report.accuracy > 0.48, "The discriminator is worse than chance. Are there 20 d-steps?"

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 4

# %% [markdown]
# **Question 3.** Step 3. One round takes `env.num_envs * T` steps of `agent.learn`, because a batch holds one sequence of each
# environment. Play 40 rounds in *one* call of `agent.learn`, with the trainer as callback. The trainer calls the function
# `trainer.on_round` with the number of each round. Set it to `measure`.

# %% [raw]
# # BEGIN SOLUTION

# %%
def play(rounds):
    """Step 3: the adversarial game."""
    # BEGIN SOLUTION
    trainer.on_round = measure
    agent.learn(rounds * env.num_envs * T, callback=trainer)
    # END SOLUTION


play(40)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_play(env, curve):
    from checks import values

    rounds = values(curve, (41, 3), "There must be one measurement after MLE and one a round, 41 rows.")[:, 0]
    assert rounds.tolist() == list(range(41)), "The rounds must be 0, 1, ..., 40. Give trainer.on_round = measure, call learn once."
    assert env["trainer"].rounds == 40, f"The trainer counts {env['trainer'].rounds} rounds. Steps = rounds * num_envs * T."

# %%
# HIDDEN
def test_the_game_was_played(env, curve, after_mle):
    from checks import of_kind, values

    rows = values(curve, (41, 3), "Play 40 rounds.")
    of_kind(after_mle, type(env["generator"]), "Give question 2 first.")
    assert rows[-1, 1] < rows[0, 1] - 0.01, "NLL_oracle must have fallen. Is the trainer the callback of learn?"
    difference = env["world"].kl(after_mle, env["generator"], "sequence")
    assert difference > 1e-3, "The generator has not moved since MLE."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 1

# %% [markdown]
# **Question 4.** Which statement does your curve support? Give its letter.
#
# - a) Both NLLs fell, and NLL_oracle went *below* the entropy of the oracle. So a part of its fall is lost diversity.
# - b) Both NLLs fell, and both always stayed above the entropy of the oracle. So the generator became better in every way.
# - c) NLL_oracle fell and NLL_test rose: the sequences are more plausible, but the generator has lost others.

# %% [raw]
# # BEGIN SOLUTION

# %%
statement = "a"  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_statement(statement):
    from checks import letter

    letter(statement, "abc", "Read the curve.")

# %%
# HIDDEN
def test_statement_fits(env, statement, curve):
    from checks import values

    rows = values(curve, (41, 3), "Answer questions 1 to 3 first.")
    entropy = env["world"].entropy(env["oracle"])
    expected = "c" if rows[-1, 2] >= rows[0, 2] else "a" if rows[:, 1].min() < entropy else "b"
    assert statement == expected, "Compare the first and the last row of `curve`; then the lowest NLL_oracle with the entropy of the oracle."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# Right: the game as a path, round by round, from MLE (black). Lower means that the written sequences are more plausible.
# Further left means that fewer real sequences are lost. The dotted lines are the entropy of the oracle. A perfect generator
# lies where they cross.

# %%
rows = np.array(curve)
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
left.plot(rows[:, 0], rows[:, 1], label="NLL_oracle")
left.plot(rows[:, 0], rows[:, 2], label="NLL_test")
left.axhline(world.entropy(oracle), color="grey", linestyle=":", label="entropy of the oracle")
left.set_xlabel("adversarial round")
left.set_ylabel("nats per token")
left.legend(fontsize=8)
points = right.scatter(rows[:, 2], rows[:, 1], c=rows[:, 0], s=14)
right.plot(rows[0, 2], rows[0, 1], "ko", label="after MLE")
right.axhline(world.entropy(oracle), color="grey", linestyle=":")
right.axvline(world.entropy(oracle), color="grey", linestyle=":")
right.set_xlabel("NLL_test")
right.set_ylabel("NLL_oracle")
right.legend(fontsize=8)
figure.colorbar(points, label="round")
figure.suptitle("Below the dotted line a lower NLL_oracle is lost diversity")
plt.show()
