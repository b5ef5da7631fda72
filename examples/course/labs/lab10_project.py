# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
# # ASSIGNMENT CONFIG
# name: lab10_project
# config_file: otter.yml

# %% [markdown]
# # Lab 10: Project: a corpus of your own, and an honest report
#
# **You learn** to run the whole method on your own text, with the controls that make a claim believable.
#
# **Time**: 3 hours with a corpus of your own. The notebook as it is runs in two minutes on a small corpus. **You need**:
# labs 6 and 7.
#
# ## What an honest report has
#
# - The *data*: where it is from, how many sequences, how they were split. Held-out sequences choose the checkpoint, and test
#   sequences measure it.
# - A *baseline* that was trained as carefully: MLE, stopped by held-out NLL.
# - A *null twin*: the same run with a reward that knows nothing (random numbers). If the twin gains as much, D is not the
#   reason.
# - Several *seeds*, and the spread. One seed shows nothing.
# - A *rule* for which checkpoint counts, made before the run (here: the last round).
# - *NLL_test* of everything. Measures of quality alone look good for a generator that has lost diversity.
# - *Samples* that were not chosen by hand, each beside the most similar training sequence. This shows whether the generator
#   copies.
# - What you did *not* show.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import ttest_ind

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.vec_env import make_sequence_vec_env
from seqgan_env.measures.likelihood import nll_per_token
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import RandomReward
from seqgan_env.rollout_policies import sample_sequences

torch.set_num_threads(1)
SEEDS = (0, 1, 2)

# %% [markdown]
# ## 1. A corpus
#
# The corpus below is made of a small grammar, so that the notebook runs everywhere. Put your own file in its place: one
# sentence a line, at least some hundred lines. Lower-case letters and short lines make it easier.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [markdown]
# **Question 1.** Write the file `corpus.txt`: one sentence a line, at least 300 *different* ones, none longer than 10 words.

# %% [raw]
# # BEGIN SOLUTION

# %%
def write_corpus(path):
    """Writes the corpus, one sentence a line."""
    # BEGIN SOLUTION
    rng = np.random.default_rng(0)
    parts = (
        ["the", "a", "every"],
        ["small", "old", "quiet", "red"],
        ["bird", "river", "student", "poem", "machine"],
        ["sees", "finds", "forgets", "follows"],
        ["the", "a", "no"],
        ["garden", "answer", "mountain", "word", "light"],
    )
    lines = {" ".join(rng.choice(words) for words in parts) for _ in range(900)}
    Path(path).write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    # END SOLUTION


write_corpus("corpus.txt")

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_corpus(env, write_corpus):
    from checks import ask

    path = env["Path"]("corpus_of_the_test.txt")
    ask(write_corpus, str(path))
    assert path.is_file(), "write_corpus(path) must write a file at `path`."
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    path.unlink()
    assert len(set(lines)) >= 300, f"There are {len(set(lines))} different lines; 300 or more are needed to learn from."
    longest = max(lines, key=lambda line: len(line.split()))
    assert len(longest.split()) <= 10, f"A line has more than 10 words: {longest[:60]!r}. Cut it into sentences."

# %%
# HIDDEN
def test_corpus_has_no_duplicates(env, write_corpus):
    from checks import ask

    path = env["Path"]("corpus_of_the_test.txt")
    ask(write_corpus, str(path))
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    path.unlink(missing_ok=True)
    lines = [line.strip() for line in lines if line.strip()]
    assert lines, "There is no file at `path`, or it is empty. Write one sentence a line into it."
    assert len(set(lines)) > 0.9 * len(lines), "Many lines are there twice: the test set would hold training sentences."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## 2. One run
#
# `run` is given. It trains MLE until the held-out NLL stops falling, then plays the game with the reward that you name.
# The learner has a baseline, so a constant reward would have no gradient at all. Random rewards have one: noise.

