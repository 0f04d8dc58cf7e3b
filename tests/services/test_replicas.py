"""A shard of several replicas as its callers see it: over real servers, and over random histories of scripted ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import roadrunner_pb2 as pb
from services.core import context, tokens
from services.core.errors import Away, InvalidArgument, MeshError, NotReady, Unavailable
from services.core.metrics import Metrics
from services.rpc import choosing, repeating
from services.rpc.batching import batched_calls
from services.rpc.caller import Caller
from services.rpc.choosing import Standing
from services.rpc.mesh import Mesh
from services.rpc.repeating import HEDGED, HEDGES_SAVED, NEEDED, RENEWED, RETRIED, RETRIES_SAVED, Repeating
from services.rpc.replicas import Replicas
from services.rpc.routing import ReplicaSet
from tests.services.replica_servers import Server, mesh_of, replicas, serving

T = TypeVar("T")
NOWHERE = "127.0.0.1:1"
FIRST_ONE, LAST_ONE = (lambda: 0.0), (lambda: 0.999)  # chances: which of two is drawn first


def asked(mesh: Mesh, work: Callable[[ReplicaSet], Awaitable[T]]) -> T:
    async def run() -> T:
        made = ReplicaSet(mesh, "roadrunner")
        try:
            return await work(made)
        finally:
            await made.close()

    return asyncio.run(run())


async def ends(of: ReplicaSet, timeout: float = 30.0) -> Any:
    return await of.call(0, "Ends", pb.EndsRequest(), timeout)


async def true(what: Callable[[], object]) -> None:
    """Return once it is."""
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def counted(metrics: Metrics, name: str, **labels: str) -> int:
    samples = [s for family in metrics.collect() for s in family.samples if s.name == f"feedmesh_{name}_total"]
    return int(sum(s.value for s in samples if labels.items() <= s.labels.items()))


def test_the_own_zone_is_asked_while_it_is_well_and_the_other_when_it_is_not() -> None:
    near, far, metrics = Server(), Server(), Metrics("web", 0)

    async def work(of: ReplicaSet) -> None:
        for _ in range(20):
            await ends(of)
        assert (near.calls, far.calls) == (20, 0)
        near.stop()
        for _ in range(20):
            await ends(of)
        assert far.calls == 20
        near.start()
        await true(lambda: not of._shards[0]._shard[0].out)
        await ends(of)
        assert near.calls == 21

    with serving(near, far):
        mesh, _ = mesh_of(replicas(near.address, far.address, zones=("a", "b")), Caller("a", metrics))
        asked(mesh, work)
    assert counted(metrics, "calls", to="roadrunner", zone="own") == 22, "one found it away"
    assert counted(metrics, "calls", to="roadrunner", zone="other") == 20
    assert counted(metrics, "call_retries", to="roadrunner") == 1
    assert counted(metrics, "call_ejections", to="roadrunner") == 1


def test_calls_are_spread_over_a_zone() -> None:
    one, two = Server(), Server()

    async def work(of: ReplicaSet) -> None:
        await asyncio.gather(*(ends(of) for _ in range(60)))

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)
    assert min(one.calls, two.calls) >= 20


def test_a_replica_that_is_not_ready_is_left_alone_until_it_is() -> None:
    def refuse() -> None:
        if one.why:
            raise NotReady(one.why)

    one, two = Server(refuse), Server()
    one.why = "catching up"

    async def work(of: ReplicaSet) -> None:
        for _ in range(50):
            await ends(of)
        assert one.calls == 1
        one.why = ""
        await true(lambda: not of._shards[0]._shard[0].out)

    with serving(one, two):
        mesh, _ = mesh_of(replicas(one.address, two.address), Caller("local", chance=FIRST_ONE))
        asked(mesh, work)
    assert two.calls == 50


def test_with_no_replica_that_answers_the_error_is_that_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(of: ReplicaSet) -> None:
        with pytest.raises(Unavailable, match="roadrunner is away; try again in a moment"):
            await ends(of)

    asked(mesh_of(replicas(NOWHERE, "127.0.0.1:2"))[0], work)


def test_an_ejected_replica_is_the_last_resort_and_back_if_it_answers() -> None:
    one, two = Server(), Server()

    async def work(of: ReplicaSet) -> None:
        first, second = of._shards[0]._shard
        of._shards[0]._failed(first, choosing.FAILURES)
        assert first.out
        two.stop()
        for _ in range(30):
            await ends(of)
        assert not first.out, "the first call that found the other one away was answered"
        assert second.out

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)
    assert one.calls == 30


def test_a_call_that_may_not_be_repeated_is_not() -> None:
    well = Server()

    async def work(of: ReplicaSet) -> None:
        with pytest.raises(Away):
            await of.call(0, "Probe", pb.ProbeRequest(turn=1), 30.0)
        await of.call(0, "Probe", pb.ProbeRequest(turn=1), 30.0)

    with serving(well):
        mesh, _ = mesh_of(replicas(NOWHERE, well.address), Caller("local", chance=FIRST_ONE))
        asked(mesh, work)
    assert well.calls == 1, "the second call knew that the other one is away"


def test_an_error_of_the_callers_own_is_asked_of_one() -> None:
    def refuse() -> None:
        raise InvalidArgument("limit = 0")

    one, two = Server(refuse), Server(refuse)

    async def work(of: ReplicaSet) -> None:
        for _ in range(20):
            with pytest.raises(InvalidArgument):
                await ends(of)
        assert not any(one.out for one in of._shards[0]._shard)

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)
    assert one.calls + two.calls == 20


def test_a_slow_replica_is_hedged_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "FIRST_BACKOFF_S", 1.0)
    slow = [0.0]
    one, two = Server(lambda: time.sleep(slow[0])), Server()
    metrics = Metrics("web", 0)

    async def work(of: ReplicaSet) -> list[float]:
        for _ in range(NEEDED + RENEWED):
            await ends(of)
        slow[0] = 1.0
        took = []
        for _ in range(200):
            began = time.monotonic()
            await ends(of)
            took.append(time.monotonic() - began)
        return sorted(took)

    with serving(one, two):
        mesh, _ = mesh_of(replicas(one.address, two.address), Caller("local", metrics))
        took = asked(mesh, work)
    hedges = counted(metrics, "call_hedges", to="roadrunner")
    assert 1 <= hedges <= HEDGES_SAVED + HEDGED * 300
    assert took[-1] < 0.9, "no call waited for the slow one"
    assert counted(metrics, "call_ejections", to="roadrunner") >= 1
    assert one.calls < 120


def test_a_replica_that_is_ready_and_stays_slow_is_not_waited_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time it is tried again costs a hedge; once they are spent, its answers are waited for, and the P95 is a slow one's."""
    monkeypatch.setattr(choosing, "FIRST_BACKOFF_S", 0.1)
    monkeypatch.setattr(choosing, "MAX_BACKOFF_S", 0.1)
    slow, slow_s = [0.0], 0.1
    near, far = Server(lambda: time.sleep(slow[0])), Server()

    async def work(of: ReplicaSet) -> list[float]:
        for _ in range(NEEDED + RENEWED):
            await ends(of)
        slow[0] = slow_s
        took = []
        for _ in range(400):
            began = time.monotonic()
            await ends(of)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
        return took

    with serving(near, far):
        mesh, _ = mesh_of(replicas(near.address, far.address, zones=("a", "b")), Caller("a"))
        took = asked(mesh, work)
    waited = sum(one >= slow_s for one in took)
    assert waited < len(took) // 20, f"{waited} of {len(took)} calls waited for the slow one"


