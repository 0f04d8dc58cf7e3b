"""Bytes on disk of rockstore. All keys begin with the partition (u2), all integers in keys are big-endian.

| family   | key                                | value                             |
|----------|------------------------------------|-----------------------------------|
| objects  | partition, kind u1, id u8          | header, interests, title, link; dates; external id and its length u1 |
| rows     | partition, dataset u8, version u8, key u8 | f4 each column, of a bulk load |
| live     | partition, dataset u8, key u8      | at_ms i8, columns u4, f4 each     |
| datasets | partition, dataset's name          | State as JSON                     |

The header is HEADER, little-endian: dates and numbers, and how long the rest is. Interests are u8 each, texts UTF-8.
Dates are i8: when the title, link, quality and owner were stated that stand; of a board that of the link is when it was
deleted last. The external id ends the value. Each is there where a flag of the header says so: older values have neither.
One packed value an object: a read decodes thousands of headers as one array. In memory a value is kept in its parts,
so that reading many is joining them. Of rows too: a dataset in a key is the
hash of its name, `columns` of a live row the checksum of the names that its numbers were sent for.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np

from services.core.checks import check_ends
from services.core.columns import F32, I64, U8, U64, Array, Ragged
from services.state.stored import check_key, check_rows, check_size, refuse

FORMAT = "rockstore 1"
FAMILIES = ("objects", "rows", "live", "datasets")  # the last three came later: a folder without them gets them

PIN, BOARD, USER, INTEREST = 1, 2, 3, 4  # kinds of objects; as ObjectKind on the wire
#: Flags. An object with a title is described too: DESCRIBED came later. DATED: the dates of attributes stand behind the link.
CREATED, TAKEN_DOWN, DESCRIBED, DATED = 1, 2, 4, 8
EXTERNAL, ONLY_NAMED = 16, 32  # flags: an external id ends the value; nothing else is known of the object

HEADER = np.dtype(
    [
        ("at_ms", "<i8"),
        ("owner", "<u8"),
        ("quality", "<f4"),
        ("interests", "<u2"),  # how many
        ("title", "<u2"),  # bytes
        ("link", "<u2"),
        ("flags", "u1"),
        ("found", "?"),  # on disk 0
    ]
)
_HEADER = struct.Struct("<qQfHHHBx")
_FLAGS_AT = 26
_DATES = struct.Struct("<4q")
_KEY = struct.Struct(">HBQ")
_OBJECT = np.dtype([("kind", "u1"), ("id", ">u8")])
_OBJECT_KEY = np.dtype([("partition", ">u2"), *_OBJECT.descr])
_STORE = "rockstore"
PARTS_BYTES = (
    458  # four strings and one that most share, the first of them the header, a tuple, the key, the entry: measured
)


@dataclass(slots=True)
class Object:
    """Attributes of one object, to be changed and packed again. interests: an ordered set."""

    at_ms: int = 0
    owner: int = 0
    quality: float = float("nan")
    flags: int = 0
    title: bytes = b""
    link: bytes = b""
    interests: dict[int, None] = field(default_factory=dict)
    external: bytes = b""
    title_ms: int = 0  # when each was stated that stands; 0 where it never was
    link_ms: int = 0  # of a board: when it was deleted last
    quality_ms: int = 0
    owner_ms: int = 0


class Columns(NamedTuple):
    """Attributes of n objects: an array of n each; titles and links as bytes, interests as ids."""

    found: Array  # bool[n]
    titles: Ragged
    links: Ragged
    owners: U64
    quality: F32
    at_ms: I64
    taken_down: Array  # bool[n]
    interests: Ragged
    described: Array  # bool[n] created, or something was stated of it; not only spoken of
    externals: Ragged  # external ids, as bytes


def object_key(partition: int, kind: int, id_: int) -> bytes:
    """Key of an object."""
    return _KEY.pack(partition, kind, id_)


def object_keys(partitions: Array, kinds: U8 | int, ids: U64) -> list[bytes]:
    """Keys of n objects; `kinds`: of each, or of all."""
    packed = np.empty(len(ids), _OBJECT_KEY)
    packed["partition"], packed["kind"], packed["id"] = partitions, kinds, ids
    return packed.view(f"V{_OBJECT_KEY.itemsize}").tolist()


def object_names(kinds: U8 | int, ids: U64) -> list[bytes]:
    """The keys of n objects in memory: their keys without the partition. `kinds`: of each, or of all."""
    packed = np.empty(len(ids), _OBJECT)
    packed["kind"], packed["id"] = kinds, ids
    return packed.view(f"V{_OBJECT.itemsize}").tolist()


def object_name(key: bytes) -> bytes:
    """The key in memory of the object of a key on disk."""
    return key[2:]


def id_of(key: bytes) -> int:
    """The id that a key ends in."""
    return int.from_bytes(key[3:])


def same_kind(key: bytes, other: bytes) -> bool:
    """Whether two keys are of one partition and kind."""
    return key[:3] == other[:3]


def is_listed(key: bytes, value: bytes) -> bool:
    """Whether the object of a value is more than an external id, and neither a pin taken down nor a board deleted.
    Raises Damaged for no header.
    """
    if len(value) < _HEADER.size:
        refuse(_STORE, "objects", key, f"{len(value)} bytes, expected at least {_HEADER.size}")
    return not value[_FLAGS_AT] & (TAKEN_DOWN | ONLY_NAMED)


def pack_object(known: Object) -> bytes:
    """The value of an object."""
    interests, title, link = known.interests, known.title, known.link
    sizes = (len(interests), len(title), len(link))
    external = known.external and known.external + bytes((len(known.external),))
    flags = known.flags | DATED | EXTERNAL if external else known.flags | DATED
    header = _HEADER.pack(known.at_ms, known.owner, known.quality, *sizes, flags)
    dates = _DATES.pack(known.title_ms, known.link_ms, known.quality_ms, known.owner_ms)
    return b"".join((header, struct.pack(f"<{len(interests)}Q", *interests), title, link, dates, external))


def unpack_object(key: bytes, value: bytes) -> Object:
    """The object of a value. Raises Damaged for another length than its header states."""
    _, interests, title, link, external = parts_of(key, value)
    at_ms, owner, quality, *_, flags = _HEADER.unpack_from(value)
    ids = struct.unpack(f"<{len(interests) // 8}Q", interests)
    texts = _HEADER_BYTES + len(interests) + len(title) + len(link)
    dates = _DATES.unpack_from(value, texts) if flags & DATED else ()
    return Object(at_ms, owner, quality, flags, title, link, dict.fromkeys(ids), external, *dates)


Parts = tuple[bytes, bytes, bytes, bytes, bytes]  # of a value: its header, interests, title, link and external id
_HEADER_BYTES = HEADER.itemsize
_FOUND_AT, _FOUND, _NOT_FOUND = _HEADER_BYTES - 1, b"\1", b"\0"  # the last byte of the header, of parts in memory
_LENGTHS = struct.Struct("<20xHHH2x")  # of a header: interests, bytes of the title and of the link
#: Of an object of which nothing is known.
ABSENT: Parts = (pack_object(Object())[:_HEADER_BYTES], b"", b"", b"", b"")


def parts_of(key: bytes, value: bytes) -> Parts:
    """The parts of a value, as `columns_of` takes them. Raises Damaged for another length than its header states."""
    if len(value) < _HEADER_BYTES:
        refuse(_STORE, "objects", key, f"{len(value)} bytes, expected at least {_HEADER_BYTES}")
    interests, title, link = _LENGTHS.unpack_from(value)
    texts = _HEADER_BYTES + 8 * interests
    links = texts + title
    end, flags = links + link, value[_FLAGS_AT]
    size = end + _DATES.size if flags & DATED else end
    if flags & EXTERNAL:
        found = _NOT_FOUND if flags & ONLY_NAMED else _FOUND
        return _external_parts(key, value, (texts, links, end), size, found)
    if len(value) != size:
        refuse(_STORE, "objects", key, f"{len(value)} bytes, its header states {size}")
    return value[:_FOUND_AT] + _FOUND, value[_HEADER_BYTES:texts], value[texts:links], value[links:end], b""


def _external_parts(key: bytes, value: bytes, ends: tuple[int, int, int], size: int, found: bytes) -> Parts:
    """The parts of a value that ends in an external id, from `size` on; ends: of its interests, title and link."""
    texts, links, end = ends
    if not len(value) - size == value[-1] + 1 > 1:
        refuse(_STORE, "objects", key, f"{len(value)} bytes, its header states {size} and an external id")
    return value[:_FOUND_AT] + found, value[_HEADER_BYTES:texts], value[texts:links], value[links:end], value[size:-1]


def parts_bytes(parts: Parts) -> int:
    """Bytes that parts take in memory, with their key and their place in a dictionary."""
    _, interests, title, link, external = parts
    return PARTS_BYTES + len(interests) + len(title) + len(link) + len(external)


def columns_of(parts: Sequence[Parts], texts: bool = True, external: bool = False) -> Columns:
    """The objects of n parts. texts: titles and links. external: external ids."""
    headers, interests, titles, links, externals = zip(*parts, strict=True) if parts else ((), (), (), (), ())
    header = np.frombuffer(b"".join(headers), HEADER)
    n, flags = len(parts), header["flags"]
    return Columns(
        header["found"],
        _runs(header["title"], titles, "u1") if texts else Ragged.empty(n),
        _runs(header["link"], links, "u1") if texts else Ragged.empty(n),
        header["owner"],
        header["quality"],
        header["at_ms"],
        flags & TAKEN_DOWN > 0,
        _runs(header["interests"], interests, "<u8"),
        (flags & (CREATED | DESCRIBED) > 0) | (header["title"] > 0),
        _joined(externals) if external else Ragged.empty(n),
    )


def titles_of(parts: Sequence[Parts]) -> Ragged:
    """The titles alone, or names."""
    return _joined([part[2] for part in parts])


def externals_of(parts: Sequence[Parts]) -> Ragged:
    """The external ids alone."""
    return _joined([part[4] for part in parts])


def _joined(texts: Sequence[bytes]) -> Ragged:
    ends = np.fromiter(accumulate(map(len, texts)), np.uint32, len(texts))
    return Ragged(ends, np.frombuffer(b"".join(texts), "u1"))


def _runs(lengths: Array, runs: Sequence[bytes], dtype: str) -> Ragged:
    ends, values = lengths.cumsum(dtype=np.uint32), np.frombuffer(b"".join(runs), dtype)
    check_ends(ends, len(values))
    return Ragged(ends, values)


# --- datasets: fixed-width rows of features -----------------------------------------------------------------------------

_ROW_KEY = np.dtype([("partition", ">u2"), ("dataset", ">u8"), ("version", ">u8"), ("key", ">u8")])
_LIVE_KEY = np.dtype([("partition", ">u2"), ("dataset", ">u8"), ("key", ">u8")])
_RANGE = struct.Struct(">HQQ")  # partition, dataset, version: all keys of a version begin so
_LIVE = struct.Struct("<qI")
_PARTITION = struct.Struct(">H")


class Version(msgspec.Struct, frozen=True):
    """One bulk load, as a partition has taken it. checksum: of the partition's file; 0 when it has no rows."""

    columns: list[str]
    rows: int
    as_of_ms: int
    checksum: int


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dataset in one partition. version 0: no bulk load was taken yet, and live rows have `unnamed` columns."""

    version: int = 0
    versions: dict[int, Version] = {}
    unnamed: list[str] = []
    live: bool = False  # whether any live row was kept: else a read need not look for one
    passed_over: int = 0  # live rows of another width, since the last switch
    problem: str = ""

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are served."""
        return self.versions[self.version].columns if self.version else self.unnamed

    @property
    def as_of_ms(self) -> int:
        """When the served version was computed, Unix ms; 0 without a bulk load."""
        return self.versions[self.version].as_of_ms if self.version else 0


