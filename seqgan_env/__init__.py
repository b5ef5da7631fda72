"""SeqGAN (Yu et al., AAAI 2017) as Gymnasium environments. Importing this package registers them, and imports no torch.

import gymnasium as gym, seqgan_env
env = gym.make("SeqGAN-Oracle-v0")
"""

from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

for _task in ("Oracle", "Toy", "Text", "Music"):
    if f"SeqGAN-{_task}-v0" not in registry:
        register(
            id=f"SeqGAN-{_task}-v0",
            entry_point=f"seqgan_env.envs:{_task}Env",
            vector_entry_point=f"seqgan_env.envs:{_task}VectorEnv",
        )
