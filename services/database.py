"""A RocksDB folder in raw-bytes mode: opened once, of one format version, with its errors said plainly.

After a failed write, of a full disk above all, RocksDB takes no more writes until the folder is opened again, while
reads go on. So a dead database stays open, and its process ends when there is room to start again.
"""

import shutil
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Env, Options, Rdict, WriteBatch, WriteOptions

from services.errors import Exhausted, MeshError, Unavailable

_FORMAT_KEY = b"format"
_STALL = "Write stall"
STALL_S, FULL_STALL_S, STALL_POLL_S = 60.0, 5.0, 0.002
LITTLE_ROOM = 64 << 20  # bytes free with which a flush is not likely to end
MEMTABLE_BLOOM = 0.005  # of a memtable, for its bloom filter: 80 KB of 16 MB, 4 to 10 bits a key
FILES_STOP = 36  # in level 0; RocksDB would slow writes down from 20 on, which is refused as a stall is
_REMEDY = "run the version and settings that wrote it, or remove the folder of a view and it is rebuilt from the log"


class HeldElsewhere(Unavailable):
    """Another process has this folder open."""


class WrongFormat(MeshError):
    """The folder was written by another format version."""


class Database:
    """One RocksDB with named column families."""

    def __init__(
        self,
        folder: Path,
        form: str,
        families: Iterable[str],
        cache_mb: int,
        memtable_mb: int,
        in_order: Container[str] = (),
    ) -> None:
        """Open or create it. Raises WrongFormat, HeldElsewhere, or Exhausted when the disk is full.

        `in_order`: families that are read in the order of their keys, so that they may be compressed harder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dead = False  # a write failed; nothing can be written until the folder is opened again
        Env().lower_thread_pool_cpu_priority()  # compaction can wait; readers can't, when the cores are busy
        options, packed, names = *_options(cache_mb, memtable_mb), list(families)
        try:
            of = {name: packed if name in in_order else options for name in names}
            self._db = Rdict(str(folder), options, column_families=of)
        except Exception as error:
            raise _open_error(folder, error) from None
        self._families = {name: self._db.get_column_family(name) for name in names}
        self._handles = {name: self._db.get_column_family_handle(name) for name in names}
        self._unsynced, self._asking = WriteOptions(), WriteOptions()
        for written in (self._unsynced, self._asking):  # rocksdict's types take these properties for methods
            written.no_slowdown = True
        self._asking.disable_wal = True  # type: ignore[method-assign, assignment]
        try:
            self._check_format(form)
        except MeshError:
            self.close()
            raise

    def _check_format(self, form: str) -> None:
        found = self._db.get(_FORMAT_KEY)
        if found is None:
            batch = self.batch()
            batch.put(_FORMAT_KEY, form.encode())
            self.write(batch)
        elif found.decode() != form:
            raise WrongFormat(
                f"{self.folder}: was written as {found.decode()!r}, this process reads {form!r}; {_REMEDY}"
            )

    def family(self, name: str) -> Any:
        """A column family, for reads: get(key or [keys]), items(from_key=), snapshot()."""
        return self._families[name]

    def handle(self, name: str) -> Any:
        """A column family as a write batch names it."""
        return self._handles[name]

    def batch(self) -> Any:
        """A write batch of raw bytes: put(key, value, handle), delete(key, handle), delete_range(from, to, handle)."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: Any) -> None:
        """Write a batch at once or not at all, unsynced. Raises Exhausted on a full disk."""
        with self._writing():
            self._await_flushes()
            self._db.write(batch, self._unsynced)

    def sync(self) -> None:
        """Return once all that was written is on the disk. Releases the GIL. Raises Exhausted on a full disk."""
        with self._writing():
            self._db.flush_wal(True)

    def _await_flushes(self) -> None:
        """Wait while RocksDB's full memtables await their flush, on a full disk in vain.

        A write would wait by itself, but inside RocksDB and holding the GIL, so that the whole process stood still; told
        not to, it refuses and the batch is spent. So an empty one asks, and the waiting is done here.
        """
        started = time.monotonic()
        while True:
            try:
                return self._db.write(self.batch(), self._asking)
            except Exception as error:
                full = shutil.disk_usage(self.folder).free < LITTLE_ROOM
                waited = time.monotonic() - started
                if _STALL not in str(error) or waited > (FULL_STALL_S if full else STALL_S):
                    raise
            time.sleep(STALL_POLL_S)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.dead = self.dead or "IO error" in str(error)
            raise _write_error(self.folder, error) from None

    def close(self) -> None:
        """Flush and release the folder; a dead one is left as its last good write made it."""
        self._families.clear()
        self._handles.clear()  # whatever was made of a database keeps its folder held
        with suppress(MeshError) if self.dead else nullcontext(), self._writing():
            self._db.close()


def _options(cache_mb: int, memtable_mb: int) -> tuple[Options, Options]:
    """Of families that are asked for single keys, and of those that are read in order; they share one block cache.

    A block out of the cache is read and decompressed for one key. Of LZ4 that costs no more than finding the key in a
    block that is cached; of zstd it doubled the time (5.7 us a key instead of 3.3), for two thirds of the bytes. A full
    memtable without the key costs 1.3 us of that, unless its bloom filter says so.
    """
    table = BlockBasedOptions()
    table.set_block_cache(Cache(cache_mb << 20))
    table.set_bloom_filter(10, False)
    alone, in_order = _family(memtable_mb), _family(memtable_mb)
    in_order.set_bottommost_compression_type(DBCompressionType.zstd())
    for options in (alone, in_order):
        options.set_block_based_table_factory(table)
    return alone, in_order


def _family(memtable_mb: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_size(memtable_mb << 20)
    options.set_max_write_buffer_number(2)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_level_zero_slowdown_writes_trigger(FILES_STOP)
    options.set_level_zero_stop_writes_trigger(FILES_STOP)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_max_open_files(512)
    options.set_keep_log_file_num(2)
    return options


def _open_error(folder: Path, error: Exception) -> MeshError:
    text = str(error)
    if "/LOCK: " in text:
        return HeldElsewhere(
            f"{folder}: held by another running process ({text}); stop that mesh, or use another folder"
        )
    if "Column families not opened" in text:
        return WrongFormat(f"{folder}: was written by another version ({text}); {_REMEDY}")
    return _write_error(folder, error)


def _write_error(folder: Path, error: Exception) -> MeshError:
    """What RocksDB said, as an error of the mesh: Exhausted for a full disk and after it, Unavailable for the rest."""
    text = str(error)
    if "No space left" in text or "NoSpace" in text:
        return Exhausted(f"{folder}: the disk is full; nothing was written ({text})")
    if _STALL in text:
        return Exhausted(f"{folder}: the disk is full or does not keep up; nothing was written ({text})")
    if "previous error" in text:
        return Exhausted(f"{folder}: takes no writes since one failed, until this process starts again ({text})")
    return Unavailable(f"{folder}: {text}")
