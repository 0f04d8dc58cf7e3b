"""How tests damage files as disks, copies and people do."""

import os
from pathlib import Path


def flip(path: Path, at: int) -> None:
    """Flip one bit of the byte at an offset; from the end when it is negative."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    _write(path, bytes(data))


def cut(path: Path, size: int) -> None:
    """Keep the first `size` bytes; less those many when it is negative."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def swap(path: Path, other: Path) -> None:
    """Put another file in its place."""
    _write(path, other.read_bytes())


def newest(folder: Path, pattern: str) -> Path:
    """The file of this pattern that was made last, by its name."""
    return max(folder.glob(pattern))


def _write(path: Path, data: bytes) -> None:
    """In place: as another file, so that hard links of it stay as they are."""
    path.unlink()
    path.write_bytes(data)
