"""Batched calls: each has its own answer or error, in fewer messages, under the same call policy."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from protos import calls_pb2
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.errors import Away, DeadlineExceeded, InvalidArgument
from services.core.metrics import Metrics
from services.rpc.batching import MANY, BatchingChannel, batched_calls
from services.rpc.channel import call, open_async
from tests.services import test_server as servers

ENDS = "/feedmesh.Roadrunner/Ends"


def asked(address: str, *questions: Callable[[Any], Any], seconds: float = 5.0) -> list[Any]:
    """A stub's answers to all of them, asked in parallel."""

    async def ask() -> list[Any]:
        async with open_async(address) as channel:
            stub = rpc.RoadrunnerStub(cast(grpc.aio.Channel, BatchingChannel(channel)))
            with batched_calls():
                work = [call(question(stub), pb.EndsRequest(), seconds, "roadrunner") for question in questions]
                return list(await asyncio.gather(*work, return_exceptions=True))

    return asyncio.run(ask())


def many(address: str, request: bytes) -> Any:
    """A call of several, as raw bytes."""

    async def ask() -> Any:
        async with open_async(address) as channel:
            return await call(channel.unary_unary(MANY), request, 5.0, "roadrunner")

    return asyncio.run(ask())


@pytest.fixture(params=[servers.threaded, servers.on_asyncio])
def serving(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_each_is_answered_and_counted_by_its_own_name(serving: Any) -> None:
    metrics = Metrics("roadrunner", 0)
    with serving(lambda: None, metrics) as address:
        assert asked(address, *[lambda stub: stub.Ends] * 3) == [pb.EndsReply()] * 3
    assert {name: window.calls for name, window in metrics.windows().items()} == {"Ends": 3}


def test_an_error_is_that_of_its_own_call(serving: Any) -> None:
    calls = iter(range(9))

    def second_fails() -> None:
        if next(calls) == 1:
            raise InvalidArgument("limit = 0: at least 1")

    metrics = Metrics("roadrunner", 0)
    with serving(second_fails, metrics) as address:
        first, second, third = asked(address, *[lambda stub: stub.Ends] * 3)
    assert (first, third) == (pb.EndsReply(), pb.EndsReply())
    assert (type(second), str(second)) == (InvalidArgument, "limit = 0: at least 1")


def test_what_is_not_served_is_refused_alone(serving: Any) -> None:
    with serving(lambda: None, Metrics("roadrunner", 0)) as address:
        names = ["/feedmesh.Roadrunner/Nothing", ENDS, "/feedmesh.Status/Get"]
        reply = many(
            address, calls_pb2.CallsRequest(calls=[calls_pb2.Call(method=n) for n in names]).SerializeToString()
        )
    answers = calls_pb2.CallsReply.FromString(reply).answers
    unimplemented = grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert [answer.status for answer in answers] == [unimplemented, 0, unimplemented]
    assert "/feedmesh.Roadrunner/Nothing is not served here" in answers[0].message


def test_bytes_that_are_no_request_are_refused(serving: Any) -> None:
    broken = calls_pb2.CallsRequest(calls=[calls_pb2.Call(method=ENDS, request=b"\xff\xff")]).SerializeToString()
    with serving(lambda: None, Metrics("roadrunner", 0)) as address:
        answer = calls_pb2.CallsReply.FromString(many(address, broken)).answers[0]
        assert answer.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        with pytest.raises(InvalidArgument, match="are no request of"):
            many(address, b"\xff\xff")


def test_all_wait_for_the_token_once() -> None:
    waited: list[tokens.Reached] = []
    with (
        servers.threaded(lambda: None, Metrics("x", 0), lambda reached, _: waited.append(reached)) as address,
        context.serving(5.0, tokens.encode({(1, 2): 3})),
    ):
        assert asked(address, *[lambda stub: stub.Ends] * 2) == [pb.EndsReply()] * 2
    assert waited == [{(1, 2): 3}]


def test_a_token_that_is_not_reached_fails_all_of_them() -> None:
    def never(reached: tokens.Reached, timeout: float) -> None:
        raise DeadlineExceeded("not caught up")

    with servers.threaded(lambda: None, Metrics("x", 0), never) as address:
        answers = asked(address, *[lambda stub: stub.Ends] * 2)
    assert [type(answer) for answer in answers] == [DeadlineExceeded] * 2


def test_the_deadline_is_that_of_all(serving: Any) -> None:
    with serving(lambda: time.sleep(0.3), Metrics("x", 0)) as address:
        answers = asked(address, *[lambda stub: stub.Ends] * 2, seconds=0.1)
    assert all(isinstance(answer, DeadlineExceeded) for answer in answers)


def test_a_process_that_is_away_is_away_for_each_call(tmp_path: Path) -> None:
    answers = asked(f"unix:{tmp_path}/nobody", *[lambda stub: stub.Ends] * 2)
    assert [(type(answer), str(answer)) for answer in answers] == [
        (Away, "roadrunner is away; try again in a moment")
    ] * 2


def test_one_call_alone_goes_as_it_is(serving: Any) -> None:
    with serving(lambda: None, Metrics("x", 0)) as address:
        assert asked(address, lambda stub: stub.Ends) == [pb.EndsReply()]
