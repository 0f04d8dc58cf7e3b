"""The bytes of a user's file, unpacked; and the format of a file that can't be read, by its first bytes."""

import bz2
import gzip
import lzma
import re
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil
import pyarrow as pa

from services.core.errors import InvalidArgument

LOOKED_AT = 1024  # bytes from the beginning, to say what a file is
CHUNK = 1 << 24
SHARE = 10  # a file that is read whole into columns takes up to ten times its bytes
PARQUET = b"PAR1"
_LFS = b"version https://git-lfs.github.com/spec/"
#: The format of a file by its first bytes, for messages.
_KINDS = {
    PARQUET: "a Parquet file", b"PARE": "encrypted Parquet", b"ARROW1": "an Arrow file (Feather)", b"FEA1": "a Feather file",
    b"Obj\x01": "an Avro file", b"\x89HDF\r\n": "an HDF5 file", b"\x93NUMPY": "an array of numpy",
    b"SQLite format 3\0": "an SQLite database", b"RDX2\n": "R's RData", b"RDX3\n": "R's RData", b"X\n\0\0\0": "R's RDS",
    b"A\n3\n": "R's RDS", b"\xd0\xcf\x11\xe0": "an old Office file, such as .xls", b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip file", b"BZh": "a bzip2 file", b"\xfd7zXZ\0": "an xz file", b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x04\x22\x4d\x18": "an lz4 file", b"7z\xbc\xaf": "a 7z archive; unpack it first", b"Rar!": "a RAR archive; unpack it first",
    _LFS: "a pointer of Git LFS; `git lfs pull` fetches the file", b"ORC": "an ORC file",
}  # fmt: skip
_PAGES = re.compile(rb"\s*<(!doctype\s+html|html|\?xml)", re.I)
_JSON = re.compile(rb'\s*(\{\s*"|\[\s*[\[{])')
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"),
}


def kind_of(head: bytes) -> str | None:
    """The format of a file that begins so; None where it may be text."""
    if head.startswith(b"PK\x03\x04"):
        office = b"[Content_Types].xml" in head or b"opendocument" in head
        return "a workbook; export its sheet as CSV" if office else "a zip archive; unpack it first"
    if page := _PAGES.match(head):
        return "XML" if page[1] == b"?xml" else "a page of HTML, perhaps an error of the site that it comes from"
    if _JSON.match(head):
        return "JSON; write it as a table"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    found = next((what for magic, what in _KINDS.items() if head.startswith(magic)), None)
    return None if found == _KINDS[b"ORC"] and b"\0" not in head[:LOOKED_AT] else found  # "ORCID,user" is text


def read_unpacked(path: Path) -> bytes:
    """All bytes of a file, unpacked from gzip, bzip2, xz or zstd. Raises InvalidArgument naming the file and what is wrong:
    what it is instead, or that it is too large for the memory that is free.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never answer
            raise InvalidArgument(f"{path}: not a file")
        file = path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path}: could not be read: {error.strerror or error}") from None
    with file:
        head = file.read(LOOKED_AT)
        file.seek(0)
        unpack = next((unpack for magic, unpack in _PACKED.items() if head.startswith(magic)), None)
        try:
            data = _bounded(path, file if unpack is None else unpack(file))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise InvalidArgument(f"{path}: could not be unpacked: {error}") from None
    if what := kind_of(data[:LOOKED_AT]):
        raise InvalidArgument(f"{path}: not delimited text: {what}")
    return data


def _bounded(path: Path, file: IO[bytes]) -> bytes:
    """All that a file holds, unless it is so much that reading it would take all memory that is free."""
    most, parts, size = psutil.virtual_memory().available // SHARE, [], 0
    while chunk := file.read(CHUNK):
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            raise InvalidArgument(
                f"{path}: has over {most >> 20:,} MB unpacked, and takes {SHARE} times its size while it is read, more than the "
                "memory that is free: split it, and load one part after the other"
            )
    return b"".join(parts)
