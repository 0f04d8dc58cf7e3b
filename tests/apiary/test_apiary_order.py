"""Results of reads, put in order by kernels, against plain Python: sorted lists and dictionaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiary import hops, kernel, order
from apiary.hops import FollowedBoards, Owned
from apiary.layout import Entries
from services.core.topics import partition_of

Dates = dict[int, int]  # id -> at_ms
Board = tuple[float, int, int, int]  # weight, at_ms, board, owner

ids = st.sampled_from([1, 2, 3, 256, 70_000, 2**63, 2**64 - 1])
dates = st.sampled_from([0, 1, 2, 1_700_000_000_000, 1_700_000_000_001, 2**55])
dated = st.dictionaries(ids, dates, max_size=7)


def newest(lists: Dates, limit: int) -> list[tuple[int, int]]:
    """(at_ms, id) of the newest."""
    return sorted(((at, id_) for id_, at in lists.items()), reverse=True)[:limit]


def columns(lists: list[Dates]) -> Entries:
    """Lists of several kinds, or of several users, back to back."""
    flat = [(id_, kind, at) for kind, held in enumerate(lists, 1) for id_, at in sorted(held.items())]
    return Entries(
        np.array([e[0] for e in flat], np.uint64),
        np.array([e[1] for e in flat], np.uint8),
        np.array([e[2] for e in flat], np.int64),
    )


@given(st.lists(dated, min_size=3, max_size=3), st.integers(1, 8))
def test_the_newest_of_each_kind(lists: list[Dates], limit: int) -> None:
    found = order.newest(columns(lists), limit)
    ends = [0, found.users, found.boards, found.interests]
    for held, start, end in zip(lists, ends, ends[1:], strict=False):
        got = list(zip(found.at_ms[start:end].tolist(), found.ids[start:end].tolist(), strict=True))
        assert got == newest(held, limit)
    assert len(found.ids) == found.interests


@given(st.lists(dated, max_size=4), st.integers(1, 8))
def test_the_newest_boards_of_each_owner(lists: list[Dates], limit: int) -> None:
    entries, ends = columns(lists), np.cumsum([len(held) for held in lists], dtype=np.int64)
    owners = np.arange(10, 10 + len(lists), dtype=np.uint64)
    found = order.newest_of_each(owners, entries.ids, entries.at_ms, ends, limit)
    wanted = [
        (owner, board, held[board])
        for owner, held in zip(owners.tolist(), lists, strict=True)
        for board in sorted(id_ for _, id_ in newest(held, limit))
    ]
    assert list(zip(found.owners.tolist(), found.boards.tolist(), found.at_ms.tolist(), strict=True)) == wanted
    assert found.counts.tolist() == [min(len(held), limit) for held in lists]


boards = st.lists(st.tuples(ids, dates, st.integers(1, 9)), max_size=12)


def best(found: list[Board], limit: int) -> list[Board]:
    """Best first, each board once."""
    kept: dict[int, Board] = {}
    for one in sorted(found, key=lambda board: board[:3], reverse=True):
        kept.setdefault(one[2], one)
    return list(kept.values())[:limit]


def rows(found: FollowedBoards) -> list[Board]:
    """As `best` has them, without the owner."""
    weights, at_ms = found.weights.tolist(), found.at_ms.tolist()
    return list(zip(weights, at_ms, found.boards.tolist(), found.owners.tolist(), strict=True))


def owned(found: list[tuple[int, int, int]]) -> Owned:
    """Boards of owners."""
    counts = np.ones(len(found), np.int64)
    of = np.array([b[0] for b in found], np.uint64), np.array([b[2] for b in found], np.uint64)
    return Owned(counts, *of, np.array([b[1] for b in found], np.int64))


@given(dated, boards, boards, st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 30))
def test_the_best_boards_of_both_hops(
    direct: Dates, here: list[tuple[int, int, int]], there: list[tuple[int, int, int]], weight: float, limit: int
) -> None:
    mine = columns([direct])
    found = order.best(mine.ids, mine.at_ms, 1.0, owned(here), weight, limit)
    first = [(1.0, at, id_, 0) for id_, at in direct.items()]
    second = [(weight, at, board, owner) for board, at, owner in here]
    wanted = best(first + second, limit)
    assert [board[:3] for board in rows(found)] == [board[:3] for board in wanted]
    assert set(rows(found)) <= {*first, *second}
    merged = hops.merge(found, owned(there), weight, limit)
    third = [(weight, at, board, owner) for board, at, owner in there]
    assert [board[:3] for board in rows(merged)] == [board[:3] for board in best(wanted + third, limit)]


@given(st.lists(st.integers(1, 2**64 - 1), max_size=20), st.integers(1, 64), st.integers(0, 64), st.integers(0, 64))
def test_users_are_split_by_their_partition(users: list[int], partitions: int, first: int, end: int) -> None:
    asked = np.array(users, np.uint64)
    here, where, elsewhere = kernel.split(asked, partitions, first, end)
    wanted = partition_of(asked, partitions)
    own = (wanted >= first) & (wanted < end)
    assert here.tolist() == asked[own].tolist()
    assert where.tolist() == wanted[own].tolist()
    assert elsewhere.tolist() == asked[~own].tolist()


def test_columns_of_unequal_lengths_are_refused() -> None:
    entries, owners = columns([{1: 5, 2: 6}, {3: 7}, {}]), np.array([10, 11], np.uint64)
    with pytest.raises(ValueError, match="^at_ms: 2 rows, expected 3$"):
        order.newest(entries._replace(at_ms=entries.at_ms[:2]), 5)
    with pytest.raises(ValueError, match="^at_ms: 1 rows, expected 3$"):
        order.newest_of_each(owners, entries.ids, entries.at_ms[:1], np.array([2, 3]), 5)
    with pytest.raises(ValueError, match="^ends: 1 rows, expected 2$"):
        order.newest_of_each(owners, entries.ids, entries.at_ms, np.array([3]), 5)
    with pytest.raises(ValueError, match="^ends: the last list ends at row 4, expected 3$"):
        order.newest_of_each(owners, entries.ids, entries.at_ms, np.array([2, 4]), 5)
    owned = Owned(np.array([2]), entries.ids[:2], owners[:1], entries.at_ms[:2])
    with pytest.raises(ValueError, match="^owners: 1 rows, expected 2$"):
        order.best(entries.ids, entries.at_ms, 1.0, owned, 0.5, 5)
    with pytest.raises(ValueError, match="^direct_at_ms: 2 rows, expected 3$"):
        order.best(entries.ids, entries.at_ms[:2], 1.0, owned, 0.5, 5)
