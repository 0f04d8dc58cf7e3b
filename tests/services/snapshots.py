"""A small view and its snapshots, as the tests of snapshots use them."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.blob.folder import FolderBlobs
from services.blob.protocol import Blobs
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.log.protocol import End, Record
from services.state.manifest import Snapshots
from services.state.restore import Past, Wanted
from services.state.shard import Shard, open_or_rebuild
from services.state.snapshot import Taker, problem
from tests.services.batches import follows

SERVICE, FORM, FAMILIES, PARTITIONS = "counting", "counting 1, 6 partitions", ("counts",), 6
HISTORY = LogHistory(b"0123456789abcdef", [Epoch(7, {})])
NOW = 1_750_000_000_000


class Clock:
    """It goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


class Counting:
    """Counts events by partition: what is left out, or applied twice, shows."""

    def __init__(self, shard: Shard, own: range) -> None:
        self.shard, self.own = shard, own

    def apply(self, offset: int, partitions: Iterator[int] | range | None = None) -> None:
        """Apply the record of this offset in each of its partitions."""
        records = [record(partition, offset) for partition in partitions or self.own]
        batch = self.shard.batch()
        fresh = self.shard.fresh(records)
        for one in fresh:
            counted = self.counted(one.partition) + len(one.batch)
            batch.put(key(one.partition, "n"), counted.to_bytes(8, "big"), self.shard.handle("counts"))
            row = key(one.partition, f"row {one.offset:06}")
            batch.put(row, row_of(one.offset), self.shard.handle("counts"))
        self.shard.commit(batch, fresh)

    def counted(self, partition: int) -> int:
        return int.from_bytes(self.shard.family("counts").get(key(partition, "n")) or b"", "big")

    def answers(self) -> list[tuple[bytes, bytes]]:
        """All that it holds."""
        return list(self.shard.family("counts").items())

    def close(self) -> None:
        self.shard.close()


def row_of(offset: int) -> bytes:
    """What a record leaves behind; it can't be compressed."""
    return random.Random(offset).randbytes(2_000)


def key(partition: int, rest: str) -> bytes:
    return partition.to_bytes(2, "big") + rest.encode()


def record(partition: int, offset: int) -> Record:
    return Record(Topic.USERS, partition, offset, NOW, follows(3, first_id=1 + 3 * offset))


def own_of(shard: int, shards: int) -> range:
    return range(PARTITIONS * shard // shards, PARTITIONS * (shard + 1) // shards)


def wanted(shard: int = 0, shards: int = 1, form: str = FORM) -> Wanted:
    return Wanted(SERVICE, form, FAMILIES, shard, shards, own_of(shard, shards))


def past(next_: int, first: int = 0, history: LogHistory = HISTORY, **of: int) -> Past:
    """A log that ends at an offset in every partition."""
    ends = {(int(Topic.USERS), partition): End(first, next_, 3 * next_) for partition in range(PARTITIONS)}
    return Past(history, ends)


def opened(folder: Path, log: Past, shard: int = 0, shards: int = 1) -> Counting:
    """The view, connected to a log."""
    view = Counting(open_or_rebuild(folder, FORM, FAMILIES, 1, 1), own_of(shard, shards))
    at = [(int(Topic.USERS), partition) for partition in view.own]
    view.shard.connect(log.history, log.ends, at)
    return view


@contextmanager
def counting(folder: Path, records: int, shard: int = 0, shards: int = 1) -> Iterator[Counting]:
    """The view with so many records of each of its partitions."""
    view = opened(folder, past(records), shard, shards)
    try:
        for offset in range(records):
            view.apply(offset)
        yield view
    finally:
        view.close()


def taker(
    view: Counting, blobs: Blobs, shard: int = 0, shards: int = 1, clock: Callable[[], int] | None = None
) -> Taker:
    to = Snapshots(blobs, SERVICE, shard, shards)
    return Taker(view.shard, to, view.own, (Topic.USERS,), clock or Clock())


def store(folder: Path) -> Blobs:
    return FolderBlobs(folder / "blobs")


def files_of(blobs: Blobs, shard: int = 0, shards: int = 1) -> Mapping[str, bytes]:
    """The stored files of a shard's snapshots, by their names."""
    of = Snapshots(blobs, SERVICE, shard, shards)
    return {name: of.blobs.get(f"files/{name}") for name in of.files()}


def problems(of: Snapshots, id_: str, scratch: Path) -> list[str]:
    """What is wrong with the files of a snapshot."""
    files = of.manifest(id_).files.items()
    return [found for name, file in files if (found := problem(of, name, file, scratch / "file"))]
