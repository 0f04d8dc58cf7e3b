"""Blobs as files of one folder: a key is a path in it, so people find them, and what was there before there were keys is served.

Names that begin with a dot are this module's own: drafts, and what is being removed. Swaps and puts of one folder wait for each
other by a lock on that folder, among threads and processes.
"""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.blob.cache import digest_of, undone
from services.blob.keys import check_key, check_prefix, is_name
from services.blob.protocol import STALE_S, Blobs, Stat
from services.core.durable import make_folder_durably, rename_durably, replace_durably, sync_file, sync_folder
from services.core.errors import Conflict, Damaged, Exhausted, NotFound, Unavailable

DRAFT = ".draft-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


class FolderBlobs:
    """The blobs of a folder, which need not be there yet."""

    def __init__(self, root: Path, top: Path | None = None) -> None:
        """top: no link below it leads out of it; by default each folder of `root`, so that one may lie on another disk."""
        self._root, self._top = root, top

    def put(self, key: str, content: bytes | Path) -> None:
        """See Blobs."""
        path = self._path(key)
        with _written(key), _alone(path.parent):
            if path.is_dir():
                path.rmdir()  # which only an empty one lets happen: no blob lies below it any more
            replace_durably(path, content)

    def swap(self, key: str, old: bytes | None, new: bytes) -> None:
        """See Blobs."""
        path = self._path(key)
        with _written(key), _alone(path.parent):
            try:
                found = self.get(key)
            except NotFound:
                found = None
            if found != old:
                raise Conflict(f"{key}: was changed meanwhile by another; nothing was written")
            replace_durably(path, new)

    def get(self, key: str) -> bytes:
        """See Blobs."""
        with _read(key):
            return self._inside(key).read_bytes()

    def local(self, key: str) -> Path:
        """See Blobs."""
        with _read(key):
            path = self._inside(key)
            path.stat()
            return path

    def fetch(self, key: str, into: Path) -> None:
        """See Blobs."""
        source = self.local(key)
        with _written(into.name), undone(into):
            shutil.copyfile(source, into)

    def folder(self, prefix: str) -> Path:
        """See Blobs. It is the folder itself, so a link to a folder on another disk is followed."""
        path = self._root / check_key(prefix)
        if not path.is_dir():
            raise NotFound(f"{prefix}: there is no such folder of blobs")
        return path

    def stat(self, key: str) -> Stat:
        """See Blobs."""
        with _read(key):
            found = self._inside(key).stat()
        return Stat(found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}")

    def digest(self, key: str) -> str:
        """See Blobs."""
        with _read(key):
            return digest_of(self._inside(key))

    def exists(self, key: str) -> bool:
        """See Blobs."""
        try:
            self.stat(key)
        except (NotFound, Damaged):
            return False
        return True

    def keys(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        top = self._root / check_prefix(prefix)
        with _read(prefix):
            return sorted(path.relative_to(self._root).as_posix() for path in _files(top))

    def names(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        top = self._root / check_prefix(prefix)
        with _read(prefix):
            found = _entries(top)
            return sorted(path.name for path in found if path.is_file() or next(_files(path), None) is not None)

    def delete(self, key: str) -> None:
        """See Blobs."""
        path = self._path(key)
        with _written(key), suppress(FileNotFoundError, NotADirectoryError):
            if not path.is_dir():
                path.unlink()
                sync_folder(path.parent)

    def delete_all(self, prefix: str) -> None:
        """See Blobs. They lose their names first, in one step, and then their files."""
        path = self._root / check_key(prefix)
        if not path.is_dir():
            return
        gone = path.with_name(f"{DRAFT}{secrets.token_hex(8)}")
        with _written(prefix):
            rename_durably(path, gone)
        shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def draft(self, prefix: str, stale_s: float = STALE_S) -> Iterator[Path]:
        """See Blobs. It lies beside what it will be, on the same disk, so publishing copies nothing."""
        home = self._root / check_prefix(prefix)
        draft = home / f"{DRAFT}{secrets.token_hex(8)}"
        with _written(prefix):
            make_folder_durably(home)
            _sweep(home, stale_s)
            draft.mkdir()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, prefix: str, durable: bool = True) -> None:
        """See Blobs."""
        path = self._root / check_key(prefix)
        with _written(prefix):
            if durable:
                _sync(draft)
            make_folder_durably(path.parent)
            rename_durably(draft, path)

    def below(self, prefix: str) -> Blobs:
        """See Blobs."""
        first = check_key(prefix).split("/")[0]
        return FolderBlobs(self._root / prefix, self._top or self._root / first)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _inside(self, key: str) -> Path:
        """The file of a blob. Raises NotFound for one that a link leads out of the store to, Damaged for what is no file."""
        path = self._path(key)
        top = self._top or (self._root / key.split("/", maxsplit=1)[0] if "/" in key else self._root)
        if not path.resolve().is_relative_to(top.resolve()):
            raise NotFound(f"{key}: is a link that leads out of the store")
        if path.is_dir():
            raise Damaged(f"{key}: is a folder, where a file is expected")
        return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder, made if it is not there, held against other writers of its blobs."""
    make_folder_durably(folder)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


@contextmanager
def _read(key: str) -> Iterator[None]:
    """Errors of the disk, as the errors of Blobs."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{key}: there is no such blob") from None
    except OSError as error:
        kind = Damaged if error.errno == errno.EIO else Unavailable
        raise kind(f"{key}: cannot be read: {error.strerror}") from None


@contextmanager
def _written(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _TAKEN:
            raise Conflict(f"{key}: is there already, or lies below another blob") from None
        if error.errno in _FULL:
            raise Exhausted(f"{key}: the disk is full; nothing was written") from None
        raise Unavailable(f"{key}: cannot be written: {error.strerror}") from None


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder under names that keys have; none when it is not there."""
    try:
        return [path for path in folder.iterdir() if is_name(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from _files(path)


def _sync(draft: Path) -> None:
    """Have all of a draft on the disk."""
    for path in draft.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(draft)


def _sweep(home: Path, stale_s: float) -> None:
    """Remove drafts of writers that were killed: no other leaves one alone for so long."""
    for path in home.glob(f"{DRAFT}*"):
        with suppress(OSError):  # another removes it, or has ended
            if path.stat().st_mtime < time.time() - stale_s:
                shutil.rmtree(path)
