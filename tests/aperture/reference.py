"""A store under test, and the obvious list that it must agree with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aperture import layout
from aperture.store import TOPICS, ApertureStore, By
from services.core.clock import DAY_MS
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.shard import Shard

PARTITIONS = 4
OWN = range(PARTITIONS)
TODAY = 19_700 * DAY_MS  # 2023-12-09
NOON = TODAY + DAY_MS // 2


class Event(NamedTuple):
    user: int
    action: int
    pin: int
    board: int
    at_ms: int
    surface: int


Now = Callable[[], int]


def batch_of(rows: list[Event]) -> Batch:
    user, action, pin, board, at_ms, surface = zip(*rows, strict=True)
    return events(
        len(rows),
        user=user,
        action=action,
        pin=pin,
        board=board,
        at_ms=at_ms,
        surface=surface,
        id=range(1, len(rows) + 1),
    )


@contextmanager
def opened(
    folder: Path, now: Now = lambda: NOON, recent_keys: int = 1000, keep_days: int = 0
) -> Iterator[ApertureStore]:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES, 8, 8)
    try:
        yield ApertureStore(shard, OWN, PARTITIONS, now, recent_keys, keep_days)
    finally:
        shard.close()


def records(*batches: list[Event]) -> list[Record]:
    offsets = MemoryLog(PARTITIONS)
    return [record for rows in batches for record in offsets.append(batch_of(rows), TOPICS)]


def freeze_all(found: ApertureStore) -> None:
    while found.freezer.step():
        pass


def tuples(rows: layout.EventRows, user: int) -> list[Event]:
    columns = [getattr(rows, name).tolist() for name in ("actions", "pins", "boards", "at_ms", "surfaces")]
    return [Event(user, *row) for row in zip(*columns, strict=True)]


def kinds(found: ApertureStore) -> tuple[int, int]:
    """How many frozen and recent keys there are, recounted."""
    frozen = [layout.is_frozen(key) for key, _ in found.shard.family("days").items()]
    return sum(frozen), len(frozen) - sum(frozen)


def saves(user: int, dates: list[int], pin: int = 1) -> list[Event]:
    return [Event(user, Action.SAVE, pin + i, 7, at_ms, 4) for i, at_ms in enumerate(dates)]


def chunk_of(i: int) -> list[Record]:
    """Record i of each partition: for users 1..8 five saves on three days."""
    dates = [NOON - DAY_MS * (j % 3) for j in range(5)]
    rows = [row for user in range(1, 9) for row in saves(user, dates, pin=1 + 5 * i)]
    first = {(int(topic), partition): i for topic in TOPICS for partition in range(PARTITIONS)}
    return MemoryLog(PARTITIONS, first=first).append(batch_of(rows), TOPICS)


def slow_history(log: list[Event], user: int, since: int, until: int, actions: set[int], limit: int) -> list[Event]:
    kept = [
        (-e.at_ms, -i, e)
        for i, e in enumerate(log)
        if e.user == user and e.action in actions and since <= e.at_ms < until
    ]
    return [e for _, _, e in sorted(kept)][:limit]


def slow_counts(
    log: list[Event], user: int, actions: list[int], windows: list[int], by: int, now: int
) -> dict[int, list[list[int]]]:
    key: Callable[[Event], int] = {
        By.NOTHING: lambda e: 0,
        By.PIN: lambda e: e.pin,
        By.BOARD: lambda e: e.board,
        By.SURFACE: lambda e: e.surface,
        By.DAY: lambda e: e.at_ms // DAY_MS,
    }[By(by)]
    found: dict[int, list[list[int]]] = {}
    for e in log:
        if e.user == user and e.action in actions and now - max(windows) < e.at_ms <= now:
            counts = found.setdefault(key(e), [[0] * len(actions) for _ in windows])
            for w, window in enumerate(windows):
                counts[w][actions.index(e.action)] += e.at_ms > now - window
    if by == By.NOTHING:
        found.setdefault(0, [[0] * len(actions) for _ in windows])
    return dict(sorted(found.items()))
