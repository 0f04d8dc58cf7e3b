"""Lists in memory: the cache beside a dict, and a store beside its own disk, whatever is dropped, and by whom meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polaris import postings
from polaris.blocks import BLOCK, BLOCK_BYTES, FREE, FRESH, PLACE_BYTES, ROOM
from polaris.cache import HeldLists, ListCache
from polaris.kernel import select
from polaris.layout import BOARD, INTEREST
from polaris.postings import Postings
from polaris.store import BUCKETS, PolarisStore, Wanted
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action
from services.core.topics import partition_of
from services.kernels import bloom
from services.kernels.sieve import fitting
from services.log.memory import MemoryLog
from services.state.change_feed import ChangeFeed
from tests.polaris.boards import (
    ALL,
    EVENTS,
    LIGHT,
    NAN,
    NOW,
    PARTITIONS,
    PINS,
    Event,
    Row,
    best,
    feed,
    listed,
    opened,
    same,
    sources,
)

Key = tuple[int, int]
KEYS = [(kind, source) for kind in (BOARD, INTEREST) for source in (0, 1, 2**56, 2**64 - 1)]


def of(*rows: list[Row]) -> Postings:
    every = [row for one in rows for row in one]
    pins, at_ms, quality = zip(*every, strict=True) if every else ((), (), ())
    ends = np.cumsum([len(one) for one in rows], dtype=np.int64)
    return Postings(np.array(pins, np.uint64), np.array(at_ms, np.int64), np.array(quality, np.float32), ends)


def rows_of(lists: Postings) -> list[list[Row]]:
    rows = list(zip(lists.pins.tolist(), lists.at_ms.tolist(), lists.quality.tolist(), strict=True))
    ends = [0, *lists.ends.tolist()]
    return [rows[ends[i] : ends[i + 1]] for i in range(len(ends) - 1)]


def made(n_blocks: int) -> ListCache:
    """A cache with room for exactly so many blocks."""
    size = next(
        size
        for size in range(BLOCK_BYTES + 4 * PLACE_BYTES + 1, 100_000)
        if fitting(size, PLACE_BYTES, BLOCK_BYTES, "block")[0] >= n_blocks
    )
    return ListCache(size)


def all_blocks_are_accounted_for(cache: ListCache) -> None:
    held: Any = cache._blocks
    free, block = 0, int(held.state[FREE])
    while block >= 0:
        free, block = free + 1, int(held.following[block])
    used = 0
    for word in held.table[:, 1].tolist():
        block = (word >> 8 & 0xFFFF_FFFF) - 1
        assert (word == 0) == (block < 0)
        while block >= 0:
            used, block = used + 1, int(held.following[block])
    assert free + cache.capacity - int(held.state[FRESH]) == int(held.state[ROOM])
    assert used + int(held.state[ROOM]) == cache.capacity


def are_those(found: HeldLists, asked: list[Key], known: dict[Key, list[Row]]) -> None:
    missing = found.missing.tolist()
    assert same(rows_of(found.lists), [[] if i in missing else known.get(key, []) for i, key in enumerate(asked)])


ROWS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 99), st.sampled_from([0.5, NAN])), max_size=30)
SOME = st.lists(st.sampled_from(KEYS), max_size=14)
STEP = st.one_of(
    st.tuples(st.just("get"), SOME, st.none()),
    st.tuples(st.just("put"), SOME, st.integers(0, 3)),
    st.tuples(st.just("drop"), st.dictionaries(st.sampled_from(KEYS), ROWS, max_size=3), st.none()),
)
PLENTY = 200
SURE = np.ones(1, bool)
FEED = ChangeFeed(PARTITIONS, BUCKETS).nbytes


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([1, 2, 5, 12, PLENTY]), st.dictionaries(st.sampled_from(KEYS), ROWS), st.lists(STEP, max_size=40)
)
def test_what_is_held_is_what_the_lists_are(capacity: int, first: dict[Key, list[Row]], steps: list[Any]) -> None:
    """Whatever is evicted, and though readers come to keep what they read before the last changes."""
    cache, history = made(capacity), [first]  # what the lists are after so many drops
    assert cache.capacity == capacity
    for what, asked, late in steps:
        if what == "get":
            found = cache.get(sources(*asked), 1_000)
            are_those(found, asked, history[-1])
        elif what == "put":
            before = history[max(0, len(history) - 1 - late)]
            sure = np.array([before.get(key, []) == history[-1].get(key, []) for key in asked], bool)
            cache.put(sources(*asked), of(*(before.get(key, []) for key in asked)), sure)
            are_those(cache.get(sources(*asked), 1_000), asked, history[-1])
            if capacity == PLENTY and not late:
                assert not len(cache.get(sources(*asked), 1_000).missing)
        else:
            history.append(history[-1] | asked)
            cache.drop(sources(*asked))
            assert len(cache.get(sources(*asked), 1_000).missing) == len(asked)
        all_blocks_are_accounted_for(cache)


def test_what_is_asked_for_again_stays_and_what_was_asked_for_once_is_evicted() -> None:
    cache, one = made(8), of([(1, 2, 0.5)])
    for source in range(8):
        cache.put(sources((BOARD, source)), one, SURE)
    assert len(cache) == 8
    for source in range(100, 150):
        assert not len(cache.get(sources((BOARD, 3), (BOARD, 5)), 9).missing)
        cache.put(sources((BOARD, source)), one, SURE)
    assert len(cache) == 8
    assert not len(cache.get(sources((BOARD, 3), (BOARD, 5)), 9).missing)
    assert cache.get(sources((BOARD, 0), (BOARD, 7)), 9).missing.tolist() == [0, 1]
    assert (cache.asked, cache.missed) == (104, 2)


def test_a_list_longer_than_the_cache_is_not_kept() -> None:
    cache = made(3)
    cache.put(
        sources((BOARD, 1), (BOARD, 2)),
        of([(i, i, 0.5) for i in range(3 * BLOCK + 1)], [(1, 1, 0.5)]),
        np.ones(2, bool),
    )
    assert cache.get(sources((BOARD, 1), (BOARD, 2)), 9).missing.tolist() == [0]


def test_of_too_many_postings_only_the_number_is_answered() -> None:
    cache = made(9)
    cache.put(sources((BOARD, 1)), of([(i, i, 0.5) for i in range(20)]), SURE)
    found = cache.get(sources((BOARD, 1), (BOARD, 1)), 39)
    assert found.lists.ends.tolist() == [20, 40]
    assert len(found.lists.pins) == 0
    assert len(cache.get(sources((BOARD, 1), (BOARD, 1)), 40).lists.pins) == 40


def test_its_size_is_bounded_and_a_gauge() -> None:
    for size in (BLOCK_BYTES + 4 * PLACE_BYTES, 1 << 20, 5_000_001):
        cache = ListCache(size)
        assert cache._blocks.table.nbytes == PLACE_BYTES * len(cache._blocks.table)
        assert cache.bytes() <= size
        columns = [getattr(cache._blocks, name) for name in cache._blocks._fields if name != "state"]
        assert sum(column.nbytes for column in columns) <= size
        cache.put(
            sources(*((BOARD, i) for i in range(cache.capacity))),
            of(*([] for _ in range(cache.capacity))),
            np.ones(cache.capacity, bool),
        )
        assert cache.bytes() == sum(column.nbytes for column in columns)
    with pytest.raises(InvalidArgument, match="is too small for a block"):
        ListCache(PLACE_BYTES)


@given(st.lists(ROWS, max_size=6), st.data())
def test_woven_lists_are_the_lists_in_order(drawn: list[list[Row]], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn)))
    here = of(*([] if away else rows for rows, away in zip(drawn, other, strict=True)))
    there = of(*(rows for rows, away in zip(drawn, other, strict=True) if away))
    assert same(rows_of(postings.woven(here, there, np.flatnonzero(other))), drawn)


# --- a store and its own disk ---------------------------------------------------------------------------------------


def answers_are_those_of_the_disk(store: PolarisStore, asked: list[Key], how: dict[str, Any]) -> None:
    """To the bit, though lists may be in memory."""
    weights = 1 + np.arange(len(asked), dtype=np.float32) % 3
    wanted = Wanted(weights, bloom.build(ids([3])), k=9, now_ms=NOW, explain=True, **how)
    partitions = partition_of(sources(*asked).ids, PARTITIONS)
    disk = store._read(sources(*asked), partitions, 1_000_000, 0)
    lists, chosen = store.retrieve(sources(*asked), wanted)
    for column in ("pins", "at_ms", "quality", "ends"):
        assert getattr(lists, column).tobytes() == getattr(disk, column).tobytes()
    expected = select(
        disk.pins, disk.at_ms, disk.quality, disk.ends, weights, seen=wanted.seen, taken_down=store.taken_down(),
        light=LIGHT, k=9, now_ms=NOW, explain=True, **how,
    )  # fmt: skip
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(chosen, expected, strict=True))


@pytest.mark.parametrize("cache_bytes", [FEED + 4 * PLACE_BYTES + 2 * BLOCK_BYTES, 1 << 20])
@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(EVENTS, st.lists(st.sampled_from(ALL), max_size=8)), max_size=5),
    st.integers(1, 5),
    st.sampled_from([3, 1_000]),
    st.fixed_dictionaries({"per_source": st.integers(0, 2), "max_age_ms": st.sampled_from([0, 10**10])}),
)
def test_answers_from_memory_are_those_of_the_disk(
    cache_bytes: int, turns: list[tuple[list[Event], list[Key]]], head_postings: int, cap: int, how: dict[str, Any]
) -> None:
    log = MemoryLog(PARTITIONS)
    with TemporaryDirectory() as folder, opened(Path(folder), head_postings, cap, cache_bytes) as store:
        for happened, asked in turns:
            feed(store, log, *happened)
            answers_are_those_of_the_disk(store, asked, how)
        answers_are_those_of_the_disk(store, ALL, how)
        answers_are_those_of_the_disk(store, ALL, how)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PolarisStore]:
    with opened(tmp_path) as opened_store:
        yield opened_store


def test_a_list_is_read_once_until_it_changes(store: PolarisStore) -> None:
    log, asked = MemoryLog(PARTITIONS), [(BOARD, 1), (BOARD, 2), (INTEREST, 1)]
    feed(store, log, Event(Action.SAVE, 1, 1), Event(Action.JOIN_INTEREST, 2, 1))
    for _ in range(3):
        assert best(store, *asked) == [1, 2]
    assert (store.cache.asked, store.cache.missed, len(store.cache)) == (9, 3, 3)
    feed(store, log, Event(Action.SAVE, 3, 1))
    assert best(store, *asked) == [1, 2, 3]
    assert (store.cache.asked, store.cache.missed, len(store.cache)) == (12, 4, 3)


def test_what_was_read_before_a_write_is_not_kept_after_it(
    store: PolarisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, read = MemoryLog(PARTITIONS), store._get
    feed(store, log, Event(Action.SAVE, 1, 1))

    def and_then_it_changes(keys: list[bytes]) -> list[bytes | None]:
        found = read(keys)
        monkeypatch.undo()
        feed(store, log, Event(Action.SAVE, 2, 1))
        return found

    monkeypatch.setattr(store, "_get", and_then_it_changes)
    assert best(store, (BOARD, 1), (BOARD, 2)) == [1]
    assert best(store, (BOARD, 1), (BOARD, 2)) == [1, 2]
    assert (store.cache.asked, store.cache.missed) == (4, 3), "the other list was kept"


def test_a_reader_held_back_for_many_writes_leaves_no_stale_list(
    store: PolarisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads, is held back while the writer goes on as for half a minute, and then comes to cache what it read."""
    log, read, go_on = MemoryLog(PARTITIONS), store._get, threading.Event()
    has_read = threading.Event()
    feed(store, log, *(Event(Action.SAVE, 1, board) for board in PINS))

    def and_is_held(keys: list[bytes]) -> list[bytes | None]:
        found = read(keys)
        if threading.current_thread() is reader:
            has_read.set()
            assert go_on.wait(60)
        return found

    monkeypatch.setattr(store, "_get", and_is_held)
    boards = [(BOARD, board) for board in PINS]
    reader = threading.Thread(target=lambda: listed(store, *boards))
    reader.start()
    assert has_read.wait(60)
    for pin in range(100, 130):
        feed(store, log, Event(Action.SAVE, pin, PINS[0]))
    go_on.set()
    reader.join()
    held = store.cache.get(sources(*boards), 1_000)
    assert held.missing.tolist() == [0], "all but the list that changed"
    assert best(store, (BOARD, PINS[0])) == [1, *range(100, 130)]


