"""The store beside obvious references: one that takes events in their order, and one that knows no order of topics."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.columns import ids
from services.core.events import Action, Batch, Surface, events
from services.core.topics import partition_of
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.database import WrongFormat
from services.state.shard import Shard
from smartfeed import layout, store
from smartfeed.layout import FEEDS, GONE
from smartfeed.store import TOPICS, SmartfeedStore

A = Action
PARTITIONS = 4
T0 = 1_700_000_000_000
HOME, PICKED = Surface.HOME, Surface.PICKED
Row = dict[str, Any]
Seen = tuple[list[int], list[int], int]
COLUMNS = ("action", "user", "pin", "board", "surface", "position", "at_ms")


@contextmanager
def opened(folder: Path, max_pins: int = 250, own: range = range(PARTITIONS)) -> Iterator[SmartfeedStore]:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    try:
        yield SmartfeedStore(shard, own, PARTITIONS, max_pins)
    finally:
        shard.close()


@pytest.fixture
def view(tmp_path: Path) -> Iterator[SmartfeedStore]:
    with opened(tmp_path / "shard") as made:
        yield made


def batch_of(rows: list[Row]) -> Batch:
    columns = {name: [row.get(name, T0 if name == "at_ms" else 0) for row in rows] for name in COLUMNS}
    return Batch.of(events(len(rows), id=1, **columns).to_proto())


class Writer:
    """Applies rows to a view as the log would, one chunk a call."""

    def __init__(self, view: SmartfeedStore) -> None:
        self.view, self.offsets = view, MemoryLog(PARTITIONS)

    def __call__(self, *rows: Row) -> None:
        self.view.apply(self.offsets.append(batch_of(list(rows)), TOPICS))


def page(pins: list[int], start: int = 0, user: int = 1, feed: int = HOME, at_ms: int = T0) -> list[Row]:
    """A page as feedgen writes it; each pin's board is 1,000 above."""
    who = {"action": A.SERVED, "user": user, "surface": feed, "at_ms": at_ms}
    return [{**who, "pin": pin, "board": (pin + 1000) % 2**64, "position": start + i} for i, pin in enumerate(pins)]


def did(action: Action, *pins: int, user: int = 1) -> list[Row]:
    return [{"action": action, "user": user, "pin": pin, "board": 9} for pin in pins]


def last(view: SmartfeedStore, user: int = 1, feed: int = HOME) -> Seen:
    found = view.last_served(user, feed)
    return found.pins.tolist(), found.boards.tolist(), found.at_ms


def pins(view: SmartfeedStore, user: int = 1, feed: int = HOME) -> list[int]:
    return last(view, user, feed)[0]


# --- the references -------------------------------------------------------------------------------------------------


class Reference:
    """One event after the other, in plain words."""

    def __init__(self, max_pins: int, kept: int, shown_kept: int) -> None:
        self.max_pins, self.kept, self.shown_kept = max_pins, kept, shown_kept
        self.lists: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self.at_ms: dict[tuple[int, int], int] = {}
        self.newest: dict[tuple[int, int], int] = {}
        self.removed: dict[int, list[int]] = defaultdict(list)
        self.down: set[int] = set()

    def change(self, row: Row) -> None:
        user, pin = row["user"], row["pin"]
        if row["action"] == A.TAKEDOWN:
            self.down.add(pin)
        elif row["action"] in (A.SAVE, A.HIDE):
            self.removed[user] = [*(p for p in self.removed[user] if p != pin), pin][-self.kept :]
        elif row["action"] == A.SERVED and row["surface"] in FEEDS:
            self._serve((user, row["surface"]), row)

    def _serve(self, at: tuple[int, int], row: Row) -> None:
        entries, pin = self.lists[at], row["pin"]
        if row["position"] == 0 or at not in self.at_ms:
            self.at_ms[at], self.newest[at] = row["at_ms"], 0
            del entries[self.max_pins :]
        entry = (pin, row["board"])
        places = [i for i, (known, _) in enumerate(entries) if known == pin]
        if places and places[0] < self.newest[at]:
            return
        if self.newest[at] < self.shown_kept:
            for place in places:
                del entries[place]
            entries.insert(self.newest[at], entry)
            self.newest[at] += 1
            del entries[max(self.max_pins, self.newest[at]) :]

    def shown(self, user: int, feed: int) -> list[int]:
        at = (user, feed)
        return [pin for pin, _ in self.lists[at][: self.newest.get(at, 0)]]

    def last(self, user: int, feed: int) -> Seen:
        gone = self.down | {*self.removed[user]}
        shown = [entry for entry in self.lists[user, feed] if entry[0] not in gone and entry[1] != GONE]
        return [pin for pin, _ in shown], [board for _, board in shown], self.at_ms.get((user, feed), 0)


