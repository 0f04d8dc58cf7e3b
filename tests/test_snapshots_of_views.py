"""Every view of the mesh, restored from snapshots and moved to other layouts, answers as one that applied the log unbroken."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from cli.schema import SERVICE_SETTINGS
from services.blob.folder import FolderBlobs
from services.blob.protocol import Blobs
from services.core.columns import U64
from services.core.topics import partition_of
from services.log.history import Epoch, LogHistory
from services.log.protocol import End, Record
from services.state.checked import Opening
from services.state.manifest import Snapshots
from services.state.resharding import reshard
from services.state.restore import Past, Wanted, restore
from services.state.shard import Shard, open_or_rebuild
from services.state.snapshot import Taker
from smartfeed import store as of_smartfeed
from tests.damage.world import EVERY_ID, NOW_MS, VIEWS, checked
from tests.damaging import cut
from tests.test_views_are_pure import PARTITIONS, SMALL, load_datasets, log_of

HISTORY = LogHistory(b"0123456789abcdef", [Epoch(7, {})])


def past_of(records: list[Record]) -> Past:
    """The log of these records."""
    next_: dict[tuple[int, int], int] = {}
    for record in records:
        next_[int(record.topic), record.partition] = record.offset + 1
    return Past(HISTORY, {at: End(0, offset, 0) for at, offset in next_.items()})


@dataclass
class Kept:
    """A shard of a view on a folder, and its snapshots."""

    service: str
    data: Path
    blobs: Blobs
    log: list[Record]
    shard: int = 0
    shards: int = 1
    store: Any = field(init=False)
    taken_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.spec = checked(self.service)
        self.own = range(PARTITIONS * self.shard // self.shards, PARTITIONS * (self.shard + 1) // self.shards)
        self.folder = self.data / self.service / f"{self.shard}of{self.shards}"
        self.records = [r for r in self.log if r.topic in self.spec.topics and r.partition in self.own]
        self.past = past_of(self.log)
        self.wanted = Wanted(self.service, self.spec.form, tuple(self.spec.families), self.shard, self.shards, self.own)

    def open(self, fill: Callable[[Path], object] = lambda folder: None) -> None:
        settings = SERVICE_SETTINGS[self.service]()
        for name, value in SMALL.items():
            if hasattr(settings, name):
                setattr(settings, name, value)
        shard = open_or_rebuild(self.folder, self.spec.form, self.spec.families, 1, 1, fill)
        shard.connect(HISTORY, self.past.ends, [(int(topic), p) for topic in self.spec.topics for p in self.own])
        self.store = self.spec.open(Opening(shard, self.own, PARTITIONS, settings, self.data, lambda: NOW_MS))

    @property
    def state(self) -> Shard:
        found = self.store.shard
        assert isinstance(found, Shard)
        return found

    def apply(self, records: list[Record]) -> None:
        if fresh := self.state.fresh(records):
            self.store.apply(fresh)

    def snapshot(self) -> str:
        def clock() -> int:
            self.taken_ms += 1
            return self.taken_ms

        to = Snapshots(self.blobs, self.service, self.shard, self.shards)
        return Taker(self.state, to, self.own, map(int, self.spec.topics), clock).take()[0]

    def kill(self) -> None:
        """As after kill -9: the files as they are, with what is in the write-ahead log alone."""
        copy = self.folder.with_name("killed")
        shutil.copytree(self.folder, copy)
        self.state.close()
        shutil.rmtree(self.folder)
        copy.rename(self.folder)
        self.open()

    def lose(self, way: Callable[[Wanted, Path, Blobs, Past], str]) -> str:
        """Lose the folder, and have it filled from snapshots; what of."""
        found = list[str]()
        self.state.close()
        shutil.rmtree(self.folder)
        self.open(lambda folder: found.append(way(self.wanted, folder, self.blobs, self.past)))
        return found[0]

    def answers(self) -> dict[str, str]:
        return self.spec.answers(self.store, owned(self.own))

    def close(self) -> None:
        self.state.close()


def part_of(records: list[Record], share: float) -> list[Record]:
    """The first records of each partition."""
    last: dict[tuple[int, int], int] = {}
    for record in records:
        last[int(record.topic), record.partition] = record.offset + 1
    return [r for r in records if r.offset < share * last[int(r.topic), r.partition]]


def owned(own: range) -> U64:
    """The ids of the test that lie in these partitions."""
    return EVERY_ID[np.isin(partition_of(EVERY_ID, PARTITIONS), list(own))]


@contextmanager
def kept(service: str, data: Path, blobs: Blobs, log: list[Record], shard: int = 0, shards: int = 1) -> Iterator[Kept]:
    made = Kept(service, data, blobs, log, shard, shards)
    made.open()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return log_of(tmp_path_factory.mktemp("log"), 1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two data folders with the same datasets."""
    folders = (tmp_path / "one", tmp_path / "other")
    for folder in folders:
        folder.mkdir()
        load_datasets(folder)
    with patch.object(of_smartfeed, "REMOVED_KEPT", 5):
        yield folders


