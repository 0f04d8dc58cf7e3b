"""R28 and R07: the owner and the pins of a board, asked of every view of one log."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apiary.layout
import polaris.layout
import rockstore.layout
from apiary.store import ApiaryStore
from pixie.sources import from_records
from polaris.kernel import Light
from polaris.store import Limits, PolarisStore, Sources
from roadrunner import boards, check
from roadrunner.store import EventLog
from rockstore.store import RockstoreStore
from services.core.columns import ids
from services.core.events import Action, Batch, events
from services.core.topics import Topic, hash64
from services.log.protocol import Record
from tests.kit import open_shards
from tests.roadrunner.running import append, open_log

A = Action
NOW = 1_700_000_000_000
ANA, BEN, EVE = 1, 2, 3
CREATE, DELETE, SAVE, UNSAVE = A.CREATE_BOARD, A.DELETE_BOARD, A.SAVE, A.UNSAVE
Said = tuple[Action, int, int]  # what, by whom or of which pin, when


class Seen(NamedTuple):
    """The state of a board by one view, or by two that must agree."""

    owner: int  # 0: none
    deleted: bool
    listed: tuple[int, ...]  # users among whose boards it is
    pins: tuple[int, ...]


def batch_of(rows: list[tuple[int, Said]], first_id: int = 1) -> Batch:
    """Events of boards: a save is another user's (user 9)."""
    of_pins = [action in (SAVE, UNSAVE) for _, (action, _, _) in rows]
    return events(
        len(rows),
        action=[said[0] for _, said in rows],
        user=[9 if of_pin else said[1] for of_pin, (_, said) in zip(of_pins, rows, strict=True)],
        pin=[said[1] if of_pin else 0 for of_pin, (_, said) in zip(of_pins, rows, strict=True)],
        board=[board for board, _ in rows],
        at_ms=[NOW + said[2] for _, said in rows],
        id=range(first_id, first_id + len(rows)),
    )


def records_of(log: EventLog) -> dict[Topic, list[Record]]:
    """All records of the log, by topic."""
    found: dict[Topic, list[Record]] = {topic: [] for topic in Topic}
    for (topic, partition), end in log.ends().items():
        found[Topic(topic)] += check.records(log.database, topic, partition, 0, end.next)
    return found


