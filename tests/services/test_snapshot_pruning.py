"""Old snapshots go, and files that none names; never one that a snapshot relies on which is being taken meanwhile."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.blob.protocol import Blobs
from services.core import summed
from services.core.errors import Damaged, InvalidArgument
from services.state.manifest import Applied, File, Manifest, Snapshots, new_file, new_id
from services.state.pruning import GRACE_S, prune
from services.state.snapshot import WITHIN_S
from tests.services.snapshots import FORM, HISTORY, NOW, SERVICE, Clock, counting, files_of, problems, store, taker

HOUR_MS = 3_600_000
GRACE_MS = round(GRACE_S * 1000)


def of(blobs: Blobs) -> Snapshots:
    return Snapshots(blobs, SERVICE, 0, 1)


def test_the_newest_stay_and_files_go_once_none_named_them_for_long_enough(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    with counting(tmp_path / "0of1", 20) as view:
        takes = taker(view, blobs, clock=Clock())
        for offset in range(20, 25):
            view.apply(offset)
            takes.take()
    ids, before = of(blobs).ids(), set(files_of(blobs))
    dry = prune(of(blobs), 3, NOW, dry=True)
    assert (dry.snapshots, dry.files) == (ids[3:], [])
    assert dry.waiting
    assert (of(blobs).ids(), set(files_of(blobs))) == (ids, before)
    first = prune(of(blobs), 3, NOW)
    assert (first.snapshots, first.files, first.waiting) == (ids[3:], [], dry.waiting)
    assert of(blobs).ids() == ids[:3]
    for later in (1, GRACE_MS):
        assert prune(of(blobs), 3, NOW + later).files == []
    assert prune(of(blobs), 3, NOW + GRACE_MS + 1).files == dry.waiting
    assert set(files_of(blobs)) == before - set(dry.waiting)
    for id_ in ids[:3]:
        assert problems(of(blobs), id_, tmp_path) == []
    assert prune(of(blobs), 3, NOW + 3 * GRACE_MS) == ([], [], [])


def test_fewer_than_retention_relies_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="keep = 1: at least 2"):
        prune(of(store(tmp_path)), 1, NOW)


def test_a_snapshot_that_can_not_be_read_counts_for_none_and_no_file_goes_while_it_is_there(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    with counting(tmp_path / "0of1", 5) as view:
        takes = taker(view, blobs, clock=Clock())
        for _ in range(4):
            takes.take()
    ids = of(blobs).ids()
    of(blobs).blobs.put(f"manifests/{ids[1]}", b"{")
    with pytest.raises(Damaged, match=f"snapshot {ids[1]}"):
        prune(of(blobs), 2, NOW)
    assert of(blobs).ids() == ids[:3], "the newest two that can be read, and the one that can't"
    of(blobs).blobs.delete(f"manifests/{ids[1]}")
    assert prune(of(blobs), 2, NOW).snapshots == []


class Writing:
    """A snapshot under way, as `Taker` takes one: it relies on what manifests named as it began."""

    def __init__(self, to: Snapshots, began_ms: int, contents: list[int]) -> None:
        self.to, self.began_ms, self.left = to, began_ms, list(contents)
        self.known = {file.digest: file for _, manifest in to.readable() for file in manifest.files.values()}
        self.files: dict[str, File] = {}

    def step(self) -> None:
        content = self.left.pop()
        digest = f"{content:032x}"
        file = self.known.get(digest)
        if file is None:
            file = File(digest, 1, new_file(digest))
            self.to.blobs.put(f"files/{file.at}", b"%d" % content)
        self.files[str(content)] = file

    def end(self, now_ms: int) -> None:
        if now_ms - self.began_ms > WITHIN_S * 1000:
            return  # it gives up
        manifest = Manifest(
            service=SERVICE, form=FORM, shard=0, shards=1, first=0, stop=6, taken_ms=now_ms, log=HISTORY.identity.hex(),
            epoch="7", topics=[0], positions=[Applied(0, 0, 1, 1)], files=self.files,
        )  # fmt: skip
        self.to.blobs.put(f"manifests/{new_id(now_ms)}", summed.encoded(manifest))


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_whatever_is_taken_and_pruned_meanwhile_every_snapshot_keeps_its_files(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Several replicas take snapshots, several prune, step by step in any order, over days."""
    chance, blobs, now = random.Random(seed), store(tmp_path_factory.mktemp("pruned")), NOW
    to, writing = of(blobs), list[Writing]()
    for _ in range(120):
        now += chance.choice([0, 60_000, HOUR_MS, 4 * HOUR_MS])
        what = chance.random()
        if what < 0.2 and len(writing) < 3:
            writing.append(Writing(to, now, chance.sample(range(12), chance.randint(1, 5))))
        elif what < 0.3:
            prune(to, 2, now + chance.randint(-HOUR_MS, HOUR_MS))
        elif writing:
            one = chance.choice(writing)
            if one.left:
                one.step()
            else:
                one.end(now)
                writing.remove(one)
        there = to.files()
        for _, manifest in to.readable():
            assert {file.at for file in manifest.files.values()} <= there