PINS = st.integers(1, 9) | st.sampled_from([256, 2**63, 2**64 - 1])
USERS = st.sampled_from([1, 2, 3, 2**64 - 1])
ROWS = st.fixed_dictionaries(
    {
        "action": st.sampled_from([A.SERVED] * 4 + [A.SAVE, A.HIDE, A.TAKEDOWN, A.IMPRESSION, A.FOLLOW_BOARD]),
        "user": USERS,
        "pin": PINS,
        "board": PINS,
        "surface": st.sampled_from([HOME, HOME, PICKED, Surface.SEARCH]),
        "position": st.sampled_from([0, 1, 1, 2, 2, 3, 4, 5]),
        "at_ms": st.integers(T0, T0 + 9),
    }
)
USERS_ASKED = [1, 2, 3, 2**64 - 1, 77]


def chunks(records: list[Record], cuts: list[int]) -> Iterator[list[Record]]:
    bounds = [0, *sorted(cut % (len(records) + 1) for cut in cuts), len(records)]
    for start, stop in pairwise(bounds):
        yield records[start:stop]


@settings(max_examples=80)
@given(
    st.lists(st.lists(ROWS, min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.integers(0, 1000), max_size=6),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_it_keeps_what_the_reference_keeps_wherever_chunks_end(
    batches: list[list[Row]], cuts: list[int], max_pins: int, kept: int
) -> None:
    reference, offsets = Reference(max_pins, kept, 8), MemoryLog(PARTITIONS)
    records = [record for rows in batches for record in offsets.append(batch_of(rows), TOPICS)]
    for record in records:  # the order of topics within a batch is the log's
        for row in rows_of(record.batch):
            reference.change(row)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(store, "REMOVED_KEPT", kept)
        patch.setattr(store, "SHOWN_KEPT", 8)
        with opened(Path(folder), max_pins) as view:
            for chunk in chunks(records, cuts):
                view.apply(chunk)
        with opened(Path(folder), max_pins) as view:
            view.apply(view.shard.fresh(records))  # records applied before it was opened again are not applied twice
            assert view.shard.applied_events() == sum(len(record.batch) for record in records)
            for user in USERS_ASKED:
                for feed in FEEDS:
                    assert last(view, user, feed) == reference.last(user, feed)
                    assert view.shown(user, feed).tolist() == reference.shown(user, feed)


def rows_of(batch: Batch) -> list[Row]:
    columns = [getattr(batch, name).tolist() for name in COLUMNS]
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(USERS, st.sampled_from([HOME, PICKED]), st.lists(PINS, min_size=1, max_size=9)), max_size=8),
    st.lists(st.tuples(USERS, PINS), max_size=12),
    st.sets(PINS, max_size=2),
    st.randoms(use_true_random=False),
)
def test_pages_and_removals_come_to_the_same_in_any_order_of_topics(
    pages: list[tuple[int, int, list[int]]], gone: list[tuple[int, int]], down: set[int], shuffle: Any
) -> None:
    offsets, max_pins, kept = MemoryLog(PARTITIONS), 6, 4
    served = [r for user, feed, found in pages for r in records(offsets, page(found, 0, user, feed))]
    removals = [r for user, pin in gone for r in records(offsets, did(A.HIDE, pin, user=user))]
    served += [r for pin in down for r in records(offsets, [{"action": A.TAKEDOWN, "pin": pin}])]
    order = [0] * len(served) + [1] * len(removals)
    shuffle.shuffle(order)
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as folder,
        opened(Path(folder), max_pins) as view,
    ):
        patch.setattr(store, "REMOVED_KEPT", kept)
        streams = iter(served), iter(removals)
        for of in order:
            view.apply([next(streams[of])])
        for user in USERS_ASKED:
            for feed in (HOME, PICKED):
                of_feed = [found for u, f, found in pages if (u, f) == (user, feed)]
                shown = list(dict.fromkeys(pin for found in reversed(of_feed) for pin in found))
                shown = shown[: max(max_pins, len(set(of_feed[-1])) if of_feed else 0)]
                last_gone = list(dict.fromkeys(p for u, p in reversed(gone) if u == user))[:kept]
                assert pins(view, user, feed) == [p for p in shown if p not in down and p not in last_gone]


def records(offsets: MemoryLog, rows: list[Row]) -> list[Record]:
    return offsets.append(batch_of(rows), TOPICS)


# --- one fact a test ------------------------------------------------------------------------------------------------


def test_pages_follow_one_another_and_a_first_one_comes_before_the_older_ones(view: SmartfeedStore) -> None:
    write = Writer(view)
    write(*page([5, 4, 3]))
    write(*page([2, 4, 1], start=3, at_ms=T0 + 7))
    assert last(view) == ([5, 4, 3, 2, 1], [1005, 1004, 1003, 1002, 1001], T0)
    write(*page([8], at_ms=T0 + 9))
    assert last(view) == ([8, 5, 4, 3, 2, 1], [1008, 1005, 1004, 1003, 1002, 1001], T0 + 9)
    write(*page([2, 9], at_ms=T0 + 10))
    assert pins(view) == [2, 9, 8, 5, 4, 3, 1]


