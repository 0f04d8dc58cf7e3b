"""The sources of a graph's edges: the log of the mesh, or Parquet files."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loaders.convert import lists, plain, whole
from loaders.ids import read_ids
from loaders.place import Place
from loaders.text_ids import being_read, settle
from pixie.build import Edges
from pixie.prune import NO_TOPICS, Topics
from services.core.boards import IS_OF_BOARDS
from services.core.columns import I64, U8, U64, Array
from services.core.errors import InvalidArgument
from services.core.events import Action, flags
from services.core.topics import Topic
from services.log.protocol import Record
from services.log.reading import open_reader, read_all
from services.rpc.mesh import Mesh

A = Action
_PUTS = flags(A.SAVE, A.JOIN_INTEREST)
_OF_BOARDS = flags(A.SAVE, A.UNSAVE)
_OF_INTERESTS = flags(A.JOIN_INTEREST, A.LEAVE_INTEREST)
_RELEVANT = _OF_BOARDS | _OF_INTERESTS | IS_OF_BOARDS | flags(A.TAKEDOWN)
ENDS_WITHIN_S = 10.0
_ALLOWED = "ids are whole numbers from 0 to 2**64 - 1"


class Gathered(NamedTuple):
    """The edges of a graph, and their origin. dropped: records that the log no longer has, at most."""

    edges: Edges
    topics: Topics
    dropped: int = 0


class _Rows(NamedTuple):
    """Relevant events in the order of the log: of one key, in the order in which they came."""

    action: U8
    pin: U64
    key: U64  # the board, or the interest
    at_ms: I64


def from_mesh(mesh: Mesh, timeout: float, report: Callable[[int, int], None]) -> Gathered:
    """All saves of the log of a running mesh. report(events read, events to read). Raises Unavailable."""
    log = open_reader(mesh)
    try:
        ends = {at: end for at, end in log.ends(ENDS_WITHIN_S).items() if at[0] == Topic.SOURCES}
        total, done = sum(end.events or 0 for end in ends.values()), 0
        parts = []
        for records in read_all(log, {at: end.first for at, end in ends.items()}, timeout):
            parts.append(_relevant(records))
            done += sum(len(record.batch) + record.repeated for record in records)
            report(min(done, total), total)
        return _gathered(parts)._replace(dropped=sum(end.first for end in ends.values()))
    finally:
        log.close()


def from_records(records: Iterable[Record]) -> Gathered:
    """The same from records at hand, in the order of the log."""
    return _gathered([_relevant(list(records))])


def _relevant(records: Sequence[Record]) -> _Rows:
    parts = [_none()]
    for record in records:
        if record.topic == Topic.SOURCES:
            batch = record.batch
            at = np.flatnonzero(_RELEVANT[batch.action])
            action = batch.action[at]
            key = np.where(_OF_INTERESTS[action], batch.target[at], batch.board[at])
            parts.append(_Rows(action, batch.pin[at], key, batch.at_ms[at]))
    return _joined(parts)


def _none() -> _Rows:
    return _Rows(np.empty(0, np.uint8), np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))


def _joined(parts: list[_Rows]) -> _Rows:
    return _Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _gathered(parts: list[_Rows]) -> Gathered:
    """The edges that hold at the end, as polaris has them, without pins that were taken down.

    Of the statements about a pin and a board the latest stands, of equal dates the one that came last; of a pin and an interest
    what came last.
    """
    rows = _joined([_none(), *parts])
    down = np.unique(rows.pin[rows.action == A.TAKEDOWN])
    saves = np.flatnonzero(_OF_BOARDS[rows.action])
    saves = _standing(rows, saves, rows.at_ms[saves], down)
    saves = saves[_held(rows, saves)]
    joins = np.flatnonzero(_OF_INTERESTS[rows.action])
    joins = _standing(rows, joins, np.zeros(len(joins), np.int64), down)
    joins = joins[np.lexsort((rows.key[joins], rows.at_ms[joins], rows.pin[joins]))]  # the earliest is the main one
    return Gathered(Edges(rows.pin[saves], rows.key[saves]), Topics(rows.pin[joins], rows.key[joins]))


def _held(rows: _Rows, saves: Array) -> Array:
    """bool[s]: whether the board of each save is there, and was not deleted since."""
    said = np.flatnonzero(IS_OF_BOARDS[rows.action])
    deletions = _latest(rows, said[rows.action[said] == A.DELETE_BOARD])
    if not len(deletions):
        return np.ones(len(saves), bool)
    boards = rows.key[deletions]  # ascending
    latest = _latest(rows, said[np.isin(rows.key[said], boards)])  # a row of each of these boards
    at = np.minimum(np.searchsorted(boards, rows.key[saves]), len(boards) - 1)
    deleted = deletions[at]
    after = rows.at_ms[saves] - rows.at_ms[deleted]
    there = (rows.action[latest[at]] == A.CREATE_BOARD) & ((after > 0) | ((after == 0) & (saves > deleted)))
    return np.asarray((boards[at] != rows.key[saves]) | there)


def _latest(rows: _Rows, at: Array) -> Array:
    """Of each key the latest of these rows, of equal dates the one that came last; ascending by key."""
    order = at[np.lexsort((at, rows.at_ms[at], rows.key[at]))]
    key = rows.key[order]
    return np.asarray(order[np.append(key[1:] != key[:-1], True)[: len(order)]])


def _standing(rows: _Rows, at: Array, dates: Array, down: U64) -> Array:
    """Of each pin and key the row of the latest date, of equal ones the last, if it puts the pin there and the pin was not
    taken down.
    """
    order = at[np.lexsort((at, dates, rows.key[at], rows.pin[at]))]
    pin, key = rows.pin[order], rows.key[order]
    last = np.append((pin[1:] != pin[:-1]) | (key[1:] != key[:-1]), True)[: len(order)]
    chosen = order[last]
    return np.asarray(chosen[_PUTS[rows.action[chosen]] & ~np.isin(rows.pin[chosen], down)])


def from_parquet(edges: Path, pin: str, board: str, pins: Path | None) -> Gathered:
    """Edges of two columns of ids; with `pins` (columns pin, and interests or interest if there are any) their interests.

    Raises InvalidArgument naming the file and column, or the edge whose pin is not among `pins`.
    """
    table = _table(edges, [pin, board])
    found = Edges(_ids(edges, table, pin), _ids(edges, table, board))
    if pins is None:
        return Gathered(found, NO_TOPICS)
    known = _table(pins, ["pin"], ["interests", "interest"])
    ids = _ids(pins, known, "pin")
    ascending = np.sort(ids)
    at = np.minimum(np.searchsorted(ascending, found.pins), max(len(ascending) - 1, 0))
    lost = ascending[at] != found.pins if len(ascending) else np.ones(len(found.pins), bool)
    if lost.any():
        row = int(lost.argmax())
        raise InvalidArgument(
            f"{edges}: row {row}: {pin} {found.pins[row]} on {board} {found.boards[row]}: an edge to an unknown pin: "
            f"{pins} has no such pin ({int(lost.sum())} edges of {len(lost)} are so)"
        )
    return Gathered(found, _topics(pins, known, ids))


def _topics(path: Path, table: Any, pins: U64) -> Topics:
    """The interests that a file of pins states, in its order."""
    name = next((name for name in ("interests", "interest") if name in table.column_names), None)
    if name is None:
        return NO_TOPICS
    column = table.column(name).combine_chunks()
    if pa.types.is_nested(column.type):
        lengths, values = lists(column, Place(path, name), f"lists, where {_ALLOWED}")
        table, pins = pa.table({name: values}), np.repeat(pins, lengths)
    else:
        stated = np.asarray(column.is_valid())
        table, pins = pa.table({name: column.filter(column.is_valid())}), pins[stated]
    interests = _ids(path, table, name)
    return Topics(pins[interests > 0], interests[interests > 0])


def _table(path: Path, columns: list[str], optional: Sequence[str] = ()) -> Any:
    """The columns, and those of the optional ones that are there. Raises InvalidArgument naming what is missing."""
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            missing = [name for name in columns if name not in there]
            if missing:
                raise InvalidArgument(f"{path}: no column {missing[0]!r}; it has {', '.join(there) or 'none'}")
            return file.read([name for name in there if name in {*columns, *optional}])
    except FileNotFoundError:
        raise InvalidArgument(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise InvalidArgument(f"{path}: not read as Parquet: {error}") from None


def _ids(path: Path, table: Any, name: str) -> U64:
    """uint64[n] of a column of ids, however it is encoded (loaders/convert.py); 0 is one here, where ids are numbers."""
    place = Place(path, name)
    if being_read() is not None:
        found = read_ids(table.column(name), place, null=False)
        settle()
        return found
    array, present = whole(plain(table.column(name)), pa.uint64(), place, _ALLOWED)
    place.refuse(~present, array, _ALLOWED)
    return np.asarray(array.to_numpy(zero_copy_only=False), np.uint64)
