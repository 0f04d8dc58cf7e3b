"""The merge kernels against obvious references: sorted lists and dictionaries, one event after the other."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realpin import kernel

LISTS = 3
Entry = tuple[int, bool]  # at_ms, hide
Event = tuple[int, int, bool]  # list, at_ms, hide


def newest_of(named: list[tuple[int, bool, int]], kept: int) -> list[int]:
    """Of entries (at_ms, hide, name) in order of arrival: the names of the newest hides and of the newest others."""
    ordered = sorted(named, key=lambda entry: entry[0])  # stable
    hides = [name for _, hide, name in ordered if hide][-kept:]
    others = [name for _, hide, name in ordered if not hide][-kept:]
    return [name for _, _, name in ordered if name in hides or name in others]


def newest(lists: list[list[Entry]], events: list[Event], kept: int) -> list[list[int]]:
    """The rows that stay, by list, through the kernel. Row i < n is of the lists, the others are events by arrival."""
    flat = [entry for entries in lists for entry in entries]
    ends = np.cumsum([len(entries) for entries in lists], dtype=np.int64)
    order = sorted(range(len(events)), key=lambda i: (*events[i][:2], i))
    out, out_ends = np.full(len(flat) + len(events), -1, np.int64), np.empty(len(lists), np.int64)
    first = kernel.newest(
        np.array([at for at, _ in flat], np.int64),
        np.array([hide for _, hide in flat], np.bool_),
        ends,
        np.array([events[i][0] for i in order], np.int64),
        np.array([events[i][1] for i in order], np.int64),
        np.array([events[i][2] for i in order], np.bool_),
        kept,
        out,
        out_ends,
    )
    rows = [row if row < len(flat) else len(flat) + order[row - len(flat)] for row in out[first:].tolist()]
    stops = (out_ends - first).tolist()
    assert stops[-1] == len(rows)
    return [rows[a:b] for a, b in zip([0, *stops], stops, strict=False)]


entries = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12)
event = st.tuples(st.integers(0, LISTS - 1), st.integers(0, 20), st.booleans())


@given(st.lists(entries, min_size=LISTS, max_size=LISTS), st.lists(event, max_size=30), st.integers(1, 6))
def test_newest_is_the_newest_of_all(lists: list[list[Entry]], events: list[Event], kept: int) -> None:
    lists = [sorted(entries, key=lambda entry: entry[0]) for entries in lists]
    n = sum(map(len, lists))
    expected, base = [], 0
    for i, present in enumerate(lists):
        named = [(at, hide, base + j) for j, (at, hide) in enumerate(present)]
        named += [(at, hide, n + j) for j, (owner, at, hide) in enumerate(events) if owner == i]
        expected.append(newest_of(named, kept))
        base += len(present)
    assert newest(lists, events, kept) == expected


def test_what_comes_late_is_placed_by_its_date_after_its_equals() -> None:
    assert newest([[(10, False), (20, False), (30, False)]], [(0, 20, False)], 9) == [[0, 1, 3, 2]]
    assert newest([[(10, False), (20, False), (30, False)]], [(0, 20, False)], 3) == [[1, 3, 2]]
    assert newest([[(10, False), (20, False)]], [(0, 5, False)], 2) == [[0, 1]]


def test_hides_have_a_limit_of_their_own() -> None:
    assert newest([[(10, True)]], [(0, at, False) for at in range(11, 20)], 2) == [[0, 8, 9]]


Tally = tuple[int, int, int]  # list, minute, kind


def tally(lists: list[dict[int, list[int]]], events: list[Tally], kept: int) -> list[dict[int, list[int]]]:
    """The lists (minute -> counts of 2 kinds) with the events counted, through the kernel."""
    flat = [(minute, counts) for minutes in lists for minute, counts in sorted(minutes.items())]
    ends = np.cumsum([len(minutes) for minutes in lists], dtype=np.int64)
    events = sorted(events, key=lambda event: event[:2])
    capacity = len(flat) + len(events)
    out, out_counts = np.empty(capacity, np.int64), np.empty((capacity, 2), np.uint32)
    out_ends = np.empty(len(lists), np.int64)
    n = kernel.tally(
        np.array([minute for minute, _ in flat], np.int64),
        np.array([counts for _, counts in flat], np.uint32).reshape(-1, 2),
        ends,
        np.array([owner for owner, _, _ in events], np.int64),
        np.array([minute for _, minute, _ in events], np.int64),
        np.array([kind for _, _, kind in events], np.int64),
        kept,
        out,
        out_counts,
        out_ends,
    )
    stops = out_ends.tolist()
    assert stops[-1] == n
    found = []
    for a, b in zip([0, *stops], stops, strict=False):
        minutes = out[a:b].tolist()
        assert minutes == sorted(set(minutes)), "a list must stay ascending, each minute once"
        found.append(dict(zip(minutes, out_counts[a:b].tolist(), strict=True)))
    return found


counts = st.lists(st.integers(0, 5), min_size=2, max_size=2)
minutes_of = st.dictionaries(st.integers(100, 109), counts, max_size=6)
tallied = st.tuples(st.integers(0, LISTS - 1), st.integers(90, 125), st.integers(0, 1))


@given(st.lists(minutes_of, min_size=LISTS, max_size=LISTS), st.lists(tallied, max_size=30))
def test_tally_counts_what_is_not_past_keeping(lists: list[dict[int, list[int]]], events: list[Tally]) -> None:
    kept = 10
    expected: list[dict[int, list[int]]] = []
    for i, present in enumerate(lists):
        total = Counter({(minute, kind): n for minute, of in present.items() for kind, n in enumerate(of)})
        total.update((minute, kind) for owner, minute, kind in events if owner == i)
        minutes = sorted(set(present) | {minute for owner, minute, _ in events if owner == i})
        stay = [minute for minute in minutes if minute > minutes[-1] - kept]
        expected.append({minute: [total[minute, 0], total[minute, 1]] for minute in stay})
    assert tally(lists, events, kept) == expected


def test_no_lists_and_no_events() -> None:
    assert newest([[]], [], 5) == [[]]
    assert tally([{}], [], 5) == [{}]
