"""Being told to stop: SIGTERM and the loss of the terminal end a command as Ctrl-C does.

Batch systems and containers send SIGTERM, a closed terminal sends SIGHUP, and on Windows Ctrl-Break sends SIGBREAK.
Each becomes an exception, so that a run can save what it has. The exit status is 128 plus the signal's number, as of a
program that a shell sees killed: 130, 143, 129.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")  # those that the system has


class Stopped(KeyboardInterrupt):
    """A signal has asked to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """The exit status of a command that was stopped."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def stopping_signals() -> Iterator[None]:
    """Inside, the signals raise `Stopped`. One that the program already treats, or ignores as under nohup, stays so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, Ctrl-C and the signals are ignored: for the short time in which a run saves what it has."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", *_NAMES):
            number = getattr(signal, name, None)
            if number is not None:
                before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
