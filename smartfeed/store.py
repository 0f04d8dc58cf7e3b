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
from dataclasses import dataclass, field
from itertools import compress, islice, takewhile
from typing import Any

import numpy as np

from services.core.columns import U64, Array, among, ids
from services.core.events import Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Record, kept, rows
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


@dataclass(slots=True)
class _List:
    """One feed of one user, being changed: boards by pin, of the pages since the last first one, and of those before."""

    at_ms: int = 0
    newest: dict[int, int] = field(default_factory=dict)
    older: dict[int, int] = field(default_factory=dict)
    changed: bool = False

    def begin(self, at_ms: int, most: int) -> None:
        """A first page comes: the pins there are older now, and no more than `most` of them are kept."""
        self.older = dict(islice((self.newest | self.older).items(), most))
        self.at_ms, self.newest, self.changed = at_ms, {}, True

    def serve(self, pin: int, board: int) -> None:
        """A pin of the newest pages; it moves there if it was older."""
        if pin in self.newest or len(self.newest) >= SHOWN_KEPT:
            return
        self.older.pop(pin, None)
        self.newest[pin], self.changed = board, True


@dataclass(slots=True)
class _User:
    """The lists of one user, being changed."""

    partition: int
    lists: dict[int, _List] = field(default_factory=dict)  # by feed: those that this chunk changes
    removed: dict[int, None] = field(default_factory=dict)  # oldest first
    removes: bool = False

    def serve(self, feed: int, pin: int, board: int, position: int, at_ms: int, most: int) -> None:
        """The user was served a pin at `position`: 0 begins the newest pages."""
        last = self.lists.get(feed) or self.lists.setdefault(feed, _List())
        if position == 0 or not last.at_ms:
            last.begin(at_ms, most)
        last.serve(pin, board)

    def remove(self, pin: int) -> None:
        """The user saved or hid a pin: it is the last one removed."""
        self.removed.pop(pin, None)
        self.removed[pin], self.removes = None, True
        if len(self.removed) > REMOVED_KEPT:
            del self.removed[next(iter(self.removed))]


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
        if found := kept(records, _IS_READ):
            batch, partition = rows(found)
            down = batch.action == A.TAKEDOWN
            if down.any():
                self._take_down(write, batch.pin[down], partition[down])
            changes = _CHANGES[batch.action, batch.surface]
            self._apply_users(write, batch.take(changes), partition[changes])
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

    def _apply_users(self, write: Any, batch: Batch, partition: Array) -> None:
        """Apply serves, saves and hides, exactly in their order."""
        serves = (batch.action == A.SERVED).tolist()
        names, feeds = batch.user.tolist(), batch.surface.tolist()
        users = {name: _User(at) for name, at in dict(zip(names, partition.tolist(), strict=True)).items()}
        self._read_removed({name: users[name] for name, served in zip(names, serves, strict=True) if not served})
        self._read_lists(users, set(compress(zip(names, feeds, strict=True), serves)))
        columns = (batch.pin.tolist(), batch.board.tolist(), batch.position.tolist(), batch.at_ms.tolist())
        for name, feed, served, pin, board, position, at_ms in zip(names, feeds, serves, *columns, strict=True):
            if served:
                users[name].serve(feed, pin, board, position, at_ms, self._max_pins)
            else:
                users[name].remove(pin)
        self._write(write, users)

    def _read_removed(self, users: dict[int, _User]) -> None:
        keys = [layout.removed_key(user.partition, name) for name, user in users.items()]
        for user, key, value in zip(users.values(), keys, self.shard.family("removed").get(keys), strict=True):
            user.removed = dict.fromkeys(layout.unpack_pins(key, value))

    def _read_lists(self, users: dict[int, _User], served: set[tuple[int, int]]) -> None:
        """The lists that are served."""
        keys = [layout.list_key(users[name].partition, name, feed) for name, feed in served]
        for at, key, value in zip(served, keys, self.shard.family("lists").get(keys), strict=True):
            if value:
                last = layout.unpack_list(key, value)
                boards = dict(zip(last.pins.tolist(), last.boards.tolist(), strict=True))
                newest = dict(islice(boards.items(), last.newest))
                older = dict(islice(boards.items(), last.newest, None))
                users[at[0]].lists[at[1]] = _List(last.at_ms, newest, older)

    def _write(self, write: Any, users: dict[int, _User]) -> None:
        lists, rings = self.shard.handle("lists"), self.shard.handle("removed")
        for name, user in users.items():
            if user.removes:
                write.put(layout.removed_key(user.partition, name), layout.pack_pins(*user.removed), rings)
            for feed, last in user.lists.items():
                if last.changed:
                    key = layout.list_key(user.partition, name, feed)
                    most = max(self._max_pins, len(last.newest))
                    boards = dict(islice((last.newest | last.older).items(), most))
                    write.put(key, layout.pack_list(last.at_ms, len(last.newest), boards), lists)

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
