"""Local files of blobs that lie elsewhere, by the hash of their content: a file that is there is never fetched again."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from services.core.durable import rename_durably, replace_durably
from services.core.errors import Damaged

CHUNK = 1 << 20


class Cache:
    """A folder of such files. Several processes may use one."""

    def __init__(self, folder: Path) -> None:
        """`folder`: made if it is not there. Its files can be fetched again, so all of them may be removed."""
        self._files, self._folders, self._drafts = folder / "files", folder / "folders", folder / "drafts"
        for made in (self._files, self._folders, self._drafts):
            made.mkdir(parents=True, exist_ok=True)

    def file(self, digest: str, fetch: Callable[[], bytes]) -> Path:
        """The file of a content. `fetch` is asked when it is not there. Raises Damaged when that is another content."""
        path = self._files / digest
        if not path.exists():
            content = fetch()
            if digest_in(content) != digest:
                raise Damaged(f"fetched {digest_in(content)}, expected {digest}")
            replace_durably(path, content)
        return path

    def folder(self, digests: Mapping[str, str], fetch: Callable[[str], bytes]) -> Path:
        """A folder of files by name, links to those of their contents. digests: by name; `fetch` is asked by name."""
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

    def draft(self) -> Path:
        """An empty folder for files that are being written."""
        return Path(mkdtemp(dir=self._drafts))


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
