"""Recent actions: apply these events, ask this question. No process, no network."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realpin import layout, signals
from realpin.layout import KEPT_MINUTES, MINUTE_MS
from realpin.store import TOPICS, ActionChanges, RealpinStore
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.errors import NotReady
from services.core.events import ENGAGEMENTS, Action, Batch, events
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.shard import Shard

PARTITIONS = 4
A = Action
NOW = 1_700_000_000_000
KEPT = 5
Row = tuple[Action, int, int, int, int]  # action, user, pin, board, at_ms


def opened(folder: Path, impressions: bool = False) -> RealpinStore:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    return RealpinStore(shard, PARTITIONS, lambda: NOW, KEPT, impressions)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RealpinStore]:
    made = opened(tmp_path)
    yield made
    made.shard.close()


def happened(*rows: Row) -> Batch:
    action, user, pin, board, at_ms = zip(*rows, strict=True)
    return events(len(rows), action=action, user=user, pin=pin, board=board, at_ms=at_ms, id=range(1, len(rows) + 1))


def actions(store: RealpinStore, user: int, now_ms: int = 0) -> list[tuple[int, int, int, int]]:
    """(action, pin, board, at_ms) as kept."""
    found = store.recent(user, now_ms).actions
    columns = (found.actions, found.pins, found.boards, found.at_ms)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def counts(store: RealpinStore, user: int, now_ms: int = 0) -> list[list[int]]:
    """By window and action."""
    recent = store.recent(user, now_ms)
    found: list[list[int]] = signals.counted(recent.minutes, recent.now_ms).tolist()
    return found


def test_actions_in_order_of_their_dates_and_counts_in_windows(store: RealpinStore) -> None:
    batch = happened(
        (A.SAVE, 1, 10, 7, NOW - 2 * MINUTE_MS),
        (A.CLOSEUP, 1, 11, 0, NOW - 30 * MINUTE_MS),
        (A.HIDE, 1, 12, 0, NOW),
        (A.IMPRESSION, 1, 13, 0, NOW - 5 * 60 * MINUTE_MS),
        (A.IMPRESSION, 1, 13, 0, NOW - 5 * 60 * MINUTE_MS),
        (A.CLICK, 2, 14, 0, NOW),
        (A.FOLLOW_BOARD, 1, 0, 9, NOW),
    )
    store.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
    assert actions(store, 1) == [
        (A.CLOSEUP, 11, 0, NOW - 30 * MINUTE_MS),
        (A.SAVE, 10, 7, NOW - 2 * MINUTE_MS),
        (A.HIDE, 12, 0, NOW),
    ]
    assert counts(store, 1) == [[0, 0, 0, 1, 1], [0, 1, 0, 1, 1], [2, 1, 0, 1, 1]]
    assert counts(store, 2) == [[0, 0, 1, 0, 0]] * 3


def test_unknown_user_did_nothing(store: RealpinStore) -> None:
    store.apply(MemoryLog(PARTITIONS).append(happened((A.SAVE, 1, 2, 3, NOW)), TOPICS))
    assert actions(store, 999) == []
    assert counts(store, 999) == [[0] * 5] * 3


def test_only_the_newest_are_kept_and_a_late_one_takes_its_place(store: RealpinStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    store.apply(offsets.append(happened(*((A.SAVE, 1, pin, 1, NOW + 10 * pin) for pin in range(1, 9))), TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1, NOW + 1000)] == [4, 5, 6, 7, 8]
    late = happened((A.CLICK, 1, 100, 0, NOW + 65), (A.CLICK, 1, 101, 0, NOW + 70), (A.CLICK, 1, 102, 0, NOW))
    store.apply(offsets.append(late, TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1, NOW + 1000)] == [6, 100, 7, 101, 8]


def test_a_hide_is_not_pushed_out_by_what_comes_after(store: RealpinStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    store.apply(offsets.append(happened((A.HIDE, 1, 77, 0, NOW - DAY_MS)), TOPICS))
    for pin in range(1, 30):
        store.apply(offsets.append(happened((A.CLOSEUP, 1, pin, 0, NOW - 1000 + pin)), TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1)] == [77, 25, 26, 27, 28, 29]


def test_equal_dates_stay_in_the_order_of_the_log(store: RealpinStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    for pin in (30, 20, 10):
        store.apply(offsets.append(happened((A.CLICK, 1, pin, 0, NOW), (A.SAVE, 1, pin + 1, 1, NOW)), TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1)] == [31, 20, 21, 10, 11]


def test_nothing_later_than_now_is_looked_at(store: RealpinStore) -> None:
    batch = happened((A.SAVE, 1, 10, 7, NOW - 1), (A.SAVE, 1, 11, 7, NOW), (A.SAVE, 1, 12, 7, NOW + MINUTE_MS))
    store.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1)] == [10, 11], "without now_ms it is the clock's"
    assert [pin for _, pin, _, _ in actions(store, 1, NOW - 1)] == [10]
    assert [pin for _, pin, _, _ in actions(store, 1, NOW + MINUTE_MS)] == [10, 11, 12]
    assert counts(store, 1)[0][3] == 2
    assert counts(store, 1, NOW + MINUTE_MS)[0][3] == 3
    assert counts(store, 1, NOW - 2 * DAY_MS) == [[0] * 5] * 3


def test_minutes_past_keeping_are_dropped_at_a_write_and_never_counted(store: RealpinStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    store.apply(offsets.append(happened(*((A.IMPRESSION, 1, 5, 0, NOW - day * DAY_MS) for day in range(5))), TOPICS))
    assert counts(store, 1) == [[1, 0, 0, 0, 0]] * 3
    assert len(store.recent(1).minutes.minutes) == 2
    store.apply(offsets.append(happened((A.IMPRESSION, 1, 5, 0, NOW + DAY_MS)), TOPICS))
    assert counts(store, 1) == [[1, 0, 0, 0, 0]] * 3, "a date ahead of the clock takes nothing from the day before now"
    store.apply(offsets.append(happened((A.IMPRESSION, 1, 5, 0, NOW + 40 * DAY_MS)), TOPICS))
    assert len(store.recent(1).minutes.minutes) == 1


def test_a_user_who_never_stops_takes_bounded_space(store: RealpinStore) -> None:
    busy = [(A.IMPRESSION, 1, 5, 0, NOW + minute * MINUTE_MS) for minute in range(2 * KEPT_MINUTES)]
    store.apply(MemoryLog(PARTITIONS).append(happened(*busy), TOPICS))
    recent = store.recent(1, NOW + 2 * KEPT_MINUTES * MINUTE_MS)
    assert len(recent.minutes.minutes) == KEPT_MINUTES
    assert len(recent.actions.pins) == 0


def test_impressions_are_kept_as_actions_where_they_weigh_something(tmp_path: Path) -> None:
    store = opened(tmp_path, impressions=True)
    store.apply(MemoryLog(PARTITIONS).append(happened((A.IMPRESSION, 1, 5, 0, NOW), (A.SAVE, 1, 6, 1, NOW)), TOPICS))
    assert [pin for _, pin, _, _ in actions(store, 1)] == [5, 6]
    store.shard.close()


def test_records_that_were_applied_are_not_applied_again(tmp_path: Path) -> None:
    batch = happened(*((A.IMPRESSION, user, 5, 0, NOW) for user in range(1, 9)), (A.CLICK, 1, 5, 0, NOW))
    records = MemoryLog(PARTITIONS).append(batch, TOPICS)
    store = opened(tmp_path)
    store.apply(store.shard.fresh(records[:2]))
    store.shard.close()
    again = opened(tmp_path)
    again.apply(again.shard.fresh(records))
    again.apply(again.shard.fresh(records))
    assert again.shard.applied_events() == 9
    assert [counts(again, user)[0][0] for user in range(1, 9)] == [1] * 8
    assert actions(again, 1) == [(A.CLICK, 5, 0, NOW)]
    again.shard.close()


def test_a_record_that_is_missing_is_not_passed_over(store: RealpinStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    offsets.append(happened((A.CLICK, 1, 5, 0, NOW)), TOPICS)
    with pytest.raises(NotReady, match="offset 1 came, 0 is next"):
        store.shard.fresh(offsets.append(happened((A.CLICK, 1, 5, 0, NOW)), TOPICS))


def test_bytes_are_read_as_they_were_written() -> None:
    top = 2**64 - 1
    kept = layout.Actions(ids([top, 1]), ids([0, top]), np.array([1, NOW]), np.array([A.HIDE, A.SAVE], np.uint8))
    read = layout.unpack_actions(layout.pack_actions(kept))
    assert [column.tolist() for column in read] == [column.tolist() for column in kept]
    minutes = layout.Minutes(np.array([1, 28_333_333]), np.arange(10, dtype=np.uint32).reshape(2, 5))
    again = layout.unpack_minutes(layout.pack_minutes(minutes))
    assert [column.tolist() for column in again] == [column.tolist() for column in minutes]


row = st.tuples(
    st.sampled_from([*ENGAGEMENTS, A.FOLLOW_BOARD]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(0, 4000).map(lambda minute: NOW - minute * MINUTE_MS),
)


def contents(store: RealpinStore) -> list[list[tuple[bytes, bytes]]]:
    """Every key and value."""
    return [list(store.shard.family(name).items()) for name in layout.FAMILIES]


def reference(rows: list[Row], user: int) -> tuple[list[tuple[int, int, int, int]], list[list[int]]]:
    """The kept actions of a user, and their counts in the windows."""
    done = [r for r in rows if r[1] == user and r[0] in ENGAGEMENTS]
    ordered = sorted((r for r in done if r[0] != A.IMPRESSION), key=lambda r: r[4])
    hides = [i for i, r in enumerate(ordered) if r[0] == A.HIDE][-KEPT:]
    others = [i for i, r in enumerate(ordered) if r[0] != A.HIDE][-KEPT:]
    kept = [(int(action), pin, board, at) for action, _, pin, board, at in (ordered[i] for i in sorted(hides + others))]
    tallied = []
    for window in signals.WINDOWS_MS.tolist():
        within = Counter(r[0] for r in done if NOW // MINUTE_MS - r[4] // MINUTE_MS < window // MINUTE_MS)
        tallied.append([within[action] for action in ENGAGEMENTS])
    return kept, tallied


@settings(max_examples=30)
@given(st.lists(row, min_size=1, max_size=40), st.lists(st.tuples(st.integers(1, 39), st.booleans()), max_size=4))
def test_any_events_in_any_chunks_and_restarts(tmp_path_factory: pytest.TempPathFactory, rows: list[Row],
                                               cuts: list[tuple[int, bool]]) -> None:  # fmt: skip
    whole, folder = opened(tmp_path_factory.mktemp("whole")), tmp_path_factory.mktemp("cut")
    batch = happened(*rows)
    whole.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
    store, offsets, start = opened(folder), MemoryLog(PARTITIONS), 0
    before: list[Record] = []
    for stop, restarts in [*sorted({at: again for at, again in cuts if at < len(rows)}.items()), (len(rows), False)]:
        records = offsets.append(batch.slice(start, stop), TOPICS)
        store.apply(store.shard.fresh([*before, *records]))
        before, start = [*before, *records], stop
        if restarts:
            store.shard.close()
            store = opened(folder)
    assert contents(store) == contents(whole)
    for user in (1, 2, 3):
        kept, tallied = reference(rows, user)
        assert actions(store, user) == kept
        assert counts(store, user) == tallied
    store.shard.close()
    whole.shard.close()


def test_events_that_are_not_in_the_order_of_their_users_are_refused_and_not_lost(store: RealpinStore) -> None:
    batch, write = happened((A.SAVE, 1, 10, 0, NOW), (A.SAVE, 2, 11, 0, NOW)), store.shard.batch()
    keys = [layout.user_key(0, user) for user in (1, 2)]
    for owner in ([1, 0], [0, 2], [-1, 1]):
        changes = ActionChanges(keys, np.array(owner, np.int64), np.arange(2))
        for keep in (store._keep_actions, store._count):
            with pytest.raises(ValueError, match="owner: the events are not in the order of their 2 users"):
                keep(write, batch, changes)
    for keep in (store._keep_actions, store._count):
        with pytest.raises(ValueError, match="^owner: 1 rows, expected 2$"):
            keep(write, batch, ActionChanges(keys, np.zeros(1, np.int64), np.arange(2)))
