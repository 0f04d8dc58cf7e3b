"""Opens a snapshot of the graph and checks it: whatever is wrong with it is found here, never by a walk.

Arrays are memory-mapped, so a snapshot costs what is walked over, and lives until the last request that uses it is done.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from pixie import layout
from pixie.kernel import Graph
from pixie.layout import FILES, FORMAT, MANIFEST, Manifest
from services.columns import I64, U64, Array
from services.errors import InvalidArgument, NotFound

CHUNK = 1 << 24


@dataclass(frozen=True)
class Snapshot:
    """A graph that passed its checks. pin_ids, board_ids: uint64 ascending, one for each row of the graph's sides."""

    manifest: Manifest
    pin_ids: U64
    board_ids: U64
    graph: Graph

    @cached_property
    def most(self) -> int:
        """The highest degree of a pin."""
        return int(np.diff(self.graph.pin_offsets).max())

    def rows_of(self, pins: U64) -> tuple[I64, Array]:
        """int64[n]: the row of each pin, 0 if it has none; bool[n]: whether it has."""
        at = np.minimum(np.searchsorted(self.pin_ids, pins), len(self.pin_ids) - 1)
        known = np.asarray(self.pin_ids[at] == pins)
        return np.where(known, at, 0), known


def folder_of(graphs: Path, version: str) -> Path:
    """The folder of a version. Raises InvalidArgument for what is no version, NotFound when it is not there."""
    if not layout.VERSION.fullmatch(version):
        raise InvalidArgument(f"version = {version!r}: allowed are 1 to 64 letters, digits, '-', '_' and '.'")
    folder = graphs / version
    if not folder.is_dir():
        there = ", ".join(versions(graphs)[:5]) or "none yet; `feedmesh graph build` makes one"
        raise NotFound(f"{folder}: no such snapshot; there are {there}")
    return folder


def versions(graphs: Path) -> list[str]:
    """The snapshots of a folder, newest first."""
    if not graphs.is_dir():
        return []
    found = (path.name for path in graphs.iterdir() if layout.VERSION.fullmatch(path.name) and path.is_dir())
    return sorted(found, reverse=True)


def current(graphs: Path) -> list[str]:
    """The versions pushed, the present one first; empty when none was."""
    try:
        return layout.unpack_current((graphs / layout.CURRENT).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return []


def open_snapshot(folder: Path, verify: bool = True) -> Snapshot:
    """Open and check a snapshot: format, sizes, with `verify` checksums too, and that every edge leads somewhere.

    Raises InvalidArgument naming the file and what is wrong with it.
    """
    manifest = read_manifest(folder)
    for name in FILES:
        _check_file(folder / name, name, manifest, verify)
    arrays = {name: _mapped(folder / name, dtype) for name, dtype in FILES.items()}
    for side, other in (("pins", "boards"), ("boards", "pins")):
        _check_ids(folder / f"{side}.ids", arrays[f"{side}.ids"])
        _check_offsets(folder / f"{side}.offsets", arrays[f"{side}.offsets"], manifest.edges)
        _check_edges(folder / f"{side}.edges", arrays[f"{side}.edges"], len(arrays[f"{other}.ids"]), other[:-1])
    graph = Graph(
        arrays["pins.offsets"].view(np.int64),
        arrays["pins.edges"],
        arrays["pins.interest"],
        arrays["boards.offsets"].view(np.int64),
        arrays["boards.edges"],
        arrays["boards.interest"],
    )
    return Snapshot(manifest, arrays["pins.ids"], arrays["boards.ids"], graph)


def read_manifest(folder: Path) -> Manifest:
    """What the snapshot says of itself. Raises InvalidArgument when it is not of this format."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    try:
        stated = msgspec.json.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{path}: not JSON: {error}") from None
    form = stated.get("format") if isinstance(stated, dict) else None
    if form != FORMAT:
        raise InvalidArgument(f"{path}: format = {form!r}, this version reads {FORMAT!r}")
    try:
        manifest = layout.unpack_manifest(data)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{path}: {error}") from None
    if manifest.version != folder.name:
        raise InvalidArgument(f"{path}: version = {manifest.version!r}, in the folder of {folder.name!r}")
    if min(manifest.pins, manifest.boards, manifest.edges) < 1:
        raise InvalidArgument(f"{path}: {manifest.pins} pins, {manifest.boards} boards, {manifest.edges} edges: empty")
    return manifest


def checksum(path: Path) -> str:
    """BLAKE2b of 16 bytes, in hexadecimal."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            state.update(part)
    return state.hexdigest()


def _check_file(path: Path, name: str, manifest: Manifest, verify: bool) -> None:
    stated = manifest.files.get(name)
    if stated is None:
        raise InvalidArgument(f"{path.parent / MANIFEST}: names no {name}")
    needed = layout.items(manifest, name) * np.dtype(FILES[name]).itemsize
    if stated.bytes != needed:
        raise InvalidArgument(f"{path}: the manifest states {stated.bytes} bytes where its counts need {needed}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    if size != needed:
        how = "truncated" if size < needed else "too long"
        raise InvalidArgument(f"{path}: {how}: {size} bytes, the manifest states {needed}")
    if verify and (found := checksum(path)) != stated.blake2b:
        raise InvalidArgument(f"{path}: corrupt: its checksum is {found}, the manifest states {stated.blake2b}")


def _check_ids(path: Path, ids: U64) -> None:
    falls = np.flatnonzero(ids[1:] <= ids[:-1])
    if len(falls):
        row = int(falls[0]) + 1
        raise InvalidArgument(f"{path}: ids must ascend, and {ids[row]} at row {row} comes after {ids[row - 1]}")


def _check_offsets(path: Path, offsets: U64, edges: int) -> None:
    if offsets[0] != 0 or offsets[-1] != edges:
        raise InvalidArgument(f"{path}: offsets go from {offsets[0]} to {offsets[-1]}, expected 0 to {edges}")
    falls = np.flatnonzero(offsets[1:] <= offsets[:-1])
    if len(falls):
        row = int(falls[0])
        raise InvalidArgument(f"{path}: offset {offsets[row + 1]} after {offsets[row]} at row {row}: must rise")


def _check_edges(path: Path, edges: Array, nodes: int, kind: str) -> None:
    """In parts, so that no mask as long as the edges is made."""
    for start in range(0, len(edges), CHUNK):
        part = edges[start : start + CHUNK]
        if int(part.max()) >= nodes:
            at = int(np.argmax(part >= nodes))
            raise InvalidArgument(
                f"{path}: edge {start + at} leads to {kind} {part[at]}, and there are {nodes}: an edge to an unknown {kind}"
            )


def _mapped(path: Path, dtype: str) -> Array:
    return np.asarray(np.memmap(path, dtype, mode="r"))
