"""The merge kernel against an obvious reference: dictionaries and one event after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apiary import kernel
from apiary.layout import GONE

Entry = dict[tuple[int, int], int]  # (kind, id) -> at_ms
Event = tuple[int, int, int, int, bool]  # list, kind, id, at_ms, put


def reference(lists: list[Entry], events: list[Event]) -> list[Entry]:
    """Each list after its events; the kind of an entry that is gone has the bit GONE."""
    after = [{(kind & ~GONE, id_): (at, kind & GONE) for (kind, id_), at in entries.items()} for entries in lists]
    for owner, kind, id_, at_ms, put in events:
        if at_ms >= after[owner].get((kind, id_), (0, 0))[0]:
            after[owner][kind, id_] = at_ms, 0 if put else GONE
    return [{(kind | gone, id_): at for (kind, id_), (at, gone) in entries.items()} for entries in after]


def there(lists: list[Entry]) -> int:
    """How many entries are not gone."""
    return sum(kind < GONE for entries in lists for kind, _ in entries)


def merged(lists: list[Entry], events: list[Event]) -> tuple[list[Entry], list[int]]:
    """The same through the kernel; and the changes that it reported."""
    flat = [(kind, id_, at) for entries in lists for (kind, id_), at in sorted(entries.items(), key=_place)]
    ends = np.cumsum([len(entries) for entries in lists], dtype=np.int64)
    order = sorted(range(len(events)), key=lambda i: (*events[i][:3], i))
    ordered = [events[i] for i in order]
    capacity = len(flat) + len(events)
    out = np.empty(capacity, np.uint64), np.empty(capacity, np.uint8), np.empty(capacity, np.int64)
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
        keys = list(zip([kind & ~GONE for kind in kinds[a:b]], ids[a:b], strict=True))
        assert keys == sorted(set(keys)), "a list must stay ascending, each entry once"
    return found, change.tolist()


def _place(item: tuple[tuple[int, int], int]) -> tuple[int, int]:
    (kind, id_), _ = item
    return kind & ~GONE, id_


entries = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(1, 8)), st.integers(0, 9), max_size=8).flatmap(
    lambda of: st.lists(st.sampled_from([0, GONE]), min_size=len(of), max_size=len(of)).map(
        lambda gone: {(k | g, i): at for ((k, i), at), g in zip(of.items(), gone, strict=True)}
    )
)
event = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 8), st.integers(0, 9), st.booleans())


@given(st.lists(entries, min_size=3, max_size=3), st.lists(event, max_size=30))
def test_merge_is_the_events_one_after_the_other(lists: list[Entry], happened: list[Event]) -> None:
    found, change = merged(lists, happened)
    expected = reference(lists, happened)
    assert found == expected
    assert sum(change) == there(expected) - there(lists)


def test_what_was_unfollowed_and_followed_again_has_the_new_date() -> None:
    found, change = merged([{(1, 5): 10}], [(0, 1, 5, 20, False), (0, 1, 5, 30, True), (0, 1, 5, 40, True)])
    assert found == [{(1, 5): 40}]
    assert change == [0, 0, 0]


def test_R07_what_comes_late_does_not_undo_what_is_later() -> None:
    late, change = merged([{(1, 5): 10}], [(0, 1, 5, 30, False), (0, 1, 5, 20, True)])
    assert (late, change) == ([{(1 | GONE, 5): 30}], [0, -1])
    again, change = merged(late, [(0, 1, 5, 29, True), (0, 1, 5, 30, True), (0, 1, 5, 25, False)])
    assert (again, change) == ([{(1, 5): 30}], [0, 0, 1]), "of equal dates the one that came last"


def test_largest_ids_keep_their_order() -> None:
    top = 2**64 - 1
    found, _ = merged([{(1, top): 1}], [(0, 1, top - 1, 2, True)])
    assert list(found[0]) == [(1, top - 1), (1, top)]
