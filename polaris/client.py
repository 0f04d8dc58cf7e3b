"""How the others ask polaris: splits sources over shards and merges their answers, speaks numpy."""

from typing import Any, NamedTuple

import numpy as np

from protos import polaris_pb2 as pb
from services.core.columns import F32, I64, U8, U32, U64, Array, ids, pack, unpack
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "polaris"
BOARD, INTEREST = pb.SOURCE_KIND_BOARD, pb.SOURCE_KIND_INTEREST
MAX_DROPPED = 20_000
SEEN, DUPLICATE, NOT_BEST = pb.DROP_REASON_SEEN, pb.DROP_REASON_DUPLICATE, pb.DROP_REASON_NOT_BEST
DROP_REASONS = {int(number): name.removeprefix("DROP_REASON_").lower() for name, number in pb.DropReason.items()}


class Retrieved(NamedTuple):
    """Pins of several sources, best first, each once, and the fate of the other postings.

    source, dropped_source: index into the sources asked for. at_ms: when the pin joined that source. quality: NaN when
    it was never stated. considered: postings looked at, of which the filter rejected `seen`, and so on. dropped: at most
    MAX_DROPPED postings and the DropReason of each (protos/polaris.proto), with `explain`; those of earlier sources first.
    """

    pins: U64
    scores: F32
    source: U32
    at_ms: I64
    quality: F32
    considered: int
    seen: int
    taken_down: int
    too_old: int
    dropped_pins: U64
    dropped_source: U32
    dropped_reason: U8


class PostingLists(NamedTuple):
    """Posting lists back to back: counts[i] postings of source i. counts: uint32[n]; the other columns: [m]."""

    counts: U32
    pins: U64
    at_ms: I64
    quality: F32


class PolarisClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def retrieve(
        self,
        kinds: U8,
        sources: U64,
        weights: F32,
        *,
        seen: bytes,
        k: int,
        per_source: int,
        now_ms: int,
        max_age_ms: int,
        explain: bool = False,
        timeout: float,
    ) -> Retrieved:
        """The best `k` unseen pins of the sources, at most `per_source` of each; 0: no limit, as for `max_age_ms`.

        kinds: uint8[n] (BOARD or INTEREST of this module). weights: float32[n] > 0. seen: a filter's bytes, may be empty.
        Several shards answer what one would; only where a pin is on sources of two shards, each counts it in its own
        per_source, and the drop reasons are those of its own.
        """
        kinds, sources, weights = np.asarray(kinds, np.uint8), ids(sources), np.asarray(weights, np.float32)

        async def ask(shard: int, part: U64, rows: Array) -> Retrieved:
            alone = len(part) == len(sources)  # one shard has them all, in the order asked for
            request = pb.RetrieveRequest(
                kinds=pack(kinds if alone else kinds[rows], "<u1"),
                sources=pack(part, "<u8"),
                weights=pack(weights if alone else weights[rows], "<f4"),
                seen=seen,
                k=k,
                per_source=per_source,
                now_ms=now_ms,
                max_age_ms=max_age_ms,
                explain=explain,
            )
            found = _retrieved(await self._replicas.call(shard, "Retrieve", request, timeout))
            return (
                found
                if alone
                else found._replace(
                    source=rows[found.source].astype(np.uint32),
                    dropped_source=rows[found.dropped_source].astype(np.uint32),
                )
            )

        parts = [answer for _, answer in await self._replicas.each(sources, ask)]
        return parts[0] if len(parts) == 1 else _best(parts, k, explain)

    async def postings(self, kinds: U8, sources: U64, timeout: float) -> PostingLists:
        """The posting lists of the sources as they stand, without pins that were taken down."""
        kinds, sources = np.asarray(kinds, np.uint8), ids(sources)

        async def ask(shard: int, part: U64, rows: Array) -> Any:
            request = pb.PostingsRequest(kinds=pack(kinds[rows], "<u1"), sources=pack(part, "<u8"))
            return await self._replicas.call(shard, "Postings", request, timeout)

        return _listed(len(sources), await self._replicas.each(sources, ask))

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()


def _retrieved(reply: pb.RetrieveReply) -> Retrieved:
    """A shard's answer, the sources numbered as it was asked for them."""
    return Retrieved(
        unpack(reply.pins, "<u8", "pins"),
        unpack(reply.scores, "<f4", "scores"),
        unpack(reply.source, "<u4", "source"),
        unpack(reply.at_ms, "<i8", "at_ms"),
        unpack(reply.quality, "<f4", "quality"),
        reply.considered,
        reply.seen,
        reply.taken_down,
        reply.too_old,
        unpack(reply.dropped_pins, "<u8", "dropped_pins"),
        unpack(reply.dropped_source, "<u4", "dropped_source"),
        unpack(reply.dropped_reason, "<u1", "dropped_reason"),
    )


def _best(parts: list[Retrieved], k: int, explain: bool) -> Retrieved:
    """The best k of the answers by score, then pin, then source; a pin that several shards answered is kept once."""
    if not parts:
        return _retrieved(pb.RetrieveReply())
    every = _joined(parts)
    order = np.lexsort((every.source, every.pins, -every.scores))
    _, first = np.unique(every.pins[order], return_index=True)
    best_of_pin = order[np.sort(first)]
    kept = best_of_pin[:k]
    chosen = every._replace(**{name: getattr(every, name)[kept] for name in _CHOSEN})
    return _explained(chosen, every, best_of_pin, k) if explain else chosen


_CHOSEN = ("pins", "scores", "source", "at_ms", "quality")
_COUNTS = ("considered", "seen", "taken_down", "too_old")


def _joined(parts: list[Retrieved]) -> Retrieved:
    columns: dict[str, Any] = {}
    for name in Retrieved._fields:
        values = [getattr(part, name) for part in parts]
        columns[name] = sum(values) if name in _COUNTS else np.concatenate(values)
    return Retrieved(**columns)


def _explained(chosen: Retrieved, every: Retrieved, best_of_pin: Array, k: int) -> Retrieved:
    """The drops of the shards, and of their answers the worse postings of a pin and those after the k-th."""
    reasons = np.full(len(every.pins), DUPLICATE, np.uint8)
    reasons[best_of_pin] = NOT_BEST
    late = np.ones(len(every.pins), bool)
    late[best_of_pin[:k]] = False
    source = np.append(every.dropped_source, every.source[late])
    shown = np.argsort(source, kind="stable")[:MAX_DROPPED]
    return chosen._replace(
        dropped_pins=np.append(every.dropped_pins, every.pins[late])[shown],
        dropped_source=source[shown],
        dropped_reason=np.append(every.dropped_reason, reasons[late])[shown],
    )


def _listed(n: int, parts: list[tuple[Array, pb.PostingsReply]]) -> PostingLists:
    """The shards' lists in the order in which they were asked for."""
    counts, owner = np.zeros(n, np.uint32), [np.empty(0, np.int64)]
    for rows, reply in parts:
        counts[rows] = unpack(reply.counts, "<u4", "counts", len(rows))
        owner.append(np.repeat(rows, counts[rows]))
    order = np.argsort(np.concatenate(owner), kind="stable")
    pins = b"".join(reply.pins for _, reply in parts)
    at_ms = b"".join(reply.at_ms for _, reply in parts)
    quality = b"".join(reply.quality for _, reply in parts)
    columns = unpack(pins, "<u8", "pins"), unpack(at_ms, "<i8", "at_ms"), unpack(quality, "<f4", "quality")
    return PostingLists(counts, columns[0][order], columns[1][order], columns[2][order])
