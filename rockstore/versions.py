"""The files of a dataset's bulk loads: a folder a version, a sorted file a partition, and a manifest that names them.

`<data>/datasets/<dataset>/<version>/` is written once, whole, and never changed: a shard that lost its folder takes
it again. This module reads such folders and refuses what is not as its manifest says; `bulk.py` writes them.
"""

import errno
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from services.errors import Exhausted, InvalidArgument, NotFound

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
MANIFEST = "manifest.json"
CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class File(msgspec.Struct, frozen=True):
    """The sorted file of one partition. last: its last key, which is there once the file has been ingested."""

    rows: int
    bytes: int
    checksum: int  # CRC-32
    last: int


class Manifest(msgspec.Struct, frozen=True):
    """What a version is. files: by partition; one without rows has none."""

    dataset: str
    version: int
    columns: list[str]
    rows: int
    as_of_ms: int
    partitions: int
    files: dict[int, File]


def check_name(dataset: str) -> str:
    """The name, if datasets may be called so. Raises InvalidArgument."""
    if not NAME.fullmatch(dataset):
        raise InvalidArgument(f"dataset = {dataset!r}: allowed are a to z, 0 to 9 and _, a letter first, at most 64")
    return dataset


def file_name(partition: int) -> str:
    """Of the sorted file of a partition."""
    return f"part-{partition}.sst"


def versions_of(folder: Path) -> list[int]:
    """The versions in a dataset's folder, ascending; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if re.fullmatch(r"[1-9]\d{0,18}", p.name) and p.is_dir())


def read_manifest(folder: Path, dataset: str, version: int) -> Manifest:
    """The manifest of a version, `folder` being that of all datasets. Raises NotFound saying what is wrong with it."""
    path = folder / dataset / str(version) / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise unreadable(path, error) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotFound(f"{path}: is no manifest: {error}") from None
    if (manifest.dataset, manifest.version) != (dataset, version):
        raise NotFound(f"{path}: is of version {manifest.version} of {manifest.dataset}")
    return manifest


def check_file(path: Path, file: File, said: Path) -> None:
    """Raise NotFound when a file is not as its manifest says; `said` is how the message calls it."""
    try:
        size = path.stat().st_size
        found = checksum(path) if size == file.bytes else 0
    except OSError as error:
        raise unreadable(said, error) from None
    if size != file.bytes:
        raise NotFound(f"{said}: has {size} bytes, its manifest says {file.bytes}")
    if found != file.checksum:
        raise NotFound(f"{said}: its checksum is {found:08x}, its manifest says {file.checksum:08x}")


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return found


def unreadable(path: Path, error: OSError) -> Exception:
    """A full disk passes, so what met it is tried again; anything else is a problem of the file."""
    if error.errno in _FULL:
        return Exhausted(f"{path}: the disk is full")
    return NotFound(f"{path}: {(error.strerror or str(error)).lower()}")


def to_json(manifest: Manifest) -> bytes:
    """For people to read."""
    content: Any = msgspec.json.format(msgspec.json.encode(manifest))
    return bytes(content)
