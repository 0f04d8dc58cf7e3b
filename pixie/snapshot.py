"""Opens a snapshot of the graph and checks it.

Pushing one reads every byte and follows every edge; opening one that was pushed compares its checksums, at the start or
while it serves already.

Arrays are memory-mapped, so a snapshot takes the memory of the parts walked, until the last request that uses it is done.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from pixie import layout, runs
from pixie.kernel import GraphRuns, degrees_at, rows_among
from pixie.keys import CURRENT
from pixie.layout import FILES, FORMAT, MANIFEST, SnapshotManifest
from pixie.steps import DEGREE_BITS
from services.blob.opening import Place, open_blobs
from services.core.columns import I64, U64, Array
from services.core.errors import InvalidArgument, MeshError, NotFound
from services.core.words import unlike

CHUNK = 1 << 24
SAMPLES, SAMPLE = 64, 512  # parts of a file that are looked at, and items of each


@dataclass(frozen=True)
class Snapshot:
    """A graph that passed its checks. pin_ids, board_ids: uint64 ascending, one for each row of the graph's sides."""

    manifest: SnapshotManifest
    pin_ids: U64
    board_ids: U64
    graph: GraphRuns

    def degrees(self, rows: I64) -> I64:
        """int64[n]: of pins."""
        found: I64 = degrees_at(self.graph.pin_starts, rows)
        return found

    def rows_of(self, pins: U64) -> tuple[I64, Array]:
        """int64[n]: the row of each pin, 0 if it has none; bool[n]: whether it has."""
        found: tuple[I64, Array] = rows_among(self.pin_ids, pins)
        return found


def folder_of(graphs: Place, version: str) -> Path:
    """A local folder of a version, to be mapped and never written.

    Raises InvalidArgument for a text that is no version, NotFound when it is not there.
    """
    if not layout.VERSION.fullmatch(version):
        raise InvalidArgument(f"version = {version!r}: allowed are 1 to 64 letters, digits, '-', '_' and '.'")
    try:
        return open_blobs(graphs).folder(version)
    except NotFound:
        there = ", ".join(versions(graphs)[:5]) or "none yet; `feedmesh graph build` makes one"
        raise NotFound(f"graph {version}: no such snapshot; there are {there}") from None


def versions(graphs: Place) -> list[str]:
    """The snapshots, newest first."""
    blobs = open_blobs(graphs)
    found = (name for name in blobs.names() if layout.VERSION.fullmatch(name) and not blobs.exists(name))
    return sorted(found, reverse=True)


def manifest_of(graphs: Place, version: str) -> SnapshotManifest:
    """The manifest of a version. Raises NotFound, and InvalidArgument when it is not of this format."""
    return read_manifest(folder_of(graphs, version), version)


def current(graphs: Place) -> list[str]:
    """The versions pushed, the present one first; empty when none was. Raises InvalidArgument when it is damaged."""
    remedy = "`feedmesh graph push VERSION`, or `feedmesh graph build`, writes it anew"
    try:
        return layout.unpack_current(open_blobs(graphs).get(CURRENT).decode(errors="replace"))
    except NotFound:
        return []
    except MeshError as error:
        raise InvalidArgument(f"graphs/{error}; {remedy}") from None
    except ValueError as error:
        raise InvalidArgument(f"graphs/{CURRENT}: {error}; {remedy}") from None


def open_snapshot(folder: Path, verify: bool = True, version: str = "") -> Snapshot:
    """Open a snapshot. Raises InvalidArgument naming the file and what is wrong with it.

    version: which it must be; by default the folder's name.

    Always checked are format, sizes, where things begin and end, and SAMPLES parts of every file; with `verify` every
    byte: checksums, and that each edge leads to a node. Damage that only `verify` and `check_sums` see makes a walk go astray,
    but never beyond the graph (`pixie/steps.py`).
    """
    manifest = read_manifest(folder, version)
    for name in FILES:
        _check_file(folder / name, name, manifest, verify)
    arrays = {name: _mapped(folder / name, dtype) for name, dtype in FILES.items()}
    for side in ("pins", "boards"):
        _check_rising(folder / f"{side}.ids", arrays[f"{side}.ids"], "ids must ascend, and", 1, verify)
    pins, boards, starts = arrays["pins.runs"], arrays["boards.runs"], arrays["pins.starts"]
    _check_starts(folder / "pins.starts", starts, len(pins), verify)
    if verify:
        board_starts = runs.starts_in(boards, manifest.boards)
        _check_starts(folder / "boards.runs", board_starts, len(boards), verify)
        _check_edges(folder / "pins.runs", pins, starts, boards, board_starts, "board")
        _check_edges(folder / "boards.runs", boards, board_starts, pins, starts, "pin")
    else:
        _sample_runs(folder / "pins.runs", pins, starts)
    graph = GraphRuns(pins, starts, arrays["pins.interest"], boards, arrays["boards.interest"])
    return Snapshot(manifest, arrays["pins.ids"], arrays["boards.ids"], graph)


