"""A file system that forgets what was not synced: the power of a machine, which can be cut.

    python -m tests.drill.power.lossy BACKING MOUNT SEED     # until it is unmounted

Writes are in memory until fsync or fdatasync of their file. To make a folder of the name CUT in its root cuts the power: of each
file, what was not synced is gone, or a beginning of it is there, or zeros are, as disks and file systems leave it. Names are
durable immediately, so a missing fsync of a folder is not found by it. There is no shared mmap.
"""

import errno
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mfusepy

from tests.drill.power import CUT

_STAT = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
_SPACE = (
    "f_bavail",
    "f_bfree",
    "f_blocks",
    "f_bsize",
    "f_favail",
    "f_ffree",
    "f_files",
    "f_flag",
    "f_frsize",
    "f_namemax",
)


class Lossy(mfusepy.Operations):  # type: ignore[misc]
    """The files of a folder, with what was written since their last fsync in memory."""

    use_ns = True

    def __init__(self, backing: str, seed: int) -> None:
        self._backing, self._chance = os.path.abspath(backing), random.Random(seed)
        self._unsynced: dict[str, bytearray] = {}  # the whole content of each file that is not as it lies in the folder

    def _real(self, path: str) -> str:
        return self._backing + path

    def _changed(self, path: str) -> bytearray:
        if path not in self._unsynced:
            with open(self._real(path), "rb") as file:
                self._unsynced[path] = bytearray(file.read())
        return self._unsynced[path]

    def _put(self, path: str, content: bytes | bytearray) -> None:
        with open(self._real(path), "r+b") as file:
            file.truncate(0)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _cut(self) -> None:
        for path, content in self._unsynced.items():
            with suppress(FileNotFoundError):
                with open(self._real(path), "rb") as file:
                    synced = file.read()
                if content.startswith(synced) and len(content) > len(synced):
                    more = content[len(synced) : self._chance.randint(len(synced), len(content))]
                    left: list[Callable[[], bytes]] = [lambda: b"", lambda m=more: m, lambda m=more: bytes(len(m))]  # type: ignore[misc]
                    self._put(path, synced + self._chance.choice(left)())
        self._unsynced.clear()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = _refusing(os.lstat)(self._real(path))
        times = {"st_atime": found.st_atime_ns, "st_mtime": found.st_mtime_ns, "st_ctime": found.st_ctime_ns}
        known = {name: getattr(found, name) for name in _STAT} | times
        return known | {"st_size": len(self._unsynced[path])} if path in self._unsynced else known

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    def create(self, path: str, mode: int, fi: object = None) -> int:
        opened = _refusing(os.open)(self._real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)
        self._unsynced[path] = bytearray()
        return int(opened)

    def open(self, path: str, flags: int) -> int:
        return int(_refusing(os.open)(self._real(path), os.O_RDWR))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if path in self._unsynced:
            return bytes(self._unsynced[path][offset : offset + size])
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        content = self._changed(path)
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        content = self._changed(path)
        del content[length:]
        content.extend(bytes(length - len(content)))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if path in self._unsynced:
            self._put(path, self._unsynced.pop(path))
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def unlink(self, path: str) -> int:
        _refusing(os.unlink)(self._real(path))
        self._unsynced.pop(path, None)
        return 0

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        _refusing(os.rename)(self._real(old), self._real(new))
        self._unsynced.pop(new, None)
        for path in [path for path in self._unsynced if path == old or path.startswith(f"{old}/")]:
            self._unsynced[new + path.removeprefix(old)] = self._unsynced.pop(path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        if path == f"/{CUT}":
            self._cut()
        _refusing(os.mkdir)(self._real(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        _refusing(os.rmdir)(self._real(path))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._real(path), ns=times or (time.time_ns(),) * 2)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._backing)
        return {name: getattr(found, name) for name in _SPACE}


def _refusing(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call whose errors are the file system's answers."""

    def made(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno or errno.EIO) from None

    return made


if __name__ == "__main__":
    mfusepy.FUSE(Lossy(sys.argv[1], int(sys.argv[3])), sys.argv[2], foreground=True, nothreads=True, direct_io=True)
