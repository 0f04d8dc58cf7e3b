"""How the others ask counters: hides shards, speaks numpy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from counters.leaders import best
from protos import counters_pb2 as pb
from services.core.columns import F32, U8, U64, pack, unpack
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "counters"
F16 = NDArray[np.float16]


class Top(NamedTuple):
    """The k objects with the highest counts, most first, then by id. objects: uint64[k]; counts: float32[k]."""

    objects: U64
    counts: F32


class CountersClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def counts(
        self,
        kinds: U8 | int,
        objects: U64,
        actions: Sequence[int],
        windows_ms: Sequence[int],
        *,
        now_ms: int = 0,
        timeout: float,
    ) -> F16:
        """float16[n, a, w]: how often each action was done to each of n objects in each window that ends at `now_ms`.

        kinds: the Kind of each object, or of all. windows_ms: whole hours up to 7 days, whole days up to 90, or 0: ever.
        now_ms: 0 is the shards' clock. At most 50,000 objects on a shard and 65,504 of a count, which is rounded to 11
        bits above 2,048. An unknown object has zeros.
        """
        of_each = np.broadcast_to(np.asarray(kinds, np.uint8), len(objects))
        asked = pb.GetCountsRequest(
            actions=pack(np.array(actions), "<u1"), windows=pack(np.array(windows_ms), "<i8"), now_ms=now_ms
        )

        async def ask(shard: int, part: U64, rows: Any) -> Any:
            request = pb.GetCountsRequest(kinds=pack(of_each[rows], "<u1"), objects=pack(part, "<u8"))
            request.MergeFrom(asked)
            return await self._replicas.call(shard, "GetCounts", request, timeout)

        shape = (len(actions), len(windows_ms))
        found = np.zeros((len(objects), *shape), np.float16)
        for rows, reply in await self._replicas.each(np.asarray(objects, np.uint64), ask):
            found[rows] = unpack(reply.counts, "<f2", "counts", len(rows) * shape[0] * shape[1]).reshape(-1, *shape)
        return found

    async def top(self, kind: int, action: int, window_ms: int, k: int, *, now_ms: int = 0, timeout: float) -> Top:
        """The k (1 to 1,000) objects of a kind (pin, board or interest) to which an action was done most often.

        Exact for window 0, ever; for others the best among the candidates that each shard remembers (README).
        """
        request = pb.TopRequest(kind=kind, action=action, window=window_ms, k=k, now_ms=now_ms)  # type: ignore[arg-type]
        replies = await self._replicas.all("Top", request, timeout)
        objects = np.concatenate([unpack(reply.objects, "<u8", "objects") for reply in replies])
        counts = np.concatenate([unpack(reply.counts, "<f4", "counts") for reply in replies])
        rows = best(objects, counts)[:k]
        return Top(objects[rows], counts[rows])

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()
