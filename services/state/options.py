"""How RocksDB keeps a database: its memtables, levels, compression and threads."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options

MEMTABLE_BLOOM = 0.005  # of a memtable, for its bloom filter: 80 KB of 16 MB, 4 to 10 bits a key
FILES_STOP = 36  # in level 0; RocksDB would slow writes down from 20 on, which is refused as a stall is
LEVEL0_FILES = 4  # in level 0, of a memtable each, are compacted together
_TRACKING = """[Version]
  rocksdb_version=9.8.4
  options_file_version=1.1
[DBOptions]
  track_and_verify_wals_in_manifest=true
[CFOptions "default"]
[TableOptions/BlockBasedTable "default"]
"""


def leveled(options: Options, memtable_mb: int) -> None:
    """Level 0 and the first level below are of one size, and each further level is ten times the one before."""
    options.set_level_zero_file_num_compaction_trigger(LEVEL0_FILES)
    options.set_max_bytes_for_level_base(LEVEL0_FILES * memtable_mb << 20)
    options.set_compression_type(DBCompressionType.lz4())


@dataclass(frozen=True, slots=True)
class Tuning:
    """compaction_threads: that compact a database in parallel. levels: sets the options of the levels, given the size of a
    memtable in MB.
    """

    compaction_threads: int = 1
    levels: Callable[[Options, int], None] = leveled


DEFAULT = Tuning()


def made(cache_mb: int, memtable_mb: int, loses_nothing: bool, tuning: Tuning) -> tuple[Options, Options]:
    """Of families that are asked for single keys, and of those that are read in order; they share one block cache.

    A block out of the cache is read and decompressed for one key. Of LZ4 that costs no more than finding the key in a
    block that is cached; of zstd it doubled the time (5.7 us a key instead of 3.3), for two thirds of the bytes. A full
    memtable without the key costs 1.3 us of that, unless its bloom filter says so.
    """
    table = BlockBasedOptions()
    table.set_block_cache(Cache(cache_mb << 20))
    table.set_bloom_filter(10, False)
    alone, in_order = _family(memtable_mb, tuning), _family(memtable_mb, tuning)
    in_order.set_bottommost_compression_type(DBCompressionType.zstd())
    for options in (alone, in_order):
        options.set_block_based_table_factory(table)
        if loses_nothing:  # else it ends at the damage, which is right where data and offsets end together
            options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return alone, in_order


def background_jobs(compaction_threads: int) -> int:
    """RocksDB's number of background jobs with so many compactions among them: it keeps a quarter, at least one, for flushes."""
    return next(jobs for jobs in count(2) if jobs - max(1, jobs // 4) >= compaction_threads)


def _family(memtable_mb: int, tuning: Tuning) -> Options:
    options = _tracking_options()
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_size(memtable_mb << 20)
    options.set_max_write_buffer_number(2)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_level_zero_slowdown_writes_trigger(FILES_STOP)
    options.set_level_zero_stop_writes_trigger(FILES_STOP)
    options.set_max_background_jobs(background_jobs(tuning.compaction_threads))
    options.set_max_subcompactions(tuning.compaction_threads)
    options.set_max_open_files(512)
    options.set_keep_log_file_num(2)
    tuning.levels(options, memtable_mb)
    return options


def _tracking_options() -> Options:
    """Options of RocksDB that refuse a folder which lacks a closed write-ahead file: there is no setter for that one."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "OPTIONS-000001").write_text(_TRACKING)
        (Path(folder) / "rocksdict-config.json").write_text('{"raw_mode":true,"prefix_extractors":{}}')
        options, _ = Options.load_latest(folder)
    return options
