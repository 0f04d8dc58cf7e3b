"""A bucket of an S3-compatible store as `s3.py` uses it: few calls, each with a deadline, by obstore.

Reads, unconditional writes and deletions are tried again for a while; a conditional write is not: one that came through
without an answer would look like another's when it was tried again. Errors are obstore's here; `answered` makes them the
mesh's, and no text of them names a key of the credentials.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from services.blob.s3_url import Location, keys_in
from services.core.errors import Conflict, Exhausted, NotFound, Unavailable

CONNECT_S, CALL_S, RETRY_S, RETRIES = 3.0, 10.0, 15.0, 4
STREAM_S = 3600.0  # of a whole file
PART_BYTES = 8 << 20  # files larger than this are written in parts
CHUNK = 4 << 20
SAID = 200  # characters of what a store said
_FULL = ("507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "no space left")
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "status: 401", "status: 403")
_STATUS = re.compile(
    r"status(?: code)?:? (\d{3})[^,}]*|<Code>(\w+)</Code>|(tim(?:ed )?out)|(error sending request)", re.I
)


class Object(NamedTuple):
    """One object. mark: another one when it was replaced; version: what a conditional write compares."""

    key: str
    size: int
    mark: str
    modified: datetime
    version: dict[str, str]


class Bucket:
    """The objects of a location, by their whole keys in the bucket. Thread-safe; releases the GIL while it waits."""

    def __init__(self, at: Location) -> None:
        """Nothing is asked yet. Raises Unavailable or InvalidArgument for a file of credentials that can't be used."""
        self.at = at
        options: dict[str, Any] = {"allow_http": at.plain_http, "connect_timeout": timedelta(seconds=CONNECT_S)}
        short, long = ({**options, "timeout": timedelta(seconds=of)} for of in (CALL_S, STREAM_S))
        self._secrets = _secrets(at)
        self._calls = self._store(short, RETRIES)
        self._once = self._store(short, 0)
        self._streams = self._store({**long, "read_timeout": timedelta(seconds=CALL_S)}, RETRIES)

    def _store(self, options: dict[str, Any], retries: int) -> S3Store:
        config = {name: value for name, value in (("endpoint", self.at.endpoint), ("region", self.at.region)) if value}
        if self.at.credentials:
            config |= keys_in(self.at.credentials)
        backoff = {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
            "base": 2.0,
        }
        retry: Any = {"max_retries": retries, "retry_timeout": timedelta(seconds=RETRY_S), "backoff": backoff}
        settings: Any = config
        return S3Store(self.at.bucket, config=settings, client_options=options, retry_config=retry)  # type: ignore[arg-type]

    @contextmanager
    def answered(self, key: str) -> Iterator[None]:
        """Errors of obstore as errors of `Blobs` about a key."""
        try:
            yield
        except FileNotFoundError:
            raise NotFound(f"{key}: there is no such blob") from None
        except (AlreadyExistsError, PreconditionError):
            raise Conflict(f"{key}: was changed meanwhile by another; nothing was written") from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise Unavailable(self._refused(key)) from None
        except (BaseError, TimeoutError, ConnectionError) as error:
            raise self._away(key, error) from None

    def _refused(self, key: str) -> str:
        return f"{key}: {self.at.address} does not let these credentials do that"

    def _away(self, key: str, error: Exception) -> Exhausted | Unavailable:
        said = str(error)
        if any(word in said for word in _REFUSED):
            return Unavailable(self._refused(key))
        if any(word in said for word in _FULL):
            return Exhausted(f"{key}: {self.at.address} is full; nothing was written")
        return Unavailable(f"{key}: {self.at.address} can't be asked: {self._why(said)}")

    def _why(self, said: str) -> str:
        """What is wrong in a few words: an error of obstore is several lines of Rust, with URLs."""
        found = [next(filter(None, match)) for match in _STATUS.findall(said)]
        text = ", ".join(dict.fromkeys(found)) or " ".join(said.split())[:SAID]
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

    def get(self, key: str) -> tuple[bytes, Object]:
        """The content of an object, and which one that was."""
        answer = obstore.get(self._calls, key)
        meta = _object(answer.meta)
        return bytes(answer.bytes()), meta

    def fetch(self, key: str, into: Path) -> None:
        """Write the content of an object into a file."""
        with into.open("wb") as file:
            for chunk in obstore.get(self._streams, key).stream(CHUNK):
                file.write(chunk)

    def read(self, key: str, take: Callable[[bytes], object]) -> None:
        """Hand on the content of an object piece by piece."""
        for chunk in obstore.get(self._streams, key).stream(CHUNK):
            take(bytes(chunk))

    def head(self, key: str) -> Object:
        """What an object is."""
        return _object(obstore.head(self._calls, key))

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, or replace it."""
        if isinstance(content, bytes):
            obstore.put(self._calls, key, content, use_multipart=False)
        elif content.stat().st_size <= PART_BYTES:
            obstore.put(self._calls, key, content.read_bytes(), use_multipart=False)
        else:
            obstore.put(self._streams, key, content, chunk_size=PART_BYTES, max_concurrency=4)

    def create(self, key: str, content: bytes) -> None:
        """Write an object that is not there. Raises AlreadyExistsError."""
        obstore.put(self._once, key, content, mode="create", use_multipart=False)

    def update(self, key: str, content: bytes, of: Object) -> None:
        """Replace an object that is still this one. Raises PreconditionError."""
        version: Any = of.version
        obstore.put(self._once, key, content, mode=version, use_multipart=False)

    def delete(self, *keys: str) -> None:
        """Remove those of these objects that are there."""
        for key in keys:
            try:
                obstore.delete(self._calls, key)
            except FileNotFoundError:
                continue

    def below(self, prefix: str) -> Iterator[Object]:
        """All objects whose keys are `prefix`, a slash, and more; all of the bucket for ""."""
        for some in obstore.list(self._calls, prefix or None, chunk_size=1000):
            yield from map(_object, some)


def _object(meta: Any) -> Object:
    mark = f"{meta['e_tag'] or ''}{meta['version'] or ''}"
    version = {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
    return Object(meta["path"], int(meta["size"]), mark, meta["last_modified"], version)


def _secrets(at: Location) -> list[str]:
    """What no message may hold."""
    named = keys_in(at.credentials).values() if at.credentials else ()
    known = map(os.environ.get, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN"))
    return [secret for secret in (*named, *known) if secret]