# %%
def run(reward, seed, rounds=15):
    """One run; NLL_test after MLE and after the game (nats per token), and 200 samples of the end."""
    env = make_sequence_vec_env("SeqGAN-Text-v0", 32, seed=seed, corpus="corpus.txt", unit="word", n_rollouts=4)
    task = env.get_attr("task")[0]
    torch.manual_seed(seed)
    agent = REINFORCE("LSTMPolicy", env, learning_rate=2e-3, baseline="step_mean", seed=seed, device="cpu")
    generator = agent.policy.generator
    train, validation = task.real_sequences("train"), task.real_sequences("validation")
    Pretrainer(
        generator, train, validation, batch_size=32, max_epochs=30, patience=3, rng=np.random.default_rng(seed)
    ).fit()
    test = task.real_sequences("test")
    after_mle = nll_per_token(generator, test).mean
    filters = ((1, 32), (2, 64), (3, 32))
    discriminator = CNNDiscriminator(task.vocab_size, task.sequence_length, filters, embedding_size=16, seed=seed)
    trainer = DiscriminatorTrainer(
        discriminator if reward == "discriminator" else None,
        task,
        reward_model=None if reward == "discriminator" else RandomReward(np.random.default_rng(seed)),
        d_steps=1,
        k_epochs=1,
        sample_size=300,
        learning_rate=1e-3,
        seed=seed,
    )
    for _ in range(5 if reward == "discriminator" else 0):
        trainer.train_step(generator)
    agent.learn(rounds * 32 * task.sequence_length, callback=trainer)
    samples = sample_sequences(generator, 200, task.sequence_length, np.random.default_rng(seed), task.eos_token)
    texts = [task.vocabulary.decode(sample.numpy()) for sample in samples]
    return {"mle": after_mle, "end": nll_per_token(generator, test).mean, "texts": texts}


results = {reward: [run(reward, seed) for seed in SEEDS] for reward in ("discriminator", "random")}

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 3

# %% [markdown]
# **Question 2.** Make the table of the report: for MLE, SeqGAN and the null twin the mean NLL_test over the seeds and its
# standard error (deviation, `ddof=1`, divided by the root of the number of seeds).

# %% [raw]
# # BEGIN SOLUTION

