"""How the edge asks for a feed."""

from protos import feedgen_pb2 as pb
from protos import feedgen_pb2_grpc as rpc
from services.mesh import Mesh
from services.routing import Shards

NAME = "feedgen"


class FeedgenClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, rpc.FeedgenStub)

    async def feed(self, user: int, feed: str, limit: int, cursor: str, explain: bool, timeout: float) -> pb.FeedReply:
        """One page within `timeout` seconds. Raises InvalidArgument, Unimplemented, Unavailable."""
        request = pb.FeedRequest(user=user, feed=feed, limit=limit, cursor=cursor, explain=explain)
        reply: pb.FeedReply = await self._shards.call(self._shards.owner(user).Feed, request, timeout)
        return reply

    async def close(self) -> None:
        """Close the channel."""
        await self._shards.close()
