"""Which pins are fetched, by which request and how often; with an origin that counts and can be held."""

import threading
import time
from functools import partial

import numpy as np
import pytest

from features.pins import ATTRIBUTES, COUNTS
from scorpion.origin import COUNTERS, ROCKSTORE
from scorpion.pin_features import KnownPins, PinFeatureLoader
from services.core.columns import ids
from tests.scorpion.held import TTL, Asking, HeldOrigin, Time, followed, versions, waited


def counted(known: KnownPins) -> list[float]:
    assert (known.features.values[:, len(ATTRIBUTES) :] == known.features.values[:, len(ATTRIBUTES), None]).all()
    return [float(value) for value in known.features.values[:, len(ATTRIBUTES)]]


def test_a_pin_is_fetched_once_and_then_known(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    first = loader.of(ids([5, 6, 5, 7]), 0, 5)
    assert (first.hits, first.misses, first.lost) == (0, 4, [])
    assert sorted(origin.whole) == [5, 6, 7]
    np.testing.assert_array_equal(first.features.values[:, 0], [5, 6, 5, 7])
    np.testing.assert_array_equal(first.features.interests[:, 3], [5, 6, 5, 7])
    again = loader.of(ids([7, 5]), 0, 5)
    assert (again.hits, again.misses, again.features.values[:, 0].tolist()) == (2, 0, [7, 5])
    assert len(origin.whole) == 3
    assert (loader.hits, loader.misses, loader.expired) == (2, 4, 0)


def test_expired_counts_alone_are_fetched_again(loader: PinFeatureLoader, origin: HeldOrigin, clock: Time) -> None:
    before = counted(loader.of(ids([5, 6]), 0, 5))
    clock.ms += TTL
    origin.version.update([5, 6])
    known = loader.of(ids([5, 6, 9]), 0, 5)
    assert sorted(origin.renewed) == [5, 6]
    assert origin.whole[2:] == [9]
    assert versions(known) == [0, 0, 0], "what an event did not change is not asked again"
    assert counted(known)[0] > before[0]
    assert (loader.expired, known.misses) == (2, 3)
    assert loader.of(ids([5, 6, 9]), 0, 5).hits == 3


def test_counts_of_pins_that_are_read_are_renewed_before_they_expire(
    loader: PinFeatureLoader, origin: HeldOrigin, clock: Time
) -> None:
    before = counted(loader.of(ids([5, 6, 7]), 0, 5))
    clock.ms += TTL * 3 // 4 - 1
    loader.of(ids([5, 6]), 0, 5)
    loader.drop(ids([6]))
    loader.renew(TTL * 3 // 4, 5)
    assert origin.renewed == [], "none is so old"
    clock.ms += 1
    origin.version.update([5])
    loader.renew(TTL * 3 // 4, 5)
    assert sorted(origin.renewed) == [5, 7], "6 is gone"
    loader.renew(0, 5)
    assert len(origin.renewed) == 2, "no request has read them since"
    clock.ms += TTL // 2
    known = loader.of(ids([5]), 0, 5)
    assert (known.hits, versions(known)) == (1, [0])
    assert counted(known)[0] > before[0]


def test_counts_that_could_not_be_renewed_are_asked_for_once_they_expire(
    loader: PinFeatureLoader, origin: HeldOrigin, clock: Time
) -> None:
    before = counted(loader.of(ids([5]), 0, 5))
    loader.of(ids([5]), 0, 5)
    clock.ms += TTL - 1
    origin.lost = frozenset({COUNTERS})
    loader.renew(TTL // 2, 5)
    assert counted(loader.of(ids([5]), 0, 5)) == before
    origin.lost = frozenset()
    clock.ms += 1
    assert counted(loader.of(ids([5]), 0, 5))[0] > before[0]
    assert loader.expired == 1


def test_requests_that_lack_one_pin_share_one_fetch(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    origin.gate.clear()
    asking = [Asking(lambda: loader.of(ids([1, 2, 3]), 0, 20))]
    waited(origin)
    asking += [Asking(lambda: loader.of(ids([3, 2]), 0, 20)) for _ in range(6)]
    asking.append(Asking(lambda: loader.of(ids([3, 4]), 0, 20)))
    waited(origin)  # 4 is fetched, though another waits for 3
    origin.gate.set()
    answers = [thread.result() for thread in asking]
    assert sorted(origin.whole) == [1, 2, 3, 4]
    assert [a.features.values[:, 0].tolist() for a in answers] == [[1, 2, 3], *[[3, 2]] * 6, [3, 4]]


def test_a_miss_does_not_hold_up_hits(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    loader.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    held = Asking(lambda: loader.of(ids([3]), 0, 20))
    waited(origin)
    assert loader.of(ids([1, 2]), 0, 5).hits == 2
    assert held.is_alive()
    origin.gate.set()
    assert held.result().misses == 1


def test_so_many_wait_for_a_slow_origin_and_the_next_takes_what_there_is(origin: HeldOrigin, clock: Time) -> None:
    loader = PinFeatureLoader(origin, followed(), 2 << 20, TTL, clock, waiting=2)
    loader.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    waiting = [Asking(partial(loader.of, ids([1, pin]), 0, 20)) for pin in (10, 11)]
    waited(origin, 2)
    third = loader.of(ids([1, 12]), 0, 20)
    assert (third.hits, third.misses, third.lost) == (1, 1, [COUNTERS, ROCKSTORE])
    assert np.isnan(third.features.values[1]).all()
    assert loader.of(ids([2, 1]), 0, 20).hits == 2
    assert all(one.is_alive() for one in waiting), "nothing was fetched until here"
    origin.gate.set()
    assert [one.result().features.values[1, 0] for one in waiting] == [10, 11]
    assert loader.of(ids([12]), 0, 5).lost == []


def test_a_request_with_more_time_than_the_one_that_fetches_asks_again(
    loader: PinFeatureLoader, origin: HeldOrigin
) -> None:
    origin.gate.clear()
    short = Asking(lambda: loader.of(ids([1]), 0, 0.3))
    waited(origin)
    long = Asking(lambda: loader.of(ids([1]), 0, 20))
    assert short.result().lost == [COUNTERS, ROCKSTORE]
    waited(origin)
    origin.gate.set()
    assert long.result().lost == []
    assert origin.whole == [1, 1]


def test_a_request_waits_no_longer_than_its_own_time(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    origin.gate.clear()
    slow = Asking(lambda: loader.of(ids([1]), 0, 20))
    waited(origin)
    began = time.monotonic()
    known = loader.of(ids([1]), 0, 0.2)
    assert time.monotonic() - began < 2
    assert known.lost == [COUNTERS, ROCKSTORE]
    assert np.isnan(known.features.values).all()
    origin.gate.set()
    assert slow.result().lost == []


def test_what_cannot_be_asked_is_missing_named_and_not_kept(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    origin.lost = frozenset({ROCKSTORE})
    known = loader.of(ids([1]), 0, 5)
    assert known.lost == [ROCKSTORE]
    assert np.isnan(known.features.values[0, : len(ATTRIBUTES)]).all()
    assert len(loader.cache) == 0
    origin.lost = frozenset()
    assert loader.of(ids([1]), 0, 5).lost == []
    assert origin.whole == [1, 1]


def test_attributes_are_kept_though_counts_are_lost(loader: PinFeatureLoader, origin: HeldOrigin, clock: Time) -> None:
    origin.lost = frozenset({COUNTERS})
    known = loader.of(ids([1]), 0, 5)
    assert known.lost == [COUNTERS]
    assert np.isnan(known.features.values[0, len(ATTRIBUTES) :]).all()
    origin.lost = frozenset()
    known = loader.of(ids([1]), 0, 5)
    assert (known.lost, origin.whole, origin.renewed) == ([], [1], [1])
    assert not np.isnan(known.features.values).any()
    clock.ms += TTL
    origin.lost = frozenset({COUNTERS})
    stale = loader.of(ids([1]), 0, 5)
    assert (stale.lost, counted(stale)) == ([COUNTERS], counted(known)), "old counts are better than none"


def test_an_error_of_ones_own_ends_the_fetch(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    origin.broken = True
    with pytest.raises(ValueError, match="broken"):
        loader.of(ids([1]), 0, 5)
    origin.broken = False
    assert loader.of(ids([1]), 0, 5).lost == []


def test_columns_of_datasets_come_with_the_pin(loader: PinFeatureLoader, origin: HeldOrigin) -> None:
    loader.of(ids([1]), 0, 5)
    loader.widen(("vectors.b", "vectors.a"))
    known = loader.of(ids([1]), 0, 5)
    assert {name: column.tolist() for name, column in known.datasets.items()} == {"vectors.a": [7], "vectors.b": [7]}
    assert origin.whole == [1, 1]
    kept = loader.cache
    loader.widen(("vectors.a",))
    assert loader.cache is kept, "a model that needs no more leaves the cache as it is"


def test_many_threads_get_what_they_asked_for(loader: PinFeatureLoader, origin: HeldOrigin, clock: Time) -> None:
    stop = threading.Event()

    def change() -> None:
        rng = np.random.default_rng(0)
        while not stop.is_set():
            loader.drop(rng.integers(1, 400, 3, np.uint64))
            clock.ms += 300

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            pins = rng.integers(1, 400, 40, np.uint64)
            known = loader.of(pins, 0, 20)
            assert not known.lost
            np.testing.assert_array_equal(known.features.values[:, 0], pins)
            np.testing.assert_array_equal(known.features.interests[:, 5], pins)

    changing = Asking(change)
    asking = [Asking(lambda seed=seed: ask(seed)) for seed in range(4)]  # type: ignore[misc]
    for thread in asking:
        thread.result()
    stop.set()
    changing.result()
    assert not loader._flights
    assert len(COUNTS) == 20
