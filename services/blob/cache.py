"""Local files of blobs that lie elsewhere, by the hash of their content: a file that is there is never fetched again."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from services.core.durable import rename_durably, sync_file
from services.core.errors import Damaged

CHUNK = 1 << 20
Fetch = Callable[[Path], object]  # writes a content into a file that is not there


class Cache:
    """A folder of such files. Several processes may use one."""

    def __init__(self, folder: Path) -> None:
        """`folder`: made if it is not there. Its files can be fetched again, so all of them may be removed."""
        self._files, self._folders, self._drafts = folder / "files", folder / "folders", folder / "drafts"
        for made in (self._files, self._folders, self._drafts):
            made.mkdir(parents=True, exist_ok=True)

    def file(self, digest: str, fetch: Fetch) -> Path:
        """The file of a content. `fetch` is asked when it is not there. Raises Damaged when that is another content."""
        path = self._files / digest
        return path if path.exists() else self.new_file(fetch, digest)

    def new_file(self, fetch: Fetch, digest: str = "") -> Path:
        """The file of a content that has to be fetched to know what it is. Raises Damaged when it is not of this digest."""
        draft = self.draft() / "content"
        try:
            fetch(draft)
            found = digest_of(draft)
            if digest not in ("", found):
                raise Damaged(f"fetched {found}, expected {digest}")
            draft.chmod(0o600)
            sync_file(draft)
            rename_durably(draft, self._files / found)
        finally:
            shutil.rmtree(draft.parent, ignore_errors=True)
        return self._files / found

    def folder(self, digests: Mapping[str, str], fetch: Callable[[str, Path], object]) -> Path:
        """A folder of files by name, links to those of their contents. digests: by name; `fetch` is asked by name and
        writes into a file.
        """
        named = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
        path = self._folders / digest_in(named.encode())
        if not path.exists():
            draft = self.draft()
            for name, digest in digests.items():
                content = self.file(digest, partial(fetch, name))
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(content, draft / name)
            try:
                rename_durably(draft, path)
            except OSError:  # another made it meanwhile
                shutil.rmtree(draft, ignore_errors=True)
                if not path.exists():
                    raise
        return path

    def draft(self, stale_s: float = 0.0) -> Path:
        """An empty folder for files that are being written. stale_s: older ones are removed, as of processes that were killed;
        0: none.
        """
        for left in self._drafts.iterdir() if stale_s else ():
            with suppress(OSError):  # another removes it, or has ended
                if left.stat().st_mtime < time.time() - stale_s:
                    shutil.rmtree(left)
        return Path(mkdtemp(dir=self._drafts))


@contextmanager
def undone(file: Path) -> Iterator[None]:
    """Remove a file that is being written when that ends with an error."""
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def digest_in(content: bytes) -> str:
    """BLAKE2b of 16 bytes, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_of(path: Path) -> str:
    """The same of a file."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            state.update(part)
    return state.hexdigest()
