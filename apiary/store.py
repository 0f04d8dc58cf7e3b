"""Follows, and the owners of boards: the view of `users` that answers from one packed value a user."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from apiary import kernel, layout
from apiary.layout import BOARD, INTEREST, USER, Entries, Lists
from services.core.checks import check_ends, check_lengths
from services.core.columns import I64, U32, U64, Array
from services.core.events import Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Record, rows
from services.state.shard import Shard

TOPICS = (Topic.USERS,)

A = Action
_FOLLOWS = {A.FOLLOW_USER: USER, A.FOLLOW_BOARD: BOARD, A.FOLLOW_INTEREST: INTEREST}
_UNFOLLOWS = {A.UNFOLLOW_USER: USER, A.UNFOLLOW_BOARD: BOARD, A.UNFOLLOW_INTEREST: INTEREST}
_KIND = np.zeros(256, np.uint8)
for _action, _kind in (_FOLLOWS | _UNFOLLOWS).items():
    _KIND[_action] = _kind
_PUTS = flags(*_FOLLOWS, A.CREATE_BOARD)
_OWNS = flags(A.CREATE_BOARD, A.DELETE_BOARD)


class FollowChanges(NamedTuple):
    """Events of one family of lists, ordered by (list, kind, id, arrival)."""

    users: U64  # uint64[s] ascending: whose lists
    partitions: Array  # int64[s]
    owner: I64  # int64[e]: row in users
    kinds: Array
    ids: U64
    at_ms: I64
    put: Array


class ApiaryStore:
    """The follow graph of the partitions of one shard."""

    def __init__(self, shard: Shard, own: range, partitions: int) -> None:
        """`own`: the partitions of this shard; `partitions`: how many the deployment has."""
        self.shard, self._own, self._partitions = shard, own, partitions

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `users`; all but follows and boards are passed over."""
        write = self.shard.batch()
        if records:
            batch, partition = rows(records)
            self._apply_follows(write, batch, partition)
            self._apply_boards(write, batch, partition)
        self.shard.commit(write, records)

    def _apply_follows(self, write: Any, batch: Batch, partition: Array) -> None:
        kinds = _KIND[batch.action]
        changes = _changes(batch, partition, kinds, np.where(kinds == BOARD, batch.board, batch.target), kinds > 0)
        came = self._merge(write, "follows", changes)
        if came.any():
            self._count(write, changes.partitions[changes.owner], changes.kinds, changes.ids, came)

    def _apply_boards(self, write: Any, batch: Batch, partition: Array) -> None:
        kinds = np.full(len(batch), BOARD, np.uint8)
        self._merge(write, "boards", _changes(batch, partition, kinds, batch.board, _OWNS[batch.action]))

    def _merge(self, write: Any, family: str, changes: FollowChanges) -> Array:
        """Write the lists as changed; int8[e]: +1 where an entry came, -1 where one went."""
        came = np.zeros(len(changes.owner), np.int8)
        if not len(came):
            return came
        keys = layout.user_keys(changes.partitions, changes.users)
        old = layout.unpack_lists(family, keys, self.shard.family(family).get(keys), gone=True)
        new = _merged(old, changes, came)
        data, handle, start = layout.pack_entries(new.entries), self.shard.handle(family), 0
        for key, end in zip(keys, (new.ends * layout.ENTRY_BYTES).tolist(), strict=True):
            write.put(key, data[start:end], handle)
            start = end
        return came

    def _count(self, write: Any, partitions: Array, kinds: Array, targets: U64, came: Array) -> None:
        """Add the follows that came or went to the follower counts of their targets."""
        order = np.lexsort((targets, kinds, partitions))
        at = np.rec.fromarrays([partitions[order], kinds[order], targets[order]])
        starts = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
        moved = np.add.reduceat(came[order].astype(np.int64), starts).tolist()
        keys = [layout.target_key(*target) for target in at[starts].tolist()]
        handle = self.shard.handle("followers")
        for key, value, more in zip(keys, self.shard.family("followers").get(keys), moved, strict=True):
            if more:
                write.put(key, layout.count_value(layout.count_of(key, value) + more), handle)

    def followed(self, user: int) -> Entries:
        """All that a user follows, ascending by (kind, id)."""
        key = layout.user_key(self.shard.partition_of(user, self._partitions), user)
        return layout.unpack_lists("follows", [key], [self.shard.family("follows").get(key)]).entries

    def owned(self, owners: U64) -> Lists:
        """The boards of each of these users."""
        return self._boards(self.shard.partitions_of(owners, self._partitions), owners)

    def owned_here(self, users: U64) -> tuple[U64, Lists, U64]:
        """Those users whose lists are on this shard, the boards of each of them, and the other users."""
        here, partitions, elsewhere = kernel.split(users, self._partitions, self._own.start, self._own.stop)
        return here, self._boards(partitions, here), elsewhere

    def follower_counts(self, kind: int, targets: U64) -> U32:
        """uint32[n]: how many users of this shard's partitions follow each target."""
        total = np.zeros(len(targets), np.uint32)
        for partition in self._own:
            keys = [layout.target_key(partition, kind, target) for target in targets.tolist()]
            values = self.shard.family("followers").get(keys)
            total += np.array(list(map(layout.count_of, keys, values)), np.uint32)
        return total

    def _boards(self, partitions: Array, owners: U64) -> Lists:
        keys = layout.user_keys(partitions, owners)
        return layout.unpack_lists("boards", keys, self.shard.family("boards").get(keys))


def _changes(batch: Batch, partition: Array, kinds: Array, targets: U64, relevant: Array) -> FollowChanges:
    """The relevant events of a batch, by list: those of one user lie in one partition."""
    at = np.flatnonzero(relevant)
    users, first, owner = np.unique(batch.user[at], return_index=True, return_inverse=True)
    order = np.lexsort((targets[at], kinds[at], owner))  # stable: the order of arrival within an entry
    at = at[order]
    return FollowChanges(
        users,
        partition[relevant][first],
        owner[order],
        kinds[at],
        targets[at],
        batch.at_ms[at],
        _PUTS[batch.action[at]],
    )


def _merged(old: Lists, changes: FollowChanges, came: Array) -> Lists:
    """Raises ValueError for columns whose lengths do not fit, and for events that are not in the order of their lists."""
    ids, kinds, at_ms = old.entries
    check_lengths(len(ids), kinds=kinds, at_ms=at_ms)
    check_ends(old.ends, len(ids))
    check_lengths(
        len(came), owner=changes.owner, kinds=changes.kinds, ids=changes.ids, at_ms=changes.at_ms, put=changes.put
    )
    capacity = len(old.entries.ids) + len(came)
    new = Entries(np.empty(capacity, np.uint64), np.empty(capacity, np.uint8), np.empty(capacity, np.int64))
    ends = np.empty(len(old.ends), np.int64)
    n = kernel.merge(
        *old.entries, old.ends, changes.owner, changes.ids, changes.kinds, changes.at_ms, changes.put, *new, ends, came
    )
    if n < 0:
        raise ValueError(f"owner: the events are not in the order of their {len(ends)} lists")
    return Lists(Entries(new.ids[:n], new.kinds[:n], new.at_ms[:n]), ends)