def in_chunks(store: Any, records: list[Record], own: range, chunks: int) -> None:
    mine = [record for record in records if record.partition in own]
    step = max(1, len(mine) // chunks)
    for start, stop in pairwise(range(0, len(mine) + step, step)):
        store.apply(store.shard.fresh(mine[start:stop]))


def seen(log: EventLog, asked: list[int], partitions: int, shards: int = 1, chunks: int = 1) -> dict[int, Seen]:
    """The state of these boards by views that are built of the log from its beginning."""
    records, users = records_of(log), ids([ANA, BEN, EVE])
    said: dict[int, Any] = {board: [0, False, (), ()] for board in asked}
    held: dict[int, set[int]] = {board: set() for board in asked}
    with TemporaryDirectory() as folder:
        at = Path(folder)
        layouts = (rockstore.layout, apiary.layout, polaris.layout)
        opened = [open_shards(at / of.__name__, of.FORMAT, of.FAMILIES, shards, partitions) for of in layouts]
        with opened[0] as each:
            for shard, own in each:
                objects = RockstoreStore(shard, own, partitions)
                in_chunks(objects, records[Topic.OBJECTS], own, chunks)
                known = objects.attributes(rockstore.layout.BOARD, ids(asked))
                for board, found, owner, down in zip(
                    asked, *(c.tolist() for c in (known.found, known.owners, known.taken_down)), strict=True
                ):
                    if found:
                        said[board][:2] = owner, down
        with opened[1] as each:
            for shard, own in each:
                graph = ApiaryStore(shard, own, partitions)
                in_chunks(graph, records[Topic.USERS], own, chunks)
                lists = graph.owned(users)
                for user, start, stop in zip(
                    users.tolist(), [0, *lists.ends.tolist()], lists.ends.tolist(), strict=False
                ):
                    for board in {*lists.entries.ids[start:stop].tolist()} & said.keys():
                        said[board][2] = (*said[board][2], user)
        with opened[2] as each:
            for shard, own in each:
                light = Light(2.0, 1e9, 0.5)
                lists_of = PolarisStore(shard, partitions, light, Limits(3, 1_000, 1 << 20))
                in_chunks(lists_of, records[Topic.SOURCES], own, chunks)
                for board in asked:
                    found = lists_of.postings(Sources(np.array([polaris.layout.BOARD], np.uint8), ids([board])))
                    held[board] |= {*found.pins.tolist()}
    edges = from_records(records[Topic.SOURCES]).edges
    for board in asked:
        walked = {*edges.pins[edges.boards == board].tolist()}
        assert walked == held[board], f"board {board}: pixie has {walked}, polaris {held[board]}"
        said[board][3] = tuple(sorted(walked))
    return {board: Seen(*of) for board, of in said.items()}


def agreed(of: Seen) -> None:
    """Invariants of any board, whatever happened."""
    assert of.listed == ((of.owner,) if of.owner and not of.deleted else ()), of
    assert not (of.deleted and of.pins), of


@contextmanager
def logged(partitions: int) -> Iterator[EventLog]:
    with TemporaryDirectory() as folder:
        log = open_log(Path(folder), lambda: NOW + 1_000_000, partitions)
        try:
            yield log
        finally:
            log.close()


THERE, GONE = False, True
SITUATIONS: dict[str, tuple[list[Said], Seen]] = {
    "made twice, by its owner": ([(CREATE, ANA, 1), (SAVE, 10, 2), (CREATE, ANA, 3)], Seen(ANA, THERE, (ANA,), (10,))),
    "made twice, by a stranger": ([(CREATE, ANA, 1), (SAVE, 10, 2), (CREATE, EVE, 3)], Seen(ANA, THERE, (ANA,), (10,))),
    "made by a stranger, dated back": ([(CREATE, ANA, 5), (CREATE, EVE, 1)], Seen(ANA, THERE, (ANA,), ())),
    "moved": (
        [(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, ANA, 3), (CREATE, BEN, 4), (SAVE, 11, 5)],
        Seen(BEN, THERE, (BEN,), (11,)),
    ),
    "moved, and its first owner deletes it again": (
        [(CREATE, ANA, 1), (DELETE, ANA, 3), (CREATE, BEN, 4), (SAVE, 11, 5), (DELETE, ANA, 6)],
        Seen(BEN, THERE, (BEN,), (11,)),
    ),
    "moved there and back": (
        [(CREATE, ANA, 1), (DELETE, ANA, 2), (CREATE, BEN, 3), (DELETE, BEN, 4), (CREATE, ANA, 5), (SAVE, 12, 6)],
        Seen(ANA, THERE, (ANA,), (12,)),
    ),
    "deleted and saved to again": (
        [(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, ANA, 3), (SAVE, 11, 4)],
        Seen(ANA, GONE, (), ()),
    ),
    "deleted, saved to and created again": (
        [(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, ANA, 3), (SAVE, 11, 4), (CREATE, ANA, 5)],
        Seen(ANA, THERE, (ANA,), (11,)),
    ),
    "deleted by a stranger": ([(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, EVE, 3)], Seen(ANA, THERE, (ANA,), (10,))),
    "deleted by a stranger, saved to again": (
        [(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, EVE, 3), (SAVE, 11, 4), (CREATE, EVE, 5)],
        Seen(ANA, THERE, (ANA,), (10, 11)),
    ),
    "deleted by a stranger, later by its owner, claimed at a date between": (
        [(CREATE, ANA, 1), (DELETE, EVE, 9), (DELETE, ANA, 5), (CREATE, EVE, 7), (SAVE, 10, 8)],
        Seen(EVE, THERE, (EVE,), (10,)),
    ),
    "deleted twice": ([(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, ANA, 3), (DELETE, ANA, 3)], Seen(ANA, GONE, (), ())),
    "deleted twice, the older comes last": (
        [(CREATE, ANA, 1), (DELETE, ANA, 6), (SAVE, 10, 4), (DELETE, ANA, 3), (CREATE, ANA, 5)],
        Seen(ANA, GONE, (), ()),
    ),
    "deleted before it is made, by its owner": (
        [(DELETE, ANA, 5), (CREATE, ANA, 1), (SAVE, 10, 6)],
        Seen(ANA, GONE, (), ()),
    ),
    "deleted before it is made, then made by another": (
        [(DELETE, ANA, 5), (CREATE, BEN, 4), (CREATE, BEN, 6), (SAVE, 10, 7)],
        Seen(BEN, THERE, (BEN,), (10,)),
    ),
    "made after it was saved to": ([(SAVE, 10, 1), (CREATE, ANA, 5)], Seen(ANA, THERE, (ANA,), (10,))),
    "never made": ([(SAVE, 10, 1), (SAVE, 11, 1)], Seen(0, THERE, (), (10, 11))),
    "never made, and deleted": ([(SAVE, 10, 1), (DELETE, BEN, 2), (SAVE, 11, 3)], Seen(BEN, GONE, (), ())),
    "a deletion that comes late takes what was there then": (
        [(CREATE, ANA, 1), (SAVE, 10, 2), (CREATE, ANA, 8), (SAVE, 11, 9), (DELETE, ANA, 5)],
        Seen(ANA, THERE, (ANA,), (11,)),
    ),
    "a save that comes late does not outlive the deletion": (
        [(CREATE, ANA, 1), (DELETE, ANA, 5), (CREATE, ANA, 6), (SAVE, 10, 4), (SAVE, 11, 7)],
        Seen(ANA, THERE, (ANA,), (11,)),
    ),
    "deleted and made at one date": ([(CREATE, ANA, 5), (DELETE, ANA, 5), (CREATE, BEN, 5)], Seen(BEN, THERE, (BEN,), ())),
    "made and deleted at one date": ([(CREATE, ANA, 5), (DELETE, ANA, 5)], Seen(ANA, GONE, (), ())),
    "unsaved late": ([(SAVE, 10, 1), (SAVE, 10, 5), (UNSAVE, 10, 3)], Seen(0, THERE, (), (10,))),
    "saved late": ([(UNSAVE, 10, 5), (SAVE, 10, 3)], Seen(0, THERE, (), ())),
    "saved and unsaved at one date": (
        [(UNSAVE, 10, 5), (SAVE, 10, 5), (SAVE, 11, 5), (UNSAVE, 11, 5)],
        Seen(0, THERE, (), (10,)),
    ),
}  # fmt: skip
BOARDS = {name: 1_000 + i for i, name in enumerate(SITUATIONS)}


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
@pytest.mark.parametrize(("partitions", "shards", "chunks"), [(1, 1, 1), (3, 2, 5), (16, 1, 40)])
def test_R28_R07_all_views_say_the_same_of_a_board(partitions: int, shards: int, chunks: int, together: bool) -> None:
    rows = [(BOARDS[name], said) for name, (what, _) in SITUATIONS.items() for said in what]
    rows.sort(key=lambda row: row[0] % 3)  # boards in another order, each one's own order as it is
    with logged(partitions) as log:
        for batch in [batch_of(rows)] if together else [batch_of([row], i) for i, row in enumerate(rows, start=1)]:
            append(log, batch)
        log.sync()
        found = seen(log, [*BOARDS.values()], partitions, shards, chunks)
    for name, (_, expected) in SITUATIONS.items():
        assert found[BOARDS[name]] == expected, name
        agreed(found[BOARDS[name]])


WHO = st.sampled_from([ANA, BEN, EVE])
SAID = st.tuples(st.sampled_from([CREATE, CREATE, DELETE]), WHO, st.integers(0, 9)) | st.tuples(
    st.sampled_from([SAVE, SAVE, UNSAVE]), st.integers(10, 13), st.integers(0, 9)
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from([5, 6]), SAID), min_size=1, max_size=25), st.integers(1, 4))
def test_R28_R07_all_views_agree_whatever_is_said(rows: list[tuple[int, Said]], chunks: int) -> None:
    with logged(3) as log:
        for i, row in enumerate(rows, start=1):
            append(log, batch_of([row], i))
        log.sync()
        for of in seen(log, [5, 6], 3, 1, chunks).values():
            agreed(of)


