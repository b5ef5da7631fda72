# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab02_likelihood
# config_file: otter.yml

# %% [markdown]
# # Lab 2: Maximum likelihood, and what it does not see
#
# **You learn** to measure a model by its likelihood; to see overfitting in NLL_test; to measure exposure bias exactly
# instead of talking about it.
#
# **Time**: 35 minutes. The notebook itself runs in 30 seconds. **You need**: lab 1; what a training and a test set are.
#
# ## Theory
#
# - Maximum likelihood (MLE) trains $G_\theta$ on real sequences: $\max_\theta \sum_Y \sum_t \log G_\theta(y_t \mid Y_{1:t-1})$.
# - NLL_test is the mean of $-\log G_\theta(y_t \mid Y_{1:t-1})$ over the tokens of held-out *real* sequences, in nats.
# - A uniform guess among $V$ tokens has an NLL of $\log V$. The best possible value is the entropy of the real
#   distribution. It is known here, because an *oracle* $p$ draws the real sequences.
# - NLL_oracle (Eq. 13) turns it around: the mean of $-\log p(y_t \mid Y_{1:t-1})$ over sequences that $G_\theta$ *writes*.
# - Overfitting: the training NLL goes on falling, NLL_test rises.
# - *Exposure bias*: in training the model reads real prefixes. When it writes it reads its own.
# - Measure it: after a prefix, $d(Y_{1:t-1}) = KL(p(\cdot \mid Y_{1:t-1}) \,\|\, G(\cdot \mid Y_{1:t-1}))$ is the error of one
#   step. Average it over prefixes from $p$, then over prefixes from $G$, and compare the two at each $t$.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from agents.pretraining import Pretrainer
from seqgan_env.exact import ExactWorld
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.toy import toy_task

torch.set_num_threads(1)
task = toy_task(vocab_size=4, sequence_length=5, n_sequences={"train": 150, "validation": 500, "test": 2000})
world = ExactWorld.of(task)
oracle = task.oracle
train, test = task.real_sequences("train"), task.real_sequences("test")
print(len(world), "sequences in the world,", len(train), "of them (some twice) to learn from")

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** `model.log_probs(sequences)` gives $\log G(y_t \mid Y_{1:t-1})$, one number a token. Compute the NLL in
# nats per token.

# %% [raw]
# # BEGIN SOLUTION

# %%
def nll(model, sequences):
    """Mean NLL of (B, T) sequences under a model: a float, nats per token."""
    return -float(model.log_probs(sequences).mean())  # SOLUTION


uniform_nll = np.log(4)  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_nll(env, nll, uniform_nll):
    from checks import ask, close

    close(uniform_nll, 1.38629, "A uniform guess gives each of V = 4 tokens the probability 1/4. Take the natural log.")
    model = env["oracle"]
    close(
        ask(nll, model, env["test"]),
        -model.log_probs(env["test"]).mean(),
        "Average over all tokens of all sequences, and mind the sign: an NLL is positive.",
    )

