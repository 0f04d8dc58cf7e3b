"""The invariants of a whole log, checked as it is opened with a few seeks a partition: none of it reads all records."""

from collections.abc import Collection, Mapping, Sequence

from roadrunner import layout
from roadrunner.layout import Segment, StoredEnd
from services.core.topics import Topic
from services.log.protocol import Partition
from services.state.database import Database


def problem(
    db: Database,
    ends: Mapping[Partition, StoredEnd],
    segments: Mapping[Partition, Sequence[Segment]],
    aggregated: Collection[Partition],
) -> str:
    """The parts that contradict each other, named; empty when none do. Raises Damaged when it can't be read.

    A partition's records begin and end where `ends` says, its segments lie end to end before the open one, and counts
    are there only beside how far the aggregator had come.
    """
    for at, end in ends.items():
        name = f"topic {at[0]} partition {at[1]}"
        bounds = layout.record_key(*at, 0), layout.record_key(*at, layout.LAST_OFFSET)
        first = next(db.family("records").keys(*bounds), None)
        last = next(db.family("records").keys(*bounds, backwards=True), None)
        held = (layout.record_at(first)[2], layout.record_at(last)[2] + 1) if first and last else (end.next, end.next)
        if held != (end.first, end.next):
            return f"{name}: records {held[0]} to {held[1]} are there, and `ends` says {end.first} to {end.next}"
        if (gap := _gap(end, segments[at])) is not None:
            return f"{name}: the segments leave out offset {gap}"
    if not aggregated and any(end.next for (topic, _), end in ends.items() if topic == Topic.COUNTS):
        return "there are counts, and how far the aggregator had come is missing"
    return ""


def _gap(end: StoredEnd, segments: Sequence[Segment]) -> int | None:
    expected = end.first
    for segment in segments:
        if segment.first != expected:
            return expected
        expected = segment.next
    return expected if expected != end.open_first else None
