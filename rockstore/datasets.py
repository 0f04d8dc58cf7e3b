"""Datasets: fixed-width rows of float32 features by key, loaded in bulk as versions, with live rows from the log on top.

A version's sorted file is ingested when the log says to switch to it, and the pointer to it moves in the write batch
of the log's offsets. Ingesting is atomic but not part of that batch: killed in between, a shard finds the file's last
key when the log says so again, and only moves the pointer. A file that is missing or damaged is waited for: applying raises
NotReady, nothing is committed, and the follower tries again. A version that can never be taken, for a reason that is the
same on every shard, leaves the version before.
"""

import errno
import logging
import os
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from rocksdict import IngestExternalFileOptions

from rockstore import keys as blob_keys
from rockstore import layout
from rockstore.layout import State, Version
from rockstore.versions import PartitionFile, check_file, read_manifest, removed
from services.blob.protocol import Blobs
from services.core.columns import F32, I64, U64, Array, ids
from services.core.errors import Damaged, Exhausted, NotFound, NotReady, Unavailable
from services.core.events import Action, Batch
from services.core.topics import partition_of
from services.state.database import LITTLE_SPACE
from services.state.family import Family
from services.state.shard import Shard

logger = logging.getLogger(__name__)
MAX_DATASETS = 1000  # of a partition; the log could else name new ones without end
_FULL = (errno.ENOSPC, errno.EDQUOT)
LISTED = 3  # problems of one dataset that are listed; of others their number

States = dict[str, dict[int, State]]  # by dataset and partition; replaced, never changed, so readers need no lock


class DatasetRows(NamedTuple):
    """The rows of n keys. Of a key not found values are NaN and at_ms is 0."""

    columns: list[str]
    values: F32  # [n, c]
    found: Array  # bool[n]
    at_ms: I64
    version: int


class Described(NamedTuple):
    """One dataset on this shard."""

    name: str
    columns: list[str]
    version: int
    versions: list[int]
    rows: int
    as_of_ms: int
    problem: str


class _Put(NamedTuple):
    """A live row as it came. values: f4 each."""

    partition: int
    key: bytes
    at_ms: int
    values: bytes


class _Live:
    """Live rows by their key: those on disk, and those that came since."""

    def __init__(self, family: Family, keys: list[bytes]) -> None:
        wanted = list(dict.fromkeys(keys))
        self._kept = dict(zip(wanted, family.get(wanted), strict=True)) if wanted else {}
        self.new: dict[bytes, bytes] = {}

    def put(self, state: State, row: _Put) -> State:
        """The state after a live row. It is kept unless a newer one was sent for the same columns."""
        width = len(row.values) // 4
        columns = state.columns or [f"x{i}" for i in range(width)]
        if not columns or len(columns) != width:
            return replace(state, passed_over=state.passed_over + 1)
        named, before = layout.columns_hash(columns), self.new.get(row.key) or self._kept[row.key]
        before_ms, before_named = layout.live_header(row.key, before) if before else (0, named)
        if before_ms <= row.at_ms or before_named != named:
            self.new[row.key] = layout.pack_live(row.at_ms, named, row.values)
        return state if state.live else replace(state, live=True, unnamed=state.unnamed or [*columns])


