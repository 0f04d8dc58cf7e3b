"""The arithmetic of aggregation, without a log: any events in any chunks add up to what a slow recount says."""

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import events_pb2
from roadrunner import aggregation
from roadrunner.aggregation import MAX_INTERESTS, Aggregation, MemoryValues
from roadrunner.voices import MOST_EVER, MOST_OF_A_DAY
from services.core.clock import DAY_MS
from services.core.events import ENGAGEMENTS, Action, Batch, Kind, events
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from tests.roadrunner.counting import HOUR_MS, Cell, cells_of, recounted
from tests.services.batches import batch_of, good_batches, rows_of

PARTITIONS = 3
NOW = 1_750_000_000_000
A = Action

few = st.integers(1, 5)
rows = {
    "action": st.sampled_from(
        (*ENGAGEMENTS, A.SAVE, A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST, A.LEAVE_INTEREST, A.TAKEDOWN, A.UNSAVE)
    ),
    "user": few,
    "pin": few,
    "board": st.integers(0, 3),
    "target": few,
    "at_ms": st.integers(NOW - 3 * HOUR_MS, NOW),
    "interests": st.lists(few, max_size=4),
}


def counted(batches: list[Batch], partitions: int = PARTITIONS) -> list[tuple[int, Batch]]:
    """The increments of batches published one after the other, each in a chunk of its own."""
    offsets, aggregating = MemoryLog(partitions), Aggregation(MemoryValues(), MemoryValues())
    found = []
    for batch in batches:
        found += aggregating.increments(offsets.append(batch, (Topic.OBJECTS,)), partitions)
    return found


@given(good_batches(40, **rows), st.lists(st.integers(1, 39), max_size=4), st.sampled_from([1, 3, 16_384]))
def test_any_events_in_any_chunks(batch: Batch, cuts: list[int], piece: int) -> None:
    edges = [0, *sorted({cut for cut in cuts if cut < len(batch)}), len(batch)]
    chunks = [batch.slice(start, stop) for start, stop in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "PIECE", piece)
        found = counted(chunks)
    assert cells_of(batch for _, batch in found) == recounted(chunks, PARTITIONS)
    for partition, increments in found:
        assert (partition_of(increments.target, PARTITIONS) == partition).all(), "by the object that is counted"
        assert (increments.at_ms % HOUR_MS == 0).all()
        assert increments.count.all()


def test_equal_pairs_of_a_chunk_are_summed_whatever_their_partition() -> None:
    batch = events(2_400, action=A.CLICK, user=7, pin=range(1, 2_401), board=9, at_ms=NOW, id=range(1, 2_401))
    hour = NOW - NOW % HOUR_MS
    found = [increments for _, increments in counted([batch])]
    assert sum(len(increments) for increments in found) == 2_400 + 2
    cells = cells_of(found)
    assert (cells[Kind.USER, 7, A.CLICK, hour], cells[Kind.BOARD, 9, A.CLICK, hour]) == (2_400, 2_400)


OLD = st.integers(NOW - 12 * DAY_MS, NOW)


@given(good_batches(60, **(rows | {"at_ms": OLD, "user": st.integers(1, 2), "pin": st.integers(1, 3)})), st.data())
def test_R08_one_person_is_one_voice_in_any_chunks(batch: Batch, data: st.DataObject) -> None:
    edges = sorted({0, len(batch), *data.draw(st.lists(st.integers(0, len(batch)), max_size=5))})
    chunks = [batch.slice(start, stop) for start, stop in pairwise(edges)]
    assert cells_of(increments for _, increments in counted(chunks)) == recounted([batch], PARTITIONS)


def of_pin(batches: list[Batch], action: Action) -> int:
    cells = cells_of(increments for _, increments in counted(batches))
    return sum(n for (kind, _, did, _), n in cells.items() if (kind, did) == (Kind.PIN, action))


def test_R08_three_thousand_saves_of_one_account_are_one() -> None:
    saves = events(3_000, action=A.SAVE, user=712, pin=7008, board=range(1, 3_001), at_ms=NOW, id=range(1, 3_001))
    assert of_pin([saves], A.SAVE) == 1
    assert of_pin([saves.slice(0, 5), saves.slice(5, 3_000)], A.SAVE) == 1
    people = events(500, action=A.SAVE, user=range(1, 501), pin=5, board=1, at_ms=NOW, id=range(1, 501))
    assert of_pin([people, people], A.SAVE) == 500


