"""Builds a snapshot from edges: ids to rows, pruning, both directions, and the files, whole or not at all."""

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pixie import layout
from pixie.layout import FILES, FORMAT, MANIFEST, File, Manifest
from pixie.prune import NO_TOPICS, Pruning, Topics, pruned
from pixie.snapshot import checksum
from services.columns import I64, U32, U64, Array
from services.errors import InvalidArgument

Say = Callable[[str], None]
STALE_S = 86_400  # a draft that nobody wrote to for a day was left by a build that was killed
MAX_NODES = 1 << 32


class Edges(NamedTuple):
    """Which pin is on which board: uint64[e] each. A pair may come more than once."""

    pins: U64
    boards: U64


class _Nodes(NamedTuple):
    """The edges as rows: uint32[e] into ascending ids."""

    pin_ids: U64
    board_ids: U64
    pins: U32
    boards: U32


def build(
    graphs: Path,
    edges: Edges,
    topics: Topics = NO_TOPICS,
    pruning: Pruning = Pruning(),  # noqa: B008 - immutable
    *,
    built_ms: int,
    source: str = "",
    say: Say = lambda _: None,
    durable: bool = True,
) -> str:
    """Write a snapshot of the edges into the folder `graphs` and return its version.

    topics: the interests of pins; a pin's first is its main one, by which walks are biased. `durable`: on disk
    when this returns; a replay's graph, which nobody opens tomorrow, need not be. Raises InvalidArgument when no edge is
    there, or left after pruning.
    """
    pruning.check()
    say(f"sorting {len(edges.pins):,} edges")
    nodes = _rows(edges)
    if not len(nodes.pins):
        raise InvalidArgument(f"{source or 'edges'}: no pin is on a board: a graph needs at least one edge")
    before = len(nodes.pins)
    if pruning.asked:
        say(f"pruning {before:,} edges")
        keep = pruned(nodes.pins, nodes.boards, nodes.pin_ids, len(nodes.board_ids), topics, pruning)
        nodes = _kept(nodes, keep)
        if not len(nodes.pins):
            raise InvalidArgument(f"entropy_fraction = {pruning.entropy_fraction}: none of {before} edges is left")
    say(f"writing {len(nodes.pins):,} edges of {len(nodes.pin_ids):,} pins and {len(nodes.board_ids):,} boards")
    manifest = Manifest(
        format=FORMAT,
        version="",
        pins=len(nodes.pin_ids),
        boards=len(nodes.board_ids),
        edges=len(nodes.pins),
        built_ms=built_ms,
        source=source,
        entropy_fraction=pruning.entropy_fraction,
        delta=pruning.delta,
        files={},
    )
    return _write(graphs, _columns(nodes, topics), manifest, durable)


def _rows(edges: Edges) -> _Nodes:
    pin_ids, board_ids = _ascending(edges.pins), _ascending(edges.boards)
    if max(len(pin_ids), len(board_ids)) >= MAX_NODES:
        raise InvalidArgument(f"{len(pin_ids)} pins, {len(board_ids)} boards: at most {MAX_NODES - 1} of each")
    pins, boards = np.searchsorted(pin_ids, edges.pins), np.searchsorted(board_ids, edges.boards)
    pair = _ascending(pins.astype(np.uint64) << np.uint64(32) | boards.astype(np.uint64))
    low = np.uint64(0xFFFF_FFFF)
    return _Nodes(pin_ids, board_ids, (pair >> np.uint64(32)).astype(np.uint32), (pair & low).astype(np.uint32))


