"""How the log is checked: its entries one by one, and that nothing is missing between them."""

from collections.abc import Iterator

from roadrunner import layout
from roadrunner.layout import Segment, StoredEnd
from services.core.topics import Topic
from services.log.protocol import Partition, Record
from services.state.database import Database

FAMILIES, IN_ORDER, FORMAT = layout.FAMILIES, layout.IN_ORDER, layout.FORMAT
Ends = dict[Partition, StoredEnd]


def ends_of(database: Database) -> Ends:
    """Where each partition of the log ends."""
    return {layout.at_of(key): layout.end_of(key, value) for key, value in database.family("ends").items()}


class LogReading:
    """Looks at every entry of the log: records follow each other without a gap up to where the log ends, and hold as many
    events as it says; segments join; notes of accepted ids follow each other.
    """

    def __init__(self, database: Database) -> None:
        """database: the log's, which may be in use: it grows, and loses its oldest records and notes meanwhile."""
        self._database, self._before = database, ends_of(database)
        self._next: dict[Partition, int] = {}
        self._events: dict[Partition, int] = {}
        self._sequence = -1
        self._segment: dict[Partition, Segment] = {}
        self._wrong: list[tuple[str, str]] = []

    def value(self, family: str, key: bytes, value: bytes) -> None:
        """Raise Damaged for an entry that the log can't have written."""
        if family == "records":
            self._record(key, value)
        elif family == "accepted":
            sequence = layout.accepted_sequence(key)
            if self._sequence >= 0 and sequence != self._sequence + 1 and not self._forgotten(sequence):
                self._wrong.append(
                    (family, f"notes {self._sequence + 1} to {sequence - 1} of accepted ids are missing")
                )
            self._sequence = sequence
        elif family == "segments":
            at, segment = layout.at_of(key), layout.segment_of(key, value)
            before = self._segment.get(at)
            if before is not None and before.next != segment.first and not self._dropped(at, segment.first):
                self._wrong.append(
                    (family, f"{_name(at)}: no segment holds offsets {before.next} to {segment.first - 1}")
                )
            self._segment[at] = segment
        layout.check(family, key, value)

    def _record(self, key: bytes, value: bytes) -> None:
        topic, partition, offset = layout.record_at(key)
        at = (topic, partition)
        expected = self._next.get(at, self._before.get(at, StoredEnd()).first)
        if offset != expected and not self._dropped(at, offset):
            self._wrong.append(("records", f"{_name(at)}: offsets {expected} to {offset - 1} are missing"))
        self._next[at] = offset + 1
        self._events[at] = self._events.get(at, 0) + layout.record_of(key, value).events

    def _dropped(self, at: Partition, offset: int) -> bool:
        """Whether retention has dropped all before this offset."""
        return ends_of(self._database).get(at, StoredEnd()).first >= offset

    def _forgotten(self, sequence: int) -> bool:
        """Whether all notes before this one were dropped, as those of over a day are."""
        first = next(iter(self._database.family("accepted").keys()), None)
        return first is None or layout.accepted_sequence(first) >= sequence

    def end(self) -> list[tuple[str, str]]:
        """The records missing at the ends, and the gaps between records."""
        for at, end in self._before.items():
            if self._next.get(at, end.first) < end.next and not self._dropped(at, end.next):
                gap = f"{self._next.get(at, end.first)} to {end.next - 1}"
                self._wrong.append(("records", f"{_name(at)}: offsets {gap} are missing at its end"))
            elif end.first == 0 and self._next.get(at, 0) == end.next and self._events.get(at, 0) != end.events:
                counted = f"its records hold {self._events.get(at, 0)} events, `ends` says {end.events}"
                self._wrong.append(("ends", f"{_name(at)}: {counted}"))
        now = ends_of(self._database)  # a partition may have had its first record since this began
        for at in self._next.keys() - now.keys():
            self._wrong.append(("ends", f"{_name(at)}: has records and no end"))
        return self._wrong


def _name(at: Partition) -> str:
    return f"topic {at[0]} partition {at[1]}"


def records(database: Database, topic: int, partition: int, first: int, stop: int) -> Iterator[Record]:
    """The records of a partition from an offset to before another, in order. Raises Damaged."""
    for key, value in database.family("records").items(from_key=layout.record_key(topic, partition, first)):
        at = layout.record_at(key)
        if at[:2] != (topic, partition) or at[2] >= stop:
            return
        stored = layout.record_of(key, value)
        message = layout.message_of(key, stored.batch)
        yield Record(Topic(topic), partition, at[2], stored.accepted_ms, message, stored.provenance)