def test_R08_a_save_after_an_unsave_is_the_same_voice_years_later_too() -> None:
    days = [one(A.SAVE, board=3), one(A.UNSAVE, board=3), one(A.SAVE, board=3, at_ms=NOW + 900 * DAY_MS)]
    assert of_pin(days, A.SAVE) == 1
    assert of_pin([one(A.HIDE), one(A.HIDE, at_ms=NOW - 900 * DAY_MS)], A.HIDE) == 1


def test_R08_a_click_counts_once_a_day_and_dates_made_up_are_one_voice() -> None:
    assert of_pin([one(A.CLICK), one(A.CLICK), one(A.CLICK, at_ms=NOW + DAY_MS)], A.CLICK) == 2
    invented = events(3_000, action=A.CLICK, user=1, pin=5, at_ms=NOW - DAY_MS * np.arange(3_000), id=range(1, 3_001))
    assert of_pin([invented], A.CLICK) == 7 + 1, "the days that are kept, and one for all before"


def test_R08_what_one_account_can_raise_is_bounded() -> None:
    clicks = events(20_000, action=A.CLICK, user=1, pin=range(1, 20_001), at_ms=NOW, id=range(1, 20_001))
    assert of_pin([clicks], A.CLICK) == PARTITIONS * MOST_OF_A_DAY
    hides = events(60_000, action=A.HIDE, user=1, pin=range(1, 60_001), at_ms=NOW, id=range(1, 60_001))
    assert of_pin([hides], A.HIDE) == PARTITIONS * MOST_EVER


def one(action: Action, **columns: Any) -> Batch:
    return events(1, **({"action": action, "user": 1, "pin": 5, "at_ms": NOW, "id": 1} | columns))


def of_interests(found: list[tuple[int, Batch]]) -> Counter[int]:
    interests: Counter[int] = Counter()
    for (kind, interest, _, _), count in cells_of(batch for _, batch in found).items():
        interests[interest] += count if kind == Kind.INTEREST else 0
    return +interests


def test_an_engagement_counts_for_the_interests_of_that_moment() -> None:
    batches = [
        one(A.SAVE, board=3),
        one(A.CREATE_PIN, interests=[[10, 11]]),
        one(A.SAVE, user=2, board=3),
        one(A.LEAVE_INTEREST, target=10),
        one(A.UPDATE_PIN, interests=[[12]]),
        one(A.TAKEDOWN),
        one(A.HIDE),
    ]
    assert of_interests(counted(batches)) == {10: 1, 11: 2, 12: 1}
    assert of_interests(counted([Batch.concat(batches)])) == {10: 1, 11: 2, 12: 1}, "within a record too"


def test_a_pin_is_in_so_many_interests_at_most() -> None:
    joins = events(300, action=A.JOIN_INTEREST, pin=5, target=range(1, 301), at_ms=NOW, id=range(1, 301))
    found = of_interests(
        counted([joins, one(A.CLICK), one(A.LEAVE_INTEREST, target=1), joins.slice(299, 300), one(A.CLICK, user=2)])
    )
    assert MAX_INTERESTS == 256
    assert found == {1: 1, 300: 1} | dict.fromkeys(range(2, 257), 2)


@given(good_batches(30, action=rows["action"], at_ms=st.integers(NOW - 3 * HOUR_MS, NOW)))
def test_ids_of_any_size(batch: Batch) -> None:
    assert cells_of(increments for _, increments in counted([batch])) == recounted([batch], PARTITIONS)


@given(good_batches(30, **rows), st.integers(1, 9))
def test_records_hold_the_rows_of_the_batches(batch: Batch, most: int) -> None:
    stored = [(r.partition, r.batch.to_proto()) for r in MemoryLog(PARTITIONS).append(batch, (Topic.OBJECTS,))]
    sums = next(Aggregation(MemoryValues(), MemoryValues()).sums(stored, PARTITIONS), None)
    found: dict[int, list[Batch]] = defaultdict(list)
    for partition, n, data in sums.records(most) if sums else ():
        found[partition].append(Batch.of(events_pb2.Batch.FromString(data)))
        assert len(found[partition][-1]) == n <= most
    whole = dict(sums.batches()) if sums else {}
    assert found.keys() == whole.keys()
    for partition, parts in found.items():
        assert rows_of(Batch.concat(parts)) == rows_of(whole[partition])


def test_what_counts_nothing_adds_nothing() -> None:
    assert counted([]) == []
    assert counted([events(0)]) == []
    assert counted([one(A.CREATE_PIN, interests=[[1]]), one(A.TAKEDOWN)]) == []
    cells: Counter[Cell] = Counter()
    assert cells_of([batch_of([])]) == cells
