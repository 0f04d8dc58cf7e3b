"""A database folder: one holder, one format, and what a full disk does to it."""

import gc
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from rocksdict import BottommostLevelCompaction, CompactOptions

from services.core.errors import Damaged, Exhausted
from services.state.database import Database, HeldElsewhere, WrongFormat
from tests.services.children import child, read_line, small_disk


def open_db(folder: Path, form: str = "test 1", families: tuple[str, ...] = ("a", "b")) -> Database:
    return Database(folder, form, families, cache_mb=1, memtable_mb=1)


def put(db: Database, key: bytes, value: bytes, family: str = "a") -> None:
    batch = db.batch()
    batch.put(key, value, db.handle(family))
    db.write(batch)


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    for i in range(3):
        db = open_db(tmp_path / "db")
        put(db, b"%d" % i, b"v")
        assert list(db.family("a").keys()) == [b"%d" % j for j in range(i + 1)]
        assert list(db.family("b").keys()) == []
        db.sync()
        assert not db.dead
        db.close()


def test_a_family_that_is_read_in_order_is_compressed_harder(tmp_path: Path) -> None:
    db = Database(tmp_path / "db", "test 1", ("alone", "in order"), 1, 1, in_order=("in order",))
    to_the_bottom = CompactOptions()
    to_the_bottom.set_bottommost_level_compaction(BottommostLevelCompaction.force())
    for family in ("alone", "in order"):
        for start in range(0, 20_000, 1_000):
            batch = db.batch()
            for i in range(start, start + 1_000):
                batch.put(i.to_bytes(8), b"a pin with the number %d" % i * 4, db.handle(family))
            db.write(batch)
        db.family(family).raw.flush()
        db.family(family).raw.compact_range(None, None, to_the_bottom)
    stored = {
        name: db.family(name).raw.property_int_value("rocksdb.total-sst-files-size") for name in ("alone", "in order")
    }
    assert stored["in order"] < 0.75 * stored["alone"]
    db.close()


def test_another_format_is_refused_with_both_and_the_folder_let_go(tmp_path: Path) -> None:
    open_db(tmp_path / "db").close()
    with pytest.raises(WrongFormat, match="db: was written as 'test 1', this process reads 'test 2'; run the version"):
        open_db(tmp_path / "db", "test 2")
    open_db(tmp_path / "db").close()


def test_a_version_with_more_column_families_is_another_version(tmp_path: Path) -> None:
    open_db(tmp_path / "db", families=("a", "b", "later")).close()
    with pytest.raises(WrongFormat, match="was written by another version .*later"):
        open_db(tmp_path / "db")


def test_held_by_this_process_is_refused(tmp_path: Path) -> None:
    db = open_db(tmp_path / "db")
    with pytest.raises(HeldElsewhere, match="db: held by another running process"):
        open_db(tmp_path / "db")
    db.close()
    open_db(tmp_path / "db").close()


def test_held_by_another_process_is_refused_until_that_is_gone(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from services.state.database import Database

        db = Database(Path(sys.argv[1]), "test 1", ("a", "b"), 1, 1)
        print("open", flush=True)
        sys.stdin.read()
    """
    with child(code, tmp_path / "db") as holder:
        assert read_line(holder) == "open"
        with pytest.raises(HeldElsewhere, match="held by another running process .* use another folder"):
            open_db(tmp_path / "db")
        holder.kill()
        holder.wait()
        open_db(tmp_path / "db").close()


def test_a_damaged_folder_is_not_taken_for_a_held_one(tmp_path: Path) -> None:
    """RocksDB's words for damage are full of blocks, and a path may hold a lock."""
    folder = tmp_path / "locker"
    open_db(folder).close()
    for manifest in folder.glob("MANIFEST-*"):
        manifest.write_bytes(b"damaged block " * 200)
    with pytest.raises(Damaged, match="locker: is damaged: Corruption: "):
        open_db(folder)


def test_a_full_disk_is_said_and_a_dead_database_still_reads(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        db, written = open_db(disk.path / "db"), 0
        with pytest.raises(Exhausted, match="db: the disk is full; nothing was written"):
            while True:
                put(db, b"%06d" % written, os.urandom(10_000))
                written += 1
        assert db.dead
        assert written > 0
        for _ in range(3):
            with suppress(Exhausted):  # and nothing else; RocksDB's message depends on how far its recovery has come
                put(db, b"refused", b"v")
            with suppress(Exhausted):
                db.sync()
        disk.resize(64)
        assert db.dead, "whether RocksDB recovers or not: only a folder that was opened again is known to be whole"
        assert db.family("a").get(b"000000") is not None, "reads go on"
        db.close()
        db = open_db(disk.path / "db")
        assert not db.dead
        kept = [key for key in db.family("a").keys() if key != b"refused"]  # noqa: SIM118 - it is no dict
        assert kept == [b"%06d" % i for i in range(written)], "what was written, and no more"
        put(db, b"k", b"v")
        db.sync()
        db.close()


def test_writes_faster_than_the_disk_wait_their_turn_while_other_threads_go_on(tmp_path: Path) -> None:
    """Sixty memtables as fast as can be: RocksDB must flush in between, and none is refused."""
    db, value, done = open_db(tmp_path / "db"), os.urandom(1 << 18), threading.Event()

    def write() -> None:
        for i in range(240):
            put(db, b"%06d" % i, value)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 10, "the process did not stand still"
    assert len(list(db.family("a").keys())) == 240
    db.close()


def test_a_folder_on_a_full_disk_is_refused_plainly(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk.path / "other").write_bytes(bytes(disk.free()))
        with pytest.raises(Exhausted, match="db: the disk is full"):
            open_db(disk.path / "db")
        (disk.path / "other").unlink()
        gc.collect()
        open_db(disk.path / "db").close()


def test_damage_that_a_compaction_meets_is_damage_for_the_next_write(tmp_path: Path) -> None:
    """Else every write would fail as if it could be made later, and the folder never be opened anew."""

    def opened() -> Database:
        return Database(tmp_path, "form 1", ["a"], 1, 1)

    database = opened()
    for turn in range(3):
        batch = database.batch()
        for key in range(3_000):
            batch.put(key.to_bytes(8, "big"), bytes([turn]) * 50, database.handle("a"))
        database.write(batch)
        database.family("a").raw.flush()
    database.close()
    victim = max(tmp_path.rglob("*.sst"), key=lambda path: path.stat().st_size)
    whole = bytearray(victim.read_bytes())
    at = len(whole) // 2
    whole[at : at + 64] = bytes(byte ^ 0xFF for byte in whole[at : at + 64])
    victim.write_bytes(whole)

    database = opened()
    database.family("a").raw.compact_range(None, None)  # says nothing
    batch = database.batch()
    batch.put(b"k", b"v", database.handle("a"))
    with pytest.raises(Damaged, match="is damaged: Corruption"):
        database.write(batch)
    assert "Corruption" in database.damage
    database.abandon()
