# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab04_search
# config_file: otter.yml

# %% [markdown]
# # Lab 4: Monte-Carlo search: bias, variance and cost
#
# **You learn** to complete a prefix with a roll-out policy; how the error falls with the number of completions $N$; which
# part of the error stays for every $N$; what the search costs.
#
# **Time**: 40 minutes. The notebook itself runs in 30 seconds. **You need**: lab 1; mean and standard deviation.
#
# ## Theory
#
# - A real task has too many sequences: nobody can enumerate them. So $Q$ is *estimated*.
# - Eq. 3: $\{Y^1, \dots, Y^N\} = MC^{G_\beta}(Y_{1:t}; N)$. The roll-out policy $G_\beta$ completes the prefix $N$ times.
# - Eq. 4: $Q(Y_{1:t-1}, y_t) = \frac1N \sum_n R(Y^n)$ for $t < T$, and $R(Y_{1:T})$ at the end.
# - *Variance*: completions are independent, so the standard deviation of the estimate is $\sigma / \sqrt N$, where $\sigma$ is
#   the deviation of $R$ over the completions. Four times as many completions halve it.
# - *Bias*: the estimate converges to $Q^{G_\beta}$. The policy gradient needs $Q^{G_\theta}$. With another roll-out policy the
#   difference stays, whatever $N$ is.
# - *Cost*: a sequence has $T - 1$ prefixes that must be completed, and the prefix $Y_{1:t}$ lacks $T - t$ tokens.
# - The paper takes $N = 16$ and $G_\beta = G_\theta$ (copied after each round).
# - Every completion is scored by the reward model too. Often this costs more than drawing.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from seqgan_env.exact import ExactWorld
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import UniformPolicy

torch.set_num_threads(1)
world = ExactWorld(3, 6)  # 729 sequences
generator = LSTMSequenceModel(3, embedding_size=4, hidden_size=6, init_std=1.5, seed=3)


def reward(sequences):
    """(R, T) tokens -> (R,): the share of neighbours that differ, squared."""
    return (sequences[:, 1:] != sequences[:, :-1]).float().mean(dim=1) ** 2


prefix = [0, 1]

# %% [markdown]
# A policy has a *state*: what it knows of a prefix. `policy.initial_state(n)` is the state of `n` empty prefixes,
# `policy.advance(state, tokens)` reads one token more, and `policy.draw(state, uniforms)` turns uniform random numbers
# (n, 1) into next tokens (n, 1).

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 4

# %% [markdown]
# **Question 1.** Write the search: $N$ completions of a prefix, and the mean of their rewards.

# %% [raw]
# # BEGIN SOLUTION

# %%
def complete(policy, prefix, T, N, rng):
    """(N, T) int64: the prefix, continued N times."""
    state = policy.initial_state(N)
    sequences = torch.zeros(N, T, dtype=torch.int64)
    for t in range(T):
        # Column t is the prefix's token, or, after its end, a token that is drawn. Then the policy reads it.
        # BEGIN SOLUTION
        if t < len(prefix):
            sequences[:, t] = prefix[t]
        else:
            uniforms = torch.from_numpy(rng.random((N, 1), dtype=np.float32))
            sequences[:, t] = policy.draw(state, uniforms)[:, 0]
        state = policy.advance(state, sequences[:, t])
        # END SOLUTION
    return sequences


def search(policy, prefix, T, N, rng):
    """Eq. 4: the estimate of Q of the last token of the prefix, a float."""
    return float(reward(complete(policy, prefix, T, N, rng)).mean())  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_search(env, complete, search):
    from checks import ask, close, values

    np, world, generator, prefix = env["np"], env["world"], env["generator"], env["prefix"]
    found = ask(complete, generator, prefix, 6, 500, np.random.default_rng(0))
    y = values(found, (500, 6), "complete returns N sequences of T tokens, (N, T).")
    assert (y[:, :2] == prefix).all(), "Every completion must begin with the prefix."
    assert len(np.unique(y, axis=0)) > 20, "The completions are nearly all the same. Draw new uniforms at each step."
    found = ask(search, generator, prefix, 6, 20_000, np.random.default_rng(1))
    look = "The mean of many completions must come close to the exact Q. Does the policy read every token, the prefix too?"
    close(found, world.action_value(prefix, env["reward"], generator).mean, look, 0.02)

# %%
# HIDDEN
def test_search_other_policies(env, search):
    from checks import ask, close

    np, world, uniform = env["np"], env["world"], env["UniformPolicy"](3)
    for prefix in ([2], [1, 1, 0], [0, 1, 2, 0, 1, 2]):
        found = ask(search, uniform, prefix, 6, 20_000, np.random.default_rng(2))
        close(found, world.action_value(prefix, env["reward"], uniform).mean, f"Try the uniform policy and {prefix}.", 0.02)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [markdown]
