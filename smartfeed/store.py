"""The pins that each user was last served of each feed: the view of `feeds`, less the saves and hides of `users` since.

A list is the newest pages merged: those since the last first page, then those before, each pin once, up to so many pins in
all, and of the pages since then whatever they had. So a short page shortens nothing, and a cursor can be given exactly what
its pages have shown.

The two topics are not ordered against each other. So a list depends on `feeds` alone, and of a user's `users` the last pins
that they removed are kept, as many as a list holds: these are left out as a list is read, and keep their places in it.
Whichever of a page and its hide is applied first, the answer is the same. A takedown has no user; it filters as lists
are read too.
"""

from collections.abc import Sequence
from itertools import islice, pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np

from services.core.columns import U64, Array, among, ids
from services.core.events import Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Record, relevant_rows
from services.state.shard import Shard
from smartfeed import layout
from smartfeed.layout import FEEDS, GONE, LastServed

TOPICS = (Topic.FEEDS, Topic.USERS)
SHOWN_KEPT = 2_100  # pins of the pages since the last first one: as many as a cursor goes on for, and a page
REMOVED_KEPT = SHOWN_KEPT

A = Action
_IS_READ = flags(A.SERVED, A.SAVE, A.HIDE, A.TAKEDOWN)
_CHANGES = np.zeros((256, 256), bool)  # by action and surface: those that change a list
_CHANGES[[A.SAVE, A.HIDE]] = True
_CHANGES[A.SERVED, list(FEEDS)] = True


class _Served(NamedTuple):
    """Pins that one feed served one user, in order: pin, board, position and time of each."""

    pins: list[int]
    boards: list[int]
    positions: list[int]
    at_ms: list[int]

    def begins(self, goes_on: bool) -> list[int]:
        """Where first pages begin; the first pin begins one too if there is no page that it `goes_on` from."""
        found = [row for row, position in enumerate(self.positions) if position == 0]
        return found if goes_on or (found and found[0] == 0) else [0, *found]

    def page(self, start: int, end: int, before: LastServed | None = None) -> dict[int, int]:
        """The boards by pin of these rows, after those of the newest pages `before`: each pin once, as many as are kept."""
        boards: dict[int, int] = {}
        if before is not None:
            boards = dict(
                zip(before.pins[: before.newest].tolist(), before.boards[: before.newest].tolist(), strict=True)
            )
        for pin, board in zip(self.pins[start:end], self.boards[start:end], strict=True):
            boards.setdefault(pin, board)
        return boards if len(boards) <= SHOWN_KEPT else dict(islice(boards.items(), SHOWN_KEPT))


def _merged(stored: LastServed, served: _Served, most: int) -> LastServed | None:
    """A list after more was served: the newest pages, then those before, each pin once; no more than `most` pins, or those
    of the newest pages. None if it is as it was.

    It is merged and cut once. The pins are the same as if each first page had merged and cut the list, as a pin that was
    cut off comes back only with a page of its own.
    """
    begins, end = served.begins(goes_on=bool(stored.at_ms)), len(served.pins)
    goes_on = [] if begins and begins[0] == 0 else [(0, begins[0] if begins else end)]
    pages = goes_on + list(pairwise([*begins, end]))
    boards = dict[int, int]()
    for start, stop in reversed(pages):
        before = stored if goes_on and start == 0 else None
        page = served.page(start, stop, before)
        if stop == end:
            boards, newest, most = page, len(page), max(most, len(page))
        else:
            for pin, board in page.items():
                boards.setdefault(pin, board)
        if len(boards) >= most:
            break
    if not begins and newest == stored.newest:
        return None
    at_ms = served.at_ms[begins[-1]] if begins else stored.at_ms
    pins, of = ids(list(boards)), ids(list(boards.values()))
    if len(pins) < most and len(stored.pins):
        stays = ~among(stored.pins, np.sort(pins))
        pins, of = np.concatenate((pins, stored.pins[stays])), np.concatenate((of, stored.boards[stays]))
    return LastServed(pins[:most], of[:most], at_ms, newest)


