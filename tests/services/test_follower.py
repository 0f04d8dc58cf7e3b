"""A view follows a real log over gRPC, through restarts of the log and trouble of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.core import tokens
from services.core.clock import Clock, wall_clock
from services.core.errors import DeadlineExceeded, MeshError, NotReady, Unavailable
from services.core.events import Action, events
from services.core.topics import Topic
from services.log.history import LogHistory
from services.log.memory import MemoryLog, MemoryReader
from services.log.protocol import End, Partition, Positions, Reader, Record, rows
from services.log.reading import open_reader, read_all
from services.state.follower import READY_LAG_EVENTS, Follower, Lag
from services.state.shard import Shard
from tests.roadrunner.running import PARTITIONS, Running, running
from tests.services.batches import follows
from tests.services.children import until

NOW = 1_750_000_000_000


class TinyView:
    """Remembers the id of each event of `users`, and how often it came."""

    def __init__(self, folder: Path) -> None:
        self.shard = Shard(folder / "view", "tiny 1", ("ids",), cache_mb=1, memtable_mb=1)
        self.trouble: Exception | None = None
        self.held = threading.Event()
        self.held.set()

    def apply(self, records: list[Record]) -> None:
        assert self.held.wait(30)
        if self.trouble:
            raise self.trouble
        batch = self.shard.batch()
        if records:
            for event in rows(records)[0].id.tolist():
                key = event.to_bytes(8, "big")
                assert self.shard.family("ids").get(key) is None, f"event {event} was applied twice"
                batch.put(key, b"", self.shard.handle("ids"))
        self.shard.commit(batch, records)

    def seen(self) -> set[int]:
        return {int.from_bytes(key, "big") for key in self.shard.family("ids").keys()}  # noqa: SIM118 - it is no dict


@contextmanager
def following(view: TinyView, log: Reader, clock: Clock = wall_clock) -> Iterator[Follower]:
    follower = Follower(log, view, (Topic.USERS,), range(PARTITIONS), clock)
    follower.start()
    try:
        yield follower
    finally:
        view.held.set()
        follower.stop()
        assert not follower._thread.is_alive()


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def view(tmp_path: Path) -> Iterator[TinyView]:
    made = TinyView(tmp_path)
    yield made
    made.shard.close()


def ready(follower: Follower) -> bool:
    return not follower.why_not_ready()


def await_events(follower: Follower, token: bytes) -> None:
    """Return once the view is ready and shows the write of this token."""
    until(lambda: ready(follower))
    follower.wait(tokens.decode(token), 10)


def test_catches_up_with_what_was_and_what_comes(ingest: Running, view: TinyView) -> None:
    publisher = ingest.publisher()
    publisher.publish(follows(50, user=1), 10)
    with following(view, ingest.reader()) as follower:
        until(lambda: ready(follower) and follower.lag().events == 0)
        until(lambda: len(view.seen()) == 50)
        for user in range(2, 6):
            published = publisher.publish(follows(1, first_id=1000 + user, user=user), 10)
            await_events(follower, published.token)
            assert 1000 + user in view.seen(), "a read with the token sees the write"
    assert view.seen() == {*range(1, 51), *range(1002, 1006)}


def test_goes_on_where_it_stood(ingest: Running, tmp_path: Path) -> None:
    publisher = ingest.publisher()
    for first in (1, 100, 200):
        published = publisher.publish(follows(20, first_id=first, user=first), 10)
        view = TinyView(tmp_path)
        with following(view, ingest.reader()) as follower:
            await_events(follower, published.token)
        view.shard.close()
    view = TinyView(tmp_path)
    assert len(view.seen()) == view.shard.applied_events() == 60
    view.shard.close()


def test_a_log_that_restarts_is_followed_on_and_the_view_stays_ready(ingest: Running, view: TinyView) -> None:
    publisher = ingest.publisher()
    with following(view, ingest.reader()) as follower:
        publisher.publish(follows(5), 10)
        until(lambda: ready(follower) and len(view.seen()) == 5)
        ingest.stop()
        try:
            assert ready(follower), "it serves what it has"
        finally:
            ingest.start()
        published = ingest.publisher().publish(follows(5, first_id=10), 10)
        await_events(follower, published.token)
        assert len(view.seen()) == 10
        assert ready(follower)


def test_without_a_log_a_view_is_not_ready_and_asking_it_does_not_wait(view: TinyView) -> None:
    class Hanging:
        """A log whose machine is there and whose process is not: every question takes its whole time."""

        def __init__(self) -> None:
            self.closed = threading.Event()

        def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
            self.closed.wait(timeout)
            raise DeadlineExceeded("roadrunner: Deadline Exceeded")

        def history(self, timeout: float) -> LogHistory:
            self.closed.wait(timeout)
            raise DeadlineExceeded("roadrunner: Deadline Exceeded")

        def subscribe(self, positions: object, epoch: int = 0) -> Iterator[list[Record]]:
            raise Unavailable("roadrunner: gone")

        def close(self) -> None:
            self.closed.set()

    log = Hanging()
    with following(view, log) as follower:
        assert follower.why_not_ready() == "has not reached the log yet"
        with pytest.raises(NotReady, match="has not reached the log yet"):
            follower.wait({}, 5)  # or it would answer as if nothing had ever been
        asked = threading.Event()

        def ask() -> None:
            for _ in range(1_000):
                follower.why_not_ready()
                follower.lag()
            asked.set()

        threading.Thread(target=ask, daemon=True).start()
        assert asked.wait(1.5), "readiness is asked by many, and must not take the log's time"
        assert not log.closed.is_set()


@pytest.mark.parametrize(
    "trouble",
    [ValueError("broken view"), MeshError("broken view"), Unavailable("broken view"), DeadlineExceeded("broken view")],
)
def test_a_view_that_cannot_apply_says_why_without_flicker_and_recovers(
    ingest: Running, view: TinyView, trouble: Exception
) -> None:
    publisher = ingest.publisher()
    with following(view, ingest.reader()) as follower:
        until(lambda: ready(follower))
        view.trouble = trouble
        published = publisher.publish(follows(3), 10)
        until(lambda: "broken view" in follower.why_not_ready())
        tried = view.held
        for _ in range(2):  # through at least one more try
            view.held = threading.Event()
            before = view.held
            until(lambda: not tried.is_set() or "broken view" in follower.why_not_ready())
            assert follower.why_not_ready().startswith("cannot apply the log: ")
            before.set()
        assert "broken view" in follower.why_not_ready()
        view.trouble = None
        await_events(follower, published.token)
        until(lambda: ready(follower))
    assert view.seen() == {1, 2, 3}


def test_a_view_far_behind_is_not_ready_until_it_has_caught_up(ingest: Running, view: TinyView) -> None:
    publisher, more = ingest.publisher(), READY_LAG_EVENTS + 1_000
    publisher.publish(follows(more), 30)
    view.held.clear()
    with following(view, ingest.reader()) as follower:
        until(lambda: follower.lag().events == more)
        assert not ready(follower)
        view.held.set()
        until(lambda: ready(follower))
        until(lambda: follower.lag().events == 0)
        view.held.clear()
        publisher.publish(follows(more, first_id=10**6), 30)
        until(lambda: follower.lag().events == more)
        assert ready(follower), "once ready, only behind"


def test_the_lag_is_what_is_not_applied_and_the_age_of_the_oldest_of_it(view: TinyView) -> None:
    log, at = MemoryLog(PARTITIONS, gaps=3), (int(Topic.USERS), 1)
    for accepted_ms, first_id in ((NOW, 1), (NOW + 4_000, 10), (NOW + 7_000, 20)):
        log.append_to(Topic.USERS, 1, follows(5, first_id), accepted_ms)
    first, second, _ = (record for chunk in read_all(log.reader(), {at: 0}, 10) for record in chunk)
    view.shard.commit(view.shard.batch(), [first])
    view.held.clear()
    with following(view, log.reader(), lambda: NOW + 10_000) as follower:
        until(lambda: follower.lag().events)
        assert follower.lag() == Lag(10, log.ends()[at].next - 1 - first.offset, 6.0)
        view.held.set()
        until(lambda: follower.lag() == Lag(0, 0, 0.0))
        assert follower.lag() == Lag()
    assert view.seen() == {*range(10, 15), *range(20, 25)}
    assert second.offset > first.offset + 1, "there are gaps"


def test_a_view_of_a_quiet_log_is_ready_though_the_log_seemed_longer_when_it_began_to_follow(view: TinyView) -> None:
    """Nothing comes that could be applied, and nothing is behind."""

    class SeemsLonger(MemoryReader):
        asked = 0

        def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
            self.asked += 1
            more = int(self.asked <= 2)  # as it connects, and as it begins to follow
            found = super().ends(timeout, positions)
            return {at: End(end.first, end.next + more, end.events, end.oldest_ms) for at, end in found.items()}

    log = SeemsLonger(MemoryLog(PARTITIONS))
    with following(view, log) as follower:
        until(lambda: log.asked >= 2)
        until(lambda: ready(follower))


def test_a_record_that_a_writer_numbered_and_that_is_lost_is_named(view: TinyView) -> None:
    log = MemoryLog(PARTITIONS, gaps=3)
    for first_id in (1, 10, 20):
        log.append_to(Topic.USERS, 1, follows(5, first_id))
    del log._records[int(Topic.USERS), 1][1]
    with following(view, log.reader()) as follower:
        until(lambda: "with number 2 of its writer" in follower.why_not_ready())
    assert not view.seen()


def test_a_log_that_lost_what_the_view_has_is_named(tmp_path: Path, view: TinyView) -> None:
    view.shard.commit(view.shard.batch(), [Record(Topic.USERS, 1, 0, 0, follows(1))])
    with running(tmp_path) as ingest, following(view, ingest.reader()) as follower:
        until(lambda: "topic 0 partition 1: was read up to 1" in follower.why_not_ready())
        assert view.shard.dead, "it is set aside when the process starts again"


def test_a_token_is_waited_for_and_of_other_views_passed_over(ingest: Running, view: TinyView) -> None:
    with following(view, ingest.reader()) as follower:
        until(lambda: ready(follower))
        follower.wait({(int(Topic.OBJECTS), 0): 99, (int(Topic.USERS), 77): 5}, 0)
        with pytest.raises(DeadlineExceeded, match="not caught up: topic 0 partition 2 is at 0, the token asks for 8"):
            follower.wait({(int(Topic.USERS), 2): 7}, 0.05)


def test_other_topics_do_not_come(ingest: Running, view: TinyView) -> None:
    mixed = events(2, user=1, action=[Action.FOLLOW_USER, Action.NAME_USER], target=[2, 0], at_ms=NOW, id=[1, 2])
    with following(view, ingest.reader()) as follower:
        published = ingest.publisher().publish(mixed, 10)
        await_events(follower, published.token)
    assert view.seen() == {1}


def test_stopping_does_not_wait_for_a_log_that_is_away(tmp_path: Path, view: TinyView) -> None:
    with running(tmp_path) as ingest:
        mesh = ingest.mesh
    with following(view, open_reader(mesh)) as follower:
        assert not ready(follower)
