"""How the others ask smartfeed: by user and feed, whatever shard the user is on."""

from typing import NamedTuple

from protos import smartfeed_pb2 as pb
from services.core.columns import U64, unpack
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "smartfeed"


class LastServed(NamedTuple):
    """The pins of a feed, newest pages first, with the board each came from. at_ms 0: nothing ever was served; removed:
    what the user last saved or hid.
    """

    pins: U64
    boards: U64
    at_ms: int
    removed: U64


class SmartfeedClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def last_served(self, user: int, feed: int, timeout: float) -> LastServed:
        """The pins that a user was last served of a feed (services.core.events.Surface); an unknown user: none."""
        request = pb.LastServedRequest(user=user, feed=feed)
        reply = await self._replicas.call(self._replicas.shard_of(user), "LastServed", request, timeout)
        pins = unpack(reply.pins, "<u8", "pins")
        boards, removed = unpack(reply.boards, "<u8", "boards", len(pins)), unpack(reply.removed, "<u8", "removed")
        return LastServed(pins, boards, reply.at_ms, removed)

    async def shown(self, user: int, feed: int, timeout: float) -> U64:
        """Every pin of a feed's pages since its last first page, in order; of an unknown user: none."""
        request = pb.LastServedRequest(user=user, feed=feed, shown=True)
        reply = await self._replicas.call(self._replicas.shard_of(user), "LastServed", request, timeout)
        return unpack(reply.shown, "<u8", "shown")

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()
