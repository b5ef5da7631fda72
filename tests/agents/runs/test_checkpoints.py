"""`checkpoints`: whole or not at all, nothing executed, and a restored game goes on bit for bit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import subprocess
import sys
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.runs.checkpoints import (
    join_state,
    read_tensors,
    restore,
    restore_pretraining,
    snapshot,
    split_state,
    write_tensors,
)
from agents.runs.regular_files import write_atomically
from agents.seqgan import Milestone, SeqGAN
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import tiny_config


class Stop(Exception):
    pass


def game_of(**changes: Any) -> SeqGAN:
    return SeqGAN(toy_task(n_sequences=64), tiny_config(**changes))


def stop_after(units: int) -> Callable[[Milestone], None]:
    left = [units]

    def after(_: Milestone) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    return after


def assert_same(first: tuple[dict[str, Tensor], Any], second: tuple[dict[str, Tensor], Any]) -> None:
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for name, tensor in first[0].items():
        assert torch.equal(tensor, second[0][name]), name


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"rollout_rate": 0.8, "baseline": "value", "mle_patience": 1},
        {"reward_model": "constant"},
        {"reward_model": "random"},
        {"reward_model": "shuffled"},
        {"reward_model": "bleu", "curriculum_rate_step": 0.3, "n_rollouts": 1},
        {"generator": "transformer", "discriminator": "ensemble:rcnn+bigru", "rounds": 2},
        {"reward_model": "shuffled:logit", "anchor_weight": 1.0, "reward_mode": "terminal", "d_steps": 0},
    ],
    ids=["plain", "delayed", "constant", "random", "shuffled", "bleu", "other parts", "anchored"],
)
def uninterrupted(request: pytest.FixtureRequest) -> tuple[dict[str, Any], tuple[dict[str, Tensor], Any]]:
    """Settings, and where a game with them ends."""
    game = game_of(**request.param)
    game.train()
    return request.param, snapshot(game)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_game_restored_into_a_new_process_ends_as_the_uninterrupted_one(
    tmp_path: Path, uninterrupted: tuple[dict[str, Any], tuple[dict[str, Tensor], Any]], stop_at: int
) -> None:
    """Models, optimizers, G_beta, random states and counters, all of them and bit for bit."""
    changes, end = uninterrupted
    first = game_of(**changes)
    with contextlib.suppress(Stop):
        first.train(stop_after(stop_at))
    write_tensors(tmp_path / "game.safetensors", *snapshot(first))
    torch.manual_seed(12345)  # whatever another process may have drawn
    second = game_of(**changes)
    restore(second, *read_tensors(tmp_path / "game.safetensors"))
    assert_same(snapshot(second), snapshot(first))
    second.train()
    assert_same(snapshot(second), end)


def test_a_snapshot_holds_both_optimizers_g_beta_and_plain_values() -> None:
    game = game_of()
    game.train()
    tensors, state = snapshot(game)
    parts = {name.rsplit(".", level)[0] for name in tensors for level in range(1, name.count(".") + 1)}
    assert parts >= {
        "agent.policy", "agent.optimizer", "pretrainer.optimizer", "trainer.adversary.discriminator",
        "trainer.adversary.optimizer", "trainer.rollout_policy", "random",
    }  # fmt: skip
    assert {name for name in tensors if name.startswith(f"{SeqGAN.GENERATOR}.")} == {
        f"{SeqGAN.GENERATOR}.{name}" for name in game.generator.state_dict()
    }
    assert json.loads(json.dumps(state)) == state
    assert (state["trainer"]["rounds"], state["discriminator_steps"], state["pretrainer"]["epochs"]) == (3, 2, 2)
    assert state["trainer"]["mean_reward"] == game.trainer.mean_reward
    assert game.trainer.last_report is not None
    assert state["trainer"]["adversary"]["last_report"] == vars(game.trainer.last_report)


@pytest.mark.parametrize("reward_model", ["random", "shuffled"])
def test_a_snapshot_holds_the_random_state_of_a_reward_that_draws(reward_model: str) -> None:
    game = game_of(reward_model=reward_model)
    before = snapshot(game)[1]["reward"]["rng"]
    game.train()
    _, state = snapshot(game)
    assert state["reward"]["rng"] != before
    assert json.loads(json.dumps(state)) == state
    assert snapshot(game_of())[1]["reward"] == {}


class CountingReward:
    """A reward of a user's own with a state: it falls with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, sequences: Tensor) -> Tensor:
        self.calls += 1
        return torch.full((len(sequences),), 1.0 / self.calls)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "as_tensor": torch.tensor([self.calls])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["as_tensor"].tolist() == [state["calls"]]
        self.calls = state["calls"]


