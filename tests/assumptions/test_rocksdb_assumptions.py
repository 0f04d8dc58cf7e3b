"""What Feedmesh believes of RocksDB and rocksdict (DESIGN.md, section 5), one test a fact.

When an upgrade breaks one of these, the code that builds on it is wrong before any of its own tests say so.
"""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rocksdict
from rocksdict import (
    AccessType,
    Checkpoint,
    Options,
    PlainTableFactoryOptions,
    Rdict,
    ReadOptions,
    SliceTransform,
    SstFileWriter,
    WriteBatch,
)


def options() -> Any:
    made = Options(raw_mode=True)
    made.create_if_missing(True)
    made.create_missing_column_families(True)
    return made


def open_db(path: Path | str, *families: str) -> Any:
    return Rdict(str(path), options(), column_families={name: options() for name in families})


def key(i: int) -> bytes:
    return i.to_bytes(8, "big")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Any]:
    opened = open_db(tmp_path / "db", "a", "b")
    yield opened
    opened.close()


def run_child(code: str, *args: object, ready: str = "") -> subprocess.CompletedProcess[str] | subprocess.Popen[str]:
    """Run Python code in a process of its own; with `ready`, until it has printed that, and it still lives."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    if not ready:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == ready:
            return child
    raise AssertionError(f"the child ended without saying {ready!r}")


# --- reading --------------------------------------------------------------------------------------------------------


def test_get_of_a_list_is_single_gets_with_none_for_the_missing(db: Any) -> None:
    for i in range(0, 100, 2):
        db.put(key(i), b"v%d" % i)
    keys = [key(i) for i in (4, 5, 98, 4, 99)]
    assert db.get(keys) == [db.get(k) for k in keys] == [b"v4", None, b"v98", b"v4", None]
    assert db.get([]) == []
    with pytest.raises(KeyError):  # only a list is a batch
        db.get((key(4),))


def test_raw_mode_takes_bytes_and_nothing_else(db: Any) -> None:
    for other in ("text", 1, bytearray(b"x"), memoryview(b"x")):
        with pytest.raises(KeyError, match="raw mode only support bytes"):
            db.put(other, b"v")
        with pytest.raises(ValueError, match="raw mode only support bytes"):
            db.put(b"k", other)


def test_iteration_is_in_byte_order_from_a_key_up_to_a_bound(db: Any) -> None:
    numbers = [0, 1, 255, 256, 2**63, 2**64 - 1]
    for i in reversed(numbers):
        db.put(key(i), b"")
    assert list(db.keys()) == [key(i) for i in numbers]
    assert [k for k, _ in db.items(from_key=key(2))] == [key(i) for i in numbers[2:]]
    assert list(db.keys(backwards=True, from_key=key(300))) == [key(i) for i in (256, 255, 1, 0)]
    until = ReadOptions()
    until.set_iterate_upper_bound(key(256))
    assert list(db.keys(from_key=key(1), read_opt=until)) == [key(1), key(255)]


def test_an_iterator_is_a_consistent_view_from_the_moment_it_is_made(db: Any) -> None:
    db.put(b"k1", b"old")
    db.put(b"k3", b"old")
    before = db.items()
    from_key = db.items(from_key=b"k2")
    db.put(b"k1", b"new")
    db.put(b"k2", b"new")
    db.delete(b"k3")
    assert list(before) == [(b"k1", b"old"), (b"k3", b"old")]
    assert list(from_key) == [(b"k3", b"old")]


def test_a_snapshot_is_consistent_for_gets_but_not_for_iteration(db: Any) -> None:
    """rocksdict 0.3.29: iterating a Snapshot shows later writes. So a consistent scan is one iterator of the database,
    and one over several column families makes all its iterators while nothing writes."""
    family = db.get_column_family("a")
    family.put(b"k1", b"old")
    family.put(b"k3", b"old")
    snapshot = family.snapshot()
    family.put(b"k1", b"new")
    family.put(b"k2", b"new")
    family.delete(b"k3")
    assert snapshot[b"k1"] == snapshot[b"k3"] == b"old"
    with pytest.raises(Exception, match="key not found"):
        snapshot[b"k2"]
    later = [(b"k1", b"new"), (b"k2", b"new")]
    assert list(snapshot.items()) == later, "fixed upstream? then checkpoints and audits may scan snapshots"
    assert list(snapshot.items(from_key=b"k2")) == later[1:]
    assert not hasattr(snapshot, "get"), "a snapshot has no batched get"


def test_column_families_may_be_scanned_by_threads_while_another_writes(db: Any) -> None:
    family = db.get_column_family("a")
    for i in range(5_000):
        family.put(key(i), b"v")
    counts: list[int] = []

    def scan() -> None:
        counts.append(sum(1 for _ in db.get_column_family("a").items()))

    def write() -> None:
        for i in range(5_000):
            family.put(key(10**6 + i), b"v")

    threads = [threading.Thread(target=target) for target in (scan, write, scan, scan)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 3
    assert all(5_000 <= count <= 10_000 for count in counts)


# --- who holds the GIL ----------------------------------------------------------------------------------------------


def longest_freeze(call: Callable[[], object]) -> tuple[float, float]:
    """How long `call` took, and the longest that a second Python thread stood still within it; seconds."""
    stop, spinning = threading.Event(), threading.Event()
    freezes: list[tuple[float, float]] = []

    def spin() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            now = time.perf_counter()
            if now - last > 1e-3:
                freezes.append((last, now))
            last = now
            spinning.set()

    thread = threading.Thread(target=spin)
    thread.start()
    spinning.wait()
    start = time.perf_counter()
    call()
    end = time.perf_counter()
    stop.set()
    thread.join()
    return end - start, max((min(end, b) - max(start, a) for a, b in freezes), default=0.0)


def frozen_share(prepare: Callable[[], Callable[[], object]]) -> list[float]:
    """The longest freeze as a share of the call, in five tries, least first. Within one try a call that releases the
    GIL can look as if it held it, when the machine is busy; one that holds it never looks as if it released it."""
    shares = []
    for _ in range(5):
        call = prepare()
        took, freeze = longest_freeze(call)
        shares.append(freeze / took)
    return sorted(shares)


def batch_of(megabytes: int) -> Any:
    batch, value = WriteBatch(raw_mode=True), os.urandom(1 << 20)
    for i in range(megabytes):
        batch.put(key(i), value)
    return batch


def test_a_batched_get_releases_the_gil(db: Any) -> None:
    keys = [key(i) for i in range(100_000)]
    batch = WriteBatch(raw_mode=True)
    for k in keys:
        batch.put(k, b"value")
    db.write(batch)
    assert frozen_share(lambda: lambda: db.get(keys))[0] < 0.5


def test_a_write_holds_the_gil(db: Any) -> None:
    def write() -> Callable[[], object]:
        batch = batch_of(32)
        return lambda: db.write(batch)

    assert frozen_share(write)[2] > 0.5


def test_a_put_holds_the_gil(db: Any) -> None:
    value = os.urandom(32 << 20)
    assert frozen_share(lambda: lambda: db.put(b"k", value))[2] > 0.5


def test_flushing_the_wal_to_disk_releases_the_gil(db: Any) -> None:
    """So: write unsynced, flush_wal(True) in a thread, then acknowledge."""

    def flush() -> Callable[[], object]:
        db.write(batch_of(16))
        return lambda: db.flush_wal(True)

    assert frozen_share(flush)[0] < 0.5


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_batch_addresses_column_families_by_handle_and_is_used_once(db: Any) -> None:
    batch = WriteBatch(raw_mode=True)
    batch.put(b"k", b"in a", db.get_column_family_handle("a"))
    batch.set_default_column_family(db.get_column_family_handle("b"))
    batch.put(b"k", b"in b")
    batch.put(b"gone", b"x")
    batch.delete(b"gone")
    assert batch.len() == 4
    db.write(batch)
    assert [db.get_column_family(name).get(b"k") for name in ("a", "b")] == [b"in a", b"in b"]
    assert db.get(b"k") is None
    assert db.get_column_family("b").get(b"gone") is None
    with pytest.raises(Exception, match="already consumed"):
        db.write(batch)


def test_ranges_are_deleted_from_the_first_key_to_before_the_last(db: Any) -> None:
    for i in range(10):
        db.put(key(i), b"v")
    db.delete_range(key(2), key(4))
    assert list(db.keys()) == [key(i) for i in (0, 1, *range(4, 10))]
    batch = WriteBatch(raw_mode=True)
    batch.delete_range(key(4), key(9))
    batch.put(key(5), b"later in the batch")
    db.write(batch)
    assert list(db.keys()) == [key(i) for i in (0, 1, 5, 9)]


def test_sorted_files_are_ingested_over_what_is_there(db: Any, tmp_path: Path) -> None:
    db.put(key(1), b"old")
    writer = SstFileWriter(options=Options(raw_mode=True))
    writer.open(str(tmp_path / "bulk.sst"))
    for i in range(1_000):
        writer[key(i)] = b"bulk"
    writer.finish()
    db.ingest_external_file([str(tmp_path / "bulk.sst")])
    assert list(db.keys()) == [key(i) for i in range(1_000)]
    assert db.get(key(1)) == b"bulk"


def test_there_are_no_merge_operators_no_wal_tailing_and_no_manual_wal_flush() -> None:
    """So fresh data is appended under small keys and compacted, and replication follows the log, not the WAL."""
    for name in ("merge", "get_updates_since", "transaction"):
        assert not hasattr(Rdict, name)
        assert not hasattr(WriteBatch, name)
    for name in ("set_merge_operator", "set_merge_operator_associative", "set_compaction_filter"):
        assert not hasattr(Options, name)
    assert not hasattr(Options, "set_manual_wal_flush")
    assert not any("transaction" in name.lower() for name in dir(rocksdict))


def test_plain_tables_and_hash_indexes_can_be_asked_for(tmp_path: Path) -> None:
    plain = options()
    plain.set_prefix_extractor(SliceTransform.create_fixed_prefix(4))
    plain.set_allow_mmap_reads(True)
    table = PlainTableFactoryOptions()
    table.user_key_length = 8
    plain.set_plain_table_factory(table)
    db = Rdict(str(tmp_path / "plain"), plain)
    db.put(key(7), b"v")
    db.flush()
    assert db.get(key(7)) == b"v"
    db.close()


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
    """No manual WAL flush by default: what is written is the operating system's, and only a power cut can lose it."""

    def wal_bytes() -> int:
        return sum(path.stat().st_size for path in Path(db.path()).glob("*.log"))

    before = wal_bytes()
    db.put(b"k", b"v" * 1_000)
    assert wal_bytes() >= before + 1_000


def test_flush_wal_with_sync_syncs_the_wal_file(tmp_path: Path) -> None:
    """What a power cut leaves can't be tested here, so: the kernel is asked to sync, and only when told to."""
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
    """The first failed write says so; every later one is refused, also with room again, and close() raises. After
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
