"""Ids of text in people's files: one number each, whatever column type a tool gave them, and named before they are used."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet, ratings
from loaders.dataset import EventDataset, Section
from loaders.ids import read_ids
from loaders.naming import with_names
from loaders.place import Place
from loaders.text_ids import TextIds, as_text
from services.core import external
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from tests.loaders.checks import whole
from tests.web.test_web_text_ids import HOSTILE, REFUSED

UUIDS = [str(uuid.UUID(int=i * 7919 + 1)) for i in range(40)]
PLACE = Place(Path("x.parquet"), "user")


def read(column: Any, null: bool = False) -> tuple[list[int], TextIds]:
    ids = TextIds()
    with as_text(ids):
        return read_ids(column, PLACE, null).tolist(), ids


@pytest.mark.parametrize(
    "column",
    [
        pa.array(HOSTILE),
        pa.array(HOSTILE, pa.large_string()),
        pa.array(HOSTILE, pa.string_view()),
        pa.array(HOSTILE).dictionary_encode(),
        pa.array([text.encode() for text in HOSTILE]),
        pa.chunked_array([pa.array(HOSTILE[:5]), pa.array(HOSTILE[5:])]),
    ],
    ids=["string", "large", "view", "dictionary", "bytes", "chunks"],
)
def test_P21_text_is_read_by_what_it_is_and_given_back(column: Any) -> None:
    numbers, ids = read(column)
    assert numbers == [external.number_of(text) for text in HOSTILE]
    assert ids.texts(np.array(numbers, np.uint64)) == HOSTILE


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1, 651]), ["1", "651"]),
        (pa.array([1.0, 651.0]), ["1", "651"]),
        (pa.array([-4, 0]), ["-4", "0"]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([uuid.UUID(UUIDS[1]).bytes], pa.binary(16)).cast(pa.uuid()), [UUIDS[1]]),
    ],
    ids=["integers", "floats", "negative", "largest", "uuid type"],
)
def test_P21_numbers_and_uuids_are_their_texts(column: Any, texts: list[str]) -> None:
    numbers, _ = read(column)
    assert numbers == [external.number_of(text) for text in texts]


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_edge_refuses_is_refused_by_row(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"x.parquet: column user, row 1 .*1 to 255 bytes of text"):
        read(pa.array(["fine", text]))


def test_null_is_none_where_it_is_allowed_and_refused_where_not() -> None:
    assert read(pa.array(["a", None]), null=True)[0] == [external.number_of("a"), 0]
    with pytest.raises(InvalidArgument, match="row 1"):
        read(pa.array(["a", None]))


def test_P21_with_numbers_digits_load_and_other_text_is_refused_with_the_setting() -> None:
    assert read_ids(pa.array(["7", "651"]), PLACE, False).tolist() == [7, 651]
    for text in (UUIDS[3], "007", str(2**64), "0", ""):
        with pytest.raises(InvalidArgument, match=r'user, row 0 .*\[mesh\] ids = "text"'):
            read_ids(pa.array([text]), PLACE, False)


def write(folder: Path, **tables: dict[str, list[Any]]) -> Path:
    folder.mkdir()
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def opened(folder: Path) -> tuple[Batch, TextIds]:
    ids = TextIds()
    with as_text(ids):
        return whole(with_names(parquet.open(folder), ids)[0]), ids


def test_P21_a_folder_of_texts_names_every_id_of_each_kind_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in",
        pins={"pin": UUIDS[:3], "user": ["u-0651"] * 3, "interests": [["cats"], [], ["cats", "dogs"]]},
        boards={"board": ["b"], "user": ["u-0651"]},
        follows={"user": ["u-0651"] * 3, "kind": ["user", "board", "interest"], "target": ["u-2", "b", "cats"]},
        events={"user": ["u-3"], "action": ["save"], "pin": [UUIDS[0]], "board": ["b"], "at": [1_700_000_000_000]},
    )
    batch, _ = opened(folder)
    names = batch.take(batch.action == Action.NAME_ID)
    assert names.kind.tolist() == batch.kind[: len(names)].tolist(), "before everything else"
    stated = set(zip(names.kind.tolist(), names.target.tolist(), names.title.strings(), strict=True))
    expected = [(1, UUIDS[0]), (1, UUIDS[1]), (1, UUIDS[2]), (2, "b"), (4, "cats"), (4, "dogs")]
    expected += [(3, "u-0651"), (3, "u-2"), (3, "u-3")]
    assert stated == {(kind, external.number_of(text), text) for kind, text in expected}
    assert len(names) == len(expected)
    save = batch.take(batch.action == Action.SAVE)
    assert (save.user[0], save.pin[0]) == (external.number_of("u-3"), external.number_of(UUIDS[0]))


def test_P21_made_up_names_have_the_ids_as_their_files_state_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", users={"user": ["u-1", "u-2"], "name": ["Ada", None]}, pins={"pin": ["p"]})
    rated = tmp_path / "ratings.csv"
    rated.write_text("user,item,rating\nu-3,p-1,5\nu-4,p-1,1\n17,p-2,5\n")
    assert set(opened(folder)[0].title.strings()) >= {"Ada", "user u-2"}
    ids = TextIds()
    with as_text(ids):
        batch = whole(with_names(ratings.open(rated), ids)[0])
    made = batch.take((batch.action == Action.NAME_USER) | (batch.action == Action.CREATE_BOARD))
    assert sorted(made.title.strings()) == sorted(
        [f"user {user}" for user in ("u-3", "u-4", "17")] + ["saved by user u-3", "saved by user 17"]
    )


def test_ids_that_a_set_makes_up_are_the_texts_of_their_digits() -> None:
    rows = events(2, action=Action.SAVE, user=[1, 2], pin=[7, 8], board=9, at_ms=5, interests=[[3], []])
    ids = TextIds()
    named, _ = with_names(EventDataset("small", "f00d", [Section("saves", 2, rows.slice)]), ids)
    batch = whole(named)
    saves = batch.take(batch.action == Action.SAVE)
    assert saves.pin.tolist() == [external.number_of("7"), external.number_of("8")]
    assert set(batch.title.strings()) - {""} == {"1", "2", "7", "8", "9", "3"}


def test_two_texts_with_one_number_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "number_of", len)
    numbers, ids = read(pa.array(["one", "three", "one"]))
    ids.texts(np.array(numbers, np.uint64))
    with as_text(ids), pytest.raises(InvalidArgument, match="ids 'one' and 'two' have one hash"):
        ids.texts(read_ids(pa.array(["two"]), PLACE, False))
