"""How the others ask realpin: hides shards, speaks numpy."""

from typing import NamedTuple

from protos import realpin_pb2 as pb
from services.core.columns import F32, I64, U32, U64, unpack
from services.core.events import ENGAGEMENTS
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "realpin"


class Signals(NamedTuple):
    """The signals of a user. Weights and affinities are as of the newest action for a pin: only proportions mean anything.

    Engaged pins, greatest weight first: pins uint64[n], weights float32[n] above 0, boards uint64[n] and at_ms int64[n]
    of the last action. Interests, greatest affinity first: interests uint64[m], affinities float32[m], below 0 where
    what was hidden outweighs the rest. windows_ms int64[w] ascending; counts uint32[w, 5] of ENGAGEMENTS in their order.
    newest_ms: the newest action, 0: none. interests_lost: of some pins no interests are known now, and pins taken down
    may be among the pins.
    """

    pins: U64
    weights: F32
    boards: U64
    at_ms: I64
    interests: U64
    affinities: F32
    windows_ms: I64
    counts: U32
    newest_ms: int
    interests_lost: bool


class RealpinClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def signals(self, user: int, *, pins: int, interests: int, now_ms: int = 0, timeout: float) -> Signals:
        """At most so many engaged pins and interests (0 to 1000 each) at now_ms (0: the server's clock).

        An unknown user has no pins and interests, and counts of 0.
        """
        request = pb.SignalsRequest(user=user, pins=pins, interests=interests, now_ms=now_ms)
        r = await self._replicas.call(self._replicas.shard_of(user), "Signals", request, timeout)
        windows_ms = unpack(r.windows_ms, "<i8", "windows_ms")
        counts = unpack(r.counts, "<u4", "counts", len(windows_ms) * len(ENGAGEMENTS))
        return Signals(
            unpack(r.pins, "<u8", "pins"),
            unpack(r.weights, "<f4", "weights"),
            unpack(r.boards, "<u8", "boards"),
            unpack(r.at_ms, "<i8", "at_ms"),
            unpack(r.interests, "<u8", "interests"),
            unpack(r.affinities, "<f4", "affinities"),
            windows_ms,
            counts.reshape(len(windows_ms), len(ENGAGEMENTS)),
            r.newest_ms,
            r.interests_lost,
        )

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()