_STATE = msgspec.json.Decoder(State)


def dataset_hash(name: str) -> int:
    """64 bits of BLAKE2b: by which keys name a dataset."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def columns_hash(columns: Sequence[str]) -> int:
    """32 bits by which a live row remembers for which columns it was sent."""
    return zlib.crc32("\0".join(columns).encode())


def row_keys(partitions: Array | int, dataset: int, version: int, keys: U64) -> list[bytes]:
    """Keys of the rows of n keys in one version of a dataset (by its hash)."""
    packed = np.empty(len(keys), _ROW_KEY)
    packed["partition"], packed["dataset"], packed["version"], packed["key"] = partitions, dataset, version, keys
    return packed.view(f"V{_ROW_KEY.itemsize}").tolist()


def live_keys(partitions: Array, datasets: Array | int, keys: U64) -> list[bytes]:
    """Keys of the live rows of n keys in datasets (by their hashes)."""
    packed = np.empty(len(keys), _LIVE_KEY)
    packed["partition"], packed["dataset"], packed["key"] = partitions, datasets, keys
    return packed.view(f"V{_LIVE_KEY.itemsize}").tolist()


def version_range(partition: int, dataset: int, version: int) -> tuple[bytes, bytes]:
    """Where the keys of a version begin, and the first key after them."""
    first = _RANGE.pack(partition, dataset, version)
    return first, (int.from_bytes(first) + 1).to_bytes(len(first))


def dataset_key(partition: int, name: str) -> bytes:
    """Key of the state of a dataset in a partition."""
    return _PARTITION.pack(partition) + name.encode()


def dataset_of(key: bytes) -> tuple[int, str]:
    """Partition and name of a key of `dataset_key`. Raises Damaged for another key."""
    if len(key) <= _PARTITION.size or not key[_PARTITION.size :].isascii():
        refuse(_STORE, "datasets", key, "is no partition and the name of a dataset")
    return _PARTITION.unpack_from(key)[0], key[_PARTITION.size :].decode()


def pack_state(state: State) -> bytes:
    """The value of a dataset's state."""
    return msgspec.json.encode(state)


