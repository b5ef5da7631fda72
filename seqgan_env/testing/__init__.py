"""Checks for parts of your own: reward models, discriminators, sequence models, roll-out policies, tasks.

    from seqgan_env.testing import check_discriminator
    check_discriminator(MyNet(vocab_size=50, sequence_length=10))

Each check returns nothing if the part keeps its contract. Otherwise it raises TypeError (for a part of another kind) or
ValueError; the message names the fault and the remedy. Models are checked on copies, so that nothing of yours changes,
and torch's random state does not change either. Statistical checks draw from a seed, so a check gives the same answer
each time. Use small sizes: with 3 to 10 tokens whole distributions are enumerated, so a check finds the most.
"""

from seqgan_env.testing.gradients import check_policy_gradient
from seqgan_env.testing.policies import check_rollout_policy, check_sequence_model
from seqgan_env.testing.scoring import check_discriminator, check_reward_model
from seqgan_env.testing.tasks import check_task

__all__ = [
    "check_discriminator",
    "check_policy_gradient",
    "check_reward_model",
    "check_rollout_policy",
    "check_sequence_model",
    "check_task",
]
