"""Runs the `seqgan` command in forked processes that send themselves a signal at a chosen moment.

A process that is forked needs no second import, so that many deaths can be tested. In: a JSON line a run, with
`arguments`, and optionally `signal`, `at`, `count`: the count-th time that the moment comes, the signal is sent. The
signal "FULL" is none: from then on the system refuses to write more than some bytes into a file, as a full disk does.
Or `after_seconds`: whenever that is. `imports` names modules to import before the fork. Out: a JSON line with exit
status (minus the signal that killed it) and output.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import matplotlib.figure  # noqa: F401  (imported before the fork, as is all else that is slow)
import torch
from torch.utils.tensorboard import SummaryWriter

from agents.adversary import Adversary
from agents.command import main as cli
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.runs import checkpoints, training
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment


def wrap(owner: Any, name: str, count: int, act: Callable[..., None], after: bool = False) -> None:
    """Let `act` happen before or after the count-th call of a function."""
    original = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            act(*arguments)
        result = original(*arguments, **keywords)
        if calls == count and after:
            act(*arguments)
        return result

    setattr(owner, name, wrapped)


# In the middle of a unit of work of each stage.
INSIDE: dict[str, tuple[Any, str]] = {
    "in an MLE epoch": (Pretrainer, "_step"),
    "in a discriminator epoch": (Adversary, "epoch"),
    "in a round": (REINFORCE, "train"),
    "in the closing table": (training, "plot_learning_curves"),
}


def half_a_row(run: RunFolder, *_: Any) -> None:
    with run.metrics_path.open("a") as file:
        file.write("mle,9,")


def arm(at: str, count: int, name: str) -> None:
    """Prepare the death of this process, or the end of its disk."""

    def die(*_: Any) -> None:
        if name == "FULL":
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        else:
            os.kill(os.getpid(), getattr(signal, name))

    def cut(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        die()

    if at == "unit is done, nothing is saved":
        wrap(Experiment, "_after", count, die)
    elif at == "row is logged, checkpoint is not written":
        wrap(RunFolder, "log", count, die, after=True)
    elif at == "row is half logged":
        wrap(RunFolder, "log", count, lambda *arguments: (half_a_row(*arguments), die()))
    elif at == "checkpoint is half written":
        wrap(checkpoints, "write_atomically", count, lambda *_: wrap(os, "fsync", 1, cut))
    elif at == "checkpoint is written, not renamed":
        wrap(checkpoints, "write_atomically", count, lambda *_: wrap(os, "replace", 1, die))
    elif at in INSIDE:
        # Not while the units are timed, before there is a run.
        wrap(Experiment, "train", 1, lambda *_: wrap(*INSIDE[at], count, die))
    elif at == "checkpoint is renamed":
        wrap(checkpoints, "write_atomically", count, die, after=True)
    else:
        raise ValueError(at)


def child(order: dict[str, Any], output: int) -> None:
    """The forked process; never returns."""
    status = 99
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115  (pipes now)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as under nohup
        if "at" in order:
            arm(order["at"], order.get("count", 1), order.get("signal", "SIGKILL"))
        cli.main(order["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def warm_up() -> None:
    """Import what torch and TensorBoard leave for their first use."""
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter], fused=True).step()
    with tempfile.TemporaryDirectory() as folder:
        SummaryWriter(folder).close()


def main() -> None:
    torch.set_num_threads(1)
    warm_up()
    for line in sys.stdin:
        order = json.loads(line)
        for name in order.get("imports", ()):
            importlib.import_module(name)
        read, write = os.pipe()  # no file, whose size "FULL" would limit too
        process = os.fork()
        if process == 0:
            os.close(read)
            child(order, write)
        os.close(write)
        if "after_seconds" in order:
            time.sleep(order["after_seconds"])
            os.kill(process, getattr(signal, order.get("signal", "SIGKILL")))
        with os.fdopen(read, "rb") as output:
            text = output.read().decode()
        _, status = os.waitpid(process, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "output": text}), flush=True)


if __name__ == "__main__":
    main()