# **Question 2.** `world.action_value(prefix, reward, policy)` gives the exact `mean` and the `deviation` $\sigma$ of one
# completion. What is the standard deviation of the estimate with $N$ completions? Which $N$ makes it 0.01 or less?

# %% [raw]
# # BEGIN SOLUTION

# %%
sigma = world.action_value(prefix, reward, generator).deviation


def deviation_of_estimate(N):
    return sigma / np.sqrt(N)  # SOLUTION


needed = int(np.ceil((sigma / 0.01) ** 2))  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_deviation(env, deviation_of_estimate, needed):
    from checks import ask, close, number

    close(ask(deviation_of_estimate, 1), env["sigma"], "With one completion it is sigma itself.")
    close(ask(deviation_of_estimate, 4), env["sigma"] / 2, "Four times the completions halve it: divide by the root of N.")
    number(needed, "Solve sigma / sqrt(N) = 0.01 for N, and round up.")

# %%
# HIDDEN
def test_needed(env, needed):
    from checks import close
    import math

    close(needed, math.ceil((env["sigma"] / 0.01) ** 2), "N = (sigma / 0.01) squared, rounded up.", 1e-9)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [markdown]
# **Question 3.** Which error stays for $N \to \infty$ if a *uniform* policy completes, while the generator is what we
# train? Give the bias of the prefix: $Q^{G_\beta} - Q^{G_\theta}$, with its sign.

# %% [raw]
# # BEGIN SOLUTION

# %%
uniform = UniformPolicy(3)
bias = (
    world.action_value(prefix, reward, uniform).mean - world.action_value(prefix, reward, generator).mean  # SOLUTION
)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_bias(bias):
    from checks import number

    difference = number(bias, "Use the `mean` of world.action_value with both policies.")
    assert abs(difference) > 0.01, "The two policies give different values. Did you use both?"

# %%
# HIDDEN
def test_bias_exactly(env, bias):
    from checks import close

    world, reward, prefix = env["world"], env["reward"], env["prefix"]
    expected = world.action_value(prefix, reward, env["uniform"]).mean
    expected -= world.action_value(prefix, reward, env["generator"]).mean
    close(bias, expected, "Mind the sign: the roll-out policy's value less the generator's.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 2

# %% [markdown]
# **Question 4.** How many tokens must be drawn to get $Q$ of all tokens of *one* sequence? Give a formula in $T$ and $N$.
# The last token needs no completion. Then compute it for the paper: $T = 20$, $N = 16$.

# %% [raw]
# # BEGIN SOLUTION

# %%
def tokens_drawn(T, N):
    return N * T * (T - 1) // 2  # SOLUTION


paper = tokens_drawn(20, 16)  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_cost(tokens_drawn, paper):
    from checks import ask, close

    close(ask(tokens_drawn, 2, 1), 1, "T=2, N=1: the first token's prefix lacks one token.")
    close(ask(tokens_drawn, 3, 1), 3, "T=3: the prefix of one token lacks 2, that of two tokens lacks 1.")
    close(paper, 3040, "Insert T=20 and N=16.", 1e-9)

# %%
# HIDDEN
def test_cost_again(tokens_drawn):
    from checks import ask, close

    for T, N in ((1, 5), (7, 3), (20, 64)):
        close(ask(tokens_drawn, T, N), sum(N * (T - t) for t in range(1, T)), "Sum T - t over t = 1 .. T-1, times N.", 1e-9)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# The root of the mean squared error against $N$. With the generator as roll-out policy it falls like $1/\sqrt N$. With the
# uniform policy it stops at the bias.

# %%
counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
truth = world.action_value(prefix, reward, generator).mean
rng = np.random.default_rng(0)
figure, axes = plt.subplots(figsize=(6.5, 4.2))
for name, policy, colour in (("generator", generator, "tab:blue"), ("uniform", uniform, "tab:orange")):
    errors = []
    for n in counts:
        draws = reward(complete(policy, prefix, 6, n * 200, rng)).reshape(200, n).mean(dim=1).numpy()
        errors.append(np.sqrt(((draws - truth) ** 2).mean()))
    axes.loglog(counts, errors, "o-", color=colour, label=f"roll-out policy: {name}")
axes.loglog(counts, [deviation_of_estimate(n) for n in counts], ":", color="black", label=r"$\sigma / \sqrt{N}$")
axes.axhline(abs(bias), color="tab:orange", linestyle="--", linewidth=1, label="bias of the uniform policy")
axes.axvline(16, color="grey", linewidth=0.8)
axes.text(17, axes.get_ylim()[0] * 1.1, "the paper's N", fontsize=8)
axes.set_xlabel("completions N")
axes.set_ylabel("error of Q (root mean square)")
axes.legend(fontsize=8)
axes.set_title("More completions remove variance, not bias")
plt.show()
