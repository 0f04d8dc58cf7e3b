"""Which replica is asked, and how often calls are repeated: properties over random histories."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.tokens import Reached
from services.rpc.choosing import FIRST_BACKOFF_S, MAX_BACKOFF_S, STEADY, Standing, may_eject, pick
from services.rpc.repeating import FIRST, LEAST_S, NEEDED, RENEWED, Budget, Durations, is_safe


class Nowhere:
    """A replica that nobody calls."""

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        raise AssertionError(method)

    async def is_ready(self) -> bool:
        return False

    async def retire(self) -> None: ...

    async def close(self) -> None: ...


def standing(near: bool = True, in_flight: int = 0, out: bool = False, reached: Reached | None = None) -> Standing:
    made = Standing(Nowhere(), near)
    made.in_flight, made.out = in_flight, out
    made.passed(reached or {})
    return made


some_standings = st.lists(
    st.builds(
        standing,
        near=st.booleans(),
        in_flight=st.integers(0, 5),
        out=st.booleans(),
        reached=st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 1)), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=7,
)
some_chance = st.randoms(use_true_random=False).map(lambda of: of.random)
some_token = st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 1)), st.integers(0, 3), min_size=1)


@given(some_standings, some_chance, st.booleans())
def test_the_own_zone_comes_first_then_others_then_the_ejected(
    shard: list[Standing], chance: Callable[[], float], last_resort: bool
) -> None:
    found = pick(shard, chance, last_resort=last_resort)
    well = [one for one in shard if not one.out]
    if near := [one for one in well if one.near]:
        assert found in near
    elif well:
        assert found in well
    else:
        assert found in shard if last_resort else found is None


@given(some_standings, some_chance, st.data())
def test_no_replica_is_asked_twice_and_all_are_asked_in_the_end(
    shard: list[Standing], chance: Callable[[], float], data: st.DataObject
) -> None:
    tried: list[Standing] = []
    while (found := pick(shard, chance, tried)) is not None:
        assert found not in tried
        tried.append(found)
    assert len(tried) == len(shard)


@given(some_standings, some_chance)
def test_of_two_the_one_with_fewer_calls_under_way(shard: list[Standing], chance: Callable[[], float]) -> None:
    for one in shard:
        one.out, one.near = False, True
    found = pick(shard, chance)
    assert found is not None
    if len(shard) > 1:
        busiest = max(one.in_flight for one in shard)
        if sum(one.in_flight == busiest for one in shard) == 1:
            assert found.in_flight < busiest, "whichever it was drawn with, the other one has fewer"


def test_calls_spread_evenly_over_equals() -> None:
    shard, chance = [standing() for _ in range(3)], random.Random(7).random
    counts = dict.fromkeys(shard, 0)
    for _ in range(3_000):
        found = pick(shard, chance)
        assert found is not None
        counts[found] += 1
    assert all(900 < count < 1_100 for count in counts.values())


@given(some_standings, some_chance, some_token)
def test_a_token_prefers_replicas_that_have_passed_it(
    shard: list[Standing], chance: Callable[[], float], token: Reached
) -> None:
    for one in shard:
        one.out, one.near = False, True
    found = pick(shard, chance, token=token)
    assert found is not None
    if any(one.has_passed(token) for one in shard):
        assert found.has_passed(token)


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=60))
def test_never_more_than_half_are_out(n: int, happens: list[tuple[int, bool]]) -> None:
    shard = [standing() for _ in range(n)]
    for which, fails in happens:
        one = shard[which % n]
        if fails and not one.out and may_eject(shard):
            one.out = True
        elif not fails:
            one.out = False
        assert sum(other.out for other in shard) <= n // 2


@given(st.floats(0.01, 0.5), st.floats(1, 200), st.lists(st.booleans(), max_size=2_000))
def test_a_budget_is_never_exceeded(share: float, saved: float, happens: list[bool]) -> None:
    """In any stretch of calls, not from the first one on alone."""
    budget, calls, taken = Budget(share, saved), [0], [0]
    for call in happens:
        if call:
            budget.call()
        took = not call and budget.take()
        calls.append(calls[-1] + call)
        taken.append(taken[-1] + took)
    most = 0.0  # of taken - share * calls, since any moment before
    lowest = 0.0
    for called, extra in zip(calls, taken, strict=True):
        level = extra - share * called
        most, lowest = max(most, level - lowest), min(lowest, level)
    assert most <= saved + 1e-6
    assert taken[-1] <= min(FIRST, saved) + share * calls[-1] + 1e-6


def test_a_budget_that_is_used_up_comes_back_with_calls() -> None:
    budget = Budget(0.1, 20.0, first=2.0)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(11):
        budget.call()
    assert [budget.take() for _ in range(2)] == [True, False]


def test_the_p95_is_that_of_the_latest_answers() -> None:
    durations = Durations()
    for number in range(NEEDED - 1):
        durations.add(number / 1000)
        assert durations.p95 is None
    for _ in range(300):
        durations.add(0.010)
    for _ in range(14):
        durations.add(9.0)  # one in twenty and more of the 256 that count
    for _ in range(RENEWED):
        durations.add(0.010)
    assert durations.p95 in (0.010, 9.0)
    for _ in range(300):
        durations.add(0.0001)
    assert durations.p95 == LEAST_S


def test_an_ejection_lasts_longer_each_time_until_the_replica_was_steady() -> None:
    one = standing()
    for _ in range(10):
        one.lengthen()
    assert one.backoff_s == MAX_BACKOFF_S
    for _ in range(STEADY - 1):
        one.answered()
    one.failed()
    one.answered()
    assert one.backoff_s == MAX_BACKOFF_S
    for _ in range(STEADY):
        one.answered()
    assert one.backoff_s == FIRST_BACKOFF_S


@pytest.mark.parametrize(
    ("service", "method", "safe"),
    [
        ("apiary", "Followed", True),
        ("feedgen", "Feed", True),
        ("roadrunner", "Publish", True),
        ("roadrunner", "Probe", False),
        ("pixie", "Load", False),
        ("scorpion", "Refresh", False),
        ("apiary", "Nothing", False),
    ],
)
def test_the_protos_say_what_may_be_repeated(service: str, method: str, safe: bool) -> None:
    __import__(f"protos.{service}_pb2")
    assert is_safe(service, method) is safe