def test_R07_an_owners_events_and_saves_give_the_same_in_any_order() -> None:
    said = [(CREATE, ANA, 1), (SAVE, 10, 2), (DELETE, ANA, 3), (SAVE, 11, 4), (CREATE, ANA, 5)]
    orders = [*permutations(said)]
    with logged(3) as log:
        append(log, batch_of([(100 + i, each) for i, order in enumerate(orders) for each in order]))
        log.sync()
        found = seen(log, [100 + i for i in range(len(orders))], 3)
    assert {*found.values()} == {Seen(ANA, THERE, (ANA,), (11,))}


def test_R28_a_log_of_before_owners_is_set_right_once(tmp_path: Path) -> None:
    """A stranger's actions in such a log are undone in the topics that took them for true."""
    alive, claimed, gone = 7, 8, 9
    rows: list[tuple[int, Said]] = [
        (alive, (CREATE, ANA, 1)), (alive, (SAVE, 10, 2)), (alive, (DELETE, EVE, 3)), (alive, (SAVE, 11, 4)),
        (claimed, (CREATE, ANA, 1)), (claimed, (CREATE, EVE, 2)), (claimed, (SAVE, 12, 3)),
        (gone, (CREATE, ANA, 1)), (gone, (DELETE, ANA, 2)),
    ]  # fmt: skip
    log = open_log(tmp_path)
    with patch.object(boards.Boards, "judge", lambda *_: np.empty(0, np.int64)):
        append(log, batch_of(rows))
        log.sync()
    note = log.database.batch()
    note.delete(boards.NOTE)
    log.database.write(note)
    log.close()
    for again in range(2):
        log = open_log(tmp_path)
        append(log, batch_of([(alive, (DELETE, EVE, 8 + again)), (gone, (SAVE, 13, 9))], 100 + 2 * again))
        log.sync()
        ends = log.ends()
        found = seen(log, [alive, claimed, gone], 3)
        assert found[alive] == Seen(ANA, THERE, (ANA,), (11,)), "pins saved before are lost with the old deletion"
        assert found[claimed] == Seen(ANA, THERE, (ANA,), (12,))
        assert found[gone] == Seen(ANA, GONE, (), ())
        log.close()
    assert sum(end.events or 0 for (topic, _), end in ends.items() if topic == Topic.USERS) == len(rows) + 2 + 1


def test_R28_what_does_not_hold_is_kept_in_objects_alone_and_waited_for_there() -> None:
    with logged(16) as log:
        append(log, batch_of([(5, (CREATE, ANA, 1))]))
        (published,) = append(log, batch_of([(5, (DELETE, EVE, 2))], 50))
        log.sync()
        assert (published.accepted, published.duplicates) == (1, 0)
        (reached,) = published.reached
        assert reached == (Topic.OBJECTS, int(hash64(ids([5]))[0] % np.uint64(16)))
        said = [a for r in records_of(log)[Topic.OBJECTS] for a in r.batch.action.tolist()]
        assert said == [CREATE, DELETE]
        (again,) = append(log, batch_of([(5, (DELETE, EVE, 2))], 50))
        assert (again.accepted, again.duplicates) == (0, 1)
