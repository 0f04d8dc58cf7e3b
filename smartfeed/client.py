"""How the others ask smartfeed: by user and feed, whatever shard the user is on."""

from typing import NamedTuple

from protos import smartfeed_pb2 as pb
from protos import smartfeed_pb2_grpc as rpc
from services.columns import U64, unpack
from services.mesh import Mesh
from services.routing import Shards

NAME = "smartfeed"


class LastServed(NamedTuple):
    """The pins of a feed in the order served, with the board each came from. at_ms 0: nothing ever was served."""

    pins: U64
    boards: U64
    at_ms: int


class SmartfeedClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, rpc.SmartfeedStub)

    async def last_served(self, user: int, feed: int, timeout: float) -> LastServed:
        """What a user was last served of a feed (services.events.Surface); an unknown user: nothing."""
        request = pb.LastServedRequest(user=user, feed=feed)
        reply = await self._shards.call(self._shards.owner(user).LastServed, request, timeout)
        return LastServed(unpack(reply.pins, "<u8", "pins"), unpack(reply.boards, "<u8", "boards"), reply.at_ms)

    async def close(self) -> None:
        """Close the channels."""
        await self._shards.close()
