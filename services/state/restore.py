"""Fills the empty folder of a shard from the newest snapshot that fits, so that the log need be applied from there alone.

Files are written into a folder beside it, each is compared with its digest, and all are on the disk before that folder gets its
name: what is cut off is begun anew, and no folder that is half filled is ever opened. A snapshot that does not fit, or is
damaged, is left with a message, and the one before it is taken; when none is left the log is applied from its beginning.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from services.blob.protocol import Blobs
from services.core.durable import make_folder_durably, rename_durably, replace_durably, sync_file, sync_folder
from services.core.errors import Damaged, DeadlineExceeded, Exhausted, NotFound, Unavailable
from services.log.history import LogHistory
from services.log.protocol import End, Partition
from services.state.manifest import Manifest, Snapshots
from services.state.shard import set_aside
from services.state.snapshot import fetch

logger = logging.getLogger(__name__)
DRAFT = ".restoring"  # what the name of a folder ends with that is being filled
ORIGIN = "RESTORED"  # in a folder: the snapshots that it came of
THREADS, TRIES = 4, 3
_ORIGIN = re.compile(r"^(\S+) (\d{13}-[0-9a-f]{8})$", re.MULTILINE)


class Past(NamedTuple):
    """The log as it is now: which it is, and what it holds."""

    history: LogHistory
    ends: Mapping[Partition, End]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The shard whose folder is to be filled. form: the view's format with the number of partitions."""

    service: str
    form: str
    families: tuple[str, ...]
    shard: int
    shards: int
    own: range


def why_not(manifest: Manifest, form: str, past: Past | None) -> str:
    """Why a snapshot can't be used for a view of this format on this log; empty when it can. past: None: not compared."""
    if manifest.form != form:
        return f"was written as {manifest.form!r}, this process reads {form!r}"
    if past is None:
        return ""
    identity = past.history.identity.hex()
    if manifest.log != identity:
        return f"is of the log {manifest.log}, and this one is {identity}"
    if lost := past.history.lost(int(manifest.epoch, 16), manifest.next, past.ends):
        return lost
    for at, offset in manifest.next.items():
        if at in past.ends and offset < past.ends[at].first:
            return (
                f"ends at {offset} of topic {at[0]} partition {at[1]}, and the log begins at {past.ends[at].first}: what is "
                "between is lost"
            )
    return ""


def fitting(of: Snapshots, folder: Path, form: str, past: Past | None) -> Iterator[tuple[str, Manifest]]:
    """The snapshots that a folder can be filled from, the newest first; why others can't is logged.

    One from which a folder was filled that is now set aside as damaged is left out, and so are those taken since.
    """
    failed = _failed(folder, of.name)
    for id_ in of.ids():
        if failed and id_ >= failed:
            logger.warning(
                "snapshot %s of %s is passed over: a folder that came of %s was damaged", id_, of.name, failed
            )
            continue
        try:
            manifest = of.manifest(id_)
        except (Damaged, NotFound) as error:
            logger.warning("%s; an older one is looked for", error)
            continue
        if why := why_not(manifest, form, past):
            logger.warning("snapshot %s of %s is passed over: it %s", id_, of.name, why)
        else:
            yield id_, manifest


def restore(wanted: Wanted, folder: Path, blobs: Blobs, past: Past) -> str:
    """Fill an empty folder from a snapshot of the same shard; its id, empty when there is none.

    Raises Exhausted when the disk is full, and what stores raise when they can't be asked.
    """
    of = Snapshots(blobs, wanted.service, wanted.shard, wanted.shards)
    for id_, manifest in fitting(of, folder, wanted.form, past):
        draft = draft_of(folder)
        try:
            fill(of, manifest, draft)
        except (Damaged, NotFound) as error:
            shutil.rmtree(draft, ignore_errors=True)
            logger.error("snapshot %s can't be used: %s; an older one is looked for", id_, error)
            continue
        finish(draft, folder, [(of.name, id_)])
        logger.info("%s: filled from snapshot %s, which has %d events", of.name, id_, manifest.events)
        return id_
    return ""


def draft_of(folder: Path) -> Path:
    """An empty folder beside another, to be filled in its place; what was left in it is removed."""
    draft = folder.with_name(f"{folder.name}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder_durably(draft)
    return draft


def fill(of: Snapshots, manifest: Manifest, draft: Path) -> None:
    """Write the files of a snapshot into a folder, on the disk when this returns.

    Raises Damaged for a file that is not what was written, NotFound for one that is missing, Exhausted when the disk is full,
    and what stores raise.
    """

    def write(name: str) -> None:
        if not name or "/" in name or name.startswith("."):
            raise Damaged(f"{of.name}: the manifest names a file {name!r}, which is none of RocksDB's")
        fetch(of, name, manifest.files[name], draft / name)
        (draft / name).chmod(0o600)
        sync_file(draft / name)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, manifest.files))
    sync_folder(draft)


def finish(draft: Path, folder: Path, of: Iterable[tuple[str, str]]) -> None:
    """Give a filled folder its name. of: the snapshots that it came of, by shard and id. Raises Exhausted on a full disk."""
    try:
        replace_durably(draft / ORIGIN, "".join(f"{name} {id_}\n" for name, id_ in of).encode())
        if folder.is_dir():
            folder.rmdir()  # which only an empty one lets happen
        rename_durably(draft, folder)
    except OSError as error:
        raise Exhausted(f"{folder}: can't be filled: {error.strerror}") from None


def origins(folder: Path) -> list[tuple[str, str]]:
    """Shard and id of the snapshots that a folder came of; none when it came of the log."""
    try:
        return _ORIGIN.findall((folder / ORIGIN).read_text(errors="replace"))
    except OSError:
        return []


def _failed(folder: Path, name: str) -> str:
    """The id of the snapshot of a shard that the damaged folder beside this one came of; empty when it came of none."""
    return min((id_ for aside in set_aside(folder) for of, id_ in origins(aside) if of == name), default="")


def tried(restoring: Callable[[], str], what: str, past: Past) -> str:
    """What `restoring` answers. When stores can't be asked it is tried again, and then left if the log holds everything.

    Raises Unavailable when it does not, and Exhausted when the disk is full.
    """
    for left in reversed(range(TRIES)):
        try:
            return restoring()
        except (Unavailable, DeadlineExceeded) as error:
            whole = not any(end.first for end in past.ends.values())
            if not left and not whole:
                raise Unavailable(f"{error}; the log no longer holds everything, so {what} waits for it") from None
            then = "it is tried again" if left else f"{what} is built from the log"
            logger.error("%s can't be filled from a snapshot: %s; %s", what, error, then)
    return ""
