"""The follow graph: apply these events, ask this question. No process, no network."""

from collections.abc import Iterator
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiary import layout
from apiary import store as store_of
from apiary.layout import BOARD, INTEREST, USER, Entries, Lists
from apiary.store import TOPICS, ApiaryStore, FollowChanges
from services.core.columns import ids
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.state.shard import Shard

PARTITIONS = 4
A = Action


def opened(folder: Path) -> ApiaryStore:
    return ApiaryStore(Shard(folder, layout.FORMAT, layout.FAMILIES), range(PARTITIONS), PARTITIONS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ApiaryStore]:
    made = opened(tmp_path)
    yield made
    made.shard.close()


def happened(*rows: tuple[Action, int, int, int, int]) -> Batch:
    """Events as (action, user, board, target, at_ms)."""
    action, user, board, target, at_ms = zip(*rows, strict=True)
    return events(
        len(rows), action=action, user=user, board=board, target=target, at_ms=at_ms, id=range(1, len(rows) + 1)
    )


def follows(store: ApiaryStore, user: int) -> set[tuple[int, int, int]]:
    found = store.followed(user)
    return set(zip(found.kinds.tolist(), found.ids.tolist(), found.at_ms.tolist(), strict=True))


def boards(store: ApiaryStore, owner: int) -> dict[int, int]:
    found = store.owned(ids([owner])).entries
    return dict(zip(found.ids.tolist(), found.at_ms.tolist(), strict=True))


def test_follows_of_each_kind_and_boards(store: ApiaryStore) -> None:
    batch = happened(
        (A.FOLLOW_USER, 1, 0, 2, 10),
        (A.FOLLOW_BOARD, 1, 77, 0, 11),
        (A.FOLLOW_INTEREST, 1, 0, 5, 12),
        (A.CREATE_BOARD, 2, 20, 0, 13),
        (A.CREATE_BOARD, 2, 21, 0, 14),
        (A.DELETE_BOARD, 2, 20, 0, 15),
    )
    store.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
    assert follows(store, 1) == {(USER, 2, 10), (BOARD, 77, 11), (INTEREST, 5, 12)}
    assert boards(store, 2) == {21: 14}
    assert store.follower_counts(USER, ids([2, 3])).tolist() == [1, 0]
    assert store.follower_counts(BOARD, ids([77])).tolist() == [1]


def test_unknown_user_follows_nothing(store: ApiaryStore) -> None:
    assert follows(store, 999) == set()
    assert boards(store, 999) == {}


def test_following_twice_counts_once(store: ApiaryStore) -> None:
    offsets = MemoryLog(PARTITIONS)
    store.apply(offsets.append(happened((A.FOLLOW_USER, 1, 0, 9, 10), (A.FOLLOW_USER, 1, 0, 9, 11)), TOPICS))
    store.apply(offsets.append(happened((A.FOLLOW_USER, 1, 0, 9, 12)), TOPICS))
    assert store.follower_counts(USER, ids([9])).tolist() == [1]
    assert follows(store, 1) == {(USER, 9, 12)}, "since the latest"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_R07_the_later_event_wins_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, order: tuple[int, ...], together: bool
) -> None:
    said = [(A.FOLLOW_BOARD, 1, 7, 0, 10), (A.UNFOLLOW_BOARD, 1, 7, 0, 30), (A.FOLLOW_BOARD, 1, 8, 0, 40)]
    said += [(A.UNFOLLOW_BOARD, 1, 8, 0, 20)]
    store, offsets = opened(tmp_path_factory.mktemp("apiary")), MemoryLog(PARTITIONS)
    came = [said[i] for i in order]
    for some in [came] if together else [[one] for one in came]:
        store.apply(offsets.append(happened(*some), TOPICS))
    assert follows(store, 1) == {(BOARD, 8, 40)}
    assert store.follower_counts(BOARD, ids([7, 8])).tolist() == [0, 1]
    store.shard.close()


