"""The state of an object: the latest statement of each attribute, emptied texts, and boards that are their creator's."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rockstore import layout
from rockstore.layout import BOARD, INTEREST, PIN, USER
from rockstore.store import TOPICS, RockstoreStore
from services.core.columns import ids
from services.log.memory import MemoryLog
from tests.rockstore.test_rockstore_store import (
    NOTHING,
    PARTITIONS,
    T0,
    A,
    Row,
    Writer,
    batch_of,
    objects_of,
    opened,
    view,
)

__all__ = ["view"]  # the fixture


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (PIN, {"action": A.UPDATE_PIN, "pin": 5}),
        (BOARD, {"action": A.CREATE_BOARD, "board": 5, "user": 7}),
        (USER, {"action": A.NAME_USER, "user": 5}),
        (INTEREST, {"action": A.NAME_INTEREST, "target": 5}),
    ],
)
def test_R04_a_title_or_name_is_emptied_where_that_is_stated(view: RockstoreStore, kind: int, row: Row) -> None:
    def title() -> str:
        (known,) = objects_of(view, kind, 5)
        assert known is not None
        return str(known["title"])

    write = Writer(view)
    write(row | {"title": "name"})
    write(row)
    assert title() == "name", "none stated"
    write(row | {"stated": 1, "at_ms": T0 - 1})
    assert title() == "name", "stated before"
    write(row | {"stated": 1})
    assert title() == ""
    write(row | {"title": "again", "at_ms": T0 + 1})
    assert title() == "again"


def test_R04_a_link_is_emptied_without_the_title(view: RockstoreStore) -> None:
    Writer(view)(
        {"action": A.CREATE_PIN, "pin": 5, "title": "t", "link": "l"},
        {"action": A.UPDATE_PIN, "pin": 5, "stated": 2, "at_ms": T0 + 1},
    )
    assert objects_of(view, PIN, 5) == [{**NOTHING, "title": "t", "at_ms": T0}]


def test_R07_what_is_stated_late_changes_nothing_that_was_stated_later(view: RockstoreStore) -> None:
    said: list[Row] = [
        {"action": A.CREATE_PIN, "pin": 5, "title": "first", "link": "l1", "quality": 0.1, "user": 1, "at_ms": T0},
        {"action": A.UPDATE_PIN, "pin": 5, "title": "second", "at_ms": T0 + 2},
        {"action": A.UPDATE_PIN, "pin": 5, "title": "late", "link": "l2", "user": 2, "at_ms": T0 + 1},
        {"action": A.UPDATE_PIN, "pin": 5, "quality": 0.5, "at_ms": T0 + 3},
    ]
    expected = {**NOTHING, "title": "second", "link": "l2", "quality": 0.5, "owner": 2, "at_ms": T0}
    for order in permutations(range(4)):
        with TemporaryDirectory() as folder, opened(Path(folder)) as one:
            Writer(one)(*(said[i] for i in order))
            assert objects_of(one, PIN, 5) == [expected], order


def test_R28_a_board_is_its_creators(view: RockstoreStore) -> None:
    write, board = Writer(view), {"board": 9, "at_ms": T0}
    mine = {**NOTHING, "title": "mine", "owner": 1, "at_ms": T0}
    write({**board, "action": A.CREATE_BOARD, "user": 1, "title": "mine"})
    write({**board, "action": A.CREATE_BOARD, "user": 2, "title": "stolen", "at_ms": T0 + 1})
    write({**board, "action": A.DELETE_BOARD, "user": 2, "at_ms": T0 + 2})
    assert objects_of(view, BOARD, 9) == [mine], "a stranger changes nothing"
    write({**board, "action": A.CREATE_BOARD, "user": 1, "title": "renamed", "at_ms": T0 + 3})
    assert objects_of(view, BOARD, 9) == [mine | {"title": "renamed"}]
    write({**board, "action": A.DELETE_BOARD, "user": 1, "at_ms": T0 + 5})
    write({**board, "action": A.CREATE_BOARD, "user": 2, "title": "late", "at_ms": T0 + 4})
    assert objects_of(view, BOARD, 9) == [mine | {"title": "renamed", "down": True}]
    write({**board, "action": A.CREATE_BOARD, "user": 2, "title": "moved", "at_ms": T0 + 6})
    assert objects_of(view, BOARD, 9) == [{**NOTHING, "title": "moved", "owner": 2, "at_ms": T0 + 6}]
    write({**board, "action": A.DELETE_BOARD, "user": 1, "at_ms": T0 + 7})
    assert objects_of(view, BOARD, 9) == [{**NOTHING, "title": "moved", "owner": 2, "at_ms": T0 + 6}]


def test_R28_a_board_that_was_never_created_may_be_deleted_and_a_late_create_does_not_revive_it(
    view: RockstoreStore,
) -> None:
    write = Writer(view)
    write({"action": A.DELETE_BOARD, "board": 9, "user": 1, "at_ms": T0 + 2})
    write({"action": A.CREATE_BOARD, "board": 9, "user": 1, "title": "t", "at_ms": T0})
    assert objects_of(view, BOARD, 9) == [{**NOTHING, "title": "t", "owner": 1, "at_ms": T0, "down": True}]
    write({"action": A.CREATE_BOARD, "board": 9, "user": 1, "at_ms": T0 + 3})
    assert objects_of(view, BOARD, 9) == [{**NOTHING, "title": "t", "owner": 1, "at_ms": T0}]


def test_objects_of_before_attributes_had_dates_are_read_and_changed(view: RockstoreStore) -> None:
    write = Writer(view)
    write({"action": A.CREATE_PIN, "pin": 5, "user": 7, "title": "a", "link": "l", "interests": [1]})
    (before,) = objects_of(view, PIN, 5)
    handle = view.shard.handle("objects")
    for key, value in list(view.shard.family("objects").items()):
        old = bytearray(value[: -layout._DATES.size])
        old[layout._FLAGS_AT] &= ~layout.DATED
        batch = view.shard.batch()
        batch.put(key, bytes(old), handle)
        view.shard.write(batch)
    view._objects.clear()
    assert objects_of(view, PIN, 5) == [before]
    write({"action": A.UPDATE_PIN, "pin": 5, "title": "b"})
    assert before is not None
    assert objects_of(view, PIN, 5) == [before | {"title": "b"}]


def test_an_object_in_a_partition_of_others_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "shard") as view:
        (record,) = MemoryLog(PARTITIONS).append(batch_of([{"action": A.CREATE_PIN, "pin": 5}]), TOPICS)
        elsewhere = replace(record, partition=(record.partition + 1) % PARTITIONS)
        with pytest.raises(ValueError, match=f"^partition: key 5 is in {elsewhere.partition}, not where"):
            view.apply([elsewhere])
        assert view.shard.applied_events() == 0
        assert not view.attributes(PIN, ids([5])).found.any()


def test_parts_of_other_lengths_than_their_header_states_are_refused() -> None:
    known = layout.Object(title=b"four", interests={1: None})
    header, interests, title, link, external = layout.parts_of(layout.object_key(0, PIN, 5), layout.pack_object(known))
    assert layout.columns_of([(header, interests, title, link, external)]).interests.values.tolist() == [1]
    with pytest.raises(ValueError, match="^ends: the last list ends at row 1, expected 0$"):
        layout.columns_of([(header, b"", title, link, external)])
