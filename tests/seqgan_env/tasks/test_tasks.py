"""`tasks`: the oracle from a seed and from the authors' files, the toy world, and what a task refuses."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seqgan_env.measures.likelihood import estimate, negative_log_likelihood
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rollout_policies import UniformPolicy, sample_sequences
from seqgan_env.tasks.oracle import load_oracle, oracle_task, seeded_oracle
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from seqgan_env.testing import check_discriminator, check_sequence_model

NAMES = LSTMSequenceModel.ARRAY_NAMES


def small_arrays() -> dict[str, np.ndarray]:
    """15 arrays of an oracle with V = 4, E = 2, H = 3."""
    rng = np.random.RandomState(0)
    shapes = {"embeddings": (4, 2), "Wo": (3, 4), "bo": (4,)}
    for gate in ("i", "f", "og", "c"):
        shapes |= {f"W{gate}": (2, 3), f"U{gate}": (3, 3), f"b{gate}": (3,)}
    return {name: rng.normal(size=shapes[name]).astype(np.float32) for name in NAMES}


def python_2_pickle(arrays: list[np.ndarray]) -> bytes:
    """A protocol 2 pickle of a list of arrays as Python 2 and NumPy 1 write it: array bytes as a byte string."""
    out = b"\x80\x02]("
    for array in arrays:
        shape = b"(" + b"".join(b"M" + struct.pack("<H", size) for size in array.shape) + b"t"
        dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        raw = array.astype("<f4").tobytes()
        out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        out += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    return out + b"e."


def write_npz(path: Path) -> Path:
    np.savez(path, **small_arrays())
    return path


def write_compressed_npz(path: Path) -> Path:
    np.savez_compressed(path, **small_arrays())
    return path


def write_python_2_pickle(path: Path) -> Path:
    path.write_bytes(python_2_pickle(list(small_arrays().values())))
    return path


def write_protocol_2_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps(list(small_arrays().values()), protocol=2))
    return path


def write_protocol_4_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps(tuple(small_arrays().values()), protocol=4))
    return path


WRITERS = {
    "npz": write_npz,
    "compressed npz": write_compressed_npz,
    "Python 2 pickle": write_python_2_pickle,
    "protocol 2 pickle": write_protocol_2_pickle,
    "protocol 4 pickle": write_protocol_4_pickle,
}


# --- from a seed -----------------------------------------------------------------------------------------------------


def test_a_seeded_oracle_has_the_same_numbers_everywhere() -> None:
    first_and_last = {
        "embedding": (1.7640523, -1.3860302),
        "gate_bias": (-1.1866304, 0.6819497),
        "input_weight": (-0.0968583, -0.7693717),
        "output.bias": (-0.4465338, -0.1477514),
        "output.weight": (-0.0108295, -0.3081687),
        "recurrent_weight": (-0.7212573, 1.1771362),
    }
    model = seeded_oracle(0, 5000)
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        assert (values[0].item(), values[-1].item()) == pytest.approx(first_and_last.pop(name), abs=1e-6), name
    assert not first_and_last
    sequence = 37 * torch.arange(20).view(1, 20)
    assert model.log_probs(sequence)[0, :3].tolist() == pytest.approx([-7.6828, -11.3868, -7.7746], abs=1e-3)
    assert model.log_probs(sequence).sum().item() == pytest.approx(-211.2578, abs=1e-2)


def test_a_seeded_oracle_is_standard_normal() -> None:
    for name, parameter in seeded_oracle(3, 5000).named_parameters():
        assert parameter.std().item() == pytest.approx(1.0, rel=0.2), name
        assert parameter.mean().item() == pytest.approx(0.0, abs=0.3), name


def test_no_seed_is_seed_zero_and_other_seeds_are_other_oracles() -> None:
    default, zero, one = (toy_task(oracle=oracle).oracle for oracle in (None, 0, 1))
    assert torch.equal(default.embedding, zero.embedding)
    assert not torch.equal(zero.embedding, one.embedding)


@pytest.mark.parametrize(
    ("oracle", "error"), [(-1, ValueError), (2**32, ValueError), (1.5, TypeError), (True, TypeError), ([], TypeError)]
)
def test_a_seed_that_is_none_is_refused_by_name(oracle: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="oracle="):
        toy_task(oracle=oracle)


# --- from a file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_every_file_format_gives_the_same_oracle(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    expected = LSTMSequenceModel.from_arrays(small_arrays()).state_dict()
    loaded = load_oracle(writer(tmp_path / "oracle.npz")).state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_an_oracle_of_another_kind_is_pointed_to_python(tmp_path: Path) -> None:
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "gru.pt")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "words.txt").write_text("no oracle")
    for name in ("gru.pt", "other.npz", "words.txt"):
        with pytest.raises(ValueError, match=r"oracle_task\(oracle=your_model\)"):
            load_oracle(tmp_path / name)


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_task_takes_a_path_and_its_vocabulary(tmp_path: Path, as_type: Callable) -> None:
    task = oracle_task(oracle=as_type(write_npz(tmp_path / "oracle.npz")), n_sequences=5)
    assert task.vocab_size == 4
    assert task.real_sequences("train").shape == (5, 20)
    assert not any(parameter.requires_grad for parameter in task.oracle.parameters())


@pytest.mark.parametrize("make", [oracle_task, toy_task])
def test_another_vocabulary_than_the_files_is_refused(tmp_path: Path, make: Callable[..., Task]) -> None:
    with pytest.raises(ValueError, match=r"vocab_size=9, but oracle=.* has 4 tokens"):
        make(vocab_size=9, oracle=write_npz(tmp_path / "oracle.npz"))


class Intruder:
    """Unpickled by Python, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    target, oracle = tmp_path / "was_here", tmp_path / "oracle.pkl"
    oracle.write_bytes(pickle.dumps([Intruder(target), *small_arrays().values()][:15], protocol=protocol))
    with pytest.raises(ValueError, match=r"oracle=.*only NumPy arrays are allowed"):
        load_oracle(oracle)
    assert not target.exists()
    pickle.loads(oracle.read_bytes())  # the trap works
    assert target.exists()