@pytest.mark.parametrize("anchor_weight", [0.0, 0.5])
def test_a_reward_of_ones_own_brings_its_state_back(anchor_weight: float) -> None:
    changes = {"reward_model": f"{__name__}:CountingReward", "anchor_weight": anchor_weight}
    whole, first, second = game_of(**changes), game_of(**changes), game_of(**changes)
    whole.train()
    with contextlib.suppress(Stop):
        first.train(stop_after(3))
    restore(second, *snapshot(first))
    second.train()
    assert_same(snapshot(second), snapshot(whole))
    assert second.trainer.mean_reward == whole.trainer.mean_reward


# Attributes that training changes and a checkpoint need not hold.
DERIVED = {
    "mdp._state": "G_beta's states, computed again from the prefixes",
    "agent.rollout_buffer": "filled again before it is read",
    "agent.ep_info_buffer": "statistics of SB3's own log",
    "agent.ep_success_buffer": "likewise",
    "agent.start_time": "wall time",
    "agent._current_progress_remaining": "computed by every `learn`",
    "agent._total_timesteps": "likewise",
    "agent._num_timesteps_at_start": "likewise",
    "agent._episode_num": "of off-policy learners",
    "logger": "what SB3 logs",
    "_logger": "likewise",
    "env.reset_infos": "read by nobody after a reset",
    "_start_time": "wall time",
    "_actions": "between step_async and step_wait",
    "mdp.finished": "all False: finished rows begin anew within the step",
    "grad": "computed again by every update",
    "observation_space": "its random state is of `sample`, which nobody calls",
    "action_space": "likewise",
    "single_observation_space": "likewise",
    "single_action_space": "likewise",
}


def attributes(value: Any, path: str, found: dict[str, Any], seen: dict[int, Any]) -> dict[str, Any]:
    """Every plain value, tensor and array that can be reached from an object -> where it was found."""
    if any(path.endswith(f".{name}") for name in DERIVED) or isinstance(value, type) or callable_alone(value):
        return found
    if value is None or isinstance(value, bool | int | float | str | Tensor | np.ndarray):
        found[path] = value
        return found
    if id(value) in seen:
        return found
    seen[id(value)] = value  # held, so that no other object gets its id
    if isinstance(value, np.random.Generator):
        inner: dict[Any, Any] = {"state": value.bit_generator.state}
    elif isinstance(value, torch.optim.Optimizer):
        inner = value.state_dict()
    elif isinstance(value, dict):
        inner = value
    elif isinstance(value, list | tuple | deque):
        inner = dict(enumerate(value))
    elif isinstance(value, nn.Module):
        inner = value.state_dict()
    else:
        inner = getattr(value, "__dict__", {})
    for name, part in inner.items():
        attributes(part, f"{path}.{name}", found, seen)
    return found


def callable_alone(value: Any) -> bool:
    """Functions, methods and modules: no state of ours."""
    return isinstance(value, types.FunctionType | types.MethodType | types.ModuleType | types.BuiltinFunctionType)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor | np.ndarray) and isinstance(second, Tensor | np.ndarray):
        first, second = np.asarray(first), np.asarray(second)
        return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    return bool(first == second)


def lost(game: SeqGAN, restored: SeqGAN) -> list[str]:
    """Attributes of a game that one restored from its snapshot has otherwise or not at all."""
    theirs, ours = attributes(game, "game", {}, {}), attributes(restored, "game", {}, {})
    if game.agent._last_obs is None:  # the first `learn` resets, and so seeds, the environment
        theirs, ours = ({p: v for p, v in found.items() if ".rngs." not in p} for found in (theirs, ours))
    both = theirs.keys() & ours.keys()
    return [path for path in theirs | ours if path not in both or not same(theirs[path], ours[path])]


