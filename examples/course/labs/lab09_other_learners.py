# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab09_other_learners
# config_file: otter.yml

# %% [markdown]
# # Lab 9: Swap the learner: PPO, GRPO, one of your own
#
# **You learn** how to divide a reward among the steps for another learner; to put PPO in REINFORCE's place; to write GRPO
# in ten lines.
#
# **Time**: 45 minutes. The notebook itself runs in one minute. **You need**: labs 3 and 4; the idea of PPO.
#
# ## Theory
#
# - REINFORCE with `reward_mode="action_value"`: the reward of step $t$ *is* $Q(Y_{1:t-1}, y_t)$. It already contains the
#   later rewards, so the discount is 0.
# - PPO, A2C and others add rewards up: $\sum_{k \ge t} \gamma^{k-t} r_k$. With $r_t = Q_t$ the future would count many times.
# - `reward_mode="potential"`: $r_t = Q_t - Q_{t-1}$ with $Q_0 = 0$. The sum of all is $Q_T = R(Y)$. So with $\gamma = 1$ the
#   objective is still Eq. 1.
# - PPO takes several steps on the same experience, and clips the ratio of new to old probabilities.
# - GRPO has no value network. It writes a *group* of $B$ sequences, and the advantage of each is its reward, standardised in
#   the group: $A_b = (R_b - \mathrm{mean}) / \mathrm{std}$. Every token of sequence $b$ has the weight $A_b$. (We leave out
#   its clipping and its KL term.)
# - The reward is known here, so the exact $J$ (Eq. 1) and the best sequence show how far each learner gets.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from stable_baselines3 import PPO

from agents.policies import SequencePolicy
from agents.reinforce import REINFORCE
from agents.vec_env import make_sequence_vec_env
from seqgan_env.exact import ExactWorld
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import sample_sequences

torch.set_num_threads(1)
V, T = 4, 5
world = ExactWorld(V, T)  # 1,024 sequences
B = 32


def reward(sequences):
    """(R, T) tokens -> (R,) rewards in [0, 1]: rising neighbours, and a last token that equals the first."""
    rises = (sequences[:, 1:] == (sequences[:, :-1] + 1) % V).float().mean(dim=1)
    return 0.8 * rises + 0.2 * (sequences[:, 0] == sequences[:, -1]).float()


print("best sequence and its reward:", world.best_sequence(reward))

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** Turn action values into potential rewards, and add them up from each step to the end.

# %% [raw]
# # BEGIN SOLUTION

# %%
def potential(q):
    """(T,) action values Q_1..Q_T -> (T,) rewards r_t = Q_t - Q_{t-1}, with Q_0 = 0."""
    return np.diff(q, prepend=0.0)  # SOLUTION


def returns(r):
    """(T,) rewards -> (T,) sums of the rewards from each step to the end (discount 1)."""
    return np.cumsum(r[::-1])[::-1]  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_potential(env, potential, returns):
    from checks import ask, close

    np = env["np"]
    q = np.array([0.5, 0.25, 1.0])
    look = "r_1 = Q_1 - 0, r_2 = Q_2 - Q_1, and so on. The rewards add up to the last Q, which is R(Y)."
    close(ask(potential, q), [0.5, -0.25, 0.75], look)
    close(ask(returns, np.array([1.0, 2.0, 3.0])), [6, 5, 3], "Add up from each step to the END.")

