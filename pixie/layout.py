"""A snapshot on disk: which files, of which items, and what stands in the manifest.

A snapshot is a folder, named by its version. Nodes are rows of the sorted id tables. Every number is little-endian.

A walk reads the runs of a side: for each node, in the order of rows, a header `degree << 32 | row`, and its
edges. An edge is `start << 28 | degree` of the run of the node that it leads to, on the other side.
"""

import re
import zlib

from msgspec import Struct

from services.core import summed

FORMAT = "feedmesh graph, 2"
MANIFEST = "manifest.json"
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")

#: The files and the dtype of their items.
FILES = {
    "pins.ids": "<u8",  # [pins] ascending
    "pins.interest": "<u8",  # [pins] main interest, 0: none
    "pins.starts": "<u8",  # [pins + 1] where each pin's run begins in pins.runs
    "pins.runs": "<u8",  # [pins + edges] headers and edges to boards; each run by interest of the board, then by row
    "boards.ids": "<u8",  # [boards] ascending
    "boards.interest": "<u8",  # [boards] what most of its pins are about
    "boards.runs": "<u8",  # [boards + edges] headers and edges to pins; each run by interest of the pin, then by row
}


class SnapshotFile(Struct, forbid_unknown_fields=True):
    """One file as it was written. blake2b: of 16 bytes, in hexadecimal."""

    bytes: int
    blake2b: str


class SnapshotManifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The manifest of a snapshot. most: the highest degree of a pin."""

    format: str
    version: str
    pins: int
    boards: int
    edges: int
    most: int
    built_ms: int
    source: str
    entropy_fraction: float
    delta: float
    files: dict[str, SnapshotFile]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def items(manifest: SnapshotManifest, name: str) -> int:
    """How many items a file of this name must have."""
    side, _, column = name.partition(".")
    nodes = manifest.pins if side == "pins" else manifest.boards
    return {"ids": nodes, "interest": nodes, "starts": nodes + 1, "runs": nodes + manifest.edges}[column]


def pack_manifest(manifest: SnapshotManifest) -> bytes:
    """As it is written, for people to read too."""
    return summed.encoded(manifest)


def unpack_manifest(data: bytes) -> SnapshotManifest:
    """Raises msgspec.MsgspecError when it is none, or damaged."""
    return summed.decoded(data, SnapshotManifest)


def pack_current(versions: list[str]) -> str:
    """The versions pushed, the present one first, below a checksum: one bit could else name another that is there."""
    lines = "".join(f"{version}\n" for version in versions)
    return _sum_of(lines) + lines


def unpack_current(text: str) -> list[str]:
    """The versions pushed, the present one first. Raises ValueError saying how it is damaged.

    Of one without a checksum, written by hand or before there was any, every line is a version.
    """
    head, end, lines = text.partition("\n")
    if VERSION.fullmatch(head):
        lines = text
    elif head + end != _sum_of(lines):
        raise ValueError("damaged: its checksum is not that of the versions below")
    versions = lines.split("\n")[:-1]
    if not versions or not all(map(VERSION.fullmatch, versions)):
        raise ValueError("damaged: it does not hold lines that are each a version")
    return versions


def _sum_of(lines: str) -> str:
    return f"# checksum: {zlib.crc32(lines.encode()):08x}\n"