@pytest.mark.parametrize(
    "code", [b"cos\nsystem\n(S'exit 1'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR."]
)
def test_no_global_but_numpy_arrays_can_be_named(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "oracle.pkl").write_bytes(code)
    with pytest.raises(ValueError, match=r"oracle=.*it asks for"):
        load_oracle(tmp_path / "oracle.pkl")


def test_a_pickled_array_cannot_smuggle_pointers(tmp_path: Path) -> None:
    # An object dtype whose flags claim plain bytes: NumPy would take the bytes for addresses of Python objects.
    dtype = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85" + dtype
    (tmp_path / "oracle.pkl").write_bytes(b"\x80\x02](" + array + b"\x89U\x08AAAAAAAAtbe.")
    with pytest.raises(ValueError, match=r"oracle=.*does not hold floats"):
        load_oracle(tmp_path / "oracle.pkl")


def test_a_pickled_codec_is_not_looked_up(tmp_path: Path) -> None:
    (tmp_path / "oracle.pkl").write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(ValueError, match=r"oracle=.*encoding 'rot13'"):
        load_oracle(tmp_path / "oracle.pkl")


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, writer: Callable[[Path], Path], share: float) -> None:
    path = writer(tmp_path / "oracle.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"oracle=.* cannot be read"):
        load_oracle(path)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    path = writer(tmp_path / "oracle.npz")
    whole = path.read_bytes()
    rng = np.random.RandomState(0)
    messages = []
    for place in rng.randint(len(whole), size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 + rng.randint(255)
        path.write_bytes(damaged)
        try:
            load_oracle(path)  # a flipped bit of a float is a float
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert all("oracle=" in message for message in messages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Uc": None}, r"lack \['Uc'\]"),
        ({"Wo": np.zeros((4, 3), np.float32)}, "Wo has shape"),
        ({"bo": np.full(4, np.nan, np.float32)}, "bo must hold finite floats"),
        ({"bi": np.zeros(3, np.int64)}, "bi must hold finite floats"),
        ({"bi": np.array([{}, {}, {}])}, "cannot be read"),  # an object array would need pickle
    ],
)
def test_an_npz_with_other_arrays_is_refused_by_name(tmp_path: Path, changes: dict, message: str) -> None:
    arrays = {name: array for name, array in (small_arrays() | changes).items() if array is not None}
    np.savez(tmp_path / "oracle.npz", **arrays)
    with pytest.raises(ValueError, match=rf"oracle=.*{message}"):
        load_oracle(tmp_path / "oracle.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (list(small_arrays().values())[:14], "a list of 15 arrays"),
        (small_arrays(), "a list of 15 arrays"),
        ([1.0] * 15, "every element to be a NumPy array"),
        ([np.zeros(3, np.int64)] * 15, "does not hold floats"),
        ([np.zeros((3, 3), np.float32)] * 15, "has shape"),
    ],
)
def test_a_pickle_with_another_content_is_refused_by_name(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "oracle.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=rf"oracle=.*{message}"):
        load_oracle(tmp_path / "oracle.pkl")


def test_a_zip_of_something_else_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "oracle.npz", "w") as archive:
        archive.writestr("embeddings.npy", "not an array")
    for path in (tmp_path / "oracle.npz", tmp_path / "absent.npz", tmp_path):
        with pytest.raises(ValueError, match="oracle="):
            load_oracle(path)


def test_the_authors_oracle_has_its_known_entropy_and_a_uniform_policy_its_known_nll(authors_oracle: Path) -> None:
    # One sequence's mean NLL a token deviates by about 0.5, so 4,000 of them know it to 0.008.
    oracle = load_oracle(authors_oracle)
    own = estimate(negative_log_likelihood(oracle, sample_sequences(oracle, 4000, 20, np.random.default_rng(0))))
    random = estimate(
        negative_log_likelihood(oracle, sample_sequences(UniformPolicy(5000), 4000, 20, np.random.default_rng(1)))
    )
    assert own.mean == pytest.approx(5.743, abs=0.03)
    assert own.standard_error < 0.01
    assert random.mean == pytest.approx(11.42, abs=0.04)
    assert random.standard_error < 0.01


