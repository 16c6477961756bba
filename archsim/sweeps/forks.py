"""Copies of this process that work for it: each starts with all that was loaded and compiled here.

A copy reads pieces of work from a pipe and writes what becomes of them back. Nothing else of this
process is open in it, so that neither a lock nor the pipe of another copy outlives this process.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Found = TypeVar("Found")


class DiedError(Exception):
    """A copy ended before its work was done."""


def are_safe() -> bool:
    """True where a process can be copied: Linux, with no other thread that may hold a lock."""
    alone = threading.active_count() == 1 and not current_process().daemon
    return sys.platform == "linux" and alone


class Forks(Generic[Found]):
    """Up to `count` copies of this process that apply a function; they start when needed."""

    def __init__(self, function: Callable[[bytes], Found], count: int) -> None:
        self.function, self.count = function, count
        self.context = get_context("fork")
        self.copies: dict[Connection, BaseProcess] = {}

    def map(self, work: Iterator[bytes]) -> Iterator[Found]:
        """Results in the order in which they are found.

        Raises:
            DiedError: a copy was killed, or the function failed in it.
        """
        free = list(self.copies)
        busy: list[Connection] = []
        while len(busy) < self.count and (piece := next(work, None)) is not None:
            busy.append(free.pop() if free else self._start())
            busy[-1].send_bytes(piece)
        while busy:
            ready = wait(busy)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                try:
                    found: Found = pipe.recv()
                    # There is work for it again before anyone looks at what it found.
                    piece = next(work, None)
                    if piece is None:
                        busy.remove(pipe)
                    else:
                        pipe.send_bytes(piece)
                except (EOFError, ConnectionError):
                    raise DiedError from None
                yield found

    def _start(self) -> Connection:
        here, there = self.context.Pipe()
        copy = self.context.Process(target=_serve, args=(there, self.function), daemon=True)
        copy.start()
        there.close()
        self.copies[here] = copy
        return here

    def close(self) -> None:
        """End all copies, whatever they are at."""
        for pipe, copy in self.copies.items():
            copy.kill()
            copy.join()
            pipe.close()
        self.copies.clear()


def _serve(pipe: Connection, function: Callable[[bytes], Found]) -> None:
    """What a copy does, until nobody is at the other end."""
    # What is here stays: looking through it for garbage takes time, and makes copies of its pages.
    gc.freeze()
    # Ctrl-C is for the process that waits for the results; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(3, pipe.fileno())
    os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        while True:
            pipe.send(function(pipe.recv_bytes()))
    except (EOFError, ConnectionError):
        pass
