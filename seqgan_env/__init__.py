"""SeqGAN (Yu et al., AAAI 2017) as Gymnasium environments. Importing this package registers them, and imports no torch.

import gymnasium as gym, seqgan_env
env = gym.make("SeqGAN-Oracle-v0")
"""

from gymnasium.envs.registration import register, registry

from seqgan_env.task_files import TASKS, environment_id, title

__version__ = "0.1.0"

for _name in TASKS:
    if environment_id(_name) not in registry:
        register(
            id=environment_id(_name),
            entry_point=f"seqgan_env.seqgan:{title(_name)}Env",
            vector_entry_point=f"seqgan_env.seqgan:{title(_name)}VectorEnv",
        )