class SmartfeedStore:
    """The last lists of the users of one shard's partitions."""

    def __init__(self, shard: Shard, own: range, partitions: int, max_pins: int) -> None:
        """`own`: the partitions of this shard; `partitions`: how many there are; `max_pins`: of a list, at most."""
        self.shard, self._partitions, self._max_pins = shard, partitions, max_pins
        self._takedowns = np.empty(0, np.uint64)  # ascending; of all partitions: a takedown in one holds for all
        for partition in own:
            keys = shard.family("takedowns").keys(from_key=layout.takedown_key(partition, 0))
            self._add_takedowns(layout.takedowns_of(takewhile(layout.is_in(partition), keys)))

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `feeds` and `users`; of the actions of users, only saves and hides count here."""
        write = self.shard.batch()
        if (found := relevant_rows(records, _IS_READ)) is not None:
            batch, partition = found
            down = batch.action == A.TAKEDOWN
            if down.any():
                self._take_down(write, batch.pin[down], partition[down])
            changes = _CHANGES[batch.action, batch.surface]
            served = batch.action == A.SERVED
            self._serve(write, batch.take(changes & served), partition[changes & served])
            self._remove(write, batch.take(changes & ~served), partition[changes & ~served])
        self.shard.commit(write, records)

    def _take_down(self, write: Any, pins: U64, partitions: Array) -> None:
        handle = self.shard.handle("takedowns")
        for partition, pin in zip(partitions.tolist(), pins.tolist(), strict=True):
            write.put(layout.takedown_key(partition, pin), b"", handle)
        self._add_takedowns(np.unique(pins))

    def _add_takedowns(self, pins: U64) -> None:
        """Add pins, ascending and each once. A reader sees the array from before or from after."""
        new = pins[~among(pins, self._takedowns)]
        if len(new):
            self._takedowns = np.insert(self._takedowns, np.searchsorted(self._takedowns, new), new)

    def _serve(self, write: Any, batch: Batch, partition: Array) -> None:
        """Apply serves, those of each list exactly in their order."""
        order = np.lexsort((batch.surface, batch.user))
        users, feeds = batch.user[order], batch.surface[order]
        starts = _starts(users, feeds)
        each = (partition[order][starts].tolist(), users[starts].tolist(), feeds[starts].tolist())
        keys = [layout.list_key(*at) for at in zip(*each, strict=True)]
        columns = [column[order].tolist() for column in (batch.pin, batch.board, batch.position, batch.at_ms)]
        values, handle = self.shard.family("lists").get(keys), self.shard.handle("lists")
        for key, value, (start, end) in zip(keys, values, pairwise([*starts, len(order)]), strict=True):
            served = _Served(*(column[start:end] for column in columns))
            if (merged := _merged(layout.unpack_list(key, value), served, self._max_pins)) is not None:
                write.put(key, layout.pack_list(merged), handle)

    def _remove(self, write: Any, batch: Batch, partition: Array) -> None:
        """Apply saves and hides, those of each user exactly in their order."""
        order = np.argsort(batch.user, kind="stable")
        users, pins = batch.user[order], batch.pin[order].tolist()
        starts = _starts(users)
        keys = [
            layout.removed_key(*at)
            for at in zip(partition[order][starts].tolist(), users[starts].tolist(), strict=True)
        ]
        values, handle = self.shard.family("removed").get(keys), self.shard.handle("removed")
        for key, value, (start, end) in zip(keys, values, pairwise([*starts, len(order)]), strict=True):
            newest_first = dict.fromkeys(pins[end - 1 : start - 1 if start else None : -1])
            newest_first |= dict.fromkeys(reversed(layout.unpack_pins(key, value)))
            write.put(key, layout.pack_pins(*reversed(list(islice(newest_first, REMOVED_KEPT)))), handle)

    def last_served(self, user: int, feed: int) -> LastServed:
        """The list a user was last served of a feed, without pins removed or taken down since."""
        last = self._list(user, feed)
        gone = among(last.pins, self._takedowns) | among(last.pins, np.sort(self.removed(user)))
        stays = ~gone & (last.boards != GONE)
        return LastServed(last.pins[stays], last.boards[stays], last.at_ms, last.newest)

    def shown(self, user: int, feed: int) -> U64:
        """Every pin of the pages since the last first page, in order, those too that are gone since."""
        last = self._list(user, feed)
        return last.pins[: last.newest]

    def _list(self, user: int, feed: int) -> LastServed:
        key = layout.list_key(self._partition(user), user, feed)
        return layout.unpack_list(key, self.shard.family("lists").get(key))

    def removed(self, user: int) -> U64:
        """The pins that a user last saved or hid, at most REMOVED_KEPT, oldest first."""
        key = layout.removed_key(self._partition(user), user)
        return ids(layout.unpack_pins(key, self.shard.family("removed").get(key)))

    def _partition(self, user: int) -> int:
        return self.shard.partition_of(user, self._partitions)


def _starts(*columns: Array) -> list[int]:
    """Where runs of rows begin that are the same in these columns."""
    differs = np.zeros(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        differs |= column[1:] != column[:-1]
    return [0, *(np.flatnonzero(differs) + 1).tolist()] if len(columns[0]) else []
