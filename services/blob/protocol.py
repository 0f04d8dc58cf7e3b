"""Where models, graphs, datasets and dumps lie: blobs by key, whichever store holds them.

A blob is bytes under a key such as `models/ranker/3/manifest.json` (`keys.py`). It is replaced whole or not at all, and what was
written is durable when the call returns. No key is the beginning of another's names: `a/b` is a blob, or blobs lie below it.
A folder (`folder.py`), a bucket (`s3.py`) and memory (`memory.py`) stand behind `Blobs`, and pass one contract test.

Blobs that belong together, such as the files of one version of a model, are written as a draft, a local folder, and published
atomically: readers find all of them or none. Every error is a MeshError; where a method names none, those are InvalidArgument
for a key that is not allowed, Unavailable when the store can't be reached or read, and Exhausted when it is full.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

STALE_S = 86_400.0  # after which a draft without new files was left by a process that was killed


class Stat(NamedTuple):
    """size: bytes; mark: other text once the blob was replaced. It costs no reading, and is not a hash of the content."""

    size: int
    mark: str


class Blobs(Protocol):
    """The store that services need. Thread-safe, and safe among processes that open the same store."""

    def put(self, key: str, content: bytes | Path) -> None:
        """Write a blob, or replace it: bytes, or the content of a local file.

        Raises Conflict where blobs lie below the key, or a blob stands on its way; a store without folders raises it also
        for a key below a prefix that was published.
        """
        ...

    def swap(self, key: str, old: bytes | None, new: bytes) -> None:
        """Replace a small blob if it is still `old`; None: if there is none. Raises Conflict when it is something else."""
        ...

    def get(self, key: str) -> bytes:
        """The content. Raises NotFound, and Damaged when what lies there can't be read as a blob."""
        ...

    def local(self, key: str) -> Path:
        """A local file of the content, to be read or mapped and never written; it stays what it is once the blob is replaced.

        Raises NotFound.
        """
        ...

    def fetch(self, key: str, into: Path) -> None:
        """Write the content into a local file, which is not there, and is not made when this raises; it is not synced.

        Raises NotFound.
        """
        ...

    def folder(self, prefix: str) -> Path:
        """A local folder of all blobs below a prefix under the rest of their keys, to be read alone. Raises NotFound."""
        ...

    def stat(self, key: str) -> Stat:
        """Size and mark. Raises NotFound."""
        ...

    def digest(self, key: str) -> str:
        """BLAKE2b of 16 bytes of the content, in hexadecimal; reads all of it. Raises NotFound."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a blob of this key."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """The keys below a prefix, sorted; empty when there are none."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """The names that follow a prefix in the keys below it, each once, sorted: of `a/b` and `a/c/d` below `a`, b and c."""
        ...

    def delete(self, key: str) -> None:
        """Remove a blob, if there is one."""
        ...

    def delete_all(self, prefix: str) -> None:
        """Remove all blobs below a prefix. Files that `local` and `folder` answered before may be gone too."""
        ...

    def draft(self, prefix: str, stale_s: float = STALE_S) -> AbstractContextManager[Path]:
        """An empty local folder to write blobs into that will lie below this prefix, removed at the end unless published.

        stale_s: drafts of this prefix without new files for so many seconds are removed.
        """
        ...

    def publish(self, draft: Path, prefix: str, durable: bool = True) -> None:
        """Make the files of a draft the blobs below a prefix, atomically. durable: False for blobs that need not outlive a crash.

        Raises Conflict, and leaves the draft as it is, where a blob of that key or below it is there already.
        """
        ...

    def below(self, prefix: str) -> "Blobs":
        """The blobs below a prefix as a store of their own, whose keys are the rest of theirs."""
        ...
