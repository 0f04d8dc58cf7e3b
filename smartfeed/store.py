"""The feed that each user was last served: the view of `feeds`, less what `users` says was saved or hidden since.

The two topics are not ordered against each other. So a pin that is removed leaves the lists that are there, and is
remembered among the user's last 512 removed pins, which it can't come back from: whichever of a page and its hide is
applied first, the list is the same. A takedown has no user; it filters as lists are read.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress, product, takewhile
from typing import Any

import numpy as np

from services.columns import U64, Array
from services.events import Action, Batch, flags
from services.log import Record, kept, rows
from services.shard import Shard
from services.topics import Topic, partition_of
from smartfeed import layout
from smartfeed.layout import FEEDS, LastServed

TOPICS = (Topic.FEEDS, Topic.USERS)
REMOVED_KEPT = 512

A = Action
_IS_READ = flags(A.SERVED, A.SAVE, A.HIDE, A.TAKEDOWN)
_CHANGES = np.zeros((256, 256), bool)  # by action and surface: those that change a list
_CHANGES[[A.SAVE, A.HIDE]] = True
_CHANGES[A.SERVED, list(FEEDS)] = True


@dataclass(slots=True)
class _List:
    """One feed of one user, being changed: boards by pin, in the order served."""

    at_ms: int = 0
    boards: dict[int, int] = field(default_factory=dict)
    changed: bool = False


@dataclass(slots=True)
class _User:
    """What is kept of one user, being changed."""

    partition: int
    lists: dict[int, _List] = field(default_factory=dict)  # by feed: those that this chunk changes
    removed: dict[int, None] = field(default_factory=dict)  # oldest first
    removes: bool = False

    def serve(self, feed: int, pin: int, board: int, position: int, at_ms: int, most: int) -> None:
        """The user was served a pin at `position`; the first of a list begins it anew, even one that was removed."""
        last = self.lists.get(feed) or self.lists.setdefault(feed, _List())
        if position == 0 or not last.at_ms:
            last.at_ms, last.boards, last.changed = at_ms, {}, True
        if position < most and len(last.boards) < most and pin not in self.removed and pin not in last.boards:
            last.boards[pin], last.changed = board, True

    def remove(self, pin: int) -> None:
        """The user saved or hid a pin: it leaves all lists."""
        for last in self.lists.values():
            if last.boards.pop(pin, None) is not None:
                last.changed = True
        self.removed.pop(pin, None)
        self.removed[pin], self.removes = None, True
        if len(self.removed) > REMOVED_KEPT:
            del self.removed[next(iter(self.removed))]


class SmartfeedStore:
    """The last lists of the users of one shard's partitions."""

    def __init__(self, shard: Shard, own: range, partitions: int, max_pins: int) -> None:
        """`own`: the partitions of this shard; `partitions`: how many there are; `max_pins`: of a list, at most."""
        self.shard, self._partitions, self._max_pins = shard, partitions, max_pins
        self._takedowns = np.empty(0, np.uint64)  # ascending; of all partitions: what one has heard holds for all
        for partition in own:
            keys = shard.family("takedowns").keys(from_key=layout.takedown_key(partition, 0))
            self._add_takedowns(layout.takedowns_of(takewhile(layout.is_in(partition), keys)))

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `feeds` and `users`; of what users do, only saves and hides count here."""
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
        new = pins[~_among(pins, self._takedowns)]
        if len(new):
            self._takedowns = np.insert(self._takedowns, np.searchsorted(self._takedowns, new), new)

    def _apply_users(self, write: Any, batch: Batch, partition: Array) -> None:
        """Apply serves, saves and hides, exactly in their order."""
        serves = (batch.action == A.SERVED).tolist()
        names, feeds = batch.user.tolist(), batch.surface.tolist()
        users = {name: _User(at) for name, at in dict(zip(names, partition.tolist(), strict=True)).items()}
        self._read_removed(users)
        self._read_lists(users, set(compress(zip(names, feeds, strict=True), serves)), _removals(batch))
        columns = (batch.pin.tolist(), batch.board.tolist(), batch.position.tolist(), batch.at_ms.tolist())
        for name, feed, served, pin, board, position, at_ms in zip(names, feeds, serves, *columns, strict=True):
            if served:
                users[name].serve(feed, pin, board, position, at_ms, self._max_pins)
            else:
                users[name].remove(pin)
        self._write(write, users)

    def _read_removed(self, users: dict[int, _User]) -> None:
        keys = [layout.removed_key(user.partition, name) for name, user in users.items()]
        for user, value in zip(users.values(), self.shard.family("removed").get(keys), strict=True):
            user.removed = dict.fromkeys(layout.unpack_pins(value))

    def _read_lists(self, users: dict[int, _User], served: set[tuple[int, int]], gone: dict[int, list[bytes]]) -> None:
        """The lists that are served, and those that hold a pin which their user removes."""
        wanted = [*served, *(at for at in product(gone, FEEDS) if at not in served)]
        keys = [layout.list_key(users[name].partition, name, feed) for name, feed in wanted]
        for at, value in zip(wanted, self.shard.family("lists").get(keys), strict=True):
            if value and (at in served or any(layout.holds(value, pin) for pin in gone[at[0]])):
                last = layout.unpack_list(value)
                boards = dict(zip(last.pins.tolist(), last.boards.tolist(), strict=True))
                users[at[0]].lists[at[1]] = _List(last.at_ms, boards)

    def _write(self, write: Any, users: dict[int, _User]) -> None:
        lists, rings = self.shard.handle("lists"), self.shard.handle("removed")
        for name, user in users.items():
            if user.removes:
                write.put(layout.removed_key(user.partition, name), layout.pack_pins(*user.removed), rings)
            for feed, last in user.lists.items():
                if last.changed:
                    key = layout.list_key(user.partition, name, feed)
                    write.put(key, layout.pack_list(last.at_ms, last.boards), lists)

    def last_served(self, user: int, feed: int) -> LastServed:
        """The list a user was last served of a feed, without what was removed or taken down since."""
        partition = int(partition_of(np.array([user], np.uint64), self._partitions)[0])
        last = layout.unpack_list(self.shard.family("lists").get(layout.list_key(partition, user, feed)))
        stays = ~_among(last.pins, self._takedowns)
        return LastServed(last.pins[stays], last.boards[stays], last.at_ms)


def _removals(batch: Batch) -> dict[int, list[bytes]]:
    """The pins (packed) that each user removes."""
    gone: dict[int, list[bytes]] = defaultdict(list)
    removes = batch.action != A.SERVED
    for user, pin in zip(batch.user[removes].tolist(), batch.pin[removes].tolist(), strict=True):
        gone[user].append(layout.pack_pins(pin))
    return gone


def _among(pins: U64, ascending: U64) -> Array:
    """bool[n]: which pins are among the ascending ones."""
    if not len(ascending):
        return np.zeros(len(pins), bool)
    at = np.searchsorted(ascending, pins)
    return np.asarray(ascending[np.minimum(at, len(ascending) - 1)] == pins)
