# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab08_find_the_bug
# config_file: otter.yml

# %% [markdown]
# # Lab 8: Find the bug
#
# **You learn** to write tests that catch mistakes which never crash. Each mistake of this lab was found in public SeqGAN
# code, some of it used for years.
#
# **Time**: 60 minutes. The notebook itself runs in 30 seconds. **You need**: labs 4 and 5.
#
# ## Theory
#
# - Machine-learning code with a mistake often still trains, a little worse. No error is shown. Only a test finds it.
# - A good test has a *small world whose answer is known*, and a claim that the right code fulfils and the wrong one does not.
# - Use values that differ: if all rewards are 0.5, you cannot see a reward on the wrong sentence.
# - Avoid chance where you can: use a policy that can write one sequence only, a known sum, or the same input twice.
# - A test must pass for the right implementation, always. Choose tolerances from the deviation that you expect (lab 4).
# - The search computes Eq. 4, $Q(Y_{1:t-1}, y_t) = \frac1N \sum_n D(Y^n)$ for $t < T$ and $D(Y_{1:T})$ for $t = T$.
#
# `searches.py`, beside this notebook, has `Search`, which is right, and `SearchA` to `SearchE`, each with one mistake. Read
# `Search` first. You may read the others too, but a test is worth more than a reading: it still works next year.

# %%

import matplotlib.pyplot as plt
import numpy as np
import torch

from searches import FAULTY, Search
from seqgan_env.exact import ExactWorld
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import DiscriminatorReward

torch.set_num_threads(1)
V, T = 3, 4
world = ExactWorld(V, T)


def small_world():
    """A generator, a discriminator whose scores differ from sequence to sequence, and 5 sequences."""
    generator = LSTMSequenceModel(V, 4, 5, init_std=1.0, seed=1)
    discriminator = CNNDiscriminator(V, T, filters=((1, 8), (2, 8)), embedding_size=4, dropout=0.5, seed=1)
    with torch.no_grad():  # spread the logits out: mean 0, deviation 2
        discriminator.output.weight *= 2 / discriminator.score(world.sequences).std()
        discriminator.output.bias -= discriminator.score(world.sequences).mean()
    discriminator.train()  # as it is between two of its training steps
    sequences = world.sequences[[5, 17, 30, 44, 71]]
    return generator, discriminator, sequences


generator, discriminator, sequences = small_world()
exact = world.action_values(DiscriminatorReward(discriminator), generator)
rows = [int(np.flatnonzero((world.sequences == y).all(dim=1))[0]) for y in sequences]
print("exact Q of the five sequences:\n", np.round(exact[rows], 2))
print("right search, N = 200:\n", Search(generator, discriminator, 200)(sequences).numpy().round(2))

# %% [markdown]
# Each question names a symptom. Write a test: a function that takes a search *class*, builds a search, calls it, and
# raises `AssertionError` if the class has the mistake. It must pass for `Search`.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 3
# all_or_nothing: true

# %% [markdown]
# **Question 1: rewards on the wrong sentence.** Symptom: the mean of all rewards is right, but they do not fit their
# sequences. Hint: the last column needs no completions. It is $D(Y)$ of each sequence, whatever $N$ is.

# %% [raw]
# # BEGIN SOLUTION

# %%
def test_rewards_are_in_their_places(make):
    generator, discriminator, sequences = small_world()
    search = make(generator, discriminator, n_rollouts=3)
    # BEGIN SOLUTION
    # Columns 1 to T-1 are random. So compare with the exact values, with many completions.
    search = make(generator, discriminator, n_rollouts=400)
    found = search(sequences).numpy()
    assert np.abs(found - exact[rows]).max() < 0.15, "rewards are not those of their sequence and step"
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_the_test(env, test_rewards_are_in_their_places):
    from checks import catches, raises_nothing
    from searches import SearchA

    look = "Compare the last column with sigmoid(discriminator.score(sequences)), or all with `exact[rows]` and a large N."
    raises_nothing(test_rewards_are_in_their_places, env["Search"], look)
    catches(test_rewards_are_in_their_places, SearchA, look)

# %%
# HIDDEN
def test_the_test_is_steady(env, test_rewards_are_in_their_places):
    from checks import raises_nothing

    for _ in range(3):
        look = "Your test must pass for the right search every time. Take a larger tolerance, or more completions."
        raises_nothing(test_rewards_are_in_their_places, env["Search"], look)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3
# all_or_nothing: true

# %% [markdown]
# **Question 2: a roll-out policy that never changes.** Symptom: the search still uses the generator as it was at the start.
# `update()` is called after each step of the generator. Hint: change the generator so much that it writes one token only,
# and call `update()`.

# %% [raw]
# # BEGIN SOLUTION

# %%
def test_rollout_policy_follows(make):
    generator, discriminator, sequences = small_world()
    search = make(generator, discriminator, n_rollouts=50)
    # BEGIN SOLUTION
    with torch.no_grad():
        generator.output.weight.zero_()
        generator.output.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))  # token 2, always
    search.update()
    drawn = search.complete(sequences, 1)
    assert (drawn[:, 1:] == 2).all(), "the roll-out policy writes what the old generator wrote"
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_the_test(env, test_rollout_policy_follows):
    from checks import catches, raises_nothing
    from searches import SearchB

    look = "Set generator.output.bias so that one token is certain, call search.update(), look at search.complete(...)."
    raises_nothing(test_rollout_policy_follows, env["Search"], look)
    catches(test_rollout_policy_follows, SearchB, look)

