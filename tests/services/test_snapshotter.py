"""A process takes snapshots of its own shard when they are due, one of its replicas each, and says when it can't."""

import logging
import threading
from pathlib import Path

import pytest

from services.blob import s3_bucket
from services.blob.protocol import Blobs
from services.blob.s3 import S3Blobs
from services.blob.s3_url import location_of
from services.core.clock import wall_clock
from services.core.errors import Exhausted
from services.core.metrics import Metrics
from services.state.manifest import Snapshots
from services.state.restore import restore
from services.state.snapshotter import Snapshotter
from tests.seaweed import Seaweed
from tests.services.children import until
from tests.services.snapshots import SERVICE, Clock, Counting, counting, opened, past, store, taker, wanted

EVERY_S = 600.0


class Standing(Clock):
    """It stands until it is moved."""

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


def of(blobs: Blobs) -> Snapshots:
    return Snapshots(blobs, SERVICE, 0, 1)


def made(
    view: Counting, blobs: Blobs, clock: Clock, who: str = "a", room: str = "", every_s: float = EVERY_S
) -> Snapshotter:
    takes = taker(view, blobs, clock=clock)
    return Snapshotter(view.shard, of(blobs), takes, every_s, 3, who, clock, lambda: room)


def test_one_is_taken_whenever_one_is_due_and_old_ones_go(tmp_path: Path) -> None:
    blobs, clock = store(tmp_path), Standing()
    with counting(tmp_path / "0of1", 5) as view:
        one = made(view, blobs, clock)
        ids = []
        for n in range(5):
            ids.append(one.once())
            assert ids[-1]
            assert one.once() == "", "none is due"
            assert one.age_s() == 0
            clock.move(EVERY_S / 2)
            assert one.once() == ""
            assert one.age_s() == EVERY_S / 2
            clock.move(EVERY_S / 2)
            view.apply(5 + n)
    assert of(blobs).ids() == ids[:1:-1]


def test_of_two_replicas_one_takes_each(tmp_path: Path) -> None:
    blobs, clock = store(tmp_path), Standing()
    with counting(tmp_path / "a", 5) as view, counting(tmp_path / "b", 5) as same:
        one, other = made(view, blobs, clock, "a"), made(same, blobs, clock, "b")
        assert one.once()
        assert other.once() == ""
        assert other.age_s() == 0
        clock.move(EVERY_S)
        taken: list[str] = []
        threads = [threading.Thread(target=lambda of=of: taken.append(of.once())) for of in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([id_ for id_ in taken if id_]) == 1
    assert len(of(blobs).ids()) == 2


def test_a_replica_that_died_in_its_turn_is_followed_by_another(tmp_path: Path) -> None:
    blobs, clock = store(tmp_path), Standing()
    with counting(tmp_path / "a", 5) as view, counting(tmp_path / "b", 5) as same:
        one, other = made(view, blobs, clock, "a"), made(same, blobs, clock, "b")
        assert one._my_turn()
        clock.move(EVERY_S - 1)
        assert other.once() == ""
        clock.move(2)
        assert other.once()


def test_one_that_is_behind_takes_none(tmp_path: Path) -> None:
    blobs, clock = store(tmp_path), Standing()
    with counting(tmp_path / "a", 9) as view, counting(tmp_path / "b", 5) as behind:
        assert made(view, blobs, clock, "a").once()
        clock.move(EVERY_S)
        late = made(behind, blobs, clock, "b")
        assert late.once() == ""
        for offset in range(5, 9):
            behind.apply(offset)
        assert late.once()


def test_two_that_write_at_once_leave_two_snapshots_that_are_whole(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    with counting(tmp_path / "a", 50) as view, counting(tmp_path / "b", 60) as same:
        takers = [taker(view, blobs, clock=Clock()), taker(same, blobs, clock=Clock())]
        threads = [threading.Thread(target=lambda of=of: [of.take() for _ in range(3)]) for of in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(of(blobs).ids()) == 6
    for n, id_ in enumerate(of(blobs).ids()):
        manifest = of(blobs).manifest(id_)
        for newer in [newer for newer in of(blobs).ids() if newer > id_]:
            of(blobs).blobs.delete(f"manifests/{newer}")
        assert restore(wanted(), tmp_path / str(n), blobs, past(60)) == id_
        again = opened(tmp_path / str(n), past(60))
        assert again.counted(2) == manifest.events / 6
        again.close()


def test_without_room_on_the_disk_or_with_damage_none_is_taken(tmp_path: Path) -> None:
    with counting(tmp_path / "a", 5) as view:
        with pytest.raises(Exhausted, match="disk nearly full"):
            made(view, store(tmp_path), Standing(), room="disk nearly full").once()
        view.shard.damaged("a value can't be right")
        with pytest.raises(Exhausted, match="a value can't be right"):
            made(view, store(tmp_path), Standing()).once()
    assert of(store(tmp_path)).ids() == []


def test_a_failure_is_said_once_counted_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    blobs, clock = store(tmp_path), Standing()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "snapshots").write_bytes(b"in the way")
    with counting(tmp_path / "0of1", 5) as view:
        one = made(view, blobs, clock)
        rests = [one._step() for _ in range(4)]
        assert rests == [5, 10, 20, 40], "later each time"
        assert caplog.text.count(f"no snapshot of {SERVICE}/0of1: ") == 1
        clock.move(100)
        assert one.age_s() == 100, "from the start, as there was none"
        (tmp_path / "blobs" / "snapshots").unlink()
        assert one._step() == 30
        assert one.age_s() == 0
        assert "5 events" not in caplog.text
        assert f"of {SERVICE}/0of1: 90 events" in caplog.text


def test_a_bucket_that_is_away_for_a_while_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The view goes on meanwhile, and the next snapshot has all of it."""
    monkeypatch.setattr(s3_bucket, "RETRIES", 0)
    server, clock = Seaweed(tmp_path / "seaweed"), Standing()
    try:
        server.start()
        blobs = S3Blobs(location_of(server.url("away")), tmp_path / "cache")
        with counting(tmp_path / "0of1", 20) as view:
            one = made(view, blobs, clock)
            assert one._step() == 30
            server.stop()
            clock.move(EVERY_S)
            for offset in range(20, 30):
                view.apply(offset)
            assert [one._step() for _ in range(3)] == [5, 10, 20]
            assert caplog.text.count("can't be asked") == 1
            assert one.age_s() == EVERY_S
            server.start()
            assert one._step() == 30
            expected = view.answers()
        (newest, _) = of(blobs).ids()
        assert restore(wanted(), tmp_path / "again", blobs, past(30)) == newest
        again = opened(tmp_path / "again", past(30))
        assert again.answers() == expected
        again.close()
    finally:
        server.stop()


def test_it_works_by_itself_and_reports(tmp_path: Path) -> None:
    blobs, metrics = store(tmp_path), Metrics(SERVICE, 0)
    with counting(tmp_path / "0of1", 5) as view:
        one = Snapshotter(
            view.shard, of(blobs), taker(view, blobs, clock=wall_clock), 0.2, 2, "a", wall_clock, lambda: ""
        )
        one.start(metrics)
        try:
            until(lambda: len(of(blobs).ids()) >= 2)
        finally:
            one.stop()
    gauges = metrics.gauges()
    assert gauges["snapshot_failures"] == 0
    assert gauges["snapshot_written_bytes"] >= 0
    assert 0 <= gauges["snapshot_age_seconds"] < 60
    assert gauges["snapshot_held_seconds"] <= gauges["snapshot_duration_seconds"]
