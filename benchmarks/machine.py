"""The machine of a run, and its rates, which are stored with every result."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from agents.studies.record import cpu_name, git_commit
from benchmarks.roofline import Rates


@dataclass(frozen=True)
class Machine:
    """The machine and the software of a run.

    Attributes:
        device: "cpu" or "cuda".
        name: name of the processor, with its number of cores, or of the GPU.
        python, torch, numpy: versions.
        commit: commit of this repository, with "-dirty" if files differ from it; "unknown" outside a git checkout.
    """

    device: str
    name: str
    python: str
    torch: str
    numpy: str
    commit: str

    def __str__(self) -> str:
        versions = f"Python {self.python} · torch {self.torch} · numpy {self.numpy}"
        return f"{self.name} · {versions} · commit {self.commit}"

    def cells(self) -> dict[str, str]:
        """The columns of a CSV."""
        return {
            "device": self.device,
            "machine": self.name,
            "python": self.python,
            "torch": self.torch,
            "numpy": self.numpy,
            "commit": self.commit,
        }


MACHINE_COLUMNS = ("device", "machine", "python", "torch", "numpy", "commit")


def this_machine(device: torch.device) -> Machine:
    """The current machine, with the device that is timed."""
    name = f"{cpu_name()}, {os.cpu_count()} cores" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Machine(device.type, name, platform.python_version(), torch.__version__, np.__version__, git_commit())


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has finished its work; a CPU never needs this."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, including all work that it starts on the device."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def use_threads(threads: int) -> None:
    """Set PyTorch's threads, and start them, so that the next timing does not include their start."""
    torch.set_num_threads(threads)
    if threads > 1:
        square = torch.ones(256, 256)
        torch.mm(square, square).exp_()


def measure_rates(device: torch.device, quick: bool = False) -> Rates:
    """Measure the device's rates with the current number of threads, in a few seconds.

    Args:
        device: to measure.
        quick: measure at sizes too small for good numbers.
    """
    on_gpu = device.type == "cuda"
    repeats = 1 if quick else 4

    def best_rate(amount: float, work: Callable[[], object]) -> float:
        work()  # memory is touched, threads are awake
        return amount / min(seconds_of(work, device) for _ in range(repeats))

    def product(size: int) -> float:
        a, b, out = (torch.rand(size, size, device=device) for _ in range(3))
        return best_rate(2 * size**3, lambda: torch.mm(a, b, out=out))

    def exponentials(size: int) -> float:
        x = torch.rand(size, device=device)
        out = torch.empty_like(x)
        calls = 1 if on_gpu or quick else (1 << 23) // size  # enough calls for the clock

        def work() -> None:
            for _ in range(calls):
                torch.exp(x, out=out)

        return best_rate(calls * size, work)

    def copy(size: int) -> float:
        source = torch.ones(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        return best_rate(2 * size, lambda: target.copy_(source))

    if quick:
        return Rates(product(128), exponentials(1 << 14), copy(1 << 22))
    # From sizes that fit a core's cache to sizes that threads share well. The copy is far larger than the cache.
    return Rates(
        flops=max(map(product, (4096, 8192) if on_gpu else (1024, 2048, 3072))),
        exps=max(map(exponentials, (1 << 24, 1 << 26) if on_gpu else (1 << 14, 1 << 16, 1 << 18))),
        bytes=copy(1 << 30 if on_gpu else 1 << 28),
    )
