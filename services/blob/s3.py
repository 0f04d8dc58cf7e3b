"""Blobs in a bucket of an S3-compatible store: one object each, under their keys, so that other tools find them.

Published files are objects behind one that names them all (`s3_published.py`); a swap is a conditional write. A store has no
folders: that no key is the beginning of another's is looked at before a write, and two that write such keys at the very same
moment are not kept apart. Local files are kept in a cache by the hash of their content.
"""

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from services.blob.cache import Cache, digest_of, undone
from services.blob.keys import check_key, check_prefix, is_name
from services.blob.protocol import STALE_S, Blobs, Stat
from services.blob.s3_bucket import Bucket, Object
from services.blob.s3_published import (
    FILES,
    MARKER,
    File,
    Published,
    above,
    decoded,
    is_hidden,
    marker_of,
    new_place,
)
from services.blob.s3_url import Location
from services.core.errors import Conflict, Exhausted, NotFound, Unavailable

THREADS = 4  # that write the files of a draft
FULL = (errno.ENOSPC, errno.EDQUOT)
TRIES = 20  # to change what says which files are published, against others that do so
T = TypeVar("T")


class Known(NamedTuple):
    """What was published below a prefix, and the object that said so."""

    published: Published
    marker: Object


class _Held:
    """The shared state of all parts of one store. rooms: prefixes that are known to be neither blobs nor published."""

    def __init__(self, at: Location, cache: Path) -> None:
        self.bucket, self.cache = Bucket(at), Cache(cache)
        self.lock, self.known, self.rooms = threading.Lock(), dict[str, Known](), set[str]()


