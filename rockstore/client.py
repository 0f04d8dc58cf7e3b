"""How the others ask rockstore: by kind and ids, whatever shards they are on."""

from typing import Any, NamedTuple

import numpy as np

from protos import rockstore_pb2 as pb
from protos import rockstore_pb2_grpc as rpc
from services.columns import F32, I64, U8, U64, Array, Ragged, pack, unpack
from services.mesh import Mesh
from services.routing import Shards

NAME = "rockstore"
PIN, BOARD = pb.OBJECT_KIND_PIN, pb.OBJECT_KIND_BOARD
USER, INTEREST = pb.OBJECT_KIND_USER, pb.OBJECT_KIND_INTEREST


class Attributes(NamedTuple):
    """What is known of n objects, in the order asked. An object not found: empty texts, zeros, quality NaN."""

    found: Array  # bool[n]
    titles: list[str]
    links: list[str]
    owners: U64  # a board's owner, a pin's creator; 0: unknown
    quality: F32  # NaN: not stated
    at_ms: I64  # when it was created; 0: only spoken of so far
    taken_down: Array  # bool[n] a pin taken down, or a board deleted
    interests: Ragged  # uint64: a pin's interests


class RockstoreClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, rpc.RockstoreStub)

    async def attributes(self, kinds: U8 | int, ids: U64, timeout: float) -> Attributes:
        """What is known of these objects. At most 20,000 a shard.

        kinds: uint8[n], the kind of each (PIN, BOARD, USER or INTEREST of this module), or one for all.
        """
        kind = np.broadcast_to(np.asarray(kinds, np.uint8), len(ids))

        async def ask(stub: Any, part: U64, rows: Array) -> Any:
            request = pb.AttributesRequest(kinds=pack(kind[rows], "<u1"), ids=pack(part, "<u8"))
            return await self._shards.call(stub.Attributes, request, timeout)

        if not len(ids):
            return _NOTHING
        answers = await self._shards.each(np.asarray(ids, np.uint64), ask)
        return _attributes([rows for rows, _ in answers], [reply for _, reply in answers])

    async def list(self, kind: int, after: int, limit: int, timeout: float) -> U64:
        """The first `limit` ids of a kind above `after`, ascending: found, and not taken down. limit: 1 to 10,000."""
        request = pb.ListRequest(kind=kind, after=after, limit=limit)  # type: ignore[arg-type]
        replies = await self._shards.all(lambda stub: stub.List, request, timeout)
        found = [unpack(reply.ids, "<u8", "ids") for reply in replies]
        return np.sort(np.concatenate(found))[:limit]

    async def close(self) -> None:
        """Close the channels."""
        await self._shards.close()


_NO_IDS, _NO_FLAGS = np.empty(0, np.uint64), np.empty(0, bool)
_NO_QUALITY, _NO_DATES = np.empty(0, np.float32), np.empty(0, np.int64)
_NOTHING = Attributes(_NO_FLAGS, [], [], _NO_IDS, _NO_QUALITY, _NO_DATES, _NO_FLAGS, Ragged.empty(0, "<u8"))


def _attributes(rows: list[Array], replies: list[pb.AttributesReply]) -> Attributes:
    """The answers for these rows as one, in the order of the rows."""
    order = np.argsort(np.concatenate(rows))

    def column(name: str, dtype: str) -> Array:
        return np.concatenate([unpack(getattr(reply, name), dtype, name) for reply in replies])[order]

    def ragged(name: str, values: str, dtype: str) -> Ragged:
        lists = [getattr(reply, name) for reply in replies]
        parts = [Ragged(unpack(r.ends, "<u4", name), unpack(getattr(r, values), dtype, name)) for r in lists]
        return Ragged.concat(parts).take(order) if len(parts) > 1 else parts[0]

    return Attributes(
        column("found", "<u1").astype(bool),
        ragged("titles", "data", "<u1").strings(),
        ragged("links", "data", "<u1").strings(),
        column("owners", "<u8"),
        column("quality", "<f4"),
        column("at_ms", "<i8"),
        column("taken_down", "<u1").astype(bool),
        ragged("interests", "ids", "<u8"),
    )
