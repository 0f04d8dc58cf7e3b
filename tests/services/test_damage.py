"""Folders that were damaged while they were closed, or as a kill left them: refused by name, or the right answer."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.core.errors import Damaged
from services.core.topics import Topic
from services.log.protocol import Record
from services.state.database import Database
from services.state.seal import SEAL
from services.state.shard import DAMAGED, Shard, open_or_rebuild, set_aside
from tests.damaging import cut, flip, newest, swap
from tests.services.batches import follows

ROUNDS = 40  # records of ten events


class Whole(Database):
    """As the log: refused unless all that was synced is there."""

    loses_nothing = True


def record(offset: int) -> Record:
    from services.core.events import Batch

    batch = follows(10, first_id=1 + 10 * offset)
    assert isinstance(batch, Batch)
    return Record(Topic.USERS, 0, offset, 1, batch)


def apply(shard: Shard, start: int = 0, stop: int = ROUNDS) -> None:
    """Each record counts up, so that one applied twice, or left out, shows."""
    for offset in range(start, stop):
        for fresh in shard.fresh([record(offset)]):
            counted = int.from_bytes(shard.family("counts").get(b"n") or b"", "big") + len(fresh.batch)
            batch = shard.batch()
            batch.put(b"n", counted.to_bytes(8, "big"), shard.handle("counts"))
            batch.put(b"row %06d" % offset, b"x" * 2_000, shard.handle("counts"))
            shard.commit(batch, [fresh])


def counted(shard: Shard) -> int:
    return int.from_bytes(shard.family("counts").get(b"n") or b"", "big")


def opened(folder: Path) -> Shard:
    return open_or_rebuild(folder, "test 1", ("counts",), 1, 1)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A view that was closed, one that was killed, and an older copy of it, each with files and a write-ahead file."""
    folder = tmp_path_factory.mktemp("views")
    shard = opened(folder / "live")
    apply(shard, 0, ROUNDS // 2)
    shard.family("counts").raw.flush()
    shutil.copytree(folder / "live", folder / "older")
    apply(shard, ROUNDS // 2, ROUNDS)
    shutil.copytree(folder / "live", folder / "killed")
    shard.family("offsets").raw.flush()
    shard.close()
    return {"closed": folder / "live", "killed": folder / "killed", "older": folder / "older"}


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a bit flipped": lambda path, _: flip(path, path.stat().st_size // 2),
    "the first bits flipped": lambda path, _: flip(path, 8),
    "cut in half": lambda path, _: cut(path, path.stat().st_size // 2),
    "emptied": lambda path, _: cut(path, 0),
    "deleted": lambda path, _: path.unlink(),
    "swapped": swap,
}
FILES = ("*.sst", "MANIFEST-*", "CURRENT", "*.log", SEAL)


@pytest.mark.parametrize("state", ["closed", "killed"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", FILES)
def test_a_view_is_rebuilt_or_right_whatever_happened_to_its_files(
    views: dict[str, Path], tmp_path: Path, pattern: str, damage: str, state: str
) -> None:
    """Every file of the pattern in turn; then the log is applied from where the view says it stands."""
    for name in sorted(path.name for path in views[state].glob(pattern) if path.stat().st_size > 8):
        folder = Path(shutil.copytree(views[state], tmp_path / name))
        other = views["older"] / name
        if damage == "swapped" and not other.exists():
            continue
        DAMAGES[damage](folder / name, other)
        shard = opened(folder)
        try:
            apply(shard)
            found = counted(shard), len(list(shard.family("counts").keys()))
        except Damaged:  # noticed while it serves: the next start sets it aside
            shard.close()
            found = (0, 0)
        if shard.dead:
            gc.collect()  # the objects that the error held
            shard = opened(folder)
            apply(shard)
            found = counted(shard), len(list(shard.family("counts").keys()))
        assert found == (10 * ROUNDS, ROUNDS + 1)
        shard.close()


def test_a_damaged_view_is_set_aside_once_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "0of1"
    for _ in range(2):
        shard = opened(folder)
        apply(shard, 0, 2)
        shard.close()
        cut(newest(folder, "MANIFEST-*"), -10)
        shard = opened(folder)
        assert shard.positions([(int(Topic.USERS), 0)]) == {(int(Topic.USERS), 0): 0}, "the log is applied anew"
        shard.close()
        assert len(set_aside(folder)) == 1, "the newest stays"
    assert "is damaged: MANIFEST-" in caplog.text
    assert "rebuilt from the log" in caplog.text


def test_a_view_that_meets_damage_takes_no_more_writes_and_is_set_aside_by_the_next_start(
    views: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(views["closed"], tmp_path / "0of1"))
    flip(max(folder.glob("*.sst"), key=lambda path: path.stat().st_size), 300)
    shard = opened(folder)
    with pytest.raises(Damaged, match="it is set aside and rebuilt from the log"):
        list(shard.family("counts").items())
    assert shard.dead
    assert "column family counts" in shard.damage
    shard.close()
    gc.collect()
    assert (folder / DAMAGED).exists()
    with pytest.raises(Damaged, match="column family counts"):
        Shard(folder, "test 1", ("counts",), 1, 1)
    shard = opened(folder)
    assert counted(shard) == 0
    shard.close()


def test_data_without_offsets_or_format_is_damage(tmp_path: Path) -> None:
    db = Database(tmp_path / "a", "test 1", ("offsets", "counts"), 1, 1)
    batch = db.batch()
    batch.put(b"n", b"1", db.handle("counts"))
    db.write(batch)
    db.close()
    with pytest.raises(Damaged, match="it holds data and no offsets of the log"):
        Shard(tmp_path / "a", "test 1", ("counts",), 1, 1)
    db = Database(tmp_path / "b", "test 1", ("counts",), 1, 1)
    batch = db.batch()
    batch.put(b"n", b"1", db.handle("counts"))
    batch.delete(b"format")
    db.write(batch)
    db.close()
    with pytest.raises(Damaged, match="it holds data and no format"):
        Database(tmp_path / "b", "test 1", ("counts",), 1, 1)


# --- what can't be rebuilt ------------------------------------------------------------------------------------------


def written(folder: Path, rows: range) -> Whole:
    db = Whole(folder, "test 1", ("a",), 1, 1)
    for i in rows:
        batch = db.batch()
        batch.put(i.to_bytes(8, "big"), b"x" * 1_000, db.handle("a"))
        db.write(batch)
        db.sync()
    return db


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.log", SEAL])
def test_what_was_closed_and_can_not_be_rebuilt_is_refused(tmp_path: Path, pattern: str, damage: str) -> None:
    written(tmp_path / "db", range(100)).close()
    older = Path(shutil.copytree(tmp_path / "db", tmp_path / "older"))
    written(tmp_path / "db", range(100, 200)).close()
    for path in sorted(path for path in (tmp_path / "db").glob(pattern) if path.stat().st_size > 8):
        other = newest(older, pattern)
        folder = Path(shutil.copytree(tmp_path / "db", tmp_path / f"of {path.name}"))
        DAMAGES[damage](folder / path.name, other)
        if (pattern, damage) == (SEAL, "deleted") or (pattern, damage) == (SEAL, "swapped"):
            db = Whole(folder, "test 1", ("a",), 1, 1)  # less is known of it, and it is whole
            assert len(list(db.family("a").keys())) == 200
            db.close()
            continue
        with pytest.raises(Damaged, match=f"^{folder}: is damaged: .*; restore it from a backup"):
            Whole(folder, "test 1", ("a",), 1, 1)


@pytest.mark.parametrize("damage", ["a bit flipped", "the first bits flipped"])
def test_a_bit_flipped_in_the_write_ahead_file_of_one_that_was_killed_is_refused(tmp_path: Path, damage: str) -> None:
    db = written(tmp_path / "live", range(200))
    folder = Path(shutil.copytree(tmp_path / "live", tmp_path / "db"))
    db.close()
    DAMAGES[damage](max(folder.glob("*.log"), key=lambda path: path.stat().st_size), folder)
    with pytest.raises(Damaged, match="checksum mismatch"):
        Whole(folder, "test 1", ("a",), 1, 1)


def test_what_was_synced_before_the_last_seal_is_missed_and_a_torn_tail_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.state.database.SEAL_EVERY_S", -1.0)
    db = written(tmp_path / "live", range(200))
    folder = Path(shutil.copytree(tmp_path / "live", tmp_path / "db"))
    torn = Path(shutil.copytree(tmp_path / "live", tmp_path / "torn"))
    db.close()
    path = max(folder.glob("*.log"), key=lambda path: path.stat().st_size)
    cut(path, -100)
    with pytest.raises(Damaged, match="its last write is number 200, and number 201 was on the disk"):
        Whole(folder, "test 1", ("a",), 1, 1)
    with (torn / path.name).open("ab") as file:
        file.write(b"crc." + (1_000).to_bytes(2, "little") + b"\x01" + b"x" * 300)  # a write that was never whole
    again = Whole(torn, "test 1", ("a",), 1, 1)
    assert len(list(again.family("a").keys())) == 200
    again.close()


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def replaced(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    shutil.copytree(folder.with_name("away"), folder)


@pytest.mark.parametrize("lose", [removed, replaced])
def test_a_view_whose_folder_goes_while_it_is_open_notices_and_leaves_what_lies_there_alone(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    shard = opened(tmp_path / "view")
    apply(shard, 0, 3)
    shard.look()
    assert not shard.damage
    lose(tmp_path / "view")
    shard.look()
    assert "while it was in use" in shard.damage
    assert shard.dead
    assert not (tmp_path / "view" / DAMAGED).exists()
    shard.close()
    gc.collect()
    again = opened(tmp_path / "view")
    apply(again)
    assert counted(again) == 10 * ROUNDS
    again.close()


@pytest.mark.parametrize("lose", [removed, replaced])
def test_a_log_acknowledges_nothing_once_its_folder_is_gone(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    log = Whole(tmp_path / "log", "test 1", ("counts",), 1, 1)
    log.sync()
    lose(tmp_path / "log")
    with pytest.raises(Damaged, match="while it was in use"):
        log.sync()
    log.abandon()


def test_damage_that_a_reader_meets_is_noted_once(tmp_path: Path) -> None:
    shard = opened(tmp_path / "view")
    shard.noticed(ValueError("not this"))
    assert not shard.damage
    shard.noticed(Damaged("a page holds what it can't"))
    shard.noticed(Damaged("another"))
    assert "a page holds what it can't" in (tmp_path / "view" / DAMAGED).read_text()
    assert "another" not in shard.damage
    shard.close()
