"""What a publish becomes in `ingest`, and the token that waits for what is made of it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given

from roadrunner.accepting import Shape, accepted, reached, touched
from services.core import tokens
from services.core.events import Action, Batch, events
from services.core.topics import INGEST, Topic, partition_of_one, split
from services.log.progress import Progress
from services.log.protocol import LAST, Partition, Provenance, Record
from tests.services.batches import follows, good_batches, rows_of

PARTITIONS = 5
MANY = Shape(1009, 1009)
A = Action


def texts(batch: Batch) -> list[str]:
    """Each row; a column that is zero throughout has lost the sign of its zeros."""
    return [str(row).replace("-0.0", "0.0") for row in rows_of(batch)]


@given(good_batches(max_size=30))
def test_every_row_goes_to_one_record_in_order(batch: Batch) -> None:
    records = accepted(batch.to_proto(), Shape(PARTITIONS, 3))
    assert len({record.partition for record in records}) == len(records)
    wanted = texts(batch)
    assert sorted(row for record in records for row in texts(Batch.of(record.batch))) == sorted(wanted)
    for record in records:
        rows, places = texts(Batch.of(record.batch)), iter(wanted)
        assert all(row in places for row in rows), "in the order in which they came"
        expected = {(int(part.topic), part.partition) for part in split(Batch.of(record.batch), PARTITIONS)}
        assert set(touched(record.batch, PARTITIONS)) == expected


@pytest.mark.parametrize(
    ("action", "key"),
    [
        (A.SAVE, "user"),
        (A.FOLLOW_USER, "user"),
        (A.SERVED, "user"),
        (A.CREATE_BOARD, "board"),
        (A.DELETE_BOARD, "board"),
        (A.CREATE_PIN, "pin"),
        (A.UPDATE_PIN, "pin"),
        (A.TAKEDOWN, "pin"),
        (A.JOIN_INTEREST, "pin"),
        (A.LEAVE_INTEREST, "pin"),
    ],
)
def test_statements_of_one_thing_lie_in_one_partition_whoever_makes_them(action: Action, key: str) -> None:
    ids = {"user": 11, "board": 22, "pin": 33, "target": 44}
    (record,) = accepted(events(1, action=action, at_ms=1, id=1, **ids).to_proto(), MANY)
    assert record.partition == partition_of_one(ids[key], 1009)


def test_without_a_user_it_is_the_object() -> None:
    (record,) = accepted(events(1, action=A.NAME_INTEREST, target=44, at_ms=1, id=1).to_proto(), MANY)
    assert record.partition == partition_of_one(44, 1009)


def test_a_token_names_the_partitions_of_few_and_none_of_many() -> None:
    shape = Shape(64, 8)
    few = accepted(follows(1, user=7).to_proto(), shape)
    many = accepted(
        events(900, action=A.SAVE, user=7, pin=range(1, 901), board=range(1, 901), at_ms=1, id=1).to_proto(), shape
    )
    token = tokens.encode(reached([*few, *many], [5, 9]), 77)
    found = tokens.decode(token)
    assert tokens.epochs(found) == [77]
    ((place, _),) = ((p, o) for p, o in found.items() if p[0] != tokens.EPOCH and o == 5)
    assert place == (Topic.USERS, partition_of_one(7, 64), few[0].partition)
    every = {p[0] for p, o in found.items() if p[1] == tokens.EVERY}
    assert every == {Topic.USERS, Topic.SOURCES, Topic.OBJECTS, Topic.FEEDS}
    assert len(token) < 100
    assert len(shape.marked(touched(many[0].batch, 64))) == 4 * 64
    assert len(shape.marked(touched(few[0].batch, 64))) == 1 <= shape.named


def test_a_token_stays_small_enough_for_a_header_whatever_a_publish_touches() -> None:
    shape, users = Shape(64, 8), range(1, 301)
    batch = events(300, action=A.SAVE, user=users, pin=users, board=users, at_ms=1, id=users)
    records = accepted(batch.to_proto(), shape)
    assert len(records) == shape.ingest
    named = reached(records, range(len(records)))
    assert 4 * shape.ingest < len(named) <= shape.ingest * shape.named
    assert len(tokens.to_text(tokens.encode(named))) < 16_000


def test_tokens_of_batches_and_of_records_stay_apart_and_the_furthest_counts() -> None:
    one = {(1, 2): 30, (1, 2, 4): 40, (1, tokens.EVERY, 5): 50, (2, tokens.EVERY, 5): 60}
    two = {(1, 2): 29, (1, 2, 4): 41, (1, 2, 6): 2**48 - 1}
    found = tokens.decode(tokens.encode(one) + tokens.encode(two))
    assert found == one | {(1, 2, 4): 41, (1, 2, 6): 2**48 - 1}
    mine = tokens.own(found, [(1, 2), (1, 3), (3, 2)])
    assert mine == {(1, 2): 30, (1, 2, 4): 41, (1, 2, 6): 2**48 - 1, (1, 2, 5): 50, (1, 3, 5): 50}


def made_of(parts: Sequence[tuple[int, int]], at: Partition = (0, 1)) -> Progress:
    """A view's progress after these parts of ingest partition 3: (offset, part)."""
    progress = Progress()
    for offset, (source, part) in enumerate(parts):
        of = Provenance(INGEST, 3, source, part)
        assert progress.pass_over(Record(Topic(at[0]), at[1], offset, 0, follows(1), of)) is not None
    return progress


def test_a_batch_was_applied_once_its_last_part_was() -> None:
    assert not made_of([]).has((0, 1, 3), 0)
    assert not made_of([(7, 0), (7, 1)]).has((0, 1, 3), 7)
    assert made_of([(7, 0), (7, 1 | LAST)]).has((0, 1, 3), 7)
    assert made_of([(9, 0)]).has((0, 1, 3), 7)
    assert not made_of([(9, LAST)]).has((0, 1, 2), 7), "of another ingest partition"


def test_keys_are_found_for_whole_columns() -> None:
    batch = follows(1000)
    assert sum(record.batch.n for record in accepted(batch.to_proto(), Shape(16, 16))) == 1000
    assert np.unique(batch.user).tolist() == [1]