def newest_file(of: Kept) -> Path:
    """A file of the newest snapshot that no other names; its manifest, where there is none."""
    to = Snapshots(of.blobs, of.service, of.shard, of.shards)
    home = of.data / "blobs" / "snapshots" / of.service / f"{of.shard}of{of.shards}"
    (id_, newest), *rest = to.readable()
    others = [manifest for _, manifest in rest]
    named = {file.at for manifest in others for file in manifest.files.values()}
    own = [file.at for file in newest.files.values() if file.at not in named and file.size > 10]
    return home / "files" / own[0] if own else home / "manifests" / id_


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("service", VIEWS)
def test_a_view_that_was_lost_and_restored_again_and_again_answers_as_an_unbroken_one(
    service: str, seed: int, log: list[Record], world: tuple[Path, Path]
) -> None:
    """Batches, snapshots, kills, losses and damage in any order."""
    chance, (one, other) = random.Random(seed), world
    with ExitStack() as stack:
        whole = stack.enter_context(kept(service, one, FolderBlobs(one / "blobs"), log))
        whole.apply(whole.records)
        broken = stack.enter_context(kept(service, other, FolderBlobs(other / "blobs"), log))
        snapshots, at, restored = 0, 0, 0
        while at < len(broken.records) or restored < 2:
            size = chance.choice([1, 5, 20, 80])
            broken.apply(broken.records[at : at + size])
            at = min(at + size, len(broken.records))
            what = chance.random()
            if what < 0.25:
                broken.snapshot()
                snapshots += 1
            elif what < 0.35:
                broken.kill()
            elif what < 0.45 and snapshots:
                if snapshots > 1 and chance.random() < 0.5:
                    cut(newest_file(broken), -3)
                assert broken.lose(restore)
                assert any(broken.state.applied().values())
                restored, at, snapshots = restored + 1, 0, 0  # what it lacks comes again
        expected, found = whole.answers(), broken.answers()
        assert expected.keys() == found.keys()
        assert not {what for what in expected if expected[what] != found[what]}
        assert whole.state.applied() == broken.state.applied()


@pytest.mark.parametrize("service", VIEWS)
def test_a_view_that_moves_from_layout_to_layout_answers_as_one_that_was_made_of_the_log(
    service: str, log: list[Record], world: tuple[Path, Path]
) -> None:
    """1 -> 3 -> 2 shards: each layout from the snapshots of the one before, at other places of the log, then caught up."""
    one, other = world
    blobs = FolderBlobs(other / "blobs")
    with kept(service, other, blobs, log) as first:
        first.apply(part_of(first.records, 0.5))
        first.snapshot()
    for shards, share in ((3, 0.8), (2, 1.0)):
        for shard in range(shards):
            with ExitStack() as stack:
                again = Kept(service, other, blobs, log, shard, shards)
                made = list[str]()
                again.open(lambda folder, of=again, made=made: made.append(reshard(of.wanted, folder, blobs, of.past)))  # type: ignore[misc]
                stack.callback(again.close)
                assert made[0]
                began = sum(next_ for next_, _ in again.state.applied().values())
                upto = part_of(again.records, share)
                again.apply(upto)
                assert began, "it did not begin anew"
                again.snapshot()
                fresh = stack.enter_context(kept(service, one, FolderBlobs(one / "blobs"), log, shard, shards))
                reached = again.state.positions((int(r.topic), r.partition) for r in again.records)
                fresh.apply([r for r in fresh.records if r.offset < reached[int(r.topic), r.partition]])
                expected, found = fresh.answers(), again.answers()
                assert not {what for what in expected if expected[what] != found[what]}
                assert fresh.state.applied() == again.state.applied()
        for name in blobs.names("snapshots/" + service):  # the next one comes of this one
            if not name.endswith(f"of{shards}"):
                blobs.delete_all(f"snapshots/{service}/{name}")
