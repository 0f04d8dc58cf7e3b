"""External ids in rockstore: beside the other attributes, in whatever order they came, and nothing else by themselves."""

from pathlib import Path

import pytest

from rockstore import layout
from rockstore.client import PIN, USER, RockstoreClient
from rockstore.layout import Object
from services.core.columns import ids
from services.core.errors import Damaged, InvalidArgument
from services.core.events import Action, Batch, events
from services.core.external import naming, refuse_names
from services.rpc.mesh import Mesh
from tests.kit import asked
from tests.rockstore.test_rockstore_service import rockstore

T0 = 1_700_000_000_000


def named(kind: int, number: int, text: str) -> Batch:
    return naming([kind], [number], [text], T0)


def pin(number: int, title: str) -> Batch:
    return events(1, action=Action.CREATE_PIN, pin=number, user=7, at_ms=T0, title=[title], id=number)


@pytest.mark.parametrize("shards", [1, 2])
def test_the_text_comes_with_the_attributes_in_any_order(tmp_path: Path, shards: int) -> None:
    log = [
        named(PIN, 1, "a-1"),
        pin(1, "one"),
        pin(2, "two"),
        named(PIN, 2, "a-2"),
        named(USER, 7, "u-7"),
        pin(3, "three"),
    ]
    with rockstore(tmp_path, shards, *log) as made:
        mesh = Mesh(
            settings={**made.settings, "mesh": {**made.settings["mesh"], "ids": "text"}}, processes=made.processes
        )
        found = asked(RockstoreClient, mesh, lambda client: client.attributes(PIN, ids([3, 2, 1]), 5, named=True))
        assert list(found.externals) == ["", "a-2", "a-1"]
        assert found.titles == ["three", "two", "one"]
        assert found.found.all()
        assert all(text == "u-7" for text in found.named_externals.values())
        bare = asked(RockstoreClient, made, lambda client: client.attributes(PIN, ids([1]), 5))
        assert list(bare.externals) == [], "numbers do not pay for texts"


def test_what_is_only_named_is_neither_found_nor_listed(tmp_path: Path) -> None:
    with rockstore(tmp_path, 1, named(PIN, 5, "p"), named(USER, 5, "u")) as mesh:
        known = asked(RockstoreClient, mesh, lambda client: client.attributes(PIN, ids([5]), 5, external=True))
        assert (bool(known.found[0]), known.externals[0]) == (False, "p")
        assert not len(asked(RockstoreClient, mesh, lambda client: client.list(USER, 0, 10, 5)))


def test_the_first_of_two_texts_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with rockstore(tmp_path, 1, named(PIN, 5, "first"), named(PIN, 5, "second"), named(PIN, 5, "first")) as mesh:
        known = asked(RockstoreClient, mesh, lambda client: client.attributes(PIN, ids([5]), 5, external=True))
    assert known.externals[0] == "first"
    assert "b'first' stays, b'second' is passed over" in caplog.text


def test_a_value_that_is_cut_or_grown_is_damaged() -> None:
    value = layout.pack_object(Object(title=b"title", external=b"an id"))
    key = layout.object_key(1, 1, 5)
    assert layout.unpack_object(key, value).external == b"an id"
    for damaged in (value[:-1], value[:-6], value + b"\0", value[:-1] + b"\xff", value[:20]):
        with pytest.raises(Damaged):
            layout.parts_of(key, damaged)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [(0, "a", r"batch.kind\[0\] = 0"), (9, "a", "kind"), (1, "", "1 to 255"), (1, "x" * 256, "256 long")],
)
def test_the_log_refuses_names_without_a_kind_or_text(kind: int, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        refuse_names(naming([kind], [5], [text], T0))
