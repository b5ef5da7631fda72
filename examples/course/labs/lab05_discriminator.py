# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab05_discriminator
# config_file: otter.yml

# %% [markdown]
# # Lab 5: The discriminator: what it should say, and what it memorises
#
# **You learn** what the best discriminator is; to measure calibration; to tell learning from memorising; how much a
# discriminator could improve a generator.
#
# **Time**: 40 minutes. The notebook itself runs in 40 seconds. **You need**: labs 1 and 2; logistic regression.
#
# ## Theory
#
# - $D_\phi(Y)$ is the probability that $Y$ is real. It is trained on real and generated sequences in equal numbers (Eq. 5):
#   $\min_\phi -E_{Y \sim p}[\log D_\phi(Y)] - E_{Y \sim G}[\log(1 - D_\phi(Y))]$.
# - The minimum is $D^*(Y) = \dfrac{p(Y)}{p(Y) + G(Y)}$. It is 1/2 everywhere if the generator is perfect.
# - *Calibration*: among the sequences with $D = 0.7$, 70 % should be real. SeqGAN uses $D$ as a number, so this matters.
# - The *expected calibration error* sorts sequences into ten bins by $D$: mean $|\,$mean $D$ of a bin $-$ share of real in it$|$.
# - *Memorising*: with few training sequences $D$ learns them by heart. It then tells training sequences apart, but not new
#   ones. Only *held-out* accuracy counts.
# - *Held-out gain*: $D/(1 - D)$ estimates $p/G$. So $G'(Y) = \frac{1}{Z}\, G(Y) \frac{D(Y)}{1 - D(Y)}$ is a better generator,
#   if $D$ is good. With $D^*$ it is $p$ itself. The gain is NLL_test of $G$ less NLL_test of $G'$.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from agents.discriminator_trainer import DiscriminatorTrainer
from seqgan_env.exact import ExactWorld
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.toy import toy_task

torch.set_num_threads(1)
task = toy_task(vocab_size=4, sequence_length=5)
world = ExactWorld.of(task)  # 1,024 sequences
oracle = task.oracle
generator = LSTMSequenceModel(4, 8, 8, init_std=0.8, seed=2)
p, g = world.probabilities(oracle), world.probabilities(generator)

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** Compute the best discriminator from the probabilities. Then compute the share of right answers: half of the
# sequences are real and half are generated, and the answer is "real" where $D > 1/2$.

# %% [raw]
# # BEGIN SOLUTION

# %%
def best_discriminator(p, g):
    """(S,) probabilities of real and generated sequences -> (S,) values of D."""
    return p / (p + g)  # SOLUTION


def expected_accuracy(D, p, g):
    """Share of right answers, a float: half the sequences come from p, half from g."""
    return float(0.5 * p[D > 0.5].sum() + 0.5 * g[D <= 0.5].sum())  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_best(env, best_discriminator, expected_accuracy):
    from checks import ask, close

    np, p, g = env["np"], env["p"], env["g"]
    close(ask(best_discriminator, p, p), np.full(len(p), 0.5), "If p = g, D is 1/2 everywhere.")
    close(ask(best_discriminator, p, g), env["world"].best_discriminator(p, g), "D* = p / (p + g), for each sequence.")
    D = np.array([0.9, 0.4])
    close(ask(expected_accuracy, D, np.array([0.8, 0.2]), np.array([0.3, 0.7])), 0.75,
          "Half of p's mass where D > 1/2 (0.8), half of g's mass where it is not (0.7).")

