"""The learners that play Algorithm 1, each with its own options and their defaults: one table.

Settings are made from it in `learner_options`, learners in `game_learners`; nothing of Stable-Baselines3 is imported
here. The defaults come from `agents.learners`, from the papers, and from runs on the toy, seeds 0 to 2. They were not
tuned on the paper's task.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.model_options import Option

_ENTROPY = Option("ent_coef", 0.0, "Weight of the entropy bonus, in reward per nat.", least=0)
_VALUE = Option("vf_coef", 0.5, "Weight of the value head's loss. It never changes the generator.", least=0)
_GAE = Option(
    "gae_lambda",
    0.95,
    "Lambda of the advantage: 0 trusts the value head, 1 the return. Without effect in reward mode action_value.",
    least=0,
    most=1,
)
_NORMALISED = Option("normalize_advantage", True, "Scale the advantages of an update to mean 0 and deviation 1.")
_EPOCHS = Option("n_epochs", 1, "Steps of Adam on the sequences of an update.", least=1)
_CLIP = Option(
    "clip_range", 0.2, "Ratio to the old generator, minus 1, beyond which there is no further gain.", above=0
)
_PER_REFERENCE = Option("updates_per_reference", 0, "Updates after which G_ref <- G; 0: it stays.", least=0)


@dataclass(frozen=True)
class GameLearner:
    """A learner that can play Algorithm 1.

    Attributes:
        algorithm: its name in `agents.learners`, or "module:Class" of this project.
        options: its own options.
        rate_share: its default learning rate, as a share of that of REINFORCE in the same preset. A learner that takes
            several steps of Adam for each update takes smaller ones.
        max_grad_norm: default global norm to which gradients are clipped.
        needs_sequences: whether it learns from whole sequences with R(Y), so that a search would be wasted.
        reward_model: the reward model that it is made for; "" for any. "constant": it uses no reward, but real
            sequences, so that a game trains no discriminator.
        step_setting: the setting that decides how far an update moves the generator.
    """

    algorithm: str
    options: tuple[Option, ...]
    rate_share: float = 1.0
    max_grad_norm: float = 5.0
    needs_sequences: bool = False
    reward_model: str = ""
    step_setting: str = "learning_rate"


GAME_LEARNERS: dict[str, GameLearner] = {
    "reinforce": GameLearner(
        "reinforce",
        (
            Option(
                "baseline",
                "none",
                "Subtracted from Q in the policy gradient: none, step_mean (the other sequences at this step), value "
                "(a learned head) or completions (Q of the step before) [P: none].",
                choices=("none", "step_mean", "value", "completions"),
            ),
            replace(_ENTROPY, help=f"{_ENTROPY.help[:-1]} [P: 0]."),
            replace(_VALUE, help="Weight of the value head's loss, with baseline value."),
        ),
    ),
    "rloo": GameLearner(
        "rloo",
        (Option("kl_coef", 0.0, "Weight of KL(G || G after MLE) in the reward, nats per sequence.", least=0),),
        max_grad_norm=1.0,
        needs_sequences=True,
    ),
    "grpo": GameLearner(
        "grpo",
        (
            Option("n_epochs", 2, "Steps of Adam on the sequences of an update.", least=1),
            _CLIP,
            Option("kl_coef", 0.04, "Weight of the KL term to G after MLE [DeepSeekMath: 0.04].", least=0),
            Option("scale_rewards", True, "Divide by the deviation of the group's rewards; no: Dr. GRPO."),
            Option("length_normalised", True, "Divide a sequence's sum by its length; no: by T, as Dr. GRPO."),
        ),
        rate_share=0.5,
        max_grad_norm=1.0,
        needs_sequences=True,
    ),
    "ppo": GameLearner(
        "kl_ppo",
        (
            Option("n_epochs", 4, "Steps of Adam on the experience of an update.", least=1),
            _CLIP,
            _GAE,
            _NORMALISED,
            _ENTROPY,
            _VALUE,
            Option(
                "kl_coef",
                0.0,
                "Weight of KL(G || G after MLE) in the reward, nats per sequence; not in reward mode action_value.",
                least=0,
            ),
        ),
        rate_share=0.25,
        max_grad_norm=0.5,
    ),
    "a2c": GameLearner(
        "a2c",
        (
            _GAE,
            _NORMALISED,
            _ENTROPY,
            _VALUE,
            Option("use_rms_prop", False, "RMSprop instead of Adam. Its first step is ten learning rates long."),
        ),
        max_grad_norm=0.5,
    ),
    "trpo": GameLearner(
        "trpo",
        step_setting="target_kl",
        options=(
            Option(
                "target_kl", 0.01, "KL of an update, nats per token. It decides the step of the generator.", above=0
            ),
            _GAE,
            _NORMALISED,
            Option("cg_max_steps", 10, "Steps of the conjugate gradient.", least=1),
            Option("cg_damping", 0.1, "Added to the diagonal of the Fisher matrix.", least=0),
            Option("line_search_shrinking_factor", 0.8, "Each shorter step of the line search.", above=0, most=1),
            Option("line_search_max_iter", 10, "Steps that the line search tries.", least=1),
            Option("n_critic_updates", 5, "Steps of Adam for the value head.", least=0),
            Option(
                "sub_sampling_factor", 4, "Only one token of so many is used for the step, which saves time.", least=1
            ),
        ),
    ),
    "weighted_mle": GameLearner(
        "agents.weighted_mle:WeightedMLE",
        (
            _EPOCHS,
            Option(
                "reward",
                "probability",
                "What the reward model returns: probability (discriminator) or logit.",
                choices=("probability", "logit"),
            ),
            Option("self_normalised", True, "Divide the weights of an update by their sum [MaliGAN]."),
        ),
        max_grad_norm=1.0,
        needs_sequences=True,
    ),
    "dpg": GameLearner(
        "agents.dpg:DPG",
        (
            _EPOCHS,
            Option("temperature", 1.0, "Divides the logit in the target G_0(Y) exp(logit / temperature).", above=0),
        ),
        rate_share=0.1,
        max_grad_norm=1.0,
        needs_sequences=True,
        reward_model="logit",
    ),
    "spin": GameLearner(
        "agents.preference:PreferenceLearner",
        (
            _EPOCHS,
            Option("beta", 0.1, "Temperature of the preference [SPIN: 0.1].", above=0),
            replace(_PER_REFERENCE, default=1),
        ),
        max_grad_norm=1.0,
        needs_sequences=True,
        reward_model="constant",
    ),
    "ddo": GameLearner(
        "agents.ddo:DDO",
        (
            _EPOCHS,
            Option("alpha", 1.0, "Weight of the generated half of the loss.", least=0),
            Option("beta", 1.0, "Factor of log(G / G_ref) in the logit.", above=0),
            _PER_REFERENCE,
        ),
        rate_share=0.1,
        max_grad_norm=1.0,
        needs_sequences=True,
        reward_model="constant",
    ),
    "cot": GameLearner(
        "agents.cot:CoT",
        (
            _EPOCHS,
            Option(
                "future_weight",
                0.0,
                "Weight of the gradient through the prefixes: 0 as the authors, 1 for that of the whole divergence.",
                least=0,
                most=1,
            ),
            Option("mediator_steps", 1, "Steps of Adam on the mediator after each update [CoT: 1].", least=0),
            Option("mediator_pretraining", 100, "Steps of Adam on the mediator before the first update.", least=0),
            Option("mediator_learning_rate", 3e-3, "Of the mediator's Adam [CoT: 3e-3].", above=0),
            Option("mediator_weight_decay", 0.0, "Decoupled weight decay of the mediator [CoT: 0].", least=0),
            Option("mediator_dropout", 0.5, "Of the mediator's hidden states, below 1 [CoT: 0.5].", least=0, most=0.99),
        ),
        rate_share=0.1,
        max_grad_norm=1.0,
        needs_sequences=True,
        reward_model="constant",
    ),
}