def unpack_state(key: bytes, value: bytes) -> State:
    """The state of a value. Raises Damaged when it is none."""
    try:
        state = _STATE.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        refuse(_STORE, "datasets", key, f"is no state: {error}")
    if state.version and state.version not in state.versions:
        refuse(_STORE, "datasets", key, f"serves version {state.version}, of which it says nothing")
    return state


def unpack_rows(keys: Sequence[bytes], values: Sequence[bytes | None], width: int) -> F32:
    """float32[n, width] of n values; NaN where there is none. Raises Damaged for a value of another width."""
    blank = np.full(width, np.nan, "<f4").tobytes()
    if {len(value) for value in values if value is not None} - {len(blank)}:
        for key, value in zip(keys, values, strict=True):
            check_size(_STORE, "rows", key, value if value is not None else blank, len(blank))
    return np.frombuffer(b"".join([blank if value is None else value for value in values]), "<f4").reshape(-1, width)


def pack_live(at_ms: int, columns: int, values: bytes) -> bytes:
    """The value of a live row: `values` are its numbers, f4 each."""
    return _LIVE.pack(at_ms, columns) + values


def live_header(key: bytes, value: bytes) -> tuple[int, int]:
    """at_ms and columns of a live row. Raises Damaged for a value that is not a header and whole numbers."""
    check_rows(_STORE, "live", key, value, 4, _LIVE.size)
    at_ms, columns = _LIVE.unpack_from(value)
    return at_ms, columns


