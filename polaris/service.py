"""RPCs of polaris."""

from typing import Any

import numpy as np

from polaris.kernel import KEPT
from polaris.layout import BOARD, INTEREST, Sources
from polaris.store import PolarisStore, Wanted
from protos import polaris_pb2 as pb
from protos import polaris_pb2_grpc as rpc
from services.core.columns import F32, Array, pack, unpack
from services.core.errors import InvalidArgument
from services.core.events import EARLIEST_MS
from services.kernels import bloom
from services.kernels.checks import all_kinds, all_weights

MAX_SOURCES = 10_000
MAX_K = 10_000
MAX_DROPPED = 20_000
LATEST_MS = 1 << 53  # far beyond any date, and far from where differences of dates overflow


class Polaris(rpc.PolarisServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: PolarisStore) -> None:
        self._store = store
        store.warm()  # no request waits for the compiler, in a process or in a test

    def Retrieve(self, request: pb.RetrieveRequest, context: Any) -> pb.RetrieveReply:
        """The best unseen pins of the sources."""
        if not (request.kinds or request.sources or request.weights):
            return pb.RetrieveReply()
        sources = _sources(request.kinds, request.sources)
        wanted = Wanted(
            _weights(request.weights, len(sources.ids)),
            bloom.of_bytes(request.seen, "seen"),
            _within("k", request.k, 1, MAX_K),
            request.per_source,
            _within("now_ms", request.now_ms, EARLIEST_MS, LATEST_MS),
            _within("max_age_ms", request.max_age_ms, 0, LATEST_MS),
            request.explain,
        )
        lists, chosen = self._store.retrieve(sources, wanted)
        reply = pb.RetrieveReply(
            pins=pack(chosen.pins, "<u8"),
            scores=pack(chosen.scores, "<f4"),
            source=pack(chosen.sources, "<u4"),
            at_ms=pack(chosen.at_ms, "<i8"),
            quality=pack(chosen.quality, "<f4"),
            considered=chosen.considered,
            seen=chosen.seen,
            taken_down=chosen.taken_down,
            too_old=chosen.too_old,
        )
        if request.explain:
            dropped = np.flatnonzero(chosen.reasons != KEPT)[:MAX_DROPPED]
            reply.dropped_pins = pack(lists.pins[dropped], "<u8")
            reply.dropped_source = pack(np.searchsorted(lists.ends, dropped, side="right"), "<u4")
            reply.dropped_reason = pack(chosen.reasons[dropped], "<u1")
        return reply

    def Postings(self, request: pb.PostingsRequest, context: Any) -> pb.PostingsReply:
        """The posting lists of the sources."""
        lists = self._store.postings(_sources(request.kinds, request.sources))
        return pb.PostingsReply(
            counts=pack(lists.counts(), "<u4"),
            pins=pack(lists.pins, "<u8"),
            at_ms=pack(lists.at_ms, "<i8"),
            quality=pack(lists.quality, "<f4"),
        )


def _sources(kinds: bytes, sources: bytes) -> Sources:
    ids = unpack(sources, "<u8", "sources")
    if len(ids) > MAX_SOURCES:
        raise InvalidArgument(f"sources: {len(ids)} ids; at most {MAX_SOURCES} a call")
    of = unpack(kinds, "<u1", "kinds", len(ids))
    if not all_kinds(of, BOARD, INTEREST):
        _refuse("kinds", of, (of < BOARD) | (of > INTEREST), f"allowed are {BOARD} board, {INTEREST} interest")
    return Sources(of, ids)


def _weights(data: bytes, n: int) -> F32:
    weights = unpack(data, "<f4", "weights", n)
    if not all_weights(weights):
        _refuse("weights", weights, ~(np.isfinite(weights) & (weights > 0)), "allowed are finite numbers above 0")
    return weights


def _refuse(field: str, values: Array, bad: Array, allowed: str) -> None:
    row = int(bad.argmax())
    raise InvalidArgument(f"{field}[{row}] = {values[row]}: {allowed}")


def _within(field: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidArgument(f"{field} = {value}: allowed are {low} to {high}")
    return value
