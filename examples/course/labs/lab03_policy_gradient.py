# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab03_policy_gradient
# config_file: otter.yml

# %% [markdown]
# # Lab 3: The policy gradient, derived and checked
#
# **You learn** to write the policy gradient as code; to check an estimate against the exact gradient; why a baseline
# makes the variance small and does not change the mean.
#
# **Time**: 40 minutes. The notebook itself runs in 30 seconds. **You need**: labs 1 and 2; the derivative of a logarithm.
#
# ## Theory
#
# - The objective (Eq. 1) is $J(\theta) = \sum_Y G_\theta(Y)\, R(Y)$.
# - For any distribution $\nabla G = G\, \nabla \log G$. So $\nabla J = E_{Y \sim G}[R(Y)\, \nabla \log G_\theta(Y)]$.
# - $\log G_\theta(Y) = \sum_t \log G_\theta(y_t \mid Y_{1:t-1})$. What was written before $t$ does not depend on $y_t$. So each
#   step is weighted with its own action value (Eq. 6-7):
#   $\nabla J = E_{Y \sim G}\big[\sum_t \nabla \log G_\theta(y_t \mid Y_{1:t-1})\, Q(Y_{1:t-1}, y_t)\big]$.
# - The estimate is the mean over $B$ sequences that $G_\theta$ has written. An optimiser steps along it (Eq. 8).
# - A *baseline* $b$ that does not depend on $y_t$ changes nothing on average, because
#   $E_{y_t \sim G}[\nabla \log G(y_t \mid \cdot)] = \nabla \sum_y G(y \mid \cdot) = \nabla 1 = 0$.
# - It does change the variance: if $Q - b$ is near 0, the terms of the sum are small.
# - "Leave-one-out": the baseline of a sequence at step $t$ is the mean $Q$ at step $t$ of the *other* sequences.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from seqgan_env.exact import ExactWorld
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import sample_sequences

torch.set_num_threads(1)
world = ExactWorld(3, 3)
generator = LSTMSequenceModel(3, embedding_size=4, hidden_size=5, init_std=1.0, seed=1)


def reward(sequences):
    """(R, T) tokens -> (R,) rewards between 1 and 2: high where neighbours differ and the first token is 2."""
    differs = (sequences[:, 1:] != sequences[:, :-1]).float().mean(dim=1)
    return 1 + 0.8 * differs + 0.2 * (sequences[:, 0] == 2).float()


values = torch.tensor(world.action_values(reward, generator), dtype=torch.float32)  # exact Q of every token, (27, 3)


def q_of(sequences):
    """Exact Q of each token of (B, 3) sequences, (B, 3): the row of the table that the three digits name."""
    return values[(sequences * torch.tensor([9, 3, 1])).sum(dim=1)]


def flat(gradients):
    """The gradients of all parameters as one vector."""
    return torch.cat([part.flatten() for part in gradients])


exact = flat(world.gradient(generator, reward).values())
print("the exact gradient has", len(exact), "entries; its length is", round(float(exact.norm()), 4))

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 3

# %% [markdown]
# **Question 1.** `generator.weighted_log_likelihood(sequences, weights)` is the scalar
# $\sum_{b,t} w_{b,t} \log G(y_{b,t} \mid \cdot)$, which can be differentiated. Use it twice: for the *exact* gradient (all
# 27 sequences; which weights?) and for the *estimate* from a batch. `torch.autograd.grad(scalar, parameters)` differentiates.

# %% [raw]
# # BEGIN SOLUTION

# %%
parameters = list(generator.parameters())


def exact_gradient():
    """The gradient of J as one vector, from all sequences."""
    # BEGIN SOLUTION
    probabilities = torch.tensor(world.probabilities(generator), dtype=torch.float32)
    scalar = generator.weighted_log_likelihood(world.sequences, probabilities[:, None] * values)
    return flat(torch.autograd.grad(scalar, parameters))
    # END SOLUTION


def estimate(sequences, weights):
    """The estimate of Eq. 7 as one vector, from (B, T) sequences and (B, T) weights."""
    # BEGIN SOLUTION
    scalar = generator.weighted_log_likelihood(sequences, weights) / len(sequences)
    return flat(torch.autograd.grad(scalar, parameters))
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_gradients(env, exact_gradient, estimate):
    from checks import ask, close, values

    look = "The weight of a token is G(Y) Q(Y_{1:t-1}, y_t): world.probabilities(generator) times `values`."
    close(ask(exact_gradient), env["exact"], look)
    y = env["world"].sequences[:9]
    one = values(ask(estimate, y, env["q_of"](y)), tuple(env["exact"].shape), "Return one vector, as exact_gradient does.")
    close(ask(estimate, y.repeat(2, 1), env["q_of"](y).repeat(2, 1)), one, "Each sequence twice must give the same estimate: it is a mean over sequences. Divide by B.")