def test_a_read_with_a_token_goes_where_it_has_been_passed() -> None:
    one, two = Server(), Server()
    token = tokens.encode({(1, 2): 30})

    async def work(of: ReplicaSet) -> None:
        of._shards[0]._shard[1].passed({(1, 2): 29})
        with context.serving(30.0, token):
            await ends(of)
            first = [one.calls, two.calls]
            for _ in range(20):
                await ends(of)
        assert max(one.calls, two.calls) == 21, "the replica that answered the first one has passed it"
        assert first.count(1) == 1

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)


def test_calls_of_one_message_go_to_one_replica() -> None:
    one, two = Server(), Server()

    async def work(of: ReplicaSet) -> None:
        for turn in range(1, 11):
            with batched_calls():
                await asyncio.gather(*(ends(of) for _ in range(4)))
            assert one.calls % 4 == two.calls % 4 == 0
            assert one.calls + two.calls == 4 * turn

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)
    assert min(one.calls, two.calls) > 0


def test_every_process_is_asked_and_those_that_are_away_are_left_out() -> None:
    one, two = Server(), Server()

    async def work(of: ReplicaSet) -> None:
        assert len(await of.every("Probe", pb.ProbeRequest(turn=1), 30.0)) == 2
        two.stop()
        assert len(await of.every("Probe", pb.ProbeRequest(turn=1), 30.0)) == 1
        one.stop()
        with pytest.raises(Unavailable):
            await of.every("Probe", pb.ProbeRequest(turn=1), 30.0)

    with serving(one, two):
        asked(mesh_of(replicas(one.address, two.address))[0], work)
    assert (one.calls, two.calls) == (2, 1)


