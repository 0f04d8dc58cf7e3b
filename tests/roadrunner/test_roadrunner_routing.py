"""A group's records are those that the kit's split says, row for row."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import events_pb2
from roadrunner.intake import Group
from roadrunner.routing import Records, Routed, at_of
from services.core.events import Action, Batch, events
from services.core.topics import split
from services.log.protocol import Partition
from tests.services.batches import Row, good_batches, rows_of

LARGE = 1 << 20


def routed(batches: list[Batch], chosen: list[int], partitions: int, most: int = LARGE) -> dict[Partition, list[Row]]:
    group = Group.of([batch.to_proto() for batch in batches])
    found: dict[Partition, list[Row]] = {}
    routes = Routed.of(group, np.array(chosen, np.int64), partitions)
    records = Records(group, routes)
    for place in routes.places:
        rows = []
        for n, data in records.of(place, most):
            batch = Batch.of(events_pb2.Batch.FromString(data))
            assert len(batch) == n > 0
            rows += rows_of(batch)
        found[at_of(place, partitions)] = rows
    return found


def slowly(batch: Batch, partitions: int) -> dict[Partition, list[Row]]:
    return {(int(part.topic), part.partition): rows_of(part.batch) for part in split(batch, partitions)}


@given(
    st.lists(good_batches(8), min_size=1, max_size=3), st.sampled_from([1, 2, 3, 16]), st.sampled_from([1, 200, LARGE])
)
def test_records_hold_what_split_says(batches: list[Batch], partitions: int, most: int) -> None:
    whole = Batch.concat(batches)
    assert routed(batches, list(range(len(whole))), partitions, most) == slowly(whole, partitions)


@given(good_batches(10), st.data())
def test_of_chosen_rows_alone(batch: Batch, data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch)))
    chosen = [i for i, kept in enumerate(keep) if kept]
    assert routed([batch], chosen, 3) == slowly(batch.take(np.array(chosen, np.int64)), 3)


@pytest.mark.parametrize("action", list(Action))
def test_each_action_alone(action: Action) -> None:
    one = events(
        1, action=action, user=11, pin=12, board=13, target=14, interests=[[15, 16]], at_ms=1, id=1, title=["t"]
    )
    assert routed([one], [0], 5) == slowly(one, 5)


@given(st.lists(good_batches(4), min_size=1, max_size=4))
def test_places_met_by_each_publish(batches: list[Batch]) -> None:
    group = Group.of([batch.to_proto() for batch in batches])
    met = defaultdict(set)
    for publish, place in Routed.of(group, np.arange(group.rows), 3).met(group, len(batches)):
        met[publish].add(at_of(place, 3))
    for publish, batch in enumerate(batches):
        assert met[publish] == {(int(part.topic), part.partition) for part in split(batch, 3)}