@pytest.mark.parametrize("stop_at", [1, 3, 6])
@pytest.mark.parametrize(
    "changes",
    [
        {"mle_patience": 1},
        {"d_steps": 0, "rollout_rate": 0.5, "baseline": "value"},
        {"reward_model": "shuffled:logit", "anchor_weight": 1.0, "reward_mode": "terminal"},
        {"reward_model": f"{__name__}:CountingReward"},
    ],
    ids=["plain", "no d-steps", "anchored", "own reward"],
)
def test_every_attribute_of_a_game_is_in_the_checkpoint_or_derived(changes: dict[str, Any], stop_at: int) -> None:
    game, restored = game_of(**changes), game_of(**changes)
    with contextlib.suppress(Stop):
        game.train(stop_after(stop_at))
    restore(restored, *snapshot(game))
    if game.trainer.rollout_policy is not None:
        for one in (game, restored):  # reward and G_beta are handed to the environment when the game goes on
            one._begin_game()
    assert lost(game, restored) == []


def test_the_walk_sees_an_attribute_that_is_not_restored() -> None:
    game, restored = game_of(), game_of()
    assert lost(game, restored) == []
    game.trainer.adversary.new_counter = 1  # type: ignore[union-attr]
    game.pretrainer.rng.random()
    found = lost(game, restored)
    assert "game.trainer.adversary.new_counter" in found
    assert any("pretrainer.rng" in path for path in found)


@pytest.mark.parametrize("changes", [{"hidden_size": 7}, {"filters": "paper"}, {"embedding_size": 3}])
def test_a_checkpoint_of_another_configuration_is_refused(changes: dict[str, Any]) -> None:
    first = game_of()
    tensors, state = snapshot(first)
    with pytest.raises(ValueError, match="the checkpoint does not fit the run's configuration"):
        restore(game_of(**changes), tensors, state)


# Files.


def test_tensors_and_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3).t(), "b.c": torch.tensor(0.1), "bytes": torch.get_rng_state()}
    state = {"number": 2**100, "float": 0.1, "none": None, "list": [1, {"x": "ü"}]}
    write_tensors(tmp_path / "file", tensors, state)
    assert_same(read_tensors(tmp_path / "file"), (tensors, state))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_file_before_is_kept_where_one_says(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "previous"
    for number in range(3):
        write_tensors(path, {"x": torch.tensor(number)}, {"number": number}, previous)
        assert read_tensors(path)[1] == {"number": number}
        if number:
            assert read_tensors(previous)[1] == {"number": number - 1}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "previous"]


def test_text_that_looks_like_a_checksum_comes_back_as_it_was(tmp_path: Path) -> None:
    text = f"sha256:{'0' * 64} "
    tensors = {text: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}
    write_tensors(tmp_path / "file", tensors, {text: text})
    assert_same(read_tensors(tmp_path / "file"), (tensors, {text: text}))


def test_a_nested_state_is_split_into_tensors_by_name_and_plain_values() -> None:
    a, b, c = torch.zeros(1), torch.ones(2), torch.arange(3)
    state = {"model": {"weight": a, "layers": [b, {"bias": c}]}, 3: (1, None), "empty": {}, "name": "x"}
    tensors, plain = split_state(state)
    assert list(tensors) == ["model.weight", "model.layers.0", "model.layers.1.bias"]
    assert tensors["model.weight"] is a
    assert tensors["model.layers.0"] is b
    assert tensors["model.layers.1.bias"] is c
    assert plain == {
        "model": {
            "weight": {"$tensor": "model.weight"},
            "layers": [{"$tensor": "model.layers.0"}, {"bias": {"$tensor": "model.layers.1.bias"}}],
        },
        "3": [1, None],
        "empty": {},
        "name": "x",
    }
    joined = join_state(tensors, json.loads(json.dumps(plain)))
    assert joined["model"]["weight"] is a
    assert joined["model"]["layers"][0] is b
    assert joined["model"]["layers"][1] == {"bias": c}
    assert (joined["3"], joined["empty"], joined["name"]) == ([1, None], {}, "x")
    assert split_state(a, "alone") == ({"alone": a}, {"$tensor": "alone"})


def test_a_tensor_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"^the checkpoint lacks the tensor 'a\.b'$"):
        join_state({"a.c": torch.ones(1)}, {"a": {"b": {"$tensor": "a.b"}}})


