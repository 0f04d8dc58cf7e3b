"""Which statements of boards hold, decided as they are accepted: `services/core/boards.py` on a table of the log.

The table is a function of the boards' records in `objects`, which hold every statement. It changes in the write that
appends them. A log of before there was a table is read once, and what its `users` and `sources` have wrong is set right
there: boards that a stranger claimed are deleted among theirs, boards that one deleted are created again.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from roadrunner import layout
from roadrunner.intake import Group
from roadrunner.staged import Tables
from services.core.boards import IS_OF_BOARDS, Board, after
from services.core.columns import I64, U64, Array
from services.core.events import Action, Batch, events
from services.core.topics import Topic, partition_of
from services.log.protocol import Partition
from services.state.database import Database

logger = logging.getLogger(__name__)
NOTE = b"boards"  # put once the table says what the log does
_ACTIONS = bytes(np.flatnonzero(IS_OF_BOARDS).tolist())
_NONE = np.empty(0, np.int64)
_RECORD_ROWS = 50_000


class Boards:
    """The boards of a log, as of its end."""

    def __init__(self, tables: Tables, partitions: int) -> None:
        self._tables, self._partitions = tables, partitions

    def judge(self, write: Any, group: Group, chosen: I64) -> I64:
        """Those of the chosen rows (ascending) that do not hold; the changes of the others become part of the write."""
        action = group.column("action")
        rows = chosen[IS_OF_BOARDS[action[chosen]]]
        if not len(rows):
            return _NONE
        boards = group.column("board")[rows]
        known = self._read(boards)
        columns = boards, action[rows], group.column("user")[rows], group.column("at_ms")[rows]
        void = []
        for row, board, *said in zip(rows.tolist(), *(column.tolist() for column in columns), strict=True):
            now = after(known[board], *said)
            if now is None:
                void.append(row)
            else:
                known[board] = now
        self._put(write, known)
        return np.array(void, np.int64)

    def fill(self, database: Database, write: Any, ends: Mapping[Partition, Any]) -> list[tuple[Partition, Batch]]:
        """Before the first write: make the table from the log's records, if it lacks one. The records to append, and where."""
        if database.note(NOTE) is not None:
            return []
        write.put(NOTE, b"1")
        if not any(end.next for (topic, _), end in ends.items() if topic == Topic.OBJECTS):
            return []
        logger.info("the owners of boards are read from the log, once")
        known: dict[int, Board] = {}
        deleted: dict[int, int] = {}  # by board: when, the latest, by any user
        claimed: dict[tuple[int, int], int] = {}  # by board and user: when they created what was not theirs, the latest
        for board, action, user, at_ms in _statements(database):
            now = after(known.get(board, Board()), action, user, at_ms)
            known[board] = now or known[board]
            if action == Action.DELETE_BOARD:
                deleted[board] = max(at_ms, deleted.get(board, 0))
            elif now is None:
                claimed[board, user] = max(at_ms, claimed.get((board, user), 0))
        self._put(write, known)
        there = [
            (board, state.owner, max(deleted[board], state.created_ms))
            for board, state in known.items()
            if board in deleted and not state.deleted
        ]
        others = [(*of, at_ms) for of, at_ms in claimed.items() if known[of[0]].deleted or known[of[0]].owner != of[1]]
        made = self._made(Topic.SOURCES, Action.CREATE_BOARD, there)
        return made + self._made(Topic.USERS, Action.DELETE_BOARD, others)

    def _made(self, topic: Topic, action: Action, rows: list[tuple[int, int, int]]) -> list[tuple[Partition, Batch]]:
        """Events of these boards, users and dates, for a topic that is read by board or by user."""
        if not rows:
            return []
        boards, users, at_ms = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
        made = events(len(rows), action=action, user=users, board=boards, at_ms=at_ms, id=boards)
        at = partition_of(boards if topic == Topic.SOURCES else users, self._partitions)
        each = [np.flatnonzero(at == partition) for partition in range(self._partitions)]
        return [
            ((int(topic), partition), made.take(own[start : start + _RECORD_ROWS]))
            for partition, own in enumerate(each)
            for start in range(0, len(own), _RECORD_ROWS)
        ]

    def _read(self, boards: U64) -> dict[int, Board]:
        unique = np.unique(boards)
        keys = self._keys(unique)
        values = self._tables.family("boards").get(keys)
        return {
            board: Board() if value is None else layout.board_of(key, value)
            for board, key, value in zip(unique.tolist(), keys, values, strict=True)
        }

    def _put(self, write: Any, known: Mapping[int, Board]) -> None:
        handle = self._tables.handle("boards")
        said = {board: state for board, state in known.items() if state.owner}
        for key, state in zip(self._keys(np.array(list(said), np.uint64)), said.values(), strict=True):
            write.put(key, layout.board_value(state), handle)

    def _keys(self, boards: Array) -> list[bytes]:
        return layout.object_keys(partition_of(boards, self._partitions), boards)


def _statements(database: Database) -> Iterator[tuple[int, int, int, int]]:
    """Board, action, user and date of all that was said of boards, in the order of each board's partition."""
    bounds = layout.record_key(Topic.OBJECTS, 0, 0), layout.record_key(Topic.OBJECTS + 1, 0, 0)
    for key, value in database.family("records").items(*bounds):
        message = layout.message_of(key, layout.record_of(key, value).batch)
        if any(action in message.action for action in _ACTIONS):
            batch = Batch.of(message)
            rows = np.flatnonzero(IS_OF_BOARDS[batch.action])
            columns = batch.board, batch.action, batch.user, batch.at_ms
            yield from zip(*(column[rows].tolist() for column in columns), strict=True)
