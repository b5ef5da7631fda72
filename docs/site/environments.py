"""A page for each environment: the text of its task's options class, and a picture of a real sequence."""

from __future__ import annotations

import inspect
import io
from typing import Any

SEED = 0


def picture_call(name: str) -> str:
    """The call that makes the environment of the picture; its reward is one that says something about a sequence."""
    from seqgan_env.task_files import TASKS, environment_id

    has_oracle = TASKS[name]().task().oracle is not None
    reward = "oracle" if has_oracle else "bleu"
    return f'gym.make("{environment_id(name)}", reward_model="{reward}", render_mode="rgb_array")'


def page(name: str) -> str:
    """The page of a task's environment in Gymnasium's form, with the code that makes its picture."""
    from seqgan_env.task_files import TASKS, environment_id

    first, _, rest = inspect.cleandoc(TASKS[name].PAGE).partition("\n\n")
    options, task = TASKS[name], "env.unwrapped.task"
    begin, sequence = f"env.reset(seed={SEED})", f'{task}.real_sequences("test")[0]'
    if getattr(options(), "prompt_length", None):  # a real response to its own prompt
        begin = f'env.reset(seed={SEED}, options={{"prompt": {task}.prompts("test")[0]}})'
        sequence = f'{task}.responses({task}.real_sequences("test"))[0]'
    return f"""# {environment_id(name)}

{first}

![A real sequence in {environment_id(name)}: each token with its Q]({name}.png)

```python
import gymnasium as gym
import seqgan_env  # registers the environments

env = {picture_call(name)}
{begin}
for token in {sequence}:
    *_, terminated, _, info = env.step(token)
    if terminated:
        break
picture = env.render()  # (height, width, 3) uint8
```

{rest}
"""


def code_of(markdown: str) -> str:
    """The code of a page that `page` has made."""
    return markdown.split("```python\n")[1].split("```")[0]


def picture(markdown: str) -> bytes:
    """The picture of a page that `page` has made, as PNG: what its code draws."""
    from matplotlib.image import imsave

    names: dict[str, Any] = {}
    exec(compile(code_of(markdown), "environment.md", "exec"), names)
    file = io.BytesIO()
    imsave(file, names["picture"], format="png")
    return file.getvalue()
