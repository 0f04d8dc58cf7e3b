"""The client of rockstore: reads by kind and ids, on whatever shards they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from protos import events_pb2
from protos import rockstore_pb2 as pb
from services.core.columns import F32, I64, U8, U64, Array, Ragged, pack, unpack
from services.core.topics import Topic
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet
from services.state.change_feed import UNKNOWN, ViewPosition

NAME = "rockstore"
PIN, BOARD = pb.OBJECT_KIND_PIN, pb.OBJECT_KIND_BOARD
USER, INTEREST = pb.OBJECT_KIND_USER, pb.OBJECT_KIND_INTEREST


_NO_IDS, _NO_FLAGS = np.empty(0, np.uint64), np.empty(0, bool)
NO_POSITION = ViewPosition(UNKNOWN, {})


class Attributes(NamedTuple):
    """Attributes of n objects, in the order asked. An object not found: empty texts, zeros, quality NaN."""

    found: Array  # bool[n]
    titles: list[str]  # empty when asked for without, as are links
    links: list[str]
    owners: U64  # a board's owner, a pin's creator; 0: unknown
    quality: F32  # NaN: not stated
    at_ms: I64  # when it was created; 0: only spoken of so far
    taken_down: Array  # bool[n] a pin taken down, or a board deleted
    interests: Ragged  # uint64: a pin's interests
    names: Mapping[tuple[int, int], str] = {}  # by kind (USER, INTEREST) and id, when asked for
    position: ViewPosition = NO_POSITION  # when asked for: how far the log had been applied before it was read
    described: Array = _NO_FLAGS  # bool[n] created, or something was stated of it; else it was only spoken of so far
    externals: Sequence[str] = ()  # external ids; empty: none was stated. Only where ids are text, and not bare
    named_externals: Mapping[tuple[int, int], str] = {}  # of the objects in `names`


class MergedRows(NamedTuple):
    """The rows of n keys in the order asked. Of a key not found values are NaN and at_ms is 0.

    While a switch is on its way, shards may serve different versions: then the columns are those of the newest, by
    name, and NaN where an older one does not have them.
    """

    columns: list[str]
    values: F32  # [n, c]
    found: Array  # bool[n]
    at_ms: I64  # when each was computed, or came by the log
    version: int  # the newest bulk load among them; 0: none, the rows are live ones
    position: ViewPosition = NO_POSITION  # when asked for: as of Attributes


class ServedDataset(NamedTuple):
    """A dataset over all shards."""

    name: str
    columns: list[str]
    version: int  # the newest that is served; 0: live rows alone
    versions: list[int]  # that shards keep, ascending
    rows: int  # of the version served; live rows are not counted
    as_of_ms: int  # when the version's values were computed
    problem: str  # why a version was not taken, or live rows were passed over; empty: all is well


Datasets = list[ServedDataset]


class RockstoreClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas, self._external = ReplicaSet(mesh, NAME), mesh.text_ids

    async def attributes(
        self,
        kinds: U8 | int,
        ids: U64,
        timeout: float,
        *,
        bare: bool = False,
        named: bool = False,
        reached: bool = False,
        external: bool | None = None,
    ) -> Attributes:
        """Attributes of these objects. At most 20,000 a shard.

        kinds: uint8[n], the kind of each (PIN, BOARD, USER or INTEREST of this module), or one for all. bare: without
        titles and links. named: also the names of their owners and interests, of those that are on the shards asked.
        reached: also how far the log had been applied.
        external: also external ids; where ids are text they come with the other texts by themselves.
        """
        kind = np.full(len(ids), kinds, np.uint8)
        external = self._external and not bare if external is None else external

        async def ask(shard: int, part: U64, rows: Array) -> Any:
            of = pack(kind if len(rows) == len(kind) else kind[rows], "<u1")
            request = pb.AttributesRequest(
                kinds=of, ids=pack(part, "<u8"), bare=bare, named=named, reached=reached, external=external
            )
            return await self._replicas.call(shard, "Attributes", request, timeout)

        if not len(ids):
            return _NOTHING
        answers = await self._replicas.each(np.asarray(ids, np.uint64), ask)
        return _attributes([rows for rows, _ in answers], [reply for _, reply in answers], bare)

    async def list(self, kind: int, after: int, limit: int, timeout: float) -> U64:
        """The first `limit` ids of a kind above `after`, ascending: found, and not taken down. limit: 1 to 10,000."""
        request = pb.ListRequest(kind=kind, after=after, limit=limit)  # type: ignore[arg-type]
        replies = await self._replicas.all("List", request, timeout)
        found = [unpack(reply.ids, "<u8", "ids") for reply in replies]
        return np.sort(np.concatenate(found))[:limit]

    async def rows(self, dataset: str, keys: U64, timeout: float, *, reached: bool = False) -> MergedRows:
        """The rows of these keys, duplicates too. At most 20,000 a shard. A dataset not known finds nothing.

        reached: also how far the log had been applied.

        Raises InvalidArgument when no dataset can have the name.
        """

        async def ask(shard: int, part: U64, rows: Array) -> Any:
            request = pb.MultiGetRequest(dataset=dataset, keys=pack(part, "<u8"), reached=reached)
            return await self._replicas.call(shard, "MultiGet", request, timeout)

        if not len(keys):
            return _rows(0, [(np.empty(0, np.int64), await ask(0, _NO_IDS, _NO_FLAGS))])
        return _rows(len(keys), await self._replicas.each(np.asarray(keys, np.uint64), ask))

    async def datasets(self, timeout: float) -> Datasets:
        """Every dataset, by name."""
        replies = await self._replicas.all("Datasets", pb.DatasetsRequest(), timeout)
        of: dict[str, list[pb.Dataset]] = {}
        for found in (dataset for reply in replies for dataset in reply.datasets):
            of.setdefault(found.name, []).append(found)
        return [_dataset(name, parts) for name, parts in sorted(of.items())]

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()


_NO_QUALITY, _NO_DATES = np.empty(0, np.float32), np.empty(0, np.int64)
_NO_TEXTS = Ragged.empty(0)
_NOTHING = Attributes(_NO_FLAGS, [], [], _NO_IDS, _NO_QUALITY, _NO_DATES, _NO_FLAGS, Ragged.empty(0, "<u8"))


def _attributes(rows: list[Array], replies: list[pb.AttributesReply], bare: bool) -> Attributes:
    """The answers for these rows as one, in the order of the rows."""
    parts = [_part(reply, len(of), bare) for of, reply in zip(rows, replies, strict=True)]
    found, owners, quality, at_ms, taken_down, described, titles, links, externals, interests = parts[0]
    if len(parts) > 1:
        order = np.argsort(np.concatenate(rows))
        columns = list(zip(*parts, strict=True))
        fixed, ragged = columns[:6], columns[6:]
        found, owners, quality, at_ms, taken_down, described = (np.concatenate(column)[order] for column in fixed)
        titles, links, externals, interests = (Ragged.concat(list(column)) for column in ragged)
        interests = interests.take(order)
        externals = externals.take(order) if len(externals) else externals
        if not bare:
            titles, links = titles.take(order), links.take(order)
    return Attributes(
        found.view(bool),
        [] if bare else titles.strings(),
        [] if bare else links.strings(),
        owners,
        quality,
        at_ms,
        taken_down.view(bool),
        interests,
        {key: name for reply in replies if reply.named_ids for key, name in _names(reply, reply.names)},
        _position(replies),
        described.view(bool),
        externals.strings() if len(externals) else (),
        {
            key: name
            for reply in replies
            if reply.named_externals.ends
            for key, name in _names(reply, reply.named_externals)
        },
    )


def _part(reply: pb.AttributesReply, n: int, bare: bool) -> tuple[Any, ...]:
    """Columns of one answer: fixed ones, titles, links, external ids and interests."""
    of = reply.interests
    return (
        unpack(reply.found, "<u1", "found", n),
        unpack(reply.owners, "<u8", "owners", n),
        unpack(reply.quality, "<f4", "quality", n),
        unpack(reply.at_ms, "<i8", "at_ms", n),
        unpack(reply.taken_down, "<u1", "taken_down", n),
        unpack(reply.described, "<u1", "described", n) if reply.described else np.ones(n, np.uint8),
        _NO_TEXTS if bare else _strings(reply.titles),
        _NO_TEXTS if bare else _strings(reply.links),
        _strings(reply.externals) if reply.externals.ends else _NO_TEXTS,
        Ragged(unpack(of.ends, "<u4", "interests", n), unpack(of.ids, "<u8", "interests")),
    )


def _strings(texts: events_pb2.Strings) -> Ragged:
    return Ragged(unpack(texts.ends, "<u4", "ends"), unpack(texts.data, "<u1", "data"))


def _names(reply: pb.AttributesReply, texts: events_pb2.Strings) -> Iterable[tuple[tuple[int, int], str]]:
    ids = unpack(reply.named_ids, "<u8", "named_ids")
    kinds = unpack(reply.named_kinds, "<u1", "named_kinds", len(ids))
    return zip(zip(kinds.tolist(), ids.tolist(), strict=True), _strings(texts).strings(), strict=True)


def _rows(n: int, replies: list[tuple[Array, pb.MultiGetReply]]) -> MergedRows:
    """The answers for these rows of n as one."""
    newest = max((reply for _, reply in replies), key=lambda reply: (reply.version, len(reply.columns)))
    columns = list(newest.columns)
    values = np.full((n, len(columns)), np.nan, np.float32)
    found, at_ms = np.zeros(n, bool), np.zeros(n, np.int64)
    for rows, reply in replies:
        found[rows] = unpack(reply.found, "<u1", "found", len(rows)).astype(bool)
        at_ms[rows] = unpack(reply.at_ms, "<i8", "at_ms", len(rows))
        theirs = list(reply.columns)
        part = unpack(reply.values, "<f4", "values", len(rows) * len(theirs)).reshape(len(rows), len(theirs))
        if theirs == columns:
            values[rows] = part
        else:
            for i, column in enumerate(columns):
                if column in theirs:
                    values[rows, i] = part[:, theirs.index(column)]
    return MergedRows(columns, values, found, at_ms, newest.version, _position([reply for _, reply in replies]))


def _position(replies: Sequence[pb.AttributesReply | pb.MultiGetReply]) -> ViewPosition:
    return ViewPosition.of((reply.reached for reply in replies if reply.reached), Topic.OBJECTS)


def _dataset(name: str, parts: list[pb.Dataset]) -> ServedDataset:
    """The reports of the shards on one dataset, as one."""
    newest = max(parts, key=lambda part: (part.version, len(part.columns)))
    rows = sum(part.rows for part in parts if part.version == newest.version)
    versions = sorted({version for part in parts for version in part.versions})
    problem = "; ".join(dict.fromkeys(part.problem for part in parts if part.problem))
    return ServedDataset(name, list(newest.columns), newest.version, versions, rows, newest.as_of_ms, problem)
