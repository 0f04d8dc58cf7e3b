"""Group commit: publishes that wait at the same time are one append, and an error reaches every one of them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from protos import events_pb2
from roadrunner import committer as under_test
from roadrunner.committer import Committer
from roadrunner.retention import Retained
from roadrunner.store import EventLog, PublishResult
from services.core.errors import DeadlineExceeded, Exhausted, MeshError, Unavailable
from services.core.events import Batch
from services.state.coverage import Floor
from tests.roadrunner.running import open_log, publish
from tests.services.batches import follows
from tests.services.children import until


class Held:
    """A log that appends when it is let, and remembers what."""

    def __init__(self) -> None:
        self.appended: list[list[list[int]]] = []  # by append, by batch: ids
        self.synced = 0
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.failure: Exception | None = None
        self.retained = 0
        self.retain_failure: Exception | None = None

    def append(self, batches: Sequence[events_pb2.Batch]) -> list[PublishResult]:
        self.entered.release()
        assert self.let.acquire(timeout=30)
        if self.failure:
            raise self.failure
        self.appended.append([Batch.of(batch).id.tolist() for batch in batches])
        return [PublishResult(batch.n, 0, {(0, 0): i}) for i, batch in enumerate(batches)]

    def sync(self) -> None:
        self.synced += 1

    def retain(self, floor: Floor) -> Retained:
        self.retained += 1
        if self.retain_failure:
            raise self.retain_failure
        return Retained(0, 0)

    def forget_accepted(self) -> None:
        pass


def committing(log: Held, max_waiting: int = 100, no_space: Callable[[], str] = lambda: "") -> Committer:
    made = Committer(cast(EventLog, log), max_waiting, no_space)
    made.start()
    return made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as made:
        yield made


def waiting(committer: Committer) -> int:
    return committer._queue.qsize()


def test_publishes_that_wait_are_appended_as_one_group(pool: ThreadPoolExecutor) -> None:
    log = Held()
    committer = committing(log)
    first = pool.submit(publish, committer, follows(1), 30)
    assert log.entered.acquire(timeout=10)
    others = [pool.submit(publish, committer, follows(1, first_id=i), 30) for i in range(2, 40)]
    until(lambda: waiting(committer) == 38)
    assert not first.done(), "not before it is on the disk"
    log.let.release(2)
    assert first.result(10).accepted == 1
    assert {other.result(10).reached[0, 0] for other in others} == set(range(38)), "each gets its own answer"
    assert [len(group) for group in log.appended] == [1, 38]
    assert (log.synced, committer.groups) == (2, 2)
    committer.stop()


def test_a_group_has_a_bound(pool: ThreadPoolExecutor) -> None:
    log, half = Held(), under_test.GROUP_EVENTS // 2
    committer = committing(log)
    futures = [pool.submit(publish, committer, follows(1), 30)]
    assert log.entered.acquire(timeout=10)
    futures += [pool.submit(publish, committer, follows(half), 30) for _ in range(5)]
    until(lambda: waiting(committer) == 5)
    log.let.release(9)
    assert [future.result(10).accepted for future in futures] == [1, *[half] * 5]
    assert [len(group) for group in log.appended] == [1, 2, 2, 1]
    committer.stop()


def test_while_many_come_they_are_waited_for_again(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    log, naps, first = Held(), [0], iter(range(10, 100))
    log.let.release(99)
    committer = committing(log)
    came = [under_test.MANY, under_test.MANY - 1, 5]

    def nap(_: float) -> None:
        for _ in range(came[naps[0]]):
            pool.submit(publish, committer, follows(1, first_id=next(first)), 30)
        until(lambda: waiting(committer) == came[naps[0]])
        naps[0] += 1

    monkeypatch.setattr("roadrunner.committer.time.sleep", nap)
    committer._company = True
    assert publish(committer, follows(1, first_id=1), 30).accepted == 1
    assert [len(group) for group in log.appended] == [2 * under_test.MANY]
    assert naps == [2], "few came the second time"
    committer._company = False
    monkeypatch.undo()
    committer.stop()


def test_small_publishes_that_follow_company_are_waited_for(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, naps = Held(), threading.Semaphore(0)
    log.let.release(99)
    committer = committing(log)

    def nap(seconds: float) -> None:
        assert seconds == under_test.JOIN_S
        futures.append(pool.submit(publish, committer, follows(1, first_id=50), 30))
        until(lambda: waiting(committer) == 1)
        naps.release()

    futures: list[Any] = []
    monkeypatch.setattr("roadrunner.committer.time.sleep", nap)
    assert publish(committer, follows(1, first_id=1), 30).accepted == 1
    assert publish(committer, follows(1, first_id=2), 30).accepted == 1
    assert not naps.acquire(blocking=False), "one writer alone does not wait"
    committer._company = True
    assert publish(committer, follows(1, first_id=3), 30).accepted == 1
    assert naps.acquire(timeout=10)
    assert futures[0].result(10).accepted == 1
    assert log.appended == [[[1]], [[2]], [[3], [50]]]
    monkeypatch.undo()
    assert publish(committer, follows(under_test.FEW_EVENTS), 30).accepted == under_test.FEW_EVENTS
    committer.stop()


def test_a_full_queue_sheds_at_once(pool: ThreadPoolExecutor) -> None:
    log = Held()
    committer = committing(log, max_waiting=2)
    futures = [pool.submit(publish, committer, follows(1), 30)]
    assert log.entered.acquire(timeout=10)
    futures += [pool.submit(publish, committer, follows(1, first_id=i), 30) for i in (2, 3)]
    until(lambda: waiting(committer) == 2)
    with pytest.raises(Exhausted, match="2 publishes are waiting already; retry after a moment"):
        publish(committer, follows(1, first_id=4), 30)
    log.let.release(9)
    assert [future.result(10).accepted for future in futures] == [1, 1, 1]
    assert publish(committer, follows(1, first_id=4), 30).accepted == 1
    committer.stop()


def test_no_space_on_the_disk_sheds_with_the_reason() -> None:
    log, why = Held(), ["disk nearly full: 3 MB free"]
    log.let.release(9)
    committer = committing(log, no_space=lambda: why[0])
    with pytest.raises(Exhausted, match="disk nearly full: 3 MB free"):
        publish(committer, follows(1), 30)
    why[0] = ""
    assert publish(committer, follows(1), 30).accepted == 1
    committer.stop()


@pytest.mark.parametrize(
    ("failure", "arrives", "said"),
    [
        (Exhausted("the disk is full"), Exhausted, "the disk is full"),
        (ValueError("a bug"), Unavailable, "the log could not be written; its process's log says why"),
    ],
)
def test_a_failure_reaches_every_waiter_and_the_committer_lives_on(
    pool: ThreadPoolExecutor, failure: Exception, arrives: type[MeshError], said: str
) -> None:
    log = Held()
    committer = committing(log)
    futures = [pool.submit(publish, committer, follows(1), 30)]
    assert log.entered.acquire(timeout=10)
    futures += [pool.submit(publish, committer, follows(1, first_id=i), 30) for i in range(2, 12)]
    until(lambda: waiting(committer) == 10)
    log.failure = failure
    log.let.release(2)
    for future in futures:
        error = future.exception(10)
        assert isinstance(error, arrives)
        assert said in str(error)
    log.failure = None
    log.let.release(9)
    assert publish(committer, follows(1), 30).accepted == 1
    assert log.synced == 1
    committer.stop()


def test_a_failing_retention_does_not_end_the_committer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "RETAIN_EVERY_S", 0.01)
    log = Held()
    log.retain_failure = ValueError("a bug")
    log.let.release(9)
    committer = committing(log)
    until(lambda: log.retained > 2)
    assert publish(committer, follows(1), 30).accepted == 1
    committer.stop()


def test_a_publish_whose_time_is_up_in_the_queue_is_not_appended(pool: ThreadPoolExecutor) -> None:
    log = Held()
    committer = committing(log)
    first = pool.submit(publish, committer, follows(1), 30)
    assert log.entered.acquire(timeout=10)
    with pytest.raises(DeadlineExceeded, match="publish again with the same ids"):
        publish(committer, follows(1, first_id=2), 0.05)
    log.let.release(9)
    assert first.result(10).accepted == 1
    assert publish(committer, follows(1, first_id=3), 30).accepted == 1
    assert log.appended == [[[1]], [[3]]]
    committer.stop()


@pytest.mark.parametrize("max_waiting", [3, 100])
def test_stop_appends_what_is_waiting_also_when_the_queue_is_full(pool: ThreadPoolExecutor, max_waiting: int) -> None:
    log = Held()
    committer = committing(log, max_waiting)
    futures = [pool.submit(publish, committer, follows(1), 30)]
    assert log.entered.acquire(timeout=10)
    futures += [pool.submit(publish, committer, follows(1, first_id=i), 30) for i in (2, 3, 4)]
    until(lambda: waiting(committer) == 3)
    stopping = pool.submit(committer.stop)
    until(committer._stopping.is_set)
    log.let.release(9)
    stopping.result(10)
    assert [future.result(10).accepted for future in futures] == [1, 1, 1, 1]
    assert sorted(one for group in log.appended for batch in group for one in batch) == [1, 2, 3, 4]


def test_stopping_an_idle_committer_does_not_wait() -> None:
    committer = committing(Held())
    stopping = threading.Thread(target=committer.stop)
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()


def test_many_threads_on_a_real_log_lose_and_repeat_nothing(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    log = open_log(tmp_path)
    committer = Committer(log, 1_000, lambda: "")
    committer.start()

    def published(writer: int) -> list[Any]:
        return [
            publish(committer, follows(3, first_id=1 + 30 * writer + 3 * i, user=writer + 1), 60) for i in range(10)
        ]

    found = [one for writer in pool.map(published, range(32)) for one in writer]
    committer.stop()
    assert sum(one.accepted for one in found) == 960
    assert sum(end.events or 0 for end in log.ends().values()) == 960
    for one in found:
        for at, offset in one.reached.items():
            assert offset < log.ends()[at].next, "what was acknowledged is visible"
    assert committer.groups < 320, "publishes that waited shared a sync"
    log.close()
