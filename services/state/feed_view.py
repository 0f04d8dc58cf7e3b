"""Drops the entries of a cache as the log changes them: a view for a `Follower` that stores nothing.

It follows the log from its present end. An entry from an answer before that end, or from while changes were missed, is not
sure (services/state/change_feed.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from services.core import tokens
from services.core.columns import U64
from services.core.events import Batch
from services.core.tokens import Reached
from services.core.topics import Topic
from services.log.history import LogHistory
from services.log.protocol import End, Partition, Positions, Reader, Record
from services.state.change_feed import ChangeFeed
from services.state.tail import Tail


class Droppable(Protocol):
    """A cache, as far as its feed needs it."""

    def drop(self, keys: U64) -> None:
        """Forget these keys."""
        ...

    def clear(self) -> None:
        """Forget every key."""
        ...


class Changed(NamedTuple):
    """The changes of a record. every: any key of the record's partition may have changed; clears: and some may be cached."""

    keys: U64
    every: bool = False
    clears: bool = False


class FeedView:
    """The changes of a topic, from the log's present end on, as a view for a `Follower`. Thread-safe."""

    def __init__(
        self, feed: ChangeFeed, log: Reader, topic: Topic, changed: Callable[[Batch], Changed], cache: Droppable
    ) -> None:
        """changed: the changes of a record's batch; cache: filled through `feed.fill` alone."""
        self._feed, self._topic, self._changed, self._cache = feed, topic, changed, cache
        self.shard = _FeedTail(log, topic, feed, cache)

    def apply(self, records: Sequence[Record]) -> None:
        """Drop the entries that these records change, then wake the reads that wait for their offsets."""
        for record in records:
            changed, after = self._changed(record.batch), record.offset + 1
            if changed.every:
                self._feed.note_every(record.partition, after, self._cache.clear if changed.clears else _nothing)
            if len(changed.keys):
                drop = partial(self._cache.drop, changed.keys)
                self._feed.note(self._feed.places(changed.keys), after, drop)
        self.shard.commit(records)

    def shows(self, token: bytes) -> bool:
        """Whether sure entries show every change before this token (of `services/core/tokens.py`)."""
        return not token or self.shard.shows(tokens.decode(token))


class _FeedTail(Tail):
    """A tail whose feed knows from where it follows, and in which epoch."""

    def __init__(self, log: Reader, topic: Topic, feed: ChangeFeed, cache: Droppable) -> None:
        super().__init__(log, lambda: feed.interrupt(cache.clear))
        self._topic, self._feed, self._clear = int(topic), feed, cache.clear

    def connect(self, history: LogHistory, ends: Mapping[Partition, End], partitions: Iterable[Partition]) -> None:
        """As a Tail. A past that is lost interrupts the feed before the new epoch counts, also where only an entry shows it,
        since its view had read on further than the feed.
        """
        before = self.epoch
        super().connect(history, ends, partitions)

        def lost(filled: dict[int, int]) -> bool:
            return bool(history.lost(before, {(self._topic, at): position for at, position in filled.items()}, ends))

        if self._feed.enter(self.epoch, lost, self._clear):
            with self._moved:
                self._progress = {}

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """As a Tail; when they are the ends of the log, the feed begins there before any record is applied."""
        before = self._progress
        positions = super().positions(partitions)
        if self._progress is not before:
            self._feed.begin({partition: offset for (_, partition), offset in positions.items()})
        return positions

    def shows(self, reached: Reached) -> bool:
        """Whether those of these offsets that are of its topic have been applied; of one that it does not follow: no."""
        mine = {place: offset for place, offset in reached.items() if place[0] == self._topic}
        every = {place for place in mine if place[1] == tokens.EVERY}
        asked = tokens.own(mine, self._progress) | {p: o for p, o in mine.items() if p not in every}
        return self._missing(asked) is None


def _nothing() -> None:
    """No entry is cached that this changes."""
