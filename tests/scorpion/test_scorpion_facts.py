"""What is fetched, by whom and how often; with an origin that counts and can be held."""

import threading
import time
from functools import partial

import numpy as np
import pytest

from features.pins import COUNTS, FACTS
from scorpion.facts import Facts, KnownPins
from scorpion.origin import COUNTERS, ROCKSTORE
from services.core.columns import ids
from tests.scorpion.held import TTL, Asking, HeldOrigin, Time, followed, versions, waited


def counted(known: KnownPins) -> list[float]:
    assert (known.facts.values[:, len(FACTS) :] == known.facts.values[:, len(FACTS), None]).all()
    return [float(value) for value in known.facts.values[:, len(FACTS)]]


def test_a_pin_is_fetched_once_and_then_known(facts: Facts, origin: HeldOrigin) -> None:
    first = facts.of(ids([5, 6, 5, 7]), 0, 5)
    assert (first.hits, first.misses, first.lost) == (0, 4, [])
    assert sorted(origin.whole) == [5, 6, 7]
    np.testing.assert_array_equal(first.facts.values[:, 0], [5, 6, 5, 7])
    np.testing.assert_array_equal(first.facts.interests[:, 3], [5, 6, 5, 7])
    again = facts.of(ids([7, 5]), 0, 5)
    assert (again.hits, again.misses, again.facts.values[:, 0].tolist()) == (2, 0, [7, 5])
    assert len(origin.whole) == 3
    assert (facts.hits, facts.misses, facts.expired) == (2, 4, 0)


def test_expired_counts_alone_are_fetched_again(facts: Facts, origin: HeldOrigin, clock: Time) -> None:
    before = counted(facts.of(ids([5, 6]), 0, 5))
    clock.ms += TTL
    origin.version.update([5, 6])
    known = facts.of(ids([5, 6, 9]), 0, 5)
    assert sorted(origin.renewed) == [5, 6]
    assert origin.whole[2:] == [9]
    assert versions(known) == [0, 0, 0], "what an event did not change is not asked again"
    assert counted(known)[0] > before[0]
    assert (facts.expired, known.misses) == (2, 3)
    assert facts.of(ids([5, 6, 9]), 0, 5).hits == 3