# %%
# HIDDEN
def test_nll_of_another_model(env, nll):
    from checks import ask, close
    from seqgan_env.rollout_policies import UniformPolicy

    close(ask(nll, UniformPolicy(4), env["train"]), 1.38629, "Use the model and the sequences that are given.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3

# %% [markdown]
# **Question 2.** Train for 60 epochs. `pretrainer.epoch()` does one and returns the training NLL and an estimate of the
# held-out NLL. Keep your own `nll` on `test` after each epoch. Then say in which epoch (from 0) you would have stopped.

# %% [raw]
# # BEGIN SOLUTION

# %%
generator = LSTMSequenceModel(4, embedding_size=16, hidden_size=32, seed=0)
pretrainer = Pretrainer(
    generator, train, task.real_sequences("validation"), batch_size=50, learning_rate=2e-2, rng=np.random.default_rng(0)
)
early = None  # a copy of the generator at its best; the loop below fills it
train_nlls, test_nlls = [], []
# BEGIN SOLUTION
import copy

for _ in range(60):
    train_nll, _ = pretrainer.epoch()
    train_nlls.append(train_nll)
    test_nlls.append(nll(generator, test))
    if test_nlls[-1] == min(test_nlls):
        early = copy.deepcopy(generator)
# END SOLUTION
best_epoch = int(np.argmin(test_nlls))  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_training(env, train_nlls, test_nlls, best_epoch):
    from checks import close, values

    training = values(train_nlls, (60,), "Call pretrainer.epoch() 60 times and keep the first thing that it returns.")
    testing = values(test_nlls, (60,), "Append nll(generator, test) after every epoch.")
    assert training[-1] < training[0], "The training NLL must fall. Did you keep the first thing that epoch() returns?"
    close(testing[-1], -env["generator"].log_probs(env["test"]).mean(), "The last entry must be of the last epoch.")
    close(best_epoch, testing.argmin(), "In which epoch is test_nlls lowest? Do not look at train_nlls.", 1e-9)

# %%
# HIDDEN
def test_overfitting_is_seen(test_nlls, train_nlls):
    from checks import values

    testing = values(test_nlls, (60,), "Keep one NLL_test for each of the 60 epochs.")
    training = values(train_nlls, (60,), "Keep one training NLL for each of the 60 epochs.")
    assert testing[-1] > testing.min() + 0.02, "NLL_test must rise at the end. Did you measure on `test`?"
    assert training[-1] < testing.min(), "The training NLL must end below every NLL_test."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Exposure bias, exactly
#
# `world.log_probs(model)` gives $\log$ of the conditional probability of each token of *every* sequence, (S, T). The mean
# error of step $t$ over prefixes of a source $q$ is a sum over all sequences $Y$:
#
# $$D_t(q) = \sum_Y \underbrace{q(Y_{1:t-1})}_{\text{prefix from } q}\;
# \underbrace{p(Y_{t:T} \mid Y_{1:t-1})}_{\text{the rest from } p}\; \big[\log p(y_t \mid \cdot) - \log G(y_t \mid \cdot)\big]$$

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 4

# %% [markdown]
# **Question 3.** Write $D_t(q)$ for all $t$. The weight of a sequence is the exponential of a sum: $\log q$ of the tokens
# *before* $t$ and $\log p$ of the tokens *from* $t$ on.

# %% [raw]
# # BEGIN SOLUTION

# %%
def step_errors(source, p, g):
    """(S, T) log-probabilities of the source q, the oracle p, the generator G -> (T,) errors in nats."""
    # BEGIN SOLUTION
    errors = []
    for t in range(p.shape[1]):
        weights = np.exp(source[:, :t].sum(axis=1) + p[:, t:].sum(axis=1))
        errors.append(weights @ (p[:, t] - g[:, t]))
    return np.array(errors)
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_step_errors(env, step_errors):
    from checks import ask, close, values

    world, oracle, generator = env["world"], env["oracle"], env["generator"]
    p, g = world.log_probs(oracle), world.log_probs(generator)
    close(ask(step_errors, p, p, p), [0] * 5, "A model that equals the oracle makes no error. Did you subtract log G?")
    look = "With real prefixes the errors of all steps add up to KL(p || G) per sequence. Check which tokens have weight q."
    real = values(ask(step_errors, p, p, g), (5,), "Return one error for each step.")
    close(real.sum(), world.kl(oracle, generator, "sequence"), look)
    own = values(ask(step_errors, g, p, g), (5,), "Return one error for each step.")
    close(own[0], real[0], "At t = 0 the prefix is empty, so the source does not matter.")

# %%
# HIDDEN
def test_step_errors_by_prefixes(env, step_errors):
    from checks import ask, close, values
    import numpy as np

    world = env["world"]
    p, g = world.log_probs(env["oracle"]), world.log_probs(env["generator"])
    y = world.sequences.numpy()
    expected = 0.0
    for token in range(4):
        rows = y[:, 0] == token
        weight = np.exp(g[rows, 0][0])
        for second in range(4):
            row = np.flatnonzero(rows & (y[:, 1] == second))[0]
            expected += weight * np.exp(p[row, 1]) * (p[row, 1] - g[row, 1])
    own = values(ask(step_errors, g, p, g), (5,), "Return one error for each step.")
    close(own[1], expected, "At t = 1 one token comes from the source and the rest from p.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# Left: where the training NLL and NLL_test part. Right: the error of each step after real prefixes and after own ones.
# Is exposure bias large here? Compare it with the cost of stopping too late.

# %%
p, g = world.log_probs(oracle), world.log_probs(generator)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
left.plot(train_nlls, label="training NLL")
left.plot(test_nlls, label="NLL_test")
left.axhline(world.entropy(oracle), color="grey", linestyle=":", label="entropy of the oracle")
left.axvline(best_epoch, color="black", linewidth=0.8, label="stop here")
left.set_xlabel("epoch")
left.set_ylabel("nats per token")
left.legend(fontsize=8)
right.plot(range(1, 6), step_errors(p, p, g), "o-", label="real prefixes, last epoch")
right.plot(range(1, 6), step_errors(g, p, g), "s--", label="own prefixes, last epoch")
e = world.log_probs(early)
right.plot(range(1, 6), step_errors(p, p, e), "o-", color="grey", label="real prefixes, stopped in time")
right.plot(range(1, 6), step_errors(e, p, e), "s--", color="grey", label="own prefixes, stopped in time")
right.set_xticks(range(1, 6))
right.set_xlabel("step t")
right.set_ylabel("error of one step, nats")
right.set_yscale("log")
right.legend(fontsize=8)
figure.suptitle("Overfitting costs more than exposure bias")
plt.show()
