"""Settings of the rivals of SeqGAN in the curves, on the paper's task. All start from the regularised MLE.

Chosen by short trials on seed 101, by NLL_validation. D is that of the preset `best`: it was chosen on that seed, too.
"""

from __future__ import annotations

from typing import Any

from agents.runs.presets import BEST, REGULARISED

_WITHOUT_REWARD: dict[str, Any] = REGULARISED | {
    "discriminator.pretraining_steps": 0,
    "game.reward_model": "constant",
    "game.reward_mode": "terminal",
    "game.rounds": 100,
    "learner.max_grad_norm": 1.0,
}
_WITH_DISCRIMINATOR: dict[str, Any] = REGULARISED | {
    path: value for path, value in BEST.items() if not path.startswith(("pretraining", "learner"))
}

COT = _WITHOUT_REWARD | {"learner.name": "cot", "learner.batch_size": 64, "learner.learning_rate": 1e-3}
DDO = _WITHOUT_REWARD | {"learner.name": "ddo", "learner.batch_size": 256, "learner.learning_rate": 1e-3}
SPIN = _WITHOUT_REWARD | {"learner.name": "spin", "learner.batch_size": 256, "learner.learning_rate": 1e-3}
RELATIVISTIC = _WITH_DISCRIMINATOR | {
    "discriminator.loss": "bradley_terry",
    "game.reward_model": "relativistic",
    "learner.baseline": "step_mean",
    "learner.batch_size": 512,
    "learner.learning_rate": 1e-3,
}
DPG = _WITH_DISCRIMINATOR | {
    "game.anchor_weight": 0.0,  # the learner has a reference of its own
    "learner.name": "dpg",
    "learner.batch_size": 512,
    "learner.learning_rate": 1e-3,
    "learner.max_grad_norm": 1.0,
}
RESIDUAL = _WITH_DISCRIMINATOR | {"game.rounds": 0}