class Datasets:
    """The datasets of the partitions of one shard."""

    def __init__(self, shard: Shard, partitions: int, blobs: Blobs | None, versions_kept: int) -> None:
        """`blobs`: of all datasets; None: this process takes none."""
        self._shard, self._partitions, self._blobs, self._kept = shard, partitions, blobs, versions_kept
        self._refused = ("", "", "")  # the last file that was damaged: key, mark, and its error
        self._states: States = {}
        for key, value in shard.family("datasets").items():
            partition, name = layout.dataset_of(key)
            self._states.setdefault(name, {})[partition] = layout.unpack_state(key, value)

    # --- the log --------------------------------------------------------------------------------------------------

    def apply(self, write: Any, batch: Batch, partition: Array) -> States:
        """Add what the events change to a write batch: the states to `adopt` once that has been committed."""
        states, changed = {name: dict(of) for name, of in self._states.items()}, set()
        names = batch.title.strings()
        hashes = {name: layout.dataset_hash(name) for name in dict.fromkeys(names) if _is_name(name)}
        puts = (batch.action == Action.PUT_FEATURES).tolist()
        keys = layout.live_keys(partition, ids([hashes.get(name, 0) for name in names]), batch.target)
        live = _Live(self._shard.family("live"), [key for key, put in zip(keys, puts, strict=True) if put])
        columns = (names, puts, partition.tolist(), batch.target.tolist(), keys, batch.at_ms.tolist(), _runs(batch))
        for name, put, at, target, key, at_ms, values in zip(*columns, strict=True):
            if name not in hashes or not _may_hold(states, name, at):
                continue
            before = states.setdefault(name, {}).get(at, State())
            after = live.put(before, _Put(at, key, at_ms, values)) if put else self._switched(before, name, at, target)
            if after is not before:
                states[name][at] = after
                changed.add((name, at))
        for problem in sorted(
            {f"{name}: {states[name][at].problem}" for name, at in changed if states[name][at].problem}
        ):
            logger.error("dataset %s", problem)  # once, where all partitions have the same
        for key, value in live.new.items():
            write.put(key, value, self._shard.handle("live"))
        for name, at in changed:
            states[name][at] = self._write(write, states[name][at], name, at)
        return states

    def adopt(self, states: States) -> None:
        """The states that `apply` returned are in the database: serve them."""
        self._states = states

    def _write(self, write: Any, state: State, name: str, partition: int) -> State:
        """Put a state, less the versions that are kept no longer, whose rows end."""
        stay = {*sorted(state.versions)[-self._kept :], state.version}
        for version in state.versions.keys() - stay:
            first, after = layout.version_range(partition, layout.dataset_hash(name), version)
            write.delete_range(first, after, self._shard.handle("rows"))
        state = replace(state, versions={v: of for v, of in state.versions.items() if v in stay})
        write.put(layout.dataset_key(partition, name), layout.pack_state(state), self._shard.handle("datasets"))
        return state

    # --- versions -------------------------------------------------------------------------------------------------

    def _switched(self, state: State, name: str, partition: int, version: int) -> State:
        """The state after a switch; the same version with a problem when the other can never be taken. Raises NotReady when
        it can't be taken now, Exhausted on a full disk.
        """
        try:
            taken = self._taken(state.versions.get(version), name, partition, version)
        except (NotFound, Damaged, Unavailable) as error:
            raise NotReady(
                f"dataset {name} version {version} is waited for: {error}; put its files right, or `feedmesh features remove "
                f"{name} {version}` if it will not come"
            ) from None
        if isinstance(taken, str):
            return replace(state, problem=f"version {version} was not taken: {taken}")
        versions = {**state.versions, version: taken}
        return replace(state, version=version, versions=versions, problem="", passed_over=0)

    def _taken(self, known: Version | None, name: str, partition: int, version: int) -> Version | str:
        """The version, once its rows are in the database; or why it can never be taken. Raises NotFound, Damaged or
        Unavailable when it can't be yet, Exhausted on a full disk.
        """
        if self._blobs is None:
            return "this process takes no datasets"
        try:
            manifest = read_manifest(self._blobs, name, version)
        except NotFound:
            if known is not None:
                return known  # its files may be gone, its rows are here
            if version in removed(self._blobs, name):
                return "it was removed"
            raise
        if manifest.partitions != self._partitions:
            return f"it was loaded for {manifest.partitions} partitions, there are {self._partitions}"
        file = manifest.files.get(partition)
        found = Version(manifest.columns, file.rows if file else 0, manifest.as_of_ms, file.checksum if file else 0)
        if known is not None:
            same = known == found
            return known if same else "other rows were taken under this number before; load it again, under a new one"
        if file is not None:
            last = layout.row_keys(partition, layout.dataset_hash(name), version, ids([file.last]))
            if self._shard.family("rows").get(last[0]) is None:
                self._take(file, blob_keys.file_key(name, version, partition))
        return found

    def _take(self, file: PartitionFile, key: str) -> None:
        """Ingest a sorted file. One that is damaged is not read again until it is another."""
        if self._blobs is None:
            raise NotFound(f"{key}: this process takes no datasets")
        mark = self._blobs.stat(key).mark
        if self._refused[:2] == (key, mark):
            raise Unavailable(self._refused[2])
        draft = self._shard.folder / "taken.sst"
        _link(self._blobs.local(key), draft, key)
        try:
            check_file(draft, file, key)
        except Unavailable as error:
            draft.unlink(missing_ok=True)
            self._refused = (key, mark, str(error))
            raise
        self._ingest(draft, key)

    def _ingest(self, draft: Path, key: str) -> None:
        """Move a sorted file into the database; the key of its blob is for messages."""
        options = IngestExternalFileOptions()
        options.set_move_files(True)
        try:
            self._shard.family("rows").raw.ingest_external_file([str(draft)], options)
        except Exception as error:
            if "No space" in str(error) or shutil.disk_usage(self._shard.folder).free < LITTLE_SPACE:
                raise Exhausted(f"{self._shard.folder}: the disk is full ({error})") from None
            raise Unavailable(f"{key}: {error}") from None
        finally:
            draft.unlink(missing_ok=True)

    # --- reading --------------------------------------------------------------------------------------------------

    def rows(self, name: str, keys: U64) -> DatasetRows:
        """The rows of these keys. While partitions serve different versions, each answers from its own, by the names
        of the newest one's columns: NaN where it has no such column."""
        of = self._states.get(name, {})
        newest = max(of.values(), key=lambda state: (state.version, len(state.columns)), default=State())
        columns = newest.columns
        values = np.full((len(keys), len(columns)), np.nan, np.float32)
        found, at_ms = np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        if len(columns) and len(keys):
            partition = partition_of(keys, self._partitions)
            for partitions, state in _served_alike(of):
                at: Any = np.flatnonzero(np.isin(partition, partitions)) if len(of) > len(partitions) else slice(None)
                read = self._read(name, state, partition[at], keys[at])
                if state.columns == columns:
                    values[at] = read.values
                else:
                    _by_name(values, at, columns, read)
                found[at], at_ms[at] = read.found, read.at_ms
        return DatasetRows(columns, values, found, at_ms, newest.version)

    def _read(self, name: str, state: State, partition: Array, keys: U64) -> DatasetRows:
        """Rows of partitions that all serve as `state` does."""
        dataset, width = layout.dataset_hash(name), len(state.columns)
        bulk: Sequence[bytes | None] = [None] * len(keys)
        names = layout.row_keys(partition, dataset, state.version, keys)
        if state.version:
            bulk = self._shard.family("rows").get(names)
        found = np.array([value is not None for value in bulk], bool)
        values, at_ms = layout.unpack_rows(names, bulk, width), np.where(found, state.as_of_ms, 0)
        if state.live:
            kept = self._shard.family("live").get(layout.live_keys(partition, dataset, keys))
            live_ms, live = layout.unpack_live(kept, state.columns)
            newer = live_ms > state.as_of_ms
            found, at_ms = found | newer, np.where(newer, live_ms, at_ms)
            values = np.where(newer[:, None], live, values)
        return DatasetRows(state.columns, values, found, at_ms, state.version)

    def described(self) -> list[Described]:
        """Every dataset, by name."""
        return [_described(name, of) for name, of in sorted(self._states.items())]


