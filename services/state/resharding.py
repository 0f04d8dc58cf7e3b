"""Fills the empty folder of a shard from snapshots of another layout: keys begin with the partition, so partitions move whole.

The snapshot that has most of the shard's partitions is its beginning, less the partitions that are not its own; of the others
the entries of their partitions are copied in. Each is checked against the log as a snapshot of the same layout is, so the result
stands on this log, in the epoch that is now.
"""

import logging
import shutil
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from services.blob.protocol import Blobs
from services.core.errors import Damaged, NotFound
from services.state.database import FORMAT_KEY, Looking
from services.state.manifest import Manifest, Snapshots, all_of
from services.state.offsets import partition_in
from services.state.restore import Past, Wanted, draft_of, fill, finish, fitting
from services.state.shard import HISTORY_KEY, Shard, read_in

logger = logging.getLogger(__name__)
ENTRIES = 5_000  # copied at once
CACHE_MB, MEMTABLE_MB = 8, 16
_END, _DATE_BYTES = b"\xff\xff", 8


class Part(NamedTuple):
    """A snapshot of another layout, and which of its partitions are taken from it."""

    of: Snapshots
    id: str
    manifest: Manifest
    own: range


def reshard(wanted: Wanted, folder: Path, blobs: Blobs, past: Past) -> str:
    """Fill an empty folder from the snapshots of another layout; the layout, empty when none has all that is wanted.

    Raises Exhausted when the disk is full, and what stores raise when they can't be asked.
    """
    for parts in _layouts(wanted, folder, blobs, past):
        draft, beside = draft_of(folder), folder.with_name(f"{folder.name}.part")
        try:
            _made(wanted, parts, draft, beside, past)
        except (Damaged, NotFound) as error:
            logger.error("%s can't be made of %s: %s", wanted.service, parts[0].of.name, error)
            shutil.rmtree(draft, ignore_errors=True)
            continue
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        finish(draft, folder, [(part.of.name, part.id) for part in parts])
        names = ", ".join(f"{part.of.name} {part.id}" for part in parts)
        logger.info("%s/%dof%d: made of %s", wanted.service, wanted.shard, wanted.shards, names)
        return f"{parts[0].of.shards} shards"
    return ""


def _layouts(wanted: Wanted, folder: Path, blobs: Blobs, past: Past) -> list[list[Part]]:
    """The ways to put the shard together, the one of the newest snapshots first; in each the largest part first."""
    found = []
    others = [of for of in all_of(blobs, wanted.service) if of.shards != wanted.shards]
    for _, shards in groupby(others, lambda of: of.shards):
        parts = [part for of in shards if (part := _part(wanted, folder, of, past)) is not None]
        if sorted(partition for part in parts for partition in part.own) == list(wanted.own):
            found.append(sorted(parts, key=lambda part: -len(part.own)))
    return sorted(found, key=lambda parts: -min(part.manifest.taken_ms for part in parts))


def _part(wanted: Wanted, folder: Path, of: Snapshots, past: Past) -> Part | None:
    for id_, manifest in fitting(of, folder, wanted.form, past):
        own = range(max(wanted.own.start, manifest.first), min(wanted.own.stop, manifest.stop))
        return Part(of, id_, manifest, own) if own else None
    return None


def _made(wanted: Wanted, parts: list[Part], draft: Path, beside: Path, past: Past) -> None:
    """Make the database in a folder, on the disk when this returns."""
    first, *others = parts
    fill(first.of, first.manifest, draft)
    shard = Shard(draft, wanted.form, wanted.families, CACHE_MB, MEMTABLE_MB)
    try:
        _leave(shard, first.own)
        for part in others:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            fill(part.of, part.manifest, beside)
            looked = Shard(beside, wanted.form, wanted.families, CACHE_MB, MEMTABLE_MB, Looking())
            try:
                _copy(looked, shard, part.own)
            finally:
                looked.close()
        batch = shard.batch()
        batch.put(HISTORY_KEY, read_in(past.history))
        shard.write(batch)
    finally:
        shard.close()


def _key(partition: int) -> bytes:
    """What the first key of a partition is not before."""
    return partition.to_bytes(2, "big")


def _leave(shard: Shard, own: range) -> None:
    """Delete all that is not of these partitions."""
    batch = shard.batch()
    for name in shard.families:
        batch.delete_range(b"", _key(own.start), shard.handle(name))
        batch.delete_range(_key(own.stop), _END, shard.handle(name))
    for key, _ in shard.family("offsets").items():
        if partition_in(key) not in own:
            batch.delete(key, shard.handle("offsets"))
    shard.write(batch)


def _copy(source: Shard, into: Shard, own: range) -> None:
    """Copy all that is of these partitions, and what the source notes of itself."""
    for name in source.families:
        _put(into, name, source.family(name).items(_key(own.start), _key(own.stop)))
    _put(into, "offsets", (entry for entry in source.family("offsets").items() if partition_in(entry[0]) in own))
    there, batch = into.notes(), into.batch()
    for key, value in source.notes().items():
        if key not in (FORMAT_KEY, HISTORY_KEY):
            batch.put(key, _later(key, value, there.get(key)))
    into.write(batch)


def _put(into: Shard, family: str, entries: Iterator[tuple[bytes, bytes]]) -> None:
    while some := list(islice(entries, ENTRIES)):
        batch = into.batch()
        for key, value in some:
            batch.put(key, value, into.handle(family))
        into.write(batch)


def _later(key: bytes, value: bytes, other: bytes | None) -> bytes:
    """A view notes of itself, beside what it keeps by partition, nothing but dates: the later one stands."""
    if other is None or other == value:
        return value
    if len(value) != _DATE_BYTES or len(other) != _DATE_BYTES:
        raise Damaged(f"the snapshots note {key!r} differently, and it is no date")
    return max(value, other, key=lambda date: int.from_bytes(date, "little", signed=True))
