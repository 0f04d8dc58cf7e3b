"""Removes old snapshots of a shard, and files that no manifest names, also while others take snapshots.

A process that takes a snapshot relies on files that a manifest named as it began, and writes others that no manifest
names before it ends; it gives up after `WITHIN_S`. So a file goes only when no manifest names it now, and none did at an
earlier look that is longer ago than that: a snapshot that relied on it then has written its manifest, which names it, or
has given up. The first look is noted in the blob `unused`.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.errors import Conflict, Damaged, InvalidArgument, NotFound
from services.state.manifest import FILES, MANIFESTS, UNUSED, Manifest, Snapshots
from services.state.snapshot import WITHIN_S

GRACE_S = 2 * WITHIN_S  # machines' clocks differ by less than the half of it
NEEDED = 2  # snapshots that retention relies on (coverage.py): so many stay, whatever is asked


class Unused(Struct):
    """Files that no manifest named, and since when that is known: Unix ms."""

    since: dict[str, int]


class Pruned(NamedTuple):
    """The snapshots that were removed, the files that were, their bytes, and the files that will be once they are old enough."""

    snapshots: list[str]
    files: list[str]
    waiting: list[str]


def prune(of: Snapshots, keep: int, now_ms: int, dry: bool = False) -> Pruned:
    """Keep the newest `keep` snapshots of a shard. dry: remove nothing. Raises InvalidArgument for fewer than are needed."""
    if keep < NEEDED:
        raise InvalidArgument(
            f"keep = {keep}: at least {NEEDED}, as the log may lack what the one before the newest has"
        )
    ids = of.ids()
    gone = _beyond(of, ids, keep)
    if not dry:
        for id_ in gone:
            of.blobs.delete(f"{MANIFESTS}/{id_}")
    files, waiting = _unused(of, set(gone) if dry else set(), now_ms, dry)
    if not dry:
        for name in files:
            of.blobs.delete(f"{FILES}/{name}")
    return Pruned(gone, sorted(files), sorted(waiting))


def _beyond(of: Snapshots, ids: list[str], keep: int) -> list[str]:
    """The ids of those that are too many; one that can't be read counts for none, and goes with those that are as old."""
    good, gone = 0, []
    for id_ in ids:
        if good >= keep:
            gone.append(id_)
            continue
        try:
            of.manifest(id_)
        except (Damaged, NotFound):
            continue
        good += 1
    return gone


def _unused(of: Snapshots, gone: set[str], now_ms: int, dry: bool) -> tuple[set[str], set[str]]:
    """Files to be removed, and those to be removed later. gone: ids of snapshots to be left out of account."""
    before, noted = _noted(of)
    there = of.files()
    named = _named(manifest for id_, manifest in _all(of) if id_ not in gone)  # after the files: none of them is newer
    unused = there - named
    old = {name for name in unused if now_ms - noted.since.get(name, now_ms) > GRACE_S * 1000}
    since = {name: noted.since.get(name, now_ms) for name in unused - old}
    if not dry and since != noted.since:
        with suppress(Conflict):  # another prunes too, and notes it
            of.blobs.swap(UNUSED, before, summed.encoded(Unused(since)))
    return old, unused - old


def _all(of: Snapshots) -> Iterable[tuple[str, Manifest]]:
    """Every manifest. Raises Damaged for one that can't be read: what it names is not known, so nothing may be removed."""
    for id_ in of.ids():
        try:
            yield id_, of.manifest(id_)
        except NotFound:
            continue


def _named(manifests: Iterable[Manifest]) -> set[str]:
    return {file.at for manifest in manifests for file in manifest.files.values()}


def _noted(of: Snapshots) -> tuple[bytes | None, Unused]:
    try:
        content = of.blobs.get(UNUSED)
        return content, summed.decoded(content, Unused)
    except NotFound:
        return None, Unused({})
    except msgspec.MsgspecError:
        return content, Unused({})  # noted anew, from now
