"""Takes a snapshot of a shard: a checkpoint of its database, whose files are written to the store of blobs.

A checkpoint is RocksDB's: links to its sorted files, which never change, and copies of the few small ones, as of one write; the
shard goes on meanwhile. A file whose content an earlier snapshot has is not written again (manifest.py).
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from services.blob.cache import digest_of
from services.core import summed
from services.core.clock import Clock
from services.core.errors import Damaged, NotFound, NotReady, Unavailable
from services.state.database import Looking
from services.state.manifest import FILES, MANIFESTS, Applied, File, Manifest, Snapshots, new_file, new_id
from services.state.shard import Shard

WITHIN_S = 6 * 3600.0  # one that takes longer is given up: what it relied on may be removed (pruning.py)
ASIDE = ".snapshot"  # what the name of a checkpoint's folder ends with, beside the shard's


class Taker:
    """Takes snapshots of one shard, one after the other."""

    def __init__(self, shard: Shard, to: Snapshots, own: range, topics: Iterable[int], clock: Clock) -> None:
        """own, topics: the partitions and topics of the log that the shard follows."""
        self._shard, self._to, self._own, self._clock = shard, to, own, clock
        self._topics = sorted(map(int, topics))
        self._digests: dict[tuple[str, int, int], str] = {}  # by name, inode and size: of files that do not change
        self.bytes_written = 0  # by the last one
        self.seconds_held = 0.0  # for which the last one held the shard up, at most

    def take(self, goes_on: Callable[[], bool] = lambda: True) -> tuple[str, Manifest]:
        """Take one; its id. Raises MeshError, and leaves nothing that readers see, when it can't be taken. goes_on: asked
        before each file; False ends it.
        """
        began, folder = time.monotonic(), self._shard.folder.with_name(f"{self._shard.folder.name}{ASIDE}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._shard.checkpoint(folder)
            self.seconds_held = time.monotonic() - began
            paths = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
            known = self._known()
            files = {name: self._written(path, known, goes_on) for name, path in paths.items()}
            manifest = self._described(folder, files)
        except OSError as error:
            raise Unavailable(f"{folder}: a checkpoint can't be read: {error.strerror}") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() - began > WITHIN_S:
            raise Unavailable(f"{self._to.name}: a snapshot took more than {WITHIN_S / 3600:g} hours and was given up")
        id_ = new_id(manifest.taken_ms)
        self._to.blobs.put(f"{MANIFESTS}/{id_}", summed.encoded(manifest))
        return id_, manifest

    def _known(self) -> dict[str, File]:
        """The files that snapshots have, by the digest of their content. Nothing is removed that one of them names."""
        self.bytes_written = 0
        return {file.digest: file for _, manifest in self._to.readable() for file in manifest.files.values()}

    def _written(self, path: Path, known: Mapping[str, File], goes_on: Callable[[], bool]) -> File:
        """The file in the store, where it is written unless it is there."""
        if not goes_on():
            raise Unavailable(f"{self._to.name}: a snapshot was given up as the process ends")
        digest, size = self._digest(path), path.stat().st_size
        if (there := known.get(digest)) is not None and there.size == size:
            return there
        at = new_file(digest)
        self._to.blobs.put(f"{FILES}/{at}", path)
        self.bytes_written += size
        return File(digest, size, at)

    def _digest(self, path: Path) -> str:
        found = path.stat()
        if path.suffix != ".sst":
            return digest_of(path)
        of = (path.name, found.st_ino, found.st_size)
        if of not in self._digests:
            self._digests[of] = digest_of(path)
        return self._digests[of]

    def _described(self, folder: Path, files: dict[str, File]) -> Manifest:
        """The manifest of a checkpoint, by what it holds itself: the shard has moved on meanwhile."""
        self._digests = {of: digest for of, digest in self._digests.items() if of[0] in files}
        looked = Shard(folder, self._shard.form, self._shard.families, 1, 1, Looking())
        try:
            applied, log, epoch = looked.applied(), looked.log, looked.epoch
        finally:
            looked.close()
        if not log:
            raise NotReady(f"{self._to.name}: has not reached the log yet, so there is nothing to keep of it")
        return Manifest(
            service=self._to.service,
            form=self._shard.form,
            shard=self._to.shard,
            shards=self._to.shards,
            first=self._own.start,
            stop=self._own.stop,
            taken_ms=self._clock(),
            log=log.hex(),
            epoch=f"{epoch:016x}",
            topics=self._topics,
            positions=[Applied(*at, *of) for at, of in sorted(applied.items())],
            files=files,
        )


def problem(of: Snapshots, name: str, file: File, scratch: Path) -> str:
    """What is wrong with a file of a snapshot, which is read whole; empty when nothing is. scratch: where it is written.

    Raises what stores raise when they can't be asked.
    """
    try:
        fetch(of, name, file, scratch)
    except (Damaged, NotFound) as error:
        return str(error)
    finally:
        scratch.unlink(missing_ok=True)
    return ""


def fetch(of: Snapshots, name: str, file: File, into: Path) -> None:
    """Write a file of a snapshot to the disk, unsynced. Raises Damaged when it is not what was written, NotFound when it is
    missing, and what stores raise.
    """
    of.blobs.fetch(f"{FILES}/{file.at}", into)
    found = digest_of(into)
    if found != file.digest:
        into.unlink()
        raise Damaged(
            f"{of.name}: {name} ({FILES}/{file.at}) is damaged: its digest is {found}, expected {file.digest}"
        )
