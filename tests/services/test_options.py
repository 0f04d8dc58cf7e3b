"""The options of RocksDB, as an open database has them."""

from pathlib import Path

import pytest
from rocksdict import DBCompressionType, Options

from services.state.database import Database
from services.state.options import Tuning, background_jobs
from tests.services.rocksdb_options import stated
from tests.services.test_database import put


def opened(folder: Path, memtable_mb: int = 1, tuning: Tuning = Tuning()) -> Database:  # noqa: B008 - it can't change
    return Database(folder, "test 1", ("alone", "in order"), 1, memtable_mb, in_order=("in order",), tuning=tuning)


@pytest.mark.parametrize("memtable_mb", [1, 16, 64])
def test_the_first_level_has_the_size_at_which_level_0_is_compacted(tmp_path: Path, memtable_mb: int) -> None:
    opened(tmp_path / "db", memtable_mb).close()
    for name in ("default", "alone", "in order"):
        family = stated(tmp_path / "db")[f'CFOptions "{name}"']
        memtable, files = int(family["write_buffer_size"]), int(family["level0_file_num_compaction_trigger"])
        assert memtable == memtable_mb << 20
        assert int(family["max_bytes_for_level_base"]) == memtable * files
        assert family["level_compaction_dynamic_level_bytes"] == "true"


def test_only_families_that_are_read_in_order_are_compressed_with_zstd(tmp_path: Path) -> None:
    opened(tmp_path / "db").close()
    found = stated(tmp_path / "db")
    assert found['CFOptions "in order"']["bottommost_compression"] == "kZSTD"
    assert found['CFOptions "alone"']["bottommost_compression"] == "kDisableCompressionOption"
    for name in ("alone", "in order"):
        assert "ZSTD" not in found[f'CFOptions "{name}"']["compression"]
        assert "ZSTD" not in found[f'CFOptions "{name}"'].get("compression_per_level", "")


@pytest.mark.parametrize(("threads", "jobs"), [(1, 2), (2, 3), (3, 4), (6, 7), (7, 9)])
def test_threads_that_compact_are_jobs_beside_those_that_flush(tmp_path: Path, threads: int, jobs: int) -> None:
    assert background_jobs(threads) == jobs
    opened(tmp_path / "db", tuning=Tuning(threads)).close()
    found = stated(tmp_path / "db")["DBOptions"]
    assert found["max_background_jobs"] == str(jobs)
    assert found["max_subcompactions"] == str(threads)


def test_a_folder_of_other_levels_is_opened_and_has_these_from_then_on(tmp_path: Path) -> None:
    def before(options: Options, memtable_mb: int) -> None:
        options.set_max_bytes_for_level_base(256 << 20)
        options.set_compression_type(DBCompressionType.lz4())

    db = opened(tmp_path / "db", tuning=Tuning(levels=before))
    put(db, b"key", b"value", "alone")
    db.close()
    assert stated(tmp_path / "db")['CFOptions "alone"']["max_bytes_for_level_base"] == str(256 << 20)
    db = opened(tmp_path / "db")
    assert db.family("alone").get(b"key") == b"value"
    put(db, b"other", b"value", "alone")
    db.close()
    opened(tmp_path / "new").close()
    assert stated(tmp_path / "db")['CFOptions "alone"'] == stated(tmp_path / "new")['CFOptions "alone"']
