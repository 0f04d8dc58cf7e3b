"""What says in a bucket which files were published below a prefix, at once: the object `<prefix>/.published`.

The files themselves lie below `<prefix>/.files-<random>/`, where nobody finds them before that object is there, which is
created only if there is none: so of two that publish in one place one is first, and a reader finds all of it or nothing.
"""

import secrets
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from services.core.errors import Damaged

MARKER = ".published"
FILES = ".files-"


class File(Struct, frozen=True):
    """One of the files. at: the rest of its object's key after the prefix; digest: BLAKE2b of 16 bytes; size: bytes."""

    at: str
    digest: str
    size: int


class Published(Struct, frozen=True):
    """The files of a prefix, by the rest of their keys."""

    files: dict[str, File]

    def encoded(self) -> bytes:
        """As the object holds it."""
        return msgspec.json.encode(self)


def decoded(key: str, content: bytes) -> Published:
    """What such an object holds. Raises Damaged."""
    try:
        return msgspec.json.decode(content, type=Published)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{key}: is damaged: {error}") from None


def new_place() -> str:
    """A name below a prefix for files that nobody else writes."""
    return f"{FILES}{secrets.token_hex(8)}"


def marker_of(prefix: str) -> str:
    """The key of the object that says what was published below a prefix."""
    return f"{prefix}/{MARKER}"


def above(key: str) -> Iterator[str]:
    """The prefixes that a key lies below, the longest first."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def is_hidden(key: str) -> bool:
    """Whether an object is no blob by itself: a name of its key begins with a dot."""
    return key.startswith(".") or "/." in key
