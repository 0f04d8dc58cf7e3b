"""Beliefs of Feedmesh about RocksDB and rocksdict (DESIGN.md, section 5), one test a fact.

When an upgrade breaks one of these, the code that builds on it is wrong before any of its own tests say so.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rocksdict
from rocksdict import (
    Checkpoint,
    IngestExternalFileOptions,
    Options,
    PlainTableFactoryOptions,
    Rdict,
    ReadOptions,
    SliceTransform,
    SstFileWriter,
    WriteBatch,
)

from tests.assumptions.rocksdb import key, options

# --- reading --------------------------------------------------------------------------------------------------------


def test_a_snapshot_shows_what_was_written_after_it(tmp_path: Path) -> None:
    """So two scans as of one write can't be had by it: services/state/family.py compares sequence numbers instead."""
    db = Rdict(str(tmp_path / "db"), options(), column_families={"a": options()})
    family = db.get_column_family("a")
    family.put(key(1), b"v")
    snapshot, scan, before = family.snapshot(), family.items(), family.latest_sequence_number()
    family.put(key(2), b"v")
    assert [found for found, _ in scan] == [key(1)]
    assert [found for found, _ in snapshot.items()] == [key(1), key(2)]
    assert family.latest_sequence_number() > before
    del snapshot, scan
    db.close()


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


# --- holding the GIL ------------------------------------------------------------------------------------------------


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


def test_a_checkpoint_flushes_and_holds_the_gil_meanwhile_and_a_flush_does_not(db: Any, tmp_path: Path) -> None:
    """So all is flushed before a checkpoint is made, which is then a matter of links."""
    db.set_options({"write_buffer_size": str(256 << 20)})

    def fill() -> None:
        for i in range(20_000):
            db.put(key(i), os.urandom(1_500))

    fill()
    took, frozen = longest_freeze(lambda: Checkpoint(db).create_checkpoint(str(tmp_path / "one")))
    assert frozen > took / 2
    fill()
    took, frozen = longest_freeze(db.flush)
    assert frozen < took / 2
    links, _ = longest_freeze(lambda: Checkpoint(db).create_checkpoint(str(tmp_path / "two")))
    assert links < took
    newest = max((tmp_path / "two").glob("*.sst"))
    assert newest.stat().st_nlink == 2, "sorted files are links"
    names = {re.sub(r"\d+", "N", path.name) for path in (tmp_path / "two").iterdir()}
    assert names <= {"N.sst", "N.log", "CURRENT", "MANIFEST-N", "OPTIONS-N", "rocksdict-config.json"}


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


def test_the_filter_of_a_memtable_hides_neither_what_is_in_it_nor_a_range_deleted(tmp_path: Path) -> None:
    filtered = options()
    filtered.set_memtable_whole_key_filtering(True)
    filtered.set_memtable_prefix_bloom_ratio(0.005)
    db = Rdict(str(tmp_path / "db"), filtered)
    for i in range(1_000):
        db.put(key(i), b"old")
    db.flush()
    db.delete_range(key(100), key(200))
    db.put(key(150), b"new")
    expected = [b"new" if i == 150 else None if 100 <= i < 200 or i >= 1_000 else b"old" for i in range(1_100)]
    assert db.get([key(i) for i in range(1_100)]) == [db.get(key(i)) for i in range(1_100)] == expected
    assert [i for i, _ in enumerate(db.items())] == list(range(901))
    db.close()


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


def sorted_file(path: Path, start: int, stop: int, value: bytes) -> Path:
    writer = SstFileWriter(options=Options(raw_mode=True))
    writer.open(str(path))
    for i in range(start, stop):
        writer[key(i)] = value
    writer.finish()
    return path


def test_a_linked_file_is_moved_into_one_column_family_and_its_original_stays_as_it_is(db: Any, tmp_path: Path) -> None:
    """So a bulk load is taken without a copy, and its files take it again on a shard that lost its folder."""
    bulk, taken = sorted_file(tmp_path / "bulk.sst", 0, 1_000, b"bulk"), tmp_path / "db" / "taken.sst"
    before, a = bulk.read_bytes(), db.get_column_family("a")
    move = IngestExternalFileOptions()
    move.set_move_files(True)
    for _ in range(2):  # the second time over the same keys, as after a kill
        os.link(bulk, taken)
        a.ingest_external_file([str(taken)], move)
        assert not taken.exists()
        assert list(a.items()) == [(key(i), b"bulk") for i in range(1_000)]
        assert bulk.read_bytes() == before
    assert list(db.get_column_family("b").keys()) == list(db.keys()) == []


def test_what_is_ingested_is_seen_over_a_range_that_was_deleted_before(db: Any, tmp_path: Path) -> None:
    bulk = sorted_file(tmp_path / "bulk.sst", 0, 10, b"bulk")
    db.ingest_external_file([str(bulk)])
    batch = WriteBatch(raw_mode=True)
    batch.delete_range(key(0), key(9))
    db.write(batch)
    assert list(db.keys()) == [key(9)]
    db.ingest_external_file([str(bulk)])
    assert list(db.keys()) == [key(i) for i in range(10)]


def test_a_file_that_is_cut_or_not_there_is_refused_and_writes_go_on(db: Any, tmp_path: Path) -> None:
    bulk = sorted_file(tmp_path / "bulk.sst", 0, 10, b"bulk")
    bulk.write_bytes(bulk.read_bytes()[:-9])
    for path, said in ((bulk, "Corruption"), (tmp_path / "none.sst", "No such file")):
        with pytest.raises(Exception, match=said):
            db.ingest_external_file([str(path)])
    db.put(key(1), b"v")
    assert list(db.keys()) == [key(1)]


def test_sorted_files_are_written_in_order_and_are_never_empty(tmp_path: Path) -> None:
    writer = SstFileWriter(options=Options(raw_mode=True))
    writer.open(str(tmp_path / "disorder.sst"))
    writer[key(2)] = b""
    with pytest.raises(Exception, match="strict ascending order"):
        writer[key(2)] = b""
    with pytest.raises(Exception, match="no entries"):
        sorted_file(tmp_path / "empty.sst", 0, 0, b"")


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