def test_a_read_that_waits_for_an_offset_sees_its_events(store: PolarisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists are dropped before readers that wait go on, not just before `apply` returns."""
    log, answers = MemoryLog(PARTITIONS), list[list[int]]()
    feed(store, log, Event(Action.SAVE, 1, 1))
    assert best(store, (BOARD, 1)) == [1]
    wake = store.shard._moved.notify_all

    def and_ask() -> None:
        answers.append(best(store, (BOARD, 1)))
        wake()

    monkeypatch.setattr(store.shard._moved, "notify_all", and_ask)
    feed(store, log, Event(Action.SAVE, 2, 1))
    feed(store, log, Event(Action.TAKEDOWN, 1))
    assert answers == [[1, 2], [2]]


@pytest.mark.parametrize("cache_bytes", [FEED + 4 * PLACE_BYTES + 2 * BLOCK_BYTES, 1 << 20])
def test_readers_beside_the_writer_see_what_was_applied(tmp_path: Path, cache_bytes: int) -> None:
    """Pins join one board for good, and one pin moves between others; three threads ask meanwhile."""
    turns, done, wrong = 300, threading.Event(), list[str]()
    applied = [0]

    def ask() -> None:
        while not done.is_set():
            least = applied[0]
            found = set(best(beside, (BOARD, 1), k=1_000))
            most = applied[0] + 1
            if not set(range(100, 100 + least)) <= found <= set(range(100, 100 + most)):
                wrong.append(f"after {least} turns: {sorted(found)}")
            least = applied[0]
            board = [rows[-1][1] - NOW if rows else 0 for rows in listed(beside, *((BOARD, b) for b in PINS))]
            if max(board) < least - 1:
                wrong.append(f"after {least} turns the last save of {board} is old")

    with opened(tmp_path, cache_bytes=cache_bytes) as beside:
        log = MemoryLog(PARTITIONS)
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(turns):
            moved = PINS[1 + turn % (len(PINS) - 1)]
            feed(beside, log, Event(Action.SAVE, 100 + turn, 1), Event(Action.SAVE, 7, moved, NOW + turn))
            applied[0] = turn + 1
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
