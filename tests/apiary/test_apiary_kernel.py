"""The merge kernel against an obvious reference: dictionaries and one event after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apiary import kernel

Entry = dict[tuple[int, int], int]  # (kind, id) -> at_ms
Event = tuple[int, int, int, int, bool]  # list, kind, id, at_ms, put


def reference(lists: list[Entry], events: list[Event]) -> list[Entry]:
    """Each list after its events."""
    after = [dict(entries) for entries in lists]
    for owner, kind, id_, at_ms, put in events:
        if put:
            after[owner].setdefault((kind, id_), at_ms)
        else:
            after[owner].pop((kind, id_), None)
    return after


def merged(lists: list[Entry], events: list[Event]) -> tuple[list[Entry], list[int]]:
    """The same through the kernel; and the changes it told of."""
    flat = [(kind, id_, at) for entries in lists for (kind, id_), at in sorted(entries.items())]
    ends = np.cumsum([len(entries) for entries in lists], dtype=np.int64)
    order = sorted(range(len(events)), key=lambda i: (*events[i][:3], i))
    ordered = [events[i] for i in order]
    room = len(flat) + len(events)
    out = np.empty(room, np.uint64), np.empty(room, np.uint8), np.empty(room, np.int64)
    out_ends, change = np.empty(len(lists), np.int64), np.zeros(len(events), np.int8)
    n = kernel.merge(
        np.array([e[1] for e in flat], np.uint64),
        np.array([e[0] for e in flat], np.uint8),
        np.array([e[2] for e in flat], np.int64),
        ends,
        np.array([e[0] for e in ordered], np.int64),
        np.array([e[2] for e in ordered], np.uint64),
        np.array([e[1] for e in ordered], np.uint8),
        np.array([e[3] for e in ordered], np.int64),
        np.array([e[4] for e in ordered], np.bool_),
        *out,
        out_ends,
        change,
    )
    ids, kinds, at_ms = (column[:n].tolist() for column in out)
    starts = [0, *out_ends.tolist()[:-1]]
    found = [
        dict(zip(zip(kinds[a:b], ids[a:b], strict=True), at_ms[a:b], strict=True))
        for a, b in zip(starts, out_ends.tolist(), strict=True)
    ]
    for a, b in zip(starts, out_ends.tolist(), strict=True):
        keys = list(zip(kinds[a:b], ids[a:b], strict=True))
        assert keys == sorted(set(keys)), "a list must stay ascending, each entry once"
    return found, change.tolist()


entries = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(1, 8)), st.integers(0, 99), max_size=8)
event = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 8), st.integers(100, 199), st.booleans())


@given(st.lists(entries, min_size=3, max_size=3), st.lists(event, max_size=30))
def test_merge_is_the_events_one_after_the_other(lists: list[Entry], happened: list[Event]) -> None:
    found, change = merged(lists, happened)
    expected = reference(lists, happened)
    assert found == expected
    assert sum(change) == sum(map(len, expected)) - sum(map(len, lists))


def test_what_was_unfollowed_and_followed_again_has_the_new_date() -> None:
    found, change = merged([{(1, 5): 10}], [(0, 1, 5, 20, False), (0, 1, 5, 30, True), (0, 1, 5, 40, True)])
    assert found == [{(1, 5): 30}]
    assert change == [0, 0, 0]


def test_largest_ids_keep_their_order() -> None:
    top = 2**64 - 1
    found, _ = merged([{(1, top): 1}], [(0, 1, top - 1, 2, True)])
    assert list(found[0]) == [(1, top - 1), (1, top)]
