"""The set of recent ids against a dictionary of when each was accepted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrunner.duplicates import MINUTE_MS, RecentIds
from services.core.clock import DAY_MS
from services.core.columns import U64, ids
from tests.services.batches import ids_

NOW = 1_750_000_000_000


class Reference:
    """An id is remembered for a day, to the minute."""

    def __init__(self) -> None:
        self.minute: dict[int, int] = {}

    def add(self, added: list[int], now_ms: int) -> list[bool]:
        oldest, fresh = (now_ms - DAY_MS) // MINUTE_MS, []
        for one in added:
            fresh.append(self.minute.get(one, -1) < oldest)
            if fresh[-1]:
                self.minute[one] = now_ms // MINUTE_MS
        return fresh


steps = st.lists(
    st.tuples(st.lists(ids_, max_size=30), st.sampled_from([0, MINUTE_MS, DAY_MS // 2, DAY_MS, 2 * DAY_MS])),
    max_size=12,
)


@given(steps, st.sampled_from([1, 2, 8, 1 << 16]))
def test_ids_are_new_once_a_day(steps: list[tuple[list[int], int]], slots: int) -> None:
    recent, reference, now = RecentIds(slots), Reference(), NOW
    for added, later in steps:
        now += later
        assert recent.add(ids(added), now).tolist() == reference.add(added, now)
    assert len(recent) <= len(reference.minute)


@pytest.mark.parametrize("kind", ["sequential", "random", "strided"])
def test_it_grows_with_what_it_holds_and_sheds_what_is_old(kind: str) -> None:
    def some(turn: int) -> U64:
        if kind == "random":
            return np.random.default_rng(turn).integers(1, 2**64 - 1, 20_000, np.uint64)
        first = 1 + turn * 20_000
        return np.arange(first, first + 20_000, dtype=np.uint64) * np.uint64(1 if kind == "sequential" else 1 << 40)

    recent, now = RecentIds(1 << 4), NOW
    for turn in range(10):
        assert recent.add(some(turn), now).all()
        assert not recent.add(some(turn)[::-1], now).any()
    assert len(recent) == 200_000
    assert not any(recent.add(some(turn), now).any() for turn in range(10)), "growing loses none"
    for turn in range(40):  # a day later each time: it holds one day's ids throughout
        now += DAY_MS + MINUTE_MS
        assert recent.add(some(turn), now).all()
    assert len(recent._keys) <= 1 << 20


def test_an_id_is_remembered_a_day_and_not_much_longer() -> None:
    recent = RecentIds()
    recent.add(ids([7]), NOW)
    assert not recent.add(ids([7]), NOW + DAY_MS).any()
    assert recent.add(ids([7]), NOW + DAY_MS + MINUTE_MS).all()
    assert not recent.add(ids([7]), NOW + 2 * DAY_MS).any(), "from then on, a day again"


def test_what_was_accepted_earlier_is_remembered_from_then() -> None:
    recent = RecentIds()
    recent.add(ids([7]), NOW, seen_ms=NOW - DAY_MS + MINUTE_MS)
    assert not recent.add(ids([7]), NOW).any()
    assert recent.add(ids([7]), NOW + 2 * MINUTE_MS).all()


@given(st.lists(ids_, max_size=40), st.lists(ids_, max_size=40))
def test_forgotten_ids_are_new_again_and_others_are_not(before: list[int], failed: list[int]) -> None:
    recent = RecentIds(8)
    recent.add(ids(before), NOW)
    fresh = recent.add(ids(failed), NOW)
    recent.forget(ids(failed)[fresh])
    assert not recent.add(ids(before), NOW).any()
    expected = [one not in before and one not in failed[:i] for i, one in enumerate(failed)]
    assert recent.add(ids(failed), NOW).tolist() == expected
