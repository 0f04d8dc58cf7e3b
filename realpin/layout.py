"""Bytes on disk of realpin. All keys are the partition (u2) and the user (u8), big-endian: one packed value a user.

| family  | value                                                                                   |
|---------|-----------------------------------------------------------------------------------------|
| actions | rows of 24 bytes, ascending by date, equals in the order of the log: weights decay       |
| minutes | rows of 24 bytes, ascending by minute: how often the user did each action in that minute |

A row of `actions` is three little-endian u8: pin, board (0: none stated), and `at_ms << 8 | action`. A row of `minutes`
is six little-endian u4: the minute since 1970, then impressions, closeups, clicks, saves and hides.

The two are apart because they change apart: nearly all events are impressions, which are only counted, and a page of
them should not rewrite a list of hundreds of actions. Counts are by the minute because impressions are many: a page of
25 is one row of 24 bytes, and a user who never stops has KEPT_MINUTES rows and no more, where single events would have
no bound, or a bound that makes the counts of busy users wrong.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.core.columns import I64, U8, U32, U64, Array
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT
from services.kernels.jit import kernel
from services.state.stored import check_key, check_rows, ends_of, refuse

FORMAT = "realpin 1"
FAMILIES = ("actions", "minutes")

MINUTE_MS = 60_000
#: Minutes kept before a user's newest: a day, and one more as an event may be dated up to a day ahead of the clock.
KEPT_MINUTES = 2 * 24 * 60
ROW_BYTES = 24
KINDS = len(ENGAGEMENTS)  # columns of counts, in the order of services.core.events.ENGAGEMENTS

_KEY = np.dtype([("partition", ">u2"), ("user", ">u8")])
_STORE = "realpin"


class Actions(NamedTuple):
    """n actions of one or more users as columns, each user's ascending by date."""

    pins: U64
    boards: U64
    at_ms: I64
    actions: U8

    def take(self, rows: Array | slice) -> "Actions":
        """The rows at int[m] positions, or of a slice."""
        return Actions(self.pins[rows], self.boards[rows], self.at_ms[rows], self.actions[rows])

    def with_more(self, more: "Actions") -> "Actions":
        """These rows, then those."""
        return Actions(
            np.concatenate([self.pins, more.pins]),
            np.concatenate([self.boards, more.boards]),
            np.concatenate([self.at_ms, more.at_ms]),
            np.concatenate([self.actions, more.actions]),
        )


class Minutes(NamedTuple):
    """n minutes of one or more users, each user's ascending. minutes: int64[n] since 1970; counts: uint32[n, KINDS]."""

    minutes: I64
    counts: U32


def user_key(partition: int, user: int) -> bytes:
    """The key of one user, in both families."""
    return partition.to_bytes(2) + user.to_bytes(8)


def user_keys(partitions: Array, users: U64) -> list[bytes]:
    """The keys of these users, in both families."""
    keys = np.empty(len(users), _KEY)
    keys["partition"], keys["user"] = partitions, users
    data = keys.tobytes()
    return [data[start : start + _KEY.itemsize] for start in range(0, len(data), _KEY.itemsize)]


def joined(family: str, keys: Sequence[bytes], values: Sequence[bytes | None]) -> tuple[bytes, I64]:
    """The values of several users back to back, and the row at which each one's end: int64[users]. None has no rows.

    Raises Damaged for a value that is not whole rows.
    """
    present, ends = ends_of(_STORE, family, keys, values, ROW_BYTES)
    return b"".join(present), ends


def cut(data: bytes, ends: I64) -> list[bytes]:
    """The inverse of `joined`."""
    stops = (ends * ROW_BYTES).tolist()
    return [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def pack_actions(actions: Actions) -> bytes:
    """The rows of `actions`."""
    packed = np.empty((len(actions.pins), 3), "<u8")
    packed[:, 0], packed[:, 1] = actions.pins, actions.boards
    packed[:, 2] = actions.at_ms.astype(np.uint64) << np.uint64(8) | actions.actions
    return packed.tobytes()


def unpack_actions(data: bytes) -> Actions:
    """The columns of rows of `actions`, as `joined` has them."""
    return Actions(*_columns(np.frombuffer(data, np.uint64)))


@kernel
def _columns(packed: U64) -> tuple[U64, U64, I64, U8]:
    n = len(packed) // 3
    pins, boards = np.empty(n, np.uint64), np.empty(n, np.uint64)
    at_ms, actions = np.empty(n, np.int64), np.empty(n, np.uint8)
    for i in range(n):
        stamp = packed[3 * i + 2]
        pins[i], boards[i] = packed[3 * i], packed[3 * i + 1]
        at_ms[i], actions[i] = stamp >> np.uint64(8), stamp & np.uint64(0xFF)
    return pins, boards, at_ms, actions


def pack_minutes(minutes: Minutes) -> bytes:
    """The rows of `minutes`."""
    packed = np.empty((len(minutes.minutes), 1 + KINDS), "<u4")
    packed[:, 0], packed[:, 1:] = minutes.minutes, minutes.counts
    return packed.tobytes()


def unpack_minutes(data: bytes) -> Minutes:
    """The columns of rows of `minutes`, as `joined` has them."""
    packed = np.frombuffer(data, "<u4").reshape(-1, 1 + KINDS)
    return Minutes(packed[:, 0].astype(np.int64), packed[:, 1:].copy())


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for a value that the store can't have written."""
    check_key(_STORE, family, key, _KEY.itemsize)
    check_rows(_STORE, family, key, value, ROW_BYTES)
    if family == "minutes":
        minutes = unpack_minutes(value).minutes
        if (minutes[1:] <= minutes[:-1]).any():
            refuse(_STORE, family, key, "its minutes do not ascend")
        return
    actions = unpack_actions(value)
    if not IS_ENGAGEMENT[actions.actions].all():
        refuse(_STORE, family, key, f"action {actions.actions[~IS_ENGAGEMENT[actions.actions]][0]} is done to no pin")
    if (actions.at_ms[1:] < actions.at_ms[:-1]).any():
        refuse(_STORE, family, key, "its actions do not ascend by date")
