"""Threads that do a part of large work beside the thread that has it, for as long as they have nothing else to do."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Helpers:
    """Of one process. Work that comes while all of them are busy is done by those who brought it."""

    def __init__(self, threads: int) -> None:
        """threads: that do one piece of work, the caller's among them; 1: there are no helpers."""
        self._helping = threads - 1
        self._pool = ThreadPoolExecutor(self._helping, "helper") if self._helping else None

    def each(self, items: Sequence[T], do: Callable[[T], object]) -> None:
        """Call `do` with each item, in parallel, and return when all calls have. Raises what a call raised.

        `do` must release the GIL for most of its time.
        """
        left = deque(items)

        def work() -> None:
            while True:
                try:
                    item = left.popleft()
                except IndexError:
                    return
                try:
                    do(item)
                except BaseException:
                    left.clear()
                    raise

        asked = [self._pool.submit(work) for _ in range(min(self._helping, len(items) - 1))] if self._pool else []
        try:
            work()
        finally:
            for helping in asked:
                if not helping.cancel():
                    helping.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown()


ALONE = Helpers(1)