def test_one_replica_costs_no_task_and_no_timer() -> None:
    one = Server()

    async def work(of: ReplicaSet) -> None:
        await ends(of)
        of._shards[0]._repeating = cast(Any, None)  # whatever hedges or retries needs it
        await ends(of)

    with serving(one):
        asked(mesh_of(replicas(one.address))[0], work)


def test_a_replica_that_comes_is_asked_and_one_that_is_out_stays_so() -> None:
    one, two, three = Server(), Server(), Server()

    async def work(of: ReplicaSet) -> None:
        two.stop()
        await asyncio.gather(*(ends(of) for _ in range(20)))
        assert of._shards[0]._shard[1].out
        membership.change(replicas(one.address, two.address, three.address))
        await asyncio.gather(*(ends(of) for _ in range(40)))
        assert of._shards[0]._shard[1].out
        assert three.calls > 5
        two.start()
        await true(lambda: not of._shards[0]._shard[1].out)

    with serving(one, two, three):
        mesh, membership = mesh_of(replicas(one.address, two.address))
        asked(mesh, work)


class Scripted:
    """A replica whose outcomes come from a list: an error, or for how many turns of the event loop it is slow."""

    def __init__(self, outcomes: list[type[MeshError] | int]) -> None:
        self._outcomes, self.calls = outcomes, 0

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        outcome = self._outcomes[self.calls % len(self._outcomes)]
        self.calls += 1
        if isinstance(outcome, int):
            for _ in range(outcome):
                await asyncio.sleep(0)
            return self
        raise outcome("scripted")

    async def is_ready(self) -> bool:
        return True

    async def retire(self) -> None: ...

    async def close(self) -> None: ...


outcomes = st.lists(
    st.one_of(st.integers(0, 3), st.sampled_from([Away, Unavailable, NotReady])), min_size=1, max_size=9
)


@given(st.lists(outcomes, min_size=2, max_size=5), st.integers(1, 150), st.randoms(use_true_random=False))
def test_budgets_hold_and_never_more_than_half_are_out(
    scripts: list[list[type[MeshError] | int]], calls: int, chance: Any
) -> None:
    async def run() -> None:
        repeated, caller = Repeating("roadrunner"), Caller("a", chance=chance.random)
        repeated.of("Ends").durations.p95 = 0.0
        tally, shard = caller.tally("roadrunner"), [Standing(Scripted(script)) for script in scripts]
        of = Replicas(shard, caller, tally, repeated)
        for made in range(1, calls + 1):
            try:
                answer = await of.call("Ends", pb.EndsRequest(), 5.0)
                assert answer in [one.replica for one in shard]
            except (Unavailable, NotReady):
                pass
            assert sum(one.out for one in shard) <= len(shard) // 2
            assert tally.retries <= min(repeating.FIRST, RETRIES_SAVED) + RETRIED * made
            assert tally.hedges <= min(repeating.FIRST, HEDGES_SAVED) + HEDGED * made
            assert tally.own == sum(one.replica.calls for one in shard)  # type: ignore[attr-defined]
            assert made + tally.retries <= tally.own <= made + tally.retries + tally.hedges
            await asyncio.sleep(0)
        of.close()
        await asyncio.sleep(0)
        assert all(one.in_flight == 0 for one in shard)

    asyncio.run(run())


def test_a_write_that_hangs_is_made_elsewhere_after_half_of_its_time() -> None:
    async def run() -> None:
        caller = Caller("a", chance=FIRST_ONE)
        tally, hanging, well = caller.tally("roadrunner"), Scripted([10**9]), Scripted([0])
        of = Replicas([Standing(hanging), Standing(well)], caller, tally, Repeating("roadrunner"))
        began = time.monotonic()
        assert await of.call("Publish", pb.PublishRequest(), 0.4) is well
        assert time.monotonic() - began >= 0.2
        assert (hanging.calls, well.calls, tally.hedges) == (1, 1, 1)
        of.close()

    asyncio.run(run())


def test_a_caller_that_gives_up_leaves_nothing_under_way() -> None:
    async def run() -> None:
        repeated, caller = Repeating("roadrunner"), Caller("a")
        repeated.of("Ends").durations.p95 = 0.0
        tally, shard = caller.tally("roadrunner"), [Standing(Scripted([10**9])) for _ in range(2)]
        of = Replicas(shard, caller, tally, repeated)
        asking = asyncio.ensure_future(of.call("Ends", pb.EndsRequest(), 60.0))
        await true(lambda: [one.in_flight for one in shard] == [1, 1])
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await true(lambda: len(asyncio.all_tasks()) == 1)
        assert [(one.in_flight, one.failures, one.out) for one in shard] == [(0, 0, False)] * 2
        assert tally.hedges == 1

    asyncio.run(run())
