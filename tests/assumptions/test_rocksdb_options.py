"""Beliefs about RocksDB's levels, compactions and threads, which services/state/options.py sets, and what rocksdict passes on."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rocksdict import DBCompressionType, Rdict

from tests.assumptions.rocksdb import key, options, run_child
from tests.services.rocksdb_options import stated


def filled(db: Any, start: int, stop: int) -> None:
    for i in range(start, stop):
        db.put(key(i * 7919 % 100_000), os.urandom(200))
    db.flush()


def test_levels_are_sized_from_the_last_one_unless_told_otherwise(tmp_path: Path) -> None:
    Rdict(str(tmp_path / "db"), options()).close()
    family = stated(tmp_path / "db")['CFOptions "default"']
    assert family["level_compaction_dynamic_level_bytes"] == "true"
    assert family["max_bytes_for_level_base"] == str(256 << 20)
    assert family["level0_file_num_compaction_trigger"] == "4"


def test_a_folder_takes_the_options_with_which_it_is_opened_again(tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "db"), options(), column_families={"a": options()})
    filled(db.get_column_family("a"), 0, 1_000)
    db.close()
    other = options()
    other.set_write_buffer_size(1 << 20)
    other.set_max_bytes_for_level_base(7 << 20)
    other.set_level_zero_file_num_compaction_trigger(9)
    other.set_compression_per_level([DBCompressionType.none(), DBCompressionType.lz4()])
    other.set_max_background_jobs(5)
    other.set_max_subcompactions(3)
    db = Rdict(str(tmp_path / "db"), other, column_families={"a": other})
    assert sum(1 for _ in db.get_column_family("a").keys()) == 1_000  # noqa: SIM118 - it is no dict
    db.close()
    found = stated(tmp_path / "db")
    assert found["DBOptions"]["max_background_jobs"] == "5"
    assert found["DBOptions"]["max_subcompactions"] == "3"
    for family in ('CFOptions "default"', 'CFOptions "a"'):
        assert found[family]["max_bytes_for_level_base"] == str(7 << 20)
        assert found[family]["level0_file_num_compaction_trigger"] == "9"
        assert found[family]["compression_per_level"] == "kNoCompression:kLZ4Compression"


def test_the_compression_of_each_level_goes_before_that_of_all(tmp_path: Path) -> None:
    """And counts from level 0 and the first level below that is filled: a flush is written as the first one says."""
    made = options()
    made.set_compression_type(DBCompressionType.lz4())
    made.set_compression_per_level([DBCompressionType.none(), DBCompressionType.lz4()])
    db: Any = Rdict(str(tmp_path / "db"), made)
    for i in range(20_000):
        db.put(key(i), b"the same text " * 10)
    db.flush()
    flushed = db.property_int_value("rocksdb.total-sst-files-size")
    db.compact_range(None, None)
    assert db.property_int_value("rocksdb.total-sst-files-size") < flushed / 5
    db.close()


@pytest.mark.parametrize(("jobs", "compactions"), [(2, 1), (3, 2), (4, 3), (8, 6), (9, 7)])
def test_a_quarter_of_the_jobs_are_flushes_and_at_least_one(tmp_path: Path, jobs: int, compactions: int) -> None:
    """RocksDB has a pool of threads for each kind, which live as long as the process: so another process is asked."""
    code = """
        import json, sys
        from collections import Counter
        from pathlib import Path
        from rocksdict import Options, Rdict

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_background_jobs(int(sys.argv[2]))
        db = Rdict(sys.argv[1], options)
        print(json.dumps(Counter(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))))
    """
    found = run_child(code, tmp_path / "db", jobs)
    names = json.loads(str(found.stdout))
    assert names["rocksdb:low"] == compactions
    assert names["rocksdb:high"] == jobs - compactions


def test_the_log_of_a_folder_names_the_size_of_each_file_written_and_why(tmp_path: Path) -> None:
    """By which bench/stores.py counts what flushes and compactions write."""
    made = options()
    made.set_disable_auto_compactions(True)
    db = Rdict(str(tmp_path / "db"), made)
    for i in range(3):
        filled(db, i * 1_000, (i + 1) * 1_000)
    before = {path.name: path.stat().st_size for path in (tmp_path / "db").glob("*.sst")}
    db.compact_range(None, None)
    after = {path.name: path.stat().st_size for path in (tmp_path / "db").glob("*.sst")}
    lines = (tmp_path / "db" / "LOG").read_text().splitlines()
    events = [json.loads(line.partition("EVENT_LOG_v1 ")[2]) for line in lines if "EVENT_LOG_v1 " in line]
    cause = {e["job"]: e["event"] for e in events if e["event"] in ("flush_started", "compaction_started")}
    written = [e for e in events if e["event"] == "table_file_creation"]
    size = {f"{e['file_number']:06d}.sst": e["file_size"] for e in written}
    assert size == before | after
    assert [cause[e["job"]] for e in written] == ["flush_started"] * 3 + ["compaction_started"]
    assert sum(e["event"] == "compaction_finished" for e in events) == 1
    db.close()
