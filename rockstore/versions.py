"""A bulk load of a dataset: a sorted file a partition, and a manifest that names them, published as one version.

A version is written once, whole, and never changed: a shard that lost its folder takes it again. This module reads
versions, refuses files that are not as their manifest says, and removes those that no shard will take any more; `bulk.py`
writes them.
"""

import zlib
from pathlib import Path
from typing import Any

import msgspec

from rockstore import keys
from services.blob.protocol import Blobs
from services.core.errors import InvalidArgument, NotFound, Unavailable
from services.core.words import unlike

CHUNK = 1 << 20


class PartitionFile(msgspec.Struct, frozen=True):
    """The sorted file of one partition. last: its last key, which is there once the file has been ingested."""

    rows: int
    bytes: int
    checksum: int  # CRC-32
    last: int


class DatasetManifest(msgspec.Struct, frozen=True):
    """The content of a version. files: by partition; one without rows has none. checksum: CRC-32 of all the rest; of a manifest
    from before there was one, 0.
    """

    dataset: str
    version: int
    columns: list[str]
    rows: int
    as_of_ms: int
    partitions: int
    files: dict[int, PartitionFile]
    checksum: int = 0


def check_name(dataset: str) -> str:
    """The name, if datasets may be called so. Raises InvalidArgument."""
    if not keys.NAME.fullmatch(dataset):
        raise InvalidArgument(f"dataset = {dataset!r}: allowed are a to z, 0 to 9 and _, a letter first, at most 64")
    return dataset


def read_manifest(blobs: Blobs, dataset: str, version: int) -> DatasetManifest:
    """The manifest of a version, of the blobs of all datasets. Raises NotFound where there is none, and what else a store
    raises; Unavailable for one that is damaged.
    """
    key = keys.manifest_key(dataset, version)
    data = blobs.get(key)
    try:
        manifest = msgspec.json.decode(data, type=DatasetManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"{key}: is no manifest: {unlike(error, data, DatasetManifest)}") from None
    if manifest.checksum and manifest.checksum != _sum_of(manifest):
        raise Unavailable(
            f"{key}: damaged: its checksum is {manifest.checksum:08x}, its content's {_sum_of(manifest):08x}"
        )
    if (manifest.dataset, manifest.version) != (dataset, version):
        raise Unavailable(f"{key}: is of version {manifest.version} of {manifest.dataset}")
    return manifest


def check_file(path: Path, file: PartitionFile, key: str) -> None:
    """Raise Unavailable when a local file of a blob is not as its manifest says."""
    try:
        size = path.stat().st_size
        found = checksum(path) if size == file.bytes else 0
    except OSError as error:
        raise Unavailable(f"{key}: {(error.strerror or str(error)).lower()}") from None
    if size != file.bytes:
        raise Unavailable(f"{key}: has {size} bytes, its manifest says {file.bytes}")
    if found != file.checksum:
        raise Unavailable(f"{key}: its checksum is {found:08x}, its manifest says {file.checksum:08x}")


def check_there(blobs: Blobs, dataset: str, version: int) -> None:
    """Raise the error that keeps shards from taking a version, as far as sizes show: NotFound, Damaged or Unavailable."""
    for partition, file in read_manifest(blobs, dataset, version).files.items():
        key = keys.file_key(dataset, version, partition)
        if (size := blobs.stat(key).size) != file.bytes:
            raise Unavailable(f"{key}: has {size} bytes, its manifest says {file.bytes}")


def removed(blobs: Blobs, dataset: str) -> list[int]:
    """The versions that were removed, ascending: shards that never took one do without it."""
    try:
        return msgspec.json.decode(blobs.get(f"{dataset}/{keys.REMOVED}"), type=list[int])
    except NotFound:
        return []
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{dataset}/{keys.REMOVED}: is no list of versions: {error}") from None


def remove(blobs: Blobs, dataset: str, version: int) -> None:
    """Note that nothing will take a version any more, and then remove its files, if it has any. Raises Conflict when another
    removes one meanwhile.
    """
    before = removed(blobs, dataset)
    if version not in before:
        old = msgspec.json.encode(before) if before else None
        blobs.swap(f"{dataset}/{keys.REMOVED}", old, msgspec.json.encode(sorted([*before, version])))
    blobs.delete_all(keys.version_key(dataset, version))


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return found


def to_json(manifest: DatasetManifest) -> bytes:
    """For people to read."""
    content: Any = msgspec.json.format(msgspec.json.encode(manifest))
    return bytes(content)


def summed(manifest: DatasetManifest) -> DatasetManifest:
    """The manifest with its checksum."""
    return msgspec.structs.replace(manifest, checksum=_sum_of(manifest))


def _sum_of(manifest: DatasetManifest) -> int:
    plain: Any = msgspec.json.encode(msgspec.structs.replace(manifest, checksum=0))
    return zlib.crc32(plain) or 1
