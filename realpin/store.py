"""The recent actions of each user: the view of `users` that answers from two packed values a user."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from realpin import kernel, layout
from realpin.layout import KEPT_MINUTES, KINDS, MINUTE_MS, Actions, Minutes
from realpin.signals import KIND
from services.core.checks import check_ends, check_lengths
from services.core.clock import Clock
from services.core.columns import I64, Array
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT, Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Record, relevant_rows
from services.state.shard import Shard

TOPICS = (Topic.USERS,)
_BUT_IMPRESSIONS = flags(*(action for action in ENGAGEMENTS if action != Action.IMPRESSION))


class Recent(NamedTuple):
    """The actions of one user at or before now_ms, and all minutes that are kept."""

    actions: Actions
    minutes: Minutes
    now_ms: int


class ActionChanges(NamedTuple):
    """e events of s users, ordered by (user, at_ms, arrival)."""

    keys: list[bytes]  # [s] of the users
    owner: I64  # int64[e]: row in keys
    rows: I64  # int64[e]: row of the batch


class RealpinStore:
    """The recent actions of the users of one shard's partitions."""

    def __init__(
        self, shard: Shard, partitions: int, clock: Clock, actions_kept: int = 500, impressions: bool = False
    ) -> None:
        """partitions: how many the deployment has; impressions: whether they are kept as actions, not only counted."""
        self.shard, self._partitions, self._clock, self._kept = shard, partitions, clock, actions_kept
        self._is_action = IS_ENGAGEMENT if impressions else _BUT_IMPRESSIONS

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `users`; events that are not actions on a pin are passed over.

        The values depend on the events and their order alone, not on the chunks they come in or the clock.
        """
        write = self.shard.batch()
        if (found := relevant_rows(records, IS_ENGAGEMENT)) is not None:
            batch, partition = found
            self._keep_actions(write, batch, _changes(batch, partition, self._is_action))
            self._count(write, batch, _changes(batch, partition, IS_ENGAGEMENT))
        self.shard.commit(write, records)

    def _keep_actions(self, write: Any, batch: Batch, changes: ActionChanges) -> None:
        if not len(changes.rows):
            return
        data, ends = layout.joined("actions", changes.keys, self.shard.family("actions").get(changes.keys))
        old, at = layout.unpack_actions(data), changes.rows
        new = Actions(batch.pin[at], batch.board[at], batch.at_ms[at], batch.action[at])
        check_ends(ends, len(old.at_ms))
        check_lengths(len(at), owner=changes.owner)
        out, out_ends = np.empty(len(old.pins) + len(at), np.int64), np.empty(len(ends), np.int64)
        hides, came = old.actions == Action.HIDE, new.actions == Action.HIDE
        first = kernel.newest(old.at_ms, hides, ends, changes.owner, new.at_ms, came, self._kept, out, out_ends)
        _check_order(first, changes)
        merged = old.with_more(new).take(out[first:])
        self._write(write, "actions", changes.keys, layout.pack_actions(merged), out_ends - first)

    def _count(self, write: Any, batch: Batch, changes: ActionChanges) -> None:
        data, ends = layout.joined("minutes", changes.keys, self.shard.family("minutes").get(changes.keys))
        old, at = layout.unpack_minutes(data), changes.rows
        check_ends(ends, len(old.minutes))
        check_lengths(len(at), owner=changes.owner)
        capacity = len(old.minutes) + len(at)
        new, new_ends = (
            Minutes(np.empty(capacity, np.int64), np.empty((capacity, KINDS), np.uint32)),
            np.empty_like(ends),
        )
        came, kinds = batch.at_ms[at] // MINUTE_MS, KIND[batch.action[at]]
        n = kernel.tally(*old, ends, changes.owner, came, kinds, KEPT_MINUTES, *new, new_ends)
        _check_order(n, changes)
        counted = Minutes(new.minutes[:n], new.counts[:n])
        self._write(write, "minutes", changes.keys, layout.pack_minutes(counted), new_ends)

    def _write(self, write: Any, family: str, keys: list[bytes], data: bytes, ends: I64) -> None:
        handle = self.shard.handle(family)
        for key, value in zip(keys, layout.cut(data, ends), strict=True):
            write.put(key, value, handle)

    def recent(self, user: int, now_ms: int = 0) -> Recent:
        """The actions of a user at or before now_ms (0: the clock's); none of an unknown user."""
        now_ms = now_ms or self._clock()
        key = layout.user_key(self.shard.partition_of(user, self._partitions), user)
        actions = layout.unpack_actions(self._get("actions", key))
        minutes = layout.unpack_minutes(self._get("minutes", key))
        if len(actions.at_ms) and actions.at_ms[-1] > now_ms:
            actions = actions.take(slice(int(np.searchsorted(actions.at_ms, now_ms, side="right"))))
        return Recent(actions, minutes, now_ms)

    def _get(self, family: str, key: bytes) -> bytes:
        """The rows of one user; none of an unknown user."""
        return layout.joined(family, [key], [self.shard.family(family).get(key)])[0]


def _check_order(answer: int, changes: ActionChanges) -> None:
    """Raises ValueError when a kernel's answer says that it left events over: they would be lost."""
    if answer < 0:
        raise ValueError(f"owner: the events are not in the order of their {len(changes.keys)} users")


def _changes(batch: Batch, partition: Array, relevant: Array) -> ActionChanges:
    """The events whose action is relevant (bool[256]), by user: those of one user lie in one partition."""
    at = np.flatnonzero(relevant[batch.action])
    at = at[np.lexsort((batch.at_ms[at], batch.user[at], partition[at]))]  # stable: equals stay in order of arrival
    users = batch.user[at]
    is_first = np.ones(len(at), bool)
    is_first[1:] = users[1:] != users[:-1]
    first = at[is_first]
    return ActionChanges(layout.user_keys(partition[first], batch.user[first]), np.cumsum(is_first) - 1, at)
