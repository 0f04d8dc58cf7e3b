"""The least content of a RocksDB folder when it was last looked at, in a file beside RocksDB's own.

RocksDB takes a manifest that was cut for a shorter history and deletes the files that this no longer names; it takes a
write-ahead file that was cut, or is gone, for one that ends there; without CURRENT it begins anew. So the folder is
compared with its seal before it is opened, and the log's last sequence number after that. A seal is written while the
folder is open, every few seconds, as its least content, and when it is closed, as its exact content. It says
nothing that RocksDB had not synced before. A folder without one was made before there were seals.
"""

import zlib
from pathlib import Path

import msgspec

from services.core.durable import replace_durably

SEAL = "SEAL"
CURRENT = "CURRENT"


class Seal(msgspec.Struct, frozen=True):
    """manifest and its bytes: RocksDB's list of files; sequence: of the last write; files: the
    write-ahead files, once closed; RocksDB compares the sorted ones with its manifest itself."""

    manifest: str
    bytes: int
    sequence: int
    files: dict[str, int] | None = None


def of(folder: Path, sequence: int, closed: bool) -> Seal:
    """The seal of a folder as it is now. Raises OSError."""
    manifest = (folder / CURRENT).read_text().strip()
    files = {path.name: path.stat().st_size for path in folder.glob("*.log")} if closed else None
    return Seal(manifest, (folder / manifest).stat().st_size, sequence, files)


def write(folder: Path, seal: Seal) -> None:
    """Put the seal into the folder. Raises OSError."""
    body = msgspec.json.encode(seal)
    replace_durably(folder / SEAL, b"%08x %s\n" % (zlib.crc32(body), body))


def read(folder: Path) -> Seal | None:
    """The seal of a folder, None when it has none. Raises ValueError when it is damaged."""
    try:
        checksum, _, body = (folder / SEAL).read_bytes().partition(b" ")
    except FileNotFoundError:
        return None
    body = body.rstrip(b"\n")
    if checksum != b"%08x" % zlib.crc32(body):
        raise ValueError(f"{SEAL} is not what was written")
    return msgspec.json.decode(body, type=Seal)


def problem(folder: Path) -> str:
    """The differences between the folder and its seal, before it is opened; empty when nothing is. Raises OSError."""
    try:
        seal = read(folder)
    except ValueError as error:
        return str(error)
    if not (folder / CURRENT).exists():
        begun = seal or any(folder.glob("*.sst")) or any(path.stat().st_size for path in folder.glob("*.log"))
        return f"{CURRENT} is missing" if begun else ""
    manifest = (folder / CURRENT).read_bytes().decode(errors="replace").strip()
    if seal is None or manifest > seal.manifest:
        return ""  # it was opened since
    return _behind(folder, manifest, seal)


def _behind(folder: Path, manifest: str, seal: Seal) -> str:
    """The parts of its seal that the folder lacks."""
    if manifest < seal.manifest:
        return f"{CURRENT} names {manifest}, which is older than {seal.manifest}"
    found = _cut(folder / manifest, seal.bytes)
    if found or seal.files is None or (folder / manifest).stat().st_size > seal.bytes:
        return found  # or something was written since
    return next(filter(None, (_cut(folder / name, size) for name, size in seal.files.items())), "")


def _cut(path: Path, size: int) -> str:
    found = path.stat().st_size if path.exists() else 0
    return f"{path.name} has {found} bytes, not {size}" if found < size else ""
