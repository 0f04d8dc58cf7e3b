"""A RocksDB folder in raw-bytes mode: opened once, of one format version, with its errors said plainly.

After a failed write, of a full disk above all, RocksDB takes no more writes until the folder is opened again, while
reads go on. So a dead database stays open, and its process ends when there is space to start again.
"""

import os
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Checkpoint, Env, Options, Rdict, WriteBatch, WriteOptions

from services.core.errors import Damaged, Exhausted, MeshError, Unavailable
from services.state import options as of_rocksdb
from services.state import seal
from services.state.family import Family
from services.state.options import DEFAULT, Tuning

FORMAT_KEY = b"format"
_STALL = "Write stall"
STALL_S, FULL_STALL_S, STALL_POLL_S = 60.0, 5.0, 0.002
LITTLE_SPACE = 64 << 20  # bytes free with which a flush is not likely to end
_CORRUPTED = "Corruption"
_DAMAGE = (_CORRUPTED, "No such file", "Input/output error")  # in RocksDB's messages about a file that it can't read
SEAL_EVERY_S, VIEW_SEAL_EVERY_S = 5.0, 60.0
_REMEDY = "run the version and settings that wrote it, or remove the folder of a view and it is rebuilt from the log"


class HeldElsewhere(Unavailable):
    """Another process has this folder open."""


class WrongFormat(MeshError):
    """The folder was written by another format version."""


@dataclass(frozen=True, slots=True)
class Looking:
    """How to look at a folder that is another process' own. beside: for RocksDB's notes while that process has it open;
    None when none has.
    """

    beside: Path | None = None