def unpack_live(values: Sequence[bytes | None], columns: Sequence[str]) -> tuple[I64, F32]:
    """(at_ms int64[n], float32[n, c]) of the live rows of n values; at_ms -1 where none was sent for these columns.

    A row of another width was sent for other columns.
    """
    row = np.dtype([("at_ms", "<i8"), ("columns", "<u4"), ("values", "<f4", (len(columns),))])
    blank, size = pack_live(-1, 0, bytes(4 * len(columns))), row.itemsize
    data = b"".join([value if value is not None and len(value) == size else blank for value in values])
    rows = np.frombuffer(data, row)
    return np.where(rows["columns"] == columns_hash(columns), rows["at_ms"], -1), rows["values"]


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for bytes that the store can't have written."""
    if family == "objects":
        check_key(_STORE, family, key, _OBJECT_KEY.itemsize)
        if not PIN <= key[2] <= INTEREST:
            refuse(_STORE, family, key, f"kind {key[2]} is none")
        unpack_object(key, value)
    elif family == "rows":
        check_key(_STORE, family, key, _ROW_KEY.itemsize)
        check_rows(_STORE, family, key, value, 4)
    elif family == "live":
        check_key(_STORE, family, key, _LIVE_KEY.itemsize)
        live_header(key, value)
    else:
        dataset_of(key)
        unpack_state(key, value)
