"""RPCs of rockstore."""

from typing import Any

from protos import events_pb2
from protos import rockstore_pb2 as pb
from protos import rockstore_pb2_grpc as rpc
from rockstore.layout import BOARD, INTEREST, PIN, USER
from rockstore.store import RockstoreStore
from rockstore.versions import check_name
from services.core.columns import U8, U64, Ragged, pack, unpack
from services.core.errors import InvalidArgument

MAX_IDS = 20_000
MAX_LIMIT = 10_000
_KINDS = {PIN: "pin", BOARD: "board", USER: "user", INTEREST: "interest"}


class Rockstore(rpc.RockstoreServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: RockstoreStore) -> None:
        self._store = store

    def Attributes(self, request: pb.AttributesRequest, context: Any) -> pb.AttributesReply:
        """Attributes of each object, in the order asked."""
        reached = self._store.reached() if request.reached else b""
        known = self._store.attributes(*_objects(request), texts=not request.bare, external=request.external)
        reply = pb.AttributesReply(
            found=pack(known.found, "<u1"),
            owners=pack(known.owners, "<u8"),
            quality=pack(known.quality, "<f4"),
            at_ms=pack(known.at_ms, "<i8"),
            taken_down=pack(known.taken_down, "<u1"),
            reached=reached,
            described=pack(known.described, "<u1"),
        )
        reply.interests.ends, reply.interests.ids = (
            pack(known.interests.ends, "<u4"),
            pack(known.interests.values, "<u8"),
        )
        if not request.bare:
            _set(reply.titles, known.titles)
            _set(reply.links, known.links)
        if request.external:
            _set(reply.externals, known.externals)
        if request.named:
            kinds, objects, names, externals = self._store.names(known)
            reply.named_kinds, reply.named_ids = pack(kinds, "<u1"), pack(objects, "<u8")
            _set(reply.names, names)
            if request.external:
                _set(reply.named_externals, externals)
        return reply

    def List(self, request: pb.ListRequest, context: Any) -> pb.ListReply:
        """Ids of one kind, ascending."""
        kind = _kind(request.kind)
        if not 1 <= request.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit = {request.limit}: allowed are 1 to {MAX_LIMIT}")
        return pb.ListReply(ids=pack(self._store.listed(kind, request.after, request.limit), "<u8"))

    def MultiGet(self, request: pb.MultiGetRequest, context: Any) -> pb.MultiGetReply:
        """Rows of a dataset, in the order asked; one that is not known has no columns, and finds nothing."""
        dataset, keys = check_name(request.dataset), _ids(request.keys, "keys")
        reached = self._store.reached() if request.reached else b""
        rows = self._store.datasets.rows(dataset, keys)
        return pb.MultiGetReply(
            columns=rows.columns,
            values=pack(rows.values, "<f4"),
            found=pack(rows.found, "<u1"),
            at_ms=pack(rows.at_ms, "<i8"),
            version=rows.version,
            reached=reached,
        )

    def Datasets(self, request: pb.DatasetsRequest, context: Any) -> pb.DatasetsReply:
        """The datasets of this shard, by name."""
        return pb.DatasetsReply(datasets=[pb.Dataset(**of._asdict()) for of in self._store.datasets.described()])


def _set(strings: events_pb2.Strings, texts: Ragged) -> None:
    strings.ends, strings.data = pack(texts.ends, "<u4"), pack(texts.values, "<u1")


def _kind(kind: int) -> int:
    if kind not in _KINDS:
        allowed = ", ".join(f"{number} {name}" for number, name in _KINDS.items())
        raise InvalidArgument(f"kind = {kind}: allowed are {allowed}")
    return kind


def _ids(data: bytes, field: str) -> U64:
    if len(data) > 8 * MAX_IDS:
        raise InvalidArgument(f"{field}: {len(data) // 8} {field}; at most {MAX_IDS} a call")
    return unpack(data, "<u8", field)


def _objects(request: pb.AttributesRequest) -> tuple[U8, U64]:
    ids = _ids(request.ids, "ids")
    kinds = unpack(request.kinds, "<u1", "kinds", len(ids))
    for kind in set(request.kinds):
        _kind(kind)
    return kinds, ids
