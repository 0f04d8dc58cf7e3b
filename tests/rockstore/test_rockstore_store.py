"""The store beside an obvious reference: a dict an object, changed event by event."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import isnan, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rockstore import layout, state
from rockstore.layout import BOARD, INTEREST, PIN, USER
from rockstore.store import TOPICS, RockstoreStore
from services.core.columns import ids
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.database import WrongFormat
from services.state.shard import Shard

A = Action
PARTITIONS = 4
T0 = 1_700_000_000_000
LAST = 2**64 - 1
Row = dict[str, Any]


@contextmanager
def opened(folder: Path, own: range = range(PARTITIONS)) -> Iterator[RockstoreStore]:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    try:
        yield RockstoreStore(shard, own, PARTITIONS)
    finally:
        shard.close()


@pytest.fixture
def view(tmp_path: Path) -> Iterator[RockstoreStore]:
    with opened(tmp_path / "shard") as made:
        yield made


def batch_of(rows: list[Row]) -> Batch:
    columns = {name: [row.get(name, default) for row in rows] for name, default in DEFAULTS.items()}
    return Batch.of(events(len(rows), **columns).to_proto())


DEFAULTS: Row = {
    **dict.fromkeys(("user", "pin", "board", "target", "stated"), 0),
    **{"action": 0, "at_ms": T0, "id": 1, "quality": nan, "title": "", "link": "", "interests": []},
}


class Writer:
    """Applies rows to a view as the log would, one chunk a call."""

    def __init__(self, view: RockstoreStore) -> None:
        self.view, self.offsets = view, MemoryLog(PARTITIONS)

    def __call__(self, *rows: Row) -> None:
        self.view.apply(self.offsets.append(batch_of(list(rows)), TOPICS))


def objects_of(view: RockstoreStore, kind: int, *objects: int) -> list[Row | None]:
    """What the view knows of each object, as plain values; None: not found."""
    c = view.attributes(kind, ids(objects))
    titles, links = c.titles.strings(), c.links.strings()
    rows: list[Row | None] = []
    for i in range(len(objects)):
        row = {
            "title": titles[i],
            "link": links[i],
            "owner": int(c.owners[i]),
            "quality": None if isnan(c.quality[i]) else float(c.quality[i]),
            "at_ms": int(c.at_ms[i]),
            "down": bool(c.taken_down[i]),
            "interests": c.interests.run(i).tolist(),
        }
        if not c.found[i]:
            assert row == NOTHING
        rows.append(row if c.found[i] else None)
    return rows


NOTHING: Row = {"title": "", "link": "", "owner": 0, "quality": None, "at_ms": 0, "down": False, "interests": []}


# --- the reference --------------------------------------------------------------------------------------------------


class Reference:
    """One event after the other, in plain words."""

    def __init__(self) -> None:
        self.objects: dict[tuple[int, int], Row] = {}
        self.created: set[tuple[int, int]] = set()
        self.dates: dict[tuple[int, int], dict[str, int]] = {}

    def change(self, row: Row) -> None:
        row, action = {**DEFAULTS, **row}, row["action"]
        if action in (A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST):
            at = PIN, row["pin"]
        elif action in (A.CREATE_BOARD, A.DELETE_BOARD):
            at = BOARD, row["board"]
        elif action in (A.NAME_USER, A.NAME_INTEREST):
            at = (USER, row["user"]) if action == A.NAME_USER else (INTEREST, row["target"])
        else:
            return
        if action == A.LEAVE_INTEREST and at not in self.objects:
            return
        known = self.objects.setdefault(at, {**NOTHING, "interests": []})
        if action == A.LEAVE_INTEREST:
            known["interests"] = [i for i in known["interests"] if i != row["target"]]
        elif action == A.JOIN_INTEREST:
            if row["target"] not in known["interests"] and len(known["interests"]) < state.MAX_INTERESTS:
                known["interests"].append(row["target"])
        elif action == A.TAKEDOWN:
            known["down"] = True
        elif at[0] == BOARD:
            self._board(at, known, row)
        else:
            self._state(at, known, row)

    def _board(self, at: tuple[int, int], known: Row, row: Row) -> None:
        """Owned by the first user who states it, until it is deleted; then by the next who creates it, at that date or later."""
        dates, mine = self.dates.setdefault(at, {}), known["owner"] in (0, row["user"])
        deleted = dates.get("deleted", 0)
        if row["action"] == A.DELETE_BOARD:
            if mine:
                known["owner"], dates["deleted"] = row["user"], max(deleted, row["at_ms"])
                known["down"] |= row["at_ms"] >= dates.get("owner", 0)
            return
        if not mine and known["down"] and row["at_ms"] >= deleted:
            known |= {"title": "", "owner": 0}
            dates.pop("title", None)
            self.created.discard(at)
            mine = True
        if mine:
            known["down"] &= row["at_ms"] < deleted
            self._state(at, known, row)

    def _state(self, at: tuple[int, int], known: Row, row: Row) -> None:
        new, updates = at not in self.created, row["action"] == A.UPDATE_PIN
        stated = {"title": row["title"] or row["stated"] & 1, "owner": at[0] in (PIN, BOARD) and row["user"]}
        if at[0] == PIN:
            stated |= {"link": row["link"] or row["stated"] & 2, "quality": not isnan(row["quality"])}
        dates = self.dates.setdefault(at, {})
        for name, is_stated in stated.items():
            if is_stated and row["at_ms"] >= dates.get(name, 0):
                known[name], dates[name] = row["user" if name == "owner" else name], row["at_ms"]
        if at[0] == PIN:
            joined = dict.fromkeys(known["interests"] + row["interests"])
            known["interests"] = list(joined)[: state.MAX_INTERESTS]
        if not updates:
            known["at_ms"] = row["at_ms"] if new else min(known["at_ms"], row["at_ms"])
            self.created.add(at)

    def listed(self, kind: int) -> list[int]:
        return sorted(id_ for (of, id_), known in self.objects.items() if of == kind and not known["down"])


IDS = st.sampled_from([1, 2, 3, 4, 255, 256, 2**63, LAST - 1, LAST])
TEXTS = st.sampled_from(["", "", "a", "Grüße", "日本", "x" * 300])
ROWS = st.fixed_dictionaries(
    {
        "action": st.sampled_from([a for a in A if a != A.SERVED]),
        **dict.fromkeys(("user", "pin", "board", "target"), IDS),
        "at_ms": st.integers(T0, T0 + 9),
        "quality": st.sampled_from([nan, nan, 0.0, 0.5, 1.0]),
        "title": TEXTS,
        "link": TEXTS,
        "stated": st.integers(0, 3),
        "interests": st.lists(IDS, max_size=4),
    }
)
BATCHES = st.lists(st.lists(ROWS, min_size=1, max_size=12), min_size=1, max_size=8)
ALL = [1, 2, 3, 4, 255, 256, 2**63, LAST - 1, LAST]


def chunks(records: list[Record], cuts: list[int]) -> Iterator[list[Record]]:
    bounds = [0, *sorted(cut % (len(records) + 1) for cut in cuts), len(records)]
    for start, stop in pairwise(bounds):
        yield records[start:stop]


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.lists(st.integers(0, 1000), max_size=6), st.sampled_from([2, 256]))
def test_it_knows_what_the_reference_knows_wherever_chunks_end(
    batches: list[list[Row]], cuts: list[int], most: int
) -> None:
    reference, offsets = Reference(), MemoryLog(PARTITIONS)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(state, "MAX_INTERESTS", most)
        for row in (row for rows in batches for row in rows):
            reference.change(row)
        records = [record for rows in batches for record in offsets.append(batch_of(rows), TOPICS)]
        with opened(Path(folder)) as view:
            for chunk in chunks(records, cuts):
                view.apply(chunk)
        with opened(Path(folder)) as view:
            view.apply(view.shard.fresh(records))  # what was applied before it was opened again is not applied twice
            assert view.shard.applied_events() == sum(len(record.batch) for record in records)
            for kind in (PIN, BOARD, USER, INTEREST):
                assert objects_of(view, kind, *ALL) == [reference.objects.get((kind, id_)) for id_ in ALL]
                assert view.listed(kind, 0, 100).tolist() == reference.listed(kind)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 60) | st.integers(LAST - 3, LAST)), st.integers(0, LAST), st.integers(1, 70))
def test_a_list_is_ascending_over_all_partitions_and_resumes_anywhere(boards: set[int], after: int, limit: int) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as view:
        if boards:
            Writer(view)(*({"action": A.CREATE_BOARD, "board": board, "user": 1} for board in boards))
        expected = sorted(boards)
        assert view.listed(BOARD, after, limit).tolist() == [board for board in expected if board > after][:limit]
        last, found = 0, []
        while len(page := view.listed(BOARD, last, 7)):
            found += page.tolist()
            last = found[-1]
        assert found == expected
        assert view.listed(PIN, 0, 10).tolist() == []
        assert view.listed(USER, 0, 10).tolist() == []


@settings(max_examples=40, deadline=None)
@given(BATCHES)
def test_what_memory_says_is_what_the_disk_says(batches: list[list[Row]]) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as view:
        write = Writer(view)
        for rows in [[], *batches]:
            write(*rows)
            for kind in (PIN, BOARD, USER, INTEREST):
                from_memory = objects_of(view, kind, *ALL)  # asked before, so kept through the writes
                assert from_memory == objects_of(RockstoreStore(view.shard, range(PARTITIONS), PARTITIONS), kind, *ALL)


def test_a_write_is_read_at_once_whatever_is_read_meanwhile(view: RockstoreStore) -> None:
    write, pins, ended = Writer(view), ids(range(1, 9)), threading.Event()

    def read() -> None:
        while not ended.is_set():
            view.attributes(PIN, pins)
            with view._feed._lock:
                view._objects.clear()  # so that they read from disk, and keep what they read

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for i in range(200):
            write(*({"action": A.UPDATE_PIN, "pin": int(pin), "title": f"{i}"} for pin in pins))
            assert view.attributes(PIN, pins).titles.strings() == [f"{i}"] * len(pins)
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def test_memory_for_objects_is_bounded(tmp_path: Path) -> None:
    shard = Shard(tmp_path, layout.FORMAT, layout.FAMILIES)
    view = RockstoreStore(shard, range(PARTITIONS), PARTITIONS, objects_mb=1)
    Writer(view)(*({"action": A.CREATE_PIN, "pin": pin, "title": "x" * 2000} for pin in range(1, 1001)))
    for _ in range(2):
        found = view.attributes(PIN, ids(range(1, 1100)))
        assert found.found.tolist() == [True] * 1000 + [False] * 99
        assert set(found.titles.strings()[:1000]) == {"x" * 2000}
    assert 300 < len(view._objects) < 600
    assert view._objects.bytes() <= 1 << 20
    shard.close()


# --- one fact a test ------------------------------------------------------------------------------------------------


def test_a_pin_is_read_as_it_was_created(view: RockstoreStore) -> None:
    stated = {"title": "Töpfe", "link": "https://example.org/1", "quality": 0.25, "interests": [9, 8, 9]}
    Writer(view)({"action": A.CREATE_PIN, "pin": 5, "user": 7, "at_ms": T0 + 1, **stated})
    expected = {**NOTHING, **stated, "owner": 7, "at_ms": T0 + 1, "interests": [9, 8]}
    assert objects_of(view, PIN, 5, 6, 5) == [expected, None, expected]
    assert objects_of(view, BOARD, 5) == [None]


def test_what_an_event_does_not_state_stays(view: RockstoreStore) -> None:
    write = Writer(view)
    write({"action": A.CREATE_PIN, "pin": 5, "user": 7, "title": "a", "link": "l", "quality": 0.5, "interests": [1]})
    write({"action": A.UPDATE_PIN, "pin": 5, "title": "b", "at_ms": T0 + 5})
    write({"action": A.CREATE_PIN, "pin": 5, "quality": 0.0, "interests": [2], "at_ms": T0 + 6})
    known = {"title": "b", "link": "l", "owner": 7, "quality": 0.0, "at_ms": T0, "down": False, "interests": [1, 2]}
    assert objects_of(view, PIN, 5) == [known]
    write({"action": A.UPDATE_PIN, "pin": 5, "interests": [3, 2]})
    assert objects_of(view, PIN, 5) == [{**known, "interests": [1, 2, 3]}]


def test_a_pin_spoken_of_before_it_is_created_gets_its_date_when_it_is(view: RockstoreStore) -> None:
    write = Writer(view)
    write({"action": A.JOIN_INTEREST, "pin": 5, "target": 4}, {"action": A.UPDATE_PIN, "pin": 5, "title": "a"})
    assert objects_of(view, PIN, 5) == [{**NOTHING, "title": "a", "interests": [4]}]
    write({"action": A.CREATE_PIN, "pin": 5, "at_ms": T0 + 3})
    assert objects_of(view, PIN, 5) == [{**NOTHING, "title": "a", "interests": [4], "at_ms": T0 + 3}]


def test_interests_join_at_the_end_once_and_leave(view: RockstoreStore) -> None:
    write = Writer(view)
    write({"action": A.CREATE_PIN, "pin": 5, "interests": [1, 2]})
    write(*({"action": A.JOIN_INTEREST, "pin": 5, "target": target} for target in (3, 1, 3)))
    assert objects_of(view, PIN, 5) == [{**NOTHING, "at_ms": T0, "interests": [1, 2, 3]}]
    write({"action": A.LEAVE_INTEREST, "pin": 5, "target": 1}, {"action": A.JOIN_INTEREST, "pin": 5, "target": 1})
    write({"action": A.LEAVE_INTEREST, "pin": 6, "target": 1})
    assert objects_of(view, PIN, 5, 6) == [{**NOTHING, "at_ms": T0, "interests": [2, 3, 1]}, None]


def test_no_value_grows_without_end(view: RockstoreStore) -> None:
    Writer(view)(*({"action": A.JOIN_INTEREST, "pin": 5, "target": target} for target in range(1, 1000)))
    assert view.attributes(PIN, ids([5])).interests.run(0).tolist() == list(range(1, state.MAX_INTERESTS + 1))


@pytest.mark.parametrize("known", [True, False])
def test_a_takedown_is_final_and_its_attributes_stay(view: RockstoreStore, known: bool) -> None:
    write, create = Writer(view), {"action": A.CREATE_PIN, "pin": 5, "title": "a"}
    if known:
        write(create)
    write({"action": A.TAKEDOWN, "pin": 5})
    assert objects_of(view, PIN, 5) == [{**NOTHING, "down": True, **({"title": "a", "at_ms": T0} if known else {})}]
    write(create, {"action": A.UPDATE_PIN, "pin": 5, "link": "l"})
    assert objects_of(view, PIN, 5) == [{**NOTHING, "down": True, "title": "a", "link": "l", "at_ms": T0}]
    assert view.listed(PIN, 0, 10).tolist() == []


def test_a_deleted_board_stays_readable_and_is_not_listed(view: RockstoreStore) -> None:
    write = Writer(view)
    write(*({"action": A.CREATE_BOARD, "board": board, "user": 7, "title": "b"} for board in (3, 4)))
    write({"action": A.DELETE_BOARD, "board": 3, "user": 7})
    board = {**NOTHING, "title": "b", "owner": 7, "at_ms": T0}
    assert objects_of(view, BOARD, 3, 4) == [{**board, "down": True}, board]
    assert view.listed(BOARD, 0, 10).tolist() == [4]


def test_users_and_interests_have_names_and_a_user_who_only_acts_is_not_listed(view: RockstoreStore) -> None:
    Writer(view)(
        {"action": A.NAME_USER, "user": 5, "title": "Ada"},
        {"action": A.NAME_INTEREST, "target": 5, "user": 9, "title": "pots"},
        {"action": A.SAVE, "user": 6, "pin": 1, "board": 2},
        {"action": A.NAME_USER, "user": 5, "title": "Ada L.", "at_ms": T0 + 9},
    )
    assert objects_of(view, USER, 5, 6) == [{**NOTHING, "title": "Ada L.", "at_ms": T0}, None]
    assert objects_of(view, INTEREST, 5) == [{**NOTHING, "title": "pots", "at_ms": T0}]
    assert view.listed(USER, 0, 10).tolist() == [5]
    assert view.listed(INTEREST, 0, 10).tolist() == [5]


def test_what_is_done_to_a_pin_writes_nothing_but_the_offset(view: RockstoreStore) -> None:
    write = Writer(view)
    write(*({"action": a, "user": 1, "pin": 5, "board": 2} for a in (A.IMPRESSION, A.CLICK, A.SAVE, A.UNSAVE)))
    write()
    view.apply([])
    assert list(view.shard.family("objects").keys()) == []
    assert view.shard.applied_events() == 4


def test_nothing_asked_is_nothing_answered(view: RockstoreStore) -> None:
    assert len(view.attributes(PIN, ids([])).found) == 0
    assert view.listed(PIN, LAST, 5).dtype == np.uint64


def test_a_shard_lists_its_own_partitions_only(tmp_path: Path) -> None:
    everything = set(range(1, 50))
    found = []
    for part in (range(2), range(2, 4)):
        with opened(tmp_path / str(part.start), part) as view:
            rows = batch_of([{"action": A.CREATE_PIN, "pin": pin} for pin in everything])
            view.apply([r for r in MemoryLog(PARTITIONS).append(rows, TOPICS) if r.partition in part])
            found += view.listed(PIN, 0, 100).tolist()
    assert sorted(found) == sorted(everything)


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    Shard(tmp_path / "x", "rockstore 0", layout.FAMILIES).close()
    with pytest.raises(WrongFormat, match="rockstore 0"):
        Shard(tmp_path / "x", layout.FORMAT, layout.FAMILIES)