class Database:
    """One RocksDB with named column families."""

    remedy = "restore it from a backup"  # the way out of damage, for its messages
    loses_nothing = False  # synced writes are there when it is opened, or it is refused; else it may end sooner

    def __init__(
        self,
        folder: Path,
        form: str,
        families: Iterable[str],
        cache_mb: int,
        memtable_mb: int,
        in_order: Container[str] = (),
        looking: Looking | None = None,
        tuning: Tuning = DEFAULT,
    ) -> None:
        """Open or create it. Raises Damaged, WrongFormat, HeldElsewhere, or Exhausted when the disk is full.

        `in_order`: families that are read in the order of their keys, so that they may be compressed harder. `looking`:
        open the folder for reads alone, and change nothing.
        """
        if looking is None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._found = folder, None if looking else folder.stat()
        self.form = form
        self.dead = False  # a write failed; nothing can be written until the folder is opened again
        self.damage = ""  # the damage found since it was opened
        self.only_looks = looking is not None
        self._synced, self._sealed_at = 0, time.monotonic()
        self._check_seal()
        Env().lower_thread_pool_cpu_priority()  # compaction can wait; readers can't, when the cores are busy
        options, packed = of_rocksdb.made(cache_mb, memtable_mb, self.loses_nothing, tuning)
        names = list(families)
        try:
            of = {name: packed if name in in_order else options for name in names}
            self._check_before_writing(options)
            self._db = Rdict(str(folder), options, column_families=of, access_type=_access(looking))
        except Exception as error:
            raise (error if isinstance(error, MeshError) else self._open_error(error)) from None
        self._families = {
            name: Family(self._db.get_column_family(name), partial(self._refused, name), self.only_looks)
            for name in names
        }
        self._handles = {name: self._db.get_column_family_handle(name) for name in names}
        self._unsynced, self._asking = WriteOptions(), WriteOptions()
        for written in (self._unsynced, self._asking):  # rocksdict's types take these properties for methods
            written.no_slowdown = True
        self._asking.disable_wal = True  # type: ignore[method-assign, assignment]
        try:
            self._check_sequence(self._db, seal.read(self.folder))
            self._synced = self._db.latest_sequence_number()  # recovered writes are flushed to synced files
            self._check_format(form)
            self._seal()
        except MeshError:
            self.abandon()
            raise

    def _check_seal(self) -> None:
        try:
            found = seal.problem(self.folder)
        except OSError as error:
            found = str(error)
        if found:
            raise self.damaged(found)

    def _check_before_writing(self, options: Options) -> None:
        """Compare a log with its seal by a look alone: to open it for writes replaces its write-ahead files, also cut ones.

        Files that can't be looked at are left to the opening, which says why.
        """
        known = seal.read(self.folder)
        if not self.loses_nothing or self.only_looks or known is None:
            return
        if not any(path.stat().st_size for path in self.folder.glob("*.log")):
            return
        try:
            of = dict.fromkeys(Rdict.list_cf(str(self.folder), options), options)
            looked = Rdict(str(self.folder), options, column_families=of, access_type=AccessType.read_only(False))
        except Exception:
            return
        try:
            self._check_sequence(looked, known)
        finally:
            looked.close()

    def _check_sequence(self, db: Rdict, known: seal.Seal | None) -> None:
        """Of a log, no write that was synced is missing at the end, as after a write-ahead file that was cut."""
        found = db.latest_sequence_number()
        if self.loses_nothing and not self.only_looks and known is not None and found < known.sequence:
            raise self.damaged(f"its last write is number {found}, and number {known.sequence} was on the disk")

    def _seal(self, closed: bool = False) -> None:
        """Write the seal of the folder, all of it synced. One that can't be written now is written later."""
        self._sealed_at = time.monotonic()
        if self.only_looks:
            return
        with suppress(OSError):
            seal.write(self.folder, seal.of(self.folder, self._synced, closed))

    def noticed(self, error: Exception) -> None:
        """Take note of an error that a reader met, if it says that the bytes read are damaged."""
        if isinstance(error, Damaged) and not self.damage:
            self.damaged(str(error))

    def look(self) -> None:
        """Take note of a folder that was removed, moved away, replaced, or can't be read any more."""
        if not self.damage and (why := self._away()):
            self.damaged(why)

    def _away(self) -> str:
        """Why the folder's name does not lead to the open folder; empty when it does."""
        try:
            if not self._is_same():
                return "another folder was put in its place while it was in use"
            (self.folder / seal.CURRENT).read_bytes()
        except OSError as error:
            return f"it was removed, or can't be read any more, while it was in use: {error.strerror}"
        return ""

    def _is_same(self) -> bool:
        return self._found is not None and os.path.samestat(self.folder.stat(), self._found)

    def damaged(self, what: str) -> Damaged:
        """The error that names the damage; from now on `damage` says so too."""
        self.damage = f"{self.folder}: is damaged: {what}; {self.remedy}"
        return Damaged(self.damage)

    def _check_format(self, form: str) -> None:
        found = self.note(FORMAT_KEY)
        if found is None:
            if any(next(family.keys(), None) is not None for family in self._families.values()):
                raise self.damaged("it holds data and no format")
            batch = self.batch()
            batch.put(FORMAT_KEY, form.encode())
            self.write(batch)
        elif found.decode() != form:
            raise WrongFormat(
                f"{self.folder}: was written as {found.decode()!r}, this process reads {form!r}; {_REMEDY}"
            )

    def family(self, name: str) -> Family:
        """A column family, for reads; they raise Damaged for bytes that differ from those written."""
        return self._families[name]

    def _refused(self, family: str, error: Exception) -> Exception:
        """The error that a read of a family raises for one of RocksDB."""
        text = str(error)
        if family in self._families and self._families[family].raw is None:
            return Unavailable(f"{self.folder}: is closed")
        if not any(said in text for said in _DAMAGE):
            return error
        return self.damaged(f"column family {family}: {text}")

    def handle(self, name: str) -> Any:
        """A column family as a write batch names it."""
        return self._handles[name]

    def note(self, key: bytes) -> bytes | None:
        """The value of this key outside of the families: it concerns the whole database. Raises Damaged."""
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise self.damaged(f"{key.decode()}: {error}") from None
        return found

    def batch(self) -> Any:
        """A write batch of raw bytes: put(key, value, handle), delete(key, handle), delete_range(from, to, handle)."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: Any) -> None:
        """Write a batch at once or not at all, unsynced. Raises Exhausted on a full disk."""
        with self._writing():
            self._await_flushes()
            self._db.write(batch, self._unsynced)
        if not self.loses_nothing and time.monotonic() - self._sealed_at > VIEW_SEAL_EVERY_S:
            self._seal()

    def sync(self) -> None:
        """Return once all that was written is on the disk. Releases the GIL. Raises Exhausted on a full disk."""
        if self.loses_nothing and (why := self._away()):
            raise self.damaged(why)
        with self._writing():
            written = self._db.latest_sequence_number()
            self._db.flush_wal(True)
        self._synced = written
        if time.monotonic() - self._sealed_at > SEAL_EVERY_S:
            self._seal()

    def checkpoint(self, folder: Path) -> None:
        """Make a copy in a folder that is not there, on the same disk: as of one write, whatever is written meanwhile.

        Sorted files are links, since they never change. Raises Exhausted on a full disk. A checkpoint flushes what is in memory
        and holds the GIL meanwhile; a flush does not, so that comes first.
        """
        with self._writing():
            for family in (*self._families.values(), None):
                (self._db if family is None else family.raw).flush()
            Checkpoint(self._db).create_checkpoint(str(folder))

    def notes(self) -> dict[bytes, bytes]:
        """All that batches put under keys without a family. Raises Damaged."""
        return dict(Family(self._db, partial(self._refused, "default"), self.only_looks).items())

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
                full = shutil.disk_usage(self.folder).free < LITTLE_SPACE
                waited = time.monotonic() - started
                if _STALL not in str(error) or waited > (FULL_STALL_S if full else STALL_S):
                    raise
            time.sleep(STALL_POLL_S)

    def _open_error(self, error: Exception) -> MeshError:
        text = str(error)
        if "/LOCK: " in text:
            return HeldElsewhere(
                f"{self.folder}: held by another running process ({text}); stop that mesh, or use another folder"
            )
        if "Column families not opened" in text:
            return WrongFormat(f"{self.folder}: was written by another version ({text}); {_REMEDY}")
        if any(said in text for said in _DAMAGE):
            return self.damaged(text)
        return _write_error(self.folder, error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _CORRUPTED in str(error):  # met by a compaction, after which nothing can be written
                raise self.damaged(str(error)) from None
            self.dead = self.dead or "IO error" in str(error)
            raise _write_error(self.folder, error) from None

    def close(self) -> None:
        """Flush, seal and release the folder; a dead one is left as its last good write made it."""
        whole = not self.dead and not self.damage and not self.only_looks
        if whole:
            with suppress(MeshError):
                self.sync()
        self._release()
        if whole:
            self._seal(closed=True)

    def abandon(self) -> None:
        """Release a folder that is refused, and leave its seal as it was."""
        self.dead = True
        self._release()

    def _release(self) -> None:
        for family in self._families.values():
            family.raw = None
        self._handles.clear()  # a handle of a database keeps its folder locked
        with suppress(MeshError) if self.dead else nullcontext(), self._writing():
            self._db.close()


def _access(looking: Looking | None) -> AccessType:
    if looking is None:
        return AccessType.read_write()
    return AccessType.secondary(str(looking.beside)) if looking.beside else AccessType.read_only(False)


def _write_error(folder: Path, error: Exception) -> MeshError:
    """An error of RocksDB as one of the mesh: Exhausted for a full disk and after it, Unavailable for the rest."""
    text = str(error)
    if "No space left" in text or "NoSpace" in text:
        return Exhausted(f"{folder}: the disk is full; nothing was written ({text})")
    if _STALL in text:
        return Exhausted(f"{folder}: the disk is full or does not keep up; nothing was written ({text})")
    if "previous error" in text:
        return Exhausted(f"{folder}: takes no writes since one failed, until this process starts again ({text})")
    return Unavailable(f"{folder}: {text}")
