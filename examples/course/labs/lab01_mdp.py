# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab01_mdp
# config_file: otter.yml

# %% [markdown]
# # Lab 1: Writing text is a Markov decision process
#
# **You learn** to read a sequence as states, actions and rewards; to play the environment by hand; to compute an action
# value Q exactly, in a world that has 27 sequences.
#
# **Time**: 30 minutes. The notebook itself runs in 20 seconds. **You need**: Python and NumPy; what a probability is.
#
# ## Theory
#
# - A sequence is $Y_{1:T} = (y_1, \dots, y_T)$. Each $y_t$ is a token of $0 \dots V-1$.
# - The *state* is the prefix $Y_{1:t-1}$. The *action* is the next token $y_t$.
# - The *transition* is certain: the next state is always $Y_{1:t}$.
# - The *policy* is the generator $G_\theta(y_t \mid Y_{1:t-1})$.
# - The *reward* $R(Y_{1:T})$ is known only when the sequence is complete.
# - The objective is the expected reward (Eq. 1): $J(\theta) = E[R_T \mid s_0, \theta] = \sum_Y G_\theta(Y)\, R(Y)$.
# - An action in the middle has no reward of its own. Its value is the mean reward of all completions (Eq. 4, with all
#   completions instead of $N$): $Q(Y_{1:t-1}, y_t) = \sum_{Y_{t+1:T}} G_\beta(Y_{t+1:T} \mid Y_{1:t})\, R(Y_{1:T})$.
# - $G_\beta$ is the *roll-out policy*. It only completes prefixes.
# - At the end nothing is left to complete: $Q(Y_{1:T-1}, y_T) = R(Y_{1:T})$.
# - With $V = 3$ and $T = 3$ there are 27 sequences. We can visit all of them.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.exact import ExactWorld
from seqgan_env.rollout_policies import UniformPolicy

world = ExactWorld(vocab_size=3, sequence_length=3)
print(world.sequences[:5], "... in all", len(world))


def reward(sequences):
    """(R, T) tokens -> (R,) rewards: the share of neighbours that differ, and a prize for beginning with token 2."""
    differs = (sequences[:, 1:] != sequences[:, :-1]).float().mean(dim=1)
    return 0.8 * differs + 0.2 * (sequences[:, 0] == 2).float()

# %% [markdown]
# ## 1. Play by hand
#
# `env.reset()` gives the empty prefix: three times PAD, which is the number 3. `env.step(token)` appends a token and gives
# the next prefix, a reward, and whether the sequence is complete.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** Write a function that plays given tokens and returns the list of the observations *after* each step and
# the `info` of the last step.

# %% [raw]
# # BEGIN SOLUTION

# %%
env = gym.make("SeqGAN-Toy-v0", reward_model=reward, reward_mode="terminal")


def play(env, tokens):
    """Returns (list of observations, last info)."""
    # BEGIN SOLUTION
    env.reset(seed=0)
    observations = []
    for token in tokens:
        observation, _, _, _, info = env.step(token)
        observations.append(observation)
    return observations, info
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_play(env, play):
    from checks import ask, close, entry, parts

    observations, info = parts(ask(play, env["env"], [2, 0, 1]), 2, "The first is the list of observations.")
    look = "Call env.reset() once, then env.step(token) for each token. Keep the first thing that each step returns."
    close(observations, [[2, 3, 3], [2, 0, 3], [2, 0, 1]], look)
    entry(info, "sequence", "Return the `info` of the last step, not that of reset().")

# %%
# HIDDEN
def test_play_again(env, play):
    from checks import ask, close, parts

    observations, _ = parts(ask(play, env["env"], [1, 1, 2]), 2, "The first is the list of observations.")
    close(observations, [[1, 3, 3], [1, 1, 3], [1, 1, 2]], "Does your function play the tokens that it is given?")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## 2. How many sequences are there?

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [markdown]
# **Question 2.** Write the number of sequences as a function of $V$ and $T$. Then do it again for a world in which token 0
# ends a sequence early. Think of the last step first, and then of one step more: the first token is the end, or it is
# another token and the rest is a sequence of length $T-1$.

# %% [raw]
# # BEGIN SOLUTION

# %%
def count(V, T):
    return V**T  # SOLUTION


def count_with_end(V, T):
    # BEGIN SOLUTION
    return V if T == 1 else 1 + (V - 1) * count_with_end(V, T - 1)
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_count(count, count_with_end):
    from checks import ask, close

    close(ask(count, 3, 3), 27, "Each of T places has V possibilities.")
    close(ask(count, 4, 2), 16, "Each of T places has V possibilities.")
    close(ask(count_with_end, 3, 1), 3, "With one step left, every token is possible.")
    close(ask(count_with_end, 3, 2), 7, "1 sequence ends at once; V - 1 first tokens are followed by any sequence of T - 1.")

