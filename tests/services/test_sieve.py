"""SIEVE beside a list that does what the paper says, and the most entries that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidArgument
from services.kernels import sieve
from services.kernels.sieve import EMPTY, HAND, NEWEST, OLDEST

ROOM = 4


class Slow:
    """Entries from the oldest to the newest, and the hand as the entry it looks at."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.marked: set[int] = set()
        self.hand: int | None = None

    def leave(self) -> int:
        at = self.order.index(self.hand) if self.hand is not None else 0
        while self.order[at] in self.marked:
            self.marked.discard(self.order[at])
            at = (at + 1) % len(self.order)
        self.hand = self.order[at]
        return self.hand

    def unlink(self, entry: int) -> None:
        at = self.order.index(entry)
        if self.hand == entry:
            self.hand = self.order[at + 1] if at + 1 < len(self.order) else None
        self.order.remove(entry)
        self.marked.discard(entry)


@given(st.lists(st.tuples(st.sampled_from(["come", "read", "gone"]), st.integers(0, ROOM - 1)), max_size=60))
def test_the_entry_that_leaves_is_the_one_of_the_paper(steps: list[tuple[str, int]]) -> None:
    newer, older, marked = np.zeros(ROOM, np.int32), np.zeros(ROOM, np.int32), np.zeros(ROOM, np.uint8)
    state, slow = np.array(EMPTY, np.int64), Slow()

    def drop(entry: int) -> None:
        sieve.unlink(newer, older, state, entry)
        slow.unlink(entry)

    for what, which in steps:
        if what == "come":
            free = set(range(ROOM)) - set(slow.order)
            if not free:
                entry = int(sieve.next_to_leave(newer, marked, state))
                assert entry == slow.leave()
                drop(entry)
                free = {entry}
            entry = min(free)
            marked[entry] = 0
            sieve.link_newest(newer, older, state, entry)
            slow.order.append(entry)
        elif which in slow.order and what == "read":
            marked[which] = 1
            slow.marked.add(which)
        elif which in slow.order:
            drop(which)
        assert walked(newer, int(state[OLDEST])) == slow.order
        assert walked(older, int(state[NEWEST])) == slow.order[::-1]
        assert state[HAND] == (-1 if slow.hand is None else slow.hand)


def walked(links: np.ndarray, entry: int) -> list[int]:
    found = []
    while entry >= 0:
        found.append(entry)
        entry = int(links[entry])
    return found


@given(st.integers(0, 100_000), st.integers(1, 32), st.integers(1, 300))
def test_no_other_table_holds_more(size: int, place: int, entry: int) -> None:
    tables = [1 << bits for bits in range(2, 18) if place * (1 << bits) < size]
    most = max((min(table * 2 // 3, (size - place * table) // entry) for table in tables), default=0)
    if most < 1:
        with pytest.raises(InvalidArgument, match=f"a cache of {size} bytes is too small for a row of {entry}"):
            sieve.fitting(size, place, entry, "row")
        return
    entries, places = sieve.fitting(size, place, entry, "row")
    assert entries == most
    assert entries * entry + places * place <= size
    assert entries <= places * 2 // 3
