"""Keys for `gymnasium.utils.play`: which key writes which token.

In: the tokens of a task. Out: what `play` asks an environment for, `get_keys_to_action`: key -> action. A task whose
tokens are single characters is played by these characters. Any other task is played by the keys of `_ORDER`, the
first for token 0.

Press a key until its token appears, a quarter of a second: `play` looks at the keys that are down once per frame.
    play(gym.make("SeqGAN-Toy-v0", render_mode="rgb_array"), wait_on_player=True)
"""

from __future__ import annotations

from collections.abc import Sequence

_ORDER = "abcdefghijklmnopqrstuvwxyz0123456789"
_OTHER_KEYS = " ,.-"  # that every keyboard has, and that need no second key


def keys_to_action(tokens: Sequence[str]) -> dict[tuple[str], int]:
    """Key -> token id. A capital letter is written by the key of its letter.

    Args:
        tokens: the text of each token, in the order of their ids.

    Raises:
        ValueError: if there are more tokens than keys.
    """
    keys = [token.lower() for token in tokens]
    if len(set(keys)) == len(keys) and all(len(key) == 1 and key in _ORDER + _OTHER_KEYS for key in keys):
        return {(key,): token for token, key in enumerate(keys)}
    if len(tokens) > len(_ORDER):
        raise ValueError(
            f"this task has {len(tokens)} tokens, and there are keys for {len(_ORDER)}; choose a task with fewer, such "
            "as SeqGAN-Toy-v0, or give `play` keys of your own: keys_to_action={'a': 7, 'b': 12}"
        )
    return {(_ORDER[token],): token for token in range(len(tokens))}
