"""RPCs of apiary."""

from typing import Any, NamedTuple

from apiary import order
from apiary.hops import Owned
from apiary.layout import BOARD, INTEREST, USER, Lists
from apiary.store import ApiaryStore
from protos import apiary_pb2 as pb
from protos import apiary_pb2_grpc as rpc
from services.core.columns import U64, pack, unpack
from services.core.errors import InvalidArgument

MAX_LIMIT = 100_000
MAX_IDS = 100_000


class Weights(NamedTuple):
    """The weights of followed boards, and how many boards each followed user brings."""

    direct: float
    through: float
    boards_per_user: int


class Apiary(rpc.ApiaryServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: ApiaryStore, weights: Weights) -> None:
        self._store, self._weights = store, weights
        self.FollowedBoards(pb.FollowedBoardsRequest(user=1, limit=1), None)  # kernels are compiled, or loaded, by now

    def Followed(self, request: pb.FollowedRequest, context: Any) -> pb.FollowedReply:
        """The follows of a user, newest first."""
        limit = _limit(request.limit)
        found = order.newest(self._store.followed(request.user), limit)
        ids, at_ms = pack(found.ids, "<u8"), pack(found.at_ms, "<i8")
        boards, interests = 8 * found.users, 8 * found.boards  # where they begin
        return pb.FollowedReply(
            users=ids[:boards],
            users_at_ms=at_ms[:boards],
            boards=ids[boards:interests],
            boards_at_ms=at_ms[boards:interests],
            interests=ids[interests:],
            interests_at_ms=at_ms[interests:],
        )

    def FollowedBoards(self, request: pb.FollowedBoardsRequest, context: Any) -> pb.FollowedBoardsReply:
        """The first hop, and the second for the followed users of this shard."""
        limit, weights = _limit(request.limit), self._weights
        follows = order.newest(self._store.followed(request.user), MAX_LIMIT)
        here, lists, elsewhere = self._store.owned_here(follows.ids[: follows.users])
        direct = slice(follows.users, follows.boards)
        owned = _owned(here, lists, weights.boards_per_user)
        found = order.best(follows.ids[direct], follows.at_ms[direct], weights.direct, owned, weights.through, limit)
        return pb.FollowedBoardsReply(
            boards=pack(found.boards, "<u8"),
            weights=pack(found.weights, "<f4"),
            owners=pack(found.owners, "<u8"),
            at_ms=pack(found.at_ms, "<i8"),
            elsewhere=pack(elsewhere, "<u8"),
            through_weight=weights.through,
            boards_per_user=weights.boards_per_user,
            followed_users=follows.users,
        )

    def OwnedBoards(self, request: pb.OwnedBoardsRequest, context: Any) -> pb.OwnedBoardsReply:
        """The newest boards of each owner."""
        owners = unpack(_bounded(request.owners, "owners"), "<u8", "owners")
        owned = _owned(owners, self._store.owned(owners), _limit(request.limit))
        return pb.OwnedBoardsReply(
            counts=pack(owned.counts, "<u4"), boards=pack(owned.boards, "<u8"), at_ms=pack(owned.at_ms, "<i8")
        )

    def FollowerCounts(self, request: pb.FollowerCountsRequest, context: Any) -> pb.FollowerCountsReply:
        """This shard's part of the follower counts."""
        if request.kind not in (USER, BOARD, INTEREST):
            raise InvalidArgument(f"kind = {request.kind}: allowed are {USER} user, {BOARD} board, {INTEREST} interest")
        targets = unpack(_bounded(request.targets, "targets"), "<u8", "targets")
        return pb.FollowerCountsReply(counts=pack(self._store.follower_counts(request.kind, targets), "<u4"))


def _owned(owners: U64, lists: Lists, limit: int) -> Owned:
    return order.newest_of_each(owners, lists.entries.ids, lists.entries.at_ms, lists.ends, limit)


def _limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"limit = {limit}: allowed are 1 to {MAX_LIMIT}")
    return limit


def _bounded(data: bytes, field: str) -> bytes:
    if len(data) > 8 * MAX_IDS:
        raise InvalidArgument(f"{field}: {len(data) // 8} ids; at most {MAX_IDS} a call")
    return data