# %%
def row(values):
    """(mean, standard error) of a list of numbers."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))  # SOLUTION


# BEGIN SOLUTION
table = {
    "MLE": row([r["mle"] for r in results["discriminator"]]),
    "SeqGAN": row([r["end"] for r in results["discriminator"]]),
    "null twin": row([r["end"] for r in results["random"]]),
}
# END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_table(env, row, table):
    from checks import ask, close, entry

    close(ask(row, [1.0, 3.0]), [2.0, 1.0], "Mean 2; deviation (ddof=1) is 1.414, divided by the root of 2 gives 1.")
    for name in ("MLE", "SeqGAN", "null twin"):
        entry(table, name, "Make a dictionary with the keys 'MLE', 'SeqGAN', 'null twin'.")

# %%
# HIDDEN
def test_table_fits_the_runs(env, row, table):
    from checks import ask, close, entry, values

    results = env["results"]
    expected = {
        "MLE": [r["mle"] for r in results["discriminator"]],
        "SeqGAN": [r["end"] for r in results["discriminator"]],
        "null twin": [r["end"] for r in results["random"]],
    }
    for name, nlls in expected.items():
        found = entry(table, name, "Make a dictionary with the keys 'MLE', 'SeqGAN', 'null twin'.")
        right = values(ask(row, nlls), (2,), "row returns the mean and the standard error.")
        close(found, right, f"Row {name!r}: which runs, and MLE or the end?", 1e-6)

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [markdown]
# **Question 3.** How many of SeqGAN's samples are new, that is no line of the corpus? And how many are different from each
# other? Give the two shares over the samples of *all* seeds.

# %% [raw]
# # BEGIN SOLUTION

# %%
corpus = set(Path("corpus.txt").read_text(encoding="utf-8").split("\n"))
texts = [text for result in results["discriminator"] for text in result["texts"]]
share_new = float(np.mean([text not in corpus for text in texts]))  # SOLUTION
share_different = len(set(texts)) / len(texts)  # SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_shares(share_new, share_different):
    from checks import number

    for name, share in (("share_new", share_new), ("share_different", share_different)):
        assert 0 <= number(share, "Count texts and divide by their number.") <= 1, f"{name} must lie between 0 and 1."

# %%
# HIDDEN
def test_shares_exactly(env, share_new, share_different):
    from checks import close

    texts, corpus = env["texts"], env["corpus"]
    close(share_new, sum(t not in corpus for t in texts) / len(texts), "Count the texts that are not in `corpus`.")
    close(share_different, len(set(texts)) / len(texts), "Count different texts: len(set(texts)).")

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [markdown]
# **Question 4.** The report. `claim` says what you conclude, in one sentence. `difference` and `p_value` compare SeqGAN's
# NLL_test with that of its *null twin* (Welch's test, lab 7). `not_shown` says what your runs do not show.

# %% [raw]
# # BEGIN SOLUTION

# %%
ends = {reward: [r["end"] for r in results[reward]] for reward in results}
# BEGIN SOLUTION
difference = float(np.mean(ends["discriminator"]) - np.mean(ends["random"]))
p_value = float(ttest_ind(ends["discriminator"], ends["random"], equal_var=False).pvalue)
verdict = "differs" if p_value < 0.05 else "does not differ measurably"
report = {
    "data": "729 or fewer sentences of a small grammar, made by write_corpus; split by the library at random",
    "baseline": "MLE, stopped by the held-out NLL",
    "checkpoint": "the last of 15 rounds, fixed before the runs",
    "seeds": len(SEEDS),
    "difference": difference,
    "p_value": p_value,
    "claim": f"On this corpus SeqGAN's NLL_test {verdict} from that of its null twin ({difference:+.3f} nats per token).",
    "not_shown": "Other corpora, longer games, tuned settings, and what people think of the samples.",
}
# END SOLUTION

# %% [raw]
# # END SOLUTION

# %% [raw]
# # BEGIN TESTS

# %%
def test_report(env, report):
    from checks import close, of_kind

    of_kind(report, dict, "Make a dictionary `report`.")
    wanted = ("data", "baseline", "checkpoint", "seeds", "difference", "p_value", "claim", "not_shown")
    missing = [key for key in wanted if not report.get(key) and report.get(key) != 0]
    assert not missing, f"The report lacks {missing}. Each is one sentence or one number."
    close(report["seeds"], len(env["SEEDS"]), "Say how many seeds you ran.")
    assert len(str(report["not_shown"]).split()) >= 5, "Say in a sentence what the runs do not show."

# %%
# HIDDEN
def test_report_is_true(env, report):
    from checks import close, entry
    from scipy.stats import ttest_ind

    np, ends = env["np"], env["ends"]
    expected = np.mean(ends["discriminator"]) - np.mean(ends["random"])
    close(entry(report, "difference", "Make a dictionary `report`."), expected, "SeqGAN's mean NLL_test less that of the null twin.", 1e-6)
    p = ttest_ind(ends["discriminator"], ends["random"], equal_var=False).pvalue
    close(entry(report, "p_value", "Compare with Welch's test."), p, "ttest_ind(seqgan, twin, equal_var=False).pvalue", 1e-6)
    claim = str(entry(report, "claim", "Say in one sentence what you conclude.")).lower()
    claims_a_gain = any(word in claim for word in ("better", "improves", "beats"))
    assert not (claims_a_gain and (p > 0.05 or expected > 0)), "The claim says more than the numbers: look at p_value."

# %% [raw]
# # END TESTS

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## A picture, and samples

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.8))
groups = ([r["mle"] for r in results["discriminator"]], ends["discriminator"], ends["random"])
for place, values in enumerate(groups):
    axes.plot([place] * len(values), values, "o", color="grey")
    mean, error = row(values)
    axes.errorbar([place + 0.12], [mean], [error], fmt="ks", capsize=4)
axes.set_xticks(range(3), ["MLE", "SeqGAN", "null twin"])
axes.set_ylabel("NLL_test, nats per token")
axes.set_title(f"Every seed, mean and standard error (p = {p_value:.1g} against the twin)")
plt.show()
print(*texts[:5], sep="\n")
print(report["claim"])
