"""Batches by the thousand for the tests of the kit: any that can be made, and what each row of one says."""

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import strategies as st

from services.core.boards import Board, after
from services.core.columns import Ragged
from services.core.events import COLUMNS, RESERVED_FROM, Action, Batch, events

U64_MAX = 2**64 - 1
ids_ = st.one_of(st.integers(1, 9), st.integers(1, RESERVED_FROM - 1))
any_u64 = st.one_of(st.just(0), ids_, st.integers(1, U64_MAX))
quality = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))
texts = st.text(max_size=6)
Row = dict[str, Any]

_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "user": any_u64,
    "action": st.integers(0, 255),
    "pin": any_u64,
    "board": any_u64,
    "target": any_u64,
    "at_ms": st.integers(-(2**63), 2**63 - 1),
    "surface": st.integers(0, 255),
    "id": any_u64,
    "quality": quality,
    "position": st.integers(0, 2**32 - 1),
    "title": texts,
    "link": texts,
    "kind": st.integers(0, 255),
    "count": st.integers(0, 2**32 - 1),
    "score": st.floats(allow_nan=False, width=32),
    "model": any_u64,
    "writer": any_u64,
    "stated": st.integers(0, 255),
    "interests": st.lists(ids_, max_size=4),
    "features": st.lists(st.floats(allow_nan=False, width=32), max_size=4),
    "probability": st.floats(0, 1, width=32),
    "candidates": st.integers(0, 2**32 - 1),
    "arms": st.lists(any_u64, max_size=2),
    "lost": st.lists(ids_, max_size=3),
    "lost_by": st.lists(st.floats(allow_nan=False, width=32), max_size=9),
}


def batch_of(rows: list[Row]) -> Batch:
    """The batch of these rows."""
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    arrays = {name: np.array(columns[name], dtype) for name, dtype in COLUMNS.items()}
    return events(len(rows), **(columns | arrays))


def rows_of(batch: Batch) -> list[Row]:
    """Each row by column; a quality that was never stated is None."""
    columns: dict[str, list[Any]] = {name: getattr(batch, name).tolist() for name in COLUMNS}
    columns["quality"] = [None if np.isnan(value) else value for value in batch.quality]
    columns |= {name: getattr(batch, name).strings() for name in ("title", "link")}
    columns |= {name: runs(getattr(batch, name)) for name in ("interests", "features", "arms", "lost", "lost_by")}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def runs(ragged: Ragged) -> list[list[Any]]:
    """Each run as a list."""
    return [ragged.run(i).tolist() for i in range(len(ragged))]


def any_batches(max_size: int = 12, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Batch]:
    """Batches whose columns hold anything that their types can, but for those given."""
    return st.lists(st.fixed_dictionaries(_COLUMNS | columns), max_size=max_size).map(batch_of)


def good_batches(max_size: int = 12, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Batch]:
    """Batches that the ingest API accepts."""
    good: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(("user", "pin", "board", "target", "id"), ids_)
    good |= {
        "action": st.sampled_from([int(action) for action in Action if action != Action.NAME_ID]),
        "at_ms": st.just(1_700_000_000_000),
    }
    good["stated"] = st.integers(0, 3)
    return any_batches(max_size, **(good | columns))


def board_batches(max_size: int = 12) -> st.SearchStrategy[Batch]:
    """Of a few users who speak of a few boards, of which some are not theirs."""
    some, spoken = st.integers(1, 3), (Action.CREATE_BOARD, Action.DELETE_BOARD, Action.SAVE)
    at_ms = st.integers(1_700_000_000_000, 1_700_000_000_003)
    return good_batches(max_size, action=st.sampled_from(spoken), board=some, user=some, at_ms=at_ms)


def do_not_hold(batch: Batch) -> set[int]:
    """Ids of what users say of boards that are not theirs: for `objects` alone."""
    known: dict[int, Board] = defaultdict(Board)
    found = set()
    for row in rows_of(batch):
        if row["action"] in (Action.CREATE_BOARD, Action.DELETE_BOARD):
            stands = after(known[row["board"]], row["action"], row["user"], row["at_ms"])
            if stands is None:
                found.add(row["id"])
            else:
                known[row["board"]] = stands
    return found


def follows(n: int, first_id: int = 1, user: int = 1, at_ms: int = 1_700_000_000_000) -> Batch:
    """n different users followed by one, with ids from `first_id` on."""
    rows = np.arange(first_id, first_id + n, dtype=np.uint64)
    return events(n, action=Action.FOLLOW_USER, user=user, target=rows, at_ms=at_ms, id=rows)