def test_records_that_were_applied_are_not_applied_again(tmp_path: Path) -> None:
    records = MemoryLog(PARTITIONS).append(
        happened((A.FOLLOW_USER, 1, 0, 9, 10), (A.UNFOLLOW_USER, 2, 0, 9, 11)), TOPICS
    )
    store = opened(tmp_path)
    store.apply(store.shard.fresh(records))
    store.shard.close()
    again = opened(tmp_path)
    assert again.shard.fresh(records) == []
    assert again.shard.applied_events() == 2
    assert follows(again, 1) == {(USER, 9, 10)}
    again.shard.close()


def test_what_is_not_about_follows_is_passed_over(store: ApiaryStore) -> None:
    batch = events(3, action=[A.SAVE, A.IMPRESSION, A.HIDE], user=1, pin=5, board=6, at_ms=1, id=[1, 2, 3])
    store.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
    assert follows(store, 1) == set()
    assert store.shard.applied_events() == 3


row = st.tuples(
    st.sampled_from([a for a in Action if a < A.IMPRESSION]),
    *(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9)),
)


@given(st.lists(row, min_size=1, max_size=40), st.lists(st.integers(1, 39), max_size=4))
def test_any_events_in_any_chunks(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Action, int, int, int, int]],
                                  cuts: list[int]) -> None:  # fmt: skip
    latest: dict[tuple[int, ...], tuple[int, bool]] = {}
    for action, user, board, target, at in rows:
        kind = (int(action) + 1) // 2 if action < A.CREATE_BOARD else 0
        key = (user, kind, target if kind in (USER, INTEREST) else board)
        if at >= latest.get(key, (0, False))[0]:
            latest[key] = at, action % 2 == 1 if kind else action == A.CREATE_BOARD
    followed = {key: at for key, (at, there) in latest.items() if there and key[1]}
    owned = {(key[0], key[2]): at for key, (at, there) in latest.items() if there and not key[1]}
    store, offsets = opened(tmp_path_factory.mktemp("apiary")), MemoryLog(PARTITIONS)
    batch = happened(*rows)
    edges = [0, *sorted({c for c in cuts if c < len(rows)}), len(rows)]
    for start, stop in pairwise(edges):
        store.apply(offsets.append(batch.slice(start, stop), TOPICS))
    for user in range(1, 5):
        assert follows(store, user) == {(k, i, at) for (u, k, i), at in followed.items() if u == user}
        assert boards(store, user) == {b: at for (u, b), at in owned.items() if u == user}
    for kind in (USER, BOARD, INTEREST):
        expected = [sum(1 for _, k, i in followed if (k, i) == (kind, target)) for target in range(1, 5)]
        assert store.follower_counts(kind, np.arange(1, 5, dtype=np.uint64)).tolist() == expected
    store.shard.close()


def changed(**columns: list[int]) -> FollowChanges:
    """Two events, one of each of two lists; `columns` differ."""
    given = {"owner": [0, 1], "kinds": [1, 1], "ids": [5, 6], "at_ms": [7, 8], "put": [1, 1], **columns}
    dtypes = {"owner": np.int64, "kinds": np.uint8, "ids": np.uint64, "at_ms": np.int64, "put": np.bool_}
    made: dict[str, Any] = {name: np.array(values, dtypes[name]) for name, values in given.items()}
    return FollowChanges(ids([1, 2]), np.zeros(2, np.int64), **made)


def test_events_that_do_not_fit_their_lists_are_refused_and_not_lost() -> None:
    one = Entries(ids([5]), np.array([1], np.uint8), np.array([3], np.int64))
    old, came = Lists(one, np.array([1, 1], np.int64)), np.zeros(2, np.int8)
    assert store_of._merged(old, changed(), came).ends.tolist() == [1, 2]
    for owner in ([1, 0], [0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="owner: the events are not in the order of their 2 lists"):
            store_of._merged(old, changed(owner=owner), came)
    for name in ("owner", "kinds", "ids", "at_ms", "put"):
        with pytest.raises(ValueError, match=f"^{name}: 1 rows, expected 2$"):
            store_of._merged(old, changed(**{name: [1]}), came)
    with pytest.raises(ValueError, match="^ends: the last list ends at row 2, expected 1$"):
        store_of._merged(Lists(one, np.array([1, 2], np.int64)), changed(), came)