def test_a_page_of_one_pin_shortens_no_list(view: SmartfeedStore) -> None:
    write = Writer(view)
    write(*page(list(range(1, 26))))
    for _ in range(3):
        write(*page([7]))
    assert pins(view) == [7, *range(1, 7), *range(8, 26)]


def test_each_feed_and_user_has_a_list_and_other_surfaces_none(view: SmartfeedStore) -> None:
    Writer(view)(*page([1]), *page([2], feed=PICKED), *page([3], user=2), *page([4], feed=Surface.SEARCH))
    assert (pins(view), pins(view, feed=PICKED), pins(view, user=2)) == ([1], [2], [3])
    assert last(view, user=3) == ([], [], 0)
    assert last(view, feed=Surface.SEARCH) == ([], [], 0)


def test_a_list_is_cut_at_max_pins(tmp_path: Path) -> None:
    with opened(tmp_path, max_pins=30) as view:
        write = Writer(view)
        for start in range(0, 100, 25):
            write(*page(list(range(start + 1, start + 26)), start))
        assert pins(view) == list(range(1, 101)), "of the pages since the last first one nothing is cut"
        write(*page([500, 501]))
        assert pins(view) == [500, 501, *range(1, 29)]
        assert view.shown(1, HOME).tolist() == [500, 501]


@pytest.mark.parametrize("action", [A.SAVE, A.HIDE])
def test_a_removed_pin_leaves_all_lists_of_its_user_and_does_not_come_back(
    view: SmartfeedStore, action: Action
) -> None:
    write = Writer(view)
    write(*page([1, 2, 3]), *page([2, 4], feed=PICKED), *page([2], user=2))
    write(*did(action, 2))
    assert (pins(view), pins(view, feed=PICKED), pins(view, user=2)) == ([1, 3], [4], [2])
    write(*page([2, 5], at_ms=T0 + 1))
    assert last(view) == ([5, 1, 3], [1005, 1001, 1003], T0 + 1)  # pages that a removed pin begins are new all the same


@pytest.mark.parametrize("action", [A.IMPRESSION, A.CLICK, A.CLOSEUP])
def test_what_else_a_user_does_writes_nothing_but_the_offset(view: SmartfeedStore, action: Action) -> None:
    write = Writer(view)
    write(*page([1, 2]))
    write(*did(action, 1, 2), {"action": A.FOLLOW_USER, "user": 1})
    view.apply([])
    assert pins(view) == [1, 2]
    assert list(view.shard.family("removed").keys()) == []
    assert view.shard.applied_events() == 5


def test_the_last_removed_pins_are_remembered_whenever_they_were_served(view: SmartfeedStore) -> None:
    write = Writer(view)
    write(*page([1, 2, 3]))
    write(*did(A.HIDE, 1, 2, 1))
    write(*did(A.SAVE, *range(100, 100 + store.REMOVED_KEPT - 1)))
    assert pins(view) == [2, 3]  # 1 was removed again after 2: it is the last that is remembered, and 2 is forgotten
    write(*page([1, 2, 3]))
    assert pins(view) == [2, 3]
    assert len(view.shard.family("removed").get(removed_key(1)) or b"") == 8 * store.REMOVED_KEPT


def removed_key(user: int) -> bytes:
    return layout.removed_key(int(partition_of(ids([user]), PARTITIONS)[0]), user)


def test_a_takedown_filters_every_list_at_once_and_for_good(tmp_path: Path) -> None:
    with opened(tmp_path) as view:
        write = Writer(view)
        write(*page([1, 2]), *page([2, 3], user=2))
        write({"action": A.TAKEDOWN, "pin": 2}, {"action": A.TAKEDOWN, "pin": 99})
        write(*page([4, 2, 99], user=3), {"action": A.TAKEDOWN, "pin": 2})
        assert (pins(view), pins(view, 2), pins(view, 3)) == ([1], [3], [4])
        assert len(list(view.shard.family("takedowns").keys())) == 2 * PARTITIONS
    with opened(tmp_path) as view:
        assert (pins(view), pins(view, 2), pins(view, 3)) == ([1], [3], [4])


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_takedown_that_one_partition_has_heard_holds_for_all(tmp_path: Path, partition: int) -> None:
    offsets = MemoryLog(PARTITIONS)
    served = offsets.append(batch_of([row for user in range(1, 9) for row in page([7, 8], user=user)]), TOPICS)
    downs = offsets.append(batch_of([{"action": A.TAKEDOWN, "pin": 7}]), TOPICS)
    with opened(tmp_path) as view:
        view.apply(served)
        view.apply([record for record in downs if record.partition == partition])
        assert [pins(view, user) for user in range(1, 9)] == [[8]] * 8
    with opened(tmp_path) as view:
        assert [pins(view, user) for user in range(1, 9)] == [[8]] * 8


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    Shard(tmp_path / "x", "smartfeed 1", layout.FAMILIES).close()
    with pytest.raises(WrongFormat, match="smartfeed 1"):
        Shard(tmp_path / "x", layout.FORMAT, layout.FAMILIES)