# %%
# HIDDEN
def test_count_more(count, count_with_end):
    from checks import ask, close
    from seqgan_env.exact import ExactWorld

    for V, T in ((2, 5), (4, 4), (3, 6)):
        close(ask(count, V, T), len(ExactWorld(V, T)), "Try your formula with V=2 and T=5.")
        close(ask(count_with_end, V, T), len(ExactWorld(V, T, 0)), "Write the sequences for V=2 and T=3 down.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## 3. The exact action value
#
# `world.sequences` holds all sequences, and `world.beginning_with(prefix)` says which of them begin with a prefix.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3

# %% [markdown]
# **Question 3.** Compute $Q$ of a prefix for the *uniform* roll-out policy: all completions are equally likely. Compute
# $J$ of the uniform generator (Eq. 1) too.

# %% [raw]
# # BEGIN SOLUTION

# %%
def q_value(prefix):
    """Q(Y_{1:t-1}, y_t), where prefix is Y_{1:t}: a float."""
    # BEGIN SOLUTION
    completions = world.sequences[torch.from_numpy(world.beginning_with(prefix))]
    return float(reward(completions).mean())
    # END SOLUTION


objective = float(reward(world.sequences).mean())  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_q_value(q_value, objective):
    from checks import ask, close

    close(ask(q_value, [2, 0, 1]), 1.0, "A complete sequence has one completion, itself. Its Q is its reward.")
    close(ask(q_value, [2]), 0.2 + 0.8 * 2 / 3, "Average the reward over the 9 sequences that begin with 2.")
    close(objective, 0.6, "J is the mean reward of all 27 sequences.")

# %%
# HIDDEN
def test_q_value_everywhere(env, q_value):
    from checks import ask, close
    from seqgan_env.rollout_policies import UniformPolicy

    exact = env["world"].action_values(env["reward"], UniformPolicy(3))
    found = [[ask(q_value, y[: t + 1].tolist()) for t in range(3)] for y in env["world"].sequences]
    close(found, exact, "Average over the sequences that begin with the whole prefix, not with its last token alone.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# The environment estimates the same number with $N$ random completions. With many of them it comes close.

# %%
searching = gym.make("SeqGAN-Toy-v0", reward_model=reward, reward_mode="action_value", n_rollouts=2000)
searching.reset(seed=0)
estimates = [searching.step(token)[1] for token in (2, 0, 1)]
exact = world.action_values(reward, UniformPolicy(3))[world.beginning_with([2, 0, 1])][0]
print("estimated:", np.round(estimates, 3), " exact:", np.round(exact, 3))

# %% [markdown]
# ## 4. Does the best first token begin the best sequence?

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 2

# %% [markdown]
# **Question 4.** Write a sequence *greedily*: at each step take the token with the highest $Q$ (of several the first).
# Use `q_value`. Below, `world.best_sequence` says what the best sequence is. Is $Q$ of the uniform policy good enough here?

# %% [raw]
# # BEGIN SOLUTION

# %%
def greedy():
    """The list of T tokens that greedy choice writes."""
    # BEGIN SOLUTION
    written = []
    for _ in range(3):
        written.append(int(np.argmax([q_value([*written, token]) for token in range(3)])))
    return written
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_greedy(greedy):
    from checks import ask, close

    close(ask(greedy), [2, 0, 1], "Start with []. Compare q_value(prefix + [token]) for the three tokens, append the best.")

# %%
# HIDDEN
def test_greedy_reads_q_value(env, greedy):
    from checks import ask, close

    kept = env["q_value"]
    env["q_value"] = lambda prefix: -abs(prefix[-1] - len(prefix) % 3)
    try:
        close(ask(env["greedy"]), [1, 2, 0], "Choose by q_value at every step; don't write the answer down.")
    finally:
        env["q_value"] = kept

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## 5. A picture
#
# Each row is a sequence; each cell is $Q$ of the token that stands there. Read a row from the left: it shows when the
# value of the sequence becomes known.

# %%
print("best sequence and its reward:", world.best_sequence(reward))
values = world.action_values(reward, UniformPolicy(3))
figure, axes = plt.subplots(figsize=(4.5, 6.5))
image = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
for row, sequence in enumerate(world.sequences.tolist()):
    for t, token in enumerate(sequence):
        dark = values[row, t] < 0.6
        axes.text(t, row, "abc"[token], ha="center", va="center", color="white" if dark else "black", fontsize=8)
axes.set_xticks(range(3), [f"$Q(Y_{{1:{t}}}, y_{t + 1})$" for t in range(3)], fontsize=8)
axes.set_yticks([])
axes.set_ylabel("the 27 sequences")
axes.set_title("Action values of every token")
figure.colorbar(image, label="expected reward")
plt.show()
