"""`checkpoints`: whole or not at all, nothing executed, and a restored game goes on bit for bit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.runs.checkpoints import read_tensors, restore, snapshot, write_atomically, write_tensors
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
    parts = {name.split(".")[0] for name in tensors}
    assert parts == {
        "policy", "discriminator", "rollout_policy", "mle_optimizer", "policy_optimizer", "discriminator_optimizer",
        "random",
    }  # fmt: skip
    assert json.loads(json.dumps(state)) == state
    assert (state["rounds"], state["discriminator_steps"], state["pretrainer"]["epochs"]) == (3, 2, 2)


@pytest.mark.parametrize("reward_model", ["random", "shuffled"])
def test_a_snapshot_holds_the_random_state_of_a_reward_that_draws(reward_model: str) -> None:
    game = game_of(reward_model=reward_model)
    before = snapshot(game)[1]["reward_rng"]
    game.train()
    _, state = snapshot(game)
    assert state["reward_rng"] != before
    assert json.loads(json.dumps(state)) == state
    assert "reward_rng" not in snapshot(game_of())[1]


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_device_that_is_really_full_raises_and_keeps_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to("/dev/full")  # where the file is written aside
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(path, b"after" * 100_000)
    assert caught.value.errno == errno.ENOSPC
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
