"""The figures of repetitions, and that a wrong answer is noticed before anything is timed."""

import os

import numpy as np
import pytest

from bench import recounts
from bench.boards import SEEN, K, filter_of, lists_of, questions, saved
from bench.boards import best_of as slow
from bench.counters import DAY_MS, Increments, PlainCounts
from bench.peers.polaris import plain
from bench.rounds import around, latencies, on_one_core, timed
from bench.views import chunks, engagements
from services.core.clock import wall_clock
from services.core.columns import ids
from services.core.events import ENGAGEMENTS
from services.core.topics import Topic


def test_of_few_the_ends_are_told_and_of_more_the_quartiles() -> None:
    assert around([3, 1, 2]) == (2, (1, 3))
    assert around(range(9)) == (4, (2, 6))


def test_a_p99_is_the_median_of_those_of_the_rounds() -> None:
    p50, p99 = latencies("part", "asking", [[0.001] * 100, [0.003] * 100, [0.002] * 100], 2.5, "a thread")
    assert (p50.value, p50.spread, p99.value, p99.met) == (2, (1, 3), 2, True)
    assert p99.note == "3 rounds of 100 calls; a thread"


def test_calls_that_warm_up_are_not_counted() -> None:
    numbers: list[int] = []
    found = timed(numbers.append, 7, rounds=2)
    assert [len(took) for took in found] == [7, 7]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 14 + 20


def test_a_thread_is_pinned_for_as_long_as_it_measures() -> None:
    before = os.sched_getaffinity(0)
    with on_one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_what_anybody_would_write_answers_as_the_slow_one() -> None:
    lists = lists_of(saved())
    _, seen = filter_of(lists)
    assert len(seen) > 0.99 * SEEN
    (question,) = questions(300, 1)
    found, expected = plain(lists, question, seen), slow(lists, question, seen)
    assert len(found.pins) == K
    assert found.scores == pytest.approx(expected.scores, abs=1e-6)
    assert not np.isin(found.pins, seen).any()


def test_counts_are_added_up() -> None:
    recount, increments = PlainCounts(), Increments()
    chunk = increments.chunk(ids([5, 5, 9]))
    recount.add(chunk)
    recount.add(chunk)
    sums = recount.counts(ids([9, 5, 7, 9]), wall_clock(), np.array([0, 7 * DAY_MS]))
    assert sums.shape == (4, len(ENGAGEMENTS), 2)
    assert sums[:, :, 0].sum() == 2 * sum(
        int(r.batch.count.sum() + r.batch.count[r.batch.target == 9].sum()) for r in chunk
    )
    assert not sums[2].any()
    assert (sums[:, :, 1] <= sums[:, :, 0]).all()


def test_a_view_that_lacks_an_event_is_noticed() -> None:
    made = chunks(engagements(8_000, 3), (Topic.USERS,))
    some, expected = recounts.recounted(made, "user")
    assert all(expected.history[user] for user in some.tolist())

    class Forgetful:
        def seen(self, user: int) -> object:
            return ids(sorted({pin for pin, *_ in expected.history[user]})[1:])

    with pytest.raises(RuntimeError, match=r"^aperture: user \d+ met"):
        recounts.aperture(Forgetful(), made)  # type: ignore[arg-type]
