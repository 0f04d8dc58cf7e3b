"""Where events go, against a reference that decides row by row."""

from collections import defaultdict

import mmh3
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.core.columns import ids
from services.core.events import RAGGED, Action, Batch, events
from services.core.topics import Topic, hash64, partition_of, partition_of_one, split
from services.kernels.partition import partition_of_key
from tests.services.batches import Row, any_u64, batch_of, good_batches, rows_of

A = Action
FOLLOWS = {A.FOLLOW_USER, A.UNFOLLOW_USER, A.FOLLOW_BOARD, A.UNFOLLOW_BOARD, A.FOLLOW_INTEREST, A.UNFOLLOW_INTEREST}
ENGAGEMENTS = {A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE}
OWNS = {A.CREATE_BOARD, A.DELETE_BOARD}
PINS = {A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST, A.UNSAVE} | ENGAGEMENTS


def partition(key: int, partitions: int) -> int:
    return mmh3.hash64(key.to_bytes(8, "little"), seed=0, signed=False)[0] % partitions


WITHOUT_RUNS: Row = {name: "" if name in ("title", "link") else [] for name in RAGGED}


def belongs(row: Row) -> list[tuple[Topic, int, Row]]:
    """(topic, key, the row as it stands there) of everywhere that one row but a takedown's copies belongs."""
    action, found = Action(row["action"]), []
    if action in FOLLOWS | ENGAGEMENTS | OWNS:
        found.append((Topic.USERS, row["user"], row))
    if action in {A.SAVE, A.UNSAVE} | OWNS:
        found.append((Topic.SOURCES, row["board"], row))
    if action in {A.JOIN_INTEREST, A.LEAVE_INTEREST}:
        found.append((Topic.SOURCES, row["target"], row))
    if action in {A.CREATE_PIN, A.UPDATE_PIN}:
        bare = row | {"action": int(A.JOIN_INTEREST)} | WITHOUT_RUNS
        found += [(Topic.SOURCES, interest, bare | {"target": interest}) for interest in row["interests"]]
    if action == A.TAKEDOWN:
        row = row | WITHOUT_RUNS
    if action in PINS:
        found.append((Topic.OBJECTS, row["pin"], row))
    if action in OWNS:
        found.append((Topic.OBJECTS, row["board"], row))
    if action == A.NAME_USER:
        found.append((Topic.OBJECTS, row["user"], row))
    if action in {A.NAME_INTEREST, A.PUT_FEATURES}:
        found.append((Topic.OBJECTS, row["target"], row))
    if action == A.SERVED:
        found.append((Topic.FEEDS, row["user"], row))
    return found


def reference(batch: Batch, partitions: int) -> dict[tuple[Topic, int], list[tuple[int, Row]]]:
    where = defaultdict(list)
    for i, row in enumerate(rows_of(batch)):
        for topic, key, as_it_stands in belongs(row):
            where[topic, partition(key, partitions)].append((i, as_it_stands))
        if row["action"] == A.TAKEDOWN:
            for p in range(partitions):
                where[Topic.SOURCES, p].append((i, row | WITHOUT_RUNS))
                where[Topic.FEEDS, p].append((i, row | WITHOUT_RUNS))
        if row["action"] == A.SWITCH_DATASET:
            for p in range(partitions):
                where[Topic.OBJECTS, p].append((i, row))
    return dict(where)


@given(st.lists(any_u64, max_size=20))
def test_hash64_is_mmh3s(keys: list[int]) -> None:
    expected = [mmh3.hash64(key.to_bytes(8, "little"), seed=0, signed=False)[0] for key in keys]
    assert hash64(ids(keys)).tolist() == expected


@given(st.lists(any_u64, max_size=20), st.integers(1, 1024))
def test_partitions_are_the_hash_modulo(keys: list[int], partitions: int) -> None:
    assert partition_of(ids(keys), partitions).tolist() == [partition(key, partitions) for key in keys]


@given(good_batches(max_size=30), st.integers(1, 40))
def test_every_row_goes_exactly_where_it_belongs_in_order_of_arrival(batch: Batch, partitions: int) -> None:
    parts = split(batch, partitions)
    found = {(p.topic, p.partition): list(zip(p.rows.tolist(), rows_of(p.batch), strict=True)) for p in parts}
    assert len(found) == len(parts), "one part a partition"
    assert found == reference(batch, partitions)


@given(good_batches(max_size=6, action=st.sampled_from([A.TAKEDOWN, A.SAVE, A.SERVED])), st.integers(1, 40))
def test_takedowns_go_everywhere_in_order_of_arrival(batch: Batch, partitions: int) -> None:
    found = {(p.topic, p.partition): rows_of(p.batch) for p in split(batch, partitions)}
    for topic in (Topic.SOURCES, Topic.FEEDS) if (batch.action == A.TAKEDOWN).any() else ():
        for p in range(partitions):
            assert [r for r in found[topic, p] if r["action"] == A.TAKEDOWN] == [
                r | WITHOUT_RUNS for r in rows_of(batch) if r["action"] == A.TAKEDOWN
            ]
    assert found == {at: [row for _, row in rows] for at, rows in reference(batch, partitions).items()}


def test_interests_of_a_new_pin_become_joins() -> None:
    batch = events(
        2, action=A.CREATE_PIN, user=1, pin=[7, 8], at_ms=5, id=[1, 2], interests=[[30, 31], [31]], quality=0.5
    )
    sources = [row for part in split(batch, 1) if part.topic == Topic.SOURCES for row in rows_of(part.batch)]
    assert [(row["action"], row["pin"], row["target"]) for row in sources] == [(33, 7, 30), (33, 7, 31), (33, 8, 31)]
    assert {row["quality"] for row in sources} == {0.5}


def test_joins_do_not_multiply_the_texts_of_the_pin() -> None:
    batch = events(
        1, action=A.CREATE_PIN, user=1, pin=7, at_ms=5, id=1, title=["t" * 2048], interests=[list(range(1, 65))]
    )
    (sources,) = (part.batch for part in split(batch, 1) if part.topic == Topic.SOURCES)
    assert len(sources) == 64
    assert len(sources.to_proto().SerializeToString()) < 64 * 80


def test_takedowns_do_not_multiply_texts() -> None:
    long = {"title": ["t" * 2048], "link": ["l" * 2048], "interests": [list(range(1, 65))], "features": [[0.5] * 1024]}
    parts = split(events(1, action=A.TAKEDOWN, pin=7, at_ms=5, id=1, **long), 16)
    assert len(parts) == 33
    assert sum(len(part.batch.to_proto().SerializeToString()) for part in parts) < 33 * 60


def test_nothing_goes_nowhere() -> None:
    assert split(batch_of([]), 7) == []


def test_partitions_are_evenly_filled() -> None:
    counts = np.bincount(partition_of(np.arange(1, 160_001, dtype=np.uint64), 16), minlength=16)
    assert np.all(np.abs(counts - 10_000) < 500), "sequential ids spread"


@given(any_u64, st.integers(1, 1024))
def test_the_partition_of_one_is_that_of_an_array_of_it(key: int, partitions: int) -> None:
    assert partition_of_one(key, partitions) == int(partition_of(ids([key]), partitions)[0])
    assert partition_of_one(key, partitions) == partition_of_key(np.uint64(key), partitions), "and in a kernel"
