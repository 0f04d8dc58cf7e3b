"""Events that change boards and interests, and questions to a store of them: for the tests of its lists and of its cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from polaris import layout
from polaris.kernel import Light
from polaris.layout import BOARD, INTEREST, Sources
from polaris.store import Limits, PolarisStore, Wanted
from services.core.clock import DAY_MS
from services.core.columns import U64, ids
from services.core.events import Action, events
from services.core.topics import Topic
from services.kernels import bloom
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.shard import Shard

NOW = 1_700_000_000_000
NAN = float("nan")
PARTITIONS = 4
LIGHT = Light(2.0, 90.0 * DAY_MS, 0.5)
PINS = tuple(range(1, 9))
IDS = (1, 2, 3, 2**64 - 1)  # of boards and of interests: they collide
A = Action
Row = tuple[int, int, float]


@dataclass(frozen=True)
class Event:
    action: Action
    pin: int = 0
    source: int = 0
    at_ms: int = NOW
    quality: float = NAN

    def columns(self) -> dict[str, Any]:
        of_interest = self.action in (A.JOIN_INTEREST, A.LEAVE_INTEREST)
        where = {"target": self.source} if of_interest else {"board": self.source}
        return {"pin": self.pin, "at_ms": self.at_ms, "quality": self.quality, **where}


def as_records(log: MemoryLog, happened: list[Event]) -> list[Record]:
    columns: dict[str, list[Any]] = {"pin": [], "at_ms": [], "quality": [], "board": [], "target": []}
    for event in happened:
        values = event.columns()
        for name, column in columns.items():
            column.append(values.get(name, 0))
    batch = events(len(happened), user=1, id=1, action=[int(event.action) for event in happened], **columns)
    return log.append(batch, (Topic.SOURCES,))


ALL = [(kind, source) for kind in (BOARD, INTEREST) for source in IDS]


def sources(*asked: tuple[int, int]) -> Sources:
    return Sources(np.array([kind for kind, _ in asked], np.uint8), ids([source for _, source in asked]))


def listed(store: PolarisStore, *asked: tuple[int, int]) -> list[list[Row]]:
    lists = store.postings(sources(*asked))
    rows = list(zip(lists.pins.tolist(), lists.at_ms.tolist(), lists.quality.tolist(), strict=True))
    return [rows[start:stop] for start, stop in pairwise([0, *lists.ends.tolist()])]


def best(store: PolarisStore, *asked: tuple[int, int], seen: U64 | None = None, **how: Any) -> list[int]:
    words = bloom.build(ids([]) if seen is None else seen, 1e-6)
    wanted = {"k": 100, "per_source": 0, "now_ms": NOW, "max_age_ms": 0, **how}
    lists, chosen = store.retrieve(sources(*asked), Wanted(np.ones(len(asked), np.float32), words, **wanted))
    pins: list[int] = lists.pins[chosen.rows].tolist()
    return pins


def same(a: Any, b: Any) -> bool:
    """Equal, with NaN equal to NaN."""
    return repr(a) == repr(b)


@contextmanager
def opened(
    folder: Path, head_postings: int = 3, cap: int = 1_000, cache_bytes: int = 1 << 20
) -> Iterator[PolarisStore]:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    try:
        yield PolarisStore(shard, PARTITIONS, LIGHT, Limits(head_postings, cap, cache_bytes))
    finally:
        shard.close()


def feed(store: PolarisStore, log: MemoryLog, *happened: Event) -> None:
    store.apply(as_records(log, list(happened)))


POSTED = st.builds(
    Event,
    st.sampled_from([A.SAVE, A.SAVE, A.SAVE, A.UNSAVE, A.JOIN_INTEREST, A.JOIN_INTEREST, A.LEAVE_INTEREST]),
    st.sampled_from(PINS),
    st.sampled_from(IDS),
    st.integers(0, 300).map(lambda days: NOW - days * DAY_MS),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN]),
)
OF_BOARD = st.builds(
    Event,
    st.sampled_from([A.DELETE_BOARD, A.CREATE_BOARD]),
    st.sampled_from([0, 5]),  # a pin says nothing there
    st.sampled_from(IDS),
    st.integers(0, 300).map(lambda days: NOW - days * DAY_MS),
)
TAKEN = st.builds(Event, st.just(A.TAKEDOWN), st.sampled_from(PINS))
EVENTS = st.lists(st.one_of(POSTED, POSTED, POSTED, POSTED, OF_BOARD, TAKEN), max_size=80)
