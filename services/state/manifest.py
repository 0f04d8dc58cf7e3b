"""What a snapshot of a shard holds, and where snapshots lie among the blobs.

    snapshots/<service>/<shard>of<shards>/manifests/<taken, ms>-<random>    a manifest (JSON with a checksum)
    snapshots/<service>/<shard>of<shards>/files/<digest>-<random>           a file of RocksDB, named by manifests
    snapshots/<service>/<shard>of<shards>/turn                              who of several replicas takes the next one
    snapshots/<service>/<shard>of<shards>/unused                            since when no manifest names a file (pruning.py)

A file that is written gets a name that no file had before, so that what is being removed is never what is being written; a
manifest is written last, when all its files are there. Both are written once and never changed.
"""

import re
import secrets
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Struct

from services.blob.protocol import Blobs
from services.core import summed
from services.core.errors import Damaged, NotFound
from services.log.protocol import Partition, Positions

TOP = "snapshots"
FORMAT = 1  # of a manifest
MANIFESTS, FILES, TURN, UNUSED = "manifests", "files", "turn", "unused"
_ID = re.compile(r"\d{13}-[0-9a-f]{8}")
_LAYOUT = re.compile(r"(\d{1,4})of(\d{1,4})")


class File(Struct, frozen=True):
    """A file of the database. digest: BLAKE2b of 16 bytes in hexadecimal; size: bytes; at: its name below `files/`."""

    digest: str
    size: int
    at: str


class Applied(Struct, frozen=True, array_like=True):
    """How far one partition of the log had been applied: the next offset, and how many events came before it."""

    topic: int
    partition: int
    next: int
    events: int


class Manifest(Struct, frozen=True, kw_only=True):
    """A snapshot. form: the view's format with the number of partitions; log, epoch: the log's identity and the epoch in which
    it was read, in hexadecimal; topics: those that the view follows; positions: of those partitions where anything was applied.
    """

    snapshot: int = FORMAT
    service: str
    form: str
    shard: int
    shards: int
    first: int  # partition that it owns
    stop: int  # the one after the last that it owns
    taken_ms: int
    log: str
    epoch: str
    topics: list[int]
    positions: list[Applied]
    files: dict[str, File]

    @property
    def next(self) -> Positions:
        """The next offset wanted of every partition of the log that the shard follows."""
        found = {(topic, partition): 0 for topic in self.topics for partition in range(self.first, self.stop)}
        return found | {(of.topic, of.partition): of.next for of in self.positions}

    @property
    def events(self) -> int:
        """Events applied."""
        return sum(of.events for of in self.positions)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files.values())


class Snapshots:
    """Those of one shard of one layout."""

    def __init__(self, blobs: Blobs, service: str, shard: int, shards: int) -> None:
        self.service, self.shard, self.shards = service, shard, shards
        self.blobs = blobs.below(f"{TOP}/{service}/{shard}of{shards}")

    @property
    def name(self) -> str:
        """Service, shard and layout, for people."""
        return f"{self.service}/{self.shard}of{self.shards}"

    def ids(self) -> list[str]:
        """The ids of all, the newest first."""
        return sorted(filter(_ID.fullmatch, self.blobs.names(MANIFESTS)), reverse=True)

    def manifest(self, id_: str) -> Manifest:
        """One of them. Raises NotFound, Damaged when it is not what was written or of another version."""
        if not _ID.fullmatch(id_):
            raise NotFound(f"{self.name}: there is no snapshot {id_!r}; `feedmesh snapshot list` shows them")
        try:
            content = self.blobs.get(f"{MANIFESTS}/{id_}")
        except NotFound:
            raise NotFound(f"{self.name}: there is no snapshot {id_}; `feedmesh snapshot list` shows them") from None
        return manifest_in(f"{self.name}: snapshot {id_}", content)

    def readable(self) -> Iterator[tuple[str, Manifest]]:
        """All that can be read, with their ids, the newest first."""
        for id_ in self.ids():
            try:
                yield id_, self.manifest(id_)
            except (Damaged, NotFound):
                continue

    def files(self) -> set[str]:
        """The names of all files that there are, whether or not a manifest names them."""
        return set(self.blobs.names(FILES))


def manifest_in(what: str, content: bytes) -> Manifest:
    """The manifest that a blob holds. Raises Damaged; what: it, for the message."""
    try:
        found = summed.decoded(content, Manifest)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{what}: its manifest is damaged, or of another version: {error}") from None
    if found.snapshot != FORMAT:
        raise Damaged(f"{what}: is of version {found.snapshot} of snapshots, this process reads {FORMAT}")
    return found


def all_of(blobs: Blobs, service: str = "") -> list[Snapshots]:
    """Those of every shard of every layout, of one service or of all, in order."""
    services = [service] if service else blobs.names(TOP)
    found = []
    for name in services:
        layouts = filter(None, map(_LAYOUT.fullmatch, blobs.names(f"{TOP}/{name}")))
        numbers = sorted((int(layout[2]), int(layout[1])) for layout in layouts)
        found += [Snapshots(blobs, name, shard, shards) for shards, shard in numbers]
    return found


def new_id(taken_ms: int) -> str:
    """The id of a snapshot that is taken now: ids sort by time."""
    return f"{taken_ms:013d}-{secrets.token_hex(4)}"


def new_file(digest: str) -> str:
    """A name that no file had before."""
    return f"{digest}-{secrets.token_hex(4)}"


def behind(positions: Mapping[Partition, int], other: Mapping[Partition, int]) -> bool:
    """Whether these positions lack something that the others have."""
    return any(positions.get(at, 0) < offset for at, offset in other.items())