def test_the_authors_arrays_read_alike_from_a_python_2_pickle(authors_oracle: Path, tmp_path: Path) -> None:
    with np.load(authors_oracle, allow_pickle=False) as archive:
        arrays = [archive[name] for name in NAMES]
    (tmp_path / "target_params.pkl").write_bytes(python_2_pickle(arrays))
    from_npz, from_pickle = (
        load_oracle(path).state_dict() for path in (authors_oracle, tmp_path / "target_params.pkl")
    )
    assert all(torch.equal(from_npz[name], from_pickle[name]) for name in from_npz)


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_the_default_oracle_task_has_the_papers_sizes() -> None:
    task = oracle_task()
    assert (task.vocab_size, task.sequence_length, task.eos_token) == (5000, 20, None)
    assert (task.oracle.hidden_size, task.oracle.embedding.shape[1]) == (32, 32)


def test_splits_are_drawn_once_from_streams_of_their_own() -> None:
    task, again, other = (oracle_task(50, 6, n_sequences=40, data_seed=seed) for seed in (0, 0, 1))
    train, validation, test = (task.real_sequences(split) for split in ("train", "validation", "test"))
    assert train.shape == (40, 6)
    assert not torch.equal(train, validation)
    assert not torch.equal(validation, test)
    assert task.real_sequences("train") is train
    assert torch.equal(again.real_sequences("test"), test)
    assert not torch.equal(other.real_sequences("test"), test)


def test_each_split_can_have_its_own_size() -> None:
    task = oracle_task(5, 4, n_sequences={"train": 3, "validation": 2, "test": 1})
    assert [len(task.real_sequences(split)) for split in ("train", "validation", "test")] == [3, 2, 1]


def test_the_toy_task_has_readable_tokens_and_27_sequences() -> None:
    task = toy_task()
    assert (task.vocab_size, task.sequence_length, task.pad_token) == (3, 3, 3)
    assert task.vocabulary.tokens == ("a", "b", "c")
    everything = enumerate_sequences(3, 3)
    assert everything.shape == (27, 3)
    assert everything[5].tolist() == [0, 1, 2]
    assert toy_task(30).vocabulary.tokens[27] == "t27"


def test_a_world_of_over_a_million_sequences_is_not_enumerated() -> None:
    with pytest.raises(ValueError, match="vocab_size=11 and sequence_length=6"):
        enumerate_sequences(11, 6)


def no_split(split: str) -> torch.Tensor:
    raise AssertionError(split)


@pytest.mark.parametrize("make", [oracle_task, toy_task])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("vocab_size", 0, ValueError), ("sequence_length", 0, ValueError), ("sequence_length", 2.5, TypeError)],
)
def test_a_task_of_impossible_size_is_refused_by_name(
    make: Callable[..., Task], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{name}={value}"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size=0"),
        ({"vocab_size": True}, TypeError, "vocab_size=True"),
        ({"sequence_length": -1}, ValueError, "sequence_length=-1"),
        ({"sequence_length": "3"}, TypeError, "sequence_length='3'"),
        ({"eos_token": 3}, ValueError, "eos_token=3"),
        ({"eos_token": -1}, ValueError, "eos_token=-1"),
    ],
)
def test_a_task_of_ones_own_is_checked(arguments: dict, error: type[Exception], message: str) -> None:
    sizes = {"name": "own", "vocab_size": 3, "sequence_length": 3, "draw_split": no_split}
    with pytest.raises(error, match=message):
        Task(**(sizes | arguments))


def test_another_split_is_refused_by_name(task: Task) -> None:
    with pytest.raises(ValueError, match="split='dev'"):
        task.real_sequences("dev")


def test_an_oracle_of_the_callers_stays_as_it_is_and_may_learn() -> None:
    model = LSTMSequenceModel(3, 4, 5, init_std=1.0)
    task = oracle_task(None, 4, model, n_sequences=8)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert task.oracle is not None
    assert not any(parameter.requires_grad for parameter in task.oracle.parameters())
    sequences = task.real_sequences("test")
    before = task.oracle.log_probs(sequences)
    with torch.no_grad():
        model.gate_bias += 1
    assert torch.equal(task.oracle.log_probs(sequences), before)
    check_sequence_model(model)
    with pytest.raises(ValueError, match=r"frozen \(requires_grad=False\).*requires_grad_\(True\)"):
        check_sequence_model(task.oracle)


def test_a_frozen_discriminator_is_told_that_it_is_frozen() -> None:
    with pytest.raises(ValueError, match=r"CNNDiscriminator: all of its parameters are frozen"):
        check_discriminator(CNNDiscriminator(3, 4).requires_grad_(False))
