"""A snapshot on disk: which files, of which items, and what stands in the manifest.

A snapshot is a folder, named by its version. Nodes are rows of the sorted id tables. Every number is little-endian.

The runs of a side are what a walk reads: for each node, in the order of rows, a header `degree << 32 | row`, and its
edges. An edge is `start << 28 | degree` of the run of the node that it leads to, on the other side.
"""

import re

import msgspec
from msgspec import Struct

FORMAT = "feedmesh graph, 2"
MANIFEST = "manifest.json"
CURRENT = "current"  # beside the snapshots: the version that is opened at a start, and below it those before it
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
DRAFT = ".draft-"  # a folder of this prefix is being written, or was left by a build that was killed

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


class File(Struct, forbid_unknown_fields=True):
    """One file as it was written. blake2b: of 16 bytes, in hexadecimal."""

    bytes: int
    blake2b: str


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a snapshot says of itself. most: the highest degree of a pin."""

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
    files: dict[str, File]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def items(manifest: Manifest, name: str) -> int:
    """How many items a file of this name must have."""
    side, _, column = name.partition(".")
    nodes = manifest.pins if side == "pins" else manifest.boards
    return {"ids": nodes, "interest": nodes, "starts": nodes + 1, "runs": nodes + manifest.edges}[column]


def pack_manifest(manifest: Manifest) -> bytes:
    """As it is written, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def unpack_manifest(data: bytes) -> Manifest:
    """Raises msgspec.MsgspecError when it is none."""
    return msgspec.json.decode(data, type=Manifest)


def pack_current(versions: list[str]) -> str:
    """The versions pushed, the present one first."""
    return "".join(f"{version}\n" for version in versions)


def unpack_current(text: str) -> list[str]:
    """The versions pushed, the present one first; lines that are no version are passed over."""
    return [line for line in text.split() if VERSION.fullmatch(line)]
