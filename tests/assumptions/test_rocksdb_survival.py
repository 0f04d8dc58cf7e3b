"""Data in RocksDB survive: kill -9, a copy, a second process, a full disk (DESIGN.md, section 5)."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rocksdict
from rocksdict import (
    AccessType,
    Checkpoint,
)

from tests.assumptions.rocksdb import key, open_db, run_child

# --- surviving ------------------------------------------------------------------------------------------------------

WRITER = """
    import sys
    from rocksdict import Options, Rdict, WriteBatch

    o = Options(raw_mode=True)
    o.create_if_missing(True)
    o.create_missing_column_families(True)
    db = Rdict(sys.argv[1], o, column_families={"a": o, "b": o})
    a, b = (db.get_column_family_handle(name) for name in "ab")
    i = 0
    while True:
        batch = WriteBatch(raw_mode=True)
        batch.put(i.to_bytes(8, "big"), b"v" * 300, a)
        batch.put(i.to_bytes(8, "big"), b"w" * 300, b)
        batch.put(b"offset", i.to_bytes(8, "big"))
        db.write(batch)
        i += 1
        if i == 2000:
            print("ready", flush=True)
"""


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1])
def test_batches_over_column_families_are_all_or_nothing_after_kill_9(tmp_path: Path, wait: float) -> None:
    """Killed in the middle of unsynced writes: every batch is there whole or not at all, in order, and all that were
    written before the kill are there, since an unsynced write has reached the operating system."""
    child = run_child(WRITER, tmp_path / "db", ready="ready")
    assert isinstance(child, subprocess.Popen)
    time.sleep(wait)  # only spreads the moment of the kill; any moment must do
    child.send_signal(signal.SIGKILL)
    child.communicate()
    db = open_db(tmp_path / "db", "a", "b")
    last = int.from_bytes(db.get(b"offset"), "big")
    assert last >= 1_999
    for name in "ab":
        assert list(db.get_column_family(name).keys()) == [key(i) for i in range(last + 1)]
    db.close()


def test_an_unsynced_write_is_in_the_wal_file_at_once(db: Any) -> None:
    """No manual WAL flush by default: written data are the operating system's, and only a power cut can lose them."""

    def wal_bytes() -> int:
        return sum(path.stat().st_size for path in Path(db.path()).glob("*.log"))

    before = wal_bytes()
    db.put(b"k", b"v" * 1_000)
    assert wal_bytes() >= before + 1_000


def test_flush_wal_with_sync_syncs_the_wal_file(tmp_path: Path) -> None:
    """A power cut can't be tested here, so: the kernel is asked to sync, and only on request."""
    if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
        pytest.skip("needs strace")
    code = """
        import os, sys
        from rocksdict import Options, Rdict

        o = Options(raw_mode=True)
        o.create_if_missing(True)
        db = Rdict(sys.argv[1], o)
        os.path.exists("/mark-write")
        db.put(b"k", b"v")
        os.path.exists("/mark-flush")
        db.flush_wal(True)
        os.path.exists("/mark-end")
        os._exit(0)
    """
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,stat,newfstatat,statx"
    command = ["strace", "-f", "-o", str(trace), "-e", calls, sys.executable, "-c", textwrap.dedent(code)]
    if subprocess.run([*command, str(tmp_path / "db")], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    _, after = trace.read_text().split("/mark-write")
    write, after = after.split("/mark-flush")
    assert "sync(" not in write
    assert "sync(" in after.split("/mark-end")[0]


def test_a_checkpoint_is_a_consistent_copy_that_opens_on_its_own(db: Any, tmp_path: Path) -> None:
    family = db.get_column_family("a")
    for i in range(1_000):
        family.put(key(i), b"before")
    db.put(b"offset", key(999))
    Checkpoint(db).create_checkpoint(str(tmp_path / "copy"))
    family.put(key(0), b"after")
    family.put(key(5_000), b"after")
    copy = open_db(tmp_path / "copy", "a", "b")
    assert copy.get(b"offset") == key(999)
    assert list(copy.get_column_family("a").items()) == [(key(i), b"before") for i in range(1_000)]
    copy.put(b"offset", key(1))
    assert db.get(b"offset") == key(999)
    copy.close()
    with pytest.raises(Exception, match="exists"):
        Checkpoint(db).create_checkpoint(str(tmp_path / "copy"))


def test_a_second_process_may_read_but_not_write(db: Any) -> None:
    db.put(b"k", b"v")
    code = """
        import sys
        from rocksdict import AccessType, Options, Rdict

        try:
            Rdict(sys.argv[1], Options(raw_mode=True))
        except Exception as refused:
            print(refused)
        reader = Rdict(sys.argv[1], Options(raw_mode=True), access_type=AccessType.read_only(False))
        print(reader.get(b"k"))
    """
    child = run_child(code, db.path())
    assert isinstance(child, subprocess.CompletedProcess)
    refused, read = child.stdout.splitlines()
    assert refused.startswith("IO error: While lock file: ")
    assert refused.endswith("/LOCK: Resource temporarily unavailable")
    assert read == "b'v'"
    assert AccessType.read_write() is not None


@pytest.mark.parametrize("kind", ["get_column_family", "get_column_family_handle", "items", "snapshot", "checkpoint"])
def test_whatever_was_made_from_a_database_keeps_it_open_after_close(tmp_path: Path, kind: str) -> None:
    """close() closes only when nothing else holds the database: drop handles, iterators and snapshots before."""
    db = open_db(tmp_path / "db", "a")
    make: dict[str, Callable[[], Any]] = {
        "get_column_family": lambda: db.get_column_family("a"),
        "get_column_family_handle": lambda: db.get_column_family_handle("a"),
        "items": db.items,
        "snapshot": db.snapshot,
        "checkpoint": lambda: Checkpoint(db),
    }
    held = make[kind]()
    db.close()
    with pytest.raises(rocksdict.DbClosedError):
        db.get(b"k")
    with pytest.raises(Exception, match="lock hold by current process"):
        open_db(tmp_path / "db", "a")
    del held
    gc.collect()
    open_db(tmp_path / "db", "a").close()


def test_a_full_disk_ends_the_handle_until_it_is_opened_again(tmp_path: Path) -> None:
    """The first failed write says so; every later one is refused, also with space again, and close() raises. After
    opening it again, exactly the writes that were acknowledged are there."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small filesystem, so root")
    try:
        written: list[bytes] = []
        db = open_db(mount / "db", "a")

        def fill() -> None:
            while True:
                db.put(key(len(written)), os.urandom(10_000))
                written.append(key(len(written)))

        with pytest.raises(Exception, match="IO error: No space left on device"):
            fill()
        assert db.get(key(0)) is not None, "it still reads"
        subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
        for call in (lambda: db.put(b"k", b"v"), lambda: db.flush_wal(True), lambda: db.put(b"k", b"v"), db.close):
            with pytest.raises(Exception, match=r"IO error: (No space left on device|Writer has previous error)"):
                call()
        db = open_db(mount / "db", "a")
        assert list(db.keys()) == written
        db.put(b"k", b"v")
        db.flush_wal(True)
        db.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
