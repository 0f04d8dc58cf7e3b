"""Apply these events, ask this question: the store against a dict of dicts, without a process."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polaris import layout
from polaris import store as store_module
from polaris.kernel import KEPT
from polaris.layout import BOARD, INTEREST
from polaris.store import PolarisStore, Wanted
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.errors import Exhausted
from services.kernels import bloom
from services.log.memory import MemoryLog
from tests.polaris.boards import (
    ALL,
    EVENTS,
    NAN,
    NOW,
    PARTITIONS,
    PINS,
    A,
    Event,
    Row,
    as_records,
    best,
    feed,
    listed,
    opened,
    same,
    sources,
)


@dataclass
class Reference:
    """What the lists are, without heads, frozen parts or caps."""

    lists: dict[tuple[int, int], dict[int, tuple[int, float, bool]]] = field(default_factory=dict)
    boards: dict[int, tuple[int, int, bool]] = field(default_factory=dict)  # created, deleted, whether it is gone
    taken_down: set[int] = field(default_factory=set)

    def apply(self, event: Event) -> None:
        if event.action == A.TAKEDOWN:
            self.taken_down.add(event.pin)
            return
        kind = INTEREST if event.action in (A.JOIN_INTEREST, A.LEAVE_INTEREST) else BOARD
        rows = self.lists.setdefault((kind, event.source), {})
        created, deleted, gone = self.boards.get(event.source, (0, 0, False)) if kind == BOARD else (0, 0, False)
        if event.action == A.CREATE_BOARD:
            self.boards[event.source] = max(created, event.at_ms), deleted, gone and event.at_ms < deleted
        elif event.action == A.DELETE_BOARD:
            self.boards[event.source] = created, max(deleted, event.at_ms), gone or event.at_ms >= created
            self.lists[kind, event.source] = {pin: row for pin, row in rows.items() if row[0] > event.at_ms}
        else:
            self.change(rows, event, deleted, kind == BOARD)

    def change(self, rows: dict[int, tuple[int, float, bool]], event: Event, deleted: int, dated: bool) -> None:
        puts, of = event.action in (A.SAVE, A.JOIN_INTEREST), rows.get(event.pin, (0, NAN, False))
        if dated and event.at_ms < max(deleted, of[0]):
            if puts and of[2] and math.isnan(of[1]):
                rows[event.pin] = (of[0], event.quality, True)
            return
        rows.pop(event.pin, None)
        kept = of[1] if math.isnan(event.quality) else event.quality
        rows[event.pin] = (event.at_ms, kept if puts else NAN, puts)

    def rows(self, kind: int, source: int) -> list[Row]:
        if kind == BOARD and self.boards.get(source, (0, 0, False))[2]:
            return []
        found = self.lists.get((kind, source), {})
        return [(pin, *row[:2]) for pin, row in found.items() if row[2] and pin not in self.taken_down]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PolarisStore]:
    with opened(tmp_path) as made:
        yield made


def frozen_pins(store: PolarisStore, kind: int, source: int) -> list[int]:
    keys = [layout.list_keys(np.array([p]), *sources((kind, source)), layout.FROZEN)[0] for p in range(PARTITIONS)]
    pins: list[int] = layout.unpack_rows(keys, store.shard.family("lists").get(keys)).pins.tolist()
    return pins


# --- against the reference ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENTS, max_size=4), st.integers(1, 5), st.data())
def test_the_store_is_the_reference_whatever_the_chunks_and_restarts(
    batches: list[list[Event]], head_postings: int, data: st.DataObject
) -> None:
    log, reference = MemoryLog(PARTITIONS), Reference()
    for event in (event for batch in batches for event in batch):
        reference.apply(event)
    records = [record for batch in batches if batch for record in as_records(log, batch)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
    expected = [reference.rows(*source) for source in ALL]
    with TemporaryDirectory() as folder:
        for start, stop in pairwise([0, *cuts, len(records)]):
            with opened(Path(folder), head_postings) as store:
                back = data.draw(st.integers(0, start))  # what was applied already comes again after a restart
                store.apply(store.shard.fresh(records[back:stop]))
        with opened(Path(folder), head_postings) as store:
            assert same(listed(store, *ALL), expected)
            assert store.taken_down().tolist() == sorted(reference.taken_down)
            assert store.shard.applied_events() == sum(len(record.batch) for record in records)
            assert set(best(store, *ALL)) == {pin for rows in expected for pin, _, _ in rows}


def test_a_record_that_comes_twice_is_applied_once(tmp_path: Path) -> None:
    log = MemoryLog(PARTITIONS)
    saved = as_records(log, [Event(A.SAVE, 7, 1)])
    removed = as_records(log, [Event(A.UNSAVE, 7, 1)])
    with opened(tmp_path) as store:
        store.apply(store.shard.fresh(saved + removed))
    with opened(tmp_path) as store:
        store.apply(store.shard.fresh(saved))
        assert listed(store, (BOARD, 1)) == [[]]
        assert store.shard.applied_events() == 2


# --- heads and frozen parts -----------------------------------------------------------------------------------------


def test_a_save_leaves_the_frozen_part_alone_and_shows_one_posting(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    feed(store, log, *(Event(A.SAVE, pin, 1, NOW, 0.5) for pin in PINS))
    assert frozen_pins(store, BOARD, 1) == list(PINS)
    feed(store, log, Event(A.SAVE, 3, 1, NOW + 1))
    assert frozen_pins(store, BOARD, 1) == list(PINS)
    (rows,) = listed(store, (BOARD, 1))
    assert rows[-1] == (3, NOW + 1, 0.5)  # where it is now, with the quality it had
    assert sorted(pin for pin, _, _ in rows) == list(PINS)
    assert sorted(best(store, (BOARD, 1))) == list(PINS)


def test_a_removal_reaches_the_frozen_part(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    feed(store, log, *(Event(A.JOIN_INTEREST, pin, 1, NOW, 0.5) for pin in PINS))
    feed(store, log, Event(A.LEAVE_INTEREST, 3, 1))
    assert 3 in frozen_pins(store, INTEREST, 1)
    assert 3 not in best(store, (INTEREST, 1))
    feed(store, log, Event(A.JOIN_INTEREST, 3, 1))
    assert same(listed(store, (INTEREST, 1))[0][-1], (3, NOW, NAN))  # what it was before the removal is forgotten
    feed(store, log, *(Event(A.LEAVE_INTEREST, pin, 1) for pin in PINS))
    assert frozen_pins(store, INTEREST, 1) == []
    assert list(store.shard.family("lists").items()) == []  # of an empty list nothing is kept


def test_a_freeze_keeps_the_best(tmp_path: Path) -> None:
    with opened(tmp_path, head_postings=2, cap=3) as store:
        log = MemoryLog(PARTITIONS)
        feed(store, log, *(Event(A.SAVE, pin, 1, NOW, pin / 10) for pin in PINS))
        assert best(store, (BOARD, 1)) == [8, 7, 6]
        feed(store, log, Event(A.SAVE, 1, 1, NOW, 0.1))
        assert best(store, (BOARD, 1)) == [8, 7, 6, 1]


def test_a_chunk_that_freezes_many_lists_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, found = MemoryLog(PARTITIONS), []
    saves = [Event(A.SAVE, pin, board) for board, most in ((1, 5), (2, 7), (3, 6)) for pin in range(1, most + 1)]
    records = [record for event in saves for record in as_records(log, [event])]
    for most in (1_024, 1):
        monkeypatch.setattr(store_module, "MAX_FREEZES", most)
        with opened(tmp_path / str(most), head_postings=4) as store:
            store.apply(records)
            found.append(list(store.shard.family("lists").items()))
            assert [len(frozen_pins(store, BOARD, board)) for board in (1, 2, 3)] == [5, 5, 5]
            assert [len(rows) for rows in listed(store, (BOARD, 1), (BOARD, 2), (BOARD, 3))] == [5, 7, 6]
    assert found[0] == found[1]


def test_R28_a_deleted_board_is_gone_and_may_come_back_in_one_batch(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    feed(store, log, *(Event(A.SAVE, pin, 1, NOW, 0.5) for pin in PINS), Event(A.JOIN_INTEREST, 1, 1))
    feed(store, log, Event(A.DELETE_BOARD, source=1))
    assert listed(store, (BOARD, 1))[0] == []
    assert frozen_pins(store, BOARD, 1) == [0]
    assert best(store, (INTEREST, 1)) == [1]
    feed(store, log, *(Event(A.SAVE, pin, 1, NOW, 0.5) for pin in PINS))
    assert listed(store, (BOARD, 1))[0] == [], "it was not created again"
    again = [Event(A.DELETE_BOARD, source=1), Event(A.CREATE_BOARD, source=1)]
    feed(store, log, *again, *(Event(A.SAVE, pin, 1) for pin in (20, 21, 22, 23)))
    assert [pin for pin, _, _ in listed(store, (BOARD, 1))[0]] == [20, 21, 22, 23]
    assert frozen_pins(store, BOARD, 1) == [0, 0, 20, 21, 22, 23]


def test_R07_of_a_save_and_an_unsave_the_later_stands_whichever_comes_first(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    feed(store, log, Event(A.UNSAVE, 1, 1, NOW), Event(A.SAVE, 2, 1, NOW))
    feed(store, log, Event(A.SAVE, 1, 1, NOW - 1), Event(A.UNSAVE, 2, 1, NOW - 1))
    assert same(listed(store, (BOARD, 1)), [[(2, NOW, NAN)]])
    feed(store, log, *(Event(A.SAVE, pin, 1, NOW - 2) for pin in (1, 3, 4, 5)))
    assert 1 in frozen_pins(store, BOARD, 1), "remembered as removed"
    feed(store, log, Event(A.SAVE, 1, 1, NOW - 1))
    assert [pin for pin, _, _ in listed(store, (BOARD, 1))[0]] == [2, 3, 4, 5]
    feed(store, log, Event(A.SAVE, 1, 1, NOW))
    assert [pin for pin, _, _ in listed(store, (BOARD, 1))[0]] == [2, 3, 4, 5, 1]


def test_R07_interests_go_by_arrival(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    feed(store, log, Event(A.LEAVE_INTEREST, 1, 1, NOW), Event(A.JOIN_INTEREST, 1, 1, NOW - 1))
    assert same(listed(store, (INTEREST, 1)), [[(1, NOW - 1, NAN)]])


# --- takedowns ------------------------------------------------------------------------------------------------------


def test_a_takedown_is_at_once_everywhere_final_and_survives(tmp_path: Path) -> None:
    log = MemoryLog(PARTITIONS)
    asked = [(BOARD, 1), (BOARD, 2), (INTEREST, 3)]
    with opened(tmp_path) as store:
        feed(store, log, *(Event(A.SAVE, pin, 1) for pin in PINS))
        feed(store, log, Event(A.SAVE, 5, 2), Event(A.JOIN_INTEREST, 5, 3), Event(A.TAKEDOWN, 5))
        assert 5 not in best(store, *asked)
        assert 5 in frozen_pins(store, BOARD, 1)
        feed(store, log, Event(A.SAVE, 5, 2))
        assert 5 not in best(store, *asked)
    with opened(tmp_path) as store:
        assert 5 not in best(store, *asked)
        feed(store, log, *(Event(A.SAVE, pin, 1) for pin in PINS))
        assert 5 not in frozen_pins(store, BOARD, 1)  # the next freeze drops it
        assert best(store, (BOARD, 1)) == [pin for pin in PINS if pin != 5]


# --- questions ------------------------------------------------------------------------------------------------------


def test_what_is_retrieved_is_unseen_young_and_good(store: PolarisStore) -> None:
    log = MemoryLog(PARTITIONS)
    good_and_old = Event(A.SAVE, 1, 1, NOW - 60 * DAY_MS, 0.9)
    poor_and_new = Event(A.SAVE, 2, 1, NOW - DAY_MS, 0.2)
    feed(store, log, good_and_old, poor_and_new, Event(A.SAVE, 3, 1, NOW, 1.0), Event(A.SAVE, 4, 2, NOW, 0.0))
    asked = [(BOARD, 1), (BOARD, 2)]
    assert best(store, *asked) == [3, 1, 2, 4]
    assert best(store, *asked, seen=ids([3])) == [1, 2, 4]
    assert best(store, *asked, max_age_ms=7 * DAY_MS) == [3, 2, 4]
    assert best(store, *asked, per_source=1) == [3, 4]
    assert best(store, *asked, k=2) == [3, 1]
    lists, chosen = store.retrieve(
        sources(*asked), Wanted(np.array([1, 9], np.float32), bloom.build(ids([3])), 1, 0, NOW, 0, explain=True)
    )
    assert lists.pins[chosen.rows].tolist() == [4]
    assert (chosen.considered, chosen.seen) == (4, 1)
    assert int((chosen.reasons != KEPT).sum()) == 3


def test_nothing_is_known_of_nothing(store: PolarisStore) -> None:
    store.warm()
    assert listed(store) == []
    assert best(store) == []
    assert listed(store, (BOARD, 1), (INTEREST, 1)) == [[], []]
    store.apply([])


def test_more_sources_than_one_read_takes(store: PolarisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_READ_AT_ONCE", 3)
    log = MemoryLog(PARTITIONS)
    feed(store, log, *(Event(A.SAVE, pin, pin % 4 + 1) for pin in range(1, 40)))
    asked = [(BOARD, board) for board in (4, 3, 9, 2, 1, 4, 8)]
    assert [len(rows) for rows in listed(store, *asked)] == [10, 10, 0, 10, 9, 10, 0]
    monkeypatch.setattr(store_module, "MAX_POSTINGS", 20)
    for _ in range(2):  # first they are read, then all of them are in memory
        with pytest.raises(Exhausted, match="these 7 hold more than 20 postings together"):
            best(store, *asked)
        for board in asked:
            listed(store, board)


def test_questions_during_freezes_never_lose_a_posting(store: PolarisStore) -> None:
    log, stop, lost = MemoryLog(PARTITIONS), threading.Event(), []
    feed(store, log, *(Event(A.SAVE, pin, 1) for pin in PINS))

    def ask() -> None:
        while not stop.is_set():
            found = best(store, (BOARD, 1))
            if sorted(found) != list(PINS):
                lost.append(found)

    asking = threading.Thread(target=ask)
    asking.start()
    for turn in range(400):
        feed(store, log, Event(A.SAVE, PINS[turn % len(PINS)], 1, NOW + turn))
    stop.set()
    asking.join()
    assert lost == []


def test_an_event_in_a_partition_of_others_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        (record,) = as_records(MemoryLog(PARTITIONS), [Event(A.SAVE, PINS[0], 1, NOW)])
        elsewhere = replace(record, partition=(record.partition + 1) % PARTITIONS)
        with pytest.raises(ValueError, match=f"^partition: key 1 is in {elsewhere.partition}, not where"):
            store.apply([elsewhere])
        with pytest.raises(ValueError, match="^partition: source 1 has events in several$"):
            store.apply([record, elsewhere])
        assert store.shard.applied_events() == 0
        store.apply([record])
        assert best(store, (BOARD, 1)) == [PINS[0]]