def _ascending(values: U64) -> U64:
    """Each value once. Sorting and comparing neighbours: np.unique is slow on big arrays of uint64."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _kept(nodes: _Nodes, keep: Array) -> _Nodes:
    """Without the other edges, and without nodes that lost all of theirs."""
    pins, boards = nodes.pins[keep], nodes.boards[keep]
    pin_left, board_left = np.zeros(len(nodes.pin_ids), bool), np.zeros(len(nodes.board_ids), bool)
    pin_left[pins], board_left[boards] = True, True
    pin_row, board_row = np.cumsum(pin_left) - 1, np.cumsum(board_left) - 1
    return _Nodes(
        nodes.pin_ids[pin_left],
        nodes.board_ids[board_left],
        pin_row[pins].astype(np.uint32),
        board_row[boards].astype(np.uint32),
    )


def _columns(nodes: _Nodes, topics: Topics) -> dict[str, Array]:
    pin_interest = _main_interests(nodes.pin_ids, topics)
    board_interest = _most_common(nodes.boards, pin_interest[nodes.pins], len(nodes.board_ids))
    pin_offsets, pin_edges = _csr(nodes.pins, nodes.boards, board_interest, len(nodes.pin_ids))
    board_offsets, board_edges = _csr(nodes.boards, nodes.pins, pin_interest, len(nodes.board_ids))
    return {
        "pins.ids": nodes.pin_ids,
        "pins.interest": pin_interest,
        "pins.offsets": pin_offsets,
        "pins.edges": pin_edges,
        "boards.ids": nodes.board_ids,
        "boards.interest": board_interest,
        "boards.offsets": board_offsets,
        "boards.edges": board_edges,
    }


def _main_interests(pin_ids: U64, topics: Topics) -> U64:
    """uint64[pins]: the first interest of each pin, 0 if it has none."""
    found = np.zeros(len(pin_ids), np.uint64)
    rows, known = topics.rows_of(pin_ids)
    found[rows[known][::-1]] = topics.interests[known][::-1]  # the last to be written stands: the first that was given
    return found


def _most_common(groups: U32, values: U64, n: int) -> U64:
    """uint64[n]: the value above 0 that is most common in each group, the smaller of equals, 0 if there is none."""
    stated = values > 0
    order = np.lexsort((values[stated], groups[stated]))
    group, value = groups[stated][order], values[stated][order]
    found = np.zeros(n, np.uint64)
    if len(group):
        starts = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])))
        counts = np.diff(starts, append=len(group))
        rising = np.lexsort((-starts, counts))  # the most common is written last; of equals, the smaller value
        found[group[starts][rising]] = value[starts][rising]
    return found


def _csr(sources: U32, targets: U32, interests: U64, n: int) -> tuple[I64, U32]:
    """Offsets int64[n + 1] and edges uint32[e], each run by interest of the target, then by target."""
    order = np.lexsort((targets, interests[targets], sources))
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(sources, minlength=n), out=offsets[1:])
    return offsets, targets[order]


def _write(graphs: Path, columns: dict[str, Array], manifest: Manifest, durable: bool) -> str:
    """All files into a draft that then becomes the snapshot; the version that it got."""
    draft, manifest.version = _draft(graphs, manifest.built_ms)
    try:
        for name, dtype in FILES.items():
            _to_disk(draft / name, np.ascontiguousarray(columns[name], dtype), durable)
            manifest.files[name] = File((draft / name).stat().st_size, checksum(draft / name))
        _to_disk(draft / MANIFEST, np.frombuffer(layout.pack_manifest(manifest), np.uint8), durable)
        draft.rename(graphs / manifest.version)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest.version


def _to_disk(path: Path, values: Array, durable: bool) -> None:
    with path.open("wb") as file:
        values.tofile(file)
        if durable:
            os.fsync(file.fileno())


def _draft(graphs: Path, built_ms: int) -> tuple[Path, str]:
    """A new folder to write to, and the version that it becomes: versions sort by when they were built."""
    graphs.mkdir(parents=True, exist_ok=True)
    for left in graphs.glob(f"{layout.DRAFT}*"):
        if time.time() - left.stat().st_mtime > STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    at, n = datetime.fromtimestamp(built_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S"), 1
    while True:
        version = f"{at}-{n}"
        draft = graphs / f"{layout.DRAFT}{version}"
        if not (graphs / version).exists():
            try:
                draft.mkdir()
            except FileExistsError:
                pass
            else:
                return draft, version
        n += 1