class S3Blobs:
    """The blobs of a location."""

    def __init__(self, at: Location, cache: Path, of: tuple[_Held, str] | None = None) -> None:
        """cache: a folder for local copies and drafts; of: the state shared with the store that this is a part of, and where.

        Raises Unavailable or InvalidArgument for a file of credentials that can't be used. Nothing else is asked yet.
        """
        self._held, self._start = of or (_Held(at, cache), f"{at.prefix}/" if at.prefix else "")
        self._at, self._folder = at, cache
        self._bucket, self._cache, self._said = self._held.bucket, self._held.cache, self._held.bucket.answered

    def check(self) -> None:
        """Whether the store can be asked at all. Raises Unavailable, also for a bucket that is not there."""
        with self._said(self._at.address):
            try:
                next(self._bucket.below(self._at.prefix), None)
            except FileNotFoundError:
                raise ConnectionError("there is no such bucket") from None

    # --- one blob -------------------------------------------------------------------------------------------------

    def put(self, key: str, content: bytes | Path) -> None:
        """See Blobs."""
        full = self._full(key)
        with self._said(key):
            self._check_room(key, full)
            self._bucket.put(full, content)

    def swap(self, key: str, old: bytes | None, new: bytes) -> None:
        """See Blobs. A write that got no answer in time, Unavailable, may have been done."""
        full = self._full(key)
        with self._said(key):
            try:
                found, of = self._bucket.get(full)
            except FileNotFoundError:
                found, of = None, None
            if found != old:
                raise Conflict(f"{key}: was changed meanwhile by another; nothing was written")
            if of is None:
                self._check_room(key, full)
                self._bucket.create(full, new)
            else:
                self._bucket.update(full, new, of)

    def get(self, key: str) -> bytes:
        """See Blobs."""
        return self._read(key, lambda at, _: self._bucket.get(at)[0])

    def local(self, key: str) -> Path:
        """See Blobs."""

        def read(at: str, file: File | None) -> Path:
            fetch = lambda into: self._bucket.fetch(at, into)  # noqa: E731
            return self._cache.file(file.digest, fetch) if file else self._cache.new_file(fetch)

        return self._read(key, read)

    def fetch(self, key: str, into: Path) -> None:
        """See Blobs. Raises Exhausted when the disk of the file is full."""
        try:
            with undone(into):
                self._read(key, lambda at, _: self._bucket.fetch(at, into))
        except OSError as error:
            kind = Exhausted if error.errno in FULL else Unavailable
            raise kind(f"{into.name}: cannot be written: {error.strerror}") from None

    def stat(self, key: str) -> Stat:
        """See Blobs."""

        def read(at: str, _: File | None) -> Stat:
            found = self._bucket.head(at)
            return Stat(found.size, found.mark)

        return self._read(key, read)

    def digest(self, key: str) -> str:
        """See Blobs; of what was published it was noted, and reads nothing."""

        def read(at: str, file: File | None) -> str:
            if file:
                self._bucket.head(at)
                return file.digest
            state = blake2b(digest_size=16)
            self._bucket.read(at, state.update)
            return state.hexdigest()

        return self._read(key, read)

    def exists(self, key: str) -> bool:
        """See Blobs."""
        try:
            self.stat(key)
        except NotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        """See Blobs."""
        full = self._full(key)
        with self._said(key):
            self._bucket.delete(full)
            self._unpublish(full, lambda name: name == full)
            self._held.rooms.clear()

    # --- many -----------------------------------------------------------------------------------------------------

    def keys(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        with self._said(prefix or self._at.address):
            return sorted(full.removeprefix(self._start) for full in self._found(self._prefix(prefix)))

    def names(self, prefix: str = "") -> list[str]:
        """See Blobs."""
        start = f"{prefix}/" if prefix else ""
        return sorted({key.removeprefix(start).split("/")[0] for key in self.keys(prefix)})

    def folder(self, prefix: str) -> Path:
        """See Blobs."""
        full = self._full(prefix)
        with self._said(prefix):
            found = {name.removeprefix(f"{full}/"): at for name, at in self._found(full).items()}
        if not found:
            raise NotFound(f"{prefix}: there is no such folder of blobs")
        digests = {
            name: at.digest if isinstance(at, File) else self.digest(f"{prefix}/{name}") for name, at in found.items()
        }

        def fetch(name: str, into: Path) -> None:
            self._read(f"{prefix}/{name}", lambda at, _: self._bucket.fetch(at, into))

        return self._cache.folder(digests, fetch)

    def delete_all(self, prefix: str) -> None:
        """See Blobs. What was published loses its name first, in one step."""
        full = self._full(prefix)
        with self._said(prefix):
            self._unpublish(full, lambda name: name.startswith(f"{full}/"))
            objects = [found.key for found in self._bucket.below(full)]
            self._bucket.delete(*(key for key in objects if key.endswith(f"/{MARKER}")))
            self._bucket.delete(*(key for key in objects if not key.endswith(f"/{MARKER}")))
            self._held.rooms.clear()

    # --- drafts ---------------------------------------------------------------------------------------------------

    @contextmanager
    def draft(self, prefix: str, stale_s: float = STALE_S) -> Iterator[Path]:
        """See Blobs."""
        home = self._prefix(prefix)
        with self._said(prefix or self._at.address):
            self._sweep(home, stale_s)
        draft = self._cache.draft(stale_s)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, prefix: str, durable: bool = True) -> None:
        """See Blobs."""
        full, place = self._full(prefix), new_place()
        with self._said(prefix):
            self._check_room(prefix, full)
            if self._is_object(full):
                raise _taken(prefix)
            try:
                self._bucket.create(marker_of(full), self._write_files(draft, full, place).encoded())
            except BaseException as error:
                with suppress(BaseError):  # a later draft removes what is left
                    self._bucket.delete(*(found.key for found in self._bucket.below(f"{full}/{place}")))
                raise _taken(prefix) if isinstance(error, AlreadyExistsError) else error from None
        shutil.rmtree(draft)

    def _write_files(self, draft: Path, full: str, place: str) -> Published:
        paths = {path.relative_to(draft).as_posix(): path for path in draft.rglob("*") if path.is_file()}
        named = {name: path for name, path in paths.items() if all(map(is_name, name.split("/")))}

        def write(name: str) -> File:
            at = f"{place}/{name}"
            self._bucket.put(f"{full}/{at}", named[name])
            return File(at, digest_of(named[name]), named[name].stat().st_size)

        with ThreadPoolExecutor(THREADS) as pool:
            return Published(dict(zip(named, pool.map(write, named), strict=True)))

    def _sweep(self, home: str, stale_s: float) -> None:
        """Remove files of drafts that were never published: their writers were killed while they wrote."""
        newest, named = dict[str, datetime](), set[str]()
        objects = list(self._bucket.below(home.rstrip("/")))
        for found in objects:
            before, hidden, rest = found.key.partition(f"/{FILES}")
            if hidden:
                place = f"{before}/{FILES}{rest.split('/')[0]}"
                newest[place] = max(found.modified, newest.get(place, found.modified))
        for place, modified in newest.items():
            prefix = place.rpartition("/")[0]
            if (datetime.now(UTC) - modified).total_seconds() > stale_s:
                known = self._marker(prefix)
                named |= {f"{prefix}/{file.at}" for file in known.published.files.values()} if known else set()
                self._bucket.delete(*(o.key for o in objects if o.key.startswith(f"{place}/") and o.key not in named))

    def below(self, prefix: str) -> Blobs:
        """See Blobs."""
        return S3Blobs(self._at, self._folder, (self._held, f"{self._full(prefix)}/"))

    # --- keys and objects -----------------------------------------------------------------------------------------

    def _full(self, key: str) -> str:
        return f"{self._start}{check_key(key)}"

    def _above(self, full: str) -> Iterator[str]:
        """The prefixes of the store that a key lies below, the longest first."""
        return takewhile(lambda prefix: len(prefix) > len(self._at.prefix), above(full))

    def _prefix(self, prefix: str) -> str:
        return f"{self._start}{check_prefix(prefix)}".rstrip("/")

    def _read(self, key: str, read: Callable[[str, File | None], T]) -> T:
        """What `read` answers of the object of a blob, and of what is noted of it if it was published."""
        full = self._full(key)
        with self._said(key):
            for prefix in self._above(full):  # most that is read often was published, and is known
                known = self._held.known.get(prefix)
                if known and (file := known.published.files.get(full.removeprefix(f"{prefix}/"))):
                    with suppress(FileNotFoundError):
                        return read(f"{prefix}/{file.at}", file)
                    self._held.known.pop(prefix, None)
            with suppress(FileNotFoundError):
                return read(full, None)
            for prefix in self._above(full):
                if known := self._marker(prefix):
                    file = known.published.files.get(full.removeprefix(f"{prefix}/"))
                    if file:
                        return read(f"{prefix}/{file.at}", file)
                    break
        raise NotFound(f"{key}: there is no such blob")

    def _found(self, full: str) -> dict[str, File | Object]:
        """All blobs below a prefix of the bucket, by their whole keys: published files, and single objects."""
        found = dict[str, File | Object]()
        for one in self._bucket.below(full):
            if one.key.endswith(f"/{MARKER}"):
                prefix = one.key.removesuffix(f"/{MARKER}")
                known = self._marker(prefix, one)
                files = known.published.files.items() if known else ()
                found |= {f"{prefix}/{name}": file for name, file in files}
            elif not is_hidden(one.key):
                found[one.key] = one
        for over in self._above(full):
            if known := self._held.known.get(over) or self._marker(over):
                named = {f"{over}/{name}": file for name, file in known.published.files.items()}
                found |= {name: file for name, file in named.items() if name.startswith(f"{full}/")}
        return found

    def _is_object(self, full: str) -> bool:
        try:
            self._bucket.head(full)
        except FileNotFoundError:
            return False
        return True

    def _check_room(self, key: str, full: str) -> None:
        """Raise Conflict where blobs lie below a key, a blob stands on its way, or it is part of what was published."""
        if self._found(full):
            raise _taken(key)
        for prefix in self._above(full):
            if prefix in self._held.rooms:
                continue
            if self._marker(prefix) or self._is_object(prefix):
                raise _taken(key)
            self._held.rooms.add(prefix)

    # --- what was published ---------------------------------------------------------------------------------------

    def _marker(self, prefix: str, of: Object | None = None) -> Known | None:
        """What is published at a prefix; None: nothing is. of: the object that says so, if it has just been seen."""
        known = self._held.known.get(prefix)
        if known and of and known.marker.mark == of.mark:
            return known
        try:
            content, marker = self._bucket.get(marker_of(prefix))
        except FileNotFoundError:
            self._held.known.pop(prefix, None)
            return None
        found = self._held.known[prefix] = Known(decoded(marker_of(prefix), content), marker)
        return found

    def _unpublish(self, full: str, gone: Callable[[str], bool]) -> None:
        """Of what was published above a key: remove the files whose whole keys are gone, against others that do so."""
        for _ in range(TRIES):
            prefix, known = next(((p, found) for p in self._above(full) if (found := self._marker(p))), ("", None))
            if known is None:
                break
            files = known.published.files
            left = Published({name: file for name, file in files.items() if not gone(f"{prefix}/{name}")})
            try:
                if not left.files:
                    self._bucket.delete(marker_of(prefix))
                elif len(left.files) < len(files):
                    self._bucket.update(marker_of(prefix), left.encoded(), known.marker)
            except PreconditionError:
                continue
            self._held.known.pop(prefix, None)
            self._bucket.delete(*(f"{prefix}/{files[name].at}" for name in files.keys() - left.files.keys()))
            break


def _taken(key: str) -> Conflict:
    return Conflict(f"{key}: is there already, or lies below another blob")
