"""Where the rows of a group belong, and the records that they become.

`services.core.topics.split` is the rule of where an event belongs; it is asked once for each action, and its answers are the
table by which whole groups are then placed in one pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from protos import events_pb2 as pb
from roadrunner import kernel
from roadrunner.duplicates import RecentIds
from roadrunner.intake import Group, check
from services.core.batches import SIZES, unstated
from services.core.columns import I64, U64, Array, Ragged, pack
from services.core.events import EARLIEST_MS, RAGGED, Action, events
from services.core.topics import IS_BARE, Topic, partition_of, split
from services.log.protocol import Partition

ROW_BYTES = 120  # of a row without its texts and interests, at most
PLACES = (Topic.USERS, Topic.SOURCES, Topic.OBJECTS, Topic.FEEDS)  # the topics that the ingest API writes to
_KEYS = ("user", "pin", "board", "target")
VOID = 255  # in place of the action of a row that does not hold: objects, by board, have a record of it


@cache
def goes() -> Array:
    """uint16[256]: the kernel's bits of where each action goes."""
    partitions = 61
    places, first = np.unique(partition_of(np.arange(partitions, dtype=np.uint64), partitions), return_index=True)
    distinct = {place: key for place, key in zip(places.tolist(), first.tolist(), strict=True) if key}
    (*of_keys, of_interest), (*of_columns, interest) = list(distinct)[:5], list(distinct.values())[:5]
    keys = dict(zip(_KEYS, of_columns, strict=True))
    table = np.zeros(256, np.uint16)
    for action in Action:
        parts = {
            (p.topic, p.partition) for p in split(events(1, action=action, **keys, interests=[[interest]]), partitions)
        }
        for topic in Topic:
            if all((topic, partition) in parts for partition in range(partitions)):
                table[action] |= kernel.EVERYWHERE << topic
                parts = {part for part in parts if part[0] != topic}
        for way, (to, key) in enumerate(zip(kernel.TOPIC_OF, kernel.KEY_OF, strict=True)):
            table[action] |= ((to, of_keys[key]) in parts) << way
        table[action] |= kernel.BY_INTEREST * ((Topic.SOURCES, of_interest) in parts)
    to_objects = (Topic.OBJECTS, _KEYS.index("board"))
    table[VOID] = 1 << list(zip(kernel.TOPIC_OF, kernel.KEY_OF, strict=True)).index(to_objects)
    return table


@dataclass(frozen=True, slots=True)
class Routed:
    """Rows of a group, once for each topic and partition where they belong, place by place."""

    places: list[int]  # those with rows: topic * partitions + partition
    starts: I64  # int64[topics * partitions + 1]: where the rows of each place begin
    rows: I64  # rows of the group
    joins: U64  # the interest that the row's pin joins, if that is why the row is there; else 0

    @staticmethod
    def of(group: Group, chosen: I64, partitions: int, void: I64 | None = None) -> "Routed":
        """int64[m] chosen: rows of the group, ascending; void: those of them that do not hold (roadrunner/boards.py)."""
        user, pin, board, target = (group.column(name) for name in _KEYS)
        ends, interests = group.interests
        action = group.column("action")
        if void is not None and len(void):
            action = action.copy()
            action[void] = VOID
            action.setflags(write=False)  # the kernel is compiled for columns that are only read
        columns = action, (user, pin, board, target), ends, interests
        counts = np.zeros(len(PLACES) * partitions + 1, np.int64)
        kernel.route(goes(), partitions, chosen, *columns, counts[1:], np.empty(0, np.int64), np.empty(0, np.uint64))
        starts = np.cumsum(counts)
        rows, joins = np.empty(int(starts[-1]), np.int64), np.empty(int(starts[-1]), np.uint64)
        if len(rows):
            kernel.route(goes(), partitions, chosen, *columns, starts[:-1].copy(), rows, joins)
        return Routed(np.flatnonzero(counts[1:]).tolist(), starts, rows, joins)

    def met(self, group: Group, publishes: int) -> Iterator[tuple[int, int]]:
        """(publish, place) of every place that has rows of a publish."""
        found = np.zeros((publishes, len(self.starts) - 1), np.bool_)
        kernel.met(group.publish, self.starts, self.rows, found)
        return zip(*(which.tolist() for which in np.nonzero(found)), strict=True)


