"""All settings of a SeqGAN run, with the paper's values, and the presets that the command line offers.

Sources: [P] the paper (arXiv 1609.05473), [2016] and [2018] the authors' code at those times.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from tyro.conf import Fixed, Suppress

from agents.reinforce import Baseline
from seqgan_env.mdp import RewardMode


@dataclass(frozen=True)
class SeqGANConfig:
    """Settings of one run. Field comments are the help texts of the command line."""

    seed: int = 0
    """Seed of all randomness of the run but the task's data."""
    sequence_length: int = 20
    """T, tokens in a sequence [P: 20]."""
    vocab_size: int | None = None
    """V; None takes the oracle file's, or 5,000 [2016, 2018: 5,000]."""
    oracle: str | None = None
    """Oracle: None or a number seeds N(0, 1) parameters; a path loads the authors' .npz or pickle."""
    data_seed: int = 0
    """Seed of the real sequences that the oracle draws."""
    train_sequences: int = 10_000
    """Real training sequences [P: 10,000; code: 9,984 of them]; as many more for validation and for the test."""

    generator: str = "lstm"
    """G: lstm, gru, transformer, attention (an LSTM that looks back), or module:Class of your own [P: lstm]."""
    embedding_size: int = 32
    """E of the generator [2016, 2018: 32]."""
    hidden_size: int = 32
    """H of the generator [2016, 2018: 32]."""
    init_std: float = 0.1
    """Standard deviation of the generator's initial parameters [2016, 2018: 0.1]."""
    batch_size: int = 64
    """Sequences an MLE or discriminator step [2016, 2018: 64]."""
    max_grad_norm: float = 5.0
    """Global norm to which the generator's gradients are clipped [2016, 2018: 5]."""

    mle_epochs: int = 120
    """MLE epochs: exactly, or at most with --mle-patience [2016: 240; 2018: 120]."""
    mle_patience: int | None = None
    """Stop MLE after this many epochs without a lower held-out NLL and go back to the best; None: never [P: None]."""
    mle_reshuffle: bool = True
    """Draw new MLE batches each epoch [P: not said; 2016, 2018: False]."""
    epoch_sequences: int | None = None
    """Sequences of an MLE epoch at most, drawn anew each time, so that its work is bounded; None: all [P: all]."""
    mle_learning_rate: float = 1e-2
    """Adam's learning rate for MLE [2016: 1e-3; 2018: 1e-2]."""
    curriculum_rate_step: float = 0.0
    """Fall of the probability of feeding the real token, per MLE epoch: scheduled sampling [P: 0.002]; 0 is MLE."""

    discriminator: str = "cnn"
    """D: cnn, rcnn, bigru, transformer, ensemble, ensemble:cnn+bigru, or module:Class of your own [P: cnn]."""
    filters: Literal["paper", "light", "short"] = "paper"
    """Filters of a cnn discriminator: windows 1 to T, 1 to 5 (a fifth of the arithmetic), or 1 and 2 [P: paper]."""
    discriminator_embedding_size: int = 64
    """E of the discriminator [2016, 2018: 64]."""
    dropout: float = 0.25
    """Probability of dropping a discriminator feature [2016, 2018: 0.25, keep probability 0.75]."""
    l2: float = 0.2
    """Weight of the discriminator output layer's squared norm [2016, 2018: 0.2]."""
    discriminator_learning_rate: float = 1e-4
    """Adam's learning rate for the discriminator [2016, 2018: 1e-4]."""
    discriminator_weight_decay: float = 0.0
    """Decoupled weight decay of the discriminator's Adam [2016, 2018: 0]."""
    discriminator_batch_size: int | None = None
    """Sequences a discriminator step, half of them real; None: as --batch-size [2016, 2018: 64]."""
    discriminator_pretraining_steps: int = 50
    """Draws of fresh negatives before the game, k epochs on each [2016, 2018: 50]."""
    discriminator_sample_size: int | None = None
    """Positives, and as many negatives, in each draw; None takes all training sequences [P: None]."""

    reward_model: str = "discriminator"
    """Scores: discriminator, logit (D's), bleu, random, shuffled, constant:0.5, oracle, module:Attribute [P: D]."""
    anchor_weight: float = 0.0
    """Weight in the reward of KL(G || G after MLE), nats per sequence: G stays where D was trained [P: 0]."""
    reward_mode: RewardMode = "action_value"
    """How rewards reach prefixes: action_value (Monte-Carlo search), potential, terminal (R(Y) alone) [P: search]."""
    rounds: int = 200
    """Adversarial rounds [2016: 800; 2018: 200]."""
    g_steps: int = 1
    """g, generator updates a round [P: 1]."""
    d_steps: int = 5
    """d, draws of fresh negatives a round [P: 5]; 0: D stays as its pretraining made it."""
    k_epochs: int = 3
    """k, discriminator epochs on each draw [P: 3]."""
    n_rollouts: int = 16
    """N, Monte-Carlo completions of each prefix [P: 16]; 1 for PG-BLEU [2016]."""
    rollout_rate: float = 0.0
    """Share of its old parameters that G_beta keeps at a sync [P: 0; 2016, 2018: 0.8, without effect]."""
    generator_batch_size: int = 64
    """Sequences a generator update [2016, 2018: 64]."""
    generator_learning_rate: float = 1e-2
    """Adam's learning rate for the policy gradient [2016: 1e-3; 2018: 1e-2]."""
    baseline: Baseline = "none"
    """Subtracted from Q in the policy gradient: none, step_mean or value [P: none]."""

    evaluate_every_epochs: int = 5
    """MLE epochs between measurements [2016, 2018: 5]."""
    evaluate_every_rounds: int = 5
    """Adversarial rounds between measurements [2016, 2018: 5]."""
    evaluation_samples: int = 2000
    """Sequences drawn for each measurement on the way."""
    held_out_sequences: int | None = None
    """Validation sequences, and as many test sequences, that are looked at, at most; None: all."""
    final_samples: int = 10_000
    """Sequences drawn for each line of the closing table [P: 100,000]."""
    checkpoint_every: int = 1
    """Units of work (MLE epochs, discriminator steps, rounds) between checkpoints."""

    def __post_init__(self) -> None:
        may_be_zero = {"seed", "data_seed", "mle_epochs", "discriminator_pretraining_steps", "rounds", "d_steps"}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < (field.name not in may_be_zero):
                raise ValueError(f"{field.name}={value} must be at least {int(field.name not in may_be_zero)}")
        for name in ("init_std", "max_grad_norm", "mle_learning_rate", "generator_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if not self.discriminator_learning_rate > 0:
            raise ValueError(f"discriminator_learning_rate={self.discriminator_learning_rate} must be above 0")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} must lie in 0..2^32-1")
        for name in ("discriminator_weight_decay", "anchor_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("rollout_rate", "curriculum_rate_step"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1]")
        if self.train_sequences < self.batch_size:
            raise ValueError(f"train_sequences={self.train_sequences} must be at least batch_size={self.batch_size}")

    @property
    def generator_options(self) -> dict[str, Any]:
        """What `components.build_generator` is given; a run folder builds the generator with the same."""
        return {"embedding_size": self.embedding_size, "hidden_size": self.hidden_size, "init_std": self.init_std}

    @property
    def discriminator_options(self) -> dict[str, Any]:
        """What `components.build_discriminator` is given; a class takes those that it knows."""
        return {
            "filters": self.filters,
            "embedding_size": self.discriminator_embedding_size,
            "dropout": self.dropout,
            "l2": self.l2,
        }