# %%
# HIDDEN
def test_accuracy_again(env, expected_accuracy):
    from checks import ask, close

    np, p, g = env["np"], env["p"], env["g"]
    distance = 0.5 * np.abs(p - g).sum()
    close(ask(expected_accuracy, p / (p + g), p, g), 0.5 + 0.5 * distance, "The best accuracy is 1/2 + TV(p, g) / 2.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3

# %% [markdown]
# **Question 2.** Write the expected calibration error. Use ten bins of equal width on $[0, 1]$. A bin counts by the share of
# sequences in it; an empty bin does not count.

# %% [raw]
# # BEGIN SOLUTION

# %%
def calibration_error(D, is_real):
    """(M,) values of D and (M,) bool -> mean |mean D - share of real| over the bins, weighted: a float."""
    # BEGIN SOLUTION
    bins = np.minimum((D * 10).astype(int), 9)
    error = 0.0
    for b in range(10):
        inside = bins == b
        if inside.any():
            error += inside.mean() * abs(D[inside].mean() - is_real[inside].mean())
    return float(error)
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_calibration(env, calibration_error):
    from checks import ask, close

    np = env["np"]
    is_real = np.array([True, True, True, False])
    close(ask(calibration_error, np.full(4, 0.75), is_real), 0.0, "D = 0.75 and 3 of 4 are real: this is calibrated.")
    close(ask(calibration_error, np.full(4, 0.95), is_real), 0.2, "D = 0.95 and 3 of 4 are real: the error is 0.2.")
    mixed = np.array([0.95, 0.95, 0.95, 0.15])
    close(ask(calibration_error, mixed, is_real), 0.75 * 0.05 + 0.25 * 0.15, "Weight each bin with its share.")

# %%
# HIDDEN
def test_calibration_like_the_library(env, calibration_error):
    from checks import ask, close

    np = env["np"]
    rng = np.random.default_rng(0)
    D = rng.random(5000)
    is_real = rng.random(5000) < D**2
    expected = sum(
        abs(D[(D * 10).astype(int) == b].sum() - is_real[(D * 10).astype(int) == b].sum()) for b in range(10)
    ) / 5000
    close(ask(calibration_error, D, is_real), expected, "Use ten bins of width 0.1. Is each bin weighted by its size?")
    close(ask(calibration_error, np.ones(4), np.ones(4, dtype=bool)), 0, "D = 1 belongs into the last bin.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# Now train one. `trainer.epoch(real, generated)` is one epoch of Eq. 5, and `discriminator.score(sequences)` gives logits.
# First many training sequences, then only 60 of each kind.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3

# %% [markdown]
# **Question 3.** Train for 40 epochs on the sequences that are given. Keep the accuracy on the *training* sequences and on
# *held-out* ones after each epoch.

# %% [raw]
# # BEGIN SOLUTION

# %%
rng = np.random.default_rng(0)
held_real, held_generated = task.real_sequences("validation"), sample_sequences(generator, 1000, 5, rng)


def probability(discriminator, sequences):
    """D(Y), (R,) float64."""
    return torch.sigmoid(discriminator.score(sequences)).double().numpy()


def accuracy(discriminator, real, generated):
    """Share of right answers on two sets of the same size: a float."""
    # BEGIN SOLUTION
    right_real = (probability(discriminator, real) > 0.5).mean()
    return float(0.5 * right_real + 0.5 * (probability(discriminator, generated) <= 0.5).mean())
    # END SOLUTION


def train(count, epochs=40):
    """Returns a discriminator, and lists of its training and held-out accuracies."""
    filters = ((1, 16), (2, 32), (3, 32))
    discriminator = CNNDiscriminator(4, 5, filters=filters, embedding_size=8, l2=0.0, dropout=0.0, seed=0)
    trainer = DiscriminatorTrainer(discriminator, task, learning_rate=5e-3, seed=0)
    real, generated = task.real_sequences("train")[:count], sample_sequences(generator, count, 5, rng)
    on_training, on_held_out = [], []
    # BEGIN SOLUTION
    for _ in range(epochs):
        trainer.epoch(real, generated)
        on_training.append(accuracy(discriminator, real, generated))
        on_held_out.append(accuracy(discriminator, held_real, held_generated))
    # END SOLUTION
    return discriminator, on_training, on_held_out


many, many_training, many_held_out = train(1000)
few, few_training, few_held_out = train(60)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_training(env, many_training, many_held_out, few_training, few_held_out):
    from checks import values

    names = ("many_training", "many_held_out", "few_training", "few_held_out")
    answers = (many_training, many_held_out, few_training, few_held_out)
    last = {}
    for name, answer in zip(names, answers, strict=True):
        last[name] = values(answer, (40,), f"The answer is {name}: append to both lists after each of the 40 epochs.")[-1]
    gap = last["few_training"] - last["few_held_out"]
    assert gap > 0.1, f"With 60 sequences the accuracies differ by {gap:.2f} only. Is one measured on held-out sequences?"
    assert last["many_held_out"] > 0.55, "1,000 sequences should be enough to learn something. Do you call trainer.epoch?"

# %%
# HIDDEN
def test_accuracy(env, accuracy, few, few_held_out):
    from checks import ask, close, of_kind, values

    of_kind(few, env["CNNDiscriminator"], "`train` returns it first. Run the cell of question 3.")
    real, generated, D = env["held_real"], env["held_generated"], env["probability"]
    expected = 0.5 * (D(few, real) > 0.5).mean() + 0.5 * (D(few, generated) <= 0.5).mean()
    close(ask(accuracy, few, real, generated), expected, "Half the real ones above 1/2, half the generated ones below.")
    last = values(few_held_out, (40,), "Append after each of the 40 epochs.")[-1]
    close(last, expected, "The last entry must be of the last epoch, on held_real and held_generated.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [markdown]
# **Question 4.** Compute the held-out gain exactly. $G' \propto G \cdot D/(1 - D)$; NLL of real sequences is
# $-\sum_Y p(Y) \log G(Y)$. Give the gain in nats per sequence.

# %% [raw]
# # BEGIN SOLUTION

# %%
def gain(D, p, g):
    """(S,) D of every sequence, (S,) p, (S,) g -> NLL of g less NLL of g': a float, nats per sequence."""
    # BEGIN SOLUTION
    improved = g * D / (1 - D)
    improved = improved / improved.sum()
    return float(p @ (np.log(improved) - np.log(g)))
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_gain(env, gain):
    from checks import ask, close

    np, p, g, world = env["np"], env["p"], env["g"], env["world"]
    close(ask(gain, np.full(len(p), 0.3), p, g), 0.0, "A constant D changes nothing. Divide by the sum Z.")
    look = "With the best D, G' is p, and the gain is KL(p || G)."
    close(ask(gain, p / (p + g), p, g), world.kl(p, g, "sequence"), look)

# %%
# HIDDEN
def test_gain_of_trained(env, gain):
    from checks import ask, close

    np, p, g = env["np"], env["p"], env["g"]
    D = np.clip(env["probability"](env["few"], env["world"].sequences), 1e-6, 1 - 1e-6)
    ratio = D / (1 - D)
    close(ask(gain, D, p, g), p @ np.log(ratio) - np.log(g @ ratio), "log G' = log G + log(D / (1 - D)) - log Z.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# Left: what memorising looks like. Right: $D$ of every sequence against the best $D$, and the gain that follows from it.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
for name, colour, on_training, on_held_out in (
    ("1,000 of each", "tab:blue", many_training, many_held_out),
    ("60 of each", "tab:orange", few_training, few_held_out),
):
    left.plot(on_training, "--", color=colour, label=f"{name}: training sequences")
    left.plot(on_held_out, color=colour, label=f"{name}: held-out")
left.axhline(expected_accuracy(best_discriminator(p, g), p, g), color="black", linewidth=0.8, label="best possible")
left.set_xlabel("epoch")
left.set_ylabel("accuracy")
left.legend(fontsize=8)
for name, colour, model in (("1,000", "tab:blue", many), ("60", "tab:orange", few)):
    D = np.clip(probability(model, world.sequences), 1e-6, 1 - 1e-6)
    right.scatter(best_discriminator(p, g), D, s=5, color=colour, alpha=0.5, label=f"{name}: gain {gain(D, p, g):+.2f}")
right.plot([0, 1], [0, 1], color="black", linewidth=0.8)
right.set_xlabel("best D of a sequence")
right.set_ylabel("D of the network")
right.legend(title=f"best gain {world.kl(p, g, 'sequence'):+.2f} nats", fontsize=8)
figure.suptitle("What a discriminator memorises does not help")
plt.show()
