"""Parts that the tests of pin features control: the time, an origin that counts and waits, a log's ends, a thread."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from features.pins import ATTRIBUTES, INTERESTS, KEPT
from scorpion.origin import COUNTERS, ROCKSTORE, Fetched
from scorpion.pin_features import KnownPins
from services.core.columns import U64
from services.state.change_feed import ChangeFeed, ViewPosition
from tests.kit import ONE_EPOCH

PARTITIONS = 4
TTL = 60_000


def caught_up(partitions: int = PARTITIONS) -> ViewPosition:
    """The position of a view that is ahead of all that a test appends."""
    return ViewPosition(ONE_EPOCH.epoch, dict.fromkeys(range(partitions), 1 << 40))


def followed(partitions: int = PARTITIONS) -> ChangeFeed:
    """A feed of a log of which nothing has been missed."""
    feed = ChangeFeed(partitions)
    feed.enter(ONE_EPOCH.epoch, lambda filled: False, lambda: None)
    feed.begin(dict.fromkeys(range(partitions), 0))
    return feed


class Time:
    def __init__(self) -> None:
        self.ms = 1_750_000_000_000

    def __call__(self) -> int:
        return self.ms


class HeldOrigin:
    """Answers the version of each pin, and remembers who was asked for what. `gate` holds an answer on its way."""

    def __init__(self) -> None:
        self.version: Counter[int] = Counter()
        self.whole: list[int] = []
        self.renewed: list[int] = []
        self.lost: frozenset[str] = frozenset()
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Semaphore(0)
        self.broken = False
        self.position = caught_up()  # that rockstore states

    def fetch(self, whole: U64, renewed: U64, columns: tuple[str, ...], now_ms: int, timeout: float) -> Fetched:
        if self.broken:
            raise ValueError("broken")
        self.whole += whole.tolist()
        self.renewed += renewed.tolist()
        pins, position = np.concatenate([whole, renewed]), self.position
        values = np.full((len(pins), len(KEPT) + len(columns)), np.nan, np.float32)
        of = [self.version[pin] for pin in pins.tolist()]
        self.asked.release()
        if not self.gate.wait(timeout):
            return Fetched(
                values, np.zeros((len(pins), INTERESTS), np.uint64), frozenset({ROCKSTORE, COUNTERS}), position
            )
        if ROCKSTORE not in self.lost:
            values[:, 0] = pins % np.uint64(1000)
            values[:, 1], values[:, 2] = of, 3
            values[:, len(KEPT) :] = 7
        if COUNTERS not in self.lost:
            values[:, len(ATTRIBUTES) : len(KEPT)] = (now_ms % 1_000_000_000) / 1000
        return Fetched(values, np.repeat(pins[:, None], INTERESTS, axis=1), self.lost, position)


class Asking(threading.Thread):
    """A question on a thread."""

    def __init__(self, question: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._question = question
        self.answer: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._question()
        except Exception as error:
            self.error = error

    def result(self) -> Any:
        self.join(20)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.answer


def versions(known: KnownPins) -> list[float]:
    """The version of each pin, as the origin answers it."""
    return [float(value) for value in known.features.values[:, 1]]


def waited(origin: HeldOrigin, n: int = 1) -> None:
    """Wait until the origin was asked so often."""
    for _ in range(n):
        assert origin.asked.acquire(timeout=60)
