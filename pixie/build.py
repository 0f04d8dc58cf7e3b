"""Builds a snapshot from edges: ids to rows, pruning, both directions, and the files, whole or not at all."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pixie import layout, runs
from pixie.layout import FILES, FORMAT, MANIFEST, SnapshotFile, SnapshotManifest
from pixie.prune import NO_TOPICS, Pruning, Topics, pruned
from pixie.runs import SparseRows
from pixie.snapshot import checksum, versions
from services.blob.opening import Place, open_blobs
from services.core.columns import U64, Array
from services.core.errors import Conflict, InvalidArgument

Say = Callable[[str], None]
MAX_NODES = 1 << 32


class Edges(NamedTuple):
    """Which pin is on which board: uint64[e] each. A pair may come more than once."""

    pins: U64
    boards: U64


class _Nodes(NamedTuple):
    """Ascending ids, and the edges as rows of boards by rows of pins, each pair once, both ascending."""

    pin_ids: U64
    board_ids: U64
    of_pins: SparseRows

    @property
    def edges(self) -> int:
        """How many."""
        return len(self.of_pins.edges)


def build(
    graphs: Place,
    edges: Edges,
    topics: Topics = NO_TOPICS,
    pruning: Pruning = Pruning(),  # noqa: B008 - immutable
    *,
    built_ms: int,
    source: str = "",
    say: Say = lambda _: None,
    durable: bool = True,
) -> str:
    """Write a snapshot of the edges to where snapshots alone lie (`keys.graphs_of`), and return its version.

    topics: the interests of pins; a pin's first is its main one, by which walks are biased. `durable`: on disk
    when this returns; a replay's graph, which lives as long as its process, need not be. Raises InvalidArgument when no edge is
    there, or left after pruning.
    """
    pruning.check()
    say(f"sorting {len(edges.pins):,} edges")
    nodes = _nodes(edges)
    if not nodes.edges:
        raise InvalidArgument(f"{source or 'edges'}: no pin is on a board: a graph needs at least one edge")
    before = nodes.edges
    if pruning.asked:
        say(f"pruning {before:,} edges")
        nodes = _pruned(nodes, topics, pruning)
        if not nodes.edges:
            raise InvalidArgument(f"entropy_fraction = {pruning.entropy_fraction}: none of {before} edges is left")
    say(f"writing {nodes.edges:,} edges of {len(nodes.pin_ids):,} pins and {len(nodes.board_ids):,} boards")
    manifest = SnapshotManifest(
        format=FORMAT,
        version="",
        pins=len(nodes.pin_ids),
        boards=len(nodes.board_ids),
        edges=nodes.edges,
        most=int(np.diff(nodes.of_pins.offsets).max()),
        built_ms=built_ms,
        source=source,
        entropy_fraction=pruning.entropy_fraction,
        delta=pruning.delta,
        files={},
    )
    return _write(graphs, _columns(nodes, topics), manifest, durable)


def _nodes(edges: Edges) -> _Nodes:
    pin_ids, board_ids = _ascending(edges.pins), _ascending(edges.boards)
    if max(len(pin_ids), len(board_ids)) >= MAX_NODES:
        raise InvalidArgument(f"{len(pin_ids)} pins, {len(board_ids)} boards: at most {MAX_NODES - 1} of each")
    if not len(pin_ids):
        return _Nodes(pin_ids, board_ids, SparseRows(np.zeros(1, np.int64), np.empty(0, np.uint32)))
    pins, boards = runs.rows_of(pin_ids, edges.pins), runs.rows_of(board_ids, edges.boards)
    of_boards = runs.grouped(boards, pins, len(board_ids))
    del pins, boards
    return _Nodes(pin_ids, board_ids, runs.transposed(of_boards, len(pin_ids), np.arange(len(board_ids))))


def _ascending(values: U64) -> U64:
    """Each value once. Sorting and comparing neighbours: np.unique is slow on big arrays of uint64."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _pruned(nodes: _Nodes, topics: Topics, pruning: Pruning) -> _Nodes:
    """Without the edges that pruning drops, and without nodes that lost all of theirs."""
    pins = np.repeat(np.arange(len(nodes.pin_ids), dtype=np.uint32), np.diff(nodes.of_pins.offsets))
    boards = nodes.of_pins.edges
    keep = pruned(pins, boards, nodes.pin_ids, len(nodes.board_ids), topics, pruning)
    pins, boards = pins[keep], boards[keep]
    pin_left, board_left = np.zeros(len(nodes.pin_ids), bool), np.zeros(len(nodes.board_ids), bool)
    pin_left[pins], board_left[boards] = True, True
    pin_row, board_row = np.cumsum(pin_left) - 1, np.cumsum(board_left) - 1
    of_pins = runs.grouped(
        pin_row[pins].astype(np.uint32), board_row[boards].astype(np.uint32), int(np.count_nonzero(pin_left))
    )
    return _Nodes(nodes.pin_ids[pin_left], nodes.board_ids[board_left], of_pins)


def _columns(nodes: _Nodes, topics: Topics) -> Iterator[tuple[str, Array]]:
    """The files, one after the other: two of them are most of a snapshot, and need not be there together."""
    pins, boards, of_pins = len(nodes.pin_ids), len(nodes.board_ids), nodes.of_pins
    pin_interest = _main_interests(nodes.pin_ids, topics)
    of_boards = runs.transposed(of_pins, boards, np.argsort(pin_interest, kind="stable"))
    board_interest = runs.most_common(of_boards, pin_interest)
    if board_interest.any():  # else they are in order already
        of_pins = runs.transposed(of_boards, pins, np.argsort(board_interest, kind="stable"))
    pin_starts, board_starts = runs.starts_of(of_pins), runs.starts_of(of_boards)
    yield "pins.ids", nodes.pin_ids
    yield "pins.interest", pin_interest
    yield "pins.starts", pin_starts
    yield "pins.runs", runs.runs_of(of_pins, board_starts)
    yield "boards.ids", nodes.board_ids
    yield "boards.interest", board_interest
    yield "boards.runs", runs.runs_of(of_boards, pin_starts)


def _main_interests(pin_ids: U64, topics: Topics) -> U64:
    """uint64[pins]: the first interest of each pin, 0 if it has none."""
    found = np.zeros(len(pin_ids), np.uint64)
    rows, known = topics.rows_of(pin_ids)
    found[rows[known][::-1]] = topics.interests[known][::-1]  # the last to be written stands: the first that was given
    return found


def _write(graphs: Place, columns: Iterable[tuple[str, Array]], manifest: SnapshotManifest, durable: bool) -> str:
    """All files into a draft that then becomes the snapshot; the version that it got. Versions sort by when they were built."""
    blobs = open_blobs(graphs)
    with blobs.draft("") as draft:
        for name, values in columns:
            _to_disk(draft / name, np.ascontiguousarray(values, FILES[name]))
            manifest.files[name] = SnapshotFile((draft / name).stat().st_size, checksum(draft / name))
        at, there = datetime.fromtimestamp(manifest.built_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S"), versions(blobs)
        for version in (f"{at}-{n}" for n in itertools.count(1)):
            if version in there:
                continue
            manifest.version = version
            (draft / MANIFEST).write_bytes(layout.pack_manifest(manifest))
            try:
                blobs.publish(draft, version, durable)
            except Conflict:
                continue  # another build took it meanwhile
            return version
    raise AssertionError


def _to_disk(path: Path, values: Array) -> None:
    with path.open("wb") as file:
        values.tofile(file)