def at_of(place: int, partitions: int) -> Partition:
    """The topic and partition of a place."""
    return place // partitions, place % partitions


class Records:
    """The serialised records of routed rows."""

    def __init__(self, group: Group, routed: Routed) -> None:
        self._routed = routed
        rows, joins = routed.rows, routed.joins
        joining = np.flatnonzero(joins) if "interests" in group.runs else _NONE
        columns = {name: column[rows] for name, column in group.columns.items()}
        if len(joining):
            columns["action"][joining] = Action.JOIN_INTEREST
            target = columns.setdefault("target", np.zeros(len(rows), np.uint64))
            target[joining] = joins[joining]
        self._fixed = [(name, SIZES[name], column.tobytes()) for name, column in columns.items()]
        self._unstated = {name: unstated(name) for name in columns}
        bare = (joins != 0) | IS_BARE[group.column("action")[rows]]
        self._ragged = [(name, RAGGED[name], _taken(runs, rows, bare)) for name, runs in group.runs.items()]

    def of(self, place: int, most: int) -> Iterator[tuple[int, bytes]]:
        """(events, serialised batch) of each record of a place: one, or as many as keep below `most` bytes or a row."""
        start, stop = int(self._routed.starts[place]), int(self._routed.starts[place + 1])
        for a, b in pairwise(self._cuts(start, stop, most)):
            yield b - a, self._message(a, b)

    def _cuts(self, start: int, stop: int, most: int) -> list[int]:
        sizes = [(np.dtype(dtype).itemsize, runs.slice(start, stop)) for _, (dtype, _), runs in self._ragged]
        if ROW_BYTES * (stop - start) + sum(size * len(runs.values) for size, runs in sizes) <= most:
            return [start, stop]
        each = sum((size * runs.lengths() for size, runs in sizes), np.full(stop - start, ROW_BYTES))
        cuts = np.flatnonzero(np.diff(np.cumsum(each) // most, prepend=0)).tolist()
        return [start, *(start + cut for cut in cuts if cut), stop]

    def _message(self, start: int, stop: int) -> bytes:
        n = stop - start
        message = pb.Batch(n=n)
        for name, size, data in self._fixed:
            part = data[start * size : stop * size]
            if part != self._unstated[name] * n or name == "action":
                setattr(message, name, part)
        for name, (dtype, values), column in self._ragged:
            runs = column.slice(start, stop)
            if len(runs.values):
                field = getattr(message, name)
                field.ends = pack(runs.ends, "<u4")
                setattr(field, values, pack(runs.values, dtype))
        return message.SerializeToString()


_NONE = np.empty(0, np.int64)


def _taken(runs: Ragged, rows: I64, bare: Array) -> Ragged:
    ends = np.empty(len(rows), np.uint32)
    values: Any = np.empty(0, runs.values.dtype)
    size = kernel.take_runs(runs.ends, runs.values, rows, bare, ends, values)
    if size:
        values = np.empty(size, runs.values.dtype)
        kernel.take_runs(runs.ends, runs.values, rows, bare, ends, values)
    return Ragged(ends, values)


def warm() -> None:
    """Compile the kernels of a publish, or load them, before they are needed."""
    texts = {"title": ["a"], "interests": [[1]], "features": [[1.0]]}
    for more in ({}, texts):
        one = events(1, action=Action.CREATE_PIN, pin=1, quality=1, at_ms=EARLIEST_MS, id=1, **more).to_proto()
        check(one, EARLIEST_MS, 0)
        group, recent = Group.of([one, one]), RecentIds(2)
        recent.forget(group.keys[recent.add(group.keys, EARLIEST_MS)])
        routed = Routed.of(group, np.arange(2), 1)
        list(routed.met(group, 2))
        for place in routed.places:
            list(Records(group, routed).of(place, 1))
