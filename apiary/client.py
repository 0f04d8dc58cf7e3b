"""How the others ask apiary: hides shards and the second hop, speaks numpy."""

from typing import Any, NamedTuple

import numpy as np

from apiary.hops import FollowedBoards, Owned, merge
from protos import apiary_pb2 as pb
from services.core.columns import I64, U32, U64, Array, pack, unpack
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "apiary"
USER, BOARD, INTEREST = pb.FOLLOW_KIND_USER, pb.FOLLOW_KIND_BOARD, pb.FOLLOW_KIND_INTEREST


class Followed(NamedTuple):
    """The follows of a user, newest first: ids (uint64) and dates (int64 ms) of users, boards and interests."""

    users: U64
    users_at_ms: I64
    boards: U64
    boards_at_ms: I64
    interests: U64
    interests_at_ms: I64


class ApiaryClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def followed(self, user: int, limit: int, timeout: float) -> Followed:
        """Users, boards and interests that a user follows, at most `limit` of each."""
        request = pb.FollowedRequest(user=user, limit=limit)
        r = await self._replicas.call(self._replicas.shard_of(user), "Followed", request, timeout)
        users, users_at_ms = unpack(r.users, "<u8", "users"), unpack(r.users_at_ms, "<i8", "users_at_ms")
        boards, boards_at_ms = unpack(r.boards, "<u8", "boards"), unpack(r.boards_at_ms, "<i8", "boards_at_ms")
        interests = unpack(r.interests, "<u8", "interests")
        interests_at_ms = unpack(r.interests_at_ms, "<i8", "interests_at_ms")
        return Followed(users, users_at_ms, boards, boards_at_ms, interests, interests_at_ms)

    async def followed_boards(self, user: int, limit: int, timeout: float) -> FollowedBoards:
        """The `limit` best boards a user follows, directly or through users."""
        request = pb.FollowedBoardsRequest(user=user, limit=limit)
        reply = await self._replicas.call(self._replicas.shard_of(user), "FollowedBoards", request, timeout)
        found = FollowedBoards(
            unpack(reply.boards, "<u8", "boards"),
            unpack(reply.weights, "<f4", "weights"),
            unpack(reply.owners, "<u8", "owners"),
            unpack(reply.at_ms, "<i8", "at_ms"),
        )
        elsewhere = unpack(reply.elsewhere, "<u8", "elsewhere")
        if not len(elsewhere):
            return found
        more = await self.owned_boards(elsewhere, reply.boards_per_user, timeout)
        return merge(found, more, reply.through_weight, limit)

    async def owned_boards(self, owners: U64, limit: int, timeout: float) -> Owned:
        """The `limit` newest boards of each owner; owners in an order of the shards' own."""

        async def ask(shard: int, part: U64, _: Array) -> Any:
            request = pb.OwnedBoardsRequest(owners=pack(part, "<u8"), limit=limit)
            return await self._replicas.call(shard, "OwnedBoards", request, timeout)

        parts = [
            _owned(owners[rows], reply) for rows, reply in await self._replicas.each(np.asarray(owners, np.uint64), ask)
        ]
        return Owned(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else _NO_BOARDS

    async def follower_counts(self, kind: int, targets: U64, timeout: float) -> U32:
        """uint32[n]: how many users follow each target (kind: USER, BOARD or INTEREST of this module)."""
        request = pb.FollowerCountsRequest(kind=kind, targets=pack(targets, "<u8"))  # type: ignore[arg-type]
        replies = await self._replicas.all("FollowerCounts", request, timeout)
        counts = [unpack(reply.counts, "<u4", "counts") for reply in replies]
        return np.asarray(np.sum(counts, axis=0), np.uint32)

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()


_NO_BOARDS = Owned(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))


def _owned(owners: U64, reply: pb.OwnedBoardsReply) -> Owned:
    counts = unpack(reply.counts, "<u4", "counts").astype(np.int64)
    boards = unpack(reply.boards, "<u8", "boards")
    return Owned(counts, boards, np.repeat(owners, counts), unpack(reply.at_ms, "<i8", "at_ms"))