@dataclass(frozen=True)
class CorpusConfig(SeqGANConfig):
    """Settings of a run on a corpus, which itself decides what the command line leaves out here."""

    sequence_length: Suppress[Fixed[int]] = 20
    vocab_size: Suppress[Fixed[int | None]] = None
    oracle: Suppress[Fixed[str | None]] = None
    data_seed: Suppress[Fixed[int]] = 0
    train_sequences: Suppress[Fixed[int]] = 10_000


_REPO_2018 = SeqGANConfig(train_sequences=9_984, rollout_rate=0.8, mle_reshuffle=False)

PRESETS: dict[str, SeqGANConfig] = {
    "fast": SeqGANConfig(
        mle_epochs=40,
        filters="light",
        discriminator_pretraining_steps=5,
        discriminator_sample_size=256,
        rounds=25,
        d_steps=1,
        k_epochs=1,
        generator_learning_rate=2e-2,
        checkpoint_every=5,
    ),
    # What the paper states; what it does not (learning rates, sizes) as in the code of its year.
    "paper": SeqGANConfig(
        mle_epochs=240,
        mle_learning_rate=1e-3,
        generator_learning_rate=1e-3,
        rounds=800,
        final_samples=100_000,
    ),
    "repo2016": replace(_REPO_2018, mle_epochs=240, mle_learning_rate=1e-3, generator_learning_rate=1e-3, rounds=800),
    "repo2018": _REPO_2018,
}

