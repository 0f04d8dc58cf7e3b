"""Reads of a column family: ranges both ways, and damage that is an error and never an end."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.core.errors import Damaged, Unavailable
from services.state.database import Database
from services.state.family import Family
from tests.damaging import cut, flip

ROWS, WRITES = 4_000, 20_000


def key(i: int) -> bytes:
    return i.to_bytes(8, "big")


def value(i: int) -> bytes:
    return b"value %d" % i * 3


def open_db(folder: Path) -> Database:
    return Database(folder, "test 1", ("a", "b"), cache_mb=1, memtable_mb=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose family a has ROWS rows in files."""
    folder = tmp_path_factory.mktemp("made") / "db"
    db = open_db(folder)
    batch = db.batch()
    for i in range(ROWS):
        batch.put(key(i), value(i), db.handle("a"))
    db.write(batch)
    db.family("a").raw.flush()
    db.close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "db"))


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (b"", b"", range(ROWS)),
        (key(5), b"", range(5, ROWS)),
        (b"", key(5), range(5)),
        (key(5), key(9), range(5, 9)),
        (key(5), key(5), range(0)),
        (key(9), key(5), range(0)),
        (key(ROWS), b"", range(0)),
    ],
)
def test_a_range_is_from_its_first_key_to_before_its_bound_both_ways(
    folder: Path, start: bytes, stop: bytes, expected: range
) -> None:
    db = open_db(folder)
    family = db.family("a")
    for numbers, backwards in ((expected, False), (expected[::-1], True)):
        assert list(family.keys(start, stop, backwards)) == [key(i) for i in numbers]
        assert list(family.values(start, stop, backwards)) == [value(i) for i in numbers]
        assert list(family.items(start, stop, backwards)) == [(key(i), value(i)) for i in numbers]
    db.close()


def test_many_scans_at_once_keep_their_bounds(folder: Path) -> None:
    """An iterator of rocksdict reads its bound from options that Python may have freed."""
    db = open_db(folder)
    scans = [(i, db.family("a").keys(key(i), key(3_900 + i))) for i in range(100)]
    for i, scan in scans:
        _ = [bytes([i]) * 8 for _ in range(200)]
        assert len(list(scan)) == 3_900
    db.close()


def test_a_scan_is_as_of_its_call(folder: Path) -> None:
    db = open_db(folder)
    before = db.family("b").items()
    batch = db.batch()
    batch.put(b"k", b"v", db.handle("b"))
    db.write(batch)
    assert list(before) == []
    assert list(db.family("b").items()) == [(b"k", b"v")]
    db.close()


def test_scans_beside_writes_are_each_as_of_one_write(folder: Path) -> None:
    """A write puts the same value under the first and the last key of a range, and a key of its own behind both."""
    db = open_db(folder)

    def write() -> None:
        for i in range(WRITES):
            batch = db.batch()
            for name in (b"first", b"last", b"later" + key(i)):
                batch.put(name, key(i), db.handle("b"))
            db.write(batch)

    writer, seen = threading.Thread(target=write), 0
    writer.start()
    while writer.is_alive():
        assert len({value for _, value in db.family("b").items(b"", b"later")}) <= 1
        later = [value for _, value in db.family("b").items(b"later" + key(seen))]
        assert later == [key(seen + i) for i in range(len(later))]
        seen += len(later)
    writer.join()
    assert seen > 1
    db.close()


SCANS: dict[str, Callable[[Family], object]] = {
    "items": lambda family: list(family.items()),
    "keys": lambda family: list(family.keys()),
    "values": lambda family: list(family.values()),
    "backwards": lambda family: list(family.items(backwards=True)),
    "from before the damage": lambda family: list(family.items(key(10))),
    "to after the damage": lambda family: list(family.items(key(100), key(3_900))),
    "get": lambda family: [family.get(key(i)) for i in range(ROWS)],
    "get of several": lambda family: family.get([key(i) for i in range(ROWS)]),
}


@pytest.mark.parametrize("scan", SCANS)
def test_a_damaged_block_is_an_error_that_names_folder_family_and_remedy(folder: Path, scan: str) -> None:
    damaged(folder)
    db = open_db(folder)
    assert db.damage == ""
    with pytest.raises(Damaged, match=f"^{folder}: is damaged: column family a: .*checksum mismatch.*; restore it"):
        SCANS[scan](db.family("a"))
    assert db.damage, "the status of the process reports it"
    assert list(db.family("b").items()) == []
    db.close()


def test_what_lies_before_the_damage_is_still_read(folder: Path) -> None:
    damaged(folder)
    db = open_db(folder)
    assert list(db.family("a").values(b"", key(5))) == [value(i) for i in range(5)]
    db.close()


def test_a_file_that_went_while_it_was_open_is_damage(folder: Path) -> None:
    db = open_db(folder)
    for path in folder.glob("*.sst"):
        cut(path, 0)  # the same file, as it is held open
    with pytest.raises(Damaged):
        list(db.family("a").items())
    db.close()


def test_a_closed_database_is_no_damage(folder: Path) -> None:
    db = open_db(folder)
    family = db.family("a")
    db.close()
    with pytest.raises(Unavailable, match="is closed"):
        family.get(key(1))


def damaged(folder: Path) -> None:
    """One bit in the middle of the rows."""
    path = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(path, path.stat().st_size // 3)
