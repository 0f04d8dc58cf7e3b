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

from services.core.errors import Exhausted, InvalidArgument, NotFound
from services.core.words import unlike

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
    """What a version is. files: by partition; one without rows has none. checksum: CRC-32 of all the rest; of a manifest
    from before there was one, 0.
    """

    dataset: str
    version: int
    columns: list[str]
    rows: int
    as_of_ms: int
    partitions: int
    files: dict[int, File]
    checksum: int = 0


def datasets_folder(data: Path) -> Path:
    """Where the datasets of a data folder lie."""
    return data / "datasets"


def loaded(data: Path) -> dict[str, list[int]]:
    """The versions that a data folder has of each dataset, ascending; a dataset without one is left out."""
    root = datasets_folder(data)
    found = {home.name: versions_of(home) for home in sorted(root.iterdir())} if root.is_dir() else {}
    return {name: there for name, there in found.items() if there}


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
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotFound(f"{path}: is no manifest: {unlike(error, data, Manifest)}") from None
    if manifest.checksum and manifest.checksum != _sum_of(manifest):
        raise NotFound(
            f"{path}: damaged: its checksum is {manifest.checksum:08x}, its content's {_sum_of(manifest):08x}"
        )
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


def summed(manifest: Manifest) -> Manifest:
    """The manifest with its checksum."""
    return msgspec.structs.replace(manifest, checksum=_sum_of(manifest))


def _sum_of(manifest: Manifest) -> int:
    plain: Any = msgspec.json.encode(msgspec.structs.replace(manifest, checksum=0))
    return zlib.crc32(plain) or 1
