"""Batches by the thousand for the tests of the kit: any that can be made, and what each row of one says."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from services.columns import Ragged
from services.events import COLUMNS, Action, Batch, events

U64_MAX = 2**64 - 1
ids_ = st.one_of(st.integers(1, 9), st.integers(1, U64_MAX))
any_u64 = st.one_of(st.just(0), ids_)
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
    "interests": st.lists(ids_, max_size=4),
    "features": st.lists(st.floats(allow_nan=False, width=32), max_size=4),
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
    columns |= {name: runs(getattr(batch, name)) for name in ("interests", "features")}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def runs(ragged: Ragged) -> list[list[Any]]:
    """Each run as a list."""
    return [ragged.run(i).tolist() for i in range(len(ragged))]


def any_batches(max_size: int = 12, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Batch]:
    """Batches whose columns hold anything that their types can, but for those given."""
    return st.lists(st.fixed_dictionaries(_COLUMNS | columns), max_size=max_size).map(batch_of)


def good_batches(max_size: int = 12, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Batch]:
    """Batches that the front door accepts."""
    good: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(("user", "pin", "board", "target", "id"), ids_)
    good |= {"action": st.sampled_from([int(action) for action in Action]), "at_ms": st.just(1_700_000_000_000)}
    return any_batches(max_size, **(good | columns))


def follows(n: int, first_id: int = 1, user: int = 1, at_ms: int = 1_700_000_000_000) -> Batch:
    """n different users followed by one, with ids from `first_id` on."""
    rows = np.arange(first_id, first_id + n, dtype=np.uint64)
    return events(n, action=Action.FOLLOW_USER, user=user, target=rows, at_ms=at_ms, id=rows)