# %%
# HIDDEN
def test_the_estimate_is_right_on_average(env, estimate):
    from checks import ask, close
    import numpy as np

    sample = env["sample_sequences"]
    y = sample(env["generator"], 60_000, 3, np.random.default_rng(5))
    close(ask(estimate, y, env["q_of"](y)), env["exact"], "Divide by the number of sequences, not of tokens.", 0.02)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3

# %% [markdown]
# **Question 2.** Write the leave-one-out baseline. Subtract from each weight the mean of the *other* rows of its column.

# %% [raw]
# # BEGIN SOLUTION

# %%
def without_baseline(weights):
    """(B, T) weights -> (B, T) weights less the mean of the other sequences at the same step."""
    # BEGIN SOLUTION
    others = (weights.sum(dim=0) - weights) / (len(weights) - 1)
    return weights - others
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_baseline(env, without_baseline):
    from checks import ask, close

    torch = env["torch"]
    found = ask(without_baseline, torch.tensor([[1.0, 4.0], [3.0, 4.0], [5.0, 1.0]]))
    close(found, [[-3, 1.5], [0, 1.5], [3, -3]], "Row 0, column 0: 1 less the mean of 3 and 5. Don't count the row itself.")

# %%
# HIDDEN
def test_baseline_is_unbiased(env, without_baseline):
    from checks import ask, close, values
    import numpy as np

    estimate, size = env["estimate"], tuple(env["exact"].shape)
    y = env["sample_sequences"](env["generator"], 24_000, 3, np.random.default_rng(7))
    batches = [ask(estimate, b, ask(without_baseline, env["q_of"](b))) for b in y.split(8)]
    mean = np.mean([values(batch, size, "Give question 1 first.") for batch in batches], axis=0)
    close(mean, env["exact"], "The mean of many estimates must still be the exact gradient. Leave the row itself out.", 0.02)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [markdown]
# **Question 3.** Draw 300 batches of 16 sequences. Make an estimate of each batch, once with the weights $Q$ and once with
# the baseline. The variance of a vector is the sum of the variances of its entries. How many times smaller is it?

# %% [raw]
# # BEGIN SOLUTION

# %%
def variance(estimates):
    """(M, P) estimates -> the sum over the P entries of their variances: a float."""
    return float(estimates.var(dim=0).sum())  # SOLUTION


rng = np.random.default_rng(0)
batches = [sample_sequences(generator, 16, 3, rng) for _ in range(300)]
plain = torch.stack([estimate(batch, q_of(batch)) for batch in batches])
reduced = torch.stack([estimate(batch, without_baseline(q_of(batch))) for batch in batches])
times_smaller = variance(plain) / variance(reduced)  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_variance(env, variance, times_smaller):
    from checks import ask, close, number

    torch = env["torch"]
    close(ask(variance, torch.tensor([[0.0, 1.0], [2.0, 1.0]])), 2.0, "Entry 0 has the variance 2 (torch's var), entry 1 none.")
    times = number(times_smaller, "Divide the variance of `plain` by that of `reduced`.")
    assert times > 5, f"times_smaller={times:.2f} is too small. Is the baseline subtracted in `reduced`?"

# %%
# HIDDEN
def test_variance_ratio(env, variance, times_smaller):
    from checks import close

    plain, reduced = env["plain"], env["reduced"]
    expected = plain.var(dim=0).sum() / reduced.var(dim=0).sum()
    close(times_smaller, expected, "Divide the variance of `plain` by that of `reduced`, both over the batches.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# Each estimate is projected on the direction of the exact gradient. Both clouds have the same mean: the length of the exact
# gradient. The cloud with the baseline is narrow.

# %%
direction = exact / exact.norm()
figure, axes = plt.subplots(figsize=(7, 3.8))
bins = np.linspace(-0.6, 0.8, 60)
for name, estimates in (("weights Q", plain), ("weights Q - baseline", reduced)):
    along = (estimates @ direction).numpy()
    axes.hist(along, bins, alpha=0.6, label=f"{name}: mean {along.mean():.3f}, deviation {along.std():.3f}")
axes.axvline(float(exact.norm()), color="black", label=f"exact: {float(exact.norm()):.3f}")
axes.set_xlabel("estimate along the exact gradient (16 sequences each)")
axes.set_ylabel("batches")
axes.set_ylim(top=95)
axes.legend(loc="upper left", fontsize=8)
axes.set_title(f"A baseline makes the variance {times_smaller:.0f} times smaller")
plt.show()
