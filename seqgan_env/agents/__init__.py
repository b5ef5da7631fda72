"""The modules of `agents`, under a name that no other project has.

    from seqgan_env.agents.reinforce import REINFORCE      the same class as agents.reinforce.REINFORCE
    python -m seqgan_env.agents train toy                  the same command as `seqgan train toy`

Other projects have a package or a module called `agents` too, and sometimes Python finds only theirs. This name finds
the modules that were installed with `seqgan_env`. They are not loaded a second time, and keep their own names: a
traceback and a saved learner name `agents.reinforce`. Importing this package alone imports nothing of `agents`.
"""

import sys
from pathlib import Path

from seqgan_env.second_name import SecondName

_FINDER = SecondName(__name__, "agents", Path(__file__).parents[2] / "agents")
if _FINDER not in sys.meta_path:
    sys.meta_path.insert(0, _FINDER)