# %%
# HIDDEN
def test_a_slow_copy_is_right_too(env, test_rollout_policy_follows):
    from checks import raises_nothing

    class Again(env["Search"]):
        def update(self):
            self.rollout_policy.load_state_dict(self.generator.state_dict())

    raises_nothing(test_rollout_policy_follows, Again, "A search that copies the parameters is right too.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3
# all_or_nothing: true

# %% [markdown]
# **Question 3: dropout on while scoring.** Symptom: the reward of the same sequence differs from call to call. Hint: score
# the same sequences twice.

# %% [raw]
# # BEGIN SOLUTION

# %%
def test_scores_are_the_same_twice(make):
    generator, discriminator, sequences = small_world()
    search = make(generator, discriminator, n_rollouts=2)
    # BEGIN SOLUTION
    assert torch.equal(search.score(sequences), search.score(sequences)), "the same sequence has two rewards"
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_the_test(env, test_scores_are_the_same_twice):
    from checks import catches, raises_nothing
    from searches import SearchC

    look = "Call search.score(sequences) twice and compare the two with torch.equal."
    raises_nothing(test_scores_are_the_same_twice, env["Search"], look)
    catches(test_scores_are_the_same_twice, SearchC, look)

# %%
# HIDDEN
def test_the_test_finds_it_each_time(env, test_scores_are_the_same_twice):
    from checks import catches
    from searches import SearchC

    for _ in range(5):
        look = "Your test must catch it every time. Score several sequences."
        catches(test_scores_are_the_same_twice, SearchC, look)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3
# all_or_nothing: true

# %% [markdown]
# **Question 4: an index that is one off.** Symptom: the last token learns nothing, and the token before it gets more than
# it should. Hint: rewards are probabilities; and what must the last column be?

# %% [raw]
# # BEGIN SOLUTION

# %%
def test_last_step_is_scored_once(make):
    generator, discriminator, sequences = small_world()
    search = make(generator, discriminator, n_rollouts=4)
    # BEGIN SOLUTION
    found = search(sequences)
    assert found.min() > 0 and found.max() < 1, "a mean of probabilities lies between 0 and 1"
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_the_test(env, test_last_step_is_scored_once):
    from checks import catches, raises_nothing
    from searches import SearchD

    look = "The last column must be D(Y). With SearchD it is something else; print it."
    raises_nothing(test_last_step_is_scored_once, env["Search"], look)
    catches(test_last_step_is_scored_once, SearchD, look)

# %%
# HIDDEN
def test_the_test_is_steady(env, test_last_step_is_scored_once):
    from checks import raises_nothing

    for _ in range(5):
        raises_nothing(test_last_step_is_scored_once, env["Search"], "Your test must pass for the right search every time.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3
# all_or_nothing: true

# %% [markdown]
# **Question 5: labels swapped.** Symptom: training makes the generator worse. It is rewarded for sequences that D calls
# false. Hint: the discriminator's logit is positive for "real". Which of two sequences must have the higher score?

# %% [raw]
# # BEGIN SOLUTION

# %%
def test_more_real_is_paid_more(make):
    generator, discriminator, _ = small_world()
    search = make(generator, discriminator, n_rollouts=2)
    # BEGIN SOLUTION
    every = world.sequences
    logits = discriminator.score(every)
    best, worst = every[[int(logits.argmax())]], every[[int(logits.argmin())]]
    better = torch.stack([search.score(best.repeat(50, 1)).mean(), search.score(worst.repeat(50, 1)).mean()])
    assert better[0] > better[1], "what D calls real is paid less than what it calls false"
    # END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_the_test(env, test_more_real_is_paid_more):
    from checks import catches, raises_nothing
    from searches import SearchE

    look = "Find the sequences with the highest and the lowest discriminator.score, and compare their search.score."
    raises_nothing(test_more_real_is_paid_more, env["Search"], look)
    catches(test_more_real_is_paid_more, SearchE, look)

# %%
# HIDDEN
def test_any_rising_reward_is_right(env, test_more_real_is_paid_more):
    from checks import raises_nothing

    class Logit(env["Search"]):
        def score(self, sequences):
            return self.discriminator.score(sequences)

    raises_nothing(test_more_real_is_paid_more, Logit, "A reward that rises with D, as its logit does, is right too.")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture
#
# Which of your five tests fails for which implementation? A good set of tests has a full diagonal and an empty first row.
# A test that fails in several rows is like a wide net: it finds many mistakes, and does not say which one it found.

# %%
tests = (
    test_rewards_are_in_their_places,
    test_rollout_policy_follows,
    test_scores_are_the_same_twice,
    test_last_step_is_scored_once,
    test_more_real_is_paid_more,
)


def fails(test, make):
    try:
        test(make)
    except AssertionError:
        return True
    return False


table = np.array([[fails(test, make) for test in tests] for make in (Search, *FAULTY)])
figure, axes = plt.subplots(figsize=(6.5, 3.8))
axes.imshow(table, cmap="Reds", vmin=0, vmax=1.4, aspect="auto")
for (row, column), failed in np.ndenumerate(table):
    axes.text(column, row, "fails" if failed else "passes", ha="center", va="center", fontsize=8)
axes.set_xticks(range(5), ["places", "follows", "twice", "last step", "more real"])
axes.set_yticks(range(6), ["Search (right)", "SearchA", "SearchB", "SearchC", "SearchD", "SearchE"])
axes.set_title("Which test catches which mistake")
plt.show()
