"""Many questions to every view, to be asked of single processes: replicas that applied the same log answer them alike."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import grpc
import numpy as np

from protos import (
    aperture_pb2,
    apiary_pb2,
    counters_pb2,
    polaris_pb2,
    realpin_pb2,
    rockstore_pb2,
    smartfeed_pb2,
)
from services.core.events import Surface
from services.rpc.channel import open_sync
from services.rpc.mesh import Address

KINDS = rockstore_pb2.ObjectKind.values()[1:]
NOW_MS = 1_900_000_000_000  # one moment for all, after whatever tests publish
ACTIONS = bytes((20, 21, 22, 23, 24))


def u8(values: Any) -> bytes:
    return np.asarray(values, "<u8").tobytes()


Questions = Iterator[tuple[str, Any]]  # method, request


def _apiary(ids: list[int]) -> Questions:
    for user in ids:
        yield "Followed", apiary_pb2.FollowedRequest(user=user, limit=1000)
        yield "FollowedBoards", apiary_pb2.FollowedBoardsRequest(user=user, limit=1000)
    yield "OwnedBoards", apiary_pb2.OwnedBoardsRequest(owners=u8(ids), limit=1000)
    for kind in apiary_pb2.FollowKind.values()[1:]:
        yield "FollowerCounts", apiary_pb2.FollowerCountsRequest(kind=kind, targets=u8(ids))


def _aperture(ids: list[int]) -> Questions:
    for user in ids:
        yield "History", aperture_pb2.HistoryRequest(user=user, limit=10_000)
        yield "SeenFilter", aperture_pb2.SeenFilterRequest(user=user, false_positive_rate=0.01, exact=True)


def _counters(ids: list[int]) -> Questions:
    windows = np.array([0, 7 * 86_400_000], "<i8").tobytes()
    for kind in KINDS:
        yield (
            "GetCounts",
            counters_pb2.GetCountsRequest(
                kinds=bytes([kind]) * len(ids), objects=u8(ids), actions=ACTIONS, windows=windows, now_ms=NOW_MS
            ),
        )
    for action in ACTIONS:
        yield "Top", counters_pb2.TopRequest(kind=rockstore_pb2.OBJECT_KIND_PIN, action=action, k=500, now_ms=NOW_MS)


def _polaris(ids: list[int]) -> Questions:
    for kind in (1, 2):
        yield "Postings", polaris_pb2.PostingsRequest(kinds=bytes([kind]) * len(ids), sources=u8(ids))


def _realpin(ids: list[int]) -> Questions:
    for user in ids:
        yield "Signals", realpin_pb2.SignalsRequest(user=user, pins=500, interests=500, now_ms=NOW_MS)


def _rockstore(ids: list[int]) -> Questions:
    for kind in KINDS:
        yield "Attributes", rockstore_pb2.AttributesRequest(kinds=bytes([kind]) * len(ids), ids=u8(ids), named=True)
        yield "List", rockstore_pb2.ListRequest(kind=kind, limit=10_000)


def _smartfeed(ids: list[int]) -> Questions:
    for user, feed in product(ids, Surface):
        yield "LastServed", smartfeed_pb2.LastServedRequest(user=user, feed=feed, shown=True)


#: By view: about these users, boards and pins, whichever they are.
QUESTIONS: dict[str, Callable[[list[int]], Questions]] = {
    "apiary": _apiary,
    "aperture": _aperture,
    "counters": _counters,
    "polaris": _polaris,
    "realpin": _realpin,
    "rockstore": _rockstore,
    "smartfeed": _smartfeed,
}


def answers(process: Address, ids: list[int]) -> list[tuple[str, bytes]]:
    """Of one process, each as its bytes, or the status of its refusal."""
    found = []
    with open_sync(process.address) as channel:
        for method, request in QUESTIONS[process.service](ids):
            path = f"/feedmesh.{process.service.capitalize()}/{method}"
            ask: Any = channel.unary_unary(path, request_serializer=type(request).SerializeToString)
            try:
                found.append((method, bytes(ask(request, timeout=60.0))))
            except grpc.RpcError as error:
                found.append((method, f"{error.code()}: {error.details()}".encode()))
    return found