def _is_name(name: str) -> bool:
    if not blob_keys.NAME.fullmatch(name):
        logger.warning("passed over: %r can't be the name of a dataset", name[:80])
        return False
    return True


def _may_hold(states: States, name: str, partition: int) -> bool:
    """Whether a partition has a dataset of this name, or may have one more."""
    if partition in states.get(name, ()):
        return True
    if sum(partition in of for of in states.values()) >= MAX_DATASETS:
        logger.warning("passed over: dataset %s would be one more than %d", name, MAX_DATASETS)
        return False
    return True


def _runs(batch: Batch) -> list[bytes]:
    """The features of each row, f4 each."""
    values, ends = batch.features.values.astype("<f4").tobytes(), (4 * batch.features.ends.astype(np.int64)).tolist()
    return [values[start:end] for start, end in pairwise([0, *ends])]


def _link(path: Path, draft: Path, key: str) -> None:
    """The file under another name in the shard's folder: without a copy, where both are on one file system."""
    draft.unlink(missing_ok=True)
    try:
        try:
            os.link(path, draft)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, draft)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise Exhausted(f"{key}: the disk is full") from None
        raise Unavailable(f"{key}: {(error.strerror or str(error)).lower()}") from None


def _served_alike(of: dict[int, State]) -> list[tuple[list[int], State]]:
    """The partitions by what they serve; once a switch has reached all of them, one group."""
    groups: dict[tuple[int, int, tuple[str, ...]], tuple[list[int], State]] = {}
    for partition, state in of.items():
        served = (state.version, state.as_of_ms, tuple(state.columns))
        partitions, first = groups.setdefault(served, ([], state))
        partitions.append(partition)
        if state.live and not first.live:
            groups[served] = (partitions, state)
    return [group for group in groups.values() if group[1].columns]


def _by_name(values: F32, at: Any, columns: list[str], read: DatasetRows) -> None:
    place = {column: i for i, column in enumerate(read.columns)}
    for i, column in enumerate(columns):
        if column in place:
            values[at, i] = read.values[:, place[column]]


def _described(name: str, of: dict[int, State]) -> Described:
    newest = max(of.values(), key=lambda state: (state.version, len(state.columns)))
    versions = sorted({version for state in of.values() for version in state.versions})
    alike = [state for state in of.values() if state.version and state.version == newest.version]
    rows = sum(state.versions[state.version].rows for state in alike)
    problems = sorted({state.problem for state in of.values() if state.problem})
    if len(problems) > LISTED:
        problems[LISTED:] = [f"and {len(problems) - LISTED} more"]
    if passed := sum(state.passed_over for state in of.values()):
        problems.append(f"{passed} live rows of another width than {len(newest.columns)} columns were passed over")
    return Described(name, newest.columns, newest.version, versions, rows, newest.as_of_ms, "; ".join(problems))
