"""Blobs in memory, for tests: a store whose local files are copies, as those of any store elsewhere are."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.blob.cache import Cache, digest_in, undone
from services.blob.keys import check_key, check_prefix
from services.blob.protocol import STALE_S, Blobs, Stat
from services.core.errors import Conflict, NotFound


class _Held:
    """The shared state of all stores of one memory. blobs: content and the number of the write, by key."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.lock, self.writes = Cache(cache), threading.RLock(), 0
        self.blobs: dict[str, tuple[bytes, int]] = {}


class MemoryBlobs:
    """Blobs until the process ends."""

    def __init__(self, cache: Path, of: tuple[_Held, str] | None = None) -> None:
        """cache: a folder for local copies and drafts; of: the state shared with the store that this is a part of, and where."""
        self._held, self._start = of or (_Held(cache), "")
        self._cache, self._lock, self._folder = self._held.cache, self._held.lock, cache

    def put(self, key: str, content: bytes | Path) -> None:
        """See Blobs."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        with self._lock:
            self._check_place(check_key(key))
            self._held.writes += 1
            self._held.blobs[self._start + key] = (data, self._held.writes)

    def swap(self, key: str, old: bytes | None, new: bytes) -> None:
        """See Blobs."""
        with self._lock:
            if (self.get(key) if self.exists(key) else None) != old:
                raise Conflict(f"{key}: was changed meanwhile by another; nothing was written")
            self.put(key, new)

    def get(self, key: str) -> bytes:
        """See Blobs."""
        return self._found(key)[0]

    def local(self, key: str) -> Path:
        """See Blobs."""
        content = self.get(key)
        return self._cache.file(digest_in(content), lambda into: into.write_bytes(content))

    def fetch(self, key: str, into: Path) -> None:
        """See Blobs."""
        content = self.get(key)
        with undone(into):
            into.write_bytes(content)

    def folder(self, prefix: str) -> Path:
        """See Blobs."""
        with self._lock:
            found = {key.removeprefix(f"{prefix}/"): self.get(key) for key in self.keys(check_key(prefix))}
        if not found:
            raise NotFound(f"{prefix}: there is no such folder of blobs")
        digests = {name: digest_in(content) for name, content in found.items()}
        return self._cache.folder(digests, lambda name, into: into.write_bytes(found[name]))

    def stat(self, key: str) -> Stat:
        """See Blobs."""
        content, write = self._found(key)
        return Stat(len(content), str(write))

    def digest(self, key: str) -> str:
        """See Blobs."""
        return digest_in(self.get(key))

    def exists(self, key: str) -> bool:
        """See Blobs."""
        return self._start + check_key(key) in self._held.blobs

    def keys(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        start = f"{self._start}{prefix}/" if check_prefix(prefix) else self._start
        with self._lock:
            return sorted(key.removeprefix(self._start) for key in self._held.blobs if key.startswith(start))

    def names(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        start = f"{prefix}/" if prefix else ""
        return sorted({key.removeprefix(start).split("/")[0] for key in self.keys(prefix)})

    def delete(self, key: str) -> None:
        """See Blobs."""
        with self._lock:
            self._held.blobs.pop(self._start + check_key(key), None)

    def delete_all(self, prefix: str) -> None:
        """See Blobs."""
        with self._lock:
            for key in self.keys(check_key(prefix)):
                self.delete(key)

    @contextmanager
    def draft(self, prefix: str, stale_s: float = STALE_S) -> Iterator[Path]:
        """See Blobs."""
        check_prefix(prefix)
        draft = self._cache.draft()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, prefix: str, durable: bool = True) -> None:
        """See Blobs."""
        files = {path.relative_to(draft).as_posix(): path.read_bytes() for path in draft.rglob("*") if path.is_file()}
        with self._lock:
            self._check_place(check_key(prefix))
            if self.exists(prefix):
                raise Conflict(f"{prefix}: is there already")
            for name, content in files.items():
                self.put(f"{prefix}/{name}", content)
        shutil.rmtree(draft)

    def below(self, prefix: str) -> Blobs:
        """See Blobs."""
        return MemoryBlobs(self._folder, (self._held, f"{self._start}{check_key(prefix)}/"))

    def _found(self, key: str) -> tuple[bytes, int]:
        try:
            return self._held.blobs[self._start + check_key(key)]
        except KeyError:
            raise NotFound(f"{key}: there is no such blob") from None

    def _check_place(self, key: str) -> None:
        """Raise Conflict where blobs lie below a key, or a blob stands on its way."""
        parts = (self._start + key).split("/")
        if self.keys(key) or any("/".join(parts[:n]) in self._held.blobs for n in range(1, len(parts))):
            raise Conflict(f"{key}: is there already, or lies below another blob")