# %%
# HIDDEN
def test_return_of_potential(env, potential, returns):
    from checks import ask, close

    np = env["np"]
    q = np.random.default_rng(0).random(7)
    expected = q[-1] - np.concatenate([[0.0], q[:-1]])
    close(ask(returns, ask(potential, q)), expected, "The return from step t is R(Y) - Q_{t-1}: what is still to come.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# The loop below is given: it trains any SB3 learner in small pieces and measures the exact $J$ after each.

# %%
def exact_curve(agent, pieces=20, batches=5):
    """J before, and after every `batches` batches of B sequences: (pieces + 1,) float64."""
    curve = [world.objective(agent.policy.generator, reward)]
    for _ in range(pieces):
        agent.learn(batches * B * T, reset_num_timesteps=False)
        curve.append(world.objective(agent.policy.generator, reward))
    return np.array(curve)


def environment(reward_mode):
    """B parallel episodes."""
    return make_sequence_vec_env(
        "SeqGAN-Toy-v0", B, seed=0, vocab_size=V, sequence_length=T, reward_model=reward, reward_mode=reward_mode,
        n_rollouts=4,
    )


reinforce = REINFORCE("LSTMPolicy", environment("action_value"), baseline="step_mean", seed=0, device="cpu")
reinforce_curve = exact_curve(reinforce)
print("REINFORCE: J from", reinforce_curve[0].round(3), "to", reinforce_curve[-1].round(3))

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3

# %% [markdown]
# **Question 2.** Make a PPO learner. Its policy is `SequencePolicy`, a batch is one sequence of each environment
# (`n_steps=T`, `batch_size=B * T`), the learning rate 1e-2. Which reward mode and which `gamma` belong together?

# %% [raw]
# # BEGIN SOLUTION

# %%
def make_ppo():
    """A PPO learner, not yet trained."""
    # BEGIN SOLUTION
    return PPO(
        SequencePolicy,
        environment("potential"),
        n_steps=T,
        batch_size=B * T,
        gamma=1.0,
        learning_rate=1e-2,
        seed=0,
        device="cpu",
    )
    # END SOLUTION


ppo = make_ppo()
ppo_curve = exact_curve(ppo)
print("PPO: J from", ppo_curve[0].round(3), "to", ppo_curve[-1].round(3))

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_ppo(env, ppo, ppo_curve):
    from checks import of_kind

    of_kind(ppo, env["PPO"], "Return the learner from make_ppo.")
    mode = ppo.get_env().get_attr("reward_mode")[0]
    assert mode != "action_value", "Action values must not be added up. Take environment('potential')."
    assert ppo.gamma == 1.0, f"gamma={ppo.gamma}: a discount below 1 changes the objective. Potential rewards need 1."
    assert ppo.n_steps == env["T"], f"n_steps={ppo.n_steps}: a batch is one whole sequence of each environment, T steps."

# %%
# HIDDEN
def test_ppo_learns(env, ppo_curve):
    from checks import values

    points = values(ppo_curve, (21,), "Measure with exact_curve(ppo).")
    assert points[-1] > points[0] + 0.2, "PPO should gain more than 0.2. Is the learning rate 1e-2?"

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [markdown]
# **Question 3.** Write GRPO's advantages. If all rewards are equal there is nothing to learn: the advantages are 0.

# %% [raw]
# # BEGIN SOLUTION

# %%
def group_advantages(rewards):
    """(B,) rewards of a group -> (B,) advantages: mean 0, standard deviation 1 (of the group, divided by B)."""
    # BEGIN SOLUTION
    deviation = rewards.std(unbiased=False)
    return (rewards - rewards.mean()) / deviation.clamp(min=1e-6)
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_advantages(env, group_advantages):
    from checks import ask, close

    torch = env["torch"]
    close(ask(group_advantages, torch.tensor([0.0, 1.0])), [-1, 1], "The mean is 0.5; the deviation 0.5 (std(unbiased=False)).")
    close(ask(group_advantages, torch.full((4,), 0.3)), [0] * 4, "Don't divide by 0: clamp the deviation from below.")

# %%
# HIDDEN
def test_advantages_are_standardised(env, group_advantages):
    from checks import ask, close, values

    torch = env["torch"]
    found = ask(group_advantages, torch.tensor([0.1, 0.9, 0.4, 0.4, 0.2]))
    found = values(found, (5,), "Return one advantage for each reward.")
    close([found.mean(), found.std()], [0, 1], "Mean 0 and standard deviation 1.")
    close(ask(group_advantages, 7 * torch.tensor([0.0, 1.0])), [-1, 1], "The scale of the rewards must not matter.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [markdown]
# **Question 4.** Write one step of GRPO: write a group of $B$ sequences, compute advantages, take a step. Use
# `generator.weighted_log_likelihood(sequences, weights)` from lab 3, with the same weight for all tokens of a sequence.

# %% [raw]
# # BEGIN SOLUTION

# %%
def grpo_step(generator, optimizer, rng):
    """One update of the generator with a group of B sequences."""
    # BEGIN SOLUTION
    sequences = sample_sequences(generator, B, T, rng)
    advantages = group_advantages(reward(sequences))
    loss = -generator.weighted_log_likelihood(sequences, advantages[:, None].expand(-1, T)) / B
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    # END SOLUTION


own = LSTMSequenceModel(V, 32, 32, seed=0)
optimizer, rng = torch.optim.Adam(own.parameters(), lr=1e-2), np.random.default_rng(0)
own_curve = [world.objective(own, reward)]
for _ in range(20):
    for _ in range(5):
        grpo_step(own, optimizer, rng)
    own_curve.append(world.objective(own, reward))
print("GRPO: J from", round(own_curve[0], 3), "to", round(own_curve[-1], 3))

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_grpo(env, grpo_step, own_curve):
    from checks import ask

    np, torch, world = env["np"], env["torch"], env["world"]
    model = env["LSTMSequenceModel"](4, 8, 8, seed=1)
    before = world.objective(model, env["reward"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(3)
    for _ in range(30):
        ask(grpo_step, model, optimizer, rng)
    after = world.objective(model, env["reward"])
    assert after != before, "The generator did not change. Call loss.backward() and optimizer.step()."
    assert after > before, "J fell. The loss is MINUS the weighted log-likelihood: optimizers minimise."

# %%
# HIDDEN
def test_grpo_goes_far(own_curve):
    from checks import values

    points = values(own_curve, (21,), "Run the cell of question 4.")
    assert points[-1] > points[0] + 0.2, "GRPO should gain more than 0.2. Clear old gradients: optimizer.zero_grad()."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# All three learners had the same number of *written* sequences. REINFORCE and PPO had also 4 completions of every prefix.
# Count them too before you call a learner better, and take several seeds (lab 7).

# %%
written = np.arange(21) * 5 * B
figure, axes = plt.subplots(figsize=(6.5, 4))
axes.plot(written, reinforce_curve, label="REINFORCE, action values")
axes.plot(written, ppo_curve, label="PPO, potential rewards")
axes.plot(written, own_curve, label="GRPO, my own")
axes.axhline(world.best_sequence(reward)[1], color="black", linewidth=0.8, label="best sequence")
axes.set_xlabel("sequences written")
axes.set_ylabel("exact J")
axes.legend(fontsize=8)
axes.set_title("One reward, three learners (one seed each)")
plt.show()