def read_manifest(folder: Path, version: str = "") -> SnapshotManifest:
    """The manifest of the snapshot. Raises InvalidArgument when it is not of this format, or of another version.

    version: which it must be; by default the folder's name.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    try:
        stated = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: not JSON: {error}") from None
    form = stated.get("format") if isinstance(stated, dict) else None
    if form != FORMAT:
        raise InvalidArgument(f"{path}: format = {form!r}, this version reads {FORMAT!r}")
    try:
        manifest = layout.unpack_manifest(data)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{path}: {unlike(error, data, SnapshotManifest)}") from None
    if manifest.version != (version or folder.name):
        raise InvalidArgument(f"{path}: version = {manifest.version!r}, in the folder of {version or folder.name!r}")
    if min(manifest.pins, manifest.boards, manifest.edges) < 1:
        raise InvalidArgument(f"{path}: {manifest.pins} pins, {manifest.boards} boards, {manifest.edges} edges: empty")
    return manifest


def check_sums(folder: Path, manifest: SnapshotManifest, rest: Callable[[], None] = lambda: None) -> None:
    """Read all files and compare their checksums. rest: called after each CHUNK. Raises InvalidArgument naming the file."""
    for name in FILES:
        try:
            found = checksum(folder / name, rest)
        except OSError as error:
            raise InvalidArgument(f"{folder / name}: {error.strerror}") from None
        _compare(folder / name, found, manifest.files[name].blake2b)


def checksum(path: Path, rest: Callable[[], None] = lambda: None) -> str:
    """BLAKE2b of 16 bytes, in hexadecimal."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            state.update(part)
            rest()
    return state.hexdigest()


def _compare(path: Path, found: str, stated: str) -> None:
    if found != stated:
        raise InvalidArgument(f"{path}: corrupt: its checksum is {found}, the manifest states {stated}")


def _check_file(path: Path, name: str, manifest: SnapshotManifest, verify: bool) -> None:
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
    if verify:
        _compare(path, checksum(path), stated.blake2b)


def _check_rising(path: Path, values: U64, says: str, least: int, verify: bool) -> None:
    """That each value is above the one before by `least` or more: of all, or of SAMPLES parts."""
    for start in _parts(len(values), verify):
        part = values[start : start + CHUNK // 8 if verify else start + SAMPLE]
        falls = np.flatnonzero((part[1:] < part[:-1]) | (part[1:] - part[:-1] < least))
        if len(falls):
            row = int(falls[0]) + 1
            raise InvalidArgument(f"{path}: {says} {part[row]} at row {start + row} comes after {part[row - 1]}")


def _parts(n: int, verify: bool) -> range:
    """Where to begin: parts of all that overlap by one, or SAMPLES parts from the first item to the last."""
    if verify:
        return range(0, max(n - 1, 1), CHUNK // 8 - 1)
    return range(0, max(n - 1, 1), max(SAMPLE - 1, -(-(n - SAMPLE) // (SAMPLES - 1))))


def _check_starts(path: Path, starts: U64, words: int, verify: bool) -> None:
    if starts[0] != 0 or starts[-1] != words:
        raise InvalidArgument(f"{path}: runs go from {starts[0]} to {starts[-1]}, expected 0 to {words}")
    _check_rising(path, starts, "a run is a header and an edge at least, and start", 2, verify)


def _check_edges(path: Path, words: U64, starts: U64, others: U64, other_starts: U64, kind: str) -> None:
    at = runs.fault(words, starts, others, other_starts)
    if at >= 0:
        raise InvalidArgument(
            f"{path}: word {at} leads to {int(words[at]) >> DEGREE_BITS} of {len(others)}, where no {kind} begins: "
            f"an edge to an unknown {kind}"
            if at not in starts
            else f"{path}: word {at} is {words[at]}, where the header of row {np.searchsorted(starts, at)} belongs"
        )


def _sample_runs(path: Path, words: U64, starts: U64) -> None:
    """Headers of some pins."""
    rows = np.linspace(0, len(starts) - 2, min(SAMPLES * SAMPLE, len(starts) - 1)).astype(np.int64)
    wanted = (starts[rows + 1] - starts[rows] - np.uint64(1)) << np.uint64(32) | rows.astype(np.uint64)
    wrong = np.flatnonzero(words[np.minimum(starts[rows], len(words) - 1)] != wanted)
    if len(wrong):
        row = int(rows[wrong[0]])
        raise InvalidArgument(
            f"{path}: word {starts[row]} is {words[starts[row]]}, where the header of row {row} belongs"
        )


def _mapped(path: Path, dtype: str) -> Array:
    return np.asarray(np.memmap(path, dtype, mode="r"))