# An adversarial phase that improves on MLE stopped at its best held-out NLL, where the paper's loses diversity. D is an
# ensemble that sees short windows only, so that it generalises from 10,000 sequences. Its logit is the reward, which
# an anchor ties to the generator that D was trained against. Chosen on seed 101.
BEST: dict[str, Any] = {
    "mle_patience": 10,
    "discriminator": "ensemble:cnn+cnn+cnn",
    "filters": "short",
    "dropout": 0.5,
    "l2": 0.0,
    "discriminator_learning_rate": 2e-3,
    "discriminator_weight_decay": 1.0,
    "discriminator_batch_size": 512,
    "discriminator_sample_size": None,
    "discriminator_pretraining_steps": 20,
    "k_epochs": 1,
    "reward_model": "logit",
    "anchor_weight": 1.0,
    "reward_mode": "terminal",
    "baseline": "step_mean",
    "rounds": 100,
    "g_steps": 1,
    "d_steps": 0,
    "generator_batch_size": 512,
    "generator_learning_rate": 1e-3,
}
PRESETS["best"] = replace(PRESETS["fast"], **BEST)

TOY = SeqGANConfig(
    sequence_length=3,
    train_sequences=1_000,
    embedding_size=8,
    hidden_size=8,
    mle_epochs=5,
    filters="light",
    dropout=0.0,
    discriminator_embedding_size=8,
    discriminator_learning_rate=1e-3,
    discriminator_pretraining_steps=3,
    rounds=20,
    d_steps=1,
    k_epochs=1,
    evaluation_samples=1_000,
    final_samples=5_000,
)

# For a text on two cores in a quarter of an hour, whatever its size: no unit of work grows with the corpus. The game is
# that of `BEST`, with half the anchor. Chosen on Chinese quatrains, seed 100: docs/real-data.md has what was tried.
TEXT = CorpusConfig(
    **BEST
    | {
        "embedding_size": 64,
        "hidden_size": 64,
        "mle_epochs": 20,
        "mle_patience": 2,
        "mle_learning_rate": 5e-3,
        "epoch_sequences": 10_000,
        "discriminator_sample_size": 10_000,
        "discriminator_pretraining_steps": 30,
        "anchor_weight": 0.5,
        "rounds": 40,
        "evaluate_every_rounds": 10,
        "evaluation_samples": 1_000,
        "held_out_sequences": 3_000,
        "final_samples": 2_000,
        "checkpoint_every": 5,
    }
)
# Few tokens, so that an epoch is short.
MUSIC = replace(TEXT, mle_epochs=60, mle_patience=5)
