"""Gymnasium's own tools on these environments: play, RecordVideo, notebooks, pprint_registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqgan_env.keyboard import keys_to_action
from seqgan_env.task_files import TASKS, environment_id


@pytest.mark.parametrize(
    ("tokens", "keys"),
    [
        (["a", "b", "c"], "abc"),
        (["b", " ", "Z", "-"], "b z-"),
        (["C4", "D4", "rest"], "abc"),  # no single characters: numbered
        (["a", "A"], "ab"),  # one key for both
        (["a", "é"], "ab"),  # not on every keyboard
        ([str(number) for number in range(12)], "abcdefghijkl"),
    ],
)
def test_a_token_is_written_by_its_character_or_by_the_key_of_its_number(tokens: list[str], keys: str) -> None:
    assert keys_to_action(tokens) == {(key,): token for token, key in enumerate(keys)}


def test_more_tokens_than_keys_are_refused_with_a_remedy() -> None:
    assert len(keys_to_action([f"w{i}" for i in range(36)])) == 36
    with pytest.raises(ValueError, match=r"has 37 tokens, and there are keys for 36; .* keys_to_action="):
        keys_to_action([f"w{i}" for i in range(37)])


class Typist(gym.Wrapper):  # type: ignore[type-arg]
    """Presses one key at each frame, and the window's close button when there are no more."""

    def __init__(self, env: gym.Env[Any, Any], keys: str) -> None:
        super().__init__(env)
        self.keys, self.down = list(keys), ""
        self.frames = 0

    def render(self) -> Any:
        import pygame

        self.frames += 1
        assert self.frames < 50, "the keys are not read"
        if pygame.display.get_init():  # the first frame is asked for before there is a window
            if self.down:
                pygame.event.post(pygame.event.Event(pygame.KEYUP, key=ord(self.down)))
            if self.keys:
                self.down = self.keys.pop(0)
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=ord(self.down)))
            else:
                pygame.event.post(pygame.event.Event(pygame.QUIT))
        return super().render()


def test_an_episode_is_played_with_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason='gymnasium.utils.play needs the extra "play"')
    from gymnasium.utils.play import play

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    played: list[tuple[int, dict[str, Any]]] = []

    def note(before: Any, obs: Any, action: int, reward: float, ended: bool, truncated: bool, info: Any) -> None:
        played.append((action, info))

    env = Typist(gym.make("SeqGAN-Toy-v0", render_mode="rgb_array", reward_model="constant"), "cab")
    play(env, callback=note, wait_on_player=True, fps=1000, seed=0)
    assert [action for action, _ in played] == [2, 0, 1]
    assert played[-1][1]["text"].replace(" ", "") == "cab"


def test_record_video_writes_a_film_of_a_sequence_being_written(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason='RecordVideo needs the extra "play"')
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    make = gym.make("SeqGAN-Toy-v0", render_mode="rgb_array", reward_model="oracle")
    env = gym.wrappers.RecordVideo(make, str(tmp_path), episode_trigger=lambda episode: True, disable_logger=True)
    env.reset(seed=0)
    expected = [env.unwrapped.render()]
    for action in (0, 1, 2):
        env.step(action)
        expected.append(env.unwrapped.render())
    env.close()
    (film,) = tmp_path.glob("*.mp4")
    reader = imageio_ffmpeg.read_frames(str(film))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    assert (height, width, 3) == expected[0].shape
    assert len(frames) == len(expected)
    for frame, drawn in zip(frames, expected, strict=True):  # compression changes a colour a little
        errors = [np.abs(frame.astype(int) - other).mean() for other in expected]
        assert errors[[other is drawn for other in expected].index(True)] == min(errors)


NOTEBOOK = """
import gymnasium as gym, seqgan_env
env = gym.make("SeqGAN-Toy-v0", render_mode="human", reward_model="constant")
for episode in range(5):
    env.reset(seed=episode)
    for action in (0, 1, 2):
        env.step(action)
"""


def test_a_cell_of_a_notebook_has_one_output_that_shows_the_last_frame() -> None:
    pytest.importorskip("ipykernel", reason="a notebook")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    again = "env.reset(seed=0)\nenv.step(2)\nNone"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (NOTEBOOK, again)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [[output["data"]["text/plain"] for output in cell["outputs"]] for cell in notebook.cells]
    assert [len(of_cell) for of_cell in outputs] == [1, 1]
    assert outputs[0][0].splitlines() == ["t = 3/3", "token       a      b      c", "Q       0.500  0.500  0.500"]
    assert outputs[1][0].splitlines()[0] == "t = 1/3"


def test_the_registry_lists_the_environments_under_the_projects_name() -> None:
    program = "import gymnasium as gym, seqgan_env; gym.pprint_registry()"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    listed = run.stdout.partition("===== seqgan =====\n")[2].partition("\n=====")[0]
    assert set(listed.split()) == set(map(environment_id, TASKS))
