"""The call policy itself, without a transport: its refusals, their order, and how they are counted."""

import asyncio
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, cast

import grpc
import pytest

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.errors import DeadlineExceeded, InvalidArgument
from services.core.metrics import Metrics
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Answer, Arrived, Dispatcher, finished
from services.rpc.server import Adding
from tests.services.test_server import Servicer

ENDS, HISTORY = ("/feedmesh.Roadrunner/Ends", b""), ("/feedmesh.Roadrunner/History", b"")
Code = grpc.StatusCode


def made(answer: Callable[[], Any], metrics: Metrics, requests: int = 9, **more: Any) -> Dispatcher:
    dispatcher = Dispatcher(metrics, AdmissionLimiter(requests, 100), **more)
    servicer = answer if isinstance(answer, rpc.RoadrunnerServicer) else Servicer(answer)  # type: ignore[abstract]
    rpc.add_RoadrunnerServicer_to_server(servicer, cast(Any, Adding(dispatcher.methods)))
    return dispatcher


def arrived(seconds: float = 60.0, **more: Any) -> Arrived:
    return Arrived(time.monotonic() + seconds, **{"context": b"", "size": 1, **more})


def counted(metrics: Metrics) -> dict[tuple[str, str], int]:
    samples = [sample for family in metrics.collect() for sample in family.samples]
    found = [s for s in samples if s.name == "feedmesh_requests_total"]
    return {(s.labels["method"], s.labels["code"]): int(s.value) for s in found}


def test_a_call_is_admitted_gets_its_slot_has_time_left_waits_and_is_answered() -> None:
    order: list[str] = []

    @contextmanager
    def slot() -> Any:
        order.append("slot")
        yield
        order.append("free")

    def wait(reached: tokens.Reached, left: float) -> None:
        order.append(f"wait {reached}")

    dispatcher = made(lambda: order.append("answer"), Metrics("x", 0), wait=wait)
    with context.serving(60.0, tokens.encode({(1, 2): 3})) as request:
        wire = request.wire
    assert finished(dispatcher.dispatch([ENDS], arrived(context=wire, slot=slot())))[0].status is Code.OK
    assert order == ["slot", "wait {(1, 2): 3}", "answer", "free"]
    order.clear()
    late = finished(dispatcher.dispatch([ENDS], arrived(-1.0, slot=slot())))
    assert late == [Answer(Code.DEADLINE_EXCEEDED, "the deadline had passed before the call was served", b"")]
    assert order == ["slot"], "nothing waits for a caller that has given up"


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ({"seconds": -1.0}, Code.DEADLINE_EXCEEDED, "the deadline had passed"),
        ({"context": b"\xff"}, Code.INVALID_ARGUMENT, "feedmesh-context-bin: the 1 bytes are no CallContext"),
        (
            {"size": 90},
            Code.RESOURCE_EXHAUSTED,
            "requests of 20 bytes are under way and this one has 90: 100 are allowed",
        ),
    ],
)
def test_a_message_that_is_refused_is_so_for_each_call_and_counted(
    how: Any, status: grpc.StatusCode, said: str
) -> None:
    metrics, noticed = Metrics("x", 0), list[Exception]()
    dispatcher = made(lambda: None, metrics, noticed=noticed.append)
    dispatcher.limiter.take(20)
    answers = finished(dispatcher.dispatch([ENDS, HISTORY, ("/feedmesh.Roadrunner/Nothing", b"")], arrived(**how)))
    assert [answer.status for answer in answers] == [status] * 3
    assert all(answer.message.startswith(said) for answer in answers)
    assert counted(metrics) == {("Ends", status.name): 1, ("History", status.name): 1}
    assert len(noticed) == 1


def test_a_place_is_given_back_however_a_call_ends() -> None:
    def fail() -> None:
        if len(ends) < 3:
            raise InvalidArgument("no")

    ends: list[grpc.StatusCode] = []
    dispatcher = made(fail, Metrics("x", 0), requests=1)
    for seconds in (60.0, -1.0, 60.0, 60.0):
        ends.append(finished(dispatcher.dispatch([ENDS], arrived(seconds)))[0].status)
    assert ends == [Code.INVALID_ARGUMENT, Code.DEADLINE_EXCEEDED, Code.INVALID_ARGUMENT, Code.OK]
    dispatcher.limiter.take(1)
    assert finished(dispatcher.dispatch([ENDS], arrived()))[0].status is Code.RESOURCE_EXHAUSTED


def test_a_call_that_waits_for_its_token_in_vain_is_not_answered() -> None:
    def never(reached: tokens.Reached, left: float) -> None:
        raise DeadlineExceeded("not caught up")

    served: list[int] = []
    metrics = Metrics("x", 0)
    dispatcher = made(lambda: served.append(1), metrics, wait=never)
    assert finished(dispatcher.dispatch([ENDS], arrived())) == [Answer(Code.DEADLINE_EXCEEDED, "not caught up", b"")]
    assert (served, counted(metrics)) == ([], {("Ends", "DEADLINE_EXCEEDED"): 1})


class Meeting(rpc.RoadrunnerServicer):
    """Answers once two calls are there."""

    def __init__(self) -> None:
        self.there, self.both = 0, asyncio.Event()

    async def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        self.there += 1
        if self.there == 2:
            self.both.set()
        await self.both.wait()
        return pb.EndsReply()


def test_on_asyncio_calls_that_came_together_are_answered_side_by_side() -> None:
    dispatcher = made(cast(Any, Meeting()), Metrics("x", 0), at_once=True)  # type: ignore[abstract]
    answers = asyncio.run(dispatcher.dispatch([ENDS, ENDS], arrived()))
    assert [answer.status for answer in answers] == [Code.OK] * 2


class Yielding(rpc.RoadrunnerServicer):
    """Lets others run before it answers."""

    async def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        await asyncio.sleep(0)
        return pb.EndsReply()


def test_a_method_that_awaits_is_refused_on_threads() -> None:
    dispatcher = made(cast(Any, Yielding()), Metrics("x", 0))  # type: ignore[abstract]
    with pytest.raises(TypeError, match="a method of a server on threads awaits"):
        finished(dispatcher.dispatch([ENDS], arrived()))
