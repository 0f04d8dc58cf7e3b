"""How the others ask aperture: a user's history is on one shard; speaks numpy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from protos import aperture_pb2 as pb
from services.core.columns import I64, U8, U32, U64, pack, unpack
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "aperture"
NOTHING, PIN, BOARD = pb.COUNTS_BY_NOTHING, pb.COUNTS_BY_PIN, pb.COUNTS_BY_BOARD
SURFACE, DAY = pb.COUNTS_BY_SURFACE, pb.COUNTS_BY_DAY


class UserHistory(NamedTuple):
    """n events as columns, newest first."""

    pins: U64
    boards: U64
    actions: U8
    surfaces: U8
    at_ms: I64


class MetPins(NamedTuple):
    """The distinct pins met. filter: of services/kernels/bloom.py, as it travels; exact: ascending, empty unless asked."""

    filter: bytes
    pins: int
    exact: U64


class ActionCounts(NamedTuple):
    """counts[n, w, a]: how often each action (a) was done to each key (n, ascending) within each window (w)."""

    keys: U64
    counts: U32


class ApertureClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def history(
        self,
        user: int,
        *,
        since_ms: int = 0,
        until_ms: int = 0,
        actions: Sequence[int] = (),
        limit: int,
        timeout: float,
    ) -> UserHistory:
        """The `limit` (1 to 1,000,000) newest events from since_ms to before until_ms (0: no end); no actions: all."""
        request = pb.HistoryRequest(
            user=user, since_ms=since_ms, until_ms=until_ms, actions=_packed(actions), limit=limit
        )
        r = await self._replicas.call(self._replicas.shard_of(user), "History", request, timeout)
        pins, boards = unpack(r.pins, "<u8", "pins"), unpack(r.boards, "<u8", "boards")
        done, surfaces = unpack(r.actions, "<u1", "actions"), unpack(r.surfaces, "<u1", "surfaces")
        return UserHistory(pins, boards, done, surfaces, unpack(r.at_ms, "<i8", "at_ms"))

    async def seen_filter(
        self,
        user: int,
        *,
        since_ms: int = 0,
        actions: Sequence[int] = (),
        false_positive_rate: float = 0.01,
        exact: bool = False,
        timeout: float,
    ) -> MetPins:
        """The distinct pins since then as a filter of this rate (0.0001 to 0.5), and themselves if `exact`."""
        request = pb.SeenFilterRequest(
            user=user,
            since_ms=since_ms,
            actions=_packed(actions),
            false_positive_rate=false_positive_rate,
            exact=exact,
        )
        reply = await self._replicas.call(self._replicas.shard_of(user), "SeenFilter", request, timeout)
        return MetPins(reply.filter, reply.pins, unpack(reply.exact, "<u8", "exact"))

    async def counts(
        self,
        user: int,
        *,
        actions: Sequence[int],
        windows_ms: Sequence[int],
        by: int = NOTHING,
        now_ms: int = 0,
        timeout: float,
    ) -> ActionCounts:
        """How often each action was done in the last windows_ms[i] before now_ms (0: the server's clock).

        by: NOTHING, PIN, BOARD, SURFACE or DAY of this module.
        """
        request = pb.CountsRequest(
            user=user,
            actions=_packed(actions),
            windows_ms=pack(np.asarray(windows_ms, np.int64), "<i8"),
            by=by,  # type: ignore[arg-type]
            now_ms=now_ms,
        )
        reply = await self._replicas.call(self._replicas.shard_of(user), "Counts", request, timeout)
        counts = unpack(reply.counts, "<u4", "counts")
        keys = unpack(reply.keys, "<u8", "keys")
        return ActionCounts(keys, counts.reshape(len(keys), len(windows_ms), len(actions)))

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()


def _packed(actions: Sequence[int]) -> bytes:
    return bytes(actions)
