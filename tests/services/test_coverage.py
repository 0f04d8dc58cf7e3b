"""The log is dropped only as far as snapshots of every view reach, and what holds it back is said."""

import logging
from pathlib import Path

import pytest

from cli.schema import SCHEMA
from roadrunner.committer import Committer
from roadrunner.retention import Retention, over
from services.blob.protocol import Blobs
from services.core import settings, summed
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.rpc import mesh as meshes
from services.rpc.membership import Members
from services.rpc.mesh import Address
from services.state.coverage import NO_BOUND, Coverage, Floor, Shards, floor_of, views_of
from services.state.manifest import Applied, Manifest, Snapshots, new_id
from services.state.restore import Past
from tests.roadrunner.running import open_log, publish
from tests.services.batches import follows
from tests.services.children import until
from tests.services.snapshots import HISTORY, NOW, PARTITIONS, past, store

USERS, OBJECTS = int(Topic.USERS), int(Topic.OBJECTS)


def put(
    blobs: Blobs,
    service: str,
    shard: int,
    shards: int,
    taken: int,
    next_: int,
    log: str = "",
    topics: tuple[int, ...] = (USERS,),
) -> str:
    """A manifest of a shard that has applied all partitions up to an offset."""
    own = range(PARTITIONS * shard // shards, PARTITIONS * (shard + 1) // shards)
    manifest = Manifest(
        service=service, form="x", shard=shard, shards=shards, first=own.start, stop=own.stop, taken_ms=taken,
        log=log or HISTORY.identity.hex(), epoch="7", topics=list(topics), files={},
        positions=[Applied(topic, partition, next_, next_) for topic in topics for partition in own if next_],
    )  # fmt: skip
    id_ = new_id(taken)
    Snapshots(blobs, service, shard, shards).blobs.put(f"manifests/{id_}", summed.encoded(manifest))
    return id_


def views(*shards: int, takes: bool = True) -> list[Shards]:
    return [Shards(f"view{n}", of, takes) for n, of in enumerate(shards)]


def at(floor: Floor, partition: int, topic: int = USERS) -> int | None:
    return floor.before.get((topic, partition))


def test_the_newest_snapshot_but_one_of_the_view_that_is_furthest_behind_counts(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    for n, next_ in enumerate((10, 20, 30)):
        put(blobs, "view0", 0, 1, NOW + n, next_)
    for shard, last in ((0, 50), (1, 15)):
        put(blobs, "view1", shard, 2, NOW, last)
        put(blobs, "view1", shard, 2, NOW + 1, 90)
    floor = floor_of(blobs, views(1, 2), past(100))
    assert floor.why == ""
    assert [at(floor, partition) for partition in range(PARTITIONS)] == [20, 20, 20, 15, 15, 15]
    assert floor.allows((USERS, 0), 20)
    assert not floor.allows((USERS, 0), 21)
    assert floor.allows((OBJECTS, 0), 10**9), "nobody follows that topic"


def test_a_partition_of_which_a_view_has_applied_nothing_keeps_all_of_it(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    for n in range(2):
        put(blobs, "view0", 0, 1, NOW + n, 20)
        put(blobs, "view1", 0, 1, NOW + n, 0, topics=(USERS, OBJECTS))
    floor = floor_of(blobs, views(1, 1), past(100))
    assert (at(floor, 0), at(floor, 0, OBJECTS)) == (0, 0)


@pytest.mark.parametrize("takes", [True, False])
def test_a_view_without_two_snapshots_of_this_log_keeps_everything(tmp_path: Path, takes: bool) -> None:
    blobs = store(tmp_path)
    put(blobs, "view0", 0, 1, NOW, 20)
    put(blobs, "view0", 0, 1, NOW + 1, 20, log="00" * 16)
    put(blobs, "view0", 0, 1, NOW + 2, 500)
    floor = floor_of(blobs, views(1, takes=takes), past(100))
    assert "view0/0of1 has not 2 snapshots of this log" in floor.why, (
        "one is of another log, one of a past that was lost"
    )
    assert ("set [view0] snapshot_every_s" in floor.why) != takes
    assert not floor.allows((USERS, 0), 1)
    assert not floor.allows((OBJECTS, 0), 1)


def test_the_layout_that_answers_counts(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    for n in range(2):
        put(blobs, "apiary", 0, 1, NOW + n, 20)
    of = settings.validated({"apiary": {"snapshot_every_s": 60}, "polaris": {}}, "a test", SCHEMA)
    one = Address(service="apiary", shard=0, shards=1, address="a")
    two = [Address(service="apiary", shard=shard, shards=2, address=f"b{shard}", asked=False) for shard in range(2)]
    mesh = meshes.resolve(of, [one, *two, Address(service="web", shard=0, shards=1, address="w")])
    assert views_of(mesh.settings, mesh.membership.current()) == [Shards("apiary", 1, True)]
    assert floor_of(blobs, views_of(mesh.settings, mesh.membership.current()), past(100)).why == ""
    answering = [Address(service="apiary", shard=p.shard, shards=2, address=p.address) for p in two]
    switched = meshes.resolve(of, answering)
    assert (
        "apiary/0of2 has not 2 snapshots"
        in floor_of(blobs, views_of(switched.settings, switched.membership.current()), past(100)).why
    )


def test_the_replicas_of_a_shard_share_its_snapshots() -> None:
    settings, shards = {"apiary": {"shards": 2, "snapshot_every_s": 60.0}}, range(2)
    replicas = [
        Address(service="apiary", shard=shard, shards=2, replica=replica, address=f"{shard}.{replica}")
        for shard in shards
        for replica in range(3)
    ]
    assert views_of(settings, Members(tuple(replicas))) == [Shards("apiary", 2, True)]


def test_what_is_over_is_dropped_as_far_as_the_floor_and_the_rest_is_held(tmp_path: Path) -> None:
    from roadrunner.layout import Segment

    a, b = (USERS, 0), (USERS, 1)
    segments = {
        a: [Segment(0, 10, 100, 5), Segment(10, 20, 300, 5), Segment(20, 30, 500, 5)],
        b: [Segment(0, 10, 200, 5), Segment(10, 20, 400, 5)],
    }
    limits = Retention(max_bytes=5)
    assert over(segments, limits, 25, 1_000, NO_BOUND) == ([a, b, a, b], 0)
    assert over(segments, limits, 25, 1_000, Floor({a: 19, b: 20})) == ([a, b, b], 5), "a segment goes whole"
    assert over(segments, limits, 25, 1_000, Floor({a: 0, b: 20})) == ([b, b], 10), "and none before the one before it"
    assert over(segments, limits, 25, 1_000, Floor({}, "none is known")) == ([], 20)
    assert over(segments, Retention(max_age_ms=650), 25, 1_000, Floor({a: 100, b: 5})) == ([a, a], 5)


def test_a_log_that_is_held_back_says_so_and_is_dropped_once_it_is_covered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roadrunner import committer as under_test
    from services.state import coverage as looked

    monkeypatch.setattr(under_test, "RETAIN_EVERY_S", 0.02)
    monkeypatch.setattr(looked, "EVERY_S", 0.02)
    caplog.set_level(logging.INFO)
    log, blobs = (
        open_log(tmp_path, partitions=PARTITIONS, retention=Retention(max_bytes=1, segment_bytes=1)),
        store(tmp_path),
    )
    coverage = Coverage(blobs, lambda: views(1), lambda: Past(log.history, log.ends()))
    committer = Committer(log, 64, lambda: "", coverage.floor)
    committer.start()
    try:
        for user in range(1, 30):
            publish(committer, follows(1, first_id=user, user=user), 10)
        until(lambda: committer.held_bytes > 0)
        assert "snapshots have not been looked at yet" in caplog.text
        coverage.start()
        until(lambda: "view0/0of1 has not 2 snapshots of this log" in caplog.text)
        assert all(end.first == 0 for end in log.ends().values())
        identity = log.history.identity.hex()
        for n in range(2):
            own = {at: end.next for at, end in log.ends().items() if end.next and at[0] == USERS}
            manifest = Manifest(
                service="view0", form="x", shard=0, shards=1, first=0, stop=PARTITIONS, taken_ms=NOW + n, log=identity,
                epoch=f"{log.history.epoch:016x}", topics=[USERS], files={},
                positions=[Applied(*at, next_, next_) for at, next_ in own.items()],
            )  # fmt: skip
            Snapshots(blobs, "view0", 0, 1).blobs.put(f"manifests/{new_id(NOW + n)}", summed.encoded(manifest))
        until(lambda: all(end.first == end.next for at, end in log.ends().items() if at[0] == USERS))
        until(lambda: committer.held_bytes == 0)
    finally:
        coverage.stop()
        committer.stop()
        log.close()
    assert "retention dropped" in caplog.text


def test_a_store_that_can_not_be_asked_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"no folder")
    history = LogHistory(HISTORY.identity, [Epoch(7, {})])
    coverage = Coverage(store(tmp_path), lambda: views(1), lambda: Past(history, {}))
    assert coverage._step() > 0
    assert coverage.floor().why
    assert not coverage.floor().allows((USERS, 0), 1)