def test_what_is_stored_goes_to_the_part_that_it_belongs_to() -> None:
    class Part:
        def __init__(self) -> None:
            self.loaded: dict[str, Any] = {}

        def load_state_dict(self, state: Any) -> None:
            self.loaded["everything"] = state

        def load_pretraining(self, state: Any) -> None:
            self.loaded["pretraining"] = state

        def state_dict(self) -> dict[str, Any]:
            return {"weight": torch.ones(1), "epochs": 3}

    tensors, plain = snapshot(Part())  # type: ignore[arg-type]
    assert (list(tensors), plain) == (["weight"], {"weight": {"$tensor": "weight"}, "epochs": 3})
    for restores, name in ((restore, "everything"), (restore_pretraining, "pretraining")):
        part: Any = Part()
        tensor = torch.ones(1)
        restores(part, {"x": tensor}, {"weight": {"$tensor": "x"}, "epochs": 3})
        assert part.loaded == {name: {"weight": tensor, "epochs": 3}}


def test_where_nothing_could_be_written_aside_the_error_is_the_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match="no"):
        write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_only_the_tensors_that_are_wanted_are_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"a": torch.ones(1), "b": torch.zeros(1)}, {"x": 1})
    tensors, state = read_tensors(tmp_path / "file", lambda name: name == "b")
    assert (list(tensors), state) == (["b"], {"x": 1})


def test_a_tensor_with_a_gradient_is_stored_as_its_values(tmp_path: Path) -> None:
    weight = torch.ones(2, requires_grad=True)
    write_tensors(tmp_path / "file", {"a": weight, "b": weight * 2}, {})
    tensors, _ = read_tensors(tmp_path / "file")
    assert (tensors["a"].tolist(), tensors["b"].tolist()) == ([1, 1], [2, 2])
    assert not tensors["a"].requires_grad


def test_tied_weights_are_stored_under_each_of_their_names(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {"embedding": weight, "output": weight, "row": weight[1], "other": torch.ones(2)}
    write_tensors(tmp_path / "file", tensors, {})
    assert_same(read_tensors(tmp_path / "file"), (tensors, {}))


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return b"\xff" * 8 + content[8:]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda _: b"", lambda content: content[:4], lambda c: c[:-1]])
def test_a_damaged_file_is_named_and_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "latest.safetensors"
    write_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"latest\.safetensors' is not a readable checkpoint of this project"):
        read_tensors(path)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    (tmp_path / "torch.pt").write_bytes(b"")
    torch.save({"a": torch.ones(1)}, tmp_path / "torch.pt")
    for path in (tmp_path / "other.safetensors", tmp_path / "torch.pt", tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            read_tensors(path)


def test_a_pickle_in_a_checkpoints_place_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "attacked",)

    (tmp_path / "latest.safetensors").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        read_tensors(tmp_path / "latest.safetensors")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("where", ["fsync", "replace", "write"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_keeps_the_file_before_and_leaves_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")

    def fail(*_: Any) -> Any:
        raise error

    if where == "write":
        original = Path.open

        def open_then_fail(self: Path, mode: str = "r", **keywords: Any) -> Any:
            file = original(self, mode, buffering=0, **keywords)
            file.write(b"half")
            file.close()
            return fail()

        monkeypatch.setattr(Path, "open", open_then_fail)
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"after")
    monkeypatch.undo()
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_atomically(path, b"after")
    assert path.read_bytes() == b"after"


@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the size of files")
def test_a_disk_that_is_really_full_raises_and_keeps_the_file_before(tmp_path: Path) -> None:
    """A limit of the size of files fails in the middle of a write, as a full disk does."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from agents.runs.regular_files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "write_atomically(Path(sys.argv[1]), b'after' * 100_000)"
    )
    path = tmp_path / "file"
    write_atomically(path, b"before")
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in ended.stderr
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_is_synced_before_it_takes_the_others_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave the new name with no content."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths))[1])
    write_atomically(tmp_path / "file", b"content")
    assert calls == ["fsync", "replace", "fsync"]  # the file, then the folder's entry


def test_every_flipped_bit_of_a_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tensors = {"x": torch.ones(3), "none": torch.ones(0, 2), "half": torch.tensor(0.1).bfloat16()}
    write_tensors(path, tensors, {"text": "\u00fc"})
    content = path.read_bytes()
    assert read_tensors(path)[1] == {"text": "\u00fc"}
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            read_tensors(path)


def test_a_flipped_bit_in_the_data_is_seen_although_the_file_can_be_parsed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"x": torch.ones(3)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its checksum is wrong, so the file is damaged"):
        read_tensors(path)