def test_counts_of_pins_that_are_read_are_renewed_before_they_expire(
    facts: Facts, origin: HeldOrigin, clock: Time
) -> None:
    before = counted(facts.of(ids([5, 6, 7]), 0, 5))
    clock.ms += TTL * 3 // 4 - 1
    facts.of(ids([5, 6]), 0, 5)
    facts.drop(ids([6]))
    facts.renew(TTL * 3 // 4, 5)
    assert origin.renewed == [], "none is so old"
    clock.ms += 1
    origin.version.update([5])
    facts.renew(TTL * 3 // 4, 5)
    assert sorted(origin.renewed) == [5, 7], "6 is gone"
    facts.renew(0, 5)
    assert len(origin.renewed) == 2, "nobody has read them since"
    clock.ms += TTL // 2
    known = facts.of(ids([5]), 0, 5)
    assert (known.hits, versions(known)) == (1, [0])
    assert counted(known)[0] > before[0]


def test_counts_that_could_not_be_renewed_are_asked_for_once_they_expire(
    facts: Facts, origin: HeldOrigin, clock: Time
) -> None:
    before = counted(facts.of(ids([5]), 0, 5))
    facts.of(ids([5]), 0, 5)
    clock.ms += TTL - 1
    origin.lost = frozenset({COUNTERS})
    facts.renew(TTL // 2, 5)
    assert counted(facts.of(ids([5]), 0, 5)) == before
    origin.lost = frozenset()
    clock.ms += 1
    assert counted(facts.of(ids([5]), 0, 5))[0] > before[0]
    assert facts.expired == 1


def test_requests_that_lack_one_pin_share_one_fetch(facts: Facts, origin: HeldOrigin) -> None:
    origin.gate.clear()
    asking = [Asking(lambda: facts.of(ids([1, 2, 3]), 0, 20))]
    waited(origin)
    asking += [Asking(lambda: facts.of(ids([3, 2]), 0, 20)) for _ in range(6)]
    asking.append(Asking(lambda: facts.of(ids([3, 4]), 0, 20)))
    waited(origin)  # 4 is fetched, whoever waits for 3
    origin.gate.set()
    answers = [thread.result() for thread in asking]
    assert sorted(origin.whole) == [1, 2, 3, 4]
    assert [a.facts.values[:, 0].tolist() for a in answers] == [[1, 2, 3], *[[3, 2]] * 6, [3, 4]]


def test_a_miss_does_not_hold_up_hits(facts: Facts, origin: HeldOrigin) -> None:
    facts.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    held = Asking(lambda: facts.of(ids([3]), 0, 20))
    waited(origin)
    assert facts.of(ids([1, 2]), 0, 5).hits == 2
    assert held.is_alive()
    origin.gate.set()
    assert held.result().misses == 1


def test_so_many_wait_for_a_slow_origin_and_the_next_takes_what_there_is(origin: HeldOrigin, clock: Time) -> None:
    facts = Facts(origin, followed(), 2 << 20, TTL, clock, waiting=2)
    facts.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    waiting = [Asking(partial(facts.of, ids([1, pin]), 0, 20)) for pin in (10, 11)]
    waited(origin, 2)
    third = facts.of(ids([1, 12]), 0, 20)
    assert (third.hits, third.misses, third.lost) == (1, 1, [COUNTERS, ROCKSTORE])
    assert np.isnan(third.facts.values[1]).all()
    assert facts.of(ids([2, 1]), 0, 20).hits == 2
    assert all(one.is_alive() for one in waiting), "nothing was fetched until here"
    origin.gate.set()
    assert [one.result().facts.values[1, 0] for one in waiting] == [10, 11]
    assert facts.of(ids([12]), 0, 5).lost == []


def test_who_has_more_time_than_the_one_who_fetches_asks_again(facts: Facts, origin: HeldOrigin) -> None:
    origin.gate.clear()
    short = Asking(lambda: facts.of(ids([1]), 0, 0.3))
    waited(origin)
    long = Asking(lambda: facts.of(ids([1]), 0, 20))
    assert short.result().lost == [COUNTERS, ROCKSTORE]
    waited(origin)
    origin.gate.set()
    assert long.result().lost == []
    assert origin.whole == [1, 1]


def test_who_waits_does_so_no_longer_than_its_own_time(facts: Facts, origin: HeldOrigin) -> None:
    origin.gate.clear()
    slow = Asking(lambda: facts.of(ids([1]), 0, 20))
    waited(origin)
    began = time.monotonic()
    known = facts.of(ids([1]), 0, 0.2)
    assert time.monotonic() - began < 2
    assert known.lost == [COUNTERS, ROCKSTORE]
    assert np.isnan(known.facts.values).all()
    origin.gate.set()
    assert slow.result().lost == []


def test_what_cannot_be_asked_is_missing_named_and_not_kept(facts: Facts, origin: HeldOrigin) -> None:
    origin.lost = frozenset({ROCKSTORE})
    known = facts.of(ids([1]), 0, 5)
    assert known.lost == [ROCKSTORE]
    assert np.isnan(known.facts.values[0, : len(FACTS)]).all()
    assert len(facts.cache) == 0
    origin.lost = frozenset()
    assert facts.of(ids([1]), 0, 5).lost == []
    assert origin.whole == [1, 1]


def test_attributes_are_kept_though_counts_are_lost(facts: Facts, origin: HeldOrigin, clock: Time) -> None:
    origin.lost = frozenset({COUNTERS})
    known = facts.of(ids([1]), 0, 5)
    assert known.lost == [COUNTERS]
    assert np.isnan(known.facts.values[0, len(FACTS) :]).all()
    origin.lost = frozenset()
    known = facts.of(ids([1]), 0, 5)
    assert (known.lost, origin.whole, origin.renewed) == ([], [1], [1])
    assert not np.isnan(known.facts.values).any()
    clock.ms += TTL
    origin.lost = frozenset({COUNTERS})
    stale = facts.of(ids([1]), 0, 5)
    assert (stale.lost, counted(stale)) == ([COUNTERS], counted(known)), "old counts are better than none"


def test_an_error_of_ones_own_ends_the_fetch(facts: Facts, origin: HeldOrigin) -> None:
    origin.broken = True
    with pytest.raises(ValueError, match="broken"):
        facts.of(ids([1]), 0, 5)
    origin.broken = False
    assert facts.of(ids([1]), 0, 5).lost == []


def test_columns_of_datasets_come_with_the_pin(facts: Facts, origin: HeldOrigin) -> None:
    facts.of(ids([1]), 0, 5)
    facts.widen(("vectors.b", "vectors.a"))
    known = facts.of(ids([1]), 0, 5)
    assert {name: column.tolist() for name, column in known.datasets.items()} == {"vectors.a": [7], "vectors.b": [7]}
    assert origin.whole == [1, 1]
    kept = facts.cache
    facts.widen(("vectors.a",))
    assert facts.cache is kept, "a model that needs no more leaves the cache as it is"


def test_many_threads_get_what_they_asked_for(facts: Facts, origin: HeldOrigin, clock: Time) -> None:
    stop = threading.Event()

    def change() -> None:
        rng = np.random.default_rng(0)
        while not stop.is_set():
            facts.drop(rng.integers(1, 400, 3, np.uint64))
            clock.ms += 300

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            pins = rng.integers(1, 400, 40, np.uint64)
            known = facts.of(pins, 0, 20)
            assert not known.lost
            np.testing.assert_array_equal(known.facts.values[:, 0], pins)
            np.testing.assert_array_equal(known.facts.interests[:, 5], pins)

    changing = Asking(change)
    asking = [Asking(lambda seed=seed: ask(seed)) for seed in range(4)]  # type: ignore[misc]
    for thread in asking:
        thread.result()
    stop.set()
    changing.result()
    assert not facts._flights
    assert len(COUNTS) == 20
